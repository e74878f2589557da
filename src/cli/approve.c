#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/text.h"
#include "cli/cli.h"

#define NAME "approve"

static char *option_state, *option_revoke;
static gboolean option_json, option_yes, option_no, option_grant, option_grants;

static const GOptionEntry entries[] = {
    {"yes", 'y', 0, G_OPTION_ARG_NONE, &option_yes, "approve the named request without asking", NULL},
    {"no", 'n', 0, G_OPTION_ARG_NONE, &option_no, "deny the named request", NULL},
    {"session", 'g', 0, G_OPTION_ARG_NONE, &option_grant,
     "with yes: the same action on the same target, for this session", NULL},
    {"grants", 0, 0, G_OPTION_ARG_NONE, &option_grants, "show what was allowed for a session", NULL},
    {"revoke", 0, 0, G_OPTION_ARG_STRING, &option_revoke, "ask again for this action, in every session", "ACTION"},
    {"json", 0, 0, G_OPTION_ARG_NONE, &option_json, "print what waits, or the grants, as JSON", NULL},
    {"state", 's', 0, G_OPTION_ARG_FILENAME, &option_state, "state folder of the running daemon", "DIR"},
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "Shows each request that waits for a person's yes and asks y or n. What nobody answers within 120 seconds is "
    "denied.\n"
    "It works on the machine itself, for the user that runs the daemon and for root, and needs no owner.\n\n"
    "Examples:\n"
    "  choir approve\n"
    "  choir approve --json\n"
    "  choir approve --yes apr_0123456789abcdef0123456789abcdef\n"
    "  choir approve --grants\n"
    "  choir approve --revoke 'shell.execute_command on this machine'\n\n"
    "Exit codes: 0 done, 1 it failed or nothing of that name waits, 2 wrong usage.\n";

static void show(const json_t *card) {
  size_t i;
  json_t *reason;
  char *args = json_dumps(json_object_get(card, "args"), JSON_INDENT(1) | JSON_SORT_KEYS);
  printf("%s%s.%s%s on %s, class %s, %" G_GINT64_FORMAT " s left\n%s\n", choir_cli_style(CHOIR_CLI_BOLD),
         choir_json_string(card, "tool", ""), choir_json_string(card, "action", ""), choir_cli_style(CHOIR_CLI_PLAIN),
         choir_json_string(card, "target", ""), choir_json_string(card, "class", ""),
         choir_json_int(card, "expires_ms", 0) / 1000, args);
  free(args);
  json_array_foreach(json_object_get(card, "reasons"), i, reason) printf(
      "%s! %s%s\n", choir_cli_style(CHOIR_CLI_YELLOW), json_string_value(reason), choir_cli_style(CHOIR_CLI_PLAIN));
  const char *preview = choir_json_string(card, "preview", "");
  if (*preview)
    printf("%s%s%s\n", choir_cli_style(CHOIR_CLI_DIM), preview, choir_cli_style(CHOIR_CLI_PLAIN));
}

static int answer(const char *url, const json_t *card, gboolean yes) {
  g_autoptr(GError) error = NULL;
  json_auto_t *body = json_pack("{s:s,s:s,s:b,s:b}", "id", choir_json_string(card, "id", ""), "digest",
                                choir_json_string(card, "digest", ""), "approve", (int)yes, "grant", (int)option_grant);
  json_auto_t *done = choir_cli_request(url, "/api/approvals/answer", body, 10000, &error);
  if (!done)
    return choir_cli_fail(NAME, "%s", error->message);
  printf("%s\n", yes ? "approved" : "denied");
  return CHOIR_CLI_OK;
}

static int ask_all(const char *url, const json_t *list) {
  size_t i;
  json_t *card;
  int code = CHOIR_CLI_OK;
  json_array_foreach((json_t *)list, i, card) {
    char line[16];
    show(card);
    printf("approve? [y/N] ");
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin))
      return code;
    code = MAX(code, answer(url, card, line[0] == 'y' || line[0] == 'Y'));
  }
  return code;
}

static void show_grants(const json_t *grants) {
  size_t i;
  json_t *grant;
  if (json_array_size(grants) == 0)
    printf("nothing is allowed for a session\n");
  json_array_foreach((json_t *)grants, i, grant) {
    const char *session = choir_json_string(grant, "session", "");
    printf("%s%s%s, for %s, by %s\n", choir_cli_style(CHOIR_CLI_BOLD), choir_json_string(grant, "signature", ""),
           choir_cli_style(CHOIR_CLI_PLAIN), *session ? session : "the conversation",
           choir_json_string(grant, "by", ""));
  }
}

static int revoke_grant(const char *url, const json_t *grants) {
  size_t i, n = 0;
  json_t *grant;
  json_array_foreach((json_t *)grants, i, grant) {
    g_autoptr(GError) error = NULL;
    if (strcmp(choir_json_string(grant, "signature", ""), option_revoke) != 0)
      continue;
    json_auto_t *body =
        json_pack("{s:s,s:s}", "session", choir_json_string(grant, "session", ""), "signature", option_revoke);
    json_auto_t *done = choir_cli_request(url, "/api/approvals/revoke", body, 10000, &error);
    if (!done)
      return choir_cli_fail(NAME, "%s", error->message);
    n++;
  }
  if (n == 0)
    return choir_cli_fail(NAME, "no session has that grant; see 'choir approve --grants'");
  printf("revoked\n");
  return CHOIR_CLI_OK;
}

int choir_approve_main(int argc, char **argv) {
  if (!choir_cli_parse(NAME, "[ID]", description, entries, &argc, &argv))
    return CHOIR_CLI_USAGE;
  if (argc > 2 || (option_yes && option_no) || ((option_yes || option_no) && argc != 2))
    return choir_cli_usage(NAME, "--yes and --no want the ID of one request");
  if ((option_grants || option_revoke) && argc != 1)
    return choir_cli_usage(NAME, "--grants and --revoke go without an ID");
  g_autofree char *url = choir_cli_socket(option_state);
  g_autoptr(GError) error = NULL;
  json_auto_t *all = choir_cli_request(url, "/api/approvals", NULL, 10000, &error);
  if (!all)
    return choir_cli_fail(NAME, "%s", error->message);
  const json_t *grants = json_object_get(all, "grants");
  if (option_revoke)
    return revoke_grant(url, grants);
  if (option_grants && option_json)
    choir_cli_print_json(grants);
  else if (option_grants)
    show_grants(grants);
  if (option_grants)
    return CHOIR_CLI_OK;
  json_auto_t *list = json_array();
  size_t i;
  json_t *card;
  json_array_foreach(json_object_get(all, "approvals"), i,
                     card) if (argc == 1 || strcmp(choir_json_string(card, "id", ""), argv[1]) == 0)
      json_array_append(list, card);
  if (argc == 2 && json_array_size(list) == 0)
    return choir_cli_fail(NAME, "%s was answered already, or it expired", argv[1]);
  if (option_json)
    choir_cli_print_json(list);
  else if (option_yes || option_no)
    return answer(url, json_array_get(list, 0), option_yes);
  else if (json_array_size(list) == 0)
    printf("nothing waits for an answer\n");
  else
    return ask_all(url, list);
  return CHOIR_CLI_OK;
}
