/* What an argument may be when it is to be the person's own: runs of words of what was said, and numbers that were
 * said. Pure; any thread. */
#pragma once
#include <jansson.h>
#include <glib.h>
#include "agent/tool.h"

/* Every run of words of a text of at most `most` bytes that may stand alone (it neither begins nor ends in the middle
 * of a phrase), without the punctuation around it; at most 250 and 10 KiB, short ones first; caller decrefs. */
json_t *choir_spans(const char *text, gsize most);
/* The examples of an action, and those of them that are most like what was said, best first. */
typedef struct {
  const ChoirToolShot *all; /* ends with said NULL; may be NULL */
  const ChoirToolShot *const *near;
  guint n_near;
} ChoirSpanShots;

/* Strings with "$comment":"copied" become enums of spans. For a model that is too small to be left alone with a schema,
 * moreover: arguments that are not required and in none of the near examples are left out; of the spans only those stay
 * that stand as in the examples (agent/align.h), also for strings that the two nearest examples copy; whole numbers
 * become enums of the numbers that were said, or their "default" when none was, with "$comment":"said"; of
 * the values of an enum those stay that were said, if any were. Values in
 * `wrong` (arguments that did not work) are left out of the enums. Where a required one has nothing to be copied from
 * that could stand alone, it is all that was said. Takes schema, returns the new one; caller decrefs. */
json_t *choir_spans_bind(json_t *schema, const char *text, const ChoirSpanShots *shots, const json_t *wrong,
                         gboolean small);
