#include "web/wyoming.h"
#include <errno.h>
#include <gio/gio.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/buffer.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/names.h"
#include "web/wyoming_private.h"

#define MAX_CLIENTS 16
#define OUT_LIMIT (4u << 20) /* the voice is held back long before: one clause more fits always */
#define READ_CHUNK 65536
#define WATCH_S 5
#define STALL_S 30 /* of a client that does not read, or stopped inside an event */
#define IDLE_S 600 /* of a connection on which nothing happens */

typedef struct {
  ChoirWyoming *server;
  ChoirWyomingServices services;
  int fd;
  guint16 port;
} Listener;

typedef struct {
  ChoirWyoming *server;
  int fd;
  ChoirWyomingParser *parser;
  ChoirWyomingClient *client;
  ChoirBuffer out;
  uint32_t watched;
  gint64 moved_us;
  gboolean taking;    /* inside take_events() */
  gboolean ending;    /* no more events: all is sent, then the peer may close */
  const char *broken; /* why it is closed from the loop, soon */
  guint close_idle;
  char *peer;
} Connection;

struct ChoirWyoming {
  ChoirHub *hub;
  ChoirDesk *desk;
  char *address, *language, *problem;
  Listener listeners[2];
  guint n_listeners;
  GPtrArray *allowed; /* GInetAddressMask; NULL = whoever reaches the address */
  GPtrArray *connections;
  guint watch;
  ChoirMetric *open, *total, *refused, *bad;
};

static void connection_free(Connection *connection) {
  ChoirWyoming *server = connection->server;
  choir_wyoming_client_free(connection->client);
  choir_wyoming_parser_free(connection->parser);
  choir_buffer_clear(&connection->out);
  choir_hub_remove(server->hub, connection->fd);
  close(connection->fd);
  if (connection->close_idle)
    g_source_remove(connection->close_idle);
  g_ptr_array_remove_fast(server->connections, connection);
  choir_gauge_set(server->open, server->connections->len);
  g_free(connection->peer);
  g_free(connection);
}

static gboolean on_close(gpointer user) {
  Connection *connection = user;
  connection->close_idle = 0;
  choir_debug(CHOIR_TOPIC_WEB, "Wyoming client %s: %s", connection->peer, connection->broken);
  connection_free(connection);
  return G_SOURCE_REMOVE;
}

/* Never at once: callers are deep in what would be freed. */
static void close_soon(Connection *connection, const char *why) {
  if (connection->close_idle)
    return;
  connection->broken = why;
  connection->close_idle = g_idle_add_full(G_PRIORITY_HIGH, on_close, connection, NULL);
}

static void update_watch(Connection *connection) {
  gboolean reads = connection->ending || !choir_wyoming_client_busy(connection->client);
  uint32_t wanted = EPOLLRDHUP | (reads ? EPOLLIN : 0u) | (connection->out.length > 0 ? EPOLLOUT : 0u);
  if (wanted != connection->watched)
    choir_hub_modify(connection->server->hub, connection->fd, wanted);
  connection->watched = wanted;
}

static void flush(Connection *connection) {
  while (connection->out.length > 0) {
    ssize_t n = send(connection->fd, connection->out.data, connection->out.length, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0 && errno == EAGAIN)
      break;
    if (n <= 0) {
      close_soon(connection, "it left");
      return;
    }
    connection->moved_us = g_get_monotonic_time();
    choir_buffer_consume(&connection->out, (gsize)n);
  }
  /* Closed at once, with its bytes unread here, the peer would lose our last words to a reset. */
  if (connection->ending && connection->out.length == 0)
    shutdown(connection->fd, SHUT_WR);
  choir_wyoming_client_queued(connection->client, connection->out.length);
  update_watch(connection);
}

static void on_send(GByteArray *event, gpointer user) {
  Connection *connection = user;
  gboolean idle = connection->out.length == 0;
  if (!connection->broken && !choir_buffer_append(&connection->out, event->data, event->len))
    close_soon(connection, "it does not read");
  g_byte_array_unref(event);
  if (idle && !connection->broken)
    flush(connection);
  else
    choir_wyoming_client_queued(connection->client, connection->out.length);
}

static void refuse(Connection *connection, const char *code, const char *text) {
  choir_counter_add(connection->server->bad, 1);
  on_send(choir_wyoming_encode("error", json_pack("{s:s,s:s}", "text", text, "code", code), NULL, 0), connection);
  connection->ending = TRUE;
  if (!connection->broken)
    flush(connection);
}

static void take_events(Connection *connection) {
  g_autoptr(GError) error = NULL;
  if (connection->taking)
    return;
  connection->taking = TRUE;
  while (!connection->broken && !connection->ending && !choir_wyoming_client_busy(connection->client)) {
    const ChoirWyomingEvent *event = choir_wyoming_parser_next(connection->parser, &error);
    if (!event)
      break;
    choir_wyoming_client_event(connection->client, event);
  }
  connection->taking = FALSE;
  if (error)
    refuse(connection, "protocol", error->message);
  else if (!connection->broken)
    update_watch(connection);
}

static void on_resume(gpointer user) {
  Connection *connection = user;
  connection->moved_us = g_get_monotonic_time();
  take_events(connection);
}

static void read_socket(Connection *connection) {
  static guint8 chunk[READ_CHUNK];
  g_autoptr(GError) error = NULL;
  ssize_t n = recv(connection->fd, chunk, sizeof chunk, MSG_DONTWAIT);
  if (n < 0 && (errno == EINTR || errno == EAGAIN))
    return;
  if (n <= 0) {
    close_soon(connection, "it left");
    return;
  }
  if (connection->ending)
    return;
  connection->moved_us = g_get_monotonic_time();
  if (!choir_wyoming_parser_feed(connection->parser, chunk, (gsize)n, &error)) {
    refuse(connection, "protocol", error->message);
    return;
  }
  take_events(connection);
}

static void on_socket(int fd, uint32_t events, gpointer user) {
  Connection *connection = user;
  if (connection->broken)
    return;
  if (events & EPOLLOUT)
    flush(connection);
  if (!connection->broken && (events & EPOLLIN))
    read_socket(connection);
  else if (!connection->broken && (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)))
    close_soon(connection, "it left");
}

static gboolean on_watch(gpointer user) {
  ChoirWyoming *server = user;
  gint64 now = g_get_monotonic_time();
  for (guint i = 0; i < server->connections->len; i++) {
    Connection *connection = g_ptr_array_index(server->connections, i);
    gint64 still = (now - connection->moved_us) / G_USEC_PER_SEC;
    gboolean busy = choir_wyoming_client_busy(connection->client);
    gboolean waits = connection->out.length > 0 || (!busy && choir_wyoming_parser_pending(connection->parser));
    if (connection->ending && still >= WATCH_S)
      close_soon(connection, "refused");
    else if (still >= (waits ? STALL_S : IDLE_S) && (waits || !busy))
      close_soon(connection, waits ? "it stopped half way" : "nothing happened for long");
  }
  if (server->connections->len > 0)
    return G_SOURCE_CONTINUE;
  server->watch = 0;
  return G_SOURCE_REMOVE;
}

static gboolean is_allowed(const ChoirWyoming *server, GInetAddress *address) {
  if (!server->allowed || g_inet_address_get_is_loopback(address))
    return TRUE;
  for (guint i = 0; i < server->allowed->len; i++)
    if (g_inet_address_mask_matches(g_ptr_array_index(server->allowed, i), address))
      return TRUE;
  return FALSE;
}

/* The peer's address; one that came as IPv4 in IPv6 is IPv4. */
static GInetAddress *peer_of(struct sockaddr_storage *storage, socklen_t length) {
  g_autoptr(GSocketAddress) address = g_socket_address_new_from_native(storage, length);
  if (!address || !G_IS_INET_SOCKET_ADDRESS(address))
    return NULL;
  GInetAddress *inet = g_inet_socket_address_get_address(G_INET_SOCKET_ADDRESS(address));
  const guint8 *bytes = g_inet_address_to_bytes(inet);
  static const guint8 mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  if (g_inet_address_get_family(inet) == G_SOCKET_FAMILY_IPV6 && memcmp(bytes, mapped, sizeof mapped) == 0)
    return g_inet_address_new_from_bytes(bytes + sizeof mapped, G_SOCKET_FAMILY_IPV4);
  return g_object_ref(inet);
}

static void admit(Listener *listener, int fd, GInetAddress *peer) {
  static const ChoirWyomingOut out = {.send = on_send, .resume = on_resume};
  ChoirWyoming *server = listener->server;
  int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  Connection *connection = g_new0(Connection, 1);
  *connection = (Connection){.server = server,
                             .fd = fd,
                             .parser = choir_wyoming_parser_new(),
                             .watched = EPOLLRDHUP | EPOLLIN,
                             .moved_us = g_get_monotonic_time(),
                             .peer = g_inet_address_to_string(peer)};
  choir_buffer_init(&connection->out, OUT_LIMIT);
  connection->client = choir_wyoming_client_new(server->desk, listener->services, server->language, &out, connection);
  g_ptr_array_add(server->connections, connection);
  if (!choir_hub_add(server->hub, fd, connection->watched, on_socket, connection, NULL)) {
    connection_free(connection);
    return;
  }
  choir_counter_add(server->total, 1);
  choir_gauge_set(server->open, server->connections->len);
  if (!server->watch)
    server->watch = g_timeout_add_seconds(WATCH_S, on_watch, server);
  if (server->connections->len > MAX_CLIENTS)
    refuse(connection, "busy", "too many clients are connected; try again later");
}

static void on_listener(int fd, uint32_t events, gpointer user) {
  Listener *listener = user;
  struct sockaddr_storage storage;
  socklen_t length = sizeof storage;
  int peer_fd = accept4(fd, (struct sockaddr *)&storage, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (peer_fd < 0)
    return;
  g_autoptr(GInetAddress) peer = peer_of(&storage, length);
  ChoirWyoming *server = listener->server;
  if (peer && is_allowed(server, peer) && server->connections->len < 2 * MAX_CLIENTS) {
    admit(listener, peer_fd, peer);
    return;
  }
  choir_counter_add(server->refused, 1);
  close(peer_fd);
}

/* --- settings --- */

static gboolean listen_on(ChoirWyoming *server, GInetAddress *address, guint16 port, ChoirWyomingServices services,
                          GError **error) {
  Listener *listener = &server->listeners[server->n_listeners];
  g_autoptr(GSocketAddress) wanted = g_inet_socket_address_new(address, port);
  struct sockaddr_storage storage;
  gssize size = g_socket_address_get_native_size(wanted);
  int one = 1;
  if (!g_socket_address_to_native(wanted, &storage, sizeof storage, error))
    return FALSE;
  int fd = socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd >= 0)
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  *listener = (Listener){.server = server, .services = services, .fd = fd, .port = port};
  if (fd < 0 || bind(fd, (struct sockaddr *)&storage, (socklen_t)size) != 0 || listen(fd, 16) != 0 ||
      !choir_hub_add(server->hub, fd, EPOLLIN, on_listener, listener, NULL)) {
    int saved = errno;
    g_set_error(error, G_IO_ERROR, (gint)g_io_error_from_errno(saved), "port %u: %s", port, g_strerror(saved));
    if (fd >= 0)
      close(fd);
    return FALSE;
  }
  server->n_listeners++;
  return TRUE;
}

static void try_listen(ChoirWyoming *server, GInetAddress *address, gint64 port, ChoirWyomingServices services) {
  g_autoptr(GError) error = NULL;
  if (port == 0 || listen_on(server, address, (guint16)port, services, &error))
    return;
  choir_info(CHOIR_TOPIC_WEB, "Wyoming clients are not served on %s", error->message);
  if (!server->problem)
    server->problem = g_strdup_printf("%s; set another [wyoming] port, or 0 for none", error->message);
}

static GPtrArray *read_allowed(const char *text, GError **error) {
  g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(g_object_unref);
  g_auto(GStrv) words = g_strsplit_set(text, ", ", -1);
  for (char **word = words; *word; word++) {
    if (!**word)
      continue;
    GInetAddressMask *mask = g_inet_address_mask_new_from_string(*word, error);
    if (!mask) {
      g_prefix_error(error, "[wyoming] allow: ");
      return NULL;
    }
    g_ptr_array_add(list, mask);
  }
  return g_steal_pointer(&list);
}

static gboolean read_settings(ChoirWyoming *server, const ChoirConfig *config, GError **error) {
  g_autoptr(GInetAddress) address = g_inet_address_new_from_string(server->address);
  gint64 stt = choir_config_int(config, "wyoming", "stt_port"), tts = choir_config_int(config, "wyoming", "tts_port");
  if (!address) {
    g_set_error(error, CHOIR_CONFIG_ERROR, CHOIR_CONFIG_ERROR_BAD_VALUE,
                "[wyoming] address = %s is no numeric address; 127.0.0.1 is this machine, 0.0.0.0 every network",
                server->address);
    return FALSE;
  }
  server->allowed = read_allowed(choir_config_string(config, "wyoming", "allow"), error);
  if (!server->allowed)
    return FALSE;
  if (!g_inet_address_get_is_loopback(address) && server->allowed->len == 0) {
    g_set_error(error, CHOIR_CONFIG_ERROR, CHOIR_CONFIG_ERROR_BAD_VALUE,
                "[wyoming] address = %s is not loopback, and the protocol knows no passwords: name the machines that "
                "may call in [wyoming] allow, as in 192.168.1.20 or 192.168.1.0/24",
                server->address);
    return FALSE;
  }
  if (stt == tts) {
    try_listen(server, address, stt, CHOIR_WYOMING_STT | CHOIR_WYOMING_TTS);
  } else {
    try_listen(server, address, stt, CHOIR_WYOMING_STT);
    try_listen(server, address, tts, CHOIR_WYOMING_TTS);
  }
  return TRUE;
}

ChoirWyoming *choir_wyoming_new(ChoirHub *hub, ChoirDesk *desk, const ChoirConfig *config, GError **error) {
  ChoirWyoming *server = g_new0(ChoirWyoming, 1);
  const char *address = choir_config_string(config, "wyoming", "address");
  *server = (ChoirWyoming){
      .hub = hub,
      .desk = desk,
      .address = g_strdup(g_str_equal(address, "localhost") ? "127.0.0.1" : address),
      .language = g_strdup(choir_config_string(config, "stt", "language")),
      .connections = g_ptr_array_new(),
      .open = choir_gauge("choir_wyoming_clients", NULL, "Connected Wyoming clients."),
      .total = choir_counter("choir_wyoming_clients_total", NULL, "Wyoming clients that were let in."),
      .refused = choir_counter("choir_wyoming_refused_total", NULL, "Connections of machines that may not call."),
      .bad = choir_counter("choir_wyoming_errors_total", NULL, "Wyoming clients cut for a broken or excess request."),
  };
  if (read_settings(server, config, error))
    return server;
  choir_wyoming_free(server);
  return NULL;
}

void choir_wyoming_free(ChoirWyoming *server) {
  if (!server)
    return;
  while (server->connections->len > 0)
    connection_free(g_ptr_array_index(server->connections, 0));
  for (guint i = 0; i < server->n_listeners; i++) {
    choir_hub_remove(server->hub, server->listeners[i].fd);
    close(server->listeners[i].fd);
  }
  if (server->watch)
    g_source_remove(server->watch);
  g_clear_pointer(&server->allowed, g_ptr_array_unref);
  g_ptr_array_unref(server->connections);
  g_free(server->address);
  g_free(server->language);
  g_free(server->problem);
  g_free(server);
}

static int port_of(const ChoirWyoming *server, ChoirWyomingServices service) {
  for (guint i = 0; i < server->n_listeners; i++)
    if (server->listeners[i].services & service)
      return server->listeners[i].port;
  return 0;
}

json_t *choir_wyoming_status(const ChoirWyoming *server) {
  return json_pack("{s:s,s:i,s:i,s:i,s:s?}", "address", server->address, "stt_port", port_of(server, CHOIR_WYOMING_STT),
                   "tts_port", port_of(server, CHOIR_WYOMING_TTS), "connections", (int)server->connections->len,
                   "problem", server->problem);
}
