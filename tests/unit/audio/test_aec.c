/* The echo simulator: a far voice comes back at -12 dB through a small room after 40, 120 or 200 ms, from a loudspeaker
 * whose clock is 50 ppm off; at times somebody speaks near the microphone. Real recordings when CHOIR_DATA holds them,
 * else noise with the rhythm of speech. */
#include <math.h>
#include <string.h>
#include <unistd.h>
#include "audio/aec.h"
#include "audio/resample.h"
#include "audio/wav.h"

#define RATE CHOIR_AEC_RATE
#define SECONDS 24
#define LEARN_S 6 /* not measured: the filter learns */
#define NEAR_S 14 /* the near voice speaks from here on for NEAR_FOR_S */
#define NEAR_FOR_S 4
#define ECHO_GAIN 0.2512 /* -12 dB */

static gint16 *load(const char *name, gsize *ret_n) {
  const char *data = g_getenv("CHOIR_DATA");
  g_autofree char *own = data ? g_strdup(data) : g_build_filename(g_get_user_cache_dir(), "choir", "data", NULL);
  g_autofree char *path = g_build_filename(own, name, NULL);
  ChoirWav wav = {0};
  if (!choir_wav_read(path, &wav, NULL) || wav.channels != 1)
    return NULL;
  ChoirResampler *resampler = choir_resampler_new(wav.rate, RATE);
  GArray *out = g_array_new(FALSE, FALSE, sizeof(gint16));
  choir_resampler_run(resampler, wav.samples, wav.frames, out);
  choir_resampler_free(resampler);
  choir_wav_clear(&wav);
  *ret_n = out->len;
  return (gint16 *)(gpointer)g_array_free(out, FALSE);
}

/* Noise in syllables, coloured as speech is. */
static gint16 *syllables(guint32 seed, gsize n) {
  g_autoptr(GRand) chance = g_rand_new_with_seed(seed);
  gint16 *out = g_new(gint16, n);
  double low = 0, gain = 0, wanted = 0;
  for (gsize i = 0; i < n; i++) {
    if (i % (RATE / 8) == 0)
      wanted = g_rand_double(chance) < 0.3 ? 0 : g_rand_double_range(chance, 0.3, 1);
    gain += (wanted - gain) * 0.002;
    low = 0.85 * low + g_rand_double_range(chance, -1, 1);
    out[i] = (gint16)CLAMP(low * gain * 4000, -32000, 32000);
  }
  return out;
}

static gint16 *voice(const char *name, guint32 seed, gsize *ret_n) {
  gint16 *samples = load(name, ret_n);
  if (samples)
    return samples;
  *ret_n = RATE * 11;
  return syllables(seed, *ret_n);
}

#define SINC_STEPS 2048
#define SINC_TAPS 16

/* Far sample at a fractional place: a clock that is off by some parts per million. Windowed sinc: what is wrong in here
 * would be blamed on the canceller. */
static double far_at(const gint16 *far, gsize n, double place) {
  static float table[SINC_STEPS][SINC_TAPS];
  static gboolean made;
  const int middle = SINC_TAPS / 2;
  for (int step = 0; !made && step < SINC_STEPS; step++)
    for (int k = 0; k < SINC_TAPS; k++) {
      double x = (double)step / SINC_STEPS - (double)(k - middle + 1);
      double window = 0.5 + 0.5 * cos(G_PI * x / (middle + 0.5));
      table[step][k] = (float)(x == 0 ? 1 : sin(G_PI * x) / (G_PI * x) * window);
    }
  made = TRUE;
  if (place < SINC_TAPS)
    return 0;
  gsize at = (gsize)place;
  const float *row = table[(guint)((place - (double)at) * SINC_STEPS)];
  gsize from = (at - SINC_TAPS / 2 + 1) % n;
  double sum = 0;
  for (guint k = 0; k < SINC_TAPS; k++)
    sum += (double)far[from + k < n ? from + k : from + k - n] * (double)row[k];
  return sum;
}

typedef struct {
  double echo_before, echo_after; /* power while only the far voice speaks */
  double near, both;              /* power of the near voice alone, of the output while both speak */
  double drift;
  double likeness; /* of the output to the near voice, 0..1 */
} Result;

/* The canceller delays by about a frame: the best of the places where the output may lie. */
static double likeness(const GArray *near, const GArray *out, double near_power, double out_power) {
  double best = 0;
  guint at = 0;
  /* The place is found in the first second, the likeness taken from everything. */
  for (guint lag = 0; lag <= 2 * CHOIR_AEC_FRAME; lag++) {
    double cross = 0;
    for (guint i = 0; i < RATE; i++)
      cross += (double)g_array_index(near, gint16, i) * g_array_index(out, gint16, i + lag);
    at = cross > best ? lag : at;
    best = MAX(best, cross);
  }
  best = 0;
  for (guint i = 0; i + at < out->len; i++)
    best += (double)g_array_index(near, gint16, i) * g_array_index(out, gint16, i + at);
  return best / sqrt(MAX(near_power * out_power, 1));
}

static Result simulate(guint delay_ms, double ppm, gboolean keep_near) {
  static const struct {
    guint at;
    double gain;
  } room[] = {{0, 1}, {170, -0.44}, {460, 0.27}, {860, 0.18}, {1460, -0.11}};
  gsize nf = 0, nn = 0;
  g_autofree gint16 *far = voice("jfk.wav", 1, &nf);
  g_autofree gint16 *near = voice("pocketsphinx/librivox/sense_and_sensibility_01_austen_64kb-0880.wav", 2, &nn);
  g_autoptr(GRand) chance = g_rand_new_with_seed(3);
  ChoirAec *aec = choir_aec_new(TRUE);
  Result result = {0};
  double read = 1; /* one sample ahead: no harm */
  g_autoptr(GArray) said = g_array_new(FALSE, FALSE, sizeof(gint16));
  g_autoptr(GArray) came = g_array_new(FALSE, FALSE, sizeof(gint16));
  for (gsize p = 0; p + CHOIR_AEC_FRAME <= (gsize)RATE * SECONDS; p += CHOIR_AEC_FRAME) {
    gint16 mic[CHOIR_AEC_FRAME], given[CHOIR_AEC_FRAME], clean[CHOIR_AEC_FRAME], alone[CHOIR_AEC_FRAME];
    gboolean speaks = keep_near && p >= RATE * NEAR_S && p < RATE * (NEAR_S + NEAR_FOR_S);
    for (gsize i = 0; i < CHOIR_AEC_FRAME; i++) {
      double echo = 0, place = (double)(p + i) * (1 + ppm * 1e-6) - (double)delay_ms * RATE / 1000;
      for (gsize k = 0; k < G_N_ELEMENTS(room); k++)
        echo += room[k].gain * far_at(far, nf, place - room[k].at);
      alone[i] = speaks ? near[(p + i) % nn] : 0;
      mic[i] = (gint16)CLAMP(ECHO_GAIN * echo + alone[i] + g_rand_double_range(chance, -3, 3), -32000, 32000);
      given[i] = (gint16)CLAMP(choir_aec_between(far, nf, read), -32000, 32000);
      read += 1 + choir_aec_drift(aec);
    }
    choir_aec_run(aec, mic, given, clean);
    if (speaks) {
      g_array_append_vals(said, alone, CHOIR_AEC_FRAME);
      g_array_append_vals(came, clean, CHOIR_AEC_FRAME);
    }
    for (gsize i = 0; i < CHOIR_AEC_FRAME; i++) {
      if (speaks) {
        result.near += (double)alone[i] * alone[i];
        result.both += (double)clean[i] * clean[i];
      } else if (p >= RATE * LEARN_S && p < RATE * NEAR_S) {
        result.echo_before += (double)mic[i] * mic[i];
        result.echo_after += (double)clean[i] * clean[i];
      }
    }
  }
  result.drift = choir_aec_drift(aec);
  choir_aec_free(aec);
  if (result.near > 0)
    result.likeness = likeness(said, came, result.near, result.both);
  return result;
}

static double decibel(double part, double whole) {
  return 10 * log10(part / MAX(whole, 1e-9));
}

static void test_echo(void) {
  static const guint delays[] = {40, 120, 200};
  static const double drifts[] = {0, 50, -50};
  for (gsize d = 0; d < G_N_ELEMENTS(delays); d++) {
    for (gsize k = 0; k < G_N_ELEMENTS(drifts); k++) {
      Result result = simulate(delays[d], drifts[k], TRUE);
      double erle = decibel(result.echo_before, result.echo_after);
      double kept = decibel(result.both, result.near);
      g_test_message("%3u ms %+3.0f ppm, taken for %+.1f: echo return loss enhancement %.1f dB; near voice %+.1f dB, "
                     "likeness %.2f",
                     delays[d], drifts[k], result.drift * 1e6, erle, kept, result.likeness);
      g_assert_cmpfloat(erle, >, 18);
      g_assert_cmpfloat(fabs(result.drift * 1e6 - drifts[k]), <, 30);
      g_assert_cmpfloat(kept, >, -3);
      g_assert_cmpfloat(kept, <, 3);
      g_assert_cmpfloat(result.likeness, >, 0.7);
    }
  }
}

/* Without a loudspeaker nothing is taken for echo. */
static void test_plain(void) {
  ChoirAec *aec = choir_aec_new(FALSE);
  g_autofree gint16 *speech = syllables(5, RATE * 2);
  double in = 0, out = 0;
  for (gsize p = 0; p + CHOIR_AEC_FRAME <= (gsize)RATE * 2; p += CHOIR_AEC_FRAME) {
    gint16 clean[CHOIR_AEC_FRAME];
    choir_aec_run(aec, speech + p, NULL, clean);
    for (gsize i = 0; p > RATE / 2 && i < CHOIR_AEC_FRAME; i++) {
      in += (double)speech[p + i] * speech[p + i];
      out += (double)clean[i] * clean[i];
    }
  }
  choir_aec_free(aec);
  g_assert_cmpfloat(decibel(out, in), >, -6);
}

/* A jump of the loudspeaker's timing is learnt anew. */
static void test_reset(void) {
  ChoirAec *aec = choir_aec_new(TRUE);
  g_autofree gint16 *far = syllables(7, RATE * 16);
  double before = 0, after = 0;
  for (gsize p = RATE; p + CHOIR_AEC_FRAME <= (gsize)RATE * 16; p += CHOIR_AEC_FRAME) {
    gint16 mic[CHOIR_AEC_FRAME], clean[CHOIR_AEC_FRAME];
    gsize lag = p < RATE * 8 ? 700 : 2100;
    if (p / CHOIR_AEC_FRAME == RATE * 8 / CHOIR_AEC_FRAME)
      choir_aec_reset(aec);
    for (gsize i = 0; i < CHOIR_AEC_FRAME; i++)
      mic[i] = (gint16)(far[p + i - lag] * ECHO_GAIN);
    choir_aec_run(aec, mic, far + p, clean);
    for (gsize i = 0; p > RATE * 12 && i < CHOIR_AEC_FRAME; i++) {
      before += (double)mic[i] * mic[i];
      after += (double)clean[i] * clean[i];
    }
  }
  choir_aec_free(aec);
  g_assert_cmpfloat(decibel(before, after), >, 20);
}

int main(int argc, char **argv) {
  alarm(900);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/audio/aec/echo", test_echo);
  g_test_add_func("/audio/aec/plain", test_plain);
  g_test_add_func("/audio/aec/reset", test_reset);
  return g_test_run();
}
