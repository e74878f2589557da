/* Every node answers on the agent's ports and passes the bytes on to the node that runs it. */
#include <gio/gio.h>
#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cluster/consul.h"
#include "cli/jobs_api.h"

#define NAME "forward"
#define CHUNK 16384
#define MAX_CONNECTIONS 256
#define HOLD_S 20   /* a connection waits this long for an agent that is just moving */
#define CONNECT_S 4 /* a machine that was just lost says nothing at all */

static char *option_service, *option_consul, *option_token, *option_address;
static char **option_ports;

static const GOptionEntry entries[] = {
    {"port", 'p', 0, G_OPTION_ARG_STRING_ARRAY, &option_ports,
     "listen on PORT; with a name, pass on to the port in the service's meta of that name (default: 8000, "
     "8443=tls_port); may be repeated",
     "PORT[=META]"},
    {"address", 'a', 0, G_OPTION_ARG_STRING, &option_address, "to listen on (default: all)", "IP"},
    {"service", 0, 0, G_OPTION_ARG_STRING, &option_service, "in Consul (default: " CHOIR_JOB_AGENT ")", "NAME"},
    CHOIR_API_CONSUL_OPTIONS(option_consul, option_token),
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "Listens on this node and passes every connection on to the node where the agent runs, as Consul says. A "
    "connection\n"
    "that comes while the agent moves waits up to 20 seconds; when it has moved, connections to where it was are "
    "ended.\n"
    "It changes nothing in what passes.\n\n"
    "Examples:\n"
    "  choir forward\n"
    "  choir forward --port 8000 --port 8443=tls_port\n\n"
    "Exit codes: 0 stopped by a signal, 1 it could not listen, 2 wrong usage.\n";

typedef struct Forward Forward;

typedef struct {
  Forward *own;
  char *meta; /* NULL: the service's own port */
  guint16 port;
} Door;

struct Forward {
  GMainLoop *loop;
  ChoirConsul *consul;
  GSocketService *listener;
  GSocketClient *client;
  GPtrArray *waiting; /* Pair */
  GPtrArray *carried; /* Pair, those that have both ends */
  json_t *instance;   /* the entry of Consul that serves, NULL: none */
  guint connections, timer;
  gboolean told;
};

typedef struct Pair Pair;

typedef struct {
  Pair *pair;
  GInputStream *from;
  GOutputStream *to;
  GSocket *to_socket;
  char buffer[CHUNK];
} Way;

struct Pair {
  Forward *own;
  const Door *door;
  char *instance; /* it leads to */
  GSocketConnection *near, *far;
  GCancellable *cancellable;
  Way ways[2];
  guint open; /* ways that still carry something */
  gint64 until_us;
};

static void pair_free(Pair *pair) {
  pair->own->connections--;
  g_ptr_array_remove_fast(pair->own->carried, pair);
  g_cancellable_cancel(pair->cancellable);
  g_clear_object(&pair->cancellable);
  g_io_stream_close_async(G_IO_STREAM(pair->near), G_PRIORITY_DEFAULT, NULL, NULL, NULL);
  g_clear_object(&pair->near);
  if (pair->far)
    g_io_stream_close_async(G_IO_STREAM(pair->far), G_PRIORITY_DEFAULT, NULL, NULL, NULL);
  g_clear_object(&pair->far);
  g_free(pair->instance);
  g_free(pair);
}

static void way_ended(Way *way, gboolean broken) {
  Pair *pair = way->pair;
  if (broken)
    g_cancellable_cancel(pair->cancellable); /* the other way ends with an error, too */
  else
    g_socket_shutdown(way->to_socket, FALSE, TRUE, NULL);
  if (--pair->open == 0)
    pair_free(pair);
}

static void on_read(GObject *source, GAsyncResult *result, gpointer user);

static void on_written(GObject *source, GAsyncResult *result, gpointer user) {
  Way *way = user;
  if (!g_output_stream_write_all_finish(G_OUTPUT_STREAM(source), result, NULL, NULL)) {
    way_ended(way, TRUE);
    return;
  }
  g_input_stream_read_async(way->from, way->buffer, CHUNK, G_PRIORITY_DEFAULT, way->pair->cancellable, on_read, way);
}

static void on_read(GObject *source, GAsyncResult *result, gpointer user) {
  Way *way = user;
  gssize n = g_input_stream_read_finish(G_INPUT_STREAM(source), result, NULL);
  if (n <= 0) {
    way_ended(way, n < 0);
    return;
  }
  g_output_stream_write_all_async(way->to, way->buffer, (gsize)n, G_PRIORITY_DEFAULT, way->pair->cancellable,
                                  on_written, way);
}

static void carry(Pair *pair) {
  GSocketConnection *ends[] = {pair->near, pair->far};
  g_ptr_array_add(pair->own->carried, pair);
  pair->open = 2;
  for (gsize i = 0; i < 2; i++) {
    Way *way = &pair->ways[i];
    way->pair = pair;
    way->from = g_io_stream_get_input_stream(G_IO_STREAM(ends[i]));
    way->to = g_io_stream_get_output_stream(G_IO_STREAM(ends[1 - i]));
    way->to_socket = g_socket_connection_get_socket(ends[1 - i]);
  }
  for (gsize i = 0; i < 2; i++)
    g_input_stream_read_async(pair->ways[i].from, pair->ways[i].buffer, CHUNK, G_PRIORITY_DEFAULT, pair->cancellable,
                              on_read, &pair->ways[i]);
}

/* Only for the plain port: who speaks TLS sees a closed connection. */
static void refuse(Pair *pair) {
  static const char text[] = "The agent is not running on any node of this cluster. 'choir jobs' on a node says why.\n";
  if (!pair->door->meta) {
    g_autofree char *answer = g_strdup_printf(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %zu\r\n"
        "Retry-After: 5\r\nConnection: close\r\n\r\n%s",
        strlen(text), text);
    g_socket_send(g_socket_connection_get_socket(pair->near), answer, strlen(answer), NULL, NULL);
  }
  pair_free(pair);
}

static void wait_for_agent(Pair *pair);

static void on_connected(GObject *source, GAsyncResult *result, gpointer user) {
  Pair *pair = user;
  pair->far = g_socket_client_connect_finish(G_SOCKET_CLIENT(source), result, NULL);
  if (pair->far) {
    GSocket *socket = g_socket_connection_get_socket(pair->far);
    g_socket_set_timeout(socket, 0); /* from now on it may be silent */
    g_socket_set_keepalive(socket, TRUE);
    carry(pair);
  } else {
    wait_for_agent(pair); /* Consul may not know yet that it is gone */
  }
}

/* FALSE: there is no agent. */
static gboolean begin(Pair *pair) {
  const json_t *service = json_object_get(pair->own->instance, "Service");
  const json_t *node = json_object_get(pair->own->instance, "Node");
  const char *address = choir_json_string(service, "Address", "");
  gint64 port = choir_json_int(service, "Port", 0);
  if (pair->door->meta)
    port = g_ascii_strtoll(choir_json_string(json_object_get(service, "Meta"), pair->door->meta, "0"), NULL, 10);
  if (!pair->own->instance || port < 1 || port > 65535)
    return FALSE;
  g_free(pair->instance);
  pair->instance = g_strdup(choir_json_string(service, "ID", ""));
  g_socket_client_connect_to_host_async(pair->own->client, *address ? address : choir_json_string(node, "Address", ""),
                                        (guint16)port, pair->cancellable, on_connected, pair);
  return TRUE;
}

static gboolean on_timer(gpointer user) {
  Forward *own = user;
  g_autoptr(GPtrArray) pairs = own->waiting;
  own->waiting = g_ptr_array_new();
  own->timer = 0;
  for (guint i = 0; i < pairs->len; i++) {
    Pair *pair = pairs->pdata[i];
    if (g_get_monotonic_time() > pair->until_us)
      refuse(pair);
    else if (!begin(pair))
      wait_for_agent(pair);
  }
  return G_SOURCE_REMOVE;
}

static void wait_for_agent(Pair *pair) {
  g_ptr_array_add(pair->own->waiting, pair);
  if (!pair->own->timer)
    pair->own->timer = g_timeout_add(500, on_timer, pair->own);
}

static gboolean on_incoming(GSocketService *service, GSocketConnection *near, GObject *source, gpointer user) {
  Forward *own = user;
  Door *door = g_object_get_data(source, "door");
  if (own->connections >= MAX_CONNECTIONS)
    return TRUE; /* dropped, which closes it */
  Pair *pair = g_new0(Pair, 1);
  own->connections++;
  pair->own = own;
  pair->door = door;
  pair->near = g_object_ref(near);
  pair->cancellable = g_cancellable_new();
  pair->until_us = g_get_monotonic_time() + HOLD_S * G_USEC_PER_SEC;
  g_socket_set_keepalive(g_socket_connection_get_socket(near), TRUE);
  if (!begin(pair))
    wait_for_agent(pair);
  return TRUE;
}

/* There is one agent: who still hangs on a former one, whose machine may never say goodbye, is to come again. */
static void end_former(Forward *own, const char *now) {
  guint ended = 0;
  for (guint i = 0; i < own->carried->len; i++) {
    Pair *pair = own->carried->pdata[i];
    if (strcmp(pair->instance, now) == 0 || g_cancellable_is_cancelled(pair->cancellable))
      continue;
    g_cancellable_cancel(pair->cancellable); /* both ways end with an error, in the main loop */
    ended++;
  }
  if (ended)
    printf("%u connections to where it ran are ended\n", ended);
}

/* 0: its machine is lost, 1: it is there and its own check fails, as while its model loads or when something is wrong,
 * which its page says, 2: all is well. */
static int worth(const json_t *entry) {
  const json_t *checks = json_object_get(entry, "Checks");
  int least = 2;
  for (size_t i = 0; i < json_array_size(checks); i++) {
    const json_t *check = json_array_get(checks, i);
    gboolean of_node = !*choir_json_string(check, "ServiceID", "");
    if (g_str_equal(choir_json_string(check, "Status", ""), "critical"))
      least = MIN(least, of_node ? 0 : 1);
  }
  return least;
}

/* Two are listed while it moves, and when a cut machine is back with an agent that was replaced. The better one; of
 * equals the one that is used, else the one that was entered last. */
static json_t *choose(const json_t *answer, const char *before) {
  json_t *best = NULL;
  gint64 best_rank = 0;
  for (size_t i = 0; i < json_array_size(answer); i++) {
    json_t *one = json_array_get(answer, i);
    const json_t *service = json_object_get(one, "Service");
    gboolean used = strcmp(choir_json_string(service, "ID", ""), before) == 0;
    gint64 entered = used ? G_MAXINT32 : MIN(choir_json_int(service, "CreateIndex", 0), G_MAXINT32 - 1);
    gint64 rank = ((gint64)worth(one) << 32) + entered;
    if (worth(one) > 0 && (!best || rank > best_rank)) {
      best = one;
      best_rank = rank;
    }
  }
  return best;
}

static void on_agent(const json_t *answer, const GError *error, gpointer user) {
  Forward *own = user;
  if (error && !own->told)
    fprintf(stderr, "choir forward: %s; the last known node is used\n", error->message);
  own->told = error != NULL;
  if (!answer)
    return;
  const char *before = choir_json_string(json_object_get(own->instance, "Service"), "ID", "");
  json_t *first = choose(answer, before);
  const char *now = choir_json_string(json_object_get(first, "Service"), "ID", "");
  if (strcmp(before, now) != 0 && first)
    printf("the agent runs on %s\n", choir_json_string(json_object_get(first, "Node"), "Node", "?"));
  else if (strcmp(before, now) != 0)
    printf("the agent runs nowhere\n");
  if (first)
    end_former(own, now);
  fflush(stdout);
  json_decref(own->instance);
  own->instance = json_incref(first);
}

static gboolean listen_on(Forward *own, const char *word, GError **error) {
  g_auto(GStrv) parts = g_strsplit(word, "=", 2);
  guint64 port;
  if (!g_ascii_string_to_unsigned(parts[0], 10, 0, 65535, &port, error))
    return FALSE;
  g_autoptr(GInetAddress) any =
      option_address ? g_inet_address_new_from_string(option_address) : g_inet_address_new_any(G_SOCKET_FAMILY_IPV6);
  if (!any) {
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT, "'%s' is not an address", option_address);
    return FALSE;
  }
  if (!option_address && !g_file_test("/proc/net/if_inet6", G_FILE_TEST_EXISTS)) {
    g_clear_object(&any);
    any = g_inet_address_new_any(G_SOCKET_FAMILY_IPV4);
  }
  g_autoptr(GSocketAddress) address = g_inet_socket_address_new(any, (guint16)port);
  g_autoptr(GObject) source = g_object_new(G_TYPE_OBJECT, NULL);
  g_autoptr(GSocketAddress) effective = NULL;
  Door *door = g_new0(Door, 1);
  door->own = own;
  door->meta = g_strdup(parts[1]);
  g_object_set_data_full(source, "door", door, g_free);
  if (!g_socket_listener_add_address(G_SOCKET_LISTENER(own->listener), address, G_SOCKET_TYPE_STREAM,
                                     G_SOCKET_PROTOCOL_TCP, source, &effective, error)) {
    g_prefix_error(error, "cannot listen on port %u: ", (guint)port);
    return FALSE;
  }
  printf("forwarding port %u\n", g_inet_socket_address_get_port(G_INET_SOCKET_ADDRESS(effective)));
  return TRUE;
}

static gboolean on_signal(gpointer user) {
  g_main_loop_quit(((Forward *)user)->loop);
  return G_SOURCE_CONTINUE;
}

static int run(Forward *own, const char *const *ports) {
  g_autoptr(GError) error = NULL;
  g_autoptr(ChoirApi) api = choir_api_new(CHOIR_API_CONSUL, option_consul, option_token, &error);
  const char *header = api ? choir_api_headers(api) : NULL;
  const char *token = header ? strchr(header, ' ') + 1 : NULL;
  g_autofree char *safe = choir_jobs_escape(option_service ? option_service : CHOIR_JOB_AGENT);
  g_autofree char *path = g_strdup_printf("/v1/health/service/%s", safe);
  if (!api)
    return choir_cli_fail(NAME, "%s", error->message);
  for (; *ports; ports++)
    if (!listen_on(own, *ports, &error))
      return choir_cli_fail(NAME, "%s", error->message);
  fflush(stdout);
  const ChoirConsulOptions options = {.url = choir_api_url(api), .token_file = option_token, .token = token};
  own->consul = choir_consul_new(&options);
  choir_consul_watch(own->consul, path, on_agent, own);
  g_signal_connect(own->listener, "incoming", G_CALLBACK(on_incoming), own);
  g_socket_service_start(own->listener);
  g_unix_signal_add(SIGTERM, on_signal, own);
  g_unix_signal_add(SIGINT, on_signal, own);
  g_main_loop_run(own->loop);
  g_socket_service_stop(own->listener);
  return CHOIR_CLI_OK;
}

int choir_forward_main(int argc, char **argv) {
  static const char *const usual[] = {"8000", "8443=tls_port", NULL};
  if (!choir_cli_parse(NAME, "", description, entries, &argc, &argv))
    return CHOIR_CLI_USAGE;
  if (argc > 1)
    return choir_cli_usage(NAME, "'%s' is not expected", argv[1]);
  signal(SIGPIPE, SIG_IGN);
  choir_log_init(FALSE, NULL, NULL);
  Forward own = {.loop = g_main_loop_new(NULL, FALSE),
                 .listener = g_socket_service_new(),
                 .client = g_socket_client_new(),
                 .waiting = g_ptr_array_new(),
                 .carried = g_ptr_array_new()};
  g_socket_client_set_timeout(own.client, CONNECT_S);
  g_socket_client_set_enable_proxy(own.client, FALSE);
  int code = run(&own, option_ports ? (const char *const *)option_ports : usual);
  /* Connections in flight end with the process. */
  g_clear_pointer(&own.consul, choir_consul_free);
  json_decref(own.instance);
  g_object_unref(own.listener);
  g_main_loop_unref(own.loop);
  return code;
}
