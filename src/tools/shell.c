#include "tools/boxed.h"
#include "tools/host_session.h"
#include "tools/schema.h"
#include "tools/tools.h"

static gpointer open_shell(const ChoirToolHouse *house) {
  return host_session_new(house->work_dir);
}

static void close_shell(gpointer state) {
  host_session_free(state);
}

static void execute_command(ChoirToolCall *call) {
  const char *command = choir_tool_call_string(call, "command", "");
  if (choir_tool_call_on_host(call)) {
    host_session_run(choir_tool_call_state(call), call, command);
    return;
  }
  const char *argv[] = {"bash", "-c", command, NULL};
  tool_boxed_run(call, &(ToolBoxed){.argv = argv, .seconds = (guint)choir_tool_call_integer(call, "timeout", 30)});
}

static const ChoirToolSink sinks[] = {{"command", CHOIR_SINK_SHELL}, {NULL, 0}};
static const char *const examples[] = {
    "list the files in etc",        "how much disk space is free", "show the running processes", "run uname",
    "count the lines of that file", "which kernel is this",        "run the command date",       NULL};
static const ChoirToolAction actions[] = {
    {.name = "execute_command",
     .help = "Run a shell command on this machine.",
     .class = CHOIR_CLASS_LOCAL,
     .schema = TOOL_OBJECT(
         TOOL_TEXT("command", 2000, "the command line") "," TOOL_INTEGER(
             "timeout", 1, 600,
             "seconds it may take") "," TOOL_FLAG("host", "outside the sandbox, where it really changes files"),
         "\"command\""),
     .sinks = sinks,
     .timeout_s = 605,
     .examples = examples,
     .run = execute_command},
};

const ChoirTool choir_tool_shell = {.id = "shell",
                                    .title = "Shell",
                                    .help = "Runs commands in the sandbox, or on the machine when a person says yes.",
                                    .actions = actions,
                                    .n_actions = G_N_ELEMENTS(actions),
                                    .available = tool_boxed_available,
                                    .open = open_shell,
                                    .close = close_shell};
