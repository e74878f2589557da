#include "web/rtvi_session.h"
#include <string.h>
#include "audio/resample.h"
#include "base/clock.h"
#include "base/names.h"
#include "base/text.h"
#include "web/rtvi_frames.h"
#include "web/rtvi_private.h"

#define AUDIO_PIECE 2400 /* samples in one frame, 100 ms */
#define LEVEL_US 100000  /* between two levels of the bot */

ChoirRtviSession *choir_rtvi_session_new(const ChoirLiveOptions *defaults, const ChoirRtviOptions *options) {
  ChoirRtviSession *session = g_new0(ChoirRtviSession, 1);
  session->options = *options;
  session->model = g_strdup(options->model);
  session->options.model = NULL; /* copied */
  session->live_options = *defaults;
  session->live_options.audio_out = !options->text_only;
  session->reply = g_string_new(NULL);
  session->parts = g_array_new(FALSE, FALSE, sizeof(ChoirRtviSegment));
  session->frame = g_byte_array_new();
  session->pcm = g_array_new(FALSE, FALSE, sizeof(gint16));
  return session;
}

void choir_rtvi_session_free(ChoirRtviSession *session) {
  if (!session)
    return;
  g_string_free(session->reply, TRUE);
  g_array_unref(session->parts);
  g_byte_array_unref(session->frame);
  g_array_unref(session->pcm);
  g_free(session->model);
  g_free(session->item);
  g_free(session);
}

void choir_rtvi_session_attach(ChoirRtviSession *session, ChoirLive *live) {
  session->live = live;
  choir_rtvi_configure(session);
}

void choir_rtvi_configure(ChoirRtviSession *session) {
  ChoirLiveOptions options = session->live_options;
  if (session->silent_reply)
    options.audio_out = FALSE;
  choir_live_configure(session->live, &options);
}

/* --- sending -------------------------------------------------------------------------------------------------------
 */

void choir_rtvi_emit(ChoirRtviSession *session, const char *type, const char *id, json_t *data) {
  json_t *message = json_pack("{s:s,s:s}", "label", "rtvi-ai", "type", type);
  if (id)
    json_object_set_new(message, "id", json_string(id));
  if (data)
    json_object_set_new(message, "data", data);
  g_autofree char *text = choir_json_dump(message);
  json_decref(message);
  gsize length = strlen(text);
  /* Who has said nothing yet is taken for the protobuf client, by far the most common. */
  if (session->form_known && !session->binary) {
    session->options.send(FALSE, text, length, session->options.user);
    return;
  }
  g_byte_array_set_size(session->frame, 0);
  choir_rtvi_frame_message(session->frame, text, length);
  session->options.send(TRUE, session->frame->data, session->frame->len, session->options.user);
}

/* Server writes `error`, old clients read `message`. */
void choir_rtvi_session_error(ChoirRtviSession *session, const char *message, gboolean fatal) {
  choir_rtvi_emit(session, "error", NULL,
                  json_pack("{s:s,s:s,s:b}", "error", message, "message", message, "fatal", fatal));
}

void choir_rtvi_refuse(ChoirRtviSession *session, const char *id, const char *format, ...) {
  va_list args;
  va_start(args, format);
  g_autofree char *why = g_strdup_vprintf(format, args);
  va_end(args);
  g_autofree char *valid = choir_utf8(why, -1);
  choir_rtvi_emit(session, "error-response", id ? id : "", json_pack("{s:s}", "error", valid));
}

static void send_audio(ChoirRtviSession *session, const gint16 *pcm, gsize samples) {
  if (session->form_known && !session->binary) {
    g_autofree char *text = g_base64_encode((const guchar *)pcm, samples * sizeof *pcm);
    choir_rtvi_emit(session, "bot-tts-audio", NULL,
                    json_pack("{s:s,s:i,s:i}", "audio", text, "sample_rate", CHOIR_RATE_OUT, "num_channels", 1));
    return;
  }
  g_byte_array_set_size(session->frame, 0);
  choir_rtvi_frame_audio(session->frame, pcm, samples, CHOIR_RATE_OUT);
  session->options.send(TRUE, session->frame->data, session->frame->len, session->options.user);
}

void choir_rtvi_user_text(ChoirRtviSession *session, const char *text, const char *kind, const char *id,
                          gboolean answered) {
  g_autoptr(GDateTime) now = g_date_time_new_now_utc();
  g_autofree char *time = g_date_time_format_iso8601(now);
  if (strcmp(kind, "transcription") == 0)
    choir_rtvi_emit(session, "user-transcription", NULL,
                    json_pack("{s:s,s:s,s:s,s:b}", "text", text, "user_id", "", "timestamp", time, "final", 1));
  json_t *input = json_pack("{s:s,s:s,s:s,s:b}", "text", text, "input_type", kind, "timestamp", time, "final", 1);
  if (id)
    json_object_set_new(input, "msg_id", json_string(id));
  choir_rtvi_emit(session, "user-input", NULL, input);
  if (answered)
    choir_rtvi_emit(session, "user-llm-text", NULL, json_pack("{s:s}", "text", text));
}

/* --- metrics -------------------------------------------------------------------------------------------------------
 */

static void ttfb(ChoirRtviSession *session, const char *processor, gint64 from, gint64 to) {
  if (from == 0)
    return;
  json_t *row = json_pack("{s:s,s:f}", "processor", processor, "value", (double)(to - from) / G_USEC_PER_SEC);
  if (strcmp(processor, "choir-llm") == 0)
    json_object_set_new(row, "model", json_string(session->model));
  choir_rtvi_emit(session, "metrics", NULL, json_pack("{s:[o]}", "ttfb", row));
}

static void tokens(ChoirRtviSession *session, const ChoirLiveEvent *event) {
  if (event->prompt_tokens <= 0)
    return;
  json_t *row =
      json_pack("{s:s,s:s,s:i,s:i,s:i,s:i}", "processor", "choir-llm", "model", session->model, "prompt_tokens",
                event->prompt_tokens, "completion_tokens", event->reply_tokens, "total_tokens",
                event->prompt_tokens + event->reply_tokens, "cache_read_input_tokens", event->cached_tokens);
  choir_rtvi_emit(session, "metrics", NULL, json_pack("{s:[o]}", "tokens", row));
}

/* --- the reply -----------------------------------------------------------------------------------------------------
 */

static gboolean is_current(const ChoirRtviSession *session, const ChoirLiveEvent *event) {
  return session->item && g_strcmp0(event->item_id, session->item) == 0;
}

static void stop_speaking(ChoirRtviSession *session) {
  if (session->speaking)
    choir_rtvi_emit(session, "bot-stopped-speaking", NULL, NULL);
  session->speaking = FALSE;
}

/* The model and the voice are done with the reply. */
static void stop_engines(ChoirRtviSession *session) {
  if (session->llm)
    choir_rtvi_emit(session, "bot-llm-stopped", NULL, NULL);
  if (session->tts)
    choir_rtvi_emit(session, "bot-tts-stopped", NULL, NULL);
  session->llm = session->tts = FALSE;
}

static void on_started(ChoirRtviSession *session, const ChoirLiveEvent *event) {
  stop_engines(session);
  stop_speaking(session);
  g_free(session->item);
  session->item = g_strdup(event->item_id);
  choir_rtvi_output_clear(session);
  session->audio = session->live_options.audio_out && !session->silent_reply;
  session->llm = TRUE;
  choir_rtvi_emit(session, "bot-llm-started", NULL, NULL);
  if (session->silent_reply) {
    session->silent_reply = FALSE;
    choir_rtvi_configure(session); /* inside its callback: it takes effect after this event */
  }
}

static void on_delta(ChoirRtviSession *session, const ChoirLiveEvent *event) {
  if (!is_current(session, event) || !event->text || !*event->text)
    return;
  if (session->text_us == 0) {
    session->text_us = choir_clock_us();
    ttfb(session, "choir-llm", session->ready_us, session->text_us);
  }
  choir_rtvi_emit(session, "bot-llm-text", NULL, json_pack("{s:s}", "text", event->text));
  choir_rtvi_output_text(session, event->text, FALSE);
}

static void on_audio(ChoirRtviSession *session, const ChoirLiveEvent *event) {
  if (!is_current(session, event) || event->samples == 0)
    return;
  gint64 now = choir_clock_us();
  if (!session->tts) {
    session->tts = TRUE;
    choir_rtvi_emit(session, "bot-tts-started", NULL, NULL);
    if (!session->speaking)
      choir_rtvi_emit(session, "bot-started-speaking", NULL, NULL);
    session->speaking = TRUE;
    ttfb(session, "choir-tts", session->text_us, now);
  }
  for (gsize at = 0; at < event->samples; at += AUDIO_PIECE)
    send_audio(session, event->pcm + at, MIN(event->samples - at, (gsize)AUDIO_PIECE));
  choir_rtvi_output_spoken(session, choir_live_heard(session->live));
  if (now - session->level_us < LEVEL_US)
    return;
  session->level_us = now;
  choir_rtvi_emit(session, "bot-audio-level", NULL,
                  json_pack("{s:f}", "value", choir_pcm_rms(event->pcm, event->samples)));
}

static void on_done(ChoirRtviSession *session, const ChoirLiveEvent *event) {
  if (!is_current(session, event))
    return;
  gboolean cancelled = g_strcmp0(event->status, "cancelled") == 0;
  if (cancelled)
    choir_rtvi_emit(session, "bot-interrupted", NULL, NULL);
  else if (event->text && strlen(event->text) >= session->reply->len &&
           g_str_has_prefix(event->text, session->reply->str))
    choir_rtvi_output_text(session, event->text + session->reply->len, TRUE);
  stop_engines(session);
  tokens(session, event);
  if (g_strcmp0(event->status, "failed") == 0)
    choir_rtvi_session_error(session, "The reply failed; see the log of the server.", FALSE);
  session->asked_us = session->ready_us = session->text_us = 0;
  if (cancelled)
    stop_speaking(session);
}

/* Cut while the rest of a complete reply was playing. */
static void on_truncated(ChoirRtviSession *session, const ChoirLiveEvent *event) {
  if (!is_current(session, event))
    return;
  if (session->speaking)
    choir_rtvi_emit(session, "bot-interrupted", NULL, NULL);
  if (event->text)
    choir_rtvi_output_spoken(session, strlen(event->text));
  stop_speaking(session);
}

static void on_playout_done(ChoirRtviSession *session, const ChoirLiveEvent *event) {
  if (!is_current(session, event))
    return;
  if (session->audio)
    choir_rtvi_output_spoken(session, session->reply->len);
  stop_speaking(session);
}

/* --- what the person said ------------------------------------------------------------------------------------------
 */

static void on_speech(ChoirRtviSession *session, gboolean started) {
  choir_rtvi_emit(session, started ? "user-started-speaking" : "user-stopped-speaking", NULL, NULL);
  if (!started) {
    session->asked_us = choir_clock_us();
    session->ready_us = session->text_us = 0;
  }
}

static void on_transcript(ChoirRtviSession *session, const ChoirLiveEvent *event) {
  gint64 now = choir_clock_us();
  ttfb(session, "choir-stt", session->asked_us, now);
  session->ready_us = now;
  if (event->text && *event->text)
    choir_rtvi_user_text(session, event->text, "transcription", NULL, !event->no_reply);
}

void choir_rtvi_session_live(ChoirRtviSession *session, const ChoirLiveEvent *raw) {
  ChoirLiveEvent copy = *raw;
  g_autofree char *valid = raw->text && !g_utf8_validate(raw->text, -1, NULL) ? choir_utf8(raw->text, -1) : NULL;
  if (valid)
    copy.text = valid;
  const ChoirLiveEvent *event = &copy;
  if (!session->ready)
    return;
  switch (event->type) {
  case CHOIR_LIVE_SPEECH_STARTED:
  case CHOIR_LIVE_SPEECH_STOPPED:
    on_speech(session, event->type == CHOIR_LIVE_SPEECH_STARTED);
    return;
  case CHOIR_LIVE_TRANSCRIPT:
    on_transcript(session, event);
    return;
  case CHOIR_LIVE_RESPONSE_STARTED:
    on_started(session, event);
    return;
  case CHOIR_LIVE_TEXT_DELTA:
    on_delta(session, event);
    return;
  case CHOIR_LIVE_AUDIO:
    on_audio(session, event);
    return;
  case CHOIR_LIVE_RESPONSE_DONE:
    on_done(session, event);
    return;
  case CHOIR_LIVE_TRUNCATED:
    on_truncated(session, event);
    return;
  case CHOIR_LIVE_PLAYOUT_DONE:
    on_playout_done(session, event);
    return;
  case CHOIR_LIVE_VAD:
    choir_rtvi_emit(session, "user-audio-level", NULL, json_pack("{s:f}", "value", event->level));
    return;
  case CHOIR_LIVE_TRANSCRIPT_FAILED:
  case CHOIR_LIVE_ERROR:
    choir_rtvi_session_error(session, event->text ? event->text : "The voice failed.", FALSE);
    return;
  default: /* states, mouth shapes and pauses have no message in this protocol */
    return;
  }
}
