#include "voice/turn_end.h"

#define PAUSE_MIN_MS 180 /* a stop consonant is no pause */
#define PAUSE_MAX_MS 2000
#define SURE 0.965
#define SPEAKER_MIN 75 /* percent */
#define SPEAKER_MAX 175

static guint speaker_percent(guint pause_ms) {
  guint percent = 40 + 60 * pause_ms / TURN_PAUSE_START_MS;
  return CLAMP(percent, (guint)SPEAKER_MIN, (guint)SPEAKER_MAX);
}

static guint ending_percent(TurnEnding ending) {
  return ending == TURN_ENDING_OPEN ? 200 : ending == TURN_ENDING_COMPLETE ? 85 : 100;
}

/* Whole sentences that are read aloud get 0.1 to 0.4 from smart-turn, so a "no" counts less against a sentence's end;
 * and a "yes" does not outweigh a word behind which nothing ends. Pauses within sentences get up to 0.96, so only a
 * surer "yes" shortens much. */
static guint verdict_percent(const TurnEvidence *e) {
  if (!e->judged)
    return 100;
  if (e->verdict >= 0.5) {
    if (e->ending == TURN_ENDING_OPEN)
      return 100;
    return e->verdict >= SURE ? 55 : 100;
  }
  if (e->verdict >= 0.2)
    return 110;
  return e->ending == TURN_ENDING_COMPLETE ? 130 : 170;
}

guint turn_end_ms(const TurnEvidence *e) {
  if (e->max_ms == 0)
    return e->usual_ms;
  guint64 ms = (guint64)e->usual_ms * speaker_percent(e->pause_ms) / 100;
  ms = ms * ending_percent(e->ending) / 100;
  ms = ms * verdict_percent(e) / 100;
  if (e->unheard)
    ms = MAX(ms, (guint64)e->usual_ms);
  return (guint)CLAMP(ms, (guint64)MIN(e->min_ms, e->max_ms), (guint64)e->max_ms);
}

guint turn_end_learn(guint pause_ms, guint ms) {
  if (ms < PAUSE_MIN_MS || ms > PAUSE_MAX_MS)
    return pause_ms;
  /* Who makes one long pause makes another. */
  return ms > pause_ms ? (pause_ms + ms) / 2 : (pause_ms * 4 + ms) / 5;
}
