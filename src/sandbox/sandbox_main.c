/* choir-sandbox: runs one program within limits, and sees to it that nothing of it stays behind.
 *
 * Started by the daemon with the limits as JSON on fd 3 and a pipe for its report on fd 4. It is the reaper of all the
 * program's descendants; whatever escapes into a session of its own is found and killed all the same. When the daemon
 * dies it is told by PDEATHSIG and kills everything. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/text.h"
#include "sandbox/confine.h"
#include "sandbox/forward.h"
#include "sandbox/tree.h"

#define SPEC_FD 3
#define REPORT_FD 4
#define TICK_MS 100
#define SPEC_MAX (4u << 20)

static gboolean read_limits(int fd, ChoirLimits *limits) {
  g_autoptr(GString) text = g_string_new(NULL);
  g_autoptr(GError) error = NULL;
  char buffer[4096];
  ssize_t n;
  off_t at = 0; /* a memory file: pread leaves it as it is for the inner step */
  while (text->len < SPEC_MAX && (n = pread(fd, buffer, sizeof buffer, at)) > 0) {
    g_string_append_len(text, buffer, n);
    at += n;
  }
  json_t *json = choir_json_parse(text->str, text->len, &error);
  gboolean ok = json && choir_limits_from_json(json, limits, &error);
  json_decref(json);
  if (!ok)
    fprintf(stderr, "choir-sandbox: the limits cannot be read: %s\n", error->message);
  return ok;
}

static void report(int status, const char *killed) {
  char text[64];
  int n = g_snprintf(text, sizeof text, "%d %s\n", status, killed ? killed : "-");
  if (write(REPORT_FD, text, (gsize)n) != n)
    exit(1);
}

static void kill_all(void) {
  /* Again and again: a fork may be faster than one look. */
  for (guint round = 0; round < 50; round++) {
    ChoirTree tree;
    choir_tree_read(getpid(), &tree);
    guint left = tree.pids->len;
    for (guint i = 0; i < left; i++)
      kill(g_array_index(tree.pids, pid_t, i), round == 0 ? SIGSTOP : SIGKILL);
    choir_tree_clear(&tree);
    if (round > 0)
      while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    if (left == 0)
      return;
    if (round > 1)
      poll(NULL, 0, 2);
  }
}

static void child(const ChoirLimits *limits, const char *self) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  close(REPORT_FD);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  setsid();
  if (limits->pty)
    ioctl(0, TIOCSCTTY, 0);
  if (limits->full) {
    g_auto(GStrv) argv = choir_confine_bwrap(limits, self, SPEC_FD);
    fcntl(SPEC_FD, F_SETFD, 0);
    execvp(argv[0], argv);
    fprintf(stderr, "choir-sandbox: cannot run bwrap: %s\n", g_strerror(errno));
  } else {
    choir_confine_exec(limits);
  }
  _exit(126);
}

/* Why it must end now, or NULL. */
static const char *over(const ChoirLimits *limits, gint64 start_us) {
  if (g_get_monotonic_time() - start_us > (gint64)limits->seconds * G_USEC_PER_SEC)
    return "time";
  ChoirTree tree;
  choir_tree_read(getpid(), &tree);
  gboolean memory = tree.resident_kb > (guint64)limits->memory_mb << 10;
  gboolean many = tree.pids->len > limits->processes + 4; /* bwrap's own are among them */
  choir_tree_clear(&tree);
  return memory ? "memory" : many ? "processes" : NULL;
}

static int supervise(const ChoirLimits *limits, const char *self) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigaddset(&set, SIGTERM);
  sigprocmask(SIG_BLOCK, &set, NULL);
  int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), status = 0;
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  gint64 start_us = g_get_monotonic_time();
  pid_t main_pid = fork();
  if (main_pid < 0)
    return 126;
  if (main_pid == 0)
    child(limits, self);
  const char *killed = NULL;
  /* The daemon holds the terminal's other end and the pipes; this end would keep them open. */
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = 0; fd < 3; fd++)
    dup2(null, fd);
  for (gboolean running = TRUE; running && !killed;) {
    struct signalfd_siginfo info;
    struct pollfd wait = {signals, POLLIN, 0};
    poll(&wait, 1, TICK_MS);
    while (read(signals, &info, sizeof info) == sizeof info)
      if (info.ssi_signo == SIGTERM)
        killed = "cancelled";
    int ended;
    for (pid_t pid; (pid = waitpid(-1, &ended, WNOHANG)) > 0;)
      if (pid == main_pid) {
        running = FALSE;
        status = ended;
      }
    if (running && !killed)
      killed = over(limits, start_us);
  }
  kill_all();
  report(status, killed);
  return 0;
}

int main(int argc, char **argv) {
  g_auto(ChoirLimits) limits = {0};
  static char path[] = "PATH=/usr/bin:/bin";
  static char *clean[] = {path, NULL};
  if (argc >= 2 && g_str_equal(argv[1], "--forward")) /* inside already: the environment is the program's */
    return choir_forward_main(argc - 2, argv + 2);
  environ = clean;
  if (argc == 3 && g_str_equal(argv[1], "--inner")) {
    if (!read_limits(atoi(argv[2]), &limits))
      return 126;
    choir_confine_exec(&limits);
    return 126;
  }
  if (argc != 1 || fcntl(SPEC_FD, F_GETFD) < 0 || fcntl(REPORT_FD, F_GETFD) < 0) {
    fputs("choir-sandbox is started by choir serve; it confines the programs that tools run.\n", stderr);
    return 2;
  }
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
  fcntl(REPORT_FD, F_SETFD, FD_CLOEXEC);
  if (!self || !read_limits(SPEC_FD, &limits))
    return 126;
  return supervise(&limits, self);
}
