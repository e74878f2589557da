/* What a confined program gets, as it travels from the daemon to choir-sandbox in a memory file, never in argv, so that
 * nothing of it shows in the list of processes. choir-sandbox is started twice for each program and links nothing but
 * the C library: of GLib it has the types only. */
#pragma once
#include <glib.h>

typedef struct {
  char **argv, **env, **writable, **hidden; /* NULL-ended */
  char *cwd, *proxy_socket;                 /* the latter may be NULL */
  guint seconds, cpu_seconds, memory_mb, processes, file_mb;
  gboolean pty, network, full; /* full: bubblewrap as well */
} ChoirLimits;

/* The daemon's side: a memory file with them, -1 with errno. */
int choir_limits_write(const ChoirLimits *limits);
/* choir-sandbox's side; the limits live as long as the process. The file's place is left as it is, for the inner step.
 * FALSE: it is no such file. */
gboolean choir_limits_read(int fd, ChoirLimits *ret_limits);
