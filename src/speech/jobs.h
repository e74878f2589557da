/* The bounded job queue of a worker: one thread reads frames and pushes or cancels, another one works.
 * A cancelled or replaced job gets no answer; a refused one is answered by the caller. */
#pragma once
#include <glib.h>
#include "speech/wire.h"

#define CHOIR_JOB_REPLACEABLE 1 /* frame flags bit 0: dropped or stopped when a newer job of its session comes */

typedef struct {
  ChoirWireFrame frame; /* payload points to own memory, followed by a NUL byte */
  gint cancelled;       /* atomic */
} ChoirJob;

typedef struct ChoirJobs ChoirJobs;
ChoirJobs *choir_jobs_new(guint limit); /* limit: jobs waiting, over all sessions */
void choir_jobs_free(ChoirJobs *jobs);
/* Copies the frame. FALSE when full. ret_hit: the job at work was replaced by this one. */
gboolean choir_jobs_push(ChoirJobs *jobs, const ChoirWireFrame *frame, gboolean *ret_hit);
/* Drops waiting jobs of the session with gen <= gen and marks the one at work. TRUE when that one was hit. */
gboolean choir_jobs_cancel(ChoirJobs *jobs, guint32 session, guint32 gen);
/* Blocks for the next job; it counts as at work until given back. */
ChoirJob *choir_jobs_take(ChoirJobs *jobs);
void choir_jobs_done(ChoirJobs *jobs, ChoirJob *job); /* frees it */
gboolean choir_job_cancelled(const ChoirJob *job);    /* any thread */
