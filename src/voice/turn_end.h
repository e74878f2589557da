/* How long a silence must last until it ends the turn: the usual time, scaled by the speaker's own pauses, by what was
 * said and by smart-turn's opinion. A hint only ever makes a running timer shorter or longer. Pure.
 * Sources: LiveKit's voice/endpointing.py (moving average of pauses), pipecat's smart-turn v3 (the verdict). */
#pragma once
#include "voice/turn_text.h"

#define TURN_VERDICTS 3         /* smart-turn is asked so often about one silence */
#define TURN_PAUSE_START_MS 300 /* of a speaker nobody knows yet */

typedef struct {
  guint usual_ms, min_ms, max_ms; /* max_ms 0: the usual time, whatever else is known */
  guint pause_ms;                 /* moving average of the speaker's pauses inside turns */
  TurnEnding ending;
  guint judged;     /* how often smart-turn was asked about this silence and answered */
  double verdict;   /* its last answer: probability that the turn is over */
  gboolean pending; /* it is asked and has not answered yet, as it did before */
  gboolean unheard; /* the transcript is still being made, nothing can be answered before it */
} TurnEvidence;

guint turn_end_ms(const TurnEvidence *evidence);
/* After so many verdicts, the last of which is this: no other is wanted. */
gboolean turn_end_sure(guint judged, double verdict);
/* The moving average after one more pause of so many ms. */
guint turn_end_learn(guint pause_ms, guint ms);
