/* POST /v1/audio/speech: text to a sound file that is sent while it is made. A client that reads slowly holds the voice
 * back, one that leaves silences it. */
#include <math.h>
#include <string.h>
#include "agent/clause.h"
#include "base/names.h"
#include "base/text.h"
#include "web/answer.h"
#include "web/audio_api.h"
#include "web/audio_codec.h"
#include "web/audio_voice.h"
#include "web/fault.h"

#define INPUT_MAX 4096 /* characters, as at OpenAI */
#define STREAM_QUEUE (4u << 20)
#define QUEUE_HIGH (256u << 10) /* a clause more fits always */
#define LOOK_MS 100             /* while a client is behind */
#define STALL_MS 30000

typedef enum { WAV, PCM, FLAC, OPUS } Format;

static const struct {
  const char *name, *type;
} formats[] = {
    [WAV] = {"wav", "audio/wav"},
    [PCM] = {"pcm", "audio/pcm"},
    [FLAC] = {"flac", "audio/flac"},
    [OPUS] = {"opus", "audio/ogg"},
};

struct ChoirSpeeches {
  const ChoirWebOptions *options;
  GPtrArray *open; /* Work */
};

typedef struct {
  ChoirSpeeches *owner;
  ChoirHttpRequest *request; /* until the first sound */
  ChoirHttpStream *stream;
  ChoirDeskSpeak *speak;
  ChoirAudioCodec *codec; /* flac and opus */
  Format format;
  gboolean sse;
  gsize characters;
  guint look, cut;
  gsize last_queued;
  guint still_ms;
} Work;

static void stop(Work *work) {
  g_clear_pointer(&work->codec, choir_audio_codec_free);
  if (work->speak)
    choir_desk_speak_cancel(work->speak);
  work->speak = NULL;
  if (work->look)
    g_source_remove(work->look);
  if (work->cut)
    g_source_remove(work->cut);
  work->look = work->cut = 0;
}

static void on_gone(gpointer user) {
  Work *work = user;
  stop(work);
  if (work->owner)
    g_ptr_array_remove_fast(work->owner->open, work);
  g_free(work);
}

static void fail(Work *work, const GError *error) {
  if (work->stream && !work->sse) {
    choir_http_stream_abort(work->stream); /* frees it */
    return;
  }
  stop(work);
  if (work->stream) {
    choir_audio_write_event(work->stream, json_pack("{s:{s:s,s:s,s:s}}", "error", "type", "server_error", "code",
                                                    "engine_error", "message", error->message));
    choir_http_stream_end(work->stream);
    return;
  }
  choir_audio_answer_error(work->request, error);
  on_gone(work);
}

/* --- flow --- */

static gboolean is_behind(const Work *work) {
  return (work->stream && choir_http_stream_queued(work->stream) > QUEUE_HIGH) ||
         (work->codec && choir_audio_codec_queued(work->codec) > QUEUE_HIGH);
}

static void hold(Work *work, gboolean held) {
  if (work->speak)
    choir_desk_speak_hold(work->speak, held);
  if (work->codec)
    choir_audio_codec_hold(work->codec, held && work->stream && choir_http_stream_queued(work->stream) > QUEUE_HIGH);
}

/* The server does not tell when a stream was read. */
static gboolean on_look(gpointer user) {
  Work *work = user;
  gsize queued = work->stream ? choir_http_stream_queued(work->stream) : 0;
  work->still_ms = queued < work->last_queued ? 0 : work->still_ms + LOOK_MS;
  work->last_queued = queued;
  if (is_behind(work) && (work->still_ms < STALL_MS || !work->stream))
    return G_SOURCE_CONTINUE;
  work->look = 0;
  if (is_behind(work))
    choir_http_stream_abort(work->stream); /* frees it */
  else
    hold(work, FALSE);
  return G_SOURCE_REMOVE;
}

static void check_flow(Work *work) {
  if (work->look || !is_behind(work))
    return;
  work->still_ms = 0;
  work->last_queued = 0;
  work->look = g_timeout_add(LOOK_MS, on_look, work);
  hold(work, TRUE);
}

/* --- sound --- */

static gboolean on_cut(gpointer user) {
  Work *work = user;
  work->cut = 0;
  choir_http_stream_abort(work->stream); /* frees it */
  return G_SOURCE_REMOVE;
}

static void send_bytes(Work *work, const void *data, gsize length) {
  gboolean ok;
  if (work->cut)
    return;
  if (work->sse) {
    g_autofree char *text = g_base64_encode(data, length);
    ok = choir_audio_write_event(work->stream, json_pack("{s:s,s:s}", "type", "speech.audio.delta", "audio", text));
  } else {
    ok = choir_http_stream_write(work->stream, data, length);
  }
  if (!ok) /* from the loop: callers are not done with it */
    work->cut = g_idle_add(on_cut, work);
}

/* As streams have it: the length is unknown. */
static void send_wav_header(Work *work) {
  static const guint8 header[44] = {'R',
                                    'I',
                                    'F',
                                    'F',
                                    0xff,
                                    0xff,
                                    0xff,
                                    0xff,
                                    'W',
                                    'A',
                                    'V',
                                    'E',
                                    'f',
                                    'm',
                                    't',
                                    ' ',
                                    16,
                                    0,
                                    0,
                                    0,
                                    1,
                                    0,
                                    1,
                                    0,
                                    CHOIR_RATE_OUT & 0xff,
                                    CHOIR_RATE_OUT >> 8,
                                    0,
                                    0,
                                    (CHOIR_RATE_OUT * 2) & 0xff,
                                    (CHOIR_RATE_OUT * 2) >> 8 & 0xff,
                                    (CHOIR_RATE_OUT * 2) >> 16,
                                    0,
                                    2,
                                    0,
                                    16,
                                    0,
                                    'd',
                                    'a',
                                    't',
                                    'a',
                                    0xff,
                                    0xff,
                                    0xff,
                                    0xff};
  send_bytes(work, header, sizeof header);
}

/* With the first sound only: until then a failure can still be a proper status. */
static void begin_stream(Work *work) {
  if (work->stream)
    return;
  work->stream = choir_http_stream_start(g_steal_pointer(&work->request), 200,
                                         work->sse ? "text/event-stream" : formats[work->format].type, STREAM_QUEUE,
                                         on_gone, work);
  if (work->format == WAV)
    send_wav_header(work);
}

static void finish(Work *work) {
  begin_stream(work);
  if (work->sse)
    choir_audio_write_event(work->stream, json_pack("{s:s,s:{s:i,s:i,s:i}}", "type", "speech.audio.done", "usage",
                                                    "input_tokens", 0, "output_tokens", 0, "total_tokens", 0));
  choir_http_stream_end(work->stream);
}

static void on_encoded(const guint8 *data, gsize length, gpointer user) {
  Work *work = user;
  begin_stream(work);
  send_bytes(work, data, length);
  check_flow(work);
}

static void on_codec_done(const GError *error, gpointer user) {
  Work *work = user;
  g_clear_pointer(&work->codec, choir_audio_codec_free);
  if (error)
    fail(work, error);
  else
    finish(work);
}

static void on_pcm(const gint16 *samples, gsize n, gpointer user) {
  Work *work = user;
  if (work->codec) {
    if (!choir_audio_codec_write(work->codec, samples, n)) {
      g_autoptr(GError) error =
          g_error_new_literal(CHOIR_CODEC_ERROR, CHOIR_CODEC_ERROR_FAILED, "the encoder cannot keep up");
      fail(work, error);
      return;
    }
  } else {
    begin_stream(work);
    send_bytes(work, samples, n * sizeof(gint16));
  }
  check_flow(work);
}

static void on_spoken(const GError *error, gpointer user) {
  Work *work = user;
  work->speak = NULL;
  if (error)
    fail(work, error);
  else if (work->codec)
    choir_audio_codec_end(work->codec);
  else
    finish(work);
}

/* --- the request --- */

typedef struct {
  const char *input;
  Format format;
  gboolean sse;
  double speed;
} Asked;

static gboolean read_format(const json_t *body, Format *ret_format) {
  const char *name = choir_json_string(body, "response_format", "wav");
  for (guint i = 0; i < G_N_ELEMENTS(formats); i++) {
    if (g_str_equal(formats[i].name, name)) {
      *ret_format = i;
      return TRUE;
    }
  }
  return FALSE;
}

static void check_voice(const ChoirSpeeches *api, const json_t *body, ChoirFault *fault) {
  g_auto(ChoirAudioVoice) voice = {0};
  const json_t *value = json_object_get(body, "voice");
  const char *name = json_is_object(value) ? choir_json_string(value, "id", "") : json_string_value(value);
  choir_audio_voice(api->options->desk, &voice);
  if (value && (!name || !choir_audio_voice_known(&voice, name)))
    choir_fault_set(fault, "unknown_voice", "voice",
                    "there is no voice '%.60s'; the one voice is '%s', which 'default', 'alloy' and OpenAI's other "
                    "names mean too",
                    name ? name : "", voice.name);
}

static void read_body(const ChoirSpeeches *api, const json_t *body, Asked *asked, ChoirFault *fault) {
  const json_t *speed = json_object_get(body, "speed");
  const char *stream_format = choir_json_string(body, "stream_format", "audio");
  asked->input = choir_json_string(body, "input", "");
  asked->speed = speed ? json_number_value(speed) : 1;
  asked->sse = g_str_equal(stream_format, "sse");
  if (strspn(asked->input, " \t\r\n") == strlen(asked->input))
    choir_fault_set(fault, "missing_input", "input", "the member 'input' with the text to speak is missing or empty");
  else if (g_utf8_strlen(asked->input, -1) > INPUT_MAX)
    choir_fault_set(fault, "input_too_long", "input", "a text has at most %d characters; send it in parts", INPUT_MAX);
  else if (!read_format(body, &asked->format))
    choir_fault_set(fault, "unsupported_format", "response_format",
                    "response_format is wav, flac, opus or pcm (24 kHz), not '%.40s'",
                    choir_json_string(body, "response_format", ""));
  else if (!(asked->speed >= 0.25 && asked->speed <= 4)) /* 0 when it is no number */
    choir_fault_set(fault, "invalid_value", "speed", "speed is a number from 0.25 to 4");
  else if (!asked->sse && !g_str_equal(stream_format, "audio"))
    choir_fault_set(fault, "invalid_value", "stream_format", "stream_format is audio or sse");
  else
    check_voice(api, body, fault);
  json_auto_t *info = choir_desk_tts_info(api->options->desk);
  if (!fault->code && fabs(asked->speed - 1) > 0.01 && g_str_equal(choir_json_string(info, "engine", ""), "wyoming"))
    choir_fault_set(fault, "unsupported_value", "speed", "the voice of another machine has one speed only");
}

static void on_clause(const char *text, gsize begin, gsize end, gpointer user) {
  Work *work = user;
  work->characters += end - begin;
  choir_desk_speak_clause(work->speak, text);
}

static void begin(ChoirSpeeches *api, ChoirHttpRequest *request, const Asked *asked) {
  static const ChoirDeskSpeakHandlers speaking = {.pcm = on_pcm, .done = on_spoken};
  static const ChoirAudioCodecHandlers encoding = {.data = on_encoded, .done = on_codec_done};
  const ChoirWebOptions *options = api->options;
  g_autoptr(GError) error = NULL;
  Work *work = g_new0(Work, 1);
  *work = (Work){.owner = api, .request = request, .format = asked->format, .sse = asked->sse};
  g_ptr_array_add(api->open, work);
  work->speak = choir_desk_speak(options->desk, asked->speed, &speaking, work, &error);
  if (work->speak && asked->format >= FLAC)
    work->codec =
        choir_audio_codec_encode(options->hub, options->programs, formats[asked->format].name, &encoding, work, &error);
  if (error) {
    fail(work, error);
    return;
  }
  g_autoptr(ChoirClause) clause = choir_clause_new(on_clause, work);
  choir_clause_feed(clause, asked->input, strlen(asked->input));
  choir_clause_end(clause);
  if (work->characters == 0) {
    stop(work);
    choir_answer_bad(request, "missing_input", "the text holds nothing that can be spoken");
    on_gone(work);
    return;
  }
  choir_http_request_on_gone(request, on_gone, work);
  choir_desk_speak_end(work->speak);
}

static void on_request(ChoirHttpRequest *request, gpointer user) {
  ChoirSpeeches *api = user;
  json_auto_t *body = choir_answer_body(request, FALSE);
  Asked asked = {0};
  ChoirFault fault = {0};
  if (!body)
    return;
  read_body(api, body, &asked, &fault);
  if (!fault.code) {
    begin(api, request, &asked);
    return;
  }
  choir_answer_json(request, 400,
                    json_pack("{s:{s:s,s:s,s:s,s:s}}", "error", "type", "invalid_request_error", "code", fault.code,
                              "param", fault.param, "message", fault.message));
  choir_fault_clear(&fault);
}

ChoirSpeeches *choir_speeches_new(const ChoirWebOptions *options) {
  ChoirSpeeches *api = g_new0(ChoirSpeeches, 1);
  *api = (ChoirSpeeches){.options = options, .open = g_ptr_array_new()};
  choir_http_server_route(options->server, "POST", "/v1/audio/speech", on_request, api);
  return api;
}

/* The connections outlive this; they come back to work that has no owner. */
void choir_speeches_free(ChoirSpeeches *api) {
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
