/* Text before it is spoken, and the silence around it after; pure functions and plain structs, one thread. */
#pragma once
#include <glib.h>
#include "speech/tts.h"

/* A copy of the same length in bytes, in which everything that is not to be read aloud (control characters, Markdown's
 * signs, emoji, bytes that are not UTF-8) is blank and every "word" of more than 48 characters is broken. Offsets
 * therefore stay true. Caller frees. */
char *choir_tts_text_clean(const char *text, gsize length);
gboolean choir_tts_text_speakable(const char *text); /* holds a letter or a digit */
/* GArray of ChoirTtsWord: one row for each run of non-blank bytes of the original text, phonemes 0. */
GArray *choir_tts_words(const char *text, gsize length);
/* Adds phonemes to the word that holds the byte at offset (or the last one before it). */
void choir_tts_words_add(GArray *words, guint offset, guint phonemes);
int choir_tts_words_find(const GArray *words, guint offset); /* that word's row, -1 when there is none */
/* Words that are letters and got nothing because the phonemiser joined them to their neighbour ("of the") share its
 * phonemes. */
void choir_tts_words_share(GArray *words, const char *text);
/* End of the next piece to be synthesised in one go: behind the sentence end, or behind the first comma or space past
 * `soft` bytes; never behind `length`. */
gsize choir_tts_piece(const char *text, gsize length, gsize soft);

/* Drops silence before the first sound and after the last one, except what belongs to natural speech. */
typedef struct {
  guint rate;
  gboolean started;
  guint64 dropped; /* samples before the first sound */
  GArray *held;    /* gint16: silence that may turn out to be the end */
} ChoirTtsTrim;
void choir_tts_trim_init(ChoirTtsTrim *trim, guint rate);
void choir_tts_trim_clear(ChoirTtsTrim *trim);
/* Appends to out (gint16) what is known to stay. */
void choir_tts_trim_run(ChoirTtsTrim *trim, const gint16 *samples, gsize n, GArray *out);
void choir_tts_trim_end(ChoirTtsTrim *trim, GArray *out);
