/* The routes over real sockets and a real history; the agent, the model and the voice are fakes. */
#include <libsoup/soup.h>
#include <unistd.h>
#include "base/log.h"
#include "base/text.h"
#include "fake_house.h"
#include "fake_live.h"
#include "net/http_client.h"
#include "web/guard_roles.h"
#include "web/realtime.h"
#include "web/web.h"
#include "web/web_config.h"

static const ChoirConfigItem settings[] = {CHOIR_WEB_CONFIG_ITEMS{NULL}};

typedef struct {
  char *dir;
  ChoirHub *hub;
  ChoirHttpServer *server;
  ChoirHttpClient *http;
  ChoirConfig *config;
  ChoirHistory *history;
  ChoirWeb *web;
  SoupSession *session;
  GCancellable *leave; /* cancelled: the client closes its connections */
} Fixture;

static json_t *on_status(gpointer user) {
  return json_pack("{s:s}", "status", "Current pipeline status:\n- Task TwinService: idle");
}

static void on_use_model(const char *name, gpointer user) {
  g_assert_cmpstr(name, ==, "small");
}

static void setup(Fixture *f, gconstpointer overrides) {
  g_autoptr(GError) error = NULL;
  f->dir = g_dir_make_tmp("choir-web-XXXXXX", &error);
  g_autofree char *path = g_build_filename(f->dir, "history.db", NULL);
  f->history = choir_history_open(path, &error);
  g_assert_no_error(error);
  fake_house_init(f->history);
  f->hub = choir_hub_new(NULL);
  f->server = choir_http_server_new(f->hub, &(ChoirHttpServerOptions){.address = "127.0.0.1"}, &error);
  g_assert_no_error(error);
  f->http = choir_http_client_new();
  f->config = choir_config_load(settings, NULL, &error);
  g_assert_no_error(error);
  if (overrides)
    g_assert_true(choir_config_merge_data(f->config, overrides, strlen(overrides), "test", NULL));
  f->web = choir_web_new(&(ChoirWebOptions){.server = f->server,
                                            .http = f->http,
                                            .twin = fake_house_twin(),
                                            .voice = fake_house_voice(),
                                            .models = fake_house_models(),
                                            .config = f->config,
                                            .status = on_status,
                                            .use_model = on_use_model});
  f->session = soup_session_new_with_options("max-conns-per-host", 10, NULL);
  f->leave = g_cancellable_new();
}

static void spin(guint ms) {
  gint64 until = g_get_monotonic_time() + ms * 1000;
  while (g_get_monotonic_time() < until)
    if (!g_main_context_iteration(NULL, FALSE))
      g_usleep(1000);
}

#define WAIT_FOR(condition)                                                                                            \
  do {                                                                                                                 \
    gint64 until = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;                                                       \
    while (!(condition)) {                                                                                             \
      g_assert_cmpint(g_get_monotonic_time(), <, until);                                                               \
      if (!g_main_context_iteration(NULL, FALSE))                                                                      \
        g_usleep(500);                                                                                                 \
    }                                                                                                                  \
  } while (0)

static void leave(Fixture *f) {
  g_cancellable_cancel(f->leave);
  g_object_unref(f->leave);
  f->leave = g_cancellable_new();
}

static void teardown(Fixture *f, gconstpointer data) {
  soup_session_abort(f->session);
  choir_web_free(f->web);
  choir_http_server_free(f->server);
  choir_http_client_free(f->http);
  spin(60);
  fake_house_finish();
  choir_history_close(f->history);
  choir_config_free(f->config);
  g_object_unref(f->session);
  g_object_unref(f->leave);
  spin(60);
  choir_hub_free(f->hub);
  fake_house_clear();
  g_autofree char *command = g_strdup_printf("rm -r %s", f->dir);
  g_assert_cmpint(system(command), ==, 0);
  g_free(f->dir);
}

/* --- a small client -------------------------------------------------------------------------------------------------
 */

typedef struct {
  guint status;
  char *body, *type;
  json_t *json;
  SoupMessageHeaders *headers;
  gboolean done;
  SoupMessage *message;
} Answer;

static void answer_clear(Answer *answer) {
  g_free(answer->body);
  g_free(answer->type);
  json_decref(answer->json);
  g_clear_object(&answer->message);
  g_free(answer);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Answer, answer_clear)

static void on_answer(GObject *source, GAsyncResult *result, gpointer user) {
  Answer *answer = user;
  g_autoptr(GBytes) bytes = soup_session_send_and_read_finish(SOUP_SESSION(source), result, NULL);
  gsize length = 0;
  const char *data = bytes ? g_bytes_get_data(bytes, &length) : "";
  answer->body = g_strndup(data ? data : "", length);
  answer->status = soup_message_get_status(answer->message);
  answer->headers = soup_message_get_response_headers(answer->message);
  answer->json = choir_json_parse(answer->body, length, NULL);
  answer->done = TRUE;
}

/* headers: "Name: value" lines or NULL. Starts it. */
static Answer *ask_begin(Fixture *f, const char *method, const char *path, const char *headers, const char *body) {
  Answer *answer = g_new0(Answer, 1);
  g_autofree char *url = g_strdup_printf("http://127.0.0.1:%u%s", choir_http_server_port(f->server), path);
  answer->message = soup_message_new(method, url);
  SoupMessageHeaders *out = soup_message_get_request_headers(answer->message);
  g_auto(GStrv) lines = g_strsplit(headers ? headers : "", "\n", -1);
  for (char **line = lines; *line; line++) {
    g_auto(GStrv) pair = g_strsplit(*line, ": ", 2);
    if (pair[0] && pair[1])
      soup_message_headers_replace(out, pair[0], pair[1]);
  }
  if (body) {
    g_autoptr(GBytes) bytes = g_bytes_new(body, strlen(body));
    soup_message_set_request_body_from_bytes(answer->message, "application/json", bytes);
  }
  soup_session_send_and_read_async(f->session, answer->message, G_PRIORITY_DEFAULT, f->leave, on_answer, answer);
  return answer;
}

static Answer *ask(Fixture *f, const char *method, const char *path, const char *headers, const char *body) {
  Answer *answer = ask_begin(f, method, path, headers, body);
  WAIT_FOR(answer->done);
  return answer;
}

static const char *header(const Answer *answer, const char *name) {
  return soup_message_headers_get_one(answer->headers, name);
}

static const char *error_code(const Answer *answer) {
  return choir_json_string(json_object_get(answer->json, "error"), "code", "");
}

typedef struct {
  SoupWebsocketConnection *socket;
  json_t *messages;
  gboolean opened, closed;
} Ws;

static void on_ws_message(SoupWebsocketConnection *socket, int type, GBytes *bytes, gpointer user) {
  Ws *ws = user;
  gsize length;
  const char *data = g_bytes_get_data(bytes, &length);
  json_array_append_new(ws->messages, choir_json_parse(data, length, NULL));
}

static void on_ws_closed(SoupWebsocketConnection *socket, gpointer user) {
  ((Ws *)user)->closed = TRUE;
}

static void on_ws_open(GObject *source, GAsyncResult *result, gpointer user) {
  Ws *ws = user;
  ws->socket = soup_session_websocket_connect_finish(SOUP_SESSION(source), result, NULL);
  ws->opened = TRUE;
  if (!ws->socket)
    return;
  g_signal_connect(ws->socket, "message", G_CALLBACK(on_ws_message), ws);
  g_signal_connect(ws->socket, "closed", G_CALLBACK(on_ws_closed), ws);
}

/* NULL when refused. */
static Ws *ws_open(Fixture *f, const char *path, const char *origin, const char *protocol) {
  Ws *ws = g_new0(Ws, 1);
  ws->messages = json_array();
  g_autofree char *url = g_strdup_printf("ws://127.0.0.1:%u%s", choir_http_server_port(f->server), path);
  g_autoptr(SoupMessage) message = soup_message_new("GET", url);
  char *protocols[] = {(char *)protocol, NULL};
  soup_session_websocket_connect_async(f->session, message, origin, protocol ? protocols : NULL, G_PRIORITY_DEFAULT,
                                       NULL, on_ws_open, ws);
  WAIT_FOR(ws->opened);
  if (ws->socket)
    return ws;
  json_decref(ws->messages);
  g_free(ws);
  return NULL;
}

static void ws_close(Ws *ws) {
  soup_websocket_connection_close(ws->socket, 1000, NULL);
  WAIT_FOR(ws->closed);
  g_object_unref(ws->socket);
  json_decref(ws->messages);
  g_free(ws);
}

/* The first message of that type, waited for. */
static const json_t *ws_wait(Ws *ws, const char *type) {
  const json_t *found = NULL;
  size_t seen = 0;
  WAIT_FOR(({
    for (; !found && seen < json_array_size(ws->messages); seen++)
      if (strcmp(choir_json_string(json_array_get(ws->messages, seen), "type", ""), type) == 0)
        found = json_array_get(ws->messages, seen);
    found != NULL;
  }));
  return found;
}

/* --- page and guard
 * --------------------------------------------------------------------------------------------------- */

static void test_page(Fixture *f, gconstpointer data) {
  g_autoptr(Answer) page = ask(f, "GET", "/", NULL, NULL);
  g_assert_cmpuint(page->status, ==, 200);
  g_assert_true(g_str_has_prefix(header(page, "Content-Type"), "text/html"));
  g_assert_nonnull(strstr(header(page, "Content-Security-Policy"), "default-src 'self'"));
  g_assert_cmpstr(header(page, "X-Content-Type-Options"), ==, "nosniff");
  g_assert_nonnull(header(page, "Cross-Origin-Opener-Policy"));
  g_autofree char *match = g_strdup_printf("If-None-Match: %s", header(page, "ETag"));
  g_autoptr(Answer) again = ask(f, "GET", "/index.html", match, NULL);
  g_assert_cmpuint(again->status, ==, 304);
  g_assert_cmpstr(again->body, ==, "");
  g_autoptr(Answer) missing = ask(f, "GET", "/nothing.js", NULL, NULL);
  g_assert_cmpuint(missing->status, ==, 404);
  g_assert_cmpstr(error_code(missing), ==, "not_found");
}

static void test_guarded(Fixture *f, gconstpointer data) {
  g_autoptr(Answer) host = ask(f, "GET", "/health", "Host: evil.example", NULL);
  g_assert_cmpuint(host->status, ==, 403);
  g_assert_cmpstr(error_code(host), ==, "host_not_allowed");
  g_autoptr(Answer) origin = ask(f, "POST", "/internal/chat/sync", "Origin: http://evil.example", "{\"text\":\"x\"}");
  g_assert_cmpuint(origin->status, ==, 403);
  g_assert_cmpstr(error_code(origin), ==, "origin_not_allowed");
  g_autoptr(Answer) null = ask(f, "POST", "/v1/chat/completions", "Origin: null", "{}");
  g_assert_cmpuint(null->status, ==, 403);
  g_assert_cmpuint(fake_house.turns + fake_house.chats, ==, 0);
  g_assert_null(ws_open(f, "/ws", "http://evil.example", NULL));
  g_assert_null(ws_open(f, "/v1/realtime", "http://evil.example", NULL));
}

/* --- the original's routes
 * ---------------------------------------------------------------------------------------------- */

static void test_control(Fixture *f, gconstpointer data) {
  g_autoptr(Answer) health = ask(f, "GET", "/health", NULL, NULL);
  g_assert_cmpuint(health->status, ==, 200);
  g_assert_cmpstr(choir_json_string(health->json, "status", ""), ==, "ok");
  fake_house_set_ready(FALSE);
  g_autoptr(Answer) cold = ask(f, "GET", "/health", NULL, NULL);
  g_assert_cmpuint(cold->status, ==, 503);
  g_assert_cmpstr(choir_json_string(cold->json, "status", ""), ==, "initializing");
  g_autoptr(Answer) status = ask(f, "GET", "/api/status", NULL, NULL);
  g_assert_true(g_str_has_prefix(choir_json_string(status->json, "status", ""), "Current pipeline status:"));
  g_assert_true(json_is_null(json_object_get(status->json, "fetch")));
  g_autoptr(Answer) metrics = ask(f, "GET", "/metrics", NULL, NULL);
  g_assert_nonnull(strstr(metrics->body, "choir_page_clients 0"));
  g_assert_true(g_str_has_prefix(header(metrics, "Content-Type"), "text/plain"));
}

static void test_chat_sync(Fixture *f, gconstpointer data) {
  g_autoptr(Answer) text = ask(f, "POST", "/internal/chat/sync", NULL, "{\"text\":\"hello\",\"request_id\":\"r7\"}");
  g_assert_cmpuint(text->status, ==, 200);
  g_assert_cmpstr(choir_json_string(text->json, "request_id", ""), ==, "r7");
  g_assert_cmpstr(choir_json_string(text->json, "content", ""), ==, "You said hello");
  g_assert_cmpstr(fake_house.last_source, ==, "internal");
  g_autoptr(Answer) named = ask(f, "POST", "/internal/chat/sync", NULL, "{\"data\":\"old\"}");
  g_assert_cmpstr(choir_json_string(named->json, "content", ""), ==, "You said old");
  const char *bad[] = {"{}", "{\"text\":\"  \"}", "{\"text\":5}", "[]", "{", "{\"text\":\"a\",\"text\":\"b\"}"};
  for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
    g_autoptr(Answer) answer = ask(f, "POST", "/internal/chat/sync", NULL, bad[i]);
    g_assert_cmpuint(answer->status, ==, 400);
  }
  g_autofree char *word = g_strnfill(10001, 'x');
  g_autofree char *body = g_strdup_printf("{\"text\":\"%s\"}", word);
  g_autoptr(Answer) big = ask(f, "POST", "/internal/chat/sync", NULL, body);
  g_assert_cmpuint(big->status, ==, 400);
  fake_house.refuse_turns = TRUE;
  g_autoptr(Answer) busy = ask(f, "POST", "/internal/chat/sync", NULL, "{\"text\":\"x\"}");
  g_assert_cmpuint(busy->status, ==, 503);
  g_assert_nonnull(header(busy, "Retry-After"));
}

static void test_chat_sync_gone(Fixture *f, gconstpointer data) {
  fake_house.hold = TRUE;
  Answer *answer = ask_begin(f, "POST", "/internal/chat/sync", NULL, "{\"text\":\"x\"}");
  WAIT_FOR(fake_house.turns == 1);
  leave(f);
  WAIT_FOR(fake_house.cancelled == 1);
  WAIT_FOR(answer->done);
  answer_clear(answer);
}

static void test_chat_sync_late(Fixture *f, gconstpointer data) {
  fake_house.hold = TRUE;
  g_autoptr(Answer) answer = ask(f, "POST", "/internal/chat/sync", NULL, "{\"text\":\"x\"}");
  g_assert_cmpuint(answer->status, ==, 504);
  g_assert_cmpstr(error_code(answer), ==, "timeout");
  g_assert_cmpuint(fake_house.cancelled, ==, 1);
}

static char *posted;

static void on_hook(SoupServer *server, SoupServerMessage *message, const char *path, GHashTable *query,
                    gpointer user) {
  g_free(posted);
  posted = g_strndup(soup_server_message_get_request_body(message)->data,
                     (gsize)soup_server_message_get_request_body(message)->length);
  if (strcmp(path, "/redirect") == 0)
    soup_server_message_set_redirect(message, 307, "/elsewhere");
  else
    soup_server_message_set_status(message, 204, NULL);
}

static void test_chat_hook(Fixture *f, gconstpointer data) {
  g_autoptr(SoupServer) hook = soup_server_new(NULL, NULL);
  soup_server_add_handler(hook, NULL, on_hook, NULL, NULL);
  g_assert_true(soup_server_listen_local(hook, 0, SOUP_SERVER_LISTEN_IPV4_ONLY, NULL));
  GSList *uris = soup_server_get_uris(hook);
  int port = g_uri_get_port(uris->data);
  g_slist_free_full(uris, (GDestroyNotify)g_uri_unref);
  g_autofree char *body =
      g_strdup_printf("{\"text\":\"hi\",\"request_id\":\"q1\",\"response_url\":\"http://127.0.0.1:%d/hook\"}", port);
  g_autoptr(Answer) accepted = ask(f, "POST", "/internal/chat", NULL, body);
  g_assert_cmpuint(accepted->status, ==, 202);
  g_assert_cmpstr(choir_json_string(accepted->json, "message", ""), ==, "Request accepted");
  WAIT_FOR(posted != NULL);
  json_auto_t *json = choir_json_parse(posted, strlen(posted), NULL);
  g_assert_cmpstr(choir_json_string(json, "request_id", ""), ==, "q1");
  g_assert_cmpstr(choir_json_string(json, "content", ""), ==, "You said hi");
  g_clear_pointer(&posted, g_free);
  const char *refused[] = {"http://example.org/x", "file:///etc/passwd", "http://127.0.0.1@example.org/"};
  for (gsize i = 0; i < G_N_ELEMENTS(refused); i++) {
    g_autofree char *bad = g_strdup_printf("{\"text\":\"hi\",\"response_url\":\"%s\"}", refused[i]);
    g_autoptr(Answer) answer = ask(f, "POST", "/internal/chat", NULL, bad);
    g_assert_cmpuint(answer->status, ==, 403);
  }
  g_autoptr(Answer) none = ask(f, "POST", "/internal/chat", NULL, "{\"text\":\"hi\"}");
  g_assert_cmpuint(none->status, ==, 400);
  g_assert_cmpuint(fake_house.turns, ==, 1);
}

/* --- /ws
 * ------------------------------------------------------------------------------------------------------------------ */

static void test_ws(Fixture *f, gconstpointer data) {
  Ws *one = ws_open(f, "/ws", NULL, NULL), *two = ws_open(f, "/ws", NULL, NULL);
  g_assert_nonnull(one);
  g_assert_nonnull(two);
  g_assert_cmpstr(choir_json_string(ws_wait(one, "hello"), "version", ""), !=, "");
  g_assert_cmpstr(choir_json_string(json_array_get(one->messages, 0), "type", ""), ==, "hello");
  soup_websocket_connection_send_text(one->socket, "{\"type\":\"user_message\",\"data\":\"from the page\"}");
  WAIT_FOR(fake_house.turns == 1);
  g_assert_cmpstr(fake_house.last_source, ==, "ws");
  g_assert_cmpstr(fake_house.last_text, ==, "from the page");
  fake_house_say(&(ChoirTwinEvent){.type = "user", .text = "from the page", .source = "ws", .turn_id = "t1"});
  fake_house_say(&(ChoirTwinEvent){.type = "cut", .text = "only this", .turn_id = "t1"});
  g_assert_cmpstr(choir_json_string(ws_wait(two, "user"), "turn_id", ""), ==, "t1");
  const json_t *cut = ws_wait(two, "agent");
  g_assert_true(choir_json_bool(cut, "cut", FALSE));
  g_assert_cmpstr(choir_json_string(cut, "data", ""), ==, "only this");
  choir_info("web", "a line for the page");
  choir_debug("web", "not this one");
  WAIT_FOR(({
    gboolean seen = FALSE;
    size_t i;
    json_t *message;
    json_array_foreach(two->messages, i, message) {
      seen |= strcmp(choir_json_string(message, "data", ""), "a line for the page") == 0;
      g_assert_cmpstr(choir_json_string(message, "data", ""), !=, "not this one");
    }
    seen;
  }));
  const char *bad[] = {"x", "{}", "{\"type\":\"nothing\"}", "{\"type\":\"user_message\"}"};
  for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
    json_array_clear(one->messages);
    soup_websocket_connection_send_text(one->socket, bad[i]);
    ws_wait(one, "error");
  }
  ws_close(one);
  ws_close(two);
}

static void test_ws_limit(Fixture *f, gconstpointer data) {
  Ws *one = ws_open(f, "/ws", NULL, NULL);
  g_assert_nonnull(one);
  g_assert_null(ws_open(f, "/ws", NULL, NULL));
  ws_close(one);
}

/* A page that never reads does not hold up the others, nor the sender. */
static void test_ws_dead_page(Fixture *f, gconstpointer data) {
  Ws *reader = ws_open(f, "/ws", NULL, NULL);
  g_autoptr(GSocketClient) client = g_socket_client_new();
  g_autoptr(GSocketConnection) dead =
      g_socket_client_connect_to_host(client, "127.0.0.1", choir_http_server_port(f->server), NULL, NULL);
  g_assert_nonnull(dead);
  g_autofree char *hello =
      g_strdup_printf("GET /ws HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                      choir_http_server_port(f->server));
  g_assert_true(g_output_stream_write_all(g_io_stream_get_output_stream(G_IO_STREAM(dead)), hello, strlen(hello), NULL,
                                          NULL, NULL));
  WAIT_FOR(choir_http_server_connections(f->server) >= 2);
  spin(50);
  g_autofree char *text = g_strnfill(8000, 'x');
  for (guint i = 0; i < 600; i++) { /* 4.8 MB: more than any buffer on the way */
    fake_house_say(&(ChoirTwinEvent){.type = "agent_delta", .text = text, .turn_id = "t1"});
    spin(0);
  }
  fake_house_say(&(ChoirTwinEvent){.type = "agent", .text = "the end", .turn_id = "t1"});
  g_assert_cmpstr(choir_json_string(ws_wait(reader, "agent"), "data", ""), ==, "the end");
  g_autoptr(Answer) metrics = ask(f, "GET", "/metrics", NULL, NULL);
  g_autofree char *count = g_strdup(strstr(metrics->body, "choir_page_dropped_total{what=\"event\"} "));
  g_assert_nonnull(count);
  g_assert_cmpint(atoi(strrchr(g_strdelimit(count, "\n", '\0'), ' ')), >, 0);
  ws_close(reader);
}

/* --- OpenAI
 * --------------------------------------------------------------------------------------------------------------- */

#define HELLO "{\"model\":\"any\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

static void test_models_list(Fixture *f, gconstpointer data) {
  g_autoptr(Answer) list = ask(f, "GET", "/v1/models", NULL, NULL);
  g_assert_cmpstr(choir_json_string(list->json, "object", ""), ==, "list");
  g_assert_cmpstr(choir_json_string(json_array_get(json_object_get(list->json, "data"), 0), "id", ""), ==, "small");
  g_autoptr(Answer) one = ask(f, "GET", "/v1/models/small", NULL, NULL);
  g_assert_cmpuint(one->status, ==, 200);
  g_autoptr(Answer) none = ask(f, "GET", "/v1/models/gpt", NULL, NULL);
  g_assert_cmpuint(none->status, ==, 404);
}

static void test_completion(Fixture *f, gconstpointer data) {
  g_autoptr(Answer) answer = ask(f, "POST", "/v1/chat/completions", NULL, HELLO ",\"max_tokens\":5}");
  g_assert_cmpuint(answer->status, ==, 200);
  const json_t *choice = json_array_get(json_object_get(answer->json, "choices"), 0);
  g_assert_cmpstr(choir_json_string(json_object_get(choice, "message"), "content", ""), ==, "Hello");
  g_assert_cmpstr(choir_json_string(choice, "finish_reason", ""), ==, "stop");
  const json_t *usage = json_object_get(answer->json, "usage");
  g_assert_cmpint(choir_json_int(usage, "prompt_tokens", 0), ==, 10);
  g_assert_cmpint(choir_json_int(usage, "completion_tokens", 0), ==, 2);
  g_assert_cmpint(choir_json_int(usage, "total_tokens", 0), ==, 12);
  g_assert_cmpint(choir_json_int(json_object_get(usage, "prompt_tokens_details"), "cached_tokens", 0), ==, 4);
  /* Choir's persona, because the request had none; its own slot. */
  g_assert_cmpstr(choir_json_string(json_array_get(fake_house.last_messages, 0), "content", ""), ==, "You are Choir.");
  const json_t *asked = json_array_get(fake_house.last_messages, json_array_size(fake_house.last_messages) - 1);
  g_assert_true(g_str_has_prefix(choir_json_string(asked, "content", ""), "[now] "));
  g_assert_cmpint(fake_house.last_max_tokens, ==, 5);
  g_assert_cmpint(fake_house.last_slot, ==, CHOIR_SLOT_API);
  g_autoptr(Answer) own =
      ask(f, "POST", "/v1/chat/completions", NULL,
          "{\"messages\":[{\"role\":\"system\",\"content\":\"Be a pirate.\"},{\"role\":\"user\",\"content\":\"hi\"}]}");
  g_assert_cmpuint(own->status, ==, 200);
  g_assert_cmpuint(json_array_size(fake_house.last_messages), ==, 2);
  g_assert_cmpstr(choir_json_string(json_array_get(fake_house.last_messages, 1), "content", ""), ==, "hi");
  g_autoptr(Answer) tools = ask(f, "POST", "/v1/chat/completions", NULL, HELLO ",\"tools\":[{}]}");
  g_assert_cmpuint(tools->status, ==, 400);
  g_assert_cmpstr(error_code(tools), ==, "invalid_value");
  fake_house.context = TRUE;
  g_autoptr(Answer) context = ask(f, "POST", "/v1/chat/completions", NULL, HELLO "}");
  g_assert_cmpuint(context->status, ==, 400);
  g_assert_cmpstr(error_code(context), ==, "context_length_exceeded");
  g_autoptr(Answer) stream = ask(f, "POST", "/v1/chat/completions", NULL, HELLO ",\"stream\":true}");
  g_assert_cmpuint(stream->status, ==, 400); /* nothing was streamed yet: a proper status */
}

static void test_stream(Fixture *f, gconstpointer data) {
  g_autoptr(Answer) answer = ask(f, "POST", "/v1/chat/completions", NULL,
                                 HELLO ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
  g_assert_cmpuint(answer->status, ==, 200);
  g_assert_true(g_str_has_prefix(header(answer, "Content-Type"), "text/event-stream"));
  g_auto(GStrv) events = g_strsplit(answer->body, "\n\n", -1);
  g_autoptr(GString) content = g_string_new(NULL);
  guint n = 0;
  for (; events[n] && g_str_has_prefix(events[n], "data: {"); n++) {
    json_auto_t *chunk = choir_json_parse(events[n] + 6, strlen(events[n] + 6), NULL);
    g_assert_cmpstr(choir_json_string(chunk, "object", ""), ==, "chat.completion.chunk");
    const json_t *choice = json_array_get(json_object_get(chunk, "choices"), 0);
    g_string_append(content, choir_json_string(json_object_get(choice, "delta"), "content", ""));
    if (n == 4)
      g_assert_cmpint(choir_json_int(json_object_get(chunk, "usage"), "total_tokens", 0), ==, 12);
  }
  g_assert_cmpuint(n, ==, 5); /* role, Hel, lo, finish, usage */
  g_assert_cmpstr(content->str, ==, "Hello");
  g_assert_cmpstr(events[n], ==, "data: [DONE]");
}

static void test_queue(Fixture *f, gconstpointer data) {
  fake_house_set_ready(FALSE);
  Answer *first = ask_begin(f, "POST", "/v1/chat/completions", NULL, HELLO "}");
  Answer *second = ask_begin(f, "POST", "/v1/chat/completions", NULL, HELLO "}");
  WAIT_FOR(choir_http_server_connections(f->server) == 2);
  spin(50);
  g_autoptr(Answer) third = ask(f, "POST", "/v1/chat/completions", NULL, HELLO "}");
  g_assert_cmpuint(third->status, ==, 503);
  g_assert_nonnull(header(third, "Retry-After"));
  g_assert_false(first->done || second->done);
  fake_house.hold = TRUE;
  fake_house_set_ready(TRUE);
  g_assert_cmpuint(fake_house.chats, ==, 1); /* one at a time */
  fake_house_delta("ok");
  fake_house_finish();
  WAIT_FOR(first->done && second->done);
  g_assert_cmpuint(first->status, ==, 200);
  g_assert_cmpuint(second->status, ==, 200);
  answer_clear(first);
  answer_clear(second);
}

static void test_client_leaves(Fixture *f, gconstpointer data) {
  /* while it waits, while it is decoded, and in the middle of a stream */
  fake_house_set_ready(FALSE);
  Answer *waiting = ask_begin(f, "POST", "/v1/chat/completions", NULL, HELLO "}");
  spin(50);
  leave(f);
  WAIT_FOR(waiting->done);
  WAIT_FOR(choir_http_server_connections(f->server) == 0);
  fake_house.hold = TRUE;
  fake_house_set_ready(TRUE);
  g_assert_cmpuint(fake_house.chats, ==, 0);
  for (int i = 0; i < 2; i++) {
    Answer *answer = ask_begin(f, "POST", "/v1/chat/completions", NULL, i ? HELLO ",\"stream\":true}" : HELLO "}");
    WAIT_FOR(fake_house.chats == (guint)i + 1);
    fake_house_delta("word");
    spin(60);
    leave(f);
    WAIT_FOR(fake_house.cancelled == (guint)i + 1);
    WAIT_FOR(answer->done);
    answer_clear(answer);
  }
  answer_clear(waiting);
}

/* What is asked by the API is seen on every page, its end too, whichever it is. */
static void test_api_is_shown(Fixture *f, gconstpointer data) {
  Ws *page = ws_open(f, "/ws", NULL, NULL);
  ws_wait(page, "hello");
  g_autoptr(Answer) answer = ask(f, "POST", "/v1/chat/completions", NULL, HELLO ",\"stream\":true}");
  const json_t *end = ws_wait(page, "agent"), *user = ws_wait(page, "user");
  g_assert_cmpstr(choir_json_string(user, "data", ""), ==, "hi");
  g_assert_cmpstr(choir_json_string(user, "source", ""), ==, "api");
  g_assert_cmpstr(choir_json_string(ws_wait(page, "agent_delta"), "data", ""), ==, "Hel");
  g_assert_cmpstr(choir_json_string(end, "data", ""), ==, "Hello");
  g_assert_cmpstr(choir_json_string(end, "turn_id", "?"), ==, choir_json_string(user, "turn_id", ""));
  json_array_clear(page->messages);
  fake_house.hold = TRUE;
  Answer *left = ask_begin(f, "POST", "/v1/chat/completions", NULL, HELLO "}");
  WAIT_FOR(fake_house.chats == 2);
  fake_house_delta("wor");
  leave(f);
  const json_t *cut = ws_wait(page, "agent");
  g_assert_true(choir_json_bool(cut, "cut", FALSE));
  g_assert_cmpstr(choir_json_string(cut, "data", ""), ==, "wor");
  WAIT_FOR(left->done);
  answer_clear(left);
  fake_house.hold = FALSE;
  fake_house.fail = TRUE;
  g_autoptr(Answer) failed = ask(f, "POST", "/v1/chat/completions", NULL, HELLO "}");
  g_assert_cmpuint(failed->status, >=, 500);
  g_assert_cmpstr(choir_json_string(ws_wait(page, "error"), "data", ""), ==, "the model broke");
  ws_close(page);
}

static void test_live_turn(Fixture *f, gconstpointer data) {
  g_autoptr(Answer) answer = ask(f, "POST", "/v1/chat/completions", "X-Choir-Conversation: live", HELLO "}");
  const json_t *choice = json_array_get(json_object_get(answer->json, "choices"), 0);
  g_assert_cmpstr(choir_json_string(json_object_get(choice, "message"), "content", ""), ==, "You said hi");
  g_assert_cmpstr(fake_house.last_source, ==, "api");
  g_assert_cmpuint(fake_house.chats, ==, 0);
  g_autoptr(Answer) stream =
      ask(f, "POST", "/v1/chat/completions", "X-Choir-Conversation: live", HELLO ",\"stream\":true}");
  g_assert_nonnull(strstr(stream->body, "You said hi"));
  g_assert_nonnull(strstr(stream->body, "data: [DONE]"));
  fake_house.refuse_turns = TRUE;
  g_autoptr(Answer) busy = ask(f, "POST", "/v1/chat/completions", "X-Choir-Conversation: live", HELLO "}");
  g_assert_cmpuint(busy->status, ==, 503);
}

/* --- realtime over a socket
 * --------------------------------------------------------------------------------------------------- */

static void test_realtime(Fixture *f, gconstpointer data) {
  g_assert_cmpstr(choir_realtime_subprotocol("openai-insecure-api-key.sk-1, realtime"), ==, "realtime");
  g_assert_cmpstr(choir_realtime_subprotocol(" realtime ,x"), ==, "realtime");
  g_assert_null(choir_realtime_subprotocol("openai-insecure-api-key.realtime"));
  g_assert_null(choir_realtime_subprotocol(NULL));
  Ws *ws = ws_open(f, "/v1/realtime?model=gpt-realtime", NULL, "realtime");
  g_assert_nonnull(ws);
  g_assert_cmpstr(soup_websocket_connection_get_protocol(ws->socket), ==, "realtime");
  const json_t *created = ws_wait(ws, "session.created");
  g_assert_cmpstr(choir_json_string(json_object_get(created, "session"), "model", ""), ==, "small");
  g_assert_cmpstr(fake_live.source, ==, "realtime");
  soup_websocket_connection_send_text(ws->socket, "{\"type\":\"input_audio_buffer.append\",\"audio\":\"AAAA\"}");
  WAIT_FOR(fake_live.log->len > 0);
  g_assert_cmpstr(fake_live.log->str, ==, "audio:1@24000");
  fake_live.callback(NULL, &(ChoirLiveEvent){.type = CHOIR_LIVE_SPEECH_STARTED, .item_id = "u1", .ms = 5},
                     fake_live.callback_user);
  ws_wait(ws, "input_audio_buffer.speech_started");
  soup_websocket_connection_send_binary(ws->socket, "x", 1);
  ws_wait(ws, "error");
  ws_close(ws);
  WAIT_FOR(g_str_has_suffix(fake_live.log->str, "free"));
  Ws *page = ws_open(f, "/v1/realtime?choir=1", NULL, NULL);
  g_assert_cmpstr(fake_live.source, ==, "page");
  fake_live.callback(NULL, &(ChoirLiveEvent){.type = CHOIR_LIVE_STATE, .text = "idle"}, fake_live.callback_user);
  ws_wait(page, "choir.state");
  /* left open: the server goes first */
  g_clear_pointer(&f->web, choir_web_free);
  WAIT_FOR(page->closed);
  g_assert_true(g_str_has_suffix(fake_live.log->str, "free"));
  g_object_unref(page->socket);
  json_decref(page->messages);
  g_free(page);
}

/* --- conversations and models
 * --------------------------------------------------------------------------------------------------- */

static void test_conversations(Fixture *f, gconstpointer data) {
  g_autoptr(Answer) made = ask(f, "POST", "/api/conversations", NULL, "{\"title\":\"Plans\"}");
  g_assert_cmpuint(made->status, ==, 200);
  gint64 id = choir_json_int(made->json, "id", 0);
  g_assert_cmpint(id, >, 0);
  g_assert_cmpint(fake_house.opened, ==, id);
  g_autofree char *path = g_strdup_printf("/api/conversations/%" G_GINT64_FORMAT, id);
  g_autoptr(Answer) read = ask(f, "GET", path, NULL, NULL);
  g_assert_cmpstr(choir_json_string(read->json, "title", ""), ==, "Plans");
  g_assert_true(json_is_array(json_object_get(read->json, "entries")));
  g_autofree char *rename = g_strconcat(path, "/rename", NULL);
  g_autoptr(Answer) renamed = ask(f, "POST", rename, NULL, "{\"title\":\"Other\"}");
  g_assert_cmpuint(renamed->status, ==, 200);
  g_autoptr(Answer) untitled = ask(f, "POST", rename, NULL, "{\"title\":\"\"}");
  g_assert_cmpuint(untitled->status, ==, 400);
  g_autofree char *export = g_strconcat(path, "/export", NULL);
  g_autoptr(Answer) exported = ask(f, "GET", export, NULL, NULL);
  g_assert_cmpstr(choir_json_string(exported->json, "format", ""), ==, "choir-conversation");
  g_assert_nonnull(strstr(header(exported, "Content-Disposition"), "attachment"));
  g_autoptr(Answer) list = ask(f, "GET", "/api/conversations", NULL, NULL);
  g_assert_cmpuint(json_array_size(json_object_get(list->json, "conversations")), >=, 1);
  g_autofree char *open = g_strconcat(path, "/open", NULL);
  fake_house.opened = -1;
  g_autoptr(Answer) opened = ask(f, "POST", open, NULL, "{}");
  g_assert_cmpuint(opened->status, ==, 200);
  g_assert_cmpint(fake_house.opened, ==, id);
  g_autofree char *delete = g_strconcat(path, "/delete", NULL);
  g_autoptr(Answer) deleted = ask(f, "POST", delete, NULL, "");
  g_assert_cmpuint(deleted->status, ==, 200);
  const char *missing[] = {path,
                           "/api/conversations/0",
                           "/api/conversations/-1",
                           "/api/conversations/x",
                           "/api/conversations/99999999999999999999",
                           "/api/conversations/1x",
                           "/api/conversations/"};
  for (gsize i = 0; i < G_N_ELEMENTS(missing); i++) {
    g_autoptr(Answer) answer = ask(f, "GET", missing[i], NULL, NULL);
    g_test_message("%s", missing[i]);
    g_assert_cmpuint(answer->status, ==, 404);
  }
  g_autoptr(Answer) nothing = ask(f, "POST", open, NULL, "{}");
  g_assert_cmpuint(nothing->status, ==, 404);
}

static void test_models(Fixture *f, gconstpointer data) {
  g_autoptr(Answer) list = ask(f, "GET", "/api/models", NULL, NULL);
  g_assert_cmpstr(choir_json_string(list->json, "current", ""), ==, "small");
  g_autoptr(Answer) use = ask(f, "POST", "/api/models/use", NULL, "{\"name\":\"small\"}");
  g_assert_cmpuint(use->status, ==, 200);
  g_assert_cmpstr(fake_house.used_model, ==, "small");
  g_autoptr(Answer) unknown = ask(f, "POST", "/api/models/use", NULL, "{\"name\":\"big\"}");
  g_assert_cmpuint(unknown->status, ==, 404);
  fake_house.fail = TRUE;
  g_autoptr(Answer) fetch = ask(f, "POST", "/api/models/fetch", NULL, "{\"name\":\"small\"}");
  g_assert_cmpuint(fetch->status, ==, 202);
  spin(60);
  g_autoptr(Answer) status = ask(f, "GET", "/api/status", NULL, NULL);
  const json_t *state = json_object_get(status->json, "fetch");
  g_assert_cmpstr(choir_json_string(state, "error", ""), ==, "the disk is full");
  g_assert_cmpint(choir_json_int(state, "done", 0), ==, 50);
  fake_house.fail = FALSE;
  g_autoptr(Answer) again = ask(f, "POST", "/api/models/fetch", NULL, "{\"name\":\"small\"}");
  g_assert_cmpuint(again->status, ==, 202);
  spin(60);
  g_autoptr(Answer) after = ask(f, "GET", "/api/status", NULL, NULL);
  g_assert_true(json_is_null(json_object_get(after->json, "fetch")));
}

static void check_route(const char *method, const char *path, gpointer user) {
  ChoirRole role;
  g_autofree char *below = g_str_has_suffix(path, "/*") ? g_strdup_printf("%.*sx", (int)strlen(path) - 1, path) : NULL;
  ++*(guint *)user;
  if (!choir_roles_find(method, below ? below : path, &role))
    g_error("%s %s has no line in the table of src/web/guard_roles.c", method, path);
  gboolean open = strcmp(path, "/health") == 0 || strcmp(method, "OPTIONS") == 0;
  g_assert_cmpint(role == CHOIR_ROLE_NONE, ==, open); /* the routes of the log-in are not in this house */
}

static void test_every_route_has_a_role(Fixture *f, gconstpointer data) {
  guint n = 0;
  ChoirRole role;
  choir_http_server_each_route(f->server, check_route, &n);
  g_assert_cmpuint(n, >, 30);
  static const char *const none[][2] = {{"GET", "/no/such"}, {"POST", "/"},       {"DELETE", "/api/tools"},
                                        {"GET", "/v1"},      {"POST", "/health"}, {"GET", "/api/approvals/answer"},
                                        {"GET", "/api/mex"}};
  for (gsize i = 0; i < G_N_ELEMENTS(none); i++)
    g_assert_false(choir_roles_find(none[i][0], none[i][1], &role));
  g_assert_true(choir_roles_find("GET", "/api/setup/code", &role) && role == CHOIR_ROLE_OWNER);
  g_assert_true(choir_roles_find("POST", "/api/people/remove", &role) && role == CHOIR_ROLE_OWNER);
  g_assert_true(choir_roles_find("POST", "/api/approvals/answer", &role) && role == CHOIR_ROLE_APPROVER);
  g_assert_true(choir_roles_find("HEAD", "/api/audit", &role) && role == CHOIR_ROLE_OPERATOR);
}

int main(int argc, char **argv) {
  alarm(120);
  g_test_init(&argc, &argv, NULL);
  choir_log_init(FALSE, "info", NULL);
#define ADD(path, data, test) g_test_add("/web/" path, Fixture, data, setup, test, teardown)
  ADD("page", NULL, test_page);
  ADD("guarded", NULL, test_guarded);
  ADD("control", NULL, test_control);
  ADD("chat-sync", NULL, test_chat_sync);
  ADD("chat-sync-gone", NULL, test_chat_sync_gone);
  ADD("chat-sync-late", "[web]\nchat_timeout_s = 1\n", test_chat_sync_late);
  ADD("chat-hook", NULL, test_chat_hook);
  ADD("ws", NULL, test_ws);
  ADD("ws-limit", "[web]\nmax_pages = 1\n", test_ws_limit);
  ADD("ws-dead-page", NULL, test_ws_dead_page);
  ADD("models-list", NULL, test_models_list);
  ADD("completion", NULL, test_completion);
  ADD("stream", NULL, test_stream);
  ADD("queue", "[web]\napi_queue = 2\n", test_queue);
  ADD("client-leaves", NULL, test_client_leaves);
  ADD("api-is-shown", NULL, test_api_is_shown);
  ADD("live-turn", NULL, test_live_turn);
  ADD("realtime", NULL, test_realtime);
  ADD("conversations", NULL, test_conversations);
  ADD("models", NULL, test_models);
  g_test_add("/web/every-route-has-a-role", Fixture, NULL, setup, test_every_route_has_a_role, teardown);
  return g_test_run();
}
