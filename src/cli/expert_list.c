#include <stdio.h>
#include <string.h>
#include "base/text.h"
#include "cli/cli.h"
#include "cli/expert_find.h"
#include "cli/expert_private.h"

#define NAME CHOIR_EXPERT " list"

static gboolean option_json;
static char *option_consul, *option_token;

static const GOptionEntry entries[] = {
    {"json", 0, 0, G_OPTION_ARG_NONE, &option_json, "print JSON", NULL},
    CHOIR_API_CONSUL_OPTIONS(option_consul, option_token),
    G_OPTION_ENTRY_NULL,
};

int choir_expert_list(int argc, char **argv) {
  if (!choir_cli_parse(NAME, "", "Exit codes: 0 done, 1 Consul cannot be asked, 2 wrong usage.\n", entries, &argc,
                       &argv))
    return CHOIR_CLI_USAGE;
  if (argc > 1)
    return choir_cli_usage(NAME, "'%s' is not expected", argv[1]);
  g_autoptr(GError) error = NULL;
  g_autoptr(ChoirApi) consul = choir_api_new(CHOIR_API_CONSUL, option_consul, option_token, &error);
  g_autoptr(GPtrArray) found = consul ? choir_expert_find(consul, &error) : NULL;
  if (!found)
    return choir_cli_fail(NAME, "%s", error->message);
  if (option_json) {
    json_auto_t *list = choir_expert_find_json(found);
    choir_cli_print_json(list);
    return CHOIR_CLI_OK;
  }
  if (found->len == 0)
    printf("Consul at %s knows no expert; choir expert deploy NAME starts one\n", choir_api_url(consul));
  for (guint i = 0; i < found->len; i++) {
    const ChoirFoundExpert *expert = found->pdata[i];
    printf("%-16s %-8s %-28s %6s  %s%s%s\n", expert->name, expert->passing ? "ready" : "failing", expert->model,
           expert->context, expert->node, expert->fallback ? "  light model stands in: " : "",
           expert->fallback  ? expert->why
           : expert->passing ? ""
                             : expert->output);
  }
  return CHOIR_CLI_OK;
}
