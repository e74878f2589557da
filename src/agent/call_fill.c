#include "agent/call_fill.h"
#include <string.h>
#include "agent/schema.h"
#include "base/text.h"

typedef struct {
  gsize from, to; /* bytes of what was said */
} Used;

struct CallFill {
  const json_t *required;
  json_t *properties, *schema; /* schema: owned */
  GPtrArray *keys;             /* borrowed */
  char *said;
  ChoirCallWidth width;
  gboolean plain; /* of what is asked for now */
  GString *text;
  char *grammar;
  guint next;      /* index of the first key that may still come */
  gint value;      /* index of the key whose value comes, -1 = a key */
  GPtrArray *ends; /* char*, NULL-ended: what may follow */
  GArray *used;    /* Used */
  json_t *taken;   /* numbers that were used */
};

void call_fill_free(CallFill *fill) {
  if (!fill)
    return;
  json_decref(fill->schema);
  json_decref(fill->taken);
  g_ptr_array_unref(fill->keys);
  g_ptr_array_unref(fill->ends);
  g_array_unref(fill->used);
  g_string_free(fill->text, TRUE);
  g_free(fill->grammar);
  g_free(fill->said);
  g_free(fill);
}

const char *call_fill_text(const CallFill *fill) {
  return fill->text->str;
}

const char *call_fill_grammar(const CallFill *fill) {
  return fill->grammar;
}

static gboolean is_required(const CallFill *fill, const char *key) {
  size_t i;
  json_t *name;
  json_array_foreach((json_t *)fill->required, i, name) {
    if (g_strcmp0(json_string_value(name), key) == 0)
      return TRUE;
  }
  return FALSE;
}

/* "\"city\":" for the first member, " \"city\":" for the others. */
static char *key_text(const CallFill *fill, guint index) {
  json_auto_t *key = json_string(fill->keys->pdata[index]);
  g_autofree char *dumped = json_dumps(key, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
  return g_strconcat(fill->next == 0 ? "" : " ", dumped, ":", NULL);
}

/* Whether a member must come yet. */
static gboolean must_go_on(const CallFill *fill) {
  for (guint i = fill->next; i < fill->keys->len; i++)
    if (is_required(fill, fill->keys->pdata[i]))
      return TRUE;
  return FALSE;
}

/* The keys that may come next: up to the first one that must; in front of the first one the end, too. */
static void plan_keys(CallFill *fill) {
  gboolean must = FALSE;
  fill->value = -1;
  g_ptr_array_set_size(fill->ends, 0);
  for (guint i = fill->next; i < fill->keys->len && !must; i++) {
    g_ptr_array_add(fill->ends, key_text(fill, i));
    must = is_required(fill, fill->keys->pdata[i]);
  }
  if (fill->next == 0 && !must)
    g_ptr_array_add(fill->ends, g_strdup("}"));
  g_ptr_array_add(fill->ends, NULL);
}

/* Behind a value: the mark that ends it is the model's to write, since models write it in one token with a text's last
 * quote, and without it would rather go on. */
static void plan_marks(CallFill *fill) {
  g_ptr_array_set_size(fill->ends, 0);
  if (fill->next < fill->keys->len)
    g_ptr_array_add(fill->ends, g_strdup(","));
  if (!must_go_on(fill))
    g_ptr_array_add(fill->ends, g_strdup("}"));
  g_ptr_array_add(fill->ends, NULL);
}

static gboolean is_used(const CallFill *fill, gsize from, gsize to) {
  for (guint i = 0; i < fill->used->len; i++) {
    const Used *used = &g_array_index(fill->used, Used, i);
    if (from < used->to && used->from < to)
      return TRUE;
  }
  return FALSE;
}

/* Where a span stands as whole words of which none is used; FALSE: they all are. What stands nowhere (a text that was
 * cut) is free. */
static gboolean find_free(const CallFill *fill, const char *span, Used *ret_place) {
  gsize length = strlen(span);
  gboolean seen = FALSE;
  *ret_place = (Used){0};
  for (const char *at = strstr(fill->said, span); at && length > 0; at = strstr(at + 1, span)) {
    Used place = {(gsize)(at - fill->said), (gsize)(at - fill->said) + length};
    gboolean begins = at == fill->said || strchr(" \t\"", at[-1]), ends = !g_ascii_isalnum(at[length]);
    if (begins && ends && !is_used(fill, place.from, place.to)) {
      *ret_place = place;
      return TRUE;
    }
    seen |= begins && ends;
  }
  return !seen;
}

static gboolean is_taken(const CallFill *fill, const json_t *number) {
  size_t i;
  json_t *taken;
  json_array_foreach(fill->taken, i, taken) {
    if (json_equal(taken, number))
      return TRUE;
  }
  return FALSE;
}

/* Without what other arguments have used already, as long as something is left. New reference. */
static json_t *narrowed(const CallFill *fill, json_t *property) {
  const json_t *list = json_object_get(property, "enum");
  const char *kind = choir_json_string(property, "$comment", "");
  json_auto_t *left = json_array();
  size_t i;
  json_t *member;
  Used place;
  if (!list || !(g_str_equal(kind, "copied") || g_str_equal(kind, "said")))
    return json_incref(property);
  json_array_foreach((json_t *)list, i, member) {
    gboolean free =
        json_is_string(member) ? find_free(fill, json_string_value(member), &place) : !is_taken(fill, member);
    if (free)
      json_array_append(left, member);
  }
  if (json_array_size(left) == 0)
    return json_incref(property);
  json_t *narrow = json_copy(property);
  json_object_set(narrow, "enum", left);
  return narrow;
}

static void use(CallFill *fill, const json_t *property, json_t *value) {
  const char *kind = choir_json_string(property, "$comment", "");
  Used place;
  if (g_str_equal(kind, "said"))
    json_array_append(fill->taken, value);
  else if (g_str_equal(kind, "copied") && json_is_string(value) && find_free(fill, json_string_value(value), &place))
    g_array_append_val(fill->used, place);
}

/* The grammar of what comes next. */
static gboolean prepare(CallFill *fill, GError **error) {
  json_auto_t *property =
      fill->value >= 0 ? narrowed(fill, json_object_get(fill->properties, fill->keys->pdata[fill->value])) : NULL;
  g_free(fill->grammar);
  fill->grammar = choir_call_grammar_part(property, (const char *const *)fill->ends->pdata,
                                          fill->plain ? CHOIR_CALL_PLAIN : fill->width, error);
  return fill->grammar != NULL;
}

gboolean call_fill_is_plain(const CallFill *fill) {
  return fill->plain || fill->width == CHOIR_CALL_PLAIN;
}

gboolean call_fill_plain(CallFill *fill) {
  if (call_fill_is_plain(fill))
    return FALSE;
  fill->plain = TRUE;
  return prepare(fill, NULL);
}

/* Behind a key comes its value. */
static gboolean follow_key(CallFill *fill, const char *key, GError **error) {
  guint index = fill->next;
  for (guint i = 0; !g_str_equal(fill->ends->pdata[i], key); i++)
    index++;
  g_string_append(fill->text, key);
  fill->value = (gint)index;
  fill->next = index + 1;
  plan_marks(fill);
  return prepare(fill, error);
}

/* The only key that may come is not asked for. */
static gboolean start_key(CallFill *fill, GError **error) {
  plan_keys(fill);
  if (fill->ends->len > 2)
    return prepare(fill, error);
  g_autofree char *only = g_strdup(fill->ends->pdata[0]);
  return follow_key(fill, only, error);
}

/* Goes on behind `end`, one of the ends. */
static gboolean follow(CallFill *fill, const char *end, GError **error) {
  g_autofree char *chosen = g_strdup(end);
  if (!g_str_equal(chosen, ",") && !g_str_equal(chosen, "}"))
    return follow_key(fill, chosen, error);
  g_string_append(fill->text, chosen);
  if (g_str_equal(chosen, ","))
    return start_key(fill, error);
  g_clear_pointer(&fill->grammar, g_free);
  return TRUE;
}

static gboolean broken(const char *written, GError **error) {
  g_set_error(error, CHOIR_CALL_ERROR, CHOIR_CALL_ERROR_BROKEN, "\"%.60s\" is no value of an argument", written);
  return FALSE;
}

/* The end that `rest` is, or NULL. */
static const char *end_of(const CallFill *fill, const char *rest) {
  for (guint i = 0; fill->ends->pdata[i]; i++)
    if (g_str_equal(rest, fill->ends->pdata[i]))
      return fill->ends->pdata[i];
  return NULL;
}

gboolean call_fill_take(CallFill *fill, const char *written, GError **error) {
  if (fill->value < 0) {
    const char *key = end_of(fill, written);
    fill->plain &= !key;
    return key ? follow(fill, key, error) : broken(written, error);
  }
  json_t *property = json_object_get(fill->properties, fill->keys->pdata[fill->value]);
  json_auto_t *narrow = narrowed(fill, property);
  json_error_t where;
  const char *begin = written + strspn(written, " ");
  json_auto_t *value =
      g_utf8_validate(begin, -1, NULL) ? json_loads(begin, JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK, &where) : NULL;
  if (!value || where.position <= 0)
    return broken(written, error);
  const char *end = end_of(fill, begin + where.position);
  /* A mark of the chat may be missing in it: then it is another one of the values, or none. */
  if (!end || !choir_schema_validate(narrow, value, NULL))
    return broken(written, error);
  fill->plain = FALSE;
  g_string_append(fill->text, " ");
  g_string_append_len(fill->text, begin, where.position);
  use(fill, property, value);
  return follow(fill, end, error);
}

CallFill *call_fill_new(const json_t *schema, const char *said, ChoirCallWidth width, GError **error) {
  g_autoptr(CallFill) fill = g_new0(CallFill, 1);
  const char *key;
  json_t *property;
  fill->schema = json_incref((json_t *)schema);
  fill->properties = json_object_get(schema, "properties");
  fill->required = json_object_get(schema, "required");
  fill->keys = g_ptr_array_new();
  fill->ends = g_ptr_array_new_with_free_func(g_free);
  fill->used = g_array_new(FALSE, FALSE, sizeof(Used));
  fill->taken = json_array();
  fill->text = g_string_new(" {");
  fill->said = g_strdup(said);
  fill->width = width;
  fill->value = -1;
  json_object_foreach(fill->properties, key, property) g_ptr_array_add(fill->keys, (gpointer)key);
  return start_key(fill, error) ? g_steal_pointer(&fill) : NULL;
}
