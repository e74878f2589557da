/* What a Nomad job is up to, from what Nomad and Consul say. Pure: no requests. */
#pragma once
#include <glib.h>
#include <jansson.h>

typedef enum {
  CHOIR_JOB_HEALTHY,
  CHOIR_JOB_STARTING,  /* on its way, nothing to do yet */
  CHOIR_JOB_SLEEPING,  /* every count is 0: put to sleep, not broken */
  CHOIR_JOB_STOPPED,   /* somebody stopped it */
  CHOIR_JOB_FINISHED,  /* a batch job that ran well */
  CHOIR_JOB_FAILED,    /* a batch job whose last run failed: no repair, a person runs it again */
  CHOIR_JOB_ON_DEMAND, /* a template of runs: parameterized or periodic */
  CHOIR_JOB_UNHEALTHY  /* fewer instances than wanted, or one that fails its check */
} ChoirJobStatus;

typedef struct {
  ChoirJobStatus status;
  guint wanted, running, passing; /* instances; passing: running ones whose checks do not fail */
  gboolean missing;               /* fewer run than wanted */
  GPtrArray *sick;                /* ids of running allocations that fail a check */
  char *why;                      /* one sentence, "" when there is nothing to say */
} ChoirJobState;

/* job: GET /v1/job/ID. allocs: GET /v1/job/ID/allocations. critical: GET /v1/health/state/critical of Consul, may be
 * NULL. evals: GET /v1/job/ID/evaluations, for why nothing was placed; may be NULL. */
ChoirJobState *choir_job_state(const json_t *job, const json_t *allocs, const json_t *critical, const json_t *evals);
void choir_job_state_free(ChoirJobState *state);
const char *choir_job_status_name(ChoirJobStatus status); /* "healthy" "sleeping" ... */
/* The newest allocation, NULL when there is none: the job's last run. Belongs to allocs. */
const json_t *choir_job_last_alloc(const json_t *allocs);
/* Takes over the counts of the registered job, so that submitting again wakes nothing that sleeps. */
void choir_job_keep_counts(json_t *job, const json_t *registered);
/* Instances wanted over all groups. */
guint choir_job_wanted(const json_t *job);
/* Does a plan (POST /v1/job/ID/plan with Diff) change anything? */
gboolean choir_job_plan_changes(const json_t *plan);
/* Why Nomad could not place it: "memory exhausted on 2 nodes", "" when it could. Caller frees. */
char *choir_job_placement_why(const json_t *failed_groups);
/* What the allocation's tasks last said: "Exit Code: 1", "" when nothing. Caller frees. */
char *choir_job_alloc_why(const json_t *alloc);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirJobState, choir_job_state_free)
