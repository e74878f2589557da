/* The supervisor against a stand-in for llama-server: this program itself, started with --fake. */
#include <errno.h>
#include <glib/gstdio.h>
#include <libsoup/soup.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/text.h"
#include "llm/server_private.h"
#include "mock_llm.h"

/* The stand-in: answers like llama-server, as far as the supervisor looks. FAKE_LOG gets a line for each start. */

typedef struct {
  const char *slots_dir;
  double rate;
  gint64 ready_at;
} Fake;

static const char *option(int argc, char **argv, const char *name) {
  for (int i = 0; i + 1 < argc; i++)
    if (g_str_equal(argv[i], name))
      return argv[i + 1];
  return "";
}

static void answer(SoupServerMessage *message, guint status, const char *body) {
  soup_server_message_set_status(message, status, NULL);
  soup_server_message_set_response(message, "application/json", SOUP_MEMORY_COPY, body, strlen(body));
}

static void fake_slots(Fake *fake, SoupServerMessage *message, GHashTable *query) {
  SoupMessageBody *body = soup_server_message_get_request_body(message);
  g_autoptr(GBytes) bytes = soup_message_body_flatten(body);
  json_t *request = choir_json_parse(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes), NULL);
  g_autofree char *path = g_build_filename(fake->slots_dir, choir_json_string(request, "filename", "none"), NULL);
  json_decref(request);
  if (g_str_equal(g_hash_table_lookup(query, "action"), "save"))
    answer(message, g_file_set_contents(path, "kv", -1, NULL) ? 200 : 500, "{\"n_saved\":42}");
  else if (g_file_test(path, G_FILE_TEST_EXISTS))
    answer(message, 200, "{\"n_restored\":42}");
  else
    answer(message, 400, "{\"error\":{\"message\":\"no such file\"}}");
}

static void on_request(SoupServer *server, SoupServerMessage *message, const char *path, GHashTable *query,
                       gpointer user) {
  Fake *fake = user;
  g_autofree char *wanted = g_strconcat("Bearer ", g_getenv("LLAMA_API_KEY"), NULL);
  const char *key = soup_message_headers_get_one(soup_server_message_get_request_headers(message), "Authorization");
  if (g_str_equal(path, "/health")) {
    gboolean ready = g_get_monotonic_time() >= fake->ready_at;
    answer(message, ready ? 200 : 503, ready ? "{\"status\":\"ok\"}" : "{\"error\":{\"message\":\"Loading model\"}}");
  } else if (g_strcmp0(key, wanted) != 0) {
    answer(message, 401, "{\"error\":{\"message\":\"Invalid API Key\"}}");
  } else if (g_str_equal(path, "/v1/models")) {
    answer(message, 200, "{\"data\":[{\"id\":\"fake\",\"meta\":{\"n_params\":134515008}}]}");
  } else if (g_str_equal(path, "/completion")) {
    g_autofree char *text = g_strdup_printf("{\"timings\":{\"prompt_n\":64,\"prompt_ms\":%.1f}}", 64000 / fake->rate);
    answer(message, 200, text);
  } else {
    fake_slots(fake, message, query);
  }
}

static int fake_main(int argc, char **argv) {
  Fake fake = {.slots_dir = option(argc, argv, "--slot-save-path"),
               .rate = g_ascii_strtod(g_getenv("FAKE_RATE"), NULL),
               .ready_at = g_get_monotonic_time() + 300000};
  FILE *log = fopen(g_getenv("FAKE_LOG"), "a");
  fprintf(log, "ub=%s kv=%s spin=%s\n", option(argc, argv, "-ub"), option(argc, argv, "-ctk"),
          g_getenv("GOMP_SPINCOUNT"));
  fclose(log);
  SoupServer *server = soup_server_new(NULL, NULL);
  soup_server_add_handler(server, NULL, on_request, &fake, NULL);
  if (!soup_server_listen_local(server, (guint)atoi(option(argc, argv, "--port")), SOUP_SERVER_LISTEN_IPV4_ONLY, NULL))
    return 1;
  g_main_loop_run(g_main_loop_new(NULL, FALSE));
  return 0;
}

/* The test */

typedef struct {
  char *dir, *log, *model;
  ChoirHttpClient *http;
  ChoirLlmServer *server;
  ChoirLlmServerOptions options;
  guint changes;
} Fixture;

static char *self;

static void write_file(const char *dir, const char *name, const char *text, int mode) {
  g_autofree char *path = g_build_filename(dir, name, NULL);
  g_assert_true(g_file_set_contents(path, text, -1, NULL));
  g_assert_cmpint(chmod(path, (mode_t)mode), ==, 0);
}

static void setup(Fixture *f, gconstpointer data) {
  f->dir = g_dir_make_tmp("choir-server-XXXXXX", NULL);
  f->log = g_build_filename(f->dir, "log", NULL);
  f->model = g_build_filename(f->dir, "model.gguf", NULL);
  g_autofree char *bin = g_build_filename(f->dir, "bin", NULL);
  g_autofree char *script = g_strdup_printf("#!/bin/sh\nexec '%s' --fake \"$@\"\n", self);
  g_assert_cmpint(g_mkdir(bin, 0700), ==, 0);
  write_file(bin, "llama-server", script, 0700);
  write_file(bin, "libggml-cpu-x64.so", "", 0600);
  write_file(bin, "libggml-cpu-haswell.so", "", 0600);
  write_file(bin, "libllama.so.0", "", 0600);
  write_file(f->dir, "model.gguf", "GGUF", 0600);
  g_setenv("FAKE_LOG", f->log, TRUE);
  g_setenv("FAKE_RATE", "500", TRUE);
  f->http = choir_http_client_new();
  f->options = (ChoirLlmServerOptions){.engine_dir = f->dir,
                                       .model_path = f->model,
                                       .model_name = "fake",
                                       .state_dir = f->dir,
                                       .context = 1024,
                                       .threads = 1};
}

static void remove_tree(const char *path) {
  g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
  const char *name;
  while (dir && (name = g_dir_read_name(dir))) {
    g_autofree char *child = g_build_filename(path, name, NULL);
    if (!g_file_test(child, G_FILE_TEST_IS_SYMLINK) && g_file_test(child, G_FILE_TEST_IS_DIR))
      remove_tree(child);
    else
      g_unlink(child);
  }
  g_rmdir(path);
}

static void on_flag(gpointer user) {
  *(gboolean *)user = TRUE;
}

static gboolean is_set(gpointer user) {
  return *(gboolean *)user;
}

static void wait_for(gboolean (*ready)(gpointer), gpointer data) {
  while (!ready(data))
    g_main_context_iteration(NULL, TRUE);
}

static void stop(Fixture *f) {
  gboolean stopped = FALSE;
  choir_llm_server_stop(f->server, on_flag, &stopped);
  wait_for(is_set, &stopped);
  choir_llm_server_free(f->server);
  f->server = NULL;
}

static void teardown(Fixture *f, gconstpointer data) {
  if (f->server)
    stop(f);
  choir_http_client_free(f->http);
  while (g_main_context_iteration(NULL, FALSE))
    ;
  remove_tree(f->dir);
  g_free(f->dir);
  g_free(f->log);
  g_free(f->model);
}

static gboolean ready(gpointer user) {
  return choir_llm_server_ready(((Fixture *)user)->server);
}

static gboolean not_ready(gpointer user) {
  return !ready(user);
}

static void on_change(gpointer user) {
  ((Fixture *)user)->changes++;
}

static void start(Fixture *f) {
  g_autoptr(GError) error = NULL;
  f->server = choir_llm_server_new(&f->options, f->http, &error);
  g_assert_no_error(error);
  choir_llm_server_on_change(f->server, on_change, f);
  choir_llm_server_start(f->server);
}

static int status_int(Fixture *f, const char *key) {
  json_t *status = choir_llm_server_status(f->server);
  int value = (int)choir_json_int(status, key, -1);
  json_decref(status);
  return value;
}

static char *starts(Fixture *f) {
  char *text = NULL;
  g_file_get_contents(f->log, &text, NULL, NULL);
  return text;
}

static void test_choose(Fixture *f, gconstpointer data) {
  g_assert_cmpuint(choir_llm_probe_choose(3), ==, CHOIR_UBATCH_MIN);
  g_assert_cmpuint(choir_llm_probe_choose(13.7), ==, CHOIR_UBATCH_MIN);
  g_assert_cmpuint(choir_llm_probe_choose(110), ==, 32);
  g_assert_cmpuint(choir_llm_probe_choose(500), ==, 128);
  g_assert_cmpuint(choir_llm_probe_choose(1e6), ==, CHOIR_UBATCH_MAX);
  for (double rate = 13.4; rate < 3000; rate *= 1.1)
    g_assert_cmpfloat(choir_llm_probe_choose(rate) / rate, <=, CHOIR_BATCH_SECONDS);
  double rate;
  g_assert_cmpuint(choir_llm_probe_load(f->dir, "k", &rate), ==, 0);
  choir_llm_probe_store(f->dir, "k", 64, 250);
  choir_llm_probe_store(f->dir, "other", 8, 2);
  g_assert_cmpuint(choir_llm_probe_load(f->dir, "k", &rate), ==, 64);
  g_assert_cmpfloat(rate, ==, 250);
  write_file(f->dir, "llm-probe.json", "{\"k\":[{]", 0600);
  g_assert_cmpuint(choir_llm_probe_load(f->dir, "k", &rate), ==, 0);
}

static void test_probe_once(Fixture *f, gconstpointer data) {
  start(f);
  wait_for(ready, f);
  g_assert_cmpint(status_int(f, "ubatch"), ==, 128);
  g_assert_cmpuint(choir_llm_server_params(f->server), ==, 134515008);
  g_assert_cmpuint(choir_llm_server_context(f->server), ==, 1024);
  g_assert_cmpuint(f->changes, >=, 4); /* starting, loading, probing, starting again, ready */
  stop(f);
  g_autofree char *first = starts(f);
  g_auto(GStrv) lines = g_strsplit(first, "\n", -1);
  g_assert_cmpuint(g_strv_length(lines), ==, 3);
  g_assert_true(g_str_has_prefix(lines[0], "ub=32 "));
  g_assert_true(g_str_has_prefix(lines[1], "ub=128 "));
  g_assert_true(g_str_has_suffix(lines[1], "spin=1000"));
  /* The second time it is known. */
  start(f);
  wait_for(ready, f);
  stop(f);
  g_autofree char *second = starts(f);
  g_auto(GStrv) all = g_strsplit(second, "\n", -1);
  g_assert_cmpuint(g_strv_length(all), ==, 4);
  g_assert_true(g_str_has_prefix(all[2], "ub=128 "));
}

/* Probed while the machine was busy: real prompts correct it, for the next start. */
static void test_observe(Fixture *f, gconstpointer data) {
  g_setenv("FAKE_RATE", "40", TRUE);
  start(f);
  wait_for(ready, f);
  g_assert_cmpint(status_int(f, "ubatch"), ==, 8);
  ChoirChatTimings short_one = {.evaluated_tokens = 10, .prompt_ms = 10},
                   slow = {.evaluated_tokens = 100, .prompt_ms = 5000};
  choir_llm_server_observe(f->server, &short_one);
  choir_llm_server_observe(f->server, &slow);
  ChoirChatTimings fast = {.evaluated_tokens = 120, .prompt_ms = 500};
  choir_llm_server_observe(f->server, &fast);
  g_assert_cmpint(status_int(f, "ubatch"), ==, 8);
  stop(f);
  start(f);
  wait_for(ready, f);
  g_assert_cmpint(status_int(f, "ubatch"), ==, 64);
}

static void test_killed(Fixture *f, gconstpointer data) {
  g_setenv("FAKE_RATE", "110", TRUE);
  start(f);
  wait_for(ready, f);
  GPid before = choir_child_pid(choir_llm_server_child(f->server));
  kill(before, SIGKILL);
  wait_for(not_ready, f);
  wait_for(ready, f);
  g_assert_cmpint(choir_child_pid(choir_llm_server_child(f->server)), !=, before);
  g_assert_cmpuint(choir_child_restarts(choir_llm_server_child(f->server)), ==, 1);
}

typedef struct {
  gboolean done, ok;
  gint tokens;
} Slot;

static void on_slot(gboolean ok, gint tokens, gpointer user) {
  Slot *slot = user;
  slot->done = TRUE;
  slot->ok = ok;
  slot->tokens = tokens;
}

static Slot slot_action(Fixture *f, gboolean save, const char *key) {
  Slot slot = {0};
  if (save)
    choir_llm_server_slot_save(f->server, 0, key, on_slot, &slot);
  else
    choir_llm_server_slot_restore(f->server, 0, key, on_slot, &slot);
  g_assert_false(slot.done); /* never from inside the call */
  wait_for(is_set, &slot.done);
  return slot;
}

static void test_slots(Fixture *f, gconstpointer data) {
  start(f);
  g_assert_false(slot_action(f, TRUE, "too early").ok);
  wait_for(ready, f);
  g_assert_false(slot_action(f, FALSE, "../../etc/passwd").ok);
  g_assert_true(slot_action(f, TRUE, "../../etc/passwd").ok); /* a key is hashed, not a path */
  Slot restored = slot_action(f, FALSE, "../../etc/passwd");
  g_assert_true(restored.ok);
  g_assert_cmpint(restored.tokens, ==, 42);
  for (int i = 0; i < 10; i++) {
    g_autofree char *key = g_strdup_printf("key %d", i);
    g_assert_true(slot_action(f, TRUE, key).ok);
  }
  g_assert_true(slot_action(f, FALSE, "key 9").ok);
  g_assert_false(slot_action(f, FALSE, "key 1").ok);
  g_autofree char *slots = g_build_filename(f->dir, "slots", NULL);
  g_autoptr(GDir) dir = g_dir_open(slots, 0, NULL);
  guint files = 0;
  while (g_dir_read_name(dir))
    files++;
  g_assert_cmpuint(files, ==, 4);
}

static void test_forced_variant(Fixture *f, gconstpointer data) {
  f->options.cpu_variant = "x64";
  start(f);
  wait_for(ready, f);
  g_autofree char *one = g_build_filename(f->dir, "backends-x64", "libggml-cpu-x64.so", NULL);
  g_autofree char *other = g_build_filename(f->dir, "backends-x64", "libggml-cpu-haswell.so", NULL);
  g_autofree char *shared = g_build_filename(f->dir, "backends-x64", "libllama.so.0", NULL);
  g_assert_true(g_file_test(one, G_FILE_TEST_EXISTS));
  g_assert_true(g_file_test(shared, G_FILE_TEST_EXISTS));
  g_assert_false(g_file_test(other, G_FILE_TEST_EXISTS));
  g_autofree char *log = starts(f);
  g_assert_nonnull(strstr(log, "kv=q8_0"));
}

/* The sentence on the status panel. */
static void test_variant_why(Fixture *f, gconstpointer data) {
  g_autofree char *bin = g_build_filename(f->dir, "bin", NULL);
  ChoirLlmCommand command = {.engine_dir = f->dir};
  g_mkdir_with_parents(bin, 0700);
  static const char *const files[] = {"libggml-cpu-x64.so", "libggml-cpu-core2.so"};
  for (guint i = 0; i < G_N_ELEMENTS(files); i++) {
    g_autofree char *file = g_build_filename(bin, files[i], NULL);
    g_assert_true(g_file_set_contents(file, "", 0, NULL));
  }
  g_autofree char *chosen = choir_llm_variant_why(&command, "core2", "SSSE3 kernels over x64");
  g_assert_true(g_str_has_prefix(chosen, "the highest score among core2"));
  g_assert_true(g_str_has_suffix(chosen, "; SSSE3 kernels over x64"));
  g_autofree char *stock = choir_llm_variant_why(&command, "x64", NULL);
  g_assert_true(g_str_has_suffix(stock, ")"));
  command.cpu_variant = (char *)"core2";
  g_autofree char *forced = choir_llm_variant_why(&command, "core2", "standing aside: ggml 9");
  g_assert_cmpstr(forced, ==, "forced by [llm] variant; standing aside: ggml 9");
}

static char *progress(Fixture *f) {
  json_t *status = choir_llm_server_status(f->server);
  char *text = g_strdup(choir_json_string(status, "progress", ""));
  json_decref(status);
  return text;
}

static gboolean timer_done(gpointer user) {
  *(gboolean *)user = TRUE;
  return G_SOURCE_REMOVE;
}

static void test_missing(Fixture *f, gconstpointer data) {
  static const char *const says[] = {"avx1024", "is missing", NULL};
  for (int i = 0; says[i]; i++) {
    gboolean done = FALSE;
    f->options.cpu_variant = i == 0 ? "avx1024" : NULL;
    f->options.model_path = i == 1 ? "/nonexistent/model.gguf" : f->model;
    start(f);
    g_timeout_add(300, timer_done, &done);
    wait_for(is_set, &done);
    g_assert_false(choir_llm_server_ready(f->server));
    g_autofree char *text = progress(f);
    g_test_message("%s", text);
    g_assert_nonnull(strstr(text, says[i]));
    stop(f);
  }
}

/* Another make: the model that was asked for, else the first of its list. */
static void test_other_make(Fixture *f, gconstpointer data) {
  for (int named = 0; named < 2; named++) {
    MockLlm *mock = mock_llm_new();
    mock_llm_set_plain(mock);
    f->options.external_url = mock_llm_url(mock);
    f->options.model_name = named ? "second" : "";
    start(f);
    wait_for(ready, f);
    g_assert_true(choir_chat_plain(choir_llm_server_chat(f->server)));
    g_assert_cmpstr(choir_llm_server_model(f->server), ==, named ? "second" : "mock");
    choir_llm_server_free(f->server);
    f->server = NULL;
    mock_llm_free(mock);
  }
}

static void test_external(Fixture *f, gconstpointer data) {
  MockLlm *mock = mock_llm_new();
  mock_llm_set_ready(mock, FALSE);
  f->options.external_url = mock_llm_url(mock);
  f->options.engine_dir = "/nonexistent";
  start(f);
  gboolean done = FALSE;
  g_timeout_add(300, timer_done, &done);
  wait_for(is_set, &done);
  g_assert_false(choir_llm_server_ready(f->server));
  mock_llm_set_ready(mock, TRUE);
  wait_for(ready, f);
  g_assert_null(choir_llm_server_child(f->server));
  g_assert_cmpuint(choir_llm_server_context(f->server), ==, 2048);
  g_assert_false(slot_action(f, TRUE, "not ours").ok);
  choir_llm_server_free(f->server);
  f->server = NULL;
  mock_llm_free(mock);
}

int main(int argc, char **argv) {
  if (argc > 1 && g_str_equal(argv[1], "--fake"))
    return fake_main(argc, argv);
  self = g_file_read_link("/proc/self/exe", NULL);
  g_test_init(&argc, &argv, NULL);
  alarm(100);
#define ADD(name) g_test_add("/llm/server/" #name, Fixture, NULL, setup, test_##name, teardown)
  ADD(choose);
  ADD(probe_once);
  ADD(observe);
  ADD(killed);
  ADD(slots);
  ADD(forced_variant);
  ADD(variant_why);
  ADD(missing);
  ADD(external);
  ADD(other_make);
  return g_test_run();
}
