#include "speech/turn_mel.h"
#include <complex.h>
#include <math.h>
#include <string.h>

#define N 400 /* 25 ms */
#define HOP 160
#define BINS (N / 2 + 1)
#define PAD (N / 2)
#define RATE 16000.0
#define EMPTY 1e-7 /* of the variance: digital silence stays finite */

typedef struct {
  float window[N];
  float complex twiddle[N];
  float weight[CHOIR_TURN_MELS][BINS];
  guint16 first[CHOIR_TURN_MELS], end[CHOIR_TURN_MELS]; /* bins whose weight is not 0 */
} Tables;

/* Slaney's mel scale: linear below 1 kHz, logarithmic above. */
static double hertz(double mel) {
  return mel >= 15 ? 1000 * exp(log(6.4) / 27 * (mel - 15)) : 200 * mel / 3;
}

static void fill_filters(Tables *tables) {
  const double top = 15 + log(RATE / 2000.0) * 27 / log(6.4);
  double edge[CHOIR_TURN_MELS + 2];
  for (guint i = 0; i < CHOIR_TURN_MELS + 2; i++)
    edge[i] = hertz(top * i / (CHOIR_TURN_MELS + 1));
  for (guint m = 0; m < CHOIR_TURN_MELS; m++) {
    tables->first[m] = BINS;
    for (guint k = 0; k < BINS; k++) {
      double f = (double)RATE * k / N;
      double up = (f - edge[m]) / (edge[m + 1] - edge[m]), down = (edge[m + 2] - f) / (edge[m + 2] - edge[m + 1]);
      double value = MIN(up, down) * 2 / (edge[m + 2] - edge[m]);
      if (value <= 0)
        continue;
      tables->weight[m][k] = (float)value;
      tables->first[m] = MIN(tables->first[m], (guint16)k);
      tables->end[m] = (guint16)(k + 1);
    }
  }
}

static const Tables *tables_get(void) {
  static Tables *tables;
  if (g_once_init_enter(&tables)) {
    Tables *made = g_new0(Tables, 1);
    for (guint i = 0; i < N; i++) {
      made->window[i] = (float)(0.5 - 0.5 * cos(2 * G_PI * i / N));
      made->twiddle[i] = (float)cos(2 * G_PI * i / N) - I * (float)sin(2 * G_PI * i / N);
    }
    fill_filters(made);
    g_once_init_leave(&tables, made);
  }
  return tables;
}

/* Cooley-Tukey, decimation in time, radices 5 and 2: 400 = 5 * 5 * 2 * 2 * 2 * 2. */
static void fft(const Tables *tables, const float complex *in, guint stride, float complex *out, guint n) {
  if (n == 1) {
    out[0] = in[0];
    return;
  }
  const guint radix = n % 5 == 0 ? 5 : 2, part = n / radix;
  for (guint r = 0; r < radix; r++)
    fft(tables, in + (gsize)r * stride, stride * radix, out + (gsize)r * part, part);
  for (guint k = 0; k < part; k++) {
    float complex piece[5], sum[5];
    for (guint r = 0; r < radix; r++)
      piece[r] = out[r * part + k] * tables->twiddle[(r * k * stride) % N];
    for (guint q = 0; q < radix; q++) {
      sum[q] = piece[0];
      for (guint r = 1; r < radix; r++)
        sum[q] += piece[r] * tables->twiddle[(r * q * (N / radix)) % N];
    }
    for (guint q = 0; q < radix; q++)
      out[q * part + k] = sum[q];
  }
}

/* Two real frames in one complex transform; their spectra are its even and odd parts. */
static void power_of_two_frames(const Tables *tables, const float *a, const float *b, float *ret_a, float *ret_b) {
  float complex in[N], out[N];
  for (guint i = 0; i < N; i++)
    in[i] = a[i] * tables->window[i] + I * (b[i] * tables->window[i]);
  fft(tables, in, 1, out, N);
  for (guint k = 0; k < BINS; k++) {
    float complex x = out[k], y = conjf(out[(N - k) % N]), even = (x + y) / 2, odd = (x - y) / 2;
    ret_a[k] = crealf(even) * crealf(even) + cimagf(even) * cimagf(even);
    ret_b[k] = crealf(odd) * crealf(odd) + cimagf(odd) * cimagf(odd);
  }
}

static float mel_column(const Tables *tables, const float *power, float *ret_mel, guint frame) {
  float loudest = -G_MAXFLOAT;
  for (guint m = 0; m < CHOIR_TURN_MELS; m++) {
    float sum = 0;
    for (guint k = tables->first[m]; k < tables->end[m]; k++)
      sum += tables->weight[m][k] * power[k];
    float value = log10f(MAX(sum, 1e-10f));
    ret_mel[m * CHOIR_TURN_FRAMES + frame] = value;
    loudest = MAX(loudest, value);
  }
  return loudest;
}

/* Mean 0, variance 1, mirrored at both ends. ret_silent: samples at the front that are all alike. */
static float *prepare(const gint16 *samples, gsize n, gsize *ret_silent) {
  const gsize total = CHOIR_TURN_SAMPLES, before = total - n;
  float *wave = g_new(float, total + (gsize)2 * PAD), *x = wave + PAD;
  double sum = 0, squares = 0;
  for (gsize i = 0; i < n; i++)
    sum += samples[i] / 32768.0;
  const double mean = sum / (double)total;
  for (gsize i = 0; i < n; i++)
    squares += (samples[i] / 32768.0 - mean) * (samples[i] / 32768.0 - mean);
  const double scale = 1 / sqrt((squares + (double)before * mean * mean) / (double)total + EMPTY);
  for (gsize i = 0; i < total; i++)
    x[i] = (float)(((i < before ? 0 : samples[i - before] / 32768.0) - mean) * scale);
  for (gsize i = 1; i <= PAD; i++) {
    wave[PAD - i] = x[i];
    x[total - 1 + i] = x[total - 1 - i];
  }
  *ret_silent = before > PAD ? before + PAD : 0;
  return wave;
}

void choir_turn_mel(const gint16 *samples, gsize n, float *ret_mel) {
  g_return_if_fail(n <= CHOIR_TURN_SAMPLES);
  const Tables *tables = tables_get();
  gsize silent = 0;
  g_autofree float *wave = prepare(samples, n, &silent);
  float power[2][BINS], loudest = -G_MAXFLOAT;
  for (guint frame = 0; frame < CHOIR_TURN_FRAMES; frame += 2) {
    gsize at = (gsize)frame * HOP;
    /* A short utterance leaves most of the 8 s silent: those columns are all the first one. */
    if (frame > 0 && at + HOP + N <= silent) {
      for (guint m = 0; m < CHOIR_TURN_MELS; m++)
        ret_mel[m * CHOIR_TURN_FRAMES + frame] = ret_mel[m * CHOIR_TURN_FRAMES + frame + 1] =
            ret_mel[m * CHOIR_TURN_FRAMES];
      continue;
    }
    power_of_two_frames(tables, wave + at, wave + at + HOP, power[0], power[1]);
    for (guint i = 0; i < 2; i++) {
      float column = mel_column(tables, power[i], ret_mel, frame + i);
      loudest = MAX(loudest, column);
    }
  }
  for (gsize i = 0; i < (gsize)CHOIR_TURN_MELS * CHOIR_TURN_FRAMES; i++)
    ret_mel[i] = (MAX(ret_mel[i], loudest - 8) + 4) / 4;
}
