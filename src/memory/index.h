/* Nearest vectors by inner product: a FAISS IndexIDMap2 over an IndexFlatIP, whose file Python's faiss reads. Exact
 * search: below 100,000 facts nothing else is needed. The code of FAISS is opened with the first index. One thread at a
 * time. */
#pragma once
#include <glib.h>

#define CHOIR_INDEX_ERROR (choir_index_error_quark())
GQuark choir_index_error_quark(void);
enum { CHOIR_INDEX_ERROR_MODULE, CHOIR_INDEX_ERROR_FILE, CHOIR_INDEX_ERROR_MEMORY };

typedef struct ChoirIndex ChoirIndex;

/* module: path of choir-index.so, NULL = it was not built. An empty index. */
ChoirIndex *choir_index_new(const char *module, guint dimensions, GError **error);
/* What a file holds; a file of another kind or shape is an error. */
ChoirIndex *choir_index_load(const char *module, const char *path, guint dimensions, GError **error);
void choir_index_free(ChoirIndex *index);
/* Written beside, synced, renamed: the file is the old one or the new one, whenever the power fails. */
gboolean choir_index_save(ChoirIndex *index, const char *path, GError **error);
/* vectors: n rows of `dimensions`, unit length. An id must not be in it yet. */
gboolean choir_index_add(ChoirIndex *index, const gint64 *ids, const float *vectors, gsize n, GError **error);
gboolean choir_index_remove(ChoirIndex *index, gint64 id, GError **error); /* unknown ids are no error */
/* The best k, best first; returns how many there are, G_MAXUINT with error. */
guint choir_index_search(ChoirIndex *index, const float *query, guint k, gint64 *ret_ids, float *ret_scores,
                         GError **error);
gsize choir_index_count(const ChoirIndex *index);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirIndex, choir_index_free)
