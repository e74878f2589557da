/* `choir say` and `choir transcribe`: the daemon's voice and ears from a terminal, by its /v1/audio. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/text.h"
#include "cli/cli.h"
#include "net/http_client.h"

#define WAIT_MS (60u * 60 * 1000) /* an hour of speech on an old processor */
#define ANSWER_MAX (512u << 20)
#define BOUNDARY "choir-4fd1c07a9be2d83e"

static char *option_url, *option_output, *option_format, *option_language, *option_prompt, *option_voice;
static double option_speed = 1;
static gboolean option_json;

/* --- one request --- */

typedef struct {
  GMainLoop *loop;
  const char *url;
  GByteArray *answer;
  GError *error;
} Exchange;

static void on_done(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  Exchange *exchange = user;
  json_auto_t *json = error && body ? choir_json_parse(body, length, NULL) : NULL;
  const char *message = choir_json_string(json_object_get(json, "error"), "message", NULL);
  if (error && message)
    exchange->error = g_error_new_literal(error->domain, error->code, message);
  else if (error && g_error_matches(error, CHOIR_HTTP_ERROR, CHOIR_HTTP_ERROR_CONNECT))
    exchange->error = g_error_new(error->domain, error->code,
                                  "no Choir answers at %s; start it with ./run or choir serve", exchange->url);
  else if (error)
    exchange->error = g_error_copy(error);
  else
    g_byte_array_append(exchange->answer, (const guint8 *)body, (guint)length);
  g_main_loop_quit(exchange->loop);
}

/* The answer's bytes, or NULL with error. Caller unrefs. */
static GByteArray *post(const char *path, const char *type, const void *body, gsize length, GError **error) {
  g_autofree char *url = choir_cli_url(option_url), *headers = choir_cli_authorization(url);
  gboolean local = g_str_has_prefix(url, "unix:");
  g_autofree char *address = g_strconcat(local ? "http://localhost" : url, path, NULL);
  ChoirHttpClient *client = local ? choir_http_client_new_local(url + strlen("unix:")) : choir_http_client_new();
  Exchange exchange = {.loop = g_main_loop_new(NULL, FALSE), .url = url, .answer = g_byte_array_new()};
  choir_http_request(client, "POST", address, type, body, length, headers, WAIT_MS, ANSWER_MAX, NULL, on_done,
                     &exchange);
  g_main_loop_run(exchange.loop);
  g_main_loop_unref(exchange.loop);
  choir_http_client_free(client);
  if (!exchange.error)
    return exchange.answer;
  g_byte_array_unref(exchange.answer);
  g_propagate_error(error, exchange.error);
  return NULL;
}

/* A file, or standard input for "-". NULL with error. Caller unrefs. */
static GByteArray *read_input(const char *path, GError **error) {
  gsize length = 0;
  char *data = NULL;
  if (!g_file_get_contents(g_str_equal(path, "-") ? "/dev/stdin" : path, &data, &length, error))
    return NULL;
  return g_byte_array_new_take((guint8 *)data, length);
}

/* --- say --- */

static const GOptionEntry say_entries[] = {
    {"output", 'o', 0, G_OPTION_ARG_FILENAME, &option_output,
     "write there (default: standard output, unless a terminal)", "FILE"},
    {"format", 'f', 0, G_OPTION_ARG_STRING, &option_format,
     "wav, flac, opus or pcm (default: by FILE's ending, else wav)", "NAME"},
    {"speed", 0, 0, G_OPTION_ARG_DOUBLE, &option_speed, "0.25 to 4 (default 1)", "X"},
    {"voice", 0, 0, G_OPTION_ARG_STRING, &option_voice, "a name of /v1/audio/voices (default: the one there is)",
     "NAME"},
    {"json", 0, 0, G_OPTION_ARG_NONE, &option_json, "print what was written, as JSON; needs --output", NULL},
    {"url", 'u', 0, G_OPTION_ARG_STRING, &option_url, "address of the daemon (default: $CHOIR_URL, else this machine)",
     "URL"},
    G_OPTION_ENTRY_NULL,
};

static const char *format_of(const char *path) {
  static const char *const endings[][2] = {
      {".flac", "flac"}, {".opus", "opus"}, {".ogg", "opus"}, {".pcm", "pcm"}, {".raw", "pcm"}};
  for (gsize i = 0; path && i < G_N_ELEMENTS(endings); i++)
    if (g_str_has_suffix(path, endings[i][0]))
      return endings[i][1];
  return "wav";
}

static int write_sound(const GByteArray *sound, const char *format) {
  g_autoptr(GError) error = NULL;
  if (!option_output)
    return fwrite(sound->data, 1, sound->len, stdout) == sound->len && fflush(stdout) == 0
               ? CHOIR_CLI_OK
               : choir_cli_fail("say", "standard output takes no more");
  if (!g_file_set_contents(option_output, (const char *)sound->data, (gssize)sound->len, &error))
    return choir_cli_fail("say", "%s", error->message);
  if (option_json) {
    json_auto_t *json = json_pack("{s:s,s:s,s:i}", "file", option_output, "format", format, "bytes", (int)sound->len);
    choir_cli_print_json(json);
  }
  return CHOIR_CLI_OK;
}

int choir_say_main(int argc, char **argv) {
  static const char text[] = "Examples:\n"
                             "  choir say \"Good morning\" | aplay\n"
                             "  choir say -o bell.opus \"The bell rings.\"\n"
                             "  choir say - -o story.flac < story.txt\n\n"
                             "TEXT - reads standard input; at most 4096 characters.\n"
                             "Exit codes: 0 done, 1 it failed, 2 wrong usage.\n";
  g_autoptr(GError) error = NULL;
  if (!choir_cli_parse("say", "TEXT", text, say_entries, &argc, &argv))
    return CHOIR_CLI_USAGE;
  if (argc != 2)
    return choir_cli_usage("say", argc < 2 ? "what to say is missing" : "give the text as one word, in quotes");
  if (!option_output && (option_json || isatty(STDOUT_FILENO)))
    return choir_cli_usage("say", "sound is not for a terminal: give --output FILE, or a program to play it: | aplay");
  g_autoptr(GByteArray) typed = g_str_equal(argv[1], "-") ? read_input("-", &error) : NULL;
  if (error)
    return choir_cli_fail("say", "%s", error->message);
  g_autofree char *input = typed ? choir_utf8((const char *)typed->data, typed->len) : choir_utf8(argv[1], -1);
  const char *format = option_format ? option_format : format_of(option_output);
  json_auto_t *request = json_pack("{s:s,s:s,s:f,s:s}", "input", input, "response_format", format, "speed",
                                   option_speed, "voice", option_voice ? option_voice : "default");
  g_autofree char *body = choir_json_dump(request);
  g_autoptr(GByteArray) sound = post("/v1/audio/speech", "application/json", body, strlen(body), &error);
  return sound ? write_sound(sound, format) : choir_cli_fail("say", "%s", error ? error->message : "no answer");
}

/* --- transcribe --- */

static const GOptionEntry transcribe_entries[] = {
    {"format", 'f', 0, G_OPTION_ARG_STRING, &option_format, "text, srt, vtt, json or verbose_json (default text)",
     "NAME"},
    {"language", 'l', 0, G_OPTION_ARG_STRING, &option_language, "what is spoken, as in de (default: the daemon's)",
     "CODE"},
    {"prompt", 0, 0, G_OPTION_ARG_STRING, &option_prompt, "words that may come up", "TEXT"},
    {"output", 'o', 0, G_OPTION_ARG_FILENAME, &option_output, "write there (default: standard output)", "FILE"},
    {"json", 0, 0, G_OPTION_ARG_NONE, &option_json, "the same as --format verbose_json", NULL},
    {"url", 'u', 0, G_OPTION_ARG_STRING, &option_url, "address of the daemon (default: $CHOIR_URL, else this machine)",
     "URL"},
    G_OPTION_ENTRY_NULL,
};

static void add_field(GByteArray *form, const char *name, const void *value, gsize length) {
  g_autofree char *head = g_strdup_printf("--" BOUNDARY "\r\nContent-Disposition: form-data; name=\"%s\"%s\r\n\r\n",
                                          name, g_str_equal(name, "file") ? "; filename=\"sound\"" : "");
  g_byte_array_append(form, (const guint8 *)head, (guint)strlen(head));
  g_byte_array_append(form, value, (guint)length);
  g_byte_array_append(form, (const guint8 *)"\r\n", 2);
}

static void add_text(GByteArray *form, const char *name, const char *value) {
  if (value)
    add_field(form, name, value, strlen(value));
}

int choir_transcribe_main(int argc, char **argv) {
  static const char text[] =
      "Examples:\n"
      "  choir transcribe memo.flac\n"
      "  choir transcribe --format srt -o film.srt film.wav\n"
      "  arecord -f S16_LE -r 16000 -d 5 | choir transcribe -\n\n"
      "FILE is WAV, FLAC, Ogg Opus or Vorbis, MP3, AIFF or AU, at most 25 MB; - is standard input.\n"
      "Exit codes: 0 done, 1 it failed, 2 wrong usage.\n";
  static const char end[] = "--" BOUNDARY "--\r\n";
  g_autoptr(GError) error = NULL;
  if (!choir_cli_parse("transcribe", "FILE", text, transcribe_entries, &argc, &argv))
    return CHOIR_CLI_USAGE;
  if (argc != 2)
    return choir_cli_usage("transcribe", argc < 2 ? "the file is missing" : "one file at a time");
  g_autoptr(GByteArray) file = read_input(argv[1], &error);
  if (!file)
    return choir_cli_fail("transcribe", "%s", error->message);
  g_autoptr(GByteArray) form = g_byte_array_new();
  add_text(form, "response_format", option_json ? "verbose_json" : option_format ? option_format : "text");
  add_text(form, "language", option_language);
  add_text(form, "prompt", option_prompt);
  add_field(form, "file", file->data, file->len);
  g_byte_array_append(form, (const guint8 *)end, sizeof end - 1);
  g_autoptr(GByteArray) answer =
      post("/v1/audio/transcriptions", "multipart/form-data; boundary=" BOUNDARY, form->data, form->len, &error);
  if (!answer)
    return choir_cli_fail("transcribe", "%s", error ? error->message : "no answer");
  if (option_output)
    return g_file_set_contents(option_output, (const char *)answer->data, (gssize)answer->len, &error)
               ? CHOIR_CLI_OK
               : choir_cli_fail("transcribe", "%s", error->message);
  fwrite(answer->data, 1, answer->len, stdout);
  if (answer->len > 0 && answer->data[answer->len - 1] != '\n')
    putchar('\n');
  return CHOIR_CLI_OK;
}
