/* Finding: BM25 of SQLite's FTS5 and the index, fused by reciprocal rank. */
#include <string.h>
#include "base/text.h"
#include "memory/facts_private.h"

#define RANK_K 60 /* Cormack, Clarke, Buettcher: Reciprocal Rank Fusion, SIGIR 2009 */
#define DEPTH 50  /* candidates of each list */
#define WORDS_MAX 32
/* BM25 looks every fact up that holds one of the words. A word that so many hold tells little beside one that few hold,
 * and of those that nothing tells apart the newest are ranked. */
#define COMMON 1000
#define RANKED 2000

typedef struct {
  gint64 id;
  double score, similarity; /* similarity: -2 unknown */
} Hit;

json_t *choir_facts_row(ChoirStatement *statement) {
  json_t *row = json_pack("{s:I,s:s,s:s,s:f,s:b,s:i}", "id", (json_int_t)sqlite3_column_int64(statement, 0), "text",
                          (const char *)sqlite3_column_text(statement, 1), "source",
                          (const char *)sqlite3_column_text(statement, 2), "time",
                          (double)sqlite3_column_int64(statement, 3) / G_USEC_PER_SEC, "tainted",
                          sqlite3_column_int(statement, 4), "uses", sqlite3_column_int(statement, 5));
  if (sqlite3_column_type(statement, 6) != SQLITE_NULL)
    json_object_set_new(row, "turn", json_string((const char *)sqlite3_column_text(statement, 6)));
  if (sqlite3_column_type(statement, 7) != SQLITE_NULL)
    json_object_set_new(row, "superseded_by", json_integer(sqlite3_column_int64(statement, 7)));
  return row;
}

json_t *choir_facts_list(ChoirFacts *facts, guint limit, gboolean history, GError **error) {
  g_autoptr(ChoirStatement) statement =
      choir_facts_prepare(facts,
                          "SELECT " CHOIR_FACTS_COLUMNS
                          " FROM facts WHERE superseded_by IS NULL OR ?2 ORDER BY created_us DESC, id DESC LIMIT ?1",
                          error);
  if (!statement)
    return NULL;
  sqlite3_bind_int64(statement, 1, limit ? (gint64)limit : -1);
  sqlite3_bind_int(statement, 2, history);
  json_t *list = json_array();
  while (sqlite3_step(statement) == SQLITE_ROW)
    json_array_append_new(list, choir_facts_row(statement));
  return list;
}

static Hit *hit_of(GArray *hits, gint64 id) {
  for (guint i = 0; i < hits->len; i++)
    if (g_array_index(hits, Hit, i).id == id)
      return &g_array_index(hits, Hit, i);
  Hit fresh = {.id = id, .similarity = -2};
  g_array_append_val(hits, fresh);
  return &g_array_index(hits, Hit, hits->len - 1);
}

/* The query's content words as an expression for FTS5: "my" OR "server", quoted so that none is an operator. */
static char *expression(const GPtrArray *words) {
  GString *text = g_string_new(NULL);
  for (guint i = 0; i < MIN(words->len, WORDS_MAX); i++)
    g_string_append_printf(text, "%s\"%s\"", i ? " OR " : "", (char *)words->pdata[i]);
  return g_string_free(text, FALSE);
}

/* Those of the words that few facts hold; all of them when none is. Borrowed strings. */
static GPtrArray *telling(ChoirFacts *facts, const GPtrArray *words) {
  g_autoptr(GPtrArray) rare = g_ptr_array_new(), all = g_ptr_array_new();
  g_autoptr(ChoirStatement) statement =
      choir_facts_prepare(facts, "SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ?1 LIMIT ?2)", NULL);
  for (guint i = 0; i < MIN(words->len, WORDS_MAX); i++) {
    g_autofree char *match = g_strdup_printf("\"%s\"", (char *)words->pdata[i]);
    gint64 holds = 0;
    if (statement) {
      sqlite3_reset(statement);
      sqlite3_bind_text(statement, 1, match, -1, SQLITE_TRANSIENT);
      sqlite3_bind_int(statement, 2, COMMON + 1);
      holds = sqlite3_step(statement) == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
    }
    g_ptr_array_add(all, words->pdata[i]);
    if (holds > 0 && holds <= COMMON)
      g_ptr_array_add(rare, words->pdata[i]);
  }
  return rare->len > 0 ? g_steal_pointer(&rare) : g_steal_pointer(&all);
}

static gboolean by_words(ChoirFacts *facts, const GPtrArray *words, GArray *hits, GError **error) {
  if (words->len == 0)
    return TRUE;
  g_autoptr(GPtrArray) used = telling(facts, words);
  g_autofree char *match = expression(used);
  g_autoptr(ChoirStatement) statement = choir_facts_prepare(
      facts,
      "SELECT rowid FROM (SELECT rowid, bm25(words) AS score FROM words WHERE words MATCH ?1 ORDER BY rowid DESC "
      "LIMIT ?3) ORDER BY score, rowid DESC LIMIT ?2",
      error);
  if (!statement)
    return FALSE;
  sqlite3_bind_text(statement, 1, match, -1, SQLITE_STATIC);
  sqlite3_bind_int(statement, 2, DEPTH);
  sqlite3_bind_int(statement, 3, RANKED);
  for (guint rank = 1; sqlite3_step(statement) == SQLITE_ROW; rank++)
    hit_of(hits, sqlite3_column_int64(statement, 0))->score += 1.0 / (RANK_K + rank);
  return TRUE;
}

static gboolean by_meaning(ChoirFacts *facts, const float *embedding, GArray *hits, GError **error) {
  gint64 ids[DEPTH];
  float scores[DEPTH];
  ChoirIndex *index = embedding ? choir_facts_index(facts) : NULL;
  guint n = index ? choir_index_search(index, embedding, DEPTH, ids, scores, error) : 0;
  if (n == G_MAXUINT)
    return FALSE;
  for (guint i = 0; i < n; i++) {
    Hit *hit = hit_of(hits, ids[i]);
    hit->score += 1.0 / (RANK_K + 1 + i);
    hit->similarity = scores[i];
  }
  return TRUE;
}

static gint compare(gconstpointer a, gconstpointer b) {
  const Hit *left = a, *right = b;
  if (left->score != right->score)
    return left->score < right->score ? 1 : -1;
  return left->id < right->id ? 1 : -1;
}

static guint shared(const GPtrArray *words, const char *text) {
  g_autoptr(GPtrArray) own = choir_facts_words(text);
  guint n = 0;
  for (guint i = 0; i < words->len; i++)
    n += g_ptr_array_find_with_equal_func(own, words->pdata[i], g_str_equal, NULL);
  return n;
}

json_t *choir_facts_search(ChoirFacts *facts, const char *query, const float *embedding, guint limit, GError **error) {
  g_autoptr(GPtrArray) words = choir_facts_words(query);
  g_autoptr(GArray) hits = g_array_new(FALSE, FALSE, sizeof(Hit));
  g_autoptr(ChoirStatement) statement =
      choir_facts_prepare(facts, "SELECT " CHOIR_FACTS_COLUMNS " FROM facts WHERE id = ?1", error);
  if (!statement || !by_words(facts, words, hits, error) || !by_meaning(facts, embedding, hits, error))
    return NULL;
  g_array_sort(hits, compare);
  json_t *list = json_array();
  for (guint i = 0; i < hits->len && json_array_size(list) < limit; i++) {
    const Hit *hit = &g_array_index(hits, Hit, i);
    sqlite3_reset(statement);
    sqlite3_bind_int64(statement, 1, hit->id);
    if (sqlite3_step(statement) != SQLITE_ROW)
      continue;
    json_t *row = choir_facts_row(statement);
    json_object_set_new(row, "score", json_real(hit->score));
    json_object_set_new(row, "words", json_integer(shared(words, choir_json_string(row, "text", ""))));
    if (hit->similarity > -2)
      json_object_set_new(row, "similarity", json_real(hit->similarity));
    json_array_append_new(list, row);
  }
  return list;
}

void choir_facts_used(ChoirFacts *facts, const json_t *found) {
  g_autoptr(ChoirStatement) statement =
      choir_facts_prepare(facts, "UPDATE facts SET uses = uses + 1, used_us = ?2 WHERE id = ?1", NULL);
  size_t i;
  json_t *row;
  json_array_foreach((json_t *)found, i, row) {
    if (!statement)
      return;
    sqlite3_reset(statement);
    sqlite3_bind_int64(statement, 1, choir_json_int(row, "id", 0));
    sqlite3_bind_int64(statement, 2, g_get_real_time());
    sqlite3_step(statement); /* a count: nothing hangs on it */
  }
}

json_t *choir_facts_unembedded(ChoirFacts *facts, guint limit) {
  json_t *list = json_array();
  g_autoptr(ChoirStatement) statement = choir_facts_prepare(
      facts, "SELECT id, text FROM facts WHERE superseded_by IS NULL AND embedding IS NULL ORDER BY id LIMIT ?1", NULL);
  if (!statement)
    return list;
  sqlite3_bind_int64(statement, 1, (gint64)limit);
  while (sqlite3_step(statement) == SQLITE_ROW)
    json_array_append_new(list, json_pack("{s:I,s:s}", "id", (json_int_t)sqlite3_column_int64(statement, 0), "text",
                                          (const char *)sqlite3_column_text(statement, 1)));
  return list;
}
