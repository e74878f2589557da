/* ssh against Debian's own sshd on loopback, ansible against the real ansible-playbook on this host. */
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/text.h"
#include "house.h"

typedef struct {
  GPid pid;
  guint16 port;
  char *key, *stranger;
} Server;

static gboolean answers(guint16 port) {
  g_autoptr(GSocketClient) client = g_socket_client_new();
  g_autoptr(GSocketConnection) connection = g_socket_client_connect_to_host(client, "127.0.0.1", port, NULL, NULL);
  return connection != NULL;
}

static Server server_start(House *house) {
  g_autoptr(GSocketListener) listener = g_socket_listener_new();
  Server server = {.port = g_socket_listener_add_any_inet_port(listener, NULL, NULL)};
  g_socket_listener_close(listener);
  if (getuid() == 0)
    g_mkdir_with_parents("/run/sshd", 0755);
  house_shell(
      "cd %s && ssh-keygen -q -t ed25519 -N '' -f host && ssh-keygen -q -t ed25519 -N '' -f key && ssh-keygen -q -t "
      "ed25519 -N '' -f stranger && "
      "cp key.pub authorized && printf '[127.0.0.1]:%u %%s\\n' \"$(cut -d' ' -f1,2 host.pub)\" > known && "
      "printf 'HostKey %s/host\\nAuthorizedKeysFile %s/authorized\\nPidFile none\\nUsePAM no\\nStrictModes "
      "no\\nListenAddress 127.0.0.1\\n"
      "PasswordAuthentication no\\nPermitRootLogin prohibit-password\\n' > conf",
      house->dir, server.port, house->dir, house->dir);
  g_autofree char *conf = g_build_filename(house->dir, "conf", NULL), *port = g_strdup_printf("%u", server.port);
  const char *argv[] = {"/usr/sbin/sshd", "-D", "-e", "-f", conf, "-p", port, NULL};
  g_assert_true(g_spawn_async(NULL, (char **)argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDERR_TO_DEV_NULL, NULL,
                              NULL, &server.pid, NULL));
  for (guint i = 0; i < 100 && !answers(server.port); i++)
    g_usleep(100000);
  server.key = g_build_filename(house->dir, "key", NULL);
  server.stranger = g_build_filename(house->dir, "stranger", NULL);
  return server;
}

static void server_stop(Server *server) {
  kill(server->pid, SIGTERM);
  g_spawn_close_pid(server->pid);
  g_free(server->key);
  g_free(server->stranger);
}

static void test_ssh(void) {
  g_autoptr(House) house = house_new();
  Server server = server_start(house);
  const char *user = getpwuid(getuid())->pw_name;
  g_autofree char *known = g_build_filename(house->dir, "known", NULL);
  g_assert_true(choir_config_set(house->config, "tools", "known_hosts", known, NULL));
#define ARGS(host, key, command)                                                                                       \
  g_strdup_printf("{\"host\":\"%s\",\"port\":%u,\"username\":\"%s\",\"key_filename\":\"%s\",\"command\":\"%s\"}",      \
                  host, server.port, user, key, command)
  g_autofree char *args = ARGS("127.0.0.1", server.key, "echo from the other side; echo $SSH_CONNECTION | wc -w");
  g_autofree char *out = house_ok(house, "ssh.run_command", args);
  house_holds(out, "from the other side\n4\n");
  house_holds(house->last_card, "\"target\":\"host 127.0.0.1\"");
  /* The second command goes over the first one's connection: the server sees the same one. */
  g_autofree char *where = ARGS("127.0.0.1", server.key, "echo $SSH_CONNECTION"),
                  *connection = house_ok(house, "ssh.run_command", where),
                  *same = house_ok(house, "ssh.run_command", where);
  house_holds(connection, "127.0.0.1 ");
  g_assert_cmpstr(connection, ==, same);
  g_autofree char *control = g_build_filename(house->state, "ssh", NULL);
  g_autoptr(GDir) sockets = g_dir_open(control, 0, NULL);
  g_assert_nonnull(g_dir_read_name(sockets));
  g_autofree char *failing = ARGS("127.0.0.1", server.key, "echo trouble >&2; exit 7");
  g_autofree char *trouble = house_ok(house, "ssh.run_command", failing);
  house_holds(trouble, "trouble\n\n(exit code 7)");
  g_autofree char *unknown = ARGS("localhost", server.key, "true");
  g_autofree char *stranger = house_fails(house, "ssh.run_command", unknown);
  house_holds(stranger, "this machine is not known yet");
  house_shell("for s in %s/*; do rm -f $s; done", control);
  g_autofree char *fresh = house_ok(house, "ssh.run_command", where); /* another one, without it */
  g_assert_cmpstr(fresh, !=, connection);
  house_shell("for s in %s/*; do rm -f $s; done", control);
  g_autofree char *wrong_key = ARGS("127.0.0.1", server.stranger, "true");
  g_autofree char *refused = house_fails(house, "ssh.run_command", wrong_key);
  house_holds(refused, "does not accept our key");
  g_autofree char *option = ARGS("-oProxyCommand=touch /tmp/x", server.key, "true");
  g_autofree char *no_host = house_fails(house, "ssh.run_command", option);
  house_holds(no_host, "is no user and machine");
  house->approve = FALSE;
  g_autofree char *mark = g_build_filename(house->dir, "mark", NULL);
  g_autofree char *touch = g_strdup_printf("touch %s", mark), *denied = ARGS("127.0.0.1", server.key, touch);
  g_free(house_fails(house, "ssh.run_command", denied));
  g_assert_false(g_file_test(mark, G_FILE_TEST_EXISTS));
  house->approve = TRUE;
  g_autofree char *password =
      house_fails(house, "ssh.run_command", "{\"host\":\"a\",\"username\":\"b\",\"command\":\"c\",\"password\":\"d\"}");
  house_holds(password, "passwords are not used");
  server_stop(&server);
}

static void test_ansible(void) {
  g_autoptr(House) house = house_new();
  g_autofree char *target = g_build_filename(house->dir, "made-by-ansible", NULL);
  house_shell("mkdir %s/plays && cd %s/plays && cat > playbook.yaml <<'EOF'\n"
              "- hosts: localhost\n  connection: local\n  gather_facts: false\n  tasks:\n"
              "    - name: a file\n      ansible.builtin.copy:\n        content: \"hello {{ who | default('nobody') "
              "}}\\n\"\n   "
              "     dest: %s\n"
              "        mode: \"0644\"\n      tags: [file]\nEOF\n"
              "cat > broken.yaml <<'EOF'\n- hosts: localhost\n  connection: local\n  gather_facts: false\n  tasks:\n"
              "    - ansible.builtin.debug:\n        msg: \"{{ not_there }}\"\nEOF\necho 'just: data' > data.yaml",
              house->dir, house->dir, target);
  g_autofree char *plays = g_build_filename(house->dir, "plays", NULL);
  g_assert_true(choir_config_set(house->config, "tools", "playbooks", plays, NULL));
  house->approve = FALSE;
  g_free(house_fails(house, "ansible.run_playbook", "{\"playbook\":\"playbook.yaml\"}"));
  house_holds(house->last_card, "+hello nobody"); /* the dry run is on the card */
  house_holds(house->last_card, "\"class\":\"fleet\"");
  g_assert_false(g_file_test(target, G_FILE_TEST_EXISTS));
  house->approve = TRUE;
  g_autofree char *out = house_ok(house, "ansible.run_playbook",
                                  "{\"playbook\":\"playbook.yaml\",\"limit\":\"localhost\",\"tags\":\"file\","
                                  "\"extra_vars\":[{\"name\":\"who\",\"value\":\"Ada; $(id)\"}]}");
  house_holds(out, "changed=1");
  g_autofree char *text = NULL;
  g_assert_true(g_file_get_contents(target, &text, NULL, NULL));
  house_holds(text, "hello Ada");
  /* As the original writes it: the playbook is the default, the variables are an object. */
  g_autofree char *original =
      house_ok(house, "ansible.run_playbook", "{\"tags\":\"file\",\"extra_vars\":{\"who\":\"Grace\",\"unused\":7}}");
  g_autofree char *again = NULL;
  house_holds(original, "changed=1");
  g_assert_true(g_file_get_contents(target, &again, NULL, NULL));
  house_holds(again, "hello Grace");
  g_autofree char *undefined = house_fails(house, "ansible.run_playbook", "{\"playbook\":\"broken.yaml\"}");
  house_holds(undefined, "a variable has no value");
  g_autofree char *data = house_fails(house, "ansible.run_playbook", "{\"playbook\":\"data.yaml\"}");
  house_holds(data, "must be one of");
  g_autofree char *option =
      house_fails(house, "ansible.run_playbook", "{\"playbook\":\"playbook.yaml\",\"limit\":\"-vvv\"}");
  house_holds(option, "limit and tags are names");
}

int main(int argc, char **argv) {
  alarm(280);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/tools/remote/ssh", test_ssh);
  g_test_add_func("/tools/remote/ansible", test_ansible);
  return g_test_run();
}
