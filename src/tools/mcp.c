/* The original's "Master Control Program": the agent about itself. Nothing to do with the protocol of the same letters.
 */
#include "tools/schema.h"
#include "tools/tools.h"

static void tell(ChoirToolCall *call, char *(*what)(gpointer self)) {
  const ChoirToolAgent *agent = &choir_tool_call_house(call)->agent;
  g_autofree char *text = what(agent->self);
  choir_tool_call_output(call, text, -1);
  choir_tool_call_done(call, TRUE, NULL);
}

static void get_status(ChoirToolCall *call) {
  tell(call, choir_tool_call_house(call)->agent.status);
}

static void get_memory_summary(ChoirToolCall *call) {
  tell(call, choir_tool_call_house(call)->agent.memory_summary);
}

static void clear_short_term_memory(ChoirToolCall *call) {
  const ChoirToolAgent *agent = &choir_tool_call_house(call)->agent;
  agent->clear_short_term(agent->self);
  choir_tool_call_output(call, "A new conversation begins; the old one stays in the list.", -1);
  choir_tool_call_done(call, TRUE, NULL);
}

static const char *const status_examples[] = {"what is your status",
                                              "is everything running",
                                              "are all parts of you working",
                                              "system status please",
                                              "report your status",
                                              "are you working properly",
                                              "is something wrong with you",
                                              "how is the system doing",
                                              "is everything up",
                                              "are your parts healthy",
                                              "which of your services run",
                                              "self check please",
                                              "is the speech recognition running",
                                              NULL};
static const char *const memory_examples[] = {"what do you remember",
                                              "how much is in your memory",
                                              "give me a summary of your memory",
                                              "how many talks have you kept",
                                              "what is stored in your memory",
                                              "memory summary",
                                              "what do you keep about our conversations",
                                              NULL};
static const char *const clear_examples[] = {"forget this conversation",
                                             "let us start over",
                                             "clear your short term memory",
                                             "begin a new conversation",
                                             "delete this chat",
                                             "forget what we talked about",
                                             "start again from zero",
                                             "erase our conversation",
                                             "new chat please",
                                             NULL};

static const ChoirToolAction actions[] = {
    {.name = "get_status",
     .help = "Say how the parts of the assistant are doing.",
     .schema = TOOL_NOTHING,
     .examples = status_examples,
     .run = get_status},
    {.name = "get_memory_summary",
     .help = "Say what is kept in memory, and how much.",
     .schema = TOOL_NOTHING,
     .examples = memory_examples,
     .run = get_memory_summary},
    {.name = "clear_short_term_memory",
     .help = "Begin a new conversation without what was said before.",
     .schema = TOOL_NOTHING,
     .class = CHOIR_CLASS_LOCAL,
     .examples = clear_examples,
     .run = clear_short_term_memory},
};

const ChoirTool choir_tool_mcp = {.id = "mcp",
                                  .title = "Master control",
                                  .help = "The assistant's own state and memory.",
                                  .actions = actions,
                                  .n_actions = G_N_ELEMENTS(actions)};
