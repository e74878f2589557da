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
  /* What the next response has otherwise than the session: borrowed until it has begun. */
  gboolean borrowed, borrowed_audio;
  ChoirRealtimeConfig own; /* its tools, choice, instructions and token limit; valid while borrowed */
  ChoirCall *deciding;     /* between a function and words, for the request */
  GString *notes;          /* what functions returned since the last answer */
  GPtrArray *used;         /* names of the functions called since the person's last words */
  gboolean prompt_owed;    /* the session's own prompt goes back to voice/live once the reply has begun */
  gboolean owed;           /* words of the person that are answered without being asked */
  guint unanswered;        /* user items that no response has taken */
  guint truncations;       /* events seen, to tell whether a call caused one */
  char *speech_item;       /* id promised by speech_started */
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
/* Gives the session's own settings back once a response has taken the borrowed ones. */
void choir_realtime_restore(ChoirRealtimeSession *session);
void choir_realtime_response_begin(ChoirRealtimeSession *session, const char *id);
void choir_realtime_response_clear(ChoirRealtimeSession *session);
void choir_realtime_emit_response(ChoirRealtimeSession *session, const char *type, const char *status,
                                  const char *reason, const char *message);

/* realtime_call.c: functions of the client. */
/* The settings in effect for the next response. */
const ChoirRealtimeConfig *choir_realtime_effective(const ChoirRealtimeSession *session);
/* Tells voice/live what is in effect: options and prompt. */
void choir_realtime_configure(ChoirRealtimeSession *session);
void choir_realtime_prompt(ChoirRealtimeSession *session); /* the prompt alone */
/* A function may be called by the next response: it does not begin without a decision. */
gboolean choir_realtime_decides(const ChoirRealtimeSession *session);
/* Answers what is unanswered (its text is there): decides first where functions are offered. */
void choir_realtime_answer(ChoirRealtimeSession *session);
/* The same for what is owed or requested, once nothing is being transcribed any more and no response is active. */
void choir_realtime_maybe_answer(ChoirRealtimeSession *session);
/* FALSE: nothing was being decided. The request ends. */
gboolean choir_realtime_stop_deciding(ChoirRealtimeSession *session, const char *reason);
/* conversation.item.create of a function's output; NULL with fault. */
ChoirRealtimeItem *choir_realtime_take_output(ChoirRealtimeSession *session, const json_t *wanted, const char *id,
                                              ChoirFault *fault);
void choir_realtime_taken(ChoirRealtimeSession *session);    /* an answer in words has begun */
void choir_realtime_said(ChoirRealtimeSession *session);     /* new words of the person: functions may be used again */
void choir_realtime_answered(ChoirRealtimeSession *session); /* an answer in words is complete */
