/* Figures of a conversation, read from its stereo recording alone. Any thread.
 * A side is heard from the first 10 ms window of two in a row above -50 dBFS (RMS) to the last such window. */
#pragma once
#include <glib.h>
#include <jansson.h>

typedef struct {
  gint64 start, end; /* frames; end is the first one after */
} ChoirTalkSpan;

typedef struct {
  GArray *caller, *agent; /* of ChoirTalkSpan: the caller's turns, the agent's stretches of speech */
  GArray *voice_to_voice; /* of double, ms: end of a turn to the agent's first sound before the next turn */
  GArray *interruption;   /* of double, ms: onset of a turn that falls into the agent's speech, to its last sound */
  guint cut_in;           /* the agent began while a turn was running */
} ChoirTalkFigures;

/* stereo: left the caller, right the agent. turns: where recordings were played (of ChoirTalkSpan), or NULL to take
 * stretches of the left side that are 1.2 s apart. Free with choir_talk_figures_free(). */
ChoirTalkFigures *choir_talk_measure(const gint16 *stereo, gsize frames, guint rate, const GArray *turns);
void choir_talk_figures_free(ChoirTalkFigures *figures);
json_t *choir_talk_figures_json(const ChoirTalkFigures *figures, guint rate); /* members of an object; caller decrefs */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirTalkFigures, choir_talk_figures_free)
