#include "tools/proxy.h"
#include <stdlib.h>
#include <string.h>
#include <gio/gunixsocketaddress.h>
#include <glib/gstdio.h>
#include "base/log.h"
#include "base/metrics.h"
#include "base/names.h"
#include "tools/proxy_address.h"

#define CONNECTIONS_MAX 64
#define HEAD_MAX (16u << 10)
#define CHUNK (16u << 10)
#define CONNECTION_BYTES (64ull << 20)
#define ALL_BYTES (256ull << 20) /* of one proxy's life */
#define HEAD_S 15
#define IDLE_S 60
#define HOSTS_MAX 64

typedef struct Link Link;

struct Proxy {
  GSocketService *service;
  char *path;
  GStrv ports, allowed, names;
  GPtrArray *links;
  GPtrArray *hosts; /* char*, newest last */
  guint64 bytes;
};

/* One direction: reads, writes all of it, reads again. */
typedef struct {
  Link *link;
  GInputStream *in;
  GOutputStream *out;
  gint64 left; /* bytes that may still pass; -1 = as many as the connection may */
  char buffer[CHUNK];
} Pump;

struct Link {
  guint refs;
  Proxy *proxy; /* NULL: it is cut */
  GSocketConnection *client, *server;
  GCancellable *cancellable;
  GString *head;
  char *host, *request; /* request: what goes to the server first; NULL for a tunnel */
  guint16 port;
  guint timer;
  guint64 bytes;
  guint pumping;
  gint64 body_left;
  GList *addresses;
  Pump up, down;
};

static Link *hold(Link *link) {
  link->refs++;
  return link;
}

static void drop(Link *link) {
  if (--link->refs > 0)
    return;
  g_clear_handle_id(&link->timer, g_source_remove);
  g_resolver_free_addresses(link->addresses);
  g_clear_object(&link->client);
  g_clear_object(&link->server);
  g_clear_object(&link->cancellable);
  g_string_free(link->head, TRUE);
  g_free(link->host);
  g_free(link->request);
  g_free(link);
}

static void cut(Link *link) {
  if (!link->proxy)
    return;
  Proxy *proxy = g_steal_pointer(&link->proxy);
  g_clear_handle_id(&link->timer, g_source_remove);
  g_cancellable_cancel(link->cancellable);
  g_io_stream_close(G_IO_STREAM(link->client), NULL, NULL);
  if (link->server)
    g_io_stream_close(G_IO_STREAM(link->server), NULL, NULL);
  g_ptr_array_remove_fast(proxy->links, link); /* lets go of it */
}

static gboolean on_idle(gpointer user) {
  Link *link = user;
  link->timer = 0;
  cut(link);
  return G_SOURCE_REMOVE;
}

static void patience(Link *link, guint seconds) {
  g_clear_handle_id(&link->timer, g_source_remove);
  link->timer = g_timeout_add_seconds(seconds, on_idle, link);
}

static void note(Link *link, const char *refused) {
  GPtrArray *hosts = link->proxy->hosts;
  g_autofree char *line = refused ? g_strdup_printf("%s (%s)", link->host, refused) : g_strdup(link->host);
  choir_info(CHOIR_TOPIC_AGENT, "browser: %s %s", refused ? "refused" : "reaches", line);
  choir_counter_add(choir_counter("choir_browser_connections_total",
                                  refused ? "outcome=\"refused\"" : "outcome=\"open\"",
                                  "Connections that the web browser asked for."),
                    1);
  if (hosts->len < HOSTS_MAX && !g_ptr_array_find_with_equal_func(hosts, line, g_str_equal, NULL))
    g_ptr_array_add(hosts, g_steal_pointer(&line));
}

static void on_said(GObject *source, GAsyncResult *result, gpointer user) {
  Link *link = user;
  g_output_stream_write_all_finish(G_OUTPUT_STREAM(source), result, NULL, NULL);
  cut(link);
  drop(link);
}

/* An answer of our own, then the end. */
static void answer(Link *link, const char *status, const char *why) {
  GOutputStream *out = g_io_stream_get_output_stream(G_IO_STREAM(link->client));
  g_string_printf(link->head,
                  "HTTP/1.1 %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %zu\r\nConnection: "
                  "close\r\n\r\n%s",
                  status, strlen(why), why);
  g_output_stream_write_all_async(out, link->head->str, link->head->len, G_PRIORITY_DEFAULT, link->cancellable, on_said,
                                  hold(link));
}

static void refuse(Link *link, const char *what) {
  g_autofree char *why = g_strdup_printf("Choir does not open %s: it is %s.\n", link->host, what);
  note(link, what);
  answer(link, "403 Forbidden", why);
}

/* Bytes both ways */

static void pump(Pump *pump);

static void end_pump(Pump *pump) {
  Link *link = pump->link;
  if (!link->proxy)
    return;
  link->pumping--;
  if (link->pumping == 0 || pump == &link->down) /* the server is done: nothing is left to say to it */
    cut(link);
}

static void on_written(GObject *source, GAsyncResult *result, gpointer user) {
  Pump *self = user;
  Link *link = self->link;
  gboolean ok = g_output_stream_write_all_finish(G_OUTPUT_STREAM(source), result, NULL, NULL);
  if (link->proxy && ok)
    pump(self);
  else if (link->proxy)
    cut(link);
  drop(link);
}

static void on_read(GObject *source, GAsyncResult *result, gpointer user) {
  Pump *self = user;
  Link *link = self->link;
  gssize n = g_input_stream_read_finish(G_INPUT_STREAM(source), result, NULL);
  if (link->proxy && n > 0) {
    link->bytes += (guint64)n;
    link->proxy->bytes += (guint64)n;
    patience(link, IDLE_S);
    if (self->left >= 0)
      self->left -= n;
    if (link->bytes > CONNECTION_BYTES || link->proxy->bytes > ALL_BYTES) {
      cut(link);
    } else {
      hold(link);
      g_output_stream_write_all_async(self->out, self->buffer, (gsize)n, G_PRIORITY_DEFAULT, link->cancellable,
                                      on_written, self);
    }
  } else if (link->proxy && n == 0) {
    end_pump(self);
  } else if (link->proxy) {
    cut(link);
  }
  drop(link);
}

static void pump(Pump *self) {
  gsize most = self->left < 0 ? CHUNK : MIN((gsize)self->left, (gsize)CHUNK);
  if (most == 0) { /* the request is whole; what comes after it is for another host, perhaps */
    end_pump(self);
    return;
  }
  hold(self->link);
  g_input_stream_read_async(self->in, self->buffer, most, G_PRIORITY_DEFAULT, self->link->cancellable, on_read, self);
}

static void start_pumps(Link *link) {
  GIOStream *client = G_IO_STREAM(link->client), *server = G_IO_STREAM(link->server);
  link->up = (Pump){.link = link,
                    .in = g_io_stream_get_input_stream(client),
                    .out = g_io_stream_get_output_stream(server),
                    .left = link->body_left};
  link->down = (Pump){.link = link,
                      .in = g_io_stream_get_input_stream(server),
                      .out = g_io_stream_get_output_stream(client),
                      .left = -1};
  link->pumping = 2;
  patience(link, IDLE_S);
  hold(link);
  pump(&link->up);
  if (link->proxy)
    pump(&link->down);
  drop(link);
}

/* Connecting */

static void on_greeted(GObject *source, GAsyncResult *result, gpointer user) {
  Link *link = user;
  gboolean ok = g_output_stream_write_all_finish(G_OUTPUT_STREAM(source), result, NULL, NULL);
  if (link->proxy && ok)
    start_pumps(link);
  else
    cut(link);
  drop(link);
}

static void connect_next(Link *link);

static void on_connected(GObject *source, GAsyncResult *result, gpointer user) {
  static const char established[] = "HTTP/1.1 200 Connection established\r\n\r\n";
  Link *link = user;
  link->server = g_socket_client_connect_finish(G_SOCKET_CLIENT(source), result, NULL);
  if (link->proxy && link->server) {
    GIOStream *to = G_IO_STREAM(link->request ? link->server : link->client);
    const char *text = link->request ? link->request : established;
    note(link, NULL);
    g_output_stream_write_all_async(g_io_stream_get_output_stream(to), text, strlen(text), G_PRIORITY_DEFAULT,
                                    link->cancellable, on_greeted, hold(link));
  } else if (link->proxy) {
    connect_next(link);
  }
  drop(link);
}

static void connect_next(Link *link) {
  if (!link->addresses) {
    answer(link, "502 Bad Gateway", "The server cannot be reached.\n");
    return;
  }
  g_autoptr(GInetAddress) next = link->addresses->data;
  link->addresses = g_list_delete_link(link->addresses, link->addresses);
  g_autoptr(GSocketClient) client = g_socket_client_new();
  g_autoptr(GSocketAddress) address = g_inet_socket_address_new(next, link->port);
  g_socket_client_set_enable_proxy(client, FALSE);
  g_socket_client_set_timeout(client, HEAD_S);
  g_socket_client_connect_async(client, G_SOCKET_CONNECTABLE(address), link->cancellable, on_connected, hold(link));
}

static gboolean is_allowed(const Link *link, GInetAddress *address) {
  g_autofree char *text = g_inet_address_to_string(address), *pair = g_strdup_printf("%s:%u", text, link->port);
  return g_strv_contains((const char *const *)link->proxy->allowed, pair);
}

static gboolean port_is_allowed(const Link *link) {
  g_autofree char *port = g_strdup_printf("%u", link->port);
  return g_strv_contains((const char *const *)link->proxy->ports, port);
}

/* All addresses of the name must be public: a name with one private address is a trap. What is connected to is the
 * address that was checked, never the name again. */
static void connect_to(Link *link) {
  for (GList *one = link->addresses; one; one = one->next) {
    if (is_allowed(link, one->data))
      continue;
    const char *what = proxy_address_refused(one->data);
    if (what || !port_is_allowed(link)) {
      refuse(link, what ? what : "a port that is no web server's");
      return;
    }
  }
  connect_next(link);
}

static void on_resolved(GObject *source, GAsyncResult *result, gpointer user) {
  Link *link = user;
  link->addresses = g_resolver_lookup_by_name_finish(G_RESOLVER(source), result, NULL);
  if (link->proxy && link->addresses)
    connect_to(link);
  else if (link->proxy)
    answer(link, "502 Bad Gateway", "There is no server of that name.\n");
  drop(link);
}

static void resolve(Link *link) {
  GInetAddress *literal = g_inet_address_new_from_string(link->host);
  for (char **pair = link->proxy->names; *pair && !literal; pair++) {
    gsize length = strlen(link->host);
    if (g_ascii_strncasecmp(*pair, link->host, length) == 0 && (*pair)[length] == '=')
      literal = g_inet_address_new_from_string(*pair + length + 1);
  }
  patience(link, HEAD_S * 2);
  if (literal) {
    link->addresses = g_list_append(NULL, literal);
    connect_to(link);
    return;
  }
  g_autoptr(GResolver) resolver = g_resolver_get_default();
  g_resolver_lookup_by_name_async(resolver, link->host, link->cancellable, on_resolved, hold(link));
}

/* The request */

/* "host:port", "[v6]:port", "host"; FALSE when it is none. */
static gboolean split_authority(Link *link, const char *text, guint16 fallback) {
  const char *colon = strrchr(text, ':'), *bracket = strrchr(text, ']');
  if (colon && bracket && colon < bracket)
    colon = NULL;
  guint64 port = fallback;
  if (colon && (!g_ascii_string_to_unsigned(colon + 1, 10, 1, 65535, &port, NULL)))
    return FALSE;
  gsize length = colon ? (gsize)(colon - text) : strlen(text);
  link->host = *text == '[' && length > 2 ? g_strndup(text + 1, length - 2) : g_strndup(text, length);
  link->port = (guint16)port;
  for (const char *at = link->host; *at; at++)
    if (!g_ascii_isalnum(*at) && !strchr("-._:", *at))
      return FALSE;
  return *link->host != '\0' && strlen(link->host) <= 253;
}

/* The head of a plain request as the server wants it: path only, one request a connection. NULL: not understood. */
static char *rewrite(Link *link, char **lines, const char *method, const char *path) {
  static const char *const dropped[] = {
      "proxy-connection:", "connection:", "keep-alive:", "proxy-authorization:", "upgrade:"};
  g_autoptr(GString) out = g_string_new(NULL);
  guint64 body = 0;
  g_string_printf(out, "%s %s HTTP/1.1\r\n", method, *path ? path : "/");
  for (char **line = lines + 1; *line && **line; line++) {
    g_autofree char *lower = g_ascii_strdown(*line, -1);
    gboolean drop_it = FALSE;
    for (guint i = 0; i < G_N_ELEMENTS(dropped); i++)
      drop_it |= g_str_has_prefix(lower, dropped[i]);
    if (g_str_has_prefix(lower, "transfer-encoding:") || strchr(lower, '\n') || strchr(lower, '\r'))
      return NULL;
    if (g_str_has_prefix(lower, "content-length:") &&
        !g_ascii_string_to_unsigned(g_strstrip(lower + strlen("content-length:")), 10, 0, CONNECTION_BYTES, &body,
                                    NULL))
      return NULL;
    if (!drop_it)
      g_string_append_printf(out, "%s\r\n", *line);
  }
  g_string_append(out, "Connection: close\r\n\r\n");
  link->body_left = (gint64)body;
  return g_string_free(g_steal_pointer(&out), FALSE);
}

static gboolean understand(Link *link, const char *rest, gsize rest_length) {
  g_auto(GStrv) lines = g_strsplit(link->head->str, "\r\n", -1);
  g_auto(GStrv) words = g_strsplit(lines[0], " ", 4);
  if (g_strv_length(words) != 3 || !g_str_has_prefix(words[2], "HTTP/1."))
    return FALSE;
  link->body_left = -1;
  if (g_str_equal(words[0], "CONNECT"))
    return rest_length == 0 && split_authority(link, words[1], 443);
  if (!g_str_has_prefix(words[1], "http://"))
    return FALSE;
  const char *authority = words[1] + strlen("http://"), *path = authority + strcspn(authority, "/?");
  g_autofree char *host = g_strndup(authority, (gsize)(path - authority));
  if (*path == '?' || !split_authority(link, host, 80))
    return FALSE;
  g_autofree char *head = rewrite(link, lines, words[0], path);
  if (!head || (gint64)rest_length > link->body_left || memchr(rest, '\0', rest_length))
    return FALSE;
  link->body_left -= (gint64)rest_length;
  link->request = g_strdup_printf("%s%.*s", head, (int)rest_length, rest);
  return TRUE;
}

static void read_head(Link *link);

static void on_head(GObject *source, GAsyncResult *result, gpointer user) {
  Link *link = user;
  gssize n = g_input_stream_read_finish(G_INPUT_STREAM(source), result, NULL);
  if (link->proxy && n > 0) {
    g_string_append_len(link->head, link->up.buffer, n);
    const char *end = strstr(link->head->str, "\r\n\r\n");
    gboolean odd = strlen(link->head->str) != link->head->len;
    if (!end && link->head->len < HEAD_MAX && !odd) {
      read_head(link);
    } else if (!end || odd || !understand(link, end + 4, link->head->len - (gsize)(end + 4 - link->head->str))) {
      answer(link, "400 Bad Request", "The proxy does not understand this request.\n");
    } else {
      resolve(link);
    }
  } else {
    cut(link);
  }
  drop(link);
}

static void read_head(Link *link) {
  GInputStream *in = g_io_stream_get_input_stream(G_IO_STREAM(link->client));
  g_input_stream_read_async(in, link->up.buffer, CHUNK, G_PRIORITY_DEFAULT, link->cancellable, on_head, hold(link));
}

static gboolean on_incoming(GSocketService *service, GSocketConnection *connection, GObject *source, gpointer user) {
  Proxy *proxy = user;
  if (proxy->links->len >= CONNECTIONS_MAX || proxy->bytes > ALL_BYTES) {
    g_io_stream_close(G_IO_STREAM(connection), NULL, NULL);
    return TRUE;
  }
  Link *link = g_new0(Link, 1);
  link->refs = 1;
  link->proxy = proxy;
  link->client = g_object_ref(connection);
  link->cancellable = g_cancellable_new();
  link->head = g_string_new(NULL);
  g_ptr_array_add(proxy->links, link);
  patience(link, HEAD_S);
  read_head(link);
  return TRUE;
}

static GStrv split(const char *list) {
  g_auto(GStrv) parts = g_strsplit(list ? list : "", ",", -1);
  for (char **part = parts; *part; part++)
    g_strstrip(*part);
  return g_steal_pointer(&parts);
}

Proxy *proxy_new(const char *socket_path, const ProxyRules *rules, GError **error) {
  if (strlen(socket_path) > 100) {
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_FILENAME_TOO_LONG,
                "the path %s is too long for a socket; move the state folder to a shorter one", socket_path);
    return NULL;
  }
  g_unlink(socket_path);
  g_autoptr(GSocketService) service = g_socket_service_new();
  g_autoptr(GSocketAddress) address = g_unix_socket_address_new(socket_path);
  if (!g_socket_listener_add_address(G_SOCKET_LISTENER(service), address, G_SOCKET_TYPE_STREAM,
                                     G_SOCKET_PROTOCOL_DEFAULT, NULL, NULL, error))
    return NULL;
  g_chmod(socket_path, 0600);
  Proxy *proxy = g_new0(Proxy, 1);
  proxy->service = g_steal_pointer(&service);
  proxy->path = g_strdup(socket_path);
  proxy->ports = split(rules->ports);
  proxy->allowed = split(rules->allowed);
  proxy->names = split(rules->names);
  proxy->links = g_ptr_array_new_with_free_func((GDestroyNotify)drop);
  proxy->hosts = g_ptr_array_new_with_free_func(g_free);
  g_signal_connect(proxy->service, "incoming", G_CALLBACK(on_incoming), proxy);
  g_socket_service_start(proxy->service);
  return proxy;
}

void proxy_free(Proxy *proxy) {
  if (!proxy)
    return;
  g_signal_handlers_disconnect_by_data(proxy->service, proxy);
  g_socket_service_stop(proxy->service);
  g_socket_listener_close(G_SOCKET_LISTENER(proxy->service));
  g_object_unref(proxy->service);
  while (proxy->links->len > 0)
    cut(proxy->links->pdata[0]);
  g_ptr_array_unref(proxy->links);
  g_ptr_array_unref(proxy->hosts);
  g_unlink(proxy->path);
  g_free(proxy->path);
  g_strfreev(proxy->ports);
  g_strfreev(proxy->allowed);
  g_strfreev(proxy->names);
  g_free(proxy);
}

char *proxy_take_hosts(Proxy *proxy) {
  g_autoptr(GString) text = g_string_new(NULL);
  for (guint i = 0; i < proxy->hosts->len; i++)
    g_string_append_printf(text, "%s%s", i ? ", " : "", (char *)proxy->hosts->pdata[i]);
  g_ptr_array_set_size(proxy->hosts, 0);
  return g_string_free(g_steal_pointer(&text), FALSE);
}

guint proxy_connections(const Proxy *proxy) {
  return proxy->links->len;
}
