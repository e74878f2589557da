/* `choir nodes`: what the cluster is made of, as the running agent knows it; where none runs, as Nomad does. */
#include <stdio.h>
#include <string.h>
#include "base/text.h"
#include "cli/cli.h"
#include "cli/jobs_api.h"
#include "cli/join.h"
#include "cli/nodes_list.h"

#define NAME "nodes"

static char *option_state, *option_url;
static gboolean option_json;

static const GOptionEntry entries[] = {
    {"json", 0, 0, G_OPTION_ARG_NONE, &option_json, "print JSON: nodes, jobs, experts, allocations", NULL},
    {"state", 's', 0, G_OPTION_ARG_FILENAME, &option_state, "state folder of the running daemon", "DIR"},
    {"url", 'u', 0, G_OPTION_ARG_STRING, &option_url, "address of another Choir", "URL"},
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "  list                 nodes and experts, with what is missing and why (the default), and machines on their way "
    "in;\n"
    "                       where no agent answers, as on a controller without one, the nodes that Nomad here knows\n"
    "  plan [EXPERT]        which model each node can serve; the same as choir expert plan\n"
    "  token, pending, approve, ...   machines that want to join; see choir nodes token --help\n\n"
    "Examples:\n"
    "  choir nodes\n"
    "  choir nodes list --json\n\n"
    "Exit codes: 0 done, 1 it failed (what to do is said), 2 wrong usage.\n";

static const char *role_of(const json_t *node) {
  if (choir_json_bool(node, "server", FALSE))
    return "controller";
  return choir_json_string(node, "nomad", NULL) ? "worker" : "";
}

static void print_number(const json_t *node, const char *key, double per, const char *unit) {
  double value = choir_json_double(node, key, -1);
  if (value < 0)
    printf("  %11s", "");
  else
    printf("  %6.1f %-4s", value / per, unit);
}

static void print_problem(const char *problem) {
  if (problem)
    printf("%s%s%s\n", choir_cli_style(CHOIR_CLI_YELLOW), problem, choir_cli_style(CHOIR_CLI_PLAIN));
}

static void print_nodes(const json_t *part) {
  size_t i;
  json_t *node;
  const json_t *list = json_object_get(part, "list");
  if (json_array_size(list) > 0)
    printf("%s%-20s %-7s %-11s %-16s %-10s%s\n", choir_cli_style(CHOIR_CLI_DIM), "NODE", "STATE", "ROLE", "ADDRESS",
           "PROCESSOR", choir_cli_style(CHOIR_CLI_PLAIN));
  json_array_foreach((json_t *)list, i, node) {
    gboolean alive = choir_json_bool(node, "alive", FALSE);
    printf("%s%-20s%s %s%-7s%s %-11s %-16s %-10s", choir_cli_style(CHOIR_CLI_BOLD), choir_json_string(node, "name", ""),
           choir_cli_style(CHOIR_CLI_PLAIN), choir_cli_style(alive ? CHOIR_CLI_GREEN : CHOIR_CLI_RED),
           alive ? "alive" : "gone", choir_cli_style(CHOIR_CLI_PLAIN), role_of(node),
           choir_json_string(node, "address", ""), choir_json_string(node, "cpu", ""));
    print_number(node, "ram_mb", 1024, "GB");
    print_number(node, "gbps", 1, "GB/s");
    print_number(node, "gmacs", 1, "GMAC/s");
    printf("\n");
  }
  print_problem(choir_json_string(part, "problem", NULL));
}

static void print_experts(const json_t *part) {
  size_t i, k;
  json_t *expert, *replica, *problem;
  json_array_foreach(json_object_get(part, "list"), i, expert) {
    printf("%s%sexpert %s%s: %s, %" G_GINT64_FORMAT " answered, %" G_GINT64_FORMAT " failed%s\n", i ? "" : "\n",
           choir_cli_style(CHOIR_CLI_BOLD), choir_json_string(expert, "name", ""), choir_cli_style(CHOIR_CLI_PLAIN),
           choir_json_string(expert, "health", ""), choir_json_int(expert, "answered", 0),
           choir_json_int(expert, "failed", 0),
           choir_json_bool(expert, "same_as_main", FALSE) ? " (the same model as the assistant's own)" : "");
    json_array_foreach(json_object_get(expert, "replicas"), k, replica)
        printf("  %s %s %s%s\n", choir_json_string(replica, "url", ""), choir_json_string(replica, "node", ""),
               choir_json_string(replica, "model", ""),
               choir_json_bool(replica, "fallback", FALSE) ? " (small fallback model)" : "");
  }
  json_array_foreach(json_object_get(part, "problems"), i, problem) print_problem(json_string_value(problem));
}

/* Each machine that is not in yet, and how far it is: by the agent, which asks a controller, else by the service here.
 */
static void print_joins(const char *url) {
  json_auto_t *joins = choir_cli_request(url, "/api/cluster/joins", NULL, 15000, NULL);
  if (json_array_size(json_object_get(joins, "nodes")) > 0)
    choir_join_print_list(json_object_get(joins, "nodes"));
  else
    choir_join_print_open();
}

static void put_meta(json_t *node, const json_t *meta, const char *key, const char *name) {
  const char *text = choir_json_string(meta, name, NULL);
  if (text)
    json_object_set_new(node, key, json_real(g_ascii_strtod(text, NULL)));
}

/* The same shape as the agent's list, from the Nomad of this machine; NULL where there is none. */
static json_t *nodes_of_nomad(void) {
  g_autoptr(ChoirApi) nomad = choir_api_new(CHOIR_API_NOMAD, NULL, NULL, NULL);
  json_auto_t *found = nomad ? choir_jobs_nodes(nomad, NULL) : NULL;
  if (!found)
    return NULL;
  json_t *list = json_array(), *detail;
  size_t i;
  json_array_foreach(found, i, detail) {
    const json_t *meta = json_object_get(detail, "Meta"), *attributes = json_object_get(detail, "Attributes");
    const char *status = choir_json_string(detail, "Status", ""), *class = choir_json_string(detail, "NodeClass", "");
    json_t *node = json_pack("{s:s,s:s,s:s,s:b,s:b,s:s}", "name", choir_json_string(detail, "Name", ""), "address",
                             choir_json_string(attributes, "unique.network.ip-address", ""), "nomad", status, "alive",
                             (int)g_str_equal(status, "ready"), "server", (int)g_str_equal(class, "controller"), "cpu",
                             choir_json_string(meta, "choir_cpu", ""));
    put_meta(node, meta, "ram_mb", "choir_ram_mb");
    put_meta(node, meta, "gbps", "choir_gbps");
    put_meta(node, meta, "gmacs", "choir_gmacs");
    const char *version = choir_json_string(meta, "choir_version", NULL);
    if (version)
      json_object_set_new(node, "version", json_string(version));
    json_array_append_new(list, node);
  }
  return json_pack("{s:o}", "nodes", json_pack("{s:o}", "list", list));
}

/* A controller may have no agent; what Nomad and the join service know is still there. */
static int without_agent(const char *url, const GError *error) {
  json_auto_t *answer = nodes_of_nomad();
  if (!answer)
    return choir_cli_fail(NAME, "%s", error->message);
  if (option_json) {
    choir_cli_print_json(answer);
    return CHOIR_CLI_OK;
  }
  print_nodes(json_object_get(answer, "nodes"));
  printf("\nNo agent answers at %s, so this is what Nomad knows. For experts: choir expert list; for jobs: choir jobs. "
         "An agent comes with ./bootstrap.sh.\n",
         url);
  choir_join_print_open();
  return CHOIR_CLI_OK;
}

int choir_nodes_list_main(int argc, char **argv) {
  g_autoptr(GError) error = NULL;
  if (!choir_cli_parse(NAME, "[list | plan | token | pending | approve ...]", description, entries, &argc, &argv))
    return CHOIR_CLI_USAGE;
  if (argc > 2 || (argc == 2 && strcmp(argv[1], "list") != 0))
    return choir_cli_usage(NAME, "there is no '%s'", argv[argc - 1]);
  g_autofree char *url = option_url ? choir_cli_url(option_url) : choir_cli_socket(option_state);
  json_auto_t *answer = choir_cli_request(url, "/api/cluster", NULL, 15000, &error);
  if (!answer)
    return option_url || option_state ? choir_cli_fail(NAME, "%s", error->message) : without_agent(url, error);
  if (option_json) {
    choir_cli_print_json(answer);
    return CHOIR_CLI_OK;
  }
  print_nodes(json_object_get(answer, "nodes"));
  print_experts(json_object_get(answer, "experts"));
  print_joins(url);
  return CHOIR_CLI_OK;
}
