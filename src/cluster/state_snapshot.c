#include "cluster/state_snapshot.h"
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/text.h"

#define BUSY_MS 5000
#define SETTLED_S 10

typedef struct {
  char *sign; /* of the file it was made from; NULL: it was too young to be known again */
  json_t *entry;
} Known;

struct ChoirSnapshot {
  char *state, *copy;
  GHashTable *known; /* name -> Known */
};

static void known_free(gpointer data) {
  Known *known = data;
  json_decref(known->entry);
  g_free(known->sign);
  g_free(known);
}

ChoirSnapshot *choir_snapshot_new(const char *state) {
  ChoirSnapshot *snapshot = g_new0(ChoirSnapshot, 1);
  snapshot->state = g_strdup(state);
  snapshot->copy = g_build_filename(state, CHOIR_STATE_OWN, "copy", NULL);
  snapshot->known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, known_free);
  choir_state_remove_tree(snapshot->copy);
  return snapshot;
}

void choir_snapshot_free(ChoirSnapshot *snapshot) {
  if (!snapshot)
    return;
  choir_state_remove_tree(snapshot->copy);
  g_hash_table_unref(snapshot->known);
  g_free(snapshot->copy);
  g_free(snapshot->state);
  g_free(snapshot);
}

char *choir_snapshot_path(const ChoirSnapshot *snapshot, const char *name) {
  return g_build_filename(snapshot->copy, name, NULL);
}

gboolean choir_snapshot_left_out(const char *relative) {
  static const char *const names[] = {"lock", "llm-probe.json", "tools.meaning", "slots",
                                      "ssh",  "cache",          "config",        CHOIR_STATE_OWN};
  static const char *const ends[] = {".sock", "-wal", "-shm", "-journal", ".part", ".torn", "~"};
  if (*relative == '.')
    return TRUE;
  for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
    if (g_str_equal(relative, names[i]))
      return TRUE;
  for (gsize i = 0; i < G_N_ELEMENTS(ends); i++)
    if (g_str_has_suffix(relative, ends[i]))
      return TRUE;
  return g_str_has_prefix(relative, "backends-") || g_str_has_prefix(relative, "tls/nginx");
}

/* What changed a moment ago may change again without looking other: bytes of a database's log are there before its
 * readers see them, and a file's time has the grain of the kernel's clock. */
static void sign_one(GString *sign, const char *path, gboolean *settled) {
  struct stat info;
  if (stat(path, &info) != 0)
    return;
  gint64 age = g_get_real_time() / G_USEC_PER_SEC - (gint64)info.st_mtim.tv_sec;
  *settled = *settled && (age > SETTLED_S || age < 0);
  g_string_append_printf(sign, "%" G_GINT64_FORMAT ":%" G_GINT64_FORMAT ".%09ld:%" G_GUINT64_FORMAT ":%o;",
                         (gint64)info.st_size, (gint64)info.st_mtim.tv_sec, info.st_mtim.tv_nsec, (guint64)info.st_ino,
                         (guint)info.st_mode);
}

/* A database changes in its log first. */
static char *sign_of(const char *path, gboolean *ret_settled) {
  GString *sign = g_string_new(NULL);
  g_autofree char *log = g_strconcat(path, "-wal", NULL);
  *ret_settled = TRUE;
  sign_one(sign, path, ret_settled);
  sign_one(sign, log, ret_settled);
  return g_string_free(sign, FALSE);
}

/* Every file that belongs to a copy, as a relative name. FALSE with error. */
static gboolean walk(const char *root, const char *relative, GPtrArray *names, GError **error) {
  g_autofree char *folder = g_build_filename(root, relative, NULL);
  g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
  for (const char *entry = dir ? g_dir_read_name(dir) : NULL; entry; entry = g_dir_read_name(dir)) {
    struct stat info;
    g_autofree char *below = *relative ? g_build_filename(relative, entry, NULL) : g_strdup(entry);
    g_autofree char *path = g_build_filename(root, below, NULL);
    if (choir_snapshot_left_out(below) || !choir_state_name_ok(below) || lstat(path, &info) != 0)
      continue;
    if (S_ISDIR(info.st_mode) && !walk(root, below, names, error))
      return FALSE;
    if (S_ISREG(info.st_mode))
      g_ptr_array_add(names, g_steal_pointer(&below));
    if (names->len > CHOIR_STATE_FILES_MAX) {
      g_set_error(error, CHOIR_STATE_ERROR, CHOIR_STATE_ERROR_LIMIT,
                  "the state folder %s has more than %u files; only as many can be kept on other nodes", root,
                  CHOIR_STATE_FILES_MAX);
      return FALSE;
    }
  }
  return TRUE;
}

gboolean choir_snapshot_stale(ChoirSnapshot *snapshot) {
  g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
  if (!walk(snapshot->state, "", names, NULL) || names->len != g_hash_table_size(snapshot->known))
    return TRUE;
  for (guint i = 0; i < names->len; i++) {
    const Known *known = g_hash_table_lookup(snapshot->known, names->pdata[i]);
    gboolean settled;
    g_autofree char *path = g_build_filename(snapshot->state, names->pdata[i], NULL), *sign = sign_of(path, &settled);
    if (!known || g_strcmp0(known->sign, sign) != 0)
      return TRUE;
  }
  return FALSE;
}

static gboolean copy_database(const char *from_path, const char *to_path, GError **error) {
  sqlite3 *from = NULL, *to = NULL;
  gboolean done = FALSE;
  g_unlink(to_path);
  if (sqlite3_open_v2(from_path, &from, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK &&
      sqlite3_open(to_path, &to) == SQLITE_OK) {
    sqlite3_busy_timeout(from, BUSY_MS);
    sqlite3_exec(to, "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF", NULL, NULL, NULL);
    sqlite3_backup *run = sqlite3_backup_init(to, "main", from, "main");
    done = run && sqlite3_backup_step(run, -1) == SQLITE_DONE;
    done = run && sqlite3_backup_finish(run) == SQLITE_OK && done;
  }
  if (!done) {
    gboolean full = to && (sqlite3_errcode(to) & 0xff) == SQLITE_FULL;
    g_set_error(error, CHOIR_STATE_ERROR, full ? CHOIR_STATE_ERROR_LIMIT : CHOIR_STATE_ERROR_IO,
                "cannot copy the database %s: %s", from_path,
                full ? "the disk is full; free some space there"
                     : sqlite3_errmsg(to && sqlite3_errcode(to) != SQLITE_OK ? to : from));
  }
  sqlite3_close(to);
  sqlite3_close(from);
  return done;
}

guint64 choir_snapshot_whole_lines(int fd, guint64 length) {
  char chunk[4096];
  while (length > 0) {
    gsize n = (gsize)MIN(length, sizeof chunk);
    ssize_t got = pread(fd, chunk, n, (off_t)(length - n));
    const char *end = got > 0 ? memrchr(chunk, '\n', (gsize)got) : NULL;
    if (end)
      return length - n + (guint64)(end - chunk) + 1;
    if (got <= 0)
      return length;
    length -= n;
  }
  return 0;
}

static gboolean copy_bytes(int from, int to, guint64 length, GError **error) {
  g_autofree guint8 *block = g_malloc(CHOIR_STATE_BLOCK);
  for (guint64 at = 0; at < length; at += CHOIR_STATE_BLOCK) {
    gsize n = (gsize)MIN(CHOIR_STATE_BLOCK, length - at);
    if (!choir_state_read_at(from, block, n, at, error) || !choir_state_write_all(to, block, n, error))
      return FALSE;
  }
  return TRUE;
}

/* Copies one file and returns its entry. NULL without error: it is gone by now. */
static json_t *copy_file(ChoirSnapshot *snapshot, const char *name, GError **error) {
  struct stat info;
  g_autofree char *from_path = g_build_filename(snapshot->state, name, NULL),
                  *to_path = choir_snapshot_path(snapshot, name);
  /* Never opened by ourselves: closing it would take away the locks of SQLite's connections in this process, and
   * another one would then remove the log under them. */
  gboolean database = g_str_has_suffix(name, ".db");
  int from = database ? -1 : open(from_path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if ((database ? lstat(from_path, &info) != 0 : from < 0) && errno == ENOENT)
    return NULL;
  if ((!database && (from < 0 || fstat(from, &info) != 0)) || !choir_state_make_above(to_path, error)) {
    if (from >= 0)
      close(from);
    else
      choir_state_fail(error, "read", from_path);
    return NULL;
  }
  guint64 length = (guint64)info.st_size;
  if (!database && g_str_has_suffix(name, ".jsonl"))
    length = choir_snapshot_whole_lines(from, length);
  json_t *entry = NULL;
  gboolean copied = !database || copy_database(from_path, to_path, error);
  int to = copied ? open(to_path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | (database ? 0 : O_TRUNC), 0600) : -1;
  if (copied && to < 0)
    choir_state_fail(error, "write", to_path);
  if (to >= 0 && (database || copy_bytes(from, to, length, error))) {
    if (database)
      length = fstat(to, &info) == 0 ? (guint64)info.st_size : 0;
    entry = choir_state_file(to, name, info.st_mode & 0777, length, error);
  }
  if (to >= 0)
    close(to);
  if (from >= 0)
    close(from);
  return entry;
}

static gboolean take_one(ChoirSnapshot *snapshot, const char *name, GHashTable *fresh, json_t *files, GError **error) {
  gboolean settled;
  g_autofree char *path = g_build_filename(snapshot->state, name, NULL), *sign = sign_of(path, &settled);
  Known *known = g_hash_table_lookup(snapshot->known, name);
  g_autoptr(GError) problem = NULL;
  json_t *entry =
      known && g_strcmp0(known->sign, sign) == 0 ? json_incref(known->entry) : copy_file(snapshot, name, &problem);
  if (!entry && problem) {
    g_propagate_error(error, g_steal_pointer(&problem));
    return FALSE;
  }
  if (!entry)
    return TRUE;
  Known *now = g_new0(Known, 1);
  now->sign = settled ? g_steal_pointer(&sign) : NULL;
  now->entry = entry;
  g_hash_table_insert(fresh, g_strdup(name), now);
  json_array_append(files, entry);
  return TRUE;
}

json_t *choir_snapshot_take(ChoirSnapshot *snapshot, GError **error) {
  g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
  g_autoptr(GHashTable) fresh = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, known_free);
  json_auto_t *files = json_array();
  if (!walk(snapshot->state, "", names, error))
    return NULL;
  for (guint i = 0; i < names->len; i++)
    if (!take_one(snapshot, names->pdata[i], fresh, files, error))
      return NULL;
  GHashTableIter iter;
  gpointer name;
  g_hash_table_iter_init(&iter, snapshot->known);
  while (g_hash_table_iter_next(&iter, &name, NULL))
    if (!g_hash_table_contains(fresh, name)) {
      g_autofree char *gone = choir_snapshot_path(snapshot, name);
      g_unlink(gone);
    }
  g_hash_table_unref(snapshot->known);
  snapshot->known = g_steal_pointer(&fresh);
  return json_incref(files);
}

gint64 choir_snapshot_turns(const char *database) {
  sqlite3 *db = NULL;
  sqlite3_stmt *statement = NULL;
  gint64 turns = -1;
  if (g_file_test(database, G_FILE_TEST_IS_REGULAR) &&
      sqlite3_open_v2(database, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK &&
      sqlite3_prepare_v2(db, "SELECT value FROM settings WHERE key = 'turns'", -1, &statement, NULL) == SQLITE_OK &&
      sqlite3_step(statement) == SQLITE_ROW)
    turns = sqlite3_column_int64(statement, 0);
  sqlite3_finalize(statement);
  sqlite3_close(db);
  return turns;
}
