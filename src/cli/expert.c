#include <gio/gio.h>
#include <stdio.h>
#include <string.h>
#include "base/text.h"
#include "cli/cli.h"
#include "cli/expert_private.h"

#define NAME CHOIR_EXPERT

static const struct {
  const char *word, *summary;
  int (*run)(int argc, char **argv);
} words[] = {
    {"start", "serve one expert in the foreground: what its Nomad job runs", choir_expert_start},
    {"list", "the experts that Consul knows, with model, node and state", choir_expert_list},
    {"deploy", "start an expert on the cluster, or change one", choir_expert_deploy},
    {"plan", "what each node can serve", choir_expert_plan},
    {"bench", "run llama-bench over the models of this node", choir_expert_bench},
    {"batch", "one prompt to one model, without a server that stays", choir_expert_batch},
};

static void print_help(FILE *out) {
  fprintf(out, "Usage: choir expert WORD [OPTION...]\n\n");
  for (gsize i = 0; i < G_N_ELEMENTS(words); i++)
    fprintf(out, "  %-8s %s\n", words[i].word, words[i].summary);
  fprintf(out, "\nchoir expert WORD --help has the options of each.\n\n"
               "Exit codes: 0 done, 1 failed, 2 wrong usage.\n");
}

int choir_expert_main(int argc, char **argv) {
  const char *known[G_N_ELEMENTS(words) + 1] = {NULL};
  if (argc < 2 || g_str_equal(argv[1], "--help") || g_str_equal(argv[1], "-h")) {
    print_help(argc < 2 ? stderr : stdout);
    return argc < 2 ? CHOIR_CLI_USAGE : CHOIR_CLI_OK;
  }
  for (gsize i = 0; i < G_N_ELEMENTS(words); i++) {
    if (g_str_equal(words[i].word, argv[1]))
      return words[i].run(argc - 1, argv + 1);
    known[i] = words[i].word;
  }
  const char *near = choir_nearest(argv[1], known);
  return choir_cli_usage(NAME, "there is no '%s'%s%s%s", argv[1], near ? ", did you mean '" : "", near ? near : "",
                         near ? "'?" : "");
}

GStrv choir_expert_folders(char **extra, const ChoirPaths *paths) {
  g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
  if (extra)
    g_strv_builder_addv(builder, (const char **)extra);
  g_autofree char *own = g_build_filename(paths->models, "llm", NULL);
  const char *const rest[] = {"/opt/nomad/models/llm", "/opt/nomad/models", paths->models, own};
  for (gsize i = 0; i < G_N_ELEMENTS(rest); i++)
    g_strv_builder_add(builder, rest[i]);
  return g_strv_builder_end(builder);
}

GPtrArray *choir_expert_wanted(const char *json, const char *expert, const ChoirPaths *paths,
                               const char *const *folders, GError **error) {
  const char *set = json && *json ? json : g_getenv("CHOIR_EXPERT_MODELS");
  g_autofree char *text = NULL;
  if (!set || !*set)
    return choir_expert_models_list(paths->list, expert, folders, error);
  if (*set == '@' && !g_file_get_contents(set + 1, &text, NULL, error))
    return NULL;
  return choir_expert_models_parse(text ? text : set, folders, error);
}

gboolean choir_expert_paths(ChoirPaths *ret_paths) {
  g_autoptr(GError) error = NULL;
  if (choir_paths_load(ret_paths, &error))
    return TRUE;
  choir_cli_fail(NAME, "%s", error->message);
  return FALSE;
}

json_t *choir_expert_benches(ChoirApi *consul) {
  json_t *benches = json_object();
  json_auto_t *rows = choir_api_json(consul, "GET", "/v1/kv/" CHOIR_EXPERT_BENCH_KEYS "?recurse=1", NULL, NULL, NULL);
  size_t i;
  json_t *row;
  json_array_foreach(rows, i, row) {
    gsize length = 0;
    const char *key = choir_json_string(row, "Key", ""), *value = choir_json_string(row, "Value", "");
    g_autofree guchar *bytes = g_base64_decode(value, &length);
    g_autofree char *text = g_strndup((const char *)bytes, length);
    if (g_str_has_prefix(key, CHOIR_EXPERT_BENCH_KEYS))
      json_object_set_new(benches, key + strlen(CHOIR_EXPERT_BENCH_KEYS), json_real(g_ascii_strtod(text, NULL)));
  }
  return benches;
}
