/* Acoustic echo canceller of one microphone and one loudspeaker: speexdsp's MDF filter and its preprocessor (J.-M.
 * Valin, "On Adjusting the Learning Rate in Frequency Domain Echo Cancellation With Double-Talk", 2007). 16 kHz mono.
 * One thread. Latency: one frame. */
#pragma once
#include <glib.h>

#define CHOIR_AEC_RATE 16000
#define CHOIR_AEC_FRAME 256    /* samples of one call, 16 ms */
#define CHOIR_AEC_TAIL_MS 256u /* longest way from the loudspeaker's sample to its echo */

typedef struct ChoirAec ChoirAec;
/* echo: FALSE only suppresses noise. */
ChoirAec *choir_aec_new(gboolean echo);
void choir_aec_free(ChoirAec *aec);
/* mic: what was recorded; far: what the loudspeaker was given at that time; both CHOIR_AEC_FRAME samples. ret_clean may
 * be mic. */
void choir_aec_run(ChoirAec *aec, const gint16 *mic, const gint16 *far, gint16 *ret_clean);
/* How much faster the loudspeaker's clock runs than the microphone's, as parts of one (50 ppm = 0.00005): learnt from
 * the way the echo wanders through the filter. The caller reads the reference so much faster; then the echo stands
 * still. */
double choir_aec_drift(const ChoirAec *aec);
/* A sample between two of a ring of n (cubic). place >= 1. */
double choir_aec_between(const gint16 *ring, gsize n, double place);
/* The loudspeaker's timing jumped (an xrun): what was learnt no longer fits. */
void choir_aec_reset(ChoirAec *aec);
