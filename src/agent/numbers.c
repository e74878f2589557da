#include "agent/numbers.h"
#include <string.h>

#define MAX_DIGITS 9

static const struct {
  const char *cardinal, *ordinal;
  gint64 value;
} words[] = {{"zero", "zeroth", 0},
             {"one", "first", 1},
             {"two", "second", 2},
             {"three", "third", 3},
             {"four", "fourth", 4},
             {"five", "fifth", 5},
             {"six", "sixth", 6},
             {"seven", "seventh", 7},
             {"eight", "eighth", 8},
             {"nine", "ninth", 9},
             {"ten", "tenth", 10},
             {"eleven", "eleventh", 11},
             {"twelve", "twelfth", 12},
             {"thirteen", "thirteenth", 13},
             {"fourteen", "fourteenth", 14},
             {"fifteen", "fifteenth", 15},
             {"sixteen", "sixteenth", 16},
             {"seventeen", "seventeenth", 17},
             {"eighteen", "eighteenth", 18},
             {"nineteen", "nineteenth", 19},
             {"twenty", "twentieth", 20},
             {"thirty", "thirtieth", 30},
             {"forty", "fortieth", 40},
             {"fifty", "fiftieth", 50},
             {"sixty", "sixtieth", 60},
             {"seventy", "seventieth", 70},
             {"eighty", "eightieth", 80},
             {"ninety", "ninetieth", 90},
             {"hundred", "hundredth", 100},
             {"thousand", "thousandth", 1000}};

gboolean choir_number_read(const char *word, gint64 *ret_number) {
  gsize digits = strspn(word, "0123456789");
  if (digits > 0) {
    const char *rest = word + digits;
    gboolean ordinal =
        g_str_equal(rest, "st") || g_str_equal(rest, "nd") || g_str_equal(rest, "rd") || g_str_equal(rest, "th");
    if (digits > MAX_DIGITS || (*rest && !ordinal))
      return FALSE;
    *ret_number = g_ascii_strtoll(word, NULL, 10);
    return TRUE;
  }
  for (gsize i = 0; i < G_N_ELEMENTS(words); i++)
    if (g_ascii_strcasecmp(word, words[i].cardinal) == 0 || g_ascii_strcasecmp(word, words[i].ordinal) == 0) {
      *ret_number = words[i].value;
      return TRUE;
    }
  return FALSE;
}

/* Does "sixty" go on with "five", "one" with "hundred"? */
static gboolean join(gint64 *number, gint64 last, gint64 next) {
  if (next == 100 && *number > 0 && *number < 100)
    *number *= 100;
  else if (next == 1000 && *number > 0 && *number < 1000)
    *number *= 1000;
  else if ((last >= 20 && last < 100 && last % 10 == 0 && next > 0 && next < 10) ||
           ((last == 100 || last == 1000) && next > 0 && next < last))
    *number += next;
  else
    return FALSE;
  return TRUE;
}

guint choir_numbers_in(const char *text, gint64 *ret_numbers, guint most) {
  g_auto(GStrv) parts = g_strsplit_set(text, " \t\r\n.,;:!?\"()-", -1);
  guint n = 0;
  gint64 last = -1, value;
  for (guint i = 0; parts[i]; i++) {
    if (!*parts[i] || (last >= 100 && g_ascii_strcasecmp(parts[i], "and") == 0))
      continue;
    if (!choir_number_read(parts[i], &value)) {
      last = -1;
      continue;
    }
    gboolean said = !g_ascii_isdigit(*parts[i]);
    if (!(said && last >= 0 && n > 0 && n <= most && join(&ret_numbers[n - 1], last, value))) {
      if (n == most)
        break;
      ret_numbers[n++] = value;
    }
    last = said ? value : -1;
  }
  return n;
}
