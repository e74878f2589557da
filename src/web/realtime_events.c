#include "web/realtime_events.h"
#include <string.h>
#include "base/text.h"

ChoirRealtimeItem *choir_realtime_item_new(const char *id, const char *live_id, ChoirRealtimeItemKind kind) {
  ChoirRealtimeItem *item = g_new0(ChoirRealtimeItem, 1);
  item->id = g_strdup(id);
  item->live_id = g_strdup(live_id);
  item->kind = kind;
  item->text = g_string_new(NULL);
  return item;
}

void choir_realtime_item_free(gpointer data) {
  ChoirRealtimeItem *item = data;
  if (!item)
    return;
  g_free(item->id);
  g_free(item->live_id);
  g_free(item->call_id);
  g_free(item->name);
  g_string_free(item->text, TRUE);
  g_free(item);
}

static json_t *content_json(const ChoirRealtimeItem *item) {
  const char *text = item->text->str;
  switch (item->kind) {
  case CHOIR_REALTIME_USER_TEXT:
    return json_pack("[{s:s,s:s}]", "type", "input_text", "text", text);
  case CHOIR_REALTIME_USER_AUDIO:
    return json_pack("[{s:s,s:s?}]", "type", "input_audio", "transcript", item->has_text ? text : NULL);
  case CHOIR_REALTIME_REPLY_TEXT:
    return json_pack("[{s:s,s:s}]", "type", "output_text", "text", text);
  case CHOIR_REALTIME_REPLY_AUDIO:
    return json_pack("[{s:s,s:s}]", "type", "output_audio", "transcript", text);
  case CHOIR_REALTIME_CALL:
  case CHOIR_REALTIME_OUTPUT:
    break;
  }
  return json_array();
}

static json_t *call_json(const ChoirRealtimeItem *item, gboolean with_content) {
  return json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s}", "id", item->id, "object", "realtime.item", "type", "function_call",
                   "status", item->done ? "completed" : "in_progress", "call_id", item->call_id, "name", item->name,
                   "arguments", with_content ? item->text->str : "");
}

json_t *choir_realtime_item_json(const ChoirRealtimeItem *item, gboolean with_content) {
  if (item->kind == CHOIR_REALTIME_CALL)
    return call_json(item, with_content);
  if (item->kind == CHOIR_REALTIME_OUTPUT)
    return json_pack("{s:s,s:s,s:s,s:s,s:s,s:s}", "id", item->id, "object", "realtime.item", "type",
                     "function_call_output", "status", "completed", "call_id", item->call_id, "output",
                     item->text->str);
  gboolean reply = item->kind == CHOIR_REALTIME_REPLY_TEXT || item->kind == CHOIR_REALTIME_REPLY_AUDIO;
  const char *status = item->cut ? "incomplete" : reply && !item->done ? "in_progress" : "completed";
  return json_pack("{s:s,s:s,s:s,s:s,s:s,s:o}", "id", item->id, "object", "realtime.item", "type", "message", "status",
                   status, "role", reply ? "assistant" : "user", "content",
                   with_content ? content_json(item) : json_array());
}

json_t *choir_realtime_part_json(const ChoirRealtimeResponse *response) {
  const char *text = response->item->text->str;
  return response->audio ? json_pack("{s:s,s:s}", "type", "audio", "transcript", text)
                         : json_pack("{s:s,s:s}", "type", "text", "text", text);
}

static json_t *status_details(const char *status, const char *reason, const char *message) {
  if (strcmp(status, "in_progress") == 0)
    return json_null();
  if (strcmp(status, "completed") == 0)
    return json_pack("{s:s}", "type", status);
  if (strcmp(status, "failed") == 0)
    return json_pack("{s:s,s:{s:s,s:s?,s:s?}}", "type", status, "error", "type", "server_error", "code", reason,
                     "message", message);
  json_t *details = json_pack("{s:s}", "type", status);
  if (reason)
    json_object_set_new(details, "reason", json_string(reason));
  return details;
}

/* Counted by the model server. Audio is made from the text here, so it costs no tokens of its own. */
static json_t *usage_json(const ChoirRealtimeResponse *response) {
  gint in = response->input_tokens, out = response->output_tokens;
  return json_pack("{s:i,s:i,s:i,s:{s:i,s:i,s:i,s:i},s:{s:i,s:i}}", "total_tokens", in + out, "input_tokens", in,
                   "output_tokens", out, "input_token_details", "cached_tokens", response->cached_tokens, "text_tokens",
                   in, "audio_tokens", 0, "image_tokens", 0, "output_token_details", "text_tokens", out, "audio_tokens",
                   0);
}

json_t *choir_realtime_response_json(const ChoirRealtimeResponse *response, const char *conversation,
                                     const char *status, const char *reason, const char *message) {
  gboolean over = strcmp(status, "in_progress") != 0;
  json_t *output = json_array();
  if (over && response->item)
    json_array_append_new(output, choir_realtime_item_json(response->item, TRUE));
  json_t *metadata = response->metadata ? json_incref(response->metadata) : json_null();
  json_t *usage = over ? usage_json(response) : json_null();
  return json_pack("{s:s,s:s,s:s,s:o,s:o,s:s,s:[s],s:{s:{s:{s:s,s:i},s:s}},s:o,s:o}", "object", "realtime.response",
                   "id", response->id, "status", status, "status_details", status_details(status, reason, message),
                   "output", output, "conversation_id", conversation, "output_modalities",
                   response->audio ? "audio" : "text", "audio", "output", "format", "type", "audio/pcm", "rate", 24000,
                   "voice", "choir", "usage", usage, "metadata", metadata);
}

json_t *choir_realtime_event(const char *type, json_t *fields) {
  g_autofree char *id = choir_id("event_");
  json_t *event = json_pack("{s:s,s:s}", "type", type, "event_id", id);
  if (fields)
    json_object_update_new(event, fields);
  return event;
}

json_t *choir_realtime_part_event(const char *type, const ChoirRealtimeResponse *response, const char *key,
                                  const char *value) {
  json_t *fields = json_pack("{s:s,s:s,s:i,s:i}", "response_id", response->id, "item_id", response->item->id,
                             "output_index", 0, "content_index", 0);
  if (key)
    json_object_set_new(fields, key, json_string(value));
  return choir_realtime_event(type, fields);
}

json_t *choir_realtime_error(const char *type, const char *code, const char *param, const char *message,
                             const char *event_id) {
  return choir_realtime_event("error", json_pack("{s:{s:s,s:s?,s:s,s:s?,s:s?}}", "error", "type", type, "code", code,
                                                 "message", message, "param", param, "event_id", event_id));
}
