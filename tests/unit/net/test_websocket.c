#include <libsoup/soup.h>
#include "base/metrics.h"
#include "frames.h"
#include "net/http_server.h"
#include "raw.h"

typedef struct {
  ChoirHub *hub;
  ChoirHttpServer *server;
  guint16 port;
  ChoirWebSocketHandlers handlers;
  ChoirWebSocket *ws;
  GString *got;
  guint closed, writable;
  guint code;
  gboolean echo, greet;
} World;

static void on_message(ChoirWebSocket *ws, gboolean is_text, const char *data, gsize length, gpointer user) {
  World *world = user;
  g_string_append_printf(world->got, "%s:%.40s\n", is_text ? "t" : "b", data);
  if (strcmp(data, "close me") == 0)
    choir_websocket_close(ws, 4000, "as you wish");
  if (world->echo)
    g_assert_true(is_text ? choir_websocket_send_text(ws, data, (gssize)length)
                          : choir_websocket_send_binary(ws, data, length));
}

static void on_closed(ChoirWebSocket *ws, guint16 code, gpointer user) {
  World *world = user;
  world->closed++;
  world->code = code;
  world->ws = NULL;
  g_assert_false(choir_websocket_send_text(ws, "too late", -1));
}

static void on_writable(ChoirWebSocket *ws, gpointer user) {
  ((World *)user)->writable++;
}

static void handle(ChoirHttpRequest *request, gpointer user) {
  World *world = user;
  world->ws = choir_http_upgrade(request, "choir", &world->handlers, world);
  if (world->ws != NULL && world->greet)
    g_assert_true(choir_websocket_send_text(world->ws, "welcome", -1)); /* before the socket is ours */
}

static void setup(World *world, gconstpointer data) {
  g_autoptr(GError) error = NULL;
  ChoirHttpServerOptions options = {.address = "127.0.0.1", .header_deadline_ms = 800};
  world->handlers = (ChoirWebSocketHandlers){.message = on_message,
                                             .closed = on_closed,
                                             .writable = on_writable,
                                             .max_message = 100000,
                                             .max_queue = 100000,
                                             .stall_ms = 400};
  world->hub = choir_hub_new(NULL);
  world->server = choir_http_server_new(world->hub, &options, &error);
  g_assert_no_error(error);
  world->port = choir_http_server_port(world->server);
  world->got = g_string_new(NULL);
  choir_http_server_route(world->server, "GET", "/ws", handle, world);
  choir_http_server_route(world->server, "POST", "/ws", handle, world);
}

static void teardown(World *world, gconstpointer data) {
  choir_http_server_free(world->server);
  choir_hub_free(world->hub);
  g_string_free(world->got, TRUE);
  if (world->ws != NULL)
    g_error("a WebSocket outlived its server");
}

#define HANDSHAKE                                                                                                      \
  "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: "    \
  "13\r\n"                                                                                                             \
  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

static int open_raw(World *world) {
  int fd = raw_connect(world->port);
  raw_say(fd, HANDSHAKE);
  g_autofree char *answer = raw_read(fd, "\r\n\r\n");
  g_assert_true(g_str_has_prefix(answer, "HTTP/1.1 101 "));
  g_assert_nonnull(
      strstr(answer, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n")); /* the RFC's own example */
  WAIT_UNTIL(world->ws != NULL, 1000);
  return fd;
}

static void say_frames(int fd, GByteArray *frames) {
  g_assert_true(raw_send(fd, frames->data, frames->len, 3000));
  g_byte_array_set_size(frames, 0);
}

static double dropped(void) {
  return choir_metric_value(choir_counter("choir_ws_dropped_total", NULL, NULL));
}

static void test_bad_handshakes(World *world, gconstpointer data) {
  static const char *const cases[][2] = {
      {"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "426"},
      {"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: "
       "8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
       "426"},
      {"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
       "400"},
      {"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: "
       "13\r\nSec-WebSocket-Key: short\r\n\r\n",
       "400"},
      {"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nSec-WebSocket-Version: "
       "13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
       "426"},
      {"POST /ws HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: Upgrade\r\nUpgrade: "
       "websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
       "400"},
  };
  for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
    int fd = raw_connect(world->port);
    raw_say(fd, cases[i][0]);
    g_autofree char *answer = raw_read(fd, "bad_handshake"), *first = g_strdup_printf("HTTP/1.1 %s ", cases[i][1]);
    if (!g_str_has_prefix(answer, first))
      g_error("case %u: %s", i, answer);
    g_assert_null(world->ws);
    close(fd);
  }
  g_assert_cmpuint(world->closed, ==, 0);
}

static void test_talk(World *world, gconstpointer data) {
  g_autoptr(GByteArray) out = g_byte_array_new();
  world->echo = TRUE;
  int fd = open_raw(world);
  frame_text(out, "hello");
  frame_append(out, 0x01, "a", 1, TRUE);
  frame_append(out, 0x80, "b", 1, TRUE);
  say_frames(fd, out);
  g_autofree char *answer = raw_read(fd, "\x81\x02"
                                         "ab");
  g_assert_true(g_str_has_prefix(answer, "\x81\x05hello"));
  wait_ms(1000); /* past the deadline for requests: it does not hold for sockets */
  frame_close(out, 1000);
  say_frames(fd, out);
  g_autofree char *end = raw_read(fd, NULL);
  g_assert_true(g_str_has_prefix(end, "\x88\x02\x03\xe8"));
  g_assert_cmpuint(world->closed, ==, 1);
  g_assert_cmpuint(world->code, ==, 1000);
  close(fd);
  WAIT_UNTIL(choir_http_server_connections(world->server) == 0, 1000);
}

/* Frames behind the handshake in the same segment, and words of ours before the upgrade is through. */
static void test_early(World *world, gconstpointer data) {
  g_autoptr(GByteArray) out = g_byte_array_new();
  world->greet = TRUE;
  g_byte_array_append(out, (const guint8 *)HANDSHAKE, sizeof HANDSHAKE - 1);
  frame_text(out, "early");
  int fd = raw_connect(world->port);
  say_frames(fd, out);
  g_autofree char *answer = raw_read(fd, "welcome");
  WAIT_UNTIL(strcmp(world->got->str, "t:early\n") == 0, 1000);
  close(fd);
  WAIT_UNTIL(world->closed == 1, 1000);
  g_assert_cmpuint(world->code, ==, 1006);
}

static void test_gone_in_handshake(World *world, gconstpointer data) {
  int fd = raw_connect(world->port);
  raw_say(fd, HANDSHAKE);
  struct linger linger = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
  close(fd);
  WAIT_UNTIL(choir_http_server_connections(world->server) == 0, 1000);
  wait_ms(50);
  g_assert_null(world->ws);
}

static void test_closed_by_us(World *world, gconstpointer data) {
  g_autoptr(GByteArray) out = g_byte_array_new();
  int fd = open_raw(world);
  frame_text(out, "close me");
  frame_text(out, "ignored");
  say_frames(fd, out);
  g_autofree char *answer = raw_read(fd, "as you wish");
  g_assert_cmpstr(world->got->str, ==, "t:close me\n");
  g_assert_cmpuint(world->closed, ==, 0); /* waits for the peer's frame */
  frame_close(out, 4000);
  say_frames(fd, out);
  WAIT_UNTIL(world->closed == 1, 1000);
  g_assert_cmpuint(world->code, ==, 4000);
  close(fd);
  fd = open_raw(world); /* and with a peer that never answers the close */
  choir_websocket_close(world->ws, 1001, "going");
  WAIT_UNTIL(world->closed == 2, 4000);
  g_assert_cmpuint(world->code, ==, 1001);
  close(fd);
}

static void test_violation(World *world, gconstpointer data) {
  g_autoptr(GByteArray) out = g_byte_array_new();
  int fd = open_raw(world);
  frame_append(out, 0x82, NULL, 200000, TRUE); /* over the limit, with a lot behind it */
  guint8 junk[50000] = {0};
  g_byte_array_append(out, junk, sizeof junk);
  (void)raw_send(fd, out->data, out->len, 1000);
  g_autofree char *answer = raw_read(fd, "message too big"); /* it can still be read */
  g_assert_true(g_str_has_prefix(answer, "\x88"));
  WAIT_UNTIL(world->closed == 1, 4000);
  g_assert_cmpuint(world->code, ==, 1009);
  close(fd);
  fd = open_raw(world);
  g_byte_array_set_size(out, 0);
  frame_append(out, 0x81, "x", 1, FALSE);
  say_frames(fd, out);
  raw_expect_closed(fd, 1000);
  close(fd);
  WAIT_UNTIL(world->closed == 2, 1000);
  g_assert_cmpuint(world->code, ==, 1002);
  g_assert_cmpuint(world->got->len, ==, 0);
}

/* A peer that stops reading: the queue is bounded, drops are counted, and after stall_ms it is cut. */
static void test_stalled(World *world, gconstpointer data) {
  g_autofree char *text = g_strnfill(10000, 'x');
  double before = dropped();
  int fd = open_raw(world);
  guint refused = 0;
  for (guint i = 0; i < 10000 && refused < 5; i++) {
    refused += !choir_websocket_send_text(world->ws, text, 10000);
    g_assert_cmpuint(choir_websocket_queued(world->ws), <=, 101000);
    g_main_context_iteration(NULL, FALSE);
  }
  g_assert_cmpuint(refused, ==, 5);
  g_assert_cmpfloat(dropped() - before, ==, 5);
  gint64 start = g_get_monotonic_time();
  WAIT_UNTIL(world->closed == 1, 2000);
  g_assert_cmpint(g_get_monotonic_time() - start, >=, 250000);
  g_assert_cmpuint(world->code, ==, 1006);
  close(fd);
}

/* Slow is not stalled: one that reads a little now and then is kept, and told when there is room again. */
static void test_slow_reader(World *world, gconstpointer data) {
  g_autofree char *text = g_strnfill(10000, 'x');
  world->handlers.stall_ms = 1000;
  int fd = open_raw(world);
  while (choir_websocket_send_text(world->ws, text, 10000))
    g_main_context_iteration(NULL, FALSE);
  char chunk[65536];
  gint64 end = g_get_monotonic_time() + 2500000;
  while (g_get_monotonic_time() < end) {
    while (choir_websocket_send_text(world->ws, text, 10000))
      continue;
    for (guint i = 0; i < 4; i++)
      g_assert_cmpint(recv(fd, chunk, sizeof chunk, 0), !=, 0);
    wait_ms(50);
  }
  g_assert_cmpuint(world->closed, ==, 0);
  while (choir_websocket_send_text(world->ws, text, 10000))
    g_main_context_iteration(NULL, FALSE);
  guint writable = world->writable;
  for (guint i = 0; i < 2000 && world->writable == writable; i++) {
    while (recv(fd, chunk, sizeof chunk, 0) > 0)
      continue;
    wait_ms(1);
  }
  g_assert_cmpuint(world->writable, ==, writable + 1);
  g_assert_true(choir_websocket_send_text(world->ws, text, 10000));
  close(fd);
  WAIT_UNTIL(world->closed == 1, 1000);
}

/* Pings without reading the pongs must not fill our memory. */
static void test_ping_flood(World *world, gconstpointer data) {
  g_autoptr(GByteArray) out = g_byte_array_new();
  int fd = open_raw(world), size = 4096;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
  g_autofree char *payload = g_strnfill(100, 'p');
  for (guint i = 0; i < 500; i++)
    frame_append(out, 0x89, payload, 100, TRUE);
  guint most = 0;
  gint64 end = g_get_monotonic_time() + 3 * G_USEC_PER_SEC;
  while (world->closed == 0 && g_get_monotonic_time() < end) {
    (void)send(fd, out->data, out->len, MSG_NOSIGNAL); /* partial frames are fine here: it is cut before that matters */
    g_main_context_iteration(NULL, FALSE);
    if (world->ws != NULL)
      most = MAX(most, (guint)choir_websocket_queued(world->ws));
  }
  g_assert_cmpuint(most, <, 500000);
  close(fd);
  WAIT_UNTIL(world->closed == 1, 3000);
}

static void test_silent_peer(World *world, gconstpointer data) {
  world->handlers.ping_s = 1;
  int fd = open_raw(world);
  Raw raw = {g_string_new(NULL), FALSE};
  gint64 start = g_get_monotonic_time();
  WAIT_UNTIL(raw_has(fd, &raw, NULL), 5000); /* it reads, but answers no ping */
  g_assert_cmpuint(raw.text->len, ==, 4);
  g_assert_cmpmem(raw.text->str, 4, "\x89\x00\x89\x00", 4);
  g_assert_cmpint(g_get_monotonic_time() - start, >=, 2900000);
  g_string_free(raw.text, TRUE);
  close(fd);
  WAIT_UNTIL(world->closed == 1, 1000);
  g_assert_cmpuint(world->code, ==, 1006);
}

static void test_server_freed(World *world, gconstpointer data) {
  int fds[5];
  for (guint i = 0; i < G_N_ELEMENTS(fds); i++)
    fds[i] = open_raw(world);
  g_clear_pointer(&world->server, choir_http_server_free);
  g_assert_cmpuint(world->closed, ==, 5);
  for (guint i = 0; i < G_N_ELEMENTS(fds); i++) {
    g_autofree char *answer = raw_read(fds[i], NULL);
    g_assert_true(g_str_has_prefix(answer, "\x88\x02\x03\xe9")); /* 1001, going away */
    close(fds[i]);
  }
}

/* Every metric of the room, as the tests before have filled them. */
static void test_metrics(World *world, gconstpointer data) {
  g_autofree char *promtool = g_find_program_in_path("promtool"), *text = choir_metrics_text(), *path = NULL;
  if (promtool == NULL) {
    g_test_skip("promtool is not installed");
    return;
  }
  close(g_file_open_tmp("choir-metrics-XXXXXX", &path, NULL));
  g_assert_true(g_file_set_contents(path, text, -1, NULL));
  g_autofree char *command = g_strdup_printf("%s check metrics < %s", promtool, path), *output = NULL, *errors = NULL;
  char *argv[] = {(char *)"sh", (char *)"-c", command, NULL};
  int status = 0;
  g_assert_true(g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &output, &errors, &status, NULL));
  unlink(path);
  if (status != 0)
    g_error("promtool: %s%s\n%s", output, errors, text);
  g_assert_nonnull(strstr(text, "choir_ws_cut_total{reason=\"stalled\"}"));
}

/* A client that nobody here wrote. */
typedef struct {
  SoupWebsocketConnection *connection;
  guint messages, closed;
  gsize last;
} Client;

static void on_client_message(SoupWebsocketConnection *connection, gint type, GBytes *bytes, gpointer user) {
  Client *client = user;
  client->messages++;
  client->last = g_bytes_get_size(bytes);
}

static void on_client_closed(SoupWebsocketConnection *connection, gpointer user) {
  ((Client *)user)->closed++;
}

static void on_client_open(GObject *source, GAsyncResult *result, gpointer user) {
  Client *client = user;
  g_autoptr(GError) error = NULL;
  client->connection = soup_session_websocket_connect_finish(SOUP_SESSION(source), result, &error);
  g_assert_no_error(error);
  g_signal_connect(client->connection, "message", G_CALLBACK(on_client_message), client);
  g_signal_connect(client->connection, "closed", G_CALLBACK(on_client_closed), client);
}

static void test_soup(World *world, gconstpointer data) {
  g_autoptr(SoupSession) session = soup_session_new();
  g_autofree char *url = g_strdup_printf("ws://127.0.0.1:%u/ws", world->port), *text = g_strnfill(90000, 'x');
  g_autoptr(SoupMessage) message = soup_message_new("GET", url);
  char *protocols[] = {(char *)"other", (char *)"choir", NULL};
  Client client = {0};
  world->echo = TRUE;
  soup_session_websocket_connect_async(session, message, NULL, protocols, G_PRIORITY_DEFAULT, NULL, on_client_open,
                                       &client);
  WAIT_UNTIL(client.connection != NULL, 2000);
  g_assert_cmpstr(soup_websocket_connection_get_protocol(client.connection), ==, "choir");
  for (guint i = 0; i < 50; i++) {
    soup_websocket_connection_send_text(client.connection, text);
    WAIT_UNTIL(client.messages == 2 * i + 1, 2000);
    g_assert_cmpuint(client.last, ==, 90000);
    soup_websocket_connection_send_binary(client.connection, text, 640);
    WAIT_UNTIL(client.messages == 2 * i + 2, 2000);
    g_assert_cmpuint(client.last, ==, 640);
  }
  g_assert_true(
      choir_websocket_send_text(world->ws, "bad \xff byte", -1)); /* mended: a browser would fail the connection */
  WAIT_UNTIL(client.messages == 101, 2000);
  soup_websocket_connection_close(client.connection, 1000, NULL);
  WAIT_UNTIL(world->closed == 1 && client.closed == 1, 2000);
  g_assert_cmpuint(world->code, ==, 1000);
  g_object_unref(client.connection);
}

int main(int argc, char **argv) {
  alarm(100);
  g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add("/websocket/" name, World, NULL, setup, function, teardown)
  ADD("bad-handshakes", test_bad_handshakes);
  ADD("talk", test_talk);
  ADD("early", test_early);
  ADD("gone-in-handshake", test_gone_in_handshake);
  ADD("closed-by-us", test_closed_by_us);
  ADD("violation", test_violation);
  ADD("stalled", test_stalled);
  ADD("slow-reader", test_slow_reader);
  ADD("ping-flood", test_ping_flood);
  ADD("silent-peer", test_silent_peer);
  ADD("server-freed", test_server_freed);
  ADD("soup", test_soup);
  ADD("metrics", test_metrics);
  return g_test_run();
}
