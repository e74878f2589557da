#include "audio/card_align.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_REPORTS 32 /* half a second */
#define SLIP 64.0        /* samples by which counts may disagree */
#define JUMP 1600.0      /* a shift beyond this is another way of the sound */
#define QUIET_FRAMES 31  /* half a second */
#define QUIET_PEAK 60    /* of a sample, -55 dBFS */
#define LATE_STEP 8      /* one late frame in eight ... */
#define LATE_OFTEN 40u   /* ... for a while, or five in a row */
/* The looks at the envelopes */
#define LOOK_BINS 256   /* every second */
#define LAG_FIRST (-60) /* an echo 240 ms before its reference */
#define LAG_LAST 225    /* ... 900 ms behind it */
#define USUAL_BINS 16
#define ALIKE 0.5 /* correlation */
#define LEAST_LEVEL 15
#define SAME_LAG 3
#define FILTER_BINS ((gint)CHOIR_AEC_TAIL_MS / 4)
#define LATEST (FILTER_BINS - 16) /* a room's echo goes on for a while behind its beginning */
#define WANTED 4

void card_align_init(CardAlign *align) {
  memset(align, 0, sizeof *align);
  align->seen = G_MAXINT;
  align->quiet = QUIET_FRAMES; /* nothing was played yet */
}

void card_align_gap(CardAlign *align) {
  align->reports = 0;
  align->settled = FALSE;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(double *values, guint n) {
  qsort(values, n, sizeof *values, ascending);
  return values[n / 2];
}

/* The middle of the reports and how far they usually lie from it. */
static double middle(const CardAlign *align, double *ret_spread) {
  double values[CARD_ALIGN_REPORTS];
  guint n = MIN(align->reports, (guint)CARD_ALIGN_REPORTS);
  memcpy(values, align->report, n * sizeof *values);
  double centre = median(values, n);
  for (guint i = 0; i < n; i++)
    values[i] = fabs(values[i] - centre);
  *ret_spread = median(values, n);
  return centre;
}

/* What the envelopes hold was read at the old place. */
static gboolean move(CardAlign *align, double offset) {
  gboolean far_away = fabs(offset - align->offset) > JUMP;
  align->offset = offset;
  align->bins = 0;
  align->seen = G_MAXINT;
  align->moves++;
  return far_away;
}

gboolean card_align_report(CardAlign *align, double offset) {
  align->report[align->reports % CARD_ALIGN_REPORTS] = offset;
  if (align->reports++ == 0)
    return move(align, offset + align->bias);
  if (align->reports < FIRST_REPORTS)
    return FALSE;
  double spread, wanted = middle(align, &spread) + align->bias, away = fabs(wanted - align->offset);
  if (!align->settled) {
    align->settled = TRUE;
    return away > SLIP && move(align, wanted);
  }
  gboolean quiet = !card_align_in_sound(align) && away > MAX(SLIP, 3 * spread);
  gboolean elsewhere = align->reports >= CARD_ALIGN_REPORTS && away > JUMP && spread < JUMP / 4;
  return (quiet || elsewhere) && move(align, wanted);
}

gboolean card_align_in_sound(const CardAlign *align) {
  return align->quiet < QUIET_FRAMES;
}

double card_align_late(CardAlign *align, double samples) {
  if (samples <= 0) {
    align->late -= MIN(align->late, 1u);
    return 0;
  }
  align->late += LATE_STEP;
  if (card_align_in_sound(align) && align->late < LATE_OFTEN)
    return 0;
  align->late = 0;
  align->bias -= samples + SLIP;
  (void)move(align, align->offset - samples - SLIP);
  return samples + SLIP;
}

static float level(const gint16 *samples) {
  double sum = 0;
  for (guint i = 0; i < CARD_ALIGN_BIN; i++)
    sum += (double)samples[i] * samples[i];
  return (float)sqrt(sum / CARD_ALIGN_BIN);
}

/* Two voices have much the same rhythm of syllables; the edges of their sounds they have not. */
static float rise(float now, float *usual) {
  *usual += (now - *usual) / USUAL_BINS;
  return now - *usual;
}

/* Correlation of the microphone with the reference so many bins before; 0 when there is too little of either. */
static double likeness(const CardAlign *align, gint lag) {
  double n = 0, x = 0, y = 0, xx = 0, yy = 0, xy = 0;
  guint newest = align->bins - 1, oldest = align->bins - MIN(align->bins, (guint)CARD_ALIGN_BINS);
  for (guint at = oldest + (guint)MAX(lag, 0); at <= newest - (guint)MAX(-lag, 0); at++, n++) {
    double mic = (double)align->mic[at % CARD_ALIGN_BINS];
    double far = (double)align->far[(at - (guint)lag) % CARD_ALIGN_BINS];
    x += far;
    y += mic;
    xx += far * far;
    yy += mic * mic;
    xy += far * mic;
  }
  double vx = xx - x * x / n, vy = yy - y * y / n;
  if (vx < n * LEAST_LEVEL * LEAST_LEVEL || vy < n)
    return 0;
  return (xy - x * y / n) / sqrt(vx * vy);
}

/* The echo's lag in bins; G_MAXINT: there is none to be seen. */
static gint look(const CardAlign *align) {
  double best = ALIKE;
  gint found = G_MAXINT;
  for (gint lag = LAG_FIRST; lag <= LAG_LAST; lag++) {
    double now = likeness(align, lag);
    if (now <= best)
      continue;
    best = now;
    found = lag;
  }
  return found;
}

gboolean card_align_hear(CardAlign *align, const gint16 *mic, const gint16 *far) {
  gint peak = 0;
  for (guint i = 0; i < CHOIR_AEC_FRAME; i++)
    peak = MAX(peak, ABS((gint)far[i]));
  align->quiet = peak > QUIET_PEAK ? 0 : align->quiet + 1;
  for (guint i = 0; i < CHOIR_AEC_FRAME; i += CARD_ALIGN_BIN, align->bins++) {
    align->mic[align->bins % CARD_ALIGN_BINS] = rise(level(mic + i), &align->mic_usual);
    align->far[align->bins % CARD_ALIGN_BINS] = rise(level(far + i), &align->far_usual);
  }
  if (align->bins < 2 * LOOK_BINS || align->bins % LOOK_BINS != 0)
    return FALSE;
  gint found = look(align), before = align->seen;
  align->seen = found;
  gboolean twice = found != G_MAXINT && before != G_MAXINT && ABS(found - before) <= SAME_LAG;
  if (!twice || (found >= 0 && found <= LATEST))
    return FALSE;
  double shift = (double)(found - WANTED) * CARD_ALIGN_BIN;
  align->bias -= shift;
  return move(align, align->offset - shift) || TRUE; /* nothing was learnt yet */
}
