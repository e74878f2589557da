/* Shared by the files of history; nobody else includes it (tests may). */
#pragma once
#include <sqlite3.h>
#include "memory/history.h"

/* Applies steps[user_version..] one transaction each and sets user_version. A database that is newer than the list is
 * an error that says so. */
gboolean choir_history_migrate(sqlite3 *db, const char *const *steps, const char *path, GError **error);
extern const char *const choir_history_steps[];

/* Opens with our pragmas. read_only: for the main thread's reads. */
sqlite3 *choir_history_connect(const char *path, gboolean read_only, GError **error);
/* One statement without result, or with one integer result. */
gboolean choir_history_exec(sqlite3 *db, const char *sql, GError **error);
gboolean choir_history_int(sqlite3 *db, const char *sql, gint64 *ret_value, GError **error);
/* A sentence for a person from SQLite's last error. */
void choir_history_set_error(GError **error, int code, sqlite3 *db, const char *what);
sqlite3 *choir_history_reader(ChoirHistory *history);
/* Test: the database may not grow past this many pages (a full disk). Call before the first write. */
void choir_history_limit_pages(ChoirHistory *history, guint pages);

typedef struct sqlite3_stmt ChoirStatement;
static inline void choir_statement_free(ChoirStatement *statement) {
  sqlite3_finalize(statement);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirStatement, choir_statement_free)
