#include "web/audio_voice.h"
#include <string.h>
#include "base/text.h"

/* Whisper's languages, as whisper.cpp lists them (base model). */
static const char whisper_languages[] =
    "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la mi ml "
    "cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be tg sd gu am "
    "yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su";

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

json_t *choir_audio_languages(const ChoirDesk *desk, const char *configured) {
  json_auto_t *info = choir_desk_stt_info(desk);
  gboolean any = g_str_equal(choir_json_string(info, "engine", ""), "whisper");
  g_auto(GStrv) words = g_strsplit(any ? whisper_languages : configured, " ", -1);
  json_t *list = json_array();
  for (char **word = words; *word; word++)
    json_array_append_new(list, json_string(g_str_equal(*word, "auto") ? "en" : *word));
  return list;
}

gboolean choir_audio_language_known(const ChoirDesk *desk, const char *configured, const char *code) {
  json_auto_t *info = choir_desk_stt_info(desk);
  json_auto_t *list = choir_audio_languages(desk, configured);
  if (g_str_equal(choir_json_string(info, "engine", ""), "wyoming"))
    return TRUE;
  for (size_t i = 0; i < json_array_size(list); i++)
    if (g_str_equal(json_string_value(json_array_get(list, i)), code))
      return TRUE;
  return FALSE;
}
