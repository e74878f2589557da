/* When the stages of a spoken turn were reached, for one debug line a turn: where its wait went. Main thread only. */
#pragma once
#include <glib.h>

typedef enum {
  LIVE_MARK_STT_ASKED, /* the transcription that was used */
  LIVE_MARK_STT_TEXT,
  LIVE_MARK_BEGUN, /* the model was asked, on a guess or not */
  LIVE_MARK_DELTA,
  LIVE_MARK_CLAUSE,
  LIVE_MARK_SOUND, /* first sample of the voice */
  LIVE_MARK_OVER,  /* the turn's end */
  LIVE_MARKS
} LiveMark;

typedef struct {
  gint64 at_us[LIVE_MARKS]; /* 0: not yet */
} LiveMarks;

/* Sets a mark. Earlier stages stay, later ones are forgotten (those of a guess that was taken back), but not the end.
 */
void live_marks_set(LiveMarks *marks, LiveMark mark, gint64 now_us);
/* The first of a reply's own stages: TRUE when it was not set yet. */
void live_marks_first(LiveMarks *marks, LiveMark mark, gint64 now_us);
/* "transcript asked 200, there 560, ..." in ms after the last sound. Caller frees. */
char *live_marks_text(const LiveMarks *marks, gint64 speech_end_us, gint64 now_us);
