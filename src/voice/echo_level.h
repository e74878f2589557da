/* Is what the microphone hears the agent's own loudspeaker? Follows the levels of playback and microphone in windows of
 * 32 ms: when the one is a delayed copy of the other (the correlation over the last seconds is high at some delay), the
 * path from loudspeaker to microphone is known, and a window that is not clearly louder than what comes back over it is
 * an echo. Somebody who speaks over the agent is louder than that, and spoils the correlation.
 * No clock is in it. A listener's report of what was played comes in the same stream as the microphone, so it says
 * which sample sounded while which one was picked up, however late both arrive and whether or not the sound had run dry
 * or was paused in between. Pure, fixed size. Source of the idea: the energy-based double-talk detectors of line echo
 * cancellers (Geigel; ITU-T G.168). */
#pragma once
#include <glib.h>

#define ECHO_LAGS 24   /* windows: 0.77 s from sounding to hearing */
#define ECHO_BINS 512  /* 10 ms of what was sent each, 5 s */
#define ECHO_MARKS 128 /* reports, of at least 20 ms each */

typedef struct {
  guint64 mic, track;
} EchoMark;

typedef struct {
  double energy[ECHO_BINS]; /* a ring */
  guint64 track;            /* samples that were sent, all replies in a row (CHOIR_RATE_OUT) */
  EchoMark mark[ECHO_MARKS];
  guint marks; /* ever made */
  guint faint; /* windows in which nothing came back of a sound that went on; with enough of them there is no echo */
  guint held;  /* windows since the path was last seen clearly */
  gint path;   /* as it was seen then, and how loud it was */
  double gain;
  double weight, y, yy, x[ECHO_LAGS], xx[ECHO_LAGS], xy[ECHO_LAGS];
} EchoLevel;

void echo_level_reset(EchoLevel *echo);
/* Audio that was sent, to the end of the track. */
void echo_level_sent(EchoLevel *echo, const gint16 *pcm, gsize samples);
/* When the microphone's sample `mic` (CHOIR_RATE_MIC) was picked up, the track had been played up to `track`. */
void echo_level_mark(EchoLevel *echo, guint64 mic, guint64 track);
/* A window of the microphone that ends at sample `position`, of this level (0..1). TRUE: it is the agent's own voice.
 */
gboolean echo_level_hear(EchoLevel *echo, guint64 position, double rms);
/* Enough was played to know whether there is an echo at all. */
gboolean echo_level_settled(const EchoLevel *echo);
