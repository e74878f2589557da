#include <string.h>
#include <unistd.h>
#include "agent/clause.h"
#include "agent/repeat.h"

typedef struct {
  GPtrArray *texts;
  GString *spans;
  gsize end;
  const char *reply;
} Heard;

/* Every clause: spans join up, the text is as long as its span, letters stand where they stood in the reply. */
static void on_clause(const char *text, gsize begin, gsize end, gpointer user) {
  Heard *heard = user;
  g_assert_cmpuint(begin, ==, heard->end);
  g_assert_cmpuint(end, >, begin);
  g_assert_cmpuint(strlen(text), ==, end - begin);
  g_assert_true(g_utf8_validate(text, -1, NULL));
  for (gsize i = 0; i < end - begin; i++)
    if (text[i] != ' ')
      g_assert_cmpint(text[i], ==, heard->reply[begin + i]);
  heard->end = end;
  g_string_append_printf(heard->spans, "%zu,", end);
  char *copy = g_strstrip(g_strdup(text));
  /* Runs of spaces are what became of marks: one is enough to compare. */
  for (char *p; (p = strstr(copy, "  "));)
    memmove(p, p + 1, strlen(p));
  g_ptr_array_add(heard->texts, copy);
}

/* The clauses of a reply joined by "|", fed in pieces of `step` bytes (0: at random). */
static char *clauses(const char *reply, gsize step, char **ret_spans) {
  Heard heard = {g_ptr_array_new_with_free_func(g_free), g_string_new(NULL), 0, reply};
  ChoirClause *clause = choir_clause_new(on_clause, &heard);
  gsize length = strlen(reply);
  for (gsize at = 0; at < length;) {
    gsize n = step ? step : (gsize)g_test_rand_int_range(1, 12);
    n = MIN(n, length - at);
    choir_clause_feed(clause, reply + at, n);
    at += n;
  }
  choir_clause_end(clause);
  choir_clause_free(clause);
  g_ptr_array_add(heard.texts, NULL);
  char *joined = g_strjoinv("|", (char **)heard.texts->pdata);
  g_ptr_array_unref(heard.texts);
  char *spans = g_string_free(heard.spans, FALSE);
  if (ret_spans)
    *ret_spans = spans;
  else
    g_free(spans);
  return joined;
}

static const struct {
  const char *reply, *want;
} cases[] = {
    {"The sky is blue.", "The sky is blue."},
    {"Yes. It rains today! Take a coat, please.", "Yes.|It rains today!|Take a coat, please."},
    {"Well, that depends on the weather, my friend, and on the wind. Ask later.",
     "Well, that depends on the weather,|my friend, and on the wind.|Ask later."},
    {"Pi is 3.14159 and e is 2.718. Both go on.", "Pi is 3.14159 and e is 2.718.|Both go on."},
    {"Dr. Smith and Mrs. Jones met at 5 p.m. in St. Louis. They talked.",
     "Dr. Smith and Mrs. Jones met at 5 p.m. in St. Louis.|They talked."},
    {"Use fruit, e.g. apples. See fig. 3 and no. 7. Done.", "Use fruit, e.g. apples.|See fig. 3 and no. 7.|Done."},
    {"The river was wide and the boat was small and old.", "The river was wide|and the boat was small and old."},
    {"It is one of those things that nobody really wants to do on a Monday morning at all.",
     "It is one of those things|that nobody really wants to do on a Monday morning at all."},
    {"There is a word here that is andante with a soft tone.",
     "There is a word here|that is andante with a soft tone."},
    {"Pack pens, etc. Then sit down.", "Pack pens, etc.|Then sit down."},
    {"It starts at 9 a.m. Bring food.", "It starts at 9 a.m.|Bring food."},
    {"J. S. Bach wrote it. The U.S. Army did not.", "J. S. Bach wrote it.|The U.S. Army did not."},
    {"Look at https://example.com/a.b?c=1. It helps.", "Look at example.com/a.b?c=1.|It helps."},
    {"He said \"Stop!\" and left. (Really.) Gone.", "He said \"Stop!\"|and left.|(Really.)|Gone."},
    {"Note: it is 10:30 now; hurry.", "Note: it is 10:30 now;|hurry."},
    {"**Bold** and *soft* and `code` and ~5.", "Bold and soft|and code and ~5."},
    {"# Title\n\n- one\n- two\n* three\n1. four\n2. five", "Title|one|two|three|1. four|2. five"},
    {"See [the page](https://example.com/x) now.", "See the page now."},
    {"Try this:\n```python\nprint('hi. there')\n```\nDone.", "Try this:|Done."},
    {"Good \xf0\x9f\x98\x80\xef\xb8\x8f job \xe2\x9c\x85!", "Good job !"},
    {"\xf0\x9f\x98\x80", ""},
    {"...", ""},
    {"", ""},
    {"It is 3 * 4 in C#. \xc2\xb0"
     "C and 5 \xe2\x82\xac are kept.",
     "It is 3 * 4 in C#.|\xc2\xb0"
     "C and 5 \xe2\x82\xac are kept."},
    {"Wait... what? Really?! Yes.", "Wait... what?|Really?!|Yes."},
    {"\xe4\xbd\xa0\xe5\xa5\xbd\xe3\x80\x82\xe5\x86\x8d\xe8\xa7\x81\xe3\x80\x82",
     "\xe4\xbd\xa0\xe5\xa5\xbd\xe3\x80\x82|\xe5\x86\x8d\xe8\xa7\x81\xe3\x80\x82"},
    {"A snake_case name.\nNext line", "A snake case name.|Next line"},
};

static void test_cases(void) {
  for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autofree char *got = clauses(cases[i].reply, 3, NULL);
    g_assert_cmpstr(got, ==, cases[i].want);
  }
}

/* However the bytes arrive, inside characters too, the clauses are the same. */
static void test_any_split(void) {
  for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autofree char *spans = NULL;
    g_autofree char *whole = clauses(cases[i].reply, 1000, &spans);
    for (gsize step = 0; step <= 7; step++) {
      g_autofree char *other_spans = NULL;
      g_autofree char *other = clauses(cases[i].reply, step, &other_spans);
      g_assert_cmpstr(other, ==, whole);
      g_assert_cmpstr(other_spans, ==, spans);
    }
  }
}

static void test_long_without_marks(void) {
  GString *text = g_string_new(NULL);
  for (int i = 0; i < 200; i++)
    g_string_append(text, "word ");
  g_autofree char *spans = NULL;
  g_autofree char *got = clauses(text->str, 5, &spans);
  g_auto(GStrv) parts = g_strsplit(got, "|", -1);
  g_assert_cmpuint(g_strv_length(parts), >=, 4);
  g_assert_cmpuint(strlen(parts[0]), <=, 95);
  for (char **part = parts; *part; part++)
    g_assert_cmpuint(strlen(*part), <=, 225);
  g_string_free(text, TRUE);
}

/* Noise: marks, fences, broken UTF-8. Nothing may crash, and all invariants of on_clause hold. */
static void test_noise(void) {
  static const char alphabet[] = "ab3 .,;:!?`*_#-[](){}<>|~\\\"'\n\t\xe2\x80\x99\xf0\x9f\x98\x80\xff\xc3";
  for (int round = 0; round < 3000; round++) {
    char reply[160];
    gsize n = (gsize)g_test_rand_int_range(1, sizeof reply - 1);
    for (gsize i = 0; i < n; i++)
      reply[i] = alphabet[g_test_rand_int_range(0, sizeof alphabet - 1)];
    reply[n] = 0;
    g_autofree char *got = clauses(reply, 0, NULL);
  }
}

static gsize first_repeat(const char *reply) {
  ChoirRepeat repeat;
  choir_repeat_init(&repeat);
  gsize keep = G_MAXSIZE;
  for (gsize i = 1; i <= strlen(reply) && keep == G_MAXSIZE; i++)
    keep = choir_repeat_check(&repeat, reply, i);
  choir_repeat_clear(&repeat);
  return keep;
}

static void test_repeat(void) {
  g_assert_cmpuint(first_repeat("The cat is grey. The dog is old. It rains."), ==, G_MAXSIZE);
  g_assert_cmpuint(first_repeat("I like it. I like it a lot. Yes. Yes. Ha ha ha ha."), ==, G_MAXSIZE);
  g_assert_cmpuint(first_repeat("The cat is grey. It rains a lot. the cat, is grey! More."), ==,
                   strlen("The cat is grey. It rains a lot."));
  const char *loop = "It is a very big thing, a very big thing, a very big thing, a very big thing, a very big thing";
  gsize keep = first_repeat(loop);
  g_assert_cmpuint(keep, <, 50);
  g_assert_cmpuint(keep, >, 15);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  alarm(60);
  g_test_add_func("/agent/clause/cases", test_cases);
  g_test_add_func("/agent/clause/any-split", test_any_split);
  g_test_add_func("/agent/clause/long-without-marks", test_long_without_marks);
  g_test_add_func("/agent/clause/noise", test_noise);
  g_test_add_func("/agent/repeat", test_repeat);
  return g_test_run();
}
