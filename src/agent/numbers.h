/* Whole numbers as people say them. Pure; any thread. */
#pragma once
#include <glib.h>

/* "12", "twelve", "second", "2nd": FALSE when the word is no number. */
gboolean choir_number_read(const char *word, gint64 *ret_number);
/* The numbers of a text in the order in which they are said, "one hundred twenty" as 120; at most `most`. */
guint choir_numbers_in(const char *text, gint64 *ret_numbers, guint most);
