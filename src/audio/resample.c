#include "audio/resample.h"
#include <math.h>
#include <speex/speex_resampler.h>

#define QUALITY 5
#define CHUNK 4096 /* input samples a call: keeps the output's growth small */

struct ChoirResampler {
  SpeexResamplerState *state; /* NULL: equal rates */
  guint from, to;
};

ChoirResampler *choir_resampler_new(guint from_rate, guint to_rate) {
  g_return_val_if_fail(from_rate > 0 && to_rate > 0, NULL);
  ChoirResampler *resampler = g_new0(ChoirResampler, 1);
  resampler->from = from_rate;
  resampler->to = to_rate;
  if (from_rate != to_rate) {
    int error = 0;
    resampler->state = speex_resampler_init(1, from_rate, to_rate, QUALITY, &error);
    if (!resampler->state)
      g_error("speex_resampler_init: %s", speex_resampler_strerror(error));
    /* Without this the output starts with a few samples of silence and everything is late by them. */
    speex_resampler_skip_zeros(resampler->state);
  }
  return resampler;
}

void choir_resampler_free(ChoirResampler *resampler) {
  if (!resampler)
    return;
  if (resampler->state)
    speex_resampler_destroy(resampler->state);
  g_free(resampler);
}

void choir_resampler_reset(ChoirResampler *resampler) {
  if (!resampler->state)
    return;
  speex_resampler_reset_mem(resampler->state);
  speex_resampler_skip_zeros(resampler->state);
}

void choir_resampler_run(ChoirResampler *resampler, const gint16 *in, gsize n, GArray *out) {
  if (!resampler->state) {
    g_array_append_vals(out, in, (guint)n);
    return;
  }
  while (n > 0) {
    spx_uint32_t take = (spx_uint32_t)MIN(n, CHUNK);
    spx_uint32_t room = (spx_uint32_t)((guint64)take * resampler->to / resampler->from + 16);
    guint before = out->len;
    g_array_set_size(out, before + room);
    spx_int16_t *target = &g_array_index(out, gint16, before);
    speex_resampler_process_int(resampler->state, 0, in, &take, target, &room);
    g_array_set_size(out, before + room);
    if (take == 0 && room == 0)
      return; /* cannot happen with room left; never loop for ever */
    in += take;
    n -= take;
  }
}

double choir_pcm_rms(const gint16 *samples, gsize n) {
  if (n == 0)
    return 0;
  double sum = 0;
  for (gsize i = 0; i < n; i++)
    sum += (double)samples[i] * samples[i];
  return sqrt(sum / (double)n) / 32768.0;
}
