#include "base/clock.h"

static gint64 test_now_us = -1;

gint64 choir_clock_us(void) {
  gint64 test = __atomic_load_n(&test_now_us, __ATOMIC_RELAXED);
  return test >= 0 ? test : g_get_monotonic_time();
}

void choir_clock_set_test_us(gint64 now_us) {
  __atomic_store_n(&test_now_us, now_us, __ATOMIC_RELAXED);
}
