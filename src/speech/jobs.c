#include "speech/jobs.h"
#include <string.h>

enum { RUNNING, CANCELLED, YIELDED, COMMITTED };

struct ChoirJobs {
  GMutex mutex;
  GCond filled;
  GQueue waiting; /* ChoirJob */
  ChoirJob *at_work;
  guint limit;
};

ChoirJobs *choir_jobs_new(guint limit) {
  ChoirJobs *jobs = g_new0(ChoirJobs, 1);
  g_mutex_init(&jobs->mutex);
  g_cond_init(&jobs->filled);
  g_queue_init(&jobs->waiting);
  jobs->limit = limit;
  return jobs;
}

static void job_free(gpointer data) {
  ChoirJob *job = data;
  g_free((gpointer)job->frame.payload);
  g_free(job);
}

void choir_jobs_free(ChoirJobs *jobs) {
  if (!jobs)
    return;
  g_queue_clear_full(&jobs->waiting, job_free);
  g_mutex_clear(&jobs->mutex);
  g_cond_clear(&jobs->filled);
  g_free(jobs);
}

typedef gboolean (*Match)(const ChoirJob *job, guint32 session, guint32 gen);

static gboolean is_older(const ChoirJob *job, guint32 session, guint32 gen) {
  return job->frame.session == session && job->frame.gen <= gen;
}

static gboolean is_replaceable(const ChoirJob *job, guint32 session, guint32 gen) {
  return is_older(job, session, gen) && (job->frame.flags & CHOIR_JOB_REPLACEABLE) != 0;
}

/* Mutex held. */
static gboolean drop(ChoirJobs *jobs, Match match, guint32 session, guint32 gen) {
  for (GList *link = jobs->waiting.head; link;) {
    GList *next = link->next;
    if (match(link->data, session, gen)) {
      job_free(link->data);
      g_queue_delete_link(&jobs->waiting, link);
    }
    link = next;
  }
  if (!jobs->at_work || !match(jobs->at_work, session, gen))
    return FALSE;
  g_atomic_int_set(&jobs->at_work->state, CANCELLED);
  return TRUE;
}

static gboolean is_background(const ChoirJob *job) {
  return (job->frame.flags & CHOIR_JOB_BACKGROUND) != 0;
}

/* Mutex held. */
static void enqueue(ChoirJobs *jobs, ChoirJob *job, gboolean again) {
  GList *link = jobs->waiting.head;
  if (is_background(job) && !again)
    link = NULL;
  while (link && !is_background(link->data))
    link = link->next;
  if (link)
    g_queue_insert_before(&jobs->waiting, link, job);
  else
    g_queue_push_tail(&jobs->waiting, job);
  g_cond_signal(&jobs->filled);
}

gboolean choir_jobs_push(ChoirJobs *jobs, const ChoirWireFrame *frame, gboolean *ret_hit) {
  g_mutex_lock(&jobs->mutex);
  *ret_hit = drop(jobs, is_replaceable, frame->session, frame->gen);
  gboolean fits = jobs->waiting.length < jobs->limit;
  if (fits) {
    ChoirJob *job = g_new0(ChoirJob, 1);
    job->frame = *frame;
    guint8 *copy = g_malloc(frame->length + 1u);
    if (frame->length > 0)
      memcpy(copy, frame->payload, frame->length);
    copy[frame->length] = 0;
    job->frame.payload = copy;
    enqueue(jobs, job, FALSE);
    if (!is_background(job) && jobs->at_work && is_background(jobs->at_work))
      *ret_hit |= g_atomic_int_compare_and_exchange(&jobs->at_work->state, RUNNING, YIELDED);
  }
  g_mutex_unlock(&jobs->mutex);
  return fits;
}

gboolean choir_jobs_cancel(ChoirJobs *jobs, guint32 session, guint32 gen) {
  g_mutex_lock(&jobs->mutex);
  gboolean hit = drop(jobs, is_older, session, gen);
  g_mutex_unlock(&jobs->mutex);
  return hit;
}

ChoirJob *choir_jobs_take_within(ChoirJobs *jobs, gint64 idle_ms) {
  const gint64 end = g_get_monotonic_time() + idle_ms * 1000;
  g_mutex_lock(&jobs->mutex);
  gboolean more = TRUE;
  while (jobs->waiting.length == 0 && more)
    if (idle_ms < 0)
      g_cond_wait(&jobs->filled, &jobs->mutex);
    else
      more = g_cond_wait_until(&jobs->filled, &jobs->mutex, end);
  jobs->at_work = g_queue_pop_head(&jobs->waiting);
  ChoirJob *job = jobs->at_work;
  g_mutex_unlock(&jobs->mutex);
  return job;
}

ChoirJob *choir_jobs_take(ChoirJobs *jobs) {
  return choir_jobs_take_within(jobs, -1);
}

gboolean choir_jobs_idle(ChoirJobs *jobs) {
  g_mutex_lock(&jobs->mutex);
  gboolean idle = jobs->waiting.length == 0;
  g_mutex_unlock(&jobs->mutex);
  return idle;
}

void choir_jobs_done(ChoirJobs *jobs, ChoirJob *job) {
  g_mutex_lock(&jobs->mutex);
  jobs->at_work = NULL;
  gboolean again = g_atomic_int_compare_and_exchange(&job->state, YIELDED, RUNNING);
  if (again)
    enqueue(jobs, job, TRUE);
  g_mutex_unlock(&jobs->mutex);
  if (!again)
    job_free(job);
}

gboolean choir_job_cancelled(const ChoirJob *job) {
  gint state = g_atomic_int_get(&job->state);
  return state == CANCELLED || state == YIELDED;
}

gboolean choir_job_commit(ChoirJob *job) {
  return g_atomic_int_compare_and_exchange(&job->state, RUNNING, COMMITTED) || !choir_job_cancelled(job);
}

json_t *choir_job_options(const ChoirJob *job, const guint8 **ret_payload, gsize *ret_length) {
  const guint8 *payload = job->frame.payload;
  gsize length = job->frame.length, own = 0;
  json_t *options = NULL;
  if (!(job->frame.flags & CHOIR_JOB_OPTIONS)) {
    options = json_object();
  } else if (length >= 2) {
    own = 2 + (payload[0] | (gsize)payload[1] << 8);
    options = own <= length && own % 2 == 0 ? json_loadb((const char *)payload + 2, own - 2, 0, NULL) : NULL;
  }
  if (options && !json_is_object(options)) {
    json_decref(options);
    return NULL;
  }
  *ret_payload = payload + own;
  *ret_length = length - own;
  return options;
}
