/* The long-term memory as the rest of the daemon uses it: facts on a thread of their own, embeddings from outside,
 * hearing what is worth keeping, recalling what belongs to a sentence. Main thread only. */
#pragma once
#include <glib.h>
#include <jansson.h>
#include "memory/facts.h"

typedef struct ChoirMemory ChoirMemory;

typedef struct {
  const char *folder; /* facts.db, long_term_memory.faiss, saved_states/ */
  const char *module; /* see choir_index_new() */
  /* Embeddings of n texts, CHOIR_FACTS_DIMENSIONS floats each, unit length; done exactly once, later. */
  void (*embed)(gpointer self, const char *const *texts, guint n,
                void (*done)(const float *vectors, guint n, guint dimensions, const GError *error, gpointer user),
                gpointer user);
  gpointer self;
  guint recall_ms; /* longest wait for the embedding of a sentence; then words alone. 0 = 1500 */
  /* A fact was learned from a conversation; may be NULL. */
  void (*learned)(gpointer self, const char *text, ChoirFactOutcome outcome, const char *turn_id);
} ChoirMemoryOptions;

/* Exactly once, later; result is borrowed. Errors: CHOIR_FACTS_ERROR. Not after choir_memory_close(). */
typedef void (*ChoirMemoryDone)(const json_t *result, const GError *error, gpointer user);

ChoirMemory *choir_memory_open(const ChoirMemoryOptions *options, GError **error); /* blocking, at start */
void choir_memory_close(ChoirMemory *memory); /* waits for what was acknowledged; other callbacks do not run */
guint choir_memory_count(const ChoirMemory *memory);

void choir_memory_add(ChoirMemory *memory, const ChoirFactNew *fact, ChoirMemoryDone done,
                      gpointer user); /* {"id","outcome"} */
void choir_memory_search(ChoirMemory *memory, const char *query, guint limit, ChoirMemoryDone done,
                         gpointer user); /* {"facts":[...]} */
void choir_memory_list(ChoirMemory *memory, guint limit, gboolean history, ChoirMemoryDone done, gpointer user);
void choir_memory_forget(ChoirMemory *memory, gint64 id, ChoirMemoryDone done, gpointer user);
void choir_memory_edit(ChoirMemory *memory, gint64 id, const char *text, ChoirMemoryDone done, gpointer user);
void choir_memory_export(ChoirMemory *memory, ChoirMemoryDone done, gpointer user);                    /* {"lines"} */
void choir_memory_import(ChoirMemory *memory, const char *lines, ChoirMemoryDone done, gpointer user); /* {"added"} */
/* The few facts that belong to a sentence, {"facts":[...]}, maybe none. */
void choir_memory_recall(ChoirMemory *memory, const char *text, ChoirMemoryDone done, gpointer user);
/* The person said it and the turn is stored: what of it is worth keeping becomes a fact. */
void choir_memory_hear(ChoirMemory *memory, const char *text, const char *source, const char *turn_id);
/* Folder saved_states/NAME in the original's layout and ours. short_term: ["User: ..","Assistant: .."]. */
void choir_memory_save_state(ChoirMemory *memory, const char *name, const json_t *short_term, ChoirMemoryDone done,
                             gpointer user);
/* Everything is checked first, then the facts are replaced. {"short_term":[...]} is for the caller to bring back. */
void choir_memory_load_state(ChoirMemory *memory, const char *name, ChoirMemoryDone done, gpointer user);
gboolean choir_memory_state_name_ok(const char *name); /* letters, digits, "_.-", at most 64, not only dots */

/* keep.c, pure: for tests and benches too */
/* TRUE: the person asks for it to be remembered; ret_fact (caller frees) is what. */
gboolean choir_keep_explicit(const char *sentence, char **ret_fact);
/* What is said to a text of such orders alone, "Your server is called atlas. I will remember that."; NULL where it
 * holds anything else. Caller frees. */
char *choir_keep_acknowledge(const char *text);
/* Sentences of a text; NULL-ended, caller frees with g_strfreev(). */
char **choir_keep_sentences(const char *text);
/* A statement at all: no question, neither too short nor too long. */
gboolean choir_keep_statement(const char *sentence);
/* Above 0: worth keeping. examples: vectors of choir_keep_examples(). */
double choir_keep_score(const float *vector, const float *examples);
/* Labelled sentences: ret_n of them, the first ret_keep are worth keeping. */
const char *const *choir_keep_examples(guint *ret_n, guint *ret_keep);
/* Does a found fact belong to the sentence it was searched with? */
gboolean choir_keep_relevant(const json_t *found);
