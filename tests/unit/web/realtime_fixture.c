#include "realtime_fixture.h"

static const ChoirLiveOptions defaults = {.server_vad = TRUE,
                                          .threshold = 0.5,
                                          .silence_ms = 600,
                                          .silence_min_ms = 300,
                                          .silence_max_ms = 1500,
                                          .prefix_ms = 300,
                                          .interrupt = TRUE,
                                          .create_response = TRUE,
                                          .audio_out = TRUE};

static void on_send(const char *text, gsize length, gpointer user) {
  Fixture *f = user;
  g_autoptr(GError) error = NULL;
  json_t *event = choir_json_parse(text, length, &error);
  g_assert_no_error(error);
  g_assert_cmpuint(strlen(choir_json_string(event, "event_id", "")), >, 6);
  json_array_append_new(f->events, event);
}

static ChoirChat *on_chat(gpointer user, const char **ret_model) {
  static char somewhere;
  *ret_model = "m";
  return ((Fixture *)user)->no_model ? NULL : (ChoirChat *)(gpointer)&somewhere;
}

void realtime_setup(Fixture *f, gconstpointer extension) {
  f->events = json_array();
  ChoirLive *live = fake_live_new();
  f->session = choir_realtime_session_new(
      &defaults, &(ChoirRealtimeOptions){
                     .model = "smollm2", .extension = extension != NULL, .chat = on_chat, .send = on_send, .user = f});
  choir_realtime_session_start(f->session);
  choir_realtime_session_attach(f->session, live);
}

void realtime_teardown(Fixture *f, gconstpointer data) {
  choir_realtime_session_free(f->session);
  json_decref(f->events);
  fake_call_clear();
}

void realtime_client(Fixture *f, const char *text) {
  choir_realtime_session_client(f->session, text, strlen(text));
}

void realtime_live(Fixture *f, ChoirLiveEvent event) {
  choir_realtime_session_live(f->session, &event);
}

static char *types(Fixture *f) {
  static const char *const shorter[][2] = {{"conversation.item.input_audio_transcription.", "transcription."},
                                           {"input_audio_buffer.", "buffer."},
                                           {"conversation.item.", "item."},
                                           {"response.output_audio_transcript.", "transcript."},
                                           {"response.output_audio.", "audio."},
                                           {"response.output_text.", "text."}};
  GString *out = g_string_new(NULL);
  size_t i;
  json_t *event;
  json_array_foreach(f->events, i, event) {
    const char *type = choir_json_string(event, "type", "?");
    const char *prefix = "";
    for (gsize k = 0; k < G_N_ELEMENTS(shorter); k++)
      if (g_str_has_prefix(type, shorter[k][0])) {
        prefix = shorter[k][1];
        type += strlen(shorter[k][0]);
        break;
      }
    g_string_append_printf(out, "%s%s%s", out->len ? " " : "", prefix, type);
  }
  return g_string_free(out, FALSE);
}

void realtime_expect(Fixture *f, const char *expected) {
  g_autofree char *got = types(f);
  g_assert_cmpstr(got, ==, expected);
}

void realtime_forget(Fixture *f) {
  json_array_clear(f->events);
  fake_live_reset();
}

json_t *realtime_event(Fixture *f, gsize index) {
  return json_array_get(f->events, index);
}

json_t *realtime_last(Fixture *f) {
  return realtime_event(f, json_array_size(f->events) - 1);
}

const json_t *realtime_at(const json_t *json, const char *path) {
  g_auto(GStrv) parts = g_strsplit(path, ".", -1);
  for (char **part = parts; *part && json; part++)
    json = json_is_array(json) ? json_array_get(json, (size_t)g_ascii_strtoull(*part, NULL, 10))
                               : json_object_get(json, *part);
  return json;
}

const char *realtime_text(const json_t *json, const char *path) {
  return json_string_value(realtime_at(json, path));
}

void realtime_reply(Fixture *f, const char *response, const char *item, const char *const *deltas, gboolean audio) {
  static const gint16 pcm[6000];
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_RESPONSE_STARTED, .response_id = response, .item_id = item});
  for (; *deltas; deltas++)
    realtime_live(
        f, (ChoirLiveEvent){.type = CHOIR_LIVE_TEXT_DELTA, .response_id = response, .item_id = item, .text = *deltas});
  if (audio)
    realtime_live(f,
                  (ChoirLiveEvent){
                      .type = CHOIR_LIVE_AUDIO, .response_id = response, .item_id = item, .pcm = pcm, .samples = 6000});
}

void realtime_add_text(Fixture *f) {
  realtime_client(
      f, "{\"type\":\"conversation.item.create\",\"item\":{\"type\":\"message\",\"role\":\"user\",\"content\":[{"
         "\"type\":\"input_text\",\"text\":\"x\"}]}}");
}
