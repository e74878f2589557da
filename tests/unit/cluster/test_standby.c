/* Copies of the state: seal, list, store, snapshot and swap, with what must not be taken. No network. */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <utime.h>
#include <sqlite3.h>
#include <string.h>
#include <unistd.h>
#include "base/text.h"
#include "cluster/ship_private.h"

static char *folder(void) {
  char *path = g_build_filename(g_get_tmp_dir(), "choir-standby-XXXXXX", NULL);
  g_assert_nonnull(g_mkdtemp(path));
  return path;
}

static void drop(char *path) {
  choir_state_remove_tree(path);
  g_free(path);
}

static void put_file(const char *dir, const char *name, const char *text, gsize length) {
  g_autofree char *path = g_build_filename(dir, name, NULL);
  g_assert_true(choir_state_make_above(path, NULL));
  g_assert_true(g_file_set_contents(path, text, (gssize)length, NULL));
}

static char *text_of(const char *dir, const char *name) {
  g_autofree char *path = g_build_filename(dir, name, NULL);
  char *text = NULL;
  g_file_get_contents(path, &text, NULL, NULL);
  return text;
}

static void test_seal(void) {
  ChoirSealKey key = {{1, 2, 3}}, other = {{1, 2, 4}};
  g_autoptr(GError) error = NULL;
  g_autoptr(GBytes) sealed = choir_seal(&key, "p", "b", 1, "hello", 5),
                    again = choir_seal(&key, "p", "b", 1, "hello", 5);
  gsize length;
  g_autofree guint8 *bytes = g_memdup2(g_bytes_get_data(sealed, &length), g_bytes_get_size(sealed));
  g_assert_cmpuint(length, ==, 5 + CHOIR_SEAL_MORE);
  g_assert_false(g_bytes_equal(sealed, again));
  g_autoptr(GBytes) opened = choir_unseal(&key, "p", "b", 1, bytes, length, &error);
  g_assert_no_error(error);
  g_assert_cmpmem(g_bytes_get_data(opened, NULL), g_bytes_get_size(opened), "hello", 5);
  g_assert_null(choir_unseal(&other, "p", "b", 1, bytes, length, NULL));
  g_assert_null(choir_unseal(&key, "q", "b", 1, bytes, length, NULL));
  g_assert_null(choir_unseal(&key, "p", "c", 1, bytes, length, NULL));
  g_assert_null(choir_unseal(&key, "p", "b", 1, bytes, length - 1, NULL));
  g_assert_null(choir_unseal(&key, "p", "b", 1, bytes, 3, NULL));
  for (gsize i = 0; i < length; i++) {
    bytes[i] ^= 1;
    g_assert_null(choir_unseal(&key, "p", "b", 1, bytes, length, NULL));
    bytes[i] ^= 1;
  }
}

static void test_key_file(void) {
  char *dir = folder();
  g_autofree char *path = g_build_filename(dir, "key", NULL);
  static const char good[] = "0123456789abcdef0123456789abcdef\n";
  ChoirSealKey key;
  g_autoptr(GError) error = NULL;
  g_assert_false(choir_seal_key_read(path, &key, &error));
  g_assert_error(error, CHOIR_SEAL_ERROR, CHOIR_SEAL_ERROR_KEY);
  put_file(dir, "key", good, strlen(good));
  g_chmod(path, 0644);
  g_clear_error(&error);
  g_assert_false(choir_seal_key_read(path, &key, &error));
  g_assert_nonnull(strstr(error->message, "chmod 0640"));
  g_chmod(path, 0640);
  g_assert_true(choir_seal_key_read(path, &key, NULL));
  put_file(dir, "key", "short\n", 6);
  g_chmod(path, 0600);
  g_assert_false(choir_seal_key_read(path, &key, NULL));
  drop(dir);
}

/* The entry of a file of that content. */
static json_t *entry_of(const char *name, const char *data, gsize length) {
  char *dir = folder();
  put_file(dir, "x", data, length);
  g_autofree char *path = g_build_filename(dir, "x", NULL);
  int fd = open(path, O_RDONLY);
  json_t *entry = choir_state_file(fd, name, 0600, length, NULL);
  close(fd);
  drop(dir);
  g_assert_nonnull(entry);
  return entry;
}

static json_t *manifest_of(gint64 epoch, gint64 generation, json_t *files) {
  return choir_state_manifest_new((ChoirStateAge){epoch, generation}, generation, "here", files);
}

static void test_names(void) {
  static const char *const bad[] = {"",    "/etc/passwd",        "a/../b", "..", "a//b",
                                    "./a", "standby/state.json", "a\nb",   "a/"};
  for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
    g_assert_false(choir_state_name_ok(bad[i]));
    json_auto_t *manifest = manifest_of(1, 1, json_pack("[o]", entry_of(bad[i], "x", 1)));
    g_assert_false(choir_state_manifest_check(manifest, NULL));
  }
  g_assert_true(choir_state_name_ok("tls/ca.key"));
  json_auto_t *twice = manifest_of(1, 1, json_pack("[o,o]", entry_of("a", "x", 1), entry_of("a", "y", 1)));
  g_assert_false(choir_state_manifest_check(twice, NULL));
  json_auto_t *both = manifest_of(1, 1, json_pack("[o,o]", entry_of("a", "x", 1), entry_of("a/b", "y", 1)));
  g_assert_false(choir_state_manifest_check(both, NULL));
  json_auto_t *good = manifest_of(1, 1, json_pack("[o,o]", entry_of("a", "x", 1), entry_of("b/c", "", 0)));
  g_assert_true(choir_state_manifest_check(good, NULL));
  json_object_set_new(json_array_get(json_object_get(good, "files"), 0), "bytes", json_integer(70000));
  g_assert_false(choir_state_manifest_check(good, NULL));
}

/* As a sender does: the list, what is missing, the list. */
static void store_all(ChoirStandbyStore *store, const json_t *manifest, const char *const *blocks, const gsize *sizes,
                      guint n, guint missing_wanted) {
  g_autoptr(GError) error = NULL;
  json_auto_t *missing = choir_standby_store_commit(store, manifest, &error);
  g_assert_no_error(error);
  g_assert_cmpuint(json_array_size(missing), ==, missing_wanted);
  for (guint i = 0; i < n; i++)
    g_assert_true(choir_standby_store_put(store, blocks[i], sizes[i], NULL));
  json_auto_t *rest = choir_standby_store_commit(store, manifest, &error);
  g_assert_no_error(error);
  g_assert_cmpuint(json_array_size(rest), ==, 0);
}

static void test_store(void) {
  char *dir = folder();
  g_autoptr(GError) error = NULL;
  gsize large = 3 * CHOIR_STATE_BLOCK - 5;
  g_autofree char *data = g_malloc(large);
  for (gsize i = 0; i < large; i++)
    data[i] = (char)(i / 1000);
  ChoirStandbyStore *store = choir_standby_store_open(dir, &error);
  g_assert_no_error(error);
  g_assert_null(choir_standby_store_newest(store));
  json_auto_t *first =
      manifest_of(1, 5, json_pack("[o,o]", entry_of("history.db", data, large), entry_of("b/c", "cc", 2)));
  const char *blocks[] = {data, data + CHOIR_STATE_BLOCK, data + 2 * CHOIR_STATE_BLOCK, "cc"};
  const gsize sizes[] = {CHOIR_STATE_BLOCK, CHOIR_STATE_BLOCK, CHOIR_STATE_BLOCK - 5, 2};
  store_all(store, first, blocks, sizes, 4, 4);
  g_autoptr(GBytes) part =
      choir_standby_store_read(store, (ChoirStateAge){1, 5}, "history.db", large - 10, 100, &error);
  g_assert_no_error(error);
  g_assert_cmpmem(g_bytes_get_data(part, NULL), g_bytes_get_size(part), data + large - 10, 10);
  g_assert_null(choir_standby_store_read(store, (ChoirStateAge){1, 4}, "history.db", 0, 10, NULL));
  g_assert_null(choir_standby_store_read(store, (ChoirStateAge){1, 5}, "../../etc/passwd", 0, 10, NULL));

  /* One changed block is all that has to come. */
  data[0] ^= 1;
  json_auto_t *second =
      manifest_of(1, 6, json_pack("[o,o]", entry_of("history.db", data, large), entry_of("b/c", "cc", 2)));
  store_all(store, second, blocks, sizes, 1, 1);

  /* Older, equal but different, and of an older epoch: refused, and nothing is changed. */
  json_auto_t *older = manifest_of(1, 5, json_array()), *other = manifest_of(1, 6, json_array()),
              *epoch = manifest_of(0, 99, json_array());
  json_t *refused[] = {older, other, epoch};
  for (gsize i = 0; i < G_N_ELEMENTS(refused); i++) {
    g_clear_error(&error);
    g_assert_null(choir_standby_store_commit(store, refused[i], &error));
    g_assert_error(error, CHOIR_STATE_ERROR, CHOIR_STATE_ERROR_OLDER);
  }
  json_auto_t *same = choir_standby_store_commit(store, second, NULL); /* the answer was lost */
  g_assert_cmpuint(json_array_size(same), ==, 0);
  g_assert_true(json_equal(choir_standby_store_newest(store), second));

  /* A takeover's epoch wins over any generation. */
  json_auto_t *taken = manifest_of(2, 1, json_pack("[o]", entry_of("b/c", "cc", 2)));
  store_all(store, taken, NULL, NULL, 0, 0);
  choir_standby_store_free(store);

  /* It survives a restart; what is damaged on disk is put aside and the one before is used. */
  store = choir_standby_store_open(dir, NULL);
  g_assert_true(json_equal(choir_standby_store_newest(store), taken));
  choir_standby_store_free(store);
  put_file(dir, "g-2-1/files/b/c", "CC", 2);
  put_file(dir, "g-9-9.part/junk", "x", 1);
  store = choir_standby_store_open(dir, NULL);
  g_assert_true(json_equal(choir_standby_store_newest(store), second));
  g_autofree char *aside = g_build_filename(dir, "g-2-1.damaged", NULL),
                  *part_dir = g_build_filename(dir, "g-9-9.part", NULL);
  g_assert_true(g_file_test(aside, G_FILE_TEST_IS_DIR));
  g_assert_false(g_file_test(part_dir, G_FILE_TEST_EXISTS));

  /* A block that rots while the service runs must come again. */
  data[1] ^= 1;
  json_auto_t *third = manifest_of(3, 1, json_pack("[o]", entry_of("history.db", data, large)));
  g_autofree char *rotten = g_strndup("x", 1), *history = g_build_filename(dir, "g-1-6/files/history.db", NULL);
  int fd = open(history, O_WRONLY);
  g_assert_cmpint(pwrite(fd, rotten, 1, 2 * CHOIR_STATE_BLOCK), ==, 1);
  close(fd);
  json_auto_t *missing = choir_standby_store_commit(store, third, NULL);
  g_assert_cmpuint(json_array_size(missing), ==, 1);
  g_assert_true(choir_standby_store_put(store, blocks[0], sizes[0], NULL));
  json_auto_t *more = choir_standby_store_commit(store, third, NULL);
  g_assert_cmpuint(json_array_size(more), ==, 1);
  g_assert_true(choir_standby_store_put(store, blocks[2], sizes[2], NULL));
  json_auto_t *none = choir_standby_store_commit(store, third, &error);
  g_assert_cmpuint(json_array_size(none), ==, 0);
  g_assert_false(choir_standby_store_put(store, data, CHOIR_STATE_BLOCK + 1, NULL));
  choir_standby_store_free(store);
  drop(dir);
}

static void make_history(const char *dir, int turns) {
  g_autofree char *path = g_build_filename(dir, "history.db", NULL);
  g_autofree char *sql =
      g_strdup_printf("PRAGMA journal_mode=WAL; CREATE TABLE IF NOT EXISTS settings(key TEXT PRIMARY KEY, "
                      "value INTEGER); INSERT OR REPLACE INTO settings VALUES('turns', %d)",
                      turns);
  sqlite3 *db;
  g_assert_cmpint(sqlite3_open(path, &db), ==, SQLITE_OK);
  g_assert_cmpint(sqlite3_exec(db, sql, NULL, NULL, NULL), ==, SQLITE_OK);
  sqlite3_close(db);
}

static const json_t *named(const json_t *files, const char *name) {
  for (size_t i = 0; i < json_array_size(files); i++)
    if (g_str_equal(choir_json_string(json_array_get(files, i), "name", ""), name))
      return json_array_get(files, i);
  return NULL;
}

static void make_old(const char *dir, const char *const *names) {
  for (time_t then = time(NULL) - 60; *names; names++) {
    g_autofree char *path = g_build_filename(dir, *names, NULL);
    g_assert_cmpint(g_utime(path, &(struct utimbuf){.actime = then, .modtime = then}), ==, 0);
  }
}

static void test_snapshot(void) {
  char *dir = folder();
  g_autoptr(GError) error = NULL;
  make_history(dir, 7);
  put_file(dir, "audit.jsonl", "{\"a\":1}\n{\"half", 14);
  put_file(dir, "owners.json", "{}", 2);
  put_file(dir, "tls/ca.key", "secret", 6);
  put_file(dir, "lock", "", 0);
  put_file(dir, "slots/0", "large", 5);
  put_file(dir, "cache/x", "large", 5);
  put_file(dir, "standby/state.json", "{}", 2);
  ChoirSnapshot *snapshot = choir_snapshot_new(dir);
  g_assert_true(choir_snapshot_stale(snapshot));
  json_auto_t *files = choir_snapshot_take(snapshot, &error);
  g_assert_no_error(error);
  g_assert_cmpuint(json_array_size(files), ==, 4);
  g_assert_cmpint(choir_json_int(named(files, "audit.jsonl"), "bytes", 0), ==, 8); /* up to the last whole line */
  g_assert_nonnull(named(files, "tls/ca.key"));
  g_autofree char *copy = choir_snapshot_path(snapshot, "history.db");
  g_assert_cmpint(choir_snapshot_turns(copy), ==, 7);
  /* What was written a moment ago is looked at again: a database's log holds bytes before its readers see them. */
  g_assert_true(choir_snapshot_stale(snapshot));
  make_old(dir, (const char *const[]){"history.db", "audit.jsonl", "owners.json", "tls/ca.key", NULL});
  json_auto_t *same = choir_snapshot_take(snapshot, &error);
  g_assert_no_error(error);
  g_assert_true(json_equal(same, files));
  g_assert_false(choir_snapshot_stale(snapshot));
  make_history(dir, 8);
  g_autofree char *owners = g_build_filename(dir, "owners.json", NULL);
  g_unlink(owners);
  g_assert_true(choir_snapshot_stale(snapshot));
  json_auto_t *later = choir_snapshot_take(snapshot, &error);
  g_assert_no_error(error);
  g_assert_cmpuint(json_array_size(later), ==, 3);
  g_assert_cmpint(choir_snapshot_turns(copy), ==, 8);
  choir_snapshot_free(snapshot);
  g_assert_false(g_file_test(copy, G_FILE_TEST_EXISTS));
  drop(dir);
}

/* A takeover that is interrupted anywhere ends, at the next start, with all of the new and all of the old kept. */
static void test_swap(void) {
  for (int stop = 0; stop < 3; stop++) {
    char *dir = folder();
    g_autofree char *own = g_build_filename(dir, "standby", NULL), *incoming = g_build_filename(own, "incoming", NULL);
    g_autofree char *kept = NULL, *replaced = g_build_filename(own, "replaced-1", NULL);
    g_autoptr(GError) error = NULL;
    put_file(dir, stop == 2 ? "standby/replaced-1/old" : "old", "old", 3);
    put_file(dir, stop == 2 ? "standby/replaced-1/history.db-wal" : "history.db-wal", "log", 3);
    put_file(dir, stop == 1 ? "standby/replaced-1/both" : stop == 2 ? "standby/replaced-1/both" : "both", "old", 3);
    put_file(dir, "lock", "", 0);
    put_file(incoming, stop == 2 ? "other" : "both", "new", 3);
    put_file(incoming, "sub/new", "new", 3);
    if (stop == 2)
      put_file(dir, "both", "new", 3); /* moved already */
    if (stop > 0)
      put_file(own, "swap", stop == 1 ? "old replaced-1\n" : "new replaced-1\n", 15);
    if (stop == 0)
      g_assert_true(choir_ship_swap(dir, own, &kept, &error));
    else
      g_assert_true(choir_ship_finish_swap(dir, own, &error));
    g_assert_no_error(error);
    const char *where = stop == 0 ? kept : replaced;
    g_autofree char *both = text_of(dir, "both"), *new = text_of(dir, "sub/new"), *old = text_of(where, "old"),
                    *old_both = text_of(where, "both"), *log = text_of(where, "history.db-wal"),
                    *lock = text_of(dir, "lock"), *swap = text_of(own, "swap"), *stale = text_of(dir, "history.db-wal");
    g_assert_cmpstr(both, ==, "new");
    g_assert_cmpstr(new, ==, "new");
    g_assert_cmpstr(old, ==, "old");
    g_assert_cmpstr(old_both, ==, "old");
    g_assert_cmpstr(log, ==, "log");
    g_assert_cmpstr(lock, ==, "");
    g_assert_null(swap);
    g_assert_null(stale);
    g_assert_true(choir_ship_finish_swap(dir, own, NULL));
    drop(dir);
  }
  char *dir = folder();
  put_file(dir, "standby/swap", "new ../../etc", 13);
  g_autofree char *own = g_build_filename(dir, "standby", NULL);
  g_assert_false(choir_ship_finish_swap(dir, own, NULL));
  drop(dir);
}

int main(int argc, char **argv) {
  alarm(60);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/standby/seal", test_seal);
  g_test_add_func("/standby/key-file", test_key_file);
  g_test_add_func("/standby/names", test_names);
  g_test_add_func("/standby/store", test_store);
  g_test_add_func("/standby/snapshot", test_snapshot);
  g_test_add_func("/standby/swap", test_swap);
  return g_test_run();
}
