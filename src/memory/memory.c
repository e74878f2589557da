#include "memory/memory.h"
#include <gio/gio.h>
#include <string.h>
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"
#include "memory/memory_private.h"

#define RECALL_MS 1500
#define RECALL_MAX 3
#define QUEUE_MAX 256
#define FLUSH_S 2
#define BATCH 16 /* texts embedded at once behind the scenes */
#define BYTES (CHOIR_FACTS_DIMENSIONS * sizeof(float))

void choir_memory_unref(ChoirMemory *memory) {
  if (--memory->refs > 0)
    return;
  g_main_context_unref(memory->context);
  g_free(memory->examples);
  g_free(memory->folder);
  g_free(memory->module);
  g_free(memory);
}

ChoirMemoryJob *choir_memory_job(ChoirMemory *memory, ChoirMemoryJobType type, const char *text, ChoirMemoryDone done,
                                 gpointer user) {
  ChoirMemoryJob *job = g_new0(ChoirMemoryJob, 1);
  memory->refs++;
  job->memory = memory;
  job->type = type;
  job->text = g_strdup(text);
  job->done = done;
  job->user = user;
  return job;
}

static void job_free(ChoirMemoryJob *job) {
  g_free(job->text);
  g_free(job->source);
  g_free(job->turn_id);
  g_free(job->vectors);
  json_decref(job->json);
  json_decref(job->result);
  g_clear_error(&job->error);
  choir_memory_unref(job->memory);
  g_free(job);
}

/* The thread */

static json_t *recall(ChoirFacts *facts, const ChoirMemoryJob *job, GError **error) {
  json_t *found = choir_facts_search(facts, job->text, job->vectors, 2 * RECALL_MAX, error);
  for (gsize i = json_array_size(found); i-- > 0;)
    if (!choir_keep_relevant(json_array_get(found, i)) || i >= RECALL_MAX)
      json_array_remove(found, i);
  if (found)
    choir_facts_used(facts, found);
  return found;
}

static json_t *add(ChoirFacts *facts, ChoirMemoryJob *job, GError **error) {
  static const char *const outcomes[] = {"added", "merged", "superseded"};
  ChoirFactNew fact = {.text = job->text, .source = job->source, .turn_id = job->turn_id, .tainted = job->flag};
  gint64 id = choir_facts_add(facts, &fact, job->vectors, &job->outcome, error);
  return id ? json_pack("{s:I,s:s}", "id", (json_int_t)id, "outcome", outcomes[job->outcome]) : NULL;
}

static json_t *good(gboolean done) {
  return done ? json_object() : NULL;
}

static gboolean embedded(ChoirFacts *facts, const ChoirMemoryJob *job, GError **error) {
  for (gsize i = 0; i < json_array_size(job->json); i++) {
    gint64 id = choir_json_int(json_array_get(job->json, i), "id", 0);
    if (!choir_facts_set_embedding(facts, id, job->vectors + i * CHOIR_FACTS_DIMENSIONS, error))
      return FALSE;
  }
  return TRUE;
}

static json_t *wrapped(json_t *list) {
  return list ? json_pack("{s:o}", "facts", list) : NULL;
}

static json_t *perform(ChoirFacts *facts, ChoirMemoryJob *job, GError **error) {
  g_autofree char *lines = NULL;
  gint added;
  switch (job->type) {
  case CHOIR_JOB_ADD:
    return add(facts, job, error);
  case CHOIR_JOB_SEARCH:
    return wrapped(choir_facts_search(facts, job->text, job->vectors, job->limit, error));
  case CHOIR_JOB_RECALL:
    return wrapped(recall(facts, job, error));
  case CHOIR_JOB_LIST:
    return wrapped(choir_facts_list(facts, job->limit, job->flag, error));
  case CHOIR_JOB_FORGET:
    return good(choir_facts_forget(facts, job->id, error));
  case CHOIR_JOB_EDIT:
    return good(choir_facts_edit(facts, job->id, job->text, job->vectors, error));
  case CHOIR_JOB_EXPORT:
    lines = choir_facts_export(facts, error);
    return lines ? json_pack("{s:s}", "lines", lines) : NULL;
  case CHOIR_JOB_IMPORT:
    added = choir_facts_import(facts, job->text, error);
    return added >= 0 ? json_pack("{s:i}", "added", added) : NULL;
  case CHOIR_JOB_SAVE:
    return choir_state_save(facts, job->memory->folder, job->text, job->json, error);
  case CHOIR_JOB_LOAD:
    return choir_state_load(facts, job->memory->folder, job->text, error);
  case CHOIR_JOB_UNEMBEDDED:
    return wrapped(choir_facts_unembedded(facts, BATCH));
  case CHOIR_JOB_EMBEDDED:
    return good(embedded(facts, job, error));
  case CHOIR_JOB_FLUSH:
    return good(choir_facts_flush(facts, error));
  }
  return NULL;
}

static gboolean deliver(gpointer data);

static void on_thread(gpointer data, gpointer user) {
  ChoirMemoryJob *job = data;
  job->result = perform(job->memory->facts, job, &job->error);
  job->count = choir_facts_count(job->memory->facts);
  g_autoptr(GSource) source = g_idle_source_new();
  g_source_set_priority(source, G_PRIORITY_DEFAULT);
  g_source_set_callback(source, deliver, job, NULL);
  g_source_attach(source, job->memory->context);
}

/* The main thread again */

static void backfill(ChoirMemory *memory);

static gboolean on_flush(gpointer user) {
  ChoirMemory *memory = user;
  memory->flush = 0;
  choir_memory_submit(choir_memory_job(memory, CHOIR_JOB_FLUSH, NULL, NULL, NULL));
  return G_SOURCE_REMOVE;
}

static gboolean changes(ChoirMemoryJobType type) {
  return type == CHOIR_JOB_ADD || type == CHOIR_JOB_FORGET || type == CHOIR_JOB_EDIT || type == CHOIR_JOB_IMPORT ||
         type == CHOIR_JOB_LOAD || type == CHOIR_JOB_EMBEDDED;
}

static void account(ChoirMemory *memory, const ChoirMemoryJob *job) {
  memory->count = job->count;
  choir_gauge_set(memory->m_count, job->count);
  if (job->type == CHOIR_JOB_RECALL) {
    gsize n = json_array_size(json_object_get(job->result, "facts"));
    choir_counter_add(memory->m_recalls, n > 0);
    choir_counter_add(memory->m_recalled, n);
  }
  if (job->type == CHOIR_JOB_ADD && !job->error)
    choir_counter_add(job->outcome == CHOIR_FACT_ADDED    ? memory->m_learned
                      : job->outcome == CHOIR_FACT_MERGED ? memory->m_merged
                                                          : memory->m_superseded,
                      1);
  if (!changes(job->type) || job->error)
    return;
  if (memory->flush == 0)
    memory->flush = g_timeout_add_seconds(FLUSH_S, on_flush, memory);
  if (!job->vectors && job->type != CHOIR_JOB_FORGET)
    backfill(memory);
}

static gboolean deliver(gpointer data) {
  ChoirMemoryJob *job = data;
  ChoirMemory *memory = job->memory;
  if (!memory->closed) {
    memory->queued--;
    account(memory, job);
    if (job->error)
      choir_debug(CHOIR_TOPIC_MEMORY, "%s", job->error->message);
    if (job->learned && !job->error && memory->options.learned)
      memory->options.learned(memory->options.self, job->text, job->outcome, job->turn_id);
    if (job->done)
      job->done(job->result, job->error, job->user);
  }
  job_free(job);
  return G_SOURCE_REMOVE;
}

void choir_memory_submit(ChoirMemoryJob *job) {
  ChoirMemory *memory = job->memory;
  memory->queued++;
  if (memory->queued <= QUEUE_MAX) {
    g_thread_pool_push(memory->pool, job, NULL);
    return;
  }
  choir_counter_add(memory->m_refused, 1);
  job->error = g_error_new(CHOIR_FACTS_ERROR, CHOIR_FACTS_ERROR_WRITE,
                           "too much is asked of the memory at once; try again in a moment");
  job->count = memory->count;
  g_idle_add(deliver, job);
}

/* Embeddings */

static void on_embedded(const float *vectors, guint n, guint dimensions, const GError *error, gpointer user) {
  ChoirMemoryJob *job = user;
  if (job->memory->closed) {
    job_free(job);
    return;
  }
  if (vectors && dimensions == CHOIR_FACTS_DIMENSIONS)
    job->vectors = g_memdup2(vectors, n * BYTES);
  else
    choir_debug(CHOIR_TOPIC_MEMORY, "no embedding: %s", error ? error->message : "of another size");
  choir_memory_submit(job);
}

void choir_memory_submit_embedded(ChoirMemoryJob *job) {
  const char *texts[] = {job->text};
  job->memory->options.embed(job->memory->options.self, texts, 1, on_embedded, job);
}

static void on_batch(const float *vectors, guint n, guint dimensions, const GError *error, gpointer user) {
  ChoirMemoryJob *job = user;
  ChoirMemory *memory = job->memory;
  memory->backfilling = FALSE;
  if (memory->closed || !vectors || dimensions != CHOIR_FACTS_DIMENSIONS) {
    job_free(job); /* tried again with the next change, or at the next start */
    return;
  }
  job->vectors = g_memdup2(vectors, n * BYTES);
  choir_memory_submit(job);
  backfill(memory);
}

static void on_unembedded(const json_t *result, const GError *error, gpointer user) {
  ChoirMemory *memory = user;
  json_t *rows = json_object_get(result, "facts");
  const char *texts[BATCH];
  guint n = (guint)json_array_size(rows);
  if (n == 0) {
    memory->backfilling = FALSE;
    return;
  }
  ChoirMemoryJob *job = choir_memory_job(memory, CHOIR_JOB_EMBEDDED, NULL, NULL, NULL);
  job->json = json_incref(rows);
  for (guint i = 0; i < n; i++)
    texts[i] = choir_json_string(json_array_get(rows, i), "text", "");
  memory->options.embed(memory->options.self, texts, n, on_batch, job);
}

/* Facts that came without an embedding get one. */
static void backfill(ChoirMemory *memory) {
  if (memory->backfilling || memory->closed)
    return;
  memory->backfilling = TRUE;
  choir_memory_submit(choir_memory_job(memory, CHOIR_JOB_UNEMBEDDED, NULL, on_unembedded, memory));
}

/* What others ask for */

void choir_memory_add(ChoirMemory *memory, const ChoirFactNew *fact, ChoirMemoryDone done, gpointer user) {
  ChoirMemoryJob *job = choir_memory_job(memory, CHOIR_JOB_ADD, fact->text, done, user);
  job->source = g_strdup(fact->source);
  job->turn_id = g_strdup(fact->turn_id);
  job->flag = fact->tainted;
  choir_memory_submit_embedded(job);
}

void choir_memory_search(ChoirMemory *memory, const char *query, guint limit, ChoirMemoryDone done, gpointer user) {
  ChoirMemoryJob *job = choir_memory_job(memory, CHOIR_JOB_SEARCH, query, done, user);
  job->limit = limit;
  if (memory->count > 0)
    choir_memory_submit_embedded(job);
  else
    choir_memory_submit(job);
}

/* The person waits: words alone must do. The late embedding is thrown away. */
typedef struct {
  ChoirMemoryJob *job; /* NULL: gone to the thread */
  guint timer;
} Waiting;

static gboolean on_waited(gpointer user) {
  Waiting *waiting = user;
  ChoirMemoryJob *job = g_steal_pointer(&waiting->job);
  waiting->timer = 0;
  if (job->memory->closed)
    job_free(job);
  else
    choir_memory_submit(job);
  return G_SOURCE_REMOVE;
}

static void on_recall_embedded(const float *vectors, guint n, guint dimensions, const GError *error, gpointer user) {
  Waiting *waiting = user;
  g_clear_handle_id(&waiting->timer, g_source_remove);
  if (waiting->job)
    on_embedded(vectors, n, dimensions, error, waiting->job);
  g_free(waiting);
}

void choir_memory_recall(ChoirMemory *memory, const char *text, ChoirMemoryDone done, gpointer user) {
  Waiting *waiting = g_new0(Waiting, 1);
  const char *texts[] = {text};
  waiting->job = choir_memory_job(memory, CHOIR_JOB_RECALL, text, done, user);
  waiting->timer = g_timeout_add(memory->options.recall_ms ? memory->options.recall_ms : RECALL_MS, on_waited, waiting);
  memory->options.embed(memory->options.self, texts, 1, on_recall_embedded, waiting);
}

void choir_memory_list(ChoirMemory *memory, guint limit, gboolean history, ChoirMemoryDone done, gpointer user) {
  ChoirMemoryJob *job = choir_memory_job(memory, CHOIR_JOB_LIST, NULL, done, user);
  job->limit = limit;
  job->flag = history;
  choir_memory_submit(job);
}

void choir_memory_forget(ChoirMemory *memory, gint64 id, ChoirMemoryDone done, gpointer user) {
  ChoirMemoryJob *job = choir_memory_job(memory, CHOIR_JOB_FORGET, NULL, done, user);
  job->id = id;
  choir_memory_submit(job);
}

void choir_memory_edit(ChoirMemory *memory, gint64 id, const char *text, ChoirMemoryDone done, gpointer user) {
  ChoirMemoryJob *job = choir_memory_job(memory, CHOIR_JOB_EDIT, text, done, user);
  job->id = id;
  choir_memory_submit_embedded(job);
}

void choir_memory_export(ChoirMemory *memory, ChoirMemoryDone done, gpointer user) {
  choir_memory_submit(choir_memory_job(memory, CHOIR_JOB_EXPORT, NULL, done, user));
}

void choir_memory_import(ChoirMemory *memory, const char *lines, ChoirMemoryDone done, gpointer user) {
  choir_memory_submit(choir_memory_job(memory, CHOIR_JOB_IMPORT, lines, done, user));
}

void choir_memory_save_state(ChoirMemory *memory, const char *name, const json_t *short_term, ChoirMemoryDone done,
                             gpointer user) {
  ChoirMemoryJob *job = choir_memory_job(memory, CHOIR_JOB_SAVE, name, done, user);
  job->json = json_deep_copy(short_term);
  choir_memory_submit(job);
}

void choir_memory_load_state(ChoirMemory *memory, const char *name, ChoirMemoryDone done, gpointer user) {
  choir_memory_submit(choir_memory_job(memory, CHOIR_JOB_LOAD, name, done, user));
}

guint choir_memory_count(const ChoirMemory *memory) {
  return memory->count;
}

/* Life */

ChoirMemory *choir_memory_open(const ChoirMemoryOptions *options, GError **error) {
  ChoirFacts *facts = choir_facts_open(options->folder, options->module, error);
  if (!facts)
    return NULL;
  ChoirMemory *memory = g_new0(ChoirMemory, 1);
  memory->refs = 1;
  memory->options = *options;
  memory->folder = g_strdup(options->folder);
  memory->module = g_strdup(options->module);
  memory->facts = facts;
  memory->count = choir_facts_count(facts);
  memory->context = g_main_context_ref_thread_default();
  g_queue_init(&memory->heard);
  memory->m_count = choir_gauge("choir_memory_facts", NULL, "Facts in the long-term memory");
  memory->m_learned = choir_counter("choir_memory_writes_total", "outcome=\"added\"", "Facts written by outcome");
  memory->m_merged = choir_counter("choir_memory_writes_total", "outcome=\"merged\"", "Facts written by outcome");
  memory->m_superseded =
      choir_counter("choir_memory_writes_total", "outcome=\"superseded\"", "Facts written by outcome");
  memory->m_recalls = choir_counter("choir_memory_recalls_total", NULL, "Turns for which facts were recalled");
  memory->m_recalled = choir_counter("choir_memory_recalled_facts_total", NULL, "Facts that were recalled");
  memory->m_refused = choir_counter("choir_memory_refused_total", NULL, "Requests refused because too many waited");
  choir_gauge_set(memory->m_count, memory->count);
  /* FAISS's algebra would start a thread and a buffer for each core; one query needs none. */
  g_setenv("OPENBLAS_NUM_THREADS", "1", FALSE);
  memory->pool = g_thread_pool_new(on_thread, memory, 1, TRUE, error);
  if (!memory->pool) {
    choir_facts_close(facts);
    choir_memory_unref(memory);
    return NULL;
  }
  if (memory->count > 0)
    backfill(memory);
  return memory;
}

void choir_memory_close(ChoirMemory *memory) {
  if (!memory)
    return;
  memory->closed = TRUE;
  g_clear_handle_id(&memory->flush, g_source_remove);
  choir_memory_heard_clear(memory);
  if (memory->pool)
    g_thread_pool_free(memory->pool, FALSE, TRUE);
  g_clear_pointer(&memory->facts, choir_facts_close);
  choir_memory_unref(memory);
}
