#include "agent/audit.h"
#include <stdio.h>
#include <string.h>
#include "base/text.h"
#include "cli/cli.h"

#define NAME "audit"

static char *option_state, *option_head;
static gboolean option_json;
static gint option_last = 20;

static const GOptionEntry entries[] = {
    {"last", 'n', 0, G_OPTION_ARG_INT, &option_last, "how many entries to show (20)", "N"},
    {"head", 0, 0, G_OPTION_ARG_STRING, &option_head, "with verify: this line, noted earlier, must still be there",
     "N:HASH"},
    {"json", 0, 0, G_OPTION_ARG_NONE, &option_json, "print JSON", NULL},
    {"state", 's', 0, G_OPTION_ARG_FILENAME, &option_state, "state folder of the daemon", "DIR"},
    G_OPTION_ENTRY_NULL,
};

static const char description[] = "  show     the newest entries (the default)\n"
                                  "  verify   check that no line of the log was changed, added or removed\n\n"
                                  "A chain cannot tell that its own end was cut off. A running daemon knows its last\n"
                                  "line and is asked; else note the head that verify prints and give it next time.\n\n"
                                  "Examples:\n"
                                  "  choir audit\n"
                                  "  choir audit verify\n"
                                  "  choir audit show --last 100 --json\n\n"
                                  "Exit codes: 0 done, 1 the log is broken or cannot be read, 2 wrong usage.\n";

/* The last line that the running daemon wrote; FALSE when there is none to ask. */
static gboolean ask_head(const char *url, ChoirAuditHead *ret_head) {
  json_auto_t *answer = choir_cli_request(url, "/api/audit?n=1", NULL, 10000, NULL);
  return choir_audit_head_parse(choir_json_string(answer, "head", ""), ret_head);
}

static int verify(const char *url, const char *path) {
  g_autoptr(GError) error = NULL;
  ChoirAuditHead noted, written, head;
  if (option_head && !choir_audit_head_parse(option_head, &noted))
    return choir_cli_usage(NAME, "--head wants what verify prints: a number, a colon and 64 hexadecimal digits");
  gboolean asked = ask_head(url, &written);
  gboolean ok = choir_audit_verify_from(path, asked ? &written : NULL, &head, &error);
  if (ok && option_head)
    ok = choir_audit_verify_from(path, &noted, &head, &error);
  g_autofree char *text = choir_audit_head_text(&head);
  if (option_json) {
    json_auto_t *json = json_pack("{s:b,s:I,s:s,s:s?}", "intact", (int)ok, "lines", (json_int_t)head.seq, "head", text,
                                  "error", ok ? NULL : error->message);
    choir_cli_print_json(json);
    return ok ? CHOIR_CLI_OK : CHOIR_CLI_FAILED;
  }
  if (!ok)
    return choir_cli_fail(NAME, "%s (%" G_GUINT64_FORMAT " lines before it are good)", error->message, head.seq);
  printf("%s is intact: %" G_GUINT64_FORMAT " lines\nhead %s\n", path, head.seq, text);
  return CHOIR_CLI_OK;
}

static void print(const json_t *entry) {
  const char *error = choir_json_string(entry, "error", NULL), *verdict = choir_json_string(entry, "verdict", NULL);
  printf("%.19s  %-8s %-28s %-6s %s%s%s\n", choir_json_string(entry, "time", ""), choir_json_string(entry, "kind", ""),
         choir_json_string(entry, "tool", ""), choir_json_string(entry, "class", ""),
         choir_cli_style(error ? CHOIR_CLI_RED : CHOIR_CLI_DIM),
         error     ? error
         : verdict ? verdict
                   : choir_json_string(entry, "target", ""),
         choir_cli_style(CHOIR_CLI_PLAIN));
}

static int show(const char *url) {
  g_autoptr(GError) error = NULL;
  g_autofree char *path = g_strdup_printf("/api/audit?n=%d", option_last);
  json_auto_t *answer = choir_cli_request(url, path, NULL, 10000, &error);
  if (!answer)
    return choir_cli_fail(NAME, "%s", error->message);
  const json_t *list = json_object_get(answer, "entries");
  if (option_json)
    choir_cli_print_json(list);
  else
    for (gsize i = json_array_size(list); i > 0; i--)
      print(json_array_get(list, i - 1));
  return CHOIR_CLI_OK;
}

int choir_audit_main(int argc, char **argv) {
  if (!choir_cli_parse(NAME, "[show | verify]", description, entries, &argc, &argv))
    return CHOIR_CLI_USAGE;
  const char *what = argc > 1 ? argv[1] : "show";
  if (argc > 2 || (strcmp(what, "show") != 0 && strcmp(what, "verify") != 0))
    return choir_cli_usage(NAME, "'%s' is not expected", argv[argc - 1]);
  if (option_last < 1 || option_last > 1000)
    return choir_cli_usage(NAME, "--last wants a number from 1 to 1000");
  g_autofree char *url = choir_cli_socket(option_state);
  if (strcmp(what, "show") == 0)
    return show(url);
  g_autofree char *folder = g_path_get_dirname(url + strlen("unix:"));
  g_autofree char *path = g_build_filename(folder, "audit.jsonl", NULL);
  return verify(url, path);
}
