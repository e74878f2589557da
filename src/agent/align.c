#include "agent/align.h"
#include <string.h>
#include "agent/numbers.h"
#include "base/text.h"

/* Chosen on the tuning half of tests/data/utterances, and rounded. */
#define LEFT 2.0         /* the word before is the same */
#define LEFT_SECOND 1.5  /* ... and the one before that */
#define RIGHT 1.0        /* the word behind is the same */
#define RIGHT_SECOND 0.5 /* ... and the one behind that */
#define AS_LONG 1.0      /* as many words */
#define LONGER (-0.3)    /* for each word more or less, up to four */
#define KIND_FIRST 1.0   /* the first word is of the same kind */
#define KIND_LAST 0.5
#define KINDS 1.0      /* all are */
#define NUMBERS 1.5    /* both or neither hold a number */
#define PAUSE (-2.0)   /* one of them goes across a comma or a colon */
#define SAME_FIRST 0.5 /* they begin with the same word */
#define SAME_LAST 0.5
#define SECOND_EXAMPLE 1.0 /* weight of the second nearest example */
#define WITHIN 0.8         /* what is so much worse than the best is left out */

typedef struct {
  char *word; /* lower case, without marks around it */
  char kind;  /* '#' a number, '/' a path or an address, 'w' */
  gboolean pause;
} Word;

static void word_clear(gpointer data) {
  g_free(((Word *)data)->word);
}

static char kind_of(const char *word) {
  gint64 number;
  const char *dot = strchr(word, '.');
  if (choir_number_read(word, &number))
    return '#';
  return strchr(word, '/') || strchr(word, '@') || (dot && dot[1]) ? '/' : 'w';
}

static GArray *words_of(const char *text) {
  GArray *words = g_array_new(FALSE, FALSE, sizeof(Word));
  g_auto(GStrv) raw = g_strsplit_set(text, " \t\r\n", -1);
  g_array_set_clear_func(words, word_clear);
  for (char **one = raw; *one; one++) {
    if (!**one)
      continue;
    g_autofree char *lower = g_utf8_strdown(*one, -1);
    gsize skip = strspn(lower, "\""), length = strlen(lower);
    while (length > skip && strchr(".,;:!?\"", lower[length - 1]))
      length--;
    Word word = {.word = g_strndup(lower + skip, length - skip),
                 .pause = strchr(",;:", lower[strlen(lower) - 1]) != NULL};
    word.kind = kind_of(word.word);
    g_array_append_val(words, word);
  }
  return words;
}

typedef struct {
  const GArray *words;
  guint first, n;
} Place;

static const Word *word_at(const GArray *words, guint i) {
  return &g_array_index(words, Word, i);
}

/* The place at or behind `from` where these words stand; FALSE: nowhere. */
static gboolean find(const GArray *words, const GArray *wanted, guint from, Place *ret_place) {
  for (guint first = from; wanted->len > 0 && first + wanted->len <= words->len; first++) {
    guint i = 0;
    while (i < wanted->len && g_str_equal(word_at(words, first + i)->word, word_at(wanted, i)->word))
      i++;
    if (i == wanted->len) {
      *ret_place = (Place){words, first, wanted->len};
      return TRUE;
    }
  }
  return FALSE;
}

/* A word beside the place: step -1, -2 before it, 1, 2 behind it. */
static const char *beside(const Place *place, gint step) {
  gint at = (gint)place->first + (step < 0 ? step : (gint)place->n + step - 1);
  return at < 0 ? "^" : at >= (gint)place->words->len ? "$" : word_at(place->words, (guint)at)->word;
}

static gboolean same_beside(const Place *a, const Place *b, gint step) {
  return g_str_equal(beside(a, step), beside(b, step));
}

static gboolean has_number(const Place *place) {
  for (guint i = 0; i < place->n; i++)
    if (word_at(place->words, place->first + i)->kind == '#')
      return TRUE;
  return FALSE;
}

static gboolean has_pause(const Place *place) {
  for (guint i = 0; i + 1 < place->n; i++)
    if (word_at(place->words, place->first + i)->pause)
      return TRUE;
  return FALSE;
}

static gboolean same_kinds(const Place *a, const Place *b) {
  for (guint i = 0; i < a->n && a->n == b->n; i++)
    if (word_at(a->words, a->first + i)->kind != word_at(b->words, b->first + i)->kind)
      return FALSE;
  return a->n == b->n;
}

static double alike(const Place *a, const Place *b) {
  const Word *a_first = word_at(a->words, a->first), *b_first = word_at(b->words, b->first);
  const Word *a_last = word_at(a->words, a->first + a->n - 1), *b_last = word_at(b->words, b->first + b->n - 1);
  gboolean left = same_beside(a, b, -1), right = same_beside(a, b, 1);
  guint apart = a->n > b->n ? a->n - b->n : b->n - a->n;
  return (left ? LEFT : 0) + (left && same_beside(a, b, -2) ? LEFT_SECOND : 0) + (right ? RIGHT : 0) +
         (right && same_beside(a, b, 2) ? RIGHT_SECOND : 0) + (apart == 0 ? AS_LONG : 0) + LONGER * MIN(apart, 4) +
         (a_first->kind == b_first->kind ? KIND_FIRST : 0) + (a_last->kind == b_last->kind ? KIND_LAST : 0) +
         (same_kinds(a, b) ? KINDS : 0) + (has_number(a) == has_number(b) ? NUMBERS : 0) +
         (has_pause(a) != has_pause(b) ? PAUSE : 0) + (g_str_equal(a_first->word, b_first->word) ? SAME_FIRST : 0) +
         (g_str_equal(a_last->word, b_last->word) ? SAME_LAST : 0);
}

/* Where the example's value stands in its text. words: of the text. */
static gboolean place_of(const ChoirToolShot *shot, const char *key, const GArray *words, Place *ret_place) {
  json_auto_t *args = choir_json_parse(shot->args, strlen(shot->args), NULL);
  const char *value = choir_json_string(args, key, NULL);
  g_autoptr(GArray) wanted = words_of(value ? value : "");
  return find(words, wanted, 0, ret_place);
}

gboolean choir_align_is_copied(const ChoirToolShot *shot, const char *key) {
  g_autoptr(GArray) words = words_of(shot->said);
  Place place;
  return place_of(shot, key, words, &place);
}

typedef struct {
  json_t *span; /* borrowed */
  double score;
  guint words;
} Ranked;

static gint by_score(gconstpointer a, gconstpointer b) {
  const Ranked *x = a, *y = b;
  if (x->score != y->score)
    return x->score > y->score ? -1 : 1;
  return x->words < y->words ? -1 : x->words > y->words;
}

/* By the two nearest examples, at the place in the text that is most like them. */
static double score_of(const GArray *words, const GArray *span, const GArray *examples) {
  double most = -1e9;
  Place place;
  for (guint from = 0; find(words, span, from, &place); from = place.first + 1) {
    double best = -1e9, second = -1e9;
    for (guint i = 0; i < examples->len; i++) {
      double score = alike(&place, &g_array_index(examples, Place, i));
      second = MAX(second, MIN(score, best));
      best = MAX(best, score);
    }
    most = MAX(most, best + SECOND_EXAMPLE * (examples->len > 1 ? second : 0));
  }
  return most;
}

json_t *choir_align(json_t *spans, const char *key, const char *said, const ChoirToolShot *shots) {
  g_autoptr(GPtrArray) texts = g_ptr_array_new_with_free_func((GDestroyNotify)g_array_unref);
  g_autoptr(GArray) examples = g_array_new(FALSE, FALSE, sizeof(Place)),
                    ranked = g_array_new(FALSE, FALSE, sizeof(Ranked)), words = words_of(said);
  for (; shots && shots->said; shots++) {
    Place place;
    g_ptr_array_add(texts, words_of(shots->said));
    if (place_of(shots, key, texts->pdata[texts->len - 1], &place))
      g_array_append_val(examples, place);
  }
  if (examples->len == 0)
    return json_incref(spans);
  size_t i;
  json_t *span;
  json_array_foreach(spans, i, span) {
    g_autoptr(GArray) own = words_of(json_string_value(span));
    Ranked one = {span, own->len > 0 ? score_of(words, own, examples) : -1e9, own->len};
    g_array_append_val(ranked, one);
  }
  g_array_sort(ranked, by_score);
  json_t *kept = json_array();
  for (guint k = 0; k < MIN(ranked->len, CHOIR_ALIGN_MOST); k++) {
    const Ranked *one = &g_array_index(ranked, Ranked, k);
    if (one->score >= g_array_index(ranked, Ranked, 0).score - WITHIN)
      json_array_append(kept, one->span);
  }
  return kept;
}

json_t *choir_align_said(json_t *choices, const char *said) {
  g_autoptr(GArray) words = words_of(said);
  json_auto_t *found = json_array();
  size_t i;
  json_t *choice;
  guint longest = 0;
  json_array_foreach(choices, i, choice) {
    g_autoptr(GArray) own = words_of(json_is_string(choice) ? json_string_value(choice) : "");
    Place place;
    if (!find(words, own, 0, &place) || own->len < longest)
      continue;
    if (own->len > longest)
      json_array_clear(found);
    longest = own->len;
    json_array_append(found, choice);
  }
  return json_incref(json_array_size(found) > 0 ? found : choices);
}
