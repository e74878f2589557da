/* Likeness of meaning: embeddings of a fixed list of texts beside that of what was said. The list is embedded once, in
 * the background, and kept in a file; until then, and without an embedder, nothing is known. Main thread only. */
#pragma once
#include "agent/tool.h"

typedef struct ChoirMeaning ChoirMeaning;

/* texts: n of them, copied. path: where their embeddings are kept, NULL = nowhere. */
ChoirMeaning *choir_meaning_new(const ChoirToolAgent *agent, const char *path, const char *const *texts, guint n);
void choir_meaning_free(ChoirMeaning *meaning); /* who waits is told */
/* Embeds the list so many ms from now, unless that is done by then: once, not at every call. */
void choir_meaning_learn(ChoirMeaning *meaning, guint after_ms);
/* As choir_shortlist_prepare(). */
guint choir_meaning_prepare(ChoirMeaning *meaning, const char *text, void (*done)(gpointer user), gpointer user);
void choir_meaning_forget(ChoirMeaning *meaning, guint id);
/* The cosine of text and every text of the list, n numbers; FALSE: not known. ret_likeness NULL: only asked. */
gboolean choir_meaning_likeness(const ChoirMeaning *meaning, const char *text, double *ret_likeness);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirMeaning, choir_meaning_free)
