/* Shared by schema.c and schema_value.c. */
#pragma once
#include "agent/schema.h"

gboolean choir_schema_type_known(const char *name);
/* NULL when it cannot be compiled; caller unrefs. Unanchored, as JSON Schema wants it. */
GRegex *choir_schema_regex(const char *pattern);
