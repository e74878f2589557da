// usage: tensors write|forced|free MODEL.gguf FILE
// write:  a prompt and three decoded tokens; every operation's result goes to FILE. Run it with a stock variant.
// forced: the same again; each result is compared and then replaced by the written one, so that every operation starts
//         from stock inputs and its own error shows undiluted, against a bound per operation.
// free:   nothing is replaced; whole layers are compared.
// Both print the worst of every operation; exit 1 beyond a bound, or when an operation that must occur did not.
// The CPU variant is chosen by ggml's loader from the folder in CHOIR_ENGINE_DIR.
#include <llama.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WRITE, FORCED, FREE };

// Largest |a - b| over |b|, both as vectors, per operation. Products with quantised weights start from the same bytes,
// so only the order of float sums differs. Stock attention rounds queries and its running sum to f16, ours does not;
// so do stock products with an f16 cache.
static const struct {
  enum ggml_op op;
  double bound;
} bounds[] = {{GGML_OP_MUL_MAT, 4e-6}, {GGML_OP_FLASH_ATTN_EXT, 4e-3}};
static const double other_bound = 1e-6, f16_bound = 2e-3, layer_bound = 0.2;

typedef struct {
  int count;
  double worst, allowed;
  char name[GGML_MAX_NAME];
} summary;

static summary by_op[GGML_OP_COUNT], layers;
static int mode, failures;
static FILE *file;

static void fail(const char *what) {
  fprintf(stderr, "tensors: %s\n", what);
  exit(2);
}

static void quiet(enum ggml_log_level level, const char *text, void *data) {
  (void)data;
  if (level == GGML_LOG_LEVEL_ERROR)
    fputs(text, stderr);
}

static int wanted(const struct ggml_tensor *t) {
  switch (t->op) {
  case GGML_OP_NONE:
  case GGML_OP_VIEW:
  case GGML_OP_RESHAPE:
  case GGML_OP_PERMUTE:
  case GGML_OP_TRANSPOSE:
    return 0;
  default:
    return t->type == GGML_TYPE_F32 && ggml_is_contiguous(t) && ggml_nelements(t) > 0;
  }
}

static double bound_of(const struct ggml_tensor *t) {
  if (t->op == GGML_OP_MUL_MAT && (t->src[0]->type == GGML_TYPE_F16 || t->src[0]->type == GGML_TYPE_F32))
    return f16_bound;
  for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++)
    if (bounds[i].op == t->op)
      return bounds[i].bound;
  return other_bound;
}

static void note(summary *s, const char *name, double difference, double allowed) {
  s->count++;
  if (!(difference <= allowed)) {
    if (failures++ < 5)
      printf("%s: relative difference %.3g, allowed %.3g\n", name, difference, allowed);
  }
  if (!(difference <= s->worst)) {
    s->worst = difference;
    snprintf(s->name, sizeof s->name, "%s", name);
  }
  s->allowed = fmax(s->allowed, allowed);
}

static void compare(struct ggml_tensor *t, const float *mine) {
  const size_t n = (size_t)ggml_nelements(t);
  char name[GGML_MAX_NAME];
  uint64_t count;
  if (fread(name, sizeof name, 1, file) != 1 || fread(&count, sizeof count, 1, file) != 1 || count != n ||
      strcmp(name, t->name) != 0)
    fail("the two processes computed different graphs");
  float *stock = malloc(n * sizeof(float));
  if (fread(stock, sizeof(float), n, file) != n)
    fail("the file is too short");
  double difference = 0, size = 0;
  for (size_t i = 0; i < n; i++) {
    difference += ((double)mine[i] - (double)stock[i]) * ((double)mine[i] - (double)stock[i]);
    size += (double)stock[i] * (double)stock[i];
  }
  const double relative = difference == 0 ? 0 : sqrt(difference / size);
  if (mode == FORCED) {
    note(&by_op[t->op], t->name, relative, bound_of(t));
    ggml_backend_tensor_set(t, stock, 0, n * sizeof(float));
  } else if (strncmp(t->name, "l_out", 5) == 0 || strncmp(t->name, "result_output", 13) == 0) {
    note(&layers, t->name, relative, layer_bound);
  }
  free(stock);
}

static bool see(struct ggml_tensor *t, bool ask, void *data) {
  (void)data;
  if (ask)
    return wanted(t);
  const size_t n = (size_t)ggml_nelements(t);
  const uint64_t count = n;
  float *mine = malloc(n * sizeof(float));
  ggml_backend_tensor_get(t, mine, 0, n * sizeof(float));
  if (mode != WRITE) {
    compare(t, mine);
  } else if (fwrite(t->name, sizeof t->name, 1, file) != 1 || fwrite(&count, sizeof count, 1, file) != 1 ||
             fwrite(mine, sizeof(float), n, file) != n) {
    fail("cannot write the file");
  }
  free(mine);
  return true;
}

static void run(struct llama_model *model) {
  static const char text[] =
      "The old computer in the corner of the room woke up, looked around and said: good morning, "
      "what shall we do today? Then it waited for an answer.";
  struct llama_context_params cp = llama_context_default_params();
  cp.n_ctx = 256;
  cp.n_threads = cp.n_threads_batch = 1;
  cp.cb_eval = see;
  cp.flash_attn_type =
      getenv("CHOIR_TEST_PLAIN_ATTENTION") ? LLAMA_FLASH_ATTN_TYPE_DISABLED : LLAMA_FLASH_ATTN_TYPE_ENABLED;
  struct llama_context *ctx = llama_init_from_model(model, cp);
  llama_token tokens[64];
  const int n = llama_tokenize(llama_model_get_vocab(model), text, (int)strlen(text), tokens, 64, 1, 0);
  if (!ctx || n < 20 || llama_decode(ctx, llama_batch_get_one(tokens, n)) != 0)
    fail("cannot evaluate the prompt");
  for (int i = 0; i < 3; i++) // any tokens do: the prompt's first ones again
    if (llama_decode(ctx, llama_batch_get_one(tokens + i, 1)) != 0)
      fail("cannot decode");
  llama_free(ctx);
}

static int report(void) {
  for (int op = 0; op < GGML_OP_COUNT; op++)
    if (by_op[op].count)
      printf("%-15s %4d results, worst %.2g (%s), allowed %.2g\n", ggml_op_name((enum ggml_op)op), by_op[op].count,
             by_op[op].worst, by_op[op].name, by_op[op].allowed);
  if (layers.count)
    printf("%-15s %4d results, worst %.2g (%s), allowed %.2g\n", "whole layers", layers.count, layers.worst,
           layers.name, layers.allowed);
  if (mode == FORCED && by_op[GGML_OP_MUL_MAT].count < 100)
    fail("too few products were seen");
  if (mode == FREE && layers.count < 20)
    fail("too few layers were seen");
  if (failures)
    printf("%d results beyond their bounds\n", failures);
  return failures ? 1 : 0;
}

int main(int argc, char **argv) {
  static const char *const modes[] = {"write", "forced", "free"};
  if (argc != 4 || !getenv("CHOIR_ENGINE_DIR"))
    fail("usage: tensors write|forced|free MODEL.gguf FILE, with CHOIR_ENGINE_DIR set");
  while (mode < 3 && strcmp(modes[mode], argv[1]) != 0)
    mode++;
  file = mode < 3 ? fopen(argv[3], mode == WRITE ? "wb" : "rb") : NULL;
  if (!file)
    fail("unknown mode, or the file cannot be opened");
  alarm(900);
  llama_log_set(quiet, NULL);
  ggml_backend_load_all_from_path(getenv("CHOIR_ENGINE_DIR"));
  struct llama_model *model = llama_model_load_from_file(argv[2], llama_model_default_params());
  if (!model)
    fail("cannot load the model");
  run(model);
  if (fclose(file) != 0)
    fail("cannot write the file");
  llama_model_free(model);
  return mode == WRITE ? 0 : report();
}
