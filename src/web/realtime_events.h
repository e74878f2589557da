/* Shapes of the Realtime protocol's items, responses and server events. Main thread only.
 * Source: OpenAI Realtime GA as typed by openai-python 3.57 (types/realtime). */
#pragma once
#include <glib.h>
#include <jansson.h>

typedef enum {
  CHOIR_REALTIME_USER_TEXT,
  CHOIR_REALTIME_USER_AUDIO,
  CHOIR_REALTIME_REPLY_TEXT,
  CHOIR_REALTIME_REPLY_AUDIO,
  CHOIR_REALTIME_CALL,   /* function_call; text: its arguments */
  CHOIR_REALTIME_OUTPUT, /* function_call_output; text: what the client sent */
} ChoirRealtimeItemKind;

/* One item of the conversation as this client knows it. */
typedef struct {
  char *id;      /* on the wire */
  char *live_id; /* what voice/live calls it; NULL while it only waits here */
  ChoirRealtimeItemKind kind;
  char *call_id, *name;  /* of a call and its output */
  gboolean answered;     /* a call whose output came */
  GString *text;         /* typed text, transcript, or the reply */
  gboolean has_text;     /* a transcript that is not there yet is null, not empty */
  gboolean done;         /* conversation.item.done was sent */
  gboolean cut;          /* truncated or cancelled */
  guint64 audio_samples; /* of a reply, sent so far */
  guint64 heard_ms;      /* where it was truncated */
  gboolean truncated;    /* conversation.item.truncated was sent */
  gboolean unanswered;   /* of the person, and no answer in words has taken it */
} ChoirRealtimeItem;

typedef struct {
  char *id;
  ChoirRealtimeItem *item; /* borrowed from the item table */
  gboolean audio;
  gboolean text_sent, audio_sent;
  json_t *metadata;                                /* may be NULL */
  gint input_tokens, cached_tokens, output_tokens; /* known at its end; 0 = the model had not finished */
} ChoirRealtimeResponse;

ChoirRealtimeItem *choir_realtime_item_new(const char *id, const char *live_id, ChoirRealtimeItemKind kind);
void choir_realtime_item_free(gpointer item);
json_t *choir_realtime_item_json(const ChoirRealtimeItem *item, gboolean with_content);
json_t *choir_realtime_part_json(const ChoirRealtimeResponse *response);
/* status: "in_progress" "completed" "cancelled" "failed" "incomplete"; reason and message may be NULL. */
json_t *choir_realtime_response_json(const ChoirRealtimeResponse *response, const char *conversation,
                                     const char *status, const char *reason, const char *message);
/* {"type","event_id"} plus the members of fields (stolen, may be NULL). */
json_t *choir_realtime_event(const char *type, json_t *fields);
/* fields of an event inside a response: response_id, item_id, output_index, content_index and one string member. */
json_t *choir_realtime_part_event(const char *type, const ChoirRealtimeResponse *response, const char *key,
                                  const char *value);
json_t *choir_realtime_error(const char *type, const char *code, const char *param, const char *message,
                             const char *event_id);
