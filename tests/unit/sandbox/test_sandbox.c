/* The sandbox from outside: what it lets a program do, 64 ways out of it in each mode that this kernel supports, and
 * what is left behind. */
#include <arpa/inet.h>
#include <errno.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "sandbox/sandbox.h"

#define SECRET_TEXT "the secret\n"

typedef struct {
  char *dir, *work, *secret, *state, *sock, *abstract;
  int tcp, udp, local, hidden_local;
  guint16 port;
  pid_t victim;
  ChoirSandbox *sandbox;
} World;

static int listen_unix(const char *path, gboolean abstract) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  g_strlcpy(address.sun_path + (abstract ? 1 : 0), path, sizeof address.sun_path - 1);
  socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  g_assert_cmpint(bind(fd, (struct sockaddr *)&address, length), ==, 0);
  g_assert_cmpint(listen(fd, 8), ==, 0);
  return fd;
}

static int bind_port(int kind, guint16 *port) {
  struct sockaddr_in address = {
      .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(*port)};
  socklen_t length = sizeof address;
  int fd = socket(AF_INET, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  g_assert_cmpint(bind(fd, (struct sockaddr *)&address, length), ==, 0);
  getsockname(fd, (struct sockaddr *)&address, &length);
  *port = ntohs(address.sin_port);
  return fd;
}

static void put(const char *dir, const char *name, const char *text) {
  g_autofree char *path = g_build_filename(dir, name, NULL);
  g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static World *world_new(ChoirSandboxMode mode) {
  World *world = g_new0(World, 1);
  /* Below /var/tmp: /tmp is the sandbox's own. */
  world->dir = g_strdup("/var/tmp/choir-sandbox-XXXXXX");
  g_assert_nonnull(g_mkdtemp(world->dir));
  world->work = g_build_filename(world->dir, "work", NULL);
  world->secret = g_build_filename(world->dir, "secret", NULL);
  world->state = g_build_filename(world->dir, "state", NULL);
  g_mkdir(world->work, 0700);
  g_mkdir(world->secret, 0700);
  g_mkdir(world->state, 0700);
  put(world->secret, "secret.txt", SECRET_TEXT);
  put(world->state, "secret.txt", SECRET_TEXT);
  put(world->state, "audit.jsonl", "one line\n");
  world->sock = g_build_filename(world->secret, "sock", NULL);
  world->local = listen_unix(world->sock, FALSE);
  world->abstract = g_strdup_printf("choir-test-%d-%d", (int)getpid(), (int)mode);
  world->hidden_local = listen_unix(world->abstract, TRUE);
  world->tcp = bind_port(SOCK_STREAM, &world->port);
  g_assert_cmpint(listen(world->tcp, 8), ==, 0);
  world->udp = bind_port(SOCK_DGRAM, &world->port);
  world->victim = fork();
  if (world->victim == 0) {
    setenv("VICTIMS_SECRET", "x", 1);
    execl("/bin/sleep", "sleep", "300", NULL);
    _exit(1);
  }
  world->sandbox = choir_sandbox_new(SANDBOX_PROGRAM);
  choir_sandbox_lower(world->sandbox, mode);
  return world;
}

static void world_free(World *world) {
  choir_sandbox_free(world->sandbox);
  kill(world->victim, SIGKILL);
  waitpid(world->victim, NULL, 0);
  const char *argv[] = {"rm", "-rf", world->dir, NULL};
  g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
  int fds[] = {world->tcp, world->udp, world->local, world->hidden_local};
  for (guint i = 0; i < G_N_ELEMENTS(fds); i++)
    close(fds[i]);
  g_free(world->work);
  g_free(world->secret);
  g_free(world->state);
  g_free(world->sock);
  g_free(world->abstract);
  g_free(world->dir);
  g_free(world);
}

typedef struct {
  GString *out;
  gboolean ended;
  int status;
  char *killed;
} Outcome;

static void on_output(ChoirSandboxRun *run, int stream, const char *data, gsize length, gpointer user) {
  Outcome *outcome = user;
  g_assert_false(outcome->ended);
  g_string_append_len(outcome->out, data, (gssize)length);
}

static void on_ended(ChoirSandboxRun *run, int status, const char *killed, gpointer user) {
  Outcome *outcome = user;
  g_assert_false(outcome->ended);
  outcome->ended = TRUE;
  outcome->status = status;
  outcome->killed = g_strdup(killed);
}

static const ChoirSandboxHandlers handlers = {on_output, on_ended};

static void outcome_clear(Outcome *outcome) {
  g_string_free(outcome->out, TRUE);
  g_free(outcome->killed);
}

static void run(World *world, ChoirSandboxSpec *spec, Outcome *outcome) {
  const char *writable[] = {world->work, NULL}, *hidden[] = {world->secret, world->state, NULL};
  g_autoptr(GError) error = NULL;
  *outcome = (Outcome){.out = g_string_new(NULL)};
  spec->writable = writable;
  spec->hidden = hidden;
  spec->stdin_fd = -1;
  g_assert_nonnull(choir_sandbox_run(world->sandbox, spec, &handlers, outcome, &error));
  while (!outcome->ended)
    g_main_context_iteration(NULL, TRUE);
}

static void shell(World *world, const char *script, Outcome *outcome) {
  const char *argv[] = {"sh", "-c", script, NULL};
  ChoirSandboxSpec spec = {.argv = argv};
  run(world, &spec, outcome);
}

static gboolean supported(ChoirSandboxMode mode) {
  g_autoptr(ChoirSandbox) sandbox = choir_sandbox_new(SANDBOX_PROGRAM);
  return choir_sandbox_mode(sandbox) >= mode;
}

#define MODE(data) ((ChoirSandboxMode)GPOINTER_TO_UINT(data))
#define SKIP_UNLESS(mode)                                                                                              \
  if (!supported(mode)) {                                                                                              \
    g_test_skip("this kernel does not allow that mode");                                                               \
    return;                                                                                                            \
  }

/* What it is for: ordinary programs work. */
static void test_work(gconstpointer data) {
  SKIP_UNLESS(MODE(data));
  World *world = world_new(MODE(data));
  Outcome outcome;
  shell(world, "echo hello; echo there >&2; pwd; echo x > file && cat file; exit 3", &outcome);
  g_assert_true(WIFEXITED(outcome.status));
  g_assert_cmpint(WEXITSTATUS(outcome.status), ==, 3);
  g_assert_null(outcome.killed);
  g_assert_nonnull(strstr(outcome.out->str, "hello\n"));
  g_assert_nonnull(strstr(outcome.out->str, "there\n"));
  g_assert_nonnull(strstr(outcome.out->str, world->work));
  g_assert_nonnull(strstr(outcome.out->str, "x\n"));
  outcome_clear(&outcome);
  g_autofree char *file = g_build_filename(world->work, "file", NULL);
  g_assert_true(g_file_test(file, G_FILE_TEST_EXISTS)); /* the writable folder is real */
  shell(world, "python3 -c 'import json, threading; print(json.dumps([1]))' && ls /usr | head -3 && date", &outcome);
  g_assert_cmpint(outcome.status, ==, 0);
  outcome_clear(&outcome);
  shell(world, "no-such-program-here", &outcome);
  g_assert_cmpint(WEXITSTATUS(outcome.status), ==, 127);
  outcome_clear(&outcome);
  world_free(world);
}

static void test_limits(gconstpointer data) {
  SKIP_UNLESS(MODE(data));
  World *world = world_new(MODE(data));
  Outcome outcome;
  const char *argv[] = {"sh", "-c", "sleep 60 & sleep 60", NULL};
  ChoirSandboxSpec spec = {.argv = argv, .seconds = 1};
  run(world, &spec, &outcome);
  g_assert_cmpstr(outcome.killed, ==, "time");
  outcome_clear(&outcome);
  /* A kill takes everything along. */
  const char *writable[] = {world->work, NULL};
  g_autoptr(GError) error = NULL;
  outcome = (Outcome){.out = g_string_new(NULL)};
  const char *slow[] = {"sh", "-c", "setsid sleep 61 & echo up; sleep 61", NULL};
  ChoirSandboxSpec cancelled = {.argv = slow, .writable = writable, .stdin_fd = -1, .seconds = 100};
  ChoirSandboxRun *live = choir_sandbox_run(world->sandbox, &cancelled, &handlers, &outcome, &error);
  g_assert_no_error(error);
  while (outcome.out->len == 0)
    g_main_context_iteration(NULL, TRUE);
  choir_sandbox_kill(live);
  while (!outcome.ended)
    g_main_context_iteration(NULL, TRUE);
  g_assert_cmpstr(outcome.killed, ==, "cancelled");
  outcome_clear(&outcome);
  world_free(world);
}

static gboolean on_late(gpointer user) {
  *(gboolean *)user = TRUE;
  return G_SOURCE_REMOVE;
}

static void until(const Outcome *outcome, const char *text) {
  gboolean late = FALSE;
  guint timer = g_timeout_add_seconds(20, on_late, &late);
  while (!strstr(outcome->out->str, text) && !late && !outcome->ended)
    g_main_context_iteration(NULL, TRUE);
  if (!late)
    g_source_remove(timer);
  if (!strstr(outcome->out->str, text))
    g_error("no %s in: %s", text, outcome->out->str);
}

static gboolean typed(ChoirSandboxRun *terminal, const char *text) {
  return choir_sandbox_write(terminal, text, strlen(text));
}

static void test_terminal(gconstpointer data) {
  SKIP_UNLESS(MODE(data));
  World *world = world_new(MODE(data));
  const char *argv[] = {"bash", "--norc", "-i", NULL}, *writable[] = {world->work, NULL};
  Outcome outcome = {.out = g_string_new(NULL)};
  g_autoptr(GError) error = NULL;
  ChoirSandboxSpec spec = {
      .argv = argv, .writable = writable, .pty = TRUE, .rows = 30, .columns = 100, .stdin_fd = -1, .seconds = 200};
  ChoirSandboxRun *terminal = choir_sandbox_run(world->sandbox, &spec, &handlers, &outcome, &error);
  g_assert_no_error(error);
  g_assert_true(typed(terminal, "stty size; echo mark-$((1+1))\n"));
  until(&outcome, "mark-2");
  g_assert_nonnull(strstr(outcome.out->str, "30 100"));
  choir_sandbox_resize(terminal, 40, 120);
  g_assert_true(typed(terminal, "stty size; echo mark-$((2+1))\n"));
  until(&outcome, "mark-3");
  g_assert_nonnull(strstr(outcome.out->str, "40 120"));
  g_assert_true(typed(terminal, "echo up-$((4+4)); sleep 50\n"));
  until(&outcome, "up-8");
  g_assert_true(typed(terminal, "\003")); /* Ctrl-C reaches the program in front */
  until(&outcome, "^C");
  /* A shell throws away what was typed while it took up the signal, and a signal that comes while it starts the program
   * reaches neither: both are typed until they are heard. */
  for (guint i = 0; i < 40 && !strstr(outcome.out->str, "mark-4"); i++) {
    g_assert_true(typed(terminal, i % 4 == 3 ? "\003" : "\necho mark-$((3+1))\n"));
    gboolean late = FALSE;
    g_timeout_add(500, on_late, &late);
    while (!late)
      g_main_context_iteration(NULL, TRUE);
  }
  until(&outcome, "mark-4");
  g_autofree char *flood = g_strnfill(100000, 'x');
  g_assert_false(choir_sandbox_write(terminal, flood, 100000)); /* bounded */
  g_assert_true(typed(terminal, "exit\n"));
  while (!outcome.ended)
    g_main_context_iteration(NULL, TRUE);
  g_assert_null(outcome.killed);
  outcome_clear(&outcome);
  world_free(world);
}

static void test_refusals(void) {
  World *world = world_new(CHOIR_SANDBOX_NONE);
  g_autoptr(GError) error = NULL;
  const char *argv[] = {"true", NULL};
  ChoirSandboxSpec spec = {.argv = argv, .stdin_fd = -1};
  g_assert_null(choir_sandbox_run(world->sandbox, &spec, &handlers, NULL, &error));
  g_assert_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED);
  world_free(world);
  g_autoptr(ChoirSandbox) missing = choir_sandbox_new("/no/such/choir-sandbox");
  g_assert_cmpint(choir_sandbox_mode(missing), ==, CHOIR_SANDBOX_NONE);
  g_assert_nonnull(strstr(choir_sandbox_why(missing), "is missing"));
  if (supported(CHOIR_SANDBOX_LANDLOCK)) {
    world = world_new(CHOIR_SANDBOX_LANDLOCK);
    spec.proxy_socket = world->sock;
    g_clear_error(&error);
    g_assert_null(choir_sandbox_run(world->sandbox, &spec, &handlers, NULL, &error));
    g_assert_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED);
    world_free(world);
  }
}

/* The 64 ways out */

static gboolean process_named(const char *name) {
  g_autoptr(GDir) proc = g_dir_open("/proc", 0, NULL);
  for (const char *pid = g_dir_read_name(proc); pid; pid = g_dir_read_name(proc)) {
    g_autofree char *path = g_build_filename("/proc", pid, "cmdline", NULL), *text = NULL;
    if (g_ascii_isdigit(*pid) && g_file_get_contents(path, &text, NULL, NULL) && g_str_equal(text, name))
      return TRUE;
  }
  return FALSE;
}

static gboolean unchanged(const char *dir, const char *name, const char *text) {
  g_autofree char *path = g_build_filename(dir, name, NULL), *now = NULL;
  return g_file_get_contents(path, &now, NULL, NULL) && g_str_equal(now, text);
}

static guint entries(const char *path) {
  g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
  guint n = 0;
  while (dir && g_dir_read_name(dir))
    n++;
  return n;
}

/* What the test itself can see; NULL: nothing happened outside. */
static const char *damage(World *world) {
  char byte;
  if (accept4(world->tcp, NULL, NULL, SOCK_CLOEXEC) >= 0)
    return "it reached the TCP listener";
  if (recv(world->udp, &byte, 1, 0) >= 0)
    return "it reached the UDP listener";
  if (accept4(world->local, NULL, NULL, SOCK_CLOEXEC) >= 0 ||
      accept4(world->hidden_local, NULL, NULL, SOCK_CLOEXEC) >= 0)
    return "it reached a unix socket";
  if (waitpid(world->victim, NULL, WNOHANG) != 0)
    return "it ended another process";
  if (process_named("choir-orphan"))
    return "it left a process behind";
  if (!unchanged(world->secret, "secret.txt", SECRET_TEXT) || !unchanged(world->state, "secret.txt", SECRET_TEXT) ||
      !unchanged(world->state, "audit.jsonl", "one line\n") || entries(world->secret) != 2 ||
      entries(world->state) != 2 || entries(world->dir) != 3)
    return "it changed files outside";
  static const char *const places[] = {"/etc/escape",
                                       "/usr/escape",
                                       "/escape",
                                       "/var/escape",
                                       "/tmp/choir-note",
                                       "/dev/shm/choir-note",
                                       "/var/tmp/choir-note",
                                       "/run/choir-note",
                                       "/etc/systemd/system/escape.service",
                                       "/opt/nomad/jobs/escape.nomad"};
  for (guint i = 0; i < G_N_ELEMENTS(places); i++)
    if (g_file_test(places[i], G_FILE_TEST_EXISTS))
      return places[i];
  return NULL;
}

static gboolean ends_early(const char *name) {
  return g_str_has_prefix(name, "resource_") || g_str_equal(name, "process_fork_bomb") ||
         g_str_equal(name, "process_zombies") || g_str_equal(name, "process_init") ||
         g_str_equal(name, "process_signal_flood") || g_str_equal(name, "kernel_other_abi");
}

static gboolean escapes(World *world, const char *name) {
  g_autofree char *script = g_build_filename(world->work, "escapes.py", NULL), *text = NULL;
  g_autofree char *variables[7] = {
      g_strdup_printf("WORK=%s", world->work),         g_strdup_printf("SECRET=%s", world->secret),
      g_strdup_printf("STATE=%s", world->state),       g_strdup_printf("PORT=%u", world->port),
      g_strdup_printf("SOCK=%s", world->sock),         g_strdup_printf("ABSTRACT=%s", world->abstract),
      g_strdup_printf("VICTIM=%d", (int)world->victim)};
  const char *env[] = {variables[0], variables[1], variables[2], variables[3],
                       variables[4], variables[5], variables[6], NULL};
  const char *clean[] = {"sh", "-c", "rm -rf \"$0\"/* 2>/dev/null", world->work, NULL};
  g_spawn_sync(NULL, (char **)clean, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
  g_assert_true(g_file_get_contents(ESCAPES, &text, NULL, NULL));
  g_assert_true(g_file_set_contents(script, text, -1, NULL));
  const char *argv[] = {"python3", "-B", script, name, NULL};
  ChoirSandboxSpec spec = {
      .argv = argv, .env = env, .seconds = 25, .cpu_seconds = 2, .memory_mb = 256, .output_max = 20000};
  Outcome outcome;
  gint64 begin = g_get_monotonic_time();
  run(world, &spec, &outcome);
  if (g_get_monotonic_time() - begin > 3 * G_USEC_PER_SEC)
    g_test_message("%s took %.1f s", name, (double)(g_get_monotonic_time() - begin) / G_USEC_PER_SEC);
  const char *harm = damage(world);
  gboolean out = strstr(outcome.out->str, "ESCAPED") != NULL, done = strstr(outcome.out->str, "DONE") != NULL;
  gboolean kept = outcome.out->len <= 2 * 20000;
  if (out || harm || !kept || (!done && !ends_early(name)))
    g_test_message("%s: %s%s%s (status %d, %s): %.600s", name, out ? "escaped; " : "", harm ? harm : "",
                   kept ? "" : " output was not bounded", outcome.status,
                   outcome.killed ? outcome.killed : "ended by itself", outcome.out->str);
  gboolean ok = !out && !harm && kept && (done || ends_early(name));
  outcome_clear(&outcome);
  return !ok;
}

static void test_escapes(gconstpointer data) {
  SKIP_UNLESS(MODE(data));
  World *world = world_new(MODE(data));
  g_autofree char *list = NULL;
  const char *argv[] = {"env",      "WORK=",   "SECRET=", "STATE=", "PORT=0", "SOCK=", "ABSTRACT=",
                        "VICTIM=0", "python3", "-B",      ESCAPES,  "--list", NULL};
  g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &list, NULL, NULL, NULL));
  g_auto(GStrv) names = g_strsplit(g_strstrip(list), "\n", -1);
  g_assert_cmpuint(g_strv_length(names), ==, 64);
  guint found = 0;
  for (char **name = names; *name; name++)
    found += escapes(world, *name) ? 1 : 0;
  found += escapes(world, "agent_leaves_a_note") ? 1 : 0; /* the second call finds nothing of the first */
  g_test_message("%u of 64 ways lead out (%s)", found, choir_sandbox_why(world->sandbox));
  g_assert_cmpuint(found, ==, 0);
  world_free(world);
}

/* The attempts are real: without a sandbox many of them work. */
static void test_control(void) {
  World *world = world_new(CHOIR_SANDBOX_NONE);
  static const char *const names[] = {"fs_symlink",     "net_tcp",     "net_abstract_unix",
                                      "process_kill",   "python_exec", "agent_forges_audit",
                                      "resource_sparse"};
  for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
    g_autofree char *out = NULL;
    g_autofree char *variables[7] = {
        g_strdup_printf("WORK=%s", world->work),         g_strdup_printf("SECRET=%s", world->secret),
        g_strdup_printf("STATE=%s", world->state),       g_strdup_printf("PORT=%u", world->port),
        g_strdup_printf("SOCK=%s", world->sock),         g_strdup_printf("ABSTRACT=%s", world->abstract),
        g_strdup_printf("VICTIM=%d", (int)world->victim)};
    const char *argv[] = {"env",        variables[0], variables[1], variables[2], variables[3],
                          variables[4], variables[5], variables[6], "python3",    "-B",
                          ESCAPES,      names[i],     NULL};
    g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, NULL, NULL, NULL));
    if (!strstr(out, "ESCAPED"))
      g_error("%s proves nothing: it does not work without a sandbox either", names[i]);
  }
  world_free(world);
}

int main(int argc, char **argv) {
  alarm(550);
  g_test_init(&argc, &argv, NULL);
  static const struct {
    const char *name;
    ChoirSandboxMode mode;
  } modes[] = {{"full", CHOIR_SANDBOX_FULL}, {"landlock", CHOIR_SANDBOX_LANDLOCK}};
  for (guint i = 0; i < G_N_ELEMENTS(modes); i++) {
    gconstpointer mode = GUINT_TO_POINTER(modes[i].mode);
    g_autofree char *paths[4] = {
        g_strdup_printf("/sandbox/%s/work", modes[i].name), g_strdup_printf("/sandbox/%s/limits", modes[i].name),
        g_strdup_printf("/sandbox/%s/terminal", modes[i].name), g_strdup_printf("/sandbox/%s/escapes", modes[i].name)};
    g_test_add_data_func(paths[0], mode, test_work);
    g_test_add_data_func(paths[1], mode, test_limits);
    g_test_add_data_func(paths[2], mode, test_terminal);
    g_test_add_data_func(paths[3], mode, test_escapes);
  }
  g_test_add_func("/sandbox/refusals", test_refusals);
  g_test_add_func("/sandbox/control", test_control);
  return g_test_run();
}
