#include "voice/live_marks.h"

static const char *const names[LIVE_MARKS] = {"transcript asked", "there", "model asked", "first text",
                                              "clause",           "sound", "turn over"};

void live_marks_set(LiveMarks *marks, LiveMark mark, gint64 now_us) {
  for (guint i = mark + 1; i < LIVE_MARK_OVER; i++)
    marks->at_us[i] = 0;
  marks->at_us[mark] = now_us;
}

void live_marks_first(LiveMarks *marks, LiveMark mark, gint64 now_us) {
  if (marks->at_us[mark] == 0)
    marks->at_us[mark] = now_us;
}

char *live_marks_text(const LiveMarks *marks, gint64 speech_end_us, gint64 now_us) {
  GString *text = g_string_new(NULL);
  for (guint i = 0; i < LIVE_MARKS; i++)
    if (marks->at_us[i] > 0)
      g_string_append_printf(text, "%s %" G_GINT64_FORMAT ", ", names[i], (marks->at_us[i] - speech_end_us) / 1000);
  g_string_append_printf(text, "sent %" G_GINT64_FORMAT, (now_us - speech_end_us) / 1000);
  return g_string_free(text, FALSE);
}
