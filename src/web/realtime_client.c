#include <string.h>
#include "base/text.h"
#include "web/realtime_private.h"

#define MIN_COMMIT_MS 100

typedef struct {
  const char *type;
  void (*run)(ChoirRealtimeSession *session, const json_t *event);
} Command;

/* Event ids are echoed, so they are bounded. */
static const char *event_id(const json_t *event) {
  const char *id = choir_json_string(event, "event_id", NULL);
  return id && strlen(id) <= 512 ? id : NULL;
}

static void refuse(ChoirRealtimeSession *session, const json_t *event, const char *code, const char *param,
                   const char *message) {
  choir_realtime_emit(session, choir_realtime_error("invalid_request_error", code, param, message, event_id(event)));
}

static void refuse_fault(ChoirRealtimeSession *session, const json_t *event, ChoirFault *fault) {
  refuse(session, event, fault->code, fault->param, fault->message);
  choir_fault_clear(fault);
}

/* --- session ------------------------------------------------------------------------------------------------------ */

static void on_session_update(ChoirRealtimeSession *session, const json_t *event) {
  ChoirFault fault = {0};
  if (!choir_realtime_config_update(&session->config, json_object_get(event, "session"), &fault)) {
    refuse_fault(session, event, &fault);
    return;
  }
  choir_realtime_configure(session);
  choir_realtime_emit(
      session, choir_realtime_event("session.updated",
                                    json_pack("{s:o}", "session", choir_realtime_config_json(&session->config))));
}

/* --- microphone -----------------------------------------------------------------------------------------------------
 */

static void on_append(ChoirRealtimeSession *session, const json_t *event) {
  const json_t *audio = json_object_get(event, "audio");
  if (!json_is_string(audio) ||
      !choir_realtime_base64(json_string_value(audio), json_string_length(audio), session->bytes)) {
    refuse(session, event, "invalid_value", "audio",
           "Invalid 'audio': expected base64 of samples in the session's input format.");
    return;
  }
  g_array_set_size(session->pcm, 0);
  gsize used = choir_realtime_decode(session->config.format, session->bytes->data, session->bytes->len, session->pcm);
  if (used > 0)
    g_byte_array_remove_range(session->bytes, 0, (guint)used);
  if (session->pcm->len == 0)
    return;
  if (choir_live_audio(session->live, (const gint16 *)(gpointer)session->pcm->data, session->pcm->len,
                       session->config.rate)) {
    session->buffered += session->pcm->len;
    session->told_full = FALSE;
  } else if (!session->told_full) {
    session->told_full = TRUE; /* once: a client that streams would be told for every piece */
    refuse(session, event, "input_audio_buffer_full", "audio",
           "More than 30 s of audio wait to be heard: this piece and the following are dropped.");
  }
}

static void on_commit(ChoirRealtimeSession *session, const json_t *event) {
  guint64 ms = session->buffered * 1000 / session->config.rate;
  if (ms < MIN_COMMIT_MS) {
    g_autofree char *message =
        g_strdup_printf("Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, "
                        "but buffer only has %" G_GUINT64_FORMAT ".00ms of audio.",
                        ms);
    refuse(session, event, "input_audio_buffer_commit_empty", NULL, message);
    return;
  }
  session->buffered = 0;
  session->committing = TRUE;
  choir_live_commit(session->live);
}

static void on_clear(ChoirRealtimeSession *session, const json_t *event) {
  session->buffered = 0;
  g_byte_array_set_size(session->bytes, 0);
  choir_live_clear(session->live);
  choir_realtime_emit(session, choir_realtime_event("input_audio_buffer.cleared", NULL));
}

/* --- items ----------------------------------------------------------------------------------------------------------
 */

static ChoirRealtimeItem *named_item(ChoirRealtimeSession *session, const json_t *event) {
  const char *id = choir_json_string(event, "item_id", NULL);
  ChoirRealtimeItem *item = choir_realtime_find(session, id);
  if (!item) {
    g_autofree char *message = g_strdup_printf("There is no item with the id '%s'.", id && strlen(id) <= 128 ? id : "");
    refuse(session, event, "item_not_found", "item_id", message);
  }
  return item;
}

/* The text parts of a user message, joined by line ends; NULL with fault. */
static char *message_text(const json_t *item, ChoirFault *fault) {
  const char *type = choir_json_string(item, "type", "");
  const char *role = choir_json_string(item, "role", "");
  if (!json_is_object(item) || strcmp(type, "message") != 0 || strcmp(role, "user") != 0) {
    choir_fault_set(fault, "unsupported", "item",
                    "Only messages of the role 'user' and outputs of functions can be added.");
    return NULL;
  }
  g_autoptr(GString) text = g_string_new(NULL);
  size_t i;
  json_t *part;
  json_array_foreach(json_object_get(item, "content"), i, part) {
    const char *piece = choir_json_string(part, "text", NULL);
    if (strcmp(choir_json_string(part, "type", ""), "input_text") != 0 || !piece) {
      choir_fault_set(fault, "unsupported", "item.content",
                      "Content is 'input_text' only; send audio by input_audio_buffer.append.");
      return NULL;
    }
    if (text->len > 0)
      g_string_append_c(text, '\n');
    g_string_append(text, piece);
  }
  g_strstrip(text->str);
  if (!*text->str || g_utf8_strlen(text->str, -1) > CHOIR_REALTIME_MAX_TEXT) {
    choir_fault_set(fault, "invalid_value", "item.content", "A message has 1 to 10000 characters of text.");
    return NULL;
  }
  return g_strdup(text->str);
}

static void add_message(ChoirRealtimeSession *session, const json_t *event, const char *id) {
  ChoirFault fault = {0};
  g_autofree char *text = message_text(json_object_get(event, "item"), &fault);
  if (!text) {
    refuse_fault(session, event, &fault);
    return;
  }
  g_autofree char *live_id = choir_live_text(session->live, text, FALSE);
  if (!live_id) {
    refuse(session, event, "too_many_messages", "item",
           "Too many messages wait for an answer: send response.create first.");
    return;
  }
  ChoirRealtimeItem *item = choir_realtime_item_new(id ? id : live_id, live_id, CHOIR_REALTIME_USER_TEXT);
  g_string_assign(item->text, text);
  item->unanswered = TRUE;
  session->unanswered++;
  choir_realtime_said(session);
  choir_realtime_add(session, item);
  choir_realtime_item_done(session, item);
}

static void add_output(ChoirRealtimeSession *session, const json_t *event, const char *id) {
  ChoirFault fault = {0};
  ChoirRealtimeItem *item = choir_realtime_take_output(session, json_object_get(event, "item"), id, &fault);
  if (!item) {
    refuse_fault(session, event, &fault);
    return;
  }
  choir_realtime_add(session, item);
  choir_realtime_item_done(session, item);
}

static void on_item_create(ChoirRealtimeSession *session, const json_t *event) {
  const json_t *wanted = json_object_get(event, "item");
  const char *id = choir_json_string(wanted, "id", NULL);
  if (id && (strlen(id) > 64 || !*id || choir_realtime_find(session, id))) {
    refuse(session, event, "invalid_value", "item.id", "An item's id has 1 to 64 characters and is used once.");
    return;
  }
  const char *previous = choir_json_string(event, "previous_item_id", NULL);
  if (previous && strcmp(previous, "root") != 0 && !choir_realtime_find(session, previous)) {
    refuse(session, event, "item_not_found", "previous_item_id", "There is no item with that id to follow.");
    return;
  }
  if (strcmp(choir_json_string(wanted, "type", ""), "function_call_output") == 0)
    add_output(session, event, id);
  else
    add_message(session, event, id);
}

static void on_item_retrieve(ChoirRealtimeSession *session, const json_t *event) {
  ChoirRealtimeItem *item = named_item(session, event);
  if (item)
    choir_realtime_emit(session,
                        choir_realtime_event("conversation.item.retrieved",
                                             json_pack("{s:o}", "item", choir_realtime_item_json(item, TRUE))));
}

static void on_item_delete(ChoirRealtimeSession *session, const json_t *event) {
  ChoirRealtimeItem *item = named_item(session, event);
  if (!item)
    return;
  if (!item->done) {
    refuse(session, event, "item_in_progress", "item_id", "The item is still being made: cancel the response first.");
    return;
  }
  g_autofree char *id = g_strdup(item->id);
  g_queue_remove(&session->items, item);
  choir_realtime_item_free(item);
  choir_realtime_emit(session, choir_realtime_event("conversation.item.deleted", json_pack("{s:s}", "item_id", id)));
}

static void on_item_truncate(ChoirRealtimeSession *session, const json_t *event) {
  ChoirRealtimeItem *item = named_item(session, event);
  if (!item)
    return;
  const json_t *ms_value = json_object_get(event, "audio_end_ms");
  if (item->kind != CHOIR_REALTIME_REPLY_AUDIO || !json_is_number(ms_value) || json_number_value(ms_value) < 0 ||
      choir_json_int(event, "content_index", 0) != 0) {
    refuse(session, event, "invalid_value", item->kind == CHOIR_REALTIME_REPLY_AUDIO ? "audio_end_ms" : "item_id",
           "Only the spoken content of a reply can be truncated, at 0 ms or later.");
    return;
  }
  /* A listener's own clock may run ahead of what was sent: it cannot have heard more than that. */
  guint64 sent_ms = item->audio_samples / 24;
  guint64 ms = (guint64)MIN(json_number_value(ms_value), (double)sent_ms);
  guint seen = session->truncations;
  gboolean known = item->live_id && choir_live_truncate(session->live, item->live_id, ms);
  if (session->truncations != seen)
    return; /* voice/live cut it and said so */
  if (item->truncated)
    choir_realtime_truncated(session, item, item->heard_ms, NULL); /* cut before: the same answer again */
  else if (known || ms >= sent_ms)
    choir_realtime_truncated(session, item, sent_ms, NULL); /* it had been heard to its end */
  else
    refuse(session, event, "item_too_old", "item_id",
           "That reply is part of the past: only the last one can be truncated.");
}

/* --- responses ------------------------------------------------------------------------------------------------------
 */

/* Members of `response` that are neither settings nor looked at elsewhere. */
static gboolean response_key(const char *key, json_t *value, ChoirRealtimeConfig *own, gboolean *ret_audio,
                             ChoirFault *fault) {
  gboolean known;
  if (!choir_realtime_config_prompt_key(own, "response", key, value, &known, fault))
    return FALSE;
  if (known || strcmp(key, "metadata") == 0)
    return TRUE;
  if (strcmp(key, "output_modalities") == 0)
    return choir_realtime_config_modalities(value, "response.output_modalities", ret_audio, fault);
  if ((strcmp(key, "conversation") == 0 && g_strcmp0(json_string_value(value), "auto") != 0) ||
      (strcmp(key, "input") == 0 && json_array_size(value) > 0)) {
    choir_fault_set(fault, "unsupported", "response.conversation",
                    "Responses belong to the conversation here: no 'input', no 'conversation: none'.");
    return FALSE;
  }
  return TRUE; /* audio, prompt, reasoning ...: without effect */
}

/* The settings of this response: the session's, changed by the members of `response`. FALSE with fault; own is to be
 * cleared in any case. */
static gboolean response_options(const ChoirRealtimeSession *session, const json_t *options, ChoirRealtimeConfig *own,
                                 gboolean *ret_audio, ChoirFault *fault) {
  *ret_audio = session->config.live.audio_out;
  choir_realtime_config_copy(own, &session->config);
  if (options && !json_is_null(options) && !json_is_object(options)) {
    choir_fault_set(fault, "invalid_type", "response", "Invalid type for 'response': expected an object.");
    return FALSE;
  }
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)options, key, value) {
    if (!json_is_null(value) && !response_key(key, value, own, ret_audio, fault))
      return FALSE;
  }
  return choir_realtime_config_resolve(own, "response", fault);
}

static void borrow(ChoirRealtimeSession *session, const ChoirRealtimeConfig *own /* taken */, gboolean audio) {
  session->own = *own;
  session->borrowed = TRUE;
  session->borrowed_audio = audio;
  choir_realtime_configure(session);
}

static void on_response_create(ChoirRealtimeSession *session, const json_t *event) {
  const json_t *options = json_object_get(event, "response");
  if (session->active || session->requested) {
    refuse(session, event, "conversation_already_has_active_response", NULL,
           "Conversation already has an active response in progress. Wait until the response is finished before "
           "creating a new one.");
    return;
  }
  ChoirFault fault = {0};
  ChoirRealtimeConfig own;
  gboolean audio;
  if (!response_options(session, options, &own, &audio, &fault)) {
    choir_realtime_config_clear(&own);
    refuse_fault(session, event, &fault);
    return;
  }
  if (session->unanswered == 0 && !session->committing) {
    choir_realtime_config_clear(&own);
    refuse(session, event, "nothing_to_answer", NULL, "There is no user message without an answer: add one first.");
    return;
  }
  const json_t *metadata = json_object_get(options, "metadata");
  g_clear_pointer(&session->requested_metadata, json_decref);
  if (json_is_object(metadata) && json_object_size(metadata) <= 16)
    session->requested_metadata = json_deep_copy(metadata);
  session->requested = TRUE;
  if (!session->stages.asked_us) /* typed; what was spoken is counted from the end of speech */
    choir_realtime_stages_request(&session->stages);
  if (json_object_size(options) > 0)
    borrow(session, &own, audio);
  else
    choir_realtime_config_clear(&own);
  choir_realtime_answer(session);
}

static void on_response_cancel(ChoirRealtimeSession *session, const json_t *event) {
  const char *id = choir_json_string(event, "response_id", NULL);
  if (id && (!session->active || strcmp(id, session->response.id) != 0)) {
    refuse(session, event, "response_cancel_not_active", "response_id",
           "Cancellation failed: that response is not active.");
    return;
  }
  if (choir_realtime_stop_deciding(session, "client_cancelled"))
    return;
  gboolean was_active = session->active;
  guint seen = session->truncations;
  choir_live_cancel(session->live); /* also ends the playing of a response that is complete */
  if (session->requested && !session->active)
    choir_realtime_request_over(session, "cancelled", "client_cancelled", NULL);
  else if (!was_active && session->truncations == seen)
    refuse(session, event, "response_cancel_not_active", NULL, "Cancellation failed: no active response found.");
}

/* --- Choir's own
 * ------------------------------------------------------------------------------------------------------ */

static void on_playout(ChoirRealtimeSession *session, const json_t *event) {
  ChoirRealtimeItem *item = choir_realtime_find(session, choir_json_string(event, "item_id", NULL));
  gint64 played = choir_json_int(event, "played_samples", -1);
  gint64 underruns = choir_json_int(event, "underruns", 0);
  if (!item || !item->live_id || played < 0)
    return; /* reports come 40 times a second: one about a forgotten item is no error */
  choir_live_ack(session->live, item->live_id, MIN((guint64)played, item->audio_samples),
                 (guint)CLAMP(underruns, 0, 1000));
}

/* The microphone's switch: what it still brings does not count, and what was said before is a turn. */
static void on_mute(ChoirRealtimeSession *session, const json_t *event) {
  const json_t *muted = json_object_get(event, "muted");
  if (!json_is_boolean(muted)) {
    refuse(session, event, "invalid_type", "muted", "Invalid type for 'muted': expected a boolean.");
    return;
  }
  session->config.live.muted = json_is_true(muted);
  choir_realtime_configure(session);
}

static const Command commands[] = {
    {"session.update", on_session_update},
    {"input_audio_buffer.append", on_append},
    {"input_audio_buffer.commit", on_commit},
    {"input_audio_buffer.clear", on_clear},
    {"conversation.item.create", on_item_create},
    {"conversation.item.retrieve", on_item_retrieve},
    {"conversation.item.truncate", on_item_truncate},
    {"conversation.item.delete", on_item_delete},
    {"response.create", on_response_create},
    {"response.cancel", on_response_cancel},
    {"choir.playout", on_playout},
    {"choir.mute", on_mute},
};

void choir_realtime_session_client(ChoirRealtimeSession *session, const char *text, gsize length) {
  session->failure_told = FALSE;
  g_autoptr(GError) error = NULL;
  json_auto_t *event = choir_json_parse(text, length, &error);
  if (!json_is_object(event)) {
    g_autofree char *message =
        g_strdup_printf("The message is not a JSON object%s%s.", error ? ": " : "", error ? error->message : "");
    refuse(session, event, "invalid_json", NULL, message);
    return;
  }
  const char *type = choir_json_string(event, "type", "");
  for (gsize i = 0; i < G_N_ELEMENTS(commands); i++)
    if (strcmp(commands[i].type, type) == 0) {
      commands[i].run(session, event);
      return;
    }
  g_autofree char *message = g_strdup_printf("Invalid value: '%.64s'. It is not an event of this server.", type);
  g_autofree char *safe = choir_utf8(message, -1); /* the cut may have split a character */
  refuse(session, event, "invalid_value", "type", safe);
}
