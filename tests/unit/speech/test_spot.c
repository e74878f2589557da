/* The table of keyphrases, pronunciations of wake words, and the decoder on recorded speech. */
#include "speech/spot_decoder.h"
#include <string.h>
#include <unistd.h>

#define MODELS "/usr/share/pocketsphinx/model/en-us/"
#define DICTIONARY MODELS "cmudict-en-us.dict"

static gboolean have(const char *path) {
  if (g_file_test(path, G_FILE_TEST_EXISTS))
    return TRUE;
  g_autofree char *why = g_strdup_printf("%s is missing", path);
  g_test_skip(why);
  return FALSE;
}

static void test_pronounce(void) {
  if (!have(DICTIONARY))
    return;
  g_autoptr(GPtrArray) choir = choir_spot_pronounce("choir", DICTIONARY);
  g_autoptr(GPtrArray) data = choir_spot_pronounce("data", DICTIONARY);
  g_assert_cmpuint(choir->len, ==, 1);
  g_assert_cmpstr(choir->pdata[0], ==, "K W AY ER");
  g_assert_cmpuint(data->len, >, 1);
#ifdef CHOIR_HAVE_FLITE
  g_autoptr(GPtrArray) made_up = choir_spot_pronounce("zorbix", DICTIONARY);
  g_autoptr(GPtrArray) none = choir_spot_pronounce("zorbix", NULL);
  g_assert_cmpuint(made_up->len, ==, 1);
  g_test_message("zorbix: %s", (char *)made_up->pdata[0]);
  g_assert_true(g_str_has_prefix(made_up->pdata[0], "Z AO R B"));
  g_assert_cmpstr(none->pdata[0], ==, made_up->pdata[0]);
#endif
}

static void test_wake(void) {
  if (!have(DICTIONARY))
    return;
  char *problem = NULL;
  ChoirSpotPhrases *phrases = choir_spot_phrases_new(NULL, DICTIONARY, &problem);
  guint shipped = choir_spot_phrases_count(phrases), kinds = 0;
  g_assert_null(problem);
  for (guint i = 0; i < shipped; i++)
    kinds |= choir_spot_phrases_get(phrases, i)->kind;
  g_assert_cmpuint(kinds, ==, CHOIR_SPOT_STOP | CHOIR_SPOT_BACKCHANNEL);
  choir_spot_phrases_free(phrases);
  phrases = choir_spot_phrases_new(" Hey Choir , okay data", DICTIONARY, &problem);
  g_assert_null(problem);
  g_assert_cmpuint(choir_spot_phrases_count(phrases), >=, shipped + 3);
  const ChoirSpotPhrase *first = choir_spot_phrases_get(phrases, shipped);
  g_assert_cmpstr(first->text, ==, "hey choir");
  g_assert_cmpstr(first->phones, ==, "HH EY K W AY ER");
  g_assert_cmpuint(first->kind, ==, CHOIR_SPOT_WAKE);
  choir_spot_phrases_free(phrases);
  static const char *const bad[] = {"oh", "h3llo there", "one two three four five six", "\xc3\xa4hm choir",
                                    "'",  "/1e-9/"};
  for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
    phrases = choir_spot_phrases_new(bad[i], DICTIONARY, &problem);
    g_assert_nonnull(problem);
    g_test_message("%s", problem);
    g_assert_cmpuint(choir_spot_phrases_count(phrases), ==, shipped);
    g_free(problem);
    choir_spot_phrases_free(phrases);
  }
}

typedef struct {
  guint n;
  guint64 end;
} Heard;

static void on_heard(const ChoirSpotPhrase *phrase, guint64 end, gpointer user) {
  Heard *heard = user;
  g_test_message("%s at %.2f s", phrase->text, (double)end / 16000);
  heard->n++;
  heard->end = end;
}

/* "go forward ten meters": the first two words end at 1.2 s; a second and third pass find them at the same place. */
static void test_recording(void) {
  g_autofree char *path = g_build_filename(g_get_user_cache_dir(), "choir/data/pocketsphinx/goforward.raw", NULL);
  g_autofree char *raw = NULL;
  gsize length = 0;
  if (!have(MODELS "en-us") || !have(path))
    return;
  g_assert_true(g_file_get_contents(path, &raw, &length, NULL));
  const gint16 *samples = (const gint16 *)(gpointer)raw;
  const gsize n = length / 2;
  char *problem = NULL;
  ChoirSpotPhrases *phrases = choir_spot_phrases_new("go forward", DICTIONARY, &problem);
  g_assert_null(problem);
  g_autoptr(GError) error = NULL;
  g_assert_null(choir_spot_decoder_new("/nowhere", phrases, &error));
  g_assert_nonnull(strstr(error->message, "pocketsphinx-en-us"));
  ChoirSpotDecoder *decoder = choir_spot_decoder_new(MODELS "en-us", phrases, NULL);
  g_assert_nonnull(decoder);
  g_assert_false(choir_spot_decoder_start(decoder, 0));
  for (int round = 0; round < 3; round++) {
    Heard heard = {0};
    g_assert_true(choir_spot_decoder_start(decoder, CHOIR_SPOT_WAKE));
    for (gsize at = 0; at < n; at += 512)
      choir_spot_decoder_feed(decoder, samples + at, MIN(512, n - at), on_heard, &heard);
    choir_spot_decoder_stop(decoder, on_heard, &heard);
    g_assert_cmpuint(heard.n, ==, 1);
    g_assert_cmpuint(heard.end, >, 16000);
    g_assert_cmpuint(heard.end, <, 16000 * 14 / 10);
  }
  choir_spot_decoder_free(decoder);
  choir_spot_phrases_free(phrases);
}

int main(int argc, char **argv) {
  alarm(80);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/speech/spot/pronounce", test_pronounce);
  g_test_add_func("/speech/spot/wake", test_wake);
  g_test_add_func("/speech/spot/recording", test_recording);
  return g_test_run();
}
