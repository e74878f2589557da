/* The steps of a turn against a scripted model: a call, tool errors, repairs, the loop detector, the limit of time,
 * cancelling in every phase. And the pure parts: numbers, spans, likeness. */
#include <string.h>
#include <unistd.h>
#include "agent/align.h"
#include "agent/gist.h"
#include "agent/decide.h"
#include "agent/call_grammar.h"
#include "agent/numbers.h"
#include "agent/spans.h"
#include "agent/steps.h"
#include "base/text.h"
#include "house.h"

/* --- a llama-server that completes what the script says, the last line again and again; NULL hangs */
typedef struct {
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

/* What a stranger wrote: a list of files, a page. */
static void run_list(ChoirToolCall *call) {
  g_string_append(ran, "list;");
  for (guint i = 1; i <= 40; i++) {
    g_autofree char *line = g_strdup_printf("file%u.conf\n", i);
    choir_tool_call_output(call, line, -1);
  }
  choir_tool_call_done(call, FALSE, NULL);
}

static char *gist_of_page(const json_t *args, const char *output) {
  return g_strdup_printf("The page has %zu bytes.", strlen(output));
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
static const ChoirToolShot list_shots[] = {{"enumerate all drawers of the cupboard", "{\"text\":\"ls cupboard\"}"},
                                           {NULL, NULL}};
static const char *const page_examples[] = {"browse through the old almanac", "drawer 5, 5", "5, 5", NULL};
static const char *const picky_examples[] = {"paint the fence red or blue", NULL};
static const ChoirToolAction actions[] = {
    {.name = "say", .help = "Shouts.", .schema = OBJECT(FREE, "\"text\""), .shots = say_shots, .run = run_say},
    {.name = "pump", .help = "Pumps.", .schema = OBJECT("", ""), .examples = fail_examples, .run = run_fail},
    {.name = "paint",
     .help = "Paints.",
     .schema = OBJECT(COPIED, "\"text\""),
     .examples = picky_examples,
     .run = run_picky},
    {.name = "enumerate",
     .help = "Enumerates the drawers.",
     .schema = OBJECT(FREE, "\"text\""),
     .shots = list_shots,
     .about = "text",
     .run = run_list},
    {.name = "page",
     .help = "Browses the almanac.",
     .schema = OBJECT("", ""),
     .examples = page_examples,
     .gist = gist_of_page,
     .run = run_list},
    {.name = "dig", .help = "Digs.", .schema = OBJECT("", ""), .examples = slow_examples, .run = run_slow},
};
static const ChoirTool test_tool = {
    .id = "test", .title = "Test", .help = "a test", .actions = actions, .n_actions = G_N_ELEMENTS(actions)};
static const ChoirTool *const tools[] = {&test_tool, NULL};

static Model model;

static House *open_house(const char *const *script) {
  model = (Model){.script = script,
                  .prompts = g_ptr_array_new_with_free_func(g_free),
                  .grammars = g_ptr_array_new_with_free_func(g_free)};
  ran = g_string_new(NULL);
  cancelled = FALSE;
  return house_with_model(tools, on_request, &model, NULL);
}

static void close_house(House *house) {
  house_free(house);
  g_ptr_array_unref(model.prompts);
  g_ptr_array_unref(model.grammars);
  g_string_free(ran, TRUE);
}

static void test_one_call(void) {
  static const char *const script[] = {" \"hooray\"}", NULL};
  House *house = open_house(script);
  house_begin(house, "shout something out loud");
  house_spin(house, 20);
  g_assert_cmpstr(house->answer, ==, "hooray");
  g_assert_cmpstr(ran->str, ==, "say hooray;");
  g_assert_cmpuint(model.prompts->len, ==, 1);
  /* The nearest example stands before what was said, and free text of a small model is short. */
  g_assert_nonnull(strstr(model.prompts->pdata[0], "Said: shout something out loud\nJSON: {\"text\":\"something\"}"));
  g_assert_nonnull(strstr(model.grammars->pdata[0], "char{1,48}"));
  close_house(house);
}

static void test_ordinary_talk(void) {
  static const char *const script[] = {"hang", NULL};
  House *house = open_house(script);
  g_assert_false(choir_steps_wanted(house->shortlist, "why is snow white"));
  g_assert_true(choir_steps_wanted(house->shortlist, "dig a long tunnel"));
  house_begin(house, "why is snow white");
  house_spin(house, 20);
  g_assert_true(house->done);
  g_assert_null(house->answer);
  g_assert_null(house->notes);
  g_assert_cmpuint(model.prompts->len, ==, 0);
  close_house(house);
}

/* Numbers alone are no order, whatever examples hold numbers. */
static void test_numbers_only(void) {
  static const char *const none[] = {"5, 5", "17", "3.14", "10:30", " 7 8 9 ", "-1"};
  static const char *const script[] = {"hang", NULL};
  House *house = open_house(script);
  ChoirShortlistEntry best;
  for (guint i = 0; i < G_N_ELEMENTS(none); i++) {
    g_assert_false(choir_decide_near(house->shortlist, none[i]));
    g_assert_false(choir_decide_wanted(house->shortlist, none[i]));
  }
  /* The list alone would take one of them: the rule is not idle. */
  g_assert_cmpuint(choir_shortlist_find(house->shortlist, "5, 5", &best, 1), ==, 1);
  g_assert_cmpfloat(best.words, >, 0.5);
  g_assert_true(choir_decide_wanted(house->shortlist, "drawer 5, 5"));
  house_begin(house, "5, 5");
  house_spin(house, 20);
  g_assert_true(house->done);
  g_assert_null(house->answer);
  g_assert_cmpstr(ran->str, ==, "");
  close_house(house);
}

static void test_tool_error(void) {
  static const char *const script[] = {"hang", NULL};
  House *house = open_house(script);
  house_begin(house, "start the garden pump");
  house_spin(house, 20);
  g_assert_cmpstr(house->answer, ==, "the pump is dry");
  close_house(house);
}

/* Refused arguments are not offered again; what then fits is called. */
static void test_repair(void) {
  static const char *const script[] = {" \"red\"}", " \"blue\"}", NULL};
  House *house = open_house(script);
  house_begin(house, "paint the fence red or blue");
  house_spin(house, 20);
  g_assert_cmpstr(ran->str, ==, "picky red;picky blue;");
  g_assert_cmpstr(house->answer, ==, "Done.");
  g_assert_nonnull(strstr(model.grammars->pdata[0], "\"\\\"red\\\"\""));
  g_assert_null(strstr(model.grammars->pdata[1], "\"\\\"red\\\"\""));
  close_house(house);
}

static void test_repairs_end(void) {
  static const char *const script[] = {" \"red\"}", " \"fence\"}", " \"paint\"}", " \"fence red\"}", NULL};
  House *house = open_house(script);
  house_begin(house, "paint the fence red or blue");
  house_spin(house, 20);
  g_assert_cmpstr(ran->str, ==, "picky red;picky fence;picky paint;"); /* two repairs */
  g_assert_cmpstr(house->answer, ==, "\"paint\" is no colour");
  close_house(house);
}

/* Long output of a stranger: shown as a whole, and said in a sentence made of nothing else; a small model never reads
 * it. */
static void test_output_is_answer(void) {
  static const char *const script[] = {" \"ls cupboard\"}", NULL};
  House *house = open_house(script);
  house->watched = TRUE;
  house_begin(house, "enumerate all drawers of the cupboard");
  house_spin(house, 20);
  g_assert_cmpstr(house->answer, ==,
                  "ls cupboard put out 40 lines; the first are file1.conf, file2.conf and file3.conf.");
  g_assert_null(house->notes);
  g_assert_true(g_str_has_prefix(house->output->str, "file1.conf\n"));
  g_assert_true(g_str_has_suffix(house->output->str, "file40.conf\n"));
  g_assert_cmpuint(model.prompts->len, ==, 1); /* its arguments */
  close_house(house);
  /* A tool that knows better what to say of it. */
  house = open_house(script);
  house->watched = TRUE;
  house_begin(house, "browse through the old almanac");
  house_spin(house, 20);
  g_assert_true(g_str_has_prefix(house->answer, "The page has "));
  g_assert_cmpuint(model.prompts->len, ==, 0);
  close_house(house);
  /* Nobody sees it: whoever asked is told. */
  house = open_house(script);
  house_begin(house, "browse through the old almanac");
  house_spin(house, 20);
  g_assert_null(house->answer);
  g_assert_nonnull(strstr(house->notes, "file3.conf"));
  close_house(house);
}

static void test_gist(void) {
  static const struct {
    const char *about, *text;
    gboolean cut;
    const char *gist;
  } rows[] = {
      {"uname -r", "6.1.0-18\n", FALSE, "uname -r says: 6.1.0-18"},
      {NULL, "", FALSE, "It put out nothing."},
      {"true", "\n \n", FALSE, "true put out nothing."},
      {"ls x", "ls: x: No such file\n\n(exit code 2)", FALSE, "ls x says: ls: x: No such file (exit code 2)"},
      {"false", "\n(exit code 1)", FALSE, "false put out nothing. (exit code 1)"},
      {NULL, "a\nb\nc\nd\n", FALSE, "It put out 4 lines; the first are a, b and c."},
      {NULL, "a\nb\n", TRUE, "It put out more than 2 lines; the first are a and b."},
      {NULL, "a\nb\nc\nd\n\n(exit code 3)\n", FALSE, "It put out 4 lines; the first are a, b and c. (exit code 3)"},
      {NULL, "(all in brackets)", FALSE, "It put out nothing. (all in brackets)"},
  };
  for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_autofree char *gist = choir_gist(rows[i].about, rows[i].text, rows[i].cut);
    g_assert_cmpstr(gist, ==, rows[i].gist);
  }
  g_autofree char *one = g_strnfill(900, 'x'), *gist = choir_gist(NULL, one, FALSE);
  g_assert_true(g_str_has_prefix(gist, "It put out 1 lines; the first is xxx"));
  g_assert_cmpuint(strlen(gist), <, 120);
}

/* A model that says the same again, whatever the grammar: it is none of the words that are left. */
static void test_loop(void) {
  static const char *const script[] = {" \"fence\"}", NULL};
  House *house = open_house(script);
  house_begin(house, "paint the fence red or blue");
  house_spin(house, 20);
  g_assert_true(house->done);
  g_assert_cmpstr(ran->str, ==, "picky fence;");
  close_house(house);
}

/* What is no JSON of the schema, or comes from a server that takes no grammar, is never a call. */
static void test_refused(void) {
  static const char *const scripts[][2] = {
      {" 7}", NULL},       {" \"\"}", NULL}, {" \"a", NULL}, {" \"a\", \"b\": 1}", NULL}, {"shout something", NULL},
      {" \"fine\"}", NULL}};
  for (guint i = 0; i < G_N_ELEMENTS(scripts); i++) {
    House *house = open_house(scripts[i]);
    model.no_grammar = i == G_N_ELEMENTS(scripts) - 1;
    house_begin(house, "shout something out loud");
    house_spin(house, 20);
    g_assert_true(house->done);
    g_assert_nonnull(strstr(house->answer, "I did nothing")); /* and no answer about something else */
    g_assert_null(house->notes);
    g_assert_cmpstr(ran->str, ==, "");
    close_house(house);
  }
}

static void test_cancel_deciding(void) {
  static const char *const script[] = {"hang", NULL};
  House *house = open_house(script);
  for (guint waits = 0; waits < 2; waits++) { /* before anything was sent, and while the model thinks */
    ChoirSteps *steps = house_begin(house, "shout something out loud");
    while (waits && !model.waiting)
      g_main_context_iteration(NULL, TRUE);
    gint64 from = g_get_monotonic_time();
    choir_steps_cancel(steps);
    g_assert_cmpint(g_get_monotonic_time() - from, <, G_USEC_PER_SEC);
  }
  /* What the model says after that is heard by nobody. */
  reply(model.waiting, 200, json_pack("{s:s}", "content", " \"late\"}"));
  soup_server_message_unpause(model.waiting);
  model.waiting = NULL;
  for (guint i = 0; i < 10; i++)
    g_main_context_iteration(NULL, TRUE);
  g_assert_false(house->done);
  g_assert_cmpstr(ran->str, ==, "");
  close_house(house);
}

static void test_cancel_tool(void) {
  static const char *const script[] = {"hang", NULL};
  House *house = open_house(script);
  ChoirSteps *steps = house_begin(house, "dig a long tunnel");
  while (!strstr(ran->str, "slow;"))
    g_main_context_iteration(NULL, TRUE);
  choir_steps_cancel(steps);
  while (!cancelled)
    g_main_context_iteration(NULL, TRUE);
  g_assert_false(house->done);
  close_house(house);
}

static void test_cancel_finished(void) {
  static const char *const script[] = {"hang", NULL};
  House *house = open_house(script);
  choir_steps_cancel(house_begin(house, "why is snow white")); /* done was already on its way */
  for (guint i = 0; i < 20; i++)
    g_main_context_iteration(NULL, FALSE);
  g_assert_false(house->done);
  close_house(house);
}

/* A model that never answers: the person is told so. */
static void test_limit(void) {
  static const char *const script[] = {"hang", NULL};
  House *house = open_house(script);
  house_begin(house, "shout something out loud");
  house_spin(house, 60);
  g_assert_true(house->done);
  g_assert_nonnull(strstr(house->answer, "not find out in time"));
  g_assert_nonnull(strstr(house->answer, "I did nothing"));
  g_assert_null(house->notes);
  g_assert_cmpstr(ran->str, ==, "");
  close_house(house);
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
  /* Nothing in it stands alone: all of it, where it must be; no grammar is too large for its bytes. */
  json_t *schema =
      json_loads("{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"$comment\":\"copied\"},"
                 "\"b\":{\"type\":\"string\",\"$comment\":\"copied\"}},\"required\":[\"a\"]}",
                 0, NULL);
  json_auto_t *bound = choir_spans_bind(schema, "\"", NULL, NULL, FALSE);
  g_autofree char *rules = choir_call_grammar(bound, CHOIR_CALL_WIDE, NULL);
  g_assert_nonnull(rules);
  json_t *a = json_object_get(json_object_get(json_object_get(bound, "properties"), "a"), "enum");
  g_assert_true(json_array_size(a) == 1 && has(a, "\""));
  g_assert_cmpuint(json_object_size(json_object_get(bound, "properties")), ==, 1);
  json_auto_t *many = choir_spans(flood->str, 200);
  g_assert_cmpuint(json_array_size(many), <=, 250);
  g_autoptr(GString) quotes = g_string_new(NULL);
  for (guint i = 0; i < 40; i++)
    g_string_append_printf(quotes, "w%u\\\\\\\\\\\\\\\\\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"w ", i);
  json_t *three = json_loads("{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"$comment\":\"copied\"},"
                             "\"b\":{\"type\":\"string\",\"$comment\":\"copied\"},"
                             "\"c\":{\"type\":\"string\",\"$comment\":\"copied\"}},\"required\":[\"a\",\"b\",\"c\"]}",
                             0, NULL);
  json_auto_t *large = choir_spans_bind(three, quotes->str, NULL, NULL, FALSE);
  g_autoptr(GError) error = NULL;
  g_autofree char *largest = choir_call_grammar(large, CHOIR_CALL_PLAIN, &error);
  g_assert_no_error(error);
  g_assert_cmpuint(strlen(largest), >, 16 * 1024);
}

/* What stays of a text's spans for an argument, joined. */
static char *aligned(const char *text, const char *key, const ChoirToolShot *shots) {
  json_auto_t *spans = choir_spans(text, 200);
  json_auto_t *kept = choir_align(spans, key, text, shots);
  g_autoptr(GPtrArray) words = g_ptr_array_new();
  for (size_t i = 0; i < json_array_size(kept); i++)
    g_ptr_array_add(words, (gpointer)json_string_value(json_array_get(kept, i)));
  g_ptr_array_add(words, NULL);
  return g_strjoinv("|", (char **)words->pdata);
}

/* Arguments stand between the same neighbours as in the examples. */
static void test_align(void) {
  static const ChoirToolShot shots[] = {
      {"paint the fence of the house red", "{\"what\": \"fence\", \"colour\": \"red\"}"},
      {"give the wall a blue coat in ten minutes",
       "{\"what\": \"wall\", \"colour\": \"blue\", \"when\": \"in ten minutes\"}"},
      {"brighten it up", "{\"what\": \"everything\"}"}, /* no words of its text: tells nothing */
      {NULL, NULL}};
  g_autofree char *what = aligned("paint the door of the barn green", "what", shots),
                  *colour = aligned("please paint the door of the house green", "colour", shots),
                  *when = aligned("give the door a pink coat in 20 minutes please", "when", shots),
                  *unknown = aligned("red or blue", "other", shots);
  g_assert_cmpstr(what, ==, "door");
  g_assert_cmpstr(colour, ==, "green");
  g_assert_true(g_str_has_prefix(when, "in 20 minutes"));
  g_assert_cmpstr(unknown, ==, "red|blue|red or blue"); /* no example says anything */
  g_assert_true(choir_align_is_copied(&shots[0], "what"));
  g_assert_false(choir_align_is_copied(&shots[0], "when"));
  g_assert_false(choir_align_is_copied(&shots[2], "what"));
  json_auto_t *choices = json_loads("[\"playbook.yaml\",\"heal.yaml\",\"tall heal.yaml\",7]", 0, NULL);
  json_auto_t *said = choir_align_said(choices, "Run \"Heal.yaml\", please."),
              *longer = choir_align_said(choices, "tall heal.yaml"),
              *none = choir_align_said(choices, "run my_playbook.yaml");
  g_assert_cmpuint(json_array_size(said), ==, 1);
  g_assert_cmpstr(json_string_value(json_array_get(said, 0)), ==, "heal.yaml");
  g_assert_cmpuint(json_array_size(longer), ==, 1);
  g_assert_cmpstr(json_string_value(json_array_get(longer, 0)), ==, "tall heal.yaml");
  g_assert_cmpuint(json_array_size(none), ==, 4);
  g_autofree char *nothing = aligned("\"", "what", shots);
  g_assert_cmpstr(nothing, ==, "");
}

int main(int argc, char **argv) {
  alarm(150);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/steps/one-call", test_one_call);
  g_test_add_func("/steps/ordinary-talk", test_ordinary_talk);
  g_test_add_func("/steps/tool-error", test_tool_error);
  g_test_add_func("/steps/numbers-only", test_numbers_only);
  g_test_add_func("/steps/output-is-answer", test_output_is_answer);
  g_test_add_func("/steps/gist", test_gist);
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
  g_test_add_func("/steps/align", test_align);
  return g_test_run();
}
