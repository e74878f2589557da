/* `choir token`: keys for programs, over the unix socket of the running daemon; and those of Nomad and Consul. */
#include <stdio.h>
#include <string.h>
#include "base/text.h"
#include "cli/cli.h"
#include "cli/cluster_api.h"

#define NAME "token"

static char *option_state, *option_role;
static gboolean option_json;

static const GOptionEntry entries[] = {
    {"role", 'r', 0, G_OPTION_ARG_STRING, &option_role, "with new: viewer, operator (default) or approver", "ROLE"},
    {"json", 0, 0, G_OPTION_ARG_NONE, &option_json, "print JSON", NULL},
    {"state", 's', 0, G_OPTION_ARG_FILENAME, &option_state, "state folder of the running daemon", "DIR"},
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "  new NAME     make a token and print it, this once; programs send it as Authorization: Bearer TOKEN\n"
    "  list         which there are, and when they were used since the daemon started\n"
    "  revoke NAME  it is refused from now on\n"
    "  cluster      the tokens with which Nomad and Consul let change everything; root, on a controller\n\n"
    "The commands of choir send $CHOIR_TOKEN when --url or $CHOIR_URL names a daemon.\n\n"
    "Examples:\n"
    "  choir token new home-assistant\n"
    "  CHOIR_TOKEN=choir_... choir chat --url https://atlas.local:8443\n\n"
    "Exit codes: 0 done, 1 it failed, 2 wrong usage.\n";

static json_t *send(const char *url, const char *path, json_t *body /* stolen */) {
  g_autoptr(GError) error = NULL;
  json_t *answer = choir_cli_request(url, path, body, 10000, &error);
  json_decref(body);
  if (!answer)
    choir_cli_fail(NAME, "%s", error->message);
  return answer;
}

static int make(const char *url, const char *name) {
  json_auto_t *answer =
      send(url, "/api/tokens", json_pack("{s:s,s:s}", "name", name, "role", option_role ? option_role : "operator"));
  if (!answer)
    return CHOIR_CLI_FAILED;
  if (option_json)
    choir_cli_print_json(answer);
  else
    printf("%s\n", choir_json_string(answer, "token", ""));
  return CHOIR_CLI_OK;
}

static int list(const char *url) {
  json_auto_t *answer = send(url, "/api/tokens", NULL);
  const json_t *tokens = json_object_get(answer, "tokens");
  if (!answer)
    return CHOIR_CLI_FAILED;
  if (option_json)
    choir_cli_print_json(tokens);
  for (size_t i = 0; !option_json && i < json_array_size(tokens); i++) {
    const json_t *token = json_array_get(tokens, i);
    gint64 at = choir_json_int(token, "used", 0);
    g_autoptr(GDateTime) time = at ? g_date_time_new_from_unix_local(at) : NULL;
    g_autofree char *used = time ? g_date_time_format(time, "used %F %R") : g_strdup("not used");
    printf("%-9s %-32s %s\n", choir_json_string(token, "role", ""), choir_json_string(token, "name", ""), used);
  }
  return CHOIR_CLI_OK;
}

static int take_back(const char *url, const char *name) {
  json_auto_t *answer = send(url, "/api/tokens/revoke", json_pack("{s:s}", "name", name));
  if (!answer)
    return CHOIR_CLI_FAILED;
  printf("%s: revoked\n", name);
  return CHOIR_CLI_OK;
}

/* What is pasted into the two pages, or into a shell. */
static int of_cluster(void) {
  static const struct {
    const char *name, *path;
  } products[] = {{"nomad", "/etc/nomad.d/management_token"}, {"consul", "/etc/consul.d/management_token"}};
  json_auto_t *found = json_object();
  for (gsize i = 0; i < G_N_ELEMENTS(products); i++) {
    g_autoptr(GError) error = NULL;
    g_autofree char *token = choir_api_read_token(products[i].path, &error);
    if (!token)
      return choir_cli_fail(NAME, "%s (the tokens of the cluster are on its controllers, and only root reads them)",
                            error->message);
    json_object_set_new(found, products[i].name, json_string(token));
  }
  if (option_json)
    choir_cli_print_json(found);
  for (gsize i = 0; !option_json && i < G_N_ELEMENTS(products); i++)
    printf("%-7s %s\n", products[i].name, choir_json_string(found, products[i].name, ""));
  return CHOIR_CLI_OK;
}

int choir_token_main(int argc, char **argv) {
  if (!choir_cli_parse(NAME, "new NAME|list|revoke NAME|cluster", description, entries, &argc, &argv))
    return CHOIR_CLI_USAGE;
  const char *word = argc > 1 ? argv[1] : "";
  if (strcmp(word, "cluster") == 0 && argc == 2)
    return of_cluster();
  g_autofree char *url = choir_cli_socket(option_state);
  if (strcmp(word, "new") == 0 && argc == 3)
    return make(url, argv[2]);
  if (strcmp(word, "list") == 0 && argc == 2)
    return list(url);
  if (strcmp(word, "revoke") == 0 && argc == 3)
    return take_back(url, argv[2]);
  return choir_cli_usage(NAME, "say new NAME, list, revoke NAME or cluster");
}
