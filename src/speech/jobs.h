/* The bounded job queue of a worker: one thread reads frames and pushes or cancels, another one works.
 * A cancelled or replaced job gets no answer; a refused one is answered by the caller. A live conversation goes first:
 * background jobs wait behind all others, and the one at work stops for them and is begun anew later. */
#pragma once
#include <glib.h>
#include <jansson.h>
#include "speech/wire.h"

#define CHOIR_JOB_REPLACEABLE 1 /* frame flags bit 0: dropped or stopped when a newer job of its session comes */
#define CHOIR_JOB_BACKGROUND 2  /* bit 1: nobody waits for it in a conversation */
#define CHOIR_JOB_OPTIONS 4     /* bit 2: options in front of the payload, see choir_job_options() */

typedef struct {
  ChoirWireFrame frame; /* payload points to own memory, followed by a NUL byte */
  gint state;           /* atomic, private */
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
/* The same, but NULL when none came for idle_ms (-1: waits for ever). */
ChoirJob *choir_jobs_take_within(ChoirJobs *jobs, gint64 idle_ms);
gboolean choir_jobs_idle(ChoirJobs *jobs);            /* none waits */
void choir_jobs_done(ChoirJobs *jobs, ChoirJob *job); /* frees it */
gboolean choir_job_cancelled(const ChoirJob *job);    /* any thread; also while it has to give way */
/* Its first result is about to be sent: from here on it gives way no more. FALSE when it is cancelled already. */
gboolean choir_job_commit(ChoirJob *job);
/* The payload without its options, and these: {} when there are none, NULL (reported to nobody) when they are broken.
 * In the frame they are a u16 (little endian, even) with their length, then a JSON object padded with spaces. */
json_t *choir_job_options(const ChoirJob *job, const guint8 **ret_payload, gsize *ret_length);
