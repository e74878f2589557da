/* All descendants of a process are found, those that a second thread made too, both ways that tree.c has of looking. */
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include "sandbox/tree.c"

static pid_t sleeper(void) {
  pid_t pid = fork();
  if (pid == 0) {
    pause();
    _exit(0);
  }
  return pid;
}

static void *fork_there(void *told) {
  pid_t pid = sleeper();
  g_assert_cmpint(write(*(int *)told, &pid, sizeof pid), ==, sizeof pid);
  pause(); /* a thread that ends gives its children away */
  return NULL;
}

static gboolean holds(const ChoirTree *tree, pid_t pid) {
  for (guint i = 0; i < tree->n; i++)
    if (tree->pids[i] == pid)
      return TRUE;
  return FALSE;
}

static void test_family(void) {
  int told[2];
  pid_t by_main, by_thread, top;
  g_assert_cmpint(pipe(told), ==, 0);
  if ((top = fork()) == 0) {
    pthread_t thread;
    by_main = sleeper();
    g_assert_cmpint(write(told[1], &by_main, sizeof by_main), ==, sizeof by_main);
    pthread_create(&thread, NULL, fork_there, &told[1]);
    pthread_join(thread, NULL);
    _exit(0);
  }
  g_assert_cmpint(read(told[0], &by_main, sizeof by_main), ==, sizeof by_main);
  g_assert_cmpint(read(told[0], &by_thread, sizeof by_thread), ==, sizeof by_thread);
  for (guint way = 0; way < 2; way++) {
    ChoirTree tree = {NULL, 0, 0};
    if (way == 0)
      choir_tree_read(getpid(), &tree);
    else
      read_by_parent(getpid(), &tree);
    g_assert_cmpuint(tree.n, ==, 3);
    g_assert_cmpint(tree.pids[0], ==, top);
    g_assert_true(holds(&tree, by_main) && holds(&tree, by_thread));
    g_assert_cmpuint(tree.resident_kb, >, 100);
    choir_tree_clear(&tree);
  }
  pid_t all[] = {top, by_main, by_thread};
  for (guint i = 0; i < G_N_ELEMENTS(all); i++)
    kill(all[i], SIGKILL);
  waitpid(top, NULL, 0);
  ChoirTree none;
  choir_tree_read(top, &none);
  g_assert_cmpuint(none.n, ==, 0);
  choir_tree_clear(&none);
}

int main(int argc, char **argv) {
  alarm(60);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/sandbox/tree", test_family);
  return g_test_run();
}
