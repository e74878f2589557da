/* The turn engine on the real llama-server and the default model: what is evaluated, by the server's own counts. Needs
 * the engine and the model in the cache; skipped without them. */
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "agent/twin.h"
#include "base/text.h"
#include "net/http_client.h"

typedef struct {
  char *dir, *model, *history_path;
  ChoirHttpClient *http;
  ChoirLlmServer *llm;
  ChoirHistory *history;
  ChoirTwin *twin;
  const char *variant;
} House;

typedef struct {
  gboolean done;
  char *reply, *error;
} Answer;

static const char *model_path(void) {
  static char *path;
  if (!path)
    path = g_build_filename(g_get_user_cache_dir(), "choir", "models", "SmolLM2-135M-Instruct.Q4_1.gguf", NULL);
  return path;
}

static const char *engine_dir(void) {
  static char *path;
  if (!path)
    path =
        *ENGINE_DIR ? g_strdup(ENGINE_DIR) : g_build_filename(g_get_user_cache_dir(), "choir", "engine", "11434", NULL);
  return path;
}

static gboolean missing(const char *variant) {
  g_autofree char *program = g_build_filename(engine_dir(), "bin", "llama-server", NULL);
  g_autofree char *library = g_strdup_printf("%s/bin/libggml-cpu-%s.so", engine_dir(), variant ? variant : "x64");
  if (access(program, X_OK) == 0 && access(library, R_OK) == 0 && access(model_path(), R_OK) == 0)
    return FALSE;
  g_test_skip("llama-server or the default model is not in the cache; ./run --setup-only puts them there");
  return TRUE;
}

static gboolean tick(gpointer user) {
  return G_SOURCE_CONTINUE;
}

static void spin_until(gboolean (*ready)(gpointer), gpointer data, guint seconds) {
  gint64 end = g_get_monotonic_time() + (gint64)seconds * G_USEC_PER_SEC;
  guint ticker = g_timeout_add(50, tick, NULL);
  while (!ready(data)) {
    g_assert_cmpint(g_get_monotonic_time(), <, end);
    g_main_context_iteration(NULL, TRUE);
  }
  g_source_remove(ticker);
}

static gboolean llm_ready(gpointer data) {
  return choir_llm_server_ready(((House *)data)->llm);
}

static gboolean settled(gpointer data) {
  return choir_twin_settled(((House *)data)->twin);
}

static void house_up(House *house) {
  g_autoptr(GError) error = NULL;
  ChoirLlmServerOptions options = {.engine_dir = engine_dir(),
                                   .model_path = model_path(),
                                   .model_name = "SmolLM2-135M-Instruct",
                                   .state_dir = house->dir,
                                   .context = 2048,
                                   .cpu_variant = house->variant};
  house->http = choir_http_client_new();
  house->llm = choir_llm_server_new(&options, house->http, &error);
  g_assert_no_error(error);
  house->history = choir_history_open(house->history_path, &error);
  g_assert_no_error(error);
  ChoirTwinOptions twin = {.prompts_dir = PROMPTS_DIR, .max_reply_tokens = 12, .temperature = 0};
  house->twin = choir_twin_new(&twin, house->llm, house->history, &error);
  g_assert_no_error(error);
  choir_llm_server_start(house->llm);
}

static void on_stopped(gpointer user) {
  *(gboolean *)user = TRUE;
}

static gboolean is_set(gpointer user) {
  return *(gboolean *)user;
}

static void house_down(House *house) {
  gboolean stopped = FALSE;
  choir_twin_free(house->twin);
  choir_llm_server_stop(house->llm, on_stopped, &stopped);
  spin_until(is_set, &stopped, 10);
  choir_llm_server_free(house->llm);
  choir_history_close(house->history);
  choir_http_client_free(house->http);
  while (g_main_context_iteration(NULL, FALSE))
    ;
}

static gboolean set_flag(gpointer user) {
  *(gboolean *)user = TRUE;
  return G_SOURCE_REMOVE;
}

static void on_done(ChoirTurn *turn, const char *reply, const GError *error, gpointer user) {
  Answer *answer = user;
  answer->done = TRUE;
  answer->reply = g_strdup(reply);
  answer->error = error ? g_strdup(error->message) : NULL;
}

static gboolean answered(gpointer data) {
  return ((Answer *)data)->done;
}

/* Asks, waits for the answer; the number of tokens that were evaluated for it. */
static int ask(House *house, const char *text) {
  Answer answer = {0};
  ChoirTurnRequest request = {.text = text, .source = "api"};
  ChoirTurnHandlers handlers = {.done = on_done};
  g_autoptr(GError) error = NULL;
  g_assert_nonnull(choir_twin_begin(house->twin, &request, &handlers, &answer, &error));
  spin_until(answered, &answer, 60);
  g_assert_cmpstr(answer.error, ==, NULL);
  const ChoirChatTimings *timings = choir_twin_timings(house->twin);
  printf("# %-28s cached %3d evaluated %3d  %s\n", text, timings->cached_tokens, timings->evaluated_tokens,
         answer.reply);
  g_free(answer.reply);
  g_free(answer.error);
  return timings->evaluated_tokens;
}

typedef struct {
  gboolean done;
  int evaluated;
} ApiCall;

static void on_api_done(const char *finish, const ChoirChatTimings *timings, const GError *error, gpointer user) {
  ApiCall *call = user;
  g_assert_no_error(error);
  call->done = TRUE;
  call->evaluated = timings->evaluated_tokens;
}

static void api_call(House *house) {
  ApiCall call = {0};
  json_t *messages =
      json_pack("[{s:s,s:s},{s:s,s:s}]", "role", "system", "content", "You write poems about the sea.", "role", "user",
                "content", "Write something long about waves, ships and the wind in the north.");
  ChoirChatRequest request = {.messages = messages, .slot = CHOIR_SLOT_API, .max_tokens = 4};
  ChoirChatHandlers handlers = {.done = on_api_done};
  choir_chat_begin(choir_llm_server_chat(house->llm), &request, &handlers, &call);
  spin_until(is_set, &call.done, 60);
  g_assert_cmpint(call.evaluated, >, 20);
  json_decref(messages);
}

static void house_init(House *house) {
  house->dir = g_dir_make_tmp("choir-real-XXXXXX", NULL);
  house->history_path = g_build_filename(house->dir, "history.db", NULL);
}

static void remove_tree(const char *path) {
  GDir *dir = g_dir_open(path, 0, NULL);
  const char *name;
  while (dir && (name = g_dir_read_name(dir))) {
    g_autofree char *child = g_build_filename(path, name, NULL);
    if (!g_file_test(child, G_FILE_TEST_IS_SYMLINK) && g_file_test(child, G_FILE_TEST_IS_DIR))
      remove_tree(child);
    else
      g_unlink(child);
  }
  if (dir)
    g_dir_close(dir);
  g_rmdir(path);
}

static void house_clear(House *house) {
  remove_tree(house->dir);
  g_free(house->dir);
  g_free(house->history_path);
}

/* Sum of prompt tokens that the server has evaluated, from its metrics. */
typedef struct {
  gboolean done;
  int tokens;
} Metric;

static void on_metric(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  Metric *metric = user;
  g_assert_no_error(error);
  const char *line = strstr(body, "\nllamacpp:prompt_tokens_total ");
  g_assert_nonnull(line);
  metric->tokens = (int)g_ascii_strtod(line + strlen("\nllamacpp:prompt_tokens_total "), NULL);
  metric->done = TRUE;
}

static int evaluated_total(House *house) {
  Metric metric = {0};
  ChoirChat *chat = choir_llm_server_chat(house->llm);
  g_autofree char *url = g_strconcat(choir_chat_base_url(chat), "/metrics", NULL);
  choir_http_request(house->http, "GET", url, NULL, NULL, 0, choir_chat_headers(chat), 30000, 0, NULL, on_metric,
                     &metric);
  spin_until(is_set, &metric.done, 40);
  return metric.tokens;
}

/* "<|im_start|>user\n" + text + "<|im_end|>\n<|im_start|>assistant\n", the end of the reply before it, and at most one
 * token that is always evaluated again. */
#define FRAME 16

static void test_only_new_text(void) {
  House house = {0};
  if (missing(NULL))
    return;
  house_init(&house);
  house_up(&house);
  spin_until(llm_ready, &house, 60);
  spin_until(settled, &house, 30);
  g_assert_cmpint(ask(&house, "Hello there."), <=, FRAME + 4);
  g_assert_cmpint(ask(&house, "My cat is grey."), <=, FRAME + 6);
  /* An API call between two live turns has its own slot. */
  api_call(&house);
  g_assert_cmpint(ask(&house, "My dog is old."), <=, FRAME + 6);
  for (int turn = 4; turn <= 25; turn++) {
    g_autofree char *text = g_strdup_printf("I like number %d.", turn);
    g_assert_cmpint(ask(&house, text), <=, FRAME + 8);
    if (turn == 20) { /* the window is cut and evaluated again in the silence */
      spin_until(settled, &house, 60);
    }
  }
  /* In the full run the silence is long enough for the whole conversation to go to a file. */
  gboolean full = g_strcmp0(g_getenv("CHOIR_FULL"), "1") == 0, waited = FALSE;
  if (full) {
    g_timeout_add_seconds(24, set_flag, &waited);
    spin_until(is_set, &waited, 40);
    spin_until(settled, &house, 20);
  }
  house_down(&house);
  /* After a restart: the persona comes from its file, the history is evaluated in the background. */
  house_up(&house);
  spin_until(llm_ready, &house, 60);
  spin_until(settled, &house, 60);
  int before_first = evaluated_total(&house);
  printf("# evaluated in the background after the restart: %d\n", before_first);
  if (full)
    g_assert_cmpint(before_first, <=, 8);
  g_assert_cmpint(ask(&house, "Good night."), <=, FRAME + 4);
  json_t *entries = choir_history_entries(house.history, choir_history_current(house.history), 0, NULL);
  g_assert_cmpint(json_array_size(entries), ==, 52);
  json_decref(entries);
  json_t *status = choir_llm_server_status(house.llm);
  g_autofree char *text = choir_json_dump(status);
  printf("# %s\n# llama-server RSS %" G_GINT64_FORMAT " kB\n", text,
         choir_child_rss_kb(choir_llm_server_child(house.llm)));
  json_decref(status);
  house_down(&house);
  house_clear(&house);
}

static void on_cancelled(const char *finish, const ChoirChatTimings *timings, const GError *error, gpointer user) {
  g_assert_error(error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  *(gboolean *)user = TRUE;
}

static gboolean cancel_now(gpointer call) {
  choir_chat_cancel(call);
  return G_SOURCE_REMOVE;
}

/* The slowest build; a client that leaves while its prompt is read must not hold the server for longer than a batch. */
static void test_disconnect_in_prefill(void) {
  House house = {.variant = "x64"};
  if (missing("x64"))
    return;
  house_init(&house);
  house_up(&house);
  spin_until(llm_ready, &house, 90);
  spin_until(settled, &house, 60);
  json_t *status = choir_llm_server_status(house.llm);
  int batch = (int)choir_json_int(status, "ubatch", 0);
  g_assert_cmpstr(choir_json_string(status, "variant", ""), ==, "x64");
  printf("# %s\n", choir_json_string(status, "why", ""));
  json_decref(status);
  g_assert_cmpint(batch, >=, 4);

  GString *longish = g_string_new(NULL);
  for (int i = 0; i < 300; i++)
    g_string_append_printf(longish, "word%d ", i);
  json_t *messages = json_pack("[{s:s,s:s}]", "role", "user", "content", longish->str);
  ChoirChatRequest request = {.messages = messages, .slot = CHOIR_SLOT_API, .max_tokens = 4};
  ChoirChatHandlers handlers = {.done = on_cancelled};
  gboolean cancelled = FALSE;
  int before = evaluated_total(&house);
  ChoirChatCall *call = choir_chat_begin(choir_llm_server_chat(house.llm), &request, &handlers, &cancelled);
  g_timeout_add(1500, cancel_now, call);
  spin_until(is_set, &cancelled, 10);
  gint64 from = g_get_monotonic_time();
  int evaluated = ask(&house, "Are you there?");
  double seconds = (double)(g_get_monotonic_time() - from) / G_USEC_PER_SEC;
  int after = evaluated_total(&house);
  printf("# batch %d; next answer after %.2f s; counted by the server: %d, of these the next turn %d\n", batch, seconds,
         after - before, evaluated);
  /* The prompt has more than 900 tokens: far from all of it may have been read. */
  g_assert_cmpint(after - before, <, 400);
  json_decref(messages);
  g_string_free(longish, TRUE);
  house_down(&house);
  house_clear(&house);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  alarm(400);
  g_test_add_func("/agent/real/only-new-text", test_only_new_text);
  g_test_add_func("/agent/real/disconnect-in-prefill", test_disconnect_in_prefill);
  return g_test_run();
}
