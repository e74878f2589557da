#include "base/child.h"
#include "base/clock.h"
#include "base/child_exec.h"
#include "base/log.h"
#include "base/metrics.h"
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIRST_DELAY_MS 250
#define STEADY_US (10 * G_USEC_PER_SEC)
#define MAX_SHORT_LIVES 3
#define LAST_DELAY_MS 30000
#define MAX_LINE 1500
#define READ_PER_TURN 16384 /* of a chatty child, in one turn of the loop */

typedef struct {
  void (*done)(gpointer user);
  gpointer user;
} Waiter;

struct ChoirChild {
  ChoirChildSpec spec;
  ChoirChildState state;
  GPid pid;
  guint delay_ms;    /* before the next start */
  gint64 ready_us;   /* when it last became ready, 0 = not yet */
  guint short_lives; /* ends soon after it was ready, in a row */
  guint restarts;
  guint watch, output_watch, timer, idle; /* sources; 0 = none */
  int output;                             /* our end of the child's stdout and stderr, -1 = closed */
  GString *line;                          /* its last, unfinished line */
  gboolean skipping;                      /* the rest of a line over the limit */
  char *last_line, *last_error;
  GArray *waiters;      /* Waiter: choir_child_stop() */
  gboolean start_again; /* started while stopping */
  guint holds;          /* callbacks in progress; freed when they are over */
  gboolean freed;
  ChoirMetric *restart_counter, *up;
};

static void schedule_start(ChoirChild *child, guint delay_ms);

const char *choir_child_state_name(ChoirChildState state) {
  static const char *const names[] = {"stopped", "starting", "ready", "backoff", "stopping"};
  return names[state];
}

static void child_destroy(ChoirChild *child) {
  g_string_free(child->line, TRUE);
  g_array_unref(child->waiters);
  g_free(child->last_line);
  g_free(child->last_error);
  g_free(child);
}

static void hold(ChoirChild *child) {
  child->holds++;
}

/* FALSE when the owner freed it meanwhile: the caller must not touch it again. */
static gboolean release(ChoirChild *child) {
  child->holds--;
  if (!child->freed)
    return TRUE;
  if (child->holds == 0)
    child_destroy(child);
  return FALSE;
}

static void clear_source(guint *id) {
  if (*id != 0)
    g_source_remove(*id);
  *id = 0;
}

static ChoirLogLevel level_of_line(const char *line) {
  static const struct {
    const char *prefix;
    ChoirLogLevel level;
  } prefixes[] = {{"error:", CHOIR_LOG_ERROR},
                  {"fatal:", CHOIR_LOG_ERROR},
                  {"warning:", CHOIR_LOG_WARNING},
                  {"debug:", CHOIR_LOG_DEBUG}};
  for (guint i = 0; i < G_N_ELEMENTS(prefixes); i++)
    if (g_ascii_strncasecmp(line, prefixes[i].prefix, strlen(prefixes[i].prefix)) == 0)
      return prefixes[i].level;
  return CHOIR_LOG_INFO;
}

static void finish_line(ChoirChild *child) {
  if (child->line->len > 0) {
    int own = child->spec.line_level ? child->spec.line_level(child->line->str) : -1;
    choir_log(child->spec.topic, own >= 0 ? (ChoirLogLevel)own : level_of_line(child->line->str), "%s",
              child->line->str);
    if (child->spec.line)
      child->spec.line(child, child->line->str, child->spec.user);
    g_free(child->last_line);
    child->last_line = g_strdup(child->line->str);
  }
  g_string_truncate(child->line, 0);
  child->skipping = FALSE;
}

static void take_output(ChoirChild *child, const char *data, gsize length) {
  for (gsize i = 0; i < length; i++) {
    if (data[i] == '\n' || data[i] == '\r') {
      finish_line(child);
    } else if (!child->skipping) {
      g_string_append_c(child->line, data[i] != '\0' ? data[i] : ' ');
      if (child->line->len >= MAX_LINE) {
        g_string_append(child->line, "…");
        finish_line(child);
        child->skipping = TRUE;
      }
    }
  }
}

static void close_output(ChoirChild *child) {
  clear_source(&child->output_watch);
  if (child->output >= 0)
    close(child->output);
  child->output = -1;
}

/* Reads what is there, up to a bound. FALSE at end of file. */
static gboolean read_output(ChoirChild *child) {
  char chunk[4096];
  for (gsize total = 0; total < READ_PER_TURN;) {
    gssize got = read(child->output, chunk, sizeof chunk);
    if (got > 0) {
      take_output(child, chunk, (gsize)got);
      total += (gsize)got;
    } else if (got == 0) {
      return FALSE;
    } else if (errno != EINTR) {
      return errno == EAGAIN;
    }
  }
  return TRUE;
}

static gboolean on_output(gint fd, GIOCondition condition, gpointer user) {
  ChoirChild *child = user;
  if (read_output(child))
    return G_SOURCE_CONTINUE;
  finish_line(child);
  child->output_watch = 0;
  close(child->output);
  child->output = -1;
  return G_SOURCE_REMOVE;
}

static void run_waiters(ChoirChild *child) {
  hold(child);
  while (!child->freed && child->waiters->len > 0) {
    Waiter waiter = g_array_index(child->waiters, Waiter, 0);
    g_array_remove_index(child->waiters, 0);
    if (waiter.done != NULL)
      waiter.done(waiter.user);
  }
  release(child);
}

static void set_last_error(ChoirChild *child, int status) {
  g_clear_pointer(&child->last_error, g_free);
  if (WIFSIGNALED(status))
    child->last_error = g_strdup_printf("killed by signal %d", WTERMSIG(status));
  else if (child->last_line != NULL)
    child->last_error = g_strdup_printf("exit %d: %s", WEXITSTATUS(status), child->last_line);
  else
    child->last_error = g_strdup_printf("exit %d", WEXITSTATUS(status));
}

static void back_off(ChoirChild *child) {
  if (child->ready_us != 0)
    child->short_lives = choir_clock_us() - child->ready_us < STEADY_US ? child->short_lives + 1 : 0;
  child->ready_us = 0;
  child->state = CHOIR_CHILD_BACKOFF;
  choir_warning(child->spec.topic, "%s: %s; starting it again in %u ms", child->spec.name, child->last_error,
                child->delay_ms);
  schedule_start(child, child->delay_ms);
  child->delay_ms = MIN(child->delay_ms * 2, LAST_DELAY_MS);
}

static void on_child_exit(GPid pid, gint status, gpointer user) {
  ChoirChild *child = user;
  child->watch = 0;
  clear_source(&child->timer);
  /* Whatever it left behind in its group would hold our pipe, and memory. */
  kill(-pid, SIGKILL);
  if (child->output >= 0) {
    read_output(child);
    finish_line(child);
  }
  close_output(child);
  child->pid = 0;
  choir_gauge_set(child->up, 0);
  gboolean stopping = child->state == CHOIR_CHILD_STOPPING;
  child->state = CHOIR_CHILD_STOPPED;
  if (!stopping)
    set_last_error(child, status);
  hold(child);
  if (child->spec.exited != NULL)
    child->spec.exited(child, status, child->spec.user);
  if (!release(child))
    return;
  if (stopping) {
    gboolean again = child->start_again;
    child->start_again = FALSE;
    hold(child);
    run_waiters(child);
    if (release(child) && again)
      choir_child_start(child);
  } else if (child->state == CHOIR_CHILD_STOPPED && child->idle == 0) {
    back_off(child); /* unless exited() stopped or started it */
  }
}

static void close_all(GArray *fds) {
  for (guint i = 0; i < fds->len; i++)
    close(g_array_index(fds, int, i));
}

static gboolean spawn(ChoirChild *child, GStrv argv, GStrv env, GArray *fds, GError **error) {
  g_autofree char *path = g_find_program_in_path(argv[0]);
  int pipe_fds[2];
  if (path == NULL) {
    g_set_error(error, G_SPAWN_ERROR, G_SPAWN_ERROR_NOENT, "cannot find the program %s", argv[0]);
    return FALSE;
  }
  if (fds->len > CHOIR_CHILD_MAX_FDS || !g_unix_open_pipe(pipe_fds, FD_CLOEXEC, error))
    return FALSE;
  g_auto(GStrv) environment = g_get_environ();
  for (guint i = 0; env != NULL && env[i] != NULL; i++) {
    char *equals = strchr(env[i], '=');
    g_autofree char *name = g_strndup(env[i], equals != NULL ? (gsize)(equals - env[i]) : strlen(env[i]));
    environment = g_environ_setenv(environment, name, equals != NULL ? equals + 1 : "", TRUE);
  }
  ChoirChildExec exec = {.path = path,
                         .argv = argv,
                         .envp = environment,
                         .output = pipe_fds[1],
                         .fds = (const int *)(void *)fds->data,
                         .n_fds = fds->len,
                         .parent = getpid(),
                         .nice = child->spec.nice,
                         .cpu_mask = child->spec.cpu_mask};
  pid_t pid = choir_child_fork(&exec);
  int fork_error = errno;
  close(pipe_fds[1]);
  if (pid < 0) {
    close(pipe_fds[0]);
    g_set_error(error, G_SPAWN_ERROR, G_SPAWN_ERROR_FORK, "cannot fork: %s", g_strerror(fork_error));
    return FALSE;
  }
  g_unix_set_fd_nonblocking(pipe_fds[0], TRUE, NULL);
  child->output = pipe_fds[0];
  child->output_watch =
      g_unix_fd_add_full(G_PRIORITY_DEFAULT + 20, child->output, G_IO_IN | G_IO_HUP | G_IO_ERR, on_output, child, NULL);
  child->pid = pid;
  child->watch = g_child_watch_add(pid, on_child_exit, child);
  return TRUE;
}

static void start_now(ChoirChild *child) {
  g_auto(GStrv) argv = NULL;
  g_auto(GStrv) env = NULL;
  g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
  g_autoptr(GError) error = NULL;
  child->state = CHOIR_CHILD_STARTING;
  g_clear_pointer(&child->last_line, g_free);
  hold(child);
  gboolean prepared = child->spec.prepare(child, &argv, &env, fds, child->spec.user, &error);
  if (!release(child)) {
    close_all(fds);
    return;
  }
  gboolean spawned = prepared && spawn(child, argv, env, fds, &error);
  close_all(fds);
  if (!spawned) {
    g_free(child->last_error);
    child->last_error = g_strdup(error != NULL ? error->message : "cannot be prepared");
    back_off(child);
    return;
  }
  choir_gauge_set(child->up, 1);
  choir_debug(child->spec.topic, "%s started, pid %d", child->spec.name, child->pid);
  if (child->spec.started != NULL)
    child->spec.started(child, child->pid, child->spec.user);
}

static gboolean on_start_timer(gpointer user) {
  ChoirChild *child = user;
  child->timer = 0;
  if (child->state == CHOIR_CHILD_BACKOFF) {
    child->restarts++;
    choir_counter_add(child->restart_counter, 1);
  }
  start_now(child);
  return G_SOURCE_REMOVE;
}

static void schedule_start(ChoirChild *child, guint delay_ms) {
  clear_source(&child->timer);
  child->timer = g_timeout_add(delay_ms, on_start_timer, child);
}

ChoirChild *choir_child_new(const ChoirChildSpec *spec) {
  ChoirChild *child = g_new0(ChoirChild, 1);
  child->spec = *spec;
  child->delay_ms = FIRST_DELAY_MS;
  child->output = -1;
  child->line = g_string_new(NULL);
  child->waiters = g_array_new(FALSE, FALSE, sizeof(Waiter));
  g_autofree char *labels = g_strdup_printf("child=\"%s\"", spec->name);
  child->restart_counter = choir_counter("choir_child_restarts_total", labels, "Restarts of a supervised process.");
  child->up = choir_gauge("choir_child_up", labels, "1 while the supervised process runs.");
  return child;
}

void choir_child_start(ChoirChild *child) {
  /* PDEATHSIG is sent when the forking thread ends, not the process. */
  g_return_if_fail(syscall(SYS_gettid) == getpid());
  if (child->state == CHOIR_CHILD_STOPPING || child->idle != 0) {
    child->start_again = TRUE; /* whoever stopped it is told first */
  } else if (child->state == CHOIR_CHILD_STOPPED) {
    child->delay_ms = FIRST_DELAY_MS;
    start_now(child);
  }
}

void choir_child_mark_ready(ChoirChild *child) {
  if (child->state != CHOIR_CHILD_STARTING)
    return;
  child->state = CHOIR_CHILD_READY;
  child->ready_us = choir_clock_us();
  /* One that gets ready and dies at once, again and again, must back off too. */
  if (child->short_lives < MAX_SHORT_LIVES)
    child->delay_ms = FIRST_DELAY_MS;
  g_clear_pointer(&child->last_error, g_free);
}

static void signal_group(const ChoirChild *child, int signal) {
  if (child->pid > 0 && kill(-child->pid, signal) != 0)
    kill(child->pid, signal);
}

void choir_child_kill(ChoirChild *child, int signal) {
  signal_group(child, signal);
}

static gboolean on_grace_over(gpointer user) {
  ChoirChild *child = user;
  child->timer = 0;
  choir_warning(child->spec.topic, "%s did not stop in time: killed", child->spec.name);
  signal_group(child, SIGKILL);
  return G_SOURCE_REMOVE;
}

static gboolean on_already_stopped(gpointer user) {
  ChoirChild *child = user;
  child->idle = 0;
  gboolean again = child->start_again;
  child->start_again = FALSE;
  hold(child);
  run_waiters(child);
  if (release(child) && again)
    choir_child_start(child);
  return G_SOURCE_REMOVE;
}

void choir_child_stop(ChoirChild *child, void (*done)(gpointer user), gpointer user) {
  Waiter waiter = {done, user};
  g_array_append_val(child->waiters, waiter);
  child->start_again = FALSE;
  if (child->state == CHOIR_CHILD_STOPPING)
    return;
  clear_source(&child->timer);
  if (child->pid == 0) {
    child->state = CHOIR_CHILD_STOPPED;
    if (child->idle == 0)
      child->idle = g_idle_add_full(G_PRIORITY_DEFAULT, on_already_stopped, child, NULL);
    return;
  }
  child->state = CHOIR_CHILD_STOPPING;
  signal_group(child, SIGTERM);
  child->timer = g_timeout_add(child->spec.stop_grace_ms != 0 ? child->spec.stop_grace_ms : 3000, on_grace_over, child);
}

static void reap_only(GPid pid, gint status, gpointer user) {
}

void choir_child_free(ChoirChild *child) {
  if (child == NULL || child->freed)
    return;
  clear_source(&child->timer);
  clear_source(&child->idle);
  close_output(child);
  if (child->pid > 0) {
    signal_group(child, SIGKILL);
    clear_source(&child->watch);
    g_child_watch_add(child->pid, reap_only, NULL);
    child->pid = 0;
    choir_gauge_set(child->up, 0);
  }
  child->freed = TRUE;
  if (child->holds == 0)
    child_destroy(child);
}

ChoirChildState choir_child_state(const ChoirChild *child) {
  return child->state;
}

GPid choir_child_pid(const ChoirChild *child) {
  return child->pid;
}

guint choir_child_restarts(const ChoirChild *child) {
  return child->restarts;
}

const char *choir_child_name(const ChoirChild *child) {
  return child->spec.name;
}

const char *choir_child_last_error(const ChoirChild *child) {
  return child->last_error;
}

gint64 choir_child_rss_kb(const ChoirChild *child) {
  g_autofree char *path = g_strdup_printf("/proc/%d/statm", child->pid);
  g_autofree char *text = NULL;
  if (child->pid == 0 || !g_file_get_contents(path, &text, NULL, NULL))
    return -1;
  const char *space = strchr(text, ' ');
  return space != NULL ? g_ascii_strtoll(space + 1, NULL, 10) * (sysconf(_SC_PAGESIZE) / 1024) : -1;
}
