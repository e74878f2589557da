/* choir-sandbox: runs one program within limits, and sees to it that nothing of it stays behind.
 *
 * Started by the daemon with the limits in a memory file on fd 3 and a pipe for its report on fd 4. It is the reaper of
 * all the program's descendants; whatever escapes into a session of its own is found and killed all the same. When the
 * daemon dies it is told by PDEATHSIG and kills everything. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "sandbox/confine.h"
#include "sandbox/forward.h"
#include "sandbox/tree.h"

#define SPEC_FD 3
#define REPORT_FD 4
#define TICK_MS 100
#define KILL_ROUNDS 1000
#define KILL_WAIT_MS 2

static gboolean read_limits(int fd, ChoirLimits *limits) {
  gboolean ok = choir_limits_read(fd, limits);
  if (!ok)
    fputs("choir-sandbox: the limits cannot be read\n", stderr);
  return ok;
}

static gint64 now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (gint64)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void report(int status, const char *killed) {
  char text[64];
  int n = snprintf(text, sizeof text, "%d %s\n", status, killed ? killed : "-");
  if (write(REPORT_FD, text, (gsize)n) != n)
    exit(1);
}

/* As the reaper of all descendants we have no child left exactly when nothing of the program is left. Until then again
 * and again: a fork may be faster than one look. */
static void kill_all(int signals) {
  for (guint round = 0; round < KILL_ROUNDS; round++) {
    struct signalfd_siginfo info;
    struct pollfd wait = {signals, POLLIN, 0};
    pid_t reaped;
    while ((reaped = waitpid(-1, NULL, WNOHANG)) > 0)
      ;
    if (reaped < 0)
      return;
    ChoirTree tree;
    choir_tree_read(getpid(), &tree);
    for (guint i = 0; i < tree.n; i++)
      kill(tree.pids[i], round == 0 ? SIGSTOP : SIGKILL);
    choir_tree_clear(&tree);
    if (round > 0)
      poll(&wait, 1, KILL_WAIT_MS);
    while (read(signals, &info, sizeof info) == sizeof info)
      ;
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
    char **argv = choir_confine_bwrap(limits, self, SPEC_FD);
    fcntl(SPEC_FD, F_SETFD, 0);
    if (argv)
      execvp(argv[0], argv);
    fprintf(stderr, "choir-sandbox: cannot run bwrap: %s\n", strerror(errno));
  } else {
    choir_confine_exec(limits);
  }
  _exit(126);
}

/* Why it must end now, or NULL. */
static const char *over(const ChoirLimits *limits, gint64 start_ms) {
  if (now_ms() - start_ms > (gint64)limits->seconds * 1000)
    return "time";
  ChoirTree tree;
  choir_tree_read(getpid(), &tree);
  gboolean memory = tree.resident_kb > (guint64)limits->memory_mb << 10;
  gboolean many = tree.n > limits->processes + 4; /* bwrap's own are among them */
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
  gint64 start_ms = now_ms();
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
      killed = over(limits, start_ms);
  }
  kill_all(signals);
  report(status, killed);
  return 0;
}

int main(int argc, char **argv) {
  static char path[] = "PATH=/usr/bin:/bin", self[PATH_MAX];
  static char *clean[] = {path, NULL};
  ChoirLimits limits = {0};
  if (argc >= 2 && strcmp(argv[1], "--forward") == 0) /* inside already: the environment is the program's */
    return choir_forward_main(argc - 2, argv + 2);
  environ = clean;
  if (argc == 3 && strcmp(argv[1], "--inner") == 0) {
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
  ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
  fcntl(REPORT_FD, F_SETFD, FD_CLOEXEC);
  if (length <= 0 || !read_limits(SPEC_FD, &limits))
    return 126;
  return supervise(&limits, self);
}
