/* The index of documents: SQLite, full text (BM25) and embeddings. Blocking; one thread at a time (a lock inside). */
#pragma once
#include <gio/gio.h>

#define RAG_DIMENSIONS 384

typedef struct RagIndex RagIndex;

typedef struct {
  gint64 id;
  double score, like;            /* like: of meaning, 0 where it is not known */
  char *source, *heading, *text; /* source: "docs/http.md", or an absolute path of an added folder */
  gboolean own;                  /* one of the project's own documents */
} RagHit;

/* source_dir: the project's documents, "" = none. Opened with the first use. */
RagIndex *rag_index_new(const char *path, const char *source_dir);
RagIndex *rag_index_ref(RagIndex *index);
void rag_index_unref(RagIndex *index);
/* Another folder or file; absolute, checked by the caller. *ret_files = how many documents it holds. */
gboolean rag_index_add(RagIndex *index, const char *path, guint *ret_files, GCancellable *cancellable, GError **error);
/* "all", "project", or one of the added paths. */
gboolean rag_index_set_scope(RagIndex *index, const char *scope, GError **error);
char *rag_index_scope(RagIndex *index, GError **error); /* caller frees */
/* Reads what changed since the last time. */
gboolean rag_index_refresh(RagIndex *index, GCancellable *cancellable, GError **error);
/* The best pieces by words; RagHit*, best first; caller unrefs. */
GPtrArray *rag_index_words(RagIndex *index, const char *query, guint most, GError **error);
/* How many words of a question say something, and how many of those stand in any document of the scope. */
gboolean rag_index_knows(RagIndex *index, const char *query, guint *ret_known, guint *ret_words, GError **error);
/* The same by meaning, among those whose embedding is known. */
GPtrArray *rag_index_near(RagIndex *index, const float *query, guint most, GError **error);
/* Of these hits those without an embedding: RagHit* borrowed from hits, at most `most`. */
GPtrArray *rag_index_unknown(RagIndex *index, GPtrArray *hits, guint most, GError **error);
gboolean rag_index_learn(RagIndex *index, gint64 id, const float *vector, GError **error);
/* How many documents were left out: too large, too many, not readable. */
guint rag_index_left_out(RagIndex *index);
void rag_hit_free(RagHit *hit);
/* Fuses two lists by reciprocal rank; RagHit* borrowed from them. */
GPtrArray *rag_index_fuse(GPtrArray *a, GPtrArray *b, guint most);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RagIndex, rag_index_unref)
