/* Which sample of the loudspeaker belongs to which of the microphone. What the devices report is right on the average
 * and noisy in the single case: a thread that got no processor reports late. So the reference stands still while there
 * is sound (the canceller's filter learns a fixed way), is corrected from the median of the reports in silence, and at
 * once where samples were lost. And because a report can be wrong for good (a delay that the driver does not know of),
 * the envelopes of both are compared: an echo that comes before its reference or behind the filter's end moves it.
 * Pure, fixed size; one thread. Samples are those of CHOIR_AEC_RATE. */
#pragma once
#include <glib.h>
#include "audio/aec.h"

#define CARD_ALIGN_BIN 64 /* samples of one value of the envelopes, 4 ms */
#define CARD_ALIGN_BINS 1024
#define CARD_ALIGN_REPORTS 128 /* 2 s */

typedef struct {
  double offset; /* of the loudspeaker's count to the microphone's, without the margin */
  double bias;   /* what the reports are wrong by, found from the sound */
  double report[CARD_ALIGN_REPORTS];
  guint reports;    /* so far; the last CARD_ALIGN_REPORTS are kept */
  gboolean settled; /* enough reports since the last gap */
  guint late;       /* grows with frames whose reference was not there in time, and shrinks with others */
  guint quiet;      /* frames without a sound of the loudspeaker */
  float far[CARD_ALIGN_BINS], mic[CARD_ALIGN_BINS]; /* levels, less what they have been just before */
  float far_usual, mic_usual;
  guint bins;  /* so far */
  gint seen;   /* lag that the last look found */
  guint moves; /* for tests and logs */
} CardAlign;

void card_align_init(CardAlign *align);
/* Samples were lost, of whichever direction: the reports count anew. */
void card_align_gap(CardAlign *align);
/* One report: the loudspeaker's count of what is heard less the microphone's of what was recorded. TRUE: the reference
 * jumped so far that what was learnt from it is void. */
gboolean card_align_report(CardAlign *align, double offset);
/* The reference of this frame ends so many samples behind what is written (0 or less: it is all there). What was not
 * written yet cannot be in the air, so reading later puts no echo in front of its cause: done at once in silence, and
 * in sound when it is more than a thread that came late once. Returns by how much the reference is read later from now
 * on. */
double card_align_late(CardAlign *align, double samples);
/* Something was played within the last half second, so that moving the reference costs what was learnt. */
gboolean card_align_in_sound(const CardAlign *align);
/* A frame of the microphone and the reference that was read for it. TRUE: as above. */
gboolean card_align_hear(CardAlign *align, const gint16 *mic, const gint16 *far);
