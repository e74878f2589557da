#include "voice/echo_gate.h"
#include <string.h>

#define WORDS 64 /* of the transcript and of what was played; the last ones count */
#define LETTERS 20

typedef struct {
  char text[LETTERS];
  guint length;
} Word;

/* The last words of a text, lower case, letters and digits only. */
static guint split(const char *text, Word *words) {
  guint n = 0;
  for (gsize i = 0; text[i] != '\0';) {
    Word word = {.length = 0};
    for (; text[i] != '\0' && !g_ascii_isspace(text[i]) && text[i] != '-'; i++)
      if ((g_ascii_isalnum(text[i]) || (guchar)text[i] >= 0x80) && word.length < LETTERS)
        word.text[word.length++] = g_ascii_tolower(text[i]);
    if (text[i] != '\0')
      i++;
    if (word.length == 0)
      continue;
    if (n == WORDS) {
      memmove(words, words + 1, (WORDS - 1) * sizeof *words);
      n--;
    }
    words[n++] = word;
  }
  return n;
}

/* Levenshtein's distance. */
static guint distance(const Word *a, const Word *b) {
  guint row[LETTERS + 1];
  for (guint j = 0; j <= b->length; j++)
    row[j] = j;
  for (guint i = 1; i <= a->length; i++) {
    guint diagonal = row[0];
    row[0] = i;
    for (guint j = 1; j <= b->length; j++) {
      guint change = diagonal + (a->text[i - 1] != b->text[j - 1]);
      diagonal = row[j];
      row[j] = MIN(MIN(row[j] + 1, row[j - 1] + 1), change);
    }
  }
  return row[b->length];
}

static gboolean alike(const Word *a, const Word *b) {
  guint longer = MAX(a->length, b->length), shorter = MIN(a->length, b->length);
  if (longer - shorter > longer / 3)
    return FALSE;
  return distance(a, b) <= longer / 3;
}

/* The longest row of words that both have in the same order, gaps allowed. */
static guint common(const Word *a, guint n, const Word *b, guint m) {
  guint row[WORDS + 1] = {0};
  for (guint i = 0; i < n; i++) {
    guint diagonal = 0;
    for (guint j = 1; j <= m; j++) {
      guint above = row[j];
      row[j] = alike(&a[i], &b[j - 1]) ? diagonal + 1 : MAX(row[j], row[j - 1]);
      diagonal = above;
    }
  }
  return row[m];
}

gboolean echo_gate_repeats(const char *heard, const char *played, gboolean strict) {
  Word said[WORDS], agent[WORDS];
  guint n = split(heard, said), m = split(played, agent);
  if (n == 0 || m == 0)
    return FALSE;
  guint same = common(said, n, agent, m), other = n - same;
  /* Somebody who takes up the agent's words adds some of their own. */
  return strict ? 2 * same >= n && other <= 3 : 10 * same >= 7 * n && other <= 2;
}
