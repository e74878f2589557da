/* usage: llama MODEL.gguf, with CHOIR_ENGINE_DIR set. Reads "prefill N" or "decode N" from standard input, does it on
 * one thread and answers "done". The CPU variant is the choice of ggml's loader. Cache and attention are what choir
 * serve asks for where the processor cannot convert f16 (src/llm/server_command.c). */
#include <llama.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void quiet(enum ggml_log_level level, const char *text, void *data) {
  (void)data;
  if (level == GGML_LOG_LEVEL_ERROR)
    fputs(text, stderr);
}

int main(int argc, char **argv) {
  if (argc != 2 || !getenv("CHOIR_ENGINE_DIR")) {
    fprintf(stderr, "usage: llama MODEL.gguf, with CHOIR_ENGINE_DIR set\n");
    return 2;
  }
  alarm(1800);
  llama_log_set(quiet, NULL);
  ggml_backend_load_all_from_path(getenv("CHOIR_ENGINE_DIR"));
  struct llama_model *model = llama_model_load_from_file(argv[1], llama_model_default_params());
  struct llama_context_params params = llama_context_default_params();
  params.n_ctx = 512;
  params.n_threads = params.n_threads_batch = 1;
  params.type_k = params.type_v = GGML_TYPE_Q8_0;
  params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
  struct llama_context *context = model ? llama_init_from_model(model, params) : NULL;
  if (!context) {
    fprintf(stderr, "llama: cannot load %s\n", argv[1]);
    return 1;
  }
  char what[16];
  int n;
  while (scanf("%15s %d", what, &n) == 2) {
    llama_token tokens[256];
    int prefill = strcmp(what, "prefill") == 0;
    for (int i = 0; i < n && i < 256; i++)
      tokens[i] = 1000 + 37 * i % 4096;
    if (prefill)
      llama_memory_clear(llama_get_memory(context), 1);
    for (int at = 0; at < n; at += prefill ? n : 1)
      if (n > 256 || llama_decode(context, llama_batch_get_one(tokens + at, prefill ? n : 1)) != 0)
        return 1;
    printf("done\n");
    fflush(stdout);
  }
  llama_free(context);
  llama_model_free(model);
  return 0;
}
