/* A sub-agent: the running agent's own steps, with a budget and some of the tools. */
#include "tools/boxed.h"
#include "tools/schema.h"
#include "tools/tools.h"

#define STEPS 8
/* What looks, and what stays in the sandbox or asks; not what acts on other machines, and not itself. */
#define TOOLS "shell code_runner term_everything git rag web_browser clock mcp summarizer"

/* Its parts were shown as they came. */
static void on_done(const char *answer, const GError *error, gpointer user) {
  choir_tool_call_done(user, FALSE, error ? g_error_copy(error) : NULL);
}

static void run(ChoirToolCall *call) {
  const ChoirToolAgent *agent = &choir_tool_call_house(call)->agent;
  if (!agent->delegate) {
    tool_fail(call, CHOIR_TOOL_ERROR_UNAVAILABLE, "there is no sub-agent here; ask for one step after the other");
    return;
  }
  agent->delegate(call, choir_tool_call_string(call, "task_description", ""), TOOLS, STEPS, on_done, call);
}

static const ChoirToolSink sinks[] = {{"task_description", CHOIR_SINK_SHELL}, {NULL, 0}};
static const ChoirToolShot shots[] = {{"do this task in several steps: list the folder letters, then tell me the time",
                                       "{\"task_description\": \"list the folder letters, then tell me the time\"}"},
                                      {"give the sub-agent the task to count the files here and then run whoami",
                                       "{\"task_description\": \"count the files here and then run whoami\"}"},
                                      {"work through it step by step: show the git status of garden, then run date",
                                       "{\"task_description\": \"show the git status of garden, then run date\"}"},
                                      {NULL, NULL}};
static const ChoirToolAction actions[] = {
    {.name = "run",
     .help = "Do a task in several steps, one after the other.",
     .class = CHOIR_CLASS_LOCAL,
     .schema = TOOL_OBJECT(TOOL_COPIED("task_description", 1000, "the task"), "\"task_description\""),
     .sinks = sinks,
     .timeout_s = 600,
     .shots = shots,
     .run = run},
};

const ChoirTool choir_tool_smol_agent_computer = {.id = "smol_agent_computer",
                                                  .title = "Sub-agent",
                                                  .help = "Does a task in several steps, with some of the tools.",
                                                  .actions = actions,
                                                  .n_actions = G_N_ELEMENTS(actions)};
