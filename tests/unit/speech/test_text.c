#include "speech/phonemes_client.h"
#include "speech/stt_text.h"
#include "speech/tts_text.h"
#include <string.h>
#include <unistd.h>

static void test_clean_recognised(void) {
  static const char *const cases[][2] = {
      {" Hello there. ", "Hello there."},
      {"[BLANK_AUDIO]", ""},
      {" (music) ", ""},
      {"*sighs* all right", "all right"},
      {"Turn [noise] it  off", "Turn it off"},
      {"\xe2\x99\xaa la la \xe2\x99\xaa", "la la"},
      {" . ", ""},
      {"(an unclosed remark", "(an unclosed remark"},
      {"it (which was said in a very long remark of somebody) stays",
       "it (which was said in a very long remark of somebody) stays"},
      {"line\none", "line one"},
      {"", ""},
  };
  for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autoptr(GString) text = g_string_new(cases[i][0]);
    choir_stt_text_clean(text);
    g_assert_cmpstr(text->str, ==, cases[i][1]);
  }
  g_autoptr(GString) broken = g_string_new("a\xff\xfe b");
  choir_stt_text_clean(broken);
  g_assert_true(g_utf8_validate(broken->str, (gssize)broken->len, NULL));
}

static void test_inventions(void) {
  g_assert_true(choir_stt_text_is_phantom("Thank you."));
  g_assert_true(choir_stt_text_is_phantom(" Thanks for watching! "));
  g_assert_true(choir_stt_text_is_phantom("..."));
  g_assert_false(choir_stt_text_is_phantom("Thank you for the lights."));
  g_assert_false(choir_stt_text_is_phantom("Stop."));
  g_assert_true(choir_stt_text_is_loop("10 of clubs. 10 of clubs. 10 of clubs. 10 of clubs. 10 of clubs."));
  g_assert_true(choir_stt_text_is_loop("no no no no no no no no"));
  g_assert_false(choir_stt_text_is_loop("no no no, stop it"));
  g_assert_false(
      choir_stt_text_is_loop("ask not what your country can do for you, ask what you can do for your country"));
  g_assert_false(choir_stt_text_is_loop(""));
}

static void test_cut(void) {
  gsize n = 16000 * 40;
  g_autofree gint16 *samples = g_new(gint16, n);
  for (gsize i = 0; i < n; i++)
    samples[i] = (gint16)g_test_rand_int_range(-8000, 8000);
  memset(samples + 16000 * 24, 0, 2 * 8000); /* half a second of silence at 24 s */
  gsize cut = choir_stt_cut(samples, n, 16000 * 29);
  g_assert_cmpuint(cut, >=, 16000 * 24);
  g_assert_cmpuint(cut, <=, 16000 * 24 + 8000);
  g_assert_cmpuint(choir_stt_cut(samples, 16000 * 29, 16000 * 29), ==, 16000 * 29);
  g_assert_cmpuint(choir_stt_cut(samples, 100, 16000 * 29), ==, 100);
  g_assert_cmpuint(choir_stt_cut(samples, 0, 16000 * 29), ==, 0);
}

static void test_clean_spoken(void) {
  static const char *const cases[][2] = {
      {"**Sure**, `yes`.", "  Sure  ,  yes ."},
      {"hi \xf0\x9f\x98\x80!", "hi     !"},
      {"a\tb\nc", "a b c"},
      {"caf\xc3\xa9", "caf\xc3\xa9"},
      {"\xff\xc3", "  "},
      {"", ""},
  };
  for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autofree char *clean = choir_tts_text_clean(cases[i][0], strlen(cases[i][0]));
    g_assert_cmpstr(clean, ==, cases[i][1]);
  }
  for (int i = 0; i < 2000; i++) {
    char bytes[200];
    for (gsize k = 0; k < sizeof bytes; k++)
      bytes[k] = (char)(g_test_rand_bit() ? g_test_rand_int_range(32, 127) : g_test_rand_int_range(0, 256));
    g_autofree char *clean = choir_tts_text_clean(bytes, sizeof bytes);
    g_assert_cmpuint(strlen(clean), ==, sizeof bytes);
    g_assert_true(g_utf8_validate(clean, -1, NULL));
  }
  char word[301] = {0};
  memset(word, 'x', 300);
  g_autofree char *broken = choir_tts_text_clean(word, 300);
  g_assert_nonnull(strchr(broken, ' '));
  g_assert_false(choir_tts_text_speakable(" .,! "));
  g_assert_true(choir_tts_text_speakable(" 7"));
}

static ChoirTtsWord *word_at(GArray *words, guint i) {
  return &g_array_index(words, ChoirTtsWord, i);
}

static void test_words(void) {
  const char *text = " In  the \xf0\x9f\x98\x80 house,";
  g_autoptr(GArray) words = choir_tts_words(text, strlen(text));
  g_assert_cmpuint(words->len, ==, 4);
  g_assert_cmpuint(word_at(words, 0)->begin, ==, 1);
  g_assert_cmpuint(word_at(words, 0)->end, ==, 3);
  g_assert_cmpuint(word_at(words, 3)->end, ==, strlen(text));
  choir_tts_words_add(words, 0, 1); /* before the first: still the first */
  choir_tts_words_add(words, 1, 3);
  choir_tts_words_add(words, 16, 4);
  choir_tts_words_add(words, 9999, 1);
  choir_tts_words_share(words, text);
  g_assert_cmpuint(word_at(words, 0)->phonemes, ==, 2);
  g_assert_cmpuint(word_at(words, 1)->phonemes, ==, 2);
  g_assert_cmpuint(word_at(words, 2)->phonemes, ==, 0); /* a picture is not spoken */
  g_assert_cmpuint(word_at(words, 3)->phonemes, ==, 5);
  g_autoptr(GArray) none = choir_tts_words("", 0);
  choir_tts_words_add(none, 0, 1);
  choir_tts_words_share(none, "");
  g_assert_cmpuint(none->len, ==, 0);
}

static void test_pieces(void) {
  const char *text = "It is 3.5 degrees. Take a coat, or two, as you like";
  gsize first = choir_tts_piece(text, strlen(text), 4);
  g_assert_cmpuint(first, ==, strlen("It is 3.5 ")); /* twice the soft limit: any gap */
  g_assert_cmpuint(choir_tts_piece(text, strlen(text), 100), ==, strlen("It is 3.5 degrees."));
  g_assert_cmpuint(choir_tts_piece(text, 0, 100), ==, 0);
  g_assert_cmpuint(choir_tts_piece("one.", 4, 100), ==, 4);
  gsize length = strlen(text), at = 0;
  for (int i = 0; i < 100 && at < length; i++)
    at += choir_tts_piece(text + at, length - at, 3);
  g_assert_cmpuint(at, ==, length);
}

static void test_trim(void) {
  ChoirTtsTrim trim;
  choir_tts_trim_init(&trim, 10000);
  g_autoptr(GArray) in = g_array_new(FALSE, TRUE, sizeof(gint16));
  g_autoptr(GArray) out = g_array_new(FALSE, FALSE, sizeof(gint16));
  g_array_set_size(in, 5000 + 1000 + 3000 + 1000 + 9000); /* silence, sound, pause, sound, silence */
  for (guint i = 0; i < 1000; i++) {
    g_array_index(in, gint16, 5000 + i) = 5000;
    g_array_index(in, gint16, 9000 + i) = -5000;
  }
  for (guint at = 0; at < in->len;) {
    guint random = (guint)g_test_rand_int_range(1, 700), n = MIN(random, in->len - at);
    choir_tts_trim_run(&trim, &g_array_index(in, gint16, at), n, out);
    at += n;
  }
  choir_tts_trim_end(&trim, out);
  g_assert_cmpuint(out->len, ==,
                   300 + 1000 + 3000 + 1000 + 1200); /* 30 ms before, the pause inside whole, 120 ms behind */
  g_array_set_size(out, 0);
  choir_tts_trim_run(&trim, &g_array_index(in, gint16, 0), 5000, out);
  choir_tts_trim_end(&trim, out);
  g_assert_cmpuint(out->len, ==, 0);
  choir_tts_trim_clear(&trim);
}

static void sum(guint offset, guint count, int at, gpointer user) {
  *(guint *)user += 1000 * offset + count + (at < 0 ? 0 : 100 * (guint)at);
}

static void test_phoneme_list(void) {
  guint total = 0;
  g_assert_true(choir_phonemes_parse_words("0:2 5:3", sum, &total));
  g_assert_cmpuint(total, ==, 5005);
  total = 0;
  g_assert_true(choir_phonemes_parse_words("0:2:0 5:3:4", sum, &total));
  g_assert_cmpuint(total, ==, 5405);
  g_assert_true(choir_phonemes_parse_words("", sum, &total));
  static const char *const bad[] = {"x",       "1",   "1:",   "1:2,",  "1:2 x",  ":3", "99999999999:1",
                                    "1:99999", "1 2", "1:2:", "1:2:x", "1:2:3:4"};
  for (gsize i = 0; i < G_N_ELEMENTS(bad); i++)
    g_assert_false(choir_phonemes_parse_words(bad[i], sum, &total));
}

int main(int argc, char **argv) {
  alarm(60);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/speech/text/clean-recognised", test_clean_recognised);
  g_test_add_func("/speech/text/inventions", test_inventions);
  g_test_add_func("/speech/text/cut", test_cut);
  g_test_add_func("/speech/text/clean-spoken", test_clean_spoken);
  g_test_add_func("/speech/text/words", test_words);
  g_test_add_func("/speech/text/pieces", test_pieces);
  g_test_add_func("/speech/text/trim", test_trim);
  g_test_add_func("/speech/text/phoneme-list", test_phoneme_list);
  return g_test_run();
}
