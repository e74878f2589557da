#include "sandbox/sandbox.h"
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <glib-unix.h>
#include "base/child_exec.h"
#include "base/log.h"
#include "base/names.h"
#include "sandbox/confine_spec.h"
#include "sandbox/landlock.h"

#define PROGRAM "choir-sandbox"
#define RUNS_MAX 16
#define OUTPUT_MAX (64u << 10)
#define INPUT_MAX (64u << 10) /* typed and not yet read */
#define PROBE_MS 5000

struct ChoirSandbox {
  char *program, *why;
  ChoirSandboxMode mode;
  GPtrArray *runs;
};

typedef struct {
  int fd;
  guint source;
  gsize left; /* of output_max */
} Stream;

struct ChoirSandboxRun {
  ChoirSandbox *sandbox; /* NULL once it goes */
  ChoirSandboxHandlers handlers;
  gpointer user;
  pid_t pid;
  Stream stream[2]; /* stdout, stderr; a terminal is the first */
  int report_fd;
  guint watch, writable;
  GString *input;
  char report[64];
  gsize report_length;
  gboolean gone, pty;
  int wait_status;
};

static const char *const default_env[] = {"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "TERM=xterm-256color",
                                          NULL};

/* What travels to choir-sandbox, as a memory file. The daemon's own environment never does. */
static int write_limits(const ChoirSandbox *sandbox, const ChoirSandboxSpec *spec) {
  static char *const none[] = {NULL};
  g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
  gboolean full = sandbox->mode == CHOIR_SANDBOX_FULL;
  const char *first = spec->writable && spec->writable[0] ? spec->writable[0] : "/tmp";
  g_autofree char *home = g_strconcat("HOME=", first, NULL);
  g_autofree char *tmp = g_strconcat("TMPDIR=", full ? "/tmp" : first, NULL);
  g_strv_builder_addv(builder, (const char **)default_env);
  g_strv_builder_add(builder, home);
  g_strv_builder_add(builder, tmp);
  if (spec->env)
    g_strv_builder_addv(builder, (const char **)spec->env);
  g_auto(GStrv) env = g_strv_builder_end(builder);
  guint seconds = spec->seconds ? spec->seconds : 30;
  ChoirLimits limits = {
      .argv = (char **)spec->argv,
      .env = env,
      .writable = (char **)(spec->writable ? (char *const *)spec->writable : none),
      .hidden = (char **)(spec->hidden ? (char *const *)spec->hidden : none),
      .cwd = (char *)(spec->cwd ? spec->cwd : first),
      .proxy_socket = (char *)spec->proxy_socket,
      .seconds = seconds,
      .cpu_seconds = spec->cpu_seconds ? spec->cpu_seconds : seconds,
      .memory_mb = spec->memory_mb ? spec->memory_mb : 512,
      .processes = spec->processes ? spec->processes : 64,
      .file_mb = spec->file_mb ? spec->file_mb : 64,
      .pty = spec->pty,
      .network = spec->network,
      .full = full,
  };
  return choir_limits_write(&limits);
}

/* Between fork and exec: only what is safe there. */
static void become(const ChoirSandbox *sandbox, int in, int out, int err, int spec, int report) {
  char *const argv[] = {(char *)PROGRAM, NULL}, *const env[] = {(char *)"PATH=/usr/bin:/bin", NULL};
  choir_child_reset_signals();
  /* High numbers first, so that none of the five overwrites another. */
  int fds[] = {in, out, err, spec, report};
  for (int i = 0; i < 5; i++)
    fds[i] = fcntl(fds[i], F_DUPFD, 10);
  for (int i = 0; i < 5; i++)
    if (dup2(fds[i], i) < 0)
      _exit(126);
  if (close_range(5, ~0u, 0) == 0)
    execve(sandbox->program, argv, env);
  _exit(126);
}

static void run_free(ChoirSandboxRun *run) {
  for (guint i = 0; i < 2; i++) {
    g_clear_handle_id(&run->stream[i].source, g_source_remove);
    if (run->stream[i].fd >= 0)
      close(run->stream[i].fd);
  }
  g_clear_handle_id(&run->watch, g_source_remove);
  g_clear_handle_id(&run->writable, g_source_remove);
  if (run->report_fd >= 0)
    close(run->report_fd);
  if (run->sandbox)
    g_ptr_array_remove_fast(run->sandbox->runs, run);
  g_string_free(run->input, TRUE);
  g_free(run);
}

/* All its processes are gone and both streams are read to their end. */
static void maybe_end(ChoirSandboxRun *run) {
  if (!run->gone || run->stream[0].source != 0 || run->stream[1].source != 0)
    return;
  char killed[32] = "";
  int status = run->wait_status;
  run->report[run->report_length] = '\0';
  if (sscanf(run->report, "%d %31s", &status, killed) != 2)
    g_strlcpy(killed, "lost", sizeof killed); /* choir-sandbox itself died */
  if (run->handlers.ended)
    run->handlers.ended(run, status, g_str_equal(killed, "-") ? NULL : killed, run->user);
  run_free(run);
}

static gboolean on_stream(int fd, GIOCondition condition, gpointer user) {
  ChoirSandboxRun *run = user;
  Stream *stream = &run->stream[run->stream[0].fd == fd ? 0 : 1];
  char buffer[8192];
  ssize_t n = read(fd, buffer, sizeof buffer);
  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    return G_SOURCE_CONTINUE;
  if (n <= 0) { /* EIO is the end of a terminal */
    stream->source = 0;
    maybe_end(run);
    return G_SOURCE_REMOVE;
  }
  gsize keep = MIN((gsize)n, stream->left);
  if (!run->pty)
    stream->left -= keep; /* a terminal is a screen, not a file: it may go on for ever */
  if (keep > 0 && run->handlers.output)
    run->handlers.output(run, stream == run->stream ? 1 : 2, buffer, keep, run->user);
  return G_SOURCE_CONTINUE;
}

static void on_gone(GPid pid, int status, gpointer user) {
  ChoirSandboxRun *run = user;
  run->watch = 0;
  run->gone = TRUE;
  run->wait_status = status;
  ssize_t n = read(run->report_fd, run->report, sizeof run->report - 1);
  run->report_length = n > 0 ? (gsize)n : 0;
  maybe_end(run);
}

static void watch_stream(ChoirSandboxRun *run, guint index, int fd, gsize most) {
  run->stream[index].fd = fd;
  run->stream[index].left = most ? most : OUTPUT_MAX;
  g_unix_set_fd_nonblocking(fd, TRUE, NULL);
  run->stream[index].source = g_unix_fd_add(fd, G_IO_IN | G_IO_HUP | G_IO_ERR, on_stream, run);
}

typedef struct {
  int in, out, err;    /* the program's ends */
  int read[2], master; /* ours */
} Ends;

static gboolean open_ends(const ChoirSandboxSpec *spec, Ends *ends) {
  int out[2] = {-1, -1}, err[2] = {-1, -1};
  *ends = (Ends){-1, -1, -1, {-1, -1}, -1};
  if (spec->pty) {
    struct winsize size = {.ws_row = spec->rows ? spec->rows : 24, .ws_col = spec->columns ? spec->columns : 80};
    if (openpty(&ends->master, &ends->in, NULL, NULL, &size) != 0)
      return FALSE;
    fcntl(ends->master, F_SETFD, FD_CLOEXEC);
    fcntl(ends->in, F_SETFD, FD_CLOEXEC);
    ends->out = ends->err = ends->in;
    return TRUE;
  }
  ends->in = spec->stdin_fd > 0 ? fcntl(spec->stdin_fd, F_DUPFD_CLOEXEC, 3) : open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (ends->in < 0 || pipe2(out, O_CLOEXEC) != 0)
    return FALSE;
  if (pipe2(err, O_CLOEXEC) != 0) {
    close(out[0]);
    close(out[1]);
    return FALSE;
  }
  ends->read[0] = out[0];
  ends->out = out[1];
  ends->read[1] = err[0];
  ends->err = err[1];
  return TRUE;
}

static void close_program_ends(Ends *ends) {
  if (ends->in >= 0)
    close(ends->in);
  if (ends->out >= 0 && ends->out != ends->in)
    close(ends->out);
  if (ends->err >= 0 && ends->err != ends->in)
    close(ends->err);
}

static ChoirSandboxRun *start(ChoirSandbox *sandbox, const ChoirSandboxSpec *spec, Ends *ends, GError **error) {
  int report[2], spec_fd = write_limits(sandbox, spec);
  if (spec_fd < 0 || pipe2(report, O_CLOEXEC) != 0) {
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "the sandbox cannot start: %s", g_strerror(errno));
    if (spec_fd >= 0)
      close(spec_fd);
    return NULL;
  }
  pid_t pid = fork();
  if (pid == 0)
    become(sandbox, ends->in, ends->out, ends->err, spec_fd, report[1]);
  close(spec_fd);
  close(report[1]);
  if (pid < 0) {
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "the sandbox cannot start: %s", g_strerror(errno));
    close(report[0]);
    return NULL;
  }
  ChoirSandboxRun *run = g_new0(ChoirSandboxRun, 1);
  run->sandbox = sandbox;
  run->pid = pid;
  run->report_fd = report[0];
  run->stream[0].fd = run->stream[1].fd = -1;
  run->input = g_string_new(NULL);
  run->pty = spec->pty;
  run->watch = g_child_watch_add(pid, on_gone, run);
  g_ptr_array_add(sandbox->runs, run);
  return run;
}

ChoirSandboxRun *choir_sandbox_run(ChoirSandbox *sandbox, const ChoirSandboxSpec *spec,
                                   const ChoirSandboxHandlers *handlers, gpointer user, GError **error) {
  Ends ends;
  if (sandbox->mode == CHOIR_SANDBOX_NONE) {
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED, "it was not run, because there is no sandbox: %s",
                sandbox->why);
    return NULL;
  }
  if (sandbox->runs->len >= RUNS_MAX) {
    g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_BUSY, "too many programs run in the sandbox; wait for one");
    return NULL;
  }
  if (spec->proxy_socket && sandbox->mode != CHOIR_SANDBOX_FULL) {
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                "it was not run, because it needs a network of its own: %s", sandbox->why);
    return NULL;
  }
  if (!open_ends(spec, &ends)) {
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "the sandbox cannot start: %s", g_strerror(errno));
    close_program_ends(&ends);
    return NULL;
  }
  ChoirSandboxRun *run = start(sandbox, spec, &ends, error);
  close_program_ends(&ends);
  int *ours[] = {&ends.master, &ends.read[0], &ends.read[1]};
  if (!run) {
    for (guint i = 0; i < G_N_ELEMENTS(ours); i++)
      if (*ours[i] >= 0)
        close(*ours[i]);
    return NULL;
  }
  run->handlers = *handlers;
  run->user = user;
  watch_stream(run, 0, spec->pty ? ends.master : ends.read[0], spec->output_max);
  if (!spec->pty)
    watch_stream(run, 1, ends.read[1], spec->output_max);
  return run;
}

static gboolean on_writable(int fd, GIOCondition condition, gpointer user) {
  ChoirSandboxRun *run = user;
  ssize_t n = write(fd, run->input->str, run->input->len);
  if (n > 0)
    g_string_erase(run->input, 0, n);
  if (run->input->len > 0 && (n > 0 || errno == EAGAIN))
    return G_SOURCE_CONTINUE;
  run->writable = 0;
  return G_SOURCE_REMOVE;
}

gboolean choir_sandbox_write(ChoirSandboxRun *run, const char *data, gsize length) {
  if (!run->pty || run->gone || run->input->len + length > INPUT_MAX)
    return FALSE;
  g_string_append_len(run->input, data, (gssize)length);
  if (run->writable == 0)
    run->writable = g_unix_fd_add(run->stream[0].fd, G_IO_OUT, on_writable, run);
  return TRUE;
}

void choir_sandbox_resize(ChoirSandboxRun *run, guint16 rows, guint16 columns) {
  struct winsize size = {.ws_row = rows, .ws_col = columns};
  if (run->pty)
    ioctl(run->stream[0].fd, TIOCSWINSZ, &size);
}

void choir_sandbox_kill(ChoirSandboxRun *run) {
  if (!run->gone)
    kill(run->pid, SIGTERM); /* choir-sandbox kills everything below it, then reports */
}

/* Does a program really run this way here? Some kernels have the parts and forbid their use. */
static gboolean works(ChoirSandbox *sandbox, ChoirSandboxMode mode, char **ret_why) {
  static const char *const argv[] = {"/bin/true", NULL};
  ChoirSandboxSpec spec = {.argv = argv, .cwd = "/", .stdin_fd = -1, .seconds = PROBE_MS / 1000};
  Ends ends;
  char said[256] = "";
  g_autoptr(GError) error = NULL;
  sandbox->mode = mode;
  if (!open_ends(&spec, &ends))
    return FALSE;
  ChoirSandboxRun *run = start(sandbox, &spec, &ends, &error);
  close_program_ends(&ends);
  int status = -1;
  if (run) {
    g_clear_handle_id(&run->watch, g_source_remove);
    ssize_t n = read(ends.read[1], said, sizeof said - 1);
    said[MAX(n, 0)] = '\0';
    n = read(run->report_fd, run->report, sizeof run->report - 1);
    if (n <= 0 || sscanf(run->report, "%d -", &status) != 1)
      status = -1;
    waitpid(run->pid, NULL, 0);
    run_free(run);
  }
  close(ends.read[0]);
  close(ends.read[1]);
  if (status != 0)
    *ret_why = g_strdup(error ? error->message : *g_strstrip(said) ? said : "it does not start");
  return status == 0;
}

static void probe(ChoirSandbox *sandbox) {
  g_autofree char *why = NULL, *second = NULL, *bwrap = g_find_program_in_path("bwrap");
  if (!bwrap)
    why = g_strdup("bubblewrap is not installed (apt-get install bubblewrap)");
  else if (works(sandbox, CHOIR_SANDBOX_FULL, &why)) {
    sandbox->why = g_strdup_printf("bubblewrap, seccomp%s",
                                   choir_landlock_abi() > 0 ? " and Landlock" : "; this kernel has no Landlock");
    return;
  }
  if (choir_landlock_abi() > 0 && works(sandbox, CHOIR_SANDBOX_LANDLOCK, &second)) {
    sandbox->why = g_strdup_printf("Landlock and seccomp only, because bubblewrap does not work here: %s", why);
    choir_warning(CHOIR_TOPIC_AGENT, "sandbox: %s", sandbox->why);
    return;
  }
  sandbox->mode = CHOIR_SANDBOX_NONE;
  sandbox->why = g_strdup_printf("neither bubblewrap (%s) nor Landlock (%s) works here", why,
                                 second ? second : "this kernel has none");
  choir_warning(CHOIR_TOPIC_AGENT, "sandbox: %s; tools that need it are off", sandbox->why);
}

ChoirSandbox *choir_sandbox_new(const char *program) {
  ChoirSandbox *sandbox = g_new0(ChoirSandbox, 1);
  sandbox->program = g_strdup(program);
  sandbox->runs = g_ptr_array_new();
  if (g_file_test(sandbox->program, G_FILE_TEST_IS_EXECUTABLE)) {
    probe(sandbox);
  } else {
    sandbox->why = g_strdup_printf("%s is missing; install Choir again", sandbox->program);
    choir_warning(CHOIR_TOPIC_AGENT, "sandbox: %s; tools that need it are off", sandbox->why);
  }
  return sandbox;
}

void choir_sandbox_free(ChoirSandbox *sandbox) {
  if (!sandbox)
    return;
  while (sandbox->runs->len > 0) {
    ChoirSandboxRun *run = sandbox->runs->pdata[0];
    choir_sandbox_kill(run);
    if (!run->gone)
      waitpid(run->pid, NULL, 0);
    run_free(run);
  }
  g_ptr_array_unref(sandbox->runs);
  g_free(sandbox->program);
  g_free(sandbox->why);
  g_free(sandbox);
}

ChoirSandboxMode choir_sandbox_mode(const ChoirSandbox *sandbox) {
  return sandbox->mode;
}

void choir_sandbox_lower(ChoirSandbox *sandbox, ChoirSandboxMode mode) {
  sandbox->mode = MIN(sandbox->mode, mode);
}

const char *choir_sandbox_why(const ChoirSandbox *sandbox) {
  return sandbox->why;
}
