#include "killed.h"
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

FILE *killed_child(const char *const *argv, gboolean at_work, gint32 least_us, gint32 most_us) {
  int out[2];
  g_assert_cmpint(pipe(out), ==, 0);
  pid_t pid = fork();
  if (pid == 0) {
    dup2(out[1], 1);
    close(out[0]);
    execv(argv[0], (char *const *)argv);
    _exit(9);
  }
  close(out[1]);
  if (at_work)
    poll(&(struct pollfd){.fd = out[0], .events = POLLIN}, 1, 20000);
  g_usleep((gulong)g_test_rand_int_range(least_us, most_us));
  kill(pid, SIGKILL);
  int status;
  waitpid(pid, &status, 0);
  g_assert_true(WIFSIGNALED(status));
  return fdopen(out[0], "r");
}

void killed_lines(FILE *lines, GArray *acknowledged) {
  char line[64];
  while (fgets(line, sizeof line, lines)) {
    gint64 id = g_ascii_strtoll(line, NULL, 10);
    if (strchr(line, '\n'))
      g_array_append_val(acknowledged, id);
  }
  fclose(lines);
}
