#include <errno.h>
#include <gio/gio.h>
#include <stdio.h>
#include <string.h>
#include "base/text.h"
#include "cli/cli.h"
#include "cli/expert_private.h"
#include "llm/embedder.h"

#define NAME CHOIR_EXPERT " bench"
#define OUTPUT "/var/log/llama_benchmarks.jsonl"
#define KEEP 2000 /* bytes of what llama-bench printed */

static char *option_output, *option_node, *option_consul, *option_token;
static char **option_folders;
static int option_prompt = 32, option_tokens = 32, option_repeat = 2, option_threads;
static gboolean option_no_consul;

static const GOptionEntry entries[] = {
    {"output", 'o', 0, G_OPTION_ARG_FILENAME, &option_output,
     "file that gets a line for each model (default: " OUTPUT ")", "FILE"},
    {"models-dir", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &option_folders, "folder that holds them; may be repeated",
     "DIR"},
    {"prompt", 0, 0, G_OPTION_ARG_INT, &option_prompt, "tokens read (default 32)", "N"},
    {"tokens", 0, 0, G_OPTION_ARG_INT, &option_tokens, "tokens written (default 32)", "N"},
    {"repeat", 'r', 0, G_OPTION_ARG_INT, &option_repeat, "times each (default 2)", "N"},
    {"threads", 't', 0, G_OPTION_ARG_INT, &option_threads, "(default: as llama-bench)", "N"},
    {"node", 0, 0, G_OPTION_ARG_STRING, &option_node, "name of this node in the plan (default: the host's)", "NAME"},
    {"no-consul", 0, 0, G_OPTION_ARG_NONE, &option_no_consul, "do not leave the figures in Consul", NULL},
    CHOIR_API_CONSUL_OPTIONS(option_consul, option_token),
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "Runs llama-bench over every language model of this node, or over the files named. Each gives a line of JSON:\n"
    "model, status (success or failed), tokens_per_second (writing), prompt_tokens_per_second, timestamp, rc, stdout,\n"
    "stderr. 'choir expert plan' uses the figures.\n\n"
    "Examples:\n"
    "  choir expert bench\n"
    "  choir expert bench SmolLM2-135M-Instruct.Q4_1.gguf --output bench.jsonl\n\n"
    "Exit codes: 0 all models ran, 1 one failed or there is none, 2 wrong usage.\n";

/* Mean tokens a second of the rows that wrote (or read). */
static double rate_of(const json_t *rows, gboolean wrote) {
  size_t i;
  json_t *row;
  json_array_foreach((json_t *)rows, i, row) if ((choir_json_int(row, "n_gen", 0) > 0) ==
                                                 wrote) return choir_json_double(row, "avg_ts", 0);
  return 0;
}

static char *tail(const char *text) {
  gsize length = strlen(text);
  return choir_utf8(text + (length > KEEP ? length - KEEP : 0), -1);
}

/* One line of the file. Caller decrefs. */
static json_t *bench(const char *program, const char *model, GError **error) {
  g_autofree char *prompt = g_strdup_printf("%d", option_prompt), *tokens = g_strdup_printf("%d", option_tokens),
                  *repeat = g_strdup_printf("%d", option_repeat), *threads = g_strdup_printf("%d", option_threads);
  const char *argv[] = {program, "-m", model,  "-p", prompt, "-n",
                        tokens,  "-r", repeat, "-o", "json", option_threads ? "-t" : NULL,
                        threads, NULL};
  g_autoptr(GSubprocess) child =
      g_subprocess_newv(argv, G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_PIPE, error);
  g_autofree char *out = NULL, *err = NULL;
  if (!child || !g_subprocess_communicate_utf8(child, NULL, NULL, &out, &err, error))
    return NULL;
  int rc = g_subprocess_get_if_exited(child) ? g_subprocess_get_exit_status(child) : -g_subprocess_get_term_sig(child);
  json_auto_t *rows = choir_json_parse(out, (gssize)strlen(out), NULL);
  double rate = rate_of(rows, TRUE);
  g_autofree char *name = g_path_get_basename(model), *said = tail(out), *complained = tail(err);
  g_autoptr(GDateTime) now = g_date_time_new_now_utc();
  g_autofree char *time = g_date_time_format_iso8601(now);
  return json_pack("{s:s,s:s,s:f,s:f,s:s,s:i,s:s,s:s}", "model", name, "status",
                   rc == 0 && rate > 0 ? "success" : "failed", "tokens_per_second", rate, "prompt_tokens_per_second",
                   rate_of(rows, FALSE), "timestamp", time, "rc", rc, "stdout", said, "stderr", complained);
}

static gboolean append(const char *path, const json_t *line) {
  g_autofree char *text = choir_json_dump(line);
  FILE *file = fopen(path, "ae");
  if (!file || fprintf(file, "%s\n", text) < 0) {
    choir_cli_fail(NAME, "cannot write %s: %s; name another file with --output", path, g_strerror(errno));
    if (file)
      fclose(file);
    return FALSE;
  }
  return fclose(file) == 0;
}

static void publish(ChoirApi *consul, const json_t *line) {
  char rate[G_ASCII_DTOSTR_BUF_SIZE];
  g_autofree char *node = choir_jobs_escape(option_node ? option_node : g_get_host_name());
  g_autofree char *model = choir_jobs_escape(choir_json_string(line, "model", ""));
  g_autofree char *path = g_strdup_printf("/v1/kv/" CHOIR_EXPERT_BENCH_KEYS "%s/%s", node, model);
  g_autoptr(GError) error = NULL;
  g_ascii_formatd(rate, sizeof rate, "%.2f", choir_json_double(line, "tokens_per_second", 0));
  g_autofree char *answer = choir_api_text(consul, "PUT", path, rate, 0, NULL, &error);
  if (!answer)
    fprintf(stderr, "choir expert bench: the plan will not know it: %s\n", error->message);
}

static void add_folder(GPtrArray *files, const char *folder) {
  g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
  const char *name;
  while (dir && (name = g_dir_read_name(dir))) {
    if (!g_str_has_suffix(name, ".gguf") || g_str_equal(name, CHOIR_EMBEDDER_FILE))
      continue;
    gboolean known = FALSE;
    for (guint i = 0; i < files->len; i++)
      known |= g_str_has_suffix(files->pdata[i], name);
    if (!known)
      g_ptr_array_add(files, g_build_filename(folder, name, NULL));
  }
}

/* The files named, or all that are here. NULL after an error was printed. */
static GPtrArray *files_of(char **words, char **folders) {
  g_autoptr(GPtrArray) files = g_ptr_array_new_with_free_func(g_free);
  for (char **folder = folders; !*words && *folder; folder++)
    add_folder(files, *folder);
  for (; *words; words++) {
    char *path = g_file_test(*words, G_FILE_TEST_IS_REGULAR) ? g_strdup(*words) : NULL;
    for (char **folder = folders; !path && *folder; folder++) {
      g_autofree char *there = g_build_filename(*folder, *words, NULL);
      path = g_file_test(there, G_FILE_TEST_IS_REGULAR) ? g_steal_pointer(&there) : NULL;
    }
    if (!path) {
      choir_cli_fail(NAME, "there is no model file %s here", *words);
      return NULL;
    }
    g_ptr_array_add(files, path);
  }
  return g_steal_pointer(&files);
}

static int run(const ChoirPaths *paths, char **words) {
  g_autoptr(GError) error = NULL;
  g_auto(GStrv) folders = choir_expert_folders(option_folders, paths);
  g_autofree char *program = g_build_filename(paths->engine, "bin", "llama-bench", NULL);
  g_autoptr(GPtrArray) files = files_of(words, folders);
  g_autoptr(ChoirApi) consul =
      files && !option_no_consul ? choir_api_new(CHOIR_API_CONSUL, option_consul, option_token, &error) : NULL;
  guint failed = 0;
  if (!files)
    return CHOIR_CLI_FAILED;
  if (error)
    return choir_cli_fail(NAME, "%s", error->message);
  if (files->len == 0)
    return choir_cli_fail(NAME, "there is no language model on this node; the role models brings them");
  for (guint i = 0; i < files->len; i++) {
    json_auto_t *line = bench(program, files->pdata[i], &error);
    if (!line)
      return choir_cli_fail(NAME, "%s: %s", program, error->message);
    gboolean good = g_str_equal(choir_json_string(line, "status", ""), "success");
    failed += !good;
    printf("%s: %s, %.2f tokens/s writing, %.2f reading\n", choir_json_string(line, "model", ""),
           choir_json_string(line, "status", ""), choir_json_double(line, "tokens_per_second", 0),
           choir_json_double(line, "prompt_tokens_per_second", 0));
    if (!good)
      fprintf(stderr, "%s\n", choir_json_string(line, "stderr", ""));
    fflush(stdout);
    if (!append(option_output ? option_output : OUTPUT, line))
      return CHOIR_CLI_FAILED;
    if (good && consul)
      publish(consul, line);
  }
  return failed ? CHOIR_CLI_FAILED : CHOIR_CLI_OK;
}

int choir_expert_bench(int argc, char **argv) {
  if (!choir_cli_parse(NAME, "[MODEL...]", description, entries, &argc, &argv))
    return CHOIR_CLI_USAGE;
  if (option_prompt < 1 || option_tokens < 1 || option_repeat < 1 || option_repeat > 100 || option_threads < 0)
    return choir_cli_usage(NAME, "a number is out of its range");
  ChoirPaths paths = {0};
  if (!choir_expert_paths(&paths))
    return CHOIR_CLI_FAILED;
  int code = run(&paths, argv + 1);
  choir_paths_clear(&paths);
  return code;
}
