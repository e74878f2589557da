#include <fcntl.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/scrub.h"
#include "base/text.h"
#include "wait.h"

static void test_levels(void) {
  g_autoptr(GError) error = NULL;
  g_assert_true(choir_log_init(FALSE, "warning, llm=debug ,net*=error", &error));
  g_assert_true(choir_log_enabled("llm", CHOIR_LOG_DEBUG));
  g_assert_false(choir_log_enabled("network", CHOIR_LOG_WARNING));
  g_assert_true(choir_log_enabled("other", CHOIR_LOG_WARNING));
  g_assert_false(choir_log_enabled("other", CHOIR_LOG_INFO));
  g_assert_false(choir_log_init(FALSE, "llm=loud", &error));
  g_assert_cmpstr(error->message, ==, "unknown log level \"loud\"; accepted are error, warning, info, debug");
  g_assert_true(choir_log_enabled("llm", CHOIR_LOG_DEBUG)); /* a refused setting changes nothing */
  g_assert_true(choir_log_init(FALSE, NULL, NULL));
  g_assert_false(choir_log_enabled("llm", CHOIR_LOG_DEBUG));
}

static void test_scrub(void) {
  static const char *const cases[][2] = {
      {"Authorization: Bearer abcdefgh1234", "Authorization: Bearer [hidden]"},
      {"got bearer abcdefgh1234, fine", "got bearer [hidden], fine"},
      {"{\"api_key\": \"abcdef123\"}", "{\"api_key\": \"[hidden]\"}"},
      {"GET /x?token=abcdef123&a=1", "GET /x?token=[hidden]&a=1"},
      {"key sk-proj-AbCdEfGh123 used", "key [hidden] used"},
      {"password=hunter2hunter2", "password=[hidden]"},
      {"http://me:secretword@host/", "http://me:[hidden]@host/"},
      {"12 tokens, token=12", "12 tokens, token=12"},
      {"n_tokens = 4096, ask-me", "n_tokens = 4096, ask-me"},
      {"the secret: mySeCr3t!", "the secret: [hidden]"},
      {"nothing here", "nothing here"},
  };
  for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autofree char *scrubbed = choir_scrub(cases[i][0]);
    g_assert_cmpstr(scrubbed, ==, cases[i][1]);
  }
  choir_log_add_secret("short");
  choir_log_add_secret(NULL);
  choir_log_add_secret("correct horse");
  choir_log_add_secret("correct horse battery");
  g_autofree char *registered = choir_scrub("a correct horse battery and a correct horse, short");
  g_assert_cmpstr(registered, ==, "a [hidden] and a [hidden], short");
}

/* What reaches standard error while `act` runs. */
static char *captured(void (*act)(void)) {
  g_autofree char *path = NULL;
  int file = g_file_open_tmp("choir-log-XXXXXX", &path, NULL), saved = dup(STDERR_FILENO);
  dup2(file, STDERR_FILENO);
  act();
  dup2(saved, STDERR_FILENO);
  close(saved);
  close(file);
  char *text = NULL;
  g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
  g_unlink(path);
  return text;
}

static void say_odd_things(void) {
  choir_info("forms", "one\ntwo\x1b[31m \"quoted\" \\ tab\there");
  choir_info("forms", "bad \xff bytes, token=abcdefghijk");
  g_autofree char *endless = g_strnfill(100000, '"');
  choir_warning("forms", "%s", endless);
  g_message("from the library");
}

static void test_json_lines(void) {
  g_assert_true(choir_log_init(TRUE, NULL, NULL));
  g_autofree char *text = captured(say_odd_things);
  g_assert_true(choir_log_init(FALSE, NULL, NULL));
  g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
  g_assert_cmpuint(g_strv_length(lines), ==, 5); /* four and the empty end */
  static const char *const wanted[] = {"one | two?[31m \"quoted\" \\ tab here",
                                       "bad \xef\xbf\xbd bytes, token=[hidden]", NULL, "from the library"};
  for (guint i = 0; i < 4; i++) {
    g_assert_cmpuint(strlen(lines[i]), <, 4096);
    json_t *json = choir_json_parse(lines[i], strlen(lines[i]), NULL);
    g_assert_nonnull(json);
    if (wanted[i] != NULL)
      g_assert_cmpstr(choir_json_string(json, "text", NULL), ==, wanted[i]);
    g_assert_cmpstr(choir_json_string(json, "topic", NULL), ==, i < 3 ? "forms" : "choir");
    json_decref(json);
  }
}

static void say_plain(void) {
  choir_error("plain", "hello %d", 5);
}

static void test_plain(void) {
  g_autofree char *text = captured(say_plain);
  g_assert_nonnull(strstr(text, " error   plain  hello 5\n"));
}

typedef struct {
  GPtrArray *texts;
  guint64 last_serial;
  guint id;
  gboolean logs, leaves;
} Seen;

static void on_line(const ChoirLogLine *line, gpointer user) {
  Seen *seen = user;
  g_assert_cmpuint(line->serial, >, seen->last_serial);
  seen->last_serial = line->serial;
  if (g_str_has_prefix(line->topic, "heard"))
    g_ptr_array_add(seen->texts, g_strdup(line->text));
  if (seen->logs)
    choir_info("heard", "an echo that must not come back");
  if (seen->leaves)
    choir_log_unlisten(seen->id);
}

static void silent_flood(void) {
  for (guint i = 0; i < 1000; i++)
    choir_info("heard-flood", "line %u", i);
}

static void flood_captured(void) {
  g_autofree char *text = captured(silent_flood);
}

static void test_listeners(void) {
  Seen all = {.texts = g_ptr_array_new_with_free_func(g_free), .logs = TRUE};
  Seen one = {.texts = g_ptr_array_new_with_free_func(g_free), .leaves = TRUE};
  choir_info("heard", "before");
  all.id = choir_log_listen(1, on_line, &all);
  one.id = choir_log_listen(0, on_line, &one);
  choir_info("heard", "after");
  g_assert_cmpuint(all.texts->len, ==, 0); /* never inside the call */
  choir_info("heard", "more");
  WAIT_UNTIL(all.texts->len >= 3, 2000);
  wait_ms(50);
  g_assert_cmpuint(all.texts->len, ==, 3);
  g_assert_cmpstr(g_ptr_array_index(all.texts, 0), ==, "before");
  g_assert_cmpstr(g_ptr_array_index(all.texts, 2), ==, "more");
  g_assert_cmpuint(one.texts->len, ==, 1); /* it left in its first call */
  choir_log_unlisten(all.id);
  choir_log_unlisten(all.id);
  choir_info("heard", "unheard");
  wait_ms(20);
  g_assert_cmpuint(all.texts->len, ==, 3);
  g_ptr_array_unref(all.texts);
  g_ptr_array_unref(one.texts);
}

static void test_rate(void) {
  Seen seen = {.texts = g_ptr_array_new_with_free_func(g_free)};
  guint64 dropped = choir_log_dropped();
  choir_clock_set_test_us(1000000);
  seen.id = choir_log_listen(0, on_line, &seen);
  flood_captured();
  g_assert_cmpuint(choir_log_dropped() - dropped, ==, 800);
  /* Nothing more is said: the loss must still be told. */
  WAIT_UNTIL(seen.texts->len >= 201, 3000);
  g_assert_cmpstr(g_ptr_array_index(seen.texts, 200), ==, "800 lines dropped");
  choir_clock_set_test_us(1500000); /* half a second gives a hundred lines */
  flood_captured();
  g_assert_cmpuint(choir_log_dropped() - dropped, ==, 1700);
  choir_clock_set_test_us(-1);
  choir_log_unlisten(seen.id);
  g_ptr_array_unref(seen.texts);
}

static gpointer log_thread(gpointer data) {
  for (guint i = 0; i < 150; i++)
    choir_info(data, "thread line %u token=abcdefghi", i);
  return NULL;
}

static void run_threads(void) {
  static const char *const names[] = {"heard-a", "heard-b", "heard-c", "heard-d"};
  GThread *threads[G_N_ELEMENTS(names)];
  for (guint i = 0; i < G_N_ELEMENTS(names); i++)
    threads[i] = g_thread_new("log", log_thread, (gpointer)names[i]);
  for (guint i = 0; i < G_N_ELEMENTS(names); i++)
    g_thread_join(threads[i]);
}

static void test_threads(void) {
  Seen seen = {.texts = g_ptr_array_new_with_free_func(g_free)};
  seen.id = choir_log_listen(0, on_line, &seen);
  g_autofree char *text = captured(run_threads);
  WAIT_UNTIL(seen.texts->len == 600, 3000);
  g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
  g_assert_cmpuint(g_strv_length(lines), ==, 601);
  g_assert_null(strstr(text, "abcdefghi"));
  choir_log_unlisten(seen.id);
  g_ptr_array_unref(seen.texts);
}

static int stuck_pipe[2];

static void log_into_stuck_pipe(void) {
  dup2(stuck_pipe[1], STDERR_FILENO);
  for (guint i = 0; i < 100; i++)
    choir_info("stuck", "nobody reads this %u", i);
}

/* Whoever reads our standard error may stop; the daemon must not stop with it. */
static void test_stuck_output(void) {
  char block[4096] = {0};
  g_assert_true(g_unix_open_pipe(stuck_pipe, FD_CLOEXEC, NULL));
  g_assert_true(g_unix_set_fd_nonblocking(stuck_pipe[1], TRUE, NULL));
  while (write(stuck_pipe[1], block, sizeof block) > 0)
    continue;
  g_assert_true(g_unix_set_fd_nonblocking(stuck_pipe[1], FALSE, NULL));
  guint64 dropped = choir_log_dropped();
  gint64 before = g_get_monotonic_time();
  g_autofree char *text = captured(log_into_stuck_pipe);
  g_assert_cmpint(g_get_monotonic_time() - before, <, 8 * G_USEC_PER_SEC);
  g_assert_cmpuint(choir_log_dropped() - dropped, ==, 100);
  close(stuck_pipe[0]);
  close(stuck_pipe[1]);
}

int main(int argc, char **argv) {
  alarm(60);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/log/levels", test_levels);
  g_test_add_func("/log/scrub", test_scrub);
  g_test_add_func("/log/plain", test_plain);
  g_test_add_func("/log/json-lines", test_json_lines);
  g_test_add_func("/log/listeners", test_listeners);
  g_test_add_func("/log/rate", test_rate);
  g_test_add_func("/log/threads", test_threads);
  g_test_add_func("/log/stuck-output", test_stuck_output);
  return g_test_run();
}
