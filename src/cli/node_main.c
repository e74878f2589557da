/* choir-node-bench: what one machine can do for language models. Prints one JSON object; `choir bench node` starts it
 * and does the sums per model. A program of its own so that only it links ggml. */
#include <stdio.h>
#include <string.h>
#include "cli/node_bench.h"

static char *option_engine;
static char **option_models;
static double option_seconds = 0.15;
static int option_threads, option_decode_threads;

static const GOptionEntry entries[] = {
    {"engine", 0, 0, G_OPTION_ARG_FILENAME, &option_engine, "folder of libggml-cpu-*.so", "DIR"},
    {"model", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &option_models, "a GGUF file whose needs are added; may be repeated",
     "FILE"},
    {"threads", 0, 0, G_OPTION_ARG_INT, &option_threads, "for prompts and memory (default: all processors)", "N"},
    {"decode-threads", 0, 0, G_OPTION_ARG_INT, &option_decode_threads, "for writing (default: one less)", "N"},
    {"seconds", 0, 0, G_OPTION_ARG_DOUBLE, &option_seconds, "of one timed round, of which there are three", "S"},
    G_OPTION_ENTRY_NULL,
};

static int fail(const char *text) {
  fprintf(stderr, "choir-node-bench: %s\n", text);
  return 1;
}

static gboolean measure_kernels(json_t *answer, guint threads, guint decode_threads, GError **error) {
#ifdef CHOIR_HAVE_GGML
  json_t *variant = node_load_backend(option_engine ? option_engine : ".", error);
  if (!variant)
    return FALSE;
  json_object_set_new(answer, "variant", variant);
  json_object_set_new(answer, "kernels", node_kernels(decode_threads, threads, option_seconds));
  json_t *models = json_object();
  json_object_set_new(answer, "models", models);
  for (char **path = option_models; path && *path; path++) {
    json_t *model = node_model(*path, error);
    if (!model)
      return FALSE;
    json_object_set_new(models, *path, model);
  }
  return TRUE;
#else
  g_set_error(error, g_quark_from_static_string("choir-node-bench-error"), 0,
              "it was built without an engine; run ./run --setup-only and build again");
  return FALSE;
#endif
}

int main(int argc, char **argv) {
  g_autoptr(GOptionContext) context = g_option_context_new("");
  g_autoptr(GError) error = NULL;
  g_option_context_add_main_entries(context, entries, NULL);
  g_option_context_set_summary(context, "Measures memory and the CPU kernels that ggml chooses, for choir bench node.");
  if (!g_option_context_parse(context, &argc, &argv, &error)) {
    fail(error->message);
    return 2;
  }
  if (!(option_seconds > 0 && option_seconds <= 60) || option_threads < 0 || option_decode_threads < 0) {
    fail("--seconds must lie between 0 and 60, and threads cannot be negative");
    return 2;
  }
  const guint threads = option_threads ? (guint)option_threads : g_get_num_processors();
  const guint decode_threads = option_decode_threads ? (guint)option_decode_threads : MAX(1, threads - 1);
  json_t *memory = node_memory(threads, option_seconds);
  json_auto_t *answer = json_pack("{s:o,s:f,s:i,s:i}", "memory", memory, "gb_s", node_memory_best(memory), "threads",
                                  (int)threads, "decode_threads", (int)decode_threads);
  if (!measure_kernels(answer, threads, decode_threads, &error))
    return fail(error->message);
  char *text = json_dumps(answer, JSON_COMPACT);
  printf("%s\n", text);
  free(text);
  return 0;
}
