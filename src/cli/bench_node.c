#include "cli/bench_node.h"
#include <gio/gio.h>
#include <stdio.h>
#include <string.h>
#include "base/cpu.h"
#include "base/text.h"
#include "cli/cli.h"
#include "daemon/settings.h"
#include "llm/models.h"

#define NAME "bench node"
#define PROGRAM "choir-node-bench"

static gboolean option_json;
static int option_threads, option_decode_threads;
static char *option_engine;
static double option_seconds = 0.15;

static const GOptionEntry entries[] = {
    {"json", 0, 0, G_OPTION_ARG_NONE, &option_json, "everything, as JSON", NULL},
    {"threads", 't', 0, G_OPTION_ARG_INT, &option_threads, "for prompts (default: all processors)", "N"},
    {"decode-threads", 0, 0, G_OPTION_ARG_INT, &option_decode_threads,
     "for writing (default: one less, as choir serve)", "N"},
    {"engine", 0, 0, G_OPTION_ARG_FILENAME, &option_engine, "engine folder that holds bin/", "DIR"},
    {"seconds", 0, 0, G_OPTION_ARG_DOUBLE, &option_seconds, "of one timed round, of which there are 80 (default 0.15)",
     "S"},
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "Measures how fast this machine reads memory and how fast the CPU kernels that the engine chooses here multiply,\n"
    "and from that says what each model of the list can be expected to do. It takes about half a minute and needs\n"
    "300 MB; stop what else is running. 'bound' is the memory's limit for writing: no program can be faster.\n"
    "The expectation leaves out attention, so long conversations are slower. Models that are not on disk are judged "
    "by\n"
    "their size.\n\n"
    "Examples:\n"
    "  choir bench node\n"
    "  choir bench node --json > node.json\n"
    "  CHOIR_CPU_VARIANT=x64 choir bench node    # what stock llama.cpp does on a Core 2\n\n"
    "Exit codes: 0 done, 1 it could not be measured, 2 wrong usage.\n";

/* What a quantisation mix is made of, by bytes. */
static const struct {
  const char *format;
  struct {
    const char *type;
    double share;
  } part[2];
} mixes[] = {
    {"Q4_K_M", {{"q4_K", 0.7}, {"q6_K", 0.3}}},
    {"Q4_K_S", {{"q4_K", 0.9}, {"q6_K", 0.1}}},
    {"Q5_K_M", {{"q5_K", 0.7}, {"q6_K", 0.3}}},
    {"Q3_K_M", {{"q3_K", 0.7}, {"q5_K", 0.3}}},
    {"Q6_K", {{"q6_K", 1}}},
    {"Q8_0", {{"q8_0", 1}}},
    {"Q4_0", {{"q4_0", 1}}},
    {"Q4_1", {{"q4_1", 1}}},
    {"Q5_0", {{"q5_0", 1}}},
    {"IQ4_NL", {{"iq4_nl", 1}}},
    {"MXFP4", {{"mxfp4", 1}}},
};

static const json_t *kernel_of(const json_t *kernels, const char *type) {
  size_t i;
  json_t *row;
  json_array_foreach((json_t *)kernels, i, row) if (g_str_equal(choir_json_string(row, "type", ""), type)) return row;
  return NULL;
}

static double number(const json_t *object, const char *key) {
  return json_number_value(json_object_get(object, key));
}

/* The rate of a format, or the slowest one when it was not measured. */
static double rate_of(const json_t *kernels, const char *type, const char *key) {
  const json_t *row = kernel_of(kernels, type);
  if (row)
    return number(row, key);
  double slowest = G_MAXDOUBLE;
  size_t i;
  json_t *other;
  json_array_foreach((json_t *)kernels, i, other) slowest = MIN(slowest, number(other, key));
  return slowest;
}

json_t *choir_bench_node_expect(const json_t *kernels, const json_t *types, double gb_s) {
  double decode_s = 0, prefill_s = 0, bytes = 0;
  const char *type;
  json_t *need;
  json_object_foreach((json_t *)types, type, need) {
    bytes += number(need, "bytes");
    decode_s += number(need, "bytes") / 1e9 / rate_of(kernels, type, "decode_gb_s");
    prefill_s += number(need, "prefill_mac") / 1e9 / rate_of(kernels, type, "prefill_gmac_s");
  }
  return json_pack("{s:f,s:f,s:f,s:f}", "decode_t_s", decode_s > 0 ? 1 / decode_s : 0.0, "prefill_t_s",
                   prefill_s > 0 ? 1 / prefill_s : 0.0, "bound_t_s", bytes > 0 ? gb_s * 1e9 / bytes : 0.0, "gb",
                   bytes / 1e9);
}

json_t *choir_bench_node_guess(const json_t *kernels, const char *format, double bytes) {
  for (gsize i = 0; format && i < G_N_ELEMENTS(mixes); i++) {
    if (g_ascii_strcasecmp(mixes[i].format, format) != 0)
      continue;
    json_t *types = json_object();
    for (gsize j = 0; j < G_N_ELEMENTS(mixes[i].part) && mixes[i].part[j].type; j++) {
      const char *type = mixes[i].part[j].type;
      const json_t *kernel = kernel_of(kernels, type);
      const double share = mixes[i].part[j].share * bytes;
      json_object_set_new(types, type,
                          json_pack("{s:f,s:f}", "bytes", share, "prefill_mac",
                                    kernel ? share * 8 / number(kernel, "bits") : share * 8 / 4.5));
    }
    return types;
  }
  return NULL;
}

/* Beside choir, among the workers, or where the build leaves it. Caller frees; NULL when it is not there. */
static char *find_program(const char *programs) {
  g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
  g_autofree char *own = self ? g_path_get_dirname(self) : g_strdup(".");
  g_autofree char *built = g_build_filename(own, "src", "cli", NULL);
  const char *folders[] = {own, programs, built};
  for (gsize i = 0; i < G_N_ELEMENTS(folders); i++) {
    g_autofree char *path = g_build_filename(folders[i], PROGRAM, NULL);
    if (g_file_test(path, G_FILE_TEST_IS_EXECUTABLE))
      return g_steal_pointer(&path);
  }
  return NULL;
}

static json_t *measure(const ChoirPaths *paths, const ChoirModels *models, GError **error) {
  g_autofree char *program = find_program(paths->programs);
  if (!program) {
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOENT,
                PROGRAM " is missing beside choir; run ./run --setup-only to build it");
    return NULL;
  }
  g_autofree char *bin = g_build_filename(option_engine ? option_engine : paths->engine, "bin", NULL);
  g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
  const char *const head[] = {program, "--engine", bin};
  for (gsize i = 0; i < G_N_ELEMENTS(head); i++)
    g_ptr_array_add(argv, g_strdup(head[i]));
  g_ptr_array_add(argv, g_strdup_printf("--seconds=%.3f", option_seconds));
  if (option_threads)
    g_ptr_array_add(argv, g_strdup_printf("--threads=%d", option_threads));
  if (option_decode_threads)
    g_ptr_array_add(argv, g_strdup_printf("--decode-threads=%d", option_decode_threads));
  for (guint i = 0; models && i < choir_models_count(models); i++)
    if (choir_models_get(models, i)->present)
      g_ptr_array_add(argv, g_strconcat("--model=", choir_models_get(models, i)->path, NULL));
  g_ptr_array_add(argv, NULL);
  g_autoptr(GSubprocessLauncher) launcher = g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDOUT_PIPE);
  /* The engine of the settings may be another than the one it was linked with. */
  g_subprocess_launcher_setenv(launcher, "LD_LIBRARY_PATH", bin, TRUE);
  g_autoptr(GSubprocess) child = g_subprocess_launcher_spawnv(launcher, (const char *const *)argv->pdata, error);
  g_autofree char *text = NULL;
  if (!child || !g_subprocess_communicate_utf8(child, NULL, NULL, &text, NULL, error))
    return NULL;
  if (!g_subprocess_get_successful(child)) {
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, PROGRAM " could not measure; its reason is above");
    return NULL;
  }
  return choir_json_parse(text, (gssize)strlen(text), error);
}

static void add_models(json_t *answer, const ChoirModels *models) {
  const json_t *kernels = json_object_get(answer, "kernels");
  json_auto_t *known = json_incref(json_object_get(answer, "models"));
  json_t *rows = json_array();
  for (guint i = 0; models && i < choir_models_count(models); i++) {
    const ChoirModel *model = choir_models_get(models, i);
    json_t *exact = model->present ? json_object_get(json_object_get(known, model->path), "types") : NULL;
    json_auto_t *types =
        exact ? json_incref(exact) : choir_bench_node_guess(kernels, model->format, (double)model->bytes);
    if (!types)
      continue;
    json_t *row = choir_bench_node_expect(kernels, types, number(answer, "gb_s"));
    json_object_set_new(row, "name", json_string(model->name));
    json_object_set_new(row, "format", json_string(model->format ? model->format : ""));
    json_object_set_new(row, "from", json_string(exact ? "file" : "size"));
    json_object_set_new(row, "fits", json_boolean(choir_models_fits(model)));
    json_array_append_new(rows, row);
  }
  json_object_set_new(answer, "models", rows);
}

static void print(const json_t *answer) {
  const json_t *cpu = json_object_get(answer, "cpu"), *variant = json_object_get(answer, "variant");
  const char *why = choir_json_string(variant, "why", "");
  printf("%s, class %s, %d processors, %d MB\n", choir_json_string(cpu, "model", ""),
         choir_json_string(cpu, "class", ""), (int)choir_json_int(cpu, "processors", 0),
         (int)choir_json_int(answer, "ram_mb", 0));
  printf("CPU variant %s%s%s\n\nmemory, reading:", choir_json_string(variant, "name", ""), *why ? ": " : "", why);
  size_t i;
  json_t *row;
  json_array_foreach(json_object_get(answer, "memory"), i, row)
      printf("%s %.1f GB/s with %d thread%s", i ? "," : "", number(row, "gb_s"), (int)choir_json_int(row, "threads", 0),
             choir_json_int(row, "threads", 0) == 1 ? "" : "s");
  printf("\n\n%-8s %6s %16s %16s %17s\n", "weights", "bits", "writing, GB/s", "writing, GMAC/s", "prompts, GMAC/s");
  json_array_foreach(json_object_get(answer, "kernels"), i, row)
      printf("%-8s %6.2f %16.1f %16.1f %17.1f\n", choir_json_string(row, "type", ""), number(row, "bits"),
             number(row, "decode_gb_s"), number(row, "decode_gmac_s"), number(row, "prefill_gmac_s"));
  printf("\n%-28s %-7s %6s %12s %12s %12s\n", "tokens a second", "format", "GB", "writing", "bound", "prompts");
  json_array_foreach(json_object_get(answer, "models"), i, row) printf(
      "%-28s %-7s %6.2f %12.1f %12.1f %12.1f%s%s\n", choir_json_string(row, "name", ""),
      choir_json_string(row, "format", ""), number(row, "gb"), number(row, "decode_t_s"), number(row, "bound_t_s"),
      number(row, "prefill_t_s"), g_str_equal(choir_json_string(row, "from", ""), "size") ? "  by size" : "",
      choir_json_bool(row, "fits", TRUE) ? "" : "  too large for this machine");
  printf("\nWriting with %d thread%s, prompts with %d.\n", (int)choir_json_int(answer, "decode_threads", 0),
         choir_json_int(answer, "decode_threads", 0) == 1 ? "" : "s", (int)choir_json_int(answer, "threads", 0));
}

int choir_bench_node_main(int argc, char **argv) {
  if (!choir_cli_parse(NAME, "", description, entries, &argc, &argv))
    return CHOIR_CLI_USAGE;
  if (argc > 1)
    return choir_cli_usage(NAME, "'%s' is not expected", argv[1]);
  if (option_threads < 0 || option_decode_threads < 0 || option_threads > 256 || option_decode_threads > 256)
    return choir_cli_usage(NAME, "threads must lie between 1 and 256");
  if (!(option_seconds >= 0.001 && option_seconds <= 60))
    return choir_cli_usage(NAME, "--seconds must lie between 0.001 and 60");
  g_autoptr(GError) error = NULL;
  g_auto(ChoirPaths) paths = {0};
  if (!choir_paths_load(&paths, &error))
    return choir_cli_fail(NAME, "%s", error->message);
  ChoirModels *models = choir_models_load(paths.list, paths.models, paths.state, NULL); /* without a list: no rows */
  json_auto_t *answer = measure(&paths, models, &error);
  if (answer) {
    g_autofree char *model = choir_cpu_model();
    json_object_set_new(answer, "cpu",
                        json_pack("{s:s,s:s,s:i}", "model", model, "class", choir_cpu_class(), "processors",
                                  (int)g_get_num_processors()));
    json_object_set_new(answer, "ram_mb", json_integer((json_int_t)choir_cpu_memory_mb()));
    /* One figure for those who place models: products a second of the format that most models come in. */
    json_object_set_new(answer, "gmac_s",
                        json_real(rate_of(json_object_get(answer, "kernels"), "q4_K", "prefill_gmac_s")));
    add_models(answer, models);
  }
  if (models)
    choir_models_free(models);
  if (!answer)
    return choir_cli_fail(NAME, "%s", error->message);
  if (option_json)
    choir_cli_print_json(answer);
  else
    print(answer);
  return CHOIR_CLI_OK;
}
