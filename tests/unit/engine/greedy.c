// usage: greedy write|compare MODEL.gguf FILE PROMPTS TOKENS
// write:   decodes each prompt greedily and writes tokens and logits of every step.
// compare: feeds the same tokens and compares its own logits: the likeliest token must be the same unless the two best
//          lay within EPSILON in the written run. Prints the figures; exit 1 on a disagreement.
// The CPU variant is chosen by ggml's loader from the folder in CHOIR_ENGINE_DIR. Run `write` with a stock variant.
#include <llama.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Two stock variants (x64 and haswell) differ by up to this much at single tokens.
#define EPSILON 0.5

static const char *const prompts[] = {"The capital of France is",
                                      "Water boils at",
                                      "Once upon a time there was a small robot who",
                                      "def fibonacci(n):\n",
                                      "The opposite of hot is",
                                      "My favourite season is autumn because",
                                      "In 1969 people first",
                                      "A recipe for bread needs flour, water,",
                                      "Two plus three equals",
                                      "Dear Sir or Madam, I am writing to",
                                      "The old computer in the corner",
                                      "To open the door you",
                                      "Rain is falling and the streets",
                                      "SELECT name FROM users WHERE",
                                      "The three primary colours are",
                                      "She looked at the clock and",
                                      "An apple a day",
                                      "The king told his daughter that",
                                      "If the light does not turn on,",
                                      "Photosynthesis is the process by which"};

static struct llama_context *ctx;
static const struct llama_vocab *vocab;
static int n_vocab;

static void quiet(enum ggml_log_level level, const char *text, void *data) {
  (void)data;
  if (level == GGML_LOG_LEVEL_ERROR)
    fputs(text, stderr);
}

static const float *decode(llama_token *tokens, int n) {
  if (llama_decode(ctx, llama_batch_get_one(tokens, n)) != 0)
    exit(3);
  return llama_get_logits_ith(ctx, -1);
}

static int best(const float *l, float *ret_gap) {
  int first = 0;
  float second = -INFINITY;
  for (int i = 1; i < n_vocab; i++)
    if (l[i] > l[first]) {
      second = l[first];
      first = i;
    } else if (l[i] > second) {
      second = l[i];
    }
  *ret_gap = l[first] - second;
  return first;
}

static double divergence(const float *p, const float *q) {
  double top_p = p[0], top_q = q[0], sum_p = 0, sum_q = 0, kl = 0;
  for (int i = 1; i < n_vocab; i++) {
    top_p = fmax(top_p, (double)p[i]);
    top_q = fmax(top_q, (double)q[i]);
  }
  for (int i = 0; i < n_vocab; i++) {
    sum_p += exp((double)p[i] - top_p);
    sum_q += exp((double)q[i] - top_q);
  }
  for (int i = 0; i < n_vocab; i++) {
    const double a = (double)p[i] - top_p - log(sum_p), b = (double)q[i] - top_q - log(sum_q);
    kl += exp(a) * (a - b);
  }
  return kl;
}

static void fail(const char *what) {
  fprintf(stderr, "greedy: %s\n", what);
  exit(2);
}

int main(int argc, char **argv) {
  if (argc != 6 || !getenv("CHOIR_ENGINE_DIR"))
    fail("usage: greedy write|compare MODEL.gguf FILE PROMPTS TOKENS, with CHOIR_ENGINE_DIR set");
  alarm(1800);
  const int writing = strcmp(argv[1], "write") == 0, count = atoi(argv[4]), steps = atoi(argv[5]);
  FILE *f = fopen(argv[3], writing ? "wb" : "rb");
  if (!f)
    fail("cannot open the file");
  llama_log_set(quiet, NULL);
  ggml_backend_load_all_from_path(getenv("CHOIR_ENGINE_DIR"));
  struct llama_model *model = llama_model_load_from_file(argv[2], llama_model_default_params());
  if (!model)
    fail("cannot load the model");
  struct llama_context_params cp = llama_context_default_params();
  cp.n_ctx = 512;
  cp.n_threads = cp.n_threads_batch = 1;
  ctx = llama_init_from_model(model, cp);
  vocab = llama_model_get_vocab(model);
  n_vocab = llama_vocab_n_tokens(vocab);
  float *want = malloc(sizeof(float) * (size_t)n_vocab);
  int total = 0, same = 0, excused = 0;
  double kl = 0, worst = 0;
  for (int p = 0; p < count && p < (int)(sizeof prompts / sizeof *prompts); p++) {
    llama_token tokens[64];
    const int n = llama_tokenize(vocab, prompts[p], (int)strlen(prompts[p]), tokens, 64, 1, 0);
    llama_memory_clear(llama_get_memory(ctx), 1);
    const float *logits = decode(tokens, n);
    for (int i = 0; i < steps; i++, total++) {
      float gap;
      llama_token mine = best(logits, &gap), next = mine;
      if (writing) {
        fwrite(&mine, sizeof mine, 1, f);
        fwrite(logits, sizeof(float), (size_t)n_vocab, f);
      } else {
        if (fread(&next, sizeof next, 1, f) != 1 || fread(want, sizeof(float), (size_t)n_vocab, f) != (size_t)n_vocab)
          fail("the file is too short");
        best(want, &gap);
        const double d = divergence(want, logits);
        kl += d;
        worst = fmax(worst, d);
        same += mine == next;
        excused += mine != next && (double)gap < EPSILON;
        if (mine != next)
          printf("prompt %d step %d: %d instead of %d, their gap was %.3f\n", p, i, mine, next, (double)gap);
      }
      logits = decode(&next, 1);
    }
  }
  fclose(f);
  if (!writing)
    printf("%d steps, %d with the same token, %d excused; KL mean %.2g, largest %.2g\n", total, same, excused,
           kl / total, worst);
  free(want);
  llama_free(ctx);
  llama_model_free(model);
  return writing || same + excused == total ? 0 : 1;
}
