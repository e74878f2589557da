/* The little language of `choir talk`: one instruction a line, '#' begins a comment. Any thread.
 *
 *   play FILE.wav                      speak the recording, go on when it has been spoken
 *   wait agent [10s]                   until the agent is heard (fails after the time, 30 s without one)
 *   wait silence [700ms] [30s]         until nothing is heard and no answer is being made for 700 ms
 *   after agent 700ms play FILE.wav    wait for the agent's voice, then 700 ms more, then speak over it
 *   sleep 500ms                        let time pass
 *   say-text "Good morning"            a typed turn
 *   timeout 60s                        longest time of the whole script (120 s without it); anywhere, once
 *
 * Times are written 500ms, 1.5s or 2m. Files are looked for beside the script, then in the data folder. */
#pragma once
#include <glib.h>

typedef enum {
  CHOIR_TALK_PLAY,
  CHOIR_TALK_WAIT_AGENT,
  CHOIR_TALK_WAIT_SILENCE,
  CHOIR_TALK_SLEEP,
  CHOIR_TALK_SAY_TEXT,
} ChoirTalkKind;

typedef struct {
  ChoirTalkKind kind;
  guint line;     /* in the script, from 1 */
  guint ms;       /* SLEEP: how long; WAIT_SILENCE: how much silence */
  guint limit_ms; /* WAIT_*: longest wait */
  char *text;     /* PLAY: the file's path; SAY_TEXT: the words */
} ChoirTalkStep;

typedef struct {
  GPtrArray *steps; /* of ChoirTalkStep */
  guint timeout_ms;
} ChoirTalkScript;

/* folder, data: where files are looked for (may be NULL). Errors name the line and what was expected. Caller frees. */
ChoirTalkScript *choir_talk_script_parse(const char *text, const char *folder, const char *data, GError **error);
void choir_talk_script_free(ChoirTalkScript *script);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirTalkScript, choir_talk_script_free)

#define CHOIR_TALK_ERROR (choir_talk_error_quark())
GQuark choir_talk_error_quark(void);
