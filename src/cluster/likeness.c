#include "cluster/likeness.h"
#include <math.h>
#include <string.h>

#define EVERYBODY 0.05  /* share of the others' examples in what a class is taken to say */
#define PAIR_WEIGHT 0.6 /* of two words in a row beside one */
#define SHARPNESS 0.8
#define MAX_WORD 40
#define MAX_WORDS 400

typedef struct {
  guint16 counts[CHOIR_LIKENESS_CLASSES]; /* examples of each class that have it */
} Feature;

struct ChoirLikeness {
  GHashTable *features; /* char* -> Feature */
  guint examples[CHOIR_LIKENESS_CLASSES], classes;
};

ChoirLikeness *choir_likeness_new(void) {
  ChoirLikeness *likeness = g_new0(ChoirLikeness, 1);
  likeness->features = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
  return likeness;
}

void choir_likeness_free(ChoirLikeness *likeness) {
  if (!likeness)
    return;
  g_hash_table_unref(likeness->features);
  g_free(likeness);
}

guint choir_likeness_classes(const ChoirLikeness *likeness) {
  return likeness->classes;
}

/* "stories" and "story", "names" and "name": rough, but the same on both sides. */
static char *stem(const char *word) {
  static const char *const endings[] = {"ing", "ies", "ed", "es", "s", "y", "e"};
  gsize length = strlen(word);
  for (gsize i = 0; i < G_N_ELEMENTS(endings); i++) {
    gsize n = strlen(endings[i]);
    if (length >= n + 3 && g_str_equal(word + length - n, endings[i]))
      return g_strndup(word, length - n);
  }
  return g_strdup(word);
}

/* Each feature once. */
static GHashTable *features_of(const char *text) {
  GHashTable *set = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  g_autofree char *lower = g_utf8_strdown(text, -1);
  g_auto(GStrv) words = g_strsplit_set(lower, " \t\r\n,;:.!?\"'()[]{}<>/|-_*=+", -1);
  g_autofree char *before = g_strdup("^");
  guint n = 0;
  for (char **word = words; *word && n < MAX_WORDS; word++) {
    if (!**word || strlen(*word) > MAX_WORD)
      continue;
    n++;
    char *cut = g_ascii_isdigit(**word) ? g_strdup("#") : stem(*word);
    g_hash_table_add(set, g_strconcat(before, " ", cut, NULL));
    g_free(before);
    before = g_strdup(cut);
    g_hash_table_add(set, cut);
  }
  return set;
}

void choir_likeness_add(ChoirLikeness *likeness, guint class, const char *example) {
  GHashTableIter iter;
  gpointer word;
  g_return_if_fail(class < G_N_ELEMENTS(likeness->examples));
  g_autoptr(GHashTable) set = features_of(example);
  likeness->classes = MAX(likeness->classes, class + 1);
  likeness->examples[class]++;
  g_hash_table_iter_init(&iter, set);
  while (g_hash_table_iter_next(&iter, &word, NULL)) {
    Feature *feature = g_hash_table_lookup(likeness->features, word);
    if (!feature) {
      feature = g_new0(Feature, 1);
      g_hash_table_insert(likeness->features, g_strdup(word), feature);
    }
    feature->counts[class]++;
  }
}

/* Log of how often each class has it: of its own examples and, a little, of everybody's, so that neither a word that a
 * class never had nor the number of its examples decides alone (Jelinek and Mercer's smoothing). */
static void weigh(const ChoirLikeness *likeness, const Feature *feature, double *ret_logs) {
  double everybody = 0;
  for (guint i = 0; i < likeness->classes; i++)
    if (likeness->examples[i] > 0)
      everybody += (double)feature->counts[i] / likeness->examples[i] / likeness->classes;
  for (guint i = 0; i < likeness->classes; i++) {
    double own = likeness->examples[i] > 0 ? (double)feature->counts[i] / likeness->examples[i] : 0;
    ret_logs[i] = log((1 - EVERYBODY) * own + EVERYBODY * everybody);
  }
}

double choir_likeness_ask(const ChoirLikeness *likeness, const char *text, double *ret_shares) {
  GHashTableIter iter;
  gpointer word;
  double sums[CHOIR_LIKENESS_CLASSES] = {0}, logs[CHOIR_LIKENESS_CLASSES], known = 0, all = 0, most = -G_MAXDOUBLE,
         together = 0;
  g_autoptr(GHashTable) set = features_of(text);
  memset(ret_shares, 0, likeness->classes * sizeof *ret_shares);
  g_hash_table_iter_init(&iter, set);
  while (g_hash_table_iter_next(&iter, &word, NULL)) {
    gboolean pair = strchr(word, ' ') != NULL;
    const Feature *feature = g_hash_table_lookup(likeness->features, word);
    all += pair ? 0 : 1;
    if (!feature)
      continue;
    known += pair ? 0 : 1;
    double weight = pair ? PAIR_WEIGHT : 1;
    weigh(likeness, feature, logs);
    for (guint i = 0; i < likeness->classes; i++)
      sums[i] += weight * logs[i];
  }
  if (known == 0)
    return 0;
  for (guint i = 0; i < likeness->classes; i++)
    most = MAX(most, sums[i]);
  for (guint i = 0; i < likeness->classes; i++)
    together += ret_shares[i] = exp(SHARPNESS * (sums[i] - most));
  for (guint i = 0; i < likeness->classes; i++)
    ret_shares[i] /= together;
  return known / all;
}
