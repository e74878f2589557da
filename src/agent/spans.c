#include "agent/spans.h"
#include <string.h>
#include "agent/align.h"
#include "agent/numbers.h"
#include "base/text.h"

#define SPAN_WORDS 16
#define SPANS_MAX 250
#define SPAN_BYTES 600          /* as much as the model is shown of what was said (call.c) */
#define SPANS_BYTES (10 * 1024) /* as a grammar writes them: three such lists are one (CHOIR_CALL_MAX_GRAMMAR) */
#define NUMBERS_MAX 8
#define COPIED_BY 2 /* examples that must do so */

/* Closed classes of English words that never end, or never begin, a phrase. */
static const char *const no_end[] = {"a",   "an", "the",  "to",   "at",     "in",   "on",   "of", "for", "and",  "or",
                                     "by",  "my", "your", "our",  "from",   "with", "that", "is", "as",  "into", "his",
                                     "her", "me", "i",    "than", "please", "this", "and",  "it", NULL};
static const char *const no_begin[] = {"and", "or", "of", "please", "then", "but", "is", "than", NULL};

static gboolean is_in(const char *const *list, const char *word) {
  g_autofree char *lower = g_ascii_strdown(word, -1);
  lower[strcspn(lower, ".,;:!?\"()")] = '\0';
  return g_strv_contains(list, lower);
}

/* What a span takes of a grammar: its own bytes, a quote and a backslash with theirs, the rule around it. */
static gsize cost(const char *span) {
  gsize bytes = 16;
  for (; *span; span++)
    bytes += *span == '"' || *span == '\\' ? 4 : (guchar)*span < 0x20 ? 7 : 1;
  return bytes;
}

json_t *choir_spans(const char *text, gsize most) {
  most = MIN(most, SPAN_BYTES);
  g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  g_auto(GStrv) raw = g_strsplit_set(text, " \t\r\n", -1);
  g_autoptr(GPtrArray) words = g_ptr_array_new();
  json_t *list = json_array();
  gsize bytes = 0;
  for (guint i = 0; raw[i]; i++)
    if (*raw[i])
      g_ptr_array_add(words, raw[i]);
  for (guint length = 1; length <= MIN(SPAN_WORDS, words->len); length++)
    for (guint first = 0; first + length <= words->len && json_array_size(list) < SPANS_MAX; first++) {
      if (is_in(no_begin, words->pdata[first]) || is_in(no_end, words->pdata[first + length - 1]))
        continue;
      g_autoptr(GString) span = g_string_new(NULL);
      for (guint i = first; i < first + length; i++)
        g_string_append_printf(span, "%s%s", i > first ? " " : "", (char *)words->pdata[i]);
      while (span->len > 0 && strchr(".,;:!?\"", span->str[span->len - 1]))
        g_string_truncate(span, span->len - 1);
      gsize skip = strspn(span->str, "\"");
      const char *start = span->str + skip;
      if (span->len > skip && span->len - skip <= most && bytes + cost(start) <= SPANS_BYTES &&
          !g_hash_table_contains(seen, start)) {
        bytes += cost(start);
        g_hash_table_add(seen, g_strdup(start));
        json_array_append_new(list, json_string(start));
      }
    }
  return list;
}

/* Where nothing in it stands alone (a mark, a word that is too long): all that was said, as much as fits. */
static json_t *all_of(const char *text, gsize most) {
  const char *end = NULL;
  g_utf8_validate(text, (gssize)MIN(MIN(most, SPAN_BYTES), strlen(text)), &end);
  g_autofree char *whole = g_strstrip(g_strndup(text, (gsize)(end - text)));
  return *whole ? json_pack("[s]", whole) : json_array();
}

static gboolean is_required(const json_t *schema, const char *key) {
  size_t i;
  json_t *name;
  json_array_foreach(json_object_get(schema, "required"), i, name) {
    if (g_strcmp0(json_string_value(name), key) == 0)
      return TRUE;
  }
  return FALSE;
}

static gboolean is_key(const ChoirSpanShots *shots, const char *key) {
  for (guint i = 0; i < shots->n_near; i++) {
    json_auto_t *json = choir_json_parse(shots->near[i]->args, strlen(shots->near[i]->args), NULL);
    if (json_object_get(json, key))
      return TRUE;
  }
  return FALSE;
}

/* In the nearest examples a free text is just words of what was said. */
static gboolean is_copied_now(const ChoirSpanShots *shots, const char *key, const json_t *property) {
  guint n = MIN(shots->n_near, COPIED_BY), copied = 0;
  if (strcmp(choir_json_string(property, "type", ""), "string") != 0)
    return FALSE;
  for (guint i = 0; i < n; i++)
    copied += choir_align_is_copied(shots->near[i], key);
  return n == COPIED_BY && copied == n;
}

static json_t *said_numbers(const json_t *property, const char *text) {
  gint64 numbers[NUMBERS_MAX];
  guint n = choir_numbers_in(text, numbers, NUMBERS_MAX);
  gint64 low = choir_json_int(property, "minimum", G_MININT64), high = choir_json_int(property, "maximum", G_MAXINT64);
  json_t *list = json_array();
  for (guint i = 0; i < n; i++)
    if (numbers[i] >= low && numbers[i] <= high)
      json_array_append_new(list, json_integer(numbers[i]));
  if (json_array_size(list) == 0 && json_object_get(property, "default"))
    json_array_append(list, json_object_get(property, "default"));
  return list;
}

/* Not what was tried already, as long as something is left. */
static void leave_out(json_t *list, const char *key, const json_t *wrong) {
  size_t i, k;
  json_t *tried;
  json_array_foreach(wrong, i, tried) {
    for (k = json_array_size(list); k > 0 && json_array_size(list) > 1; k--)
      if (json_equal(json_array_get(list, k - 1), json_object_get(tried, key)))
        json_array_remove(list, k - 1);
  }
}

/* What the argument may be; NULL: whatever its schema says. */
static json_t *choices_of(const char *key, const json_t *property, const char *text, const ChoirSpanShots *shots,
                          const json_t *wrong, gboolean small) {
  gboolean copied = strcmp(choir_json_string(property, "$comment", ""), "copied") == 0;
  gboolean whole = small && strcmp(choir_json_string(property, "type", ""), "integer") == 0;
  gboolean for_now = small && !copied && is_copied_now(shots, key, property);
  json_t *choices = json_object_get(property, "enum");
  if (choices)
    return small ? choir_align_said(choices, text) : NULL;
  if (!(copied || whole || for_now))
    return NULL;
  json_t *list =
      whole ? said_numbers(property, text) : choir_spans(text, (gsize)choir_json_int(property, "maxLength", 200));
  leave_out(list, key, wrong);
  if (whole || !small)
    return list;
  json_t *kept = choir_align(list, key, text, shots->all);
  json_decref(list);
  return kept;
}

json_t *choir_spans_bind(json_t *schema, const char *text, const ChoirSpanShots *shots, const json_t *wrong,
                         gboolean small) {
  static const ChoirSpanShots none;
  json_t *bound = json_deep_copy(schema), *properties = json_object_get(bound, "properties"), *property;
  const char *key;
  void *next;
  json_decref(schema);
  shots = shots ? shots : &none;
  json_object_foreach_safe(properties, next, key, property) {
    gboolean must = is_required(bound, key);
    if (small && !must && !is_key(shots, key)) {
      json_object_del(properties, key);
      continue;
    }
    json_t *list = choices_of(key, property, text, shots, wrong, small);
    if (!list)
      continue;
    gboolean text_of_it = strcmp(choir_json_string(property, "type", ""), "string") == 0,
             copied = strcmp(choir_json_string(property, "$comment", ""), "copied") == 0;
    if (json_object_get(property, "enum")) {
      json_object_set(property, "enum", list);
      json_decref(list);
      continue;
    }
    if (copied && must && json_array_size(list) == 0) {
      json_decref(list);
      list = all_of(text, (gsize)choir_json_int(property, "maxLength", 200));
    }
    if (copied || json_array_size(list) > 0) {
      json_object_set(property, "enum", list);
      json_object_set_new(property, "$comment", json_string(text_of_it ? "copied" : "said"));
    }
    if (copied && json_array_size(list) == 0 && !must)
      json_object_del(properties, key);
    json_decref(list);
  }
  return bound;
}
