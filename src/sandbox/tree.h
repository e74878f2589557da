/* All processes below one, read from /proc. */
#pragma once
#include <glib.h>
#include <sys/types.h>

typedef struct {
  pid_t *pids; /* parents before children */
  guint n;
  guint64 resident_kb;
} ChoirTree;

/* Every descendant of root, root itself not among them. One that is born or orphaned meanwhile may be missed: look
 * again. ret is cleared by choir_tree_clear(). */
void choir_tree_read(pid_t root, ChoirTree *ret_tree);
void choir_tree_clear(ChoirTree *tree);
