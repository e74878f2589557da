/* Properties of the playout ledger over random replies; SEED=n repeats a run. */
#include "voice/ledger.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static guint32 seed;

typedef struct {
  Ledger ledger;
  GString *text;
  guint clauses;
  guint64 total;
} Reply;

static guint random_clause(GRand *rand, GString *text, LedgerWord *words, guint max) {
  guint n = (guint)g_rand_int_range(rand, 1, (gint32)max);
  gsize begin = text->len;
  for (guint i = 0; i < n; i++) {
    words[i] = (LedgerWord){.begin = (guint16)(text->len - begin)};
    for (guint k = (guint)g_rand_int_range(rand, 1, 12); k > 0; k--)
      g_string_append_c(text, (char)g_rand_int_range(rand, 'a', 'z'));
    words[i].end = (guint16)(text->len - begin);
    words[i].phonemes = (guint16)g_rand_int_range(rand, 0, 12);
    g_string_append_c(text, ' ');
  }
  return n;
}

static Reply *random_reply(GRand *rand, gboolean complete) {
  Reply *reply = g_new0(Reply, 1);
  reply->text = g_string_new(NULL);
  ledger_reset(&reply->ledger);
  reply->clauses = (guint)g_rand_int_range(rand, 1, 20);
  for (guint i = 0; i < reply->clauses; i++) {
    LedgerWord words[20];
    gsize begin = reply->text->len;
    guint n = random_clause(rand, reply->text, words, G_N_ELEMENTS(words));
    LedgerWord guess[20];
    guint n_guess = ledger_split(reply->text->str + begin, reply->text->len - begin, guess, G_N_ELEMENTS(guess));
    g_assert_cmpuint(n_guess, ==, n);
    g_assert_true(ledger_add(&reply->ledger, (guint32)begin, (guint32)reply->text->len,
                             (guint32)(reply->text->len - begin), guess, n_guess));
    if (!complete && i + 1 == reply->clauses)
      break;
    for (gint32 part = g_rand_int_range(rand, 0, 4); part > 0; part--) {
      guint64 samples = (guint64)g_rand_int_range(rand, 1, 30000);
      ledger_samples(&reply->ledger, samples);
      reply->total += samples;
    }
    ledger_complete(&reply->ledger, words, g_rand_boolean(rand) ? n : 0);
  }
  g_assert_cmpuint(reply->ledger.total, ==, reply->total);
  return reply;
}

static void reply_free(Reply *reply) {
  g_string_free(reply->text, TRUE);
  g_free(reply);
}

/* The words of a clause cover its samples without gap or overlap. */
static void test_sum(void) {
  g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
  for (guint round = 0; round < 500; round++) {
    Reply *reply = random_reply(rand, TRUE);
    guint64 at = 0;
    for (guint c = 0; c < reply->clauses; c++) {
      const LedgerClause *clause = &reply->ledger.clause[c];
      g_assert_cmpuint(clause->first, ==, at);
      guint64 inside = 0;
      for (guint w = 0; w < clause->words; w++) {
        guint64 first, last;
        ledger_word_span(&reply->ledger, c, w, &first, &last);
        g_assert_cmpuint(first, ==, inside);
        g_assert_cmpuint(last, >=, first);
        inside = last;
      }
      g_assert_cmpuint(inside, ==, clause->samples);
      at += clause->samples;
    }
    g_assert_cmpuint(at, ==, reply->total);
    reply_free(reply);
  }
}

/* Later samples never hear fewer bytes; nothing hears nothing, everything hears all that was spoken. */
static void test_monotone(void) {
  g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
  for (guint round = 0; round < 300; round++) {
    Reply *reply = random_reply(rand, round % 3 != 0);
    guint32 last = 0;
    g_assert_cmpuint(ledger_heard(&reply->ledger, 0), ==, 0);
    for (guint64 s = 0; s <= reply->total + 100; s += (guint64)g_rand_int_range(rand, 1, 2000)) {
      guint32 heard = ledger_heard(&reply->ledger, s);
      g_assert_cmpuint(heard, >=, last);
      g_assert_cmpuint(heard, <=, reply->text->len);
      /* a whole word, or the end of a clause */
      if (heard > 0)
        g_assert_true(reply->text->str[heard] == ' ' || reply->text->str[heard - 1] == ' ');
      last = heard;
    }
    for (guint c = 0; c < reply->ledger.current; c++) {
      const LedgerClause *clause = &reply->ledger.clause[c];
      if (clause->samples > 0)
        g_assert_cmpuint(ledger_heard(&reply->ledger, clause->first + clause->samples), >=, clause->end);
    }
    reply_free(reply);
  }
}

static guint words_before(const char *text, guint32 bytes) {
  guint n = 0;
  for (guint32 i = 0; i < bytes; i++)
    n += text[i] != ' ' && (i + 1 == bytes || text[i + 1] == ' ');
  return n;
}

/* The truth: every phoneme lasts as long as the voice pleases (±20 %), a word has three or more. A cut anywhere gives
 * the number of words that were heard by more than half, within one. */
static void test_cut_within_one_word(void) {
  g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
  for (guint round = 0; round < 300; round++) {
    g_autoptr(GString) text = g_string_new(NULL);
    Ledger *ledger = g_new0(Ledger, 1);
    ledger_reset(ledger);
    GArray *halves = g_array_new(FALSE, FALSE, sizeof(guint64));
    guint64 at = 0;
    for (guint c = 0; c < 6; c++) {
      LedgerWord words[9];
      gsize begin = text->len;
      guint n = random_clause(rand, text, words, G_N_ELEMENTS(words));
      g_assert_true(ledger_add(ledger, (guint32)begin, (guint32)text->len, (guint32)(text->len - begin), words, n));
      guint64 start = at;
      for (guint i = 0; i < n; i++) {
        guint64 before = at;
        words[i].phonemes = MAX(words[i].phonemes, 3);
        for (guint p = 0; p < words[i].phonemes; p++)
          at += (guint64)(1900 * g_rand_double_range(rand, 0.8, 1.2));
        guint64 half = (before + at) / 2;
        g_array_append_val(halves, half);
      }
      ledger_samples(ledger, at - start);
      ledger_complete(ledger, words, n);
    }
    for (guint cut = 0; cut < 200; cut++) {
      guint64 sample = (guint64)(g_rand_double(rand) * (double)at);
      guint truth = 0;
      while (truth < halves->len && g_array_index(halves, guint64, truth) < sample)
        truth++;
      gint said = (gint)words_before(text->str, ledger_heard(ledger, sample));
      g_assert_cmpint(ABS(said - (gint)truth), <=, 1);
    }
    g_array_unref(halves);
    g_free(ledger);
  }
}

/* More than half of a word counts as the word. */
static void test_partial_word(void) {
  static const LedgerWord words[] = {{0, 2, 2}, {3, 5, 2}, {6, 10, 4}};
  Ledger *ledger = g_new0(Ledger, 1);
  ledger_reset(ledger);
  g_assert_true(ledger_add(ledger, 0, 11, 11, words, 3));
  ledger_samples(ledger, 800);
  ledger_complete(ledger, words, 3);
  static const struct {
    guint64 sample;
    guint32 bytes;
  } cuts[] = {{0, 0},   {99, 0},  {100, 0},  {101, 2},  {200, 2}, {300, 2},
              {301, 5}, {600, 5}, {601, 10}, {799, 10}, {800, 11}};
  for (gsize i = 0; i < G_N_ELEMENTS(cuts); i++)
    g_assert_cmpuint(ledger_heard(ledger, cuts[i].sample), ==, cuts[i].bytes);
  g_free(ledger);
}

/* Before the voice reports, the length is guessed from the letters; it never claims more than the clause. */
static void test_unfinished_clause(void) {
  const char *text = "four words are here ";
  LedgerWord words[8];
  Ledger *ledger = g_new0(Ledger, 1);
  ledger_reset(ledger);
  guint n = ledger_split(text, strlen(text), words, G_N_ELEMENTS(words));
  g_assert_cmpuint(n, ==, 4);
  g_assert_true(ledger_add(ledger, 0, (guint32)strlen(text), (guint32)strlen(text), words, n));
  ledger_samples(ledger, 12000);
  guint32 half = ledger_heard(ledger, 12000);
  g_assert_cmpuint(half, >=, 4);
  g_assert_cmpuint(half, <=, 14);
  ledger_samples(ledger, 100000);
  g_assert_cmpuint(ledger_heard(ledger, 112000), ==, 19);
  /* a report that makes no sense leaves the guess */
  static const LedgerWord bad[] = {{5, 4, 1}, {0, 2, 1}};
  ledger_complete(ledger, bad, 2);
  g_assert_cmpuint(ledger->clause[0].words, ==, 4);
  g_assert_cmpuint(ledger_heard(ledger, 112000), ==, 20);
  g_free(ledger);
}

/* A cleaned text is shorter than the bytes it stands for. */
static void test_scaled_text(void) {
  static const LedgerWord words[] = {{0, 4, 4}, {5, 9, 4}};
  Ledger *ledger = g_new0(Ledger, 1);
  ledger_reset(ledger);
  g_assert_true(ledger_add(ledger, 10, 30, 10, words, 2));
  ledger_samples(ledger, 1000);
  ledger_complete(ledger, NULL, 0);
  g_assert_cmpuint(ledger_heard(ledger, 500), ==, 18);
  g_assert_cmpuint(ledger_heard(ledger, 1000), ==, 30);
  g_free(ledger);
}

static void test_limits(void) {
  Ledger *ledger = g_new0(Ledger, 1);
  ledger_reset(ledger);
  LedgerWord words[LEDGER_CLAUSE_WORDS];
  for (guint i = 0; i < G_N_ELEMENTS(words); i++)
    words[i] = (LedgerWord){(guint16)(2 * i), (guint16)(2 * i + 1), 1};
  guint32 length = 2 * LEDGER_CLAUSE_WORDS;
  for (guint i = 0; i < LEDGER_CLAUSES; i++)
    g_assert_true(ledger_add(ledger, i * length, (i + 1) * length, length, words, G_N_ELEMENTS(words)));
  g_assert_false(ledger_add(ledger, G_MAXUINT32 - 1, G_MAXUINT32, 1, NULL, 0));
  g_assert_cmpuint(ledger->words, <=, LEDGER_WORDS);
  /* clauses without a word table are divided by bytes */
  for (guint i = 0; i < LEDGER_CLAUSES; i++) {
    ledger_samples(ledger, 1000);
    ledger_complete(ledger, words, G_N_ELEMENTS(words));
  }
  guint32 half = ledger_heard(ledger, (guint64)LEDGER_CLAUSES * 1000 - 500);
  g_assert_cmpuint(half, ==, LEDGER_CLAUSES * length - length / 2);
  ledger_samples(ledger, 1000); /* of no clause */
  g_assert_cmpuint(ledger->total, ==, LEDGER_CLAUSES * 1000);
  ledger_reset(ledger);
  g_assert_false(ledger_add(ledger, 5, 5, 1, NULL, 0));
  g_assert_true(ledger_add(ledger, 5, 9, 4, NULL, 0));
  g_assert_false(ledger_add(ledger, 8, 12, 4, NULL, 0));
  g_free(ledger);
}

/* Where the engine says which samples are whose, that counts, silence between words included. */
static void test_engine_spans(void) {
  const char *text = "one two";
  LedgerWord words[] = {{0, 3, 3, 1000, 5000}, {4, 7, 3, 9000, 12000}};
  Ledger *ledger = g_new0(Ledger, 1);
  ledger_reset(ledger);
  g_assert_true(ledger_add(ledger, 0, 7, 7, words, 2));
  ledger_samples(ledger, 12000);
  g_assert_cmpuint(ledger_known(ledger), ==, 0);
  ledger_complete(ledger, words, 2);
  g_assert_cmpuint(ledger_known(ledger), ==, 12000);
  for (guint64 sample = 0; sample < 12000; sample += 10)
    g_assert_cmpuint(ledger_heard(ledger, sample), ==, sample > 10500 ? 7 : sample > 3000 ? 3 : 0);
  g_assert_cmpuint(ledger_heard(ledger, 12000), ==, strlen(text));
  /* spans that go back, or that only some words have, are not believed: the phonemes decide */
  static const LedgerWord wrong[][2] = {{{0, 3, 3, 6000, 9000}, {4, 7, 3, 0, 4000}},
                                        {{0, 3, 3, 0, 0}, {4, 7, 3, 0, 4000}},
                                        {{0, 3, 3, 5000, 4000}, {4, 7, 3, 5000, 6000}}};
  for (gsize i = 0; i < G_N_ELEMENTS(wrong); i++) {
    ledger_reset(ledger);
    static const LedgerWord guess[] = {{0, 3, 3}, {4, 7, 3}};
    g_assert_true(ledger_add(ledger, 0, 7, 7, guess, 2));
    ledger_samples(ledger, 12000);
    ledger_complete(ledger, wrong[i], 2);
    g_assert_cmpuint(ledger_heard(ledger, 3100), ==, 3);
    g_assert_cmpuint(ledger_heard(ledger, 9100), ==, 7);
  }
  g_free(ledger);
}

/* A sound in front of the reply says nothing of it. */
static void test_filler(void) {
  for (int announced = 0; announced < 2; announced++) {
    Ledger *ledger = g_new0(Ledger, 1);
    ledger_reset(ledger);
    static const LedgerWord words[] = {{0, 3, 3}, {4, 7, 3}};
    if (announced)
      g_assert_true(ledger_add(ledger, 0, 7, 7, words, 2));
    g_assert_true(ledger_filler(ledger, 5000));
    if (!announced)
      g_assert_true(ledger_add(ledger, 0, 7, 7, words, 2));
    ledger_samples(ledger, 12000);
    g_assert_false(ledger_filler(ledger, 10)); /* the clause has begun */
    ledger_complete(ledger, words, 2);
    g_assert_cmpuint(ledger->total, ==, 17000);
    g_assert_cmpuint(ledger_heard(ledger, 5000), ==, 0);
    g_assert_cmpuint(ledger_heard(ledger, 8100), ==, 3);
    g_assert_cmpuint(ledger_heard(ledger, 17000), ==, 7);
    g_free(ledger);
  }
}

static void test_split(void) {
  LedgerWord words[4];
  g_assert_cmpuint(ledger_split("", 0, words, 4), ==, 0);
  g_assert_cmpuint(ledger_split("   ", 3, words, 4), ==, 0);
  g_assert_cmpuint(ledger_split("a b c d e", 9, words, 4), ==, 0);
  g_assert_cmpuint(ledger_split(" Zoë's, ok", strlen(" Zoë's, ok"), words, 4), ==, 2);
  g_assert_cmpuint(words[0].begin, ==, 1);
  g_assert_cmpuint(words[0].end, ==, 8);
  g_assert_cmpuint(words[0].phonemes, ==, 4);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  alarm(60);
  const char *given = g_getenv("SEED");
  seed = given != NULL ? (guint32)strtoul(given, NULL, 10) : g_random_int();
  g_test_message("SEED=%u", seed);
  g_test_add_func("/voice/ledger/sum", test_sum);
  g_test_add_func("/voice/ledger/monotone", test_monotone);
  g_test_add_func("/voice/ledger/cut", test_cut_within_one_word);
  g_test_add_func("/voice/ledger/partial-word", test_partial_word);
  g_test_add_func("/voice/ledger/unfinished", test_unfinished_clause);
  g_test_add_func("/voice/ledger/scaled", test_scaled_text);
  g_test_add_func("/voice/ledger/limits", test_limits);
  g_test_add_func("/voice/ledger/engine-spans", test_engine_spans);
  g_test_add_func("/voice/ledger/filler", test_filler);
  g_test_add_func("/voice/ledger/split", test_split);
  return g_test_run();
}
