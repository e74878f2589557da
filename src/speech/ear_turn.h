/* "Is this turn over?" by smart-turn v3.2 (pipecat-ai/smart-turn, BSD-2-Clause): the last 8 s as Whisper's log-mel
 * features in, a probability out. It takes 0.1 s on a modern core and up to a second on a Core 2, so it runs on a
 * thread of its own with low priority; the voice activity beside it never waits. */
#pragma once
#include <glib.h>
#include "speech/wire.h"

typedef struct ChoirEarTurn ChoirEarTurn;
/* On the thread of the model. */
typedef void (*ChoirEarTurnVerdict)(const ChoirWireFrame *about, float probability, gpointer user);
/* Once, on the thread of the model: cost of a verdict in ms of its thread's processor time, or -1 with the reason. */
typedef void (*ChoirEarTurnReady)(double cost_ms, const char *problem, gpointer user);

/* Starts the thread, which loads the model behind the caller's back. Strings are copied. */
ChoirEarTurn *choir_ear_turn_new(const char *library, const char *model, ChoirEarTurnReady ready,
                                 ChoirEarTurnVerdict verdict, gpointer user);
/* Stops what runs and waits for the thread. */
void choir_ear_turn_free(ChoirEarTurn *turn);
/* Copies the frame's samples; an older question of the same session is dropped, even when it is being answered. FALSE
 * when more than CHOIR_EAR_TURN_WAITING sessions wait. Main thread. */
#define CHOIR_EAR_TURN_WAITING 64
gboolean choir_ear_turn_ask(ChoirEarTurn *turn, const ChoirWireFrame *frame);
/* Drops the session's question. */
void choir_ear_turn_forget(ChoirEarTurn *turn, guint32 session);
