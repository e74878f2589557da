#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/child.h"
#include "base/log.h"
#include "wait.h"

typedef struct {
  const char *script;  /* for sh -c */
  const char *program; /* instead of sh */
  gboolean refuse;
  int ours; /* our end of the socket it gets as 3, -1 for none wanted */
  gboolean want_socket;
  guint started, exited, stopped;
  gboolean stop_on_exit;
  int status;
  gboolean free_on_exit;
  ChoirChild *child;
} Case;

static gboolean prepare(ChoirChild *child, GStrv *argv, GStrv *env, GArray *fds, gpointer user, GError **error) {
  Case *c = user;
  if (c->refuse) {
    g_set_error_literal(error, G_FILE_ERROR, G_FILE_ERROR_NOENT, "the model is missing");
    return FALSE;
  }
  if (c->want_socket) {
    int pair[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    c->ours = pair[0];
    g_array_append_val(fds, pair[1]);
  }
  const char *words[] = {c->program != NULL ? c->program : "sh", "-c", c->script, NULL};
  *argv = g_strdupv((char **)words);
  const char *more[] = {"CHOIR_TEST=yes", NULL};
  *env = g_strdupv((char **)more);
  return TRUE;
}

static void on_started(ChoirChild *child, GPid pid, gpointer user) {
  ((Case *)user)->started++;
}

static void on_stopped(gpointer user) {
  ((Case *)user)->stopped++;
}

static void on_exited(ChoirChild *child, int status, gpointer user) {
  Case *c = user;
  if (c->stop_on_exit)
    choir_child_stop(child, on_stopped, c);
  c->exited++;
  c->status = status;
  if (c->free_on_exit) {
    choir_child_free(child);
    c->child = NULL;
  }
}

static Case begin(const char *script) {
  return (Case){.script = script, .ours = -1};
}

static int nice_of_child;
static guint64 cpus_of_child;

static void start(Case *c) {
  ChoirChildSpec spec = {.name = "test-child",
                         .topic = "child",
                         .prepare = prepare,
                         .started = on_started,
                         .exited = on_exited,
                         .user = c,
                         .stop_grace_ms = 300,
                         .nice = nice_of_child,
                         .cpu_mask = cpus_of_child};
  c->child = choir_child_new(&spec);
  choir_child_start(c->child);
}

static gboolean gone(pid_t pid) {
  return kill(pid, 0) != 0 && errno == ESRCH;
}

static void test_runs(void) {
  Case c = begin("read line <&3; echo \"$line $CHOIR_TEST\" >&3; sleep 60");
  char answer[32] = {0};
  c.want_socket = TRUE;
  start(&c);
  g_assert_cmpint(choir_child_state(c.child), ==, CHOIR_CHILD_STARTING);
  g_assert_cmpint(write(c.ours, "ping\n", 5), ==, 5);
  g_assert_cmpint(read(c.ours, answer, sizeof answer - 1), ==, 9);
  g_assert_cmpstr(answer, ==, "ping yes\n");
  g_assert_cmpint(choir_child_rss_kb(c.child), >, 100);
  choir_child_mark_ready(c.child);
  g_assert_cmpstr(choir_child_state_name(choir_child_state(c.child)), ==, "ready");
  pid_t pid = choir_child_pid(c.child);
  g_assert_cmpint(getpgid(pid), ==, pid);
  choir_child_stop(c.child, on_stopped, &c);
  g_assert_cmpuint(c.stopped, ==, 0);
  WAIT_UNTIL(c.stopped == 1, 3000);
  g_assert_true(gone(pid));
  g_assert_cmpint(read(c.ours, answer, 1), ==, 0); /* nobody else holds its end */
  g_assert_cmpint(choir_child_rss_kb(c.child), ==, -1);
  choir_child_stop(c.child, on_stopped, &c); /* stopped already: still told, later */
  g_assert_cmpuint(c.stopped, ==, 1);
  WAIT_UNTIL(c.stopped == 2, 1000);
  choir_child_start(c.child);
  g_assert_cmpint(choir_child_pid(c.child), >, 0);
  choir_child_stop(c.child, on_stopped, &c);
  choir_child_start(c.child); /* while stopping: it comes back */
  WAIT_UNTIL(c.started == 3, 3000);
  choir_child_free(c.child);
  close(c.ours);
}

/* Only 0, 1, 2 and what was given. */
static void test_descriptors(void) {
  int leak = open("/dev/null", O_RDONLY); /* without CLOEXEC, on purpose */
  Case c = begin("ls /proc/self/fd | tr '\\n' ' ' >&3; exec sleep 60 <&-");
  char list[128] = {0};
  c.want_socket = TRUE;
  start(&c);
  gssize got = read(c.ours, list, sizeof list - 1);
  g_assert_cmpint(got, >, 0);
  g_auto(GStrv) words = g_strsplit(g_strchomp(list), " ", -1);
  g_assert_cmpuint(g_strv_length(words), ==, 5); /* and the folder that ls reads */
  g_assert_true(g_strv_contains((const char *const *)words, "3"));
  choir_child_free(c.child);
  close(c.ours);
  close(leak);
}

static void test_limits(void) {
  Case c = begin("nice >&3; grep Cpus_allowed_list /proc/self/status >&3; exec sleep 60");
  char text[128] = {0};
  c.want_socket = TRUE;
  cpu_set_t allowed;
  g_assert_cmpint(sched_getaffinity(0, sizeof allowed, &allowed), ==, 0);
  guint cpu = 0;
  while (cpu < 63 && !CPU_ISSET(cpu, &allowed))
    cpu++;
  g_autofree char *nice_line = g_strdup_printf("%d\n", MIN(getpriority(PRIO_PROCESS, 0) + 7, 19));
  g_autofree char *cpu_line = g_strdup_printf("Cpus_allowed_list:\t%u\n", cpu);
  nice_of_child = 7;
  cpus_of_child = G_GUINT64_CONSTANT(1) << cpu;
  start(&c);
  nice_of_child = 0;
  cpus_of_child = 0;
  for (gsize length = 0; strstr(text, "list:") == NULL;) {
    gssize got = read(c.ours, text + length, sizeof text - 1 - length);
    g_assert_cmpint(got, >, 0);
    length += (gsize)got;
  }
  g_assert_true(g_str_has_prefix(text, nice_line));
  g_assert_nonnull(strstr(text, cpu_line));
  choir_child_free(c.child);
  close(c.ours);
}

static void test_restarts(void) {
  Case c = begin("echo 'error: no such model' >&2; exit 3");
  start(&c);
  gint64 before = g_get_monotonic_time();
  WAIT_UNTIL(c.exited == 1, 2000);
  g_assert_cmpint(choir_child_state(c.child), ==, CHOIR_CHILD_BACKOFF);
  g_assert_cmpstr(choir_child_last_error(c.child), ==, "exit 3: error: no such model");
  WAIT_UNTIL(c.exited == 3, 4000);
  g_assert_cmpint(g_get_monotonic_time() - before, >=, 700000); /* 250 + 500 ms */
  g_assert_cmpuint(choir_child_restarts(c.child), ==, 2);
  c.script = "sleep 60";
  WAIT_UNTIL(c.started == 4, 3000);
  choir_child_mark_ready(c.child);
  g_assert_null(choir_child_last_error(c.child));
  choir_child_kill(c.child, SIGKILL);
  before = g_get_monotonic_time();
  WAIT_UNTIL(c.started == 5, 1000); /* ready set the delay back to 250 ms */
  g_assert_cmpint(g_get_monotonic_time() - before, >=, 240000);
  choir_child_kill(c.child, SIGSEGV);
  WAIT_UNTIL(c.exited == 5, 2000);
  g_assert_cmpstr(choir_child_last_error(c.child), ==, "killed by signal 11");
  choir_child_stop(c.child, on_stopped, &c); /* in back-off: no further start */
  WAIT_UNTIL(c.stopped == 1, 1000);
  wait_ms(700);
  g_assert_cmpuint(c.started, ==, 5);
  choir_child_free(c.child);
}

static void test_cannot_start(void) {
  Case c = begin("true");
  c.refuse = TRUE;
  start(&c);
  g_assert_cmpint(choir_child_state(c.child), ==, CHOIR_CHILD_BACKOFF);
  g_assert_cmpstr(choir_child_last_error(c.child), ==, "the model is missing");
  c.refuse = FALSE;
  c.program = "choir-no-such-program";
  wait_ms(300);
  g_assert_cmpstr(choir_child_last_error(c.child), ==, "cannot find the program choir-no-such-program");
  c.program = "/etc/passwd";
  wait_ms(600);
  g_assert_nonnull(choir_child_last_error(c.child));
  c.program = NULL;
  WAIT_UNTIL(c.started >= 1, 3000);
  choir_child_free(c.child);
}

/* It ignores SIGTERM, and so does its own child: both are gone after the grace. */
static void test_stubborn(void) {
  Case c = begin("trap '' TERM; (trap '' TERM; sleep 60) & echo $! >&3; wait; sleep 60");
  char text[32] = {0};
  c.want_socket = TRUE;
  start(&c);
  g_assert_cmpint(read(c.ours, text, sizeof text - 1), >, 0);
  pid_t grandchild = atoi(text);
  choir_child_stop(c.child, on_stopped, &c);
  wait_ms(100);
  g_assert_cmpuint(c.stopped, ==, 0);
  WAIT_UNTIL(c.stopped == 1, 3000);
  g_assert_true(WIFSIGNALED(c.status) && WTERMSIG(c.status) == SIGKILL);
  WAIT_UNTIL(gone(grandchild) || waitpid(grandchild, NULL, WNOHANG) != 0, 2000);
  choir_child_free(c.child);
  close(c.ours);
}

typedef struct {
  guint lines;
  gsize longest;
  char *last;
} Heard;

static void on_line(const ChoirLogLine *line, gpointer user) {
  Heard *heard = user;
  if (strcmp(line->topic, "child") != 0)
    return;
  heard->lines++;
  heard->longest = MAX(heard->longest, strlen(line->text));
  g_free(heard->last);
  heard->last = g_strdup(line->text);
}

/* A child that prints without end, and one line without end, costs bounded lines. */
static void test_noise(void) {
  Heard heard = {0};
  guint id = choir_log_listen(0, on_line, &heard);
  guint64 dropped = choir_log_dropped();
  Case c = begin("i=0; while [ $i -lt 3000 ]; do echo noise $i; i=$((i+1)); done; head -c 300000 /dev/zero | tr '\\0' "
                 "x; echo; sleep 2; echo 'token=abcdefghij' >&2; exec sleep 60");
  start(&c);
  WAIT_UNTIL(heard.last != NULL && strstr(heard.last, "[hidden]") != NULL, 8000);
  g_assert_cmpuint(heard.lines, <, 1200);
  g_assert_cmpuint(heard.longest, <, 2000);
  g_assert_cmpuint(choir_log_dropped() - dropped, >, 1000);
  choir_log_unlisten(id);
  choir_child_free(c.child);
  g_free(heard.last);
}

static void test_freed_inside(void) {
  Case c = begin("exit 0");
  c.free_on_exit = TRUE;
  start(&c);
  WAIT_UNTIL(c.child == NULL, 2000);
  wait_ms(400);
  g_assert_cmpuint(c.started, ==, 1);
}

static void test_stopped_inside(void) {
  Case c = begin("exit 0");
  c.stop_on_exit = TRUE;
  start(&c);
  WAIT_UNTIL(c.stopped == 1, 2000);
  wait_ms(600);
  g_assert_cmpuint(c.started, ==, 1);
  c.stop_on_exit = FALSE;
  c.script = "sleep 60";
  choir_child_stop(c.child, on_stopped, &c);
  choir_child_start(c.child); /* before the stop was told: not lost */
  WAIT_UNTIL(c.started == 2, 1000);
  g_assert_cmpuint(c.stopped, ==, 2);
  choir_child_free(c.child);
}

/* The parent is killed: the child must not outlive it. */
static void test_parent_dies(void) {
  int report[2];
  g_assert_cmpint(pipe(report), ==, 0);
  pid_t parent = fork();
  if (parent == 0) {
    Case c = begin("trap '' TERM HUP; while :; do sleep 1; done");
    start(&c);
    pid_t pid = choir_child_pid(c.child);
    if (write(report[1], &pid, sizeof pid) != sizeof pid)
      _exit(1);
    kill(getpid(), SIGKILL);
  }
  pid_t child = 0;
  g_assert_cmpint(read(report[0], &child, sizeof child), ==, (gssize)sizeof child);
  g_assert_cmpint(waitpid(parent, NULL, 0), ==, parent);
  char path[64];
  g_snprintf(path, sizeof path, "/proc/%d/stat", child);
  for (guint i = 0; i < 200 && !gone(child); i++) {
    g_autofree char *stat = NULL;
    if (g_file_get_contents(path, &stat, NULL, NULL) && strstr(stat, ") Z ") != NULL)
      break; /* dead, and nobody here may reap it */
    g_usleep(10000);
  }
  g_autofree char *stat = NULL;
  if (g_file_get_contents(path, &stat, NULL, NULL))
    g_assert_nonnull(strstr(stat, ") Z "));
  close(report[0]);
  close(report[1]);
}

int main(int argc, char **argv) {
  alarm(90);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/child/parent-dies", test_parent_dies);
  g_test_add_func("/child/runs", test_runs);
  g_test_add_func("/child/descriptors", test_descriptors);
  g_test_add_func("/child/limits", test_limits);
  g_test_add_func("/child/restarts", test_restarts);
  g_test_add_func("/child/cannot-start", test_cannot_start);
  g_test_add_func("/child/stubborn", test_stubborn);
  g_test_add_func("/child/noise", test_noise);
  g_test_add_func("/child/freed-inside", test_freed_inside);
  g_test_add_func("/child/stopped-inside", test_stopped_inside);
  return g_test_run();
}
