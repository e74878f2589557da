#include "cli/jobs_api.h"
#include <stdio.h>
#include <string.h>
#include "base/text.h"
#include "cli/cli.h"
#include "net/http_client.h"

#define NAME "jobs"

static gboolean option_json, option_dry, option_reset;
static int option_wait = 60;
static char *option_nomad, *option_consul, *option_nomad_token, *option_consul_token;
static char **option_var;

static const GOptionEntry entries[] = {
    {"json", 0, 0, G_OPTION_ARG_NONE, &option_json, "print JSON", NULL},
    {"dry-run", 'n', 0, G_OPTION_ARG_NONE, &option_dry, "only say what would be done", NULL},
    {"reset-counts", 0, 0, G_OPTION_ARG_NONE, &option_reset, "submit: counts of the file, also for what sleeps", NULL},
    {"var", 0, 0, G_OPTION_ARG_STRING_ARRAY, &option_var, "submit: a variable of the file; may be repeated",
     "NAME=VALUE"},
    {"wait", 'w', 0, G_OPTION_ARG_INT, &option_wait, "seconds to wait for health, 0: none (default 60)", "S"},
    CHOIR_API_NOMAD_OPTIONS(option_nomad, option_nomad_token),
    CHOIR_API_CONSUL_OPTIONS(option_consul, option_consul_token),
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "  list             every job, what it is up to and why (the default)\n"
    "  submit FILE...   hand job files to Nomad; one that it has just so is left alone\n"
    "  heal [FILE...]   repair what is unhealthy and touch nothing else: what sleeps (count 0), what was stopped, and\n"
    "                   finished batch jobs are left alone. Jobs of the files that Nomad does not know are "
    "submitted\n\n"
    "Healing starts instances that are missing, restarts one that fails its check, and moves it to another node when\n"
    "that did not help.\n\n"
    "Examples:\n"
    "  choir jobs\n"
    "  choir jobs submit /opt/nomad/jobs/llama-expert.nomad\n"
    "  choir jobs heal\n\n"
    "Exit codes: 0 done, 1 something is not healthy (it is said what), 2 wrong usage.\n";

typedef struct {
  ChoirApi *nomad, *consul;
} Cluster;

static json_t *all_jobs(Cluster *cluster, GError **error) {
  return choir_api_json(cluster->nomad, "GET", "/v1/jobs?namespace=*", NULL, NULL, error);
}

static json_t *state_json(const char *space, const char *id, const ChoirJobState *state) {
  return json_pack("{s:s,s:s,s:s,s:i,s:i,s:i,s:s}", "namespace", space, "job", id, "status",
                   choir_job_status_name(state->status), "wanted", (int)state->wanted, "running", (int)state->running,
                   "passing", (int)state->passing, "why", state->why);
}

static void print_state(const char *space, const char *id, const ChoirJobState *state) {
  ChoirCliStyle style = state->status == CHOIR_JOB_UNHEALTHY || state->status == CHOIR_JOB_FAILED ? CHOIR_CLI_RED
                        : state->status == CHOIR_JOB_HEALTHY                                      ? CHOIR_CLI_GREEN
                                                                                                  : CHOIR_CLI_DIM;
  g_autofree char *name = g_str_equal(space, "default") ? g_strdup(id) : g_strconcat(space, "/", id, NULL);
  g_autofree char *count = state->wanted ? g_strdup_printf("%u/%u", state->passing, state->wanted) : g_strdup("-");
  printf("%-36s %s%-10s%s %5s  %s\n", name, choir_cli_style(style), choir_job_status_name(state->status),
         choir_cli_style(CHOIR_CLI_PLAIN), count, state->why);
}

/* A run of a template: it is told of by its template's last one. */
static gboolean is_run(const json_t *stub) {
  return *choir_json_string(stub, "ParentID", "") != '\0';
}

static int list(Cluster *cluster) {
  g_autoptr(GError) error = NULL;
  json_auto_t *jobs = all_jobs(cluster, &error);
  json_auto_t *critical = choir_jobs_critical(cluster->consul);
  json_auto_t *rows = json_array();
  size_t i;
  json_t *stub;
  if (!jobs)
    return choir_cli_fail(NAME, "%s", error->message);
  json_array_foreach(jobs, i, stub) {
    const char *id = choir_json_string(stub, "ID", ""), *space = choir_json_string(stub, "Namespace", "default");
    g_autoptr(ChoirJobState) state =
        is_run(stub) ? NULL : choir_jobs_look(cluster->nomad, space, id, critical, NULL, NULL);
    if (!state)
      continue;
    if (option_json)
      json_array_append_new(rows, state_json(space, id, state));
    else
      print_state(space, id, state);
  }
  if (option_json)
    choir_cli_print_json(rows);
  else if (json_array_size(jobs) == 0)
    printf("Nomad at %s has no jobs%s\n", choir_api_url(cluster->nomad),
           choir_api_has_token(cluster->nomad) ? "" : ", or shows none without a token");
  return CHOIR_CLI_OK;
}

static char *variables(GError **error) {
  GString *text = g_string_new(NULL);
  for (char **var = option_var; var && *var; var++) {
    g_auto(GStrv) pair = g_strsplit(*var, "=", 2);
    if (!pair[0] || !*pair[0] || !pair[1]) {
      g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "--var %s: write it as NAME=VALUE", *var);
      g_string_free(text, TRUE);
      return NULL;
    }
    g_autofree char *line = choir_jobs_variable(pair[0], pair[1]);
    g_string_append(text, line);
  }
  return g_string_free(text, FALSE);
}

/* FALSE with error. */
static gboolean submit_one(Cluster *cluster, const char *path, const char *vars, json_t *rows, GError **error) {
  g_autofree char *source = NULL;
  gboolean changed = FALSE;
  json_auto_t *job = choir_jobs_parse(cluster->nomad, path, vars, &source, error);
  if (!job)
    return FALSE;
  const char *id = choir_jobs_id(job), *space = choir_jobs_namespace(job);
  if (!choir_jobs_submit(cluster->nomad, job, source, vars, option_reset, option_dry, &changed, error) ||
      (option_wait > 0 && !option_dry &&
       !choir_jobs_wait(cluster->nomad, cluster->consul, space, id, (guint)option_wait, error)))
    return FALSE;
  json_array_append_new(rows, json_pack("{s:s,s:s,s:b}", "namespace", space, "job", id, "changed", changed));
  if (!option_json)
    printf("%s: %s\n", id, !changed ? "unchanged" : option_dry ? "would be submitted" : "submitted");
  return TRUE;
}

static int submit(Cluster *cluster, char **files) {
  g_autoptr(GError) error = NULL;
  g_autofree char *vars = variables(&error);
  json_auto_t *rows = json_array();
  if (!vars)
    return choir_cli_usage(NAME, "%s", error ? error->message : "the variables cannot be used");
  for (; *files; files++)
    if (!submit_one(cluster, *files, vars, rows, &error))
      return choir_cli_fail(NAME, "%s", error->message);
  if (option_json)
    choir_cli_print_json(rows);
  return CHOIR_CLI_OK;
}

static gboolean evaluate(Cluster *cluster, const char *space, const char *id, GError **error) {
  g_autofree char *path = choir_jobs_path(space, id, "/evaluate", "");
  json_auto_t *body =
      json_pack("{s:s,s:s,s:{s:b}}", "JobID", id, "Namespace", space, "EvalOptions", "ForceReschedule", 1);
  json_auto_t *answer = choir_api_json(cluster->nomad, "POST", path, body, NULL, error);
  return answer != NULL;
}

/* restart: in place; else it is stopped and Nomad starts it elsewhere. */
static gboolean treat(Cluster *cluster, const char *space, const char *alloc, gboolean restart, GError **error) {
  g_autofree char *safe = choir_jobs_escape(space);
  g_autofree char *path = restart ? g_strdup_printf("/v1/client/allocation/%s/restart?namespace=%s", alloc, safe)
                                  : g_strdup_printf("/v1/allocation/%s/stop?namespace=%s", alloc, safe);
  json_auto_t *body = restart ? json_pack("{s:b}", "AllTasks", 0) : json_object();
  g_autoptr(GError) problem = NULL;
  json_auto_t *answer = choir_api_json(cluster->nomad, "POST", path, body, NULL, &problem);
  /* Nomad answers when the old process has ended; one that hangs takes until its kill_timeout. What comes of it is
     waited for anyway. */
  if (answer || g_error_matches(problem, CHOIR_HTTP_ERROR, CHOIR_HTTP_ERROR_TIMEOUT))
    return TRUE;
  g_propagate_error(error, g_steal_pointer(&problem));
  return FALSE;
}

static gboolean heal_once(Cluster *cluster, const char *space, const char *id, const ChoirJobState *state,
                          gboolean restart, GError **error) {
  for (guint i = 0; i < state->sick->len; i++)
    if (!treat(cluster, space, state->sick->pdata[i], restart, error))
      return FALSE;
  return !state->missing || evaluate(cluster, space, id, error);
}

/* Heals and waits, again and again: Nomad places a failed instance anew only when told after its failure. */
static gboolean heal_for(Cluster *cluster, const char *space, const char *id, const ChoirJobState *state,
                         gboolean restart, guint seconds, GError **error) {
  gint64 end = g_get_monotonic_time() + (gint64)seconds * G_USEC_PER_SEC;
  gboolean again;
  do {
    g_clear_error(error);
    guint left = (guint)MAX(1, (end - g_get_monotonic_time()) / G_USEC_PER_SEC);
    if (!heal_once(cluster, space, id, state, restart, error))
      return FALSE;
    if (choir_jobs_wait(cluster->nomad, cluster->consul, space, id, state->sick->len > 0 ? left : MIN(left, 10), error))
      return TRUE;
    again = state->sick->len == 0 && g_get_monotonic_time() + G_USEC_PER_SEC < end;
  } while (again);
  return FALSE;
}

/* "" when it is well again, else why not. Caller frees. */
static char *heal_job(Cluster *cluster, const char *space, const char *id, const ChoirJobState *sick) {
  g_autoptr(GError) error = NULL;
  /* Two attempts where the first may not help: restart in place, then another node. */
  guint seconds = (guint)MAX(1, sick->sick->len > 0 ? option_wait / 2 : option_wait);
  if (heal_for(cluster, space, id, sick, TRUE, seconds, &error))
    return g_strdup("");
  json_auto_t *critical = choir_jobs_critical(cluster->consul);
  g_autoptr(ChoirJobState) still = choir_jobs_look(cluster->nomad, space, id, critical, NULL, NULL);
  g_autoptr(GError) second = NULL;
  if (still && still->sick->len > 0 && heal_for(cluster, space, id, still, FALSE, seconds, &second))
    return g_strdup("");
  return g_strdup(second ? second->message : error ? error->message : "it is not healthy");
}

typedef struct {
  json_t *rows, *lines;
  guint healed, failed;
} Healing;

static void told(Healing *healing, const char *space, const char *id, const char *what, const char *why) {
  json_array_append_new(healing->rows,
                        json_pack("{s:s,s:s,s:s,s:s}", "namespace", space, "job", id, "done", what, "why", why));
  g_autofree char *line = g_strdup_printf("%-32s %s%s%s", id, what, *why ? ": " : "", why);
  json_array_append_new(healing->lines, json_string(line));
  if (!option_json)
    printf("%s\n", line);
}

static void heal_known(Cluster *cluster, Healing *healing, const char *space, const char *id, const json_t *critical) {
  g_autoptr(ChoirJobState) state = choir_jobs_look(cluster->nomad, space, id, critical, NULL, NULL);
  if (!state)
    return;
  if (state->status != CHOIR_JOB_UNHEALTHY) {
    told(healing, space, id, choir_job_status_name(state->status), state->why);
    return;
  }
  if (option_dry) {
    told(healing, space, id, "would be healed", state->why);
    return;
  }
  g_autofree char *still = heal_job(cluster, space, id, state);
  told(healing, space, id, *still ? "not healed" : "healed", *still ? still : state->why);
  healing->healed++;
  healing->failed += *still != '\0';
}

static gboolean knows(const json_t *jobs, const json_t *job) {
  size_t i;
  json_t *stub;
  json_array_foreach((json_t *)jobs, i, stub) if (g_str_equal(choir_json_string(stub, "ID", ""), choir_jobs_id(job)) &&
                                                  g_str_equal(choir_json_string(stub, "Namespace", "default"),
                                                              choir_jobs_namespace(job))) return TRUE;
  return FALSE;
}

static gboolean heal_file(Cluster *cluster, Healing *healing, const char *path, const json_t *jobs, GError **error) {
  g_autofree char *source = NULL;
  json_auto_t *job = choir_jobs_parse(cluster->nomad, path, NULL, &source, error);
  gboolean changed;
  if (!job)
    return FALSE;
  const char *id = choir_jobs_id(job), *space = choir_jobs_namespace(job);
  if (knows(jobs, job))
    return TRUE;
  if (option_dry) {
    told(healing, space, id, "would be submitted", "Nomad does not know it");
    return TRUE;
  }
  g_autoptr(GError) problem = NULL;
  gboolean good = choir_jobs_submit(cluster->nomad, job, source, NULL, FALSE, FALSE, &changed, &problem) &&
                  choir_jobs_wait(cluster->nomad, cluster->consul, space, id, (guint)MAX(1, option_wait), &problem);
  told(healing, space, id, good ? "submitted" : "not healed", good ? "Nomad did not know it" : problem->message);
  healing->healed++;
  healing->failed += !good;
  return TRUE;
}

static int heal(Cluster *cluster, char **files) {
  g_autoptr(GError) error = NULL;
  json_auto_t *jobs = all_jobs(cluster, &error);
  json_auto_t *critical = choir_jobs_critical(cluster->consul);
  json_auto_t *rows = json_array();
  json_auto_t *lines = json_array();
  Healing healing = {.rows = rows, .lines = lines};
  size_t i;
  json_t *stub;
  if (!jobs)
    return choir_cli_fail(NAME, "%s", error->message);
  if (!critical)
    fprintf(stderr, "choir jobs: Consul cannot be asked, so only what Nomad knows is healed\n");
  json_array_foreach(jobs, i, stub) if (!is_run(stub)) heal_known(
      cluster, &healing, choir_json_string(stub, "Namespace", "default"), choir_json_string(stub, "ID", ""), critical);
  for (; *files; files++)
    if (!heal_file(cluster, &healing, *files, jobs, &error))
      return choir_cli_fail(NAME, "%s", error->message);
  if (option_json) {
    json_auto_t *answer = json_pack("{s:i,s:i,s:O,s:O}", "healed", (int)healing.healed, "failed", (int)healing.failed,
                                    "jobs", rows, "lines", lines);
    choir_cli_print_json(answer);
  }
  return healing.failed ? CHOIR_CLI_FAILED : CHOIR_CLI_OK;
}

int choir_jobs_main(int argc, char **argv) {
  if (!choir_cli_parse(NAME, "[list | submit FILE... | heal [FILE...]]", description, entries, &argc, &argv))
    return CHOIR_CLI_USAGE;
  const char *what = argc > 1 ? argv[1] : "list";
  static const char *const words[] = {"list", "submit", "heal", NULL};
  if (!g_strv_contains(words, what))
    return choir_cli_usage(NAME, "there is no '%s'", what);
  if (g_str_equal(what, "submit") && argc < 3)
    return choir_cli_usage(NAME, "submit needs a job file");
  if (g_str_equal(what, "list") && argc > 2)
    return choir_cli_usage(NAME, "'%s' is not expected", argv[2]);
  if (option_wait < 0 || option_wait > 3600)
    return choir_cli_usage(NAME, "--wait must lie between 0 and 3600");
  g_autoptr(GError) error = NULL;
  g_autoptr(ChoirApi) nomad = choir_api_new(CHOIR_API_NOMAD, option_nomad, option_nomad_token, &error);
  g_autoptr(ChoirApi) consul =
      nomad ? choir_api_new(CHOIR_API_CONSUL, option_consul, option_consul_token, &error) : NULL;
  if (!consul)
    return choir_cli_fail(NAME, "%s", error->message);
  Cluster cluster = {nomad, consul};
  char **files = argv + MIN(argc, 2);
  if (g_str_equal(what, "list"))
    return list(&cluster);
  return g_str_equal(what, "submit") ? submit(&cluster, files) : heal(&cluster, files);
}
