#include "voice/mic_ring.h"
#include <string.h>

void mic_ring_clear(MicRing *ring) {
  g_clear_pointer(&ring->data, g_free);
  ring->end = 0;
}

void mic_ring_push(MicRing *ring, const gint16 *samples, gsize n) {
  if (ring->data == NULL)
    ring->data = g_new(gint16, MIC_RING_SAMPLES);
  if (n > MIC_RING_SAMPLES) {
    ring->end += n - MIC_RING_SAMPLES;
    samples += n - MIC_RING_SAMPLES;
    n = MIC_RING_SAMPLES;
  }
  gsize at = ring->end % MIC_RING_SAMPLES, first = MIN(n, MIC_RING_SAMPLES - at);
  if (n > 0) {
    memcpy(ring->data + at, samples, first * sizeof(gint16));
    memcpy(ring->data, samples + first, (n - first) * sizeof(gint16));
  }
  ring->end += n;
}

void mic_ring_copy(const MicRing *ring, guint64 start, guint64 end, GArray *out) {
  guint64 oldest = ring->end > MIC_RING_SAMPLES ? ring->end - MIC_RING_SAMPLES : 0;
  end = MIN(end, ring->end);
  start = MAX(start, oldest);
  while (start < end) {
    gsize at = start % MIC_RING_SAMPLES, n = MIN(end - start, MIC_RING_SAMPLES - at);
    g_array_append_vals(out, ring->data + at, n);
    start += n;
  }
}
