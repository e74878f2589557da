#include "speech/stt_engines.h"
#include "speech/runner.h"
#include "speech/tier.h"
#include "base/names.h"
#include <math.h>

#define WHISPER_LIMIT 1.5 /* of real time: 4.5 s for an utterance of 3 s is as long as anybody waits */
#define WHISPER_MB 250    /* free memory that it needs beside everything else */
#define CLIP (3 * CHOIR_RATE_MIC)

struct ChoirSttEngines {
  const ChoirSttEngine *full, *light; /* light: NULL unless automatic; full NULL: not in this build */
  gpointer full_self, light_self;
  gboolean use_full;
  char *full_detail, *light_detail, *why; /* why: full cannot run at all */
  const ChoirSttOptions *options;
  ChoirTier tier;
};

static const ChoirSttEngine *const table[] = {
#ifdef CHOIR_HAVE_WHISPER
    &choir_stt_whisper,
#endif
#ifdef CHOIR_HAVE_POCKETSPHINX
    &choir_stt_pocketsphinx,
#endif
    &choir_stt_wyoming,
    &choir_stt_null,
};

const ChoirSttEngine *choir_stt_engine_named(const char *name) {
  for (gsize i = 0; i < G_N_ELEMENTS(table); i++)
    if (g_str_equal(table[i]->name, name))
      return table[i];
  return NULL;
}

ChoirSttEngines *choir_stt_engines_new(const char *name, const ChoirSttOptions *options, GError **error) {
  gboolean automatic = g_str_equal(name, "auto");
  const ChoirSttEngine *full = choir_stt_engine_named(automatic ? "whisper" : name);
  const ChoirSttEngine *light = automatic ? choir_stt_engine_named("pocketsphinx") : NULL;
  if (!full && !light) {
    g_autoptr(GString) list = g_string_new("auto");
    for (gsize i = 0; i < G_N_ELEMENTS(table); i++)
      g_string_append_printf(list, ", %s", table[i]->name);
    g_set_error(error, g_quark_from_static_string("choir-speech-error"), 0,
                "no engine '%s' in this build; choose from %s", name, list->str);
    return NULL;
  }
  ChoirSttEngines *engines = g_new0(ChoirSttEngines, 1);
  engines->full = full;
  engines->light = light;
  engines->options = options;
  choir_tier_init(&engines->tier, "Whisper", "the fixed commands of PocketSphinx", WHISPER_LIMIT);
  return engines;
}

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

static gboolean never(gpointer user) {
  return FALSE;
}

/* FALSE with error, or without when cancelled. */
static gboolean measure(ChoirSttEngines *engines, ChoirSttCancelled cancelled, gpointer user, GError **error) {
  g_autofree gint16 *clip = make_clip();
  g_autoptr(GString) text = g_string_new(NULL);
  ChoirSttResult result = {.text = text};
  const ChoirSttWish wish = {0};
  if (engines->full->wish && !engines->full->wish(engines->full_self, &wish, error))
    return FALSE;
  double cpu = choir_runner_cpu_ms();
  if (!engines->full->transcribe(engines->full_self, clip, CLIP, cancelled, user, &result, error))
    return FALSE;
  cpu = (choir_runner_cpu_ms() - cpu) / engines->options->threads;
  choir_tier_take(&engines->tier, cpu * CHOIR_RATE_MIC / 1000 / CLIP, (gint64)choir_runner_wall_ms());
  return TRUE;
}

static gboolean open_light(ChoirSttEngines *engines, GError **error) {
  ChoirSttOptions options = *engines->options;
  options.model = NULL; /* that is Whisper's */
  if (!engines->light_self)
    engines->light_self = engines->light->open(&options, &engines->light_detail, error);
  return engines->light_self != NULL;
}

static void close_full(ChoirSttEngines *engines) {
  if (engines->full_self)
    engines->full->close(engines->full_self);
  engines->full_self = NULL;
}

/* FALSE with error: it does not run. */
static gboolean open_full(ChoirSttEngines *engines, GError **error) {
  gint64 free_mb = choir_tier_free_mb();
  if (!engines->full) {
    g_set_error(error, g_quark_from_static_string("choir-speech-error"), 0, "this program was built without Whisper");
    return FALSE;
  }
  if (engines->light && free_mb >= 0 && free_mb < WHISPER_MB) {
    g_set_error(error, g_quark_from_static_string("choir-speech-error"), 0,
                "Whisper wants %d MB of free memory and there are %d", WHISPER_MB, (int)free_mb);
    return FALSE;
  }
  engines->full_self = engines->full->open(engines->options, &engines->full_detail, error);
  if (!engines->full_self)
    return FALSE;
  if (!g_str_equal(engines->full->name, "whisper"))
    return TRUE;
  /* The first run also sets everything up, so that the first person need not wait for that. */
  if (measure(engines, never, NULL, error))
    return TRUE;
  close_full(engines);
  return FALSE;
}

gboolean choir_stt_engines_open(ChoirSttEngines *engines, GError **error) {
  g_autoptr(GError) why = NULL;
  gboolean runs = open_full(engines, &why);
  engines->use_full = runs && (!engines->light || choir_tier_is_full(&engines->tier));
  if (engines->use_full)
    return TRUE;
  if (!runs) {
    engines->why = g_strdup(why->message);
    engines->tier.next_ms = -1;
  }
  if (engines->light)
    return open_light(engines, error);
  g_propagate_error(error, g_steal_pointer(&why));
  return FALSE;
}

const ChoirSttEngine *choir_stt_engines_current(const ChoirSttEngines *engines, gpointer *ret_self) {
  *ret_self = engines->use_full ? engines->full_self : engines->light_self;
  return engines->use_full ? engines->full : engines->light;
}

gint64 choir_stt_engines_due(const ChoirSttEngines *engines) {
  return engines->light && engines->full_self ? choir_tier_due(&engines->tier, (gint64)choir_runner_wall_ms()) : -1;
}

void choir_stt_engines_probe(ChoirSttEngines *engines, ChoirSttCancelled cancelled, gpointer user) {
  g_autoptr(GError) error = NULL;
  if (!measure(engines, cancelled, user, &error) && !error)
    return; /* there is work */
  if (error)
    engines->tier.next_ms = -1;
  engines->use_full = choir_tier_is_full(&engines->tier);
  if (!engines->use_full && choir_stt_engines_due(engines) < 0)
    close_full(engines); /* settled: its memory is of better use elsewhere */
}

static char *reason_of(const ChoirSttEngines *engines) {
  if (engines->why)
    return g_strdup_printf("the fixed commands of PocketSphinx, as %s", engines->why);
  if (engines->light)
    return choir_tier_reason(&engines->tier);
  if (engines->tier.best < 0)
    return g_strdup("chosen in the settings");
  return g_strdup_printf("chosen in the settings; %.2f of real time", engines->tier.best);
}

void choir_stt_engines_report(ChoirSttEngines *engines, int fd, guint16 type, double load_ms) {
  gpointer self = NULL;
  const ChoirSttEngine *engine = choir_stt_engines_current(engines, &self);
  g_autofree char *reason = reason_of(engines);
  const char *detail = engines->use_full ? engines->full_detail : engines->light_detail;
  g_autofree char *shown = g_strdup_printf("%s; %s", detail ? detail : engine->name, reason);
  json_t *more = json_pack("{s:s, s:s}", "tier", engines->use_full ? "full" : "light", "reason", reason);
  if (engines->tier.best >= 0)
    json_object_set_new(more, "realtime", json_real(engines->tier.best));
  choir_runner_log("%s: engine %s, %s", type == CHOIR_WIRE_READY ? "ready" : "now", engine->name, shown);
  choir_runner_report(fd, type, engine->name,
                      engines->use_full && engines->options->model ? engines->options->model : "", load_ms, shown,
                      more);
}
