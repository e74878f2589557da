/* Notices that a small model begins to repeat itself within one reply. One thread. */
#pragma once
#include <glib.h>

typedef struct {
  GHashTable *seen; /* sentences of this reply, normalised */
  gsize sentence;   /* where the current one begins */
  gsize scanned;
} ChoirRepeat;

void choir_repeat_init(ChoirRepeat *repeat);
void choir_repeat_clear(ChoirRepeat *repeat);
/* reply: everything so far. Returns the length to keep (the end of the last fresh text) when a sentence of at least
 * three words came a second time or the tail is one phrase three times over; G_MAXSIZE while all is well. */
gsize choir_repeat_check(ChoirRepeat *repeat, const char *reply, gsize length);
