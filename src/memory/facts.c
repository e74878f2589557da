#include <string.h>
#include "base/text.h"
#include "memory/facts_private.h"

#define BYTES (CHOIR_FACTS_DIMENSIONS * sizeof(float))
#define SAME 0.92      /* cosine above which two facts with one key say the same in other words */
#define SAME_THING 0.6 /* ... below which one key is a coincidence: "my wife is a doctor", "my wife is tall" */

G_DEFINE_QUARK(choir - facts - error - quark, choir_facts_error)

static const char *const steps[] = {
    "CREATE TABLE facts(id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL, key TEXT NOT NULL,"
    " value TEXT NOT NULL, source TEXT NOT NULL, turn TEXT, created_us INTEGER NOT NULL, tainted INTEGER NOT NULL,"
    " embedding BLOB, uses INTEGER NOT NULL DEFAULT 0, used_us INTEGER NOT NULL DEFAULT 0,"
    " superseded_by INTEGER REFERENCES facts(id) ON DELETE CASCADE);"
    "CREATE INDEX facts_by_key ON facts(key) WHERE superseded_by IS NULL;"
    "CREATE INDEX facts_by_successor ON facts(superseded_by) WHERE superseded_by IS NOT NULL;"
    "CREATE VIRTUAL TABLE words USING fts5(text, tokenize = 'porter unicode61');"
    "CREATE TABLE settings(key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
    "INSERT INTO settings VALUES('serial', 1);",
    NULL};

static void set_error(ChoirFacts *facts, GError **error) {
  gboolean full = (sqlite3_errcode(facts->db) & 0xff) == SQLITE_FULL;
  g_set_error(error, CHOIR_FACTS_ERROR, CHOIR_FACTS_ERROR_WRITE, "the memory cannot be written: %s",
              full ? "the disk is full; free some space and say it again" : sqlite3_errmsg(facts->db));
}

ChoirStatement *choir_facts_prepare(ChoirFacts *facts, const char *sql, GError **error) {
  ChoirStatement *statement = NULL;
  if (sqlite3_prepare_v2(facts->db, sql, -1, &statement, NULL) != SQLITE_OK)
    set_error(facts, error);
  return statement;
}

gboolean choir_facts_step(ChoirFacts *facts, ChoirStatement *statement, GError **error) {
  if (sqlite3_step(statement) == SQLITE_DONE)
    return TRUE;
  set_error(facts, error);
  return FALSE;
}

gboolean choir_facts_run(ChoirFacts *facts, const char *sql, GError **error) {
  if (sqlite3_exec(facts->db, sql, NULL, NULL, NULL) == SQLITE_OK)
    return TRUE;
  set_error(facts, error);
  return FALSE;
}

gint64 choir_facts_int(ChoirFacts *facts, const char *sql) {
  g_autoptr(ChoirStatement) statement = choir_facts_prepare(facts, sql, NULL);
  return statement && sqlite3_step(statement) == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
}

ChoirFacts *choir_facts_open(const char *folder, const char *module, GError **error) {
  g_autofree char *path = g_build_filename(folder, "facts.db", NULL);
  sqlite3 *db = choir_history_connect(path, FALSE, error);
  if (!db)
    return NULL;
  ChoirFacts *facts = g_new0(ChoirFacts, 1);
  facts->db = db;
  facts->module = g_strdup(module);
  facts->index_path = g_build_filename(folder, "long_term_memory.faiss", NULL);
  /* What is forgotten leaves the file, too. */
  if (choir_facts_run(facts, "PRAGMA secure_delete=1; PRAGMA cache_size=-1024", error) &&
      choir_history_migrate(db, steps, path, error))
    return facts;
  choir_facts_close(facts);
  return NULL;
}

void choir_facts_close(ChoirFacts *facts) {
  if (!facts)
    return;
  choir_facts_flush(facts, NULL); /* made anew at the next start when it fails */
  choir_index_free(facts->index);
  sqlite3_close(facts->db);
  g_free(facts->module);
  g_free(facts->index_path);
  g_free(facts->problem);
  g_free(facts);
}

guint choir_facts_count(ChoirFacts *facts) {
  return (guint)choir_facts_int(facts, "SELECT count(*) FROM facts WHERE superseded_by IS NULL");
}

/* Ends what BEGIN IMMEDIATE began. */
static gboolean end(ChoirFacts *facts, gboolean good, GError **error) {
  if (good && choir_facts_run(facts, "UPDATE settings SET value = value + 1 WHERE key = 'serial'; COMMIT", error))
    return TRUE;
  sqlite3_exec(facts->db, "ROLLBACK", NULL, NULL, NULL);
  return FALSE;
}

static gboolean check_text(const char *text, GError **error) {
  glong length = g_utf8_strlen(text, -1);
  if (g_utf8_validate(text, -1, NULL) && length > 0 && length <= CHOIR_FACTS_TEXT_MAX)
    return TRUE;
  g_set_error(error, CHOIR_FACTS_ERROR, CHOIR_FACTS_ERROR_TEXT, "a fact has 1 to %d characters", CHOIR_FACTS_TEXT_MAX);
  return FALSE;
}

static gint64 insert(ChoirFacts *facts, const ChoirFactNew *fact, const float *embedding, GError **error) {
  g_autofree char *value = NULL, *key = choir_facts_key(fact->text, &value);
  g_autoptr(ChoirStatement) row = choir_facts_prepare(facts,
                                                      "INSERT INTO facts(text, key, value, source, turn, created_us, "
                                                      "tainted, embedding) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                                                      error);
  g_autoptr(ChoirStatement) words =
      choir_facts_prepare(facts, "INSERT INTO words(rowid, text) VALUES(last_insert_rowid(), ?1)", error);
  if (!row || !words)
    return 0;
  sqlite3_bind_text(row, 1, fact->text, -1, SQLITE_STATIC);
  sqlite3_bind_text(row, 2, key, -1, SQLITE_STATIC);
  sqlite3_bind_text(row, 3, value, -1, SQLITE_STATIC);
  sqlite3_bind_text(row, 4, fact->source ? fact->source : "", -1, SQLITE_STATIC);
  if (fact->turn_id)
    sqlite3_bind_text(row, 5, fact->turn_id, -1, SQLITE_STATIC);
  sqlite3_bind_int64(row, 6, fact->created_us ? fact->created_us : g_get_real_time());
  sqlite3_bind_int(row, 7, fact->tainted);
  if (embedding)
    sqlite3_bind_blob(row, 8, embedding, (int)BYTES, SQLITE_STATIC);
  sqlite3_bind_text(words, 1, fact->text, -1, SQLITE_STATIC);
  if (!choir_facts_step(facts, row, error))
    return 0;
  gint64 id = sqlite3_last_insert_rowid(facts->db);
  return choir_facts_step(facts, words, error) ? id : 0;
}

static double cosine(const float *a, const float *b) {
  double sum = 0;
  for (int i = 0; i < CHOIR_FACTS_DIMENSIONS; i++)
    sum += (double)a[i] * (double)b[i];
  return sum;
}

typedef struct {
  gint64 same, other; /* the fact that says the same; the one it contradicts; 0 = none */
} Kin;

/* A fact with the same words, or the same key. */
static gboolean find_kin(ChoirFacts *facts, const char *text, const float *embedding, Kin *ret_kin, GError **error) {
  g_autofree char *value = NULL, *key = choir_facts_key(text, &value);
  g_autoptr(ChoirStatement) statement = choir_facts_prepare(
      facts,
      "SELECT id, text = ?1 COLLATE NOCASE, key, value, embedding FROM facts WHERE superseded_by IS NULL"
      " AND ((key = ?2 AND ?2 <> '') OR text = ?1 COLLATE NOCASE) ORDER BY id",
      error);
  *ret_kin = (Kin){0};
  if (!statement)
    return FALSE;
  sqlite3_bind_text(statement, 1, text, -1, SQLITE_STATIC);
  sqlite3_bind_text(statement, 2, key, -1, SQLITE_STATIC);
  while (sqlite3_step(statement) == SQLITE_ROW) {
    gint64 id = sqlite3_column_int64(statement, 0);
    const float *known = sqlite3_column_bytes(statement, 4) == (int)BYTES ? sqlite3_column_blob(statement, 4) : NULL;
    double near = embedding && known ? cosine(embedding, known) : -1;
    gboolean one_value = g_str_equal(value, (const char *)sqlite3_column_text(statement, 3));
    gboolean kind = strchr(key, '#') != NULL;
    if (sqlite3_column_int(statement, 1) || (one_value && (near < 0 || near >= SAME || kind)))
      ret_kin->same = id;
    else if (!one_value && (kind ? near < 0 || near >= SAME_THING : near >= SAME_THING))
      ret_kin->other = id;
  }
  return TRUE;
}

static gboolean refresh(ChoirFacts *facts, gint64 id, const ChoirFactNew *fact, GError **error) {
  g_autoptr(ChoirStatement) statement = choir_facts_prepare(
      facts, "UPDATE facts SET created_us = max(created_us, ?2), tainted = tainted AND ?3 WHERE id = ?1", error);
  if (!statement)
    return FALSE;
  sqlite3_bind_int64(statement, 1, id);
  sqlite3_bind_int64(statement, 2, fact->created_us ? fact->created_us : g_get_real_time());
  sqlite3_bind_int(statement, 3, fact->tainted);
  return choir_facts_step(facts, statement, error);
}

static gboolean with_two(ChoirFacts *facts, const char *sql, gint64 first, gint64 second, GError **error) {
  g_autoptr(ChoirStatement) statement = choir_facts_prepare(facts, sql, error);
  if (!statement)
    return FALSE;
  sqlite3_bind_int64(statement, 1, first);
  if (sqlite3_bind_parameter_count(statement) > 1)
    sqlite3_bind_int64(statement, 2, second);
  return choir_facts_step(facts, statement, error);
}

/* A stranger's text never replaces what the person said: it stands beside it. */
static gboolean may_supersede(ChoirFacts *facts, const ChoirFactNew *fact, gint64 id) {
  g_autofree char *sql =
      g_strdup_printf("SELECT count(*) FROM facts WHERE id = %" G_GINT64_FORMAT " AND tainted = 0", id);
  return !fact->tainted || choir_facts_int(facts, sql) == 0;
}

gint64 choir_facts_add(ChoirFacts *facts, const ChoirFactNew *fact, const float *embedding,
                       ChoirFactOutcome *ret_outcome, GError **error) {
  Kin kin;
  if (!check_text(fact->text, error) || !choir_facts_run(facts, "BEGIN IMMEDIATE", error))
    return 0;
  gboolean good = find_kin(facts, fact->text, embedding, &kin, error);
  gint64 id = kin.same;
  if (good && kin.other && !may_supersede(facts, fact, kin.other))
    kin.other = 0;
  if (good && kin.same) {
    good = refresh(facts, kin.same, fact, error);
  } else if (good) {
    id = insert(facts, fact, embedding, error);
    good = id != 0 && (kin.other == 0 ||
                       (with_two(facts, "UPDATE facts SET superseded_by = ?2 WHERE id = ?1", kin.other, id, error) &&
                        with_two(facts, "DELETE FROM words WHERE rowid = ?1", kin.other, 0, error)));
  }
  if (!end(facts, good, error))
    return 0;
  if (!kin.same && kin.other)
    choir_facts_index_drop(facts, kin.other);
  if (!kin.same && embedding)
    choir_facts_index_put(facts, id, embedding);
  if (ret_outcome)
    *ret_outcome = kin.same ? CHOIR_FACT_MERGED : kin.other ? CHOIR_FACT_SUPERSEDED : CHOIR_FACT_ADDED;
  return id;
}

static gboolean exists(ChoirFacts *facts, gint64 id, gboolean current, GError **error) {
  g_autofree char *sql = g_strdup_printf("SELECT count(*) FROM facts WHERE id = %" G_GINT64_FORMAT "%s", id,
                                         current ? " AND superseded_by IS NULL" : "");
  if (choir_facts_int(facts, sql) > 0)
    return TRUE;
  g_set_error(error, CHOIR_FACTS_ERROR, CHOIR_FACTS_ERROR_NOT_FOUND,
              "there is no fact %" G_GINT64_FORMAT "; choir memory list shows them", id);
  return FALSE;
}

gboolean choir_facts_forget(ChoirFacts *facts, gint64 id, GError **error) {
  if (!exists(facts, id, FALSE, error) || !choir_facts_run(facts, "BEGIN IMMEDIATE", error))
    return FALSE;
  /* Rows that it superseded go with it (ON DELETE CASCADE); they are in no list of words. */
  gboolean good = with_two(facts, "DELETE FROM facts WHERE id = ?1", id, 0, error) &&
                  with_two(facts, "DELETE FROM words WHERE rowid = ?1", id, 0, error);
  if (!end(facts, good, error))
    return FALSE;
  choir_facts_index_drop(facts, id);
  /* The log still has the text until it is written into the file and cut. */
  sqlite3_wal_checkpoint_v2(facts->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
  return TRUE;
}

gboolean choir_facts_edit(ChoirFacts *facts, gint64 id, const char *text, const float *embedding, GError **error) {
  g_autofree char *value = NULL, *key = choir_facts_key(text, &value);
  if (!check_text(text, error) || !exists(facts, id, TRUE, error) || !choir_facts_run(facts, "BEGIN IMMEDIATE", error))
    return FALSE;
  g_autoptr(ChoirStatement) row = choir_facts_prepare(
      facts, "UPDATE facts SET text = ?2, key = ?3, value = ?4, embedding = ?5, tainted = 0 WHERE id = ?1", error);
  g_autoptr(ChoirStatement) words = choir_facts_prepare(facts, "UPDATE words SET text = ?2 WHERE rowid = ?1", error);
  if (row && words) {
    sqlite3_bind_int64(row, 1, id);
    sqlite3_bind_text(row, 2, text, -1, SQLITE_STATIC);
    sqlite3_bind_text(row, 3, key, -1, SQLITE_STATIC);
    sqlite3_bind_text(row, 4, value, -1, SQLITE_STATIC);
    if (embedding)
      sqlite3_bind_blob(row, 5, embedding, (int)BYTES, SQLITE_STATIC);
    sqlite3_bind_int64(words, 1, id);
    sqlite3_bind_text(words, 2, text, -1, SQLITE_STATIC);
  }
  if (!end(facts, row && words && choir_facts_step(facts, row, error) && choir_facts_step(facts, words, error), error))
    return FALSE;
  if (embedding)
    choir_facts_index_put(facts, id, embedding);
  else
    choir_facts_index_drop(facts, id);
  return TRUE;
}

gboolean choir_facts_set_embedding(ChoirFacts *facts, gint64 id, const float *embedding, GError **error) {
  g_autoptr(ChoirStatement) statement =
      choir_facts_prepare(facts, "UPDATE facts SET embedding = ?2 WHERE id = ?1 AND superseded_by IS NULL", error);
  if (!statement || !choir_facts_run(facts, "BEGIN IMMEDIATE", error))
    return FALSE;
  sqlite3_bind_int64(statement, 1, id);
  sqlite3_bind_blob(statement, 2, embedding, (int)BYTES, SQLITE_STATIC);
  gboolean good = choir_facts_step(facts, statement, error);
  gboolean changed = sqlite3_changes(facts->db) > 0;
  if (!end(facts, good, error))
    return FALSE;
  if (changed)
    choir_facts_index_put(facts, id, embedding);
  return TRUE;
}
