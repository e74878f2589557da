/* What an argument may be when it is to be the person's own: runs of words of what was said, and numbers that were
 * said. Pure; any thread. */
#pragma once
#include <jansson.h>
#include <glib.h>

/* Every run of words of a text of at most `most` bytes that may stand alone (it neither begins nor ends in the middle
 * of a phrase), without the punctuation around it; at most 250, short ones first; caller decrefs. */
json_t *choir_spans(const char *text, gsize most);
/* For a model that is too small to be left alone with a schema: arguments that are not required and not in keys (JSON
 * texts of arguments) are left out, strings with "$comment":"copied" become enums of spans, whole numbers enums of the
 * numbers that were said, or their "default" when none was. Values in `wrong` (arguments that did not work) are left
 * out of the enums. Where a required one has nothing to be copied from, its enum is empty: no grammar is made of it.
 * Takes schema, returns the new one; caller decrefs. */
json_t *choir_spans_bind(json_t *schema, const char *text, const char *const *keys, const json_t *wrong,
                         gboolean small);
