#include "net/http_server.h"
#include <arpa/inet.h>
#include <errno.h>
#include <gio/gio.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/log.h"
#include "base/metrics.h"
#include "base/names.h"
#include "net/http_private.h"
#include "net/websocket_private.h"

#define SLACK 16       /* connections beyond the limit that are let in to be told 503 */
#define EXCESS_MS 2000 /* how long such a one may take to ask */
#define KERNEL_QUEUE (256 * 1024)
#define MAX_ALL_BODIES (64 * 1024 * 1024)

typedef struct {
  char *method, *path;
  gboolean below; /* path ended in a star: everything below matches */
  ChoirHttpHandler handler;
  gpointer user;
} Route;

typedef struct {
  GSource source;
  ChoirHttpServer *server;
  gpointer tag;
} ServerSource;

struct ChoirHttpServer {
  ChoirHub *hub;
  ChoirHttpServerOptions options;
  guint16 port;
  struct MHD_Daemon *daemon;
  GSource *source, *timer;
  gint64 timer_at; /* 0 = not armed */
  GPtrArray *routes, *connections;
  GHashTable *max_bodies; /* path -> limit; NULL while there is none */
  ChoirHttpGuard guard;
  gpointer guard_user;
  gboolean closing, local;
  gboolean resumed; /* the daemon has work that its timeout does not tell of */
  gsize body_bytes; /* held for all requests */
  ChoirMetric *open, *refused, *late, *by_class[6];
};

static void arm_timer(ChoirHttpServer *server, gint64 at) {
  server->timer_at = at;
  g_source_set_ready_time(server->timer, at != 0 ? at : -1);
}

void choir_http_connection_deadline(ChoirHttpConnection *connection, ChoirDeadline deadline, gint64 in_ms) {
  ChoirHttpServer *server = connection->server;
  connection->deadline = deadline;
  connection->deadline_us =
      deadline == CHOIR_DEADLINE_NONE ? 0 : g_get_monotonic_time() + in_ms * G_TIME_SPAN_MILLISECOND;
  if (connection->deadline_us != 0 && (server->timer_at == 0 || connection->deadline_us < server->timer_at))
    arm_timer(server, connection->deadline_us);
}

/* libmicrohttpd sees the end of the stream and drops the connection. */
static void cut(ChoirHttpConnection *connection) {
  shutdown(connection->fd, SHUT_RDWR);
}

static void too_late(ChoirHttpConnection *connection) {
  static const char body[] = "{\"error\":{\"type\":\"invalid_request_error\",\"code\":\"request_timeout\",\"message\":"
                             "\"The request did not arrive in time.\"}}";
  ChoirDeadline deadline = connection->deadline;
  connection->deadline = CHOIR_DEADLINE_NONE;
  connection->deadline_us = 0;
  choir_counter_add(connection->server->late, 1);
  if (deadline == CHOIR_DEADLINE_REQUEST && !connection->excess) {
    /* Written past libmicrohttpd, which has no answer in progress while a request is still arriving. */
    g_autofree char *answer =
        g_strdup_printf("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Type: application/json\r\n"
                        "Content-Length: %zu\r\n\r\n%s",
                        sizeof body - 1, body);
    if (send(connection->fd, answer, strlen(answer), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
      choir_http_server_count(connection->server, 408);
  }
  if (connection->request != NULL && deadline == CHOIR_DEADLINE_STALL)
    choir_http_request_lost(connection->request);
  cut(connection);
}

static gboolean timer_dispatch(GSource *source, GSourceFunc callback, gpointer user) {
  ChoirHttpServer *server = ((ServerSource *)source)->server;
  gint64 now = g_get_monotonic_time(), next = 0;
  for (guint i = 0; i < server->connections->len; i++) {
    ChoirHttpConnection *connection = g_ptr_array_index(server->connections, i);
    if (connection->deadline_us != 0 && connection->deadline_us <= now)
      too_late(connection);
    if (connection->deadline_us != 0 && (next == 0 || connection->deadline_us < next))
      next = connection->deadline_us;
  }
  arm_timer(server, next);
  return G_SOURCE_CONTINUE;
}

static GSourceFuncs timer_funcs = {.dispatch = timer_dispatch};

/* The peer's leaving: libmicrohttpd does not look at a suspended connection. */
static void on_peer_left(int fd, uint32_t events, gpointer user) {
  ChoirHttpConnection *connection = user;
  choir_http_connection_unwatch(connection);
  if (connection->request != NULL)
    choir_http_request_lost(connection->request);
  cut(connection);
}

void choir_http_connection_watch(ChoirHttpConnection *connection) {
  if (!connection->watched)
    connection->watched =
        choir_hub_add(connection->server->hub, connection->fd, EPOLLRDHUP, on_peer_left, connection, NULL);
}

void choir_http_connection_unwatch(ChoirHttpConnection *connection) {
  if (connection->watched)
    choir_hub_remove(connection->server->hub, connection->fd);
  connection->watched = FALSE;
}

static void format_peer(const struct sockaddr *address, char *text, gsize size) {
  g_strlcpy(text, "unknown", size);
  if (address->sa_family == AF_INET)
    inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)address)->sin_addr, text, (socklen_t)size);
  if (address->sa_family != AF_INET6)
    return;
  const struct in6_addr *six = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
  if (IN6_IS_ADDR_V4MAPPED(six))
    inet_ntop(AF_INET, six->s6_addr + 12, text, (socklen_t)size);
  else
    inet_ntop(AF_INET6, six, text, (socklen_t)size);
}

static void format_local_peer(int fd, char *text, gsize size) {
  struct ucred who;
  socklen_t length = sizeof who;
  g_strlcpy(text, "unknown", size);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) == 0)
    g_snprintf(text, size, "unix:%u", (guint)who.uid);
}

static gboolean over_a_limit(const ChoirHttpServer *server, const char *peer) {
  guint same = 0;
  for (guint i = 0; i < server->connections->len; i++)
    same += strcmp(((ChoirHttpConnection *)g_ptr_array_index(server->connections, i))->peer, peer) == 0;
  return server->connections->len >= server->options.max_connections ||
         same >= (server->options.max_connections + 1) / 2;
}

static void connection_started(ChoirHttpServer *server, struct MHD_Connection *mhd, void **context) {
  const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
  ChoirHttpConnection *connection = g_new0(ChoirHttpConnection, 1);
  connection->server = server;
  const struct sockaddr *address = info->client_addr;
  info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
  connection->fd = info->connect_fd;
  if (server->local)
    format_local_peer(connection->fd, connection->peer, sizeof connection->peer);
  else
    format_peer(address, connection->peer, sizeof connection->peer);
  int one = 1, size = KERNEL_QUEUE;
  setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  setsockopt(connection->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
  connection->excess = over_a_limit(server, connection->peer);
  if (connection->excess)
    choir_counter_add(server->refused, 1);
  g_ptr_array_add(server->connections, connection);
  choir_gauge_set(server->open, server->connections->len);
  choir_http_connection_deadline(connection, CHOIR_DEADLINE_REQUEST,
                                 connection->excess ? EXCESS_MS : server->options.header_deadline_ms);
  *context = connection;
}

static void on_connection(void *user, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode code) {
  ChoirHttpServer *server = user;
  if (code == MHD_CONNECTION_NOTIFY_STARTED) {
    connection_started(server, mhd, context);
    return;
  }
  ChoirHttpConnection *connection = *context;
  choir_http_connection_unwatch(connection);
  g_ptr_array_remove_fast(server->connections, connection);
  choir_gauge_set(server->open, server->connections->len);
  g_free(connection->target);
  g_free(connection);
  *context = NULL;
}

/* Called when the first line of a request is there: its deadline starts, and the target is kept as it was sent. */
static void *on_first_line(void *user, const char *target, struct MHD_Connection *mhd) {
  ChoirHttpServer *server = user;
  ChoirHttpConnection *connection = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
  g_free(connection->target);
  connection->target = g_strdup(target);
  if (connection->deadline != CHOIR_DEADLINE_REQUEST)
    choir_http_connection_deadline(connection, CHOIR_DEADLINE_REQUEST, server->options.header_deadline_ms);
  return NULL;
}

static gboolean route_matches(const Route *route, const char *path) {
  return route->below ? g_str_has_prefix(path, route->path) : strcmp(route->path, path) == 0;
}

static const Route *find_route(const ChoirHttpServer *server, const char *method, const char *path) {
  const Route *found = NULL;
  for (guint i = 0; i < server->routes->len; i++) {
    const Route *route = g_ptr_array_index(server->routes, i);
    if (strcmp(route->method, method) != 0 || !route_matches(route, path))
      continue;
    /* An exact route wins over one with a star, a longer star over a shorter one. */
    if (found == NULL || (found->below && (!route->below || strlen(route->path) > strlen(found->path))))
      found = route;
  }
  return found;
}

static char *allowed_methods(const ChoirHttpServer *server, const char *path) {
  g_autoptr(GPtrArray) methods = g_ptr_array_new();
  for (guint i = 0; i < server->routes->len; i++) {
    const Route *route = g_ptr_array_index(server->routes, i);
    if (!route_matches(route, path) || g_ptr_array_find_with_equal_func(methods, route->method, g_str_equal, NULL))
      continue;
    g_ptr_array_add(methods, route->method);
    if (strcmp(route->method, "GET") == 0)
      g_ptr_array_add(methods, (gpointer) "HEAD");
  }
  g_ptr_array_add(methods, NULL);
  return methods->len > 1 ? g_strjoinv(", ", (char **)methods->pdata) : NULL;
}

void choir_http_server_dispatch(ChoirHttpServer *server, ChoirHttpRequest *request) {
  if (server->guard != NULL && !server->guard(request, server->guard_user)) {
    if (request->state == CHOIR_REQUEST_HANDLING)
      choir_http_respond_error(request, 403, "permission_error", "forbidden", "This request is not allowed.");
    return;
  }
  const Route *route = find_route(server, request->method, request->path);
  if (route == NULL && strcmp(request->method, "HEAD") == 0)
    route = find_route(server, "GET", request->path);
  if (route != NULL) {
    route->handler(request, route->user);
    return;
  }
  g_autofree char *allowed = allowed_methods(server, request->path);
  if (allowed == NULL) {
    choir_http_respond_error(request, 404, "invalid_request_error", "not_found", "There is nothing at %s.",
                             request->path);
    return;
  }
  choir_http_respond_not_allowed(request, allowed);
}

void choir_http_server_route(ChoirHttpServer *server, const char *method, const char *path, ChoirHttpHandler handler,
                             gpointer user) {
  Route *route = g_new0(Route, 1);
  route->method = g_strdup(method);
  route->below = g_str_has_suffix(path, "/*");
  route->path = g_strndup(path, strlen(path) - (route->below ? 1 : 0));
  route->handler = handler;
  route->user = user;
  g_ptr_array_add(server->routes, route);
}

void choir_http_server_each_route(const ChoirHttpServer *server,
                                  void (*each)(const char *method, const char *path, gpointer user), gpointer user) {
  for (guint i = 0; i < server->routes->len; i++) {
    const Route *route = g_ptr_array_index(server->routes, i);
    g_autofree char *path = g_strconcat(route->path, route->below ? "*" : "", NULL);
    each(route->method, path, user);
  }
}

gboolean choir_http_request_routed(const ChoirHttpRequest *request) {
  const ChoirHttpServer *server = request->connection->server;
  return find_route(server, request->method, request->path) != NULL ||
         (strcmp(request->method, "HEAD") == 0 && find_route(server, "GET", request->path) != NULL);
}

void choir_http_server_allow_body(ChoirHttpServer *server, const char *path, gsize max_body) {
  if (!server->max_bodies)
    server->max_bodies = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  g_hash_table_insert(server->max_bodies, g_strdup(path), GSIZE_TO_POINTER(max_body));
}

gsize choir_http_server_max_body(const ChoirHttpServer *server, const char *path) {
  gpointer found = server->max_bodies ? g_hash_table_lookup(server->max_bodies, path) : NULL;
  return found ? GPOINTER_TO_SIZE(found) : server->options.max_body;
}

static void route_free(gpointer data) {
  Route *route = data;
  g_free(route->method);
  g_free(route->path);
  g_free(route);
}

static gint wait_of(const ChoirHttpServer *server) {
  MHD_UNSIGNED_LONG_LONG timeout = 0;
  if (server->resumed)
    return 0;
  if (MHD_get_timeout(server->daemon, &timeout) == MHD_NO)
    return -1;
  return (gint)MIN(timeout, (MHD_UNSIGNED_LONG_LONG)G_MAXINT);
}

static gboolean mhd_prepare(GSource *source, gint *timeout) {
  *timeout = wait_of(((ServerSource *)source)->server);
  return *timeout == 0;
}

static gboolean mhd_check(GSource *source) {
  ServerSource *own = (ServerSource *)source;
  return g_source_query_unix_fd(source, own->tag) != 0 || wait_of(own->server) == 0;
}

static gboolean mhd_dispatch(GSource *source, GSourceFunc callback, gpointer user) {
  ChoirHttpServer *server = ((ServerSource *)source)->server;
  server->resumed = FALSE;
  MHD_run(server->daemon);
  return G_SOURCE_CONTINUE;
}

static GSourceFuncs mhd_funcs = {.prepare = mhd_prepare, .check = mhd_check, .dispatch = mhd_dispatch};

static void on_mhd_log(void *user, const char *format, va_list arguments) {
  if (!choir_log_enabled(CHOIR_TOPIC_NET, CHOIR_LOG_DEBUG))
    return;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  g_autofree char *text = g_strdup_vprintf(format, arguments);
#pragma GCC diagnostic pop
  choir_log(CHOIR_TOPIC_NET, CHOIR_LOG_DEBUG, "%s", text);
}

/* libmicrohttpd would decode in place; http_parse.c does it from the target as it was sent. */
static size_t keep_escapes(void *user, struct MHD_Connection *mhd, char *text) {
  return strlen(text);
}

static int listen_on(const char *address, guint16 port, guint16 *ret_port, GError **error) {
  g_autoptr(GSocketAddress) wanted =
      g_inet_socket_address_new_from_string(strcmp(address, "localhost") == 0 ? "127.0.0.1" : address, port);
  if (wanted == NULL) {
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT, "\"%s\" is not a numeric address to listen on",
                address);
    return -1;
  }
  struct sockaddr_storage storage;
  socklen_t length = (socklen_t)g_socket_address_get_native_size(wanted);
  int one = 1;
  if (!g_socket_address_to_native(wanted, &storage, sizeof storage, error))
    return -1;
  int fd = socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd >= 0)
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (fd < 0 || bind(fd, (struct sockaddr *)&storage, length) != 0 || listen(fd, 128) != 0) {
    int saved = errno;
    g_set_error(error, G_IO_ERROR, (gint)g_io_error_from_errno(saved), "cannot listen on %s port %u: %s", address, port,
                g_strerror(saved));
    if (fd >= 0)
      close(fd);
    return -1;
  }
  length = sizeof storage;
  getsockname(fd, (struct sockaddr *)&storage, &length);
  *ret_port = ntohs(storage.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&storage)->sin6_port
                                                  : ((struct sockaddr_in *)(void *)&storage)->sin_port);
  return fd;
}

static GSource *add_source(ChoirHttpServer *server, GSourceFuncs *funcs, const char *name, int fd) {
  GSource *source = g_source_new(funcs, sizeof(ServerSource));
  g_source_set_static_name(source, name);
  ((ServerSource *)source)->server = server;
  if (fd >= 0)
    ((ServerSource *)source)->tag = g_source_add_unix_fd(source, fd, G_IO_IN);
  g_source_attach(source, NULL);
  return source;
}

static struct MHD_Daemon *start_daemon(ChoirHttpServer *server, int listen_fd) {
  const ChoirHttpServerOptions *options = &server->options;
  return MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE | MHD_USE_ERROR_LOG, 0, NULL,
                          NULL, choir_http_on_request, server, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, NULL,
                          MHD_OPTION_LISTEN_SOCKET, listen_fd, MHD_OPTION_CONNECTION_LIMIT,
                          options->max_connections + SLACK, MHD_OPTION_CONNECTION_TIMEOUT, options->idle_timeout_s,
                          MHD_OPTION_CONNECTION_MEMORY_LIMIT, 2 * options->max_header + 16384,
                          MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_NOTIFY_COMPLETED, choir_http_on_completed, server,
                          MHD_OPTION_NOTIFY_CONNECTION, on_connection, server, MHD_OPTION_URI_LOG_CALLBACK,
                          on_first_line, server, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL, MHD_OPTION_END);
}

static void create_metrics(ChoirHttpServer *server) {
  server->open = choir_gauge("choir_http_connections", NULL, "Open HTTP connections, WebSockets included.");
  server->refused = choir_counter("choir_http_refused_total", NULL, "Connections over a limit.");
  server->late = choir_counter("choir_http_cut_total", NULL, "Connections cut for being late, idle or stalled.");
  for (guint i = 1; i < G_N_ELEMENTS(server->by_class); i++) {
    g_autofree char *labels = g_strdup_printf("class=\"%uxx\"", i);
    server->by_class[i] = choir_counter("choir_http_responses_total", labels, "Answers by class of status.");
  }
}

/* Takes listen_fd; routes: whose to share, NULL = own ones. */
static ChoirHttpServer *serve_on(ChoirHub *hub, const ChoirHttpServerOptions *options, ChoirHttpServer *routes,
                                 int listen_fd, GError **error) {
  ChoirHttpServer *server = g_new0(ChoirHttpServer, 1);
  server->hub = hub;
  server->options = *options;
  server->options.address = NULL;
  ChoirHttpServerOptions *set = &server->options;
  set->max_body = set->max_body != 0 ? set->max_body : 8 * 1024 * 1024;
  set->max_connections = set->max_connections != 0 ? set->max_connections : 128;
  set->header_deadline_ms = set->header_deadline_ms != 0 ? set->header_deadline_ms : 10000;
  set->idle_timeout_s = set->idle_timeout_s != 0 ? set->idle_timeout_s : 60;
  set->max_header = set->max_header != 0 ? set->max_header : 16384;
  server->routes = routes ? g_ptr_array_ref(routes->routes) : g_ptr_array_new_with_free_func(route_free);
  server->connections = g_ptr_array_new();
  create_metrics(server);
  server->timer = add_source(server, &timer_funcs, "choir-http-deadlines", -1);
  server->daemon = start_daemon(server, listen_fd);
  if (server->daemon == NULL) {
    close(listen_fd);
    g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_FAILED, "the HTTP server cannot start");
    choir_http_server_free(server);
    return NULL;
  }
  const union MHD_DaemonInfo *info = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
  server->source = add_source(server, &mhd_funcs, "choir-http", info->epoll_fd);
  return server;
}

ChoirHttpServer *choir_http_server_new(ChoirHub *hub, const ChoirHttpServerOptions *options, GError **error) {
  guint16 port = 0;
  int listen_fd = listen_on(options->address != NULL ? options->address : "127.0.0.1", options->port, &port, error);
  ChoirHttpServer *server = listen_fd < 0 ? NULL : serve_on(hub, options, NULL, listen_fd, error);
  if (server != NULL)
    server->port = port;
  return server;
}

static int listen_local(const char *path, GError **error) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) {
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT, "the path %s is too long for a socket", path);
    return -1;
  }
  g_strlcpy(address.sun_path, path, sizeof address.sun_path);
  unlink(path); /* left by a daemon that was killed; two on one state folder are kept out by its lock */
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  mode_t mask = umask(0177);
  gboolean bound = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
  umask(mask);
  if (bound && listen(fd, 16) == 0)
    return fd;
  g_set_error(error, G_IO_ERROR, (gint)g_io_error_from_errno(errno), "cannot listen on %s: %s", path,
              g_strerror(errno));
  if (fd >= 0)
    close(fd);
  return -1;
}

ChoirHttpServer *choir_http_server_new_local(ChoirHttpServer *routes, const char *path, GError **error) {
  int listen_fd = listen_local(path, error);
  ChoirHttpServer *server = listen_fd < 0 ? NULL : serve_on(routes->hub, &routes->options, routes, listen_fd, error);
  if (server == NULL)
    return NULL;
  server->local = TRUE;
  server->guard = routes->guard;
  server->guard_user = routes->guard_user;
  server->max_bodies = routes->max_bodies ? g_hash_table_ref(routes->max_bodies) : NULL;
  return server;
}

/* A suspended or upgraded connection that is left when the daemon stops makes libmicrohttpd abort the process. */
static void end_connections(ChoirHttpServer *server) {
  for (guint i = 0; i < server->connections->len; i++) {
    ChoirHttpConnection *connection = g_ptr_array_index(server->connections, i);
    ChoirHttpRequest *request = connection->request;
    choir_http_connection_unwatch(connection);
    if (request != NULL && request->ws != NULL)
      choir_websocket_abort(request->ws, 1001);
    else if (request != NULL)
      choir_http_request_lost(request);
  }
  /* One turn to take up what was resumed, one to clean up. */
  MHD_run(server->daemon);
  MHD_run(server->daemon);
}

void choir_http_server_free(ChoirHttpServer *server) {
  if (server == NULL)
    return;
  server->closing = TRUE;
  if (server->daemon != NULL) {
    end_connections(server);
    g_source_destroy(server->source);
    g_source_unref(server->source);
    MHD_stop_daemon(server->daemon);
  }
  g_source_destroy(server->timer);
  g_source_unref(server->timer);
  g_ptr_array_unref(server->routes);
  g_clear_pointer(&server->max_bodies, g_hash_table_unref);
  g_ptr_array_unref(server->connections);
  g_free(server);
}

void choir_http_server_set_guard(ChoirHttpServer *server, ChoirHttpGuard guard, gpointer user) {
  server->guard = guard;
  server->guard_user = user;
}

guint16 choir_http_server_port(const ChoirHttpServer *server) {
  return server->port;
}

guint choir_http_server_connections(const ChoirHttpServer *server) {
  return server->connections->len;
}

ChoirHub *choir_http_server_hub(ChoirHttpServer *server) {
  return server->hub;
}

const ChoirHttpServerOptions *choir_http_server_options(const ChoirHttpServer *server) {
  return &server->options;
}

gboolean choir_http_server_closing(const ChoirHttpServer *server) {
  return server->closing;
}

gboolean choir_http_server_reserve(ChoirHttpServer *server, gssize bytes) {
  if (bytes > 0 && server->body_bytes + (gsize)bytes > MAX(MAX_ALL_BODIES, server->options.max_body))
    return FALSE;
  server->body_bytes += (gsize)bytes;
  return TRUE;
}

void choir_http_server_resumed(ChoirHttpServer *server) {
  server->resumed = TRUE;
}

void choir_http_server_count(ChoirHttpServer *server, guint status) {
  guint index = status / 100;
  if (index >= 1 && index < G_N_ELEMENTS(server->by_class))
    choir_counter_add(server->by_class[index], 1);
}
