/* All processes below one, read from /proc. */
#pragma once
#include <glib.h>
#include <sys/types.h>

typedef struct {
  GArray *pids; /* pid_t, parents before children */
  guint64 resident_kb;
} ChoirTree;

/* Every descendant of root, root itself not among them. ret is cleared by choir_tree_clear(). */
void choir_tree_read(pid_t root, ChoirTree *ret_tree);
void choir_tree_clear(ChoirTree *tree);
