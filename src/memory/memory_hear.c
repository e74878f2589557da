/* What the person says, and what of it is kept. The labelled sentences are embedded once and kept in a file. */
#include <string.h>
#include "base/log.h"
#include "base/names.h"
#include "memory/memory_private.h"

#define N CHOIR_FACTS_DIMENSIONS
#define BATCH 16
#define HEARD_MAX 64 /* sentences that wait for the examples' vectors */
#define SENTENCES_MAX 20

typedef struct {
  ChoirMemory *memory;
  char *text, *source, *turn_id;
} Sentence;

static void sentence_free(Sentence *sentence) {
  choir_memory_unref(sentence->memory);
  g_free(sentence->text);
  g_free(sentence->source);
  g_free(sentence->turn_id);
  g_free(sentence);
}

void choir_memory_heard_clear(ChoirMemory *memory) {
  for (Sentence *sentence; (sentence = g_queue_pop_head(&memory->heard));)
    sentence_free(sentence);
}

static void learn(const Sentence *sentence, const char *text, const float *vector) {
  ChoirMemoryJob *job = choir_memory_job(sentence->memory, CHOIR_JOB_ADD, text, NULL, NULL);
  job->source = g_strdup(sentence->source);
  job->turn_id = g_strdup(sentence->turn_id);
  job->learned = TRUE;
  if (vector) {
    job->vectors = g_memdup2(vector, N * sizeof(float));
    choir_memory_submit(job);
  } else {
    choir_memory_submit_embedded(job);
  }
}

/* Examples */

static char *examples_path(const ChoirMemory *memory) {
  guint n, keep;
  const char *const *texts = choir_keep_examples(&n, &keep);
  g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
  for (guint i = 0; i < n; i++)
    g_checksum_update(sum, (const guchar *)texts[i], (gssize)strlen(texts[i]) + 1);
  g_autofree char *name = g_strdup_printf("keep-%.16s.f32", g_checksum_get_string(sum));
  return g_build_filename(memory->folder, name, NULL);
}

static gboolean examples_there(ChoirMemory *memory) {
  guint n, keep;
  (void)choir_keep_examples(&n, &keep);
  if (!memory->examples_loaded) {
    g_autofree char *path = examples_path(memory);
    g_autofree char *data = NULL;
    gsize length = 0, wanted = (gsize)n * N * sizeof(float);
    memory->examples_loaded = TRUE;
    memory->examples = g_malloc0(wanted);
    if (g_file_get_contents(path, &data, &length, NULL) && length == wanted) {
      memcpy(memory->examples, data, wanted);
      memory->n_examples = n;
    }
  }
  return memory->n_examples == n;
}

static void judge(Sentence *sentence);

static void embed_examples(ChoirMemory *memory);

static void on_examples(const float *vectors, guint n, guint dimensions, const GError *error, gpointer user) {
  ChoirMemory *memory = user;
  guint all, keep;
  (void)choir_keep_examples(&all, &keep);
  if (!memory->closed && vectors && dimensions == N) {
    memcpy(memory->examples + (gsize)memory->n_examples * N, vectors, (gsize)n * N * sizeof(float));
    memory->n_examples += n;
    if (memory->n_examples < all) {
      embed_examples(memory);
    } else {
      g_autofree char *path = examples_path(memory);
      g_file_set_contents(path, (const char *)memory->examples, (gssize)((gsize)all * N * sizeof(float)), NULL);
      for (Sentence *sentence; (sentence = g_queue_pop_head(&memory->heard));)
        judge(sentence);
    }
  } else if (!memory->closed) {
    choir_debug(CHOIR_TOPIC_MEMORY, "nothing is learned by itself: %s", error ? error->message : "no embeddings");
    choir_memory_heard_clear(memory);
  }
  choir_memory_unref(memory);
}

static void embed_examples(ChoirMemory *memory) {
  guint n, keep;
  const char *const *texts = choir_keep_examples(&n, &keep);
  memory->refs++;
  memory->options.embed(memory->options.self, texts + memory->n_examples, MIN(BATCH, n - memory->n_examples),
                        on_examples, memory);
}

/* Sentences */

static void on_vector(const float *vectors, guint n, guint dimensions, const GError *error, gpointer user) {
  Sentence *sentence = user;
  if (!sentence->memory->closed && vectors && dimensions == N) {
    double score = choir_keep_score(vectors, sentence->memory->examples);
    choir_debug(CHOIR_TOPIC_MEMORY, "worth keeping %.2f: %s", score, sentence->text);
    if (score > 0)
      learn(sentence, sentence->text, vectors);
  }
  sentence_free(sentence);
}

static void judge(Sentence *sentence) {
  const char *texts[] = {sentence->text};
  sentence->memory->options.embed(sentence->memory->options.self, texts, 1, on_vector, sentence);
}

static void consider(ChoirMemory *memory, const char *text, const char *source, const char *turn_id) {
  Sentence *sentence = g_new0(Sentence, 1);
  g_autofree char *fact = NULL;
  memory->refs++;
  sentence->memory = memory;
  sentence->text = g_strdup(text);
  sentence->source = g_strdup(source);
  sentence->turn_id = g_strdup(turn_id);
  if (choir_keep_explicit(text, &fact)) {
    learn(sentence, fact, NULL);
  } else if (choir_keep_statement(text) && memory->heard.length < HEARD_MAX) {
    if (examples_there(memory)) {
      judge(sentence);
    } else {
      g_queue_push_tail(&memory->heard, sentence);
      if (memory->heard.length == 1)
        embed_examples(memory);
    }
    return;
  }
  sentence_free(sentence);
}

void choir_memory_hear(ChoirMemory *memory, const char *text, const char *source, const char *turn_id) {
  g_auto(GStrv) sentences = choir_keep_sentences(text);
  for (guint i = 0; sentences[i] && i < SENTENCES_MAX; i++)
    consider(memory, sentences[i], source, turn_id);
}
