/* A child appends turns and prints the id of each one that was acknowledged; the parent kills it at random moments.
 * What was acknowledged must be there, and only whole turns. 20 rounds, 500 with CHOIR_FULL=1. */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "killed.h"
#include "base/text.h"
#include "memory/history_private.h"

typedef struct {
  ChoirHistory *history;
  gint64 conversation;
  guint serial;
} Writer;

static void append_next(Writer *writer);

static void on_done(gint64 id, const GError *error, gpointer user) {
  char line[32];
  if (error)
    _exit(3);
  int n = snprintf(line, sizeof line, "%" G_GINT64_FORMAT "\n", id);
  if (write(1, line, (gsize)n) != n)
    _exit(4);
  append_next(user);
}

static void append_next(Writer *writer) {
  g_autofree char *question = g_strdup_printf("question %u", writer->serial);
  g_autofree char *answer = g_strnfill(1 + writer->serial * 37 % 3000, 'a');
  ChoirHistoryEntry user_entry = {.role = "user", .text = question, .source = "cli"};
  ChoirHistoryEntry reply = {.role = "assistant", .text = answer, .source = "cli"};
  writer->serial++;
  choir_history_append_turn(writer->history, writer->conversation, &user_entry, &reply, on_done, writer);
}

static int child_main(const char *path) {
  g_autoptr(GError) error = NULL;
  Writer writer = {.history = choir_history_open(path, &error)};
  if (!writer.history) {
    fprintf(stderr, "%s\n", error->message);
    return 2;
  }
  writer.conversation = choir_history_current(writer.history);
  /* Three at a time, so that some are in flight when the end comes. */
  for (int i = 0; i < 3; i++)
    append_next(&writer);
  for (;;)
    g_main_context_iteration(NULL, TRUE);
}

static void check(const char *path, GArray *acknowledged) {
  g_autoptr(GError) error = NULL;
  ChoirHistory *history = choir_history_open(path, &error);
  g_assert_no_error(error);
  g_autoptr(GHashTable) present = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
  json_t *entries = choir_history_entries(history, choir_history_current(history), 0, NULL);
  gsize i;
  json_t *entry;
  int balance = 0;
  json_array_foreach(entries, i, entry) {
    gint64 *id = g_new(gint64, 1);
    *id = choir_json_int(entry, "id", 0);
    g_hash_table_add(present, id);
    balance += g_str_equal(choir_json_string(entry, "role", ""), "user") ? 1 : -1;
  }
  g_assert_cmpint(balance, ==, 0);
  json_decref(entries);
  for (guint k = 0; k < acknowledged->len; k++)
    g_assert_true(g_hash_table_contains(present, &g_array_index(acknowledged, gint64, k)));
  g_autoptr(ChoirStatement) statement = NULL;
  g_assert_cmpint(sqlite3_prepare_v2(choir_history_reader(history), "PRAGMA integrity_check", -1, &statement, NULL), ==,
                  SQLITE_OK);
  g_assert_cmpint(sqlite3_step(statement), ==, SQLITE_ROW);
  g_assert_cmpstr((const char *)sqlite3_column_text(statement, 0), ==, "ok");
  g_clear_pointer(&statement, choir_statement_free);
  choir_history_close(history);
}

static char *self;

static void round_of_killing(const char *path, GArray *acknowledged) {
  const char *argv[] = {self, "--child", path, NULL};
  killed_lines(killed_child(argv, FALSE, 2000, 120000), acknowledged);
}

static void test_kill(void) {
  g_autofree char *dir = g_dir_make_tmp("choir-kill-XXXXXX", NULL);
  g_autofree char *path = g_build_filename(dir, "history.db", NULL);
  g_autoptr(GArray) acknowledged = g_array_new(FALSE, FALSE, sizeof(gint64));
  int rounds = g_strcmp0(g_getenv("CHOIR_FULL"), "1") == 0 ? 500 : 20;
  for (int i = 0; i < rounds; i++) {
    round_of_killing(path, acknowledged);
    check(path, acknowledged);
  }
  printf("# %d rounds, %u acknowledged turns, none lost\n", rounds, acknowledged->len);
  g_assert_cmpuint(acknowledged->len, >, (guint)rounds);
  for (const char *const *suffix = (const char *const[]){"", "-wal", "-shm", NULL}; *suffix; suffix++) {
    g_autofree char *file = g_strconcat(path, *suffix, NULL);
    g_unlink(file);
  }
  g_rmdir(dir);
}

int main(int argc, char **argv) {
  if (argc == 3 && g_str_equal(argv[1], "--child"))
    return child_main(argv[2]);
  self = g_file_read_link("/proc/self/exe", NULL);
  g_test_init(&argc, &argv, NULL);
  alarm(g_getenv("CHOIR_FULL") ? 3000 : 500);
  g_test_add_func("/memory/history/kill", test_kill);
  return g_test_run();
}
