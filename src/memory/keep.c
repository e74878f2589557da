/* What is worth keeping, and what belongs to a sentence: by nearest neighbours among labelled sentences. */
#include <string.h>
#include "base/text.h"
#include "memory/memory.h"

#define N CHOIR_FACTS_DIMENSIONS
#define NEIGHBOURS 7
#define STATEMENT_MIN 8
#define STATEMENT_MAX 300
/* Of a cosine of MiniLM. Related questions and facts reach 0.45 and more; unrelated ones stay below 0.25. */
#define NEAR 0.42
#define NEAR_WITH_WORDS 0.25

char **choir_keep_sentences(const char *text) {
  GPtrArray *list = g_ptr_array_new();
  const char *begin = text;
  for (const char *p = text;; p++) {
    gboolean mark = *p == '.' || *p == '!' || *p == '?';
    gboolean last = *p == '\0' || *p == '\n' || (mark && (p[1] == ' ' || p[1] == '\0' || p[1] == '\n'));
    if (!last)
      continue;
    const char *end = mark ? p + 1 : p;
    char *sentence = g_strstrip(g_strndup(begin, (gsize)(end - begin)));
    if (*sentence)
      g_ptr_array_add(list, sentence);
    else
      g_free(sentence);
    if (*p == '\0')
      break;
    begin = p + 1;
  }
  g_ptr_array_add(list, NULL);
  return (char **)g_ptr_array_free(list, FALSE);
}

static gsize skip(const char *lower, const char *const *phrases) {
  for (; *phrases; phrases++) {
    gsize n = strlen(*phrases);
    if (strncmp(lower, *phrases, n) == 0 && !g_ascii_isalnum(lower[n]) && lower[n] != '\'')
      return n + strspn(lower + n, " ,:-");
  }
  return 0;
}

/* "Please remember that X": the person's own order, so its form is fixed and no guess is made. */
gboolean choir_keep_explicit(const char *sentence, char **ret_fact) {
  static const char *const polite[] = {"please", "hey choir", "choir",     "okay",     "ok", "so",
                                       "and",    "can you",   "could you", "will you", NULL};
  static const char *const orders[] = {
      "remember", "keep in mind", "don't forget", "do not forget", "make a note", "note", NULL};
  static const char *const joints[] = {"that", "this", "for later", "for me", NULL};
  static const char *const no_facts[] = {"to", "when", "me", "how", "what", "the time when", "if", "us", NULL};
  g_autofree char *lower = g_ascii_strdown(sentence, -1);
  gsize at = 0, step;
  while ((step = skip(lower + at, polite)) > 0)
    at += step;
  gsize order = skip(lower + at, orders);
  if (order == 0)
    return FALSE;
  at += order;
  while ((step = skip(lower + at, joints)) > 0)
    at += step;
  if (skip(lower + at, no_facts) > 0 || strlen(lower + at) < 4)
    return FALSE;
  char *fact = g_strdup(sentence + at);
  gsize length = strlen(fact);
  while (length > 0 && strchr(" .!?", fact[length - 1]))
    fact[--length] = '\0';
  fact[0] = g_ascii_toupper(fact[0]);
  *ret_fact = fact;
  return TRUE;
}

/* From the person's side to the agent's. "You" may be subject or object, so a fact about the agent stays as it is. */
static const char *turned(const char *word) {
  static const char *const pairs[][2] = {{"i", "you"},       {"me", "you"},          {"my", "your"},
                                         {"mine", "yours"},  {"myself", "yourself"}, {"i'm", "you're"},
                                         {"i've", "you've"}, {"i'll", "you'll"},     {"i'd", "you'd"},
                                         {"am", "are"},      {"our", "your"}};
  for (guint i = 0; i < G_N_ELEMENTS(pairs); i++)
    if (g_ascii_strcasecmp(word, pairs[i][0]) == 0)
      return pairs[i][1];
  return word;
}

static gboolean is_about_agent(char **words) {
  for (; *words; words++)
    if (g_ascii_strncasecmp(*words, "you", 3) == 0)
      return TRUE;
  return FALSE;
}

char *choir_keep_acknowledge(const char *text) {
  g_auto(GStrv) sentences = choir_keep_sentences(text);
  g_autoptr(GString) all = g_string_new(NULL);
  for (guint i = 0; sentences[i]; i++) {
    g_autofree char *fact = NULL;
    if (!choir_keep_explicit(sentences[i], &fact))
      return NULL;
    g_auto(GStrv) words = g_strsplit(fact, " ", -1);
    gboolean as_it_is = is_about_agent(words);
    gsize begin = all->len;
    for (guint k = 0; words[k]; k++)
      g_string_append_printf(all, "%s%s", k > 0 ? " " : "", as_it_is ? words[k] : turned(words[k]));
    all->str[begin] = g_ascii_toupper(all->str[begin]);
    g_string_append(all, ". ");
  }
  if (!sentences[0])
    return NULL;
  g_string_append(all, "I will remember that.");
  return g_string_free(g_steal_pointer(&all), FALSE);
}

gboolean choir_keep_statement(const char *sentence) {
  gsize length = strlen(sentence);
  return length >= STATEMENT_MIN && length <= STATEMENT_MAX && sentence[length - 1] != '?';
}

static double cosine(const float *a, const float *b) {
  double sum = 0;
  for (int i = 0; i < N; i++)
    sum += (double)a[i] * (double)b[i];
  return sum;
}

double choir_keep_score(const float *vector, const float *examples) {
  double best[NEIGHBOURS];
  gboolean keeps[NEIGHBOURS];
  guint n, n_keep, found = 0;
  (void)choir_keep_examples(&n, &n_keep);
  for (guint i = 0; i < n; i++) {
    double near = cosine(vector, examples + (gsize)i * N);
    guint at = found < NEIGHBOURS ? found++ : NEIGHBOURS;
    if (at == NEIGHBOURS && near <= best[NEIGHBOURS - 1])
      continue;
    at = MIN(at, NEIGHBOURS - 1);
    for (; at > 0 && best[at - 1] < near; at--) {
      best[at] = best[at - 1];
      keeps[at] = keeps[at - 1];
    }
    best[at] = near;
    keeps[at] = i < n_keep;
  }
  /* Far neighbours say little: squares. */
  double score = 0;
  for (guint i = 0; i < found; i++)
    score += (keeps[i] ? 1 : -1) * MAX(best[i], 0) * MAX(best[i], 0);
  return score;
}

gboolean choir_keep_relevant(const json_t *found) {
  double near = choir_json_double(found, "similarity", -2);
  gint64 words = choir_json_int(found, "words", 0);
  if (near <= -2)
    return words > 0; /* no embedding to ask */
  return near >= NEAR || (words > 0 && near >= NEAR_WITH_WORDS);
}
