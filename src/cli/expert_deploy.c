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

static char *option_models, *option_job, *option_service, *option_space, *option_file, *option_save, *option_nomad,
    *option_consul, *option_nomad_token, *option_consul_token;
static int option_count = 1, option_memory, option_context = 4096, option_wait = 900;
static gboolean option_dry, option_json, option_keep;

static const GOptionEntry entries[] = {
    {"models", 0, 0, G_OPTION_ARG_STRING, &option_models,
     "list as JSON, or @FILE (default: expert_models.NAME of models.yaml, else expert_models.main)", "JSON"},
    {"count", 0, 0, G_OPTION_ARG_INT, &option_count, "replicas (default 1)", "N"},
    {"keep-count", 0, 0, G_OPTION_ARG_NONE, &option_keep,
     "an expert that is there keeps its count: what sleeps is not waked", NULL},
    {"job", 0, 0, G_OPTION_ARG_STRING, &option_job, "(default: llama-expert-NAME)", "JOB"},
    {"service", 0, 0, G_OPTION_ARG_STRING, &option_service, "(default: llama-api-NAME)", "SERVICE"},
    {"namespace", 0, 0, G_OPTION_ARG_STRING, &option_space, "Nomad namespace, made when it is not there", "NAME"},
    {"memory-mb", 0, 0, G_OPTION_ARG_INT, &option_memory,
     "for the model (default: what the largest model of the list needs that fits every node)", "MB"},
    {"context", 0, 0, G_OPTION_ARG_INT, &option_context, "tokens of each of the two contexts (default 4096)", "N"},
    {"file", 0, 0, G_OPTION_ARG_FILENAME, &option_file, "(default: " CHOIR_EXPERT_JOBS "/llama-expert.nomad)", "FILE"},
    {"save", 0, 0, G_OPTION_ARG_FILENAME, &option_save, "write a job file that alone starts this expert", "FILE"},
    {"dry-run", 0, 0, G_OPTION_ARG_NONE, &option_dry, "only print what each node can serve and what would be submitted",
     NULL},
    {"wait", 'w', 0, G_OPTION_ARG_INT, &option_wait, "seconds until it must answer, 0: do not wait (default 900)", "S"},
    {"json", 0, 0, G_OPTION_ARG_NONE, &option_json, "print JSON", NULL},
    CHOIR_API_NOMAD_OPTIONS(option_nomad, option_nomad_token),
    CHOIR_API_CONSUL_OPTIONS(option_consul, option_consul_token),
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

/* Those that are in this machine's folders, from which the other nodes get theirs; all where none is. Memory for a
 * model that nobody has would lie idle. Borrows from models. */
static GPtrArray *models_here(const GPtrArray *models) {
  GPtrArray *here = g_ptr_array_new();
  for (guint i = 0; i < models->len; i++)
    if (((const ChoirExpertModel *)models->pdata[i])->path)
      g_ptr_array_add(here, models->pdata[i]);
  for (guint i = 0; here->len == 0 && i < models->len; i++)
    g_ptr_array_add(here, models->pdata[i]);
  return here;
}

/* What the light model needs is reserved at least: it may have to stand in. */
static guint memory_of(const Cluster *cluster, GError **error) {
  guint largest = 0, light = G_MAXUINT;
  g_autoptr(GPtrArray) lights = choir_expert_models_list(cluster->paths.list, "main", NULL, NULL);
  for (guint i = 0; lights && i < lights->len; i++)
    light = MIN(light, ((ChoirExpertModel *)lights->pdata[i])->memory_mb);
  g_autoptr(GPtrArray) models = models_here(cluster->models);
  guint memory = option_memory ? (guint)option_memory : choir_place_reserve(cluster->nodes, models, error);
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

#define N_VARIABLES 8
typedef struct {
  const char *name;
  char *value;
} Variable;

static void variables_of(const Cluster *cluster, const char *expert, const char *job, const char *service,
                         const char *space, guint memory, Variable ret_variables[N_VARIABLES]) {
  json_auto_t *list = option_models ? choir_expert_models_json(cluster->models) : NULL;
  const Variable all[N_VARIABLES] = {{"job_name", g_strdup(job)},
                                     {"expert", g_strdup(expert)},
                                     {"service_name", g_strdup(service)},
                                     {"namespace", g_strdup(space)},
                                     {"models", list ? choir_json_dump(list) : g_strdup("")},
                                     {"memory_mb", g_strdup_printf("%u", memory)},
                                     {"context", g_strdup_printf("%d", option_context)},
                                     {"worker_count", g_strdup_printf("%d", option_count)}};
  memcpy(ret_variables, all, sizeof all);
}

static char *text_of(const Variable variables[N_VARIABLES]) {
  GString *text = g_string_new(NULL);
  for (gsize i = 0; i < N_VARIABLES; i++) {
    g_autofree char *line = choir_jobs_variable(variables[i].name, variables[i].value);
    g_string_append(text, line);
  }
  return g_string_free(text, FALSE);
}

/* Writes the file with these values as defaults, when that changes it. */
static gboolean save(const char *source, const Variable variables[N_VARIABLES], gboolean *ret_changed, GError **error) {
  g_autofree char *text = g_strdup(source), *before = NULL;
  for (gsize i = 0; i < N_VARIABLES; i++) {
    char *next = choir_jobs_with_default(text, variables[i].name, variables[i].value);
    g_free(text);
    text = next;
  }
  *ret_changed = !g_file_get_contents(option_save, &before, NULL, NULL) || strcmp(before, text) != 0;
  return !*ret_changed || g_file_set_contents_full(option_save, text, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0644, error);
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

typedef struct {
  char *job, *service;
  const char *space;
  Variable variables[N_VARIABLES];
} Order;

static void order_clear(Order *order) {
  g_free(order->job);
  g_free(order->service);
  for (gsize i = 0; i < N_VARIABLES; i++)
    g_free(order->variables[i].value);
}

static void tell(Cluster *cluster, const Order *order, gboolean changed, gboolean made) {
  if (option_json) {
    json_auto_t *answer = json_pack("{s:s,s:s,s:s,s:b,s:b}", "job", order->job, "service", order->service, "namespace",
                                    order->space, "changed", changed || made, "namespace_made", made);
    choir_cli_print_json(answer);
    return;
  }
  printf("%s: %s%s\n", order->job, changed ? "submitted" : "unchanged", option_wait > 0 ? ", healthy" : "");
  if (option_wait > 0)
    print_instances(cluster, order->service);
}

static gboolean carry_out(Cluster *cluster, const Order *order, GError **error) {
  const char *file = option_file ? option_file : CHOIR_EXPERT_JOBS "/llama-expert.nomad";
  g_autofree char *variables = text_of(order->variables), *source = NULL;
  gboolean changed = FALSE, made = FALSE, saved = FALSE;
  if (!g_str_equal(order->space, "default") && !choir_jobs_namespace_make(cluster->nomad, order->space, &made, error))
    return FALSE;
  json_auto_t *job = choir_jobs_parse(cluster->nomad, file, variables, &source, error);
  if (!job || !choir_jobs_submit(cluster->nomad, job, source, variables, !option_keep, FALSE, &changed, error) ||
      (option_save && !save(source, order->variables, &saved, error)))
    return FALSE;
  if (option_wait > 0 &&
      !choir_jobs_wait(cluster->nomad, cluster->consul, order->space, order->job, (guint)option_wait, error))
    return FALSE;
  tell(cluster, order, changed || saved, made);
  return TRUE;
}

static gboolean deploy(Cluster *cluster, const char *expert, GError **error) {
  gboolean is_main = g_str_equal(expert, "main");
  guint memory = memory_of(cluster, error);
  if (memory == 0)
    return FALSE;
  Order order = {.space = option_space ? option_space : "default"};
  order.job = option_job ? g_strdup(option_job)
                         : g_strconcat(CHOIR_JOB_EXPERT, is_main ? "" : "-", is_main ? "" : expert, NULL);
  order.service = option_service ? g_strdup(option_service) : g_strconcat(CHOIR_EXPERT_PREFIX, expert, NULL);
  variables_of(cluster, expert, order.job, order.service, order.space, memory, order.variables);
  gboolean good = TRUE;
  if (option_dry)
    printf("\n%s (%s in Consul): %d replica(s), %u MB each\n", order.job, order.service, option_count,
           memory + CHOIR_EXPERT_EXTRA_MB);
  else
    good = carry_out(cluster, &order, error);
  order_clear(&order);
  return good;
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
  if (option_service && !choir_expert_name_of(option_service))
    return choir_cli_usage(NAME, "the agent finds only services that begin with " CHOIR_EXPERT_PREFIX);
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
