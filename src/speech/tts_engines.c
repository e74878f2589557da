#include "speech/tts_engines.h"
#include "speech/runner.h"
#include "speech/tier.h"
#include "speech/tts_text.h"
#include "speech/tts_timeline.h"

#define PIPER_LIMIT 0.7                         /* of real time: a language model shares the machine */
#define PIPER_MB 300                            /* free memory that the voice needs beside everything else */
#define CLAUSE "This is how fast I speak here." /* 1.5 s */

struct ChoirTtsEngines {
  const ChoirTtsEngine *full, *light; /* light: NULL unless automatic; full NULL: not in this build */
  gpointer full_self, light_self;
  char *full_detail, *light_detail, *why; /* why: full cannot run at all */
  const ChoirTtsOptions *options;
  ChoirTier tier;
  GMutex mutex; /* guards talking */
  const ChoirTtsEngine *talking;
  gpointer talking_self;
};

static const ChoirTtsEngine *const table[] = {
#ifdef CHOIR_HAVE_ORT
    &choir_tts_piper,
#endif
#ifdef CHOIR_HAVE_FLITE
    &choir_tts_flite,
#endif
    &choir_tts_wyoming,
    &choir_tts_null,
};

const ChoirTtsEngine *choir_tts_engine_named(const char *name) {
  for (gsize i = 0; i < G_N_ELEMENTS(table); i++)
    if (g_str_equal(table[i]->name, name))
      return table[i];
  return NULL;
}

ChoirTtsEngines *choir_tts_engines_new(const char *name, const ChoirTtsOptions *options, GError **error) {
  gboolean automatic = g_str_equal(name, "auto");
  const ChoirTtsEngine *full = choir_tts_engine_named(automatic ? "piper" : name);
  const ChoirTtsEngine *light = automatic ? choir_tts_engine_named("flite") : NULL;
  if (!full && !light) {
    g_autoptr(GString) list = g_string_new("auto");
    for (gsize i = 0; i < G_N_ELEMENTS(table); i++)
      g_string_append_printf(list, ", %s", table[i]->name);
    g_set_error(error, g_quark_from_static_string("choir-speech-error"), 0,
                "no engine '%s' in this build; choose from %s", name, list->str);
    return NULL;
  }
  ChoirTtsEngines *engines = g_new0(ChoirTtsEngines, 1);
  engines->full = full;
  engines->light = light;
  engines->options = options;
  g_mutex_init(&engines->mutex);
  choir_tier_init(&engines->tier, "Piper", "flite", PIPER_LIMIT);
  return engines;
}

static void talk_with(ChoirTtsEngines *engines, gboolean full) {
  g_mutex_lock(&engines->mutex);
  engines->talking = full ? engines->full : engines->light;
  engines->talking_self = full ? engines->full_self : engines->light_self;
  g_mutex_unlock(&engines->mutex);
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
  return measure->cancelled && measure->cancelled(measure->user);
}

/* Only a neural voice is worth measuring. FALSE with error, or without when cancelled. */
static gboolean measure(ChoirTtsEngines *engines, Measure *measure, GError **error) {
  g_autofree char *text = choir_tts_text_clean(CLAUSE, sizeof CLAUSE - 1);
  g_autoptr(GArray) words = choir_tts_words(text, sizeof CLAUSE - 1);
  ChoirTtsTimeline timeline;
  choir_tts_timeline_init(&timeline);
  ChoirTtsSink sink = {.pcm = count, .cancelled = stopped, .timeline = &timeline, .user = measure};
  double cpu = choir_runner_cpu_ms();
  gboolean ok = engines->full->say(engines->full_self, text, words, &sink, error);
  cpu = (choir_runner_cpu_ms() - cpu) / engines->options->threads;
  choir_tts_timeline_clear(&timeline);
  if (ok && measure->samples > 0) {
    double ms = (double)measure->samples * 1000 / engines->full->rate(engines->full_self);
    choir_tier_take(&engines->tier, cpu / ms, (gint64)choir_runner_wall_ms());
  }
  return ok && measure->samples > 0;
}

static gboolean open_light(ChoirTtsEngines *engines, GError **error) {
  if (!engines->light_self)
    engines->light_self = engines->light->open(engines->options, &engines->light_detail, error);
  return engines->light_self != NULL;
}

static void close_full(ChoirTtsEngines *engines) {
  if (engines->full_self)
    engines->full->close(engines->full_self);
  engines->full_self = NULL;
}

/* FALSE with error: it does not run. */
static gboolean open_full(ChoirTtsEngines *engines, GError **error) {
  gint64 free_mb = choir_tier_free_mb();
  if (!engines->full) {
    g_set_error(error, g_quark_from_static_string("choir-speech-error"), 0, "this program was built without Piper");
    return FALSE;
  }
  if (engines->light && free_mb >= 0 && free_mb < PIPER_MB) {
    g_set_error(error, g_quark_from_static_string("choir-speech-error"), 0,
                "Piper wants %d MB of free memory and there are %d", PIPER_MB, (int)free_mb);
    return FALSE;
  }
  engines->full_self = engines->full->open(engines->options, &engines->full_detail, error);
  if (!engines->full_self)
    return FALSE;
  if (!g_str_equal(engines->full->name, "piper"))
    return TRUE;
  Measure first = {0};
  if (measure(engines, &first, error))
    return TRUE;
  close_full(engines);
  return FALSE;
}

gboolean choir_tts_engines_open(ChoirTtsEngines *engines, GError **error) {
  g_autoptr(GError) why = NULL;
  gboolean runs = open_full(engines, &why);
  if (!engines->light) {
    if (!runs)
      g_propagate_error(error, g_steal_pointer(&why));
    talk_with(engines, TRUE);
    return runs;
  }
  if (runs && choir_tier_is_full(&engines->tier)) {
    talk_with(engines, TRUE);
    return TRUE;
  }
  if (!runs) {
    engines->why = g_strdup(why->message);
    engines->tier.next_ms = -1;
  }
  if (!open_light(engines, error))
    return FALSE;
  talk_with(engines, FALSE);
  return TRUE;
}

const ChoirTtsEngine *choir_tts_engines_current(const ChoirTtsEngines *engines, gpointer *ret_self) {
  *ret_self = engines->talking_self;
  return engines->talking;
}

void choir_tts_engines_interrupt(ChoirTtsEngines *engines) {
  g_mutex_lock(&engines->mutex);
  if (engines->talking && engines->talking->interrupt)
    engines->talking->interrupt(engines->talking_self);
  g_mutex_unlock(&engines->mutex);
}

gint64 choir_tts_engines_due(const ChoirTtsEngines *engines) {
  return engines->light && engines->full_self ? choir_tier_due(&engines->tier, (gint64)choir_runner_wall_ms()) : -1;
}

void choir_tts_engines_probe(ChoirTtsEngines *engines, gboolean (*cancelled)(gpointer user), gpointer user) {
  g_autoptr(GError) error = NULL;
  Measure again = {.cancelled = cancelled, .user = user};
  if (!measure(engines, &again, &error) && !error)
    return; /* there is work */
  if (error)
    engines->tier.next_ms = -1;
  gboolean full = choir_tier_is_full(&engines->tier);
  talk_with(engines, full);
  if (!full && choir_tts_engines_due(engines) < 0)
    close_full(engines); /* settled: its memory is of better use elsewhere */
}

static char *reason_of(const ChoirTtsEngines *engines) {
  if (engines->why)
    return g_strdup_printf("flite, as %s", engines->why);
  if (engines->light)
    return choir_tier_reason(&engines->tier);
  if (engines->tier.best < 0)
    return g_strdup("chosen in the settings");
  return g_strdup_printf("chosen in the settings; %.2f of real time", engines->tier.best);
}

void choir_tts_engines_report(ChoirTtsEngines *engines, int fd, guint16 type, double load_ms) {
  const gboolean full = engines->talking == engines->full;
  g_autofree char *reason = reason_of(engines);
  const char *detail = full ? engines->full_detail : engines->light_detail;
  g_autofree char *shown = g_strdup_printf("%s; %s", detail ? detail : engines->talking->name, reason);
  json_t *more = json_pack("{s:s, s:s}", "tier", full ? "full" : "light", "reason", reason);
  if (engines->tier.best >= 0)
    json_object_set_new(more, "realtime", json_real(engines->tier.best));
  choir_runner_log("%s: engine %s, %s", type == CHOIR_WIRE_READY ? "ready" : "now", engines->talking->name, shown);
  choir_runner_report(fd, type, engines->talking->name, full && engines->options->model ? engines->options->model : "",
                      load_ms, shown, more);
}
