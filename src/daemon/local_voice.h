/* The conversation at this machine's own microphone and loudspeaker: choir-card (supervised, restarted with back-off)
 * on one side, a ChoirLive of source "card" on the other. Main thread only. */
#pragma once
#include <jansson.h>
#include "speech/worker.h"
#include "voice/live.h"

typedef struct ChoirLocalVoice ChoirLocalVoice;
typedef struct {
  const char *program;              /* choir-card */
  const char *microphone, *speaker; /* ALSA names, "default", "off" or "" */
  gboolean echo;                    /* cancel it */
  gboolean wake;                    /* sleeps until the wake word, whatever the other clients do */
} ChoirLocalVoiceOptions;

/* NULL: the microphone is off, nothing runs. */
ChoirLocalVoice *choir_local_voice_new(ChoirHub *hub, ChoirVoice *voice, const ChoirLocalVoiceOptions *options);
void choir_local_voice_start(ChoirLocalVoice *local);
void choir_local_voice_stop(ChoirLocalVoice *local, void (*done)(gpointer user), gpointer user);
void choir_local_voice_free(ChoirLocalVoice *local);
ChoirChild *choir_local_voice_child(ChoirLocalVoice *local);
/* {"microphone","speaker","ready","detail","state"}; caller decrefs. NULL is {"microphone":"off"}. */
json_t *choir_local_voice_status(ChoirLocalVoice *local);
