/* Shared by memory.c, memory_hear.c and state.c; nobody else includes it. */
#pragma once
#include "base/metrics.h"
#include "memory/memory.h"

typedef enum {
  CHOIR_JOB_ADD,
  CHOIR_JOB_SEARCH,
  CHOIR_JOB_RECALL,
  CHOIR_JOB_LIST,
  CHOIR_JOB_FORGET,
  CHOIR_JOB_EDIT,
  CHOIR_JOB_EXPORT,
  CHOIR_JOB_IMPORT,
  CHOIR_JOB_SAVE,
  CHOIR_JOB_LOAD,
  CHOIR_JOB_UNEMBEDDED,
  CHOIR_JOB_EMBEDDED,
  CHOIR_JOB_FLUSH,
} ChoirMemoryJobType;

typedef struct {
  ChoirMemory *memory;
  ChoirMemoryJobType type;
  char *text, *source, *turn_id; /* text: also a name, a query, lines */
  gint64 id;
  guint limit;
  gboolean flag; /* tainted; history */
  gboolean learned;
  json_t *json;
  float *vectors; /* one, or one for each of json's rows; NULL = none */
  ChoirMemoryDone done;
  gpointer user;
  json_t *result;
  GError *error;
  ChoirFactOutcome outcome;
  guint count;
} ChoirMemoryJob;

struct ChoirMemory {
  ChoirMemoryOptions options;
  char *folder, *module;
  ChoirFacts *facts; /* the thread's, once it runs */
  GThreadPool *pool;
  GMainContext *context;
  guint refs, count, flush, queued;
  gboolean closed, backfilling;
  float *examples;
  guint n_examples; /* embedded so far */
  gboolean examples_loaded;
  GQueue heard; /* Sentence, waiting for the examples */
  ChoirMetric *m_count, *m_learned, *m_merged, *m_superseded, *m_recalls, *m_recalled, *m_refused;
};

ChoirMemoryJob *choir_memory_job(ChoirMemory *memory, ChoirMemoryJobType type, const char *text, ChoirMemoryDone done,
                                 gpointer user);
/* To the thread, as it is. */
void choir_memory_submit(ChoirMemoryJob *job);
/* Embeds job->text first; without an embedding it goes all the same. */
void choir_memory_submit_embedded(ChoirMemoryJob *job);
void choir_memory_unref(ChoirMemory *memory);
void choir_memory_heard_clear(ChoirMemory *memory);

/* state.c, on the thread */
json_t *choir_state_save(ChoirFacts *facts, const char *folder, const char *name, const json_t *short_term,
                         GError **error);
json_t *choir_state_load(ChoirFacts *facts, const char *folder, const char *name, GError **error);
