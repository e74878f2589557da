#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/child_exec.h"
#include "base/text.h"
#include "cli/expert_private.h"
#include "llm/server_private.h"
#include "net/http_client.h"

#define POLL_MS 500
#define HEALTH_MS 10000 /* its web threads answer while it computes: longer silence is a hang */
#define MISSES 3
#define GRACE_MS 8000
#define MAX_LINE 400

struct ChoirExpertServer {
  ChoirExpertServerHandlers handlers;
  gpointer user;
  ChoirHttpClient *http;
  char *base, *headers;
  guint16 port;
  pid_t pid;
  guint watch, timer, kill_timer, output, misses;
  int output_fd;
  GString *line; /* the one being read */
  char *last;    /* the last one that says something */
  gboolean ready, asking, hung, late, embedding;
  gint64 deadline_us;
};

/* llama-server's own command of the daemon, with another address and key. */
static gboolean command_of(const ChoirExpertServerOptions *options, ChoirExpertServer *server, GStrv *ret_argv,
                           GStrv *ret_env, GError **error) {
  ChoirLlmCommand command = {0};
  ChoirLlmServerOptions base = {.engine_dir = options->engine_dir,
                                .model_path = options->model_path,
                                .model_name = options->model_name,
                                .state_dir = options->state_dir,
                                .port = options->port,
                                .context = options->context,
                                .threads = options->threads,
                                .cache_ram_mb = CHOIR_EXPERT_CACHE_MB};
  const char *variant = g_getenv("CHOIR_CPU_VARIANT");
  base.cpu_variant = variant && *variant ? variant : NULL;
  g_auto(GStrv) argv = NULL;
  g_auto(GStrv) env = NULL;
  choir_llm_command_init(&command, &base);
  if (!choir_llm_command_build(&command, &argv, &env, error)) {
    choir_llm_command_clear(&command);
    return FALSE;
  }
  server->port = command.port;
  g_autofree char *bin = g_build_filename(options->engine_dir, "bin", NULL);
  g_autoptr(GPtrArray) words = g_ptr_array_new_with_free_func(g_free);
  for (char **word = argv; *word; word++) {
    gboolean host = word > argv && g_str_equal(word[-1], "--host");
    g_ptr_array_add(words, g_strdup(host ? options->address : *word));
  }
  static const char *const vectors[] = {"--embedding", "--pooling", "mean", "-np", "1",     "-c", "512",
                                        "-b",          "512",       "-ub",  "512", "-cram", "0"};
  for (gsize i = 0; options->embedding && i < G_N_ELEMENTS(vectors); i++) /* the later option counts */
    g_ptr_array_add(words, g_strdup(vectors[i]));
  const char *const key[] = {"--api-key-file", options->key_file}, *const rpc[] = {"--rpc", options->rpc, "-ngl", "99"};
  for (gsize i = 0; options->key_file && i < G_N_ELEMENTS(key); i++)
    g_ptr_array_add(words, g_strdup(key[i]));
  for (gsize i = 0; options->rpc && i < G_N_ELEMENTS(rpc); i++)
    g_ptr_array_add(words, g_strdup(rpc[i]));
  g_ptr_array_add(words, NULL);
  *ret_argv = g_strdupv((char **)words->pdata);
  char **all = g_get_environ();
  all = g_environ_unsetenv(all, "LLAMA_API_KEY");
  all = g_environ_setenv(all, "GOMP_SPINCOUNT", "1000", TRUE);
  *ret_env = all;
  choir_llm_command_clear(&command);
  return TRUE;
}

static void end_line(ChoirExpertServer *server) {
  if (server->line->len > 0) {
    fprintf(stderr, "%s\n", server->line->str);
    g_free(server->last);
    server->last = choir_utf8(server->line->str, (gssize)MIN(server->line->len, MAX_LINE));
  }
  g_string_truncate(server->line, 0);
}

/* FALSE at the end of its output. */
static gboolean read_output(ChoirExpertServer *server) {
  char chunk[4096];
  ssize_t n = read(server->output_fd, chunk, sizeof chunk);
  for (ssize_t i = 0; i < n; i++) {
    if (chunk[i] == '\n')
      end_line(server);
    else if (server->line->len < 4 * MAX_LINE && chunk[i] != '\r')
      g_string_append_c(server->line, chunk[i]);
  }
  return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static gboolean on_output(int fd, GIOCondition condition, gpointer user) {
  ChoirExpertServer *server = user;
  if (read_output(server))
    return G_SOURCE_CONTINUE;
  server->output = 0;
  return G_SOURCE_REMOVE;
}

static char *why_ended(const ChoirExpertServer *server, int status) {
  const char *last = server->last ? server->last : "it said nothing";
  if (server->late)
    return g_strdup_printf("was not ready in time: %s", last);
  if (server->hung)
    return g_strdup("no longer answered and was killed");
  if (WIFSIGNALED(status))
    return g_strdup_printf("was killed by signal %d: %s", WTERMSIG(status), last);
  return g_strdup_printf("ended with exit code %d: %s", WEXITSTATUS(status), last);
}

static void on_exit_status(GPid pid, int status, gpointer user) {
  ChoirExpertServer *server = user;
  server->watch = 0;
  server->pid = 0;
  g_clear_handle_id(&server->timer, g_source_remove);
  g_clear_handle_id(&server->kill_timer, g_source_remove);
  for (int i = 0; i < 64 && server->output && read_output(server); i++) /* what it said at the end */
    ;
  end_line(server);
  g_autofree char *why = why_ended(server, status);
  server->handlers.ended(why, server->user);
}

static void on_first_answer(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  ChoirExpertServer *server = user;
  if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    return;
  server->asking = FALSE;
  if (error || server->ready)
    return; /* asked again until the time is up; its own output says why */
  server->ready = TRUE;
  server->handlers.ready(server->user);
}

static void on_health(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  ChoirExpertServer *server = user;
  static const char first[] = "{\"prompt\":\"Good\",\"n_predict\":1,\"cache_prompt\":false}";
  if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    return;
  if (!error && !server->ready && !server->embedding) { /* loaded; a first prompt shows that it also computes */
    g_autofree char *url = g_strconcat(server->base, "/completion", NULL);
    choir_http_request(server->http, "POST", url, "application/json", first, strlen(first), server->headers, 60000, 0,
                       NULL, on_first_answer, server);
    return;
  }
  server->asking = FALSE;
  if (!error && !server->ready) {
    server->ready = TRUE;
    server->handlers.ready(server->user);
    return;
  }
  server->misses = error && server->ready ? server->misses + 1 : 0;
  if (server->misses >= MISSES && server->pid > 0) {
    server->hung = TRUE;
    kill(server->pid, SIGKILL);
  }
}

static gboolean on_poll(gpointer user) {
  ChoirExpertServer *server = user;
  if (!server->ready && g_get_monotonic_time() > server->deadline_us && server->pid > 0) {
    server->late = TRUE;
    kill(server->pid, SIGKILL);
  } else if (!server->asking) {
    g_autofree char *url = g_strconcat(server->base, "/health", NULL);
    server->asking = TRUE;
    choir_http_request(server->http, "GET", url, NULL, NULL, 0, NULL, HEALTH_MS, 0, NULL, on_health, server);
  }
  return G_SOURCE_CONTINUE;
}

static gboolean fork_it(ChoirExpertServer *server, const char *model_path, char **argv, char **env, GError **error) {
  int fds[2];
  g_autofree char *program = g_find_program_in_path(argv[0]); /* env */
  if (!program || !g_unix_open_pipe(fds, FD_CLOEXEC, error))
    return FALSE;
  ChoirChildExec exec = {.path = program, .argv = argv, .envp = env, .output = fds[1], .parent = getpid()};
  server->pid = choir_child_fork(&exec);
  close(fds[1]);
  server->output_fd = fds[0];
  if (server->pid < 0) {
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "cannot start a process: %s", g_strerror(errno));
    return FALSE;
  }
  g_unix_set_fd_nonblocking(fds[0], TRUE, NULL);
  server->output = g_unix_fd_add(fds[0], G_IO_IN | G_IO_HUP | G_IO_ERR, on_output, server);
  server->watch = g_child_watch_add(server->pid, on_exit_status, server);
  server->timer = g_timeout_add(POLL_MS, on_poll, server);
  return TRUE;
}

ChoirExpertServer *choir_expert_server_start(const ChoirExpertServerOptions *options,
                                             const ChoirExpertServerHandlers *handlers, gpointer user, GError **error) {
  g_auto(GStrv) argv = NULL;
  g_auto(GStrv) env = NULL;
  ChoirExpertServer *server = g_new0(ChoirExpertServer, 1);
  server->handlers = *handlers;
  server->user = user;
  server->output_fd = -1;
  server->embedding = options->embedding;
  server->http = choir_http_client_new();
  server->line = g_string_new(NULL);
  server->deadline_us = g_get_monotonic_time() + (gint64)options->load_timeout_s * G_USEC_PER_SEC;
  if (options->key_file) {
    g_autofree char *key = choir_api_read_token(options->key_file, error);
    if (!key) {
      choir_expert_server_free(server);
      return NULL;
    }
    server->headers = g_strconcat("Authorization: Bearer ", key, NULL);
  }
  if (!command_of(options, server, &argv, &env, error)) {
    choir_expert_server_free(server);
    return NULL;
  }
  server->base = g_strdup_printf("http://%s:%u", options->address, server->port);
  if (!fork_it(server, options->model_path, argv, env, error)) {
    choir_expert_server_free(server);
    return NULL;
  }
  return server;
}

static gboolean on_grace_over(gpointer user) {
  ChoirExpertServer *server = user;
  server->kill_timer = 0;
  if (server->pid > 0)
    kill(server->pid, SIGKILL);
  return G_SOURCE_REMOVE;
}

void choir_expert_server_stop(ChoirExpertServer *server) {
  if (server->pid <= 0 || server->kill_timer)
    return;
  g_clear_handle_id(&server->timer, g_source_remove);
  kill(server->pid, SIGTERM);
  server->kill_timer = g_timeout_add(GRACE_MS, on_grace_over, server);
}

void choir_expert_server_free(ChoirExpertServer *server) {
  if (!server)
    return;
  g_clear_handle_id(&server->timer, g_source_remove);
  g_clear_handle_id(&server->kill_timer, g_source_remove);
  g_clear_handle_id(&server->output, g_source_remove);
  g_clear_handle_id(&server->watch, g_source_remove);
  if (server->pid > 0)
    kill(server->pid, SIGKILL);
  if (server->output_fd >= 0)
    close(server->output_fd);
  choir_http_client_free(server->http);
  g_string_free(server->line, TRUE);
  g_free(server->last);
  g_free(server->base);
  g_free(server->headers);
  g_free(server);
}

guint16 choir_expert_server_port(const ChoirExpertServer *server) {
  return server->port;
}

const char *choir_expert_server_headers(const ChoirExpertServer *server) {
  return server->headers;
}
