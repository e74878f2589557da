/* The Realtime session between scripted client events and scripted live events: order, items, errors. */
#include <unistd.h>
#include "base/metrics.h"
#include "realtime_fixture.h"

/* --- sessions -------------------------------------------------------------------------------------------------------
 */

static void test_created(Fixture *f, gconstpointer data) {
  realtime_expect(f, "session.created");
  const json_t *session = json_object_get(realtime_event(f, 0), "session");
  g_assert_cmpstr(realtime_text(session, "type"), ==, "realtime");
  g_assert_cmpstr(realtime_text(session, "model"), ==, "smollm2");
  g_assert_cmpstr(realtime_text(session, "output_modalities.0"), ==, "audio");
  g_assert_cmpstr(realtime_text(session, "audio.input.turn_detection.type"), ==, "server_vad");
  g_assert_cmpint(json_integer_value(realtime_at(session, "audio.input.turn_detection.silence_duration_ms")), ==, 600);
  g_assert_cmpint(json_integer_value(realtime_at(session, "audio.input.format.rate")), ==, 24000);
  g_assert_cmpint(json_integer_value(realtime_at(session, "audio.output.format.rate")), ==, 24000);
}

static void test_update(Fixture *f, gconstpointer data) {
  realtime_forget(f);
  realtime_client(
      f, "{\"type\":\"session.update\",\"session\":{\"type\":\"realtime\",\"instructions\":\"Be "
         "brief.\",\"output_modalities\":[\"text\"],"
         "\"audio\":{\"input\":{\"format\":{\"type\":\"audio/"
         "pcm\",\"rate\":16000},\"transcription\":{\"model\":\"whisper-1\",\"language\":\"en\"},"
         "\"turn_detection\":{\"type\":\"server_vad\",\"threshold\":0.99,\"silence_duration_ms\":10,\"prefix_"
         "padding_ms\":100,"
         "\"interrupt_response\":false}},\"output\":{\"voice\":\"marin\"}},\"tools\":[],\"tool_choice\":\"auto\"}}");
  realtime_expect(f, "session.updated");
  g_assert_cmpstr(fake_live.log->str, ==, "configure:text");
  g_assert_false(fake_live.options.audio_out || fake_live.options.interrupt);
  g_assert_true(fake_live.options.server_vad && fake_live.options.create_response);
  g_assert_cmpfloat_with_epsilon(fake_live.options.threshold, 0.95, 1e-9);
  g_assert_cmpuint(fake_live.options.silence_ms, ==, 200);
  g_assert_cmpuint(fake_live.options.prefix_ms, ==, 100);
  const json_t *session = json_object_get(realtime_event(f, 0), "session");
  g_assert_cmpstr(realtime_text(session, "instructions"), ==, "Be brief.");
  g_assert_cmpint(json_integer_value(realtime_at(session, "audio.input.format.rate")), ==, 16000);
  g_assert_cmpint(json_integer_value(realtime_at(session, "audio.input.turn_detection.silence_duration_ms")), ==, 200);
  /* Push to talk, and back: the defaults are there again. */
  realtime_client(f, "{\"type\":\"session.update\",\"session\":{\"audio\":{\"input\":{\"turn_detection\":null}}}}");
  g_assert_false(fake_live.options.server_vad || fake_live.options.create_response);
  g_assert_true(json_is_null(realtime_at(realtime_last(f), "session.audio.input.turn_detection")));
  realtime_client(
      f, "{\"type\":\"session.update\",\"session\":{\"audio\":{\"input\":{\"turn_detection\":{\"type\":\"semantic_"
         "vad\",\"eagerness\":\"low\"}}}}}");
  g_assert_true(fake_live.options.server_vad && fake_live.options.create_response && fake_live.options.interrupt);
  g_assert_cmpuint(fake_live.options.silence_ms, ==, 1200);
  g_assert_cmpuint(fake_live.options.silence_min_ms, ==, 600);
  g_assert_cmpuint(fake_live.options.silence_max_ms, ==, 3000);
  g_assert_cmpstr(realtime_text(realtime_last(f), "session.audio.input.turn_detection.type"), ==, "semantic_vad");
  g_assert_cmpstr(realtime_text(realtime_last(f), "session.audio.input.turn_detection.eagerness"), ==, "low");
  g_assert_cmpstr(realtime_text(realtime_last(f), "session.instructions"), ==, "Be brief.");
  g_assert_cmpstr(fake_live.instructions, ==, "Be brief.");
  realtime_client(f, "{\"type\":\"session.update\",\"session\":{\"instructions\":\"\",\"max_output_tokens\":9,"
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
    realtime_forget(f);
    /* Something valid first: a refused update changes nothing at all. */
    g_autofree char *text =
        g_strdup_printf("{\"type\":\"session.update\",\"event_id\":\"mine\",\"session\":%s}", rows[i].session);
    realtime_client(f, text);
    g_test_message("%s", text);
    realtime_expect(f, "error");
    g_assert_cmpstr(realtime_text(realtime_last(f), "error.code"), ==, rows[i].code);
    g_assert_cmpstr(realtime_text(realtime_last(f), "error.param"), ==, rows[i].param);
    g_assert_cmpstr(realtime_text(realtime_last(f), "error.event_id"), ==, "mine");
    g_assert_cmpstr(realtime_text(realtime_last(f), "error.type"), ==, "invalid_request_error");
    g_assert_cmpstr(fake_live.log->str, ==, "");
  }
  realtime_client(f, "{\"type\":\"session.update\",\"session\":{\"instructions\":\"half\",\"tools\":[{}]}}");
  realtime_client(f, "{\"type\":\"session.update\",\"session\":{}}");
  g_assert_cmpstr(realtime_text(realtime_last(f), "session.instructions"), ==, "");
}

/* --- turns ----------------------------------------------------------------------------------------------------------
 */

static void test_spoken_turn(Fixture *f, gconstpointer data) {
  realtime_forget(f);
  const char *deltas[] = {"It is ", "noon.", NULL};
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_SPEECH_STARTED, .item_id = "u1", .ms = 500});
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_SPEECH_STOPPED, .item_id = "u1", .ms = 2500});
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_COMMITTED, .item_id = "u1"});
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_TRANSCRIPT, .item_id = "u1", .text = "What time is it?"});
  realtime_reply(f, "r1", "a1", deltas, TRUE);
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_RESPONSE_DONE,
                                    .response_id = "r1",
                                    .item_id = "a1",
                                    .text = "It is noon.",
                                    .status = "completed"});
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_PLAYOUT_DONE, .item_id = "a1"});
  realtime_expect(f,
                  "buffer.speech_started buffer.speech_stopped buffer.committed item.added transcription.delta "
                  "transcription.completed item.done "
                  "response.created response.output_item.added item.added response.content_part.added transcript.delta "
                  "transcript.delta "
                  "audio.delta audio.delta audio.delta audio.done transcript.done response.content_part.done "
                  "response.output_item.done "
                  "item.done response.done");
  g_assert_cmpint(json_integer_value(realtime_at(realtime_event(f, 0), "audio_start_ms")), ==, 500);
  g_assert_cmpstr(realtime_text(realtime_event(f, 0), "item_id"), ==, realtime_text(realtime_event(f, 2), "item_id"));
  g_assert_true(json_is_null(realtime_at(realtime_event(f, 2), "previous_item_id")));
  g_assert_true(json_is_null(realtime_at(realtime_event(f, 3), "item.content.0.transcript")));
  g_assert_cmpstr(realtime_text(realtime_event(f, 5), "transcript"), ==, "What time is it?");
  g_assert_cmpfloat_with_epsilon(json_real_value(realtime_at(realtime_event(f, 5), "usage.seconds")), 2.0, 1e-9);
  g_assert_cmpstr(realtime_text(realtime_event(f, 6), "item.content.0.transcript"), ==, "What time is it?");
  g_assert_cmpstr(realtime_text(realtime_event(f, 9), "previous_item_id"), ==, "u1");
  g_assert_cmpstr(realtime_text(realtime_event(f, 9), "item.status"), ==, "in_progress");
  gsize lengths[] = {2400, 2400, 1200};
  for (gsize i = 0; i < 3; i++) {
    gsize length;
    g_autofree guchar *bytes = g_base64_decode(realtime_text(realtime_event(f, 13 + i), "delta"), &length);
    g_assert_nonnull(bytes);
    g_assert_cmpuint(length, ==, lengths[i] * 2);
    g_assert_cmpstr(realtime_text(realtime_event(f, 13 + i), "item_id"), ==, "a1");
    g_assert_cmpstr(realtime_text(realtime_event(f, 13 + i), "response_id"), ==, "r1");
  }
  g_assert_cmpstr(realtime_text(realtime_event(f, 17), "transcript"), ==, "It is noon.");
  const json_t *response = realtime_at(realtime_last(f), "response");
  g_assert_cmpstr(realtime_text(response, "status"), ==, "completed");
  g_assert_cmpstr(realtime_text(response, "output.0.content.0.transcript"), ==, "It is noon.");
  g_assert_cmpstr(realtime_text(response, "output.0.status"), ==, "completed");
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
  realtime_client(
      f,
      "{\"type\":\"conversation.item.create\",\"item\":{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":"
      "\"input_text\",\"text\":\"x\"}]}}");
  realtime_client(f, "{\"type\":\"response.create\"}");
  realtime_reply(f, "r2", "a2", deltas, TRUE);
  g_assert_cmpfloat(stage_count(labels[0]), ==, before[0] + 1);
  for (gsize i = 1; i < 4; i++)
    g_assert_cmpfloat(stage_count(labels[i]), ==, before[i] + 2);
}

static void test_typed_turn(Fixture *f, gconstpointer data) {
  realtime_forget(f);
  const char *deltas[] = {"Hi", NULL};
  realtime_client(
      f, "{\"type\":\"conversation.item.create\",\"item\":{\"id\":\"mine\",\"type\":\"message\",\"role\":\"user\","
         "\"content\":[{\"type\":\"input_text\",\"text\":\" Hello \"}]}}");
  realtime_expect(f, "item.added item.done");
  g_assert_cmpstr(realtime_text(realtime_event(f, 0), "item.content.0.text"), ==, "Hello");
  realtime_client(
      f, "{\"type\":\"response.create\",\"response\":{\"output_modalities\":[\"text\"],\"metadata\":{\"k\":\"v\"}}}");
  g_assert_cmpstr(fake_live.log->str, ==, "text:Hello configure:text respond");
  realtime_forget(f);
  realtime_reply(f, "r1", "a1", deltas, FALSE);
  g_assert_cmpstr(fake_live.log->str, ==, "configure:audio"); /* the borrowed modality is given back */
  /* The reply is longer than its deltas: the rest comes as one. */
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_RESPONSE_DONE,
                                    .response_id = "r1",
                                    .item_id = "a1",
                                    .text = "Hi there.",
                                    .status = "completed"});
  realtime_expect(
      f, "response.created response.output_item.added item.added response.content_part.added text.delta text.delta "
         "text.done "
         "response.content_part.done response.output_item.done item.done response.done");
  g_assert_cmpstr(realtime_text(realtime_event(f, 0), "response.metadata.k"), ==, "v");
  g_assert_cmpstr(realtime_text(realtime_event(f, 0), "response.status"), ==, "in_progress");
  g_assert_cmpstr(realtime_text(realtime_event(f, 2), "previous_item_id"), ==, "mine");
  g_assert_cmpstr(realtime_text(realtime_event(f, 5), "delta"), ==, " there.");
  g_assert_cmpstr(realtime_text(realtime_event(f, 6), "text"), ==, "Hi there.");
  g_assert_cmpstr(realtime_text(realtime_last(f), "response.output.0.content.0.type"), ==, "output_text");
  realtime_forget(f);
  realtime_client(f, "{\"type\":\"conversation.item.retrieve\",\"item_id\":\"a1\"}");
  g_assert_cmpstr(realtime_text(realtime_last(f), "item.content.0.text"), ==, "Hi there.");
  realtime_client(f, "{\"type\":\"conversation.item.delete\",\"item_id\":\"mine\"}");
  g_assert_cmpstr(realtime_text(realtime_last(f), "item_id"), ==, "mine");
  realtime_client(f, "{\"type\":\"conversation.item.retrieve\",\"item_id\":\"mine\"}");
  realtime_expect(f, "item.retrieved item.deleted error");
}

/* What the real live does inside cancel and truncate. */
static void cut_answer(const char *call, gpointer user) {
  Fixture *f = user;
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_RESPONSE_DONE,
                                    .response_id = "r1",
                                    .item_id = "a1",
                                    .text = "One two three",
                                    .status = "cancelled",
                                    .reason = "client_cancelled"});
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_TRUNCATED, .item_id = "a1", .ms = 150, .text = "One"});
}

static void test_cancel(Fixture *f, gconstpointer data) {
  const char *deltas[] = {"One two three", NULL};
  realtime_client(f, "{\"type\":\"response.cancel\",\"event_id\":\"e\"}");
  g_assert_cmpstr(realtime_text(realtime_last(f), "error.code"), ==, "response_cancel_not_active");
  realtime_add_text(f);
  realtime_client(f, "{\"type\":\"response.create\"}");
  realtime_reply(f, "r1", "a1", deltas, TRUE);
  realtime_forget(f);
  realtime_client(f, "{\"type\":\"response.create\"}");
  g_assert_cmpstr(realtime_text(realtime_last(f), "error.code"), ==, "conversation_already_has_active_response");
  realtime_client(f, "{\"type\":\"response.cancel\",\"response_id\":\"other\"}");
  g_assert_cmpstr(realtime_text(realtime_last(f), "error.code"), ==, "response_cancel_not_active");
  g_assert_cmpstr(fake_live.log->str, ==, "");
  realtime_forget(f);
  fake_live.answer = cut_answer;
  fake_live.user = f;
  realtime_client(f, "{\"type\":\"response.cancel\",\"response_id\":\"r1\"}");
  realtime_expect(
      f, "audio.done transcript.done response.content_part.done response.output_item.done item.done response.done "
         "item.truncated");
  g_assert_cmpstr(realtime_text(realtime_event(f, 5), "response.status"), ==, "cancelled");
  g_assert_cmpstr(realtime_text(realtime_event(f, 5), "response.status_details.reason"), ==, "client_cancelled");
  g_assert_cmpstr(realtime_text(realtime_event(f, 4), "item.status"), ==, "incomplete");
  g_assert_cmpint(json_integer_value(realtime_at(realtime_last(f), "audio_end_ms")), ==, 150);
  g_assert_null(realtime_at(realtime_last(f), "text")); /* Choir's extension was not asked for */
  /* Nothing of a response follows its end. */
  realtime_forget(f);
  realtime_live(f,
                (ChoirLiveEvent){.type = CHOIR_LIVE_TEXT_DELTA, .response_id = "r1", .item_id = "a1", .text = "late"});
  realtime_live(f, (ChoirLiveEvent){
                       .type = CHOIR_LIVE_RESPONSE_DONE, .response_id = "r1", .item_id = "a1", .status = "completed"});
  realtime_expect(f, "");
}

static void test_cancel_before_start(Fixture *f, gconstpointer data) {
  realtime_add_text(f);
  realtime_client(f, "{\"type\":\"response.create\"}");
  realtime_forget(f);
  realtime_client(f, "{\"type\":\"response.cancel\"}");
  g_assert_cmpstr(fake_live.log->str, ==, "cancel");
  realtime_expect(f, "response.created response.done");
  g_assert_cmpstr(realtime_text(realtime_last(f), "response.status"), ==, "cancelled");
}

static void test_truncate(Fixture *f, gconstpointer data) {
  const char *deltas[] = {"One two three", NULL};
  realtime_add_text(f);
  realtime_client(f, "{\"type\":\"response.create\"}");
  realtime_reply(f, "r1", "a1", deltas, TRUE); /* 6000 samples: 250 ms */
  realtime_forget(f);
  fake_live.answer = cut_answer;
  fake_live.user = f;
  fake_live.knows_reply = TRUE;
  realtime_client(
      f, "{\"type\":\"conversation.item.truncate\",\"item_id\":\"a1\",\"content_index\":0,\"audio_end_ms\":900}");
  g_assert_cmpstr(fake_live.log->str, ==, "truncate:a1@250"); /* no more than was sent */
  g_assert_cmpstr(choir_json_string(realtime_last(f), "type", ""), ==, "conversation.item.truncated");
  /* The same again: live has forgotten it, the answer stays the same. */
  realtime_forget(f);
  fake_live.knows_reply = FALSE;
  realtime_client(
      f, "{\"type\":\"conversation.item.truncate\",\"item_id\":\"a1\",\"content_index\":0,\"audio_end_ms\":20}");
  realtime_expect(f, "item.truncated");
  g_assert_cmpint(json_integer_value(realtime_at(realtime_last(f), "audio_end_ms")), ==, 150);
  realtime_forget(f);
  realtime_client(f, "{\"type\":\"conversation.item.retrieve\",\"item_id\":\"a1\"}");
  g_assert_cmpstr(realtime_text(realtime_last(f), "item.content.0.transcript"), ==, "One");
  realtime_client(
      f, "{\"type\":\"conversation.item.truncate\",\"item_id\":\"nope\",\"content_index\":0,\"audio_end_ms\":20}");
  g_assert_cmpstr(realtime_text(realtime_last(f), "error.code"), ==, "item_not_found");
  realtime_client(
      f, "{\"type\":\"conversation.item.truncate\",\"item_id\":\"a1\",\"content_index\":0,\"audio_end_ms\":-1}");
  g_assert_cmpstr(realtime_text(realtime_last(f), "error.code"), ==, "invalid_value");
  realtime_client(
      f, "{\"type\":\"conversation.item.truncate\",\"item_id\":\"a1\",\"content_index\":0,\"audio_end_ms\":\"x\"}");
  g_assert_cmpstr(realtime_text(realtime_last(f), "error.code"), ==, "invalid_value");
  realtime_expect(f, "item.retrieved error error error");
}

static void test_truncate_heard_reply(Fixture *f, gconstpointer data) {
  const char *deltas[] = {"One", NULL};
  realtime_add_text(f);
  realtime_client(f, "{\"type\":\"response.create\"}");
  realtime_reply(f, "r1", "a1", deltas, TRUE);
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_RESPONSE_DONE,
                                    .response_id = "r1",
                                    .item_id = "a1",
                                    .text = "One",
                                    .status = "completed"});
  realtime_forget(f);
  realtime_client(
      f, "{\"type\":\"conversation.item.truncate\",\"item_id\":\"a1\",\"content_index\":0,\"audio_end_ms\":250}");
  realtime_expect(f, "item.truncated"); /* it was heard to its end: nothing to cut */
  realtime_client(
      f, "{\"type\":\"conversation.item.truncate\",\"item_id\":\"a1\",\"content_index\":0,\"audio_end_ms\":100}");
  realtime_expect(f, "item.truncated item.truncated");
}

static void test_barge_in(Fixture *f, gconstpointer data) {
  const char *deltas[] = {"One two three", NULL};
  realtime_add_text(f);
  realtime_client(f, "{\"type\":\"response.create\"}");
  realtime_reply(f, "r1", "a1", deltas, TRUE);
  realtime_forget(f);
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_SPEECH_STARTED, .item_id = "u2", .ms = 4000});
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_RESPONSE_DONE,
                                    .response_id = "r1",
                                    .item_id = "a1",
                                    .text = "One two three",
                                    .status = "cancelled",
                                    .reason = "turn_detected"});
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_TRUNCATED, .item_id = "a1", .ms = 120, .text = "One"});
  realtime_expect(
      f, "buffer.speech_started audio.done transcript.done response.content_part.done response.output_item.done "
         "item.done response.done item.truncated");
  g_assert_cmpstr(realtime_text(realtime_event(f, 6), "response.status_details.reason"), ==, "turn_detected");
  g_assert_cmpstr(realtime_text(realtime_last(f), "text"), ==, "One"); /* with ?choir=1 */
}

/* Push to talk: commit and response.create at once, the transcript comes later and is empty. */
static void commit_answer(const char *call, gpointer user) {
  if (strcmp(call, "commit") == 0)
    realtime_live(user, (ChoirLiveEvent){.type = CHOIR_LIVE_COMMITTED, .item_id = "u1"});
}

static void test_push_to_talk(Fixture *f, gconstpointer data) {
  guint8 bytes[4800 * 2] = {0};
  g_autofree char *audio = g_base64_encode(bytes, sizeof bytes);
  g_autofree char *append = g_strdup_printf("{\"type\":\"input_audio_buffer.append\",\"audio\":\"%s\"}", audio);
  realtime_client(f, "{\"type\":\"session.update\",\"session\":{\"audio\":{\"input\":{\"turn_detection\":null}}}}");
  realtime_forget(f);
  fake_live.answer = commit_answer;
  fake_live.user = f;
  realtime_client(f, "{\"type\":\"input_audio_buffer.commit\"}");
  g_assert_cmpstr(realtime_text(realtime_last(f), "error.code"), ==, "input_audio_buffer_commit_empty");
  realtime_client(f, append);
  realtime_client(f, "{\"type\":\"input_audio_buffer.clear\"}");
  realtime_client(f, "{\"type\":\"input_audio_buffer.commit\"}");
  realtime_client(f, append);
  realtime_client(f, "{\"type\":\"input_audio_buffer.commit\"}");
  realtime_client(f, "{\"type\":\"response.create\"}");
  g_assert_cmpstr(fake_live.log->str, ==, "audio:4800@24000 clear audio:4800@24000 commit respond");
  realtime_expect(f, "error buffer.cleared error buffer.committed item.added");
  realtime_forget(f);
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_TRANSCRIPT, .item_id = "u1", .text = ""});
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_ERROR, .text = "Nothing was understood."});
  realtime_expect(f, "transcription.completed item.done response.created response.done");
  g_assert_cmpstr(realtime_text(realtime_last(f), "response.status"), ==, "failed");
  g_assert_cmpstr(realtime_text(realtime_last(f), "response.status_details.error.code"), ==, "nothing_understood");
  realtime_forget(f);
  realtime_client(f, "{\"type\":\"response.create\"}");
  g_assert_cmpstr(realtime_text(realtime_last(f), "error.code"), ==, "nothing_to_answer");
}

static void test_transcription_failed(Fixture *f, gconstpointer data) {
  realtime_forget(f);
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_COMMITTED, .item_id = "u1"});
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_TRANSCRIPT_FAILED, .item_id = "u1", .text = "the engine died"});
  realtime_expect(f, "buffer.committed item.added transcription.failed item.done");
  g_assert_cmpstr(realtime_text(realtime_event(f, 2), "error.message"), ==, "the engine died");
  realtime_client(f, "{\"type\":\"session.update\",\"session\":{\"audio\":{\"input\":{\"transcription\":null}}}}");
  /* null inside an object is a value: transcripts are off now */
  g_assert_true(json_is_null(realtime_at(realtime_last(f), "session.audio.input.transcription")));
  realtime_forget(f);
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_COMMITTED, .item_id = "u2"});
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_TRANSCRIPT, .item_id = "u2", .text = "hello"});
  realtime_expect(f, "buffer.committed item.added item.done");
  realtime_forget(f);
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_IDLE, .item_id = "u3", .ms = 4000, .until_ms = 10000});
  realtime_expect(f, "buffer.timeout_triggered buffer.committed item.added item.done");
  g_assert_cmpint(json_integer_value(realtime_at(realtime_event(f, 0), "audio_end_ms")), ==, 10000);
  g_assert_cmpstr(realtime_text(realtime_event(f, 0), "item_id"), ==, "u3");
  g_assert_cmpstr(realtime_text(realtime_event(f, 1), "item_id"), ==, "u3");
}

/* --- audio in
 * --------------------------------------------------------------------------------------------------------- */

static void test_append(Fixture *f, gconstpointer data) {
  realtime_forget(f);
  realtime_client(
      f, "{\"type\":\"input_audio_buffer.append\",\"audio\":\"AAAAAAA=\"}"); /* 5 bytes: 2 samples and a half */
  realtime_client(
      f, "{\"type\":\"input_audio_buffer.append\",\"audio\":\"AAAA\"}"); /* 3 bytes: the other half, and one more */
  g_assert_cmpstr(fake_live.log->str, ==, "audio:2@24000 audio:2@24000");
  static const char *const bad[] = {"\"AAA\"",  "\"AAA=AAAA\"", "\"A A A A \"", "\"AAB=\"",
                                    "\"AB==\"", "\"====\"",     "\"AAAA\\n\"",  "7",
                                    "null",     "\"-_-_\""};
  for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
    realtime_forget(f);
    g_autofree char *text = g_strdup_printf("{\"type\":\"input_audio_buffer.append\",\"audio\":%s}", bad[i]);
    realtime_client(f, text);
    g_test_message("%s", bad[i]);
    realtime_expect(f, "error");
    g_assert_cmpstr(fake_live.log->str, ==, "");
  }
  realtime_forget(f);
  fake_live.full = TRUE;
  for (int i = 0; i < 5; i++)
    realtime_client(f, "{\"type\":\"input_audio_buffer.append\",\"audio\":\"AAAA\"}");
  realtime_expect(f, "error"); /* told once */
  g_assert_cmpstr(realtime_text(realtime_last(f), "error.code"), ==, "input_audio_buffer_full");
}

static void test_formats(Fixture *f, gconstpointer data) {
  realtime_client(
      f, "{\"type\":\"session.update\",\"session\":{\"audio\":{\"input\":{\"format\":{\"type\":\"audio/pcmu\"}}}}}");
  g_assert_cmpstr(realtime_text(realtime_last(f), "session.audio.input.format.type"), ==, "audio/pcmu");
  realtime_forget(f);
  realtime_client(f, "{\"type\":\"input_audio_buffer.append\",\"audio\":\"AAAA\"}");
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
    realtime_forget(f);
    realtime_client(f, rows[i].text);
    g_test_message("%s", rows[i].text);
    realtime_expect(f, "error");
    g_assert_cmpstr(realtime_text(realtime_last(f), "error.code"), ==, rows[i].code);
    g_assert_cmpstr(realtime_text(realtime_last(f), "error.param"), ==, rows[i].param);
    g_assert_cmpstr(fake_live.log->str, ==, "");
  }
}

static void test_live_errors(Fixture *f, gconstpointer data) {
  realtime_forget(f);
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_ERROR, .text = "The ear is missing."});
  realtime_expect(f, "error");
  g_assert_cmpstr(realtime_text(realtime_last(f), "error.type"), ==, "server_error");
  /* A response that fails before it begins still has its two ends. */
  realtime_add_text(f);
  realtime_client(f, "{\"type\":\"response.create\"}");
  realtime_forget(f);
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_RESPONSE_DONE,
                                    .response_id = "r9",
                                    .item_id = "a9",
                                    .status = "failed",
                                    .reason = "busy"});
  realtime_expect(f, "response.created response.done");
  g_assert_cmpstr(realtime_text(realtime_last(f), "response.status_details.error.code"), ==, "busy");
}

static void test_extension(Fixture *f, gconstpointer extension) {
  const char *deltas[] = {"One", NULL};
  realtime_add_text(f);
  realtime_client(f, "{\"type\":\"response.create\"}");
  realtime_reply(f, "r1", "a1", deltas, TRUE);
  realtime_forget(f);
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_STATE, .text = "thinking"});
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_VAD, .level = 0.25, .probability = 0.75});
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_STATUS, .text = "lead 120 ms"});
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_PLAYOUT_DONE, .item_id = "a1"});
  realtime_expect(f, extension ? "choir.state choir.vad choir.status choir.playout_done" : "");
  /* Reports are taken either way; more than was sent cannot have been heard. */
  realtime_client(f, "{\"type\":\"choir.playout\",\"item_id\":\"a1\",\"played_samples\":480,\"underruns\":1}");
  realtime_client(f, "{\"type\":\"choir.playout\",\"item_id\":\"a1\",\"played_samples\":999999,\"underruns\":-4}");
  realtime_client(f, "{\"type\":\"choir.playout\",\"item_id\":\"unknown\",\"played_samples\":480}");
  g_assert_cmpstr(fake_live.log->str, ==, "ack:a1@480/1 ack:a1@6000/0");
  realtime_client(f, "{\"type\":\"choir.mute\",\"muted\":\"yes\"}");
  g_assert_cmpstr(realtime_text(realtime_last(f), "error.param"), ==, "muted");
  realtime_client(f, "{\"type\":\"choir.mute\",\"muted\":true}");
  g_assert_true(fake_live.options.muted);
}

static void test_item_limit(Fixture *f, gconstpointer data) {
  for (guint i = 0; i < CHOIR_REALTIME_MAX_ITEMS + 10; i++)
    realtime_add_text(f);
  realtime_forget(f);
  realtime_client(f, "{\"type\":\"conversation.item.retrieve\",\"item_id\":\"live_1\"}");
  g_assert_cmpstr(realtime_text(realtime_last(f), "error.code"), ==, "item_not_found");
  realtime_client(f, "{\"type\":\"conversation.item.retrieve\",\"item_id\":\"live_500\"}");
  realtime_expect(f, "error item.retrieved");
}

int main(int argc, char **argv) {
  alarm(60);
  g_test_init(&argc, &argv, NULL);
#define ADD(path, data, test) g_test_add("/realtime/" path, Fixture, data, realtime_setup, test, realtime_teardown)
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
  return g_test_run();
}
