/* One Realtime client as a state machine between its JSON events and voice/live. It knows no socket: what it has to say
 * goes to `send`. Main thread only.
 *
 * Kept true whatever arrives: one response at most is active; each has one terminal event (response.done) and nothing
 * of it follows; every added gets its done; errors are soft and name the client's event_id. */
#pragma once
#include "agent/call.h"
#include "voice/live.h"

typedef struct ChoirRealtimeSession ChoirRealtimeSession;
/* text: one JSON event, valid during the call. */
typedef void (*ChoirRealtimeSend)(const char *text, gsize length, gpointer user);

#define CHOIR_REALTIME_MAX_ITEMS 512    /* the oldest finished ones are forgotten first */
#define CHOIR_REALTIME_MAX_TEXT 10000   /* characters of typed text that wait for an answer */
#define CHOIR_REALTIME_AUDIO_PIECE 2400 /* samples in one audio delta, 100 ms */

typedef struct {
  const char *model;  /* named in the session object */
  gboolean extension; /* ?choir=1 */
  /* The server that decides about functions and the name of its model; NULL while it loads. May be NULL: none. */
  ChoirChat *(*chat)(gpointer user, const char **ret_model);
  ChoirRealtimeSend send;
  gpointer user;
} ChoirRealtimeOptions;

ChoirRealtimeSession *choir_realtime_session_new(const ChoirLiveOptions *defaults, const ChoirRealtimeOptions *options);
void choir_realtime_session_free(ChoirRealtimeSession *session);  /* the live is the owner's */
void choir_realtime_session_start(ChoirRealtimeSession *session); /* sends session.created: the first event of all */
void choir_realtime_session_attach(ChoirRealtimeSession *session, ChoirLive *live);
/* Only once a live is attached. */
void choir_realtime_session_client(ChoirRealtimeSession *session, const char *text, gsize length);
void choir_realtime_session_live(ChoirRealtimeSession *session, const ChoirLiveEvent *event);
void choir_realtime_session_error(ChoirRealtimeSession *session, const char *type, const char *code,
                                  const char *message);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirRealtimeSession, choir_realtime_session_free)
