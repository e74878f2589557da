/* `choir nodes serve`: the join service of a controller, with a TLS twin of its own. */
#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "base/log.h"
#include "base/names.h"
#include "cli/cli.h"
#include "cli/join.h"
#include "daemon/tls.h"
#include "web/join_api.h"
#include "web/join_house.h"

#define NAME "nodes serve"
#define BODY_MAX (16 * 1024)
#define HOUSE_LOOK_S 30 /* the key may come later than we do */
#define HOUSE_KEY "/etc/choir/state.key"

typedef struct {
  GMainLoop *loop;
  ChoirHub *hub;
  ChoirHttpServer *server, *local;
  ChoirJoin *join;
  ChoirJoinApi *api;
  ChoirTls *tls;
  /* for the agent's page, where there is the cluster's key */
  const char *house_key;
  guint16 house_port;
  ChoirHttpServer *house_server;
  ChoirJoinHouse *house;
  guint house_look;
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

/* TRUE: it need not be tried again. */
static gboolean open_house(Service *service) {
  ChoirHttpServerOptions options = {
      .address = "0.0.0.0", .port = service->house_port, .max_body = BODY_MAX, .max_connections = 32};
  g_autoptr(GError) error = NULL;
  ChoirSealKey key;
  if (!g_file_test(service->house_key, G_FILE_TEST_EXISTS))
    return FALSE;
  if (!choir_seal_key_read(service->house_key, &key, &error) ||
      !(service->house_server = choir_http_server_new(service->hub, &options, &error))) {
    choir_warning(CHOIR_TOPIC_WEB, "machines cannot be let in on the page: %s", error->message);
    return TRUE;
  }
  service->house = choir_join_house_new(service->house_server, service->join, &key);
  choir_info(CHOIR_TOPIC_WEB, "the page asks at port %u", choir_http_server_port(service->house_server));
  return TRUE;
}

static gboolean on_house_look(gpointer user) {
  Service *service = user;
  if (!open_house(service))
    return G_SOURCE_CONTINUE;
  service->house_look = 0;
  return G_SOURCE_REMOVE;
}

static void find_house_key(Service *service, const char *given, int port) {
  const char *credentials = g_getenv("CREDENTIALS_DIRECTORY"); /* of systemd: LoadCredential= */
  g_autofree char *handed = credentials ? g_build_filename(credentials, "state.key", NULL) : NULL;
  service->house_port = (guint16)port;
  service->house_key = g_intern_string(given                                               ? given
                                       : handed && g_file_test(handed, G_FILE_TEST_EXISTS) ? handed
                                                                                           : HOUSE_KEY);
  if (!open_house(service))
    service->house_look = g_timeout_add_seconds(HOUSE_LOOK_S, on_house_look, service);
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
  g_clear_handle_id(&service->house_look, g_source_remove);
  g_clear_pointer(&service->house_server, choir_http_server_free);
  g_clear_pointer(&service->house, choir_join_house_free);
  g_clear_pointer(&service->local, choir_http_server_free);
  g_clear_pointer(&service->api, choir_join_api_free);
  g_clear_pointer(&service->tls, choir_tls_free);
  g_clear_pointer(&service->server, choir_http_server_free);
  g_clear_pointer(&service->hub, choir_hub_free);
  g_clear_pointer(&service->join, choir_join_free);
}

int choir_join_serve(const char *dir, const char *ready, int port, const char *house_key, int house_port) {
  g_autoptr(GError) error = NULL;
  Service service = {0};
  signal(SIGPIPE, SIG_IGN);
  if (!choir_log_init(FALSE, "info", &error) || !start(&service, dir, ready, (guint16)port, &error)) {
    clear(&service);
    return choir_cli_fail(NAME, "%s", error->message);
  }
  service.loop = g_main_loop_new(NULL, FALSE);
  find_house_key(&service, house_key, house_port);
  g_unix_signal_add(SIGTERM, on_signal, &service);
  g_unix_signal_add(SIGINT, on_signal, &service);
  printf("Machines join at https://%s:%d\n", g_get_host_name(), port);
  fflush(stdout);
  g_main_loop_run(service.loop);
  g_main_loop_unref(service.loop);
  clear(&service);
  return CHOIR_CLI_OK;
}
