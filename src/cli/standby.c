/* `choir standby`: the service of every node that keeps copies of the agent's state. */
#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/cluster_api.h"
#include "cli/expert_private.h"
#include "cluster/standby.h"

#define NAME "standby"
#define DEFAULT_DIR "/var/lib/choir-standby"
#define DEFAULT_KEY "/etc/choir/state.key"

static char *option_dir, *option_key, *option_address, *option_node, *option_consul, *option_token;
static int option_port = CHOIR_PORT_STANDBY;
static gboolean option_register;

static const GOptionEntry entries[] = {
    {"dir", 'd', 0, G_OPTION_ARG_FILENAME, &option_dir, "folder of the copies (" DEFAULT_DIR ")", "DIR"},
    {"key-file", 'k', 0, G_OPTION_ARG_FILENAME, &option_key, "the key that all nodes share (" DEFAULT_KEY ")", "FILE"},
    {"address", 'a', 0, G_OPTION_ARG_STRING, &option_address, "to listen on (default: 0.0.0.0)", "IP"},
    {"port", 'p', 0, G_OPTION_ARG_INT, &option_port, "port, 0 for any free one (default 8011)", "N"},
    {"node", 'n', 0, G_OPTION_ARG_STRING, &option_node, "name of this node (default: the host's)", "NAME"},
    {"register", 'r', 0, G_OPTION_ARG_NONE, &option_register, "as " CHOIR_SERVICE_STANDBY " in Consul, under --address",
     NULL},
    CHOIR_API_CONSUL_OPTIONS(option_consul, option_token),
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "Keeps the newest two copies of the agent's state: conversations, memory, owners. The agent sends one after every\n"
    "acknowledged turn; when it starts on another node it takes the newest one first. Everything that goes over the\n"
    "network is sealed with the shared key, which itself is never sent; older copies than the one that is here are\n"
    "refused, and a copy appears whole or not at all.\n\n"
    "Examples:\n"
    "  choir standby --register --address 10.0.0.5\n"
    "  choir standby --dir /srv/copies --key-file ~/state.key --port 9011\n\n"
    "Exit codes: 0 stopped by a signal, 1 it could not start, 2 wrong usage.\n";

typedef struct {
  GMainLoop *loop;
  ChoirHub *hub;
  ChoirHttpServer *server;
  ChoirStandbyStore *store;
  ChoirSealKey key;
  ChoirStandby *standby;
  ChoirExpertEntry *entry;
  gboolean stopping;
} Service;

static void on_removed(gpointer user) {
  g_main_loop_quit(((Service *)user)->loop);
}

static gboolean on_signal(gpointer user) {
  Service *service = user;
  if (service->entry && !service->stopping)
    choir_expert_entry_remove(service->entry, on_removed, service);
  else
    g_main_loop_quit(service->loop);
  service->stopping = TRUE;
  return G_SOURCE_CONTINUE;
}

static void enter(Service *service, const char *node, ChoirApi *api) {
  guint16 port = choir_http_server_port(service->server);
  g_autofree char *health = g_strdup_printf("http://%s:%u/health", option_address, port);
  g_autofree char *id = g_strdup_printf(CHOIR_SERVICE_STANDBY "-%s", node);
  json_t *body =
      json_pack("{s:s,s:s,s:s,s:i,s:{s:s,s:s,s:s,s:s,s:s,s:s}}", "ID", id, "Name", CHOIR_SERVICE_STANDBY, "Address",
                option_address, "Port", (int)port, "Check", "Name", "the standby answers", "HTTP", health, "Interval",
                "5s", "Timeout", "5s", "Status", "passing", "DeregisterCriticalServiceAfter", "10m");
  service->entry = choir_expert_entry_new(choir_api_url(api), choir_api_headers(api), body);
}

static gboolean start(Service *service, const char *node, GError **error) {
  ChoirHttpServerOptions options = {.address = option_address ? option_address : "0.0.0.0",
                                    .port = (guint16)option_port,
                                    .max_body = CHOIR_STANDBY_BODY_MAX,
                                    .max_connections = 64};
  if (!choir_seal_key_read(option_key ? option_key : DEFAULT_KEY, &service->key, error))
    return FALSE;
  service->store = choir_standby_store_open(option_dir ? option_dir : DEFAULT_DIR, error);
  if (!service->store)
    return FALSE;
  service->hub = choir_hub_new(NULL);
  service->server = choir_http_server_new(service->hub, &options, error);
  if (!service->server) {
    g_prefix_error(error, "cannot listen on %s port %d: ", options.address, option_port);
    return FALSE;
  }
  service->standby = choir_standby_new(service->server, service->store, &service->key, node);
  return TRUE;
}

static void clear(Service *service) {
  choir_expert_entry_free(service->entry);
  g_clear_pointer(&service->server, choir_http_server_free);
  g_clear_pointer(&service->standby, choir_standby_free);
  g_clear_pointer(&service->hub, choir_hub_free);
  g_clear_pointer(&service->store, choir_standby_store_free);
}

int choir_standby_main(int argc, char **argv) {
  if (!choir_cli_parse(NAME, "", description, entries, &argc, &argv))
    return CHOIR_CLI_USAGE;
  if (argc > 1)
    return choir_cli_usage(NAME, "'%s' is not expected", argv[1]);
  if (option_port < 0 || option_port > 65535)
    return choir_cli_usage(NAME, "--port wants a number from 0 to 65535");
  if (option_register && !option_address)
    return choir_cli_usage(NAME, "--register needs --address, by which other nodes reach this one");
  g_autoptr(GError) error = NULL;
  Service service = {0};
  const char *node = option_node ? option_node : g_get_host_name();
  signal(SIGPIPE, SIG_IGN);
  if (!choir_log_init(FALSE, "info", &error) || !start(&service, node, &error)) {
    clear(&service);
    return choir_cli_fail(NAME, "%s", error->message);
  }
  g_autoptr(ChoirApi) api =
      option_register ? choir_api_new(CHOIR_API_CONSUL, option_consul, option_token, &error) : NULL;
  if (option_register && !api) {
    clear(&service);
    return choir_cli_fail(NAME, "%s", error->message);
  }
  service.loop = g_main_loop_new(NULL, FALSE);
  if (api)
    enter(&service, node, api);
  g_unix_signal_add(SIGTERM, on_signal, &service);
  g_unix_signal_add(SIGINT, on_signal, &service);
  printf("keeping copies for other nodes on port %u\n", choir_http_server_port(service.server));
  fflush(stdout);
  g_main_loop_run(service.loop);
  g_main_loop_unref(service.loop);
  clear(&service);
  return CHOIR_CLI_OK;
}
