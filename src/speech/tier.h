/* Which of two engines a machine can afford: the full one, when a fixed clip through it takes less than `limit` of real
 * time, else the light one. The clip is timed in processor time, as other programs at work make that only a little
 * longer; still, the best of up to three probes counts, the later ones minutes apart and while nobody is served: a busy
 * start does not condemn a fast machine. Pure, one thread; times are the caller's. */
#pragma once
#include <glib.h>

typedef struct {
  const char *full, *light; /* names for people: "Piper", "flite" */
  double limit;             /* of real time */
  double best;              /* -1 = never measured */
  guint probes;
  gint64 next_ms; /* when to probe again; -1 = settled */
} ChoirTier;

void choir_tier_init(ChoirTier *tier, const char *full, const char *light, double limit);
/* A probe took ratio of real time at now_ms. */
void choir_tier_take(ChoirTier *tier, double ratio, gint64 now_ms);
gboolean choir_tier_is_full(const ChoirTier *tier);
/* ms until the next probe is due, 0 = now, -1 = never. */
gint64 choir_tier_due(const ChoirTier *tier, gint64 now_ms);
/* "Piper: 0.15 of real time, fast enough". Caller frees. */
char *choir_tier_reason(const ChoirTier *tier);
/* MB of memory that programs could still get, -1 when unknown. */
gint64 choir_tier_free_mb(void);
