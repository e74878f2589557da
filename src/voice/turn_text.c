#include "voice/turn_text.h"
#include <string.h>

#define WORD_MAX 24
#define HALF_WORDS 6

typedef struct {
  char text[WORD_MAX]; /* lower case, without marks; longer words are cut */
  gsize begin, end;    /* in the transcript */
} Word;

/* Words behind which a sentence cannot end, or hardly ever does in speech. */
static const char *const open_words[] = {
    "a",       "about",   "all",    "also",   "am",    "an",     "and",  "any",   "are",    "around", "as",    "at",
    "because", "before",  "but",    "by",     "could", "during", "each", "every", "except", "for",    "from",  "how's",
    "i",       "i'd",     "i'll",   "i'm",    "i've",  "if",     "in",   "into",  "is",     "it's",   "its",   "like",
    "maybe",   "my",      "no's",   "of",     "on",    "onto",   "or",   "our",   "so",     "rather", "quite", "since",
    "some",    "than",    "that's", "the",    "their", "these",  "they", "to",    "uh",     "um",     "until", "unless",
    "very",    "was",     "we",     "we're",  "were",  "what's", "when", "where", "which",  "while",  "who",   "whose",
    "with",    "without", "would",  "you're", "your",  "er",     "hmm"};
/* A short sentence that begins so has a second half, behind a comma. */
static const char *const halves[] = {"although", "if", "though", "unless", "whenever", "whether"};
/* So does one that goes on from something and has no verb of its own yet ("And so, my fellow citizens"). */
static const char *const joins[] = {"and", "but", "or", "so"};
static const char *const verbs[] = {
    "am",   "are",  "be",    "can",    "can't",  "could", "did",   "do",    "does",  "doesn't", "don't", "get",
    "give", "go",   "goes",  "going",  "had",    "has",   "have",  "i'm",   "is",    "isn't",   "it's",  "know",
    "let",  "like", "make",  "may",    "might",  "must",  "need",  "open",  "play",  "put",     "read",  "said",
    "say",  "set",  "shall", "should", "show",   "start", "stop",  "take",  "tell",  "that's",  "think", "turn",
    "want", "was",  "went",  "were",   "what's", "will",  "won't", "would", "you're"};
static const char *const digits[] = {"zero",  "oh",    "one",  "two",    "three",  "four",    "five",    "six",
                                     "seven", "eight", "nine", "double", "triple", "hundred", "thousand"};
static const char *const backchannels[] = {
    "ah",    "aha",   "alright", "good", "great", "hm",  "hmm",  "huh",    "i",     "mhm",    "mm",   "mmhm",
    "mmhmm", "hmhm",  "mmm",     "nice", "oh",    "ok",  "okay", "really", "right", "see",    "sure", "true",
    "uh",    "uhhuh", "uhuh",    "wow",  "yeah",  "yep", "yes",  "yup",    "cool",  "exactly"};
/* Words of which only the whole is a backchannel. */
static const char *const never_alone[] = {"i", "see", "uh"};
static const char *const stops[] = {"stop", "wait",  "quiet",  "enough", "silence", "shush",
                                    "hush", "pause", "cancel", "hold",   "shut"};
static const char *const stop_fillers[] = {"be", "it",  "on",   "up", "please", "now",    "that's",  "okay",     "ok",
                                           "no", "hey", "just", "a",  "moment", "second", "talking", "speaking", "the"};

static gboolean known(const char *language) {
  return language == NULL || *language == '\0' || g_ascii_strncasecmp(language, "en", 2) == 0;
}

static gboolean one_of(const char *word, const char *const *list, gsize n) {
  for (gsize i = 0; i < n; i++)
    if (strcmp(word, list[i]) == 0)
      return TRUE;
  return FALSE;
}
#define ONE_OF(word, list) one_of(word, list, G_N_ELEMENTS(list))

/* The next word from *at on. Apostrophes stay, hyphens of "uh-huh" go. */
static gboolean next_word(const char *text, gsize *at, Word *ret) {
  gsize i = *at, n = 0;
  while (text[i] != '\0' && !g_ascii_isalnum(text[i]) && (guchar)text[i] < 0x80)
    i++;
  if (text[i] == '\0')
    return FALSE;
  ret->begin = i;
  for (; text[i] != '\0' && !g_ascii_isspace(text[i]); i++) {
    /* The typographic apostrophe is one, too. */
    gboolean curly = (guchar)text[i] == 0xe2 && (guchar)text[i + 1] == 0x80 && (guchar)text[i + 2] == 0x99;
    char c = curly ? '\'' : g_ascii_tolower(text[i]);
    if (curly)
      i += 2;
    if ((g_ascii_isalnum(c) || c == '\'' || (guchar)c >= 0x80) && n < WORD_MAX - 1)
      ret->text[n++] = c;
  }
  while (n > 0 && ret->text[n - 1] == '\'')
    n--;
  ret->text[n] = '\0';
  ret->end = *at = i;
  return TRUE;
}

TurnSaid turn_text_said(const char *text, const char *language) {
  Word word;
  gsize at = 0;
  guint words = 0, back = 0, alone = 0, stop = 0, fill = 0;
  if (!known(language))
    return TURN_SAID_WORDS;
  while (next_word(text, &at, &word)) {
    words++;
    back += ONE_OF(word.text, backchannels);
    alone += ONE_OF(word.text, never_alone);
    stop += ONE_OF(word.text, stops);
    fill += ONE_OF(word.text, stop_fillers);
  }
  if (words == 0 || words > 6)
    return TURN_SAID_WORDS;
  if (stop > 0 && stop + fill == words)
    return TURN_SAID_STOP;
  if (back == words && (words > 1 || alone == 0) && !(words == 1 && strcmp(word.text, "i") == 0))
    return TURN_SAID_BACKCHANNEL;
  return TURN_SAID_WORDS;
}

static gboolean spelled(const char *word) {
  return word[0] != '\0' && word[1] == '\0' && g_ascii_isalpha(word[0]) && word[0] != 'a' && word[0] != 'i';
}

static gboolean is_number(const char *word) {
  return *word != '\0' && (strspn(word, "0123456789") == strlen(word) || ONE_OF(word, digits));
}

/* Recognisers of a grammar give lower-case words and nothing else. */
static gboolean writes_marks(const char *text) {
  for (; *text != '\0'; text++)
    if (g_ascii_isupper(*text) || g_ascii_isdigit(*text) || strchr(".,?!;:", *text) != NULL)
      return TRUE;
  return FALSE;
}

TurnEnding turn_text_ending(const char *text, const char *language) {
  Word word, last = {.text = ""};
  gsize at = 0;
  gboolean before_number = FALSE, before_spelled = FALSE, half = FALSE, joined = FALSE, verb = FALSE;
  guint words = 0;
  if (!known(language))
    return TURN_ENDING_NEUTRAL;
  while (next_word(text, &at, &word)) {
    before_number = is_number(last.text);
    before_spelled = spelled(last.text);
    last = word;
    half = half || (words == 0 && ONE_OF(word.text, halves));
    joined = joined || (words == 0 && ONE_OF(word.text, joins));
    verb = verb || ONE_OF(word.text, verbs);
    words++;
  }
  if (words == 0)
    return TURN_ENDING_NEUTRAL;
  gsize length = strlen(text);
  while (length > 0 && (g_ascii_isspace(text[length - 1]) || text[length - 1] == '"'))
    length--;
  char mark = length > 0 ? text[length - 1] : '\0';
  gboolean trails = mark == ',' || mark == '-' || mark == ':' ||
                    (length >= 3 && memcmp(text + length - 3, "...", 3) == 0) ||
                    (length >= 3 && memcmp(text + length - 3, "\xe2\x80\xa6", 3) == 0);
  if ((half || (joined && !verb && words > 1)) && words <= HALF_WORDS && strchr(text, ',') == NULL && mark != '?')
    return TURN_ENDING_OPEN;
  if (trails || (ONE_OF(last.text, open_words) && mark != '?'))
    return TURN_ENDING_OPEN;
  /* One number is an answer; a row of them goes on, and so does spelling; a single letter is half a word. */
  gboolean row = is_number(last.text) && (before_number || (g_ascii_isdigit(last.text[0]) && strlen(last.text) >= 3));
  if ((row && mark != '?') || (spelled(last.text) && (before_spelled || words == 1)))
    return TURN_ENDING_OPEN;
  if (mark == '.' || mark == '?' || mark == '!')
    return TURN_ENDING_COMPLETE;
  return writes_marks(text) ? TURN_ENDING_UNMARKED : TURN_ENDING_NEUTRAL;
}
