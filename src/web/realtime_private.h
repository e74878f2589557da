/* What the two halves of the Realtime session share: realtime_session.c (what voice/live says) and realtime_client.c
 * (what the client says). */
#pragma once
#include "web/realtime_config.h"
#include "web/realtime_events.h"
#include "web/realtime_session.h"
#include "web/realtime_stages.h"

struct ChoirRealtimeSession {
  ChoirRealtimeOptions options;
  ChoirRealtimeConfig config;
  ChoirLive *live;
  char *conversation;
  GQueue items; /* ChoirRealtimeItem, oldest first; owned */
  ChoirRealtimeResponse response;
  gboolean active;            /* response.created was sent and response.done was not */
  gboolean requested;         /* response.create was accepted, nothing has started yet */
  json_t *requested_metadata; /* of that request */
  gboolean modality_borrowed; /* the next response has other modalities than the session */
  gboolean borrowed_audio;
  guint unanswered;  /* user items that no response has taken */
  guint truncations; /* events seen, to tell whether a call caused one */
  char *speech_item; /* id promised by speech_started */
  guint64 speech_start_ms, speech_end_ms;
  GByteArray *bytes; /* decoded audio; at most one odd byte between chunks */
  GArray *pcm;
  guint64 buffered;      /* microphone samples since the last commit */
  gboolean committing;   /* the client committed, the item has not come yet */
  gboolean failure_told; /* a failed response was just made of what live reports as an error, too */
  gboolean told_full;
  ChoirRealtimeStages stages;
};

void choir_realtime_emit(ChoirRealtimeSession *session, json_t *event /* stolen */);
ChoirRealtimeItem *choir_realtime_find(ChoirRealtimeSession *session, const char *id);
/* Appends and announces it: conversation.item.added. Returns the item. */
ChoirRealtimeItem *choir_realtime_add(ChoirRealtimeSession *session, ChoirRealtimeItem *item /* stolen */);
void choir_realtime_item_done(ChoirRealtimeSession *session, ChoirRealtimeItem *item);
const char *choir_realtime_previous(ChoirRealtimeSession *session,
                                    const ChoirRealtimeItem *item); /* NULL for the first */
void choir_realtime_truncated(ChoirRealtimeSession *session, ChoirRealtimeItem *item, guint64 ms, const char *heard);
/* Ends a request that never became a response: response.created, response.done. */
void choir_realtime_request_over(ChoirRealtimeSession *session, const char *status, const char *reason,
                                 const char *message);
/* Gives the session's own modalities back once a response has taken the borrowed ones. */
void choir_realtime_restore_modality(ChoirRealtimeSession *session);
