#include "tools/schema.h"
#include "tools/tools.h"

/* The loop ends when it sees this call; what it says is the answer. */
static void submit(ChoirToolCall *call) {
  choir_tool_call_output(call, choir_tool_call_string(call, "summary", ""), -1);
  choir_tool_call_done(call, FALSE, NULL); /* a summary of strangers' text is a stranger's text */
}

static const ChoirToolAction actions[] = {
    {.name = "submit_task",
     .help = "Finish with the answer for the person.",
     .schema = TOOL_OBJECT(TOOL_TEXT("summary", 2000, "the answer"), "\"summary\""),
     .run = submit},
};

const ChoirTool choir_tool_final_answer = {.id = "final_answer",
                                           .title = "Final answer",
                                           .help = "Ends a task with an answer.",
                                           .actions = actions,
                                           .n_actions = G_N_ELEMENTS(actions)};
