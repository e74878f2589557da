/* Metrics: counters, gauges and histograms, printed in the Prometheus text format 0.0.4 (checked by promtool).
 * Main thread only, except choir_counter_add(), which is atomic. Metrics live as long as the process. */
#pragma once
#include <glib.h>

typedef struct ChoirMetric ChoirMetric;

/* name: choir_<area>_<what>_<unit|total>. labels: "stage=\"stt\"" or NULL. The same name and labels give the same
 * metric. */
ChoirMetric *choir_counter(const char *name, const char *labels, const char *help);
ChoirMetric *choir_gauge(const char *name, const char *labels, const char *help);
/* bounds: ascending, n of them; +Inf is added. NULL gives latency bounds in seconds, 5 ms to 60 s. */
ChoirMetric *choir_histogram(const char *name, const char *labels, const char *help, const double *bounds, gsize n);
void choir_counter_add(ChoirMetric *metric, guint64 n);
void choir_gauge_set(ChoirMetric *metric, double value);
void choir_histogram_observe(ChoirMetric *metric, double value);
double choir_metric_value(const ChoirMetric *metric); /* counter, gauge, or a histogram's count */
/* Called before each print; for gauges that are read on demand (RSS, queue lengths). */
void choir_metrics_on_collect(void (*collect)(gpointer user), gpointer user);
char *choir_metrics_text(void); /* caller frees */
