#include <glib/gstdio.h>
#include <math.h>
#include <string.h>
#include <unistd.h>
#include "base/loop_lag.h"
#include "base/metrics.h"
#include "wait.h"

static void set_on_demand(gpointer user) {
  choir_gauge_set(user, 42);
}

static void fill(void) {
  static const double bounds[] = {0.1, 1, 10};
  choir_counter_add(choir_counter("choir_test_things_total", NULL, "Things \\ with\nodd help."), 3);
  choir_counter_add(choir_counter("choir_test_labelled_total", "kind=\"a\"", "By kind."), 1);
  choir_counter_add(choir_counter("choir_test_labelled_total", "kind=\"b\"", "By kind."), 2);
  choir_gauge_set(choir_gauge("choir_test_level", NULL, "A level."), 0.1);
  ChoirMetric *histogram = choir_histogram("choir_test_seconds", "stage=\"stt\"", "Durations.", bounds, 3);
  static const double values[] = {0.05, 0.1, 0.5, 99};
  for (guint i = 0; i < G_N_ELEMENTS(values); i++)
    choir_histogram_observe(histogram, values[i]);
  choir_histogram_observe(histogram, NAN);
  choir_histogram("choir_test_default_seconds", NULL, "Default bounds.", NULL, 0);
  choir_metrics_on_collect(set_on_demand, choir_gauge("choir_test_on_demand", NULL, "Read when printed."));
}

static void test_text(void) {
  static const char *const wanted[] = {
      "# HELP choir_test_things_total Things \\\\ with\\nodd help.\n# TYPE choir_test_things_total "
      "counter\nchoir_test_things_total 3\n",
      "choir_test_labelled_total{kind=\"a\"} 1\nchoir_test_labelled_total{kind=\"b\"} 2\n",
      "choir_test_level 0.1\n",
      "choir_test_seconds_bucket{stage=\"stt\",le=\"0.1\"} 2\n",
      "choir_test_seconds_bucket{stage=\"stt\",le=\"1\"} 3\n",
      "choir_test_seconds_bucket{stage=\"stt\",le=\"10\"} 3\n",
      "choir_test_seconds_bucket{stage=\"stt\",le=\"+Inf\"} 4\n",
      "choir_test_seconds_sum{stage=\"stt\"} 99.65\nchoir_test_seconds_count{stage=\"stt\"} 4\n",
      "choir_test_on_demand 42\n",
  };
  fill();
  g_autofree char *text = choir_metrics_text();
  for (guint i = 0; i < G_N_ELEMENTS(wanted); i++)
    if (strstr(text, wanted[i]) == NULL)
      g_error("missing:\n%s\nin:\n%s", wanted[i], text);
  g_assert_true(choir_counter("choir_test_things_total", NULL, NULL) ==
                choir_counter("choir_test_things_total", NULL, NULL));
  g_assert_cmpfloat(choir_metric_value(choir_histogram("choir_test_seconds", "stage=\"stt\"", NULL, NULL, 0)), ==, 4);
}

static void test_promtool(void) {
  g_autofree char *promtool = g_find_program_in_path("promtool");
  if (promtool == NULL) {
    g_test_skip("promtool is not installed");
    return;
  }
  choir_gauge_set(choir_gauge("choir_test_infinite", NULL, "No number."), -INFINITY);
  choir_loop_lag_start();
  g_autofree char *text = choir_metrics_text();
  g_autofree char *path = NULL;
  close(g_file_open_tmp("choir-metrics-XXXXXX", &path, NULL));
  g_assert_true(g_file_set_contents(path, text, -1, NULL));
  g_autofree char *command = g_strdup_printf("%s check metrics < %s", promtool, path);
  char *argv[] = {(char *)"sh", (char *)"-c", command, NULL};
  g_autofree char *output = NULL, *errors = NULL;
  int status = 0;
  g_assert_true(g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &output, &errors, &status, NULL));
  g_unlink(path);
  if (status != 0)
    g_error("promtool: %s%s\n%s", output, errors, text);
}

static gpointer add_thread(gpointer counter) {
  for (guint i = 0; i < 100000; i++)
    choir_counter_add(counter, 1);
  return NULL;
}

static void test_threads(void) {
  ChoirMetric *counter = choir_counter("choir_test_atomic_total", NULL, "Added to by threads.");
  GThread *threads[4];
  for (guint i = 0; i < 4; i++)
    threads[i] = g_thread_new("count", add_thread, counter);
  for (guint i = 0; i < 4; i++)
    g_thread_join(threads[i]);
  g_assert_cmpfloat(choir_metric_value(counter), ==, 400000);
}

static void test_loop_lag(void) {
  choir_loop_lag_start();
  choir_loop_lag_start();
  wait_ms(250);
  g_usleep(300000); /* the loop stands still past the next tick */
  wait_ms(20);
  g_assert_cmpfloat(choir_loop_lag_ms(), >=, 150);
  ChoirMetric *histogram = choir_histogram("choir_loop_lag_seconds", NULL, NULL, NULL, 0);
  g_assert_cmpfloat(choir_metric_value(histogram), >=, 2);
}

int main(int argc, char **argv) {
  alarm(60);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/metrics/text", test_text);
  g_test_add_func("/metrics/promtool", test_promtool);
  g_test_add_func("/metrics/threads", test_threads);
  g_test_add_func("/metrics/loop-lag", test_loop_lag);
  return g_test_run();
}
