#include "llm/models.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/config.h"
#include "base/text.h"
#include "cli/cli.h"
#include "daemon/settings.h"

#define NAME "models"

static char *option_url, *option_state;
static gboolean option_json;

static const GOptionEntry entries[] = {
    {"json", 0, 0, G_OPTION_ARG_NONE, &option_json, "print the list as JSON", NULL},
    {"state", 's', 0, G_OPTION_ARG_FILENAME, &option_state, "state folder that keeps the choice", "DIR"},
    {"url", 'u', 0, G_OPTION_ARG_STRING, &option_url, "address of a running daemon that is told the choice", "URL"},
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "  list           the models of group_vars/models.yaml, what is on disk, what fits this machine (the default)\n"
    "  fetch NAME     download it: resumed, and renamed into place only when its sha256 is right\n"
    "  use NAME       choose it; a running daemon changes over at once\n"
    "  verify [NAME]  hash what is on disk again, all of it without a name\n"
    "  remove NAME    delete its file\n\n"
    "A model marked 'unverified' has no recorded sha256 yet: it is recorded at the first fetch. 'prefix' says whether "
    "a\n"
    "stored conversation can be taken up again without reading it anew; models without it answer slower after a "
    "restart.\n\n"
    "Examples:\n"
    "  choir models\n"
    "  choir models list --json\n"
    "  choir models fetch Qwen2.5-0.5B-Instruct && choir models use Qwen2.5-0.5B-Instruct\n"
    "  choir models verify\n\n"
    "Exit codes: 0 done, 1 it failed (what to do is said), 2 wrong usage, 130 interrupted.\n";

static void print_list(const ChoirModels *models) {
  const ChoirModel *current = choir_models_current(models);
  printf("%s  %-30s %-8s %9s %9s  %s%s\n", choir_cli_style(CHOIR_CLI_BOLD), "name", "on disk", "size MB", "needs MB",
         "", choir_cli_style(CHOIR_CLI_PLAIN));
  for (guint i = 0; i < choir_models_count(models); i++) {
    const ChoirModel *model = choir_models_get(models, i);
    printf("%c %-30s %-8s %9.0f %9u  %s%s%s%s\n", model == current ? '*' : ' ', model->name,
           model->present ? "yes" : "no", (double)model->bytes / 1e6, model->memory_mb,
           model->verified ? "" : "unverified, ", model->dense ? "prefix" : "no prefix",
           model->note && *model->note ? "; " : "", model->note ? model->note : "");
  }
  printf("\n* in use. choir models fetch NAME, then choir models use NAME.\n");
}

static int use(ChoirModels *models, const char *name) {
  g_autoptr(GError) error = NULL;
  g_autofree char *url = choir_cli_url(option_url);
  json_auto_t *body = json_pack("{s:s}", "name", name);
  json_auto_t *status = option_state ? NULL : choir_cli_request(url, "/api/status", NULL, 2000, NULL);
  if (status) {
    json_auto_t *answer = choir_cli_request(url, "/api/models/use", body, 10000, &error);
    if (!answer)
      return choir_cli_fail(NAME, "%s", error->message);
    printf("%s is in use; the daemon at %s changes over\n", name, url);
    return CHOIR_CLI_OK;
  }
  if (!choir_models_use(models, name, &error))
    return choir_cli_fail(NAME, "%s", error->message);
  printf("%s is chosen; the next choir serve uses it\n", name);
  return CHOIR_CLI_OK;
}

static int verify(ChoirModels *models, const char *name) {
  int bad = 0, seen = 0;
  for (guint i = 0; i < choir_models_count(models); i++) {
    const ChoirModel *model = choir_models_get(models, i);
    if (name ? strcmp(model->name, name) != 0 : !model->present)
      continue;
    g_autoptr(GError) error = NULL;
    seen++;
    if (choir_models_verify(models, model->name, &error)) {
      printf("%s is right\n", model->name);
    } else {
      bad++;
      choir_cli_fail(NAME, "%s", error->message);
    }
  }
  if (seen == 0 && name)
    return choir_cli_fail(NAME, "there is no model '%s'; choir models lists them", name);
  if (seen == 0)
    printf("no model is on disk\n");
  return bad ? CHOIR_CLI_FAILED : CHOIR_CLI_OK;
}

static int delete_one(ChoirModels *models, const char *name) {
  g_autoptr(GError) error = NULL;
  if (!choir_models_remove(models, name, &error))
    return choir_cli_fail(NAME, "%s", error->message);
  printf("%s is removed\n", name);
  return CHOIR_CLI_OK;
}

typedef struct {
  GMainLoop *loop;
  ChoirModels *models;
  GError *error;
  gint64 began, shown;
  guint64 first; /* bytes that were here already */
  gboolean terminal;
} Fetch;

static void on_progress(guint64 done, guint64 total, gpointer user) {
  Fetch *fetch = user;
  gint64 now = g_get_monotonic_time();
  if (fetch->began == 0) {
    fetch->began = now;
    fetch->first = done;
  }
  if (now - fetch->shown < (fetch->terminal ? 200000 : 10000000))
    return;
  fetch->shown = now;
  double seconds = MAX((double)(now - fetch->began) / 1e6, 0.001);
  double rate = (double)(done - fetch->first) / seconds;
  double left = rate > 1 && total > done ? (double)(total - done) / rate : 0;
  fprintf(stderr, "%s%3.0f%%  %.1f of %.1f MB, %.1f MB/s, %d:%02d left%s", fetch->terminal ? "\r" : "",
          total ? 100.0 * (double)done / (double)total : 0.0, (double)done / 1e6, (double)total / 1e6, rate / 1e6,
          (int)left / 60, (int)left % 60, fetch->terminal ? "\033[K" : "\n");
}

static void on_fetched(GObject *source, GAsyncResult *result, gpointer user) {
  Fetch *fetch = user;
  choir_models_fetch_finish(fetch->models, result, &fetch->error);
  g_main_loop_quit(fetch->loop);
}

static int fetch_one(ChoirModels *models, const char *name) {
  Fetch fetch = {.models = models, .loop = g_main_loop_new(NULL, FALSE), .terminal = isatty(STDERR_FILENO)};
  choir_models_fetch(models, name, on_progress, NULL, on_fetched, &fetch);
  g_main_loop_run(fetch.loop);
  g_main_loop_unref(fetch.loop);
  if (fetch.terminal)
    fprintf(stderr, "\r\033[K");
  g_autoptr(GError) error = fetch.error;
  if (error)
    return choir_cli_fail(NAME, "%s", error->message);
  printf("%s is here and right; choir models use %s chooses it\n", name, name);
  return CHOIR_CLI_OK;
}

static int run(ChoirModels *models, const char *what, const char *name) {
  if (strcmp(what, "list") == 0) {
    if (option_json) {
      json_auto_t *json = choir_models_json(models);
      choir_cli_print_json(json);
    } else {
      print_list(models);
    }
    return CHOIR_CLI_OK;
  }
  if (strcmp(what, "verify") == 0)
    return verify(models, name);
  if (strcmp(what, "use") == 0)
    return use(models, name);
  return strcmp(what, "fetch") == 0 ? fetch_one(models, name) : delete_one(models, name);
}

int choir_models_main(int argc, char **argv) {
  if (!choir_cli_parse(NAME, "[list | fetch NAME | use NAME | verify [NAME] | remove NAME]", description, entries,
                       &argc, &argv))
    return CHOIR_CLI_USAGE;
  static const char *const words[] = {"list", "fetch", "use", "verify", "remove", NULL};
  const char *what = argc > 1 ? argv[1] : "list";
  const char *name = argc > 2 ? argv[2] : NULL;
  if (!g_strv_contains(words, what))
    return choir_cli_usage(NAME, "there is no '%s'", what);
  if (argc > 3 || (name && strcmp(what, "list") == 0))
    return choir_cli_usage(NAME, "'%s' is not expected", argv[argc - 1]);
  if (!name && strcmp(what, "list") != 0 && strcmp(what, "verify") != 0)
    return choir_cli_usage(NAME, "%s needs the name of a model", what);
  g_autoptr(GError) error = NULL;
  g_auto(ChoirPaths) paths = {0};
  if (!choir_paths_load(&paths, &error))
    return choir_cli_fail(NAME, "%s", error->message);
  ChoirModels *models = choir_models_load(paths.list, paths.models, option_state ? option_state : paths.state, &error);
  int code = models ? run(models, what, name) : choir_cli_fail(NAME, "%s", error->message);
  choir_models_free(models);
  return code;
}
