#include "memory/history_private.h"
#include <string.h>
#include "base/log.h"
#include "base/metrics.h"
#include "base/names.h"

#define MAX_QUEUED 256
#define MAX_BATCH 64 /* jobs in one transaction: they share one sync */
#define MAX_OBSERVERS 4

typedef enum { JOB_APPEND, JOB_CREATE, JOB_SELECT, JOB_RENAME, JOB_DELETE, JOB_STOP } JobType;

typedef struct {
  JobType type;
  gint64 conversation; /* for JOB_CREATE the id it gets: the main thread hands them out */
  char *title;
  struct {
    char *role, *text, *source, *full_text;
    gboolean cut;
    gint64 wall_us;
  } entry[2];
  guint entries;
  ChoirHistoryDone done;
  gpointer user;
  gint64 id; /* result */
  GError *error;
} Job;

struct ChoirHistory {
  char *path;
  sqlite3 *writer; /* writer thread only, once it runs */
  sqlite3 *reader; /* main thread only */
  GThread *thread;
  GMainContext *context;
  gint64 current, last_id, saved; /* main thread */
  struct {
    void (*written)(gpointer user);
    gpointer user;
  } observers[MAX_OBSERVERS];
  guint max_pages;
  GMutex lock;
  GCond wake;
  GQueue jobs, results; /* under lock */
  GSource *delivery;
  ChoirMetric *metric_writes, *metric_refused;
};

sqlite3 *choir_history_reader(ChoirHistory *history) {
  return history->reader;
}

void choir_history_limit_pages(ChoirHistory *history, guint pages) {
  g_mutex_lock(&history->lock);
  history->max_pages = pages;
  g_mutex_unlock(&history->lock);
}

static void job_free(Job *job) {
  for (guint i = 0; i < job->entries; i++) {
    g_free(job->entry[i].role);
    g_free(job->entry[i].text);
    g_free(job->entry[i].source);
    g_free(job->entry[i].full_text);
  }
  g_free(job->title);
  g_clear_error(&job->error);
  g_free(job);
}

/* writer thread */

static void bind_text(ChoirStatement *statement, int column, const char *text) {
  if (text)
    sqlite3_bind_text(statement, column, text, -1, SQLITE_STATIC);
}

/* Runs one statement with a text and an integer; the number of changed rows, or -1 with error. */
static int run(ChoirHistory *history, const char *sql, const char *text, gint64 number, gint64 extra, GError **error) {
  g_autoptr(ChoirStatement) statement = NULL;
  if (sqlite3_prepare_v2(history->writer, sql, -1, &statement, NULL) == SQLITE_OK) {
    int n = sqlite3_bind_parameter_count(statement);
    bind_text(statement, 1, text);
    sqlite3_bind_int64(statement, 2, number);
    if (n > 2)
      sqlite3_bind_int64(statement, 3, extra);
    if (sqlite3_step(statement) == SQLITE_DONE)
      return sqlite3_changes(history->writer);
  }
  choir_history_set_error(error, CHOIR_HISTORY_ERROR_WRITE, history->writer, "the conversation was not saved");
  return -1;
}

static gboolean insert_entry(ChoirHistory *history, Job *job, guint index, GError **error) {
  g_autoptr(ChoirStatement) statement = NULL;
  if (sqlite3_prepare_v2(history->writer,
                         "INSERT INTO entries(conversation, role, text, source, cut, full_text, wall_us)"
                         " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                         -1, &statement, NULL) == SQLITE_OK) {
    sqlite3_bind_int64(statement, 1, job->conversation);
    bind_text(statement, 2, job->entry[index].role);
    bind_text(statement, 3, job->entry[index].text);
    bind_text(statement, 4, job->entry[index].source);
    sqlite3_bind_int(statement, 5, job->entry[index].cut);
    bind_text(statement, 6, job->entry[index].full_text);
    sqlite3_bind_int64(statement, 7, job->entry[index].wall_us);
    if (sqlite3_step(statement) == SQLITE_DONE) {
      job->id = sqlite3_last_insert_rowid(history->writer);
      return TRUE;
    }
  }
  if (sqlite3_extended_errcode(history->writer) == SQLITE_CONSTRAINT_FOREIGNKEY)
    g_set_error(error, CHOIR_HISTORY_ERROR, CHOIR_HISTORY_ERROR_NOT_FOUND,
                "there is no conversation %" G_GINT64_FORMAT " any more", job->conversation);
  else
    choir_history_set_error(error, CHOIR_HISTORY_ERROR_WRITE, history->writer, "the conversation was not saved");
  return FALSE;
}

static gboolean is_turn(const Job *job) {
  return job->type == JOB_APPEND && g_str_equal(job->entry[0].role, "user");
}

static gboolean append(ChoirHistory *history, Job *job, GError **error) {
  for (guint i = 0; i < job->entries; i++)
    if (!insert_entry(history, job, i, error))
      return FALSE;
  if (is_turn(job) && run(history, "UPDATE settings SET value = value + 1 WHERE key = ?1", "turns", 0, 0, error) < 0)
    return FALSE;
  g_autofree char *title = g_utf8_substring(job->entry[0].text, 0, MIN(60, g_utf8_strlen(job->entry[0].text, -1)));
  g_strdelimit(title, "\r\n\t", ' ');
  return run(history,
             "UPDATE conversations SET title = CASE title WHEN '' THEN ?1 ELSE title END, updated_us = ?3 WHERE id = "
             "?2",
             title, job->conversation, job->entry[job->entries - 1].wall_us, error) >= 0;
}

static gboolean perform(ChoirHistory *history, Job *job, GError **error) {
  int changed = 1;
  job->id = job->conversation;
  switch (job->type) {
  case JOB_APPEND:
    return append(history, job, error);
  case JOB_CREATE:
    changed = run(history, "INSERT INTO conversations(title, id, created_us, updated_us) VALUES(?1, ?2, ?3, ?3)",
                  job->title, job->conversation, g_get_real_time(), error);
    break;
  case JOB_SELECT:
    changed = run(history, "INSERT OR REPLACE INTO settings(key, value) SELECT ?1, id FROM conversations WHERE id = ?2",
                  "current", job->conversation, 0, error);
    break;
  case JOB_RENAME:
    changed =
        run(history, "UPDATE conversations SET title = ?1 WHERE id = ?2", job->title, job->conversation, 0, error);
    break;
  case JOB_DELETE:
    changed = run(history, "DELETE FROM conversations WHERE ?1 IS NULL AND id = ?2", NULL, job->conversation, 0, error);
    break;
  case JOB_STOP:
    break;
  }
  if (changed == 0)
    g_set_error(error, CHOIR_HISTORY_ERROR, CHOIR_HISTORY_ERROR_NOT_FOUND, "there is no conversation %" G_GINT64_FORMAT,
                job->conversation);
  return changed > 0;
}

/* FALSE when SQLite gave the whole transaction up by itself, as it may on a full disk. */
static gboolean perform_one(ChoirHistory *history, Job *job) {
  if (!choir_history_exec(history->writer, "SAVEPOINT job", &job->error))
    return FALSE;
  if (!perform(history, job, &job->error))
    sqlite3_exec(history->writer, "ROLLBACK TO job", NULL, NULL, NULL);
  if (sqlite3_get_autocommit(history->writer))
    return FALSE;
  sqlite3_exec(history->writer, "RELEASE job", NULL, NULL, NULL);
  return TRUE;
}

/* All jobs in one transaction, each inside a savepoint of its own: one bad job does not take the others with it. */
static void perform_batch(ChoirHistory *history, GQueue *batch) {
  g_autoptr(GError) error = NULL;
  gboolean whole = choir_history_exec(history->writer, "BEGIN IMMEDIATE", &error);
  for (GList *l = batch->head; l && whole; l = l->next) {
    Job *job = l->data;
    whole = perform_one(history, job);
    if (!whole && job->error)
      error = g_error_copy(job->error);
  }
  if (whole && choir_history_exec(history->writer, "COMMIT", &error))
    return;
  sqlite3_exec(history->writer, "ROLLBACK", NULL, NULL, NULL);
  for (GList *l = batch->head; l; l = l->next) {
    Job *job = l->data;
    if (!job->error && error)
      job->error = g_error_copy(error);
  }
}

static gpointer writer_main(gpointer data) {
  ChoirHistory *history = data;
  gboolean stop = FALSE;
  guint pages = 0;
  while (!stop) {
    GQueue batch = G_QUEUE_INIT;
    g_mutex_lock(&history->lock);
    while (g_queue_is_empty(&history->jobs))
      g_cond_wait(&history->wake, &history->lock);
    while (batch.length < MAX_BATCH && !g_queue_is_empty(&history->jobs) && !stop) {
      Job *job = g_queue_pop_head(&history->jobs);
      stop = job->type == JOB_STOP;
      if (stop)
        job_free(job);
      else
        g_queue_push_tail(&batch, job);
    }
    gboolean limit = history->max_pages != pages;
    pages = history->max_pages;
    g_mutex_unlock(&history->lock);
    if (limit) {
      g_autofree char *sql = g_strdup_printf("PRAGMA max_page_count=%u", pages);
      sqlite3_exec(history->writer, sql, NULL, NULL, NULL);
    }
    if (g_queue_is_empty(&batch))
      continue;
    perform_batch(history, &batch);
    g_mutex_lock(&history->lock);
    Job *job;
    while ((job = g_queue_pop_head(&batch)))
      g_queue_push_tail(&history->results, job);
    g_mutex_unlock(&history->lock);
    g_source_set_ready_time(history->delivery, 0);
  }
  return NULL;
}

/* main thread */

static void tell(ChoirHistory *history, const Job *job) {
  history->saved += is_turn(job);
  for (guint i = 0; i < MAX_OBSERVERS; i++)
    if (history->observers[i].written)
      history->observers[i].written(history->observers[i].user);
}

static void deliver(ChoirHistory *history) {
  for (;;) {
    g_mutex_lock(&history->lock);
    Job *job = g_queue_pop_head(&history->results);
    g_mutex_unlock(&history->lock);
    if (!job)
      return;
    if (job->error)
      choir_warning(CHOIR_TOPIC_MEMORY, "%s", job->error->message);
    else if (job->type == JOB_SELECT)
      history->current = job->conversation;
    else if (job->type == JOB_DELETE && history->current == job->conversation)
      history->current = 0;
    if (!job->error)
      tell(history, job);
    if (job->done)
      job->done(job->error ? 0 : job->id, job->error, job->user);
    job_free(job);
  }
}

static gboolean delivery_dispatch(GSource *source, GSourceFunc callback, gpointer user) {
  g_source_set_ready_time(source, -1);
  return callback(user);
}

static gboolean on_delivery(gpointer user) {
  deliver(user);
  return G_SOURCE_CONTINUE;
}

static GSourceFuncs delivery_funcs = {.dispatch = delivery_dispatch};

static gboolean load_current(ChoirHistory *history, GError **error) {
  return choir_history_exec(history->writer,
                            "INSERT INTO settings(key, value) SELECT 'turns', (SELECT count(*) FROM entries"
                            " WHERE role = 'user') WHERE NOT EXISTS(SELECT 1 FROM settings WHERE key = 'turns')",
                            error) &&
         choir_history_int(history->writer, "SELECT value FROM settings WHERE key = 'turns'", &history->saved, error) &&
         choir_history_int(history->writer,
                           "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'conversations'",
                           &history->last_id, error) &&
         choir_history_int(history->writer,
                           "SELECT coalesce((SELECT value FROM settings JOIN conversations ON id = value"
                           " WHERE key = 'current'), 0)",
                           &history->current, error);
}

ChoirHistory *choir_history_open(const char *path, GError **error) {
  sqlite3 *writer = choir_history_connect(path, FALSE, error);
  if (!writer)
    return NULL;
  ChoirHistory *history = g_new0(ChoirHistory, 1);
  history->path = g_strdup(path);
  history->writer = writer;
  g_mutex_init(&history->lock);
  g_cond_init(&history->wake);
  if (!choir_history_migrate(writer, choir_history_steps, path, error) || !load_current(history, error) ||
      !(history->reader = choir_history_connect(path, TRUE, error))) {
    choir_history_close(history);
    return NULL;
  }
  history->metric_writes = choir_counter("choir_history_writes_total", NULL, "Writes to the conversation history");
  history->metric_refused =
      choir_counter("choir_history_refused_total", NULL, "Writes refused because the queue of the history was full");
  history->context = g_main_context_ref_thread_default();
  history->delivery = g_source_new(&delivery_funcs, sizeof(GSource));
  g_source_set_callback(history->delivery, on_delivery, history, NULL);
  g_source_attach(history->delivery, history->context);
  history->thread = g_thread_new("history", writer_main, history);
  return history;
}

gint64 choir_history_saved(const ChoirHistory *history) {
  return history->saved;
}

guint choir_history_observe(ChoirHistory *history, void (*written)(gpointer user), gpointer user) {
  for (guint i = 0; i < MAX_OBSERVERS; i++) {
    if (history->observers[i].written)
      continue;
    history->observers[i].written = written;
    history->observers[i].user = user;
    return i + 1;
  }
  return 0;
}

void choir_history_unobserve(ChoirHistory *history, guint id) {
  if (id)
    history->observers[id - 1].written = NULL;
}

static void push(ChoirHistory *history, Job *job) {
  g_mutex_lock(&history->lock);
  g_queue_push_tail(&history->jobs, job);
  g_cond_signal(&history->wake);
  g_mutex_unlock(&history->lock);
}

void choir_history_close(ChoirHistory *history) {
  if (!history)
    return;
  if (history->thread) {
    Job *stop = g_new0(Job, 1);
    stop->type = JOB_STOP;
    push(history, stop);
    g_thread_join(history->thread);
    deliver(history);
    g_source_destroy(history->delivery);
    g_source_unref(history->delivery);
    g_main_context_unref(history->context);
  }
  sqlite3_close(history->reader);
  sqlite3_close(history->writer); /* the last one: moves the log into the file */
  g_mutex_clear(&history->lock);
  g_cond_clear(&history->wake);
  g_free(history->path);
  g_free(history);
}

guint choir_history_queued(ChoirHistory *history) {
  g_mutex_lock(&history->lock);
  guint n = history->jobs.length;
  g_mutex_unlock(&history->lock);
  return n;
}

/* Owns the job: refused ones complete through the same queue of results, never from inside the caller. */
static void submit(ChoirHistory *history, Job *job, ChoirHistoryDone done, gpointer user) {
  job->done = done;
  job->user = user;
  if (choir_history_queued(history) < MAX_QUEUED) {
    choir_counter_add(history->metric_writes, 1);
    push(history, job);
    return;
  }
  choir_counter_add(history->metric_refused, 1);
  g_set_error(&job->error, CHOIR_HISTORY_ERROR, CHOIR_HISTORY_ERROR_BUSY,
              "%d writes to the history are waiting already: the disk is too slow", MAX_QUEUED);
  g_mutex_lock(&history->lock);
  g_queue_push_tail(&history->results, job);
  g_mutex_unlock(&history->lock);
  g_source_set_ready_time(history->delivery, 0);
}

static Job *job_new(JobType type, gint64 conversation, const char *title) {
  Job *job = g_new0(Job, 1);
  job->type = type;
  job->conversation = conversation;
  job->title = g_strdup(title);
  return job;
}

static void job_add_entry(Job *job, const ChoirHistoryEntry *entry) {
  guint i = job->entries++;
  job->entry[i].role = g_strdup(entry->role);
  job->entry[i].text = g_strdup(entry->text ? entry->text : "");
  job->entry[i].source = g_strdup(entry->source ? entry->source : "");
  job->entry[i].full_text = g_strdup(entry->full_text);
  job->entry[i].cut = entry->cut;
  job->entry[i].wall_us = entry->wall_us ? entry->wall_us : g_get_real_time();
}

gint64 choir_history_current(ChoirHistory *history) {
  if (history->current == 0) {
    /* Not through submit(): the caller needs the id now, and the queue keeps the order. */
    history->current = ++history->last_id;
    push(history, job_new(JOB_CREATE, history->current, ""));
    push(history, job_new(JOB_SELECT, history->current, NULL));
  }
  return history->current;
}

void choir_history_append(ChoirHistory *history, gint64 conversation, const ChoirHistoryEntry *entry,
                          ChoirHistoryDone done, gpointer user) {
  Job *job = job_new(JOB_APPEND, conversation, NULL);
  job_add_entry(job, entry);
  submit(history, job, done, user);
}

void choir_history_append_turn(ChoirHistory *history, gint64 conversation, const ChoirHistoryEntry *user_entry,
                               const ChoirHistoryEntry *assistant_entry, ChoirHistoryDone done, gpointer user) {
  Job *job = job_new(JOB_APPEND, conversation, NULL);
  job_add_entry(job, user_entry);
  if (assistant_entry && assistant_entry->text && *assistant_entry->text)
    job_add_entry(job, assistant_entry);
  submit(history, job, done, user);
}

void choir_history_new_conversation(ChoirHistory *history, const char *title, ChoirHistoryDone done, gpointer user) {
  submit(history, job_new(JOB_CREATE, ++history->last_id, title ? title : ""), done, user);
}

void choir_history_select(ChoirHistory *history, gint64 conversation, ChoirHistoryDone done, gpointer user) {
  submit(history, job_new(JOB_SELECT, conversation, NULL), done, user);
}

void choir_history_rename(ChoirHistory *history, gint64 conversation, const char *title, ChoirHistoryDone done,
                          gpointer user) {
  submit(history, job_new(JOB_RENAME, conversation, title ? title : ""), done, user);
}

void choir_history_delete(ChoirHistory *history, gint64 conversation, ChoirHistoryDone done, gpointer user) {
  submit(history, job_new(JOB_DELETE, conversation, NULL), done, user);
}
