// usage: greedy write|compare|batch MODEL.gguf FILE PROMPTS TOKENS
// write:   decodes each prompt greedily and writes every step's token and its likeliest candidates. Use a stock
// variant. compare: feeds the same tokens one by one and compares its own candidates: the likeliest token must be the
// same,
//          unless the two best lay within EPSILON in the written run.
// batch:   the same, but each prompt and all its tokens are evaluated at once, as prefill does.
// Prints the differing tokens and one line of figures; exit 1 when a token differs beyond EPSILON.
// The CPU variant is chosen by ggml's loader from the folder in CHOIR_ENGINE_DIR.
#include <llama.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Between two tokens whose probabilities lie within a factor of 1.7, rounding may decide.
#define EPSILON 0.5
enum { CANDIDATES = 512, MOST_TOKENS = 64 };

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

// One step of the written run. The divergence counts all other tokens as one: a lower bound of the true one.
typedef struct {
  llama_token token, id[CANDIDATES];
  float gap; // between the two best logits
  double log_sum;
  float logit[CANDIDATES];
} step;

static struct llama_context *ctx;
static const struct llama_vocab *vocab;
static int n_vocab;

static void quiet(enum ggml_log_level level, const char *text, void *data) {
  (void)data;
  if (level == GGML_LOG_LEVEL_ERROR)
    fputs(text, stderr);
}

static void fail(const char *what) {
  fprintf(stderr, "greedy: %s\n", what);
  exit(2);
}

static llama_token best(const float *l, float *ret_gap) {
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

static double log_sum(const float *l) {
  float gap;
  const double top = (double)l[best(l, &gap)];
  double sum = 0;
  for (int i = 0; i < n_vocab; i++)
    sum += exp((double)l[i] - top);
  return top + log(sum);
}

// The smallest kept logit is at the root.
static void sift(step *s, int i) {
  for (int child; (child = 2 * i + 1) < CANDIDATES; i = child) {
    if (child + 1 < CANDIDATES && s->logit[child + 1] < s->logit[child])
      child++;
    if (s->logit[i] <= s->logit[child])
      return;
    const float l = s->logit[i];
    const llama_token t = s->id[i];
    s->logit[i] = s->logit[child], s->id[i] = s->id[child];
    s->logit[child] = l, s->id[child] = t;
  }
}

static void record(const float *l, step *ret) {
  memset(ret, 0, sizeof *ret);
  ret->token = best(l, &ret->gap);
  ret->log_sum = log_sum(l);
  for (int i = 0; i < CANDIDATES; i++)
    ret->id[i] = i, ret->logit[i] = l[i];
  for (int i = CANDIDATES / 2; i >= 0; i--)
    sift(ret, i);
  for (int i = CANDIDATES; i < n_vocab; i++)
    if (l[i] > ret->logit[0]) {
      ret->id[0] = i, ret->logit[0] = l[i];
      sift(ret, 0);
    }
}

static double divergence(const step *s, const float *q) {
  const double sum = log_sum(q);
  double kl = 0, p_rest = 1, q_rest = 1;
  for (int i = 0; i < CANDIDATES; i++) {
    const double a = (double)s->logit[i] - s->log_sum, b = (double)q[s->id[i]] - sum;
    kl += exp(a) * (a - b);
    p_rest -= exp(a);
    q_rest -= exp(b);
  }
  if (p_rest > 1e-9 && q_rest > 1e-9)
    kl += p_rest * log(p_rest / q_rest);
  return isnan(kl) ? INFINITY : fmax(kl, 0);
}

static struct {
  int steps, same, beyond;
  double kl, worst, gap;
} total;

static void compare(int prompt, int i, const step *s, const float *logits) {
  float gap;
  const llama_token mine = best(logits, &gap);
  const double d = divergence(s, logits);
  total.steps++;
  total.kl += d;
  total.worst = fmax(total.worst, d);
  total.same += mine == s->token;
  if (mine == s->token)
    return;
  total.gap = fmax(total.gap, (double)s->gap);
  total.beyond += !((double)s->gap < EPSILON);
  printf("prompt %d step %d: %d instead of %d, their gap was %.3f\n", prompt, i, mine, s->token, (double)s->gap);
}

static void decode(llama_token *tokens, int n, int outputs) {
  struct llama_batch b = llama_batch_init(n, 0, 1);
  const int used = llama_memory_seq_pos_max(llama_get_memory(ctx), 0) + 1;
  for (int i = 0; i < n; i++) {
    b.token[i] = tokens[i];
    b.pos[i] = used + i;
    b.n_seq_id[i] = 1;
    b.seq_id[i][0] = 0;
    b.logits[i] = i >= n - outputs;
  }
  b.n_tokens = n;
  if (llama_decode(ctx, b) != 0)
    fail("cannot decode");
  llama_batch_free(b);
}

static void one_prompt(const char *mode, int p, FILE *f, int steps) {
  llama_token tokens[2 * MOST_TOKENS];
  step s[MOST_TOKENS];
  const int n = llama_tokenize(vocab, prompts[p], (int)strlen(prompts[p]), tokens, MOST_TOKENS, 1, 0);
  llama_memory_clear(llama_get_memory(ctx), 1);
  if (strcmp(mode, "write") != 0 && fread(s, sizeof *s, (size_t)steps, f) != (size_t)steps)
    fail("the file is too short");
  if (strcmp(mode, "batch") == 0) {
    for (int i = 0; i + 1 < steps; i++)
      tokens[n + i] = s[i].token;
    decode(tokens, n + steps - 1, steps);
    for (int i = 0; i < steps; i++)
      compare(p, i, &s[i], llama_get_logits_ith(ctx, n - 1 + i));
    return;
  }
  decode(tokens, n, 1);
  for (int i = 0; i < steps; i++) {
    const float *logits = llama_get_logits_ith(ctx, -1);
    if (strcmp(mode, "write") == 0) {
      record(logits, &s[i]);
      if (fwrite(&s[i], sizeof *s, 1, f) != 1)
        fail("cannot write the file");
    } else {
      compare(p, i, &s[i], logits);
    }
    if (i + 1 < steps)
      decode(&s[i].token, 1, 1);
  }
}

int main(int argc, char **argv) {
  if (argc != 6 || !getenv("CHOIR_ENGINE_DIR"))
    fail("usage: greedy write|compare|batch MODEL.gguf FILE PROMPTS TOKENS, with CHOIR_ENGINE_DIR set");
  alarm(3000);
  const char *mode = argv[1];
  const int writing = strcmp(mode, "write") == 0, count = atoi(argv[4]), steps = atoi(argv[5]);
  FILE *f = fopen(argv[3], writing ? "wb" : "rb");
  if (!f || steps < 1 || steps > MOST_TOKENS)
    fail("cannot open the file, or too many tokens");
  llama_log_set(quiet, NULL);
  ggml_backend_load_all_from_path(getenv("CHOIR_ENGINE_DIR"));
  struct llama_model *model = llama_model_load_from_file(argv[2], llama_model_default_params());
  if (!model)
    fail("cannot load the model");
  struct llama_context_params cp = llama_context_default_params();
  cp.n_ctx = 256;
  cp.n_threads = cp.n_threads_batch = getenv("CHOIR_TEST_THREADS") ? atoi(getenv("CHOIR_TEST_THREADS")) : 1;
  ctx = llama_init_from_model(model, cp);
  if (!ctx)
    fail("cannot make a context");
  vocab = llama_model_get_vocab(model);
  n_vocab = llama_vocab_n_tokens(vocab);
  for (int p = 0; p < count && p < (int)(sizeof prompts / sizeof *prompts); p++)
    one_prompt(mode, p, f, steps);
  if (fclose(f) != 0)
    fail("cannot write the file");
  if (!writing)
    printf("%d steps, %d same, %d beyond; largest gap %.3f; KL mean %.4g, largest %.4g\n", total.steps, total.same,
           total.beyond, total.gap, total.kl / total.steps, total.worst);
  llama_free(ctx);
  llama_model_free(model);
  return total.beyond ? 1 : 0;
}
