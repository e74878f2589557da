/* What the cluster's commands do with jobs: read a file, submit only a change, wait until it is healthy. Main thread
 * only; every call waits. */
#pragma once
#include "cli/cluster_api.h"
#include "cli/jobs_state.h"

/* "name = \"value\"\n" for Nomad's variables; value may be any text. Caller frees. */
char *choir_jobs_variable(const char *name, const char *value);
/* The job of an HCL file, by Nomad's own parser. variables: lines of choir_jobs_variable(), may be NULL. ret_source:
 * the file's text, may be NULL; caller frees. Caller decrefs. */
json_t *choir_jobs_parse(ChoirApi *nomad, const char *path, const char *variables, char **ret_source, GError **error);
/* source with another default for a variable, so that the file alone is that job; a copy when it has no such variable.
 * Pure. Caller frees. */
char *choir_jobs_with_default(const char *source, const char *name, const char *value);
/* The id and namespace that a job has; belong to it. */
const char *choir_jobs_id(const json_t *job);
const char *choir_jobs_namespace(const json_t *job);
/* "/v1/job/ID<suffix>?namespace=NS<query>": query "" or "&all=false". Caller frees. */
char *choir_jobs_path(const char *name_space, const char *id, const char *suffix, const char *query);
/* Submits the job when Nomad does not have it just so. Counts of the registered job stay unless reset_counts.
 * try_only: only says what would be. FALSE with error when it is refused. */
gboolean choir_jobs_submit(ChoirApi *nomad, json_t *job, const char *source, const char *variables,
                           gboolean reset_counts, gboolean try_only, gboolean *ret_changed, GError **error);
/* Creates the namespace when it is not there. */
gboolean choir_jobs_namespace_make(ChoirApi *nomad, const char *name, gboolean *ret_changed, GError **error);
/* Until as many instances run and pass their checks as are wanted (or none is), for at most `seconds`. A job's
 * "choir_services" meta names the services that must be in Consul. consul may be NULL. */
gboolean choir_jobs_wait(ChoirApi *nomad, ChoirApi *consul, const char *name_space, const char *id, guint seconds,
                         GError **error);
/* One job's state, NULL with error. critical: as for choir_job_state(). */
ChoirJobState *choir_jobs_look(ChoirApi *nomad, const char *name_space, const char *id, const json_t *critical,
                               json_t **ret_job, GError **error);
/* All critical checks of Consul, NULL when it cannot be asked (then only Nomad's word counts). Caller decrefs. */
json_t *choir_jobs_critical(ChoirApi *consul);
/* Details of every node, an array. Caller decrefs. */
json_t *choir_jobs_nodes(ChoirApi *nomad, GError **error);
/* Percent-encoded for a path. Caller frees. */
char *choir_jobs_escape(const char *text);
