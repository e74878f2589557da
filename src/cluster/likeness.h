/* Which of several classes a sentence belongs to, by the examples of each: naive Bayes over words and pairs of words
 * (stems), so a few dozen examples are enough and an answer costs nothing. Pure. */
#pragma once
#include <glib.h>

#define CHOIR_LIKENESS_CLASSES 64

typedef struct ChoirLikeness ChoirLikeness;

ChoirLikeness *choir_likeness_new(void);
void choir_likeness_free(ChoirLikeness *likeness);
/* Classes are numbered from 0 in the order in which they first appear. */
void choir_likeness_add(ChoirLikeness *likeness, guint class, const char *example);
guint choir_likeness_classes(const ChoirLikeness *likeness);
/* ret_shares: for each class its probability; all 0 when no word is known. Returns how much of the sentence is known,
 * 0 to 1. */
double choir_likeness_ask(const ChoirLikeness *likeness, const char *text, double *ret_shares);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirLikeness, choir_likeness_free)
