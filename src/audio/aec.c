#include "audio/aec.h"
#include <speex/speex_echo.h>
#include <speex/speex_preprocess.h>
#include <string.h>

#define TAIL (CHOIR_AEC_RATE / 1000 * (int)CHOIR_AEC_TAIL_MS)
/* Residual echo is pushed this far down, and less while the person speaks too: their words matter more. */
#define SUPPRESS_DB (-45)
#define SUPPRESS_ACTIVE_DB (-12)
#define NOISE_DB (-12)

struct ChoirAec {
  SpeexEchoState *echo; /* NULL: there is no loudspeaker */
  SpeexPreprocessState *clean;
};

ChoirAec *choir_aec_new(gboolean echo) {
  ChoirAec *aec = g_new0(ChoirAec, 1);
  int rate = CHOIR_AEC_RATE, noise = NOISE_DB, quiet = SUPPRESS_DB, active = SUPPRESS_ACTIVE_DB;
  aec->clean = speex_preprocess_state_init(CHOIR_AEC_FRAME, rate);
  speex_preprocess_ctl(aec->clean, SPEEX_PREPROCESS_SET_NOISE_SUPPRESS, &noise);
  if (echo) {
    aec->echo = speex_echo_state_init(CHOIR_AEC_FRAME, TAIL);
    speex_echo_ctl(aec->echo, SPEEX_ECHO_SET_SAMPLING_RATE, &rate);
    speex_preprocess_ctl(aec->clean, SPEEX_PREPROCESS_SET_ECHO_STATE, aec->echo);
    speex_preprocess_ctl(aec->clean, SPEEX_PREPROCESS_SET_ECHO_SUPPRESS, &quiet);
    speex_preprocess_ctl(aec->clean, SPEEX_PREPROCESS_SET_ECHO_SUPPRESS_ACTIVE, &active);
  }
  return aec;
}

void choir_aec_free(ChoirAec *aec) {
  if (!aec)
    return;
  speex_preprocess_state_destroy(aec->clean);
  if (aec->echo)
    speex_echo_state_destroy(aec->echo);
  g_free(aec);
}

void choir_aec_run(ChoirAec *aec, const gint16 *mic, const gint16 *far, gint16 *ret_clean) {
  gint16 clean[CHOIR_AEC_FRAME];
  if (aec->echo)
    speex_echo_cancellation(aec->echo, mic, far, clean);
  else
    memcpy(clean, mic, sizeof clean);
  speex_preprocess_run(aec->clean, clean);
  memcpy(ret_clean, clean, sizeof clean);
}

void choir_aec_reset(ChoirAec *aec) {
  if (aec->echo)
    speex_echo_state_reset(aec->echo);
}
