/* `choir nodes token|pending|requests|approve|refuse|serve`, over the unix socket of the join service. */
#include "cli/join.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/names.h"
#include "base/text.h"
#include "cli/cli.h"
#include "web/guard_node.h"

#define NAME "nodes"

static char *option_state, *option_ready, *option_revoke, *option_house_key;
static int option_minutes = 60, option_port = CHOIR_PORT_JOIN, option_house_port = CHOIR_PORT_JOIN_HOUSE;
static gboolean option_auto, option_list, option_json;

static const GOptionEntry entries[] = {
    {"minutes", 'm', 0, G_OPTION_ARG_INT, &option_minutes, "with token: how long it lasts (default 60)", "N"},
    {"auto", 'a', 0, G_OPTION_ARG_NONE, &option_auto, "with token: the machine joins without being approved", NULL},
    {"list", 'l', 0, G_OPTION_ARG_NONE, &option_list, "with token: show which there are; never the tokens themselves",
     NULL},
    {"revoke", 0, 0, G_OPTION_ARG_STRING, &option_revoke, "with token: take this one back", "ID"},
    {"json", 0, 0, G_OPTION_ARG_NONE, &option_json, "print JSON", NULL},
    {"state", 's', 0, G_OPTION_ARG_FILENAME, &option_state, "folder of the join service (" CHOIR_JOIN_STATE ")", "DIR"},
    {"ready", 0, 0, G_OPTION_ARG_FILENAME, &option_ready,
     "with serve: folder of finished bundles (" CHOIR_JOIN_READY ")", "DIR"},
    {"port", 'p', 0, G_OPTION_ARG_INT, &option_port, "with serve: port for TLS (default 8002)", "N"},
    {"house-key", 0, 0, G_OPTION_ARG_FILENAME, &option_house_key,
     "with serve: the cluster's key, under which the agent's page may ask (/etc/choir/state.key)", "FILE"},
    {"house-port", 0, 0, G_OPTION_ARG_INT, &option_house_port, "with serve: port for the page (default 8003)", "N"},
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "  token         make a one-shot token for one new machine, and print what to type there\n"
    "  pending       which machines wait for a yes\n"
    "  requests      every machine that ever asked, and what became of it\n"
    "  approve HOST  let it in: it enters inventory.yaml and provisions itself\n"
    "  refuse HOST   not this one; one that is in already leaves the inventory, and its tokens are taken back\n"
    "  serve         the join service itself; systemd starts it as choir-join-server.service\n\n"
    "These work on a controller, for root and for the user of the join service.\n\n"
    "Examples:\n"
    "  sudo choir nodes token --minutes 30\n"
    "  sudo choir nodes pending\n"
    "  sudo choir nodes approve atlas\n\n"
    "Exit codes: 0 done, 1 it failed, 2 wrong usage.\n";

static const char *const words[] = {"token", "pending", "requests", "approve", "refuse", "serve", NULL};

gboolean choir_join_word(const char *word) {
  return g_strv_contains(words, word);
}

static json_t *ask(const char *path, json_t *body /* stolen, NULL = GET */) {
  g_autoptr(GError) error = NULL;
  g_autofree char *socket = g_build_filename(option_state ? option_state : CHOIR_JOIN_STATE, "join.sock", NULL);
  g_autofree char *url = g_strconcat("unix:", socket, NULL);
  json_auto_t *sent = body;
  if (access(socket, W_OK) != 0) {
    choir_cli_fail(NAME, "%s",
                   errno == EACCES
                       ? "this is for root: type it with sudo"
                       : "no join service here; ./bootstrap.sh --role controller on this machine sets it up");
    return NULL;
  }
  json_t *answer = choir_cli_request(url, path, sent, 10000, &error);
  if (!answer)
    choir_cli_fail(NAME, "%s", error->message);
  return answer;
}

static int print_token(void) {
  if (option_minutes < 1 || option_minutes > 10080)
    return choir_cli_usage(NAME, "--minutes wants 1 to 10080, a week");
  json_auto_t *answer =
      ask("/api/join/tokens", json_pack("{s:i,s:b}", "minutes", option_minutes, "auto", (int)option_auto));
  if (!answer)
    return CHOIR_CLI_FAILED;
  if (option_json) {
    choir_cli_print_json(answer);
    return CHOIR_CLI_OK;
  }
  g_auto(GStrv) hosts = choir_node_hosts();
  const char *address = "THIS-MACHINE";
  for (char **host = hosts; *host; host++)
    if (g_hostname_is_ip_address(*host)) {
      address = *host;
      break;
    }
  const char *token = choir_json_string(answer, "token", "");
  printf("%s\n", token);
  fprintf(stderr,
          "For one machine, for %d minutes. There, in a copy of this folder:\n"
          "  ./bootstrap.sh --role worker --controller-ip %s --token %s\n%s",
          option_minutes, address, token,
          option_auto ? "It joins without another question.\n" : "Then here: sudo choir nodes approve HOST\n");
  return CHOIR_CLI_OK;
}

static char *clock_of(gint64 seconds) {
  g_autoptr(GDateTime) time = g_date_time_new_from_unix_local(seconds);
  return time ? g_date_time_format(time, "%F %R") : g_strdup("-");
}

static int list_tokens(void) {
  json_auto_t *answer = ask("/api/join/tokens", NULL);
  const json_t *tokens = json_object_get(answer, "tokens");
  if (!answer)
    return CHOIR_CLI_FAILED;
  if (option_json)
    choir_cli_print_json(tokens);
  for (size_t i = 0; !option_json && i < json_array_size(tokens); i++) {
    const json_t *token = json_array_get(tokens, i);
    g_autofree char *until = clock_of(choir_json_int(token, "expires", 0));
    gboolean used = *choir_json_string(token, "used_by", "") != '\0';
    printf("%-9s until %s  %s%s\n", choir_json_string(token, "id", ""), until, used ? "used" : "not used",
           choir_json_bool(token, "auto", FALSE) ? ", joins at once" : "");
  }
  return CHOIR_CLI_OK;
}

static void print_node(const json_t *node) {
  g_autofree char *when = clock_of(choir_json_int(node, "changed", 0));
  const char *step = choir_json_string(node, "step", ""), *message = choir_json_string(node, "message", "");
  printf("%-12s %-20s %-15s %s, %" G_GINT64_FORMAT " MB  %s%s%s%s%s\n", choir_json_string(node, "status", ""),
         choir_json_string(node, "hostname", ""), choir_json_string(node, "address", ""),
         choir_json_string(node, "cpu", ""), choir_json_int(node, "ram_mb", 0), when, *step ? "  " : "", step,
         *message ? ": " : "", message);
}

static gboolean has_status(const json_t *node, const char *status) {
  return strcmp(choir_json_string(node, "status", ""), status) == 0;
}

static int list_nodes(gboolean all) {
  json_auto_t *answer = ask("/api/join/nodes", NULL), *shown = json_array();
  const json_t *nodes = json_object_get(answer, "nodes");
  if (!answer)
    return CHOIR_CLI_FAILED;
  for (size_t i = 0; i < json_array_size(nodes); i++)
    if (all || has_status(json_array_get(nodes, i), "pending"))
      json_array_append(shown, json_array_get(nodes, i));
  if (option_json)
    choir_cli_print_json(shown);
  else if (json_array_size(shown) == 0)
    printf("%s\n", all ? "no machine has asked to join; sudo choir nodes token begins it" : "no machine waits");
  for (size_t i = 0; !option_json && i < json_array_size(shown); i++)
    print_node(json_array_get(shown, i));
  return CHOIR_CLI_OK;
}

void choir_join_print_open(void) {
  if (access(CHOIR_JOIN_STATE "/join.sock", W_OK) != 0)
    return;
  json_auto_t *answer = ask("/api/join/nodes", NULL);
  choir_join_print_list(json_object_get(answer, "nodes"));
}

void choir_join_print_list(const json_t *nodes) {
  gboolean begun = FALSE;
  for (size_t i = 0; i < json_array_size(nodes); i++) {
    const json_t *node = json_array_get(nodes, i);
    if (has_status(node, "joined") || has_status(node, "refused"))
      continue;
    if (!begun)
      printf("\nOn their way in:\n");
    begun = TRUE;
    print_node(node);
  }
}

static int decide(const char *path, const char *host, const char *done) {
  json_auto_t *answer = ask(path, json_pack("{s:s}", "host", host));
  if (!answer)
    return CHOIR_CLI_FAILED;
  printf("%s: %s\n", host, done);
  return CHOIR_CLI_OK;
}

static int take_back(void) {
  json_auto_t *answer = ask("/api/join/tokens/revoke", json_pack("{s:s}", "id", option_revoke));
  if (!answer)
    return CHOIR_CLI_FAILED;
  printf("%s: revoked\n", option_revoke);
  return CHOIR_CLI_OK;
}

int choir_join_main(int argc, char **argv) {
  if (!choir_cli_parse(NAME, "token|pending|requests|approve HOST|refuse HOST|serve", description, entries, &argc,
                       &argv))
    return CHOIR_CLI_USAGE;
  const char *word = argc > 1 ? argv[1] : "";
  gboolean alone = argc == 2, named = argc == 3 && g_utf8_validate(argv[2], -1, NULL);
  if (strcmp(word, "serve") == 0 && alone) {
    if (option_port < 1 || option_port > 65535 || option_house_port < 0 || option_house_port > 65535)
      return choir_cli_usage(NAME, "--port wants a number from 1 to 65535");
    return choir_join_serve(option_state ? option_state : CHOIR_JOIN_STATE,
                            option_ready ? option_ready : CHOIR_JOIN_READY, option_port, option_house_key,
                            option_house_port);
  }
  if (strcmp(word, "token") == 0 && alone)
    return option_revoke ? take_back() : option_list ? list_tokens() : print_token();
  if (strcmp(word, "pending") == 0 && alone)
    return list_nodes(FALSE);
  if (strcmp(word, "requests") == 0 && alone)
    return list_nodes(TRUE);
  if (strcmp(word, "approve") == 0 && named)
    return decide("/api/join/approve", argv[2], "approved; it provisions itself now, see choir nodes requests");
  if (strcmp(word, "refuse") == 0 && named)
    return decide("/api/join/refuse", argv[2], "refused");
  return choir_cli_usage(NAME, "say token, pending, requests, approve HOST or refuse HOST");
}
