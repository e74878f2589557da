/* From one sentence to a plan in three passes of the model: what is wanted, what it takes, in which steps. */
#include <string.h>
#include "tools/schema.h"
#include "tools/tools.h"

#define PASS_TOKENS 300

typedef struct {
  ChoirToolCall *call;
  guint pass;
  GString *so_far;
} Plan;

static const struct {
  const char *title, *system;
} passes[] = {
    {"One page", "You turn an idea into a short description: who needs it, what it does, when it is good enough."},
    {"Specification", "You turn a description into a specification: parts, inputs, outputs, failures. Be short."},
    {"Plan", "You turn a specification into numbered steps that can each be done and checked. Be short."},
};

static void next(Plan *plan);

static void on_text(const char *text, const GError *error, gpointer user) {
  Plan *plan = user;
  if (error) {
    choir_tool_call_done(plan->call, FALSE, g_error_copy(error));
    g_string_free(plan->so_far, TRUE);
    g_free(plan);
    return;
  }
  g_autofree char *part = g_strdup_printf("%s%s\n\n%s\n", plan->pass ? "\n" : "", passes[plan->pass].title, text);
  choir_tool_call_output(plan->call, part, -1);
  g_string_assign(plan->so_far, text);
  plan->pass++;
  next(plan);
}

static void next(Plan *plan) {
  if (plan->pass == G_N_ELEMENTS(passes)) {
    choir_tool_call_done(plan->call, FALSE, NULL);
    g_string_free(plan->so_far, TRUE);
    g_free(plan);
    return;
  }
  const ChoirToolAgent *agent = &choir_tool_call_house(plan->call)->agent;
  agent->ask(agent->self, passes[plan->pass].system, plan->so_far->str, PASS_TOKENS,
             choir_tool_call_cancellable(plan->call), on_text, plan);
}

static void create_prompt_plan(ChoirToolCall *call) {
  Plan *plan = g_new0(Plan, 1);
  plan->call = call;
  plan->so_far = g_string_new(choir_tool_call_string(call, "user_input", ""));
  next(plan);
}

static const ChoirToolShot shots[] = {
    {"turn this idea into a plan: a lamp that wakes me", "{\"user_input\": \"a lamp that wakes me\"}"},
    {"make a prompt plan for a shopping list app", "{\"user_input\": \"a shopping list app\"}"},
    {"plan how to build a bird house counter", "{\"user_input\": \"a bird house counter\"}"},
    {"write a specification for a music quiz", "{\"user_input\": \"a music quiz\"}"},
    {"here is my idea, a diary for dogs, plan it", "{\"user_input\": \"a diary for dogs\"}"},
    {"create a plan for an online flower shop", "{\"user_input\": \"an online flower shop\"}"},
    {NULL, NULL}};
static const ChoirToolAction actions[] = {
    {.name = "create_prompt_plan",
     .help = "Turn an idea into a plan of steps.",
     .schema = TOOL_OBJECT(TOOL_COPIED("user_input", 2000, "the idea"), "\"user_input\""),
     .timeout_s = 300,
     .shots = shots,
     .run = create_prompt_plan},
};

const ChoirTool choir_tool_prompt_improver = {.id = "prompt_improver",
                                              .title = "Prompt improver",
                                              .help = "Makes a plan of an idea.",
                                              .actions = actions,
                                              .n_actions = G_N_ELEMENTS(actions)};
