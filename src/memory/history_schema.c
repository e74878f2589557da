#include "memory/history_private.h"

G_DEFINE_QUARK(choir - history - error - quark, choir_history_error)

/* One string a version; a released string is never edited, a change is a new one at the end. */
const char *const choir_history_steps[] = {
    /* 1: conversations and what was said in them. AUTOINCREMENT: an id is never given twice, even after a delete. */
    "CREATE TABLE conversations("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT NOT NULL DEFAULT '',"
    "  created_us INTEGER NOT NULL, updated_us INTEGER NOT NULL);"
    "CREATE TABLE entries("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  conversation INTEGER NOT NULL REFERENCES conversations(id) ON DELETE CASCADE,"
    "  role TEXT NOT NULL CHECK(role IN ('user','assistant')), text TEXT NOT NULL, source TEXT NOT NULL,"
    "  cut INTEGER NOT NULL DEFAULT 0, full_text TEXT, wall_us INTEGER NOT NULL);"
    "CREATE INDEX entries_by_conversation ON entries(conversation, id);"
    "CREATE TABLE settings(key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;",
    NULL};

void choir_history_set_error(GError **error, int code, sqlite3 *db, const char *what) {
  int reason = db ? sqlite3_errcode(db) & 0xff : SQLITE_NOMEM;
  if (reason == SQLITE_FULL)
    g_set_error(error, CHOIR_HISTORY_ERROR, code, "%s: the disk is full; free some space and %s again", what,
                code == CHOIR_HISTORY_ERROR_OPEN ? "start" : "say it");
  else
    g_set_error(error, CHOIR_HISTORY_ERROR, code, "%s: %s", what, db ? sqlite3_errmsg(db) : "out of memory");
}

gboolean choir_history_exec(sqlite3 *db, const char *sql, GError **error) {
  if (sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK)
    return TRUE;
  choir_history_set_error(error, CHOIR_HISTORY_ERROR_WRITE, db, "the conversation history cannot be written");
  return FALSE;
}

gboolean choir_history_int(sqlite3 *db, const char *sql, gint64 *ret_value, GError **error) {
  g_autoptr(ChoirStatement) statement = NULL;
  if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK || sqlite3_step(statement) != SQLITE_ROW) {
    choir_history_set_error(error, CHOIR_HISTORY_ERROR_OPEN, db, "the conversation history cannot be read");
    return FALSE;
  }
  *ret_value = sqlite3_column_int64(statement, 0);
  return TRUE;
}

gboolean choir_history_migrate(sqlite3 *db, const char *const *steps, const char *path, GError **error) {
  gint64 version, newest = g_strv_length((gchar **)steps);
  if (!choir_history_int(db, "PRAGMA user_version", &version, error))
    return FALSE;
  if (version > newest) {
    g_set_error(error, CHOIR_HISTORY_ERROR, CHOIR_HISTORY_ERROR_OPEN,
                "%s was written by a newer Choir (format %" G_GINT64_FORMAT ", this one knows %" G_GINT64_FORMAT
                "); update Choir or move the file away",
                path, version, newest);
    return FALSE;
  }
  for (; version < newest; version++) {
    g_autofree char *sql = g_strdup_printf("BEGIN IMMEDIATE;%s;PRAGMA user_version=%" G_GINT64_FORMAT ";COMMIT",
                                           steps[version], version + 1);
    if (!choir_history_exec(db, sql, error)) {
      sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
      g_prefix_error(error, "%s, step to format %" G_GINT64_FORMAT ": ", path, version + 1);
      return FALSE;
    }
  }
  return TRUE;
}

sqlite3 *choir_history_connect(const char *path, gboolean read_only, GError **error) {
  sqlite3 *db = NULL;
  /* FULL: in WAL mode the log is synced at every commit, so an acknowledged turn survives a power cut too. The reader
   * may write nothing but must be able to create the shared-memory file, hence no SQLITE_OPEN_READONLY. */
  const char *pragmas = read_only ? "PRAGMA query_only=1"
                                  : "PRAGMA journal_mode=WAL;PRAGMA synchronous=FULL;PRAGMA foreign_keys=1;"
                                    "PRAGMA journal_size_limit=4194304";
  int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (read_only ? 0 : SQLITE_OPEN_CREATE);
  if (sqlite3_open_v2(path, &db, flags, NULL) == SQLITE_OK) {
    sqlite3_busy_timeout(db, 5000);
    if (sqlite3_exec(db, pragmas, NULL, NULL, NULL) == SQLITE_OK)
      return db;
  }
  choir_history_set_error(error, CHOIR_HISTORY_ERROR_OPEN, db, path);
  sqlite3_close(db);
  return NULL;
}
