/* How long each stage of a turn took, as its client saw it: choir_stage_seconds. Main thread only.
 * stt: end of speech (as the VAD said) to transcript; llm: transcript (or the request) to first text; tts: first text
 * to first sound; first_sound: end of speech, or the request, to first sound. */
#pragma once
#include "voice/live.h"

typedef struct {
  gint64 asked_us; /* end of speech or response.create; 0 = nothing runs */
  gint64 ready_us; /* the question was complete: transcript, or response.create */
  gint64 text_us;  /* first text; 0 = none yet */
  gboolean sounded;
} ChoirRealtimeStages;

void choir_realtime_stages_live(ChoirRealtimeStages *stages, const ChoirLiveEvent *event);
/* So that /metrics names every stage from the start. */
void choir_realtime_stages_register(void);
void choir_realtime_stages_request(ChoirRealtimeStages *stages); /* response.create of a typed message */
