#include "voice/echo_level.h"
#include "base/names.h"
#include <math.h>

#define FORGET (1.0 / 96) /* 3 s */
#define LEARNT 12.0       /* windows, before anything is believed */
#define CORRELATION 0.6
#define LOUDER 2.0 /* 6 dB above the echo that is expected */

enum { BIN_OUT = CHOIR_VAD_WINDOW * (CHOIR_RATE_OUT / 1000) / (CHOIR_RATE_MIC / 1000) };

void echo_level_reset(EchoLevel *echo) {
  *echo = (EchoLevel){0};
}

static void advance(EchoLevel *echo, guint64 bin) {
  guint64 steps = bin > echo->bin ? MIN(bin - echo->bin, (guint64)ECHO_BINS) : 0;
  for (guint64 i = 0; i < steps; i++)
    echo->played[(bin - i) % ECHO_BINS] = 0;
  echo->bin = MAX(echo->bin, bin);
}

void echo_level_play(EchoLevel *echo, guint64 at, const gint16 *pcm, gsize samples) {
  guint64 start = at * (CHOIR_RATE_OUT / 1000) / (CHOIR_RATE_MIC / 1000);
  advance(echo, (start + samples) / BIN_OUT);
  for (gsize i = 0; i < samples; i++) {
    double value = pcm[i] / 32768.0;
    guint64 bin = (start + i) / BIN_OUT;
    if (bin + ECHO_BINS > echo->bin)
      echo->played[bin % ECHO_BINS] += value * value;
  }
}

/* The level that was played `lag` windows before `bin`. */
static double level(const EchoLevel *echo, guint64 bin, gint lag) {
  if (lag < 0 || (guint64)lag > bin || bin - (guint64)lag > echo->bin || bin - (guint64)lag + ECHO_BINS <= echo->bin)
    return 0;
  return sqrt(echo->played[(bin - (guint64)lag) % ECHO_BINS] / (double)BIN_OUT);
}

static void learn(EchoLevel *echo, guint64 bin, double rms) {
  const double keep = 1 - FORGET;
  echo->weight = echo->weight * keep + 1;
  echo->y = echo->y * keep + rms;
  echo->yy = echo->yy * keep + rms * rms;
  for (gint lag = 0; lag < ECHO_LAGS; lag++) {
    double value = level(echo, bin, lag);
    echo->x[lag] = echo->x[lag] * keep + value;
    echo->xx[lag] = echo->xx[lag] * keep + value * value;
    echo->xy[lag] = echo->xy[lag] * keep + value * rms;
  }
}

/* The delay with the highest correlation and the loudness over it; -1: none is high. */
static gint find_path(const EchoLevel *echo, double *ret_gain) {
  double best = CORRELATION, n = echo->weight, vy = echo->yy - echo->y * echo->y / n;
  gint path = -1;
  for (gint lag = 0; lag < ECHO_LAGS; lag++) {
    double vx = echo->xx[lag] - echo->x[lag] * echo->x[lag] / n;
    double vxy = echo->xy[lag] - echo->x[lag] * echo->y / n;
    if (vx <= 1e-9 || vy <= 1e-12 || vxy <= 0 || vxy / sqrt(vx * vy) <= best)
      continue;
    best = vxy / sqrt(vx * vy);
    path = lag;
    *ret_gain = echo->xy[lag] / MAX(echo->xx[lag], 1e-9);
  }
  return path;
}

gboolean echo_level_hear(EchoLevel *echo, guint64 at, double rms) {
  /* The window lies before its end. */
  guint64 bin = at / CHOIR_VAD_WINDOW;
  bin = bin > 0 ? bin - 1 : 0;
  double around = 0;
  for (gint lag = 0; lag < ECHO_LAGS; lag++)
    around = MAX(around, level(echo, bin, lag));
  if (around <= 1e-4)
    return FALSE; /* nothing was played: nothing to learn, and no echo */
  learn(echo, bin, rms);
  double gain = 0, expected = 0;
  gint path = echo->weight >= LEARNT ? find_path(echo, &gain) : -1;
  if (path < 0)
    return FALSE;
  for (gint lag = path - 2; lag <= path + 3; lag++)
    expected = MAX(expected, level(echo, bin, lag));
  return rms <= LOUDER * gain * expected;
}
