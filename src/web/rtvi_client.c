#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"
#include "web/realtime_audio.h"
#include "web/rtvi_frames.h"
#include "web/rtvi_private.h"

#define MAX_TEXT 10000 /* characters of a typed message */

typedef struct {
  const char *type;
  void (*run)(ChoirRtviSession *session, const char *id, const json_t *data);
} Command;

/* --- handshake -----------------------------------------------------------------------------------------------------
 */

/* "2.1.0"; FALSE: not three numbers. */
static gboolean read_version(const char *text, guint *ret_major) {
  guint minor, patch;
  int used = 0;
  return strlen(text) <= 32 && sscanf(text, "%u.%u.%u%n", ret_major, &minor, &patch, &used) == 3 && text[used] == 0;
}

static void on_client_ready(ChoirRtviSession *session, const char *id, const json_t *data) {
  const char *version = choir_json_string(data, "version", NULL);
  guint major = 2;
  if (!version) {
    choir_rtvi_refuse(session, id, "Client version unknown. Compatibility issues may occur.");
  } else if (!read_version(version, &major)) {
    choir_rtvi_refuse(session, id, "Invalid client version format (%.32s). Compatibility issues may occur.", version);
    major = 2;
  } else if (major != 1 && major != 2) {
    choir_rtvi_refuse(session, id,
                      "RTVI version %s is not compatible with this server's %s: use a client of protocol 2.x or 1.x.",
                      version, CHOIR_RTVI_VERSION);
    return;
  }
  session->legacy = major == 1;
  session->ready = TRUE;
  json_t *about =
      json_pack("{s:s,s:s,s:s}", "library", "choir", "library_version", CHOIR_VERSION_STRING, "model", session->model);
  choir_rtvi_emit(session, "bot-ready", id,
                  json_pack("{s:s,s:o}", "version", session->legacy ? version : CHOIR_RTVI_VERSION, "about", about));
}

static void on_disconnect_bot(ChoirRtviSession *session, const char *id, const json_t *data) {
  session->options.hang_up(session->options.user);
}

/* --- text ----------------------------------------------------------------------------------------------------------
 */

static void take_text(ChoirRtviSession *session, const char *id, const char *content, gboolean run, gboolean aloud) {
  g_autofree char *text = content ? g_strstrip(g_strdup(content)) : NULL;
  if (!text || !*text || g_utf8_strlen(text, -1) > MAX_TEXT) {
    choir_rtvi_refuse(session, id, "A text has 1 to %d characters in 'content'.", MAX_TEXT);
    return;
  }
  if (run) {
    choir_live_cancel(session->live); /* what is being said is interrupted */
    session->silent_reply = !aloud && session->live_options.audio_out;
    choir_rtvi_configure(session);
  }
  session->asked_us = session->ready_us = choir_clock_us();
  session->text_us = 0;
  choir_rtvi_user_text(session, text, "chat", id, TRUE);
  g_autofree char *item = choir_live_text(session->live, text, run);
  if (!item)
    choir_rtvi_refuse(session, id, "Too many messages wait for an answer: send one with run_immediately.");
}

static void on_send_text(ChoirRtviSession *session, const char *id, const json_t *data) {
  const json_t *options = json_object_get(data, "options");
  take_text(session, id, choir_json_string(data, "content", NULL), choir_json_bool(options, "run_immediately", TRUE),
            choir_json_bool(options, "audio_response", TRUE));
}

/* Of clients before 1.0. */
static void on_append_to_context(ChoirRtviSession *session, const char *id, const json_t *data) {
  if (strcmp(choir_json_string(data, "role", "user"), "user") != 0)
    choir_rtvi_refuse(session, id, "Only what the role 'user' says can be appended; use send-text.");
  else
    take_text(session, id, choir_json_string(data, "content", NULL), choir_json_bool(data, "run_immediately", FALSE),
              TRUE);
}

static void on_client_message(ChoirRtviSession *session, const char *id, const json_t *data) {
  const char *t = choir_json_string(data, "t", "");
  if (strcmp(t, "state") == 0) {
    choir_rtvi_emit(session, "server-response", id,
                    json_pack("{s:s,s:{s:s}}", "t", "state", "d", "state", choir_live_state(session->live)));
    return;
  }
  /* pipecat's evals say what they want of a bot on their own transport; ?skip_tts= is all of it that is heeded. */
  if (g_str_has_prefix(t, "eval-"))
    return;
  choir_rtvi_refuse(session, id, "There is no client-message of the type '%.64s' here; 'state' is answered.", t);
}

/* --- audio ---------------------------------------------------------------------------------------------------------
 */

/* s16 little endian, interleaved; of several channels the first is taken. */
static void take_audio(ChoirRtviSession *session, const guint8 *bytes, gsize length, gint64 rate, gint64 channels) {
  gsize stride = (gsize)CLAMP(channels, 1, 8) * 2;
  if (rate < 8000 || rate > 48000)
    return;
  g_array_set_size(session->pcm, 0);
  for (gsize at = 0; at + stride <= length; at += stride) {
    gint16 sample = (gint16)(bytes[at] | bytes[at + 1] << 8);
    g_array_append_val(session->pcm, sample);
  }
  /* FALSE: more than 30 s wait to be heard; what is too much is dropped, as a microphone's ring does. */
  (void)choir_live_audio(session->live, (const gint16 *)(gpointer)session->pcm->data, session->pcm->len, (guint)rate);
}

static gboolean take_base64(ChoirRtviSession *session, const json_t *audio, const json_t *data) {
  g_autoptr(GByteArray) bytes = g_byte_array_new();
  if (!json_is_string(audio) || !choir_realtime_base64(json_string_value(audio), json_string_length(audio), bytes))
    return FALSE;
  take_audio(session, bytes->data, bytes->len, choir_json_int(data, "sampleRate", 16000),
             choir_json_int(data, "numChannels", 1));
  return TRUE;
}

static void on_raw_audio(ChoirRtviSession *session, const char *id, const json_t *data) {
  if (!take_base64(session, json_object_get(data, "base64Audio"), data))
    choir_rtvi_refuse(session, id, "'base64Audio' is base64 of 16-bit samples.");
}

static void on_raw_audio_batch(ChoirRtviSession *session, const char *id, const json_t *data) {
  size_t i;
  json_t *audio;
  json_array_foreach(json_object_get(data, "base64AudioBatch"), i, audio) {
    if (take_base64(session, audio, data))
      continue;
    choir_rtvi_refuse(session, id, "'base64AudioBatch' is a list of base64 of 16-bit samples.");
    return;
  }
}

/* --- what has no use here ------------------------------------------------------------------------------------------
 */

static void on_ignored(ChoirRtviSession *session, const char *id, const json_t *data) {
}

static void on_call_result(ChoirRtviSession *session, const char *id, const json_t *data) {
  choir_rtvi_refuse(session, id, "No function call is open: functions of a client are offered on /v1/realtime.");
}

static void on_dtmf(ChoirRtviSession *session, const char *id, const json_t *data) {
  choir_rtvi_refuse(session, id, "There is no telephone here, so keys mean nothing; send the digits as text.");
}

static void on_send_file(ChoirRtviSession *session, const char *id, const json_t *data) {
  choir_rtvi_refuse(session, id, "Files are not taken: send their text by send-text.");
}

static const Command commands[] = {
    {"disconnect-bot", on_disconnect_bot},
    {"send-text", on_send_text},
    {"append-to-context", on_append_to_context},
    {"client-message", on_client_message},
    {"raw-audio", on_raw_audio},
    {"raw-audio-batch", on_raw_audio_batch},
    {"llm-function-call-result", on_call_result},
    {"dtmf", on_dtmf},
    {"send-file", on_send_file},
    {"ui-event", on_ignored},
    {"ui-snapshot", on_ignored},
    {"ui-cancel-job-group", on_ignored},
};

static void take_message(ChoirRtviSession *session, const char *text, gsize length) {
  g_autoptr(GError) error = NULL;
  json_auto_t *message = choir_json_parse(text, length, &error);
  const char *id = choir_json_string(message, "id", NULL);
  const char *type = choir_json_string(message, "type", "");
  const json_t *data = json_object_get(message, "data");
  if (!json_is_object(message) || strcmp(choir_json_string(message, "label", ""), "rtvi-ai") != 0) {
    choir_rtvi_refuse(session, NULL, "The message is not an RTVI message%s%s.", error ? ": " : "",
                      error ? error->message : "");
    return;
  }
  id = id && strlen(id) <= 128 ? id : NULL;
  if (strcmp(type, "client-ready") == 0) {
    on_client_ready(session, id, data);
    return;
  }
  /* pipecat's harness introduces itself before it is ready. */
  gboolean early = strcmp(type, "client-message") == 0 && g_str_has_prefix(choir_json_string(data, "t", ""), "eval-");
  if (!session->ready && !early) {
    choir_rtvi_refuse(session, id, "Send client-ready first and wait for bot-ready.");
    return;
  }
  for (gsize i = 0; i < G_N_ELEMENTS(commands); i++)
    if (strcmp(commands[i].type, type) == 0) {
      commands[i].run(session, id, data);
      return;
    }
  choir_rtvi_refuse(session, id, "Unsupported type '%.64s'.", type);
}

void choir_rtvi_session_client(ChoirRtviSession *session, gboolean binary, const char *data, gsize length) {
  if (!session->form_known) {
    session->form_known = TRUE;
    session->binary = binary;
  }
  if (!binary) {
    take_message(session, data, length);
    return;
  }
  ChoirRtviFrame frame;
  if (!choir_rtvi_frame_read((const guint8 *)data, length, &frame)) {
    choir_rtvi_refuse(session, NULL, "The message is not a protobuf frame of pipecat.");
    return;
  }
  if (frame.kind == CHOIR_RTVI_MESSAGE)
    take_message(session, frame.data ? (const char *)frame.data : "", frame.length);
  else if (frame.kind == CHOIR_RTVI_AUDIO && session->ready)
    take_audio(session, frame.data, frame.length, frame.rate, frame.channels);
  else
    choir_debug(CHOIR_TOPIC_WEB, "an RTVI frame of kind %d is ignored", (int)frame.kind);
}
