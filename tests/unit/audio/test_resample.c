#include "audio/resample.h"
#include <math.h>
#include <unistd.h>

static gint16 *tone(guint rate, double frequency, double level, gsize n) {
  gint16 *samples = g_new(gint16, n);
  for (gsize i = 0; i < n; i++)
    samples[i] = (gint16)lrint(level * 32767 * sin(2 * G_PI * frequency * (double)i / rate));
  return samples;
}

/* What is left of a signal after the best-fitting tone of this frequency is taken out, in dB below the tone. */
static double tone_to_rest_db(const gint16 *samples, gsize n, guint rate, double frequency, double *ret_level) {
  double a = 0, b = 0;
  for (gsize i = 0; i < n; i++) {
    double phase = 2 * G_PI * frequency * (double)i / rate;
    a += samples[i] * sin(phase);
    b += samples[i] * cos(phase);
  }
  a *= 2.0 / (double)n;
  b *= 2.0 / (double)n;
  double rest = 0;
  for (gsize i = 0; i < n; i++) {
    double phase = 2 * G_PI * frequency * (double)i / rate;
    double difference = samples[i] - a * sin(phase) - b * cos(phase);
    rest += difference * difference;
  }
  *ret_level = sqrt(a * a + b * b) / 32767;
  return 10 * log10((a * a + b * b) / 2 * (double)n / (rest + 1e-9));
}

/* Fed in pieces of random length, as from a network. */
static GArray *convert(guint from, guint to, const gint16 *samples, gsize n) {
  ChoirResampler *resampler = choir_resampler_new(from, to);
  GArray *out = g_array_new(FALSE, FALSE, sizeof(gint16));
  for (gsize at = 0; at < n;) {
    gsize random = (gsize)g_test_rand_int_range(1, 5000), piece = MIN(n - at, random);
    choir_resampler_run(resampler, samples + at, piece, out);
    at += piece;
  }
  choir_resampler_free(resampler);
  return out;
}

static void test_accuracy(void) {
  static const guint rates[][2] = {{48000, 16000}, {44100, 16000}, {24000, 16000}, {22050, 24000},
                                   {16000, 24000}, {8000, 16000},  {16000, 48000}};
  for (gsize i = 0; i < G_N_ELEMENTS(rates); i++) {
    guint from = rates[i][0], to = rates[i][1];
    gsize n = from * 2;
    g_autofree gint16 *in = tone(from, 1000, 0.5, n);
    g_autoptr(GArray) out = convert(from, to, in, n);
    g_test_message("%u to %u: %u samples", from, to, out->len);
    /* Length: the filter's delay may be missing at the end, 40 samples of the lower rate. */
    int missing = (int)(2 * to) - (int)out->len;
    g_assert_cmpint(missing, >=, 0);
    g_assert_cmpint(missing, <=, (int)(41 * to / MIN(from, to)));
    double level = 0;
    gsize skip = to / 10;
    double db = tone_to_rest_db(&g_array_index(out, gint16, skip), out->len - 2 * skip, to, 1000, &level);
    g_test_message("%u to %u: noise at -%.1f dB, level %.4f", from, to, db, level);
    g_assert_cmpfloat(db, >, 60);
    g_assert_cmpfloat(fabs(level - 0.5), <, 0.01);
  }
}

/* 11 kHz does not fit into 16 kHz: it must vanish, not fold down to 5 kHz. */
static void test_alias(void) {
  g_autofree gint16 *in = tone(48000, 11000, 0.5, 96000);
  g_autoptr(GArray) out = convert(48000, 16000, in, 96000);
  double rms = choir_pcm_rms(&g_array_index(out, gint16, 1600), out->len - 3200);
  g_test_message("alias: %.1f dB", 20 * log10(rms / 0.3535));
  g_assert_cmpfloat(20 * log10(rms / 0.3535), <, -50);
}

static void test_pass_through_and_reset(void) {
  g_autofree gint16 *in = tone(16000, 300, 0.3, 1600);
  g_autoptr(GArray) same = convert(16000, 16000, in, 1600);
  g_assert_cmpmem(same->data, same->len * 2, in, 3200);
  ChoirResampler *resampler = choir_resampler_new(22050, 24000);
  g_autoptr(GArray) first = g_array_new(FALSE, FALSE, sizeof(gint16));
  g_autoptr(GArray) second = g_array_new(FALSE, FALSE, sizeof(gint16));
  choir_resampler_run(resampler, in, 1600, first);
  choir_resampler_reset(resampler);
  choir_resampler_run(resampler, in, 1600, second);
  g_assert_cmpmem(first->data, first->len * 2, second->data, second->len * 2);
  choir_resampler_run(resampler, in, 0, second);
  choir_resampler_free(resampler);
  choir_resampler_free(NULL);
}

static void test_full_scale(void) {
  g_autofree gint16 *in = g_new(gint16, 8000);
  for (gsize i = 0; i < 8000; i++)
    in[i] = (i / 20) % 2 ? 32767 : -32768; /* overshoots in any filter: must clip, not wrap */
  g_autoptr(GArray) out = convert(16000, 24000, in, 8000);
  int wraps = 0;
  for (guint i = 1; i < out->len; i++)
    wraps += ABS(g_array_index(out, gint16, i) - g_array_index(out, gint16, i - 1)) > 64000;
  g_assert_cmpint(wraps, ==, 0);
}

static void test_rms(void) {
  gint16 loud[] = {32767, -32767, 32767, -32767};
  g_assert_cmpfloat(choir_pcm_rms(loud, 0), ==, 0);
  g_assert_cmpfloat(fabs(choir_pcm_rms(loud, 4) - 1), <, 0.001);
}

int main(int argc, char **argv) {
  alarm(60);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/audio/resample/accuracy", test_accuracy);
  g_test_add_func("/audio/resample/alias", test_alias);
  g_test_add_func("/audio/resample/pass-through-and-reset", test_pass_through_and_reset);
  g_test_add_func("/audio/resample/full-scale", test_full_scale);
  g_test_add_func("/audio/resample/rms", test_rms);
  return g_test_run();
}
