#pragma once
#include <glib.h>

/* The spoken form of n bytes of a reply: same length, marks became spaces. NULL when nothing is left to say. before:
 * the byte in front (line starts matter). fence: inside a code block, updated. Caller frees. */
char *choir_clause_speakable(const char *text, gsize n, char before, gboolean *fence);
