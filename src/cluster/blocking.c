#include "cluster/blocking.h"
#include <string.h>

void choir_blocking_init(ChoirBlocking *blocking, guint32 seed) {
  *blocking = (ChoirBlocking){.seed = seed ? seed : 1};
}

char *choir_blocking_path(ChoirBlocking *blocking, const char *path, gint64 now_us) {
  blocking->asked_us = now_us;
  if (blocking->index == 0)
    return g_strdup(path);
  return g_strdup_printf("%s%cindex=%" G_GUINT64_FORMAT "&wait=%us", path, strchr(path, '?') ? '&' : '?',
                         blocking->index, CHOIR_BLOCKING_WAIT_S);
}

guint choir_blocking_answered(ChoirBlocking *blocking, guint64 index, gint64 now_us, gboolean *ret_changed) {
  gboolean failed = blocking->failures > 0;
  blocking->failures = 0;
  *ret_changed = failed || index == 0 || index != blocking->index;
  /* Backwards: the server was restored or rebuilt, and the old index would never be reached again. */
  blocking->index = index < blocking->index ? 0 : index;
  if (index == 0)
    return CHOIR_BLOCKING_POLL_MS;
  gint64 took_ms = (now_us - blocking->asked_us) / 1000;
  return took_ms >= CHOIR_BLOCKING_FLOOR_MS ? 0 : (guint)(CHOIR_BLOCKING_FLOOR_MS - MAX(took_ms, 0));
}

/* xorshift32: reproducible from the seed. */
static guint32 chance(ChoirBlocking *blocking) {
  guint32 x = blocking->seed;
  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  return blocking->seed = x;
}

guint choir_blocking_failed(ChoirBlocking *blocking) {
  guint doublings = MIN(blocking->failures, 5);
  guint base = MIN(CHOIR_BLOCKING_BACKOFF_MS << doublings, CHOIR_BLOCKING_CEILING_MS);
  blocking->failures++;
  blocking->index = 0; /* whether it is back must be known at once, not when something changes there */
  return base - base / 4 + chance(blocking) % (base / 2);
}

void choir_blocking_reset(ChoirBlocking *blocking) {
  blocking->index = 0;
  blocking->failures = 0;
}
