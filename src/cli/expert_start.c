#include <gio/gio.h>
#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/text.h"
#include "cli/cli.h"
#include "cli/expert_private.h"
#include "base/names.h"

#define NAME CHOIR_EXPERT " start"

static char *option_name, *option_service, *option_address, *option_models, *option_fallback, *option_key,
    *option_consul, *option_token, *option_rpc, *option_state, *option_proxy;
static char **option_folders;
static int option_port, option_memory, option_context = 4096, option_threads, option_load = 900, option_rpc_workers,
                                       option_rpc_wait = 120, option_mesh_port;
static gboolean option_embedding, option_no_consul;

static const GOptionEntry entries[] = {
    {"name", 'n', 0, G_OPTION_ARG_STRING, &option_name, "of the expert: its models' list, and llama-api-NAME in Consul",
     "NAME"},
    {"service", 0, 0, G_OPTION_ARG_STRING, &option_service, "another name in Consul", "SERVICE"},
    {"address", 'a', 0, G_OPTION_ARG_STRING, &option_address,
     "of the cluster's network to listen on (default: $NOMAD_IP_http, else 127.0.0.1)", "IP"},
    {"port", 'p', 0, G_OPTION_ARG_INT, &option_port, "(default: $NOMAD_PORT_http; 0: a free one, loopback only)", "N"},
    {"models", 0, 0, G_OPTION_ARG_STRING, &option_models,
     "list as JSON, or @FILE (default: $CHOIR_EXPERT_MODELS, else models.yaml)", "JSON"},
    {"models-dir", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &option_folders, "folder that holds them; may be repeated",
     "DIR"},
    {"memory-mb", 0, 0, G_OPTION_ARG_INT, &option_memory, "no model that needs more (default: no limit)", "MB"},
    {"fallback", 0, 0, G_OPTION_ARG_STRING, &option_fallback,
     "file name of the light model that stands in (default: the smallest of models.yaml that is here)", "FILE"},
    {"context", 0, 0, G_OPTION_ARG_INT, &option_context, "tokens of each of the two contexts (default 4096)", "N"},
    {"threads", 't', 0, G_OPTION_ARG_INT, &option_threads, "(default: all processors but one)", "N"},
    {"load-timeout", 0, 0, G_OPTION_ARG_INT, &option_load, "seconds for one model to answer (default 900)", "S"},
    {"key-file", 0, 0, G_OPTION_ARG_FILENAME, &option_key,
     "file with the key that callers must know (default: " CHOIR_EXPERT_KEY_FILE ")", "FILE"},
    {"consul", 0, 0, G_OPTION_ARG_STRING, &option_consul, "Consul's address (default: $CONSUL_HTTP_ADDR, else here)",
     "URL"},
    {"consul-token-file", 0, 0, G_OPTION_ARG_FILENAME, &option_token,
     "(default: " CHOIR_EXPERT_TOKEN_FILE " where it is)", "FILE"},
    {"mesh-port", 0, 0, G_OPTION_ARG_INT, &option_mesh_port,
     "also take connections by mutual TLS there, through Consul's built-in proxy (0: none)", "N"},
    {"consul-program", 0, 0, G_OPTION_ARG_FILENAME, &option_proxy, "that proxy (default: consul)", "FILE"},
    {"no-consul", 0, 0, G_OPTION_ARG_NONE, &option_no_consul, "do not register", NULL},
    {"rpc-service", 0, 0, G_OPTION_ARG_STRING, &option_rpc, "Consul service of rpc-servers that hold the layers",
     "NAME"},
    {"rpc-workers", 0, 0, G_OPTION_ARG_INT, &option_rpc_workers, "how many of them make a whole", "N"},
    {"rpc-wait", 0, 0, G_OPTION_ARG_INT, &option_rpc_wait, "seconds to wait for them (default 120)", "S"},
    {"embedding", 0, 0, G_OPTION_ARG_NONE, &option_embedding, "serve sentence vectors instead of answers", NULL},
    {"state", 's', 0, G_OPTION_ARG_FILENAME, &option_state, "folder for stored prompts (default: $NOMAD_TASK_DIR)",
     "DIR"},
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "Runs one expert in the foreground: tries the models of its list, largest first, and serves with the first that\n"
    "loads and answers. When all fail, the light model serves under the same name with the tag 'fallback', and why.\n"
    "It registers in Consul when it answers, and takes itself back when it is told to stop.\n\n"
    "Examples:\n"
    "  choir expert start --name main\n"
    "  choir expert start --name coding --models '[{\"name\":\"small\",\"filename\":\"small.gguf\"}]' --memory-mb "
    "900\n\n"
    "Exit codes: 0 stopped by a signal, 1 no model loads or the server died (it is said why), 2 wrong usage.\n";

typedef struct {
  GMainLoop *loop;
  ChoirPaths paths;
  ChoirApi *consul; /* NULL: not registered */
  GPtrArray *models;
  ChoirExpertModel *light; /* of lights, tried last; NULL: none */
  GPtrArray *lights;
  guint next; /* index of the model to be tried */
  const ChoirExpertModel *model;
  ChoirExpertServer *server;
  ChoirExpertEntry *entry;
  ChoirExpertMesh *mesh;
  ChoirExpertWorkers *workers; /* NULL: the whole model is here */
  char *token, *service, *address, *state, *key, *reasons;
  gboolean stopping, serving;
  int code;
} Expert;

static void try_next(Expert *expert);

static void remember(Expert *expert, const ChoirExpertModel *model, const char *why) {
  fprintf(stderr, "choir expert: %s %s\n", model->name, why);
  char *more = g_strdup_printf("%s%s%s %s", expert->reasons, *expert->reasons ? "; " : "", model->name, why);
  g_free(expert->reasons);
  expert->reasons = more;
}

static void on_ready(gpointer user) {
  Expert *expert = user;
  const char *alloc = g_getenv("NOMAD_ALLOC_ID");
  g_autofree char *id =
      alloc ? g_strdup_printf("choir-expert-%s", alloc) : g_strdup_printf("choir-expert-%d", getpid());
  gboolean light = expert->model == expert->light;
  guint16 port = choir_expert_server_port(expert->server);
  expert->serving = TRUE;
  printf("%s serves %s at http://%s:%u%s%s\n", expert->service, expert->model->name, expert->address, port,
         light ? ", the light model, because " : "", light ? expert->reasons : "");
  fflush(stdout);
  if (!expert->consul)
    return;
  const char *url = choir_api_url(expert->consul);
  json_t *body =
      choir_expert_entry_json(id, expert->service, expert->address, port, expert->model->name, (guint)option_context,
                              light, light ? expert->reasons : "", alloc ? alloc : "");
  if (option_mesh_port)
    json_object_set_new(body, "Connect",
                        choir_expert_mesh_json(expert->service, expert->address, (guint16)option_mesh_port));
  expert->entry = choir_expert_entry_new(url, choir_api_headers(expert->consul), body);
  if (option_mesh_port)
    expert->mesh = choir_expert_mesh_start(option_proxy ? option_proxy : "consul", id, url, expert->token);
}

static void leave(gpointer user) {
  g_main_loop_quit(((Expert *)user)->loop);
}

static void on_removed(gpointer user) {
  Expert *expert = user;
  if (expert->server)
    choir_expert_server_stop(expert->server);
  else
    leave(expert);
}

/* First nobody finds it any more, then it ends. */
static void stop(Expert *expert) {
  if (expert->stopping)
    return;
  expert->stopping = TRUE;
  if (expert->entry)
    choir_expert_entry_remove(expert->entry, on_removed, expert);
  else
    on_removed(expert);
}

static void on_ended(const char *why, gpointer user) {
  Expert *expert = user;
  g_clear_pointer(&expert->server, choir_expert_server_free);
  if (expert->stopping) {
    leave(expert);
    return;
  }
  if (!expert->serving) {
    remember(expert, expert->model, why);
    try_next(expert);
    return;
  }
  /* A new start, here or on another node, is the scheduler's business. */
  choir_cli_fail(NAME, "%s %s", expert->model->name, why);
  expert->code = CHOIR_CLI_FAILED;
  stop(expert);
}

static gboolean on_signal(gpointer user) {
  stop(user);
  return G_SOURCE_CONTINUE;
}

/* What it holds of the model is gone: head and workers begin again together. */
static void on_lost(const char *why, gpointer user) {
  Expert *expert = user;
  if (expert->stopping)
    return;
  expert->code = choir_cli_fail(NAME, "%s", why);
  stop(expert);
}

static void begin(Expert *expert, const ChoirExpertModel *model) {
  static const ChoirExpertServerHandlers handlers = {on_ready, on_ended};
  g_autoptr(GError) error = NULL;
  gboolean spread = expert->workers && model != expert->light;
  const ChoirExpertServerOptions options = {.engine_dir = expert->paths.engine,
                                            .model_path = model->path,
                                            .model_name = model->name,
                                            .state_dir = expert->state,
                                            .address = expert->address,
                                            .key_file = expert->key,
                                            .rpc = spread ? choir_expert_workers_list(expert->workers) : NULL,
                                            .port = (guint16)option_port,
                                            .context = (guint)option_context,
                                            .threads = (guint)option_threads,
                                            .load_timeout_s = (guint)option_load,
                                            .embedding = option_embedding};
  expert->model = model;
  if (expert->workers && !spread)
    g_clear_pointer(&expert->workers, choir_expert_workers_free);
  else if (expert->workers)
    choir_expert_workers_watch(expert->workers, on_lost, expert);
  printf("%s: loading %s\n", expert->service, model->name);
  fflush(stdout);
  expert->server = choir_expert_server_start(&options, &handlers, expert, &error);
  if (expert->server)
    return;
  remember(expert, model, error->message);
  try_next(expert);
}

static void try_next(Expert *expert) {
  while (expert->next < expert->models->len) {
    const ChoirExpertModel *model = expert->models->pdata[expert->next++];
    if (!model->why) {
      begin(expert, model);
      return;
    }
    remember(expert, model, model->why);
  }
  if (expert->light && expert->model != expert->light) {
    begin(expert, expert->light);
    return;
  }
  expert->code = choir_cli_fail(NAME, "no model of %s loads: %s", expert->service, expert->reasons);
  expert->stopping = TRUE;
  leave(expert);
}

static gboolean on_begin(gpointer user) {
  try_next(user);
  return G_SOURCE_REMOVE;
}

static gboolean open_models(Expert *expert, GError **error) {
  g_auto(GStrv) folders = choir_expert_folders(option_folders, &expert->paths);
  expert->models = choir_expert_wanted(option_models, option_name, &expert->paths, (const char *const *)folders, error);
  if (!expert->models)
    return FALSE;
  choir_expert_models_order(expert->models, (guint)option_memory);
  if (option_embedding) /* no language model can stand in */
    return TRUE;
  if (option_fallback) {
    json_auto_t *one = json_pack("[{s:s}]", "filename", option_fallback);
    g_autofree char *text = choir_json_dump(one);
    expert->lights = choir_expert_models_parse(text, (const char *const *)folders, error);
    if (!expert->lights)
      return FALSE;
  } else {
    expert->lights = choir_expert_models_list(expert->paths.list, "main", (const char *const *)folders, NULL);
  }
  expert->light = expert->lights ? (ChoirExpertModel *)choir_expert_models_smallest(expert->lights) : NULL;
  return TRUE;
}

static const char *setting(const char *option, const char *env, const char *fallback) {
  const char *set = option ? option : g_getenv(env);
  return set && *set ? set : fallback;
}

static gboolean prepare(Expert *expert, GError **error) {
  const char *port = g_getenv("NOMAD_PORT_http");
  expert->reasons = g_strdup("");
  expert->address = g_strdup(setting(option_address, "NOMAD_IP_http", "127.0.0.1"));
  expert->service = option_service ? g_strdup(option_service) : g_strconcat(CHOIR_EXPERT_PREFIX, option_name, NULL);
  g_autofree char *own = g_strdup_printf("%s/choir-expert-%s", g_get_tmp_dir(), option_name);
  expert->state = g_strdup(setting(option_state, "NOMAD_TASK_DIR", own));
  if (option_port == 0 && port)
    option_port = atoi(port);
  gboolean loopback = g_str_has_prefix(expert->address, "127.") || g_str_equal(expert->address, "::1");
  if (option_key || g_file_test(CHOIR_EXPERT_KEY_FILE, G_FILE_TEST_EXISTS))
    expert->key = g_strdup(option_key ? option_key : CHOIR_EXPERT_KEY_FILE);
  if (!loopback && (!expert->key || option_port == 0)) {
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT, "%s is not loopback, so it needs %s", expert->address,
                expert->key ? "--port" : "a key that callers must know: --key-file FILE");
    return FALSE;
  }
  const char *token = option_token                                               ? option_token
                      : g_file_test(CHOIR_EXPERT_TOKEN_FILE, G_FILE_TEST_EXISTS) ? CHOIR_EXPERT_TOKEN_FILE
                                                                                 : NULL;
  expert->token = g_strdup(token);
  if (!option_no_consul && !(expert->consul = choir_api_new(CHOIR_API_CONSUL, option_consul, token, error)))
    return FALSE;
  if (!open_models(expert, error))
    return FALSE;
  if (option_rpc && expert->consul &&
      !(expert->workers = choir_expert_workers_find(expert->consul, option_rpc, (guint)option_rpc_workers,
                                                    (guint)option_rpc_wait, error)))
    return FALSE;
  return TRUE;
}

static void clear(Expert *expert) {
  choir_expert_mesh_free(expert->mesh);
  choir_expert_entry_free(expert->entry);
  choir_expert_server_free(expert->server);
  choir_expert_workers_free(expert->workers);
  choir_api_free(expert->consul);
  g_clear_pointer(&expert->models, g_ptr_array_unref);
  g_clear_pointer(&expert->lights, g_ptr_array_unref);
  g_free(expert->token);
  g_free(expert->service);
  g_free(expert->address);
  g_free(expert->state);
  g_free(expert->key);
  g_free(expert->reasons);
  choir_paths_clear(&expert->paths);
}

int choir_expert_start(int argc, char **argv) {
  Expert expert = {0};
  g_autoptr(GError) error = NULL;
  if (!choir_cli_parse(NAME, "", description, entries, &argc, &argv))
    return CHOIR_CLI_USAGE;
  if (argc > 1)
    return choir_cli_usage(NAME, "'%s' is not expected", argv[1]);
  if (!option_name)
    option_name = g_strdup("main");
  if (option_port < 0 || option_port > 65535 || option_memory < 0 || option_load < 1 || option_context < 256 ||
      option_threads < 0 || option_rpc_wait < 0)
    return choir_cli_usage(NAME, "a number is out of its range");
  if (option_mesh_port < 0 || option_mesh_port > 65535 || (option_mesh_port && option_no_consul))
    return choir_cli_usage(NAME, "--mesh-port is a port, and needs Consul");
  if (!option_rpc != !option_rpc_workers || option_rpc_workers < 0 || (option_rpc && option_no_consul))
    return choir_cli_usage(NAME, "--rpc-service and --rpc-workers go together, and need Consul");
  if (!choir_expert_paths(&expert.paths))
    return CHOIR_CLI_FAILED;
  if (!prepare(&expert, &error)) {
    clear(&expert);
    return choir_cli_fail(NAME, "%s", error->message);
  }
  signal(SIGPIPE, SIG_IGN);
  expert.loop = g_main_loop_new(NULL, FALSE);
  guint ends[] = {g_unix_signal_add(SIGTERM, on_signal, &expert), g_unix_signal_add(SIGINT, on_signal, &expert)};
  g_idle_add(on_begin, &expert);
  g_main_loop_run(expert.loop);
  for (gsize i = 0; i < G_N_ELEMENTS(ends); i++)
    g_source_remove(ends[i]);
  g_main_loop_unref(expert.loop);
  clear(&expert);
  return expert.code;
}
