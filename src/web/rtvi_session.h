/* One RTVI client (protocol 2.x and 1.x) as a state machine between its frames and voice/live. It knows no socket: what
 * it has to say goes to `send`. Main thread only. Source: pipecat 1.14, processors/frameworks/rtvi/models.py.
 *
 * Binary messages hold protobuf frames (rtvi_frames.h), text messages the JSON alone; each client is answered in the
 * form it used first. Nothing but errors is sent before bot-ready; speaking, LLM and TTS messages come in pairs. */
#pragma once
#include "voice/live.h"

typedef struct ChoirRtviSession ChoirRtviSession;

#define CHOIR_RTVI_VERSION "2.2.0"

typedef struct {
  const char *model;  /* named in bot-ready and metrics */
  gboolean text_only; /* ?skip_tts=true */
  /* data: valid during the call. */
  void (*send)(gboolean binary, const void *data, gsize length, gpointer user);
  void (*hang_up)(gpointer user); /* disconnect-bot */
  gpointer user;
} ChoirRtviOptions;

ChoirRtviSession *choir_rtvi_session_new(const ChoirLiveOptions *defaults, const ChoirRtviOptions *options);
void choir_rtvi_session_free(ChoirRtviSession *session); /* the live is the owner's */
void choir_rtvi_session_attach(ChoirRtviSession *session, ChoirLive *live);
/* Only once a live is attached. */
void choir_rtvi_session_client(ChoirRtviSession *session, gboolean binary, const char *data, gsize length);
void choir_rtvi_session_live(ChoirRtviSession *session, const ChoirLiveEvent *event);
/* {"type":"error"}; sent even before bot-ready. */
void choir_rtvi_session_error(ChoirRtviSession *session, const char *message, gboolean fatal);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirRtviSession, choir_rtvi_session_free)
