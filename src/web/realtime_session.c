#include <string.h>
#include "base/metrics.h"
#include "base/text.h"
#include "web/realtime_private.h"

static void count(const char *what) {
  g_autofree char *labels = g_strdup_printf("what=\"%s\"", what);
  choir_counter_add(choir_counter("choir_realtime_events_total", labels, "Events of Realtime clients that went wrong."),
                    1);
}

void choir_realtime_emit(ChoirRealtimeSession *session, json_t *event) {
  g_autofree char *text = choir_json_dump(event);
  json_decref(event);
  session->options.send(text, strlen(text), session->options.user);
}

static void emit(ChoirRealtimeSession *session, const char *type, json_t *fields) {
  choir_realtime_emit(session, choir_realtime_event(type, fields));
}

static void emit_part(ChoirRealtimeSession *session, const char *type, const char *key, const char *value) {
  choir_realtime_emit(session, choir_realtime_part_event(type, &session->response, key, value));
}

void choir_realtime_session_error(ChoirRealtimeSession *session, const char *type, const char *code,
                                  const char *message) {
  count("server_error");
  choir_realtime_emit(session, choir_realtime_error(type, code, NULL, message, NULL));
}

ChoirRealtimeSession *choir_realtime_session_new(const ChoirLiveOptions *defaults,
                                                 const ChoirRealtimeOptions *options) {
  ChoirRealtimeSession *session = g_new0(ChoirRealtimeSession, 1);
  session->options = *options;
  choir_realtime_config_init(&session->config, defaults, options->model);
  session->options.model = NULL; /* copied */
  session->conversation = choir_id("conv_");
  g_queue_init(&session->items);
  session->bytes = g_byte_array_new();
  session->pcm = g_array_new(FALSE, FALSE, sizeof(gint16));
  session->notes = g_string_new(NULL);
  session->used = g_ptr_array_new_with_free_func(g_free);
  return session;
}

void choir_realtime_response_clear(ChoirRealtimeSession *session) {
  g_free(session->response.id);
  json_decref(session->response.metadata);
  session->response = (ChoirRealtimeResponse){0};
  session->active = FALSE;
}

void choir_realtime_session_free(ChoirRealtimeSession *session) {
  if (!session)
    return;
  choir_realtime_response_clear(session);
  g_clear_pointer(&session->deciding, choir_call_cancel);
  choir_realtime_config_clear(&session->config);
  if (session->borrowed)
    choir_realtime_config_clear(&session->own);
  g_string_free(session->notes, TRUE);
  g_ptr_array_unref(session->used);
  g_queue_clear_full(&session->items, choir_realtime_item_free);
  json_decref(session->requested_metadata);
  g_byte_array_unref(session->bytes);
  g_array_unref(session->pcm);
  g_free(session->conversation);
  g_free(session->speech_item);
  g_free(session);
}

void choir_realtime_session_attach(ChoirRealtimeSession *session, ChoirLive *live) {
  session->live = live;
}

void choir_realtime_session_start(ChoirRealtimeSession *session) {
  emit(session, "session.created", json_pack("{s:o}", "session", choir_realtime_config_json(&session->config)));
}

ChoirRealtimeItem *choir_realtime_find(ChoirRealtimeSession *session, const char *id) {
  for (GList *link = id ? session->items.tail : NULL; link; link = link->prev) {
    ChoirRealtimeItem *item = link->data;
    if (strcmp(item->id, id) == 0 || g_strcmp0(item->live_id, id) == 0)
      return item;
  }
  return NULL;
}

const char *choir_realtime_previous(ChoirRealtimeSession *session, const ChoirRealtimeItem *item) {
  GList *link = g_queue_find(&session->items, item);
  return link && link->prev ? ((ChoirRealtimeItem *)link->prev->data)->id : NULL;
}

ChoirRealtimeItem *choir_realtime_add(ChoirRealtimeSession *session, ChoirRealtimeItem *item) {
  g_queue_push_tail(&session->items, item);
  for (GList *link = session->items.head; link && session->items.length > CHOIR_REALTIME_MAX_ITEMS;) {
    GList *next = link->next;
    ChoirRealtimeItem *old = link->data;
    if (old->done && old != item) {
      choir_realtime_item_free(old);
      g_queue_delete_link(&session->items, link);
    }
    link = next;
  }
  /* A reply is announced empty; its parts follow. */
  gboolean reply = item->kind == CHOIR_REALTIME_REPLY_TEXT || item->kind == CHOIR_REALTIME_REPLY_AUDIO;
  emit(session, "conversation.item.added",
       json_pack("{s:s?,s:o}", "previous_item_id", choir_realtime_previous(session, item), "item",
                 choir_realtime_item_json(item, !reply)));
  return item;
}

void choir_realtime_item_done(ChoirRealtimeSession *session, ChoirRealtimeItem *item) {
  if (item->done)
    return;
  item->done = TRUE;
  emit(session, "conversation.item.done",
       json_pack("{s:s?,s:o}", "previous_item_id", choir_realtime_previous(session, item), "item",
                 choir_realtime_item_json(item, TRUE)));
}

void choir_realtime_truncated(ChoirRealtimeSession *session, ChoirRealtimeItem *item, guint64 ms, const char *heard) {
  item->truncated = item->cut = TRUE;
  item->heard_ms = ms;
  if (heard)
    g_string_assign(item->text, heard);
  json_t *fields = json_pack("{s:s,s:i,s:I}", "item_id", item->id, "content_index", 0, "audio_end_ms", (json_int_t)ms);
  if (session->options.extension)
    json_object_set_new(fields, "text", json_string(item->text->str));
  emit(session, "conversation.item.truncated", fields);
}

/* --- the response ---------------------------------------------------------------------------------------------- */

void choir_realtime_emit_response(ChoirRealtimeSession *session, const char *type, const char *status,
                                  const char *reason, const char *message) {
  emit(session, type,
       json_pack("{s:o}", "response",
                 choir_realtime_response_json(&session->response, session->conversation, status, reason, message)));
}

void choir_realtime_response_begin(ChoirRealtimeSession *session, const char *id) {
  choir_realtime_response_clear(session);
  session->response.id = g_strdup(id);
  session->response.audio = session->borrowed ? session->borrowed_audio : session->config.live.audio_out;
  session->response.metadata = g_steal_pointer(&session->requested_metadata);
  session->requested = session->owed = FALSE;
  session->active = TRUE;
  choir_realtime_emit_response(session, "response.created", "in_progress", NULL, NULL);
}

void choir_realtime_request_over(ChoirRealtimeSession *session, const char *status, const char *reason,
                                 const char *message) {
  g_autofree char *id = choir_id("resp_");
  choir_realtime_response_begin(session, id);
  choir_realtime_emit_response(session, "response.done", status, reason, message);
  choir_realtime_response_clear(session);
  choir_realtime_restore(session);
}

void choir_realtime_restore(ChoirRealtimeSession *session) {
  if (!session->borrowed)
    return;
  session->borrowed = FALSE;
  choir_realtime_config_clear(&session->own);
  choir_realtime_configure(session); /* inside its callback: it takes effect after this event */
}

static void on_response_started(ChoirRealtimeSession *session, const ChoirLiveEvent *event) {
  if (session->active || !event->response_id || !event->item_id || choir_realtime_find(session, event->item_id)) {
    count("response_overlap");
    return;
  }
  choir_realtime_response_begin(session, event->response_id);
  choir_realtime_taken(session);
  ChoirRealtimeItem *item = choir_realtime_item_new(
      event->item_id, event->item_id, session->response.audio ? CHOIR_REALTIME_REPLY_AUDIO : CHOIR_REALTIME_REPLY_TEXT);
  session->response.item = item;
  emit(session, "response.output_item.added",
       json_pack("{s:s,s:i,s:o}", "response_id", session->response.id, "output_index", 0, "item",
                 choir_realtime_item_json(item, FALSE)));
  choir_realtime_add(session, item);
  json_t *part = choir_realtime_part_event("response.content_part.added", &session->response, NULL, NULL);
  json_object_set_new(part, "part", choir_realtime_part_json(&session->response));
  choir_realtime_emit(session, part);
  if (!session->borrowed)
    return;
  /* This event comes before the model is asked: the prompt must stay until then. What changes in the options takes
   * effect after the event anyway. */
  char *instructions = g_steal_pointer(&session->own.instructions);
  guint max_tokens = choir_realtime_config_max_tokens(&session->own);
  choir_realtime_restore(session);
  choir_live_prompt(session->live, &(ChoirLivePrompt){.instructions = *instructions ? instructions : NULL,
                                                      .notes = session->notes->len > 0 ? session->notes->str : NULL,
                                                      .max_tokens = max_tokens});
  session->prompt_owed = TRUE;
  g_free(instructions);
}

static gboolean is_current(ChoirRealtimeSession *session, const ChoirLiveEvent *event) {
  if (session->active && session->response.item && g_strcmp0(event->response_id, session->response.id) == 0)
    return TRUE;
  count("late_content");
  return FALSE;
}

static void text_delta(ChoirRealtimeSession *session, const char *text) {
  if (!text || !*text)
    return;
  g_string_append(session->response.item->text, text);
  emit_part(session, session->response.audio ? "response.output_audio_transcript.delta" : "response.output_text.delta",
            "delta", text);
}

static void on_audio(ChoirRealtimeSession *session, const ChoirLiveEvent *event) {
  if (!is_current(session, event) || !session->response.audio)
    return;
  for (gsize at = 0; at < event->samples; at += CHOIR_REALTIME_AUDIO_PIECE) {
    gsize n = MIN(event->samples - at, (gsize)CHOIR_REALTIME_AUDIO_PIECE);
    g_autofree char *text = g_base64_encode((const guchar *)(event->pcm + at), n * sizeof(gint16));
    emit_part(session, "response.output_audio.delta", "delta", text);
  }
  session->response.item->audio_samples += event->samples;
  session->response.audio_sent |= event->samples > 0;
}

static void emit_part_ends(ChoirRealtimeSession *session) {
  const char *text = session->response.item->text->str;
  if (session->response.audio) {
    emit_part(session, "response.output_audio.done", NULL, NULL);
    emit_part(session, "response.output_audio_transcript.done", "transcript", text);
  } else {
    emit_part(session, "response.output_text.done", "text", text);
  }
  json_t *part = choir_realtime_part_event("response.content_part.done", &session->response, NULL, NULL);
  json_object_set_new(part, "part", choir_realtime_part_json(&session->response));
  choir_realtime_emit(session, part);
}

static void on_response_done(ChoirRealtimeSession *session, const ChoirLiveEvent *event) {
  if (!session->active && session->requested) {
    choir_realtime_request_over(session, event->status ? event->status : "failed", event->reason, event->text);
    return;
  }
  if (!is_current(session, event))
    return;
  ChoirRealtimeItem *item = session->response.item;
  session->response.input_tokens = event->prompt_tokens;
  session->response.cached_tokens = event->cached_tokens;
  session->response.output_tokens = event->reply_tokens;
  /* The deltas together are the text: what is missing at the end comes as one more. */
  if (event->text && strlen(event->text) > item->text->len && g_str_has_prefix(event->text, item->text->str))
    text_delta(session, event->text + item->text->len);
  const char *status = event->status ? event->status : "completed";
  item->cut = strcmp(status, "completed") != 0;
  emit_part_ends(session);
  gboolean was_done = item->done;
  item->done = TRUE; /* for its status in the event */
  emit(session, "response.output_item.done",
       json_pack("{s:s,s:i,s:o}", "response_id", session->response.id, "output_index", 0, "item",
                 choir_realtime_item_json(item, TRUE)));
  item->done = was_done;
  choir_realtime_item_done(session, item);
  choir_realtime_emit_response(session, "response.done", status, event->reason, event->reason);
  choir_realtime_response_clear(session);
  if (strcmp(status, "completed") == 0)
    choir_realtime_answered(session);
  choir_realtime_maybe_answer(session);
}

/* --- what the person said ---------------------------------------------------------------------------------------- */

static void on_speech(ChoirRealtimeSession *session, const ChoirLiveEvent *event) {
  gboolean start = event->type == CHOIR_LIVE_SPEECH_STARTED;
  if (start || !session->speech_item) {
    g_free(session->speech_item);
    session->speech_item = event->item_id ? g_strdup(event->item_id) : choir_id("item_");
  }
  if (start)
    session->speech_start_ms = event->ms;
  session->speech_end_ms = event->ms;
  gboolean interrupts = start && session->config.live.interrupt;
  emit(session, start ? "input_audio_buffer.speech_started" : "input_audio_buffer.speech_stopped",
       json_pack("{s:I,s:s}", start ? "audio_start_ms" : "audio_end_ms", (json_int_t)event->ms, "item_id",
                 session->speech_item));
  if (interrupts && choir_realtime_stop_deciding(session, "turn_detected"))
    session->owed = TRUE; /* a cough must not cost the answer */
}

static void on_committed(ChoirRealtimeSession *session, const ChoirLiveEvent *event) {
  if (choir_realtime_find(session, event->item_id))
    return; /* a typed message: announced when it came */
  g_autofree char *id = g_steal_pointer(&session->speech_item);
  if (id && choir_realtime_find(session, id))
    g_clear_pointer(&id, g_free);
  if (!id)
    id = event->item_id ? g_strdup(event->item_id) : choir_id("item_");
  session->buffered = 0;
  session->committing = FALSE;
  session->unanswered++;
  ChoirRealtimeItem *last = g_queue_peek_tail(&session->items);
  emit(session, "input_audio_buffer.committed",
       json_pack("{s:s?,s:s}", "previous_item_id", last ? last->id : NULL, "item_id", id));
  ChoirRealtimeItem *item = choir_realtime_item_new(id, event->item_id, CHOIR_REALTIME_USER_AUDIO);
  item->unanswered = TRUE;
  choir_realtime_add(session, item);
}

static void unanswered_gone(ChoirRealtimeSession *session) {
  if (session->unanswered > 0)
    session->unanswered--;
  if (session->unanswered == 0 && session->requested && !session->active) {
    choir_realtime_request_over(session, "failed", "nothing_understood",
                                "Nothing was understood, so there is nothing to answer.");
    session->failure_told = TRUE;
  }
}

static void on_transcript(ChoirRealtimeSession *session, const ChoirLiveEvent *event) {
  ChoirRealtimeItem *item = choir_realtime_find(session, event->item_id);
  if (!item || item->kind != CHOIR_REALTIME_USER_AUDIO)
    return;
  const char *text = event->text ? event->text : "";
  gboolean failed = event->type == CHOIR_LIVE_TRANSCRIPT_FAILED;
  if (failed && session->config.transcription) {
    emit(session, "conversation.item.input_audio_transcription.failed",
         json_pack("{s:s,s:i,s:{s:s,s:s,s:s}}", "item_id", item->id, "content_index", 0, "error", "type",
                   "transcription_error", "code", "transcription_failed", "message", text));
  } else if (!failed) {
    g_string_assign(item->text, text);
    item->has_text = TRUE;
  }
  if (!failed && session->config.transcription) {
    if (*text)
      emit(session, "conversation.item.input_audio_transcription.delta",
           json_pack("{s:s,s:i,s:s}", "item_id", item->id, "content_index", 0, "delta", text));
    double seconds = session->speech_end_ms > session->speech_start_ms
                         ? (double)(session->speech_end_ms - session->speech_start_ms) / 1000
                         : 0;
    emit(session, "conversation.item.input_audio_transcription.completed",
         json_pack("{s:s,s:i,s:s,s:{s:s,s:f}}", "item_id", item->id, "content_index", 0, "transcript", text, "usage",
                   "type", "duration", "seconds", seconds));
  }
  choir_realtime_item_done(session, item);
  if (failed || !*text || event->no_reply) {
    item->unanswered = FALSE;
    unanswered_gone(session);
  } else {
    choir_realtime_said(session);
    session->owed |= session->config.live.server_vad && session->config.live.create_response;
  }
  choir_realtime_maybe_answer(session);
}

/* The silence becomes an item without words, as the protocol has it. */
static void on_idle(ChoirRealtimeSession *session, const ChoirLiveEvent *event) {
  emit(session, "input_audio_buffer.timeout_triggered",
       json_pack("{s:I,s:I,s:s}", "audio_start_ms", (json_int_t)event->ms, "audio_end_ms", (json_int_t)event->until_ms,
                 "item_id", event->item_id));
  g_clear_pointer(&session->speech_item, g_free);
  ChoirLiveEvent silence = {.type = CHOIR_LIVE_COMMITTED, .item_id = event->item_id};
  on_committed(session, &silence);
  silence.type = CHOIR_LIVE_TRANSCRIPT;
  silence.no_reply = TRUE;
  on_transcript(session, &silence);
}

static void on_visemes(ChoirRealtimeSession *session, const ChoirLiveEvent *event) {
  json_t *visemes = event->text ? choir_json_parse(event->text, strlen(event->text), NULL) : NULL;
  if (json_is_array(visemes) && event->item_id)
    emit(session, "choir.visemes",
         json_pack("{s:s?,s:s,s:O}", "response_id", event->response_id, "item_id", event->item_id, "visemes", visemes));
  json_decref(visemes);
}

static void on_extension(ChoirRealtimeSession *session, const ChoirLiveEvent *event) {
  if (!session->options.extension)
    return;
  const char *text = event->text ? event->text : "";
  if (event->type == CHOIR_LIVE_STATE)
    emit(session, "choir.state", json_pack("{s:s}", "state", text));
  else if (event->type == CHOIR_LIVE_STATUS)
    emit(session, "choir.status", json_pack("{s:s}", "text", text));
  else if (event->type == CHOIR_LIVE_VAD)
    emit(session, "choir.vad", json_pack("{s:f,s:f}", "level", event->level, "probability", event->probability));
  else if (event->type == CHOIR_LIVE_VISEMES)
    on_visemes(session, event);
  else if (event->item_id && event->type == CHOIR_LIVE_RESUMED)
    emit(session, "choir.playout.resumed",
         json_pack("{s:s,s:I}", "item_id", event->item_id, "audio_ms", (json_int_t)event->ms));
  else if (event->item_id)
    emit(session, event->type == CHOIR_LIVE_PAUSED ? "choir.playout.paused" : "choir.playout_done",
         json_pack("{s:s}", "item_id", event->item_id));
}

static void on_error(ChoirRealtimeSession *session, const char *message) {
  gboolean hopeless = session->requested && !session->active && session->unanswered == 0;
  session->committing = FALSE;
  if (session->failure_told) { /* the response said so already */
    session->failure_told = FALSE;
    return;
  }
  if (hopeless)
    choir_realtime_request_over(session, "failed", "voice_error", message);
  else
    choir_realtime_session_error(session, "server_error", "voice_error", message);
}

void choir_realtime_session_live(ChoirRealtimeSession *session, const ChoirLiveEvent *raw) {
  /* JSON takes valid UTF-8 only; an engine's slip must not cost a whole event. */
  ChoirLiveEvent copy = *raw;
  g_autofree char *valid = raw->text && !g_utf8_validate(raw->text, -1, NULL) ? choir_utf8(raw->text, -1) : NULL;
  if (valid)
    copy.text = valid;
  const ChoirLiveEvent *event = &copy;
  choir_realtime_stages_live(&session->stages, event);
  if (session->prompt_owed && (event->type == CHOIR_LIVE_TEXT_DELTA || event->type == CHOIR_LIVE_RESPONSE_DONE))
    choir_realtime_prompt(session);
  switch (event->type) {
  case CHOIR_LIVE_SPEECH_STARTED:
  case CHOIR_LIVE_SPEECH_STOPPED:
    on_speech(session, event);
    return;
  case CHOIR_LIVE_COMMITTED:
    on_committed(session, event);
    return;
  case CHOIR_LIVE_IDLE:
    on_idle(session, event);
    return;
  case CHOIR_LIVE_TRANSCRIPT:
  case CHOIR_LIVE_TRANSCRIPT_FAILED:
    on_transcript(session, event);
    return;
  case CHOIR_LIVE_RESPONSE_STARTED:
    on_response_started(session, event);
    return;
  case CHOIR_LIVE_TEXT_DELTA:
    if (is_current(session, event))
      text_delta(session, event->text);
    return;
  case CHOIR_LIVE_AUDIO:
    on_audio(session, event);
    return;
  case CHOIR_LIVE_RESPONSE_DONE:
    on_response_done(session, event);
    return;
  case CHOIR_LIVE_TRUNCATED: {
    ChoirRealtimeItem *item = choir_realtime_find(session, event->item_id);
    session->truncations++;
    if (item)
      choir_realtime_truncated(session, item, event->ms, event->text);
    return;
  }
  case CHOIR_LIVE_ERROR:
    on_error(session, event->text ? event->text : "The voice failed.");
    return;
  case CHOIR_LIVE_STATE:
  case CHOIR_LIVE_VAD:
  case CHOIR_LIVE_STATUS:
  case CHOIR_LIVE_PLAYOUT_DONE:
  case CHOIR_LIVE_VISEMES:
  case CHOIR_LIVE_PAUSED:
  case CHOIR_LIVE_RESUMED:
    on_extension(session, event);
    return;
  }
}
