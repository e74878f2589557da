#include "cli/cli.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/names.h"
#include "base/text.h"
#include "daemon/settings.h"
#include "net/http_client.h"

gboolean choir_cli_parse(const char *name, const char *usage, const char *text, const GOptionEntry *entries, int *argc,
                         char ***argv) {
  g_autofree char *program = g_strdup_printf("choir %s", name);
  g_autoptr(GOptionContext) context = g_option_context_new(usage);
  g_autoptr(GError) error = NULL;
  g_set_prgname(program);
  g_option_context_add_main_entries(context, entries, NULL);
  g_option_context_set_description(context, text);
  if (g_option_context_parse(context, argc, argv, &error))
    return TRUE;
  choir_cli_usage(name, "%s", error->message);
  return FALSE;
}

int choir_cli_fail(const char *name, const char *format, ...) {
  va_list list;
  va_start(list, format);
  g_autofree char *message = g_strdup_vprintf(format, list);
  va_end(list);
  fprintf(stderr, "choir %s: %s\n", name, message);
  return CHOIR_CLI_FAILED;
}

int choir_cli_usage(const char *name, const char *format, ...) {
  va_list list;
  va_start(list, format);
  g_autofree char *message = g_strdup_vprintf(format, list);
  va_end(list);
  fprintf(stderr, "choir %s: %s; see choir %s --help\n", name, message, name);
  return CHOIR_CLI_USAGE;
}

static gboolean answers(const char *socket_path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (g_strlcpy(address.sun_path, socket_path, sizeof address.sun_path) >= sizeof address.sun_path)
    return FALSE;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  gboolean good = fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
  if (fd >= 0)
    close(fd);
  return good;
}

char *choir_cli_authorization(const char *url) {
  const char *token = g_getenv("CHOIR_TOKEN");
  if (!token || !*token || strpbrk(token, "\r\n") || g_str_has_prefix(url, "unix:"))
    return NULL;
  return g_strconcat("Authorization: Bearer ", token, NULL);
}

char *choir_cli_url(const char *given) {
  const char *set = given ? given : g_getenv("CHOIR_URL");
  if (!set || !*set) {
    const char *port = g_getenv("WEB_PORT");
    g_autofree char *local = port && *port ? NULL : choir_cli_socket(NULL);
    if (local && answers(local + strlen("unix:")))
      return g_steal_pointer(&local);
    return port && *port ? g_strdup_printf("http://127.0.0.1:%s", port)
                         : g_strdup_printf("http://127.0.0.1:%d", CHOIR_PORT_WEB);
  }
  char *url = strstr(set, "://") || g_str_has_prefix(set, "unix:") ? g_strdup(set) : g_strconcat("http://", set, NULL);
  for (gsize length = strlen(url); length > 0 && url[length - 1] == '/'; length--)
    url[length - 1] = '\0';
  return url;
}

char *choir_cli_socket(const char *state) {
  g_auto(ChoirPaths) paths = {0};
  if (!state && !choir_paths_load(&paths, NULL))
    return g_strdup("unix:choir.sock");
  return g_strdup_printf("unix:%s/choir.sock", state ? state : paths.state);
}

char *choir_cli_state(const char *given, GError **error) {
  g_auto(ChoirPaths) paths = {0};
  if (given)
    return g_canonicalize_filename(given, NULL);
  return choir_paths_load(&paths, error) ? g_steal_pointer(&paths.state) : NULL;
}

typedef struct {
  GMainLoop *loop;
  json_t *answer;
  GError *error;
  const char *url;
} Exchange;

/* The server's own sentence when it sent one. */
static GError *refusal(guint status, const char *body, gsize length, const GError *error) {
  json_auto_t *json = body ? choir_json_parse(body, (gssize)length, NULL) : NULL;
  const char *message = choir_json_string(json_object_get(json, "error"), "message", NULL);
  if (message)
    return g_error_new(error->domain, error->code, "%s", message);
  return g_error_new(error->domain, error->code, "the daemon answered %u: %s", status, error->message);
}

static GError *unreachable(const char *url) {
  const char *path = g_str_has_prefix(url, "unix:") ? url + strlen("unix:") : NULL;
  if (path && access(path, W_OK) != 0 && errno == EACCES)
    return g_error_new(CHOIR_HTTP_ERROR, CHOIR_HTTP_ERROR_CONNECT,
                       "%s is for root and the user of the daemon; type sudo before the command", path);
  return g_error_new(CHOIR_HTTP_ERROR, CHOIR_HTTP_ERROR_CONNECT,
                     "no Choir answers at %s; start it with ./run or choir serve", path ? path : url);
}

static void on_done(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  Exchange *exchange = user;
  if (error && g_error_matches(error, CHOIR_HTTP_ERROR, CHOIR_HTTP_ERROR_CONNECT))
    exchange->error = unreachable(exchange->url);
  else if (error && g_error_matches(error, CHOIR_HTTP_ERROR, CHOIR_HTTP_ERROR_STATUS))
    exchange->error = refusal(status, body, length, error);
  else if (error)
    exchange->error = g_error_copy(error);
  else
    exchange->answer = choir_json_parse(body ? body : "", (gssize)length, &exchange->error);
  g_main_loop_quit(exchange->loop);
}

json_t *choir_cli_request(const char *url, const char *path, const json_t *body, guint timeout_ms, GError **error) {
  gboolean local = g_str_has_prefix(url, "unix:");
  g_autofree char *address = g_strconcat(local ? "http://localhost" : url, path, NULL);
  g_autofree char *text = body ? choir_json_dump(body) : NULL;
  g_autofree char *headers = choir_cli_authorization(url);
  ChoirHttpClient *client = local ? choir_http_client_new_local(url + strlen("unix:")) : choir_http_client_new();
  Exchange exchange = {.loop = g_main_loop_new(NULL, FALSE), .url = url};
  choir_http_request(client, body ? "POST" : "GET", address, body ? "application/json" : NULL, text,
                     text ? strlen(text) : 0, headers, timeout_ms, 0, NULL, on_done, &exchange);
  g_main_loop_run(exchange.loop);
  g_main_loop_unref(exchange.loop);
  choir_http_client_free(client);
  if (exchange.error)
    g_propagate_error(error, exchange.error);
  return exchange.answer;
}

const char *choir_cli_style(ChoirCliStyle style) {
  static const char *const codes[] = {"\033[0m", "\033[1m", "\033[2m", "\033[31m", "\033[32m", "\033[33m"};
  const char *none = g_getenv("NO_COLOR");
  return isatty(STDOUT_FILENO) && !(none && *none) ? codes[style] : "";
}

void choir_cli_print_json(const json_t *json) {
  char *dumped = json_dumps(json, JSON_INDENT(1) | JSON_ENCODE_ANY);
  if (dumped)
    printf("%s\n", dumped);
  free(dumped);
}
