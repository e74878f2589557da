#include <gio/gio.h>
#include <stdio.h>
#include <string.h>
#include "base/text.h"
#include "cli/cli.h"
#include "cli/jobs_api.h"
#include "cli/logs.h"

#define NAME "logs"
#define KEEP_TASK "keep-logs" /* the task of our jobs that runs --keep after the end */
#define FOLLOW_US 1000000

static gboolean option_follow, option_stderr, option_keep;
static int option_lines = 200;
static char *option_space, *option_task, *option_nomad, *option_consul, *option_nomad_token, *option_consul_token;

static const GOptionEntry entries[] = {
    {"follow", 'f', 0, G_OPTION_ARG_NONE, &option_follow,
     "go on with what is written, also after it moved to another "
     "node",
     NULL},
    {"lines", 'l', 0, G_OPTION_ARG_INT, &option_lines, "of the end, 0: all (default 200)", "N"},
    {"stderr", 'e', 0, G_OPTION_ARG_NONE, &option_stderr, "only standard error (default: both, output first)", NULL},
    {"namespace", 0, 0, G_OPTION_ARG_STRING, &option_space, "(default: looked for in all)", "NAME"},
    {"task", 0, 0, G_OPTION_ARG_STRING, &option_task, "(default: the first)", "NAME"},
    {"keep", 0, G_OPTION_FLAG_HIDDEN, G_OPTION_ARG_NONE, &option_keep, "store this allocation's logs: for job files",
     NULL},
    CHOIR_API_NOMAD_OPTIONS(option_nomad, option_nomad_token),
    CHOIR_API_CONSUL_OPTIONS(option_consul, option_consul_token),
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "Prints what the newest run of a job wrote, on whatever node that was. When Nomad has thrown the run away or its "
    "node\n"
    "is gone, the last " CHOIR_LOGS_KEPT_TEXT
    " of each stream are printed from Consul, where Choir's jobs leave them at\n"
    "their end.\n\n"
    "Examples:\n"
    "  choir logs health-check\n"
    "  choir logs llama-expert -f\n\n"
    "Exit codes: 0 printed, 1 there is no such job and nothing was kept, 2 wrong usage.\n";

typedef struct {
  ChoirApi *nomad, *consul;
} Cluster;

const char *choir_logs_tail(const char *text, guint lines) {
  const char *at = text + strlen(text);
  if (lines == 0 || at == text)
    return text;
  for (at--; at > text; at--) /* the last line end closes the last line */
    if (at[-1] == '\n' && --lines == 0)
      break;
  return at;
}

json_t *choir_logs_record(const char *alloc, const char *node, const char *task, const char *out, const char *err) {
  const char *const streams[] = {out, err};
  char *kept[2];
  for (gsize i = 0; i < 2; i++) {
    gsize length = strlen(streams[i]);
    kept[i] = choir_utf8(streams[i] + (length > CHOIR_LOGS_KEPT ? length - CHOIR_LOGS_KEPT : 0), -1);
  }
  g_autoptr(GDateTime) now = g_date_time_new_now_utc();
  g_autofree char *time = g_date_time_format_iso8601(now);
  json_t *record = json_pack("{s:s,s:s,s:s,s:s,s:s,s:s}", "alloc", alloc, "node", node, "task", task, "ended", time,
                             "stdout", kept[0], "stderr", kept[1]);
  g_free(kept[0]);
  g_free(kept[1]);
  return record;
}

char *choir_logs_key(const char *name_space, const char *job) {
  g_autofree char *space = choir_jobs_escape(name_space), *name = choir_jobs_escape(job);
  return g_strdup_printf("/v1/kv/choir/logs/%s/%s", space, name);
}

/* ---- storing, at the end of an allocation, on its node ---- */

static gint by_number(gconstpointer a, gconstpointer b) {
  const char *one = strrchr(*(char *const *)a, '.'), *two = strrchr(*(char *const *)b, '.');
  return (gint)(g_ascii_strtoll(one + 1, NULL, 10) - g_ascii_strtoll(two + 1, NULL, 10));
}

/* All pieces of a stream, oldest first. Caller frees. */
static char *read_stream(const char *folder, const char *task, const char *stream) {
  g_autofree char *prefix = g_strdup_printf("%s.%s.", task, stream);
  g_autoptr(GPtrArray) pieces = g_ptr_array_new_with_free_func(g_free);
  g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
  const char *name;
  while (dir && (name = g_dir_read_name(dir)))
    if (g_str_has_prefix(name, prefix) && g_ascii_isdigit(name[strlen(prefix)])) /* not Nomad's pipe */
      g_ptr_array_add(pieces, g_build_filename(folder, name, NULL));
  g_ptr_array_sort(pieces, by_number);
  GString *text = g_string_new(NULL);
  for (guint i = 0; i < pieces->len; i++) {
    g_autofree char *piece = NULL;
    gsize length = 0;
    if (g_file_get_contents(pieces->pdata[i], &piece, &length, NULL))
      g_string_append_len(text, piece, (gssize)length);
  }
  return g_string_free(text, FALSE);
}

/* The task whose logs lie there, not our own. Caller frees. */
static char *find_task(const char *folder) {
  g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
  char *found = NULL;
  const char *name, *end;
  while (dir && (name = g_dir_read_name(dir))) {
    if (*name == '.' || !(end = strstr(name, ".stdout.")) || g_str_has_prefix(name, KEEP_TASK "."))
      continue;
    char *task = g_strndup(name, (gsize)(end - name));
    if (!found || strcmp(task, found) < 0) {
      g_free(found);
      found = task;
    } else {
      g_free(task);
    }
  }
  return found;
}

static int keep(ChoirApi *consul) {
  const char *folder = g_getenv("NOMAD_ALLOC_DIR"), *job = g_getenv("NOMAD_JOB_ID"),
             *space = g_getenv("NOMAD_NAMESPACE");
  const char *alloc = g_getenv("NOMAD_ALLOC_ID"), *parent = g_getenv("NOMAD_JOB_PARENT_ID");
  g_autoptr(GError) error = NULL;
  if (!folder || !job || !alloc)
    return choir_cli_usage(NAME, "--keep is for a task of a Nomad job");
  g_autofree char *logs = g_build_filename(folder, "logs", NULL);
  g_autofree char *task = option_task ? g_strdup(option_task) : find_task(logs);
  if (!task)
    return choir_cli_fail(NAME, "there is nothing to keep in %s", logs);
  g_autofree char *out = read_stream(logs, task, "stdout"), *err = read_stream(logs, task, "stderr");
  json_auto_t *record = choir_logs_record(alloc, g_get_host_name(), task, out, err);
  g_autofree char *text = choir_json_dump(record);
  g_autofree char *key = choir_logs_key(space ? space : "default", parent && *parent ? parent : job);
  g_autofree char *answer = choir_api_text(consul, "PUT", key, text, 0, NULL, &error);
  return answer ? CHOIR_CLI_OK : choir_cli_fail(NAME, "the logs are not kept: %s", error->message);
}

/* ---- showing ---- */

typedef struct {
  char *space, *job; /* of the newest run: job is a dispatched one's own id */
} Run;

static void run_clear(Run *run) {
  g_clear_pointer(&run->space, g_free);
  g_clear_pointer(&run->job, g_free);
}

/* Where the job's newest run is. FALSE: Nomad does not know the job; error only when it cannot be asked. */
static gboolean find_run(Cluster *cluster, const char *job, Run *ret_run, GError **error) {
  json_auto_t *jobs = choir_api_json(cluster->nomad, "GET", "/v1/jobs?namespace=*", NULL, NULL, error);
  gint64 newest = -1;
  size_t i;
  json_t *stub;
  json_array_foreach(jobs, i, stub) {
    const char *id = choir_json_string(stub, "ID", ""), *space = choir_json_string(stub, "Namespace", "default");
    gboolean child = g_str_equal(choir_json_string(stub, "ParentID", ""), job);
    /* A dispatched run tells more than the template it came from. */
    gint64 age = child ? choir_json_int(stub, "SubmitTime", 0) : 0;
    if ((!child && !g_str_equal(id, job)) || (option_space && !g_str_equal(space, option_space)) || age < newest)
      continue;
    newest = age;
    run_clear(ret_run);
    ret_run->space = g_strdup(space);
    ret_run->job = g_strdup(id);
  }
  return ret_run->job != NULL;
}

static const char *task_of(const json_t *alloc) {
  const char *task, *first = NULL;
  json_t *state;
  if (option_task)
    return option_task;
  json_object_foreach(json_object_get(alloc, "TaskStates"), task, state) {
    if (!g_str_equal(task, KEEP_TASK) && (!first || strcmp(task, first) < 0))
      first = task;
  }
  return first;
}

/* NULL with error. Caller frees. */
static char *fetch(Cluster *cluster, const char *space, const json_t *alloc, const char *task, const char *stream,
                   gsize offset, GError **error) {
  g_autofree char *safe = choir_jobs_escape(space), *safe_task = choir_jobs_escape(task);
  g_autofree char *path = g_strdup_printf(
      "/v1/client/fs/logs/%s?namespace=%s&task=%s&type=%s&plain=true&origin=start&offset=%" G_GSIZE_FORMAT,
      choir_json_string(alloc, "ID", ""), safe, safe_task, stream, offset);
  return choir_api_text(cluster->nomad, "GET", path, NULL, 20000, NULL, error);
}

static int print_kept(Cluster *cluster, const char *space, const char *job, const char *why) {
  g_autofree char *key = choir_logs_key(space, job), *path = g_strconcat(key, "?raw=1", NULL);
  json_auto_t *record = choir_api_json(cluster->consul, "GET", path, NULL, NULL, NULL);
  if (!record)
    return choir_cli_fail(NAME, "%s, and Consul has kept nothing of it", why);
  fprintf(stderr, "choir logs: %s; this is the end of the run %.8s on %s, which ended at %s\n", why,
          choir_json_string(record, "alloc", ""), choir_json_string(record, "node", "?"),
          choir_json_string(record, "ended", "?"));
  if (!option_stderr)
    fputs(choir_logs_tail(choir_json_string(record, "stdout", ""), (guint)option_lines), stdout);
  fputs(choir_logs_tail(choir_json_string(record, "stderr", ""), (guint)option_lines), stdout);
  return CHOIR_CLI_OK;
}

typedef struct {
  char alloc[64];
  gsize shown[2];
} Place;

/* Prints what is new of both streams. FALSE with error: the first look at an allocation failed. */
static gboolean print_new(Cluster *cluster, const Run *run, const json_t *alloc, Place *place, GError **error) {
  static const char *const streams[] = {"stdout", "stderr"};
  const char *task = task_of(alloc);
  gboolean first = !g_str_equal(place->alloc, choir_json_string(alloc, "ID", ""));
  if (!task)
    return TRUE; /* not begun yet */
  for (gsize i = option_stderr ? 1 : 0; i < G_N_ELEMENTS(streams); i++) {
    g_autoptr(GError) problem = NULL;
    g_autofree char *text = fetch(cluster, run->space, alloc, task, streams[i], first ? 0 : place->shown[i], &problem);
    if (!text && first && i == (option_stderr ? 1 : 0)) {
      g_propagate_error(error, g_steal_pointer(&problem));
      return FALSE;
    }
    if (!text)
      continue;
    fputs(first ? choir_logs_tail(text, (guint)option_lines) : text, stdout);
    place->shown[i] = (first ? 0 : place->shown[i]) + strlen(text);
  }
  g_strlcpy(place->alloc, choir_json_string(alloc, "ID", ""), sizeof place->alloc);
  fflush(stdout);
  return TRUE;
}

static gboolean has_begun(const json_t *alloc) {
  const json_t *state = json_object_get(json_object_get(alloc, "TaskStates"), task_of(alloc) ? task_of(alloc) : "");
  return state && !g_str_equal(choir_json_string(state, "State", "pending"), "pending");
}

/* The newest run that has written anything; the newest at all when none has. */
static const json_t *last_run(const json_t *allocs) {
  json_auto_t *begun = json_array();
  size_t i;
  json_t *alloc;
  json_array_foreach((json_t *)allocs, i, alloc) if (has_begun(alloc)) json_array_append(begun, alloc);
  const json_t *last = choir_job_last_alloc(begun); /* lives on in allocs */
  return last ? last : choir_job_last_alloc(allocs);
}

static gboolean is_over(const json_t *alloc) {
  const char *status = choir_json_string(alloc, "ClientStatus", "");
  return g_str_equal(status, "complete") || g_str_equal(status, "failed") || g_str_equal(status, "lost");
}

static gboolean job_is_over(Cluster *cluster, const Run *run) {
  g_autofree char *path = choir_jobs_path(run->space, run->job, "", "");
  json_auto_t *job = choir_api_json(cluster->nomad, "GET", path, NULL, NULL, NULL);
  return !job || choir_json_bool(job, "Stop", FALSE) || g_str_equal(choir_json_string(job, "Status", ""), "dead") ||
         choir_job_wanted(job) == 0;
}

static int show(Cluster *cluster, const char *job) {
  g_autoptr(GError) error = NULL;
  Run run = {0};
  Place place = {0};
  int code = CHOIR_CLI_OK;
  if (!find_run(cluster, job, &run, &error)) {
    g_autofree char *why = error ? g_strdup(error->message) : g_strdup_printf("Nomad does not know a job '%s'", job);
    return print_kept(cluster, option_space ? option_space : "default", job, why);
  }
  g_autofree char *path = choir_jobs_path(run.space, run.job, "/allocations", "&all=true");
  for (;;) {
    json_auto_t *allocs = choir_api_json(cluster->nomad, "GET", path, NULL, NULL, &error);
    const json_t *alloc = last_run(allocs);
    gboolean over = alloc && is_over(alloc);
    if (!allocs || (!alloc && !option_follow) || (alloc && !print_new(cluster, &run, alloc, &place, &error))) {
      g_autofree char *why =
          error ? g_strdup(error->message) : g_strdup_printf("Nomad knows no run of the job '%s' any more", job);
      code = print_kept(cluster, run.space, job, why);
      break;
    }
    if (!option_follow || (over && job_is_over(cluster, &run)))
      break;
    g_usleep(FOLLOW_US);
  }
  run_clear(&run);
  return code;
}

int choir_logs_main(int argc, char **argv) {
  if (!choir_cli_parse(NAME, "JOB", description, entries, &argc, &argv))
    return CHOIR_CLI_USAGE;
  if (option_keep ? argc > 1 : argc != 2)
    return choir_cli_usage(NAME, argc < 2 ? "it needs the name of a job; choir jobs lists them" : "one job at a time");
  if (option_lines < 0)
    return choir_cli_usage(NAME, "--lines must not be negative");
  g_autoptr(GError) error = NULL;
  g_autoptr(ChoirApi) nomad = choir_api_new(CHOIR_API_NOMAD, option_nomad, option_nomad_token, &error);
  g_autoptr(ChoirApi) consul =
      nomad ? choir_api_new(CHOIR_API_CONSUL, option_consul, option_consul_token, &error) : NULL;
  if (!consul)
    return choir_cli_fail(NAME, "%s", error->message);
  Cluster cluster = {nomad, consul};
  return option_keep ? keep(consul) : show(&cluster, argv[1]);
}
