#include "agent/call_grammar.h"
#include <math.h>
#include <string.h>
#include "base/text.h"

#define MAX_DEPTH 8
#define MAX_PROPERTIES 32
#define MAX_ENUM 256
#define MAX_STRING 2000
#define DEFAULT_STRING 200
#define TIGHT_STRING 48
#define MAX_LIST 32
#define DEFAULT_LIST 8
#define NUMBER_LIMIT G_GINT64_CONSTANT(999999999999999) /* 15 digits: exact in a double, too */

G_DEFINE_QUARK(choir - call - error - quark, choir_call_error)

typedef struct {
  GString *rules;
  guint count, depth;
  ChoirCallWidth width;
  GError **error;
} Builder;

static char *value(Builder *builder, const json_t *schema, const char *path);

G_GNUC_PRINTF(3, 4) static char *refuse(Builder *builder, const char *path, const char *format, ...) {
  if (builder->error && !*builder->error) {
    va_list args;
    va_start(args, format);
    g_autofree char *why = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(builder->error, CHOIR_CALL_ERROR, CHOIR_CALL_ERROR_SCHEMA, "%s: %s", path, why);
  }
  return NULL;
}

/* A text as GBNF writes it. */
static void append_literal(GString *out, const char *text) {
  g_string_append_c(out, '"');
  for (const char *c = text; *c; c++) {
    if (*c == '"' || *c == '\\')
      g_string_append_c(out, '\\');
    g_string_append_c(out, *c);
  }
  g_string_append_c(out, '"');
}

/* In other alphabets as they are: a model copies what it has read, and escapes cost many tokens. */
static char *json_literal(const Builder *builder, const json_t *json) {
  gboolean plain = builder->width == CHOIR_CALL_PLAIN;
  char *text = json_dumps(json, JSON_ENCODE_ANY | (plain ? JSON_ENSURE_ASCII : 0));
  g_autoptr(GString) escaped = g_string_new(text ? text : "null");
  GString *out = g_string_new(NULL);
  if (plain) {
    g_string_replace(escaped, "<", "\\u003c", 0);
    g_string_replace(escaped, "[", "\\u005b", 0);
  }
  append_literal(out, escaped->str);
  free(text);
  return g_string_free(out, FALSE);
}

/* Stores an expression under a name of its own; takes it, returns the name. */
static char *rule(Builder *builder, char *expression) {
  char *name = g_strdup_printf("r%u", builder->count++);
  g_string_append_printf(builder->rules, "%s ::= %s\n", name, expression);
  g_free(expression);
  return name;
}

/* Whole numbers of n digits from a to b, leading zeros included. */
static void digits(GString *out, const char *a, const char *b, gsize n) {
  if (n == 0)
    return;
  gboolean all = strspn(a, "0") >= n && strspn(b, "9") >= n;
  if (all || n == 1) {
    g_string_append_printf(out, "[%c-%c]", all ? '0' : *a, all ? '9' : *b);
    if (all && n > 1)
      g_string_append_printf(out, "{%zu}", n);
    return;
  }
  if (*a == *b) {
    g_string_append_printf(out, "\"%c\" ", *a);
    digits(out, a + 1, b + 1, n - 1);
    return;
  }
  g_autofree char *zeros = g_strnfill(n - 1, '0'), *nines = g_strnfill(n - 1, '9');
  char from = *a, to = *b;
  g_string_append_c(out, '(');
  if (strncmp(a + 1, zeros, n - 1) != 0) {
    g_string_append_printf(out, "\"%c\" ", from++);
    digits(out, a + 1, nines, n - 1);
    if (from <= to)
      g_string_append(out, " | ");
  }
  gboolean last = strncmp(b + 1, nines, n - 1) != 0;
  char whole_to = last ? (char)(to - 1) : to;
  if (from <= whole_to) {
    g_string_append_printf(out, "[%c-%c] [0-9]{%zu}", from, whole_to, n - 1);
    if (last)
      g_string_append(out, " | ");
  }
  if (last) {
    g_string_append_printf(out, "\"%c\" ", to);
    digits(out, zeros, b + 1, n - 1);
  }
  g_string_append_c(out, ')');
}

/* From low to high, both 0 or more. */
static void natural_range(GString *out, gint64 low, gint64 high) {
  const char *between = "";
  while (low <= high) {
    g_autofree char *from = g_strdup_printf("%" G_GINT64_FORMAT, low);
    gsize n = strlen(from);
    gint64 end = 9;
    for (gsize i = 1; i < n; i++)
      end = end * 10 + 9;
    end = MIN(end, high);
    g_autofree char *to = g_strdup_printf("%" G_GINT64_FORMAT, end);
    g_string_append(out, between);
    digits(out, from, to, n);
    between = " | ";
    low = end + 1;
  }
}

char *choir_call_grammar_range(gint64 low, gint64 high) {
  GString *out = g_string_new("(");
  low = MAX(low, -NUMBER_LIMIT);
  high = MIN(high, NUMBER_LIMIT);
  if (low < 0) {
    g_string_append(out, "\"-\" (");
    natural_range(out, MAX(1, -MIN(high, -1)), -low);
    g_string_append(out, ")");
  }
  if (high >= 0) {
    g_string_append(out, low < 0 ? " | " : "");
    natural_range(out, MAX(low, 0), high);
  }
  g_string_append_c(out, ')');
  return g_string_free(out, FALSE);
}

/* minimum, maximum and the exclusive ones as whole numbers; FALSE when they leave nothing or are no numbers. */
static gboolean bounds(Builder *builder, const json_t *schema, const char *path, gboolean whole, gint64 *ret_low,
                       gint64 *ret_high) {
  static const char *const keys[] = {"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"};
  double low = -(double)NUMBER_LIMIT, high = (double)NUMBER_LIMIT;
  for (guint i = 0; i < G_N_ELEMENTS(keys); i++) {
    const json_t *bound = json_object_get(schema, keys[i]);
    if (!bound)
      continue;
    if (!json_is_number(bound))
      return refuse(builder, path, "'%s' must be a number", keys[i]) != NULL;
    double limit = json_number_value(bound);
    gboolean exclusive = i & 1;
    if (!whole && (exclusive || limit != floor(limit)))
      return refuse(builder, path, "'%s' of a 'number' cannot be guaranteed; use whole 'minimum' and 'maximum'",
                    keys[i]) != NULL;
    if (i < 2)
      low = MAX(low, exclusive ? floor(limit) + 1 : ceil(limit));
    else
      high = MIN(high, exclusive ? ceil(limit) - 1 : floor(limit));
  }
  if (low > high)
    return refuse(builder, path, "no number fits between its bounds") != NULL;
  *ret_low = (gint64)low;
  *ret_high = (gint64)high;
  return TRUE;
}

static char *integer_value(Builder *builder, const json_t *schema, const char *path) {
  gint64 low = 0, high = 0;
  if (!bounds(builder, schema, path, TRUE, &low, &high))
    return NULL;
  return rule(builder, choir_call_grammar_range(low, high));
}

static char *number_value(Builder *builder, const json_t *schema, const char *path) {
  gint64 low = 0, high = 0;
  if (!bounds(builder, schema, path, FALSE, &low, &high))
    return NULL;
  if (low == -NUMBER_LIMIT && high == NUMBER_LIMIT)
    return rule(builder, g_strdup("\"-\"? (\"0\" | [1-9] [0-9]{0,14}) (\".\" [0-9]{1,6})?"));
  if (low < 0)
    return refuse(builder, path, "bounds of a 'number' are only taken with a 'minimum' of 0 or more");
  if (low == high) {
    return rule(builder, choir_call_grammar_range(low, high));
  }
  g_autofree char *below = choir_call_grammar_range(low, high - 1);
  g_autofree char *top = choir_call_grammar_range(high, high);
  return rule(builder, g_strdup_printf("%s (\".\" [0-9]{1,6})? | %s", below, top));
}

/* A whole number of a keyword, between 0 and most; fallback when absent. FALSE when it is something else. */
static gboolean count_of(Builder *builder, const json_t *schema, const char *key, const char *path, guint fallback,
                         guint most, guint *ret_count) {
  const json_t *count = json_object_get(schema, key);
  *ret_count = fallback;
  if (!count)
    return TRUE;
  if (!json_is_number(count) || !(json_number_value(count) >= 0))
    return refuse(builder, path, "'%s' must be a whole number", key) != NULL;
  *ret_count = (guint)MIN(json_number_value(count), most);
  return TRUE;
}

static char *string_value(Builder *builder, const json_t *schema, const char *path) {
  guint least, most;
  if (!count_of(builder, schema, "minLength", path, 0, MAX_STRING + 1, &least) ||
      !count_of(builder, schema, "maxLength", path, MIN(least + DEFAULT_STRING, MAX_STRING), MAX_STRING, &most))
    return NULL;
  if (least > most)
    return refuse(builder, path, "no text fits between 'minLength' and 'maxLength' (at most %d)", MAX_STRING);
  if (builder->width != CHOIR_CALL_WIDE)
    most = MIN(most, MAX(least, TIGHT_STRING));
  return rule(builder, g_strdup_printf("\"\\\"\" char{%u,%u} \"\\\"\"", least, most));
}

static char *array_value(Builder *builder, const json_t *schema, const char *path) {
  const json_t *items = json_object_get(schema, "items");
  guint least, most;
  if (!json_is_object(items))
    return refuse(builder, path, "a list needs 'items' that say what is in it");
  if (!count_of(builder, schema, "minItems", path, 0, MAX_LIST + 1, &least) ||
      !count_of(builder, schema, "maxItems", path, MAX(DEFAULT_LIST, least), MAX_LIST, &most))
    return NULL;
  if (least > most)
    return refuse(builder, path, "no list fits between 'minItems' and 'maxItems' (at most %d)", MAX_LIST);
  if (builder->width != CHOIR_CALL_WIDE)
    most = MIN(most, MAX(least, 1));
  g_autofree char *where = g_strconcat(path, "[]", NULL);
  g_autofree char *member = value(builder, items, where);
  if (!member)
    return NULL;
  if (most == 0)
    return rule(builder, g_strdup("\"[]\""));
  char *full = g_strdup_printf("\"[\" %s (\", \" %s){%u,%u} \"]\"", member, member, MAX(least, 1) - 1, most - 1);
  if (least > 0)
    return rule(builder, full);
  g_autofree char *name = rule(builder, full);
  return rule(builder, g_strdup_printf("\"[]\" | %s", name));
}

static gboolean is_required(const json_t *required, const char *key) {
  size_t i;
  json_t *name;
  json_array_foreach((json_t *)required, i, name) {
    if (g_strcmp0(json_string_value(name), key) == 0)
      return TRUE;
  }
  return FALSE;
}

/* The member list from property i on, as two rules: with nothing written before it, and with something. Built from the
 * last to the first, so that each needs only the names of the next two. */
static char *object_value(Builder *builder, const json_t *schema, const char *path) {
  json_t *properties = json_object_get(schema, "properties");
  const json_t *required = json_object_get(schema, "required");
  if ((properties && !json_is_object(properties)) || (required && !json_is_array(required)))
    return refuse(builder, path, "'properties' is an object, 'required' a list");
  size_t i;
  json_t *name;
  json_array_foreach((json_t *)required, i, name) {
    if (!json_is_string(name) || !json_object_get(properties, json_string_value(name)))
      return refuse(builder, path, "'required' names what is not in 'properties'");
  }
  if (json_object_size(properties) > MAX_PROPERTIES)
    return refuse(builder, path, "more than %d properties", MAX_PROPERTIES);
  g_autoptr(GPtrArray) keys = g_ptr_array_new();
  const char *key;
  json_t *property;
  json_object_foreach(properties, key, property) g_ptr_array_add(keys, (gpointer)key);
  g_autofree char *first = rule(builder, g_strdup("\"\"")), *rest = rule(builder, g_strdup("\"\""));
  for (guint k = keys->len; k > 0; k--) {
    key = keys->pdata[k - 1];
    g_autofree char *where = g_strconcat(path, ".", key, NULL);
    g_autofree char *member = value(builder, json_object_get(properties, key), where);
    if (!member)
      return NULL;
    json_auto_t *text = json_string(key);
    g_autofree char *dumped = json_dumps(text, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
    g_autofree char *with_colon = g_strconcat(dumped, ": ", NULL);
    g_autoptr(GString) literal = g_string_new(NULL);
    append_literal(literal, with_colon);
    g_autofree char *pair = rule(builder, g_strdup_printf("%s %s", literal->str, member));
    gboolean must = is_required(required, key);
    g_autofree char *or_first = must ? NULL : g_strconcat(" | ", first, NULL);
    g_autofree char *or_rest = must ? NULL : g_strconcat(" | ", rest, NULL);
    char *next_first = rule(builder, g_strdup_printf("%s %s%s", pair, rest, or_first ? or_first : ""));
    char *next_rest = rule(builder, g_strdup_printf("\", \" %s %s%s", pair, rest, or_rest ? or_rest : ""));
    g_free(first);
    g_free(rest);
    first = next_first;
    rest = next_rest;
  }
  return rule(builder, g_strdup_printf("\"{\" %s \"}\"", first));
}

static char *alternatives(Builder *builder, const json_t *list, const char *path) {
  if (!json_is_array(list) || json_array_size(list) == 0 || json_array_size(list) > MAX_ENUM)
    return refuse(builder, path, "a choice needs 1 to %d members", MAX_ENUM);
  g_autoptr(GString) out = g_string_new(NULL);
  size_t i;
  json_t *member;
  json_array_foreach((json_t *)list, i, member) {
    g_autofree char *name = value(builder, member, path);
    if (!name)
      return NULL;
    g_string_append_printf(out, "%s%s", i ? " | " : "", name);
  }
  return rule(builder, g_strdup(out->str));
}

static char *enumeration(Builder *builder, const json_t *list, const char *path) {
  if (!json_is_array(list) || json_array_size(list) == 0 || json_array_size(list) > MAX_ENUM)
    return refuse(builder, path, "'enum' needs 1 to %d values", MAX_ENUM);
  g_autoptr(GString) out = g_string_new(NULL);
  size_t i;
  json_t *member;
  json_array_foreach((json_t *)list, i, member) {
    if (json_is_object(member) || json_is_array(member))
      return refuse(builder, path, "'enum' and 'const' take texts, numbers, true, false and null");
    g_autofree char *literal = json_literal(builder, member);
    g_string_append_printf(out, "%s%s", i ? " | " : "", literal);
  }
  return rule(builder, g_strdup(out->str));
}

static char *typed(Builder *builder, const json_t *schema, const char *type, const char *path) {
  if (strcmp(type, "object") == 0)
    return object_value(builder, schema, path);
  if (strcmp(type, "array") == 0)
    return array_value(builder, schema, path);
  if (strcmp(type, "string") == 0)
    return string_value(builder, schema, path);
  if (strcmp(type, "integer") == 0)
    return integer_value(builder, schema, path);
  if (strcmp(type, "number") == 0)
    return number_value(builder, schema, path);
  if (strcmp(type, "boolean") == 0)
    return rule(builder, g_strdup("\"true\" | \"false\""));
  if (strcmp(type, "null") == 0)
    return rule(builder, g_strdup("\"null\""));
  return refuse(builder, path, "there is no type '%.32s'", type);
}

static gboolean keywords_known(Builder *builder, const json_t *schema, const char *path) {
  static const char *const known[] = {
      "type",        "enum",     "const",    "properties", "required",         "additionalProperties",
      "items",       "minItems", "maxItems", "minLength",  "maxLength",        "minimum",
      "maximum",     "anyOf",    "oneOf",    "title",      "exclusiveMinimum", "exclusiveMaximum",
      "description", "default",  "examples", "format",     "$schema",          "$comment",
      "$id",         "strict",   "nullable", "readOnly",   "writeOnly",        "deprecated",
      NULL};
  const char *key;
  json_t *member;
  json_object_foreach((json_t *)schema, key, member) {
    if (!g_strv_contains(known, key) && !g_str_has_prefix(key, "x-"))
      return refuse(builder, path, "'%.64s' cannot be guaranteed; leave it out", key) != NULL;
  }
  return TRUE;
}

static char *by_type(Builder *builder, const json_t *schema, const char *path) {
  const json_t *type = json_object_get(schema, "type");
  if (json_is_string(type))
    return typed(builder, schema, json_string_value(type), path);
  if (!type && json_object_get(schema, "properties"))
    return object_value(builder, schema, path);
  if (!json_is_array(type) || json_array_size(type) == 0 || json_array_size(type) > 7)
    return refuse(builder, path, "it needs a 'type'");
  g_autoptr(GString) out = g_string_new(NULL);
  size_t i;
  json_t *one;
  json_array_foreach((json_t *)type, i, one) {
    g_autofree char *name = typed(builder, schema, json_is_string(one) ? json_string_value(one) : "", path);
    if (!name)
      return NULL;
    g_string_append_printf(out, "%s%s", i ? " | " : "", name);
  }
  return rule(builder, g_strdup(out->str));
}

/* The name of the rule that writes it. */
static char *value(Builder *builder, const json_t *schema, const char *path) {
  if (!json_is_object(schema))
    return refuse(builder, path, "a schema is an object");
  if (builder->depth >= MAX_DEPTH || builder->rules->len > CHOIR_CALL_MAX_GRAMMAR)
    return refuse(builder, path, "it is nested too deeply or too large");
  if (!keywords_known(builder, schema, path))
    return NULL;
  const json_t *any = json_object_get(schema, "anyOf"), *one = json_object_get(schema, "oneOf");
  char *name;
  builder->depth++;
  if (json_object_get(schema, "const")) {
    json_auto_t *list = json_pack("[O]", json_object_get(schema, "const"));
    name = enumeration(builder, list, path);
  } else if (json_object_get(schema, "enum")) {
    name = enumeration(builder, json_object_get(schema, "enum"), path);
  } else if (any || one) {
    name = json_object_get(schema, "type") || (any && one)
               ? refuse(builder, path, "'anyOf' beside 'type' or 'oneOf' cannot be guaranteed; say it in one way")
               : alternatives(builder, any ? any : one, path);
  } else {
    name = by_type(builder, schema, path);
  }
  builder->depth--;
  return name;
}

/* The whole grammar: root is what stands before the value, the value (schema NULL: none) and what stands behind it. */
static char *grammar(const char *before, const json_t *schema, const char *behind, ChoirCallWidth width,
                     GError **error) {
  g_autoptr(GError) failure = NULL;
  Builder builder = {.rules = g_string_new(NULL), .width = width, .error = &failure};
  g_autofree char *name = schema ? value(&builder, schema, "parameters") : g_strdup("");
  g_autofree char *rules = g_string_free(builder.rules, FALSE);
  if (!name) {
    g_propagate_error(error, g_steal_pointer(&failure));
    return NULL;
  }
  /* Not all that is no quote: a token of half a character may make a surrogate, or what is no character at all. */
  const char *chars = width == CHOIR_CALL_PLAIN ? "[ !#-;=-Z\\]-~]"
                                                : "[ !#-\\[\\]-~\\u00A0-\\uD7FF\\uE000-\\uFFFD\\U00010000-\\U0010FFFF]";
  char *text =
      g_strdup_printf("root ::= %s%s%s\n%schar ::= %s | \"\\\\\" [\"\\\\/nt]\n", before, name, behind, rules, chars);
  if (strlen(text) <= CHOIR_CALL_MAX_GRAMMAR)
    return text;
  g_free(text);
  g_set_error_literal(error, CHOIR_CALL_ERROR, CHOIR_CALL_ERROR_SCHEMA,
                      "parameters: the grammar is larger than 48 KiB");
  return NULL;
}

char *choir_call_grammar(const json_t *schema, ChoirCallWidth width, GError **error) {
  return grammar("\" \"? ", schema, "", width, error);
}

char *choir_call_grammar_part(const json_t *schema, const char *const *ends, ChoirCallWidth width, GError **error) {
  g_autoptr(GString) behind = g_string_new(" (");
  for (guint i = 0; ends[i]; i++) {
    g_string_append(behind, i ? " | " : "");
    append_literal(behind, ends[i]);
  }
  g_string_append_c(behind, ')');
  return grammar(schema ? "\" \" " : "", schema, behind->str, width, error);
}
