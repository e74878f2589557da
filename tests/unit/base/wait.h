/* Runs the default main context until a condition holds; fails the test when that takes too long. The times are those
 * of an idle machine; one that is busy with other tests gets five times as long. */
#pragma once
#include <glib.h>
#include <unistd.h>

static inline gboolean wait_tick(gpointer user) {
  return G_SOURCE_CONTINUE;
}

#define WAIT_UNTIL(condition, ms)                                                                                      \
  do {                                                                                                                 \
    guint tick_ = g_timeout_add(5, wait_tick, NULL);                                                                   \
    gint64 end_ = g_get_monotonic_time() + 5 * (ms)*G_TIME_SPAN_MILLISECOND;                                           \
    gboolean met_ = FALSE;                                                                                             \
    while (!(met_ = (condition)) && g_get_monotonic_time() < end_)                                                     \
      g_main_context_iteration(NULL, TRUE);                                                                            \
    g_source_remove(tick_);                                                                                            \
    if (!met_)                                                                                                         \
      g_error("%s:%d: not within %d ms: %s", __FILE__, __LINE__, 5 * (int)(ms), #condition);                           \
  } while (0)

static inline void wait_ms(guint ms) {
  gint64 end = g_get_monotonic_time() + ms * G_TIME_SPAN_MILLISECOND;
  guint tick = g_timeout_add(5, wait_tick, NULL);
  while (g_get_monotonic_time() < end)
    g_main_context_iteration(NULL, TRUE);
  g_source_remove(tick);
}
