#include "agent/clause.h"
#include <string.h>
#include "agent/clause_private.h"

/* Bytes. The first clause is cut early so that speech starts early; later ones follow the sentence, for its melody. */
#define FIRST_COMMA_AFTER 10
#define FIRST_JOINT_AFTER 14
#define FIRST_FORCE_AFTER 60
#define DOTS_AFTER 16
#define LATER_COMMA_AFTER 140
#define LATER_FORCE_AFTER 220
#define COLON_AFTER 8

struct ChoirClause {
  ChoirClauseFound found;
  gpointer user;
  GString *raw; /* from the last cut on */
  gsize begin;  /* offset of raw in the reply */
  gboolean first, fence;
  char before; /* the byte before raw */
};

ChoirClause *choir_clause_new(ChoirClauseFound found, gpointer user) {
  ChoirClause *clause = g_new0(ChoirClause, 1);
  clause->found = found;
  clause->user = user;
  clause->raw = g_string_new(NULL);
  clause->first = TRUE;
  clause->before = '\n';
  return clause;
}

void choir_clause_free(ChoirClause *clause) {
  if (!clause)
    return;
  g_string_free(clause->raw, TRUE);
  g_free(clause);
}

/* Words that end with a full stop that does not end a sentence. */
static const char *const never[] = {"dr",  "mr",  "mrs", "ms",     "prof", "st",  "mt",  "gen", "sen",
                                    "rep", "rev", "hon", "sgt",    "capt", "col", "lt",  "e.g", "i.e",
                                    "eg",  "ie",  "vs",  "approx", "ca",   "cf",  "viz", NULL};
static const char *const before_digit[] = {"no",  "nr",  "fig", "vol", "p",   "pp",  "ch",   "sec", "art", "jan", "feb",
                                           "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec", NULL};
static const char *const before_lower[] = {"etc", "inc", "ltd",  "co",  "corp", "jr",  "sr",  "a.m",
                                           "p.m", "est", "dept", "ave", "al",   "min", "max", "hr",
                                           "hrs", "sec", "ft",   "in",  "oz",   "lb",  "lbs", NULL};

static gboolean is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

typedef enum { CUT, KEEP, WAIT } Verdict;

/* Does the full stop at `dot` end a sentence? `after`: first byte behind the stop and its closing quotes, a space. */
static Verdict judge_stop(const char *s, gsize dot, gsize after, gsize n, gboolean final, gboolean line_start_at_zero) {
  gsize word = dot;
  while (word > 0 && !is_space(s[word - 1]) && !strchr("([{\"'*_", s[word - 1]))
    word--;
  g_autofree char *text = g_ascii_strdown(s + word, (gssize)(dot - word));
  gsize next = after;
  while (next < n && (s[next] == ' ' || s[next] == '\t'))
    next++;
  if (next < n && s[next] == '\n')
    return CUT;
  /* "1. First": the number of a list item belongs to the item. */
  gsize line = word;
  while (line > 0 && (s[line - 1] == ' ' || s[line - 1] == '\t' || s[line - 1] == '*'))
    line--;
  gboolean at_line_start = line == 0 ? line_start_at_zero : s[line - 1] == '\n';
  if (at_line_start && *text && strspn(text, "0123456789") == strlen(text) && strlen(text) <= 3)
    return KEEP;
  if (g_strv_contains(never, text))
    return KEEP;
  gboolean initial = strlen(text) == 1 && g_ascii_isupper(s[word]) && s[word] != 'I';
  gboolean dotted = strchr(text, '.') != NULL && strspn(text, "abcdefghijklmnopqrstuvwxyz.") == strlen(text) &&
                    strlen(text) <= 7 && text[1] == '.';
  gboolean digit_only = g_strv_contains(before_digit, text), lower_only = g_strv_contains(before_lower, text);
  if (!initial && !dotted && !digit_only && !lower_only)
    return CUT;
  if (next >= n)
    return final ? CUT : WAIT;
  if (initial || (dotted && g_ascii_isupper(s[word])))
    return KEEP;
  if (digit_only && g_ascii_isdigit(s[next]))
    return KEEP;
  if ((lower_only || dotted) && !g_ascii_isupper(s[next]))
    return KEEP;
  return CUT;
}

/* Behind a mark: more marks of the end and closing quotes or emphasis. */
static gsize skip_closers(const char *s, gsize i, gsize n) {
  for (;;) {
    if (i < n && strchr(".!?\"')]*_", s[i]) && s[i])
      i++;
    else if (i + 3 <= n && (memcmp(s + i, "\xe2\x80\x99", 3) == 0 || memcmp(s + i, "\xe2\x80\x9d", 3) == 0))
      i += 3;
    else
      return i;
  }
}

typedef struct {
  const char *s;
  gsize n;
  gboolean final, first, line_start;
  gsize start;      /* first byte that is not a space */
  gsize last_space; /* for a forced cut */
} Scan;

/* What the mark at i means; *ret_end: where the clause would end. */
static Verdict judge_mark(const Scan *scan, gsize i, gsize *ret_end) {
  const char *s = scan->s;
  gsize length = i - scan->start;
  char c = s[i];
  gsize after = skip_closers(s, i + 1, scan->n);
  *ret_end = after;
  if (after == scan->n)
    return scan->final ? KEEP : WAIT; /* the end makes a clause of the rest anyway */
  if (!is_space(s[after]))
    return KEEP;
  if (c == ',')
    return length >= (gsize)(scan->first ? FIRST_COMMA_AFTER : LATER_COMMA_AFTER) ? CUT : KEEP;
  if (c == ';' || c == ':')
    return length >= COLON_AFTER ? CUT : KEEP;
  if (c != '.')
    return CUT;
  if (s[i + 1] == '.')
    return length >= DOTS_AFTER ? CUT : KEEP;
  return judge_stop(s, i, after, scan->n, scan->final, scan->line_start);
}

/* Words before which a speaker may take a breath. */
static const char *const joints[] = {"and",   "but", "or",   "because", "so",    "which", "that",   "who",   "when",
                                     "while", "if",  "with", "where",   "until", "than",  "though", "since", NULL};

/* Does a part of the sentence begin behind the space at i? WAIT while that word is not there as a whole. */
static Verdict judge_joint(const char *s, gsize i, gsize n, gboolean final) {
  gsize begin = i + 1, end = begin;
  while (end < n && g_ascii_isalpha(s[end]))
    end++;
  if (end == n && !final)
    return WAIT;
  if (end == n || s[end] != ' ')
    return KEEP;
  g_autofree char *word = g_ascii_strdown(s + begin, (gssize)(end - begin));
  return g_strv_contains(joints, word) ? CUT : KEEP;
}

static gboolean wide_stop(const char *s, gsize left) {
  return left >= 3 &&
         (memcmp(s, "\xe3\x80\x82", 3) == 0 || memcmp(s, "\xef\xbc\x81", 3) == 0 || memcmp(s, "\xef\xbc\x9f", 3) == 0);
}

/* The end of the first clause in raw[0, n), or 0 when more text is needed. */
static gsize find_cut(const ChoirClause *clause, gsize n, gboolean final) {
  const char *s = clause->raw->str;
  Scan scan = {s, n, final, clause->first, clause->before == '\n', 0, 0};
  gboolean fence = clause->fence, spoken = FALSE;
  gsize force = clause->first ? FIRST_FORCE_AFTER : LATER_FORCE_AFTER;
  for (gsize i = 0; i < n; i++) {
    if (s[i] == '`') {
      gsize run = strspn(s + i, "`");
      if (i + run >= n && run < 3 && !final)
        return 0;
      if (run >= 3) {
        if (!fence && spoken)
          return i;
        fence = !fence;
      }
      i += run - 1;
      continue;
    }
    if (fence)
      continue;
    if (!spoken) {
      if (is_space(s[i]))
        continue;
      if (!g_ascii_isalnum(s[i]) && (guchar)s[i] < 0x80)
        continue;
      spoken = TRUE;
      scan.start = i;
    }
    if (s[i] == '\n')
      return i;
    if (is_space(s[i]))
      scan.last_space = i;
    if (clause->first && s[i] == ' ' && i - scan.start >= FIRST_JOINT_AFTER) {
      Verdict joint = judge_joint(s, i, n, final);
      if (joint == WAIT)
        return 0;
      if (joint == CUT)
        return i;
    }
    if (wide_stop(s + i, n - i))
      return i + 3;
    if (i - scan.start >= force && scan.last_space > scan.start)
      return scan.last_space;
    if (!strchr(".!?;:,", s[i]))
      continue;
    gsize end;
    Verdict verdict = judge_mark(&scan, i, &end);
    if (verdict == WAIT)
      return 0;
    if (verdict == CUT)
      return end;
    if (s[i] == '.' || s[i] == '!' || s[i] == '?')
      i = end - 1;
  }
  return 0;
}

/* Emits raw[0, end) unless there is nothing to say in it; then it stays and joins what follows. */
static gboolean emit(ChoirClause *clause, gsize end) {
  gboolean fence = clause->fence;
  g_autofree char *text = choir_clause_speakable(clause->raw->str, end, clause->before, &fence);
  if (!text)
    return FALSE;
  gsize begin = clause->begin;
  clause->begin += end;
  clause->before = clause->raw->str[end - 1];
  clause->fence = fence;
  clause->first = FALSE;
  g_string_erase(clause->raw, 0, (gssize)end);
  clause->found(text, begin, clause->begin, clause->user);
  return TRUE;
}

/* Length without the bytes of an unfinished character at the end. */
static gsize whole_characters(const GString *raw) {
  for (gsize back = 1; back <= 3 && back <= raw->len; back++) {
    guchar c = (guchar)raw->str[raw->len - back];
    if (c < 0x80)
      break;
    if (c >= 0xc0) {
      gsize need = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
      return need > back ? raw->len - back : raw->len;
    }
  }
  return raw->len;
}

static void cut_all(ChoirClause *clause, gboolean final) {
  for (;;) {
    gsize n = final ? clause->raw->len : whole_characters(clause->raw);
    gsize end = find_cut(clause, n, final);
    if (end == 0 || !emit(clause, end))
      return;
  }
}

void choir_clause_feed(ChoirClause *clause, const char *data, gsize length) {
  g_string_append_len(clause->raw, data, (gssize)length);
  cut_all(clause, FALSE);
}

gsize choir_clause_truncate(ChoirClause *clause, gsize length) {
  length = MAX(length, clause->begin);
  if (length - clause->begin < clause->raw->len)
    g_string_truncate(clause->raw, length - clause->begin);
  return length;
}

void choir_clause_end(ChoirClause *clause) {
  cut_all(clause, TRUE);
  if (clause->raw->len > 0)
    emit(clause, clause->raw->len);
}
