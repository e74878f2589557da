#include "base/names.h"
#include "base/text.h"
#include "web/audio_voice.h"
#include "web/wyoming_private.h"

static json_t *attribution(const char *engine) {
  static const struct {
    const char *engine, *name, *url;
  } makers[] = {
      {"whisper", "OpenAI Whisper by whisper.cpp", "https://github.com/ggml-org/whisper.cpp"},
      {"pocketsphinx", "CMU PocketSphinx", "https://github.com/cmusphinx/pocketsphinx"},
      {"piper", "Piper", "https://github.com/rhasspy/piper"},
      {"flite", "CMU Flite", "https://github.com/festvox/flite"},
  };
  for (gsize i = 0; i < G_N_ELEMENTS(makers); i++)
    if (g_str_equal(makers[i].engine, engine))
      return json_pack("{s:s,s:s}", "name", makers[i].name, "url", makers[i].url);
  return json_pack("{s:s,s:s}", "name", "Choir", "url", "");
}

static json_t *artifact(const char *name, const char *engine, const char *description, gboolean installed) {
  return json_pack("{s:s,s:o,s:b,s:s,s:s}", "name", name, "attribution", attribution(engine), "installed", installed,
                   "description", description, "version", CHOIR_VERSION_STRING);
}

static json_t *stt(const ChoirDesk *desk, const char *language) {
  json_auto_t *info = choir_desk_stt_info(desk);
  const char *engine = choir_json_string(info, "engine", "unknown");
  const char *detail = choir_json_string(info, "detail", "");
  gboolean ready = choir_desk_stt_ready(desk);
  json_t *model = artifact(engine, engine, detail, ready);
  json_object_set_new(model, "languages", choir_audio_languages(desk, language));
  json_t *program = artifact("choir", engine, "Choir's speech recognition", ready);
  json_object_set_new(program, "models", json_pack("[o]", model));
  json_object_set_new(program, "supports_transcript_streaming", json_true());
  json_object_set_new(program, "requires_external_vad", json_true());
  return program;
}

static json_t *tts(const ChoirDesk *desk) {
  g_auto(ChoirAudioVoice) voice = {0};
  choir_audio_voice(desk, &voice);
  json_auto_t *info = choir_desk_tts_info(desk);
  const char *engine = choir_json_string(info, "engine", "unknown");
  gboolean ready = choir_desk_tts_ready(desk);
  json_t *entry = artifact(voice.name, engine, voice.detail, ready);
  json_object_set_new(entry, "languages", json_pack("[s]", voice.language));
  json_t *program = artifact("choir", engine, "Choir's voice", ready);
  json_object_set_new(program, "voices", json_pack("[o]", entry));
  json_object_set_new(program, "supports_synthesize_streaming", json_true());
  return program;
}

json_t *choir_wyoming_info(const ChoirDesk *desk, ChoirWyomingServices services, const char *language) {
  json_t *info = json_object();
  static const char *const kinds[] = {"asr", "tts", "handle", "intent", "wake", "mic", "snd"};
  for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++)
    json_object_set_new(info, kinds[i], json_array());
  if (services & CHOIR_WYOMING_STT)
    json_array_append_new(json_object_get(info, "asr"), stt(desk, language));
  if (services & CHOIR_WYOMING_TTS)
    json_array_append_new(json_object_get(info, "tts"), tts(desk));
  return info;
}
