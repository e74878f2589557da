/* Tools whose work needs something that is not there yet. They are listed, say what is missing, and stop nobody. */
#include "tools/schema.h"
#include "tools/tools.h"

static void run(ChoirToolCall *call) {
  choir_tool_call_done(
      call, TRUE, g_error_new_literal(CHOIR_TOOL_ERROR, CHOIR_TOOL_ERROR_UNAVAILABLE, "this tool is not available"));
}

#define LATER(ID, TITLE, HELP, REASON, REMEDY, ...)                                                                    \
  static gboolean ID##_available(const ChoirToolHouse *house, char **ret_reason, char **ret_remedy) {                  \
    *ret_reason = g_strdup(REASON);                                                                                    \
    *ret_remedy = g_strdup(REMEDY);                                                                                    \
    return FALSE;                                                                                                      \
  }                                                                                                                    \
  static const ChoirToolAction ID##_actions[] = {__VA_ARGS__};                                                         \
  const ChoirTool choir_tool_##ID = {.id = #ID,                                                                        \
                                     .title = TITLE,                                                                   \
                                     .help = HELP,                                                                     \
                                     .actions = ID##_actions,                                                          \
                                     .n_actions = G_N_ELEMENTS(ID##_actions),                                          \
                                     .available = ID##_available}

LATER(vision, "Vision", "Says what a camera sees.", "this version of Choir does not look through a camera",
      "describe what is there in words",
      {.name = "get_observation", .help = "Say what the camera sees now.", .schema = TOOL_NOTHING, .run = run});

LATER(desktop_control, "Desktop", "Looks at a desktop, clicks and types there.",
      "this version of Choir does not drive a desktop", "use the web_browser or term_everything tool",
      {.name = "get_desktop_screenshot", .help = "Take a picture of the desktop.", .schema = TOOL_NOTHING, .run = run},
      {.name = "click_at",
       .help = "Click at a place on the desktop.",
       .class = CHOIR_CLASS_CHANGE,
       .schema = TOOL_OBJECT(
           TOOL_INTEGER("x", 0, 16383, "pixels from the left") "," TOOL_INTEGER("y", 0, 16383, "pixels from the top"),
           "\"x\",\"y\""),
       .run = run},
      {.name = "type_text",
       .help = "Type text on the desktop.",
       .class = CHOIR_CLASS_CHANGE,
       .schema = TOOL_OBJECT(TOOL_TEXT("text", 1000, "what to type"), "\"text\""),
       .run = run});

LATER(power, "Power", "Says after how much quiet a service may sleep.", "this machine is not part of a cluster",
      "set up a cluster with bootstrap.sh",
      {.name = "set_idle_threshold",
       .help = "Set after how many quiet seconds a service goes to sleep.",
       .class = CHOIR_CLASS_CHANGE,
       .schema = TOOL_OBJECT(TOOL_INTEGER("service_port", 1, 65535, "port of the service") "," TOOL_INTEGER(
                                 "idle_seconds", 10, 604800, "quiet seconds"),
                             "\"service_port\",\"idle_seconds\""),
       .run = run});

LATER(ha, "Home Assistant", "Asks Home Assistant to do something in the house.", "no Home Assistant is set up",
      "a later version of Choir will take its address and token",
      {.name = "call_ai_task",
       .help = "Ask Home Assistant to do something.",
       .class = CHOIR_CLASS_CHANGE,
       .schema = TOOL_OBJECT(TOOL_TEXT("instructions", 1000, "what Home Assistant should do"), "\"instructions\""),
       .run = run});

LATER(
    orchestrator, "Orchestrator", "Starts a job of the cluster.", "this machine is not part of a cluster",
    "set up a cluster with bootstrap.sh",
    {.name = "dispatch_job",
     .help = "Start a batch job with a model and a prompt.",
     .class = CHOIR_CLASS_CHANGE,
     .schema = TOOL_OBJECT(
         TOOL_TEXT("model_name", 128, "name of the model") "," TOOL_TEXT("prompt", 4000, "the prompt") "," TOOL_INTEGER(
             "cpu", 100, 64000, "MHz") "," TOOL_INTEGER("memory", 64, 65536, "MB") "," TOOL_INTEGER("gpu_count", 0, 8,
                                                                                                    "graphics cards"),
         "\"model_name\",\"prompt\""),
     .run = run});

LATER(llxprt_code, "LLxprt Code", "Runs the LLxprt coding assistant.", "the program llxprt is not set up here",
      "a later version of Choir will use it",
      {.name = "run",
       .help = "Run the LLxprt coding assistant with a command.",
       .class = CHOIR_CLASS_CHANGE,
       .schema = TOOL_OBJECT(TOOL_TEXT("command", 2000, "what it should do"), "\"command\""),
       .run = run});

LATER(claude_clone, "Claude clone", "Explains, reports, generates and tests code.",
      "the program claude_clone is not set up here", "a later version of Choir will use it",
      {.name = "explain",
       .help = "Explain source files.",
       .schema = TOOL_OBJECT(TOOL_TEXT("files", 1000, "paths"), "\"files\""),
       .run = run},
      {.name = "report", .help = "Report on the project.", .schema = TOOL_NOTHING, .run = run},
      {.name = "generate",
       .help = "Generate a source file.",
       .class = CHOIR_CLASS_CHANGE,
       .schema = TOOL_OBJECT(TOOL_TEXT("type", 64, "kind of file") "," TOOL_TEXT(
                                 "prompt", 2000, "what it should do") "," TOOL_TEXT("output", 500, "path to write"),
                             "\"type\",\"prompt\",\"output\""),
       .run = run},
      {.name = "test",
       .help = "Generate a test for a function.",
       .class = CHOIR_CLASS_CHANGE,
       .schema =
           TOOL_OBJECT(TOOL_TEXT("file", 500, "path") "," TOOL_TEXT("symbol", 200, "function to test") "," TOOL_TEXT(
                           "framework", 64, "test framework") "," TOOL_TEXT("output", 500, "path to write"),
                       "\"file\",\"symbol\""),
       .run = run});
