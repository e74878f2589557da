#include <glib-unix.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "base/text.h"
#include "cli/cli.h"
#include "cli/expert_private.h"
#include "net/http_client.h"

#define NAME CHOIR_EXPERT " batch"

static char *option_model, *option_prompt;
static char **option_folders;
static int option_tokens = 256, option_threads, option_context = 4096, option_timeout = 3600;

static const GOptionEntry entries[] = {
    {"model", 'm', 0, G_OPTION_ARG_STRING, &option_model, "name of the list, or file (default: $NOMAD_META_model_name)",
     "NAME"},
    {"prompt", 0, 0, G_OPTION_ARG_STRING, &option_prompt, "what is asked (default: $NOMAD_META_prompt)", "TEXT"},
    {"models-dir", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &option_folders, "folder that holds them; may be repeated",
     "DIR"},
    {"max-tokens", 0, 0, G_OPTION_ARG_INT, &option_tokens, "longest answer (default 256)", "N"},
    {"context", 0, 0, G_OPTION_ARG_INT, &option_context, "tokens of context (default 4096)", "N"},
    {"threads", 't', 0, G_OPTION_ARG_INT, &option_threads, "(default: all processors but one)", "N"},
    {"timeout", 0, 0, G_OPTION_ARG_INT, &option_timeout, "seconds for the answer (default 3600)", "S"},
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "Loads one model, asks it once, prints the answer and ends: what the parameterized job llamacpp-batch runs.\n\n"
    "Examples:\n"
    "  choir expert batch --model SmolLM2-135M-Instruct --prompt \"Name three birds.\"\n"
    "  nomad job dispatch -meta model_name=SmolLM2-135M-Instruct -meta prompt=\"Name three birds.\" llamacpp-batch\n\n"
    "Exit codes: 0 answered, 1 failed, 2 wrong usage.\n";

typedef struct {
  GMainLoop *loop;
  ChoirHttpClient *http;
  ChoirExpertServer *server;
  const char *prompt;
  int code;
  gboolean done;
} Batch;

static void on_answer(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  Batch *batch = user;
  if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    return;
  json_auto_t *json = body ? choir_json_parse(body, (gssize)length, NULL) : NULL;
  const json_t *choice = json_array_get(json_object_get(json, "choices"), 0);
  const char *text = choir_json_string(json_object_get(choice, "message"), "content", NULL);
  batch->done = TRUE;
  if (error)
    batch->code = choir_cli_fail(NAME, "%s", error->message);
  else if (!text)
    batch->code = choir_cli_fail(NAME, "the server's answer cannot be read");
  else
    printf("%s\n", text);
  fflush(stdout);
  choir_expert_server_stop(batch->server);
}

static void on_ready(gpointer user) {
  Batch *batch = user;
  json_auto_t *body = json_pack("{s:[{s:s,s:s}],s:i,s:f}", "messages", "role", "user", "content", batch->prompt,
                                "max_tokens", option_tokens, "temperature", 0.0);
  g_autofree char *text = choir_json_dump(body);
  g_autofree char *url =
      g_strdup_printf("http://127.0.0.1:%u/v1/chat/completions", choir_expert_server_port(batch->server));
  choir_http_request(batch->http, "POST", url, "application/json", text, strlen(text),
                     choir_expert_server_headers(batch->server), (guint)option_timeout * 1000, 0, NULL, on_answer,
                     batch);
}

static void on_ended(const char *why, gpointer user) {
  Batch *batch = user;
  g_clear_pointer(&batch->server, choir_expert_server_free);
  if (!batch->done)
    batch->code = choir_cli_fail(NAME, "the model's server %s", why);
  g_main_loop_quit(batch->loop);
}

static gboolean on_signal(gpointer user) {
  Batch *batch = user;
  batch->done = TRUE;
  batch->code = CHOIR_CLI_INTERRUPTED;
  if (batch->server)
    choir_expert_server_stop(batch->server);
  return G_SOURCE_CONTINUE;
}

static const ChoirExpertModel *find(const GPtrArray *models, const char *name) {
  for (guint i = 0; i < models->len; i++) {
    const ChoirExpertModel *model = models->pdata[i];
    if (g_str_equal(model->name, name) || g_str_equal(model->filename, name))
      return model;
  }
  return NULL;
}

static int run(const ChoirPaths *paths, const char *name, const char *prompt) {
  static const ChoirExpertServerHandlers handlers = {on_ready, on_ended};
  g_autoptr(GError) error = NULL;
  g_auto(GStrv) folders = choir_expert_folders(option_folders, paths);
  g_autoptr(GPtrArray) models = choir_expert_models_list(paths->list, "main", (const char *const *)folders, NULL);
  const ChoirExpertModel *model = models ? find(models, name) : NULL;
  if (!model && !strchr(name, '/')) { /* a file that no list names */
    g_clear_pointer(&models, g_ptr_array_unref);
    json_auto_t *one = json_pack("[{s:s}]", "filename", name);
    g_autofree char *json = choir_json_dump(one);
    models = choir_expert_models_parse(json, (const char *const *)folders, NULL);
    model = models ? models->pdata[0] : NULL;
  }
  if (!model || !model->path)
    return choir_cli_fail(NAME, "the model '%s' is not on this node; choir models list shows what is known", name);
  g_autofree char *own = g_strdup_printf("%s/choir-batch-XXXXXX", g_get_tmp_dir());
  const char *task = g_getenv("NOMAD_TASK_DIR");
  const char *state = task ? task : g_mkdtemp(own);
  const ChoirExpertServerOptions options = {.engine_dir = paths->engine,
                                            .model_path = model->path,
                                            .model_name = model->name,
                                            .state_dir = state ? state : "/tmp",
                                            .address = "127.0.0.1",
                                            .context = (guint)option_context,
                                            .threads = (guint)option_threads,
                                            .load_timeout_s = 900};
  Batch batch = {.loop = g_main_loop_new(NULL, FALSE), .http = choir_http_client_new(), .prompt = prompt};
  guint ends[] = {g_unix_signal_add(SIGTERM, on_signal, &batch), g_unix_signal_add(SIGINT, on_signal, &batch)};
  batch.server = choir_expert_server_start(&options, &handlers, &batch, &error);
  if (batch.server)
    g_main_loop_run(batch.loop);
  else
    batch.code = choir_cli_fail(NAME, "%s", error->message);
  for (gsize i = 0; i < G_N_ELEMENTS(ends); i++)
    g_source_remove(ends[i]);
  choir_http_client_free(batch.http);
  g_main_loop_unref(batch.loop);
  if (!task && state) {
    g_autofree char *slots = g_build_filename(state, "slots", NULL);
    g_rmdir(slots);
    g_rmdir(state);
  }
  return batch.code;
}

int choir_expert_batch(int argc, char **argv) {
  if (!choir_cli_parse(NAME, "", description, entries, &argc, &argv))
    return CHOIR_CLI_USAGE;
  const char *name = option_model ? option_model : g_getenv("NOMAD_META_model_name");
  const char *prompt = option_prompt ? option_prompt : g_getenv("NOMAD_META_prompt");
  if (argc > 1)
    return choir_cli_usage(NAME, "'%s' is not expected", argv[1]);
  if (!name || !*name || !prompt || !*prompt)
    return choir_cli_usage(NAME, "it needs --model and --prompt");
  if (option_tokens < 1 || option_context < 256 || option_threads < 0 || option_timeout < 1)
    return choir_cli_usage(NAME, "a number is out of its range");
  ChoirPaths paths = {0};
  if (!choir_expert_paths(&paths))
    return CHOIR_CLI_FAILED;
  int code = run(&paths, name, prompt);
  choir_paths_clear(&paths);
  return code;
}
