#include "tools/host_session.h"
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/child_exec.h"
#include "base/text.h"
#include "tools/boxed.h"

#define NOBODY "nobody"

struct HostSession {
  char *home;
  pid_t pid; /* of the shell, 0 = none; it leads a process group of its own */
  int in, out;
  guint source, watch;
  char *mark;    /* stands at the end of a command's output */
  GString *held; /* output that may be the beginning of the mark */
  ChoirToolCall *call;
  gulong handler;
};

HostSession *host_session_new(const char *home) {
  HostSession *session = g_new0(HostSession, 1);
  session->home = g_strdup(home);
  session->in = session->out = -1;
  session->held = g_string_new(NULL);
  return session;
}

static void finish(HostSession *session, GError *error /* taken */) {
  ChoirToolCall *call = g_steal_pointer(&session->call);
  if (!call) {
    g_clear_error(&error);
    return;
  }
  if (session->handler)
    g_cancellable_disconnect(choir_tool_call_cancellable(call), session->handler);
  session->handler = 0;
  g_string_truncate(session->held, 0);
  choir_tool_call_done(call, FALSE, error);
}

static void end_shell(HostSession *session) {
  g_clear_handle_id(&session->source, g_source_remove);
  g_clear_handle_id(&session->watch, g_source_remove);
  if (session->pid > 0) {
    kill(-session->pid, SIGKILL);
    kill(session->pid, SIGKILL);
    waitpid(session->pid, NULL, 0);
  }
  session->pid = 0;
  if (session->in >= 0)
    close(g_steal_fd(&session->in));
  if (session->out >= 0)
    close(g_steal_fd(&session->out));
}

void host_session_free(HostSession *session) {
  if (!session)
    return;
  end_shell(session);
  finish(session, g_error_new_literal(CHOIR_TOOL_ERROR, CHOIR_TOOL_ERROR_FAILED, "the assistant is stopping"));
  g_string_free(session->held, TRUE);
  g_free(session->mark);
  g_free(session->home);
  g_free(session);
}

/* The daemon's own user, or nobody when the daemon is root: what is asked for here is never done as root. */
static void drop_root(void) {
  if (getuid() != 0)
    return;
  const struct passwd *user = getpwnam(NOBODY);
  if (!user || initgroups(NOBODY, user->pw_gid) != 0 || setgid(user->pw_gid) != 0 || setuid(user->pw_uid) != 0)
    _exit(126);
}

static void become_shell(const char *home, int in, int out) {
  g_autofree char *set_home = g_strconcat("HOME=", home, NULL);
  static char path[] = "PATH=/usr/local/bin:/usr/bin:/bin", lang[] = "LANG=C.UTF-8", term[] = "TERM=dumb";
  char *const env[] = {path, lang, term, set_home, NULL};
  char *const argv[] = {(char *)"bash", (char *)"--noprofile", (char *)"--norc", NULL};
  choir_child_reset_signals();
  setsid();
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0 || close_range(3, ~0u, 0) != 0)
    _exit(126);
  drop_root();
  prctl(PR_SET_PDEATHSIG, SIGKILL); /* a change of user takes it away */
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (chdir(home) != 0 && chdir("/") != 0)
    _exit(126);
  execve("/bin/bash", argv, env);
  _exit(126);
}

static void on_gone(GPid pid, int status, gpointer user) {
  HostSession *session = user;
  session->watch = 0;
  session->pid = 0;
  end_shell(session);
  finish(session, session->call
                      ? g_error_new_literal(CHOIR_TOOL_ERROR, CHOIR_TOOL_ERROR_FAILED,
                                            "the shell ended with the command; the next one begins a new shell")
                      : NULL);
}

/* Everything before the mark is output; what might be the mark's beginning waits. */
static void feed(HostSession *session, const char *data, gsize length) {
  g_string_append_len(session->held, data, (gssize)length);
  char *mark = session->mark ? strstr(session->held->str, session->mark) : NULL;
  char *end = mark ? strchr(mark + 1, '\001') : NULL;
  if (mark && end) {
    int code = atoi(mark + strlen(session->mark));
    gsize text = (gsize)(mark - session->held->str);
    choir_tool_call_output(session->call, session->held->str, (gssize)text);
    if (code != 0) {
      g_autofree char *note = g_strdup_printf("\n(exit code %d)", code);
      choir_tool_call_output(session->call, note, -1);
    }
    finish(session, NULL);
    return;
  }
  const char *maybe = memchr(session->held->str, '\001', session->held->len);
  gsize sure = maybe ? (gsize)(maybe - session->held->str) : session->held->len;
  if (sure > 0) {
    choir_tool_call_output(session->call, session->held->str, (gssize)sure);
    g_string_erase(session->held, 0, (gssize)sure);
  }
  if (session->held->len > 4096)
    g_string_truncate(session->held, 0); /* not the mark after all */
}

static gboolean on_readable(int fd, GIOCondition condition, gpointer user) {
  HostSession *session = user;
  char buffer[8192];
  ssize_t n = read(fd, buffer, sizeof buffer);
  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    return G_SOURCE_CONTINUE;
  if (n <= 0) {
    session->source = 0;
    return G_SOURCE_REMOVE;
  }
  for (ssize_t i = 0; i < n; i++)
    if (buffer[i] == '\0')
      buffer[i] = ' ';
  if (session->call)
    feed(session, buffer, (gsize)n); /* what a background job writes between calls is nobody's */
  return G_SOURCE_CONTINUE;
}

static gboolean start_shell(HostSession *session) {
  int in[2], out[2];
  if (pipe2(in, O_CLOEXEC) != 0)
    return FALSE;
  if (pipe2(out, O_CLOEXEC) != 0) {
    close(in[0]);
    close(in[1]);
    return FALSE;
  }
  session->pid = fork();
  if (session->pid == 0)
    become_shell(session->home, in[0], out[1]);
  close(in[0]);
  close(out[1]);
  session->in = in[1];
  session->out = out[0];
  if (session->pid < 0) {
    session->pid = 0;
    end_shell(session);
    return FALSE;
  }
  g_unix_set_fd_nonblocking(session->out, TRUE, NULL);
  session->source = g_unix_fd_add(session->out, G_IO_IN | G_IO_HUP, on_readable, session);
  session->watch = g_child_watch_add(session->pid, on_gone, session);
  return TRUE;
}

static void on_cancelled(GCancellable *cancellable, gpointer user) {
  HostSession *session = user;
  session->handler = 0; /* finish() runs inside the signal */
  end_shell(session);
  finish(session, g_error_new_literal(CHOIR_TOOL_ERROR, CHOIR_TOOL_ERROR_TIMEOUT,
                                      "the command did not end in time; its shell was closed"));
}

void host_session_run(HostSession *session, ChoirToolCall *call, const char *command) {
  if (session->call) {
    tool_fail(call, CHOIR_TOOL_ERROR_FAILED, "another command still runs in that shell; wait for it");
    return;
  }
  if (session->pid == 0 && !start_shell(session)) {
    tool_fail(call, CHOIR_TOOL_ERROR_FAILED, "a shell cannot be started: %s", g_strerror(errno));
    return;
  }
  g_autofree char *id = choir_id(""), *encoded = g_base64_encode((const guchar *)command, strlen(command));
  g_free(session->mark);
  session->mark = g_strdup_printf("\001%s ", id);
  /* eval in the shell itself, so that cd and variables stay; its standard input is not ours to eat. */
  g_autofree char *line =
      g_strdup_printf("eval \"$(echo %s | base64 -d)\" < /dev/null\nprintf '\\001%s %%d\\001' \"$?\"\n", encoded, id);
  session->call = call;
  session->handler = g_cancellable_connect(choir_tool_call_cancellable(call), G_CALLBACK(on_cancelled), session, NULL);
  gsize length = strlen(line);
  if (write(session->in, line, length) != (ssize_t)length) {
    end_shell(session);
    finish(session,
           g_error_new_literal(CHOIR_TOOL_ERROR, CHOIR_TOOL_ERROR_FAILED, "the shell takes no commands; try again"));
  }
}
