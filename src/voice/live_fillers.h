/* Short sounds of thought for replies that take long: spoken once by the voice when it is ready, kept in memory, played
 * without any model in the way. Main thread only. */
#pragma once
#include <glib.h>
#include "speech/worker.h"

#define LIVE_FILLERS 3
#define LIVE_FILLERS_SESSION 0xffffffffu /* on the wire; no client has it */
#define LIVE_FILLER_MAX (3u * 24000u)    /* samples; a longer one is not used */

typedef struct {
  gboolean wanted;
  guint32 gen;                          /* of the jobs under way */
  GArray *making, *ready[LIVE_FILLERS]; /* samples; ready ones are whole */
  guint next;                           /* being spoken */
} LiveFillers;

void live_fillers_clear(LiveFillers *fillers);
/* The voice came up: speaks what is missing. */
void live_fillers_make(LiveFillers *fillers, ChoirWorker *tts);
/* A frame of LIVE_FILLERS_SESSION. TRUE: one more is ready. */
gboolean live_fillers_frame(LiveFillers *fillers, ChoirWorker *tts, const ChoirWireFrame *frame);
guint64 live_fillers_samples(const LiveFillers *fillers, guint index); /* 0: not there */
const gint16 *live_fillers_pcm(const LiveFillers *fillers, guint index);
