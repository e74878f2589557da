#include <libsoup/soup.h>
#include <netinet/tcp.h>
#include "net/http_client.h"
#include "raw.h"

typedef struct {
  ChoirHttpClient *client;
  int listener; /* a server of nothing but sockets */
  guint16 port;
  char *url;
  guint done, events;
  guint status;
  char *body, *last_event, *all;
  GError *error;
  GCancellable *cancel, *cancel_at_event;
} World;

static void on_done(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  World *world = user;
  world->done++;
  world->status = status;
  g_free(world->body);
  world->body = body != NULL ? g_strndup(body, length) : NULL;
  g_clear_error(&world->error);
  world->error = error != NULL ? g_error_copy(error) : NULL;
}

static void on_data(const char *event, const char *data, gsize length, gpointer user) {
  World *world = user;
  world->events++;
  g_assert_cmpuint(strlen(data), ==, length);
  g_free(world->last_event);
  world->last_event = g_strdup_printf("%s=%s", event, data);
  if (world->cancel_at_event != NULL)
    g_cancellable_cancel(world->cancel_at_event);
}

static void setup(World *world, gconstpointer data) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  world->client = choir_http_client_new();
  world->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  g_assert_cmpint(bind(world->listener, (struct sockaddr *)&address, length), ==, 0);
  g_assert_cmpint(listen(world->listener, 16), ==, 0);
  getsockname(world->listener, (struct sockaddr *)&address, &length);
  world->port = ntohs(address.sin_port);
  world->url = g_strdup_printf("http://127.0.0.1:%u/path", world->port);
  world->cancel = g_cancellable_new();
}

static void teardown(World *world, gconstpointer data) {
  choir_http_client_free(world->client);
  close(world->listener);
  g_free(world->url);
  g_free(world->body);
  g_free(world->last_event);
  g_clear_error(&world->error);
  g_object_unref(world->cancel);
}

static int take_one(World *world) {
  int fd = accept4(world->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  return fd;
}

/* The next connection, and what it asked. */
static int serve(World *world, const char *end_of_request, char **ret_request) {
  int fd = -1;
  WAIT_UNTIL((fd = take_one(world)) >= 0, 3000);
  char *request = raw_read(fd, end_of_request);
  if (ret_request != NULL)
    *ret_request = request;
  else
    g_free(request);
  return fd;
}

static void get(World *world, guint timeout_ms, gsize max_body) {
  choir_http_request(world->client, "GET", world->url, NULL, NULL, 0, "X-One: 1\nX-Two: 2", timeout_ms, max_body,
                     world->cancel, on_done, world);
}

static void stream(World *world, guint idle_ms) {
  choir_http_stream(world->client, world->url, "{\"a\":1}", 7, NULL, idle_ms, world->cancel, on_data, on_done, world);
}

#define SSE_HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n"
#define SSE_CHUNKED "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

static void test_get(World *world, gconstpointer data) {
  g_autofree char *request = NULL;
  get(world, 2000, 0);
  int fd = serve(world, "\r\n\r\n", &request);
  g_assert_true(g_str_has_prefix(request, "GET /path HTTP/1.1\r\n"));
  g_assert_nonnull(strstr(request, "X-Two: 2\r\n"));
  raw_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel");
  wait_ms(30);
  raw_say(fd, "lo");
  WAIT_UNTIL(world->done == 1, 1000);
  g_assert_no_error(world->error);
  g_assert_cmpstr(world->body, ==, "hello");
  get(world, 2000, 0); /* on the same connection */
  g_autofree char *again = raw_read(fd, "\r\n\r\n");
  raw_say(fd, "HTTP/1.1 204 No Content\r\n\r\n");
  WAIT_UNTIL(world->done == 2, 1000);
  g_assert_cmpuint(world->status, ==, 204);
  g_assert_cmpstr(world->body, ==, "");
  close(fd);
}

static void test_post(World *world, gconstpointer data) {
  g_autofree char *request = NULL;
  choir_http_request(world->client, "POST", world->url, "text/plain", "the body", 8, NULL, 2000, 0, NULL, on_done,
                     world);
  int fd = serve(world, "the body", &request);
  g_assert_nonnull(strstr(request, "Content-Type: text/plain\r\n"));
  raw_say(fd, "HTTP/1.1 503 Busy\r\nContent-Length: "
              "52\r\n\r\n{\"error\":{\"type\":\"t\",\"code\":1,\"message\":\"loading\"}}\n");
  WAIT_UNTIL(world->done == 1, 1000);
  g_assert_error(world->error, CHOIR_HTTP_ERROR, CHOIR_HTTP_ERROR_STATUS);
  g_assert_nonnull(strstr(world->error->message, "answered 503: loading"));
  g_assert_cmpuint(world->status, ==, 503);
  g_assert_nonnull(strstr(world->body, "loading"));
  close(fd);
}

static void test_failures(World *world, gconstpointer data) {
  get(world, 200, 0); /* no answer */
  int fd = serve(world, "\r\n\r\n", NULL);
  WAIT_UNTIL(world->done == 1, 1000);
  g_assert_error(world->error, CHOIR_HTTP_ERROR, CHOIR_HTTP_ERROR_TIMEOUT);
  raw_expect_closed(fd, 1000);
  close(fd);
  get(world, 300, 0); /* bytes keep coming, the whole takes too long */
  fd = serve(world, "\r\n\r\n", NULL);
  raw_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n");
  for (guint i = 0; i < 100 && world->done == 1; i++) {
    (void)raw_send(fd, "x", 1, 10);
    wait_ms(10);
  }
  g_assert_cmpuint(world->done, ==, 2);
  g_assert_error(world->error, CHOIR_HTTP_ERROR, CHOIR_HTTP_ERROR_TIMEOUT);
  close(fd);
  get(world, 2000, 100); /* too much */
  fd = serve(world, "\r\n\r\n", NULL);
  g_autofree char *big = g_strnfill(5000, 'x'),
                  *answer = g_strdup_printf("HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n%s", big);
  raw_say(fd, answer);
  WAIT_UNTIL(world->done == 3, 1000);
  g_assert_error(world->error, CHOIR_HTTP_ERROR, CHOIR_HTTP_ERROR_LIMIT);
  g_assert_null(world->body);
  raw_expect_closed(fd, 1000);
  close(fd);
  get(world, 2000, 0); /* cut in the body */
  fd = serve(world, "\r\n\r\n", NULL);
  raw_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nabc");
  close(fd);
  WAIT_UNTIL(world->done == 4, 1000);
  g_assert_error(world->error, CHOIR_HTTP_ERROR, CHOIR_HTTP_ERROR_PROTOCOL);
  g_assert_null(world->body);
  get(world, 2000, 0); /* no HTTP at all */
  fd = serve(world, "\r\n\r\n", NULL);
  raw_say(fd, "220 mail.example.org ESMTP\r\n\r\n");
  close(fd);
  WAIT_UNTIL(world->done == 5, 1000);
  g_assert_nonnull(world->error);
  close(world->listener);
  get(world, 2000, 0); /* nobody there */
  WAIT_UNTIL(world->done == 6, 1000);
  g_assert_error(world->error, CHOIR_HTTP_ERROR, CHOIR_HTTP_ERROR_CONNECT);
  world->listener = socket(AF_INET, SOCK_STREAM, 0);
  static const char *const bad[] = {"", "ftp://x/", "http://", "not a url", "file:///etc/passwd"};
  for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
    choir_http_request(world->client, "GET", bad[i], NULL, NULL, 0, NULL, 1000, 0, NULL, on_done, world);
    g_assert_cmpuint(world->done, ==, 6 + i); /* never inside the call */
    WAIT_UNTIL(world->done == 7 + i, 1000);
    g_assert_error(world->error, CHOIR_HTTP_ERROR, CHOIR_HTTP_ERROR_PROTOCOL);
  }
}

/* A redirect is the answer, not an order. */
static void test_redirect(World *world, gconstpointer data) {
  get(world, 2000, 0);
  int fd = serve(world, "\r\n\r\n", NULL);
  raw_say(fd, "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/secret\r\nContent-Length: 0\r\n\r\n");
  WAIT_UNTIL(world->done == 1, 1000);
  g_assert_cmpuint(world->status, ==, 302);
  close(fd);
}

static void test_stream(World *world, gconstpointer data) {
  g_autofree char *request = NULL;
  stream(world, 2000);
  int fd = serve(world, "{\"a\":1}", &request);
  g_assert_nonnull(strstr(request, "Accept: text/event-stream\r\n"));
  g_assert_nonnull(strstr(request, "Content-Type: application/json\r\n"));
  raw_say(fd, SSE_CHUNKED "c\r\ndata: one\n\n\n\r\n");
  WAIT_UNTIL(world->events == 1, 1000); /* as it comes, not when the stream ends */
  g_assert_cmpstr(world->last_event, ==, "message=one");
  raw_say(fd, "10\r\nevent: e\ndata: t\r\n6\r\nwo\n\nd\n\r\n0\r\n\r\n");
  WAIT_UNTIL(world->done == 1, 1000);
  g_assert_no_error(world->error);
  g_assert_cmpuint(world->events, ==, 2);
  g_assert_cmpstr(world->last_event, ==, "e=two");
  g_assert_cmpuint(world->status, ==, 200);
  close(fd);
}

static void test_stream_failures(World *world, gconstpointer data) {
  stream(world, 2000); /* cut in the middle of an event */
  int fd = serve(world, "{\"a\":1}", NULL);
  raw_say(fd, SSE_CHUNKED "17\r\ndata: one\n\ndata: unfini\r\n");
  WAIT_UNTIL(world->events == 1, 1000);
  close(fd);
  WAIT_UNTIL(world->done == 1, 1000);
  g_assert_error(world->error, CHOIR_HTTP_ERROR, CHOIR_HTTP_ERROR_PROTOCOL);
  g_assert_cmpuint(world->events, ==, 1);
  stream(world, 2000); /* an error status: its body is in done */
  fd = serve(world, "{\"a\":1}", NULL);
  raw_say(fd, "HTTP/1.1 400 Bad\r\nContent-Type: application/json\r\nContent-Length: 28\r\n\r\n{\"error\":\"context "
              "too long\"}");
  WAIT_UNTIL(world->done == 2, 1000);
  g_assert_error(world->error, CHOIR_HTTP_ERROR, CHOIR_HTTP_ERROR_STATUS);
  g_assert_nonnull(strstr(world->error->message, "context too long"));
  g_assert_cmpstr(world->body, ==, "{\"error\":\"context too long\"}");
  close(fd);
  stream(world, 700); /* silence after a while: counted from the last byte */
  fd = serve(world, "{\"a\":1}", NULL);
  gint64 before = g_get_monotonic_time();
  raw_say(fd, SSE_HEAD);
  for (guint i = 0; i < 5; i++) {
    wait_ms(200);
    raw_say(fd, "data: x\n\n");
  }
  g_assert_cmpuint(world->done, ==, 2);
  WAIT_UNTIL(world->done == 3, 1000);
  g_assert_error(world->error, CHOIR_HTTP_ERROR, CHOIR_HTTP_ERROR_TIMEOUT);
  g_assert_cmpint(g_get_monotonic_time() - before, <, 4000000);
  close(fd);
  stream(world, 1000); /* not a stream */
  fd = serve(world, "{\"a\":1}", NULL);
  raw_say(fd, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello");
  WAIT_UNTIL(world->done == 4, 1000);
  g_assert_error(world->error, CHOIR_HTTP_ERROR, CHOIR_HTTP_ERROR_PROTOCOL);
  close(fd);
  stream(world, 2000); /* an event without end */
  fd = serve(world, "{\"a\":1}", NULL);
  g_autofree char *big = g_strnfill(100000, 'x');
  raw_say(fd, SSE_HEAD "data: ");
  for (guint i = 0; i < 20 && world->done == 4; i++)
    (void)raw_send(fd, big, 100000, 1000);
  WAIT_UNTIL(world->done == 5, 1000);
  g_assert_error(world->error, CHOIR_HTTP_ERROR, CHOIR_HTTP_ERROR_LIMIT);
  close(fd);
}

/* The server stops decoding when it sees the connection close: that must be at once, in every phase. */
static void expect_prompt_close(World *world, int fd) {
  gint64 before = g_get_monotonic_time();
  guint done = world->done;
  g_cancellable_cancel(world->cancel);
  raw_expect_closed(fd, 1000);
  g_assert_cmpint(g_get_monotonic_time() - before, <, 1000000);
  WAIT_UNTIL(world->done == done + 1, 1000);
  g_assert_error(world->error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_cancellable_reset(world->cancel);
  close(fd);
}

static void test_cancel(World *world, gconstpointer data) {
  stream(world, 5000); /* before the answer's head: a server in prefill */
  int fd = serve(world, "{\"a\":1}", NULL);
  expect_prompt_close(world, fd);
  stream(world, 5000); /* between events, chunked as llama-server sends them */
  fd = serve(world, "{\"a\":1}", NULL);
  raw_say(fd, SSE_CHUNKED "b\r\ndata: one\n\n\r\n");
  WAIT_UNTIL(world->events == 1, 1000);
  expect_prompt_close(world, fd);
  stream(world, 5000); /* in the middle of one */
  fd = serve(world, "{\"a\":1}", NULL);
  raw_say(fd, SSE_CHUNKED "100\r\ndata: half of an ev");
  wait_ms(50);
  expect_prompt_close(world, fd);
  get(world, 5000, 0);
  fd = serve(world, "\r\n\r\n", NULL);
  expect_prompt_close(world, fd);
  get(world, 5000, 0);
  fd = serve(world, "\r\n\r\n", NULL);
  raw_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nabc");
  wait_ms(30);
  expect_prompt_close(world, fd);
  g_cancellable_cancel(world->cancel); /* cancelled before it began */
  guint done = world->done;
  get(world, 5000, 0);
  g_assert_cmpuint(world->done, ==, done);
  WAIT_UNTIL(world->done == done + 1, 1000);
  g_assert_error(world->error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
}

/* No event after the one whose handler cancelled, though more were in the same bytes. */
static void test_cancel_inside(World *world, gconstpointer data) {
  world->cancel_at_event = world->cancel;
  stream(world, 5000);
  int fd = serve(world, "{\"a\":1}", NULL);
  raw_say(fd, SSE_HEAD "data: 1\n\ndata: 2\n\ndata: 3\n\n");
  WAIT_UNTIL(world->done == 1, 1000);
  g_assert_cmpuint(world->events, ==, 1);
  g_assert_error(world->error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  raw_expect_closed(fd, 500);
  close(fd);
}

static void test_free_busy(World *world, gconstpointer data) {
  stream(world, 5000);
  get(world, 5000, 0);
  int fds[2] = {serve(world, "\r\n\r\n", NULL), serve(world, "\r\n\r\n", NULL)};
  get(world, 5000, 0); /* not even connected yet */
  g_clear_pointer(&world->client, choir_http_client_free);
  g_assert_cmpuint(world->done, ==, 3);
  g_assert_error(world->error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  raw_expect_closed(fds[0], 1000);
  raw_expect_closed(fds[1], 1000);
  wait_ms(50);
  g_assert_cmpuint(world->done, ==, 3);
  close(fds[0]);
  close(fds[1]);
}

/* Twelve streams at once: the library alone would let two through. */
static void test_parallel(World *world, gconstpointer data) {
  int fds[12];
  for (guint i = 0; i < G_N_ELEMENTS(fds); i++)
    stream(world, 5000);
  for (guint i = 0; i < G_N_ELEMENTS(fds); i++) {
    fds[i] = serve(world, "{\"a\":1}", NULL);
    raw_say(fds[i], SSE_HEAD "data: x\n\n");
  }
  WAIT_UNTIL(world->events == G_N_ELEMENTS(fds), 2000);
  for (guint i = 0; i < G_N_ELEMENTS(fds); i++)
    close(fds[i]);
  WAIT_UNTIL(world->done == G_N_ELEMENTS(fds), 2000);
  g_assert_no_error(world->error);
}

/* Against a server that nobody here wrote. */
static void soup_handler(SoupServer *server, SoupServerMessage *message, const char *path, GHashTable *query,
                         gpointer user) {
  SoupMessageBody *body = soup_server_message_get_request_body(message);
  g_autoptr(GBytes) bytes = soup_message_body_flatten(body);
  soup_server_message_set_status(message, 200, NULL);
  soup_server_message_set_response(message, "text/plain", SOUP_MEMORY_COPY, g_bytes_get_data(bytes, NULL),
                                   g_bytes_get_size(bytes));
}

static void test_soup(World *world, gconstpointer data) {
  g_autoptr(SoupServer) server = soup_server_new(NULL, NULL);
  g_autoptr(GError) error = NULL;
  soup_server_add_handler(server, "/", soup_handler, NULL, NULL);
  g_assert_true(soup_server_listen_local(server, 0, SOUP_SERVER_LISTEN_IPV4_ONLY, &error));
  GSList *uris = soup_server_get_uris(server);
  g_autofree char *url = g_uri_to_string(uris->data);
  g_slist_free_full(uris, (GDestroyNotify)g_uri_unref);
  g_autofree char *big = g_strnfill(3000000, 'y');
  for (guint i = 0; i < 5; i++) {
    choir_http_request(world->client, "POST", url, "text/plain", big, strlen(big), NULL, 10000, 0, NULL, on_done,
                       world);
    WAIT_UNTIL(world->done == i + 1, 5000);
    g_assert_no_error(world->error);
    g_assert_cmpuint(strlen(world->body), ==, strlen(big));
  }
  soup_server_disconnect(server);
}

int main(int argc, char **argv) {
  alarm(100);
  g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add("/http-client/" name, World, NULL, setup, function, teardown)
  ADD("get", test_get);
  ADD("post", test_post);
  ADD("failures", test_failures);
  ADD("redirect", test_redirect);
  ADD("stream", test_stream);
  ADD("stream-failures", test_stream_failures);
  ADD("cancel", test_cancel);
  ADD("cancel-inside", test_cancel_inside);
  ADD("free-busy", test_free_busy);
  ADD("parallel", test_parallel);
  ADD("soup", test_soup);
  return g_test_run();
}
