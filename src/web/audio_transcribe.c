/* POST /v1/audio/transcriptions: a form with a sound file. choir-codec decodes it while the desk transcribes, so that
 * an hour of sound never lies in memory as samples. A client that leaves ends both. */
#include <string.h>
#include "base/text.h"
#include "web/answer.h"
#include "web/audio_api.h"
#include "web/audio_codec.h"
#include "web/audio_form.h"
#include "web/audio_text.h"
#include "web/audio_voice.h"
#include "web/fault.h"
#include "web/guard.h"

#define STREAM_QUEUE (256u << 10)
#define STREAM_PIECE_MS 14000 /* a piece of text at least this often */
#define PROMPT_MAX 1000

struct ChoirTranscriptions {
  const ChoirWebOptions *options;
  GPtrArray *open; /* Work */
};

typedef struct {
  ChoirTranscriptions *owner;
  ChoirHttpRequest *request; /* until it is answered or streams */
  ChoirHttpStream *stream;
  ChoirAudioCodec *codec;
  ChoirDeskListen *listen;
  ChoirTranscript transcript;
  ChoirTranscriptFormat format;
  gboolean streams;
} Work;

typedef struct {
  ChoirTranscriptFormat format;
  gboolean streams;
  char *language, *prompt;
  const ChoirFormPart *file;
} Asked;

static void asked_clear(Asked *asked) {
  g_free(asked->language);
  g_free(asked->prompt);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Asked, asked_clear)

static void stop(Work *work) {
  g_clear_pointer(&work->codec, choir_audio_codec_free);
  if (work->listen)
    choir_desk_listen_cancel(work->listen);
  work->listen = NULL;
}

static void work_free(Work *work) {
  stop(work);
  choir_transcript_clear(&work->transcript);
  if (work->owner)
    g_ptr_array_remove_fast(work->owner->open, work);
  g_free(work);
}

static void on_gone(gpointer user) {
  work_free(user);
}

/* --- answering --- */

static void fail(Work *work, const GError *error) {
  stop(work);
  if (work->stream) {
    choir_audio_write_event(work->stream, json_pack("{s:{s:s,s:s,s:s}}", "error", "type", "server_error", "code",
                                                    "engine_error", "message", error->message));
    choir_http_stream_end(work->stream); /* frees it when drained */
    return;
  }
  choir_audio_answer_error(work->request, error);
  work_free(work);
}

static void begin_stream(Work *work) {
  if (!work->stream)
    work->stream =
        choir_http_stream_start(g_steal_pointer(&work->request), 200, "text/event-stream", STREAM_QUEUE, on_gone, work);
}

static void finish(Work *work) {
  if (!work->streams) {
    g_autofree char *text = choir_transcript_print(&work->transcript, work->format);
    choir_http_respond(work->request, 200, choir_transcript_type(work->format), text, strlen(text),
                       CHOIR_GUARD_API_HEADERS);
    work_free(work);
    return;
  }
  begin_stream(work);
  choir_audio_write_event(work->stream,
                          json_pack("{s:s,s:s,s:o}", "type", "transcript.text.done", "text", work->transcript.text->str,
                                    "usage", choir_transcript_usage(&work->transcript)));
  choir_http_stream_end(work->stream);
}

/* --- the two engines --- */

static void on_text(const ChoirDeskText *piece, gpointer user) {
  Work *work = user;
  const char *added =
      choir_transcript_add(&work->transcript, piece->text, piece->begin_ms, piece->end_ms, piece->segments);
  if (*piece->text || !*work->transcript.language)
    g_strlcpy(work->transcript.language, piece->language, sizeof work->transcript.language);
  if (!work->streams || !*added)
    return;
  begin_stream(work);
  /* A reader that is behind by that much text is gone soon; what it misses is in the last event, too. */
  choir_audio_write_event(work->stream, json_pack("{s:s,s:s}", "type", "transcript.text.delta", "delta", added));
}

static void on_hungry(gpointer user) {
  Work *work = user;
  if (work->codec)
    choir_audio_codec_hold(work->codec, FALSE);
}

static void on_listened(const GError *error, gpointer user) {
  Work *work = user;
  work->listen = NULL;
  if (error)
    fail(work, error);
  else
    finish(work);
}

static void on_samples(const guint8 *data, gsize length, gpointer user) {
  Work *work = user;
  if (!choir_desk_listen_audio(work->listen, (const gint16 *)(gconstpointer)data, length / sizeof(gint16)))
    choir_audio_codec_hold(work->codec, TRUE);
}

static void on_decoded(const GError *error, gpointer user) {
  Work *work = user;
  g_clear_pointer(&work->codec, choir_audio_codec_free);
  if (error)
    fail(work, error);
  else
    choir_desk_listen_end(work->listen);
}

/* --- the request --- */

static gboolean read_flag(const char *text, gboolean *ret_flag) {
  *ret_flag = text && (g_str_equal(text, "true") || g_str_equal(text, "1"));
  return !text || *ret_flag || g_str_equal(text, "false") || g_str_equal(text, "0") || !*text;
}

static gboolean wants_words(const ChoirForm *form) {
  for (guint i = 0; i < form->parts->len; i++) {
    const ChoirFormPart *part = &g_array_index(form->parts, ChoirFormPart, i);
    if (g_str_has_prefix(part->name, "timestamp_granularities") && part->length == 4 &&
        memcmp(part->data, "word", 4) == 0)
      return TRUE;
  }
  return FALSE;
}

static gboolean is_language(const char *text) {
  gsize letters = strspn(text, "abcdefghijklmnopqrstuvwxyz");
  return letters >= 2 && letters <= 4 && text[letters] == '\0';
}

/* Any reading of the file is choir-codec's. */
static void check_file(const ChoirForm *form, Asked *asked, ChoirFault *fault) {
  asked->file = choir_form_part(form, "file");
  if (!asked->file)
    choir_fault_set(fault, "missing_file", "file", "the form has no part 'file' with the recording");
  else if (asked->file->length == 0)
    choir_fault_set(fault, "empty_file", "file", "the file is empty");
}

static void read_form(const ChoirForm *form, Asked *asked, ChoirFault *fault) {
  g_autofree char *format = choir_form_text(form, "response_format"), *flag = choir_form_text(form, "stream");
  g_autofree char *temperature = choir_form_text(form, "temperature");
  asked->language = choir_form_text(form, "language");
  asked->prompt = choir_form_text(form, "prompt");
  if (asked->language && !*asked->language)
    g_clear_pointer(&asked->language, g_free);
  char *end = NULL;
  double value = temperature ? g_ascii_strtod(temperature, &end) : 0;
  check_file(form, asked, fault);
  if (fault->code)
    return;
  if (!choir_transcript_format(format ? format : "json", &asked->format))
    choir_fault_set(fault, "invalid_value", "response_format",
                    "response_format is json, text, srt, vtt or verbose_json, not '%.40s'", format);
  else if (!read_flag(flag, &asked->streams))
    choir_fault_set(fault, "invalid_value", "stream", "stream is true or false");
  else if (asked->streams && asked->format > CHOIR_TRANSCRIPT_TEXT)
    choir_fault_set(fault, "invalid_value", "stream", "only the formats json and text can be streamed");
  else if (wants_words(form))
    choir_fault_set(fault, "unsupported_value", "timestamp_granularities",
                    "the recogniser gives the times of sentences, not of words; ask for 'segment'");
  else if (asked->language && !is_language(asked->language))
    choir_fault_set(fault, "invalid_value", "language",
                    "language is a code of two or three letters (ISO 639), such as en or de");
  else if (asked->prompt && g_utf8_strlen(asked->prompt, -1) > PROMPT_MAX)
    choir_fault_set(fault, "invalid_value", "prompt", "a prompt has at most %d characters", PROMPT_MAX);
  else if (temperature && *temperature && (*end || !(value >= 0 && value <= 1)))
    choir_fault_set(fault, "invalid_value", "temperature", "temperature is a number from 0 to 1");
}

static void begin(ChoirTranscriptions *api, ChoirHttpRequest *request, const Asked *asked) {
  static const ChoirDeskListenHandlers listening = {.text = on_text, .hungry = on_hungry, .done = on_listened};
  static const ChoirAudioCodecHandlers decoding = {.data = on_samples, .done = on_decoded};
  const ChoirWebOptions *options = api->options;
  g_autoptr(GError) error = NULL;
  ChoirDeskWish wish = {.language = asked->language,
                        .prompt = asked->prompt,
                        .segments = asked->format > CHOIR_TRANSCRIPT_TEXT,
                        .piece_ms = asked->streams ? STREAM_PIECE_MS : 0};
  Work *work = g_new0(Work, 1);
  *work = (Work){.owner = api, .request = request, .format = asked->format, .streams = asked->streams};
  choir_transcript_init(&work->transcript);
  g_ptr_array_add(api->open, work);
  work->listen = choir_desk_listen(options->desk, &wish, &listening, work, &error);
  if (!work->listen) {
    fail(work, error);
    return;
  }
  /* The body stays as long as the request, which outlives the codec. */
  g_autoptr(GBytes) file = g_bytes_new_static(asked->file->data, asked->file->length);
  guint seconds = (guint)choir_config_int(options->config, "web", "audio_seconds");
  work->codec = choir_audio_codec_decode(options->hub, options->programs, file, seconds, &decoding, work, &error);
  if (!work->codec)
    fail(work, error);
  else
    choir_http_request_on_gone(request, on_gone, work);
}

/* A code that nobody here understands is a mistake of the request, not of the engine. */
static void check_language(const ChoirTranscriptions *api, const Asked *asked, ChoirFault *fault) {
  const char *configured = choir_config_string(api->options->config, "stt", "language");
  if (!fault->code && asked->language && choir_desk_stt_ready(api->options->desk) &&
      !choir_audio_language_known(api->options->desk, configured, asked->language))
    choir_fault_set(fault, "unsupported_value", "language", "the recogniser knows no language '%s'", asked->language);
}

static void on_request(ChoirHttpRequest *request, gpointer user) {
  ChoirTranscriptions *api = user;
  g_autofree char *boundary = choir_form_boundary(choir_http_request_header(request, "Content-Type"));
  gsize length;
  const char *body = choir_http_request_body(request, &length), *why = NULL;
  g_auto(ChoirForm) form = {0};
  if (!boundary) {
    choir_answer_bad(request, "invalid_content_type", "send multipart/form-data with the recording in the part 'file'");
    return;
  }
  if (!choir_form_parse(boundary, body, length, &form, &why)) {
    choir_answer_bad(request, "invalid_form", why);
    return;
  }
  g_auto(Asked) asked = {0};
  ChoirFault fault = {0};
  read_form(&form, &asked, &fault);
  check_language(api, &asked, &fault);
  if (fault.code) {
    json_t *json = json_pack("{s:{s:s,s:s,s:s,s:s}}", "error", "type", "invalid_request_error", "code", fault.code,
                             "param", fault.param, "message", fault.message);
    choir_answer_json(request, 400, json);
    choir_fault_clear(&fault);
  } else if (asked.file->length > CHOIR_AUDIO_MAX_FILE) {
    choir_http_respond_error(request, 413, "invalid_request_error", "file_too_large",
                             "a file has at most 25 MB; FLAC or Ogg Opus hold an hour of speech in that");
  } else {
    begin(api, request, &asked);
  }
}

ChoirTranscriptions *choir_transcriptions_new(const ChoirWebOptions *options) {
  ChoirTranscriptions *api = g_new0(ChoirTranscriptions, 1);
  *api = (ChoirTranscriptions){.options = options, .open = g_ptr_array_new()};
  choir_http_server_route(options->server, "POST", "/v1/audio/transcriptions", on_request, api);
  choir_http_server_allow_body(options->server, "/v1/audio/transcriptions", CHOIR_AUDIO_MAX_BODY);
  return api;
}

/* The connections outlive this; they come back to work that has no owner. */
void choir_transcriptions_free(ChoirTranscriptions *api) {
  if (!api)
    return;
  for (guint i = 0; i < api->open->len; i++) {
    Work *work = g_ptr_array_index(api->open, i);
    stop(work);
    work->owner = NULL;
  }
  g_ptr_array_unref(api->open);
  g_free(api);
}
