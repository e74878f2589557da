/* A writer that is killed at work: what it had acknowledged by then must be there afterwards. */
#pragma once
#include <glib.h>
#include <stdio.h>

/* Runs argv (ended by NULL) with its output in a pipe and kills it after a random time in [least_us, most_us) behind
 * its start, or behind its first output with `at_work`. What it put out; caller closes. A last line that was cut was
 * not read by anybody either. */
FILE *killed_child(const char *const *argv, gboolean at_work, gint32 least_us, gint32 most_us);
/* The number on each whole line is appended (gint64), and the file closed. */
void killed_lines(FILE *lines, GArray *acknowledged);
