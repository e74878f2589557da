#include "audio/aec.h"
#include <math.h>
#include <speex/speex_echo.h>
#include <speex/speex_preprocess.h>
#include <string.h>

#define TAIL (CHOIR_AEC_RATE / 1000 * (int)CHOIR_AEC_TAIL_MS)
/* Residual echo is pushed this far down, and less while the person speaks too: their words matter more. */
#define SUPPRESS_DB (-45)
#define SUPPRESS_ACTIVE_DB (-12)
#define NOISE_DB (-12)

/* Drift: the filter's impulse response now against the one before, around its peak. */
#define LOOK_FRAMES 62 /* every second */
#define LOOK_AROUND 48 /* samples each side of the peak */
#define LOOK_SHIFT 6   /* largest shift that is believed */
#define LIKENESS 0.9   /* of the two responses, below which they say nothing */
#define LEARN 0.35     /* part of a shift that is taken over */
#define MOST_DRIFT 0.0004

struct ChoirAec {
  SpeexEchoState *echo; /* NULL: there is no loudspeaker */
  SpeexPreprocessState *clean;
  gint32 *now, *before; /* impulse responses, TAIL each */
  guint frames;
  double drift;
};

ChoirAec *choir_aec_new(gboolean echo) {
  ChoirAec *aec = g_new0(ChoirAec, 1);
  int rate = CHOIR_AEC_RATE, noise = NOISE_DB, quiet = SUPPRESS_DB, active = SUPPRESS_ACTIVE_DB;
  aec->clean = speex_preprocess_state_init(CHOIR_AEC_FRAME, rate);
  speex_preprocess_ctl(aec->clean, SPEEX_PREPROCESS_SET_NOISE_SUPPRESS, &noise);
  if (echo) {
    aec->echo = speex_echo_state_init(CHOIR_AEC_FRAME, TAIL);
    speex_echo_ctl(aec->echo, SPEEX_ECHO_SET_SAMPLING_RATE, &rate);
    aec->now = g_new0(gint32, TAIL);
    aec->before = g_new0(gint32, TAIL);
    speex_preprocess_ctl(aec->clean, SPEEX_PREPROCESS_SET_ECHO_STATE, aec->echo);
    speex_preprocess_ctl(aec->clean, SPEEX_PREPROCESS_SET_ECHO_SUPPRESS, &quiet);
    speex_preprocess_ctl(aec->clean, SPEEX_PREPROCESS_SET_ECHO_SUPPRESS_ACTIVE, &active);
  }
  return aec;
}

void choir_aec_free(ChoirAec *aec) {
  if (!aec)
    return;
  speex_preprocess_state_destroy(aec->clean);
  if (aec->echo)
    speex_echo_state_destroy(aec->echo);
  g_free(aec->now);
  g_free(aec->before);
  g_free(aec);
}

static int peak_of(const gint32 *response) {
  int peak = 0;
  for (int i = 1; i < TAIL; i++)
    if (ABS((gint64)response[i]) > ABS((gint64)response[peak]))
      peak = i;
  return peak;
}

static double product(const gint32 *a, const gint32 *b, int from, int n) {
  double sum = 0;
  for (int i = from; i < from + n; i++)
    sum += (double)a[i] * b[i];
  return sum;
}

/* Samples by which the echo came later than a look ago; 0 when that cannot be told. */
static double wandered(const ChoirAec *aec) {
  int peak = peak_of(aec->before), from = peak - LOOK_AROUND, n = 2 * LOOK_AROUND, best = -LOOK_SHIFT;
  double at[2 * LOOK_SHIFT + 1];
  if (from < LOOK_SHIFT || from + n + LOOK_SHIFT > TAIL)
    return 0;
  for (int k = -LOOK_SHIFT; k <= LOOK_SHIFT; k++) {
    at[k + LOOK_SHIFT] = product(aec->before + from, aec->now + from + k, 0, n);
    if (at[k + LOOK_SHIFT] > at[best + LOOK_SHIFT])
      best = k;
  }
  double power = product(aec->before, aec->before, from, n) * product(aec->now, aec->now, from + best, n);
  double top = at[best + LOOK_SHIFT];
  if (ABS(best) == LOOK_SHIFT || power <= 0 || top < LIKENESS * sqrt(power))
    return 0;
  double left = at[best + LOOK_SHIFT - 1], right = at[best + LOOK_SHIFT + 1], bend = left - 2 * top + right;
  return best + (bend < 0 ? 0.5 * (left - right) / bend : 0);
}

static void learn_drift(ChoirAec *aec) {
  if (++aec->frames % LOOK_FRAMES != 0)
    return;
  gint32 *old = aec->before;
  aec->before = aec->now;
  aec->now = old;
  speex_echo_ctl(aec->echo, SPEEX_ECHO_GET_IMPULSE_RESPONSE, aec->now);
  if (aec->frames < 3 * LOOK_FRAMES)
    return;
  /* A faster loudspeaker makes its echo come earlier and earlier. */
  aec->drift -= LEARN * wandered(aec) / (LOOK_FRAMES * CHOIR_AEC_FRAME);
  aec->drift = CLAMP(aec->drift, -MOST_DRIFT, MOST_DRIFT);
}

double choir_aec_drift(const ChoirAec *aec) {
  return aec->drift;
}

void choir_aec_run(ChoirAec *aec, const gint16 *mic, const gint16 *far, gint16 *ret_clean) {
  gint16 clean[CHOIR_AEC_FRAME];
  if (aec->echo) {
    speex_echo_cancellation(aec->echo, mic, far, clean);
    learn_drift(aec);
  } else
    memcpy(clean, mic, sizeof clean);
  speex_preprocess_run(aec->clean, clean);
  memcpy(ret_clean, clean, sizeof clean);
}

double choir_aec_between(const gint16 *ring, gsize n, double place) {
  gsize at = (gsize)place;
  double part = place - (double)at;
  double a = ring[(at - 1) % n], b = ring[at % n], c = ring[(at + 1) % n], d = ring[(at + 2) % n];
  return b + 0.5 * part * (c - a + part * (2 * a - 5 * b + 4 * c - d + part * (3 * (b - c) + d - a)));
}

void choir_aec_reset(ChoirAec *aec) {
  if (!aec->echo)
    return;
  speex_echo_state_reset(aec->echo);
  aec->frames = 0;
}
