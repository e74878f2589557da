/* Spoken durations and times of day. Pure; any thread. */
#pragma once
#include <glib.h>

/* "10 minutes", "1 hour 30 minutes", "an hour and a half", "90s", "half an hour": seconds; 0 = not understood. */
guint choir_when_duration(const char *text);
/* "17:30", "5 pm", "5:15pm", "noon", "midnight", "tomorrow at 8", "2026-12-01 09:00": the next such moment after now,
 * seconds since 1970; 0 = not understood. "8" alone is the next 8 o'clock, in the morning or the evening. */
gint64 choir_when_moment(const char *text, GDateTime *now);
/* "2 hours", "1 minute 5 seconds": what a person would say; caller frees. */
char *choir_when_say(gint64 seconds);
