/* Is what the microphone hears the agent's own loudspeaker? Follows the levels of playback and microphone in windows of
 * 32 ms: when the one is a delayed copy of the other (the correlation over the last seconds is high at some delay), the
 * path from loudspeaker to microphone is known, and a window that is not clearly louder than what comes back over it is
 * an echo. Somebody who speaks over the agent is louder than that, and spoils the correlation. Pure, fixed size.
 * Source of the idea: the energy-based double-talk detectors of line echo cancellers (Geigel; ITU-T G.168). */
#pragma once
#include <glib.h>

#define ECHO_LAGS 24 /* windows: 0.77 s from sending to hearing */
#define ECHO_BINS 64

typedef struct {
  double played[ECHO_BINS]; /* energy of each window, a ring */
  guint64 bin;              /* the newest one */
  double weight, y, yy, x[ECHO_LAGS], xx[ECHO_LAGS], xy[ECHO_LAGS];
} EchoLevel;

void echo_level_reset(EchoLevel *echo);
/* Audio that will sound at `at` (samples of CHOIR_RATE_MIC on the session's clock). */
void echo_level_play(EchoLevel *echo, guint64 at, const gint16 *pcm, gsize samples /* CHOIR_RATE_OUT */);
/* A window of the microphone that ended at `at`, of this level (0..1). TRUE: it is the agent's own voice. */
gboolean echo_level_hear(EchoLevel *echo, guint64 at, double rms);
