/* Keyphrases of several sessions on a thread of its own: "stop" while the agent talks, "mm-hmm", the wake word. A
 * session costs nothing until it asks, and then only while somebody speaks (a decoder is about 9 MB, 4 % of a modern
 * core). All functions are of one thread; the callbacks come on the spotter's. */
#pragma once
#include "speech/spot_phrases.h"

#define CHOIR_EAR_SPOT_DECODERS 16 /* sessions that may listen at once */

typedef struct ChoirEarSpot ChoirEarSpot;
/* end: index (mod 2^32) of the sample behind the phrase. */
typedef void (*ChoirEarSpotHeard)(guint32 session, guint kind, guint32 end, const char *phrase, gpointer user);
/* A session is not listened to: one sentence. */
typedef void (*ChoirEarSpotProblem)(guint32 session, const char *why, gpointer user);

/* model: folder of the acoustic model. Takes phrases over. */
ChoirEarSpot *choir_ear_spot_new(const char *model, ChoirSpotPhrases *phrases, ChoirEarSpotHeard heard,
                                 ChoirEarSpotProblem problem, gpointer user);
void choir_ear_spot_free(ChoirEarSpot *spot);
/* From now on, phrases of these kinds (CHOIR_SPOT_) count; 0: the session is forgotten. */
void choir_ear_spot_listen(ChoirEarSpot *spot, guint32 session, guint kinds);
/* A window of CHOIR_VAD_WINDOW samples; end: index behind it; probability: of speech in it. A window that does not
 * follow on the last one starts anew. */
void choir_ear_spot_window(ChoirEarSpot *spot, guint32 session, const gint16 *samples, guint32 end, float probability);
guint64 choir_ear_spot_dropped(ChoirEarSpot *spot); /* windows lost because the thread fell behind */
