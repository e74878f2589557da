/* What a start in the sandbox costs: /bin/true started plainly, by bubblewrap alone with the namespaces that Choir
 * uses, and by Choir in each mode that this kernel supports. They take turns; medians of the wall time from the start
 * to the end, and the middle half. Processor time is of all processes that the start made: bubblewrap leaves its inner
 * process behind when it ends, so this program takes in orphans and waits for them, which costs no start its time.
 *
 * usage: sandbox-launch [ROUNDS] */
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include "sandbox/sandbox.h"

#define ROUNDS 60

typedef struct {
  gboolean done;
  int status;
} Outcome;

static void on_output(ChoirSandboxRun *run, int stream, const char *data, gsize length, gpointer user) {
}

static void on_ended(ChoirSandboxRun *run, int status, const char *killed, gpointer user) {
  Outcome *outcome = user;
  outcome->done = TRUE;
  outcome->status = killed ? -1 : status;
}

typedef struct {
  double ms, cpu_ms;
} Cost;

/* Of the processes that have ended and were waited for, with theirs. */
static double children_ms(void) {
  struct rusage all;
  getrusage(RUSAGE_CHILDREN, &all);
  return (double)(all.ru_utime.tv_sec + all.ru_stime.tv_sec) * 1000 +
         (double)(all.ru_utime.tv_usec + all.ru_stime.tv_usec) / 1000;
}

/* What a start left behind has ended too. */
static double spent_ms(double before) {
  while (waitpid(-1, NULL, 0) > 0)
    ;
  return children_ms() - before;
}

static Cost sandboxed(ChoirSandbox *sandbox, const char *work) {
  static const ChoirSandboxHandlers handlers = {on_output, on_ended};
  static const char *const argv[] = {"/bin/true", NULL};
  const char *writable[] = {work, NULL};
  ChoirSandboxSpec spec = {.argv = argv, .writable = writable, .stdin_fd = -1};
  g_autoptr(GError) error = NULL;
  Outcome outcome = {0};
  double spent = children_ms();
  gint64 begin = g_get_monotonic_time();
  if (!choir_sandbox_run(sandbox, &spec, &handlers, &outcome, &error))
    g_error("%s", error->message);
  while (!outcome.done)
    g_main_context_iteration(NULL, TRUE);
  if (outcome.status != 0)
    g_error("/bin/true ended with status %d", outcome.status);
  double ms = (double)(g_get_monotonic_time() - begin) / 1000;
  return (Cost){ms, spent_ms(spent)};
}

static Cost spawned(const char *const *argv) {
  g_autoptr(GError) error = NULL;
  int status;
  double spent = children_ms();
  gint64 begin = g_get_monotonic_time();
  if (!g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, &status, &error) ||
      !g_spawn_check_wait_status(status, &error))
    g_error("%s: %s", argv[0], error->message);
  double ms = (double)(g_get_monotonic_time() - begin) / 1000;
  return (Cost){ms, spent_ms(spent)};
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void print(const char *title, const Cost *costs, guint n) {
  g_autofree double *ms = g_new(double, n), *cpu = g_new(double, n);
  for (guint i = 0; i < n; i++) {
    ms[i] = costs[i].ms;
    cpu[i] = costs[i].cpu_ms;
  }
  qsort(ms, n, sizeof *ms, compare);
  qsort(cpu, n, sizeof *cpu, compare);
  printf("%-44s %6.1f ms (%.1f to %.1f), of the processor %.1f ms\n", title, ms[n / 2], ms[n / 4], ms[3 * n / 4],
         cpu[n / 2]);
}

int main(int argc, char **argv) {
  static const char *const plain[] = {"/bin/true", NULL};
  static const char *const bwrap[] = {
      "bwrap", "--die-with-parent", "--unshare-all", "--new-session", "--ro-bind", "/", "/", "--proc", "/proc", "--dev",
      "/dev",  "--tmpfs",           "/tmp",          "/bin/true",     NULL};
  guint n = argc > 1 ? (guint)CLAMP(atoi(argv[1]), 4, 10000) : ROUNDS;
  g_autofree char *work = g_dir_make_tmp("choir-launch-XXXXXX", NULL), *found = g_find_program_in_path("bwrap");
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  ChoirSandbox *full = choir_sandbox_new(SANDBOX_PROGRAM), *landlock = choir_sandbox_new(SANDBOX_PROGRAM);
  choir_sandbox_lower(landlock, CHOIR_SANDBOX_LANDLOCK);
  gboolean has_full = choir_sandbox_mode(full) == CHOIR_SANDBOX_FULL && found;
  gboolean has_landlock = choir_sandbox_mode(landlock) == CHOIR_SANDBOX_LANDLOCK;
  g_autofree Cost *costs = g_new0(Cost, 4 * (gsize)n);
  for (guint i = 0; i < n; i++) {
    costs[i] = spawned(plain);
    if (has_full) {
      costs[n + i] = spawned(bwrap);
      costs[2 * n + i] = sandboxed(full, work);
    }
    if (has_landlock)
      costs[3 * n + i] = sandboxed(landlock, work);
  }
  print("started plainly", costs, n);
  if (has_full) {
    print("bubblewrap alone", costs + n, n);
    print("Choir: bubblewrap, seccomp, Landlock, limits", costs + 2 * n, n);
  } else {
    printf("bubblewrap cannot be used here: %s\n", choir_sandbox_why(full));
  }
  if (has_landlock)
    print("Choir: Landlock, seccomp, limits", costs + 3 * n, n);
  choir_sandbox_free(full);
  choir_sandbox_free(landlock);
  g_rmdir(work);
  return 0;
}
