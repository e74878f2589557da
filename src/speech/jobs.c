#include "speech/jobs.h"
#include <string.h>

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
  g_atomic_int_set(&jobs->at_work->cancelled, 1);
  return TRUE;
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
    g_queue_push_tail(&jobs->waiting, job);
    g_cond_signal(&jobs->filled);
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

ChoirJob *choir_jobs_take(ChoirJobs *jobs) {
  g_mutex_lock(&jobs->mutex);
  while (jobs->waiting.length == 0)
    g_cond_wait(&jobs->filled, &jobs->mutex);
  jobs->at_work = g_queue_pop_head(&jobs->waiting);
  ChoirJob *job = jobs->at_work;
  g_mutex_unlock(&jobs->mutex);
  return job;
}

void choir_jobs_done(ChoirJobs *jobs, ChoirJob *job) {
  g_mutex_lock(&jobs->mutex);
  jobs->at_work = NULL;
  g_mutex_unlock(&jobs->mutex);
  job_free(job);
}

gboolean choir_job_cancelled(const ChoirJob *job) {
  return g_atomic_int_get(&job->cancelled) != 0;
}
