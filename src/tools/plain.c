#include "tools/plain.h"
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/child_exec.h"
#include "tools/boxed.h"

#define KEPT (8u << 10) /* of the output, for hints */

typedef struct {
  ChoirToolCall *call;
  pid_t pid;
  int out;
  guint source, watch;
  gulong handler;
  gboolean gone;
  int status;
  GString *tail;
  char *(*hint)(const char *output);
} Plain;

gboolean tool_program_there(const char *program, const char *package, char **ret_reason, char **ret_remedy) {
  g_autofree char *path = g_find_program_in_path(program);
  if (path)
    return TRUE;
  *ret_reason = g_strdup_printf("%s is not installed", program);
  *ret_remedy = g_strdup_printf("apt-get install %s", package);
  return FALSE;
}

static void maybe_end(Plain *plain) {
  if (!plain->gone || plain->source != 0)
    return;
  ChoirToolCall *call = plain->call;
  if (plain->handler)
    g_cancellable_disconnect(choir_tool_call_cancellable(call), plain->handler);
  kill(-plain->pid, SIGKILL); /* what it left behind */
  close(plain->out);
  g_autofree char *hint = plain->hint && plain->status != 0 ? plain->hint(plain->tail->str) : NULL;
  int status = plain->status;
  g_string_free(plain->tail, TRUE);
  g_free(plain);
  if (status == 0)
    choir_tool_call_done(call, FALSE, NULL);
  else if (WIFSIGNALED(status))
    tool_fail(call, CHOIR_TOOL_ERROR_FAILED, "it was ended by signal %d%s%s", WTERMSIG(status), hint ? "; " : "",
              hint ? hint : "");
  else if (hint)
    tool_fail(call, CHOIR_TOOL_ERROR_FAILED, "exit code %d; %s", WEXITSTATUS(status), hint);
  else
    tool_answer(call, FALSE, "\n(exit code %d)", WEXITSTATUS(status));
}

static gboolean on_readable(int fd, GIOCondition condition, gpointer user) {
  Plain *plain = user;
  char buffer[8192];
  ssize_t n = read(fd, buffer, sizeof buffer);
  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    return G_SOURCE_CONTINUE;
  if (n <= 0) {
    plain->source = 0;
    maybe_end(plain);
    return G_SOURCE_REMOVE;
  }
  choir_tool_call_output(plain->call, buffer, n);
  g_string_append_len(plain->tail, buffer, n);
  if (plain->tail->len > KEPT)
    g_string_erase(plain->tail, 0, (gssize)(plain->tail->len - KEPT));
  return G_SOURCE_CONTINUE;
}

static gboolean stop_reading(gpointer user) {
  Plain *plain = user;
  plain->source = 0;
  maybe_end(plain);
  return G_SOURCE_REMOVE;
}

static void on_gone(GPid pid, int status, gpointer user) {
  Plain *plain = user;
  plain->watch = 0;
  plain->gone = TRUE;
  plain->status = status;
  /* A background process (ssh's master) may hold the pipe open: what is there now is the rest of the output. */
  if (plain->source != 0) {
    g_source_remove(plain->source);
    char buffer[8192];
    for (ssize_t n; (n = read(plain->out, buffer, sizeof buffer)) > 0;) {
      choir_tool_call_output(plain->call, buffer, n);
      g_string_append_len(plain->tail, buffer, n);
    }
    plain->source = g_idle_add(stop_reading, plain);
    return;
  }
  maybe_end(plain);
}

static void on_cancelled(GCancellable *cancellable, gpointer user) {
  Plain *plain = user;
  kill(-plain->pid, SIGTERM);
  kill(-plain->pid, SIGKILL);
}

static void become(const ToolPlain *wanted, int out) {
  static const char *const usual[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                      "LANG=C.UTF-8"};
  const char *env[] = {usual[0], usual[1], NULL, NULL};
  g_autofree char *home = g_strconcat("HOME=", g_get_home_dir(), NULL);
  env[2] = home;
  choir_child_reset_signals();
  setsid();
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  int null = open("/dev/null", O_RDONLY);
  if (dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0 || close_range(3, ~0u, 0) != 0 ||
      chdir(wanted->cwd ? wanted->cwd : "/") != 0)
    _exit(126);
  execvpe(wanted->argv[0], (char *const *)wanted->argv, (char *const *)(wanted->env ? wanted->env : env));
  _exit(127);
}

void tool_plain_run(ChoirToolCall *call, const ToolPlain *wanted) {
  int out[2];
  if (pipe2(out, O_CLOEXEC) != 0) {
    tool_fail(call, CHOIR_TOOL_ERROR_FAILED, "%s cannot start: %s", wanted->argv[0], g_strerror(errno));
    return;
  }
  Plain *plain = g_new0(Plain, 1);
  plain->call = call;
  plain->hint = wanted->hint;
  plain->tail = g_string_new(NULL);
  plain->out = out[0];
  plain->pid = fork();
  if (plain->pid == 0)
    become(wanted, out[1]);
  close(out[1]);
  if (plain->pid < 0) {
    close(out[0]);
    g_string_free(plain->tail, TRUE);
    g_free(plain);
    tool_fail(call, CHOIR_TOOL_ERROR_FAILED, "%s cannot start: %s", wanted->argv[0], g_strerror(errno));
    return;
  }
  g_unix_set_fd_nonblocking(plain->out, TRUE, NULL);
  plain->source = g_unix_fd_add(plain->out, G_IO_IN | G_IO_HUP, on_readable, plain);
  plain->watch = g_child_watch_add(plain->pid, on_gone, plain);
  plain->handler = g_cancellable_connect(choir_tool_call_cancellable(call), G_CALLBACK(on_cancelled), plain, NULL);
}
