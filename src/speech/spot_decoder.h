/* Keyphrases in a stream of sound, by PocketSphinx (CMU, BSD) against a loop of any phones. One thread at a time. */
#pragma once
#include "speech/spot_phrases.h"

typedef struct ChoirSpotDecoder ChoirSpotDecoder;
/* end: samples fed since the last start, up to the end of the phrase. */
typedef void (*ChoirSpotHeard)(const ChoirSpotPhrase *phrase, guint64 end, gpointer user);

/* model: folder of an acoustic model. phrases must live as long. Takes about 0.1 s. NULL with error. */
ChoirSpotDecoder *choir_spot_decoder_new(const char *model, const ChoirSpotPhrases *phrases, GError **error);
void choir_spot_decoder_free(ChoirSpotDecoder *decoder);
/* A stretch of sound begins in which phrases of these kinds count. FALSE when no phrase is of them. */
gboolean choir_spot_decoder_start(ChoirSpotDecoder *decoder, guint kinds);
void choir_spot_decoder_feed(ChoirSpotDecoder *decoder, const gint16 *samples, gsize n, ChoirSpotHeard heard,
                             gpointer user);
/* The stretch ends: what was heard last is reported now. */
void choir_spot_decoder_stop(ChoirSpotDecoder *decoder, ChoirSpotHeard heard, gpointer user);
/* For tests/bench/voice/keyphrases: how well each phrase fits anywhere in a stretch of sound, as the power of ten that
 * its threshold is compared with; CHOIR_SPOT_NOWHERE: not at all. scores: one for each phrase. FALSE: it cannot be
 * measured. */
#define CHOIR_SPOT_NOWHERE (-99.0)
gboolean choir_spot_decoder_measure(ChoirSpotDecoder *decoder, const gint16 *samples, gsize n, double *scores);
