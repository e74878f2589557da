#include <string.h>
#include <unistd.h>
#include "base/text.h"
#include "llm/chat.h"
#include "mock_llm.h"

typedef struct {
  ChoirHttpClient *http;
  MockLlm *mock;
  ChoirChat *chat;
  ChoirChatCall *call;
  GString *text;
  guint deltas, done;
  char *finish;
  GError *error;
  ChoirChatTimings timings;
  guint cancel_after;
} Fixture;

static void setup(Fixture *f, gconstpointer data) {
  f->http = choir_http_client_new();
  f->mock = mock_llm_new();
  g_autofree char *url = g_strconcat(mock_llm_url(f->mock), "/v1/", NULL);
  f->chat = choir_chat_new(f->http, url, "sk-test-key");
  f->text = g_string_new(NULL);
}

static void teardown(Fixture *f, gconstpointer data) {
  choir_chat_free(f->chat);
  choir_http_client_free(f->http);
  mock_llm_free(f->mock);
  g_string_free(f->text, TRUE);
  g_free(f->finish);
  g_clear_error(&f->error);
  while (g_main_context_iteration(NULL, FALSE))
    ;
}

static void on_delta(const char *text, gpointer user) {
  Fixture *f = user;
  g_assert_cmpuint(f->done, ==, 0);
  g_string_append(f->text, text);
  if (++f->deltas == f->cancel_after)
    choir_chat_cancel(f->call);
}

static void on_done(const char *finish, const ChoirChatTimings *timings, const GError *error, gpointer user) {
  Fixture *f = user;
  f->done++;
  g_free(f->finish);
  f->finish = g_strdup(finish);
  g_clear_error(&f->error);
  f->error = error ? g_error_copy(error) : NULL;
  f->timings = *timings;
}

static void ask(Fixture *f) {
  static const ChoirChatHandlers handlers = {.delta = on_delta, .done = on_done};
  json_t *messages = json_pack("[{s:s,s:s}]", "role", "user", "content", "hello");
  ChoirChatRequest request = {.messages = messages,
                              .slot = 0,
                              .max_tokens = 20,
                              .temperature = 0.5,
                              .seed = 7,
                              .stop = (const char *const[]){"END", NULL}};
  f->done = f->deltas = 0;
  g_string_truncate(f->text, 0);
  f->call = choir_chat_begin(f->chat, &request, &handlers, f);
  json_decref(messages);
}

static void wait_done(Fixture *f) {
  while (f->done == 0)
    g_main_context_iteration(NULL, TRUE);
  for (int i = 0; i < 20; i++) /* a second done would come now */
    g_main_context_iteration(NULL, FALSE);
  g_assert_cmpuint(f->done, ==, 1);
}

static void test_answer(Fixture *f, gconstpointer data) {
  mock_llm_push(f->mock, MOCK_OK, "Hel|lo|, w\xc3\xb6rld.", 1);
  ask(f);
  wait_done(f);
  g_assert_no_error(f->error);
  g_assert_cmpstr(f->text->str, ==, "Hello, w\xc3\xb6rld.");
  g_assert_cmpstr(f->finish, ==, "stop");
  g_assert_cmpint(f->timings.cached_tokens, ==, 5);
  g_assert_cmpint(f->timings.evaluated_tokens, ==, 7);
  g_assert_cmpint(f->timings.prompt_tokens, ==, 12);
  json_t *request = mock_llm_request(f->mock, 0);
  g_assert_cmpint(choir_json_int(request, "id_slot", -1), ==, 0);
  g_assert_cmpint(choir_json_int(request, "seed", -1), ==, 7);
  g_assert_true(choir_json_bool(request, "cache_prompt", FALSE));
  g_assert_cmpint(json_array_size(json_object_get(request, "stop")), ==, 1);
}

typedef struct {
  MockMode mode;
  int code; /* of CHOIR_CHAT_ERROR, -1 = another domain */
  const char *says;
} Failure;

static const Failure failures[] = {
    {MOCK_STATUS_500, -1, "model exploded"},
    {MOCK_CONTEXT, CHOIR_CHAT_ERROR_CONTEXT, "context"},
    {MOCK_CUT, -2, ""},
    {MOCK_EARLY_END, CHOIR_CHAT_ERROR_PROTOCOL, "ended in the middle"},
    {MOCK_GARBAGE, CHOIR_CHAT_ERROR_PROTOCOL, "not a chat server"},
    {MOCK_ERROR_EVENT, CHOIR_CHAT_ERROR_SERVER, "out of luck"},
    {MOCK_HTML, -2, ""},
};

static void test_failures(Fixture *f, gconstpointer data) {
  for (gsize i = 0; i < G_N_ELEMENTS(failures); i++) {
    mock_llm_push(f->mock, failures[i].mode, "one|two|three|four", 1);
    ask(f);
    wait_done(f);
    g_assert_nonnull(f->error);
    g_test_message("%d: %s", failures[i].mode, f->error->message);
    if (failures[i].code >= 0)
      g_assert_error(f->error, CHOIR_CHAT_ERROR, failures[i].code);
    g_assert_nonnull(strstr(f->error->message, failures[i].says));
    g_assert_null(f->finish);
    /* The next request is none the worse. */
    ask(f);
    wait_done(f);
    g_assert_no_error(f->error);
    g_assert_cmpstr(f->text->str, ==, "Fine.");
  }
}

static void test_cancel_in_stream(Fixture *f, gconstpointer data) {
  mock_llm_push(f->mock, MOCK_OK, "a|b|c|d|e|f|g|h", 20);
  f->cancel_after = 3;
  ask(f);
  wait_done(f);
  g_assert_error(f->error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpstr(f->text->str, ==, "abc");
  while (mock_llm_left(f->mock) == 0)
    g_main_context_iteration(NULL, TRUE);
}

static gboolean cancel_now(gpointer user) {
  choir_chat_cancel(((Fixture *)user)->call);
  return G_SOURCE_REMOVE;
}

static void test_cancel_in_silence(Fixture *f, gconstpointer data) {
  mock_llm_push(f->mock, MOCK_HANG, "", 1);
  ask(f);
  g_timeout_add(100, cancel_now, f);
  gint64 from = g_get_monotonic_time();
  wait_done(f);
  g_assert_error(f->error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpint(g_get_monotonic_time() - from, <, 5 * G_USEC_PER_SEC);
  while (mock_llm_left(f->mock) == 0)
    g_main_context_iteration(NULL, TRUE);
}

static void test_nobody_there(Fixture *f, gconstpointer data) {
  choir_chat_set_server(f->chat, "http://127.0.0.1:1", NULL);
  ask(f);
  wait_done(f);
  g_assert_error(f->error, CHOIR_HTTP_ERROR, CHOIR_HTTP_ERROR_CONNECT);
}

static void test_warm(Fixture *f, gconstpointer data) {
  static const ChoirChatHandlers handlers = {.done = on_done};
  json_t *messages = json_pack("[{s:s,s:s}]", "role", "system", "content", "persona");
  ChoirChatRequest request = {.messages = messages, .warm = TRUE};
  choir_chat_begin(f->chat, &request, &handlers, f);
  json_decref(messages);
  wait_done(f);
  g_assert_no_error(f->error);
  g_assert_cmpuint(mock_llm_warms(f->mock), ==, 1);
}

/* Other makes insist on a model's name and refuse what they do not know; OpenAI takes four stops. */
static void test_plain(Fixture *f, gconstpointer data) {
  static const ChoirChatHandlers handlers = {.done = on_done};
  json_t *messages = json_pack("[{s:s,s:s}]", "role", "user", "content", "hello");
  ChoirChatRequest request = {.messages = messages,
                              .max_tokens = 20,
                              .repeat_penalty = 1.1,
                              .stop = (const char *const[]){"a", "b", "c", "d", "e", "f", NULL}};
  choir_chat_set_model(f->chat, "some-model", TRUE);
  choir_chat_begin(f->chat, &request, &handlers, f);
  json_decref(messages);
  wait_done(f);
  g_assert_no_error(f->error);
  json_t *sent = mock_llm_request(f->mock, 0);
  static const char *const known[] = {"messages",   "stream", "stream_options", "temperature",
                                      "max_tokens", "model",  "stop",           NULL};
  const char *key;
  json_t *value;
  json_object_foreach(sent, key, value) g_assert_true(g_strv_contains(known, key));
  g_assert_cmpstr(choir_json_string(sent, "model", ""), ==, "some-model");
  g_assert_cmpuint(json_array_size(json_object_get(sent, "stop")), ==, 4);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  alarm(60);
  g_test_add("/llm/chat/answer", Fixture, NULL, setup, test_answer, teardown);
  g_test_add("/llm/chat/failures", Fixture, NULL, setup, test_failures, teardown);
  g_test_add("/llm/chat/cancel-in-stream", Fixture, NULL, setup, test_cancel_in_stream, teardown);
  g_test_add("/llm/chat/cancel-in-silence", Fixture, NULL, setup, test_cancel_in_silence, teardown);
  g_test_add("/llm/chat/nobody-there", Fixture, NULL, setup, test_nobody_there, teardown);
  g_test_add("/llm/chat/warm", Fixture, NULL, setup, test_warm, teardown);
  g_test_add("/llm/chat/plain", Fixture, NULL, setup, test_plain, teardown);
  return g_test_run();
}
