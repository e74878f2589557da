/* Fork and exec of one child with its descriptors, limits and ties to us. Between the two only async-signal-safe calls.
 */
#pragma once
#include <glib.h>
#include <sys/types.h>

#define CHOIR_CHILD_MAX_FDS 16

typedef struct {
  const char *path; /* absolute or relative, not searched */
  char *const *argv, *const *envp;
  int output;     /* becomes its stdout and stderr; stdin is /dev/null */
  const int *fds; /* become 3, 4, ... */
  guint n_fds;
  pid_t parent;
  int nice;
  guint64 cpu_mask;
} ChoirChildExec;

/* For a fork of one's own, between fork and exec: every signal as if nobody had touched it. Whoever started us in the
 * background may have had SIGINT ignored, and then no Ctrl-C would ever reach a program in a terminal. */
void choir_child_reset_signals(void);
/* The child's pid, or -1 with errno. Main thread only: PDEATHSIG follows the forking thread. */
pid_t choir_child_fork(const ChoirChildExec *exec);
