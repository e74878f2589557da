#include "speech/spot_phrases.h"
#include <string.h>
#ifdef CHOIR_HAVE_FLITE
#include <flite/flite.h>
cst_lexicon *cmu_lex_init(void); /* libflite_cmulex has no header of its own */
#endif

#define WAKE_WORDS 5
#define WAKE_VARIANTS 6
#define WAKE_THRESHOLD 0
#define PHONES_MIN 5 /* a shorter wake phrase is heard in everything */

/* Thresholds were chosen on one half of what tests/bench/voice/keyphrases plays (--tune): midway between what fits best
 * of other speech and what fits worst of the phrase; where these overlap, as with short words, where the fewest are
 * wrong. */
static const ChoirSpotPhrase table[] = {
    {"stop", "S T AA P", CHOIR_SPOT_STOP, -7},
    {"stop it", "S T AA P IH T", CHOIR_SPOT_STOP, -11},
    {"stop talking", "S T AA P T AO K IH NG", CHOIR_SPOT_STOP, -9},
    {"wait", "W EY T", CHOIR_SPOT_STOP, 14},
    {"wait a minute", "W EY T AH M IH N AH T", CHOIR_SPOT_STOP, -6},
    {"wait a second", "W EY T AH S EH K AH N D", CHOIR_SPOT_STOP, 10},
    {"hold on", "HH OW L D AA N", CHOIR_SPOT_STOP, -11},
    {"hang on", "HH AE NG AA N", CHOIR_SPOT_STOP, -16},
    {"be quiet", "B IY K W AY AH T", CHOIR_SPOT_STOP, 13},
    {"shut up", "SH AH T AH P", CHOIR_SPOT_STOP, -16},
    {"never mind", "N EH V ER M AY N D", CHOIR_SPOT_STOP, 4},
    {"enough", "IH N AH F", CHOIR_SPOT_STOP, 36},
    {"that's enough", "DH AE T S IH N AH F", CHOIR_SPOT_STOP, 21},
    {"cancel", "K AE N S AH L", CHOIR_SPOT_STOP, -8},
    {"pause", "P AO Z", CHOIR_SPOT_STOP, 16},
    {"silence", "S AY L AH N S", CHOIR_SPOT_STOP, -17},
    {"uh-huh", "AH HH AH", CHOIR_SPOT_BACKCHANNEL, -2},
    {"mm-hmm", "AH M HH AH M", CHOIR_SPOT_BACKCHANNEL, -10},
    {"okay", "OW K EY", CHOIR_SPOT_BACKCHANNEL, 0},
    {"yeah", "Y AE", CHOIR_SPOT_BACKCHANNEL, 31},
    {"yes", "Y EH S", CHOIR_SPOT_BACKCHANNEL, 11},
    {"right", "R AY T", CHOIR_SPOT_BACKCHANNEL, -4},
    {"all right", "AO L R AY T", CHOIR_SPOT_BACKCHANNEL, -2},
    {"i see", "AY S IY", CHOIR_SPOT_BACKCHANNEL, 9},
    {"sure", "SH UH R", CHOIR_SPOT_BACKCHANNEL, 11},
    {"really", "R IH L IY", CHOIR_SPOT_BACKCHANNEL, 7},
    {"got it", "G AA T IH T", CHOIR_SPOT_BACKCHANNEL, -8},
};

struct ChoirSpotPhrases {
  GArray *rows;       /* ChoirSpotPhrase */
  GPtrArray *strings; /* owned texts and phones of wake phrases */
};

/* "word PHONES" and "word(2) PHONES" lines. */
static void from_dictionary(const char *word, const char *path, GPtrArray *found) {
  g_autoptr(GMappedFile) file = path ? g_mapped_file_new(path, FALSE, NULL) : NULL;
  if (!file)
    return;
  const char *text = g_mapped_file_get_contents(file);
  const gsize length = g_mapped_file_get_length(file), size = strlen(word);
  for (const char *line = text, *end = text + length; line && line < end;) {
    const char *stop = memchr(line, '\n', (gsize)(end - line));
    const gsize n = stop ? (gsize)(stop - line) : (gsize)(end - line);
    if (n > size + 1 && memcmp(line, word, size) == 0 && (line[size] == ' ' || line[size] == '(')) {
      const char *space = memchr(line, ' ', n);
      if (space)
        g_ptr_array_add(found, g_strstrip(g_strndup(space, n - (gsize)(space - line))));
    }
    line = stop ? stop + 1 : NULL;
  }
}

#ifdef CHOIR_HAVE_FLITE
/* Flite's letter-to-sound rules; its phones carry a stress mark and a few reduced vowels that CMU's set has not. */
static void by_rule(const char *word, GPtrArray *found) {
  static const char *const reduced[][2] = {{"ax", "ah"}, {"axr", "er"}, {"ix", "ih"}, {"em", "m"},
                                           {"en", "n"},  {"el", "l"},   {"dx", "d"}};
  flite_init();
  cst_lexicon *lexicon = cmu_lex_init();
  cst_val *phones = lex_lookup(lexicon, word, NULL, NULL);
  GString *out = g_string_new(NULL);
  for (const cst_val *item = phones; item; item = val_cdr(item)) {
    g_autofree char *phone = g_strdup(val_string(val_car(item)));
    gsize n = strlen(phone);
    if (n > 0 && g_ascii_isdigit(phone[n - 1]))
      phone[n - 1] = 0;
    const char *plain = phone;
    for (gsize i = 0; i < G_N_ELEMENTS(reduced); i++)
      if (g_str_equal(phone, reduced[i][0]))
        plain = reduced[i][1];
    g_autofree char *upper = g_ascii_strup(plain, -1);
    g_string_append_printf(out, "%s%s", out->len ? " " : "", upper);
  }
  delete_val(phones);
  if (out->len > 0)
    g_ptr_array_add(found, g_string_free(out, FALSE));
  else
    g_string_free(out, TRUE);
}
#else
static void by_rule(const char *word, GPtrArray *found) {
}
#endif

GPtrArray *choir_spot_pronounce(const char *word, const char *dictionary) {
  GPtrArray *found = g_ptr_array_new_with_free_func(g_free);
  from_dictionary(word, dictionary, found);
  if (found->len == 0)
    by_rule(word, found);
  return found;
}

static guint count_phones(const char *phones) {
  guint n = 1;
  for (const char *p = phones; *p; p++)
    n += *p == ' ';
  return n;
}

/* Letters, apostrophes and single spaces, small. NULL when it is anything else. */
static char *normalised(const char *phrase) {
  GString *out = g_string_new(NULL);
  for (const char *p = phrase; *p; p++) {
    char c = g_ascii_tolower(*p);
    if (g_ascii_isalpha(c) || c == '\'') {
      g_string_append_c(out, c);
    } else if (c == ' ' || c == '-') {
      if (out->len > 0 && out->str[out->len - 1] != ' ')
        g_string_append_c(out, ' ');
    } else {
      g_string_free(out, TRUE);
      return NULL;
    }
  }
  g_strchomp(out->str);
  return g_string_free(out, FALSE);
}

/* All combinations of the words' pronunciations, WAKE_VARIANTS at most. NULL with the word that has none. */
static GPtrArray *variants(char **words, const char *dictionary, const char **ret_word) {
  GPtrArray *all = g_ptr_array_new_with_free_func(g_free);
  g_ptr_array_add(all, g_strdup(""));
  for (; *words; words++) {
    g_autoptr(GPtrArray) ways = choir_spot_pronounce(*words, dictionary);
    GPtrArray *next = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < all->len; i++)
      for (guint k = 0; k < ways->len && next->len < WAKE_VARIANTS; k++)
        g_ptr_array_add(next, g_strstrip(g_strconcat(all->pdata[i], " ", ways->pdata[k], NULL)));
    g_ptr_array_unref(all);
    all = next;
    if (all->len == 0) {
      *ret_word = *words;
      g_ptr_array_unref(all);
      return NULL;
    }
  }
  return all;
}

static char *add_wake(ChoirSpotPhrases *phrases, const char *raw, const char *dictionary) {
  g_autofree char *stripped = g_strstrip(g_strdup(raw));
  g_autofree char *text = normalised(stripped);
  g_auto(GStrv) words = text && *text ? g_strsplit(text, " ", -1) : NULL;
  if (!words || g_strv_length(words) > WAKE_WORDS)
    return g_strdup_printf("the wake phrase \"%s\" is not one to %d plain English words", stripped, WAKE_WORDS);
  const char *word = NULL;
  g_autoptr(GPtrArray) ways = variants(words, dictionary, &word);
  if (!ways)
    return g_strdup_printf("the wake phrase \"%s\" cannot be listened for: nobody knows how \"%s\" is pronounced", text,
                           word);
  char *kept = g_strdup(text);
  g_ptr_array_add(phrases->strings, kept);
  for (guint i = 0; i < ways->len; i++) {
    guint n = count_phones(ways->pdata[i]);
    if (n < PHONES_MIN)
      return g_strdup_printf("the wake phrase \"%s\" is too short: it would be heard in everything; add a word", text);
    char *phones = g_strdup(ways->pdata[i]);
    g_ptr_array_add(phrases->strings, phones);
    ChoirSpotPhrase row = {.text = kept, .phones = phones, .kind = CHOIR_SPOT_WAKE, .threshold = WAKE_THRESHOLD};
    g_array_append_val(phrases->rows, row);
  }
  return NULL;
}

ChoirSpotPhrases *choir_spot_phrases_new(const char *wake, const char *dictionary, char **ret_problem) {
  ChoirSpotPhrases *phrases = g_new0(ChoirSpotPhrases, 1);
  phrases->rows = g_array_new(FALSE, FALSE, sizeof(ChoirSpotPhrase));
  phrases->strings = g_ptr_array_new_with_free_func(g_free);
  g_array_append_vals(phrases->rows, table, G_N_ELEMENTS(table));
  *ret_problem = NULL;
  g_auto(GStrv) list = g_strsplit(wake ? wake : "", ",", -1);
  for (guint i = 0; list[i]; i++) {
    if (*g_strstrip(list[i]) == 0)
      continue;
    char *problem = add_wake(phrases, list[i], dictionary);
    if (problem && *ret_problem)
      g_free(problem);
    else if (problem)
      *ret_problem = problem;
  }
  return phrases;
}

void choir_spot_phrases_free(ChoirSpotPhrases *phrases) {
  if (!phrases)
    return;
  g_array_unref(phrases->rows);
  g_ptr_array_unref(phrases->strings);
  g_free(phrases);
}

guint choir_spot_phrases_count(const ChoirSpotPhrases *phrases) {
  return phrases->rows->len;
}

const ChoirSpotPhrase *choir_spot_phrases_get(const ChoirSpotPhrases *phrases, guint index) {
  return &g_array_index(phrases->rows, ChoirSpotPhrase, index);
}
