#include <unistd.h>
#include "base/text.h"
#include "web/openai_request.h"

static gboolean parse(const char *text, ChoirOpenaiRequest *request, ChoirFault *fault) {
  g_autoptr(GError) error = NULL;
  json_auto_t *body = choir_json_parse(text, strlen(text), &error);
  g_assert_no_error(error);
  return choir_openai_request_parse(body, request, fault);
}

static void test_good(void) {
  ChoirOpenaiRequest request;
  ChoirFault fault = {0};
  g_assert_true(parse(
      "{\"model\":\"any\",\"messages\":[{\"role\":\"developer\",\"content\":\"Be kind.\"},"
      "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"Hel\"},{\"type\":\"text\",\"text\":\"lo\"}]}],"
      "\"stream\":true,\"stream_options\":{\"include_usage\":true},\"stop\":[\"a\",\"b\"],\"max_completion_tokens\":7,"
      "\"max_tokens\":9,\"temperature\":0,\"top_p\":0.5,\"seed\":0,\"n\":1,\"tools\":[],\"tool_choice\":\"none\","
      "\"presence_penalty\":0.5,\"user\":\"me\"}",
      &request, &fault));
  g_assert_null(fault.code);
  g_assert_true(request.has_system && request.stream && request.include_usage);
  g_assert_cmpint(request.max_tokens, ==, 7);
  g_assert_cmpfloat(request.temperature, ==, 0);
  g_assert_cmpfloat(request.top_p, ==, 0.5);
  g_assert_cmpuint(request.seed, ==, 1); /* a fixed seed, not "random" */
  g_assert_cmpuint(g_strv_length(request.stop), ==, 2);
  g_assert_cmpstr(choir_json_string(json_array_get(request.messages, 0), "role", ""), ==, "system");
  g_assert_cmpstr(choir_openai_request_last_user(&request), ==, "Hello");
  choir_openai_request_clear(&request);
}

static void test_defaults(void) {
  ChoirOpenaiRequest request;
  ChoirFault fault = {0};
  g_assert_true(parse("{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"stop\":\"end\",\"stream\":null}",
                      &request, &fault));
  g_assert_false(request.has_system || request.stream || request.include_usage);
  g_assert_cmpint(request.max_tokens, ==, 0);
  g_assert_cmpfloat(request.temperature, ==, -1);
  g_assert_cmpuint(request.seed, ==, 0);
  g_assert_cmpstr(request.stop[0], ==, "end");
  choir_openai_request_clear(&request);
}

static void test_tools(void) {
  ChoirOpenaiRequest request = {0};
  ChoirFault fault = {0};
  g_assert_true(
      parse("{\"messages\":[{\"role\":\"user\",\"content\":\"Rome?\"},{\"role\":\"assistant\",\"content\":null,\"tool_"
            "calls\":["
            "{\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"getWeather\",\"arguments\":\"{}\"}}]},"
            "{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"sunny\"}],\"tools\":[{\"type\":\"function\","
            "\"function\":{\"name\":\"getWeather\"}}],\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":"
            "\"getWeather\"}}}",
            &request, &fault));
  g_assert_cmpuint(json_array_size(request.messages), ==, 1);
  g_assert_cmpstr(json_string_value(json_object_get(json_array_get(request.messages, 0), "content")), ==,
                  "Rome?\n\nResult of get weather: sunny");
  g_assert_cmpstr(request.question, ==, "Rome?");
  g_assert_cmpuint(request.used->len, ==, 1);
  g_assert_cmpint(request.choice, ==, CHOIR_CALL_NAMED);
  g_assert_cmpstr(request.choice_name, ==, "getWeather");
  choir_openai_request_clear(&request);
}

static void test_bad(void) {
#define USER "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]"
  static const struct {
    const char *body, *code, *param;
  } rows[] = {
      {"{}", "invalid_type", "messages"},
      {"{\"messages\":[]}", "invalid_type", "messages"},
      {"{\"messages\":\"x\"}", "invalid_type", "messages"},
      {"{\"messages\":[1]}", "invalid_type", "messages[0]"},
      {"{\"messages\":[{\"role\":\"king\",\"content\":\"x\"}]}", "invalid_value", "messages[0]"},
      {"{\"messages\":[{\"role\":\"user\"}]}", "invalid_type", "messages[0].content"},
      {"{\"messages\":[{\"role\":\"tool\",\"content\":\"x\"}]}", "invalid_value", "messages[0]"},
      {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{}}]}]}",
       "unsupported_content", "messages[0].content"},
      {"{" USER ",\"tools\":[{}]}", "invalid_value", "tools[0]"},
      {"{" USER ",\"tools\":{}}", "invalid_value", "tools"},
      {"{" USER ",\"tool_choice\":\"required\"}", "invalid_value", "tool_choice"},
      {"{" USER ",\"functions\":[{}]}", "unsupported_parameter", "functions"},
      {"{\"messages\":[{\"role\":\"user\",\"content\":\"x\",\"tool_calls\":[{}]}]}", "invalid_value", "messages[0]"},
      {"{" USER ",\"n\":2}", "unsupported_value", "n"},
      {"{" USER ",\"n\":\"1\"}", "unsupported_value", "n"},
      {"{" USER ",\"response_format\":{\"type\":\"json_object\"}}", "unsupported_value", "response_format"},
      {"{" USER ",\"logprobs\":true}", "unsupported_parameter", "logprobs"},
      {"{" USER ",\"modalities\":[\"text\",\"audio\"]}", "unsupported_parameter", "modalities"},
      {"{" USER ",\"max_tokens\":0}", "invalid_value", "max_tokens"},
      {"{" USER ",\"max_tokens\":1.5}", "invalid_value", "max_tokens"},
      {"{" USER ",\"max_completion_tokens\":-3}", "invalid_value", "max_completion_tokens"},
      {"{" USER ",\"temperature\":2.1}", "invalid_value", "temperature"},
      {"{" USER ",\"temperature\":\"hot\"}", "invalid_value", "temperature"},
      {"{" USER ",\"top_p\":-1}", "invalid_value", "top_p"},
      {"{" USER ",\"seed\":\"x\"}", "invalid_value", "seed"},
      {"{" USER ",\"stop\":[\"a\",\"b\",\"c\",\"d\",\"e\"]}", "invalid_value", "stop"},
      {"{" USER ",\"stop\":\"\"}", "invalid_value", "stop"},
      {"{" USER ",\"stream\":1}", "invalid_type", "stream"},
      {"{" USER ",\"stream\":true,\"stream_options\":{\"include_usage\":\"yes\"}}", "invalid_type", "include_usage"},
      {"[]", "invalid_type", NULL},
  };
  for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
    ChoirOpenaiRequest request = {0};
    ChoirFault fault = {0};
    g_test_message("%s", rows[i].body);
    g_assert_false(parse(rows[i].body, &request, &fault));
    g_assert_cmpstr(fault.code, ==, rows[i].code);
    g_assert_cmpstr(fault.param, ==, rows[i].param);
    g_assert_cmpuint(strlen(fault.message), >, 10);
    g_assert_null(request.messages);
    choir_fault_clear(&fault);
  }
}

static void test_limits(void) {
  g_autoptr(GString) body = g_string_new("{\"messages\":[");
  for (guint i = 0; i <= CHOIR_OPENAI_MAX_MESSAGES; i++)
    g_string_append_printf(body, "%s{\"role\":\"user\",\"content\":\"x\"}", i ? "," : "");
  g_string_append(body, "]}");
  ChoirOpenaiRequest request;
  ChoirFault fault = {0};
  g_assert_false(parse(body->str, &request, &fault));
  g_assert_cmpstr(fault.code, ==, "invalid_value");
  g_autofree char *word = g_strnfill(CHOIR_OPENAI_MAX_CHARACTERS + 1, 'x');
  g_string_printf(body, "{\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}", word);
  g_assert_false(parse(body->str, &request, &fault));
  g_assert_cmpstr(fault.code, ==, "context_length_exceeded");
  choir_fault_clear(&fault);
}

int main(int argc, char **argv) {
  alarm(30);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/openai/good", test_good);
  g_test_add_func("/openai/defaults", test_defaults);
  g_test_add_func("/openai/tools", test_tools);
  g_test_add_func("/openai/bad", test_bad);
  g_test_add_func("/openai/limits", test_limits);
  return g_test_run();
}
