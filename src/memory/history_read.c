#include "memory/history_private.h"

static ChoirStatement *prepare(ChoirHistory *history, const char *sql, GError **error) {
  sqlite3 *db = choir_history_reader(history);
  ChoirStatement *statement = NULL;
  if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK)
    choir_history_set_error(error, CHOIR_HISTORY_ERROR_OPEN, db, "the conversation history cannot be read");
  return statement;
}

static const char *column_text(ChoirStatement *statement, int column) {
  const char *text = (const char *)sqlite3_column_text(statement, column);
  return text ? text : "";
}

/* Steps until the end; each row goes through `row`, which returns a new reference. */
static json_t *collect(ChoirHistory *history, ChoirStatement *statement, json_t *(*row)(ChoirStatement *),
                       GError **error) {
  json_t *rows = json_array();
  int status;
  while ((status = sqlite3_step(statement)) == SQLITE_ROW)
    json_array_append_new(rows, row(statement));
  if (status == SQLITE_DONE)
    return rows;
  choir_history_set_error(error, CHOIR_HISTORY_ERROR_OPEN, choir_history_reader(history),
                          "the conversation history cannot be read");
  json_decref(rows);
  return NULL;
}

static json_t *conversation_row(ChoirStatement *statement) {
  return json_pack("{s:I,s:s,s:I,s:I}", "id", (json_int_t)sqlite3_column_int64(statement, 0), "title",
                   column_text(statement, 1), "turns", (json_int_t)sqlite3_column_int64(statement, 2), "updated",
                   (json_int_t)(sqlite3_column_int64(statement, 3) / G_USEC_PER_SEC));
}

json_t *choir_history_list(ChoirHistory *history, guint limit, GError **error) {
  g_autoptr(ChoirStatement) statement = prepare(
      history,
      "SELECT id, title, (SELECT count(*) FROM entries e WHERE e.conversation = c.id AND e.role = 'user'), updated_us"
      " FROM conversations c ORDER BY updated_us DESC, id DESC LIMIT ?1",
      error);
  if (!statement)
    return NULL;
  sqlite3_bind_int64(statement, 1, limit ? (gint64)limit : -1);
  return collect(history, statement, conversation_row, error);
}

static json_t *entry_row(ChoirStatement *statement) {
  return json_pack("{s:I,s:s,s:s,s:s,s:b,s:I}", "id", (json_int_t)sqlite3_column_int64(statement, 0), "role",
                   column_text(statement, 1), "text", column_text(statement, 2), "source", column_text(statement, 3),
                   "cut", sqlite3_column_int(statement, 4), "time",
                   (json_int_t)(sqlite3_column_int64(statement, 5) / G_USEC_PER_SEC));
}

json_t *choir_history_entries(ChoirHistory *history, gint64 conversation, guint limit, GError **error) {
  g_autoptr(ChoirStatement) statement =
      prepare(history,
              "SELECT * FROM (SELECT id, role, text, source, cut, wall_us FROM entries"
              " WHERE conversation = ?1 ORDER BY id DESC LIMIT ?2) ORDER BY id",
              error);
  if (!statement)
    return NULL;
  sqlite3_bind_int64(statement, 1, conversation);
  sqlite3_bind_int64(statement, 2, limit ? (gint64)limit : -1);
  return collect(history, statement, entry_row, error);
}

guint choir_history_turns(ChoirHistory *history, gint64 conversation) {
  g_autoptr(ChoirStatement) statement =
      prepare(history, "SELECT count(*) FROM entries WHERE conversation = ?1 AND role = 'user'", NULL);
  if (!statement)
    return 0;
  sqlite3_bind_int64(statement, 1, conversation);
  return sqlite3_step(statement) == SQLITE_ROW ? (guint)sqlite3_column_int64(statement, 0) : 0;
}

static json_t *export_row(ChoirStatement *statement) {
  json_t *entry = entry_row(statement);
  json_object_del(entry, "id");
  if (sqlite3_column_type(statement, 6) != SQLITE_NULL)
    json_object_set_new(entry, "full_text", json_string(column_text(statement, 6)));
  return entry;
}

json_t *choir_history_export(ChoirHistory *history, gint64 conversation, GError **error) {
  g_autoptr(ChoirStatement) head = prepare(history, "SELECT title, created_us FROM conversations WHERE id = ?1", error);
  if (!head)
    return NULL;
  sqlite3_bind_int64(head, 1, conversation);
  if (sqlite3_step(head) != SQLITE_ROW) {
    g_set_error(error, CHOIR_HISTORY_ERROR, CHOIR_HISTORY_ERROR_NOT_FOUND, "there is no conversation %" G_GINT64_FORMAT,
                conversation);
    return NULL;
  }
  g_autoptr(ChoirStatement) statement = prepare(history,
                                                "SELECT id, role, text, source, cut, wall_us, full_text FROM entries"
                                                " WHERE conversation = ?1 ORDER BY id",
                                                error);
  if (!statement)
    return NULL;
  sqlite3_bind_int64(statement, 1, conversation);
  json_t *entries = collect(history, statement, export_row, error);
  if (!entries)
    return NULL;
  return json_pack("{s:s,s:i,s:s,s:I,s:o}", "format", "choir-conversation", "version", 1, "title", column_text(head, 0),
                   "created", (json_int_t)(sqlite3_column_int64(head, 1) / G_USEC_PER_SEC), "entries", entries);
}
