#include "base/metrics.h"
#include <math.h>
#include <string.h>

typedef enum { COUNTER, GAUGE, HISTOGRAM } Kind;

struct ChoirMetric {
  char *labels; /* without braces, "" for none */
  Kind kind;
  guint64 count; /* counter, or a histogram's number of observations */
  double value;  /* gauge, or a histogram's sum */
  double *bounds;
  guint64 *buckets; /* not cumulative; n_bounds + 1 of them */
  gsize n_bounds;
};

typedef struct {
  char *name, *help;
  Kind kind;
  GPtrArray *series; /* ChoirMetric */
} Family;

typedef struct {
  void (*collect)(gpointer user);
  gpointer user;
} Collector;

static GPtrArray *families; /* in order of registration */
static GHashTable *by_name; /* name -> Family */
static GArray *collectors;

static const double latency_bounds[] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 20, 60};

static gboolean name_is_valid(const char *name) {
  for (const char *c = name; *c != '\0'; c++)
    if (!g_ascii_isalpha(*c) && *c != '_' && *c != ':' && !(c != name && g_ascii_isdigit(*c)))
      return FALSE;
  return *name != '\0';
}

static ChoirMetric *metric_get(Kind kind, const char *name, const char *labels, const char *help) {
  if (families == NULL) {
    families = g_ptr_array_new();
    by_name = g_hash_table_new(g_str_hash, g_str_equal);
  }
  Family *family = g_hash_table_lookup(by_name, name);
  if (family == NULL) {
    g_assert(name_is_valid(name));
    family = g_new0(Family, 1);
    *family = (Family){g_strdup(name), g_strdup(help != NULL ? help : name), kind, g_ptr_array_new()};
    g_ptr_array_add(families, family);
    g_hash_table_insert(by_name, family->name, family);
  }
  g_assert(family->kind == kind); /* one name, one kind: anything else prints an invalid page */
  labels = labels != NULL ? labels : "";
  for (guint i = 0; i < family->series->len; i++) {
    ChoirMetric *metric = g_ptr_array_index(family->series, i);
    if (strcmp(metric->labels, labels) == 0)
      return metric;
  }
  ChoirMetric *metric = g_new0(ChoirMetric, 1);
  metric->labels = g_strdup(labels);
  metric->kind = kind;
  g_ptr_array_add(family->series, metric);
  return metric;
}

ChoirMetric *choir_counter(const char *name, const char *labels, const char *help) {
  return metric_get(COUNTER, name, labels, help);
}

ChoirMetric *choir_gauge(const char *name, const char *labels, const char *help) {
  return metric_get(GAUGE, name, labels, help);
}

ChoirMetric *choir_histogram(const char *name, const char *labels, const char *help, const double *bounds, gsize n) {
  ChoirMetric *metric = metric_get(HISTOGRAM, name, labels, help);
  if (metric->buckets != NULL)
    return metric;
  if (bounds == NULL) {
    bounds = latency_bounds;
    n = G_N_ELEMENTS(latency_bounds);
  }
  metric->bounds = g_memdup2(bounds, n * sizeof *bounds);
  metric->buckets = g_new0(guint64, n + 1);
  metric->n_bounds = n;
  return metric;
}

void choir_counter_add(ChoirMetric *metric, guint64 n) {
  __atomic_fetch_add(&metric->count, n, __ATOMIC_RELAXED);
}

void choir_gauge_set(ChoirMetric *metric, double value) {
  metric->value = value;
}

void choir_histogram_observe(ChoirMetric *metric, double value) {
  if (isnan(value))
    return; /* would poison the sum for ever */
  gsize bucket = 0;
  while (bucket < metric->n_bounds && value > metric->bounds[bucket])
    bucket++;
  metric->buckets[bucket]++;
  metric->count++;
  metric->value += value;
}

double choir_metric_value(const ChoirMetric *metric) {
  return metric->kind == GAUGE ? metric->value : (double)__atomic_load_n(&metric->count, __ATOMIC_RELAXED);
}

void choir_metrics_on_collect(void (*collect)(gpointer user), gpointer user) {
  if (collectors == NULL)
    collectors = g_array_new(FALSE, FALSE, sizeof(Collector));
  Collector collector = {collect, user};
  g_array_append_val(collectors, collector);
}

static void append_number(GString *text, double value) {
  char digits[G_ASCII_DTOSTR_BUF_SIZE];
  if (isnan(value) || isinf(value)) {
    g_string_append(text, isnan(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf");
    return;
  }
  /* The shortest of the two that reads back as the same number. */
  g_ascii_formatd(digits, sizeof digits, "%.15g", value);
  if (g_ascii_strtod(digits, NULL) != value)
    g_ascii_formatd(digits, sizeof digits, "%.17g", value);
  g_string_append(text, digits);
}

static void append_sample(GString *text, const char *name, const char *suffix, const char *labels, const char *le) {
  g_string_append(text, name);
  g_string_append(text, suffix);
  gboolean both = *labels != '\0' && le != NULL;
  if (*labels != '\0' || le != NULL) {
    g_string_append_c(text, '{');
    g_string_append(text, labels);
    if (le != NULL)
      g_string_append_printf(text, "%sle=\"%s\"", both ? "," : "", le);
    g_string_append_c(text, '}');
  }
  g_string_append_c(text, ' ');
}

static void append_histogram(GString *text, const char *name, const ChoirMetric *metric) {
  guint64 cumulative = 0;
  for (gsize i = 0; i <= metric->n_bounds; i++) {
    g_autoptr(GString) le = g_string_new(NULL);
    append_number(le, i < metric->n_bounds ? metric->bounds[i] : INFINITY);
    cumulative += metric->buckets[i];
    append_sample(text, name, "_bucket", metric->labels, le->str);
    g_string_append_printf(text, "%" G_GUINT64_FORMAT "\n", cumulative);
  }
  append_sample(text, name, "_sum", metric->labels, NULL);
  append_number(text, metric->value);
  append_sample(g_string_append_c(text, '\n'), name, "_count", metric->labels, NULL);
  g_string_append_printf(text, "%" G_GUINT64_FORMAT "\n", cumulative);
}

static void append_family(GString *text, const Family *family) {
  static const char *const kinds[] = {"counter", "gauge", "histogram"};
  g_string_append_printf(text, "# HELP %s ", family->name);
  for (const char *c = family->help; *c != '\0'; c++) {
    if (*c == '\\' || *c == '\n')
      g_string_append(text, *c == '\n' ? "\\n" : "\\\\");
    else
      g_string_append_c(text, *c);
  }
  g_string_append_printf(text, "\n# TYPE %s %s\n", family->name, kinds[family->kind]);
  for (guint i = 0; i < family->series->len; i++) {
    const ChoirMetric *metric = g_ptr_array_index(family->series, i);
    if (metric->kind == HISTOGRAM) {
      append_histogram(text, family->name, metric);
      continue;
    }
    append_sample(text, family->name, "", metric->labels, NULL);
    if (metric->kind == GAUGE)
      append_number(text, metric->value);
    else
      g_string_append_printf(text, "%" G_GUINT64_FORMAT, __atomic_load_n(&metric->count, __ATOMIC_RELAXED));
    g_string_append_c(text, '\n');
  }
}

char *choir_metrics_text(void) {
  for (guint i = 0; collectors != NULL && i < collectors->len; i++) {
    Collector collector = g_array_index(collectors, Collector, i);
    collector.collect(collector.user);
  }
  GString *text = g_string_new(NULL);
  for (guint i = 0; families != NULL && i < families->len; i++)
    append_family(text, g_ptr_array_index(families, i));
  return g_string_free(text, FALSE);
}
