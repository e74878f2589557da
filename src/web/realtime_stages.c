#include "web/realtime_stages.h"
#include "base/clock.h"
#include "base/metrics.h"

static ChoirMetric *stage(const char *labels) {
  return choir_histogram("choir_stage_seconds", labels, "Stages of a turn as a Realtime client sees them.", NULL, 0);
}

static void observe(const char *labels, gint64 from, gint64 to) {
  choir_histogram_observe(stage(labels), (double)(to - from) / 1e6);
}

void choir_realtime_stages_register(void) {
  stage("stage=\"stt\"");
  stage("stage=\"llm\"");
  stage("stage=\"tts\"");
  stage("stage=\"first_sound\"");
}

void choir_realtime_stages_request(ChoirRealtimeStages *stages) {
  gint64 now = choir_clock_us();
  *stages = (ChoirRealtimeStages){.asked_us = now, .ready_us = now};
}

void choir_realtime_stages_live(ChoirRealtimeStages *stages, const ChoirLiveEvent *event) {
  gint64 now = choir_clock_us();
  switch (event->type) {
  case CHOIR_LIVE_SPEECH_STOPPED:
    *stages = (ChoirRealtimeStages){.asked_us = now};
    break;
  case CHOIR_LIVE_TRANSCRIPT:
    if (stages->asked_us && !stages->ready_us)
      observe("stage=\"stt\"", stages->asked_us, now);
    stages->ready_us = now;
    break;
  case CHOIR_LIVE_TEXT_DELTA:
    if (stages->ready_us && !stages->text_us)
      observe("stage=\"llm\"", stages->ready_us, now);
    if (!stages->text_us)
      stages->text_us = now;
    break;
  case CHOIR_LIVE_AUDIO:
    if (stages->sounded || event->samples == 0)
      break;
    stages->sounded = TRUE;
    if (stages->text_us)
      observe("stage=\"tts\"", stages->text_us, now);
    if (stages->asked_us)
      observe("stage=\"first_sound\"", stages->asked_us, now);
    break;
  case CHOIR_LIVE_RESPONSE_DONE:
    *stages = (ChoirRealtimeStages){0};
    break;
  default:
    break;
  }
}
