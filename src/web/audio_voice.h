/* What the interfaces say of the daemon's ears and voice: the one voice that choir-tts speaks with, and the languages
 * that choir-stt understands. */
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
/* Codes of the languages that the recogniser can be asked for; configured: the one of the settings. Caller decrefs. */
json_t *choir_audio_languages(const ChoirDesk *desk, const char *configured);
/* Whether it may be asked for this one; another machine's recogniser may always. */
gboolean choir_audio_language_known(const ChoirDesk *desk, const char *configured, const char *code);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ChoirAudioVoice, choir_audio_voice_clear)
