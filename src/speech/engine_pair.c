#include "speech/engine_pair.h"
#include "speech/runner.h"
#include "speech/tier.h"

#define SPEECH_ERROR g_quark_from_static_string("choir-speech-error")

typedef struct {
  gconstpointer engine; /* NULL: not in this build, or not automatic */
  gpointer self;        /* NULL: not open */
  char *detail;
} Side;

struct ChoirEnginePair {
  const ChoirEngineKind *kind;
  gconstpointer options;
  const char *model;
  Side full, light;
  const char *full_name;
  char *why; /* the full one cannot run at all */
  ChoirTier tier;
  GMutex mutex; /* guards current, and what it is against being closed */
  const Side *current;
};

static const ChoirEngineRow *row_named(const ChoirEngineKind *kind, const char *name) {
  for (gsize i = 0; i < kind->n; i++)
    if (g_str_equal(kind->rows[i].name, name))
      return &kind->rows[i];
  return NULL;
}

gconstpointer choir_engine_named(const ChoirEngineKind *kind, const char *name) {
  const ChoirEngineRow *row = row_named(kind, name);
  return row ? row->engine : NULL;
}

ChoirEnginePair *choir_engine_pair_new(const ChoirEngineKind *kind, const char *name, gconstpointer options,
                                       const char *model, GError **error) {
  gboolean automatic = g_str_equal(name, "auto");
  gconstpointer full = choir_engine_named(kind, automatic ? kind->full : name),
                light = automatic ? choir_engine_named(kind, kind->light) : NULL;
  if (!full && !light) {
    g_autoptr(GString) list = g_string_new("auto");
    for (gsize i = 0; i < kind->n; i++)
      g_string_append_printf(list, ", %s", kind->rows[i].name);
    g_set_error(error, SPEECH_ERROR, 0, "no engine '%s' in this build; choose from %s", name, list->str);
    return NULL;
  }
  ChoirEnginePair *pair = g_new0(ChoirEnginePair, 1);
  pair->kind = kind;
  pair->options = options;
  pair->model = model ? model : "";
  pair->full.engine = full;
  pair->light.engine = light;
  pair->full_name = automatic ? kind->full : row_named(kind, name)->name;
  g_mutex_init(&pair->mutex);
  choir_tier_init(&pair->tier, kind->title, kind->stands_in, kind->limit);
  return pair;
}

static void work_with(ChoirEnginePair *pair, const Side *side) {
  g_mutex_lock(&pair->mutex);
  pair->current = side;
  g_mutex_unlock(&pair->mutex);
}

static gboolean is_full(const ChoirEnginePair *pair) {
  return pair->current == &pair->full;
}

static gboolean open_side(ChoirEnginePair *pair, Side *side, GError **error) {
  if (!side->self)
    side->self = pair->kind->open(side->engine, side == &pair->light, pair->options, &side->detail, error);
  return side->self != NULL;
}

static void close_full(ChoirEnginePair *pair) {
  gpointer self = pair->full.self;
  pair->full.self = NULL;
  if (self)
    pair->kind->close(pair->full.engine, self);
}

/* FALSE with error, or without when cancelled. */
static gboolean measure(ChoirEnginePair *pair, gboolean (*cancelled)(gpointer user), gpointer user, GError **error) {
  double ratio = 0;
  if (!pair->kind->measure(pair->full.engine, pair->full.self, pair->options, cancelled, user, &ratio, error))
    return FALSE;
  choir_tier_take(&pair->tier, ratio, (gint64)choir_runner_wall_ms());
  return TRUE;
}

static gboolean never(gpointer user) {
  return FALSE;
}

/* FALSE with error: it does not run. */
static gboolean open_full(ChoirEnginePair *pair, GError **error) {
  const ChoirEngineKind *kind = pair->kind;
  gint64 free_mb = choir_tier_free_mb();
  if (!pair->full.engine) {
    g_set_error(error, SPEECH_ERROR, 0, "this program was built without %s", kind->title);
    return FALSE;
  }
  if (pair->light.engine && free_mb >= 0 && free_mb < kind->free_mb) {
    g_set_error(error, SPEECH_ERROR, 0, "%s wants %d MB of free memory and there are %d", kind->title, kind->free_mb,
                (int)free_mb);
    return FALSE;
  }
  if (!open_side(pair, &pair->full, error))
    return FALSE;
  /* Only the full one is worth measuring. The first run also sets everything up, so that the first person need not wait
   * for that. */
  if (!g_str_equal(pair->full_name, kind->full) || measure(pair, never, NULL, error))
    return TRUE;
  if (error && !*error)
    g_set_error(error, SPEECH_ERROR, 0, "%s made nothing of the clip it was measured with", kind->title);
  close_full(pair);
  return FALSE;
}

gboolean choir_engine_pair_open(ChoirEnginePair *pair, GError **error) {
  g_autoptr(GError) why = NULL;
  gboolean runs = open_full(pair, &why);
  if (runs && (!pair->light.engine || choir_tier_is_full(&pair->tier))) {
    work_with(pair, &pair->full);
    return TRUE;
  }
  if (!runs && !pair->light.engine) {
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
  }
  if (!runs) {
    pair->why = g_strdup(why->message);
    pair->tier.next_ms = -1;
  }
  if (!open_side(pair, &pair->light, error))
    return FALSE;
  work_with(pair, &pair->light);
  return TRUE;
}

gconstpointer choir_engine_pair_current(const ChoirEnginePair *pair, gpointer *ret_self) {
  *ret_self = pair->current->self;
  return pair->current->engine;
}

void choir_engine_pair_tell(ChoirEnginePair *pair, void (*call)(gconstpointer engine, gpointer self)) {
  g_mutex_lock(&pair->mutex);
  if (pair->current)
    call(pair->current->engine, pair->current->self);
  g_mutex_unlock(&pair->mutex);
}

gint64 choir_engine_pair_due(const ChoirEnginePair *pair) {
  return pair->light.engine && pair->full.self ? choir_tier_due(&pair->tier, (gint64)choir_runner_wall_ms()) : -1;
}

void choir_engine_pair_probe(ChoirEnginePair *pair, gboolean (*cancelled)(gpointer user), gpointer user) {
  g_autoptr(GError) error = NULL;
  if (!measure(pair, cancelled, user, &error) && !error)
    return; /* there is work */
  if (error)
    pair->tier.next_ms = -1;
  gboolean full = choir_tier_is_full(&pair->tier);
  work_with(pair, full ? &pair->full : &pair->light);
  if (!full && choir_engine_pair_due(pair) < 0)
    close_full(pair); /* settled: its memory is of better use elsewhere */
}

static char *reason_of(const ChoirEnginePair *pair) {
  if (pair->why)
    return g_strdup_printf("%s, as %s", pair->kind->stands_in, pair->why);
  if (pair->light.engine)
    return choir_tier_reason(&pair->tier);
  if (pair->tier.best < 0)
    return g_strdup("chosen in the settings");
  return g_strdup_printf("chosen in the settings; %.2f of real time", pair->tier.best);
}

void choir_engine_pair_report(const ChoirEnginePair *pair, int fd, guint16 type, double load_ms) {
  const gboolean full = is_full(pair);
  const char *name = full ? pair->full_name : pair->kind->light;
  g_autofree char *reason = reason_of(pair);
  const char *detail = pair->current->detail;
  g_autofree char *shown = g_strdup_printf("%s; %s", detail ? detail : name, reason);
  json_t *more = json_pack("{s:s, s:s}", "tier", full ? "full" : "light", "reason", reason);
  if (pair->tier.best >= 0)
    json_object_set_new(more, "realtime", json_real(pair->tier.best));
  choir_runner_log("%s: engine %s, %s", type == CHOIR_WIRE_READY ? "ready" : "now", name, shown);
  choir_runner_report(fd, type, name, full ? pair->model : "", load_ms, shown, more);
}
