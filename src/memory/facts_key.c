/* What a fact is about. "My server is called atlas" and "my server's name is zeus" name the same thing: the part before
 * the linking verb, with what kind of value follows. English only; in other languages facts have no key and are never
 * merged or superseded by it. */
#include <string.h>
#include "memory/facts_private.h"

static const char *const links[] = {"is", "are", "was", "were", "am", NULL};
/* "is NAMED atlas", "is IN Berlin": kinds of values that stand beside one another. */
static const char *const kinds[] = {"called", "#name", "named", "#name", "in",   "#in",   "at",   "#at",   "on", "#on",
                                    "from",   "#from", "for",   "#for",  "born", "#born", "with", "#with", NULL};
static const char *const fillers[] = {"the",       "a",    "an",   "now",  "actually", "really",
                                      "currently", "also", "that", "just", NULL};
static const char *const common[] = {
    "a",     "about", "am",     "an",       "and",  "are",   "as",   "at",   "be",   "been", "but",  "by",
    "can",   "could", "did",    "do",       "does", "for",   "from", "had",  "has",  "have", "he",   "her",
    "his",   "how",   "i",      "if",       "in",   "is",    "it",   "its",  "me",   "my",   "of",   "on",
    "or",    "our",   "please", "remember", "s",    "she",   "so",   "t",    "tell", "that", "the",  "their",
    "them",  "then",  "there",  "they",     "this", "to",    "was",  "we",   "were", "what", "when", "where",
    "which", "who",   "why",    "will",     "with", "would", "you",  "your", "m",    "re",   "know", NULL};

static gboolean in(const char *word, const char *const *list) {
  return g_strv_contains(list, word);
}

/* Lower case words; dots, dashes and the like stay inside of one ("10.0.0.5"). */
static GPtrArray *cut(const char *text) {
  g_autofree char *lower = g_utf8_strdown(text, -1);
  GPtrArray *words = g_ptr_array_new_with_free_func(g_free);
  GString *word = g_string_new(NULL);
  for (const char *p = lower;; p = g_utf8_next_char(p)) {
    gunichar c = g_utf8_get_char(p);
    gboolean inside = word->len > 0 && c != 0 && strchr(".-_/:@+#", (int)MIN(c, 127)) &&
                      g_unichar_isalnum(g_utf8_get_char(g_utf8_next_char(p)));
    if (c != 0 && (g_unichar_isalnum(c) || g_unichar_ismark(c) || inside)) {
      g_string_append_unichar(word, c);
    } else if (word->len > 0) {
      g_ptr_array_add(words, g_strdup(word->str));
      g_string_truncate(word, 0);
    }
    if (c == 0)
      break;
  }
  g_string_free(word, TRUE);
  return words;
}

GPtrArray *choir_facts_words(const char *text) {
  GPtrArray *words = cut(text);
  for (guint i = words->len; i-- > 0;)
    if (in(words->pdata[i], common))
      g_ptr_array_remove_index(words, i);
  return words;
}

static const char *kind_of(const char *word) {
  for (gsize i = 0; kinds[i]; i += 2)
    if (g_str_equal(word, kinds[i]))
      return kinds[i + 1];
  return NULL;
}

static guint find_link(const GPtrArray *words) {
  for (guint i = 1; i < words->len; i++)
    if (in(words->pdata[i], links))
      return i;
  return words->len;
}

char *choir_facts_key(const char *text, char **ret_value) {
  g_autoptr(GPtrArray) words = cut(text);
  GString *key = g_string_new(NULL), *value = g_string_new(NULL);
  guint link = find_link(words);
  const char *kind = NULL;
  for (guint i = 0; i < link && link < words->len; i++) {
    const char *word = words->pdata[i];
    if (g_str_equal(word, "name") && i > 0)
      kind = "#name";
    else if (!g_str_equal(word, "s") && !in(word, fillers))
      g_string_append_printf(key, "%s%s", key->len ? " " : "", word);
  }
  guint i = link + 1;
  while (i < words->len && in(words->pdata[i], fillers))
    i++;
  if (!kind && i < words->len && (kind = kind_of(words->pdata[i])))
    i++;
  for (; i < words->len; i++)
    if (!in(words->pdata[i], fillers))
      g_string_append_printf(value, "%s%s", value->len ? " " : "", (char *)words->pdata[i]);
  if (key->len && kind)
    g_string_append_printf(key, " %s", kind);
  if (value->len == 0)
    g_string_truncate(key, 0);
  if (ret_value)
    *ret_value = g_strdup(value->str);
  g_string_free(value, TRUE);
  return g_string_free(key, FALSE);
}
