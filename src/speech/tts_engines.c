#include "speech/tts_engines.h"
#include "speech/runner.h"
#include "speech/tts_text.h"
#include "speech/tts_timeline.h"

#define PIPER_LIMIT 0.7 /* of real time: a language model shares the machine */
#define PIPER_MB 300
#define CLAUSE "This is how fast I speak here." /* 1.5 s */

static const ChoirEngineRow rows[] = {
#ifdef CHOIR_HAVE_ORT
    {"piper", &choir_tts_piper},
#endif
#ifdef CHOIR_HAVE_FLITE
    {"flite", &choir_tts_flite},
#endif
    {"wyoming", &choir_tts_wyoming},
    {"null", &choir_tts_null},
};

static gpointer open_engine(gconstpointer engine, gboolean light, gconstpointer options, char **ret_detail,
                            GError **error) {
  return ((const ChoirTtsEngine *)engine)->open(options, ret_detail, error);
}

static void close_engine(gconstpointer engine, gpointer self) {
  ((const ChoirTtsEngine *)engine)->close(self);
}

typedef struct {
  guint64 samples;
  gboolean (*cancelled)(gpointer user);
  gpointer user;
} Measure;

static void count(const gint16 *samples, gsize n, gpointer user) {
  ((Measure *)user)->samples += n;
}

static gboolean stopped(gpointer user) {
  Measure *measure = user;
  return measure->cancelled(measure->user);
}

static gboolean measure(gconstpointer data, gpointer self, gconstpointer options, gboolean (*cancelled)(gpointer user),
                        gpointer user, double *ret_ratio, GError **error) {
  const ChoirTtsEngine *engine = data;
  Measure measured = {.cancelled = cancelled, .user = user};
  g_autofree char *text = choir_tts_text_clean(CLAUSE, sizeof CLAUSE - 1);
  g_autoptr(GArray) words = choir_tts_words(text, sizeof CLAUSE - 1);
  ChoirTtsTimeline timeline;
  choir_tts_timeline_init(&timeline);
  ChoirTtsSink sink = {.pcm = count, .cancelled = stopped, .timeline = &timeline, .user = &measured};
  double cpu = choir_runner_cpu_ms();
  gboolean ok = engine->say(self, text, words, &sink, error) && measured.samples > 0;
  cpu = choir_runner_cpu_ms() - cpu;
  choir_tts_timeline_clear(&timeline);
  if (ok)
    *ret_ratio = cpu * engine->rate(self) / 1000 / (double)measured.samples;
  return ok;
}

static void interrupt(gconstpointer engine, gpointer self) {
  if (((const ChoirTtsEngine *)engine)->interrupt)
    ((const ChoirTtsEngine *)engine)->interrupt(self);
}

void choir_tts_engines_interrupt(ChoirEnginePair *engines) {
  choir_engine_pair_tell(engines, interrupt);
}

const ChoirEngineKind choir_tts_engines = {
    .rows = rows,
    .n = G_N_ELEMENTS(rows),
    .full = "piper",
    .light = "flite",
    .title = "Piper",
    .stands_in = "flite",
    .limit = PIPER_LIMIT,
    .free_mb = PIPER_MB,
    .open = open_engine,
    .close = close_engine,
    .measure = measure,
};
