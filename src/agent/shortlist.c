/* Cosine of word vectors weighted by rarity (BM25's idf), the best example of an action counts: a nearest-neighbour
 * search over utterances. Words are cut to their stem by a few endings, so that "timers" is "timer". */
#include "agent/shortlist.h"
#include <math.h>
#include <string.h>

#define HELP_WEIGHT 0.7 /* of an action's description beside its examples */

typedef struct {
  GHashTable *words; /* stem -> weight as double in a pointer-sized slot */
  double length, weight;
  guint action; /* index of its owner */
} Document;

typedef struct {
  const ChoirTool *tool;
  const ChoirToolAction *action;
} Owner;

struct ChoirShortlist {
  const ChoirToolbox *toolbox;
  GArray *owners;       /* Owner */
  GPtrArray *documents; /* Document */
  GHashTable *counts;   /* stem -> number of documents */
};

static void document_free(gpointer data) {
  Document *document = data;
  g_hash_table_unref(document->words);
  g_free(document);
}

/* "timers" -> "timer", "running" -> "run", "files" -> "file". Rough, but the same for both sides. */
static char *stem(const char *word) {
  static const char *const endings[] = {"ing", "ed", "es", "s", "er"};
  gsize length = strlen(word);
  for (gsize i = 0; i < G_N_ELEMENTS(endings); i++) {
    gsize n = strlen(endings[i]);
    if (length >= n + 3 && g_str_equal(word + length - n, endings[i])) {
      char *cut = g_strndup(word, length - n);
      gsize left = length - n;
      if (left > 3 && cut[left - 1] == cut[left - 2])
        cut[left - 1] = '\0';
      return cut;
    }
  }
  return g_strdup(word);
}

static GHashTable *words_of(const char *text) {
  GHashTable *words = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  g_autofree char *lower = g_utf8_strdown(text, -1);
  g_autoptr(GString) word = g_string_new(NULL);
  for (const char *c = lower;; c++) {
    if (*c && (g_ascii_isalnum(*c) || (guchar)*c >= 0x80)) {
      g_string_append_c(word, *c);
      continue;
    }
    if (word->len > 0)
      g_hash_table_add(words, stem(word->str));
    g_string_truncate(word, 0);
    if (!*c)
      return words;
  }
}

static double idf(const ChoirShortlist *shortlist, const char *word) {
  double n = shortlist->documents->len, have = GPOINTER_TO_UINT(g_hash_table_lookup(shortlist->counts, word));
  return log(1 + (n - have + 0.5) / (have + 0.5));
}

static void add(ChoirShortlist *shortlist, guint action, const char *text, double weight) {
  Document *document = g_new0(Document, 1);
  GHashTableIter iter;
  gpointer word;
  document->words = words_of(text);
  document->weight = weight;
  document->action = action;
  g_ptr_array_add(shortlist->documents, document);
  g_hash_table_iter_init(&iter, document->words);
  while (g_hash_table_iter_next(&iter, &word, NULL)) {
    guint have = GPOINTER_TO_UINT(g_hash_table_lookup(shortlist->counts, word));
    g_hash_table_insert(shortlist->counts, g_strdup(word), GUINT_TO_POINTER(have + 1));
  }
}

static double length_of(const ChoirShortlist *shortlist, GHashTable *words) {
  GHashTableIter iter;
  gpointer word;
  double sum = 0;
  g_hash_table_iter_init(&iter, words);
  while (g_hash_table_iter_next(&iter, &word, NULL))
    sum += idf(shortlist, word) * idf(shortlist, word);
  return sqrt(sum);
}

ChoirShortlist *choir_shortlist_new(const ChoirToolbox *toolbox) {
  ChoirShortlist *shortlist = g_new0(ChoirShortlist, 1);
  shortlist->toolbox = toolbox;
  shortlist->owners = g_array_new(FALSE, FALSE, sizeof(Owner));
  shortlist->documents = g_ptr_array_new_with_free_func(document_free);
  shortlist->counts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  for (guint i = 0; i < choir_toolbox_count(toolbox); i++) {
    const ChoirTool *tool = choir_toolbox_tool(toolbox, i);
    for (guint k = 0; k < tool->n_actions; k++) {
      const ChoirToolAction *action = &tool->actions[k];
      Owner owner = {tool, action};
      g_array_append_val(shortlist->owners, owner);
      guint index = shortlist->owners->len - 1;
      g_autofree char *about = g_strdup_printf("%s %s %s", tool->title, action->name, action->help);
      add(shortlist, index, about, HELP_WEIGHT);
      for (guint e = 0; action->examples && action->examples[e]; e++)
        add(shortlist, index, action->examples[e], 1);
    }
  }
  for (guint i = 0; i < shortlist->documents->len; i++) {
    Document *document = shortlist->documents->pdata[i];
    document->length = length_of(shortlist, document->words);
  }
  return shortlist;
}

void choir_shortlist_free(ChoirShortlist *shortlist) {
  if (!shortlist)
    return;
  g_array_unref(shortlist->owners);
  g_ptr_array_unref(shortlist->documents);
  g_hash_table_unref(shortlist->counts);
  g_free(shortlist);
}

static double likeness(const ChoirShortlist *shortlist, GHashTable *said, double said_length,
                       const Document *document) {
  GHashTableIter iter;
  gpointer word;
  double sum = 0;
  g_hash_table_iter_init(&iter, said);
  while (g_hash_table_iter_next(&iter, &word, NULL))
    if (g_hash_table_contains(document->words, word))
      sum += idf(shortlist, word) * idf(shortlist, word);
  return said_length > 0 && document->length > 0 ? document->weight * sum / (said_length * document->length) : 0;
}

static gint by_score(gconstpointer a, gconstpointer b) {
  double x = ((const ChoirShortlistEntry *)a)->score, y = ((const ChoirShortlistEntry *)b)->score;
  return x > y ? -1 : x < y;
}

guint choir_shortlist_find(const ChoirShortlist *shortlist, const char *text, ChoirShortlistEntry *ret_entries,
                           guint most) {
  g_autoptr(GHashTable) said = words_of(text);
  g_autofree double *best = g_new0(double, MAX(1, shortlist->owners->len));
  g_autoptr(GArray) found = g_array_new(FALSE, FALSE, sizeof(ChoirShortlistEntry));
  double length = length_of(shortlist, said);
  for (guint i = 0; i < shortlist->documents->len; i++) {
    const Document *document = shortlist->documents->pdata[i];
    best[document->action] = MAX(best[document->action], likeness(shortlist, said, length, document));
  }
  for (guint i = 0; i < shortlist->owners->len; i++) {
    const Owner *owner = &g_array_index(shortlist->owners, Owner, i);
    ChoirShortlistEntry entry = {owner->action, owner->tool, MIN(best[i], 1)};
    if (best[i] > 0 && choir_toolbox_available(shortlist->toolbox, owner->tool, NULL, NULL))
      g_array_append_val(found, entry);
  }
  g_array_sort(found, by_score);
  guint n = MIN(found->len, most);
  for (guint i = 0; i < n; i++)
    ret_entries[i] = g_array_index(found, ChoirShortlistEntry, i);
  return n;
}
