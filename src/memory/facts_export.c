/* Facts as lines of JSON, out and in. */
#include <string.h>
#include "base/text.h"
#include "memory/facts_private.h"

#define IMPORT_MAX 200000 /* lines */

char *choir_facts_export(ChoirFacts *facts, GError **error) {
  g_autoptr(ChoirStatement) statement =
      choir_facts_prepare(facts, "SELECT " CHOIR_FACTS_COLUMNS " FROM facts ORDER BY id", error);
  if (!statement)
    return NULL;
  GString *lines = g_string_new(NULL);
  while (sqlite3_step(statement) == SQLITE_ROW) {
    json_auto_t *row = choir_facts_row(statement);
    g_autofree char *line = choir_json_dump(row);
    g_string_append_printf(lines, "%s\n", line);
  }
  return g_string_free(lines, FALSE);
}

typedef struct {
  json_t *row;
  gint64 old_id, new_id, superseded_by;
} Line;

static void line_clear(gpointer data) {
  json_decref(((Line *)data)->row);
}

static gboolean read_lines(const char *text, GArray *lines, GError **error) {
  g_auto(GStrv) split = g_strsplit(text, "\n", IMPORT_MAX + 1);
  for (guint i = 0; split[i]; i++) {
    if (!*g_strstrip(split[i]))
      continue;
    g_autoptr(GError) why = NULL;
    json_t *row = choir_json_parse(split[i], strlen(split[i]), &why);
    const char *fact = choir_json_string(row, "text", "");
    glong length = g_utf8_strlen(fact, -1);
    if (i >= IMPORT_MAX || length < 1 || length > CHOIR_FACTS_TEXT_MAX) {
      g_set_error(error, CHOIR_FACTS_ERROR, CHOIR_FACTS_ERROR_TEXT, "line %u: %s", i + 1,
                  i >= IMPORT_MAX ? "there are too many lines"
                  : why           ? why->message
                                  : "there is no \"text\" of 1 to 1000 characters");
      json_decref(row);
      return FALSE;
    }
    Line line = {row, choir_json_int(row, "id", 0), 0, choir_json_int(row, "superseded_by", 0)};
    g_array_append_val(lines, line);
  }
  return TRUE;
}

static gboolean known(ChoirFacts *facts, const char *text) {
  g_autoptr(ChoirStatement) statement =
      choir_facts_prepare(facts, "SELECT 1 FROM facts WHERE text = ?1 AND superseded_by IS NULL", NULL);
  if (!statement)
    return FALSE;
  sqlite3_bind_text(statement, 1, text, -1, SQLITE_STATIC);
  return sqlite3_step(statement) == SQLITE_ROW;
}

static gboolean put(ChoirFacts *facts, Line *line, GError **error) {
  const char *text = choir_json_string(line->row, "text", "");
  g_autofree char *value = NULL, *key = choir_facts_key(text, &value);
  g_autoptr(ChoirStatement) row = choir_facts_prepare(facts,
                                                      "INSERT INTO facts(text, key, value, source, turn, created_us, "
                                                      "tainted, uses) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                                                      error);
  g_autoptr(ChoirStatement) words = choir_facts_prepare(facts, "INSERT INTO words(rowid, text) VALUES(?1, ?2)", error);
  if (!row || !words)
    return FALSE;
  const char *turn = choir_json_string(line->row, "turn", NULL);
  double time = choir_json_double(line->row, "time", 0);
  gboolean dated = time > 0 && time < 1e11;
  sqlite3_bind_text(row, 1, text, -1, SQLITE_STATIC);
  sqlite3_bind_text(row, 2, key, -1, SQLITE_STATIC);
  sqlite3_bind_text(row, 3, value, -1, SQLITE_STATIC);
  sqlite3_bind_text(row, 4, choir_json_string(line->row, "source", "import"), -1, SQLITE_STATIC);
  if (turn)
    sqlite3_bind_text(row, 5, turn, -1, SQLITE_STATIC);
  sqlite3_bind_int64(row, 6, dated ? (gint64)(time * G_USEC_PER_SEC) : g_get_real_time());
  sqlite3_bind_int(row, 7, choir_json_bool(line->row, "tainted", FALSE));
  sqlite3_bind_int64(row, 8, CLAMP(choir_json_int(line->row, "uses", 0), 0, G_MAXINT));
  if (!choir_facts_step(facts, row, error))
    return FALSE;
  line->new_id = sqlite3_last_insert_rowid(facts->db);
  if (line->superseded_by)
    return TRUE;
  sqlite3_bind_int64(words, 1, line->new_id);
  sqlite3_bind_text(words, 2, text, -1, SQLITE_STATIC);
  return choir_facts_step(facts, words, error);
}

/* Rows that another one superseded point to its new id; without it they are left out. */
static gboolean relate(ChoirFacts *facts, const GArray *lines, GError **error) {
  g_autoptr(GHashTable) ids = g_hash_table_new(g_int64_hash, g_int64_equal);
  for (guint i = 0; i < lines->len; i++) {
    Line *line = &g_array_index(lines, Line, i);
    if (line->old_id)
      g_hash_table_insert(ids, &line->old_id, line);
  }
  g_autoptr(ChoirStatement) link =
      choir_facts_prepare(facts, "UPDATE facts SET superseded_by = ?2 WHERE id = ?1", error);
  g_autoptr(ChoirStatement) drop = choir_facts_prepare(facts, "DELETE FROM facts WHERE id = ?1", error);
  for (guint i = 0; link && drop && i < lines->len; i++) {
    const Line *line = &g_array_index(lines, Line, i);
    if (!line->superseded_by || !line->new_id)
      continue;
    const Line *next = g_hash_table_lookup(ids, &line->superseded_by);
    gboolean there = next && next->new_id && next != line;
    ChoirStatement *statement = there ? link : drop;
    sqlite3_reset(statement);
    sqlite3_bind_int64(statement, 1, line->new_id);
    if (there)
      sqlite3_bind_int64(statement, 2, next->new_id);
    if (!choir_facts_step(facts, statement, error))
      return FALSE;
  }
  return link && drop;
}

static gint bring_in(ChoirFacts *facts, const char *text, gboolean replace, GError **error) {
  g_autoptr(GArray) lines = g_array_new(FALSE, FALSE, sizeof(Line));
  g_array_set_clear_func(lines, line_clear);
  gint fresh = 0;
  if (!read_lines(text, lines, error) || !choir_facts_run(facts, "BEGIN IMMEDIATE", error))
    return -1;
  gboolean good = !replace || choir_facts_run(facts, "DELETE FROM facts; DELETE FROM words", error);
  for (guint i = 0; i < lines->len && good; i++) {
    Line *line = &g_array_index(lines, Line, i);
    if (!replace && (line->superseded_by || known(facts, choir_json_string(line->row, "text", ""))))
      continue;
    good = put(facts, line, error);
    fresh++;
  }
  good = good && relate(facts, lines, error) &&
         choir_facts_run(facts, "UPDATE settings SET value = value + 1 WHERE key = 'serial'; COMMIT", error);
  if (!good)
    sqlite3_exec(facts->db, "ROLLBACK", NULL, NULL, NULL);
  else
    choir_facts_index_forget(facts);
  return good ? fresh : -1;
}

gint choir_facts_import(ChoirFacts *facts, const char *lines, GError **error) {
  return bring_in(facts, lines, FALSE, error);
}

gboolean choir_facts_replace(ChoirFacts *facts, const char *lines, GError **error) {
  return bring_in(facts, lines, TRUE, error) >= 0;
}
