/* Stateful mono resampler (speexdsp, quality 5). One thread. Latency: 40 samples of the lower rate (2.5 ms at 16 kHz).
 */
#pragma once
#include <glib.h>

typedef struct ChoirResampler ChoirResampler;
ChoirResampler *choir_resampler_new(guint from_rate, guint to_rate); /* equal rates pass through */
void choir_resampler_free(ChoirResampler *resampler);
void choir_resampler_reset(ChoirResampler *resampler);
/* Appends converted samples to out (GArray of gint16). */
void choir_resampler_run(ChoirResampler *resampler, const gint16 *in, gsize n, GArray *out);
double choir_pcm_rms(const gint16 *samples, gsize n); /* 0..1 of full scale */
