#include "voice/turn_end.h"

#define PAUSE_MIN_MS 180 /* a stop consonant is no pause */
#define PAUSE_MAX_MS 2000
#define SPEAKER_MIN 75 /* percent */
#define SPEAKER_MAX 175
#define SPEAKER_MAX_TOLD 100 /* where something else tells: who pauses long is not made to wait twice */
#define SOON 55
#define SOON_UNMARKED 80
#define PENDING 130
#define DOUBT 180
#define NO 200
#define NEVER 0.1 /* three times asked, and still sure that it goes on */
#define SURE 0.965

/* What counts as a yes, by the number of the verdict: the silence is judged with the words. Who doubted twice has to be
 * sure, too. */
static const double yes[TURN_VERDICTS] = {SURE, 0.9, 0.95};

static guint speaker_percent(guint pause_ms, gboolean told) {
  guint percent = 40 + 60 * pause_ms / TURN_PAUSE_START_MS;
  return CLAMP(percent, (guint)SPEAKER_MIN, (guint)(told ? SPEAKER_MAX_TOLD : SPEAKER_MAX));
}

/* Pauses within sentences get up to 0.96 from smart-turn when it is asked at once, so only a surer "yes" shortens much;
 * asked again a moment later it is lower for them, and stays high at an end. Its "no" is a reason to wait for the
 * longest pauses that people make, for a sentence's end as well: recognisers put a full stop behind every fragment. */
static guint evidence_percent(const TurnEvidence *e) {
  if (e->ending == TURN_ENDING_OPEN)
    return e->judged == 0 || e->verdict >= 0.5 ? 190 : e->verdict >= 0.2 ? 220 : 250;
  if (e->judged == 0)
    return e->ending == TURN_ENDING_COMPLETE ? 85 : 100;
  if (e->ending == TURN_ENDING_UNMARKED && e->verdict >= SURE)
    return SOON_UNMARKED;
  if (e->ending != TURN_ENDING_UNMARKED && turn_end_sure(e->judged, e->verdict))
    return SOON;
  if (e->judged == TURN_VERDICTS && e->verdict < NEVER)
    return NO;
  if (e->judged == 1 && e->ending != TURN_ENDING_UNMARKED)
    return e->verdict >= 0.5 ? 100 : 130;
  return DOUBT;
}

gboolean turn_end_sure(guint judged, double verdict) {
  return judged > 0 && verdict >= yes[MIN(judged, (guint)TURN_VERDICTS) - 1];
}

guint turn_end_ms(const TurnEvidence *e) {
  if (e->max_ms == 0)
    return e->usual_ms;
  guint percent = evidence_percent(e);
  if (e->pending && !turn_end_sure(e->judged, e->verdict)) /* a busy processor answers late, and that is no yes */
    percent = MAX(percent, (guint)PENDING);
  guint64 ms = (guint64)e->usual_ms * speaker_percent(e->pause_ms, percent < 100 || percent >= DOUBT) / 100;
  ms = ms * percent / 100;
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
