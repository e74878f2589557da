/* A supervised child process: PDEATHSIG with a getppid check, stderr into our log, restart with back-off.
 * Main thread only (PDEATHSIG follows the forking thread). The child also sees EOF on its sockets when we die. */
#pragma once
#include <glib.h>

typedef struct ChoirChild ChoirChild;
typedef enum {
  CHOIR_CHILD_STOPPED,
  CHOIR_CHILD_STARTING,
  CHOIR_CHILD_READY,
  CHOIR_CHILD_BACKOFF,
  CHOIR_CHILD_STOPPING
} ChoirChildState;

typedef struct {
  const char *name;  /* "choir-stt": status, metrics (choir_child_restarts_total) */
  const char *topic; /* log topic for its stderr lines */
  /* Called before every start: fills argv (NULL-ended, caller frees with g_strfreev) and envp additions ("K=V", may
   * stay NULL), and may create sockets: each fd in `fds` appears in the child as 3, 4, ... and is closed in the parent.
   * FALSE with error: the start counts as failed and backs off. */
  gboolean (*prepare)(ChoirChild *child, GStrv *ret_argv, GStrv *ret_env, GArray *fds /* int */, gpointer user,
                      GError **error);
  void (*started)(ChoirChild *child, GPid pid, gpointer user);       /* may be NULL */
  void (*exited)(ChoirChild *child, int wait_status, gpointer user); /* may be NULL; before the back-off starts */
  /* Level of one of its output lines, -1 = by "error:", "warning:", "debug:" at its front; may be NULL. */
  int (*line_level)(const char *line);
  void (*line)(ChoirChild *child, const char *line, gpointer user); /* each output line, for its meaning; may be NULL */
  gpointer user;
  int nice;            /* added niceness, 0 for none */
  guint64 cpu_mask;    /* sched_setaffinity bits, 0 for all */
  guint stop_grace_ms; /* SIGTERM, then SIGKILL after this; 0 = 3000 */
} ChoirChildSpec;

ChoirChild *choir_child_new(const ChoirChildSpec *spec); /* copies the spec; strings must be static or outlive it */
void choir_child_start(ChoirChild *child);
void choir_child_mark_ready(
    ChoirChild *child); /* resets the back-off unless it died soon after being ready three times in a row */
void choir_child_kill(ChoirChild *child, int signal); /* e.g. SIGKILL a loop; it restarts with back-off */
/* Asks it to stop; `done` runs on the main context once it is gone. */
void choir_child_stop(ChoirChild *child, void (*done)(gpointer user), gpointer user);
void choir_child_free(ChoirChild *child); /* kills without waiting if it still runs */
ChoirChildState choir_child_state(const ChoirChild *child);
const char *choir_child_state_name(ChoirChildState state); /* "stopped" "starting" "ready" "backoff" "stopping" */
GPid choir_child_pid(const ChoirChild *child);             /* 0 when not running */
guint choir_child_restarts(const ChoirChild *child);
const char *choir_child_name(const ChoirChild *child);
const char *
choir_child_last_error(const ChoirChild *child);    /* "killed by signal 11", "exit 1: <last stderr line>", or NULL */
gint64 choir_child_rss_kb(const ChoirChild *child); /* VmRSS, -1 when not running */
