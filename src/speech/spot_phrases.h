/* The phrases of the keyphrase spotter: one table with their kind, their phones (CMU's set, as in cmudict) and their
 * threshold, and the wake phrase of the settings. Immutable after it is made; any thread. */
#pragma once
#include <glib.h>
#include "speech/wire.h"

typedef struct {
  const char *text;   /* what is reported: "hold on" */
  const char *phones; /* "HH OW L D AA N" */
  guint kind;         /* CHOIR_SPOT_ */
  int threshold;      /* it counts when it fits better than 10^threshold times a loop of any phones */
} ChoirSpotPhrase;

typedef struct ChoirSpotPhrases ChoirSpotPhrases;
/* dictionary: path of cmudict (words not in it are pronounced by rule where the build has flite). wake: phrases
 * separated by commas, each of one to five words; NULL or "" = none. ret_problem: one sentence about a wake phrase that
 * cannot be listened for, else NULL; caller frees. */
ChoirSpotPhrases *choir_spot_phrases_new(const char *wake, const char *dictionary, char **ret_problem);
void choir_spot_phrases_free(ChoirSpotPhrases *phrases);
guint choir_spot_phrases_count(const ChoirSpotPhrases *phrases);
const ChoirSpotPhrase *choir_spot_phrases_get(const ChoirSpotPhrases *phrases, guint index);
/* The pronunciations (each once) of a word, in CMU's phones: from the dictionary, else by rule. Empty when there is
 * none. GPtrArray of strings, the caller's. */
GPtrArray *choir_spot_pronounce(const char *word, const char *dictionary);
