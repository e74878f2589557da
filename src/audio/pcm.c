#include "audio/pcm.h"

static gint16 sample(const guint8 *p, guint width) {
  if (width == 1)
    return (gint16)(((int)p[0] - 128) * 256);
  return (gint16)(p[width - 2] | (guint)p[width - 1] << 8); /* the two highest bytes */
}

gboolean choir_pcm_to_mono(const guint8 *data, gsize length, guint width, guint channels, GArray *out) {
  if (width < 1 || width > 4 || channels < 1 || channels > CHOIR_PCM_CHANNELS_MAX)
    return FALSE;
  gsize frame = (gsize)width * channels, frames = length / frame;
  guint before = out->len;
  g_array_set_size(out, before + (guint)frames);
  for (gsize i = 0; i < frames; i++) {
    int sum = 0;
    for (guint c = 0; c < channels; c++)
      sum += sample(data + i * frame + (gsize)c * width, width);
    g_array_index(out, gint16, before + i) = (gint16)(sum / (int)channels);
  }
  return TRUE;
}
