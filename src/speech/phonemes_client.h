/* Asks choir-phonemes (src/speech/phonemes/phonemes_main.c describes the lines). One thread; blocking, with a deadline.
 */
#pragma once
#include <glib.h>

#define CHOIR_PHONEMES_ERROR_GONE 1 /* code in the domain choir-speech-error: the process is gone for good */

typedef struct ChoirPhonemes ChoirPhonemes;
ChoirPhonemes *choir_phonemes_new(int fd);
void choir_phonemes_free(ChoirPhonemes *phonemes);
/* at: character of the IPA (from 0) where the word's phonemes begin, -1 = not known. */
typedef void (*ChoirPhonemesWord)(guint offset, guint count, int at, gpointer user);
/* text: one clause, length bytes. word is called for each word spoken, offset relative to text. Caller frees the IPA.
 * NULL with error. */
char *choir_phonemes_ask(ChoirPhonemes *phonemes, const char *text, gsize length, ChoirPhonemesWord word, gpointer user,
                         GError **error);
/* Parses "offset:count:at offset:count ..."; FALSE when it is not that. */
gboolean choir_phonemes_parse_words(const char *list, ChoirPhonemesWord word, gpointer user);
