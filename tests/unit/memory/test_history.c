#include <errno.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "base/text.h"
#include "memory/history_private.h"

typedef struct {
  guint done, failed;
  gint64 id;
  int code;
  char *message;
} Result;

static void on_done(gint64 id, const GError *error, gpointer user) {
  Result *result = user;
  result->done++;
  result->id = id;
  if (error) {
    result->failed++;
    result->code = error->code;
    g_free(result->message);
    result->message = g_strdup(error->message);
  }
}

static void wait_done(Result *result, guint n) {
  while (result->done < n)
    g_main_context_iteration(NULL, TRUE);
}

static char *temp_path(char **ret_dir) {
  *ret_dir = g_dir_make_tmp("choir-history-XXXXXX", NULL);
  return g_build_filename(*ret_dir, "history.db", NULL);
}

static void clear(char *dir, char *path) {
  for (const char *const *suffix = (const char *const[]){"", "-wal", "-shm", NULL}; *suffix; suffix++) {
    g_autofree char *file = g_strconcat(path, *suffix, NULL);
    g_unlink(file);
  }
  g_rmdir(dir);
  g_free(path);
  g_free(dir);
}

static ChoirHistory *open_ok(const char *path) {
  g_autoptr(GError) error = NULL;
  ChoirHistory *history = choir_history_open(path, &error);
  g_assert_no_error(error);
  return history;
}

static void say(ChoirHistory *history, gint64 conversation, const char *question, const char *answer, Result *result) {
  ChoirHistoryEntry user_entry = {.role = "user", .text = question, .source = "cli"};
  ChoirHistoryEntry reply = {.role = "assistant", .text = answer, .source = "cli"};
  choir_history_append_turn(history, conversation, &user_entry, &reply, on_done, result);
}

static void test_turns(void) {
  char *dir, *path = temp_path(&dir);
  ChoirHistory *history = open_ok(path);
  Result result = {0};
  gint64 first = choir_history_current(history);
  g_assert_cmpint(first, >, 0);
  g_assert_cmpint(choir_history_current(history), ==, first);
  say(history, first, "what is\nthis about", "cats", &result);
  ChoirHistoryEntry cut = {
      .role = "assistant", .text = "once upon", .source = "voice", .cut = TRUE, .full_text = "once upon a time"};
  choir_history_append(history, first, &cut, on_done, &result);
  wait_done(&result, 2);
  g_assert_cmpuint(result.failed, ==, 0);
  json_t *entries = choir_history_entries(history, first, 0, NULL);
  g_assert_cmpint(json_array_size(entries), ==, 3);
  g_assert_cmpstr(choir_json_string(json_array_get(entries, 1), "text", ""), ==, "cats");
  g_assert_true(choir_json_bool(json_array_get(entries, 2), "cut", FALSE));
  json_decref(entries);
  entries = choir_history_entries(history, first, 1, NULL);
  g_assert_cmpint(json_array_size(entries), ==, 1);
  g_assert_cmpstr(choir_json_string(json_array_get(entries, 0), "text", ""), ==, "once upon");
  json_decref(entries);
  json_t *list = choir_history_list(history, 10, NULL);
  g_assert_cmpstr(choir_json_string(json_array_get(list, 0), "title", ""), ==, "what is this about");
  g_assert_cmpint(choir_json_int(json_array_get(list, 0), "turns", 0), ==, 1);
  json_decref(list);
  json_t *export = choir_history_export(history, first, NULL);
  g_assert_cmpstr(choir_json_string(export, "format", ""), ==, "choir-conversation");
  json_t *last = json_array_get(json_object_get(export, "entries"), 2);
  g_assert_cmpstr(choir_json_string(last, "full_text", ""), ==, "once upon a time");
  json_decref(export);
  choir_history_close(history);
  /* The same conversation is current after a restart. */
  history = open_ok(path);
  g_assert_cmpint(choir_history_current(history), ==, first);
  choir_history_close(history);
  clear(dir, path);
}

static void test_conversations(void) {
  char *dir, *path = temp_path(&dir);
  ChoirHistory *history = open_ok(path);
  Result made = {0}, rest = {0}, bad = {0};
  gint64 first = choir_history_current(history);
  choir_history_new_conversation(history, "garden", on_done, &made);
  wait_done(&made, 1);
  g_assert_cmpint(choir_history_current(history), ==, first);
  choir_history_select(history, made.id, on_done, &rest);
  choir_history_rename(history, made.id, "the garden", on_done, &rest);
  wait_done(&rest, 2);
  g_assert_cmpuint(rest.failed, ==, 0);
  g_assert_cmpint(choir_history_current(history), ==, made.id);
  say(history, made.id, "a", "b", &rest);
  choir_history_delete(history, made.id, on_done, &rest);
  wait_done(&rest, 4);
  g_assert_cmpuint(rest.failed, ==, 0);
  json_t *entries = choir_history_entries(history, made.id, 0, NULL);
  g_assert_cmpint(json_array_size(entries), ==, 0);
  json_decref(entries);
  /* The current one is gone: a new one with a number that was never used. */
  g_assert_cmpint(choir_history_current(history), >, made.id);
  say(history, made.id, "a", "b", &bad);
  choir_history_select(history, 9999, on_done, &bad);
  choir_history_rename(history, 9999, "x", on_done, &bad);
  choir_history_delete(history, 9999, on_done, &bad);
  wait_done(&bad, 4);
  g_assert_cmpuint(bad.failed, ==, 4);
  g_assert_cmpint(bad.code, ==, CHOIR_HISTORY_ERROR_NOT_FOUND);
  g_autoptr(GError) error = NULL;
  g_assert_null(choir_history_export(history, 9999, &error));
  g_assert_error(error, CHOIR_HISTORY_ERROR, CHOIR_HISTORY_ERROR_NOT_FOUND);
  choir_history_close(history);
  g_free(made.message);
  g_free(bad.message);
  clear(dir, path);
}

static void test_queue_is_bounded(void) {
  char *dir, *path = temp_path(&dir);
  ChoirHistory *history = open_ok(path);
  Result result = {0};
  gint64 conversation = choir_history_current(history);
  sqlite3 *blocker = choir_history_connect(path, FALSE, NULL);
  /* Somebody else holds the write lock: the queue fills. */
  g_assert_true(choir_history_exec(blocker, "BEGIN IMMEDIATE", NULL));
  for (int i = 0; i < 600; i++)
    say(history, conversation, "q", "a", &result);
  g_assert_cmpuint(choir_history_queued(history), <=, 256);
  g_assert_true(choir_history_exec(blocker, "COMMIT", NULL));
  sqlite3_close(blocker);
  wait_done(&result, 600);
  g_assert_cmpuint(result.failed, >, 200);
  g_assert_cmpint(result.code, ==, CHOIR_HISTORY_ERROR_BUSY);
  json_t *entries = choir_history_entries(history, conversation, 0, NULL);
  g_assert_cmpint(json_array_size(entries), ==, 2 * (600 - result.failed));
  json_decref(entries);
  choir_history_close(history);
  g_free(result.message);
  clear(dir, path);
}

static void check_after_full(ChoirHistory *history, gint64 conversation, const char *path, Result *good, Result *bad) {
  json_t *entries = choir_history_entries(history, conversation, 0, NULL);
  /* Turns are whole: never a question without its answer. */
  g_assert_cmpint(json_array_size(entries), ==, 2 * (good->done - good->failed + bad->done - bad->failed));
  json_decref(entries);
}

static void test_full_disk(void) {
  char *dir, *path = temp_path(&dir);
  ChoirHistory *history = open_ok(path);
  Result good = {0}, bad = {0};
  gint64 conversation = choir_history_current(history);
  say(history, conversation, "small", "answer", &good);
  wait_done(&good, 1);
  choir_history_limit_pages(history, 12);
  g_autofree char *large = g_strnfill(20000, 'x');
  for (int i = 0; i < 5; i++)
    say(history, conversation, large, large, &bad);
  wait_done(&bad, 5);
  g_assert_cmpuint(bad.failed, >=, 4);
  g_assert_nonnull(strstr(bad.message, "the disk is full"));
  check_after_full(history, conversation, path, &good, &bad);
  /* Room again: it goes on without a restart. */
  choir_history_limit_pages(history, 100000);
  say(history, conversation, "after", "wards", &good);
  wait_done(&good, 2);
  g_assert_cmpuint(good.failed, ==, 0);
  check_after_full(history, conversation, path, &good, &bad);
  choir_history_close(history);
  g_free(bad.message);
  clear(dir, path);
}

/* The real write() fails: a file size limit, the nearest thing to a full disk that needs no privileges. */
static void test_write_fails(void) {
  char *dir, *path = temp_path(&dir);
  ChoirHistory *history = open_ok(path);
  Result good = {0}, bad = {0};
  gint64 conversation = choir_history_current(history);
  say(history, conversation, "small", "answer", &good);
  wait_done(&good, 1);
  struct rlimit old, limit;
  getrlimit(RLIMIT_FSIZE, &old);
  limit = old;
  limit.rlim_cur = 200 * 1024;
  signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &limit);
  g_autofree char *large = g_strnfill(60000, 'x');
  for (int i = 0; i < 8; i++)
    say(history, conversation, large, large, &bad);
  wait_done(&bad, 8);
  setrlimit(RLIMIT_FSIZE, &old);
  g_assert_cmpuint(bad.failed, >, 0);
  g_assert_nonnull(strstr(bad.message, "not saved") ? bad.message : strstr(bad.message, "cannot be written"));
  say(history, conversation, "after", "wards", &good);
  wait_done(&good, 2);
  g_assert_cmpuint(good.failed, ==, 0);
  check_after_full(history, conversation, path, &good, &bad);
  choir_history_close(history);
  history = open_ok(path);
  check_after_full(history, conversation, path, &good, &bad);
  choir_history_close(history);
  g_free(bad.message);
  clear(dir, path);
}

static void test_migration(void) {
  char *dir, *path = temp_path(&dir);
  static const char *const steps[] = {"CREATE TABLE a(x)", "INSERT INTO a VALUES(1); CREATE TABLE b(x)",
                                      "INSERT INTO a VALUES(2)", NULL};
  static const char *const two[] = {steps[0], steps[1], NULL};
  static const char *const broken[] = {steps[0], steps[1], "INSERT INTO a VALUES(3); INSERT INTO nowhere VALUES(1)",
                                       NULL};
  g_autoptr(GError) error = NULL;
  gint64 value;
  sqlite3 *db = choir_history_connect(path, FALSE, &error);
  g_assert_no_error(error);
  g_assert_true(choir_history_migrate(db, two, path, &error));
  /* A step that fails leaves nothing behind and the version where it was. */
  g_assert_false(choir_history_migrate(db, broken, path, &error));
  g_clear_error(&error);
  choir_history_int(db, "SELECT count(*) FROM a", &value, NULL);
  g_assert_cmpint(value, ==, 1);
  choir_history_int(db, "PRAGMA user_version", &value, NULL);
  g_assert_cmpint(value, ==, 2);
  g_assert_true(choir_history_migrate(db, steps, path, &error));
  choir_history_int(db, "SELECT count(*) FROM a", &value, NULL);
  g_assert_cmpint(value, ==, 2);
  g_assert_true(choir_history_exec(db, "PRAGMA user_version=99", NULL));
  sqlite3_close(db);
  g_assert_null(choir_history_open(path, &error));
  g_assert_error(error, CHOIR_HISTORY_ERROR, CHOIR_HISTORY_ERROR_OPEN);
  g_assert_nonnull(strstr(error->message, "newer Choir"));
  clear(dir, path);
}

static void test_bad_file(void) {
  char *dir, *path = temp_path(&dir);
  g_autoptr(GError) error = NULL;
  g_autofree char *garbage = g_strnfill(8192, 'z');
  g_file_set_contents(path, garbage, 8192, NULL);
  g_assert_null(choir_history_open(path, &error));
  g_assert_error(error, CHOIR_HISTORY_ERROR, CHOIR_HISTORY_ERROR_OPEN);
  g_clear_error(&error);
  g_assert_null(choir_history_open("/nonexistent/folder/history.db", &error));
  g_assert_error(error, CHOIR_HISTORY_ERROR, CHOIR_HISTORY_ERROR_OPEN);
  clear(dir, path);
}

static void test_close_drains(void) {
  char *dir, *path = temp_path(&dir);
  ChoirHistory *history = open_ok(path);
  Result result = {0};
  gint64 conversation = choir_history_current(history);
  for (int i = 0; i < 100; i++)
    say(history, conversation, "q", "a", &result);
  choir_history_close(history);
  g_assert_cmpuint(result.done, ==, 100);
  g_assert_cmpuint(result.failed, ==, 0);
  history = open_ok(path);
  json_t *entries = choir_history_entries(history, conversation, 0, NULL);
  g_assert_cmpint(json_array_size(entries), ==, 200);
  json_decref(entries);
  choir_history_close(history);
  clear(dir, path);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  alarm(100);
  g_test_add_func("/memory/history/turns", test_turns);
  g_test_add_func("/memory/history/conversations", test_conversations);
  g_test_add_func("/memory/history/queue-is-bounded", test_queue_is_bounded);
  g_test_add_func("/memory/history/full-disk", test_full_disk);
  g_test_add_func("/memory/history/write-fails", test_write_fails);
  g_test_add_func("/memory/history/migration", test_migration);
  g_test_add_func("/memory/history/bad-file", test_bad_file);
  g_test_add_func("/memory/history/close-drains", test_close_drains);
  return g_test_run();
}
