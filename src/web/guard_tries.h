/* Back-off for passwords and codes: after a few failures the wait doubles, by address and by name. Main thread only. */
#pragma once
#include <glib.h>

typedef struct ChoirTries ChoirTries;
ChoirTries *choir_tries_new(void);
void choir_tries_free(ChoirTries *tries);
/* Seconds this key still has to wait, 0 = it may try. */
guint choir_tries_wait(ChoirTries *tries, const char *key);
/* Counted before the answer is known, so that many at once do not pass together. */
void choir_tries_begin(ChoirTries *tries, const char *key);
void choir_tries_good(ChoirTries *tries, const char *key);
