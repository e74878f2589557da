/* The tools that hand something on: to an expert whose server is a mock, and to a sub-agent. */
#include <string.h>
#include <unistd.h>
#include "base/text.h"
#include "cluster/experts_private.h"
#include "house.h"
#include "mock_llm.h"

#define CODE_QUESTION "write a python function that sorts a list"
#define ASK "{\"expert\":\"coding\",\"query\":\"" CODE_QUESTION "\"}"

typedef struct {
  House *house;
  MockLlm *server, *other, *light; /* light: the agent's own */
  ChoirLlmServer *llm;
} Cluster;

static gboolean tick(gpointer user) {
  return G_SOURCE_CONTINUE;
}

static void wait_ready(const ChoirLlmServer *llm) {
  guint ticker = g_timeout_add(10, tick, NULL);
  for (guint i = 0; i < 4000 && !choir_llm_server_ready(llm); i++)
    g_main_context_iteration(NULL, TRUE);
  g_source_remove(ticker);
  g_assert_true(choir_llm_server_ready(llm));
}

/* Two servers of one expert. */
static Cluster *cluster_new(gboolean with_light) {
  Cluster *cluster = g_new0(Cluster, 1);
  g_autoptr(GError) error = NULL;
  House *house = cluster->house = house_new();
  cluster->server = mock_llm_new();
  cluster->other = mock_llm_new();
  cluster->light = mock_llm_new();
  ChoirLlmServerOptions options = {.external_url = mock_llm_url(cluster->light), .state_dir = house->state};
  cluster->llm = choir_llm_server_new(&options, house->http, &error);
  g_assert_no_error(error);
  if (with_light) {
    choir_llm_server_start(cluster->llm);
    wait_ready(cluster->llm);
  }
  g_autofree char *list = g_strdup_printf("coding=%s %s", mock_llm_url(cluster->server), mock_llm_url(cluster->other));
  ChoirExpertsOptions experts = {
      .http = house->http, .llm = cluster->llm, .prompts_dir = SOURCE_DIR "/prompts", .list = list};
  house->experts = choir_experts_new(&experts);
  const ChoirExpert *coding = choir_experts_get(house->experts, 0);
  guint ticker = g_timeout_add(10, tick, NULL);
  for (guint i = 0; i < 4000 && ((ChoirReplica *)coding->replicas->pdata[1])->params == 0; i++)
    g_main_context_iteration(NULL, TRUE);
  g_source_remove(ticker);
  house_restart(house);
  return cluster;
}

static void cluster_free(Cluster *cluster) {
  House *house = cluster->house;
  ChoirExperts *experts = g_steal_pointer(&house->experts);
  house_restart(house); /* the tools know of them no more */
  choir_experts_free(experts);
  choir_llm_server_free(cluster->llm);
  house_free(house);
  mock_llm_free(cluster->server);
  mock_llm_free(cluster->other);
  mock_llm_free(cluster->light);
  g_free(cluster);
}

static const ChoirToolAction *ask_action(const House *house) {
  const ChoirToolAction *action = choir_toolbox_find(house->toolbox, "route_to_expert.ask", NULL);
  g_assert_nonnull(action);
  return action;
}

static void test_ask(void) {
  Cluster *cluster = cluster_new(TRUE);
  House *house = cluster->house;
  g_autofree char *answer = house_ok(house, "route_to_expert.ask", ASK);
  g_assert_cmpstr(answer, ==, "Fine.");
  g_assert_cmpuint(mock_llm_requests(cluster->server) + mock_llm_requests(cluster->other), ==, 1);
  /* Both break off, the agent's own model goes on, and the person is told between the words. */
  mock_llm_push(cluster->server, MOCK_CUT, "One |two |three |four", 1);
  mock_llm_push(cluster->other, MOCK_CUT, "One |two |three |four", 1);
  mock_llm_push(cluster->light, MOCK_OK, "and so on.", 1);
  g_autofree char *cut = house_ok(house, "route_to_expert.ask", ASK);
  house_holds(cut, "One two ");
  house_holds(cut, " (The coding expert broke off; the light local model goes on.) ");
  house_holds(cut, "and so on.");
  cluster_free(cluster);
}

static void test_fails(void) {
  Cluster *cluster = cluster_new(FALSE);
  for (guint i = 0; i < 8; i++) {
    mock_llm_push(cluster->server, MOCK_STATUS_500, "", 0);
    mock_llm_push(cluster->other, MOCK_STATUS_500, "", 0);
  }
  g_autofree char *why = house_fails(cluster->house, "route_to_expert.ask", ASK);
  house_holds(why, "coding");
  /* One that is not on the list can not even be asked: its name is an enum of this moment. */
  g_autofree char *unknown =
      house_fails(cluster->house, "route_to_expert.ask", "{\"expert\":\"cooking\",\"query\":\"x\"}");
  house_holds(unknown, "expert");
  g_assert_cmpuint(mock_llm_requests(cluster->server), <=, 8);
  cluster_free(cluster);
}

static void on_result(const ChoirToolResult *result, const GError *error, gpointer user) {
  *(char **)user = g_strdup(error ? error->message : "answered");
}

static void test_interrupted(void) {
  Cluster *cluster = cluster_new(FALSE);
  House *house = cluster->house;
  for (guint i = 0; i < 2; i++)
    mock_llm_push(i ? cluster->server : cluster->other, MOCK_HANG, "", 0);
  json_auto_t *args = choir_json_parse(ASK, strlen(ASK), NULL);
  char *told = NULL;
  ChoirToolRequest request = {.name = "route_to_expert.ask", .args = args, .session = "test", .turn_id = "turn"};
  guint ticker = g_timeout_add(10, tick, NULL);
  guint id = choir_toolbox_call(house->toolbox, &request, NULL, on_result, &told);
  for (guint i = 0; i < 4000 && mock_llm_requests(cluster->server) + mock_llm_requests(cluster->other) == 0; i++)
    g_main_context_iteration(NULL, TRUE);
  choir_toolbox_cancel(house->toolbox, id);
  choir_toolbox_cancel(house->toolbox, id); /* twice is once */
  for (guint i = 0; i < 4000 && !told; i++)
    g_main_context_iteration(NULL, TRUE);
  g_assert_cmpstr(told, ==, "the tool was cancelled");
  for (guint i = 0; i < 4000 && mock_llm_left(cluster->server) + mock_llm_left(cluster->other) == 0; i++)
    g_main_context_iteration(NULL, TRUE); /* the server is not kept busy with it */
  g_assert_cmpuint(mock_llm_left(cluster->server) + mock_llm_left(cluster->other), ==, 1);
  g_source_remove(ticker);
  g_free(told);
  cluster_free(cluster);
}

static void test_route(void) {
  Cluster *cluster = cluster_new(FALSE);
  House *house = cluster->house;
  const ChoirToolAction *action = ask_action(house);
  const ChoirToolHouse *services = choir_toolbox_house(house->toolbox);
  double code = action->like(services, CODE_QUESTION), time = action->like(services, "what time is it now");
  g_assert_cmpfloat(code, >, time);
  g_autofree char *args = action->fill(services, "ask the coding expert how to reverse a string");
  house_holds(args, "\"expert\":\"coding\"");
  house_holds(args, "reverse a string");
  g_assert_null(action->fill(services, "what time is it now"));
  json_auto_t *schema = choir_toolbox_schema(house->toolbox, action);
  json_t *expert = json_object_get(json_object_get(schema, "properties"), "expert");
  g_assert_cmpuint(json_array_size(json_object_get(expert, "enum")), ==, 1);
  house_holds(choir_json_string(expert, "description", ""), "coding");
  g_assert_null(action->choices(services, "query"));
  g_assert_null(action->describe(services, "query"));
  cluster_free(cluster);
}

static void test_no_expert(void) {
  g_autoptr(House) house = house_new();
  const ChoirToolAction *action = ask_action(house);
  const ChoirToolHouse *services = choir_toolbox_house(house->toolbox);
  g_autofree char *why = house_fails(house, "route_to_expert.ask", ASK);
  house_holds(why, "no expert is known");
  house_holds(why, "[experts] list");
  g_assert_cmpfloat(action->like(services, CODE_QUESTION), ==, 0);
  g_assert_null(action->fill(services, CODE_QUESTION));
  g_assert_null(action->choices(services, "expert"));
}

static void test_sub_agent(void) {
  g_autoptr(House) house = house_new();
  const char *task = "{\"task_description\":\"list the folder letters, then tell me the time\"}";
  house->delegated = "letters: a.md\nIt is nine.\n";
  g_autofree char *answer = house_ok(house, "smol_agent_computer.run", task);
  g_assert_cmpstr(answer, ==, house->delegated);
  g_assert_cmpstr(house->task, ==, "list the folder letters, then tell me the time");
  /* A budget, and some of the tools: none that acts on other machines, and not itself. */
  g_assert_cmpuint(house->budget, ==, 8);
  g_auto(GStrv) tools = g_strsplit(house->tools, " ", -1);
  static const char *const never[] = {"ssh", "ansible", "orchestrator", "power", "ha", "smol_agent_computer"};
  for (guint i = 0; i < G_N_ELEMENTS(never); i++)
    g_assert_false(g_strv_contains((const char *const *)tools, never[i]));
  for (char **tool = tools; *tool; tool++) { /* each of them is one of the table */
    gboolean found = FALSE;
    for (guint i = 0; i < choir_toolbox_count(house->toolbox); i++)
      found |= g_str_equal(choir_toolbox_tool(house->toolbox, i)->id, *tool);
    g_assert_true(found);
  }
  house->delegated = "";
  g_autofree char *lost = house_fails(house, "smol_agent_computer.run", task);
  house_holds(lost, "the sub-agent is lost");
  house->no_delegate = TRUE;
  house_restart(house);
  g_autofree char *none = house_fails(house, "smol_agent_computer.run", task);
  house_holds(none, "there is no sub-agent here");
}

int main(int argc, char **argv) {
  alarm(200);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/tools/experts/ask", test_ask);
  g_test_add_func("/tools/experts/fails", test_fails);
  g_test_add_func("/tools/experts/interrupted", test_interrupted);
  g_test_add_func("/tools/experts/route", test_route);
  g_test_add_func("/tools/experts/none", test_no_expert);
  g_test_add_func("/tools/experts/sub-agent", test_sub_agent);
  return g_test_run();
}
