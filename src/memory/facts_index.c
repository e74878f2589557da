/* The index's file beside the database. The database remembers which file belongs to which of its states: any other is
 * made anew. */
#include <glib/gstdio.h>
#include <string.h>
#include "base/log.h"
#include "base/names.h"
#include "memory/facts_private.h"

#define BYTES (CHOIR_FACTS_DIMENSIONS * sizeof(float))
#define ROWS 1024 /* added at once */

static char *stamp_of(ChoirFacts *facts) {
  GStatBuf status;
  if (g_stat(facts->index_path, &status) != 0)
    return NULL;
  gint64 serial = choir_facts_int(facts, "SELECT value FROM settings WHERE key = 'serial'");
  return g_strdup_printf("%" G_GINT64_FORMAT ":%" G_GINT64_FORMAT ":%" G_GINT64_FORMAT ".%09ld:%" G_GINT64_FORMAT,
                         serial, (gint64)status.st_size, (gint64)status.st_mtim.tv_sec, status.st_mtim.tv_nsec,
                         (gint64)status.st_ino);
}

static char *stored_stamp(ChoirFacts *facts) {
  g_autoptr(ChoirStatement) statement =
      choir_facts_prepare(facts, "SELECT value FROM settings WHERE key = 'index'", NULL);
  if (!statement || sqlite3_step(statement) != SQLITE_ROW)
    return NULL;
  return g_strdup((const char *)sqlite3_column_text(statement, 0));
}

static gint64 vectors_in_db(ChoirFacts *facts) {
  return choir_facts_int(facts, "SELECT count(*) FROM facts WHERE superseded_by IS NULL AND embedding IS NOT NULL");
}

static gboolean rebuild(ChoirFacts *facts, ChoirIndex *index, GError **error) {
  g_autoptr(ChoirStatement) statement = choir_facts_prepare(
      facts, "SELECT id, embedding FROM facts WHERE superseded_by IS NULL AND embedding IS NOT NULL ORDER BY id",
      error);
  g_autofree float *vectors = g_malloc(ROWS * BYTES);
  gint64 ids[ROWS];
  gsize n = 0;
  if (!statement)
    return FALSE;
  for (;;) {
    gboolean row = sqlite3_step(statement) == SQLITE_ROW;
    if (row && sqlite3_column_bytes(statement, 1) == (int)BYTES) {
      ids[n] = sqlite3_column_int64(statement, 0);
      memcpy((char *)vectors + n++ * BYTES, sqlite3_column_blob(statement, 1), BYTES);
    }
    if (n == ROWS || !row) {
      if (!choir_index_add(index, ids, vectors, n, error))
        return FALSE;
      n = 0;
    }
    if (!row)
      return TRUE;
  }
}

static void lose(ChoirFacts *facts, const GError *error) {
  g_free(facts->problem);
  facts->problem = g_strdup(error ? error->message : "unknown");
  facts->index_lost = TRUE;
  g_clear_pointer(&facts->index, choir_index_free);
  choir_warning(CHOIR_TOPIC_MEMORY, "facts are found by their words only: %s", facts->problem);
}

ChoirIndex *choir_facts_index(ChoirFacts *facts) {
  g_autoptr(GError) error = NULL;
  if (facts->index || facts->index_lost)
    return facts->index;
  gint64 wanted = vectors_in_db(facts);
  if (wanted == 0)
    return NULL;
  g_autofree char *now = stamp_of(facts), *stored = stored_stamp(facts);
  if (now && g_strcmp0(now, stored) == 0) {
    facts->index = choir_index_load(facts->module, facts->index_path, CHOIR_FACTS_DIMENSIONS, &error);
    if (facts->index && (gint64)choir_index_count(facts->index) == wanted)
      return facts->index;
    g_clear_pointer(&facts->index, choir_index_free);
    g_clear_error(&error);
  }
  facts->index = choir_index_new(facts->module, CHOIR_FACTS_DIMENSIONS, &error);
  if (facts->index && rebuild(facts, facts->index, &error)) {
    choir_info(CHOIR_TOPIC_MEMORY, "the index of %" G_GINT64_FORMAT " facts was made anew", wanted);
    facts->dirty = TRUE;
  } else {
    lose(facts, error);
  }
  return facts->index;
}

void choir_facts_index_put(ChoirFacts *facts, gint64 id, const float *embedding) {
  g_autoptr(GError) error = NULL;
  facts->dirty = TRUE;
  if (!facts->index) /* the database has it by now, so that making the index brings it in */
    (void)choir_facts_index(facts);
  else if (!choir_index_remove(facts->index, id, &error) || !choir_index_add(facts->index, &id, embedding, 1, &error))
    lose(facts, error);
}

void choir_facts_index_drop(ChoirFacts *facts, gint64 id) {
  g_autoptr(GError) error = NULL;
  facts->dirty = TRUE;
  if (facts->index && !choir_index_remove(facts->index, id, &error))
    lose(facts, error);
}

void choir_facts_index_forget(ChoirFacts *facts) {
  g_clear_pointer(&facts->index, choir_index_free);
  facts->index_lost = FALSE;
  facts->dirty = TRUE;
}

gboolean choir_facts_flush(ChoirFacts *facts, GError **error) {
  if (!facts->dirty)
    return TRUE;
  ChoirIndex *index = choir_facts_index(facts);
  if (!index && !facts->index_lost)
    g_unlink(facts->index_path); /* nothing is remembered: nor in the file */
  if (index && !choir_index_save(index, facts->index_path, error))
    return FALSE;
  g_autofree char *stamp = index ? stamp_of(facts) : NULL;
  g_autoptr(ChoirStatement) statement =
      choir_facts_prepare(facts, "INSERT OR REPLACE INTO settings(key, value) VALUES('index', ?1)", error);
  if (!statement)
    return FALSE;
  sqlite3_bind_text(statement, 1, stamp ? stamp : "", -1, SQLITE_STATIC);
  facts->dirty = FALSE;
  return choir_facts_step(facts, statement, error);
}

const char *choir_facts_index_problem(const ChoirFacts *facts) {
  return facts->problem;
}
