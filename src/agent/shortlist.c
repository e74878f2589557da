/* Cosine of vectors of words and pairs of words, weighted by rarity (BM25's idf); the best examples of an action count:
 * a nearest-neighbour search over utterances. Words are cut to their stem by a few endings, so that "timers" is
 * "timer"; every number is the same word, and so is every path or address. */
#include "agent/shortlist.h"
#include <math.h>
#include <string.h>
#include "agent/meaning.h"
#include "agent/numbers.h"

#define HELP_WEIGHT 0.7    /* of an action's description beside its examples */
#define PAIR_WEIGHT 0.5    /* of two words in a row beside one */
#define SECOND_WEIGHT 0.25 /* of an action's second nearest example beside its nearest */
#define COVER_WEIGHT 0.35  /* of the words that any example or text of an action knows, beside its nearest example */
#define MEANING_WEIGHT 0.4 /* of the meaning beside the words; chosen on the tuning half, as all of these */
#define MEANING_HELP 0.8   /* of the meaning of a description beside that of an example */
#define MAX_WORD 64

typedef struct {
  GHashTable *words; /* stem -> weight as double in a pointer-sized slot */
  double length, weight;
  guint action;              /* index of its owner */
  const ChoirToolShot *shot; /* NULL: without arguments */
} Document;

typedef struct {
  const ChoirTool *tool;
  const ChoirToolAction *action;
} Owner;

struct ChoirShortlist {
  const ChoirToolbox *toolbox;
  GArray *owners;        /* Owner */
  GPtrArray *documents;  /* Document */
  GHashTable *counts;    /* stem -> number of documents */
  ChoirCallTools *tools; /* NULL until asked for */
  GPtrArray *texts;      /* of the documents, in their order */
  ChoirMeaning *meaning;
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

/* What stands for a word: its stem, "#" for numbers, "/" for what holds a path's or an address's marks inside. */
static char *feature(const char *word) {
  gint64 number;
  gsize length = strlen(word);
  if (choir_number_read(word, &number))
    return g_strdup("#");
  if (length > 2 &&
      (strchr(word, '/') || strchr(word, '@') || (strchr(word, '.') && strchr(word, '.') < word + length - 1)))
    return g_strdup("/");
  return stem(word);
}

static GHashTable *words_of(const char *text) {
  GHashTable *words = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  g_autofree char *lower = g_utf8_strdown(text, -1);
  g_auto(GStrv) raw = g_strsplit_set(lower, " \t\r\n,;:!?\"()-_", -1);
  g_autofree char *before = g_strdup("^");
  for (guint i = 0; raw[i]; i++) {
    gsize length = strlen(raw[i]);
    while (length > 0 && strchr(".'", raw[i][length - 1]))
      raw[i][--length] = '\0';
    if (length == 0 || length > MAX_WORD)
      continue;
    char *word = feature(raw[i]);
    g_hash_table_add(words, g_strconcat(before, " ", word, NULL));
    g_free(before);
    before = g_strdup(word);
    g_hash_table_add(words, word);
  }
  return words;
}

static double idf(const ChoirShortlist *shortlist, const char *word) {
  double n = shortlist->documents->len, have = GPOINTER_TO_UINT(g_hash_table_lookup(shortlist->counts, word));
  return log(1 + (n - have + 0.5) / (have + 0.5)) * (strchr(word, ' ') ? PAIR_WEIGHT : 1);
}

static void add(ChoirShortlist *shortlist, guint action, const char *text, double weight, const ChoirToolShot *shot) {
  Document *document = g_new0(Document, 1);
  GHashTableIter iter;
  gpointer word;
  document->words = words_of(text);
  document->weight = weight;
  document->action = action;
  document->shot = shot;
  g_ptr_array_add(shortlist->documents, document);
  g_ptr_array_add(shortlist->texts, g_strdup(text));
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
  shortlist->texts = g_ptr_array_new_with_free_func(g_free);
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
      add(shortlist, index, about, HELP_WEIGHT, NULL);
      for (guint e = 0; action->examples && action->examples[e]; e++)
        add(shortlist, index, action->examples[e], 1, NULL);
      for (guint e = 0; action->shots && action->shots[e].said; e++)
        add(shortlist, index, action->shots[e].said, 1, &action->shots[e]);
    }
  }
  for (guint i = 0; i < shortlist->documents->len; i++) {
    Document *document = shortlist->documents->pdata[i];
    document->length = length_of(shortlist, document->words);
  }
  const ChoirToolHouse *house = choir_toolbox_house(toolbox);
  g_autofree char *path = house->state_dir ? g_build_filename(house->state_dir, "tools.meaning", NULL) : NULL;
  shortlist->meaning =
      choir_meaning_new(&house->agent, path, (const char *const *)shortlist->texts->pdata, shortlist->texts->len);
  return shortlist;
}

void choir_shortlist_free(ChoirShortlist *shortlist) {
  if (!shortlist)
    return;
  choir_meaning_free(shortlist->meaning);
  g_ptr_array_unref(shortlist->texts);
  g_array_unref(shortlist->owners);
  g_ptr_array_unref(shortlist->documents);
  g_hash_table_unref(shortlist->counts);
  choir_call_tools_unref(shortlist->tools);
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

/* For each action: how much of what was said its texts know, by weight, words that it often has more. */
static void cover(const ChoirShortlist *shortlist, GHashTable *said, double *ret_cover) {
  GHashTableIter iter;
  gpointer word;
  double all = 0;
  g_autofree guint *has = g_new0(guint, MAX(1, shortlist->owners->len));
  g_hash_table_iter_init(&iter, said);
  while (g_hash_table_iter_next(&iter, &word, NULL)) {
    double weight = idf(shortlist, word);
    all += weight;
    memset(has, 0, shortlist->owners->len * sizeof *has);
    guint total = 0;
    for (guint i = 0; i < shortlist->documents->len; i++) {
      const Document *document = shortlist->documents->pdata[i];
      if (g_hash_table_contains(document->words, word)) {
        has[document->action]++;
        total++;
      }
    }
    for (guint i = 0; total > 0 && i < shortlist->owners->len; i++)
      ret_cover[i] += weight * sqrt((double)has[i] / total);
  }
  for (guint i = 0; all > 0 && i < shortlist->owners->len; i++)
    ret_cover[i] /= all;
}

/* The likeness of meaning of each action's two nearest texts, as of words; FALSE: the meaning of text is not known. */
static gboolean mean(const ChoirShortlist *shortlist, const char *text, double *ret_near) {
  g_autofree double *likeness = g_new0(double, MAX(1, shortlist->documents->len)),
                    *second = g_new0(double, MAX(1, shortlist->owners->len));
  if (!choir_meaning_likeness(shortlist->meaning, text, likeness))
    return FALSE;
  for (guint i = 0; i < shortlist->documents->len; i++) {
    const Document *document = shortlist->documents->pdata[i];
    guint owner = document->action;
    double like = likeness[i] * (document->weight < 1 ? MEANING_HELP : 1);
    second[owner] = MAX(second[owner], MIN(like, ret_near[owner]));
    ret_near[owner] = MAX(ret_near[owner], like);
  }
  for (guint i = 0; i < shortlist->owners->len; i++)
    ret_near[i] =
        ret_near[i] * (1 - SECOND_WEIGHT) + (second[i] > 0 ? second[i] : ret_near[i] * MEANING_HELP) * SECOND_WEIGHT;
  return TRUE;
}

gboolean choir_shortlist_knows(const ChoirShortlist *shortlist, const char *text) {
  return choir_meaning_likeness(shortlist->meaning, text, NULL);
}

void choir_shortlist_learn(ChoirShortlist *shortlist, guint after_ms) {
  choir_meaning_learn(shortlist->meaning, after_ms);
}

guint choir_shortlist_prepare(ChoirShortlist *shortlist, const char *text, void (*done)(gpointer user), gpointer user) {
  return choir_meaning_prepare(shortlist->meaning, text, done, user);
}

void choir_shortlist_forget(ChoirShortlist *shortlist, guint id) {
  choir_meaning_forget(shortlist->meaning, id);
}

guint choir_shortlist_find(const ChoirShortlist *shortlist, const char *text, ChoirShortlistEntry *ret_entries,
                           guint most) {
  g_autoptr(GHashTable) said = words_of(text);
  g_autofree double *best = g_new0(double, MAX(1, shortlist->owners->len)),
                    *covered = g_new0(double, MAX(1, shortlist->owners->len)),
                    *second = g_new0(double, MAX(1, shortlist->owners->len)),
                    *meant = g_new0(double, MAX(1, shortlist->owners->len));
  gboolean known = mean(shortlist, text, meant);
  g_autoptr(GArray) found = g_array_new(FALSE, FALSE, sizeof(ChoirShortlistEntry));
  double length = length_of(shortlist, said);
  cover(shortlist, said, covered);
  for (guint i = 0; i < shortlist->documents->len; i++) {
    const Document *document = shortlist->documents->pdata[i];
    double like = likeness(shortlist, said, length, document);
    second[document->action] = MAX(second[document->action], MIN(like, best[document->action]));
    best[document->action] = MAX(best[document->action], like);
  }
  for (guint i = 0; i < shortlist->owners->len; i++) {
    const Owner *owner = &g_array_index(shortlist->owners, Owner, i);
    double near = best[i] * (1 - SECOND_WEIGHT) + second[i] * SECOND_WEIGHT;
    double score = near * (1 - COVER_WEIGHT) + covered[i] * COVER_WEIGHT;
    double words = MIN(MAX(score, best[i] > 0.95 ? best[i] : 0), 1);
    double both = known ? words * (1 - MEANING_WEIGHT) + meant[i] * MEANING_WEIGHT : words;
    ChoirShortlistEntry entry = {owner->action, owner->tool, both, words, i};
    if (owner->action->like)
      entry.score = entry.words = owner->action->like(choir_toolbox_house(shortlist->toolbox), text);
    if ((best[i] > 0 || owner->action->like) && choir_toolbox_available(shortlist->toolbox, owner->tool, NULL, NULL))
      g_array_append_val(found, entry);
  }
  g_array_sort(found, by_score);
  guint n = MIN(found->len, most);
  for (guint i = 0; i < n; i++)
    ret_entries[i] = g_array_index(found, ChoirShortlistEntry, i);
  return n;
}

ChoirCallTools *choir_shortlist_tools(ChoirShortlist *shortlist, GError **error) {
  json_auto_t *list = json_array();
  for (guint i = 0; i < shortlist->owners->len && !shortlist->tools; i++) {
    const Owner *owner = &g_array_index(shortlist->owners, Owner, i);
    g_autofree char *name = g_strdup_printf("%s.%s", owner->tool->id, owner->action->name);
    json_array_append_new(
        list, json_pack("{s:s,s:s,s:s}", "type", "function", "name", name, "description", owner->action->help));
  }
  if (!shortlist->tools)
    shortlist->tools = choir_call_tools_new(list, NULL, error);
  return shortlist->tools;
}

guint choir_shortlist_shots(const ChoirShortlist *shortlist, const ChoirToolAction *action, const char *text,
                            const ChoirToolShot **ret_shots, guint most) {
  g_autoptr(GHashTable) said = words_of(text);
  g_autofree double *scores = g_new0(double, MAX(1, most));
  double length = length_of(shortlist, said);
  guint n = 0;
  for (guint i = 0; i < shortlist->documents->len && most > 0; i++) {
    const Document *document = shortlist->documents->pdata[i];
    if (!document->shot || g_array_index(shortlist->owners, Owner, document->action).action != action)
      continue;
    double score = likeness(shortlist, said, length, document);
    guint at = n < most ? n++ : n;
    for (; at > 0 && scores[at - 1] < score; at--)
      if (at < most) {
        scores[at] = scores[at - 1];
        ret_shots[at] = ret_shots[at - 1];
      }
    if (at < most) {
      scores[at] = score;
      ret_shots[at] = document->shot;
    }
  }
  return n;
}
