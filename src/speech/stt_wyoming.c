/* The recogniser of another machine, by the Wyoming protocol; one on this machine stands in while that one is away. */
#include <string.h>
#include "base/names.h"
#include "base/text.h"
#include "speech/runner.h"
#include "speech/stt.h"
#include "speech/stt_text.h"
#include "speech/wyoming_link.h"

#define CHUNK 2048       /* samples in one audio-chunk */
#define SILENCE_MS 60000 /* a slow machine may think that long about 30 s of speech */

typedef struct {
  ChoirWyomingLink *link;
  const ChoirSttEngine *local; /* NULL = none */
  ChoirSttOptions options;     /* strings live as long as the worker */
  gpointer local_self;         /* opened when first needed */
  char *language, *prompt;     /* of the job */
} Remote;

static gpointer remote_open(const ChoirSttOptions *options, char **ret_detail, GError **error) {
  const ChoirWyomingLinkOptions line = {.url = options->url,
                                        .service = "asr",
                                        .what = "the recogniser",
                                        .fallback = options->fallback ? options->fallback->name : NULL,
                                        .report = options->report,
                                        .user = options->report_user};
  Remote *self = g_new0(Remote, 1);
  self->local = options->fallback;
  self->options = *options;
  self->link = choir_wyoming_link_new(&line, ret_detail, error);
  if (self->link)
    return self;
  g_free(self);
  return NULL;
}

static void remote_close(gpointer data) {
  Remote *self = data;
  choir_wyoming_link_free(self->link);
  if (self->local_self)
    self->local->close(self->local_self);
  g_free(self->language);
  g_free(self->prompt);
  g_free(self);
}

static json_t *format_json(void) {
  return json_pack("{s:i,s:i,s:i}", "rate", CHOIR_RATE_MIC, "width", 2, "channels", 1);
}

static gboolean send_audio(const Remote *self, ChoirWyomingCall *call, const gint16 *samples, gsize n, GError **error) {
  const char *language = self->language ? self->language : self->options.language;
  json_t *request = json_object();
  if (!g_str_equal(language, "auto"))
    json_object_set_new(request, "language", json_string(language));
  if (!choir_wyoming_call_send(call, "transcribe", request, NULL, 0, error) ||
      !choir_wyoming_call_send(call, "audio-start", format_json(), NULL, 0, error))
    return FALSE;
  for (gsize at = 0; at < n; at += CHUNK)
    if (!choir_wyoming_call_send(call, "audio-chunk", format_json(), samples + at, MIN(n - at, CHUNK) * sizeof(gint16),
                                 error))
      return FALSE;
  return choir_wyoming_call_send(call, "audio-stop", NULL, NULL, 0, error);
}

/* FALSE with error, or without one when cancelled. */
static gboolean ask_remote(Remote *self, const gint16 *samples, gsize n, ChoirSttCancelled cancelled, gpointer user,
                           ChoirSttResult *result, GError **error) {
  ChoirWyomingCall *call = choir_wyoming_call(self->link, cancelled, user, error);
  const ChoirWyomingEvent *event = NULL;
  if (call && send_audio(self, call, samples, n, error))
    do
      event = choir_wyoming_call_next(call, SILENCE_MS, error);
    while (event && !g_str_equal(event->type, "transcript"));
  if (event) {
    g_string_assign(result->text, choir_json_string(event->data, "text", ""));
    choir_stt_text_clean(result->text);
    g_strlcpy(result->language, choir_json_string(event->data, "language", self->options.language),
              sizeof result->language);
    result->no_speech = result->text->len > 0 ? 0 : 1;
  }
  choir_wyoming_call_free(call);
  return event != NULL;
}

static gboolean ask_local(Remote *self, const gint16 *samples, gsize n, ChoirSttCancelled cancelled, gpointer user,
                          ChoirSttResult *result, GError **error) {
  g_autofree char *detail = NULL;
  if (!self->local_self) {
    self->local_self = self->local->open(&self->options, &detail, error);
    if (!self->local_self)
      return FALSE;
    choir_runner_log("%s stands in", detail);
  }
  const ChoirSttWish wish = {.language = self->language, .prompt = self->prompt};
  if (self->local->wish && !self->local->wish(self->local_self, &wish, error))
    return FALSE;
  return self->local->transcribe(self->local_self, samples, n, cancelled, user, result, error);
}

static gboolean remote_transcribe(gpointer data, const gint16 *samples, gsize n, ChoirSttCancelled cancelled,
                                  gpointer user, ChoirSttResult *result, GError **error) {
  Remote *self = data;
  g_autoptr(GError) why = NULL;
  if (choir_wyoming_link_up(self->link)) {
    if (ask_remote(self, samples, n, cancelled, user, result, &why))
      return TRUE;
    if (!why)
      return FALSE;
    choir_runner_log("%s", why->message);
    if (!g_error_matches(why, CHOIR_WYOMING_LINK_ERROR, CHOIR_WYOMING_LINK_ERROR_REFUSED))
      choir_wyoming_link_lost(self->link, why);
  }
  if (self->local)
    return ask_local(self, samples, n, cancelled, user, result, error);
  if (why)
    g_propagate_error(error, g_steal_pointer(&why));
  else
    g_set_error_literal(error, CHOIR_WYOMING_LINK_ERROR, CHOIR_WYOMING_LINK_ERROR_GONE,
                        "the recogniser's machine does not answer, and [stt] fallback names none");
  return FALSE;
}

static gboolean remote_wish(gpointer data, const ChoirSttWish *wish, GError **error) {
  Remote *self = data;
  g_free(self->language);
  g_free(self->prompt);
  self->language = g_strdup(wish->language);
  self->prompt = g_strdup(wish->prompt);
  return TRUE;
}

const ChoirSttEngine choir_stt_wyoming = {
    .name = "wyoming",
    .help = "the recogniser of another machine",
    .open = remote_open,
    .close = remote_close,
    .transcribe = remote_transcribe,
    .wish = remote_wish,
};
