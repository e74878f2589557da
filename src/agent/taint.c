#include "agent/taint.h"
#include <string.h>

#define LIMIT (256u << 10)
#define RUN 4 /* characters of a run of words that tell whose it is */

typedef struct {
  char *origin, *words; /* " like this one " */
} Source;

struct ChoirTaint {
  GArray *strangers; /* Source */
  GString *person;
  gsize bytes;
  gboolean full;
};

/* Letters and digits in lower case, everything else one space; a space at both ends. */
static char *normal(const char *text) {
  GString *out = g_string_new(" ");
  for (const char *p = text; *p; p = g_utf8_next_char(p)) {
    gunichar c = g_utf8_get_char(p);
    if (g_unichar_isalnum(c))
      g_string_append_unichar(out, g_unichar_tolower(c));
    else if (out->str[out->len - 1] != ' ')
      g_string_append_c(out, ' ');
  }
  if (out->str[out->len - 1] != ' ')
    g_string_append_c(out, ' ');
  return g_string_free(out, FALSE);
}

static void source_clear(gpointer data) {
  Source *source = data;
  g_free(source->origin);
  g_free(source->words);
}

ChoirTaint *choir_taint_new(void) {
  ChoirTaint *taint = g_new0(ChoirTaint, 1);
  taint->strangers = g_array_new(FALSE, FALSE, sizeof(Source));
  g_array_set_clear_func(taint->strangers, source_clear);
  taint->person = g_string_new(" ");
  return taint;
}

void choir_taint_free(ChoirTaint *taint) {
  if (!taint)
    return;
  g_array_unref(taint->strangers);
  g_string_free(taint->person, TRUE);
  g_free(taint);
}

void choir_taint_person(ChoirTaint *taint, const char *text) {
  g_autofree char *words = normal(text);
  if (taint->person->len + strlen(words) <= LIMIT)
    g_string_append(taint->person, words);
}

void choir_taint_stranger(ChoirTaint *taint, const char *origin, const char *text) {
  Source source = {g_strdup(origin), normal(text)};
  taint->bytes += strlen(source.words);
  taint->full |= taint->bytes > LIMIT;
  if (taint->full)
    source_clear(&source);
  else
    g_array_append_val(taint->strangers, source);
}

gboolean choir_taint_any(const ChoirTaint *taint) {
  return taint && (taint->strangers->len > 0 || taint->full);
}

static const char *origin_of_run(const ChoirTaint *taint, const char *run) {
  if (strstr(taint->person->str, run))
    return NULL;
  for (guint i = 0; i < taint->strangers->len; i++) {
    const Source *source = &g_array_index(taint->strangers, Source, i);
    if (strstr(source->words, run))
      return source->origin;
  }
  return NULL;
}

const char *choir_taint_origin(const ChoirTaint *taint, const char *value) {
  if (!choir_taint_any(taint))
    return NULL;
  if (taint->full)
    return "more text than can be followed";
  g_autofree char *words = normal(value);
  g_auto(GStrv) list = g_strsplit(words + 1, " ", -1); /* ends with "" */
  for (guint first = 0; list[first] && *list[first]; first++) {
    g_autoptr(GString) run = g_string_new(" ");
    for (guint i = first; list[i] && *list[i] && run->len < RUN + 2; i++)
      g_string_append_printf(run, "%s ", list[i]);
    if (run->len < RUN + 2 && first > 0)
      break; /* too short to tell anything, and part of a run before */
    const char *origin = origin_of_run(taint, run->str);
    if (origin)
      return origin;
  }
  return NULL;
}

const char *choir_taint_read(const ChoirTaint *taint) {
  for (guint i = 0; taint && i < taint->strangers->len; i++) {
    const Source *source = &g_array_index(taint->strangers, Source, i);
    if (!g_str_equal(source->origin, CHOIR_TAINT_MEMORY))
      return source->origin;
  }
  return taint && taint->full ? "more text than can be followed" : NULL;
}

const char *choir_taint_reader(const ChoirTaint *taint, const char *value) {
  const char *origin = choir_taint_read(taint);
  g_autofree char *words = origin ? normal(value) : NULL;
  return origin && !g_str_equal(words, " ") && !strstr(taint->person->str, words) ? origin : NULL;
}
