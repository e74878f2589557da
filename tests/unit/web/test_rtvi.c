/* The RTVI session between scripted messages and scripted live events: handshake, forms, order, progress. */
#include <string.h>
#include <unistd.h>
#include "base/text.h"
#include "fake_live.h"
#include "web/rtvi_frames.h"
#include "web/rtvi_session.h"

typedef struct {
  ChoirRtviSession *session;
  GString *types; /* of the messages, "audio" for sound */
  json_t *last;   /* message */
  gboolean binary, hung_up;
} Fixture;

static const ChoirLiveOptions defaults = {.server_vad = TRUE, .silence_ms = 600, .audio_out = TRUE};

static void on_send(gboolean binary, const void *data, gsize length, gpointer user) {
  Fixture *f = user;
  ChoirRtviFrame frame = {.kind = CHOIR_RTVI_MESSAGE, .data = data, .length = length};
  f->binary = binary;
  if (binary)
    g_assert_true(choir_rtvi_frame_read(data, length, &frame));
  const char *type = "audio";
  if (frame.kind == CHOIR_RTVI_MESSAGE) {
    g_autoptr(GError) error = NULL;
    json_decref(f->last);
    f->last = choir_json_parse((const char *)frame.data, frame.length, &error);
    g_assert_no_error(error);
    type = choir_json_string(f->last, "type", "?");
  }
  g_string_append_printf(f->types, "%s%s", f->types->len ? " " : "", type);
}

static void on_hang_up(gpointer user) {
  ((Fixture *)user)->hung_up = TRUE;
}

static void setup(Fixture *f, gconstpointer text_only) {
  ChoirLive *live = fake_live_new();
  f->types = g_string_new(NULL);
  f->session = choir_rtvi_session_new(
      &defaults, &(ChoirRtviOptions){
                     .model = "m", .text_only = text_only != NULL, .send = on_send, .hang_up = on_hang_up, .user = f});
  choir_rtvi_session_attach(f->session, live);
}

static void teardown(Fixture *f, gconstpointer data) {
  choir_rtvi_session_free(f->session);
  json_decref(f->last);
  g_string_free(f->types, TRUE);
}

static void say(Fixture *f, const char *type, const char *data) {
  g_autofree char *text =
      g_strdup_printf("{\"label\":\"rtvi-ai\",\"type\":\"%s\",\"id\":\"7\",\"data\":%s}", type, data);
  choir_rtvi_session_client(f->session, FALSE, text, strlen(text));
}

static void live(Fixture *f, ChoirLiveEvent event) {
  event.item_id = "a1";
  event.response_id = "r1";
  choir_rtvi_session_live(f->session, &event);
}

static void expect(Fixture *f, const char *types) {
  g_assert_cmpstr(f->types->str, ==, types);
  g_string_truncate(f->types, 0);
  fake_live_reset();
}

static void ready(Fixture *f) {
  say(f, "client-ready", "{\"version\":\"2.1.0\"}");
  expect(f, "bot-ready");
}

static const char *data_text(const Fixture *f, const char *key) {
  return choir_json_string(json_object_get(f->last, "data"), key, NULL);
}

static void test_handshake(Fixture *f, gconstpointer data) {
  say(f, "send-text", "{\"content\":\"x\"}");
  expect(f, "error-response");
  say(f, "client-ready", "{\"version\":\"3.0.0\"}");
  expect(f, "error-response");
  g_assert_nonnull(strstr(data_text(f, "error"), "3.0.0"));
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_SPEECH_STARTED});
  expect(f, "");
  say(f, "client-ready", "{\"version\":\"two\"}");
  expect(f, "error-response bot-ready");
  say(f, "client-ready", "{}");
  expect(f, "error-response bot-ready");
  g_assert_cmpstr(data_text(f, "version"), ==, CHOIR_RTVI_VERSION);
  g_assert_cmpstr(choir_json_string(f->last, "id", NULL), ==, "7");
  say(f, "client-ready", "{\"version\":\"1.4.0\"}");
  g_assert_cmpstr(data_text(f, "version"), ==, "1.4.0");
  g_assert_false(f->binary);
  say(f, "disconnect-bot", "{}");
  g_assert_true(f->hung_up);
}

static void test_binary(Fixture *f, gconstpointer data) {
  static const char text[] =
      "{\"label\":\"rtvi-ai\",\"type\":\"client-ready\",\"id\":\"1\",\"data\":{\"version\":\"2.0.0\"}}";
  static const gint16 pcm[160] = {1, -2, 300};
  g_autoptr(GByteArray) bytes = g_byte_array_new();
  choir_rtvi_frame_message(bytes, text, strlen(text));
  choir_rtvi_session_client(f->session, TRUE, (const char *)bytes->data, bytes->len);
  expect(f, "bot-ready");
  g_assert_true(f->binary);
  g_byte_array_set_size(bytes, 0);
  choir_rtvi_frame_audio(bytes, pcm, G_N_ELEMENTS(pcm), 16000);
  ChoirRtviFrame frame;
  g_assert_true(choir_rtvi_frame_read(bytes->data, bytes->len, &frame));
  g_assert_cmpuint(frame.rate, ==, 16000);
  g_assert_cmpuint(frame.length, ==, sizeof pcm);
  g_assert_cmpint(memcmp(frame.data, pcm, sizeof pcm), ==, 0); /* on a little-endian machine */
  choir_rtvi_session_client(f->session, TRUE, (const char *)bytes->data, bytes->len);
  g_assert_cmpstr(fake_live.log->str, ==, "audio:160@16000");
  for (gsize cut = 0; cut < bytes->len; cut++)
    g_assert_false(choir_rtvi_frame_read(bytes->data, cut, &frame));
  choir_rtvi_session_client(f->session, TRUE, "zz", 2);
  expect(f, "error-response");
}

/* An echo or a "stop" is shown and reaches no model. */
static void test_not_answered(Fixture *f, gconstpointer data) {
  ready(f);
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_TRANSCRIPT, .text = "Stop.", .no_reply = TRUE});
  expect(f, "user-transcription user-input");
}

static void test_spoken(Fixture *f, gconstpointer data) {
  static const gint16 pcm[6000];
  ready(f);
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_SPEECH_STARTED});
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_SPEECH_STOPPED});
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_TRANSCRIPT, .text = "Why?"});
  expect(f, "user-started-speaking user-stopped-speaking metrics user-transcription user-input user-llm-text");
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_RESPONSE_STARTED});
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_TEXT_DELTA, .text = "Well. So"});
  expect(f, "bot-llm-started metrics bot-llm-text bot-output");
  g_assert_cmpstr(data_text(f, "text"), ==, "Well. ");
  fake_live.heard = 4;
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_AUDIO, .pcm = pcm, .samples = 6000});
  expect(f, "bot-tts-started bot-started-speaking metrics bot-tts-audio bot-tts-audio bot-tts-audio bot-tts-text "
            "bot-output bot-audio-level");
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_RESPONSE_DONE, .status = "completed", .text = "Well. So it is."});
  expect(f, "bot-output bot-llm-stopped bot-tts-stopped");
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_PLAYOUT_DONE});
  expect(f, "bot-tts-text bot-output bot-tts-text bot-output bot-stopped-speaking");
}

static void test_cut(Fixture *f, gconstpointer data) {
  static const gint16 pcm[480];
  ready(f);
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_RESPONSE_STARTED});
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_TEXT_DELTA, .text = "Long ago there was a king."});
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_AUDIO, .pcm = pcm, .samples = 480});
  g_string_truncate(f->types, 0);
  live(f,
       (ChoirLiveEvent){.type = CHOIR_LIVE_RESPONSE_DONE, .status = "cancelled", .text = "Long ago there was a king."});
  expect(f, "bot-interrupted bot-llm-stopped bot-tts-stopped bot-stopped-speaking");
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_TRUNCATED, .text = "Long ago"});
  expect(f, "bot-output bot-tts-text bot-output"); /* new, then how far it came */
  g_assert_cmpstr(
      choir_json_string(json_object_get(json_object_get(f->last, "data"), "spoken_progress"), "accumulated_text", NULL),
      ==, "Long ago");
}

static void test_typed(Fixture *f, gconstpointer data) {
  ready(f);
  say(f, "send-text", "{\"content\":\" Hello \",\"options\":{\"audio_response\":false}}");
  g_assert_nonnull(strstr(fake_live.log->str, "cancel configure:text text:Hello"));
  expect(f, "user-input user-llm-text");
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_RESPONSE_STARTED});
  g_assert_true(fake_live.options.audio_out); /* the next one is spoken again */
  expect(f, "bot-llm-started");
  static const char *const refused[][2] = {{"send-text", "{}"},
                                           {"client-message", "{\"t\":\"x\"}"},
                                           {"dtmf", "{\"buttons\":[\"1\"]}"},
                                           {"llm-function-call-result", "{}"},
                                           {"raw-audio", "{\"base64Audio\":\"?\"}"},
                                           {"no-such", "{}"}};
  for (guint i = 0; i < G_N_ELEMENTS(refused); i++) {
    say(f, refused[i][0], refused[i][1]);
    expect(f, "error-response");
  }
  say(f, "ui-snapshot", "{}");
  expect(f, "");
  say(f, "client-message", "{\"t\":\"state\"}");
  expect(f, "server-response");
  say(f, "raw-audio", "{\"base64Audio\":\"AAAAAA==\",\"sampleRate\":16000,\"numChannels\":2}");
  g_assert_cmpstr(fake_live.log->str, ==, "audio:1@16000");
}

int main(int argc, char **argv) {
  alarm(60);
  g_test_init(&argc, &argv, NULL);
#define ADD(path, test) g_test_add("/rtvi/" path, Fixture, NULL, setup, test, teardown)
  ADD("handshake", test_handshake);
  ADD("binary", test_binary);
  ADD("spoken", test_spoken);
  ADD("not_answered", test_not_answered);
  ADD("cut", test_cut);
  ADD("typed", test_typed);
  return g_test_run();
}
