#include "voice/echo_level.h"
#include "base/names.h"
#include <math.h>

#define FORGET (1.0 / 96) /* 3 s */
#define LEARNT 24.0       /* windows, before anything is believed: two sounds that merely begin are alike */
#define LEARNT_FAINT 64.0 /* ... when nothing came back at first */
#define SETTLED 32.0
#define CORRELATION 0.6
#define HELD 96    /* windows, 3 s */
#define LOUDER 2.0 /* 6 dB above the echo that is expected */
/* Until the path is known, as in the first words of a conversation, a sound this much softer than the loudest that was
 * played is taken for an echo, unless nothing came back in the time that an echo may take. */
#define LIKELY 0.35
#define FAINT 0.02 /* -34 dB: no echo */
#define FAINT_WINDOWS 3
#define VOICE 0.003
#define FAINT_LAGS 8 /* 0.26 s */

enum {
  BIN = CHOIR_RATE_OUT / 100,
  WINDOW_OUT = CHOIR_VAD_WINDOW * (CHOIR_RATE_OUT / 1000) / (CHOIR_RATE_MIC / 1000),
  NEAR_BEFORE = 2, /* windows around the path in which its echo may lie */
  NEAR_BEHIND = 3,
};

void echo_level_reset(EchoLevel *echo) {
  *echo = (EchoLevel){0};
}

void echo_level_sent(EchoLevel *echo, const gint16 *pcm, gsize samples) {
  for (gsize i = 0; i < samples; i++, echo->track++) {
    double value = pcm[i] / 32768.0, *bin = &echo->energy[echo->track / BIN % ECHO_BINS];
    if (echo->track % BIN == 0)
      *bin = 0;
    *bin += value * value;
  }
}

void echo_level_mark(EchoLevel *echo, guint64 mic, guint64 track) {
  track = MIN(track, echo->track);
  EchoMark *last = echo->marks > 0 ? &echo->mark[(echo->marks - 1) % ECHO_MARKS] : NULL;
  if (last != NULL && mic <= last->mic)
    last->track = track; /* the microphone stands still or is late */
  else
    echo->mark[echo->marks++ % ECHO_MARKS] = (EchoMark){mic, track};
}

/* How much of the track had been played when the microphone's sample `mic` was picked up. Between two reports the sound
 * stood still first: one who runs dry, or is told to wait, says so before. */
static guint64 played_at(const EchoLevel *echo, guint64 mic) {
  guint64 track = echo->track, back = 0;
  guint oldest = echo->marks > ECHO_MARKS ? echo->marks - ECHO_MARKS : 0;
  for (guint i = echo->marks; i > oldest; i--) {
    const EchoMark *mark = &echo->mark[(i - 1) % ECHO_MARKS];
    if (mark->mic > mic) {
      track = mark->track;
      back = (mark->mic - mic) * CHOIR_RATE_OUT / CHOIR_RATE_MIC;
      continue;
    }
    if (i == echo->marks) /* nothing was reported since */
      return MIN(track, mark->track + (mic - mark->mic) * CHOIR_RATE_OUT / CHOIR_RATE_MIC);
    return CLAMP(track - MIN(track, back), MIN(mark->track, track), track);
  }
  return track - MIN(track, back);
}

static double energy_between(const EchoLevel *echo, guint64 from, guint64 to) {
  double sum = 0;
  to = MIN(to, from + 4 * WINDOW_OUT);
  for (guint64 at = from; at < to;) {
    guint64 end = MIN((at / BIN + 1) * BIN, to), bin = at / BIN;
    if (bin + ECHO_BINS > echo->track / BIN)
      sum += echo->energy[bin % ECHO_BINS] * (double)(end - at) / (double)BIN;
    at = end;
  }
  return sum;
}

/* The levels of what was played `lag` windows before the one that ends at `position`. The loudest is returned. */
static double levels(const EchoLevel *echo, guint64 position, double level[ECHO_LAGS]) {
  double most = 0;
  guint64 to = played_at(echo, position);
  for (guint lag = 0; lag < ECHO_LAGS; lag++) {
    guint64 begin = (guint64)(lag + 1) * CHOIR_VAD_WINDOW;
    guint64 from = begin <= position ? played_at(echo, position - begin) : 0;
    level[lag] = begin <= position ? sqrt(energy_between(echo, MIN(from, to), to) / (double)WINDOW_OUT) : 0;
    most = MAX(most, level[lag]);
    to = from;
  }
  return most;
}

static void learn(EchoLevel *echo, const double level[ECHO_LAGS], double rms) {
  const double keep = 1 - FORGET;
  echo->weight = echo->weight * keep + 1;
  echo->y = echo->y * keep + rms;
  echo->yy = echo->yy * keep + rms * rms;
  for (guint lag = 0; lag < ECHO_LAGS; lag++) {
    double value = level[lag];
    echo->x[lag] = echo->x[lag] * keep + value;
    echo->xx[lag] = echo->xx[lag] * keep + value * value;
    echo->xy[lag] = echo->xy[lag] * keep + value * rms;
  }
}

/* The delay with the highest correlation and the loudness over it; while none is high, those that were a moment ago: a
 * sound that breaks off and somebody who speaks blur it. -1: there is none. */
static gint find_path(EchoLevel *echo) {
  double best = CORRELATION, n = echo->weight, vy = echo->yy - echo->y * echo->y / n;
  gint path = -1;
  for (gint lag = 0; lag < ECHO_LAGS; lag++) {
    double vx = echo->xx[lag] - echo->x[lag] * echo->x[lag] / n;
    double vxy = echo->xy[lag] - echo->x[lag] * echo->y / n;
    if (vx <= 1e-9 || vy <= 1e-12 || vxy <= 0 || vxy / sqrt(vx * vy) <= best)
      continue;
    best = vxy / sqrt(vx * vy);
    path = lag;
    echo->gain = echo->xy[lag] / MAX(echo->xx[lag], 1e-9);
  }
  if (path < 0)
    return echo->held < HELD && echo->held++ > 0 ? echo->path : -1;
  echo->path = path;
  echo->held = 1;
  return path;
}

/* However late an echo may be, some of it would be in this window. */
static gboolean nothing_back(const double level[ECHO_LAGS], double rms) {
  double least = level[1];
  for (guint lag = 2; lag < FAINT_LAGS; lag++)
    least = MIN(least, level[lag]);
  return least >= VOICE && rms <= FAINT * least;
}

gboolean echo_level_hear(EchoLevel *echo, guint64 position, double rms) {
  double level[ECHO_LAGS], expected = 0;
  double around = levels(echo, position, level);
  if (around <= 1e-4)
    return FALSE; /* nothing was played: nothing to learn, and no echo */
  learn(echo, level, rms);
  if (echo->faint < FAINT_WINDOWS)
    echo->faint += nothing_back(level, rms);
  gboolean faint = echo->faint >= FAINT_WINDOWS;
  gint path = echo->weight >= (faint ? LEARNT_FAINT : LEARNT) ? find_path(echo) : -1;
  if (path < 0)
    return echo->weight < LEARNT && !faint && rms <= LIKELY * around;
  for (gint lag = MAX(path - NEAR_BEFORE, 0); lag <= MIN(path + NEAR_BEHIND, ECHO_LAGS - 1); lag++)
    expected = MAX(expected, level[lag]);
  return rms <= LOUDER * echo->gain * expected;
}

gboolean echo_level_settled(const EchoLevel *echo) {
  return echo->weight >= SETTLED || echo->faint >= FAINT_WINDOWS;
}
