/* Monotonic time behind one function, so that tests can own it. Any thread may read; only tests set. */
#pragma once
#include <glib.h>

gint64 choir_clock_us(void);                 /* CLOCK_MONOTONIC in microseconds, or the test's clock */
void choir_clock_set_test_us(gint64 now_us); /* -1 gives the real clock back */
