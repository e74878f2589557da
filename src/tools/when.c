#include "tools/when.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
  const char *name;
  double value;
} numbers[] = {{"a", 1},          {"an", 1},      {"one", 1},      {"two", 2},     {"three", 3},   {"four", 4},
               {"five", 5},       {"six", 6},     {"seven", 7},    {"eight", 8},   {"nine", 9},    {"ten", 10},
               {"eleven", 11},    {"twelve", 12}, {"fifteen", 15}, {"twenty", 20}, {"thirty", 30}, {"forty", 40},
               {"fortyfive", 45}, {"fifty", 50},  {"sixty", 60},   {"ninety", 90}, {"half", 0.5},  {"quarter", 0.25}};
static const struct {
  const char *name;
  guint seconds;
} units[] = {{"second", 1},  {"sec", 1},   {"s", 1},    {"minute", 60}, {"min", 60},  {"m", 60},
             {"hour", 3600}, {"hr", 3600}, {"h", 3600}, {"day", 86400}, {"d", 86400}, {"week", 604800}};

/* Letters and numbers apart, in lower case: "90s" is "90" "s", "5:15pm" is "5:15" "pm". */
static GStrv words_of(const char *text) {
  g_autoptr(GString) out = g_string_new(NULL);
  char last = ' ';
  for (const char *p = text; *p; p++) {
    char c = g_ascii_tolower(*p);
    gboolean digit = g_ascii_isdigit(c) || ((c == ':' || c == '.' || c == '-') && g_ascii_isdigit(last)),
             alpha = g_ascii_isalpha(c);
    gboolean was_digit = g_ascii_isdigit(last) || last == ':' || last == '-';
    if (out->len > 0 && last != ' ' && ((digit && g_ascii_isalpha(last)) || (alpha && was_digit)))
      g_string_append_c(out, ' ');
    last = digit || alpha ? c : ' ';
    g_string_append_c(out, last);
  }
  g_auto(GStrv) raw = g_strsplit_set(out->str, " ", -1);
  g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
  for (guint i = 0; raw[i]; i++)
    if (*raw[i])
      g_strv_builder_add(builder, raw[i]);
  return g_strv_builder_end(builder);
}

static gboolean number_of(const char *word, double *ret_value) {
  char *end;
  if (g_ascii_isdigit(*word)) {
    *ret_value = g_ascii_strtod(word, &end);
    return *end == '\0';
  }
  for (gsize i = 0; i < G_N_ELEMENTS(numbers); i++)
    if (g_str_equal(numbers[i].name, word)) {
      *ret_value = numbers[i].value;
      return TRUE;
    }
  return FALSE;
}

static guint unit_of(const char *word) {
  for (gsize i = 0; i < G_N_ELEMENTS(units); i++) {
    gsize length = strlen(units[i].name);
    if (strncmp(word, units[i].name, length) == 0 && (word[length] == '\0' || g_str_equal(word + length, "s")))
      return units[i].seconds;
  }
  return 0;
}

guint choir_when_duration(const char *text) {
  g_auto(GStrv) words = words_of(text);
  double total = 0, value, pending = -1;
  guint last_unit = 0;
  for (guint i = 0; words[i]; i++) {
    guint unit = unit_of(words[i]);
    if (unit > 0 && pending >= 0) {
      total += pending * unit;
      last_unit = unit;
      pending = -1;
    } else if (number_of(words[i], &value)) {
      gboolean article = g_str_equal(words[i], "a") || g_str_equal(words[i], "an");
      if (article && pending >= 0)
        continue; /* "half an hour" */
      if (pending == 1 && value < 1)
        pending = value; /* "a half", "a quarter" */
      else
        pending = pending >= 20 && value < 10 ? pending + value : value; /* "twenty five" */
    } else if (!g_str_equal(words[i], "and") && !g_str_equal(words[i], "of") && !g_str_equal(words[i], "in") &&
               !g_str_equal(words[i], "for")) {
      return 0;
    }
  }
  if (pending >= 0 && pending < 1 && last_unit > 0)
    total += pending * last_unit; /* "an hour and a half" */
  else if (pending >= 0)
    return 0; /* a number without a unit */
  return total >= 1 && total <= 366.0 * 86400 ? (guint)(total + 0.5) : 0;
}

typedef struct {
  int hour, minute;
  gboolean half_day; /* am or pm was not said */
} Clock;

static gboolean clock_of(const char *word, const char *next, Clock *ret_clock) {
  Clock clock = {0};
  char *end;
  if (g_str_equal(word, "noon") || g_str_equal(word, "midday"))
    clock.hour = 12;
  else if (g_str_equal(word, "midnight"))
    clock.hour = 0;
  else if (g_ascii_isdigit(*word)) {
    clock.hour = (int)strtol(word, &end, 10);
    gboolean minutes = *end == ':' || *end == '.';
    clock.minute = minutes ? (int)strtol(end + 1, &end, 10) : 0;
    if (*end != '\0')
      return FALSE;
    gboolean am = g_strcmp0(next, "am") == 0 || g_strcmp0(next, "a") == 0;
    gboolean pm = g_strcmp0(next, "pm") == 0 || g_strcmp0(next, "p") == 0;
    if ((am || pm) && (clock.hour < 1 || clock.hour > 12))
      return FALSE;
    if (am || pm)
      clock.hour = clock.hour % 12 + (pm ? 12 : 0);
    clock.half_day = !am && !pm && !minutes && clock.hour >= 1 && clock.hour <= 12;
  } else {
    double value;
    if (!number_of(word, &value) || value < 1 || value > 12 || value != (int)value || g_str_equal(word, "a"))
      return FALSE;
    clock.hour = (int)value;
    gboolean pm = g_strcmp0(next, "pm") == 0, am = g_strcmp0(next, "am") == 0;
    if (am || pm)
      clock.hour = clock.hour % 12 + (pm ? 12 : 0);
    clock.half_day = !am && !pm;
  }
  *ret_clock = clock;
  return clock.hour >= 0 && clock.hour < 24 && clock.minute >= 0 && clock.minute < 60;
}

static gint64 next_moment(const Clock *clock, GDateTime *day, GDateTime *now, gboolean fixed_day) {
  for (int step = 0; step < 3; step++) {
    int hours = clock->half_day ? 12 * (step % 2) : 0, days = clock->half_day ? step / 2 : step;
    g_autoptr(GDateTime) base = g_date_time_add_days(day, fixed_day ? 0 : days);
    g_autoptr(GDateTime) at =
        g_date_time_new(g_date_time_get_timezone(now), g_date_time_get_year(base), g_date_time_get_month(base),
                        g_date_time_get_day_of_month(base), (clock->hour + hours) % 24, clock->minute, 0);
    if (at && g_date_time_compare(at, now) > 0)
      return g_date_time_to_unix(at);
    if (fixed_day && !clock->half_day)
      return 0;
  }
  return 0;
}

gint64 choir_when_moment(const char *text, GDateTime *now) {
  g_autoptr(GDateTime) day = g_date_time_ref(now);
  g_auto(GStrv) words = words_of(text);
  gboolean fixed = FALSE;
  Clock clock;
  for (guint i = 0; words[i]; i++) {
    int y, m, d;
    if (sscanf(words[i], "%4d-%2d-%2d", &y, &m, &d) == 3) {
      GDateTime *named = g_date_time_new(g_date_time_get_timezone(now), y, m, d, 0, 0, 0);
      if (!named)
        return 0;
      g_date_time_unref(day);
      day = named;
      fixed = TRUE;
    } else if (g_str_equal(words[i], "tomorrow")) {
      GDateTime *next = g_date_time_add_days(now, 1);
      g_date_time_unref(day);
      day = next;
      fixed = TRUE;
    } else if (clock_of(words[i], words[i + 1], &clock)) {
      if (fixed)
        clock.half_day = FALSE;
      return next_moment(&clock, day, now, fixed);
    } else if (!g_str_equal(words[i], "at") && !g_str_equal(words[i], "today") && !g_str_equal(words[i], "on")) {
      return 0;
    }
  }
  return 0;
}

char *choir_when_say(gint64 seconds) {
  static const struct {
    gint64 seconds;
    const char *name;
  } parts[] = {{86400, "day"}, {3600, "hour"}, {60, "minute"}, {1, "second"}};
  GString *out = g_string_new(NULL);
  guint said = 0;
  for (gsize i = 0; i < G_N_ELEMENTS(parts) && said < 2; i++) {
    gint64 n = seconds / parts[i].seconds;
    seconds %= parts[i].seconds;
    if (n == 0)
      continue;
    g_string_append_printf(out, "%s%" G_GINT64_FORMAT " %s%s", said ? " " : "", n, parts[i].name, n == 1 ? "" : "s");
    said++;
  }
  if (said == 0)
    g_string_append(out, "0 seconds");
  return g_string_free(out, FALSE);
}
