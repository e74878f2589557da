/* JSON Schema of a function's arguments to a grammar (GBNF) that can write nothing else. Pure; any thread.
 *
 * What cannot be said in a grammar is refused, never left out: then nothing is decoded at all. Taken: type (also a
 * list), enum, const, properties, required, additionalProperties, items, minItems, maxItems, minLength, maxLength,
 * minimum, maximum, exclusiveMinimum, exclusiveMaximum (whole numbers; for other numbers only ranges between whole
 * numbers from 0 on), anyOf, oneOf, and notes (title, description, default, examples, format, $schema, ...). Where the
 * schema sets no limit, the grammar does: 200 characters, 8 members of a list, 15 digits. */
#pragma once
#include <glib.h>
#include <jansson.h>

#define CHOIR_CALL_ERROR (choir_call_error_quark())
GQuark choir_call_error_quark(void);
enum {
  CHOIR_CALL_ERROR_SCHEMA, /* a grammar cannot be made of it */
  CHOIR_CALL_ERROR_TOOLS,  /* the list of functions is not one */
  CHOIR_CALL_ERROR_MODEL,  /* no language model, or one that takes no grammar */
  CHOIR_CALL_ERROR_LATE,   /* it took too long */
  CHOIR_CALL_ERROR_BROKEN, /* what was decoded is not what the schema says: the call is refused */
};

#define CHOIR_CALL_MAX_GRAMMAR (48 * 1024) /* bytes */

typedef enum {
  CHOIR_CALL_WIDE,
  CHOIR_CALL_TIGHT, /* texts of 48 characters and lists of one member where the schema allows it, for a model that does
                     * not find an end */
  /* As tight, and in printable ASCII without '<' and '[' (in an enum: escaped), so that nothing a vocabulary holds (a
   * byte of a character, a mark of the chat, which has a text for the grammar and none in what is written) can spoil
   * it. Every token writes at least one byte, and there are few: it always ends. */
  CHOIR_CALL_PLAIN,
} ChoirCallWidth;

/* NULL with CHOIR_CALL_ERROR_SCHEMA, which names the place; caller frees. The grammar writes one JSON value on one
 * line, ", " and ": " between members, properties in the schema's order. */
char *choir_call_grammar(const json_t *schema, ChoirCallWidth width, GError **error);
/* A part of such an object: a blank and a value of schema (NULL: none), then one of ends ("}"; NULL-ended). As above.
 */
char *choir_call_grammar_part(const json_t *schema, const char *const *ends, ChoirCallWidth width, GError **error);
/* The expression for whole numbers from low to high; caller frees. */
char *choir_call_grammar_range(gint64 low, gint64 high);
