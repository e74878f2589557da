/* Which words of what was said stand where an argument stands in an action's examples: between the same neighbours, of
 * the same length and kind. A nearest-neighbour search like the shortlist's, one level deeper; it knows nothing of any
 * action but its examples. Pure; any thread. */
#pragma once
#include <jansson.h>
#include "agent/tool.h"

#define CHOIR_ALIGN_MOST 4

/* Those of the texts in spans (words of `said`) that are most like the values of key in the examples, best first, at
 * most CHOIR_ALIGN_MOST; all of them where no example says anything. New reference. */
json_t *choir_align(json_t *spans, const char *key, const char *said, const ChoirToolShot *shots);
/* Those of the choices that were said, word by word, without those that are part of a longer one that was; all of them
 * where none was. New reference. */
json_t *choir_align_said(json_t *choices, const char *said);
/* Whether the example's value of key is words of its own text. */
gboolean choir_align_is_copied(const ChoirToolShot *shot, const char *key);
