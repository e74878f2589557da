#include "voice/ledger.h"

void ledger_reset(Ledger *ledger) {
  ledger->clauses = ledger->words = ledger->current = 0;
  ledger->total = 0;
}

guint ledger_split(const char *text, gsize length, LedgerWord *ret_words, guint max) {
  guint n = 0;
  gsize at = 0;
  if (length > G_MAXUINT16)
    return 0;
  while (at < length) {
    while (at < length && g_ascii_isspace(text[at]))
      at++;
    gsize begin = at;
    guint letters = 0;
    for (; at < length && !g_ascii_isspace(text[at]); at++)
      /* continuation bytes are no letters of their own */
      letters += ((guchar)text[at] & 0xc0) != 0x80 && !g_ascii_ispunct(text[at]);
    if (at == begin)
      break;
    if (n == max)
      return 0;
    ret_words[n++] = (LedgerWord){(guint16)begin, (guint16)at, (guint16)letters};
  }
  return n;
}

static gboolean words_sound(const LedgerWord *words, guint n, guint32 text_length) {
  guint last = 0;
  if (n == 0 || n > LEDGER_CLAUSE_WORDS)
    return FALSE;
  for (guint i = 0; i < n; i++) {
    if (words[i].begin < last || words[i].end <= words[i].begin || words[i].end > text_length)
      return FALSE;
    last = words[i].end;
    /* Samples are given for all words, in their order, or for none. */
    if (words[i].last < words[i].first || (words[i].last > 0) != (words[n - 1].last > 0) ||
        (i > 0 && words[i].first < words[i - 1].first))
      return FALSE;
  }
  return TRUE;
}

static gboolean set_words(Ledger *ledger, LedgerClause *clause, const LedgerWord *words, guint n) {
  if (!words_sound(words, n, clause->text_length))
    return FALSE;
  /* The rows of an estimate are used again when they suffice: a reply then needs each row once. */
  guint at = n <= clause->words ? clause->word : ledger->words;
  if (at + n > LEDGER_WORDS)
    return FALSE;
  for (guint i = 0; i < n; i++)
    ledger->word[at + i] = words[i];
  if (at == ledger->words)
    ledger->words += n;
  clause->word = (guint16)at;
  clause->words = (guint16)n;
  return TRUE;
}

gboolean ledger_add(Ledger *ledger, guint32 begin, guint32 end, guint32 text_length, const LedgerWord *words, guint n) {
  guint32 last = ledger->clauses > 0 ? ledger->clause[ledger->clauses - 1].end : 0;
  if (ledger->clauses == LEDGER_CLAUSES || begin < last || end <= begin || text_length == 0)
    return FALSE;
  LedgerClause *clause = &ledger->clause[ledger->clauses++];
  *clause = (LedgerClause){.begin = begin, .end = end, .text_length = text_length, .first = ledger->total};
  (void)set_words(ledger, clause, words, n);
  return TRUE;
}

void ledger_samples(Ledger *ledger, guint64 samples) {
  if (ledger->current >= ledger->clauses)
    return;
  ledger->clause[ledger->current].samples += samples;
  ledger->total += samples;
}

gboolean ledger_filler(Ledger *ledger, guint64 samples) {
  if (ledger->current < ledger->clauses) {
    LedgerClause *clause = &ledger->clause[ledger->current];
    if (clause->samples > 0)
      return FALSE;
    clause->first += samples;
  }
  ledger->total += samples;
  return TRUE;
}

guint64 ledger_known(const Ledger *ledger) {
  /* Only the current clause is unfinished. */
  return ledger->current < ledger->clauses ? ledger->clause[ledger->current].first : ledger->total;
}

void ledger_complete(Ledger *ledger, const LedgerWord *words, guint n) {
  if (ledger->current >= ledger->clauses)
    return;
  LedgerClause *clause = &ledger->clause[ledger->current++];
  (void)set_words(ledger, clause, words, n);
  clause->complete = TRUE;
  if (ledger->current < ledger->clauses)
    ledger->clause[ledger->current].first = ledger->total;
}

/* How long the clause will be: exact once complete, a guess before, never below what is there. */
static guint64 clause_length(const LedgerClause *clause) {
  if (clause->complete)
    return clause->samples;
  return MAX(clause->samples, (guint64)clause->text_length * LEDGER_SAMPLES_PER_LETTER);
}

static guint64 weight_before(const Ledger *ledger, const LedgerClause *clause, guint word) {
  guint64 weight = 0;
  for (guint i = 0; i < word; i++)
    weight += ledger->word[clause->word + i].phonemes;
  return weight;
}

void ledger_word_span(const Ledger *ledger, guint clause, guint word, guint64 *ret_first, guint64 *ret_last) {
  const LedgerClause *c = &ledger->clause[clause];
  const LedgerWord *row = &ledger->word[c->word + word];
  if (c->complete && row->last > 0) {
    *ret_first = MIN((guint64)row->first, c->samples);
    *ret_last = MIN((guint64)row->last, c->samples);
    return;
  }
  guint64 length = clause_length(c), all = weight_before(ledger, c, c->words);
  if (all == 0) {
    /* Only signs that nobody pronounces: equal shares. */
    *ret_first = length * word / c->words;
    *ret_last = length * (word + 1) / c->words;
    return;
  }
  guint64 before = weight_before(ledger, c, word);
  *ret_first = length * before / all;
  *ret_last = length * (before + ledger->word[c->word + word].phonemes) / all;
}

/* A byte of the spoken text as a byte of the reply. */
static guint32 reply_byte(const LedgerClause *clause, guint32 byte) {
  return clause->begin + (guint32)((guint64)byte * (clause->end - clause->begin) / clause->text_length);
}

static guint32 heard_in_clause(const Ledger *ledger, guint index, guint64 sample, guint32 heard) {
  const LedgerClause *clause = &ledger->clause[index];
  guint64 length = clause_length(clause);
  if (clause->words == 0) {
    if (length == 0)
      return heard;
    guint32 bytes = (guint32)(MIN(sample, length) * (clause->end - clause->begin) / length);
    return MAX(heard, clause->begin + bytes);
  }
  for (guint i = 0; i < clause->words; i++) {
    guint64 first, last;
    ledger_word_span(ledger, index, i, &first, &last);
    /* More than half: a word of no length counts with the one before it. */
    if (last > sample && (sample <= first || 2 * (sample - first) <= last - first))
      break;
    heard = MAX(heard, reply_byte(clause, ledger->word[clause->word + i].end));
  }
  return heard;
}

guint32 ledger_heard(const Ledger *ledger, guint64 sample) {
  guint32 heard = 0;
  for (guint i = 0; i <= ledger->current && i < ledger->clauses; i++) {
    const LedgerClause *clause = &ledger->clause[i];
    /* A clause that could not be spoken counts with the next one that was. */
    if (clause->complete && clause->samples == 0)
      continue;
    if (clause->complete && sample >= clause->first + clause->samples) {
      heard = clause->end;
      continue;
    }
    if (sample > clause->first)
      heard = heard_in_clause(ledger, i, sample - clause->first, heard);
    break;
  }
  return heard;
}
