#include "agent/meaning.h"
#include <string.h>
#include "base/log.h"
#include "base/names.h"

#define BATCH 4 /* texts of the list in one request: what somebody says meanwhile waits for no more */
#define REST 3  /* times as long as a request took, until the next: the list has time, who speaks has not */
#define SOON_MS 5000
#define KNOWN 4     /* texts whose embedding is remembered: a turn asks a few times for its own */
#define WAIT_MS 400 /* a server that must be started first is not waited for */
#define FAILURES 3  /* then there are no embeddings here */
#define MAGIC "choir-meaning-1\n"

typedef struct {
  char *text;
  float *vector; /* NULL: asked for, not here yet */
} Known;

typedef struct {
  guint id;
  char *text;
  void (*done)(gpointer user);
  gpointer user;
  guint timer;
} Waiter;

struct ChoirMeaning {
  guint refs; /* requests in flight keep it */
  gboolean dead;
  ChoirToolAgent agent;
  char *path, *hash;
  GPtrArray *texts; /* NULL-ended */
  guint n, have, dimensions;
  float *vectors; /* `have` rows of unit length */
  gboolean learning;
  gint64 asked_at;
  guint failures;
  Known known[KNOWN];
  guint next;
  GPtrArray *waiters; /* Waiter */
  guint last_id, soon;
};

static ChoirMeaning *ref(ChoirMeaning *meaning) {
  meaning->refs++;
  return meaning;
}

static void unref(ChoirMeaning *meaning) {
  if (--meaning->refs > 0)
    return;
  for (guint i = 0; i < KNOWN; i++) {
    g_free(meaning->known[i].text);
    g_free(meaning->known[i].vector);
  }
  g_ptr_array_unref(meaning->texts);
  g_ptr_array_unref(meaning->waiters);
  g_free(meaning->vectors);
  g_free(meaning->path);
  g_free(meaning->hash);
  g_free(meaning);
}

/* --- the file: magic, hash of the texts, dimensions, rows */

static void load(ChoirMeaning *meaning) {
  g_autofree char *bytes = NULL;
  gsize length = 0, head = strlen(MAGIC) + 64 + sizeof(guint32);
  guint32 dimensions;
  if (!meaning->path || !g_file_get_contents(meaning->path, &bytes, &length, NULL) || length < head ||
      memcmp(bytes, MAGIC, strlen(MAGIC)) != 0 || memcmp(bytes + strlen(MAGIC), meaning->hash, 64) != 0)
    return;
  memcpy(&dimensions, bytes + strlen(MAGIC) + 64, sizeof dimensions);
  if (dimensions == 0 || dimensions > 4096 || length != head + (gsize)meaning->n * dimensions * sizeof(float))
    return;
  meaning->dimensions = dimensions;
  meaning->have = meaning->n;
  meaning->vectors = g_memdup2(bytes + head, length - head);
}

static void save(const ChoirMeaning *meaning) {
  g_autoptr(GByteArray) bytes = g_byte_array_new();
  g_autoptr(GError) error = NULL;
  guint32 dimensions = meaning->dimensions;
  if (!meaning->path)
    return;
  g_byte_array_append(bytes, (const guint8 *)MAGIC, strlen(MAGIC));
  g_byte_array_append(bytes, (const guint8 *)meaning->hash, 64);
  g_byte_array_append(bytes, (const guint8 *)&dimensions, sizeof dimensions);
  g_byte_array_append(bytes, (const guint8 *)meaning->vectors, meaning->n * meaning->dimensions * (guint)sizeof(float));
  if (!g_file_set_contents(meaning->path, (const char *)bytes->data, bytes->len, &error))
    choir_warning(CHOIR_TOPIC_AGENT, "the embeddings of the tools are not kept: %s", error->message);
}

/* --- the list */

static void on_learned(const float *vectors, guint n, guint dimensions, const GError *error, gpointer user) {
  ChoirMeaning *meaning = user;
  meaning->learning = FALSE;
  if (!meaning->dead && (error || (meaning->have > 0 && dimensions != meaning->dimensions))) {
    meaning->failures++;
    choir_debug(CHOIR_TOPIC_AGENT, "tools are chosen by words alone: %s", error ? error->message : "another model");
  } else if (!meaning->dead) {
    meaning->dimensions = dimensions;
    meaning->vectors = g_realloc_n(meaning->vectors, (gsize)meaning->n * dimensions, sizeof(float));
    memcpy(meaning->vectors + (gsize)meaning->have * dimensions, vectors, (gsize)n * dimensions * sizeof(float));
    meaning->have += n;
    if (meaning->have == meaning->n)
      save(meaning);
    else
      choir_meaning_learn(meaning, (guint)((g_get_monotonic_time() - meaning->asked_at) * REST / 1000));
  }
  unref(meaning);
}

static void learn(ChoirMeaning *meaning) {
  guint n = MIN(BATCH, meaning->n - meaning->have);
  if (meaning->learning || n == 0 || meaning->failures >= FAILURES)
    return;
  meaning->learning = TRUE;
  meaning->asked_at = g_get_monotonic_time();
  meaning->agent.embed(meaning->agent.self, (const char *const *)meaning->texts->pdata + meaning->have, n, on_learned,
                       ref(meaning));
}

static gboolean on_soon(gpointer user) {
  ChoirMeaning *meaning = user;
  meaning->soon = 0;
  learn(meaning);
  return G_SOURCE_REMOVE;
}

void choir_meaning_learn(ChoirMeaning *meaning, guint after_ms) {
  if (meaning->agent.embed && meaning->have < meaning->n && meaning->soon == 0 && !meaning->learning)
    meaning->soon = g_timeout_add(after_ms, on_soon, meaning);
}

/* --- what was said */

static guint find(const ChoirMeaning *meaning, const char *text) { /* KNOWN: nowhere */
  guint i = 0;
  while (i < KNOWN && g_strcmp0(meaning->known[i].text, text) != 0)
    i++;
  return i;
}

static void remember(ChoirMeaning *meaning, const char *text, float *vector /* taken */) {
  guint at = find(meaning, text);
  if (at == KNOWN)
    at = meaning->next++ % KNOWN;
  Known *known = &meaning->known[at];
  char *copy = g_strdup(text);
  g_free(known->text);
  g_free(known->vector);
  *known = (Known){copy, vector};
}

static void waiter_free(gpointer data) {
  Waiter *waiter = data;
  g_clear_handle_id(&waiter->timer, g_source_remove);
  g_free(waiter->text);
  g_free(waiter);
}

static void tell(ChoirMeaning *meaning, Waiter *waiter) {
  void (*done)(gpointer user) = waiter->done;
  gpointer user = waiter->user;
  g_ptr_array_remove(meaning->waiters, waiter);
  done(user);
}

static gboolean tell_next(ChoirMeaning *meaning, const char *text) {
  for (guint i = 0; i < meaning->waiters->len; i++) {
    Waiter *waiter = meaning->waiters->pdata[i];
    if (!text || strcmp(waiter->text, text) == 0) {
      tell(meaning, waiter);
      return TRUE;
    }
  }
  return FALSE;
}

typedef struct {
  ChoirMeaning *meaning;
  char *text;
} Question;

static void on_embedded(const float *vectors, guint n, guint dimensions, const GError *error, gpointer user) {
  Question *question = user;
  ChoirMeaning *meaning = question->meaning;
  if (error)
    meaning->failures++;
  if (!meaning->dead && !error && n == 1 && dimensions == meaning->dimensions)
    remember(meaning, question->text, g_memdup2(vectors, dimensions * sizeof(float)));
  while (!meaning->dead && tell_next(meaning, question->text))
    ;
  unref(meaning);
  g_free(question->text);
  g_free(question);
}

typedef struct {
  ChoirMeaning *meaning;
  guint id;
} Patience;

static gboolean on_late(gpointer user) {
  const Patience *patience = user;
  ChoirMeaning *meaning = patience->meaning;
  for (guint i = 0; i < meaning->waiters->len; i++) {
    Waiter *waiter = meaning->waiters->pdata[i];
    if (waiter->id == patience->id) {
      waiter->timer = 0;
      tell(meaning, waiter);
      break;
    }
  }
  return G_SOURCE_REMOVE;
}

guint choir_meaning_prepare(ChoirMeaning *meaning, const char *text, void (*done)(gpointer user), gpointer user) {
  if (!meaning->agent.embed || meaning->failures >= FAILURES || find(meaning, text) < KNOWN)
    return 0;
  if (meaning->have < meaning->n) { /* for the next time */
    choir_meaning_learn(meaning, SOON_MS);
    return 0;
  }
  remember(meaning, text, NULL); /* asked for once, whatever becomes of it */
  Waiter *waiter = g_new0(Waiter, 1);
  Patience *patience = g_new0(Patience, 1);
  Question *question = g_new0(Question, 1);
  guint id = ++meaning->last_id;
  *waiter = (Waiter){.id = id, .text = g_strdup(text), .done = done, .user = user};
  *patience = (Patience){meaning, id};
  waiter->timer = g_timeout_add_full(G_PRIORITY_DEFAULT, WAIT_MS, on_late, patience, g_free);
  g_ptr_array_add(meaning->waiters, waiter);
  *question = (Question){ref(meaning), g_strdup(text)};
  meaning->agent.embed(meaning->agent.self, &text, 1, on_embedded, question);
  return id;
}

void choir_meaning_forget(ChoirMeaning *meaning, guint id) {
  for (guint i = 0; i < meaning->waiters->len; i++)
    if (((Waiter *)meaning->waiters->pdata[i])->id == id) {
      g_ptr_array_remove_index(meaning->waiters, i);
      return;
    }
}

gboolean choir_meaning_likeness(const ChoirMeaning *meaning, const char *text, double *ret_likeness) {
  guint at = meaning->have == meaning->n && meaning->n > 0 ? find(meaning, text) : KNOWN;
  const float *vector = at < KNOWN ? meaning->known[at].vector : NULL;
  for (guint i = 0; vector && ret_likeness && i < meaning->n; i++) {
    const float *row = meaning->vectors + (gsize)i * meaning->dimensions;
    double sum = 0;
    for (guint k = 0; k < meaning->dimensions; k++)
      sum += (double)row[k] * vector[k];
    ret_likeness[i] = sum;
  }
  return vector != NULL;
}

ChoirMeaning *choir_meaning_new(const ChoirToolAgent *agent, const char *path, const char *const *texts, guint n) {
  ChoirMeaning *meaning = g_new0(ChoirMeaning, 1);
  g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
  meaning->refs = 1;
  meaning->agent = *agent;
  meaning->path = g_strdup(path);
  meaning->n = n;
  meaning->texts = g_ptr_array_new_with_free_func(g_free);
  meaning->waiters = g_ptr_array_new_with_free_func(waiter_free);
  for (guint i = 0; i < n; i++) {
    g_ptr_array_add(meaning->texts, g_strdup(texts[i]));
    g_checksum_update(sum, (const guchar *)texts[i], (gssize)strlen(texts[i]) + 1);
  }
  meaning->hash = g_strdup(g_checksum_get_string(sum));
  load(meaning);
  return meaning;
}

void choir_meaning_free(ChoirMeaning *meaning) {
  if (!meaning)
    return;
  while (tell_next(meaning, NULL))
    ;
  g_clear_handle_id(&meaning->soon, g_source_remove);
  meaning->dead = TRUE;
  unref(meaning);
}
