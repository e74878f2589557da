/* What a schema may hold, and whether it is fit for a tool. The rules themselves are in schema_value.c. */
#include <string.h>
#include "agent/schema_private.h"

G_DEFINE_QUARK(choir - schema - error - quark, choir_schema_error)

#define MAX_DEPTH 32

typedef enum {
  HOLDS_ANYTHING,
  HOLDS_NOTE,
  HOLDS_TYPE,   /* a type's name or an array of them */
  HOLDS_VALUES, /* a non-empty array */
  HOLDS_NUMBER,
  HOLDS_POSITIVE, /* a number above 0 */
  HOLDS_COUNT,    /* a whole number from 0 */
  HOLDS_BOOLEAN,
  HOLDS_PATTERN,
  HOLDS_STRINGS,
  HOLDS_STRING_LISTS, /* an object of arrays of strings */
  HOLDS_SCHEMA,
  HOLDS_SCHEMAS,         /* a non-empty array of schemas */
  HOLDS_SCHEMA_MAP,      /* an object of schemas */
  HOLDS_PATTERN_SCHEMAS, /* the same, its keys are patterns */
} Holds;

static const struct {
  const char *name;
  Holds holds;
} keywords[] = {
    {"$schema", HOLDS_NOTE},
    {"$comment", HOLDS_NOTE},
    {"title", HOLDS_NOTE},
    {"description", HOLDS_NOTE},
    {"default", HOLDS_ANYTHING},
    {"examples", HOLDS_ANYTHING},
    {"type", HOLDS_TYPE},
    {"enum", HOLDS_VALUES},
    {"const", HOLDS_ANYTHING},
    {"minimum", HOLDS_NUMBER},
    {"maximum", HOLDS_NUMBER},
    {"exclusiveMinimum", HOLDS_NUMBER},
    {"exclusiveMaximum", HOLDS_NUMBER},
    {"multipleOf", HOLDS_POSITIVE},
    {"minLength", HOLDS_COUNT},
    {"maxLength", HOLDS_COUNT},
    {"pattern", HOLDS_PATTERN},
    {"properties", HOLDS_SCHEMA_MAP},
    {"patternProperties", HOLDS_PATTERN_SCHEMAS},
    {"additionalProperties", HOLDS_SCHEMA},
    {"propertyNames", HOLDS_SCHEMA},
    {"required", HOLDS_STRINGS},
    {"minProperties", HOLDS_COUNT},
    {"maxProperties", HOLDS_COUNT},
    {"dependentRequired", HOLDS_STRING_LISTS},
    {"dependentSchemas", HOLDS_SCHEMA_MAP},
    {"items", HOLDS_SCHEMA},
    {"prefixItems", HOLDS_SCHEMAS},
    {"contains", HOLDS_SCHEMA},
    {"minContains", HOLDS_COUNT},
    {"maxContains", HOLDS_COUNT},
    {"minItems", HOLDS_COUNT},
    {"maxItems", HOLDS_COUNT},
    {"uniqueItems", HOLDS_BOOLEAN},
    {"allOf", HOLDS_SCHEMAS},
    {"anyOf", HOLDS_SCHEMAS},
    {"oneOf", HOLDS_SCHEMAS},
    {"not", HOLDS_SCHEMA},
    {"if", HOLDS_SCHEMA},
    {"then", HOLDS_SCHEMA},
    {"else", HOLDS_SCHEMA},
};

static gboolean check(const json_t *schema, const char *path, guint depth, GError **error);

static gboolean wrong(GError **error, const char *path, const char *key, const char *what) {
  g_set_error(error, CHOIR_SCHEMA_ERROR, CHOIR_SCHEMA_ERROR_SCHEMA, "schema %s: \"%s\" %s", *path ? path : "/", key,
              what);
  return FALSE;
}

static gboolean is_count(const json_t *value) {
  double number = json_number_value(value);
  return json_is_number(value) && number >= 0 && number == (double)(guint64)number;
}

static gboolean all_strings(const json_t *value) {
  size_t i;
  json_t *item;
  if (!json_is_array(value))
    return FALSE;
  json_array_foreach((json_t *)value, i, item) if (!json_is_string(item)) return FALSE;
  return TRUE;
}

static gboolean is_type(const json_t *value) {
  size_t i;
  json_t *item;
  if (json_is_string(value))
    return choir_schema_type_known(json_string_value(value));
  if (!all_strings(value) || json_array_size(value) == 0)
    return FALSE;
  json_array_foreach((json_t *)value, i, item) if (!choir_schema_type_known(json_string_value(item))) return FALSE;
  return TRUE;
}

static gboolean check_pattern(const char *pattern, const char *path, const char *key, GError **error) {
  g_autoptr(GRegex) regex = choir_schema_regex(pattern);
  return regex ? TRUE : wrong(error, path, key, "is no regular expression that this validator can use");
}

static gboolean check_map(const json_t *map, const char *path, const char *key, gboolean patterns, guint depth,
                          GError **error) {
  const char *name;
  json_t *inner;
  if (!json_is_object(map))
    return wrong(error, path, key, "must be an object");
  json_object_foreach((json_t *)map, name, inner) {
    g_autofree char *below = g_strdup_printf("%s/%s/%s", path, key, name);
    if (patterns && !check_pattern(name, path, key, error))
      return FALSE;
    if (!check(inner, below, depth + 1, error))
      return FALSE;
  }
  return TRUE;
}

static gboolean check_string_lists(const json_t *map, const char *path, const char *key, GError **error) {
  const char *name;
  json_t *inner;
  if (!json_is_object(map))
    return wrong(error, path, key, "must be an object");
  json_object_foreach((json_t *)map, name, inner) if (!all_strings(inner)) return wrong(error, path, key,
                                                                                        "must hold arrays of strings");
  return TRUE;
}

static gboolean check_list(const json_t *list, const char *path, const char *key, guint depth, GError **error) {
  size_t i;
  json_t *inner;
  if (!json_is_array(list) || json_array_size(list) == 0)
    return wrong(error, path, key, "must be an array that is not empty");
  json_array_foreach((json_t *)list, i, inner) {
    g_autofree char *below = g_strdup_printf("%s/%s/%zu", path, key, i);
    if (!check(inner, below, depth + 1, error))
      return FALSE;
  }
  return TRUE;
}

static gboolean check_keyword(const char *key, Holds holds, const json_t *value, const char *path, guint depth,
                              GError **error) {
  g_autofree char *below = g_strdup_printf("%s/%s", path, key);
  switch (holds) {
  case HOLDS_ANYTHING:
    return TRUE;
  case HOLDS_NOTE:
    return json_is_string(value) ? TRUE : wrong(error, path, key, "must be a string");
  case HOLDS_TYPE:
    return is_type(value) ? TRUE : wrong(error, path, key, "names no type");
  case HOLDS_VALUES:
    return json_array_size(value) > 0 ? TRUE : wrong(error, path, key, "must be an array that is not empty");
  case HOLDS_NUMBER:
    return json_is_number(value) ? TRUE : wrong(error, path, key, "must be a number");
  case HOLDS_POSITIVE:
    return json_number_value(value) > 0 ? TRUE : wrong(error, path, key, "must be a number above 0");
  case HOLDS_COUNT:
    return is_count(value) ? TRUE : wrong(error, path, key, "must be a whole number from 0");
  case HOLDS_BOOLEAN:
    return json_is_boolean(value) ? TRUE : wrong(error, path, key, "must be true or false");
  case HOLDS_PATTERN:
    return json_is_string(value) ? check_pattern(json_string_value(value), path, key, error)
                                 : wrong(error, path, key, "must be a string");
  case HOLDS_STRINGS:
    return all_strings(value) ? TRUE : wrong(error, path, key, "must be an array of strings");
  case HOLDS_STRING_LISTS:
    return check_string_lists(value, path, key, error);
  case HOLDS_SCHEMA:
    return check(value, below, depth + 1, error);
  case HOLDS_SCHEMAS:
    return check_list(value, path, key, depth, error);
  case HOLDS_SCHEMA_MAP:
  case HOLDS_PATTERN_SCHEMAS:
    return check_map(value, path, key, holds == HOLDS_PATTERN_SCHEMAS, depth, error);
  }
  return FALSE;
}

static gboolean check(const json_t *schema, const char *path, guint depth, GError **error) {
  const char *key;
  json_t *value;
  if (json_is_boolean(schema))
    return TRUE;
  if (!json_is_object(schema) || depth > MAX_DEPTH) {
    g_set_error(error, CHOIR_SCHEMA_ERROR, CHOIR_SCHEMA_ERROR_SCHEMA, "schema %s: %s", *path ? path : "/",
                depth > MAX_DEPTH ? "is nested too deeply" : "must be an object or a boolean");
    return FALSE;
  }
  json_object_foreach((json_t *)schema, key, value) {
    gsize i = 0;
    while (i < G_N_ELEMENTS(keywords) && !g_str_equal(keywords[i].name, key))
      i++;
    if (i == G_N_ELEMENTS(keywords))
      return wrong(error, path, key, "is a keyword that this validator does not know");
    if (!check_keyword(key, keywords[i].holds, value, path, depth, error))
      return FALSE;
  }
  return TRUE;
}

gboolean choir_schema_check(const json_t *schema, GError **error) {
  return check(schema, "", 0, error);
}

/* Closed: nothing in it lets a model write without a bound. */
static gboolean closed(const json_t *schema, const char *path, GError **error) {
  const char *type = json_string_value(json_object_get(schema, "type")), *name;
  json_t *inner;
  if (json_object_get(schema, "enum") || json_object_get(schema, "const"))
    return TRUE;
  if (g_strcmp0(type, "boolean") == 0 || g_strcmp0(type, "null") == 0)
    return TRUE;
  if (g_strcmp0(type, "integer") == 0 || g_strcmp0(type, "number") == 0)
    return json_object_get(schema, "minimum") && json_object_get(schema, "maximum")
               ? TRUE
               : wrong(error, path, "type", "is a number without minimum and maximum");
  if (g_strcmp0(type, "string") == 0)
    return json_object_get(schema, "maxLength") ? TRUE : wrong(error, path, "type", "is a string without maxLength");
  if (g_strcmp0(type, "array") == 0) {
    g_autofree char *below = g_strdup_printf("%s/items", path);
    if (!json_object_get(schema, "maxItems"))
      return wrong(error, path, "type", "is an array without maxItems");
    return closed(json_object_get(schema, "items"), below, error);
  }
  if (g_strcmp0(type, "object") != 0)
    return wrong(error, path, "type", "is missing, or more than one type");
  if (!json_is_false(json_object_get(schema, "additionalProperties")))
    return wrong(error, path, "additionalProperties", "must be false");
  json_object_foreach(json_object_get(schema, "properties"), name, inner) {
    g_autofree char *below = g_strdup_printf("%s/properties/%s", path, name);
    if (!closed(inner, below, error))
      return FALSE;
  }
  return TRUE;
}

gboolean choir_schema_check_closed(const json_t *schema, GError **error) {
  return choir_schema_check(schema, error) && closed(schema, "", error);
}
