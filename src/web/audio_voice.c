#include "web/audio_voice.h"
#include <string.h>
#include "base/text.h"

const char *const choir_audio_voice_aliases[] = {"alloy", "ash",  "ballad", "cedar", "coral",   "echo",  "fable",
                                                 "marin", "nova", "onyx",   "sage",  "shimmer", "verse", NULL};

void choir_audio_voice(const ChoirDesk *desk, ChoirAudioVoice *ret_voice) {
  json_auto_t *info = choir_desk_tts_info(desk);
  const char *engine = choir_json_string(info, "engine", "");
  const char *model = choir_json_string(info, "model", "");
  gsize length = strlen(model) - (g_str_has_suffix(model, ".onnx") ? strlen(".onnx") : 0);
  gsize place = strcspn(model, "-");
  gboolean named = g_str_equal(engine, "piper") && length > 0;
  *ret_voice = (ChoirAudioVoice){
      .name = named                            ? g_strndup(model, length)
              : g_str_equal(engine, "flite")   ? g_strdup("slt")
              : g_str_equal(engine, "wyoming") ? g_strdup("wyoming")
                                               : g_strdup("default"),
      .language = named && place < length ? g_strndup(model, place) : g_strdup("en_US"),
      .detail = g_strdup(choir_json_string(info, "detail", "")),
  };
}

void choir_audio_voice_clear(ChoirAudioVoice *voice) {
  g_clear_pointer(&voice->name, g_free);
  g_clear_pointer(&voice->language, g_free);
  g_clear_pointer(&voice->detail, g_free);
}

gboolean choir_audio_voice_known(const ChoirAudioVoice *voice, const char *name) {
  return g_str_equal(name, voice->name) || g_str_equal(name, "default") ||
         g_strv_contains(choir_audio_voice_aliases, name);
}
