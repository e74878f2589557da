/* The client against a Consul in this process that waits, changes, refuses, lies and goes away. */
#include <glib/gstdio.h>
#include <libsoup/soup.h>
#include <string.h>
#include <unistd.h>
#include "base/text.h"
#include "cluster/consul.h"

typedef struct {
  SoupServer *server;
  guint port, asked;
  guint64 index;
  const char *body;
  guint status;
  const char *token;          /* that is accepted; NULL = any */
  SoupServerMessage *waiting; /* a blocking query */
  char *last_path;
} Mock;

static void answer(Mock *mock, SoupServerMessage *message) {
  g_autofree char *index = g_strdup_printf("%" G_GUINT64_FORMAT, mock->index);
  const char *token = soup_message_headers_get_one(soup_server_message_get_request_headers(message), "X-Consul-Token");
  gboolean refused = mock->token && g_strcmp0(token, mock->token) != 0;
  const char *body = refused ? "ACL not found" : mock->body;
  soup_message_headers_append(soup_server_message_get_response_headers(message), "X-Consul-Index", index);
  soup_server_message_set_status(message, refused ? 403 : mock->status, NULL);
  soup_server_message_set_response(message, "application/json", SOUP_MEMORY_COPY, body, strlen(body));
}

static void on_request(SoupServer *server, SoupServerMessage *message, const char *path, GHashTable *query,
                       gpointer user) {
  Mock *mock = user;
  const char *index = query ? g_hash_table_lookup(query, "index") : NULL;
  mock->asked++;
  g_free(mock->last_path);
  mock->last_path = g_strdup(path);
  if (index && g_ascii_strtoull(index, NULL, 10) == mock->index && mock->status == 200) {
    mock->waiting = message;
    soup_server_message_pause(message);
  } else {
    answer(mock, message);
  }
}

static void on_left(SoupServer *server, SoupServerMessage *message, gpointer user) {
  Mock *mock = user;
  if (mock->waiting == message)
    mock->waiting = NULL;
}

static void mock_listen(Mock *mock) {
  g_autoptr(GError) error = NULL;
  mock->server = soup_server_new(NULL, NULL);
  soup_server_add_handler(mock->server, NULL, on_request, mock, NULL);
  g_signal_connect(mock->server, "request-aborted", G_CALLBACK(on_left), mock);
  soup_server_listen_local(mock->server, mock->port, SOUP_SERVER_LISTEN_IPV4_ONLY, &error);
  g_assert_no_error(error);
  GSList *uris = soup_server_get_uris(mock->server);
  mock->port = (guint)g_uri_get_port(uris->data);
  g_slist_free_full(uris, (GDestroyNotify)g_uri_unref);
}

static void mock_close(Mock *mock) {
  soup_server_disconnect(mock->server);
  mock->waiting = NULL;
  g_clear_object(&mock->server);
}

static void mock_change(Mock *mock, const char *body) {
  mock->index++;
  mock->body = body;
  if (mock->waiting) {
    SoupServerMessage *message = g_steal_pointer(&mock->waiting);
    answer(mock, message);
    soup_server_message_unpause(message);
  }
}

typedef struct {
  guint answers, errors;
  char *last; /* the answer or the error's message */
  int code;
} Seen;

static void on_changed(const json_t *json, const GError *error, gpointer user) {
  Seen *seen = user;
  g_free(seen->last);
  seen->last = error ? g_strdup(error->message) : choir_json_dump(json);
  seen->code = error ? error->code : -1;
  if (error)
    seen->errors++;
  else
    seen->answers++;
}

static gboolean tick(gpointer user) {
  return G_SOURCE_CONTINUE;
}

#define UNTIL(condition)                                                                                               \
  do {                                                                                                                 \
    guint ticker = g_timeout_add(10, tick, NULL);                                                                      \
    gint64 end = g_get_monotonic_time() + 40 * G_USEC_PER_SEC;                                                         \
    while (!(condition) && g_get_monotonic_time() < end)                                                               \
      g_main_context_iteration(NULL, TRUE);                                                                            \
    g_source_remove(ticker);                                                                                           \
    g_assert_true(condition);                                                                                          \
  } while (0)

static ChoirConsul *consul_new(const Mock *mock, const char *file, const char *token) {
  g_autofree char *url = g_strdup_printf("127.0.0.1:%u/", mock->port);
  return choir_consul_new(&(ChoirConsulOptions){.url = url, .token_file = file, .token = token});
}

static void end(Mock *mock, Seen *seen, ChoirConsul *consul) {
  choir_consul_free(consul);
  if (mock->server)
    mock_close(mock);
  for (guint i = 0; i < 50; i++)
    g_main_context_iteration(NULL, FALSE);
  g_free(mock->last_path);
  g_free(seen->last);
}

static void test_watch(void) {
  Mock mock = {.index = 5, .body = "{\"consul\":[]}", .status = 200};
  Seen seen = {0};
  mock_listen(&mock);
  ChoirConsul *consul = consul_new(&mock, NULL, NULL);
  choir_consul_watch(consul, "/v1/catalog/services", on_changed, &seen);
  UNTIL(seen.answers == 1 && mock.waiting);
  g_assert_cmpstr(seen.last, ==, "{\"consul\":[]}");
  g_assert_cmpuint(mock.asked, ==, 2); /* the second one waits at the server */
  mock_change(&mock, "{\"a\":[]}");
  UNTIL(seen.answers == 2 && mock.waiting);
  g_assert_cmpstr(seen.last, ==, "{\"a\":[]}");
  g_assert_null(choir_consul_problem(consul));
  end(&mock, &seen, consul);
}

static void test_down_and_back(void) {
  Mock mock = {.index = 5, .body = "{\"a\":[]}", .status = 200};
  Seen seen = {0};
  mock_listen(&mock);
  ChoirConsul *consul = consul_new(&mock, NULL, NULL);
  ChoirConsulWatch *watch = choir_consul_watch(consul, "/v1/catalog/services", on_changed, &seen);
  UNTIL(seen.answers == 1 && mock.waiting);
  gint64 answered = choir_consul_watch_answered_us(watch);
  mock_close(&mock);
  UNTIL(seen.errors >= 1);
  g_assert_cmpint(seen.code, ==, CHOIR_CONSUL_ERROR_AWAY);
  g_assert_nonnull(strstr(choir_consul_problem(consul), "Consul does not answer"));
  g_assert_cmpint(choir_consul_watch_answered_us(watch), ==, answered); /* its age grows */
  mock_listen(&mock);
  UNTIL(seen.answers == 2);
  g_assert_null(choir_consul_problem(consul));
  end(&mock, &seen, consul);
}

static void test_refused(void) {
  Mock mock = {.index = 5, .body = "{\"a\":[]}", .status = 200, .token = "right-token"};
  Seen seen = {0};
  g_autofree char *dir = g_dir_make_tmp("choir-consul-XXXXXX", NULL);
  g_autofree char *file = g_build_filename(dir, "token", NULL);
  g_assert_true(g_file_set_contents(file, "wrong-token\n", -1, NULL));
  mock_listen(&mock);
  ChoirConsul *consul = consul_new(&mock, file, NULL);
  choir_consul_watch(consul, "/v1/catalog/services", on_changed, &seen);
  UNTIL(seen.errors >= 1);
  g_assert_cmpint(seen.code, ==, CHOIR_CONSUL_ERROR_DENIED);
  g_assert_nonnull(strstr(seen.last, "ACL not found"));
  g_assert_nonnull(strstr(seen.last, "consul_token_file"));
  g_assert_null(strstr(seen.last, "wrong-token"));
  g_assert_true(g_file_set_contents(file, "right-token\n", -1, NULL));
  UNTIL(seen.answers == 1 && mock.waiting);
  /* While a question waits at the server, another token is seen too. */
  guint asked = mock.asked;
  g_assert_true(g_file_set_contents(file, "wrong-token-again\n", -1, NULL));
  UNTIL(mock.asked > asked && seen.code == CHOIR_CONSUL_ERROR_DENIED);
  end(&mock, &seen, consul);
  g_unlink(file);
  g_rmdir(dir);
}

static void test_not_consul(void) {
  Mock mock = {.index = 5, .body = "<html>router</html>", .status = 200};
  Seen seen = {0};
  mock_listen(&mock);
  ChoirConsul *consul = consul_new(&mock, NULL, "token-of-the-environment");
  g_assert_true(choir_consul_has_token(consul));
  choir_consul_watch(consul, "/v1/catalog/services", on_changed, &seen);
  UNTIL(seen.errors == 1);
  g_assert_cmpint(seen.code, ==, CHOIR_CONSUL_ERROR_ANSWER);
  mock.status = 500;
  UNTIL(seen.errors == 2);
  g_assert_cmpint(seen.code, ==, CHOIR_CONSUL_ERROR_AWAY);
  end(&mock, &seen, consul);
}

static void test_get(void) {
  Mock mock = {.index = 5, .body = "[1]", .status = 200};
  Seen seen = {0};
  mock_listen(&mock);
  ChoirConsul *consul = consul_new(&mock, NULL, NULL);
  choir_consul_get(consul, "/v1/catalog/nodes", 5000, on_changed, &seen);
  UNTIL(seen.answers == 1);
  g_assert_cmpstr(mock.last_path, ==, "/v1/catalog/nodes");
  /* It goes while a question and a watch are under way: nobody is told any more. */
  choir_consul_get(consul, "/v1/catalog/nodes", 5000, on_changed, &seen);
  ChoirConsulWatch *watch = choir_consul_watch(consul, "/v1/a", on_changed, &seen);
  UNTIL(seen.answers >= 3 && mock.waiting);
  choir_consul_unwatch(watch);
  choir_consul_watch(consul, "/v1/b", on_changed, &seen);
  choir_consul_get(consul, "/v1/catalog/nodes", 5000, on_changed, &seen);
  end(&mock, &seen, consul);
  g_assert_cmpuint(seen.answers, ==, 3);
  g_assert_cmpuint(seen.errors, ==, 0);
}

static void test_address(void) {
  g_autofree char *a = choir_consul_address("10.0.0.1:8500/"), *b = choir_consul_address("https://c");
  g_assert_cmpstr(a, ==, "http://10.0.0.1:8500");
  g_assert_cmpstr(b, ==, "https://c");
}

int main(int argc, char **argv) {
  alarm(100);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/consul/watch", test_watch);
  g_test_add_func("/consul/down-and-back", test_down_and_back);
  g_test_add_func("/consul/refused", test_refused);
  g_test_add_func("/consul/not-consul", test_not_consul);
  g_test_add_func("/consul/get", test_get);
  g_test_add_func("/consul/address", test_address);
  return g_test_run();
}
