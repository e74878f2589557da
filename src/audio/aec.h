/* Acoustic echo canceller of one microphone and one loudspeaker: speexdsp's MDF filter and its preprocessor (J.-M. Valin,
 * "On Adjusting the Learning Rate in Frequency Domain Echo Cancellation With Double-Talk", 2007). 16 kHz mono. One
 * thread. Latency: one frame. */
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
/* The loudspeaker's timing jumped (an xrun): what was learnt no longer fits. */
void choir_aec_reset(ChoirAec *aec);
