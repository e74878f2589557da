/* The browser's way out: which addresses are refused, and what the proxy does with requests good and bad. */
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>
#include <gio/gunixsocketaddress.h>
#include "tools/proxy.h"
#include "tools/proxy_address.h"

static void test_addresses(void) {
  static const char *const refused[] = {"127.0.0.1",
                                        "127.255.255.254",
                                        "0.0.0.0",
                                        "10.0.0.1",
                                        "172.16.0.1",
                                        "172.31.255.255",
                                        "192.168.1.1",
                                        "169.254.169.254",
                                        "100.64.0.1",
                                        "100.127.255.255",
                                        "224.0.0.1",
                                        "239.1.1.1",
                                        "240.0.0.1",
                                        "255.255.255.255",
                                        "198.18.0.1",
                                        "192.0.2.1",
                                        "::",
                                        "::1",
                                        "fe80::1",
                                        "fc00::1",
                                        "fdff::1",
                                        "ff02::1",
                                        "::ffff:127.0.0.1",
                                        "::ffff:10.0.0.1",
                                        "::ffff:a9fe:a9fe",
                                        "::127.0.0.1",
                                        "64:ff9b::7f00:1",
                                        "2002:7f00:1::",
                                        "2001::1",
                                        "2001:db8::1",
                                        "fec0::1",
                                        "100::1",
                                        "3fff::1"};
  static const char *const public[] = {"1.1.1.1",         "8.8.8.8",      "172.15.0.1",      "172.32.0.1",
                                       "100.63.255.255",  "100.128.0.1",  "192.167.255.255", "223.255.255.255",
                                       "2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8"};
  for (guint i = 0; i < G_N_ELEMENTS(refused); i++) {
    g_autoptr(GInetAddress) address = g_inet_address_new_from_string(refused[i]);
    if (!proxy_address_refused(address))
      g_error("%s should be refused", refused[i]);
  }
  for (guint i = 0; i < G_N_ELEMENTS(public); i++) {
    g_autoptr(GInetAddress) address = g_inet_address_new_from_string(public[i]);
    g_assert_cmpstr(proxy_address_refused(address), ==, NULL);
  }
}

/* A web server of the test: answers every request with its text, counts them, keeps the last head. */
typedef struct {
  GSocketService *service;
  guint16 port;
  guint requests;
  char *head;
} Server;

static gboolean on_request(GThreadedSocketService *service, GSocketConnection *connection, GObject *source,
                           gpointer user) {
  Server *server = user;
  char head[4096];
  gssize n =
      g_input_stream_read(g_io_stream_get_input_stream(G_IO_STREAM(connection)), head, sizeof head - 1, NULL, NULL);
  head[MAX(n, 0)] = '\0';
  server->requests++;
  g_free(server->head);
  server->head = g_strdup(head);
  static const char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
  g_output_stream_write_all(g_io_stream_get_output_stream(G_IO_STREAM(connection)), text, strlen(text), NULL, NULL,
                            NULL);
  return FALSE;
}

typedef struct {
  char *dir, *path, *allowed;
  Server server;
  Proxy *proxy;
} Bench;

static void bench_open(Bench *bench) {
  g_autoptr(GError) error = NULL;
  bench->dir = g_dir_make_tmp("choir-proxy-XXXXXX", NULL);
  bench->path = g_build_filename(bench->dir, "proxy.sock", NULL);
  bench->server.service = g_threaded_socket_service_new(4); /* its reads block */
  bench->server.port = g_socket_listener_add_any_inet_port(G_SOCKET_LISTENER(bench->server.service), NULL, &error);
  g_assert_no_error(error);
  g_signal_connect(bench->server.service, "run", G_CALLBACK(on_request), &bench->server);
  bench->allowed = g_strdup_printf("127.0.0.1:%u", bench->server.port);
  ProxyRules rules = {.ports = "80,443",
                      .allowed = bench->allowed,
                      .names = "web.test=127.0.0.1,trap.test=10.1.2.3,six.test=::1,meta.test=169.254.169.254"};
  bench->proxy = proxy_new(bench->path, &rules, &error);
  g_assert_no_error(error);
}

static void bench_close(Bench *bench) {
  proxy_free(bench->proxy);
  g_assert_false(g_file_test(bench->path, G_FILE_TEST_EXISTS));
  g_socket_service_stop(bench->server.service);
  g_socket_listener_close(G_SOCKET_LISTENER(bench->server.service));
  g_object_unref(bench->server.service);
  g_rmdir(bench->dir);
  g_free(bench->server.head);
  g_free(bench->dir);
  g_free(bench->path);
  g_free(bench->allowed);
}

static void on_any(GObject *source, GAsyncResult *result, gpointer user) {
  *(GAsyncResult **)user = g_object_ref(result);
}

static GSocketConnection *dial(Bench *bench) {
  g_autoptr(GSocketClient) client = g_socket_client_new();
  g_autoptr(GSocketAddress) address = g_unix_socket_address_new(bench->path);
  g_autoptr(GError) error = NULL;
  GSocketConnection *connection = g_socket_client_connect(client, G_SOCKET_CONNECTABLE(address), NULL, &error);
  g_assert_no_error(error);
  return connection;
}

/* Sends, and reads to the end or to `until`. */
static char *talk(GSocketConnection *connection, const char *text, const char *until) {
  GIOStream *stream = G_IO_STREAM(connection);
  g_output_stream_write_all(g_io_stream_get_output_stream(stream), text, strlen(text), NULL, NULL, NULL);
  g_autoptr(GString) said = g_string_new(NULL);
  for (gssize n = 1; n > 0 && !(until && strstr(said->str, until));) {
    char buffer[4096];
    g_autoptr(GAsyncResult) result = NULL;
    g_input_stream_read_async(g_io_stream_get_input_stream(stream), buffer, sizeof buffer, 0, NULL, on_any, &result);
    while (!result)
      g_main_context_iteration(NULL, TRUE);
    n = g_input_stream_read_finish(g_io_stream_get_input_stream(stream), result, NULL);
    if (n > 0)
      g_string_append_len(said, buffer, n);
  }
  return g_string_free(g_steal_pointer(&said), FALSE);
}

static char *once(Bench *bench, const char *text) {
  g_autoptr(GSocketConnection) connection = dial(bench);
  return talk(connection, text, NULL);
}

static void test_passes(void) {
  Bench bench = {0};
  bench_open(&bench);
  g_autofree char *get = g_strdup_printf("GET http://web.test:%u/a?b=c HTTP/1.1\r\nHost: web.test\r\nProxy-Connection: "
                                         "keep-alive\r\nX-Kept: 1\r\n\r\n",
                                         bench.server.port);
  g_autofree char *page = once(&bench, get);
  g_assert_nonnull(strstr(page, "200 OK"));
  g_assert_true(g_str_has_suffix(page, "hello"));
  g_assert_true(g_str_has_prefix(bench.server.head, "GET /a?b=c HTTP/1.1\r\n"));
  g_assert_nonnull(strstr(bench.server.head, "X-Kept: 1"));
  g_assert_null(strstr(bench.server.head, "keep-alive"));
  g_autoptr(GSocketConnection) tunnel = dial(&bench);
  g_autofree char *connect = g_strdup_printf("CONNECT web.test:%u HTTP/1.1\r\n\r\n", bench.server.port);
  g_autofree char *open = talk(tunnel, connect, "\r\n\r\n");
  g_assert_true(g_str_has_prefix(open, "HTTP/1.1 200"));
  g_autofree char *inside = talk(tunnel, "GET / HTTP/1.1\r\n\r\n", "hello");
  g_assert_nonnull(strstr(inside, "hello"));
  g_autofree char *hosts = proxy_take_hosts(bench.proxy);
  g_assert_cmpstr(hosts, ==, "web.test");
  g_assert_cmpuint(bench.server.requests, ==, 2);
  bench_close(&bench);
}

/* Nothing that leads into the house is connected to, by name or by number, in either form of request. */
static void test_refuses(void) {
  static const char *const targets[] = {
      "127.0.0.1:80", "169.254.169.254:80", "[::1]:80",   "10.0.0.1:80", "trap.test:80", "six.test:443", "meta.test:80",
      "localhost:80", "[::ffff:7f00:1]:80", "0.0.0.0:80", "web.test:80", "1.1.1.1:22",   "1.1.1.1:8080"};
  Bench bench = {0};
  bench_open(&bench);
  for (guint i = 0; i < G_N_ELEMENTS(targets); i++) {
    g_autofree char *connect = g_strdup_printf("CONNECT %s HTTP/1.1\r\n\r\n", targets[i]);
    g_autofree char *get = g_strdup_printf("GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", targets[i]);
    g_autofree char *first = once(&bench, connect), *second = once(&bench, get);
    g_test_message("%s: %.20s", targets[i], first);
    g_assert_true(g_str_has_prefix(first, "HTTP/1.1 403"));
    g_assert_true(g_str_has_prefix(second, "HTTP/1.1 403"));
  }
  g_assert_cmpuint(bench.server.requests, ==, 0);
  g_autofree char *hosts = proxy_take_hosts(bench.proxy);
  g_assert_nonnull(strstr(hosts, "trap.test (a private address)"));
  g_assert_nonnull(strstr(hosts, "169.254.169.254 (a link-local address)"));
  bench_close(&bench);
}

static void test_bad_requests(void) {
  static const char *const bad[] = {
      "GET / HTTP/1.1\r\n\r\n",
      "GET ftp://web.test/ HTTP/1.1\r\n\r\n",
      "CONNECT  HTTP/1.1\r\n\r\n",
      "CONNECT web.test:0 HTTP/1.1\r\n\r\n",
      "CONNECT web.test:99999 HTTP/1.1\r\n\r\n",
      "CONNECT web test:80 HTTP/1.1\r\n\r\n",
      "GET http://user@web.test/ HTTP/1.1\r\n\r\n",
      "GET http://web.test/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
      "GET http://web.test/ HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
      "GET http://web.test/ HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
      "GET http://web.test/ HTTP/1.1\r\nHost: a\r\n\r\nGET http://web.test/ HTTP/1.1\r\n\r\n",
      "\r\n\r\n"};
  Bench bench = {0};
  bench_open(&bench);
  for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
    g_autofree char *said = once(&bench, bad[i]);
    if (!g_str_has_prefix(said, "HTTP/1.1 400"))
      g_error("%s: %s", bad[i], said);
  }
  g_autofree char *long_line = g_strnfill(20000, 'a'), *head = g_strconcat("GET ", long_line, NULL);
  g_autofree char *said = once(&bench, head);
  g_assert_true(g_str_has_prefix(said, "HTTP/1.1 400") || *said == '\0'); /* it is cut while it still sends */
  g_assert_cmpuint(bench.server.requests, ==, 0);
  bench_close(&bench);
}

/* More connections than it takes are cut at once, and those that wait go with it. */
static void test_many(void) {
  Bench bench = {0};
  bench_open(&bench);
  g_autoptr(GPtrArray) open = g_ptr_array_new_with_free_func(g_object_unref);
  for (guint i = 0; i < 80; i++) {
    g_ptr_array_add(open, dial(&bench));
    while (g_main_context_iteration(NULL, FALSE))
      ;
  }
  g_assert_cmpuint(proxy_connections(bench.proxy), ==, 64);
  bench_close(&bench);
  while (g_main_context_iteration(NULL, FALSE))
    ;
}

int main(int argc, char **argv) {
  alarm(120);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/proxy/addresses", test_addresses);
  g_test_add_func("/proxy/passes", test_passes);
  g_test_add_func("/proxy/refuses", test_refuses);
  g_test_add_func("/proxy/bad-requests", test_bad_requests);
  g_test_add_func("/proxy/many", test_many);
  return g_test_run();
}
