/* The voice of another machine, by the Wyoming protocol; one on this machine stands in while that one is away. */
#include <string.h>
#include "audio/pcm.h"
#include "audio/resample.h"
#include "base/names.h"
#include "base/text.h"
#include "speech/runner.h"
#include "speech/tts.h"
#include "speech/tts_text.h"
#include "speech/tts_timeline.h"
#include "speech/wyoming_link.h"

#define SILENCE_MS 30000 /* a slow machine may think that long about a clause */

typedef struct {
  ChoirWyomingLink *link;
  const ChoirTtsEngine *local; /* NULL = none */
  ChoirTtsOptions options;     /* strings live as long as the worker */
  gpointer local_self;         /* atomic: interrupt() reads it; opened when first needed */
  gint local_speaks;           /* atomic */
} Remote;

/* Sound on its way to the worker's sink, at any rate. */
typedef struct {
  const ChoirTtsSink *sink;
  ChoirResampler *resampler;
  guint rate, width, channels;
  gboolean heard; /* something went out */
} Path;

static gpointer remote_open(const ChoirTtsOptions *options, char **ret_detail, GError **error) {
  const ChoirWyomingLinkOptions line = {.url = options->url,
                                        .service = "tts",
                                        .what = "the voice",
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
  g_free(self);
}

static guint remote_rate(gpointer self) {
  return CHOIR_RATE_OUT;
}

static void path_clear(Path *path) {
  g_clear_pointer(&path->resampler, choir_resampler_free);
}

static void path_give(Path *path, const gint16 *samples, gsize n) {
  g_autoptr(GArray) out = g_array_new(FALSE, FALSE, sizeof(gint16));
  choir_resampler_run(path->resampler, samples, n, out);
  path->heard |= out->len > 0;
  path->sink->pcm((const gint16 *)(gpointer)out->data, out->len, path->sink->user);
}

static gboolean path_start(Path *path, const json_t *data) {
  gint64 rate = choir_json_int(data, "rate", 0), width = choir_json_int(data, "width", 0),
         channels = choir_json_int(data, "channels", 0);
  path_clear(path);
  if (rate < 4000 || rate > 192000 || width < 1 || width > 4 || channels < 1 || channels > CHOIR_PCM_CHANNELS_MAX)
    return FALSE;
  path->rate = (guint)rate;
  path->width = (guint)width;
  path->channels = (guint)channels;
  path->resampler = choir_resampler_new(path->rate, CHOIR_RATE_OUT);
  return TRUE;
}

/* One event of the answer. FALSE with error; ret_over: it was the last. */
static gboolean take_event(Path *path, const ChoirWyomingEvent *event, gboolean *ret_over, GError **error) {
  gboolean good = TRUE;
  if (g_str_equal(event->type, "audio-start")) {
    good = path_start(path, event->data);
  } else if (g_str_equal(event->type, "audio-chunk")) {
    g_autoptr(GArray) mono = g_array_new(FALSE, FALSE, sizeof(gint16));
    good =
        path->resampler != NULL && choir_pcm_to_mono(event->payload, event->length, path->width, path->channels, mono);
    if (good)
      path_give(path, (const gint16 *)(gpointer)mono->data, mono->len);
  }
  *ret_over = g_str_equal(event->type, "audio-stop");
  if (!good)
    g_set_error_literal(error, CHOIR_WYOMING_LINK_ERROR, CHOIR_WYOMING_LINK_ERROR_REFUSED,
                        "the voice's machine sends sound in a form that is not understood");
  return good;
}

/* How long each word is, for want of its phonemes: by its letters. */
static void guess_words(GArray *words, const char *text) {
  for (guint i = 0; i < words->len; i++) {
    ChoirTtsWord *word = &g_array_index(words, ChoirTtsWord, i);
    for (guint at = word->begin; at < word->end && text[at]; at++)
      word->phonemes += g_ascii_isalnum(text[at]) || (guchar)text[at] >= 0xc0;
  }
}

/* FALSE with error, or without one when cancelled. */
static gboolean say_remote(Remote *self, const char *text, Path *path, GError **error) {
  const ChoirTtsSink *sink = path->sink;
  ChoirWyomingCall *call = choir_wyoming_call(self->link, sink->cancelled, sink->user, error);
  gboolean ok = call && choir_wyoming_call_send(call, "synthesize", json_pack("{s:s}", "text", text), NULL, 0, error);
  for (gboolean over = FALSE; ok && !over;) {
    const ChoirWyomingEvent *event = choir_wyoming_call_next(call, SILENCE_MS, error);
    ok = event && take_event(path, event, &over, error);
  }
  choir_wyoming_call_free(call);
  return ok;
}

static void on_local_pcm(const gint16 *samples, gsize n, gpointer user) {
  path_give(user, samples, n);
}

static gboolean on_local_cancelled(gpointer user) {
  const ChoirTtsSink *sink = ((Path *)user)->sink;
  return sink->cancelled(sink->user);
}

static gboolean say_local(Remote *self, const char *text, GArray *words, Path *path, GError **error) {
  gpointer local = g_atomic_pointer_get(&self->local_self);
  if (!local) {
    g_autofree char *detail = NULL;
    local = self->local->open(&self->options, &detail, error);
    if (!local)
      return FALSE;
    choir_runner_log("%s stands in", detail);
    g_atomic_pointer_set(&self->local_self, local);
  }
  path_clear(path);
  path->resampler = choir_resampler_new(self->local->rate(local), CHOIR_RATE_OUT);
  /* Its phonemes are counted in samples of another rate: mouth and words then go by loudness and length. */
  ChoirTtsTimeline unused;
  choir_tts_timeline_init(&unused);
  const ChoirTtsSink sink = {.pcm = on_local_pcm, .cancelled = on_local_cancelled, .timeline = &unused, .user = path};
  g_atomic_int_set(&self->local_speaks, 1);
  gboolean ok = self->local->say(local, text, words, &sink, error);
  g_atomic_int_set(&self->local_speaks, 0);
  choir_tts_timeline_clear(&unused);
  return ok;
}

static gboolean remote_say(gpointer data, const char *text, GArray *words, const ChoirTtsSink *sink, GError **error) {
  Remote *self = data;
  Path path = {.sink = sink};
  g_autoptr(GError) why = NULL;
  gboolean ok = FALSE, up = choir_wyoming_link_up(self->link);
  if (up && say_remote(self, text, &path, &why)) {
    guess_words(words, text);
    path_clear(&path);
    return TRUE;
  }
  if (why) {
    choir_runner_log("%s", why->message);
    if (!g_error_matches(why, CHOIR_WYOMING_LINK_ERROR, CHOIR_WYOMING_LINK_ERROR_REFUSED))
      choir_wyoming_link_lost(self->link, why);
  }
  /* Half a clause in one voice and half in another would be worse than a gap. */
  if (self->local && !path.heard && (why || !up))
    ok = say_local(self, text, words, &path, error);
  else if (why)
    g_propagate_error(error, g_steal_pointer(&why));
  else if (!up)
    g_set_error_literal(error, CHOIR_WYOMING_LINK_ERROR, CHOIR_WYOMING_LINK_ERROR_GONE,
                        "the voice's machine does not answer, and [tts] fallback names none");
  path_clear(&path);
  return ok;
}

static void remote_interrupt(gpointer data) {
  Remote *self = data;
  gpointer local = g_atomic_pointer_get(&self->local_self);
  if (local && g_atomic_int_get(&self->local_speaks) && self->local->interrupt)
    self->local->interrupt(local);
}

const ChoirTtsEngine choir_tts_wyoming = {
    .name = "wyoming",
    .help = "the voice of another machine",
    .open = remote_open,
    .close = remote_close,
    .rate = remote_rate,
    .say = remote_say,
    .interrupt = remote_interrupt,
};
