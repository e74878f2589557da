#include <gio/gio.h>
#include <stdio.h>
#include <string.h>
#include "base/names.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/expert_find.h"
#include "cli/expert_private.h"
#include "cli/placement.h"

#define NAME CHOIR_EXPERT " deploy"

static char *option_models, *option_job, *option_service, *option_space, *option_file, *option_nomad, *option_consul,
    *option_nomad_token, *option_consul_token;
static int option_count = 1, option_memory, option_context = 4096, option_wait = 900;
static gboolean option_dry, option_json;

static const GOptionEntry entries[] = {
    {"models", 0, 0, G_OPTION_ARG_STRING, &option_models,
     "list as JSON, or @FILE (default: expert_models.NAME of models.yaml, else expert_models.main)", "JSON"},
    {"count", 0, 0, G_OPTION_ARG_INT, &option_count, "replicas (default 1)", "N"},
    {"job", 0, 0, G_OPTION_ARG_STRING, &option_job, "(default: llama-expert-NAME)", "JOB"},
    {"service", 0, 0, G_OPTION_ARG_STRING, &option_service, "(default: llama-api-NAME)", "SERVICE"},
    {"namespace", 0, 0, G_OPTION_ARG_STRING, &option_space, "Nomad namespace, made when it is not there", "NAME"},
    {"memory-mb", 0, 0, G_OPTION_ARG_INT, &option_memory,
     "for the model (default: what the largest model of the list needs that fits every node)", "MB"},
    {"context", 0, 0, G_OPTION_ARG_INT, &option_context, "tokens of each of the two contexts (default 4096)", "N"},
    {"file", 0, 0, G_OPTION_ARG_FILENAME, &option_file, "(default: " CHOIR_EXPERT_JOBS "/llama-expert.nomad)", "FILE"},
    {"dry-run", 0, 0, G_OPTION_ARG_NONE, &option_dry, "only print what each node can serve and what would be submitted",
     NULL},
    {"wait", 'w', 0, G_OPTION_ARG_INT, &option_wait, "seconds until it must answer, 0: do not wait (default 900)", "S"},
    {"json", 0, 0, G_OPTION_ARG_NONE, &option_json, "print JSON", NULL},
    {"nomad", 0, 0, G_OPTION_ARG_STRING, &option_nomad, "Nomad's address (default: $NOMAD_ADDR, else here)", "URL"},
    {"nomad-token-file", 0, 0, G_OPTION_ARG_FILENAME, &option_nomad_token, "file with Nomad's token", "FILE"},
    {"consul", 0, 0, G_OPTION_ARG_STRING, &option_consul, "Consul's address (default: $CONSUL_HTTP_ADDR, else here)",
     "URL"},
    {"consul-token-file", 0, 0, G_OPTION_ARG_FILENAME, &option_consul_token, "file with Consul's token", "FILE"},
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "Starts the expert NAME on the cluster, or changes it; what Nomad has just so is left alone. Each replica serves "
    "the\n"
    "largest model of the list that loads there, else the light model with the tag 'fallback'.\n\n"
    "Examples:\n"
    "  choir expert deploy coding\n"
    "  choir expert deploy creative --count 2 --models @models.json\n"
    "  choir expert deploy coding --dry-run\n\n"
    "Exit codes: 0 it answers (or nothing was to be done), 1 it does not (it is said why), 2 wrong usage.\n";

typedef struct {
  ChoirApi *nomad, *consul;
  ChoirPaths paths;
  GPtrArray *models, *nodes;
  json_t *benches;
} Cluster;

static void clear(Cluster *cluster) {
  choir_api_free(cluster->nomad);
  choir_api_free(cluster->consul);
  choir_paths_clear(&cluster->paths);
  g_clear_pointer(&cluster->models, g_ptr_array_unref);
  g_clear_pointer(&cluster->nodes, g_ptr_array_unref);
  json_decref(cluster->benches);
}

static gboolean open_cluster(Cluster *cluster, const char *expert, GError **error) {
  if (!choir_expert_paths(&cluster->paths)) {
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "the settings cannot be read");
    return FALSE;
  }
  g_auto(GStrv) folders = choir_expert_folders(NULL, &cluster->paths);
  cluster->models = choir_expert_wanted(option_models, expert, &cluster->paths, (const char *const *)folders, error);
  if (!cluster->models || !(cluster->nomad = choir_api_new(CHOIR_API_NOMAD, option_nomad, option_nomad_token, error)) ||
      !(cluster->consul = choir_api_new(CHOIR_API_CONSUL, option_consul, option_consul_token, error)))
    return FALSE;
  json_auto_t *details = choir_jobs_nodes(cluster->nomad, error);
  if (!details)
    return FALSE;
  cluster->nodes = choir_place_nodes(details);
  cluster->benches = choir_expert_benches(cluster->consul);
  return TRUE;
}

/* What the light model needs is reserved at least: it may have to stand in. */
static guint memory_of(const Cluster *cluster, GError **error) {
  guint largest = 0, light = G_MAXUINT;
  g_autoptr(GPtrArray) lights = choir_expert_models_list(cluster->paths.list, "main", NULL, NULL);
  for (guint i = 0; lights && i < lights->len; i++)
    light = MIN(light, ((ChoirExpertModel *)lights->pdata[i])->memory_mb);
  guint memory = option_memory ? (guint)option_memory : choir_place_reserve(cluster->nodes, cluster->models, error);
  if (memory == 0)
    return 0;
  memory = MAX(memory, lights && lights->len ? light : 0);
  for (guint i = 0; i < cluster->nodes->len; i++) {
    const ChoirPlaceNode *node = cluster->nodes->pdata[i];
    largest = MAX(largest, node->ready ? node->ram_mb : 0);
  }
  if (memory + CHOIR_EXPERT_EXTRA_MB <= largest)
    return memory;
  g_set_error(error, G_IO_ERROR, G_IO_ERROR_NO_SPACE,
              "%u MB are more than any node has (the largest has %u MB); the job " CHOIR_JOB_RPC
              " spreads such a model over several nodes",
              memory + CHOIR_EXPERT_EXTRA_MB, largest);
  return 0;
}

static char *variables_of(const Cluster *cluster, const char *expert, const char *job, const char *service,
                          const char *space, guint memory) {
  json_auto_t *list = option_models ? choir_expert_models_json(cluster->models) : NULL;
  g_autofree char *models = list ? choir_json_dump(list) : g_strdup("");
  g_autofree char *memory_text = g_strdup_printf("%u", memory), *count = g_strdup_printf("%d", option_count),
                  *context = g_strdup_printf("%d", option_context);
  const char *const pairs[][2] = {{"job_name", job},    {"expert", expert},     {"service_name", service},
                                  {"namespace", space}, {"models", models},     {"memory_mb", memory_text},
                                  {"context", context}, {"worker_count", count}};
  GString *text = g_string_new(NULL);
  for (gsize i = 0; i < G_N_ELEMENTS(pairs); i++) {
    g_autofree char *line = choir_jobs_variable(pairs[i][0], pairs[i][1]);
    g_string_append(text, line);
  }
  return g_string_free(text, FALSE);
}

static void print_instances(Cluster *cluster, const char *service) {
  g_autoptr(GPtrArray) found = choir_expert_find(cluster->consul, NULL);
  for (guint i = 0; found && i < found->len; i++) {
    const ChoirFoundExpert *expert = found->pdata[i];
    if (g_str_equal(expert->service, service) && expert->passing)
      printf("  %s at %s on %s%s%s\n", expert->model, expert->address, expert->node,
             expert->fallback ? ", the light model: " : "", expert->fallback ? expert->why : "");
  }
}

static gboolean deploy(Cluster *cluster, const char *expert, GError **error) {
  g_autofree char *usual =
      g_str_equal(expert, "main") ? g_strdup(CHOIR_JOB_EXPERT) : g_strconcat(CHOIR_JOB_EXPERT "-", expert, NULL);
  g_autofree char *usual_service = g_strconcat(CHOIR_EXPERT_PREFIX, expert, NULL);
  const char *job_name = option_job ? option_job : usual, *service = option_service ? option_service : usual_service;
  const char *space = option_space ? option_space : "default";
  const char *file = option_file ? option_file : CHOIR_EXPERT_JOBS "/llama-expert.nomad";
  g_autofree char *source = NULL;
  gboolean changed = FALSE, made = FALSE;
  guint memory = memory_of(cluster, error);
  if (memory == 0)
    return FALSE;
  g_autofree char *variables = variables_of(cluster, expert, job_name, service, space, memory);
  if (!option_dry && !g_str_equal(space, "default") && !choir_jobs_namespace_make(cluster->nomad, space, &made, error))
    return FALSE;
  json_auto_t *job = choir_jobs_parse(cluster->nomad, file, variables, &source, error);
  if (!job || (!option_dry && !choir_jobs_submit(cluster->nomad, job, source, variables, TRUE, FALSE, &changed, error)))
    return FALSE;
  if (option_dry) {
    printf("\n%s (%s in Consul): %d replica(s), %u MB each\n", job_name, service, option_count,
           memory + CHOIR_EXPERT_EXTRA_MB);
    return TRUE;
  }
  if (option_wait > 0 && !choir_jobs_wait(cluster->nomad, cluster->consul, space, job_name, (guint)option_wait, error))
    return FALSE;
  if (option_json) {
    json_auto_t *answer =
        json_pack("{s:s,s:s,s:s,s:b,s:b,s:i}", "job", job_name, "service", service, "namespace", space, "changed",
                  changed || made, "namespace_made", made, "memory_mb", (int)memory);
    choir_cli_print_json(answer);
    return TRUE;
  }
  printf("%s: %s%s\n", job_name, changed ? "submitted" : "unchanged", option_wait > 0 ? ", healthy" : "");
  if (option_wait > 0)
    print_instances(cluster, service);
  return TRUE;
}

static gboolean name_ok(const char *text, gsize most) {
  return *text && strlen(text) <= most &&
         strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == strlen(text);
}

static int run(const char *command, const char *expert, gboolean plan_only) {
  g_autoptr(GError) error = NULL;
  Cluster cluster = {0};
  gboolean good = open_cluster(&cluster, expert, &error);
  if (good && (option_dry || plan_only)) {
    g_autoptr(GPtrArray) placements = choir_place(cluster.nodes, cluster.models, cluster.benches);
    json_auto_t *list = choir_place_json(placements);
    if (option_json)
      choir_cli_print_json(list);
    else
      choir_place_print(placements);
  }
  if (good && !plan_only && !(option_dry && option_json))
    good = deploy(&cluster, expert, &error);
  clear(&cluster);
  return good ? CHOIR_CLI_OK : choir_cli_fail(command, "%s", error->message);
}

int choir_expert_deploy(int argc, char **argv) {
  if (!choir_cli_parse(NAME, "NAME", description, entries, &argc, &argv))
    return CHOIR_CLI_USAGE;
  if (argc != 2)
    return choir_cli_usage(NAME, argc < 2 ? "it needs the expert's name" : "one name at a time");
  if (!name_ok(argv[1], 48) || (option_job && !name_ok(option_job, 63)) ||
      (option_service && !name_ok(option_service, 63)) || (option_space && !name_ok(option_space, 63)))
    return choir_cli_usage(NAME, "names are letters, digits, - and _");
  if (option_count < 0 || option_count > 100 || option_memory < 0 || option_context < 256 || option_wait < 0)
    return choir_cli_usage(NAME, "a number is out of its range");
  return run(NAME, argv[1], FALSE);
}

int choir_expert_plan(int argc, char **argv) {
  static const char text[] = "Prints each node's processor class, memory speed, arithmetic speed and memory, as it "
                             "publishes them, the best model\n"
                             "of the list that fits, and how fast that writes: measured by the job " CHOIR_JOB_BENCHMARK
                             ", else the bound that\n"
                             "the memory sets.\n\nExit codes: 0 done, 1 Nomad cannot be asked, 2 wrong usage.\n";
  if (!choir_cli_parse(CHOIR_EXPERT " plan", "[NAME]", text, entries, &argc, &argv))
    return CHOIR_CLI_USAGE;
  if (argc > 2)
    return choir_cli_usage(CHOIR_EXPERT " plan", "'%s' is not expected", argv[2]);
  return run(CHOIR_EXPERT " plan", argc > 1 ? argv[1] : "main", TRUE);
}
