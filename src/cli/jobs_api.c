#include "cli/jobs_api.h"
#include <gio/gio.h>
#include <string.h>
#include "base/text.h"

#define POLL_US 300000

char *choir_jobs_variable(const char *name, const char *value) {
  GString *text = g_string_new(name);
  g_string_append(text, " = \"");
  for (; *value; value++) {
    if (*value == '"' || *value == '\\')
      g_string_append_printf(text, "\\%c", *value);
    else if (*value == '\n')
      g_string_append(text, "\\n");
    else if ((*value == '$' || *value == '%') && value[1] == '{') /* else the start of a template */
      g_string_append_printf(text, "%c%c", *value, *value);
    else
      g_string_append_c(text, *value);
  }
  g_string_append(text, "\"\n");
  return g_string_free(text, FALSE);
}

char *choir_jobs_with_default(const char *source, const char *name, const char *value) {
  g_autofree char *head = g_strdup_printf("variable \"%s\" {", name);
  const char *block = strstr(source, head);
  const char *line = block ? strstr(block, "default") : NULL, *end = block ? strstr(block, "\n}") : NULL;
  if (!line || (end && line > end))
    return g_strdup(source);
  const char *old = strchr(line, '=');
  gsize length = strcspn(line, "\n");
  if (!old || old > line + length)
    return g_strdup(source);
  g_autofree char *quoted = choir_jobs_variable("", value); /* ' = "value"' and a line end */
  g_autofree char *text = g_strchomp(g_strdup(strchr(quoted, '"')));
  gboolean is_number = g_ascii_isdigit(old[1 + strspn(old + 1, " ")]);
  return g_strdup_printf("%.*s= %s%s", (int)(old - source), source, is_number ? value : text, line + length);
}

char *choir_jobs_escape(const char *text) {
  return g_uri_escape_string(text, NULL, FALSE);
}

char *choir_jobs_path(const char *name_space, const char *id, const char *suffix, const char *query) {
  g_autofree char *safe = choir_jobs_escape(id);
  g_autofree char *space = choir_jobs_escape(name_space);
  return g_strdup_printf("/v1/job/%s%s?namespace=%s%s", safe, suffix, space, query);
}

const char *choir_jobs_id(const json_t *job) {
  return choir_json_string(job, "ID", "");
}

const char *choir_jobs_namespace(const json_t *job) {
  const char *name = choir_json_string(job, "Namespace", "");
  return *name ? name : "default";
}

json_t *choir_jobs_parse(ChoirApi *nomad, const char *path, const char *variables, char **ret_source, GError **error) {
  g_autofree char *source = NULL;
  if (!g_file_get_contents(path, &source, NULL, error))
    return NULL;
  json_auto_t *body = json_pack("{s:s,s:b,s:s*}", "JobHCL", source, "Canonicalize", 1, "Variables",
                                variables && *variables ? variables : NULL);
  if (!body) {
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "%s is not a text file", path);
    return NULL;
  }
  json_t *job = choir_api_json(nomad, "POST", "/v1/jobs/parse", body, NULL, error);
  if (!job)
    g_prefix_error(error, "%s: ", path);
  else if (ret_source)
    *ret_source = g_steal_pointer(&source);
  return job;
}

static json_t *registered_job(ChoirApi *nomad, const json_t *job, GError **error) {
  guint status = 0;
  g_autoptr(GError) problem = NULL;
  g_autofree char *path = choir_jobs_path(choir_jobs_namespace(job), choir_jobs_id(job), "", "");
  json_t *before = choir_api_json(nomad, "GET", path, NULL, &status, &problem);
  if (!before && status != 404)
    g_propagate_error(error, g_steal_pointer(&problem));
  return before;
}

gboolean choir_jobs_submit(ChoirApi *nomad, json_t *job, const char *source, const char *variables,
                           gboolean reset_counts, gboolean try_only, gboolean *ret_changed, GError **error) {
  g_autoptr(GError) problem = NULL;
  json_auto_t *before = registered_job(nomad, job, &problem);
  if (problem) {
    g_propagate_error(error, g_steal_pointer(&problem));
    return FALSE;
  }
  if (before && !reset_counts)
    choir_job_keep_counts(job, before);
  g_autofree char *plan_path = choir_jobs_path(choir_jobs_namespace(job), choir_jobs_id(job), "/plan", "");
  json_auto_t *ask = json_pack("{s:O,s:b}", "Job", job, "Diff", 1);
  json_auto_t *plan = choir_api_json(nomad, "POST", plan_path, ask, NULL, error);
  if (!plan)
    return FALSE;
  *ret_changed = choir_job_plan_changes(plan);
  if (try_only || !*ret_changed)
    return TRUE;
  json_auto_t *order = json_pack("{s:O}", "Job", job);
  if (source) /* the web UI shows it */
    json_object_set_new(
        order, "Submission",
        json_pack("{s:s,s:s,s:s}", "Source", source, "Format", "hcl2", "Variables", variables ? variables : ""));
  json_auto_t *answer = choir_api_json(nomad, "POST", "/v1/jobs", order, NULL, error);
  return answer != NULL;
}

gboolean choir_jobs_namespace_make(ChoirApi *nomad, const char *name, gboolean *ret_changed, GError **error) {
  g_autofree char *safe = choir_jobs_escape(name);
  g_autofree char *path = g_strconcat("/v1/namespace/", safe, NULL);
  guint status = 0;
  g_autoptr(GError) problem = NULL;
  json_auto_t *there = choir_api_json(nomad, "GET", path, NULL, &status, &problem);
  *ret_changed = FALSE;
  if (there)
    return TRUE;
  if (status != 404) {
    g_propagate_error(error, g_steal_pointer(&problem));
    return FALSE;
  }
  json_auto_t *body = json_pack("{s:s,s:s}", "Name", name, "Description", "made by choir expert deploy");
  json_auto_t *made = choir_api_json(nomad, "POST", "/v1/namespace", body, NULL, error);
  *ret_changed = made != NULL;
  return made != NULL;
}

json_t *choir_jobs_critical(ChoirApi *consul) {
  return consul ? choir_api_json(consul, "GET", "/v1/health/state/critical", NULL, NULL, NULL) : NULL;
}

ChoirJobState *choir_jobs_look(ChoirApi *nomad, const char *name_space, const char *id, const json_t *critical,
                               json_t **ret_job, GError **error) {
  g_autofree char *path = choir_jobs_path(name_space, id, "", "");
  g_autofree char *allocs_path = choir_jobs_path(name_space, id, "/allocations", "");
  g_autofree char *evals_path = choir_jobs_path(name_space, id, "/evaluations", "");
  json_auto_t *job = choir_api_json(nomad, "GET", path, NULL, NULL, error);
  json_auto_t *allocs = job ? choir_api_json(nomad, "GET", allocs_path, NULL, NULL, error) : NULL;
  if (!allocs)
    return NULL;
  json_auto_t *evals = choir_api_json(nomad, "GET", evals_path, NULL, NULL, NULL);
  if (ret_job)
    *ret_job = json_incref(job);
  return choir_job_state(job, allocs, critical, evals);
}

/* How many instances of the service pass. -1: Consul cannot be asked. */
static int passing(ChoirApi *consul, const char *service) {
  g_autofree char *safe = choir_jobs_escape(service);
  g_autofree char *path = g_strdup_printf("/v1/health/service/%s?passing=1", safe);
  json_auto_t *answer = choir_api_json(consul, "GET", path, NULL, NULL, NULL);
  return answer ? (int)json_array_size(answer) : -1;
}

/* TRUE when each service the job names has enough passing instances; else says which has not. */
static gboolean services_there(ChoirApi *consul, const json_t *job, char **ret_why) {
  const char *list = choir_json_string(json_object_get(job, "Meta"), "choir_services", "");
  g_auto(GStrv) services = g_strsplit_set(list, ", ", -1);
  for (char **service = services; consul && *service; service++) {
    if (!**service)
      continue;
    int count = passing(consul, *service);
    if (count >= 0 && count < (int)MIN(choir_job_wanted(job), 1u << 16)) {
      g_free(*ret_why);
      *ret_why = g_strdup_printf("%d of %u instances of %s pass in Consul", count, choir_job_wanted(job), *service);
      return FALSE;
    }
  }
  return TRUE;
}

gboolean choir_jobs_wait(ChoirApi *nomad, ChoirApi *consul, const char *name_space, const char *id, guint seconds,
                         GError **error) {
  gint64 begun = g_get_monotonic_time(), end = begun + (gint64)seconds * G_USEC_PER_SEC;
  g_autofree char *why = NULL;
  do {
    json_auto_t *critical = choir_jobs_critical(consul);
    json_auto_t *job = NULL;
    g_autoptr(ChoirJobState) state = choir_jobs_look(nomad, name_space, id, critical, &job, error);
    if (!state)
      return FALSE;
    g_free(why);
    why = g_strdup(state->why);
    /* A batch job that runs has not shown yet whether it ends well. */
    gboolean serves = state->status == CHOIR_JOB_HEALTHY && !strstr(choir_json_string(job, "Type", ""), "batch");
    if (state->status == CHOIR_JOB_SLEEPING || state->status == CHOIR_JOB_ON_DEMAND ||
        state->status == CHOIR_JOB_FINISHED || (serves && services_there(consul, job, &why)))
      return TRUE;
    if (state->status == CHOIR_JOB_FAILED || state->status == CHOIR_JOB_STOPPED)
      break;
    g_usleep(POLL_US);
  } while (g_get_monotonic_time() < end);
  g_set_error(error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "the job %s is not healthy after %u s%s%s; see choir logs %s",
              id, (guint)((g_get_monotonic_time() - begun) / G_USEC_PER_SEC), *why ? ": " : "", why, id);
  return FALSE;
}

json_t *choir_jobs_nodes(ChoirApi *nomad, GError **error) {
  json_auto_t *list = choir_api_json(nomad, "GET", "/v1/nodes", NULL, NULL, error);
  json_t *details = list ? json_array() : NULL;
  size_t i;
  json_t *node;
  json_array_foreach(list, i, node) {
    g_autofree char *path = g_strconcat("/v1/node/", choir_json_string(node, "ID", ""), NULL);
    json_t *detail = choir_api_json(nomad, "GET", path, NULL, NULL, NULL);
    if (detail) /* one may be garbage collected in between */
      json_array_append_new(details, detail);
  }
  return details;
}
