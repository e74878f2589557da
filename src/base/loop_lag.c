#include "base/loop_lag.h"
#include "base/metrics.h"

#define PERIOD_US (100 * G_TIME_SPAN_MILLISECOND)
#define WINDOW 100 /* ticks in the gauge's ten seconds */

typedef struct {
  GSource source;
  gint64 expected_us;
} LagSource;

static const double bounds[] = {0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5};
static ChoirMetric *histogram, *recent;
static double window[WINDOW];
static guint position;

static void note(double lag) {
  choir_histogram_observe(histogram, lag);
  window[position] = lag;
  position = (position + 1) % WINDOW;
  double worst = 0;
  for (guint i = 0; i < WINDOW; i++)
    worst = MAX(worst, window[i]);
  choir_gauge_set(recent, worst);
}

static gboolean lag_dispatch(GSource *source, GSourceFunc callback, gpointer user) {
  LagSource *lag = (LagSource *)source;
  gint64 now = g_get_monotonic_time();
  note((double)MAX(now - lag->expected_us, 0) / G_USEC_PER_SEC);
  /* Counted from now: after a long stall one late tick is reported, not a burst of them. */
  lag->expected_us = now + PERIOD_US;
  g_source_set_ready_time(source, lag->expected_us);
  return G_SOURCE_CONTINUE;
}

static GSourceFuncs lag_funcs = {.dispatch = lag_dispatch};

void choir_loop_lag_start(void) {
  if (histogram != NULL)
    return;
  histogram = choir_histogram("choir_loop_lag_seconds", NULL, "How late the main loop ran a timer.", bounds,
                              G_N_ELEMENTS(bounds));
  recent =
      choir_gauge("choir_loop_lag_recent_seconds", NULL, "Worst lateness of the main loop in the last ten seconds.");
  GSource *source = g_source_new(&lag_funcs, sizeof(LagSource));
  g_source_set_static_name(source, "choir-loop-lag");
  ((LagSource *)source)->expected_us = g_get_monotonic_time() + PERIOD_US;
  g_source_set_ready_time(source, ((LagSource *)source)->expected_us);
  g_source_attach(source, NULL);
  g_source_unref(source);
}

double choir_loop_lag_ms(void) {
  return recent != NULL ? choir_metric_value(recent) * 1000.0 : 0.0;
}
