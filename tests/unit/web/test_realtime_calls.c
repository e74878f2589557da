/* Function calls of the Realtime session: when they are decided about, what the client is told, what their results do.
 */
#include <unistd.h>
#include "realtime_fixture.h"

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
  realtime_client(f, text);
  g_assert_cmpstr(realtime_text(realtime_last(f), "type"), ==, "session.updated");
  g_assert_cmpstr(realtime_text(realtime_last(f), "session.tools.0.name"), ==, "get_weather");
}

static void spoken(Fixture *f, const char *id, const char *text) {
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_SPEECH_STARTED, .item_id = id, .ms = 500});
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_SPEECH_STOPPED, .item_id = id, .ms = 2500});
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_COMMITTED, .item_id = id});
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_TRANSCRIPT, .item_id = id, .text = text});
}

static void test_call(Fixture *f, gconstpointer data) {
  with_tools(f, "\"auto\"");
  g_assert_false(fake_live.options.create_response); /* nothing begins before it was decided */
  realtime_add_text(f);
  realtime_forget(f);
  realtime_client(f, "{\"type\":\"response.create\",\"response\":{\"metadata\":{\"a\":\"b\"}}}");
  realtime_expect(f, "");
  g_assert_cmpuint(fake_call.begun, ==, 1);
  g_assert_cmpint(fake_call.choice, ==, CHOIR_CALL_AUTO);
  realtime_client(f, "{\"type\":\"response.create\"}");
  g_assert_cmpstr(realtime_text(realtime_last(f), "error.code"), ==, "conversation_already_has_active_response");
  realtime_forget(f);
  fake_call_decide("get_weather", "{\"city\":\"Rome\"}", NULL);
  realtime_expect(f, A_CALL);
  const json_t *response = realtime_at(realtime_last(f), "response");
  g_assert_cmpstr(realtime_text(response, "status"), ==, "completed");
  g_assert_cmpstr(realtime_text(response, "output.0.type"), ==, "function_call");
  g_assert_cmpstr(realtime_text(response, "output.0.arguments"), ==, "{\"city\":\"Rome\"}");
  g_assert_cmpstr(realtime_text(response, "metadata.a"), ==, "b");
  g_assert_cmpint(json_integer_value(realtime_at(response, "usage.input_tokens")), ==, 100);
  g_assert_cmpstr(realtime_text(realtime_event(f, 1), "item.status"), ==, "in_progress");
  g_assert_cmpstr(realtime_text(realtime_event(f, 4), "name"), ==, "get_weather");
  g_autofree char *call_id = g_strdup(realtime_text(response, "output.0.call_id"));
  g_autofree char *output = g_strdup_printf(
      "{\"type\":\"conversation.item.create\",\"item\":{\"type\":\"function_call_output\",\"call_id\":\"%s\","
      "\"output\":\"sunny\"}}",
      call_id);
  realtime_forget(f);
  realtime_client(f, output);
  realtime_expect(f, "item.added item.done");
  g_assert_cmpstr(fake_live.notes, ==, "Result of get weather: sunny");
  realtime_client(f, output);
  g_assert_cmpstr(realtime_text(realtime_last(f), "error.param"), ==, "item.call_id");
  realtime_forget(f);
  realtime_client(f, "{\"type\":\"response.create\"}");
  g_assert_cmpstr(fake_call.used, ==, "get_weather");
  fake_call_decide(NULL, NULL, NULL);
  realtime_expect(f, "");
  g_assert_true(g_str_has_suffix(fake_live.log->str, "respond"));
  const char *deltas[] = {"It is sunny.", NULL};
  realtime_reply(f, "r1", "a1", deltas, FALSE);
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_RESPONSE_DONE,
                                    .response_id = "r1",
                                    .item_id = "a1",
                                    .text = "It is sunny.",
                                    .status = "completed",
                                    .prompt_tokens = 30,
                                    .reply_tokens = 5});
  g_assert_cmpint(json_integer_value(realtime_at(realtime_last(f), "response.usage.total_tokens")), ==, 35);
  g_assert_null(fake_live.notes);
}

/* Words of the person are decided about once they are all there; a cough during the decision costs nothing. */
static void test_call_spoken(Fixture *f, gconstpointer data) {
  with_tools(f, "\"auto\"");
  realtime_forget(f);
  spoken(f, "u1", "What is the weather");
  g_assert_cmpstr(fake_call.text, ==, "What is the weather");
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_SPEECH_STARTED, .item_id = "u2", .ms = 3000});
  g_assert_cmpuint(fake_call.cancelled, ==, 1);
  g_assert_cmpstr(realtime_text(realtime_last(f), "response.status_details.reason"), ==, "turn_detected");
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_SPEECH_STOPPED, .item_id = "u2", .ms = 3500});
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_COMMITTED, .item_id = "u2"});
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_TRANSCRIPT, .item_id = "u2", .text = ""});
  g_assert_cmpstr(fake_call.text, ==, "What is the weather");
  g_assert_cmpuint(fake_call.begun, ==, 2);
  realtime_forget(f);
  realtime_client(f, "{\"type\":\"response.cancel\"}");
  realtime_expect(f, "response.created response.done");
  g_assert_cmpuint(fake_call.cancelled, ==, 2);
  spoken(f, "u3", "in Rome?");
  g_assert_cmpstr(fake_call.text, ==, "What is the weather in Rome?");
  realtime_forget(f);
  fake_call_decide("get_weather", "{\"city\":\"Rome\"}", NULL);
  realtime_expect(f, A_CALL);
}

static void test_call_refused(Fixture *f, gconstpointer data) {
  with_tools(f, "{\"type\":\"function\",\"name\":\"get_weather\"}");
  realtime_add_text(f);
  realtime_forget(f);
  realtime_client(f, "{\"type\":\"response.create\"}");
  g_assert_cmpint(fake_call.choice, ==, CHOIR_CALL_NAMED);
  g_assert_cmpstr(fake_call.name, ==, "get_weather");
  fake_call_decide("get_weather", NULL, "no end was found");
  realtime_expect(f, "response.created response.done");
  g_assert_cmpstr(realtime_text(realtime_last(f), "response.status"), ==, "failed");
  g_assert_cmpstr(realtime_text(realtime_last(f), "response.status_details.error.code"), ==, "function_call_refused");
  /* This response calls nothing. */
  fake_live_reset();
  realtime_client(f,
                  "{\"type\":\"response.create\",\"response\":{\"tool_choice\":\"none\",\"instructions\":\"Sing.\"}}");
  g_assert_cmpuint(fake_call.begun, ==, 1);
  g_assert_cmpstr(fake_live.instructions, ==, "Sing.");
  g_assert_true(g_str_has_suffix(fake_live.log->str, "respond"));
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_RESPONSE_STARTED, .response_id = "r1", .item_id = "a1"});
  g_assert_cmpstr(fake_live.instructions, ==, "Sing."); /* the model is asked after this event */
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_TEXT_DELTA, .response_id = "r1", .item_id = "a1", .text = "La"});
  g_assert_null(fake_live.instructions);
  realtime_live(f, (ChoirLiveEvent){.type = CHOIR_LIVE_RESPONSE_DONE,
                                    .response_id = "r1",
                                    .item_id = "a1",
                                    .text = "La.",
                                    .status = "completed"});
  realtime_add_text(f);
  f->no_model = TRUE;
  realtime_forget(f);
  realtime_client(f, "{\"type\":\"response.create\"}");
  g_assert_cmpstr(realtime_text(realtime_last(f), "response.status_details.error.code"), ==, "model_loading");
}

int main(int argc, char **argv) {
  alarm(60);
  g_test_init(&argc, &argv, NULL);
#define ADD(path, test) g_test_add("/realtime/" path, Fixture, NULL, realtime_setup, test, realtime_teardown)
  ADD("call", test_call);
  ADD("call-spoken", test_call_spoken);
  ADD("call-refused", test_call_refused);
  return g_test_run();
}
