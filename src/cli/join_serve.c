/* `choir nodes serve`: the join service of a controller, with a TLS twin of its own. */
#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "base/log.h"
#include "cli/cli.h"
#include "cli/join.h"
#include "daemon/tls.h"
#include "web/join_api.h"

#define NAME "nodes serve"
#define BODY_MAX (16 * 1024)

typedef struct {
  GMainLoop *loop;
  ChoirHub *hub;
  ChoirHttpServer *server, *local;
  ChoirJoin *join;
  ChoirJoinApi *api;
  ChoirTls *tls;
  gboolean stopping;
} Service;

static void on_tls_stopped(gpointer user) {
  g_main_loop_quit(((Service *)user)->loop);
}

static gboolean on_signal(gpointer user) {
  Service *service = user;
  if (!service->stopping)
    choir_tls_stop(service->tls, on_tls_stopped, service);
  service->stopping = TRUE;
  return G_SOURCE_CONTINUE;
}

static gboolean start(Service *service, const char *dir, const char *ready, guint16 port, GError **error) {
  g_autofree char *socket = g_build_filename(dir, "join.sock", NULL);
  ChoirHttpServerOptions options = {.address = "127.0.0.1", .max_body = BODY_MAX, .max_connections = 64};
  service->join = choir_join_open(dir, ready, error);
  if (!service->join)
    return FALSE;
  service->hub = choir_hub_new(NULL);
  service->server = choir_http_server_new(service->hub, &options, error);
  if (!service->server)
    return FALSE;
  service->tls = choir_tls_new(dir, port, choir_http_server_port(service->server), error);
  if (!service->tls)
    return FALSE;
  ChoirJoinApiOptions api = {.server = service->server,
                             .join = service->join,
                             .ca_file = choir_tls_ca_file(service->tls),
                             .twin_secret = choir_tls_secret(service->tls)};
  service->api = choir_join_api_new(&api, error);
  if (!service->api)
    return FALSE;
  service->local = choir_http_server_new_local(service->server, socket, error);
  if (!service->local)
    return FALSE;
  choir_tls_start(service->tls);
  return TRUE;
}

static void clear(Service *service) {
  g_clear_pointer(&service->local, choir_http_server_free);
  g_clear_pointer(&service->api, choir_join_api_free);
  g_clear_pointer(&service->tls, choir_tls_free);
  g_clear_pointer(&service->server, choir_http_server_free);
  g_clear_pointer(&service->hub, choir_hub_free);
  g_clear_pointer(&service->join, choir_join_free);
}

int choir_join_serve(const char *dir, const char *ready, int port) {
  g_autoptr(GError) error = NULL;
  Service service = {0};
  signal(SIGPIPE, SIG_IGN);
  if (!choir_log_init(FALSE, "info", &error) || !start(&service, dir, ready, (guint16)port, &error)) {
    clear(&service);
    return choir_cli_fail(NAME, "%s", error->message);
  }
  service.loop = g_main_loop_new(NULL, FALSE);
  g_unix_signal_add(SIGTERM, on_signal, &service);
  g_unix_signal_add(SIGINT, on_signal, &service);
  printf("Machines join at https://%s:%d\n", g_get_host_name(), port);
  fflush(stdout);
  g_main_loop_run(service.loop);
  g_main_loop_unref(service.loop);
  clear(&service);
  return CHOIR_CLI_OK;
}
