/* The playout ledger of one reply: which sample says which bytes of its text. A cut at sample s gives the words that
 * were heard: exactly where the engine reports the samples of its words; else within one word, for then the words of a
 * clause share its samples by their phoneme counts (before the report: by their letters). Pure, fixed size, no
 * allocation. Samples are those of CHOIR_RATE_OUT. */
#pragma once
#include <glib.h>

#define LEDGER_CLAUSES 256
#define LEDGER_WORDS 4096
#define LEDGER_CLAUSE_WORDS 256        /* of one clause; a longer clause loses its word table and is divided by bytes */
#define LEDGER_SAMPLES_PER_LETTER 1600 /* 15 letters a second: only while a clause's length is not known yet */

typedef struct {
  guint16 begin, end; /* bytes of the clause's spoken text */
  guint16 phonemes;
  guint32 first, last; /* samples of the clause, when the engine knows them; else last is 0 */
} LedgerWord;

typedef struct {
  guint32 begin, end;  /* bytes of the reply */
  guint32 text_length; /* of the text that was spoken for them; the same length unless it was cleaned */
  guint64 first;       /* sample of the reply, valid once the clause before is complete */
  guint64 samples;
  guint16 word, words; /* rows of the word table */
  gboolean complete;
} LedgerClause;

typedef struct {
  LedgerClause clause[LEDGER_CLAUSES];
  LedgerWord word[LEDGER_WORDS];
  guint clauses, words;
  guint current; /* the clause whose samples come in */
  guint64 total; /* samples of all clauses so far */
} Ledger;

void ledger_reset(Ledger *ledger);
/* Splits at white space, phonemes = letters. Returns the number of words, 0 when there are more than max. */
guint ledger_split(const char *text, gsize length, LedgerWord *ret_words, guint max);
/* FALSE: the ledger is full, or the range does not follow the clause before it. */
gboolean ledger_add(Ledger *ledger, guint32 begin, guint32 end, guint32 text_length, const LedgerWord *words, guint n);
/* Samples of the current clause arrived. */
void ledger_samples(Ledger *ledger, guint64 samples);
/* Samples in front of the current clause that say nothing of the reply. FALSE: it has begun. */
gboolean ledger_filler(Ledger *ledger, guint64 samples);
/* Samples of the whole clauses so far: what is known to its last word. */
guint64 ledger_known(const Ledger *ledger);
/* The current clause is complete; the next one is current. words replace the estimate when they are sound, else it
 * stays. */
void ledger_complete(Ledger *ledger, const LedgerWord *words, guint n);
/* Samples [first, last) of a word, relative to its clause. */
void ledger_word_span(const Ledger *ledger, guint clause, guint word, guint64 *ret_first, guint64 *ret_last);
/* Bytes of the reply heard by someone who heard `sample` samples. A word counts when more than half of it was heard. */
guint32 ledger_heard(const Ledger *ledger, guint64 sample);
