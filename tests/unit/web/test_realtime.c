/* The Realtime session between scripted client events and scripted live events: order, items, errors. */
#include <unistd.h>
#include "base/metrics.h"
#include "base/text.h"
#include "fake_call.h"
#include "fake_live.h"
#include "web/realtime_session.h"

typedef struct {
  ChoirRealtimeSession *session;
  json_t *events; /* what the client got */
  gboolean no_model;
} Fixture;

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

static void setup(Fixture *f, gconstpointer extension) {
  f->events = json_array();
  ChoirLive *live = fake_live_new();
  f->session = choir_realtime_session_new(
      &defaults, &(ChoirRealtimeOptions){
                     .model = "smollm2", .extension = extension != NULL, .chat = on_chat, .send = on_send, .user = f});
  choir_realtime_session_start(f->session);
  choir_realtime_session_attach(f->session, live);
}

static void teardown(Fixture *f, gconstpointer data) {
  choir_realtime_session_free(f->session);
  json_decref(f->events);
  fake_call_clear();
}

static void client(Fixture *f, const char *text) {
  choir_realtime_session_client(f->session, text, strlen(text));
}

static void live(Fixture *f, ChoirLiveEvent event) {
  choir_realtime_session_live(f->session, &event);
}

/* The types received since the last call, joined by blanks; long common beginnings are shortened. */
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

static void expect(Fixture *f, const char *expected) {
  g_autofree char *got = types(f);
  g_assert_cmpstr(got, ==, expected);
}

static void forget(Fixture *f) {
  json_array_clear(f->events);
  fake_live_reset();
}

static json_t *event_at(Fixture *f, gsize index) {
  return json_array_get(f->events, index);
}

static json_t *last(Fixture *f) {
  return event_at(f, json_array_size(f->events) - 1);
}

/* A member by path: "response.output.0.id". */
static const json_t *at(const json_t *json, const char *path) {
  g_auto(GStrv) parts = g_strsplit(path, ".", -1);
  for (char **part = parts; *part && json; part++)
    json = json_is_array(json) ? json_array_get(json, (size_t)g_ascii_strtoull(*part, NULL, 10))
                               : json_object_get(json, *part);
  return json;
}

static const char *text_at(const json_t *json, const char *path) {
  return json_string_value(at(json, path));
}

/* --- sessions -------------------------------------------------------------------------------------------------------
 */

static void test_created(Fixture *f, gconstpointer data) {
  expect(f, "session.created");
  const json_t *session = json_object_get(event_at(f, 0), "session");
  g_assert_cmpstr(text_at(session, "type"), ==, "realtime");
  g_assert_cmpstr(text_at(session, "model"), ==, "smollm2");
  g_assert_cmpstr(text_at(session, "output_modalities.0"), ==, "audio");
  g_assert_cmpstr(text_at(session, "audio.input.turn_detection.type"), ==, "server_vad");
  g_assert_cmpint(json_integer_value(at(session, "audio.input.turn_detection.silence_duration_ms")), ==, 600);
  g_assert_cmpint(json_integer_value(at(session, "audio.input.format.rate")), ==, 24000);
  g_assert_cmpint(json_integer_value(at(session, "audio.output.format.rate")), ==, 24000);
}

static void test_update(Fixture *f, gconstpointer data) {
  forget(f);
  client(f, "{\"type\":\"session.update\",\"session\":{\"type\":\"realtime\",\"instructions\":\"Be "
            "brief.\",\"output_modalities\":[\"text\"],"
            "\"audio\":{\"input\":{\"format\":{\"type\":\"audio/"
            "pcm\",\"rate\":16000},\"transcription\":{\"model\":\"whisper-1\",\"language\":\"en\"},"
            "\"turn_detection\":{\"type\":\"server_vad\",\"threshold\":0.99,\"silence_duration_ms\":10,\"prefix_"
            "padding_ms\":100,"
            "\"interrupt_response\":false}},\"output\":{\"voice\":\"marin\"}},\"tools\":[],\"tool_choice\":\"auto\"}}");
  expect(f, "session.updated");
  g_assert_cmpstr(fake_live.log->str, ==, "configure:text");
  g_assert_false(fake_live.options.audio_out || fake_live.options.interrupt);
  g_assert_true(fake_live.options.server_vad && fake_live.options.create_response);
  g_assert_cmpfloat_with_epsilon(fake_live.options.threshold, 0.95, 1e-9);
  g_assert_cmpuint(fake_live.options.silence_ms, ==, 200);
  g_assert_cmpuint(fake_live.options.prefix_ms, ==, 100);
  const json_t *session = json_object_get(event_at(f, 0), "session");
  g_assert_cmpstr(text_at(session, "instructions"), ==, "Be brief.");
  g_assert_cmpint(json_integer_value(at(session, "audio.input.format.rate")), ==, 16000);
  g_assert_cmpint(json_integer_value(at(session, "audio.input.turn_detection.silence_duration_ms")), ==, 200);
  /* Push to talk, and back: the defaults are there again. */
  client(f, "{\"type\":\"session.update\",\"session\":{\"audio\":{\"input\":{\"turn_detection\":null}}}}");
  g_assert_false(fake_live.options.server_vad || fake_live.options.create_response);
  g_assert_true(json_is_null(at(last(f), "session.audio.input.turn_detection")));
  client(f, "{\"type\":\"session.update\",\"session\":{\"audio\":{\"input\":{\"turn_detection\":{\"type\":\"semantic_"
            "vad\",\"eagerness\":\"low\"}}}}}");
  g_assert_true(fake_live.options.server_vad && fake_live.options.create_response && fake_live.options.interrupt);
  g_assert_cmpuint(fake_live.options.silence_ms, ==, 1200);
  g_assert_cmpuint(fake_live.options.silence_min_ms, ==, 600);
  g_assert_cmpuint(fake_live.options.silence_max_ms, ==, 3000);
  g_assert_cmpstr(text_at(last(f), "session.audio.input.turn_detection.type"), ==, "semantic_vad");
  g_assert_cmpstr(text_at(last(f), "session.audio.input.turn_detection.eagerness"), ==, "low");
  g_assert_cmpstr(text_at(last(f), "session.instructions"), ==, "Be brief.");
  g_assert_cmpstr(fake_live.instructions, ==, "Be brief.");
  client(f, "{\"type\":\"session.update\",\"session\":{\"instructions\":\"\",\"max_output_tokens\":9,"
            "\"audio\":{\"input\":{\"turn_detection\":{\"type\":\"server_vad\"}}}}}");
  g_assert_null(fake_live.instructions);
  g_assert_cmpuint(fake_live.max_tokens, ==, 9);
  g_assert_cmpuint(fake_live.options.silence_ms, ==, 600);
  g_assert_cmpuint(fake_live.options.silence_max_ms, ==, 1500);
}

static void test_update_refused(Fixture *f, gconstpointer data) {
  static const struct {
    const char *session, *code, *param;
  } rows[] = {
      {"{\"modalities\":[\"text\"]}", "unknown_parameter", "session.modalities"},
      {"{\"audio\":{\"input\":{\"volume\":3}}}", "unknown_parameter", "session.audio.input.volume"},
      {"{\"audio\":{\"input\":{\"format\":{\"type\":\"audio/pcm\",\"rate\":7000}}}}", "invalid_value",
       "session.audio.input.format.rate"},
      {"{\"audio\":{\"input\":{\"format\":{\"type\":\"audio/mp3\"}}}}", "invalid_value", "session.audio.input.format"},
      {"{\"audio\":{\"output\":{\"format\":{\"type\":\"audio/pcmu\"}}}}", "invalid_value",
       "session.audio.output.format"},
      {"{\"audio\":{\"input\":{\"turn_detection\":{\"type\":\"server_vad\",\"threshold\":2}}}}", "invalid_type",
       "session.audio.input.turn_detection.threshold"},
      {"{\"audio\":{\"input\":{\"turn_detection\":{\"type\":\"magic\"}}}}", "invalid_type",
       "session.audio.input.turn_detection"},
      {"{\"output_modalities\":[\"text\",\"audio\"]}", "invalid_type", "session.output_modalities"},
      {"{\"tools\":[{\"type\":\"function\"}]}", "invalid_value", "session.tools[0]"},
      {"{\"tools\":[{\"type\":\"mcp\",\"name\":\"x\"}]}", "invalid_value", "session.tools[0].type"},
      {"{\"tools\":[{\"type\":\"function\",\"name\":\"x\",\"parameters\":{\"type\":\"object\",\"properties\":{\"a\":{"
       "\"type\":\"string\",\"pattern\":\"^a+$\"}}}}]}",
       "invalid_value", "session.tools[0]"},
      {"{\"tool_choice\":\"required\"}", "invalid_value", "session.tool_choice"},
      {"{\"tool_choice\":{\"type\":\"function\",\"name\":\"x\"}}", "invalid_value", "session.tool_choice"},
      {"{\"max_output_tokens\":0}", "invalid_type", "session.max_output_tokens"},
      {"{\"type\":\"transcription\"}", "invalid_value", "session.type"},
      {"{\"instructions\":5}", "invalid_type", "session.instructions"},
      {"7", "invalid_type", "session"},
  };
  for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
    forget(f);
    /* Something valid first: a refused update changes nothing at all. */
    g_autofree char *text =
        g_strdup_printf("{\"type\":\"session.update\",\"event_id\":\"mine\",\"session\":%s}", rows[i].session);
    client(f, text);
    g_test_message("%s", text);
    expect(f, "error");
    g_assert_cmpstr(text_at(last(f), "error.code"), ==, rows[i].code);
    g_assert_cmpstr(text_at(last(f), "error.param"), ==, rows[i].param);
    g_assert_cmpstr(text_at(last(f), "error.event_id"), ==, "mine");
    g_assert_cmpstr(text_at(last(f), "error.type"), ==, "invalid_request_error");
    g_assert_cmpstr(fake_live.log->str, ==, "");
  }
  client(f, "{\"type\":\"session.update\",\"session\":{\"instructions\":\"half\",\"tools\":[{}]}}");
  client(f, "{\"type\":\"session.update\",\"session\":{}}");
  g_assert_cmpstr(text_at(last(f), "session.instructions"), ==, "");
}

/* --- turns ----------------------------------------------------------------------------------------------------------
 */

static void reply_events(Fixture *f, const char *response, const char *item, const char *const *deltas,
                         gboolean audio) {
  static const gint16 pcm[6000];
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_RESPONSE_STARTED, .response_id = response, .item_id = item});
  for (; *deltas; deltas++)
    live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_TEXT_DELTA, .response_id = response, .item_id = item, .text = *deltas});
  if (audio)
    live(f, (ChoirLiveEvent){
                .type = CHOIR_LIVE_AUDIO, .response_id = response, .item_id = item, .pcm = pcm, .samples = 6000});
}

static void test_spoken_turn(Fixture *f, gconstpointer data) {
  forget(f);
  const char *deltas[] = {"It is ", "noon.", NULL};
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_SPEECH_STARTED, .item_id = "u1", .ms = 500});
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_SPEECH_STOPPED, .item_id = "u1", .ms = 2500});
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_COMMITTED, .item_id = "u1"});
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_TRANSCRIPT, .item_id = "u1", .text = "What time is it?"});
  reply_events(f, "r1", "a1", deltas, TRUE);
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_RESPONSE_DONE,
                           .response_id = "r1",
                           .item_id = "a1",
                           .text = "It is noon.",
                           .status = "completed"});
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_PLAYOUT_DONE, .item_id = "a1"});
  expect(f, "buffer.speech_started buffer.speech_stopped buffer.committed item.added transcription.delta "
            "transcription.completed item.done "
            "response.created response.output_item.added item.added response.content_part.added transcript.delta "
            "transcript.delta "
            "audio.delta audio.delta audio.delta audio.done transcript.done response.content_part.done "
            "response.output_item.done "
            "item.done response.done");
  g_assert_cmpint(json_integer_value(at(event_at(f, 0), "audio_start_ms")), ==, 500);
  g_assert_cmpstr(text_at(event_at(f, 0), "item_id"), ==, text_at(event_at(f, 2), "item_id"));
  g_assert_true(json_is_null(at(event_at(f, 2), "previous_item_id")));
  g_assert_true(json_is_null(at(event_at(f, 3), "item.content.0.transcript")));
  g_assert_cmpstr(text_at(event_at(f, 5), "transcript"), ==, "What time is it?");
  g_assert_cmpfloat_with_epsilon(json_real_value(at(event_at(f, 5), "usage.seconds")), 2.0, 1e-9);
  g_assert_cmpstr(text_at(event_at(f, 6), "item.content.0.transcript"), ==, "What time is it?");
  g_assert_cmpstr(text_at(event_at(f, 9), "previous_item_id"), ==, "u1");
  g_assert_cmpstr(text_at(event_at(f, 9), "item.status"), ==, "in_progress");
  gsize lengths[] = {2400, 2400, 1200};
  for (gsize i = 0; i < 3; i++) {
    gsize length;
    g_autofree guchar *bytes = g_base64_decode(text_at(event_at(f, 13 + i), "delta"), &length);
    g_assert_nonnull(bytes);
    g_assert_cmpuint(length, ==, lengths[i] * 2);
    g_assert_cmpstr(text_at(event_at(f, 13 + i), "item_id"), ==, "a1");
    g_assert_cmpstr(text_at(event_at(f, 13 + i), "response_id"), ==, "r1");
  }
  g_assert_cmpstr(text_at(event_at(f, 17), "transcript"), ==, "It is noon.");
  const json_t *response = at(last(f), "response");
  g_assert_cmpstr(text_at(response, "status"), ==, "completed");
  g_assert_cmpstr(text_at(response, "output.0.content.0.transcript"), ==, "It is noon.");
  g_assert_cmpstr(text_at(response, "output.0.status"), ==, "completed");
}

static double stage_count(const char *labels) {
  return choir_metric_value(choir_histogram("choir_stage_seconds", labels, "", NULL, 0));
}

static void test_stages(Fixture *f, gconstpointer data) {
  static const char *const labels[] = {"stage=\"stt\"", "stage=\"llm\"", "stage=\"tts\"", "stage=\"first_sound\""};
  double before[4];
  for (gsize i = 0; i < 4; i++)
    before[i] = stage_count(labels[i]);
  test_spoken_turn(f, data);
  for (gsize i = 0; i < 4; i++)
    g_assert_cmpfloat(stage_count(labels[i]), ==, before[i] + 1);
  /* typed: nothing was recognised */
  const char *deltas[] = {"Hi", "there", NULL};
  client(
      f,
      "{\"type\":\"conversation.item.create\",\"item\":{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":"
      "\"input_text\",\"text\":\"x\"}]}}");
  client(f, "{\"type\":\"response.create\"}");
  reply_events(f, "r2", "a2", deltas, TRUE);
  g_assert_cmpfloat(stage_count(labels[0]), ==, before[0] + 1);
  for (gsize i = 1; i < 4; i++)
    g_assert_cmpfloat(stage_count(labels[i]), ==, before[i] + 2);
}

static void test_typed_turn(Fixture *f, gconstpointer data) {
  forget(f);
  const char *deltas[] = {"Hi", NULL};
  client(f, "{\"type\":\"conversation.item.create\",\"item\":{\"id\":\"mine\",\"type\":\"message\",\"role\":\"user\","
            "\"content\":[{\"type\":\"input_text\",\"text\":\" Hello \"}]}}");
  expect(f, "item.added item.done");
  g_assert_cmpstr(text_at(event_at(f, 0), "item.content.0.text"), ==, "Hello");
  client(f,
         "{\"type\":\"response.create\",\"response\":{\"output_modalities\":[\"text\"],\"metadata\":{\"k\":\"v\"}}}");
  g_assert_cmpstr(fake_live.log->str, ==, "text:Hello configure:text respond");
  forget(f);
  reply_events(f, "r1", "a1", deltas, FALSE);
  g_assert_cmpstr(fake_live.log->str, ==, "configure:audio"); /* the borrowed modality is given back */
  /* The reply is longer than its deltas: the rest comes as one. */
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_RESPONSE_DONE,
                           .response_id = "r1",
                           .item_id = "a1",
                           .text = "Hi there.",
                           .status = "completed"});
  expect(f, "response.created response.output_item.added item.added response.content_part.added text.delta text.delta "
            "text.done "
            "response.content_part.done response.output_item.done item.done response.done");
  g_assert_cmpstr(text_at(event_at(f, 0), "response.metadata.k"), ==, "v");
  g_assert_cmpstr(text_at(event_at(f, 0), "response.status"), ==, "in_progress");
  g_assert_cmpstr(text_at(event_at(f, 2), "previous_item_id"), ==, "mine");
  g_assert_cmpstr(text_at(event_at(f, 5), "delta"), ==, " there.");
  g_assert_cmpstr(text_at(event_at(f, 6), "text"), ==, "Hi there.");
  g_assert_cmpstr(text_at(last(f), "response.output.0.content.0.type"), ==, "output_text");
  forget(f);
  client(f, "{\"type\":\"conversation.item.retrieve\",\"item_id\":\"a1\"}");
  g_assert_cmpstr(text_at(last(f), "item.content.0.text"), ==, "Hi there.");
  client(f, "{\"type\":\"conversation.item.delete\",\"item_id\":\"mine\"}");
  g_assert_cmpstr(text_at(last(f), "item_id"), ==, "mine");
  client(f, "{\"type\":\"conversation.item.retrieve\",\"item_id\":\"mine\"}");
  expect(f, "item.retrieved item.deleted error");
}

static void add_text(Fixture *f) {
  client(f, "{\"type\":\"conversation.item.create\",\"item\":{\"type\":\"message\",\"role\":\"user\",\"content\":[{"
            "\"type\":\"input_text\",\"text\":\"x\"}]}}");
}

/* What the real live does inside cancel and truncate. */
static void cut_answer(const char *call, gpointer user) {
  Fixture *f = user;
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_RESPONSE_DONE,
                           .response_id = "r1",
                           .item_id = "a1",
                           .text = "One two three",
                           .status = "cancelled",
                           .reason = "client_cancelled"});
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_TRUNCATED, .item_id = "a1", .ms = 150, .text = "One"});
}

static void test_cancel(Fixture *f, gconstpointer data) {
  const char *deltas[] = {"One two three", NULL};
  client(f, "{\"type\":\"response.cancel\",\"event_id\":\"e\"}");
  g_assert_cmpstr(text_at(last(f), "error.code"), ==, "response_cancel_not_active");
  add_text(f);
  client(f, "{\"type\":\"response.create\"}");
  reply_events(f, "r1", "a1", deltas, TRUE);
  forget(f);
  client(f, "{\"type\":\"response.create\"}");
  g_assert_cmpstr(text_at(last(f), "error.code"), ==, "conversation_already_has_active_response");
  client(f, "{\"type\":\"response.cancel\",\"response_id\":\"other\"}");
  g_assert_cmpstr(text_at(last(f), "error.code"), ==, "response_cancel_not_active");
  g_assert_cmpstr(fake_live.log->str, ==, "");
  forget(f);
  fake_live.answer = cut_answer;
  fake_live.user = f;
  client(f, "{\"type\":\"response.cancel\",\"response_id\":\"r1\"}");
  expect(f, "audio.done transcript.done response.content_part.done response.output_item.done item.done response.done "
            "item.truncated");
  g_assert_cmpstr(text_at(event_at(f, 5), "response.status"), ==, "cancelled");
  g_assert_cmpstr(text_at(event_at(f, 5), "response.status_details.reason"), ==, "client_cancelled");
  g_assert_cmpstr(text_at(event_at(f, 4), "item.status"), ==, "incomplete");
  g_assert_cmpint(json_integer_value(at(last(f), "audio_end_ms")), ==, 150);
  g_assert_null(at(last(f), "text")); /* Choir's extension was not asked for */
  /* Nothing of a response follows its end. */
  forget(f);
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_TEXT_DELTA, .response_id = "r1", .item_id = "a1", .text = "late"});
  live(f,
       (ChoirLiveEvent){.type = CHOIR_LIVE_RESPONSE_DONE, .response_id = "r1", .item_id = "a1", .status = "completed"});
  expect(f, "");
}

static void test_cancel_before_start(Fixture *f, gconstpointer data) {
  add_text(f);
  client(f, "{\"type\":\"response.create\"}");
  forget(f);
  client(f, "{\"type\":\"response.cancel\"}");
  g_assert_cmpstr(fake_live.log->str, ==, "cancel");
  expect(f, "response.created response.done");
  g_assert_cmpstr(text_at(last(f), "response.status"), ==, "cancelled");
}

static void test_truncate(Fixture *f, gconstpointer data) {
  const char *deltas[] = {"One two three", NULL};
  add_text(f);
  client(f, "{\"type\":\"response.create\"}");
  reply_events(f, "r1", "a1", deltas, TRUE); /* 6000 samples: 250 ms */
  forget(f);
  fake_live.answer = cut_answer;
  fake_live.user = f;
  fake_live.knows_reply = TRUE;
  client(f, "{\"type\":\"conversation.item.truncate\",\"item_id\":\"a1\",\"content_index\":0,\"audio_end_ms\":900}");
  g_assert_cmpstr(fake_live.log->str, ==, "truncate:a1@250"); /* no more than was sent */
  g_assert_cmpstr(choir_json_string(last(f), "type", ""), ==, "conversation.item.truncated");
  /* The same again: live has forgotten it, the answer stays the same. */
  forget(f);
  fake_live.knows_reply = FALSE;
  client(f, "{\"type\":\"conversation.item.truncate\",\"item_id\":\"a1\",\"content_index\":0,\"audio_end_ms\":20}");
  expect(f, "item.truncated");
  g_assert_cmpint(json_integer_value(at(last(f), "audio_end_ms")), ==, 150);
  forget(f);
  client(f, "{\"type\":\"conversation.item.retrieve\",\"item_id\":\"a1\"}");
  g_assert_cmpstr(text_at(last(f), "item.content.0.transcript"), ==, "One");
  client(f, "{\"type\":\"conversation.item.truncate\",\"item_id\":\"nope\",\"content_index\":0,\"audio_end_ms\":20}");
  g_assert_cmpstr(text_at(last(f), "error.code"), ==, "item_not_found");
  client(f, "{\"type\":\"conversation.item.truncate\",\"item_id\":\"a1\",\"content_index\":0,\"audio_end_ms\":-1}");
  g_assert_cmpstr(text_at(last(f), "error.code"), ==, "invalid_value");
  client(f, "{\"type\":\"conversation.item.truncate\",\"item_id\":\"a1\",\"content_index\":0,\"audio_end_ms\":\"x\"}");
  g_assert_cmpstr(text_at(last(f), "error.code"), ==, "invalid_value");
  expect(f, "item.retrieved error error error");
}

static void test_truncate_heard_reply(Fixture *f, gconstpointer data) {
  const char *deltas[] = {"One", NULL};
  add_text(f);
  client(f, "{\"type\":\"response.create\"}");
  reply_events(f, "r1", "a1", deltas, TRUE);
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_RESPONSE_DONE,
                           .response_id = "r1",
                           .item_id = "a1",
                           .text = "One",
                           .status = "completed"});
  forget(f);
  client(f, "{\"type\":\"conversation.item.truncate\",\"item_id\":\"a1\",\"content_index\":0,\"audio_end_ms\":250}");
  expect(f, "item.truncated"); /* it was heard to its end: nothing to cut */
  client(f, "{\"type\":\"conversation.item.truncate\",\"item_id\":\"a1\",\"content_index\":0,\"audio_end_ms\":100}");
  expect(f, "item.truncated item.truncated");
}

static void test_barge_in(Fixture *f, gconstpointer data) {
  const char *deltas[] = {"One two three", NULL};
  add_text(f);
  client(f, "{\"type\":\"response.create\"}");
  reply_events(f, "r1", "a1", deltas, TRUE);
  forget(f);
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_SPEECH_STARTED, .item_id = "u2", .ms = 4000});
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_RESPONSE_DONE,
                           .response_id = "r1",
                           .item_id = "a1",
                           .text = "One two three",
                           .status = "cancelled",
                           .reason = "turn_detected"});
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_TRUNCATED, .item_id = "a1", .ms = 120, .text = "One"});
  expect(f, "buffer.speech_started audio.done transcript.done response.content_part.done response.output_item.done "
            "item.done response.done item.truncated");
  g_assert_cmpstr(text_at(event_at(f, 6), "response.status_details.reason"), ==, "turn_detected");
  g_assert_cmpstr(text_at(last(f), "text"), ==, "One"); /* with ?choir=1 */
}

/* Push to talk: commit and response.create at once, the transcript comes later and is empty. */
static void commit_answer(const char *call, gpointer user) {
  if (strcmp(call, "commit") == 0)
    live(user, (ChoirLiveEvent){.type = CHOIR_LIVE_COMMITTED, .item_id = "u1"});
}

static void test_push_to_talk(Fixture *f, gconstpointer data) {
  guint8 bytes[4800 * 2] = {0};
  g_autofree char *audio = g_base64_encode(bytes, sizeof bytes);
  g_autofree char *append = g_strdup_printf("{\"type\":\"input_audio_buffer.append\",\"audio\":\"%s\"}", audio);
  client(f, "{\"type\":\"session.update\",\"session\":{\"audio\":{\"input\":{\"turn_detection\":null}}}}");
  forget(f);
  fake_live.answer = commit_answer;
  fake_live.user = f;
  client(f, "{\"type\":\"input_audio_buffer.commit\"}");
  g_assert_cmpstr(text_at(last(f), "error.code"), ==, "input_audio_buffer_commit_empty");
  client(f, append);
  client(f, "{\"type\":\"input_audio_buffer.clear\"}");
  client(f, "{\"type\":\"input_audio_buffer.commit\"}");
  client(f, append);
  client(f, "{\"type\":\"input_audio_buffer.commit\"}");
  client(f, "{\"type\":\"response.create\"}");
  g_assert_cmpstr(fake_live.log->str, ==, "audio:4800@24000 clear audio:4800@24000 commit respond");
  expect(f, "error buffer.cleared error buffer.committed item.added");
  forget(f);
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_TRANSCRIPT, .item_id = "u1", .text = ""});
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_ERROR, .text = "Nothing was understood."});
  expect(f, "transcription.completed item.done response.created response.done");
  g_assert_cmpstr(text_at(last(f), "response.status"), ==, "failed");
  g_assert_cmpstr(text_at(last(f), "response.status_details.error.code"), ==, "nothing_understood");
  forget(f);
  client(f, "{\"type\":\"response.create\"}");
  g_assert_cmpstr(text_at(last(f), "error.code"), ==, "nothing_to_answer");
}

static void test_transcription_failed(Fixture *f, gconstpointer data) {
  forget(f);
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_COMMITTED, .item_id = "u1"});
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_TRANSCRIPT_FAILED, .item_id = "u1", .text = "the engine died"});
  expect(f, "buffer.committed item.added transcription.failed item.done");
  g_assert_cmpstr(text_at(event_at(f, 2), "error.message"), ==, "the engine died");
  client(f, "{\"type\":\"session.update\",\"session\":{\"audio\":{\"input\":{\"transcription\":null}}}}");
  /* null inside an object is a value: transcripts are off now */
  g_assert_true(json_is_null(at(last(f), "session.audio.input.transcription")));
  forget(f);
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_COMMITTED, .item_id = "u2"});
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_TRANSCRIPT, .item_id = "u2", .text = "hello"});
  expect(f, "buffer.committed item.added item.done");
  forget(f);
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_IDLE, .item_id = "u3", .ms = 4000, .until_ms = 10000});
  expect(f, "buffer.timeout_triggered buffer.committed item.added item.done");
  g_assert_cmpint(json_integer_value(at(event_at(f, 0), "audio_end_ms")), ==, 10000);
  g_assert_cmpstr(text_at(event_at(f, 0), "item_id"), ==, "u3");
  g_assert_cmpstr(text_at(event_at(f, 1), "item_id"), ==, "u3");
}

/* --- audio in
 * --------------------------------------------------------------------------------------------------------- */

static void test_append(Fixture *f, gconstpointer data) {
  forget(f);
  client(f, "{\"type\":\"input_audio_buffer.append\",\"audio\":\"AAAAAAA=\"}"); /* 5 bytes: 2 samples and a half */
  client(f, "{\"type\":\"input_audio_buffer.append\",\"audio\":\"AAAA\"}"); /* 3 bytes: the other half, and one more */
  g_assert_cmpstr(fake_live.log->str, ==, "audio:2@24000 audio:2@24000");
  static const char *const bad[] = {"\"AAA\"",  "\"AAA=AAAA\"", "\"A A A A \"", "\"AAB=\"",
                                    "\"AB==\"", "\"====\"",     "\"AAAA\\n\"",  "7",
                                    "null",     "\"-_-_\""};
  for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
    forget(f);
    g_autofree char *text = g_strdup_printf("{\"type\":\"input_audio_buffer.append\",\"audio\":%s}", bad[i]);
    client(f, text);
    g_test_message("%s", bad[i]);
    expect(f, "error");
    g_assert_cmpstr(fake_live.log->str, ==, "");
  }
  forget(f);
  fake_live.full = TRUE;
  for (int i = 0; i < 5; i++)
    client(f, "{\"type\":\"input_audio_buffer.append\",\"audio\":\"AAAA\"}");
  expect(f, "error"); /* told once */
  g_assert_cmpstr(text_at(last(f), "error.code"), ==, "input_audio_buffer_full");
}

static void test_formats(Fixture *f, gconstpointer data) {
  client(f, "{\"type\":\"session.update\",\"session\":{\"audio\":{\"input\":{\"format\":{\"type\":\"audio/pcmu\"}}}}}");
  g_assert_cmpstr(text_at(last(f), "session.audio.input.format.type"), ==, "audio/pcmu");
  forget(f);
  client(f, "{\"type\":\"input_audio_buffer.append\",\"audio\":\"AAAA\"}");
  g_assert_cmpstr(fake_live.log->str, ==, "audio:3@8000");
}

/* --- errors
 * ------------------------------------------------------------------------------------------------------------- */

static void test_bad_events(Fixture *f, gconstpointer data) {
  static const struct {
    const char *text, *code, *param;
  } rows[] = {
      {"", "invalid_json", NULL},
      {"{", "invalid_json", NULL},
      {"[]", "invalid_json", NULL},
      {"null", "invalid_json", NULL},
      {"{}", "invalid_value", "type"},
      {"{\"type\":7}", "invalid_value", "type"},
      {"{\"type\":\"transcription_session.update\"}", "invalid_value", "type"},
      {"{\"type\":\"conversation.item.create\"}", "unsupported", "item"},
      {"{\"type\":\"conversation.item.create\",\"item\":{\"type\":\"function_call_output\",\"call_id\":\"c\","
       "\"output\":\"1\"}}",
       "invalid_value", "item.call_id"},
      {"{\"type\":\"conversation.item.create\",\"item\":{\"type\":\"message\",\"role\":\"assistant\",\"content\":[]}}",
       "unsupported", "item"},
      {"{\"type\":\"conversation.item.create\",\"item\":{\"type\":\"message\",\"role\":\"user\",\"content\":[]}}",
       "invalid_value", "item.content"},
      {"{\"type\":\"conversation.item.create\",\"item\":{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":"
       "\"input_image\"}]}}",
       "unsupported", "item.content"},
      {"{\"type\":\"conversation.item.create\",\"previous_item_id\":\"zz\",\"item\":{\"type\":\"message\",\"role\":"
       "\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"x\"}]}}",
       "item_not_found", "previous_item_id"},
      {"{\"type\":\"conversation.item.delete\",\"item_id\":\"zz\"}", "item_not_found", "item_id"},
      {"{\"type\":\"conversation.item.retrieve\"}", "item_not_found", "item_id"},
      {"{\"type\":\"response.create\"}", "nothing_to_answer", NULL},
      {"{\"type\":\"response.create\",\"response\":{\"conversation\":\"none\"}}", "unsupported",
       "response.conversation"},
      {"{\"type\":\"response.create\",\"response\":{\"output_modalities\":[\"video\"]}}", "invalid_type",
       "response.output_modalities"},
      {"{\"type\":\"response.create\",\"response\":{\"tools\":[{}]}}", "invalid_value", "response.tools[0]"},
      {"{\"type\":\"response.create\",\"response\":3}", "invalid_type", "response"},
  };
  for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
    forget(f);
    client(f, rows[i].text);
    g_test_message("%s", rows[i].text);
    expect(f, "error");
    g_assert_cmpstr(text_at(last(f), "error.code"), ==, rows[i].code);
    g_assert_cmpstr(text_at(last(f), "error.param"), ==, rows[i].param);
    g_assert_cmpstr(fake_live.log->str, ==, "");
  }
}

static void test_live_errors(Fixture *f, gconstpointer data) {
  forget(f);
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_ERROR, .text = "The ear is missing."});
  expect(f, "error");
  g_assert_cmpstr(text_at(last(f), "error.type"), ==, "server_error");
  /* A response that fails before it begins still has its two ends. */
  add_text(f);
  client(f, "{\"type\":\"response.create\"}");
  forget(f);
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_RESPONSE_DONE,
                           .response_id = "r9",
                           .item_id = "a9",
                           .status = "failed",
                           .reason = "busy"});
  expect(f, "response.created response.done");
  g_assert_cmpstr(text_at(last(f), "response.status_details.error.code"), ==, "busy");
}

static void test_extension(Fixture *f, gconstpointer extension) {
  const char *deltas[] = {"One", NULL};
  add_text(f);
  client(f, "{\"type\":\"response.create\"}");
  reply_events(f, "r1", "a1", deltas, TRUE);
  forget(f);
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_STATE, .text = "thinking"});
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_VAD, .level = 0.25, .probability = 0.75});
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_STATUS, .text = "lead 120 ms"});
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_PLAYOUT_DONE, .item_id = "a1"});
  expect(f, extension ? "choir.state choir.vad choir.status choir.playout_done" : "");
  /* Reports are taken either way; more than was sent cannot have been heard. */
  client(f, "{\"type\":\"choir.playout\",\"item_id\":\"a1\",\"played_samples\":480,\"underruns\":1}");
  client(f, "{\"type\":\"choir.playout\",\"item_id\":\"a1\",\"played_samples\":999999,\"underruns\":-4}");
  client(f, "{\"type\":\"choir.playout\",\"item_id\":\"unknown\",\"played_samples\":480}");
  g_assert_cmpstr(fake_live.log->str, ==, "ack:a1@480/1 ack:a1@6000/0");
  client(f, "{\"type\":\"choir.mute\",\"muted\":\"yes\"}");
  g_assert_cmpstr(text_at(last(f), "error.param"), ==, "muted");
  client(f, "{\"type\":\"choir.mute\",\"muted\":true}");
  g_assert_true(fake_live.options.muted);
}

static void test_item_limit(Fixture *f, gconstpointer data) {
  for (guint i = 0; i < CHOIR_REALTIME_MAX_ITEMS + 10; i++)
    add_text(f);
  forget(f);
  client(f, "{\"type\":\"conversation.item.retrieve\",\"item_id\":\"live_1\"}");
  g_assert_cmpstr(text_at(last(f), "error.code"), ==, "item_not_found");
  client(f, "{\"type\":\"conversation.item.retrieve\",\"item_id\":\"live_500\"}");
  expect(f, "error item.retrieved");
}

/* --- functions -----------------------------------------------------------------------------------------------------
 */

#define TOOL                                                                                                           \
  "{\"type\":\"function\",\"name\":\"get_weather\",\"parameters\":{\"type\":\"object\",\"properties\":{\"city\":{"     \
  "\"type\":"                                                                                                          \
  "\"string\"}},\"required\":[\"city\"]}}"
#define A_CALL                                                                                                         \
  "response.created response.output_item.added item.added response.function_call_arguments.delta "                     \
  "response.function_call_arguments.done response.output_item.done item.done response.done"

static void with_tools(Fixture *f, const char *choice) {
  g_autofree char *text =
      g_strdup_printf("{\"type\":\"session.update\",\"session\":{\"tools\":[" TOOL "],\"tool_choice\":%s}}", choice);
  client(f, text);
  g_assert_cmpstr(text_at(last(f), "type"), ==, "session.updated");
  g_assert_cmpstr(text_at(last(f), "session.tools.0.name"), ==, "get_weather");
}

static void spoken(Fixture *f, const char *id, const char *text) {
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_SPEECH_STARTED, .item_id = id, .ms = 500});
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_SPEECH_STOPPED, .item_id = id, .ms = 2500});
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_COMMITTED, .item_id = id});
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_TRANSCRIPT, .item_id = id, .text = text});
}

static void test_call(Fixture *f, gconstpointer data) {
  with_tools(f, "\"auto\"");
  g_assert_false(fake_live.options.create_response); /* nothing begins before it was decided */
  add_text(f);
  forget(f);
  client(f, "{\"type\":\"response.create\",\"response\":{\"metadata\":{\"a\":\"b\"}}}");
  expect(f, "");
  g_assert_cmpuint(fake_call.begun, ==, 1);
  g_assert_cmpint(fake_call.choice, ==, CHOIR_CALL_AUTO);
  client(f, "{\"type\":\"response.create\"}");
  g_assert_cmpstr(text_at(last(f), "error.code"), ==, "conversation_already_has_active_response");
  forget(f);
  fake_call_decide("get_weather", "{\"city\":\"Rome\"}", NULL);
  expect(f, A_CALL);
  const json_t *response = at(last(f), "response");
  g_assert_cmpstr(text_at(response, "status"), ==, "completed");
  g_assert_cmpstr(text_at(response, "output.0.type"), ==, "function_call");
  g_assert_cmpstr(text_at(response, "output.0.arguments"), ==, "{\"city\":\"Rome\"}");
  g_assert_cmpstr(text_at(response, "metadata.a"), ==, "b");
  g_assert_cmpint(json_integer_value(at(response, "usage.input_tokens")), ==, 100);
  g_assert_cmpstr(text_at(event_at(f, 1), "item.status"), ==, "in_progress");
  g_assert_cmpstr(text_at(event_at(f, 4), "name"), ==, "get_weather");
  g_autofree char *call_id = g_strdup(text_at(response, "output.0.call_id"));
  g_autofree char *output = g_strdup_printf(
      "{\"type\":\"conversation.item.create\",\"item\":{\"type\":\"function_call_output\",\"call_id\":\"%s\","
      "\"output\":\"sunny\"}}",
      call_id);
  forget(f);
  client(f, output);
  expect(f, "item.added item.done");
  g_assert_cmpstr(fake_live.notes, ==, "Result of get weather: sunny");
  client(f, output);
  g_assert_cmpstr(text_at(last(f), "error.param"), ==, "item.call_id");
  forget(f);
  client(f, "{\"type\":\"response.create\"}");
  g_assert_cmpstr(fake_call.used, ==, "get_weather");
  fake_call_decide(NULL, NULL, NULL);
  expect(f, "");
  g_assert_true(g_str_has_suffix(fake_live.log->str, "respond"));
  const char *deltas[] = {"It is sunny.", NULL};
  reply_events(f, "r1", "a1", deltas, FALSE);
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_RESPONSE_DONE,
                           .response_id = "r1",
                           .item_id = "a1",
                           .text = "It is sunny.",
                           .status = "completed",
                           .prompt_tokens = 30,
                           .reply_tokens = 5});
  g_assert_cmpint(json_integer_value(at(last(f), "response.usage.total_tokens")), ==, 35);
  g_assert_null(fake_live.notes);
}

/* Words of the person are decided about once they are all there; a cough during the decision costs nothing. */
static void test_call_spoken(Fixture *f, gconstpointer data) {
  with_tools(f, "\"auto\"");
  forget(f);
  spoken(f, "u1", "What is the weather");
  g_assert_cmpstr(fake_call.text, ==, "What is the weather");
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_SPEECH_STARTED, .item_id = "u2", .ms = 3000});
  g_assert_cmpuint(fake_call.cancelled, ==, 1);
  g_assert_cmpstr(text_at(last(f), "response.status_details.reason"), ==, "turn_detected");
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_SPEECH_STOPPED, .item_id = "u2", .ms = 3500});
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_COMMITTED, .item_id = "u2"});
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_TRANSCRIPT, .item_id = "u2", .text = ""});
  g_assert_cmpstr(fake_call.text, ==, "What is the weather");
  g_assert_cmpuint(fake_call.begun, ==, 2);
  forget(f);
  client(f, "{\"type\":\"response.cancel\"}");
  expect(f, "response.created response.done");
  g_assert_cmpuint(fake_call.cancelled, ==, 2);
  spoken(f, "u3", "in Rome?");
  g_assert_cmpstr(fake_call.text, ==, "What is the weather in Rome?");
  forget(f);
  fake_call_decide("get_weather", "{\"city\":\"Rome\"}", NULL);
  expect(f, A_CALL);
}

static void test_call_refused(Fixture *f, gconstpointer data) {
  with_tools(f, "{\"type\":\"function\",\"name\":\"get_weather\"}");
  add_text(f);
  forget(f);
  client(f, "{\"type\":\"response.create\"}");
  g_assert_cmpint(fake_call.choice, ==, CHOIR_CALL_NAMED);
  g_assert_cmpstr(fake_call.name, ==, "get_weather");
  fake_call_decide("get_weather", NULL, "no end was found");
  expect(f, "response.created response.done");
  g_assert_cmpstr(text_at(last(f), "response.status"), ==, "failed");
  g_assert_cmpstr(text_at(last(f), "response.status_details.error.code"), ==, "function_call_refused");
  /* This response calls nothing. */
  fake_live_reset();
  client(f, "{\"type\":\"response.create\",\"response\":{\"tool_choice\":\"none\",\"instructions\":\"Sing.\"}}");
  g_assert_cmpuint(fake_call.begun, ==, 1);
  g_assert_cmpstr(fake_live.instructions, ==, "Sing.");
  g_assert_true(g_str_has_suffix(fake_live.log->str, "respond"));
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_RESPONSE_STARTED, .response_id = "r1", .item_id = "a1"});
  g_assert_cmpstr(fake_live.instructions, ==, "Sing."); /* the model is asked after this event */
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_TEXT_DELTA, .response_id = "r1", .item_id = "a1", .text = "La"});
  g_assert_null(fake_live.instructions);
  live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_RESPONSE_DONE,
                           .response_id = "r1",
                           .item_id = "a1",
                           .text = "La.",
                           .status = "completed"});
  add_text(f);
  f->no_model = TRUE;
  forget(f);
  client(f, "{\"type\":\"response.create\"}");
  g_assert_cmpstr(text_at(last(f), "response.status_details.error.code"), ==, "model_loading");
}

int main(int argc, char **argv) {
  alarm(60);
  g_test_init(&argc, &argv, NULL);
#define ADD(path, data, test) g_test_add("/realtime/" path, Fixture, data, setup, test, teardown)
  ADD("created", NULL, test_created);
  ADD("update", NULL, test_update);
  ADD("update-refused", NULL, test_update_refused);
  ADD("spoken-turn", NULL, test_spoken_turn);
  ADD("stages", NULL, test_stages);
  ADD("typed-turn", NULL, test_typed_turn);
  ADD("cancel", NULL, test_cancel);
  ADD("cancel-before-start", NULL, test_cancel_before_start);
  ADD("truncate", NULL, test_truncate);
  ADD("truncate-heard-reply", NULL, test_truncate_heard_reply);
  ADD("barge-in", "choir", test_barge_in);
  ADD("push-to-talk", NULL, test_push_to_talk);
  ADD("transcription-failed", NULL, test_transcription_failed);
  ADD("append", NULL, test_append);
  ADD("formats", NULL, test_formats);
  ADD("bad-events", NULL, test_bad_events);
  ADD("live-errors", NULL, test_live_errors);
  ADD("extension", "choir", test_extension);
  ADD("no-extension", NULL, test_extension);
  ADD("item-limit", NULL, test_item_limit);
  ADD("call", NULL, test_call);
  ADD("call-spoken", NULL, test_call_spoken);
  ADD("call-refused", NULL, test_call_refused);
  return g_test_run();
}
