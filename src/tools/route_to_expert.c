/* Questions for another model of the house, which its persona makes an expert. The answer streams into the turn. */
#include <string.h>
#include "base/text.h"
#include "cluster/ask.h"
#include "cluster/route.h"
#include "tools/schema.h"
#include "tools/tools.h"

typedef struct {
  ChoirToolCall *call;
  ChoirAsk *ask; /* NULL: over */
  GCancellable *cancellable;
  gulong handler;
  guint idle;
} Question;

static void question_free(Question *question) {
  g_clear_handle_id(&question->idle, g_source_remove);
  if (question->handler)
    g_signal_handler_disconnect(question->cancellable, question->handler);
  g_object_unref(question->cancellable);
  g_free(question);
}

static void on_text(const char *text, gpointer user) {
  choir_tool_call_output(((Question *)user)->call, text, -1);
}

/* Between the words of the answer, but none of them. */
static void on_note(const char *text, gpointer user) {
  g_autofree char *line = g_strdup_printf(" (%s) ", text);
  choir_tool_call_output(((Question *)user)->call, line, -1);
}

static void on_done(const GError *error, gpointer user) {
  Question *question = user;
  ChoirToolCall *call = question->call;
  question_free(question);
  /* A model of the house, but what it says may repeat what a stranger wrote into the question. */
  choir_tool_call_done(call, FALSE,
                       error ? g_error_new_literal(CHOIR_TOOL_ERROR, CHOIR_TOOL_ERROR_FAILED, error->message) : NULL);
}

static gboolean stop(gpointer user) {
  Question *question = user;
  question->idle = 0;
  choir_ask_cancel(question->ask);
  g_autoptr(GError) error = g_error_new_literal(G_IO_ERROR, G_IO_ERROR_CANCELLED, "the expert was interrupted");
  on_done(error, question);
  return G_SOURCE_REMOVE;
}

static void on_cancelled(GCancellable *cancellable, gpointer user) {
  Question *question = user;
  if (question->idle == 0) /* it may be the answer's own words that are interrupted */
    question->idle = g_idle_add_full(G_PRIORITY_HIGH, stop, question, NULL);
}

static void run(ChoirToolCall *call) {
  static const ChoirAskHandlers handlers = {.text = on_text, .note = on_note, .done = on_done};
  const ChoirToolHouse *house = choir_tool_call_house(call);
  Question *question = g_new0(Question, 1);
  question->call = call;
  question->cancellable = g_object_ref(choir_tool_call_cancellable(call));
  question->handler = g_signal_connect(question->cancellable, "cancelled", G_CALLBACK(on_cancelled), question);
  ChoirAskRequest request = {
      .expert = choir_tool_call_string(call, "expert", ""),
      .query = choir_tool_call_string(call, "query", ""),
      .conversation = house->agent.conversation ? house->agent.conversation(house->agent.self) : 0,
      .max_tokens = house->config ? (guint)choir_config_int(house->config, "experts", "max_tokens") : 0};
  question->ask = choir_ask_begin(house->experts, &request, &handlers, question);
}

static gboolean available(const ChoirToolHouse *house, char **ret_reason, char **ret_remedy) {
  if (choir_experts_count(house->experts) > 0)
    return TRUE;
  g_auto(GStrv) problems = house->experts ? choir_experts_problems(house->experts) : NULL;
  *ret_reason = g_strdup(problems && problems[0] ? problems[0] : "no expert is known");
  *ret_remedy = g_strdup("name experts under [experts] list, or Consul's address under [cluster] consul_url");
  return FALSE;
}

static json_t *choices(const ChoirToolHouse *house, const char *argument) {
  if (!house->experts || strcmp(argument, "expert") != 0 || choir_experts_count(house->experts) == 0)
    return NULL;
  return choir_experts_names(house->experts);
}

static char *describe(const ChoirToolHouse *house, const char *argument) {
  if (strcmp(argument, "expert") != 0 || choir_experts_count(house->experts) == 0)
    return NULL;
  return choir_experts_summary(house->experts);
}

static double like(const ChoirToolHouse *house, const char *text) {
  ChoirRoute route;
  if (choir_experts_count(house->experts) == 0)
    return 0;
  choir_experts_route(house->experts, text, &route);
  double likeness = route.likeness;
  choir_route_clear(&route);
  return likeness;
}

static char *fill(const ChoirToolHouse *house, const char *text) {
  ChoirRoute route;
  if (choir_experts_count(house->experts) == 0)
    return NULL;
  choir_experts_route(house->experts, text, &route);
  char *args = NULL;
  if (route.expert) {
    json_auto_t *json = json_pack("{s:s,s:s}", "expert", route.expert, "query", route.query);
    args = choir_json_dump(json);
  }
  choir_route_clear(&route);
  return args;
}

static void add_other(const char *id, const char *example, gpointer user) {
  choir_experts_add_other(user, id, example);
}

/* What is for a tool is for no expert. */
static gpointer open_tool(const ChoirToolHouse *house) {
  if (house->experts)
    choir_tools_each_example(add_other, house->experts);
  return house->experts;
}

static const ChoirToolAction actions[] = {
    {.name = "ask",
     .help = "Hand a question to an expert model, when it is about what that expert knows best.",
     .schema = TOOL_OBJECT(TOOL_TEXT("expert", 40, "which expert") "," TOOL_COPIED("query", 10000, "the question"),
                           "\"expert\",\"query\""),
     .timeout_s = 300,
     .choices = choices,
     .describe = describe,
     .like = like,
     .fill = fill,
     .answers = TRUE,
     .run = run},
};

const ChoirTool choir_tool_route_to_expert = {.id = "route_to_expert",
                                              .title = "Experts",
                                              .help = "Asks an expert of the house and gives its answer.",
                                              .actions = actions,
                                              .n_actions = G_N_ELEMENTS(actions),
                                              .available = available,
                                              .at_start = TRUE,
                                              .open = open_tool};
