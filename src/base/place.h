/* Where the files that belong to a program are: beside it in a build folder, or below the prefix that it was installed
 * to (/usr: programs and engine in lib/choir, data in share/choir, settings in /etc/choir). Nothing is cached; any
 * thread. */
#pragma once
#include <glib.h>

typedef struct {
  gboolean installed; /* else: a build folder of a checkout */
  char *own;          /* folder of the program itself */
  char *library;      /* installed: PREFIX/lib/choir; else NULL */
  char *data;         /* installed: PREFIX/share/choir; else NULL */
  char *settings;     /* installed: the root's etc/choir; else NULL */
} ChoirPlace;

/* program: an absolute path, links resolved; NULL is the running one. */
void choir_place_find(ChoirPlace *place, const char *program);
void choir_place_clear(ChoirPlace *place);
/* The first that exists, else the last one; words end with NULL, and a NULL or empty `setting` is passed over, while
 * one that is set is taken as it stands. Caller frees. */
char *choir_place_first(const char *setting, ...) G_GNUC_NULL_TERMINATED;
