/* JSON Schema (2020-12), the part that tools need: validation that refuses what it does not know instead of skipping
 * it. Pure; any thread.
 * Keywords: type enum const minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength pattern
 * properties required additionalProperties patternProperties propertyNames minProperties maxProperties items
 * prefixItems minItems maxItems uniqueItems contains minContains maxContains allOf anyOf oneOf not if then else
 * dependentRequired dependentSchemas; title description default examples $comment $schema are notes. */
#pragma once
#include <glib.h>
#include <jansson.h>

#define CHOIR_SCHEMA_ERROR (choir_schema_error_quark())
GQuark choir_schema_error_quark(void);
enum { CHOIR_SCHEMA_ERROR_SCHEMA, CHOIR_SCHEMA_ERROR_VALUE };

/* FALSE with CHOIR_SCHEMA_ERROR_SCHEMA: a keyword is unknown or its value is wrong; the error names the place. */
gboolean choir_schema_check(const json_t *schema, GError **error);
/* As above, and every object in it is closed, every string and array bounded (or an enum): fit for a tool. */
gboolean choir_schema_check_closed(const json_t *schema, GError **error);
/* FALSE with CHOIR_SCHEMA_ERROR_VALUE: the first thing wrong, as "arguments.host: is longer than 253 characters". */
gboolean choir_schema_validate(const json_t *schema, const json_t *value, GError **error);
