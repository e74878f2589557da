/* The one voice that choir-tts speaks with, as the interfaces name it. */
#pragma once
#include "speech/desk.h"

typedef struct {
  char *name;     /* "en_US-joe-medium", "slt", never empty */
  char *language; /* "en_US" */
  char *detail;   /* one sentence of the engine */
} ChoirAudioVoice;

void choir_audio_voice(const ChoirDesk *desk, ChoirAudioVoice *ret_voice);
void choir_audio_voice_clear(ChoirAudioVoice *voice);
/* Whether a request may ask for this voice: its own name, "default", or one of the names that OpenAI's clients know,
 * which all mean the one voice there is. */
gboolean choir_audio_voice_known(const ChoirAudioVoice *voice, const char *name);
extern const char *const choir_audio_voice_aliases[];
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ChoirAudioVoice, choir_audio_voice_clear)
