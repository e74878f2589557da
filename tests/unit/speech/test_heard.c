#include "speech/stt_heard.h"
#include "base/names.h"
#include <string.h>
#include <unistd.h>

#define MS (CHOIR_RATE_MIC / 1000)

/* "s2000 p500 s1500": speech and pauses in ms; speech is loud noise, a pause a soft one. */
static GArray *sound(const char *script, gint16 hiss) {
  GArray *pcm = g_array_new(FALSE, FALSE, sizeof(gint16));
  g_auto(GStrv) parts = g_strsplit(script, " ", -1);
  g_autoptr(GRand) rand = g_rand_new_with_seed(7); /* the same beginning for each script that begins so */
  for (guint i = 0; parts[i]; i++)
    for (gint64 n = g_ascii_strtoll(parts[i] + 1, NULL, 10) * MS; n > 0; n--) {
      gint16 most = parts[i][0] == 's' ? 9000 : hiss;
      gint16 value = (gint16)(most ? g_rand_int_range(rand, -most, most) : 0);
      g_array_append_val(pcm, value);
    }
  return pcm;
}

static void keep(ChoirSttHeard *heard, guint32 session, const char *script, const char *text) {
  g_autoptr(GArray) pcm = sound(script, 60);
  choir_stt_heard_keep(heard, session, "{}", (gint16 *)(gpointer)pcm->data, pcm->len, text);
}

/* ms that are known, -1 when they lie outside of [least, most] */
static void check(ChoirSttHeard *heard, guint32 session, const char *wish, const char *script, guint least, guint most,
                  const char *text) {
  g_autoptr(GArray) pcm = sound(script, 60);
  const char *known = NULL;
  gsize n = choir_stt_heard_find(heard, session, wish, (gint16 *)(gpointer)pcm->data, pcm->len, &known);
  g_assert_cmpuint(n, >=, least * MS);
  g_assert_cmpuint(n, <=, most * MS);
  g_assert_cmpstr(n ? known : NULL, ==, text);
}

static void test_pause(void) {
  ChoirSttHeard *heard = choir_stt_heard_new();
  check(heard, 1, "{}", "s3000 p600 s2000", 0, 0, NULL);
  keep(heard, 1, "s3000 p80", "One two three.");
  check(heard, 1, "{}", "s3000 p80", 0, 0, NULL);               /* nothing behind it yet */
  check(heard, 1, "{}", "s3000 p900", 0, 0, NULL);              /* still a pause */
  check(heard, 2, "{}", "s3000 p600 s2000", 0, 0, NULL);        /* somebody else */
  check(heard, 1, "{\"a\":1}", "s3000 p600 s2000", 0, 0, NULL); /* in another language */
  check(heard, 1, "{}", "s2990 p610 s2000", 0, 0, NULL);        /* another sound */
  check(heard, 1, "{}", "s3000 p300 s2000", 0, 0, NULL);        /* a short pause */
  check(heard, 1, "{}", "s3000 p600 s700", 0, 0, NULL);         /* little behind it */
  check(heard, 1, "{}", "s3000 p600 s2000", 3500, 3600, "One two three.");
  check(heard, 1, "{}", "s3000 p600 s4000", 3500, 3600, "One two three.");
  choir_stt_heard_free(heard);
}

static void test_grows(void) {
  ChoirSttHeard *heard = choir_stt_heard_new();
  keep(heard, 1, "s3000 p80", "One.");
  check(heard, 1, "{}", "s3000 p600 s2500 p80", 3500, 3600, "One.");
  keep(heard, 1, "s3000 p600 s2500 p80", "One. Two.");
  check(heard, 1, "{}", "s3000 p600 s2500 p500 s400", 3500, 3600, "One."); /* the last pause is too near */
  check(heard, 1, "{}", "s3000 p600 s2500 p500 s1400", 6500, 6600, "One. Two.");
  keep(heard, 1, "s3000 p600 s2500 p500 s300", "One. Two th"); /* in the middle of a word */
  check(heard, 1, "{}", "s3000 p600 s2500 p500 s3000", 6500, 6600, "One. Two.");
  keep(heard, 1, "s1000 p80", "Another."); /* the same caller begins anew */
  check(heard, 1, "{}", "s3000 p600 s2500 p500 s3000", 0, 0, NULL);
  check(heard, 1, "{}", "s1000 p600 s3000", 0, 0, NULL); /* before the pause was too little */
  choir_stt_heard_free(heard);
}

static void test_limits(void) {
  ChoirSttHeard *heard = choir_stt_heard_new();
  for (guint32 session = 1; session <= CHOIR_STT_HEARD_SESSIONS + 1; session++)
    keep(heard, session, "s3000 p80", "One.");
  check(heard, 1, "{}", "s3000 p600 s2500", 0, 0, NULL);
  check(heard, 2, "{}", "s3000 p600 s2500", 3500, 3600, "One.");
  keep(heard, 9, "s3000 p80", ""); /* nothing was understood: that is heard again */
  check(heard, 9, "{}", "s3000 p600 s2500", 0, 0, NULL);
  keep(heard, 10, "", "");
  check(heard, 10, "{}", "", 0, 0, NULL);
  choir_stt_heard_free(heard);
}

/* No level divides speech from pauses. */
static void test_noise(void) {
  ChoirSttHeard *heard = choir_stt_heard_new();
  g_autoptr(GArray) before = sound("s3000 p80", 4000), after = sound("s3000 p600 s2500", 4000);
  const char *known;
  choir_stt_heard_keep(heard, 1, "{}", (gint16 *)(gpointer)before->data, before->len, "One.");
  g_assert_cmpuint(choir_stt_heard_find(heard, 1, "{}", (gint16 *)(gpointer)after->data, after->len, &known), ==, 0);
  choir_stt_heard_free(heard);
}

static void test_join(void) {
  static const char *const cases[][3] = {
      {"And so, my fellow Americans.", "ask not.", "And so, my fellow Americans ask not."},
      {"One.", "Two.", "One. Two."},
      {"Well...", "maybe.", "Well maybe."},
      {"Five,", "five.", "Five, five."},
      {"One.", "", "One."},
      {"", "two.", "two."},
      {"Grün?", "über allem.", "Grün über allem."},
  };
  for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autoptr(GString) text = g_string_new(cases[i][0]);
    choir_stt_heard_join(text, cases[i][1]);
    g_assert_cmpstr(text->str, ==, cases[i][2]);
  }
}

int main(int argc, char **argv) {
  alarm(60);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/speech/heard/pause", test_pause);
  g_test_add_func("/speech/heard/grows", test_grows);
  g_test_add_func("/speech/heard/limits", test_limits);
  g_test_add_func("/speech/heard/noise", test_noise);
  g_test_add_func("/speech/heard/join", test_join);
  return g_test_run();
}
