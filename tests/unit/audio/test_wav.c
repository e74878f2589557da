#include "audio/wav.h"
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

/* A WAV file built field by field, so that every field can be wrong. */
typedef struct {
  guint format, channels, rate, bits;
  const guint8 *data;
  guint32 data_length, claimed;
  gboolean extensible;
  const char *before; /* an extra chunk's name in front of the data */
} Recipe;

static void add(GByteArray *out, guint32 value, guint bytes) {
  for (guint i = 0; i < bytes; i++) {
    guint8 byte = (guint8)(value >> 8 * i);
    g_byte_array_append(out, &byte, 1);
  }
}

static void add_text(GByteArray *out, const char *text) {
  g_byte_array_append(out, (const guint8 *)text, (guint)strlen(text));
}

static GByteArray *build(const Recipe *recipe) {
  GByteArray *out = g_byte_array_new();
  add_text(out, "RIFF");
  add(out, 0xffffffff, 4);
  add_text(out, "WAVEfmt ");
  add(out, recipe->extensible ? 40 : 16, 4);
  add(out, recipe->extensible ? 0xfffe : recipe->format, 2);
  add(out, recipe->channels, 2);
  add(out, recipe->rate, 4);
  add(out, recipe->rate * recipe->channels * recipe->bits / 8, 4);
  add(out, recipe->channels * recipe->bits / 8, 2);
  add(out, recipe->bits, 2);
  if (recipe->extensible) {
    add(out, 22, 2);
    add(out, recipe->bits, 2);
    add(out, 0, 4);
    add(out, recipe->format, 2);
    for (int i = 0; i < 14; i++)
      add(out, 0, 1);
  }
  if (recipe->before) {
    add_text(out, recipe->before);
    add(out, 3, 4);
    add_text(out, "odd");
    add(out, 0, 1);
  }
  add_text(out, "data");
  add(out, recipe->claimed ? recipe->claimed : recipe->data_length, 4);
  g_byte_array_append(out, recipe->data, recipe->data_length);
  return out;
}

static gboolean parse(const Recipe *recipe, gsize max_frames, ChoirWav *ret_wav, GError **error) {
  g_autoptr(GByteArray) bytes = build(recipe);
  /* An exact heap copy: a read past the end is seen by the address sanitizer. */
  g_autofree guint8 *copy = g_memdup2(bytes->data, bytes->len);
  return choir_wav_parse(copy, bytes->len, max_frames, ret_wav, error);
}

static void test_formats(void) {
  static const guint8 s16[] = {0, 0, 0xff, 0x7f, 0, 0x80, 1, 0}, u8[] = {128, 255, 0, 129};
  static const guint8 s24[] = {0xff, 0xff, 0x7f, 0, 0, 0x80}, s32[] = {0, 0, 0xff, 0x7f, 0, 0, 0, 0x80};
  static const guint8 f32[] = {0, 0, 0x80, 0x3f, 0, 0, 0, 0xbf, 0, 0, 0xc0, 0x7f, 0, 0, 0x80, 0x7f};
  static const struct {
    Recipe recipe;
    gint16 expected[4];
    gsize n;
  } cases[] = {
      {{1, 1, 16000, 16, s16, sizeof s16}, {0, 32767, -32768, 1}, 4},
      {{1, 2, 44100, 16, s16, sizeof s16}, {0, 32767, -32768, 1}, 4},
      {{1, 1, 8000, 8, u8, sizeof u8}, {0, 32512, -32768, 256}, 4},
      {{1, 1, 48000, 24, s24, sizeof s24}, {32767, -32768}, 2},
      {{1, 1, 48000, 32, s32, sizeof s32}, {32767, -32768}, 2},
      {{3, 1, 22050, 32, f32, sizeof f32}, {32767, -16384, 0, 0}, 4}, /* not a number and infinity become silence */
      {{1, 1, 16000, 16, s16, sizeof s16, 0, TRUE}, {0, 32767, -32768, 1}, 4},
      {{1, 1, 16000, 16, s16, sizeof s16, 0, FALSE, "LIST"}, {0, 32767, -32768, 1}, 4},
      {{1, 1, 16000, 16, s16, sizeof s16, 0xffffffff}, {0, 32767, -32768, 1}, 4}, /* a stream of unknown length */
      {{1, 1, 16000, 16, s16, 7}, {0, 32767, -32768}, 3},                         /* cut in the middle of a sample */
      {{1, 1, 16000, 16, s16, 0}, {0}, 0},
  };
  for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
    ChoirWav wav = {0};
    g_autoptr(GError) error = NULL;
    g_assert_true(parse(&cases[i].recipe, 0, &wav, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(wav.frames * wav.channels, ==, cases[i].n);
    g_assert_cmpuint(wav.rate, ==, cases[i].recipe.rate);
    g_assert_cmpmem(wav.samples, cases[i].n * 2, cases[i].expected, cases[i].n * 2);
    choir_wav_clear(&wav);
  }
}

static void test_refused(void) {
  static const guint8 data[64] = {0};
  static const Recipe wrong[] = {
      {1, 0, 16000, 16, data, 64},      {1, 3, 16000, 16, data, 64}, {1, 1, 0, 16, data, 64},
      {1, 1, 4000000, 16, data, 64},    {1, 1, 16000, 12, data, 64}, {2, 1, 16000, 4, data, 64},
      {3, 1, 16000, 64, data, 64},      {1, 1, 16000, 0, data, 64},  {85, 1, 16000, 16, data, 64},
      {0xfffe, 1, 16000, 16, data, 64},
  };
  for (gsize i = 0; i < G_N_ELEMENTS(wrong); i++) {
    ChoirWav wav = {0};
    g_autoptr(GError) error = NULL;
    g_assert_false(parse(&wrong[i], 0, &wav, &error));
    g_assert_error(error, CHOIR_AUDIO_ERROR, CHOIR_AUDIO_ERROR_FORMAT);
    g_assert_null(wav.samples);
  }
  const Recipe good = {1, 1, 16000, 16, data, 64};
  ChoirWav wav = {0};
  g_autoptr(GError) error = NULL;
  g_assert_false(parse(&good, 31, &wav, &error));
  g_assert_error(error, CHOIR_AUDIO_ERROR, CHOIR_AUDIO_ERROR_FORMAT);
}

/* Every prefix of a good file, and every byte of its header set to extreme values: no crash, no read past the end. */
static void test_mangled(void) {
  static const guint8 data[64] = {1, 2, 3};
  const Recipe good = {1, 2, 16000, 16, data, 64, 0, TRUE, "LIST"};
  g_autoptr(GByteArray) bytes = build(&good);
  for (guint length = 0; length <= bytes->len; length++) {
    g_autofree guint8 *copy = g_memdup2(bytes->data, length);
    ChoirWav wav = {0};
    if (choir_wav_parse(copy, length, 0, &wav, NULL))
      g_assert_cmpuint(wav.frames, <=, 16);
    choir_wav_clear(&wav);
  }
  static const guint8 values[] = {0, 1, 0x7f, 0x80, 0xff};
  for (guint at = 0; at < bytes->len; at++)
    for (gsize v = 0; v < G_N_ELEMENTS(values); v++) {
      g_autofree guint8 *copy = g_memdup2(bytes->data, bytes->len);
      copy[at] = values[v];
      ChoirWav wav = {0};
      if (choir_wav_parse(copy, bytes->len, 0, &wav, NULL))
        g_assert_cmpuint(wav.frames, <=, bytes->len);
      choir_wav_clear(&wav);
    }
}

static void test_round_trip(void) {
  g_autoptr(GError) error = NULL;
  g_autofree char *folder = g_dir_make_tmp("choir-wav-XXXXXX", &error);
  g_assert_no_error(error);
  g_autofree char *path = g_build_filename(folder, "a.wav", NULL);
  gint16 samples[2000];
  for (gsize i = 0; i < G_N_ELEMENTS(samples); i++)
    samples[i] = (gint16)g_test_rand_int_range(-32768, 32768);
  g_assert_true(choir_wav_write(path, samples, 1000, 2, 24000, &error));
  ChoirWav wav = {0};
  g_assert_true(choir_wav_read(path, &wav, &error));
  g_assert_cmpuint(wav.frames, ==, 1000);
  g_assert_cmpuint(wav.channels, ==, 2);
  g_assert_cmpuint(wav.rate, ==, 24000);
  g_assert_cmpmem(wav.samples, sizeof samples, samples, sizeof samples);
  choir_wav_clear(&wav);
  g_assert_true(choir_wav_write(path, samples, 0, 1, 8000, &error));
  g_assert_true(choir_wav_read(path, &wav, &error));
  g_assert_cmpuint(wav.frames, ==, 0);
  choir_wav_clear(&wav);
  g_remove(path);
  g_rmdir(folder);
}

static void test_io_errors(void) {
  g_autoptr(GError) error = NULL;
  ChoirWav wav = {0};
  g_assert_false(choir_wav_read("/nowhere/at all.wav", &wav, &error));
  g_assert_error(error, CHOIR_AUDIO_ERROR, CHOIR_AUDIO_ERROR_IO);
  g_clear_error(&error);
  gint16 sample = 0;
  g_assert_false(choir_wav_write("/nowhere/at all.wav", &sample, 1, 1, 8000, &error));
  g_assert_error(error, CHOIR_AUDIO_ERROR, CHOIR_AUDIO_ERROR_IO);
  g_clear_error(&error);
  g_autofree gint16 *many = g_new0(gint16, 100000);
  g_assert_false(choir_wav_write("/dev/full", many, 100000, 1, 8000, &error));
  g_assert_error(error, CHOIR_AUDIO_ERROR, CHOIR_AUDIO_ERROR_IO);
}

int main(int argc, char **argv) {
  alarm(60);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/audio/wav/formats", test_formats);
  g_test_add_func("/audio/wav/refused", test_refused);
  g_test_add_func("/audio/wav/mangled", test_mangled);
  g_test_add_func("/audio/wav/round-trip", test_round_trip);
  g_test_add_func("/audio/wav/io-errors", test_io_errors);
  return g_test_run();
}
