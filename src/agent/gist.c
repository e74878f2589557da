#include "agent/gist.h"
#include <string.h>
#include "base/text.h"

#define WHOLE 240     /* bytes of an output that are said as they are */
#define WHOLE_LINES 3 /* ... in so many lines */
#define NAMED 3       /* first lines that are said of a longer one */
#define NAME 48       /* bytes of each */
#define ABOUT 60
#define NOTE 120

static gboolean is_note(const char *line) {
  gsize length = strlen(line);
  return length > 2 && length <= NOTE && line[0] == '(' && line[length - 1] == ')';
}

/* Lines with something in them, without the notes at the end, which go to ret_notes. */
static GPtrArray *lines_of(const char *text, GString *ret_notes) {
  GPtrArray *lines = g_ptr_array_new_with_free_func(g_free);
  g_auto(GStrv) raw = g_strsplit(text, "\n", -1);
  for (char **one = raw; *one; one++) {
    g_strstrip(*one);
    if (**one)
      g_ptr_array_add(lines, g_strdup(*one));
  }
  while (lines->len > 0 && is_note(lines->pdata[lines->len - 1])) {
    g_autofree char *note = g_strconcat(" ", lines->pdata[lines->len - 1], NULL);
    g_string_prepend(ret_notes, note);
    g_ptr_array_set_size(lines, (gint)lines->len - 1);
  }
  return lines;
}

static char *first_ones(const GPtrArray *lines) {
  g_autoptr(GString) names = g_string_new(NULL);
  for (guint i = 0; i < MIN(NAMED, lines->len); i++) {
    g_autofree char *name = choir_short_line(lines->pdata[i], NAME);
    g_string_append_printf(names, "%s%s", i == 0 ? "" : i + 1 == MIN(NAMED, lines->len) ? " and " : ", ", name);
  }
  return g_strdup(names->str);
}

char *choir_gist(const char *about, const char *text, gboolean cut) {
  g_autofree char *subject = about && *about ? choir_short_line(about, ABOUT) : NULL;
  g_autoptr(GString) notes = g_string_new(NULL);
  g_autoptr(GPtrArray) lines = lines_of(text, notes);
  gsize bytes = 0;
  for (guint i = 0; i < lines->len; i++)
    bytes += strlen(lines->pdata[i]);
  if (lines->len == 0)
    return g_strdup_printf("%s put out nothing.%s", subject ? subject : "It", notes->str);
  if (lines->len <= WHOLE_LINES && bytes <= WHOLE && !cut) {
    g_ptr_array_add(lines, NULL);
    g_autofree char *joined = g_strjoinv("; ", (char **)lines->pdata), *whole = choir_short_line(joined, WHOLE + 16);
    return g_strdup_printf("%s says: %s%s", subject ? subject : "It", whole, notes->str);
  }
  g_autofree char *names = first_ones(lines);
  return g_strdup_printf("%s put out %s%u lines; the first %s %s.%s", subject ? subject : "It", cut ? "more than " : "",
                         lines->len, lines->len > 1 ? "are" : "is", names, notes->str);
}
