/* The memory by itself, with the real embedding model.
 *   measure frozen FILE      recall@5 of words, vectors and both on the frozen questions; fails below 0.9 for both
 *   measure dialogues FILE   what is kept of whole dialogues (precision, recall), then found by paraphrase after a
 * restart measure size N           time of a query and memory at N facts (vectors at random) Environment:
 * CHOIR_INDEX_MODULE, CHOIR_ENGINE, CHOIR_MODELS. Exit code 77: the model is not here. */
#include <glib/gstdio.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include "base/text.h"
#include "llm/embedder.h"
#include "memory/facts_private.h"
#include "memory/memory.h"

#define N CHOIR_FACTS_DIMENSIONS

static ChoirEmbedder *embedder;
static const char *module;
static char *folder;

typedef struct {
  float *vectors;
  gboolean done;
} Wait;

static void on_vectors(const float *vectors, guint n, guint dimensions, const GError *error, gpointer user) {
  Wait *wait = user;
  if (error)
    g_error("%s", error->message);
  wait->vectors = g_memdup2(vectors, (gsize)n * dimensions * sizeof(float));
  wait->done = TRUE;
}

static float *embed(const char *const *texts, guint n) {
  Wait wait = {0};
  choir_llm_embedder_embed(embedder, texts, n, on_vectors, &wait);
  while (!wait.done)
    g_main_context_iteration(NULL, TRUE);
  return wait.vectors;
}

static float *embed_one(const char *text) {
  const char *texts[] = {text};
  return embed(texts, 1);
}

static json_t *load(const char *path) {
  g_autofree char *text = NULL;
  gsize length;
  g_autoptr(GError) error = NULL;
  json_t *root = g_file_get_contents(path, &text, &length, &error) ? choir_json_parse(text, length, &error) : NULL;
  if (!root)
    g_error("%s", error->message);
  return root;
}

static ChoirFacts *open_facts(void) {
  g_autoptr(GError) error = NULL;
  ChoirFacts *facts = choir_facts_open(folder, module, &error);
  if (!facts)
    g_error("%s", error->message);
  return facts;
}

static gboolean among(const json_t *found, const char *text, guint k) {
  for (gsize i = 0; i < MIN(k, json_array_size(found)); i++)
    if (g_str_equal(choir_json_string(json_array_get(found, i), "text", ""), text))
      return TRUE;
  return FALSE;
}

/* By vectors alone: the list of the index. */
static gboolean by_vectors(ChoirFacts *facts, const float *vector, const char *text) {
  gint64 ids[5];
  float scores[5];
  guint n = choir_index_search(choir_facts_index(facts), vector, 5, ids, scores, NULL);
  json_auto_t *all = choir_facts_list(facts, 0, FALSE, NULL);
  for (gsize i = 0; i < json_array_size(all); i++)
    for (guint k = 0; k < n; k++)
      if (choir_json_int(json_array_get(all, i), "id", 0) == ids[k] &&
          g_str_equal(choir_json_string(json_array_get(all, i), "text", ""), text))
        return TRUE;
  return FALSE;
}

static guint relevant(const json_t *found, const char *wanted, gboolean *ret_hit) {
  guint n = 0;
  *ret_hit = FALSE;
  for (gsize i = 0; i < MIN(3, json_array_size(found)); i++)
    if (choir_keep_relevant(json_array_get(found, i))) {
      n++;
      *ret_hit |= wanted && g_str_equal(choir_json_string(json_array_get(found, i), "text", ""), wanted);
    }
  return n;
}

static int frozen(const char *path) {
  json_auto_t *root = load(path);
  json_t *texts = json_object_get(root, "facts"), *questions = json_object_get(root, "questions");
  json_t *unrelated = json_object_get(root, "unrelated");
  ChoirFacts *facts = open_facts();
  guint both = 0, words = 0, vectors = 0, given = 0, given_right = 0, false_alarms = 0;
  gboolean hit;
  for (gsize i = 0; i < json_array_size(texts); i++) {
    const char *text = json_string_value(json_array_get(texts, i));
    g_autofree float *vector = embed_one(text);
    choir_facts_add(facts, &(ChoirFactNew){.text = text, .source = "bench"}, vector, NULL, NULL);
  }
  guint n = (guint)json_array_size(questions);
  for (guint i = 0; i < n; i++) {
    const json_t *question = json_array_get(questions, i);
    const char *asked = json_string_value(json_array_get(question, 0));
    const char *text = json_string_value(json_array_get(texts, (gsize)json_integer_value(json_array_get(question, 1))));
    g_autofree float *vector = embed_one(asked);
    json_auto_t *fused = choir_facts_search(facts, asked, vector, 5, NULL);
    json_auto_t *plain = choir_facts_search(facts, asked, NULL, 5, NULL);
    gboolean found = among(fused, text, 5);
    both += found;
    words += among(plain, text, 5);
    vectors += by_vectors(facts, vector, text);
    given += relevant(fused, text, &hit);
    given_right += hit;
    if (!found)
      printf("# not among the first five: %s\n", asked);
    if (!hit)
      printf("# not given to the model: %s\n", asked);
  }
  for (gsize i = 0; i < json_array_size(unrelated); i++) {
    const char *asked = json_string_value(json_array_get(unrelated, i));
    g_autofree float *vector = embed_one(asked);
    json_auto_t *fused = choir_facts_search(facts, asked, vector, 5, NULL);
    false_alarms += relevant(fused, NULL, &hit) > 0;
  }
  choir_facts_close(facts);
  printf("%u facts, %u questions\nrecall@5 words alone %.3f, vectors alone %.3f, both %.3f\n"
         "given to the model: the right fact for %.3f of the questions, %.2f facts a question; "
         "something for %u of %zu unrelated messages\n",
         (guint)json_array_size(texts), n, (double)words / n, (double)vectors / n, (double)both / n,
         (double)given_right / n, (double)given / n, false_alarms, json_array_size(unrelated));
  return (double)both / n >= 0.9 && (double)given_right / n >= 0.8 ? 0 : 1;
}

static float *examples(void) {
  guint n, keep;
  const char *const *texts = choir_keep_examples(&n, &keep);
  float *all = g_new(float, (gsize)n *N);
  for (guint i = 0; i < n; i += 16) {
    guint part = MIN(16, n - i);
    g_autofree float *vectors = embed(texts + i, part);
    memcpy(all + (gsize)i * N, vectors, (gsize)part * N * sizeof(float));
  }
  return all;
}

typedef struct {
  guint kept, wanted, right, explicit_kept;
} Count;

static void hear(ChoirFacts *facts, const char *turn, const json_t *keep, const float *labelled, Count *count) {
  g_auto(GStrv) sentences = choir_keep_sentences(turn);
  for (char **sentence = sentences; *sentence; sentence++) {
    g_autofree char *fact = NULL;
    gboolean order = choir_keep_explicit(*sentence, &fact);
    g_autofree float *vector = order || choir_keep_statement(*sentence) ? embed_one(order ? fact : *sentence) : NULL;
    if (!order && !(vector && choir_keep_score(vector, labelled) > 0)) {
      if (json_array_size(keep) > 0 && g_str_equal(json_string_value(json_array_get(keep, 0)), turn))
        printf("# missed: %s\n", turn);
      continue;
    }
    gboolean right = json_array_size(keep) > 0 && g_str_equal(json_string_value(json_array_get(keep, 0)), turn);
    count->kept++;
    count->right += right;
    count->explicit_kept += order;
    if (!right)
      printf("# kept, though nothing is in it: %s\n", *sentence);
    choir_facts_add(facts, &(ChoirFactNew){.text = order ? fact : *sentence, .source = "bench"}, vector, NULL, NULL);
  }
}

static gboolean answers(ChoirFacts *facts, const json_t *dialogue) {
  const char *asked = choir_json_string(dialogue, "ask", "");
  g_autofree float *vector = embed_one(asked);
  json_auto_t *found = choir_facts_search(facts, asked, vector, 6, NULL);
  for (gsize i = 0; i < MIN(3, json_array_size(found)); i++) {
    g_autofree char *lower = g_utf8_strdown(choir_json_string(json_array_get(found, i), "text", ""), -1);
    if (choir_keep_relevant(json_array_get(found, i)) && strstr(lower, choir_json_string(dialogue, "answer", "?")))
      return TRUE;
  }
  printf("# not recalled: %s\n", asked);
  return FALSE;
}

static int dialogues(const char *path) {
  json_auto_t *list = load(path);
  g_autofree float *labelled = examples();
  ChoirFacts *facts = open_facts();
  Count count = {0};
  size_t i, k;
  json_t *dialogue, *turn;
  guint asked = 0, recalled = 0, empty = 0;
  json_array_foreach(list, i, dialogue) {
    const json_t *keep = json_object_get(dialogue, "keep");
    count.wanted += (guint)json_array_size(keep);
    empty += json_array_size(keep) == 0;
    json_array_foreach(json_object_get(dialogue, "turns"), k, turn)
        hear(facts, json_string_value(turn), keep, labelled, &count);
  }
  choir_facts_close(facts);
  facts = open_facts(); /* the restart */
  json_array_foreach(list, i, dialogue) if (json_object_get(dialogue, "ask")) {
    asked++;
    recalled += answers(facts, dialogue);
  }
  choir_facts_close(facts);
  printf("%zu dialogues, %u with nothing worth keeping\nkept %u (%u by order), of these right %u: precision %.3f, "
         "recall %.3f\n"
         "after a restart: given to the model for %u of %u paraphrased questions\n",
         json_array_size(list), empty, count.kept, count.explicit_kept, count.right, (double)count.right / count.kept,
         (double)count.right / count.wanted, recalled, asked);
  return 0;
}

static long rss_kb(void) {
  long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (!file || fscanf(file, "%*d %ld", &pages) != 1)
    pages = -1;
  if (file)
    fclose(file);
  return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static void at_random(GRand *random, float *ret_vector) {
  double sum = 0;
  for (int i = 0; i < N; i++) {
    ret_vector[i] = (float)g_rand_double_range(random, -1, 1);
    sum += (double)ret_vector[i] * (double)ret_vector[i];
  }
  for (int i = 0; i < N; i++)
    ret_vector[i] = (float)((double)ret_vector[i] / sqrt(sum));
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static int size(guint n) {
  static const char *const things[] = {"lamp",   "router", "garden", "printer", "boat",
                                       "engine", "novel",  "recipe", "ticket",  "meadow"};
  GRand *random = g_rand_new_with_seed(4711);
  ChoirFacts *facts = open_facts();
  long before = rss_kb();
  float vector[N];
  double times[200], work[200]; /* by the clock, and of the processor: on a busy machine they differ */
  /* One transaction: the writing is not what is measured. */
  choir_facts_run(facts, "BEGIN", NULL);
  for (guint i = 0; i < n; i++) {
    g_autoptr(ChoirStatement) row = choir_facts_prepare(facts,
                                                        "INSERT INTO facts(text, key, value, source, created_us, "
                                                        "tainted, embedding) VALUES(?1, '', '', 'bench', 1, 0, ?2)",
                                                        NULL);
    g_autoptr(ChoirStatement) words =
        choir_facts_prepare(facts, "INSERT INTO words(rowid, text) VALUES(last_insert_rowid(), ?1)", NULL);
    g_autofree char *text =
        g_strdup_printf("the %s number %u stands beside the %s", things[i % 10], i, things[i / 10 % 10]);
    at_random(random, vector);
    sqlite3_bind_text(row, 1, text, -1, SQLITE_STATIC);
    sqlite3_bind_blob(row, 2, vector, sizeof vector, SQLITE_STATIC);
    sqlite3_bind_text(words, 1, text, -1, SQLITE_STATIC);
    if (!choir_facts_step(facts, row, NULL) || !choir_facts_step(facts, words, NULL))
      g_error("the facts cannot be written");
  }
  choir_facts_run(facts, "COMMIT", NULL);
  gint64 begin = g_get_monotonic_time();
  if (!choir_facts_index(facts))
    g_error("%s", choir_facts_index_problem(facts));
  double made = (double)(g_get_monotonic_time() - begin) / 1000;
  struct rusage first, last;
  getrusage(RUSAGE_SELF, &first);
  for (guint i = 0; i < G_N_ELEMENTS(times); i++) {
    g_autofree char *query =
        g_strdup_printf("where is the %s %u", things[i % 10], (guint)g_rand_int_range(random, 0, (gint32)n));
    at_random(random, vector);
    begin = g_get_monotonic_time();
    clock_t spent = clock();
    json_auto_t *found = choir_facts_search(facts, query, vector, 5, NULL);
    times[i] = (double)(g_get_monotonic_time() - begin) / 1000;
    work[i] = (double)(clock() - spent) * 1000 / CLOCKS_PER_SEC;
    if (json_array_size(found) != 5)
      g_error("a query found nothing");
  }
  getrusage(RUSAGE_SELF, &last);
  qsort(times, G_N_ELEMENTS(times), sizeof(double), compare);
  qsort(work, G_N_ELEMENTS(work), sizeof(double), compare);
  printf("%u facts: index made from the database in %.0f ms; query median %.1f ms, 95 %% below %.1f ms (embedding not "
         "included), of the processor %.1f and %.1f ms\n"
         "memory of the process %ld kB before, %ld kB with them (vectors alone %zu kB)\n"
         "in %zu queries it waited %ld times for something, and %ld times because others had the processor\n",
         n, made, times[100], times[190], work[100], work[190], before, rss_kb(), (gsize)n * N * sizeof(float) / 1024,
         G_N_ELEMENTS(times), last.ru_nvcsw - first.ru_nvcsw, last.ru_nivcsw - first.ru_nivcsw);
  choir_facts_close(facts);
  g_rand_free(random);
  return 0;
}

int main(int argc, char **argv) {
  const char *what = argc == 3 ? argv[1] : "";
  g_autofree char *cache = g_build_filename(g_get_user_cache_dir(), "choir", NULL);
  g_autofree char *models = g_build_filename(g_getenv("CHOIR_MODELS") ? g_getenv("CHOIR_MODELS") : cache,
                                             g_getenv("CHOIR_MODELS") ? "" : "models", CHOIR_EMBEDDER_FILE, NULL);
  alarm(600);
  module = g_getenv("CHOIR_INDEX_MODULE");
  folder = g_dir_make_tmp("choir-memory-XXXXXX", NULL);
  ChoirHttpClient *http = choir_http_client_new();
  ChoirEmbedderOptions options = {.engine_dir = g_getenv("CHOIR_ENGINE"), .model_path = models, .state_dir = folder};
  embedder = choir_llm_embedder_new(&options, http);
  g_autofree char *missing = choir_llm_embedder_missing(embedder);
  int code = 2;
  if (missing && !g_str_equal(what, "size")) {
    printf("%s\n", missing);
    code = 77;
  } else if (g_str_equal(what, "frozen")) {
    code = frozen(argv[2]);
  } else if (g_str_equal(what, "dialogues")) {
    code = dialogues(argv[2]);
  } else if (g_str_equal(what, "size")) {
    code = size((guint)MAX(200, atoi(argv[2])));
  }
  choir_llm_embedder_free(embedder);
  choir_http_client_free(http);
  g_autofree char *clean = g_strdup_printf("rm -rf '%s'", folder);
  return system(clean) == 0 ? code : 1;
}
