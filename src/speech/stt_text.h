/* Cleaning of recognised text and cutting of long recordings; pure functions, any thread. */
#pragma once
#include <glib.h>

/* Removes what models write when nobody speaks: "[BLANK_AUDIO]", "(music)", "*sighs*", notes. What is left is trimmed.
 * In place. */
void choir_stt_text_clean(GString *text);
/* TRUE for short sentences that Whisper is known to make up from noise ("Thank you.", "Thanks for watching!"); to be
 * dropped when the probability of no speech is not small. */
gboolean choir_stt_text_is_phantom(const char *text);
/* TRUE when the same words come over and over, the decoder's well-known loop. */
gboolean choir_stt_text_is_loop(const char *text);
/* Length of the next piece of a recording: all of it up to `most` samples, else a cut at the quietest 100 ms of the
 * last third before `most`. */
gsize choir_stt_cut(const gint16 *samples, gsize n, gsize most);
