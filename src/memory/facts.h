/* Facts about the person, in SQLite (WAL, synchronous FULL) with BM25 (FTS5) and a FAISS index beside it, found by both
 * and fused by reciprocal rank (Cormack et al. 2009, k = 60). SQLite holds the truth, the embeddings too: the index is
 * made anew when its file is missing, damaged or not the one that belongs to the database. Blocking; one thread at a
 * time. */
#pragma once
#include <glib.h>
#include <jansson.h>

#define CHOIR_FACTS_DIMENSIONS 384
#define CHOIR_FACTS_TEXT_MAX 1000 /* characters */

#define CHOIR_FACTS_ERROR (choir_facts_error_quark())
GQuark choir_facts_error_quark(void);
enum { CHOIR_FACTS_ERROR_OPEN, CHOIR_FACTS_ERROR_WRITE, CHOIR_FACTS_ERROR_NOT_FOUND, CHOIR_FACTS_ERROR_TEXT };

typedef struct ChoirFacts ChoirFacts;

typedef struct {
  const char *text;
  const char *source;  /* "voice" "page" "cli" "import" ... */
  const char *turn_id; /* may be NULL */
  gboolean tainted;    /* not the person's own words */
  gint64 created_us;   /* 0 = now */
} ChoirFactNew;

typedef enum { CHOIR_FACT_ADDED, CHOIR_FACT_MERGED, CHOIR_FACT_SUPERSEDED } ChoirFactOutcome;

/* folder: gets facts.db and long_term_memory.faiss. module: see choir_index_new(). */
ChoirFacts *choir_facts_open(const char *folder, const char *module, GError **error);
void choir_facts_close(ChoirFacts *facts);  /* flushes */
guint choir_facts_count(ChoirFacts *facts); /* those that are not superseded */
/* embedding: unit length, or NULL when there is none yet. The id of the fact that now says it, 0 with error. A fact
 * that says the same is merged with it; one that gives the same thing another value is superseded and kept as history.
 */
gint64 choir_facts_add(ChoirFacts *facts, const ChoirFactNew *fact, const float *embedding,
                       ChoirFactOutcome *ret_outcome, GError **error);
/* Erased, with everything that it superseded. */
gboolean choir_facts_forget(ChoirFacts *facts, gint64 id, GError **error);
gboolean choir_facts_edit(ChoirFacts *facts, gint64 id, const char *text, const float *embedding, GError **error);
/* [{"id","text","source","time","tainted","uses","turn"?,"superseded_by"?}] newest first. history: superseded ones too.
 */
json_t *choir_facts_list(ChoirFacts *facts, guint limit, gboolean history, GError **error);
/* The same, best first, with "score" (fused) and, where known, "similarity" (cosine) and "words" (shared content
 * words). embedding NULL: by words alone. */
json_t *choir_facts_search(ChoirFacts *facts, const char *query, const float *embedding, guint limit, GError **error);
void choir_facts_used(ChoirFacts *facts, const json_t *found);
/* [{"id","text"}] without embedding. */
json_t *choir_facts_unembedded(ChoirFacts *facts, guint limit);
gboolean choir_facts_set_embedding(ChoirFacts *facts, gint64 id, const float *embedding, GError **error);
/* One fact a line, superseded ones too; caller frees. */
char *choir_facts_export(ChoirFacts *facts, GError **error);
/* All lines or none. How many are new, -1 with error ("line 3: ..."). Embeddings come later. */
gint choir_facts_import(ChoirFacts *facts, const char *lines, GError **error);
/* Everything is replaced by the lines of an export, or nothing. */
gboolean choir_facts_replace(ChoirFacts *facts, const char *lines, GError **error);
/* Writes the index's file when it is older than the database. */
gboolean choir_facts_flush(ChoirFacts *facts, GError **error);
/* Why there is no search by meaning, or NULL. */
const char *choir_facts_index_problem(const ChoirFacts *facts);

/* "my server #name" of "My server is called atlas": what the fact is about, "" when it gives no single value. ret_value
 * (may be NULL): "atlas". Caller frees both. */
char *choir_facts_key(const char *text, char **ret_value);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirFacts, choir_facts_close)
