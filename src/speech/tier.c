#include "speech/tier.h"
#include <string.h>

static const gint64 again_ms[] = {60 * 1000, 5 * 60 * 1000}; /* after the first probe, after the second */

void choir_tier_init(ChoirTier *tier, const char *full, const char *light, double limit) {
  *tier = (ChoirTier){.full = full, .light = light, .limit = limit, .best = -1, .next_ms = 0};
}

gboolean choir_tier_is_full(const ChoirTier *tier) {
  return tier->best >= 0 && tier->best < tier->limit;
}

void choir_tier_take(ChoirTier *tier, double ratio, gint64 now_ms) {
  if (tier->best < 0 || ratio < tier->best)
    tier->best = ratio;
  tier->probes++;
  if (choir_tier_is_full(tier) || tier->probes > G_N_ELEMENTS(again_ms))
    tier->next_ms = -1;
  else
    tier->next_ms = now_ms + again_ms[tier->probes - 1];
}

gint64 choir_tier_due(const ChoirTier *tier, gint64 now_ms) {
  return tier->next_ms < 0 ? -1 : MAX(tier->next_ms - now_ms, 0);
}

char *choir_tier_reason(const ChoirTier *tier) {
  if (tier->best < 0)
    return g_strdup_printf("%s was not measured", tier->full);
  if (choir_tier_is_full(tier))
    return g_strdup_printf("%s: %.2f of real time, fast enough", tier->full, tier->best);
  return g_strdup_printf("%s: %.2f of real time, too slow here (the limit is %.1f)%s; so %s", tier->full, tier->best,
                         tier->limit, tier->next_ms >= 0 ? ", measured again later" : "", tier->light);
}

gint64 choir_tier_free_mb(void) {
  g_autofree char *text = NULL;
  if (!g_file_get_contents("/proc/meminfo", &text, NULL, NULL))
    return -1;
  const char *line = strstr(text, "MemAvailable:");
  return line ? g_ascii_strtoll(line + strlen("MemAvailable:"), NULL, 10) / 1024 : -1;
}
