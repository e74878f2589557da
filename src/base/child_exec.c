#include "base/child_exec.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static _Noreturn void fail(const char *what, const char *path) {
  const char *reason = strerrordesc_np(errno); /* a constant, unlike strerror() */
  const char *parts[] = {"error: ", what, " ", path, ": ", reason != NULL ? reason : "unknown error", "\n"};
  for (guint i = 0; i < G_N_ELEMENTS(parts); i++)
    if (write(STDERR_FILENO, parts[i], strlen(parts[i])) < 0)
      break;
  _exit(127);
}

void choir_child_reset_signals(void) {
  struct sigaction action = {.sa_handler = SIG_DFL};
  for (int signal = 1; signal < NSIG; signal++)
    sigaction(signal, &action, NULL); /* fails for SIGKILL, SIGSTOP and the C library's own two: meant */
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
}

static void close_from(int first, int last_open_guess) {
#ifdef SYS_close_range
  if (syscall(SYS_close_range, (unsigned)first, ~0U, 0U) == 0)
    return;
#endif
  for (int fd = first; fd < last_open_guess; fd++)
    close(fd);
}

/* Moves everything above the target numbers first, so that no target overwrites a source. */
static void place_descriptors(const ChoirChildExec *exec) {
  int above[CHOIR_CHILD_MAX_FDS], floor = 3 + (int)exec->n_fds;
  int output = fcntl(exec->output, F_DUPFD_CLOEXEC, floor);
  for (guint i = 0; i < exec->n_fds; i++)
    above[i] = fcntl(exec->fds[i], F_DUPFD_CLOEXEC, floor);
  int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (output < 0 || null < 0 || dup2(output, STDERR_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
      (null != STDIN_FILENO && dup2(null, STDIN_FILENO) < 0))
    fail("cannot set up the output of", exec->path);
  for (guint i = 0; i < exec->n_fds; i++)
    if (above[i] < 0 || dup2(above[i], 3 + (int)i) < 0)
      fail("cannot pass a descriptor to", exec->path);
}

static _Noreturn void run_child(const ChoirChildExec *exec, int max_fd) {
  setpgid(0, 0); /* a group of its own: Ctrl+C reaches only us, and a signal reaches all it starts */
  choir_child_reset_signals();
  /* The parent may have died before this took effect. */
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != exec->parent)
    _exit(126);
  place_descriptors(exec);
  close_from(3 + (int)exec->n_fds, max_fd);
  if (exec->nice != 0)
    setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + exec->nice);
  if (exec->cpu_mask != 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (guint cpu = 0; cpu < 64; cpu++)
      if ((exec->cpu_mask >> cpu & 1) != 0)
        CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set); /* cores that are not there are no reason not to run */
  }
  execve(exec->path, exec->argv, exec->envp);
  fail("cannot run", exec->path);
}

pid_t choir_child_fork(const ChoirChildExec *exec) {
  struct rlimit limit = {0};
  int max_fd = getrlimit(RLIMIT_NOFILE, &limit) == 0 ? (int)MIN(limit.rlim_cur, 65536) : 1024;
  /* Blocked across the fork: a handler of ours must not run in the child. */
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pid_t pid = fork();
  if (pid == 0)
    run_child(exec, max_fd);
  int saved = errno;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (pid > 0)
    setpgid(pid, pid); /* in both, so that neither can be too early; fails once it has exec'ed: fine */
  errno = saved;
  return pid;
}
