/* The last minute of one microphone, addressed by sample index since the session began: 30 s that nobody looked at yet
 * and the 30 s utterance before them. Main thread only. */
#pragma once
#include <glib.h>

#define MIC_RING_SAMPLES (62u * 16000u)

typedef struct {
  gint16 *data; /* allocated with the first audio */
  guint64 end;
} MicRing;

void mic_ring_clear(MicRing *ring);
void mic_ring_push(MicRing *ring, const gint16 *samples, gsize n);
/* Appends [start, end) to out, as far as the ring still holds it. */
void mic_ring_copy(const MicRing *ring, guint64 start, guint64 end, GArray *out);
