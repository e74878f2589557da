/* The rules of each keyword. Source: JSON Schema 2020-12, Core section 10 and Validation section 6. */
#include <math.h>
#include <string.h>
#include "agent/schema_private.h"

#define MAX_DEPTH 64
#define ROUNDINGS 2e-15    /* a few units in the last place */
#define MATCH_LIMIT 100000 /* characters that a pattern is tried on: longer strings do not match */

typedef struct {
  GString *path;
  guint depth;
  GError **error; /* NULL while only a yes or no is wanted */
} Walk;

static gboolean valid(Walk *walk, const json_t *schema, const json_t *value);

static const char *const types[] = {"null", "boolean", "integer", "number", "string", "array", "object", NULL};

gboolean choir_schema_type_known(const char *name) {
  return g_strv_contains(types, name);
}

GRegex *choir_schema_regex(const char *pattern) {
  return g_regex_new(pattern, G_REGEX_DOLLAR_ENDONLY | G_REGEX_OPTIMIZE, 0, NULL);
}

G_GNUC_PRINTF(2, 3) static gboolean wrong(Walk *walk, const char *format, ...) {
  if (walk->error == NULL)
    return FALSE;
  va_list args;
  va_start(args, format);
  g_autofree char *what = g_strdup_vprintf(format, args);
  va_end(args);
  g_set_error(walk->error, CHOIR_SCHEMA_ERROR, CHOIR_SCHEMA_ERROR_VALUE, "%s: %s", walk->path->str, what);
  return FALSE;
}

static gboolean is_whole(const json_t *value) {
  return json_is_integer(value) || (json_is_real(value) && floor(json_real_value(value)) == json_real_value(value) &&
                                    isfinite(json_real_value(value)));
}

/* 1 and 1.0 are the same number. */
static gboolean same(const json_t *a, const json_t *b) {
  size_t i;
  const char *key;
  json_t *item;
  if (json_is_number(a) && json_is_number(b))
    return json_is_integer(a) && json_is_integer(b) ? json_integer_value(a) == json_integer_value(b)
                                                    : json_number_value(a) == json_number_value(b);
  if (json_typeof(a) != json_typeof(b))
    return FALSE;
  if (json_is_array(a)) {
    if (json_array_size(a) != json_array_size(b))
      return FALSE;
    json_array_foreach((json_t *)a, i, item) if (!same(item, json_array_get(b, i))) return FALSE;
    return TRUE;
  }
  if (json_is_object(a)) {
    if (json_object_size(a) != json_object_size(b))
      return FALSE;
    json_object_foreach((json_t *)a, key, item) {
      const json_t *other = json_object_get(b, key);
      if (!other || !same(item, other))
        return FALSE;
    }
    return TRUE;
  }
  return json_equal(a, b);
}

static gboolean matches(const json_t *schema, const json_t *value, guint depth) {
  g_autoptr(GString) path = g_string_new(NULL);
  Walk quiet = {.path = path, .depth = depth};
  return valid(&quiet, schema, value);
}

static gboolean at(Walk *walk, const json_t *schema, const json_t *value, const char *name, gssize index) {
  gsize length = walk->path->len;
  if (name)
    g_string_append_printf(walk->path, ".%s", name);
  else
    g_string_append_printf(walk->path, "[%" G_GSSIZE_FORMAT "]", index);
  gboolean ok = valid(walk, schema, value);
  g_string_truncate(walk->path, length);
  return ok;
}

/* Any type */

static gboolean is_of(const json_t *value, const char *type) {
  switch (json_typeof(value)) {
  case JSON_NULL:
    return g_str_equal(type, "null");
  case JSON_TRUE:
  case JSON_FALSE:
    return g_str_equal(type, "boolean");
  case JSON_STRING:
    return g_str_equal(type, "string");
  case JSON_ARRAY:
    return g_str_equal(type, "array");
  case JSON_OBJECT:
    return g_str_equal(type, "object");
  default:
    return g_str_equal(type, "number") || (g_str_equal(type, "integer") && is_whole(value));
  }
}

static gboolean rule_type(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  size_t i;
  json_t *type;
  if (json_is_string(rule))
    return is_of(value, json_string_value(rule)) ? TRUE : wrong(walk, "must be of type %s", json_string_value(rule));
  json_array_foreach((json_t *)rule, i, type) if (is_of(value, json_string_value(type))) return TRUE;
  return wrong(walk, "is of none of the allowed types");
}

static gboolean rule_enum(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  size_t i;
  json_t *one;
  json_array_foreach((json_t *)rule, i, one) if (same(one, value)) return TRUE;
  g_autoptr(GString) list = g_string_new(NULL);
  json_array_foreach((json_t *)rule, i, one) {
    if (i == 8) {
      g_string_append(list, ", ...");
      break;
    }
    char *text = json_dumps(one, JSON_ENCODE_ANY | JSON_COMPACT);
    g_string_append_printf(list, "%s%s", i ? ", " : "", text);
    free(text);
  }
  return wrong(walk, "must be one of %s", list->str);
}

static gboolean rule_const(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  return same(rule, value) ? TRUE : wrong(walk, "is not the one allowed value");
}

/* Numbers */

static gboolean rule_minimum(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  return !json_is_number(value) || json_number_value(value) >= json_number_value(rule)
             ? TRUE
             : wrong(walk, "is below %g", json_number_value(rule));
}

static gboolean rule_maximum(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  return !json_is_number(value) || json_number_value(value) <= json_number_value(rule)
             ? TRUE
             : wrong(walk, "is above %g", json_number_value(rule));
}

static gboolean rule_above(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  return !json_is_number(value) || json_number_value(value) > json_number_value(rule)
             ? TRUE
             : wrong(walk, "is not above %g", json_number_value(rule));
}

static gboolean rule_below(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  return !json_is_number(value) || json_number_value(value) < json_number_value(rule)
             ? TRUE
             : wrong(walk, "is not below %g", json_number_value(rule));
}

static gboolean rule_multiple(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  if (!json_is_number(value))
    return TRUE;
  if (json_is_integer(value) && json_is_integer(rule))
    return json_integer_value(value) % json_integer_value(rule) == 0
               ? TRUE
               : wrong(walk, "is no multiple of %" JSON_INTEGER_FORMAT, json_integer_value(rule));
  /* Decimal fractions have no exact double: a quotient within a few roundings of a whole number counts. One that is
   * beyond every double is told by the remainder. */
  double number = json_number_value(value), step = json_number_value(rule), times = number / step;
  gboolean whole =
      isfinite(times) ? fabs(times - nearbyint(times)) <= fabs(times) * ROUNDINGS : fmod(number, step) == 0;
  return whole ? TRUE : wrong(walk, "is no multiple of %g", step);
}

/* Strings */

static glong characters(const json_t *value) {
  return g_utf8_strlen(json_string_value(value), (gssize)json_string_length(value));
}

static gboolean rule_min_length(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  return !json_is_string(value) || (double)characters(value) >= json_number_value(rule)
             ? TRUE
             : wrong(walk, "is shorter than %.0f characters", json_number_value(rule));
}

static gboolean rule_max_length(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  return !json_is_string(value) || (double)characters(value) <= json_number_value(rule)
             ? TRUE
             : wrong(walk, "is longer than %.0f characters", json_number_value(rule));
}

static gboolean fits(const char *pattern, const char *text, gsize length) {
  g_autoptr(GRegex) regex = choir_schema_regex(pattern);
  return regex && length <= MATCH_LIMIT && g_regex_match_full(regex, text, (gssize)length, 0, 0, NULL, NULL);
}

static gboolean rule_pattern(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  return !json_is_string(value) || fits(json_string_value(rule), json_string_value(value), json_string_length(value))
             ? TRUE
             : wrong(walk, "does not have the form %s", json_string_value(rule));
}

/* Objects */

static gboolean rule_properties(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  const char *name;
  json_t *inner;
  json_object_foreach((json_t *)rule, name, inner) {
    const json_t *member = json_object_get(value, name);
    if (member && !at(walk, inner, member, name, 0))
      return FALSE;
  }
  return TRUE;
}

static gboolean rule_pattern_properties(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  const char *pattern, *name;
  json_t *inner, *member;
  if (!json_is_object(value))
    return TRUE;
  json_object_foreach((json_t *)rule, pattern, inner) {
    json_object_foreach((json_t *)value, name, member) {
      if (fits(pattern, name, strlen(name)) && !at(walk, inner, member, name, 0))
        return FALSE;
    }
  }
  return TRUE;
}

static gboolean named_by_pattern(const json_t *patterns, const char *name) {
  const char *pattern;
  json_t *inner;
  json_object_foreach((json_t *)patterns, pattern, inner) if (fits(pattern, name, strlen(name))) return TRUE;
  return FALSE;
}

static gboolean rule_additional(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  const char *name;
  json_t *member;
  if (!json_is_object(value))
    return TRUE;
  json_object_foreach((json_t *)value, name, member) {
    if (json_object_get(json_object_get(schema, "properties"), name) ||
        named_by_pattern(json_object_get(schema, "patternProperties"), name))
      continue;
    if (json_is_false(rule))
      return wrong(walk, "has no place for \"%s\"", name);
    if (!at(walk, rule, member, name, 0))
      return FALSE;
  }
  return TRUE;
}

static gboolean rule_names(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  const char *name;
  json_t *member;
  if (!json_is_object(value))
    return TRUE;
  json_object_foreach((json_t *)value, name, member) {
    json_t *text = json_string(name);
    gboolean ok = matches(rule, text, walk->depth);
    json_decref(text);
    if (!ok)
      return wrong(walk, "has a member whose name is not allowed: \"%s\"", name);
  }
  return TRUE;
}

static gboolean has_all(Walk *walk, const json_t *names, const json_t *value) {
  size_t i;
  json_t *name;
  json_array_foreach((json_t *)names, i, name) {
    if (!json_object_get(value, json_string_value(name)))
      return wrong(walk, "lacks \"%s\"", json_string_value(name));
  }
  return TRUE;
}

static gboolean rule_required(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  return json_is_object(value) ? has_all(walk, rule, value) : TRUE;
}

static gboolean rule_min_properties(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  return !json_is_object(value) || (double)json_object_size(value) >= json_number_value(rule)
             ? TRUE
             : wrong(walk, "has fewer than %.0f members", json_number_value(rule));
}

static gboolean rule_max_properties(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  return !json_is_object(value) || (double)json_object_size(value) <= json_number_value(rule)
             ? TRUE
             : wrong(walk, "has more than %.0f members", json_number_value(rule));
}

static gboolean rule_dependent_required(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  const char *name;
  json_t *names;
  json_object_foreach((json_t *)rule, name, names) {
    if (json_object_get(value, name) && !has_all(walk, names, value))
      return FALSE;
  }
  return TRUE;
}

static gboolean rule_dependent_schemas(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  const char *name;
  json_t *inner;
  json_object_foreach((json_t *)rule, name, inner) {
    if (json_object_get(value, name) && !valid(walk, inner, value))
      return FALSE;
  }
  return TRUE;
}

/* Arrays */

static gboolean rule_prefix_items(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  size_t i;
  json_t *inner;
  json_array_foreach((json_t *)rule, i, inner) {
    const json_t *item = json_array_get(value, i);
    if (item && !at(walk, inner, item, NULL, (gssize)i))
      return FALSE;
  }
  return TRUE;
}

static gboolean rule_items(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  for (gsize i = json_array_size(json_object_get(schema, "prefixItems")); i < json_array_size(value); i++)
    if (!at(walk, rule, json_array_get(value, i), NULL, (gssize)i))
      return FALSE;
  return TRUE;
}

static gboolean rule_contains(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  const json_t *least = json_object_get(schema, "minContains"), *most = json_object_get(schema, "maxContains");
  size_t i;
  json_t *item;
  double found = 0;
  if (!json_is_array(value))
    return TRUE;
  json_array_foreach((json_t *)value, i, item) if (matches(rule, item, walk->depth)) found++;
  if (found < (least ? json_number_value(least) : 1))
    return wrong(walk, "holds too few items of the kind it must hold");
  return !most || found <= json_number_value(most) ? TRUE : wrong(walk, "holds too many items of one kind");
}

static gboolean rule_min_items(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  return !json_is_array(value) || (double)json_array_size(value) >= json_number_value(rule)
             ? TRUE
             : wrong(walk, "has fewer than %.0f items", json_number_value(rule));
}

static gboolean rule_max_items(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  return !json_is_array(value) || (double)json_array_size(value) <= json_number_value(rule)
             ? TRUE
             : wrong(walk, "has more than %.0f items", json_number_value(rule));
}

static gboolean rule_unique(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  if (!json_is_true(rule) || !json_is_array(value))
    return TRUE;
  for (gsize i = 0; i < json_array_size(value); i++)
    for (gsize k = 0; k < i; k++)
      if (same(json_array_get(value, i), json_array_get(value, k)))
        return wrong(walk, "has an item twice");
  return TRUE;
}

/* Combinations */

static gboolean rule_all(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  size_t i;
  json_t *inner;
  json_array_foreach((json_t *)rule, i, inner) if (!valid(walk, inner, value)) return FALSE;
  return TRUE;
}

static guint count_matches(const json_t *rule, const json_t *value, guint depth) {
  size_t i;
  json_t *inner;
  guint found = 0;
  json_array_foreach((json_t *)rule, i, inner) if (matches(inner, value, depth)) found++;
  return found;
}

static gboolean rule_any(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  return count_matches(rule, value, walk->depth) > 0 ? TRUE : wrong(walk, "fits none of the allowed forms");
}

static gboolean rule_one(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  return count_matches(rule, value, walk->depth) == 1 ? TRUE : wrong(walk, "does not fit exactly one allowed form");
}

static gboolean rule_not(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  return matches(rule, value, walk->depth) ? wrong(walk, "has a form that is not allowed") : TRUE;
}

static gboolean rule_if(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value) {
  const json_t *next = json_object_get(schema, matches(rule, value, walk->depth) ? "then" : "else");
  return !next || valid(walk, next, value);
}

static const struct {
  const char *name;
  gboolean (*rule)(Walk *walk, const json_t *rule, const json_t *schema, const json_t *value);
} rules[] = {
    {"type", rule_type},
    {"enum", rule_enum},
    {"const", rule_const},
    {"minimum", rule_minimum},
    {"maximum", rule_maximum},
    {"exclusiveMinimum", rule_above},
    {"exclusiveMaximum", rule_below},
    {"multipleOf", rule_multiple},
    {"minLength", rule_min_length},
    {"maxLength", rule_max_length},
    {"pattern", rule_pattern},
    {"required", rule_required},
    {"additionalProperties", rule_additional},
    {"properties", rule_properties},
    {"patternProperties", rule_pattern_properties},
    {"propertyNames", rule_names},
    {"minProperties", rule_min_properties},
    {"maxProperties", rule_max_properties},
    {"dependentRequired", rule_dependent_required},
    {"dependentSchemas", rule_dependent_schemas},
    {"prefixItems", rule_prefix_items},
    {"items", rule_items},
    {"contains", rule_contains},
    {"minItems", rule_min_items},
    {"maxItems", rule_max_items},
    {"uniqueItems", rule_unique},
    {"allOf", rule_all},
    {"anyOf", rule_any},
    {"oneOf", rule_one},
    {"not", rule_not},
    {"if", rule_if},
};

static gboolean valid(Walk *walk, const json_t *schema, const json_t *value) {
  if (json_is_boolean(schema))
    return json_is_true(schema) ? TRUE : wrong(walk, "is not allowed");
  if (walk->depth >= MAX_DEPTH)
    return wrong(walk, "is nested too deeply");
  walk->depth++;
  gboolean ok = TRUE;
  for (gsize i = 0; i < G_N_ELEMENTS(rules) && ok; i++) {
    const json_t *rule = json_object_get(schema, rules[i].name);
    if (rule)
      ok = rules[i].rule(walk, rule, schema, value);
  }
  walk->depth--;
  return ok;
}

gboolean choir_schema_validate(const json_t *schema, const json_t *value, GError **error) {
  g_autoptr(GString) path = g_string_new("arguments");
  g_autoptr(GError) ignored = NULL;
  Walk walk = {.path = path, .error = error ? error : &ignored};
  return valid(&walk, schema, value);
}
