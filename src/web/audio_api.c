#include "web/audio_api.h"
#include <string.h>
#include "base/text.h"
#include "web/answer.h"
#include "web/audio_codec.h"
#include "web/audio_voice.h"

struct ChoirAudioApi {
  const ChoirWebOptions *options;
  ChoirTranscriptions *transcriptions;
  ChoirSpeeches *speeches;
};

void choir_audio_answer_error(ChoirHttpRequest *request, const GError *error) {
  if (g_error_matches(error, CHOIR_CODEC_ERROR, CHOIR_CODEC_ERROR_FORMAT))
    choir_http_respond_error(request, 415, "invalid_request_error", "unsupported_format", "%s", error->message);
  else if (g_error_matches(error, CHOIR_CODEC_ERROR, CHOIR_CODEC_ERROR_TOO_LONG))
    choir_http_respond_error(request, 413, "invalid_request_error", "audio_too_long", "%s", error->message);
  else if (g_error_matches(error, CHOIR_DESK_ERROR, CHOIR_DESK_ERROR_BUSY))
    choir_answer_busy(request, "busy", error->message);
  else if (g_error_matches(error, CHOIR_DESK_ERROR, CHOIR_DESK_ERROR_UNAVAILABLE))
    choir_answer_busy(request, "engine_unavailable", error->message);
  else
    choir_http_respond_error(request, 502, "server_error", "engine_error", "%s", error->message);
}

gboolean choir_audio_write_event(ChoirHttpStream *stream, json_t *json) {
  g_autofree char *text = choir_json_dump(json);
  g_autofree char *event = g_strdup_printf("data: %s\n\n", text);
  json_decref(json);
  return choir_http_stream_write(stream, event, strlen(event));
}

static void on_voices(ChoirHttpRequest *request, gpointer user) {
  ChoirAudioApi *api = user;
  g_auto(ChoirAudioVoice) voice = {0};
  choir_audio_voice(api->options->desk, &voice);
  json_t *aliases = json_array();
  for (gsize i = 0; choir_audio_voice_aliases[i]; i++)
    json_array_append_new(aliases, json_string(choir_audio_voice_aliases[i]));
  choir_answer_json(request, 200,
                    json_pack("{s:[{s:s,s:s,s:s,s:s,s:b}],s:o}", "voices", "id", voice.name, "name", voice.name,
                              "language", voice.language, "description", voice.detail, "ready",
                              choir_desk_tts_ready(api->options->desk), "aliases", aliases));
}

static void add_model(json_t *list, const json_t *info, const char *kind, gboolean ready) {
  json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:s,s:b}", "id", choir_json_string(info, "engine", "none"),
                                        "object", "model", "owned_by", "choir", "kind", kind, "ready", ready));
}

static void on_models(ChoirHttpRequest *request, gpointer user) {
  ChoirAudioApi *api = user;
  const ChoirDesk *desk = api->options->desk;
  json_auto_t *stt = choir_desk_stt_info(desk), *tts = choir_desk_tts_info(desk);
  json_t *list = json_array();
  add_model(list, stt, "transcription", choir_desk_stt_ready(desk));
  add_model(list, tts, "speech", choir_desk_tts_ready(desk));
  /* Open WebUI looks for "models", OpenAI's clients for "data". */
  choir_answer_json(request, 200, json_pack("{s:s,s:o,s:O}", "object", "list", "data", list, "models", list));
}

ChoirAudioApi *choir_audio_api_new(const ChoirWebOptions *options) {
  ChoirAudioApi *api = g_new0(ChoirAudioApi, 1);
  api->options = options;
  api->transcriptions = choir_transcriptions_new(options);
  api->speeches = choir_speeches_new(options);
  choir_http_server_route(options->server, "GET", "/v1/audio/voices", on_voices, api);
  choir_http_server_route(options->server, "GET", "/v1/audio/models", on_models, api);
  return api;
}

void choir_audio_api_free(ChoirAudioApi *api) {
  if (!api)
    return;
  choir_transcriptions_free(api->transcriptions);
  choir_speeches_free(api->speeches);
  g_free(api);
}
