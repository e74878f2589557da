/* Is a transcript the agent's own voice, heard by the microphone? Compares its words with what was played: recognisers
 * mishear an echo, so words count as equal when few letters differ, and some may be missing. Pure, no allocation. */
#pragma once
#include <glib.h>

/* played: the end of what the listener may have heard by then. strict: while echo cancellation is still finding its
 * way less resemblance is enough. */
gboolean echo_gate_repeats(const char *heard, const char *played, gboolean strict);
