#include <stdio.h>
#include <string.h>
#include "base/text.h"
#include "cli/cli.h"

#define NAME "tools"
#define CALL_MS (30 * 60 * 1000) /* a call may wait for its approval and then run */

static char *option_state;
static gboolean option_json, option_markdown;

static const GOptionEntry entries[] = {
    {"json", 0, 0, G_OPTION_ARG_NONE, &option_json, "print JSON", NULL},
    {"markdown", 0, 0, G_OPTION_ARG_NONE, &option_markdown, "print docs/tools.md", NULL},
    {"state", 's', 0, G_OPTION_ARG_FILENAME, &option_state, "state folder of the running daemon", "DIR"},
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "  list                 the tools, which of them are available and why others are not (the default)\n"
    "  call NAME.ACTION [JSON]   run one; what changes something waits for 'choir approve' or the page\n\n"
    "Examples:\n"
    "  choir tools\n"
    "  choir tools --json\n"
    "  choir tools call clock.get_time\n"
    "  choir tools call clock.set_timer '{\"duration\": \"10 minutes\"}'\n\n"
    "Exit codes: 0 done, 1 it failed (what to do is said), 2 wrong usage.\n";

static void print_list(const json_t *tools) {
  size_t i, k;
  json_t *tool, *action;
  json_array_foreach((json_t *)tools, i, tool) {
    gboolean there = choir_json_bool(tool, "available", FALSE);
    printf("%s%-20s%s %s%s%s\n", choir_cli_style(CHOIR_CLI_BOLD), choir_json_string(tool, "id", ""),
           choir_cli_style(CHOIR_CLI_PLAIN), choir_cli_style(there ? CHOIR_CLI_PLAIN : CHOIR_CLI_YELLOW),
           there ? choir_json_string(tool, "help", "") : choir_json_string(tool, "reason", ""),
           choir_cli_style(CHOIR_CLI_PLAIN));
    if (!there) {
      printf("%-20s %s\n", "", choir_json_string(tool, "remedy", ""));
      continue;
    }
    json_array_foreach(json_object_get(tool, "actions"), k, action)
        printf("  %s%-22s %-7s %s%s\n", choir_cli_style(CHOIR_CLI_DIM), choir_json_string(action, "name", ""),
               choir_json_string(action, "class", ""), choir_json_string(action, "help", ""),
               choir_cli_style(CHOIR_CLI_PLAIN));
  }
  printf("\nread: looks only; local: in the sandbox; change: asks first; fleet: asks every time.\n");
}

static void print_arguments(const json_t *schema) {
  const char *name;
  json_t *property;
  gsize n = 0;
  json_object_foreach(json_object_get(schema, "properties"), name, property)
      printf("%s`%s` %s", n++ ? "<br>" : "", name, choir_json_string(property, "description", ""));
  printf("%s", n ? "" : "none");
}

/* docs/tools.md. Availability is of one machine, so it is not in there. */
static void print_markdown(const json_t *tools) {
  size_t i, k;
  json_t *tool, *action;
  printf(
      "# Tools\n\nPrinted by `choir tools --markdown` from the tools' own table. `choir tools` says which are "
      "available on "
      "a machine, and why others\nare not.\n\n## Which tools ask for approval\n\nThe class of an action says it: "
      "**read** looks only and runs "
      "at once; **local** changes what the sandbox throws away, runs at\nonce and is logged; **change** asks first; "
      "**fleet** cannot be undone or is for the whole "
      "house, and asks every time. Text of a\nstranger (a web page, a tool's output, a recalled memory) in a command, "
      "a host, an address raises the class by one.\n\n");
  printf("## What is said of what a tool found\n"
         "\n"
         "Its output is shown as a whole. A model of less than 400 million parameters does not read it: what is said "
         "is a sentence made of the\n"
         "output (how many lines and which come first, a document's best passage, a page's first words, Ansible's "
         "recap), so that nothing in it\n"
         "is made up. A larger model reads it and speaks. Where a call is not ready in time (8 seconds for each "
         "question to a small model, or\n"
         "five times its first answer where that is longer) the assistant says so, and does nothing.\n");
  json_array_foreach((json_t *)tools, i, tool) {
    printf("\n## %s\n\n%s\n\n| action | class | what for | arguments | seconds |\n|---|---|---|---|---|\n",
           choir_json_string(tool, "id", ""), choir_json_string(tool, "help", ""));
    json_array_foreach(json_object_get(tool, "actions"), k, action) {
      printf("| `%s` | %s | %s | ", choir_json_string(action, "name", ""), choir_json_string(action, "class", ""),
             choir_json_string(action, "help", ""));
      print_arguments(json_object_get(action, "schema"));
      printf(" | %" G_GINT64_FORMAT " |\n", choir_json_int(action, "timeout_s", 0));
    }
  }
}

static int list(const char *url) {
  g_autoptr(GError) error = NULL;
  json_auto_t *answer = choir_cli_request(url, "/api/tools", NULL, 10000, &error);
  if (!answer)
    return choir_cli_fail(NAME, "%s", error->message);
  const json_t *tools = json_object_get(answer, "tools");
  if (option_json)
    choir_cli_print_json(tools);
  else if (option_markdown)
    print_markdown(tools);
  else
    print_list(tools);
  return CHOIR_CLI_OK;
}

static int call(const char *url, const char *tool, const char *text) {
  g_autoptr(GError) error = NULL;
  json_t *args = choir_json_parse(text, strlen(text), &error);
  if (!json_is_object(args)) {
    json_decref(args);
    return choir_cli_usage(NAME, "the arguments are no JSON object%s%s", error ? ": " : "",
                           error ? error->message : "");
  }
  json_auto_t *body = json_pack("{s:s,s:o}", "tool", tool, "args", args);
  json_auto_t *answer = choir_cli_request(url, "/api/tools/call", body, CALL_MS, &error);
  if (!answer)
    return choir_cli_fail(NAME, "%s", error->message);
  if (option_json)
    choir_cli_print_json(answer);
  else
    printf("%s\n", choir_json_string(answer, "text", ""));
  return CHOIR_CLI_OK;
}

int choir_tools_main(int argc, char **argv) {
  if (!choir_cli_parse(NAME, "[list | call NAME.ACTION [JSON]]", description, entries, &argc, &argv))
    return CHOIR_CLI_USAGE;
  g_autofree char *url = choir_cli_socket(option_state);
  const char *what = argc > 1 ? argv[1] : "list";
  if (strcmp(what, "list") == 0 && argc <= 2)
    return list(url);
  if (strcmp(what, "call") == 0 && (argc == 3 || argc == 4))
    return call(url, argv[2], argc == 4 ? argv[3] : "{}");
  return choir_cli_usage(NAME, strcmp(what, "call") == 0 ? "call needs the name of an action" : "there is no '%s'",
                         what);
}
