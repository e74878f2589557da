/* The steps of a turn against a scripted model: a call, tool errors, repairs, the loop detector, the limit of time,
 * cancelling in every phase. And the pure parts: numbers, spans, likeness. */
#include <glib/gstdio.h>
#include <libsoup/soup.h>
#include <string.h>
#include <unistd.h>
#include "agent/call_grammar.h"
#include "agent/numbers.h"
#include "agent/spans.h"
#include "agent/steps.h"
#include "base/text.h"

/* --- a llama-server that completes what the script says, the last line again and again; NULL hangs */
typedef struct {
  SoupServer *server;
  char *url;
  GPtrArray *prompts, *grammars;
  const char *const *script;
  guint at;
  gboolean no_grammar;
  SoupServerMessage *waiting;
} Model;

static void reply(SoupServerMessage *message, guint status, json_t *json) {
  g_autofree char *text = choir_json_dump(json);
  json_decref(json);
  soup_server_message_set_status(message, status, NULL);
  soup_server_message_set_response(message, "application/json", SOUP_MEMORY_COPY, text, strlen(text));
}

static void on_request(SoupServer *server, SoupServerMessage *message, const char *path, GHashTable *query,
                       gpointer user) {
  Model *model = user;
  SoupMessageBody *body = soup_server_message_get_request_body(message);
  json_auto_t *json = choir_json_parse(body->data, (gsize)body->length, NULL);
  if (g_str_equal(path, "/tokenize")) {
    reply(message, 200, json_pack("{s:[i,i]}", "tokens", 1, 2));
    return;
  }
  g_ptr_array_add(model->prompts, g_strdup(choir_json_string(json, "prompt", "")));
  g_ptr_array_add(model->grammars, g_strdup(choir_json_string(json, "grammar", "")));
  const char *text = model->script[model->at];
  if (model->script[model->at + 1])
    model->at++;
  if (model->no_grammar) {
    reply(message, 400, json_pack("{s:{s:s}}", "error", "message", "failed to parse grammar"));
  } else if (g_str_equal(text, "hang")) {
    model->waiting = message;
    soup_server_message_pause(message);
  } else {
    reply(message, 200, json_pack("{s:s}", "content", text));
  }
}

/* --- tools */
static GString *ran;
static gboolean cancelled;

static void run_say(ChoirToolCall *call) {
  g_string_append_printf(ran, "say %s;", choir_tool_call_string(call, "text", ""));
  choir_tool_call_output(call, choir_tool_call_string(call, "text", ""), -1);
  choir_tool_call_done(call, TRUE, NULL);
}

static void run_fail(ChoirToolCall *call) {
  choir_tool_call_done(call, TRUE, g_error_new_literal(CHOIR_TOOL_ERROR, CHOIR_TOOL_ERROR_FAILED, "the pump is dry"));
}

static void run_picky(ChoirToolCall *call) {
  const char *text = choir_tool_call_string(call, "text", "");
  g_string_append_printf(ran, "picky %s;", text);
  choir_tool_call_done(call, TRUE,
                       strstr(text, "blue")
                           ? NULL
                           : g_error_new(CHOIR_TOOL_ERROR, CHOIR_TOOL_ERROR_ARGUMENTS, "\"%s\" is no colour", text));
}

static gboolean on_stop(gpointer call) {
  cancelled = TRUE;
  choir_tool_call_done(call, TRUE, g_error_new_literal(CHOIR_TOOL_ERROR, CHOIR_TOOL_ERROR_FAILED, "stopped"));
  return G_SOURCE_REMOVE;
}

static void on_cancel(GCancellable *cancellable, gpointer call) {
  g_idle_add(on_stop, call);
}

static void run_slow(ChoirToolCall *call) {
  g_string_append(ran, "slow;");
  g_cancellable_connect(choir_tool_call_cancellable(call), G_CALLBACK(on_cancel), call, NULL);
}

#define OBJECT(properties, required)                                                                                   \
  "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{" properties "},\"required\":[" required "]}"
#define COPIED "\"text\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":60,\"$comment\":\"copied\"}"
#define FREE "\"text\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":2000}"
static const ChoirToolShot say_shots[] = {{"shout something out loud", "{\"text\":\"something\"}"}, {NULL, NULL}};
static const char *const fail_examples[] = {"start the garden pump", NULL};
static const char *const slow_examples[] = {"dig a long tunnel", NULL};
static const char *const picky_examples[] = {"paint the fence red or blue", NULL};
static const ChoirToolAction actions[] = {
    {.name = "say", .help = "Shouts.", .schema = OBJECT(FREE, "\"text\""), .shots = say_shots, .run = run_say},
    {.name = "pump", .help = "Pumps.", .schema = OBJECT("", ""), .examples = fail_examples, .run = run_fail},
    {.name = "paint",
     .help = "Paints.",
     .schema = OBJECT(COPIED, "\"text\""),
     .examples = picky_examples,
     .run = run_picky},
    {.name = "dig", .help = "Digs.", .schema = OBJECT("", ""), .examples = slow_examples, .run = run_slow},
};
static const ChoirTool test_tool = {
    .id = "test", .title = "Test", .help = "a test", .actions = actions, .n_actions = G_N_ELEMENTS(actions)};
static const ChoirTool *const tools[] = {&test_tool, NULL};

typedef struct {
  char *dir, *log;
  Model model;
  ChoirApprovals *approvals;
  ChoirAudit *audit;
  ChoirToolbox *toolbox;
  ChoirShortlist *shortlist;
  ChoirHttpClient *http;
  ChoirLlmServer *llm;
  guint ticker;
  gboolean done;
  char *answer, *notes;
} House;

static gboolean tick(gpointer user) {
  return G_SOURCE_CONTINUE;
}

static House *house_new(const char *const *script) {
  House *house = g_new0(House, 1);
  g_autoptr(GError) error = NULL;
  ran = g_string_new(NULL);
  cancelled = FALSE;
  house->dir = g_dir_make_tmp("choir-steps-XXXXXX", NULL);
  house->log = g_build_filename(house->dir, "audit.jsonl", NULL);
  house->model = (Model){.script = script,
                         .prompts = g_ptr_array_new_with_free_func(g_free),
                         .grammars = g_ptr_array_new_with_free_func(g_free),
                         .server = soup_server_new(NULL, NULL)};
  soup_server_add_handler(house->model.server, NULL, on_request, &house->model, NULL);
  g_assert_true(soup_server_listen_local(house->model.server, 0, SOUP_SERVER_LISTEN_IPV4_ONLY, &error));
  GSList *uris = soup_server_get_uris(house->model.server);
  house->model.url = g_strdup_printf("http://127.0.0.1:%d", g_uri_get_port(uris->data));
  g_slist_free_full(uris, (GDestroyNotify)g_uri_unref);
  house->http = choir_http_client_new();
  ChoirLlmServerOptions options = {
      .external_url = house->model.url, .model_name = "mock", .state_dir = house->dir, .context = 2048};
  house->llm = choir_llm_server_new(&options, house->http, &error);
  g_assert_no_error(error);
  house->approvals = choir_approvals_new();
  house->audit = choir_audit_open(house->log, &error);
  g_assert_no_error(error);
  ChoirToolHouse services = {.state_dir = house->dir};
  house->toolbox = choir_toolbox_new(tools, &services, house->approvals, house->audit);
  house->shortlist = choir_shortlist_new(house->toolbox);
  house->ticker = g_timeout_add(20, tick, NULL);
  return house;
}

static void house_free(House *house) {
  choir_shortlist_free(house->shortlist);
  choir_toolbox_free(house->toolbox);
  choir_approvals_free(house->approvals);
  choir_audit_close(house->audit);
  choir_llm_server_free(house->llm);
  choir_http_client_free(house->http);
  while (g_main_context_iteration(NULL, FALSE))
    ;
  soup_server_disconnect(house->model.server);
  g_object_unref(house->model.server);
  g_ptr_array_unref(house->model.prompts);
  g_ptr_array_unref(house->model.grammars);
  g_source_remove(house->ticker);
  g_unlink(house->log);
  g_rmdir(house->dir);
  g_free(house->model.url);
  g_free(house->log);
  g_free(house->dir);
  g_free(house->answer);
  g_free(house->notes);
  g_free(house);
  g_string_free(ran, TRUE);
}

static void on_done(const char *answer, const char *notes, gpointer user) {
  House *house = user;
  g_assert_false(house->done);
  house->done = TRUE;
  house->answer = g_strdup(answer);
  house->notes = g_strdup(notes);
}

static const ChoirStepsHandlers handlers = {.done = on_done};

static ChoirSteps *begin(House *house, const char *text) {
  ChoirStepsRequest request = {.toolbox = house->toolbox,
                               .shortlist = house->shortlist,
                               .llm = house->llm,
                               .text = text,
                               .session = "test",
                               .turn_id = "t1"};
  return choir_steps_begin(&request, &handlers, house);
}

static void spin(House *house, guint seconds) {
  gint64 end = g_get_monotonic_time() + seconds * G_USEC_PER_SEC;
  while (!house->done && g_get_monotonic_time() < end)
    g_main_context_iteration(NULL, TRUE);
}

static void test_one_call(void) {
  static const char *const script[] = {"{\"text\": \"hooray\"}", NULL};
  House *house = house_new(script);
  begin(house, "shout something out loud");
  spin(house, 20);
  g_assert_cmpstr(house->answer, ==, "hooray");
  g_assert_cmpstr(ran->str, ==, "say hooray;");
  g_assert_cmpuint(house->model.prompts->len, ==, 1);
  /* The nearest example stands before what was said, and free text of a small model is short. */
  g_assert_nonnull(
      strstr(house->model.prompts->pdata[0], "Said: shout something out loud\nJSON: {\"text\":\"something\"}"));
  g_assert_nonnull(strstr(house->model.grammars->pdata[0], "char{1,48}"));
  house_free(house);
}

static void test_ordinary_talk(void) {
  static const char *const script[] = {"hang", NULL};
  House *house = house_new(script);
  g_assert_false(choir_steps_wanted(house->shortlist, "why is snow white"));
  g_assert_true(choir_steps_wanted(house->shortlist, "dig a long tunnel"));
  begin(house, "why is snow white");
  spin(house, 20);
  g_assert_true(house->done);
  g_assert_null(house->answer);
  g_assert_null(house->notes);
  g_assert_cmpuint(house->model.prompts->len, ==, 0);
  house_free(house);
}

static void test_tool_error(void) {
  static const char *const script[] = {"hang", NULL};
  House *house = house_new(script);
  begin(house, "start the garden pump");
  spin(house, 20);
  g_assert_cmpstr(house->answer, ==, "the pump is dry");
  house_free(house);
}

/* Refused arguments are not offered again; what then fits is called. */
static void test_repair(void) {
  static const char *const script[] = {"{\"text\": \"red\"}", "{\"text\": \"blue\"}", NULL};
  House *house = house_new(script);
  begin(house, "paint the fence red or blue");
  spin(house, 20);
  g_assert_cmpstr(ran->str, ==, "picky red;picky blue;");
  g_assert_cmpstr(house->answer, ==, "Done.");
  g_assert_nonnull(strstr(house->model.grammars->pdata[0], "\"\\\"red\\\"\""));
  g_assert_null(strstr(house->model.grammars->pdata[1], "\"\\\"red\\\"\""));
  house_free(house);
}

static void test_repairs_end(void) {
  static const char *const script[] = {"{\"text\": \"red\"}", "{\"text\": \"fence\"}", "{\"text\": \"paint\"}",
                                       "{\"text\": \"fence red\"}", NULL};
  House *house = house_new(script);
  begin(house, "paint the fence red or blue");
  spin(house, 20);
  g_assert_cmpstr(ran->str, ==, "picky red;picky fence;picky paint;"); /* two repairs */
  g_assert_cmpstr(house->answer, ==, "\"paint\" is no colour");
  house_free(house);
}

/* A model that says the same again, whatever the grammar: the call is compared and not made twice. */
static void test_loop(void) {
  static const char *const script[] = {"{\"text\": \"fence\"}", NULL};
  House *house = house_new(script);
  begin(house, "paint the fence red or blue");
  spin(house, 20);
  g_assert_true(house->done);
  g_assert_cmpstr(ran->str, ==, "picky fence;");
  house_free(house);
}

/* What is no JSON of the schema, or comes from a server that takes no grammar, is never a call. */
static void test_refused(void) {
  static const char *const scripts[][2] = {{"{\"text\": 7}", NULL},   {"{\"text\": \"\"}", NULL},
                                           {"{\"text\": \"a", NULL},  {"{\"text\": \"a\", \"b\": 1}", NULL},
                                           {"shout something", NULL}, {"{\"text\": \"fine\"}", NULL}};
  for (guint i = 0; i < G_N_ELEMENTS(scripts); i++) {
    House *house = house_new(scripts[i]);
    house->model.no_grammar = i == G_N_ELEMENTS(scripts) - 1;
    begin(house, "shout something out loud");
    spin(house, 20);
    g_assert_true(house->done);
    g_assert_null(house->answer);
    g_assert_cmpstr(ran->str, ==, "");
    house_free(house);
  }
}

static void test_cancel_deciding(void) {
  static const char *const script[] = {"hang", NULL};
  House *house = house_new(script);
  for (guint waits = 0; waits < 2; waits++) { /* before anything was sent, and while the model thinks */
    ChoirSteps *steps = begin(house, "shout something out loud");
    while (waits && !house->model.waiting)
      g_main_context_iteration(NULL, TRUE);
    gint64 from = g_get_monotonic_time();
    choir_steps_cancel(steps);
    g_assert_cmpint(g_get_monotonic_time() - from, <, G_USEC_PER_SEC);
  }
  /* What the model says after that is heard by nobody. */
  reply(house->model.waiting, 200, json_pack("{s:s}", "content", "{\"text\": \"late\"}"));
  soup_server_message_unpause(house->model.waiting);
  house->model.waiting = NULL;
  for (guint i = 0; i < 10; i++)
    g_main_context_iteration(NULL, TRUE);
  g_assert_false(house->done);
  g_assert_cmpstr(ran->str, ==, "");
  house_free(house);
}

static void test_cancel_tool(void) {
  static const char *const script[] = {"hang", NULL};
  House *house = house_new(script);
  ChoirSteps *steps = begin(house, "dig a long tunnel");
  while (!strstr(ran->str, "slow;"))
    g_main_context_iteration(NULL, TRUE);
  choir_steps_cancel(steps);
  while (!cancelled)
    g_main_context_iteration(NULL, TRUE);
  g_assert_false(house->done);
  house_free(house);
}

static void test_cancel_finished(void) {
  static const char *const script[] = {"hang", NULL};
  House *house = house_new(script);
  choir_steps_cancel(begin(house, "why is snow white")); /* done was already on its way */
  for (guint i = 0; i < 20; i++)
    g_main_context_iteration(NULL, FALSE);
  g_assert_false(house->done);
  house_free(house);
}

/* A model that never answers: the person gets an answer in words instead. */
static void test_limit(void) {
  static const char *const script[] = {"hang", NULL};
  House *house = house_new(script);
  begin(house, "shout something out loud");
  spin(house, 60);
  g_assert_true(house->done);
  g_assert_null(house->answer);
  g_assert_cmpstr(ran->str, ==, "");
  house_free(house);
}

static void test_numbers(void) {
  static const struct {
    const char *text;
    gint64 numbers[3];
    guint n;
  } rows[] = {{"delete reminder two", {2}, 1},
              {"forty rows and one hundred twenty columns", {40, 120}, 2},
              {"the third of 25", {3, 25}, 2},
              {"one hundred and five", {105}, 1},
              {"two thousand", {2000}, 1},
              {"sixty five, 7 8", {65, 7, 8}, 3},
              {"none of the 21st", {21}, 1},
              {"v1.5x and 99999999999", {1}, 0},
              {"", {0}, 0}};
  for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
    gint64 numbers[8];
    guint n = choir_numbers_in(rows[i].text, numbers, 3);
    g_test_message("%s", rows[i].text);
    g_assert_cmpuint(n, ==, rows[i].n);
    for (guint k = 0; k < n; k++)
      g_assert_cmpint(numbers[k], ==, rows[i].numbers[k]);
  }
}

static gboolean has(const json_t *list, const char *text) {
  for (guint i = 0; i < json_array_size(list); i++)
    if (g_strcmp0(json_string_value(json_array_get(list, i)), text) == 0)
      return TRUE;
  return FALSE;
}

static void test_spans(void) {
  json_auto_t *list = choir_spans("Remind me tomorrow at eight to say \"hello, world\".", 60);
  g_assert_true(has(list, "tomorrow at eight"));
  g_assert_false(has(list, "tomorrow at")); /* in the middle of a phrase */
  g_assert_true(has(list, "hello, world"));
  json_auto_t *little = choir_spans("one two three", 7);
  g_assert_true(has(little, "one two"));
  g_assert_false(has(little, "two three"));
  json_auto_t *none = choir_spans(" . ", 9);
  g_assert_cmpuint(json_array_size(none), ==, 0);
  g_autoptr(GString) flood = g_string_new(NULL);
  for (guint i = 0; i < 5000; i++)
    g_string_append_printf(flood, "w%u ", i);
  /* Nothing to copy from: an empty enum, so that nothing is decoded. */
  json_t *schema =
      json_loads("{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"$comment\":\"copied\"},"
                 "\"b\":{\"type\":\"string\",\"$comment\":\"copied\"}},\"required\":[\"a\"]}",
                 0, NULL);
  json_auto_t *bound = choir_spans_bind(schema, "\"", NULL, NULL, FALSE);
  g_assert_null(choir_call_grammar(bound, FALSE, NULL));
  g_assert_cmpuint(json_object_size(json_object_get(bound, "properties")), ==, 1);
  json_auto_t *many = choir_spans(flood->str, 200);
  g_assert_cmpuint(json_array_size(many), <=, 250);
}

int main(int argc, char **argv) {
  alarm(150);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/steps/one-call", test_one_call);
  g_test_add_func("/steps/ordinary-talk", test_ordinary_talk);
  g_test_add_func("/steps/tool-error", test_tool_error);
  g_test_add_func("/steps/repair", test_repair);
  g_test_add_func("/steps/repairs-end", test_repairs_end);
  g_test_add_func("/steps/loop", test_loop);
  g_test_add_func("/steps/refused", test_refused);
  g_test_add_func("/steps/cancel-deciding", test_cancel_deciding);
  g_test_add_func("/steps/cancel-tool", test_cancel_tool);
  g_test_add_func("/steps/cancel-finished", test_cancel_finished);
  g_test_add_func("/steps/limit", test_limit);
  g_test_add_func("/steps/numbers", test_numbers);
  g_test_add_func("/steps/spans", test_spans);
  return g_test_run();
}
