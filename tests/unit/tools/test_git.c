/* The git tool against real repositories. */
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include "house.h"

#define CALL(house, name, ...)                                                                                         \
  ({                                                                                                                   \
    g_autofree char *args_ = g_strdup_printf(__VA_ARGS__);                                                             \
    house_ok(house, name, args_);                                                                                      \
  })

/* git's own server on a free port of loopback, for the repositories below base. */
static GPid serve(const char *base, guint16 *ret_port) {
  g_autoptr(GSocketListener) listener = g_socket_listener_new();
  *ret_port = g_socket_listener_add_any_inet_port(listener, NULL, NULL);
  g_socket_listener_close(listener);
  g_autofree char *port = g_strdup_printf("--port=%u", *ret_port), *root = g_strconcat("--base-path=", base, NULL);
  const char *argv[] = {"git", "daemon",       "--listen=127.0.0.1",    port,
                        root,  "--export-all", "--enable=receive-pack", NULL};
  GPid pid = 0;
  g_assert_true(g_spawn_async(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL,
                              &pid, NULL));
  for (guint i = 0; i < 100; i++) {
    g_autoptr(GSocketClient) client = g_socket_client_new();
    g_autoptr(GSocketConnection) connection =
        g_socket_client_connect_to_host(client, "127.0.0.1", *ret_port, NULL, NULL);
    if (connection)
      return pid;
    g_usleep(100000);
  }
  g_error("git daemon does not start");
}

/* A result of this action in the audit log names this host. */
static gboolean logged(House *house, const char *action, const char *host) {
  g_autofree char *path = g_build_filename(house->state, "audit.jsonl", NULL), *text = NULL;
  g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
  g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
  g_autofree char *tool = g_strdup_printf("\"%s\"", action), *hosts = g_strdup_printf("\"hosts\":[\"%s\"]", host);
  for (char **line = lines; *line; line++)
    if (strstr(*line, tool) && strstr(*line, hosts))
      return TRUE;
  return FALSE;
}

static void test_work(void) {
  g_autoptr(House) house = house_new();
  g_autofree char *remote = g_build_filename(house->dir, "remote.git", NULL);
  house_shell(
      "git init -q --bare -b main %s && git clone -q %s %s/seed && cd %s/seed && echo one > a.txt && git add . && "
      "git -c user.name=t -c user.email=t@t commit -qm first && git push -q origin HEAD:main",
      remote, remote, house->dir, house->dir);
  guint16 port;
  GPid server = serve(house->dir, &port);
  g_free(CALL(house, "git.clone", "{\"repo_url\":\"git://127.0.0.1:%u/remote.git\",\"directory\":\"copy\"}", port));
  g_assert_cmpuint(house->asked, ==, 1);
  g_autofree char *file = g_build_filename(house->work, "copy", "a.txt", NULL);
  g_assert_true(g_file_test(file, G_FILE_TEST_EXISTS));
  g_assert_true(g_file_set_contents(file, "two\n", -1, NULL));
  g_autofree char *status = house_ok(house, "git.status", "{\"working_dir\":\"copy\"}");
  house_holds(status, " M a.txt");
  g_autofree char *diff = house_ok(house, "git.diff", "{\"working_dir\":\"copy\"}");
  house_holds(diff, "+two");
  g_autofree char *fresh = g_build_filename(house->work, "copy", "b.txt", NULL);
  g_assert_true(g_file_set_contents(fresh, "new\n", -1, NULL));
  g_free(house_ok(house, "git.add", "{\"working_dir\":\"copy\",\"path\":\"b.txt\"}"));
  g_autofree char *commit = house_ok(house, "git.commit", "{\"working_dir\":\"copy\",\"message\":\"second; `id`\"}");
  house_holds(commit, "second; `id`");
  house_holds(commit, "2 files changed");
  g_free(house_ok(house, "git.branch", "{\"working_dir\":\"copy\",\"branch_name\":\"side\"}"));
  g_free(house_ok(house, "git.checkout", "{\"working_dir\":\"copy\",\"branch_name\":\"side\"}"));
  g_assert_true(g_file_set_contents(fresh, "side\n", -1, NULL));
  g_free(house_ok(house, "git.commit", "{\"working_dir\":\"copy\",\"message\":\"on the side\"}"));
  g_free(house_ok(house, "git.checkout", "{\"working_dir\":\"copy\",\"branch_name\":\"main\"}"));
  g_autofree char *merge = house_ok(house, "git.merge", "{\"working_dir\":\"copy\",\"branch\":\"side\"}");
  house_holds(merge, "b.txt");
  g_autofree char *list = house_ok(house, "git.branch", "{\"working_dir\":\"copy\"}");
  house_holds(list, "on the side");
  house->asked = 0;
  g_autofree char *push = house_ok(house, "git.push", "{\"working_dir\":\"copy\"}");
  g_assert_cmpuint(house->asked, ==, 1);
  house_holds(push, "main -> main");
  /* The card tells where it goes and what. */
  g_autofree char *address = g_strdup_printf("git://127.0.0.1:%u/remote.git", port);
  house_holds(house->last_card, address);
  house_holds(house->last_card, "on the side");
  house_shell("cd %s/seed && git pull -q --ff-only && grep -q side b.txt && echo three > c.txt && git add . && "
              "git -c user.name=t -c user.email=t@t commit -qm third && git push -q origin HEAD:main",
              house->dir);
  g_free(house_ok(house, "git.pull", "{\"working_dir\":\"copy\"}"));
  g_autofree char *third = g_build_filename(house->work, "copy", "c.txt", NULL);
  g_assert_true(g_file_test(third, G_FILE_TEST_EXISTS));
  /* Whom they talked to is in the log, also where the branch has a remote of its own with another name. */
  static const char *const actions[] = {"git.clone", "git.push", "git.pull"};
  for (guint i = 0; i < G_N_ELEMENTS(actions); i++)
    g_assert_true(logged(house, actions[i], "127.0.0.1"));
  house_shell(
      "cd %s/copy && git remote rename origin home && git remote set-url --push home git://localhost:%u/remote.git",
      house->work, port);
  g_free(house_ok(house, "git.push", "{\"working_dir\":\"copy\"}"));
  g_assert_true(logged(house, "git.push", "localhost"));
  house->approve = FALSE;
  g_autofree char *denied = house_fails(house, "git.push", "{\"working_dir\":\"copy\"}");
  house_holds(denied, "said no");
  kill(server, SIGTERM);
  g_spawn_close_pid(server);
}

static void test_harm(void) {
  g_autoptr(House) house = house_new();
  static const struct {
    const char *name, *args, *what;
  } refused[] = {
      {"git.status", "{\"working_dir\":\"/etc\"}", "is not below"},
      {"git.status", "{\"working_dir\":\"../state\"}", "is not below"},
      {"git.status", "{\"working_dir\":\"nowhere\"}", "there is no folder"},
      {"git.clone", "{\"repo_url\":\"--upload-pack=touch /tmp/x\",\"directory\":\"x\"}", "begins with a dash"},
  };
  for (gsize i = 0; i < G_N_ELEMENTS(refused); i++) {
    g_autofree char *why = house_fails(house, refused[i].name, refused[i].args);
    house_holds(why, refused[i].what);
  }
  g_autofree char *ext =
      house_ok(house, "git.clone", "{\"repo_url\":\"ext::sh -c touch% /var/tmp/choir-ext\",\"directory\":\"x\"}");
  house_holds(ext, "not allowed");
  g_assert_false(g_file_test("/var/tmp/choir-ext", G_FILE_TEST_EXISTS));
  /* What a repository's own configuration wants to run stays in the sandbox. */
  g_autofree char *mark = g_build_filename(house->state, "ran", NULL);
  house_shell(
      "cd %s && git init -q -b main evil && cd evil && echo x > f && git add f && git config core.fsmonitor 'touch %s' "
      "&& "
      "git config diff.external 'touch %s' && git config alias.status '!touch %s' && "
      "printf '#!/bin/sh\\ntouch %s\\n' > .git/hooks/pre-commit && chmod +x .git/hooks/pre-commit",
      house->work, mark, mark, mark, mark);
  g_free(house_ok(house, "git.status", "{\"working_dir\":\"evil\"}"));
  g_free(house_ok(house, "git.diff", "{\"working_dir\":\"evil\"}"));
  g_free(house_ok(house, "git.commit", "{\"working_dir\":\"evil\",\"message\":\"x\"}"));
  g_assert_false(g_file_test(mark, G_FILE_TEST_EXISTS));
}

int main(int argc, char **argv) {
  alarm(200);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/tools/git/work", test_work);
  g_test_add_func("/tools/git/harm", test_harm);
  return g_test_run();
}
