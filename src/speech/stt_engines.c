#include "speech/stt_engines.h"
#include "speech/runner.h"
#include "base/names.h"
#include <math.h>

#define WHISPER_LIMIT 1.5 /* of real time: 4.5 s for an utterance of 3 s is as long as anybody waits */
#define WHISPER_MB 250
#define CLIP (3 * CHOIR_RATE_MIC)

static const ChoirEngineRow rows[] = {
#ifdef CHOIR_HAVE_WHISPER
    {"whisper", &choir_stt_whisper},
#endif
#ifdef CHOIR_HAVE_POCKETSPHINX
    {"pocketsphinx", &choir_stt_pocketsphinx},
#endif
    {"wyoming", &choir_stt_wyoming},
    {"null", &choir_stt_null},
};

/* A sound with the rhythm of syllables. What is in it matters little: nearly all of the time goes into Whisper's
 * encoder, which takes the same for everything. */
static gint16 *make_clip(void) {
  gint16 *clip = g_new(gint16, CLIP);
  guint32 noise = 12345;
  for (guint i = 0; i < CLIP; i++) {
    double t = (double)i / CHOIR_RATE_MIC, loud = 0.5 - 0.5 * cos(2 * G_PI * 4 * t);
    noise = noise * 1664525u + 1013904223u;
    double hiss = (double)(noise >> 16) / 32768.0 - 1, hum = sin(2 * G_PI * 120 * t) + sin(2 * G_PI * 720 * t) / 2;
    clip[i] = (gint16)(3000 * loud * (hum + hiss / 4));
  }
  return clip;
}

static gpointer open_engine(gconstpointer engine, gboolean light, gconstpointer data, char **ret_detail,
                            GError **error) {
  ChoirSttOptions options = *(const ChoirSttOptions *)data;
  if (light)
    options.model = NULL; /* that is Whisper's */
  return ((const ChoirSttEngine *)engine)->open(&options, ret_detail, error);
}

static void close_engine(gconstpointer engine, gpointer self) {
  ((const ChoirSttEngine *)engine)->close(self);
}

static gboolean measure(gconstpointer data, gpointer self, gconstpointer options, gboolean (*cancelled)(gpointer user),
                        gpointer user, double *ret_ratio, GError **error) {
  const ChoirSttEngine *engine = data;
  g_autofree gint16 *clip = make_clip();
  g_autoptr(GString) text = g_string_new(NULL);
  ChoirSttResult result = {.text = text};
  const ChoirSttWish wish = {0};
  if (engine->wish && !engine->wish(self, &wish, error))
    return FALSE;
  double cpu = choir_runner_cpu_ms();
  if (!engine->transcribe(self, clip, CLIP, cancelled, user, &result, error))
    return FALSE;
  cpu = (choir_runner_cpu_ms() - cpu) / ((const ChoirSttOptions *)options)->threads;
  *ret_ratio = cpu * CHOIR_RATE_MIC / 1000 / CLIP;
  return TRUE;
}

const ChoirEngineKind choir_stt_engines = {
    .rows = rows,
    .n = G_N_ELEMENTS(rows),
    .full = "whisper",
    .light = "pocketsphinx",
    .title = "Whisper",
    .stands_in = "the fixed commands of PocketSphinx",
    .limit = WHISPER_LIMIT,
    .free_mb = WHISPER_MB,
    .open = open_engine,
    .close = close_engine,
    .measure = measure,
};
