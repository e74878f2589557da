/* Log-mel features of smart-turn v3: those of Whisper (Radford et al. 2022, openai/whisper audio.py) over 8 s, with the
 * waveform brought to mean 0 and variance 1 first. Pure functions, any thread; the tables are made once. */
#pragma once
#include <glib.h>

#define CHOIR_TURN_SAMPLES 128000 /* 8 s of 16 kHz */
#define CHOIR_TURN_MELS 80
#define CHOIR_TURN_FRAMES 800

/* samples: n <= CHOIR_TURN_SAMPLES, set at the end of the 8 s with silence before. ret_mel: CHOIR_TURN_MELS rows of
 * CHOIR_TURN_FRAMES. */
void choir_turn_mel(const gint16 *samples, gsize n, float *ret_mel);
