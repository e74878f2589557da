/* When each phoneme of a clause sounds: word spans for the ledger, mouth shapes for the face. Plain struct, one thread.
 * An engine adds the phonemes of a stretch of sound before its samples; only when their lengths add up to exactly the
 * samples is the timeline true. */
#pragma once
#include <glib.h>
#include "speech/tts.h"

/* The usual set of 15 mouth shapes, as in the Oculus and OVR lip-sync documentation. */
typedef enum {
  CHOIR_VISEME_SIL,
  CHOIR_VISEME_PP,
  CHOIR_VISEME_FF,
  CHOIR_VISEME_TH,
  CHOIR_VISEME_DD,
  CHOIR_VISEME_KK,
  CHOIR_VISEME_CH,
  CHOIR_VISEME_SS,
  CHOIR_VISEME_NN,
  CHOIR_VISEME_RR,
  CHOIR_VISEME_AA,
  CHOIR_VISEME_E,
  CHOIR_VISEME_I,
  CHOIR_VISEME_O,
  CHOIR_VISEME_U,
  CHOIR_VISEME_NEXT,     /* takes the shape of what follows: h, a stress mark */
  CHOIR_VISEME_PREVIOUS, /* keeps the shape: a length mark */
  CHOIR_VISEME_GAP,      /* between words: keeps the shape, unless it is a pause */
} ChoirViseme;

typedef struct {
  guint64 samples; /* at the engine's rate */
  int word;        /* row of the words, -1 = none */
  ChoirViseme viseme;
} ChoirTtsPhone;

struct ChoirTtsTimeline {
  GArray *phones;  /* ChoirTtsPhone */
  guint64 samples; /* of all phones */
};

const char *choir_viseme_name(ChoirViseme viseme);
ChoirViseme choir_viseme_of_ipa(gunichar c);            /* a character of espeak-ng's IPA, or punctuation */
ChoirViseme choir_viseme_of_arpabet(const char *phone); /* flite's names: "aa", "pau" */

void choir_tts_timeline_init(ChoirTtsTimeline *timeline);
void choir_tts_timeline_clear(ChoirTtsTimeline *timeline);
void choir_tts_timeline_add(ChoirTtsTimeline *timeline, guint64 samples, int word, ChoirViseme viseme);

/* Which part of the engine's sound was sent, and at which rate. */
typedef struct {
  guint64 sound;       /* samples the engine made */
  guint64 dropped;     /* of them cut off at the front */
  guint64 sent;        /* samples sent */
  guint rate, to_rate; /* of the engine, of what was sent */
} ChoirTtsSpan;

typedef struct {
  guint32 first; /* sample sent */
  ChoirViseme viseme;
} ChoirTtsMouth;

/* Appends the mouth's changes (ChoirTtsMouth) from the phone at *at on, and moves *at behind the last one: for sound
 * that is on its way. span->sound and ->sent are not looked at. before: the shape so far. */
ChoirViseme choir_tts_timeline_mouth(const ChoirTtsTimeline *timeline, const ChoirTtsSpan *span, guint *at,
                                     ChoirViseme before, GArray *ret_mouth);
/* Sets first and last of the words that have phones, and appends the mouth's changes to ret_mouth (ChoirTtsMouth): the
 * first at sample 0, strictly rising, all below span->sent. FALSE, changing nothing, when the phones do not add up to
 * the sound. */
gboolean choir_tts_timeline_finish(const ChoirTtsTimeline *timeline, const ChoirTtsSpan *span, GArray *words,
                                   GArray *ret_mouth);
