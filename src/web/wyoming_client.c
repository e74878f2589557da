/* One client of the Wyoming server. Listening: transcribe, audio-start, audio-chunk..., audio-stop -> transcript-start,
 * transcript-chunk..., transcript, transcript-stop. Speaking: synthesize, or synthesize-start, synthesize-chunk...,
 * synthesize-stop -> audio-start, audio-chunk..., audio-stop (, synthesize-stopped). One of each at a time. */
#include <string.h>
#include "agent/clause.h"
#include "audio/pcm.h"
#include "audio/resample.h"
#include "base/names.h"
#include "base/text.h"
#include "web/audio_voice.h"
#include "web/wyoming_private.h"

#define CHUNK 1024 /* samples in one audio-chunk, as the Python servers send them */
#define MAX_SECONDS 600
#define MAX_TEXT (64u << 10)
#define QUEUE_HIGH (256u << 10)
#define QUEUE_LOW (64u << 10)
#define NAMES_MAX 40 /* names and terms that bias the recogniser */

struct ChoirWyomingClient {
  ChoirDesk *desk;
  ChoirWyomingServices services;
  char *language; /* of the settings */
  const ChoirWyomingOut *out;
  gpointer user;
  /* listening */
  ChoirDeskListen *listen;
  char *wanted_language, *prompt;
  guint rate, width, channels;
  ChoirResampler *resampler;
  GByteArray *odd; /* half a frame of the last chunk */
  guint64 heard;   /* samples at 16 kHz */
  GString *text;
  gboolean text_begun, full, stopped;
  /* speaking */
  ChoirDeskSpeak *speak;
  ChoirClause *clause;
  gsize said; /* bytes of text */
  gboolean streaming, audio_begun, speaking_ends, held;
  guint64 sent; /* samples */
};

static void send_event(ChoirWyomingClient *client, const char *type, json_t *data, const void *payload, gsize length) {
  client->out->send(choir_wyoming_encode(type, data, payload, length), client->user);
}

static void send_error(ChoirWyomingClient *client, const char *code, const char *text) {
  send_event(client, "error", json_pack("{s:s,s:s}", "text", text, "code", code), NULL, 0);
}

static const char *code_of(const GError *error) {
  if (g_error_matches(error, CHOIR_DESK_ERROR, CHOIR_DESK_ERROR_BUSY))
    return "busy";
  return g_error_matches(error, CHOIR_DESK_ERROR, CHOIR_DESK_ERROR_UNAVAILABLE) ? "unavailable" : "failed";
}

/* --- listening --- */

static void listening_over(ChoirWyomingClient *client) {
  g_clear_pointer(&client->resampler, choir_resampler_free);
  g_clear_pointer(&client->wanted_language, g_free);
  g_clear_pointer(&client->prompt, g_free);
  g_string_truncate(client->text, 0);
  g_byte_array_set_size(client->odd, 0);
  client->rate = 0;
  client->heard = 0;
  client->text_begun = client->full = client->stopped = FALSE;
}

static void on_text(const ChoirDeskText *piece, gpointer user) {
  ChoirWyomingClient *client = user;
  if (!client->text_begun)
    send_event(client, "transcript-start", json_pack("{s:s}", "language", piece->language), NULL, 0);
  client->text_begun = TRUE;
  if (!*piece->text)
    return;
  g_autofree char *more = g_strconcat(client->text->len > 0 ? " " : "", piece->text, NULL);
  g_string_append(client->text, more);
  send_event(client, "transcript-chunk", json_pack("{s:s}", "text", more), NULL, 0);
  if (!client->wanted_language)
    client->wanted_language = g_strdup(piece->language);
}

static void on_hungry(gpointer user) {
  ChoirWyomingClient *client = user;
  client->full = FALSE;
  client->out->resume(client->user);
}

static void on_listened(const GError *error, gpointer user) {
  ChoirWyomingClient *client = user;
  client->listen = NULL;
  if (error) {
    send_error(client, code_of(error), error->message);
  } else {
    const char *language = client->wanted_language ? client->wanted_language : client->language;
    if (!client->text_begun)
      send_event(client, "transcript-start", json_pack("{s:s}", "language", language), NULL, 0);
    send_event(client, "transcript", json_pack("{s:s,s:s}", "text", client->text->str, "language", language), NULL, 0);
    send_event(client, "transcript-stop", NULL, NULL, 0);
  }
  listening_over(client);
  client->out->resume(client->user);
}

static void stop_listening(ChoirWyomingClient *client) {
  if (client->listen)
    choir_desk_listen_cancel(client->listen);
  client->listen = NULL;
  listening_over(client);
}

static void add_names(GString *prompt, const json_t *names) {
  for (size_t i = 0; i < MIN(json_array_size(names), NAMES_MAX); i++) {
    const char *name = json_string_value(json_array_get(names, i));
    if (name && strlen(name) < 100)
      g_string_append_printf(prompt, "%s%s", prompt->len > 0 ? ", " : "", name);
  }
}

static void on_transcribe(ChoirWyomingClient *client, const json_t *data) {
  stop_listening(client);
  const char *language = choir_json_string(data, "language", "");
  if (*language) /* "de-DE" is "de" to the recogniser */
    client->wanted_language = g_ascii_strdown(language, (gssize)strcspn(language, "-_"));
  GString *prompt = g_string_new(NULL);
  add_names(prompt, json_object_get(data, "transcript_names"));
  add_names(prompt, json_object_get(data, "transcript_terms"));
  client->prompt = g_string_free(prompt, prompt->len == 0);
}

static gboolean read_format(const json_t *data, guint *rate, guint *width, guint *channels) {
  gint64 values[] = {choir_json_int(data, "rate", 0), choir_json_int(data, "width", 0),
                     choir_json_int(data, "channels", 0)};
  if (values[0] < 4000 || values[0] > 192000 || values[1] < 1 || values[1] > 4 || values[2] < 1 ||
      values[2] > CHOIR_PCM_CHANNELS_MAX)
    return FALSE;
  *rate = (guint)values[0];
  *width = (guint)values[1];
  *channels = (guint)values[2];
  return TRUE;
}

static void on_audio_start(ChoirWyomingClient *client, const json_t *data) {
  static const ChoirDeskListenHandlers handlers = {.text = on_text, .hungry = on_hungry, .done = on_listened};
  g_autofree char *language = g_steal_pointer(&client->wanted_language);
  g_autofree char *prompt = g_steal_pointer(&client->prompt);
  stop_listening(client);
  guint rate, width, channels;
  if (!read_format(data, &rate, &width, &channels)) {
    send_error(client, "format",
               "audio-start needs a rate of 4000 to 192000, a width of 1 to 4 bytes and 1 to 8 "
               "channels; 16000, 2 and 1 suit best");
    return;
  }
  g_autoptr(GError) error = NULL;
  ChoirDeskWish wish = {.language = language, .prompt = prompt};
  client->listen = choir_desk_listen(client->desk, &wish, &handlers, client, &error);
  if (!client->listen) {
    send_error(client, code_of(error), error->message);
    return;
  }
  client->wanted_language = g_steal_pointer(&language);
  client->rate = rate;
  client->width = width;
  client->channels = channels;
  client->resampler = choir_resampler_new(rate, CHOIR_RATE_MIC);
}

static void on_audio_chunk(ChoirWyomingClient *client, const ChoirWyomingEvent *event) {
  guint rate, width, channels;
  if (!client->listen)
    return; /* its audio-start was refused */
  if (!read_format(event->data, &rate, &width, &channels) || rate != client->rate || width != client->width ||
      channels != client->channels) {
    stop_listening(client);
    send_error(client, "format", "an audio-chunk must have the rate, width and channels of its audio-start");
    return;
  }
  g_byte_array_append(client->odd, event->payload, (guint)event->length);
  gsize frame = (gsize)width * channels, whole = client->odd->len / frame * frame;
  g_autoptr(GArray) mono = g_array_new(FALSE, FALSE, sizeof(gint16)), out = g_array_new(FALSE, FALSE, sizeof(gint16));
  choir_pcm_to_mono(client->odd->data, whole, width, channels, mono);
  g_byte_array_remove_range(client->odd, 0, (guint)whole);
  choir_resampler_run(client->resampler, (const gint16 *)(gpointer)mono->data, mono->len, out);
  client->heard += out->len;
  if (client->heard > (guint64)MAX_SECONDS * CHOIR_RATE_MIC) {
    stop_listening(client);
    send_error(client, "too_long", "more than 10 minutes of audio in one request; send it in parts");
    return;
  }
  client->full = !choir_desk_listen_audio(client->listen, (const gint16 *)(gpointer)out->data, out->len);
}

static void on_audio_stop(ChoirWyomingClient *client) {
  if (!client->listen)
    return;
  client->stopped = TRUE;
  choir_desk_listen_end(client->listen);
}

/* --- speaking --- */

static void stop_speaking(ChoirWyomingClient *client) {
  if (client->speak)
    choir_desk_speak_cancel(client->speak);
  client->speak = NULL;
  g_clear_pointer(&client->clause, choir_clause_free);
  client->streaming = client->audio_begun = client->speaking_ends = client->held = FALSE;
  client->said = 0;
  client->sent = 0;
}

static json_t *format_json(guint64 samples) {
  return json_pack("{s:i,s:i,s:i,s:I}", "rate", CHOIR_RATE_OUT, "width", 2, "channels", 1, "timestamp",
                   (json_int_t)(samples * 1000 / CHOIR_RATE_OUT));
}

static void begin_audio(ChoirWyomingClient *client) {
  if (!client->audio_begun)
    send_event(client, "audio-start", format_json(0), NULL, 0);
  client->audio_begun = TRUE;
}

static void on_pcm(const gint16 *samples, gsize n, gpointer user) {
  ChoirWyomingClient *client = user;
  begin_audio(client);
  for (gsize at = 0; at < n; at += CHUNK) {
    gsize part = MIN(n - at, CHUNK);
    send_event(client, "audio-chunk", format_json(client->sent), samples + at, part * sizeof(gint16));
    client->sent += part;
  }
}

static void on_spoken(const GError *error, gpointer user) {
  ChoirWyomingClient *client = user;
  client->speak = NULL;
  gboolean streaming = client->streaming;
  if (error) {
    send_error(client, code_of(error), error->message);
  } else {
    begin_audio(client); /* nothing to say is audio, too: of no length */
    json_t *stop = json_pack("{s:I}", "timestamp", (json_int_t)(client->sent * 1000 / CHOIR_RATE_OUT));
    send_event(client, "audio-stop", stop, NULL, 0);
    if (streaming)
      send_event(client, "synthesize-stopped", NULL, NULL, 0);
  }
  stop_speaking(client);
  client->out->resume(client->user);
}

static void on_clause(const char *text, gsize begin, gsize end, gpointer user) {
  ChoirWyomingClient *client = user;
  choir_desk_speak_clause(client->speak, text);
}

/* FALSE after the error was sent. */
static gboolean begin_speaking(ChoirWyomingClient *client, const json_t *data) {
  static const ChoirDeskSpeakHandlers handlers = {.pcm = on_pcm, .done = on_spoken};
  stop_speaking(client);
  g_auto(ChoirAudioVoice) voice = {0};
  choir_audio_voice(client->desk, &voice);
  const char *name = choir_json_string(json_object_get(data, "voice"), "name", voice.name);
  if (!choir_audio_voice_known(&voice, name)) {
    g_autofree char *why = g_strdup_printf("there is no voice '%.60s'; the one voice is '%s'", name, voice.name);
    send_error(client, "voice", why);
    return FALSE;
  }
  if (g_str_equal(choir_json_string(data, "text_format", "text"), "ssml")) {
    send_error(client, "format", "SSML is not spoken; send plain text");
    return FALSE;
  }
  g_autoptr(GError) error = NULL;
  client->speak = choir_desk_speak(client->desk, 1, &handlers, client, &error);
  if (!client->speak) {
    send_error(client, code_of(error), error->message);
    return FALSE;
  }
  client->clause = choir_clause_new(on_clause, client);
  return TRUE;
}

static void add_text(ChoirWyomingClient *client, const json_t *data) {
  const char *text = choir_json_string(data, "text", "");
  client->said += strlen(text);
  if (client->said > MAX_TEXT) {
    stop_speaking(client);
    send_error(client, "too_long", "more than 64 kB of text in one request; send it in parts");
    return;
  }
  choir_clause_feed(client->clause, text, strlen(text));
}

static void end_text(ChoirWyomingClient *client) {
  if (!client->speak)
    return;
  choir_clause_end(client->clause);
  client->speaking_ends = TRUE;
  choir_desk_speak_end(client->speak);
}

static void on_synthesize(ChoirWyomingClient *client, const json_t *data) {
  if (client->streaming)
    return; /* sent again for servers that cannot stream */
  if (!begin_speaking(client, data))
    return;
  add_text(client, data);
  end_text(client);
}

static void on_synthesize_event(ChoirWyomingClient *client, const char *type, const json_t *data) {
  if (g_str_equal(type, "synthesize")) {
    on_synthesize(client, data);
  } else if (g_str_equal(type, "synthesize-start")) {
    client->streaming = FALSE;
    gboolean begun = begin_speaking(client, data);
    client->streaming = TRUE; /* also when refused: the text that follows is not for synthesize */
    (void)begun;
  } else if (!client->streaming) {
    return;
  } else if (g_str_equal(type, "synthesize-chunk") && client->speak) {
    add_text(client, data);
  } else if (g_str_equal(type, "synthesize-stop")) {
    end_text(client);
    client->streaming = client->speak != NULL;
  }
}

/* --- both --- */

ChoirWyomingClient *choir_wyoming_client_new(ChoirDesk *desk, ChoirWyomingServices services, const char *language,
                                             const ChoirWyomingOut *out, gpointer user) {
  ChoirWyomingClient *client = g_new0(ChoirWyomingClient, 1);
  *client = (ChoirWyomingClient){
      .desk = desk,
      .services = services,
      .language = g_strdup(g_str_equal(language, "auto") ? "en" : language),
      .out = out,
      .user = user,
      .text = g_string_new(NULL),
      .odd = g_byte_array_new(),
  };
  return client;
}

void choir_wyoming_client_free(ChoirWyomingClient *client) {
  if (!client)
    return;
  stop_listening(client);
  stop_speaking(client);
  g_string_free(client->text, TRUE);
  g_byte_array_unref(client->odd);
  g_free(client->language);
  g_free(client);
}

gboolean choir_wyoming_client_busy(const ChoirWyomingClient *client) {
  return client->full || (client->listen && client->stopped) || (client->speak && client->speaking_ends);
}

void choir_wyoming_client_queued(ChoirWyomingClient *client, gsize bytes) {
  gboolean hold = bytes > (client->held ? QUEUE_LOW : QUEUE_HIGH);
  if (hold == client->held)
    return;
  client->held = hold;
  if (client->speak)
    choir_desk_speak_hold(client->speak, hold);
}

void choir_wyoming_client_event(ChoirWyomingClient *client, const ChoirWyomingEvent *event) {
  const char *type = event->type;
  gboolean hears = (client->services & CHOIR_WYOMING_STT) != 0, speaks = (client->services & CHOIR_WYOMING_TTS) != 0;
  if (g_str_equal(type, "describe"))
    send_event(client, "info", choir_wyoming_info(client->desk, client->services, client->language), NULL, 0);
  else if (g_str_equal(type, "ping"))
    send_event(client, "pong", json_deep_copy(event->data), NULL, 0);
  else if (hears && g_str_equal(type, "transcribe"))
    on_transcribe(client, event->data);
  else if (hears && g_str_equal(type, "audio-start"))
    on_audio_start(client, event->data);
  else if (hears && g_str_equal(type, "audio-chunk"))
    on_audio_chunk(client, event);
  else if (hears && g_str_equal(type, "audio-stop"))
    on_audio_stop(client);
  else if (speaks && g_str_has_prefix(type, "synthesize"))
    on_synthesize_event(client, type, event->data);
  else if (g_str_equal(type, "transcribe") || g_str_equal(type, "synthesize") || g_str_equal(type, "synthesize-start"))
    send_error(client, "wrong_port",
               hears ? "this port hears only; speech is at [wyoming] tts_port"
                     : "this port speaks only; speech to text "
                       "is at [wyoming] stt_port");
  /* Everything else is for other kinds of servers, and dropped, as the protocol says. */
}
