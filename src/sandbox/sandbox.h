/* Runs a program where it can do no harm: bubblewrap (own mounts, processes, network, IPC) + seccomp + Landlock +
 * rlimits. Read-only root, private /tmp, one writable folder, no network unless asked for. Probed once; where
 * namespaces are not allowed it degrades to Landlock + seccomp, and says so in one line; where that is missing too
 * nothing runs in it. Main thread only. */
#pragma once
#include <gio/gio.h>

typedef struct ChoirSandbox ChoirSandbox;

typedef enum {
  CHOIR_SANDBOX_NONE,     /* nothing that needs it may run */
  CHOIR_SANDBOX_LANDLOCK, /* Landlock + seccomp + rlimits */
  CHOIR_SANDBOX_FULL,     /* bubblewrap as well */
} ChoirSandboxMode;

typedef struct {
  const char *const *argv; /* program by absolute path or found in /usr/bin:/bin */
  const char *const *env;  /* "NAME=value"; the daemon's own environment is never passed on. NULL = PATH HOME LANG */
  const char *cwd;         /* inside a writable folder; NULL = the first one */
  const char *const *writable; /* absolute folders, NULL-ended */
  const char *const *hidden;   /* folders and files masked even for reading: state, keys, ~/.ssh */
  const char *proxy_socket;    /* unix socket of a filtering proxy, the only way out; NULL = no network */
  gboolean network;            /* the machine's own network: for calls that a person approved */
  guint seconds;               /* wall clock, 0 = 30; then SIGKILL to all of it */
  guint cpu_seconds;           /* 0 = same as seconds */
  guint memory_mb;             /* 0 = 512 */
  guint processes;             /* 0 = 64 */
  guint file_mb;               /* largest file it may write, 0 = 64 */
  gsize output_max;            /* bytes of each stream that are kept, 0 = 64 KiB */
  int stdin_fd;                /* -1 = /dev/null; ignored with a pty */
  gboolean pty;                /* stdin, stdout, stderr are a terminal of rows x columns */
  guint16 rows, columns;       /* 0 = 24 x 80 */
} ChoirSandboxSpec;

typedef struct ChoirSandboxRun ChoirSandboxRun;
typedef struct {
  /* Any bytes, as they come; stream 1 or 2 (a pty has 1 only). */
  void (*output)(ChoirSandboxRun *run, int stream, const char *data, gsize length, gpointer user);
  /* Exactly once, when all its processes are gone. status: as waitpid(); killed: NULL, or "time", "memory",
   * "cancelled". The run is freed after it returns. */
  void (*ended)(ChoirSandboxRun *run, int status, const char *killed, gpointer user);
} ChoirSandboxHandlers;

/* program: choir-sandbox, the helper that applies the limits. */
ChoirSandbox *choir_sandbox_new(const char *program);
void choir_sandbox_free(ChoirSandbox *sandbox); /* kills what runs */
ChoirSandboxMode choir_sandbox_mode(const ChoirSandbox *sandbox);
/* Uses no more than this mode from now on: what a lesser kernel would give. For tests. */
void choir_sandbox_lower(ChoirSandbox *sandbox, ChoirSandboxMode mode);
const char *choir_sandbox_why(const ChoirSandbox *sandbox); /* one sentence: what is used, or what is missing */
/* NULL with error when it cannot start (mode NONE included). */
ChoirSandboxRun *choir_sandbox_run(ChoirSandbox *sandbox, const ChoirSandboxSpec *spec,
                                   const ChoirSandboxHandlers *handlers, gpointer user, GError **error);
gboolean choir_sandbox_write(ChoirSandboxRun *run, const char *data,
                             gsize length); /* to a pty; bounded, FALSE = full */
void choir_sandbox_resize(ChoirSandboxRun *run, guint16 rows, guint16 columns);
void choir_sandbox_kill(ChoirSandboxRun *run);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirSandbox, choir_sandbox_free)
