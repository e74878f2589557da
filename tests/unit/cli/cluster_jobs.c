/* The parts of the cluster's commands that need no cluster: states of jobs, placement, lists of models, logs. */
#include <glib.h>
#include <string.h>
#include "base/text.h"
#include "cli/expert_find.h"
#include "cli/expert_models.h"
#include "cli/expert_private.h"
#include "cli/health.h"
#include "cli/jobs_api.h"
#include "cli/jobs_state.h"
#include "cli/logs.h"
#include "cli/placement.h"

static json_t *parse(const char *text) {
  g_autoptr(GError) error = NULL;
  json_t *json = choir_json_parse(text, (gssize)strlen(text), &error);
  g_assert_no_error(error);
  return json;
}

static ChoirJobState *state_of(const char *job, const char *allocs, const char *critical, const char *evals) {
  json_auto_t *one = parse(job), *two = parse(allocs), *three = critical ? parse(critical) : NULL,
              *four = evals ? parse(evals) : NULL;
  return choir_job_state(one, two, three, four);
}

#define RUNNING "{\"ID\":\"a1\",\"CreateIndex\":1,\"DesiredStatus\":\"run\",\"ClientStatus\":\"running\"}"
#define SERVICE(count)                                                                                                 \
  "{\"Type\":\"service\",\"Status\":\"running\",\"TaskGroups\":[{\"Name\":\"g\",\"Count\":" #count "}]}"

static void test_states(void) {
  static const struct {
    const char *job, *allocs, *critical, *evals;
    ChoirJobStatus status;
    const char *why;
  } cases[] = {
      {SERVICE(1), "[" RUNNING "]", "[]", NULL, CHOIR_JOB_HEALTHY, ""},
      {SERVICE(0), "[]", "[]", NULL, CHOIR_JOB_SLEEPING, ""},
      {"{\"Type\":\"service\",\"Stop\":true,\"TaskGroups\":[{\"Count\":1}]}", "[]", NULL, NULL, CHOIR_JOB_STOPPED, ""},
      {SERVICE(2), "[" RUNNING "]", NULL, NULL, CHOIR_JOB_UNHEALTHY, "1 of 2 run"},
      {SERVICE(1), "[{\"ID\":\"a\",\"DesiredStatus\":\"run\",\"ClientStatus\":\"pending\"}]", NULL, NULL,
       CHOIR_JOB_STARTING, "0 of 1 run"},
      {SERVICE(1), "[" RUNNING "]",
       "[{\"ServiceID\":\"choir-expert-a1\",\"ServiceName\":\"llama-api-x\",\"Output\":\"timeout\\nmore\"}]", NULL,
       CHOIR_JOB_UNHEALTHY, "the check of llama-api-x fails: timeout"},
      {SERVICE(1), "[" RUNNING "]", "[{\"ServiceID\":\"choir-expert-b2\",\"ServiceName\":\"other\"}]", NULL,
       CHOIR_JOB_HEALTHY, ""},
      {SERVICE(1), "[]", NULL,
       "[{\"CreateIndex\":9,\"FailedTGAllocs\":{\"g\":{\"NodesEvaluated\":2,\"DimensionExhausted\":{\"memory\":2}}}}]",
       CHOIR_JOB_UNHEALTHY, "0 of 1 run: group g: memory is used up on 2 node(s)"},
      {SERVICE(1),
       "[{\"ID\":\"a\",\"DesiredStatus\":\"run\",\"ClientStatus\":\"failed\",\"TaskStates\":{\"t\":{\"Failed\":true,"
       "\"Events\":[{\"Type\":\"Terminated\",\"DisplayMessage\":\"Exit Code: 3\"},{\"Type\":\"Not Restarting\","
       "\"DisplayMessage\":\"Exceeded\"}]}}}]",
       NULL, NULL, CHOIR_JOB_UNHEALTHY, "0 of 1 run: Exit Code: 3"},
      {"{\"Type\":\"batch\",\"Status\":\"dead\",\"TaskGroups\":[{\"Count\":1}]}",
       "[{\"ID\":\"a\",\"ClientStatus\":\"complete\",\"CreateIndex\":1}]", NULL, NULL, CHOIR_JOB_FINISHED, ""},
      {"{\"Type\":\"batch\",\"Status\":\"dead\",\"TaskGroups\":[{\"Count\":1}]}",
       "[{\"ID\":\"b\",\"ClientStatus\":\"failed\",\"CreateIndex\":2},{\"ID\":\"a\",\"ClientStatus\":\"complete\","
       "\"CreateIndex\":1}]",
       NULL, NULL, CHOIR_JOB_FAILED, "its last run failed"},
      {"{\"Type\":\"batch\",\"Status\":\"running\",\"ParameterizedJob\":{}}", "[]", NULL, NULL, CHOIR_JOB_ON_DEMAND,
       ""},
      {"{\"Type\":\"batch\",\"Status\":\"running\",\"Periodic\":{}}", "[]", NULL, NULL, CHOIR_JOB_ON_DEMAND, ""},
      {"{\"Type\":\"batch\",\"Status\":\"dead\",\"ParameterizedJob\":{},\"Dispatched\":true}", "[]", NULL, NULL,
       CHOIR_JOB_FINISHED, ""},
      {"{}", "[]", NULL, NULL, CHOIR_JOB_SLEEPING, ""},
      {"{\"TaskGroups\":{\"no\":1},\"Type\":7}", "[]", "{}", "7", CHOIR_JOB_SLEEPING, ""},
  };
  for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autoptr(ChoirJobState) state = cases[i].evals && *cases[i].evals == '7'
                                         ? state_of(cases[i].job, cases[i].allocs, cases[i].critical, NULL)
                                         : state_of(cases[i].job, cases[i].allocs, cases[i].critical, cases[i].evals);
    g_test_message("case %zu: %s", i, state->why);
    g_assert_cmpstr(choir_job_status_name(state->status), ==, choir_job_status_name(cases[i].status));
    g_assert_cmpstr(state->why, ==, cases[i].why);
  }
}

static void test_counts_are_kept(void) {
  json_auto_t *job = parse("{\"TaskGroups\":[{\"Name\":\"a\",\"Count\":1},{\"Name\":\"b\",\"Count\":5}]}");
  json_auto_t *before = parse("{\"TaskGroups\":[{\"Name\":\"a\",\"Count\":0}]}");
  choir_job_keep_counts(job, before);
  g_assert_cmpuint(choir_job_wanted(job), ==, 5);
}

static void test_variables(void) {
  g_autofree char *line = choir_jobs_variable("models", "[\"a\\b\"] ${x} %{y} $z\n");
  g_assert_cmpstr(line, ==, "models = \"[\\\"a\\\\b\\\"] $${x} %%{y} $z\\n\"\n");
  static const char source[] =
      "variable \"a\" {\n  type    = string\n  default = \"x\"\n}\n\nvariable \"n\" {\n  default = 3\n}\n"
      "variable \"none\" {\n  type = string\n}\n";
  g_autofree char *one = choir_jobs_with_default(source, "a", "say \"hi\"");
  g_assert_nonnull(strstr(one, "  default = \"say \\\"hi\\\"\"\n}\n\nvariable \"n\""));
  g_autofree char *two = choir_jobs_with_default(source, "n", "17");
  g_assert_nonnull(strstr(two, "  default = 17\n}\n"));
  const char *const untouched[] = {"none", "absent"};
  for (gsize i = 0; i < 2; i++) {
    g_autofree char *same = choir_jobs_with_default(source, untouched[i], "1");
    g_assert_cmpstr(same, ==, source);
  }
}

static const char nodes_text[] =
    "[{\"Name\":\"b\",\"Status\":\"ready\",\"Meta\":{\"choir_cpu\":\"ssse3\",\"choir_gbps\":\"4.0\",\"choir_ram_mb\":"
    "\"8000\"},"
    "\"NodeResources\":{\"Memory\":{\"MemoryMB\":7900}}},"
    "{\"Name\":\"a\",\"Status\":\"ready\",\"Meta\":{\"choir_gbps\":\"20\",\"choir_ram_mb\":\"1500\"}},"
    "{\"Name\":\"c\",\"Status\":\"down\",\"NodeResources\":{\"Memory\":{\"MemoryMB\":500}}}]";

static void test_placement(void) {
  g_autoptr(GError) error = NULL;
  static const char list[] = "[{\"filename\":\"big\",\"memory_mb\":5000},{\"filename\":\"mid\",\"memory_mb\":900},"
                             "{\"filename\":\"small\",\"memory_mb\":320}]";
  json_auto_t *details = parse(nodes_text);
  g_autoptr(GPtrArray) nodes = choir_place_nodes(details);
  g_autoptr(GPtrArray) models = choir_expert_models_parse(list, NULL, &error);
  g_assert_no_error(error);
  g_assert_cmpuint(nodes->len, ==, 3);
  g_autoptr(GPtrArray) placements = choir_place(nodes, models, NULL);
  const ChoirPlacement *a = placements->pdata[0], *b = placements->pdata[1], *c = placements->pdata[2];
  g_assert_cmpstr(a->node->name, ==, "a");
  g_assert_cmpstr(a->model, ==, "small"); /* 1.5 GB: only the light one */
  g_assert_cmpuint(b->node->ram_mb, ==, 7900);
  g_assert_cmpstr(b->model, ==, "mid"); /* 4 GB/s: the big one fits and would write one token a second */
  g_assert_null(c->model);
  g_assert_cmpuint(choir_place_reserve(nodes, models, &error), ==, 320);
  g_assert_no_error(error);
  json_auto_t *benches = json_pack("{s:f}", "b/big", 6.0); /* measured, it is fast enough */
  g_autoptr(GPtrArray) again = choir_place(nodes, models, benches);
  const ChoirPlacement *better = again->pdata[1];
  g_assert_cmpstr(better->model, ==, "big");
  g_assert_true(better->measured);
  g_autoptr(GPtrArray) large = choir_expert_models_parse("[{\"filename\":\"big\",\"memory_mb\":5000}]", NULL, NULL);
  g_assert_cmpuint(choir_place_reserve(nodes, large, &error), ==, 0);
  g_assert_nonnull(strstr(error->message, "needs 5000 MB and the node a"));
}

static void test_model_lists(void) {
  static const char *const bad[] = {"",
                                    "{}",
                                    "[]",
                                    "[1]",
                                    "[{}]",
                                    "[{\"filename\":\"../x\"}]",
                                    "[{\"filename\":\".x\"}]",
                                    "[{\"filename\":\"x\",\"memory_mb\":-1}]"};
  for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) models = choir_expert_models_parse(bad[i], NULL, &error);
    g_assert_null(models);
    g_assert_nonnull(error);
  }
  g_autofree char *folder = g_dir_make_tmp("choir-models-XXXXXX", NULL);
  g_autofree char *file = g_build_filename(folder, "b", NULL);
  g_assert_true(g_file_set_contents(file, "xx", 2, NULL));
  const char *const folders[] = {folder, NULL};
  g_autoptr(GPtrArray) models = choir_expert_models_parse(
      "[{\"filename\":\"b\",\"memory_mb\":5},{\"name\":\"A\",\"filename\":\"a\",\"memory_mb\":9}]", folders, NULL);
  choir_expert_models_order(models, 4);
  const ChoirExpertModel *first = models->pdata[0];
  g_assert_cmpstr(first->name, ==, "A");
  g_autofree char *reasons = choir_expert_models_reasons(models);
  g_assert_cmpstr(reasons, ==, "A is not on this node; b needs 5 MB, 4 MB are reserved");
  choir_expert_models_order(models, 0);
  g_assert_null(((ChoirExpertModel *)models->pdata[1])->why);
  g_assert_cmpstr(choir_expert_models_smallest(models)->name, ==, "b");
  remove(file);
  remove(folder);
}

static void test_entries(void) {
  json_auto_t *body =
      choir_expert_entry_json("id", "llama-api-x", "10.0.0.7", 9, "m.gguf", 4096, TRUE, "because", "a1");
  const json_t *tags = json_object_get(body, "Tags");
  g_assert_cmpuint(json_array_size(tags), ==, 3);
  g_assert_cmpstr(choir_json_string(json_object_get(body, "Check"), "HTTP", ""), ==, "http://10.0.0.7:9/health");
  json_auto_t *connect = choir_expert_mesh_json("llama-api-x", "10.0.0.7", 10);
  const json_t *sidecar = json_object_get(connect, "SidecarService");
  g_assert_null(choir_expert_name_of(choir_json_string(sidecar, "Name", NULL))); /* it is no expert itself */
  g_assert_cmpstr(choir_json_string(sidecar, "Name", ""), ==, "llama-mesh-x");
  g_assert_cmpint(choir_json_int(sidecar, "Port", 0), ==, 10);
  g_assert_cmpstr(choir_json_string(json_object_get(sidecar, "Proxy"), "LocalServiceAddress", ""), ==, "10.0.0.7");
  json_auto_t *entry = json_pack("{s:O,s:{s:s},s:[{s:s,s:s}]}", "Service", body, "Node", "Node", "n1", "Checks",
                                 "Status", "critical", "Output", "refused\nmore");
  ChoirFoundExpert *found = choir_expert_found_of("llama-api-x", entry);
  g_assert_cmpstr(found->name, ==, "x");
  g_assert_cmpstr(found->address, ==, "10.0.0.7:9");
  g_assert_cmpstr(found->model, ==, "m.gguf");
  g_assert_cmpstr(found->output, ==, "refused");
  g_assert_true(found->fallback && !found->passing);
  choir_expert_found_free(found);
  g_assert_cmpstr(choir_expert_name_of("expert-api-y"), ==, "y");
  g_assert_cmpstr(choir_expert_name_of("rpc-z"), ==, "z");
  g_assert_null(choir_expert_name_of("llama-api-"));
  g_assert_null(choir_expert_name_of("pipecat-app"));
}

/* The head of a model that is spread over nodes must see that a worker was lost, and no more than that. */
static void test_lost_workers(void) {
#define WORKER(id, index, check, node)                                                                                 \
  "{\"Node\":{\"Node\":\"n" id "\"},\"Service\":{\"ID\":\"" id "\",\"CreateIndex\":" index "},\"Checks\":["            \
  "{\"CheckID\":\"serfHealth\",\"Status\":\"" node "\"},{\"CheckID\":\"x\",\"Status\":\"" check "\"}]}"
  static const struct {
    const char *now, *why;
  } cases[] = {
      {"[" WORKER("2", "8", "passing", "passing") "," WORKER("1", "7", "passing", "passing") "]", NULL},
      {"[" WORKER("1", "7", "critical", "passing") "," WORKER("2", "8", "passing", "passing") "]", NULL},
      {"[" WORKER("1", "7", "passing", "passing") "]", "the rpc-server on n2 has ended"},
      {"[]", "the rpc-server on n1 has ended"},
      {"[" WORKER("1", "9", "passing", "passing") "," WORKER("2", "8", "passing", "passing") "]",
       "the rpc-server on n1 was started anew"},
      {"[" WORKER("1", "7", "passing", "passing") "," WORKER("2", "8", "passing", "critical") "]",
       "n2, which holds layers, is away"},
  };
  json_auto_t *chosen =
      parse("[" WORKER("1", "7", "passing", "passing") "," WORKER("2", "8", "passing", "passing") "]");
  for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
    json_auto_t *now = parse(cases[i].now);
    g_autofree char *why = choir_expert_workers_lost(chosen, now);
    g_assert_cmpstr(why, ==, cases[i].why);
  }
}

static void test_logs(void) {
  g_assert_cmpstr(choir_logs_tail("a\nb\nc\n", 2), ==, "b\nc\n");
  g_assert_cmpstr(choir_logs_tail("a\nb\nc", 1), ==, "c");
  g_assert_cmpstr(choir_logs_tail("a\nb\n", 9), ==, "a\nb\n");
  g_assert_cmpstr(choir_logs_tail("a\nb\n", 0), ==, "a\nb\n");
  g_assert_cmpstr(choir_logs_tail("", 3), ==, "");
  g_autofree char *large = g_strnfill(CHOIR_LOGS_KEPT + 10, 'x');
  json_auto_t *record = choir_logs_record("a", "n", "t", large, "e");
  g_assert_cmpuint(strlen(choir_json_string(record, "stdout", "")), ==, CHOIR_LOGS_KEPT);
  g_autofree char *key = choir_logs_key("default", "a/b c");
  g_assert_cmpstr(key, ==, "/v1/kv/choir/logs/default/a%2Fb%20c");
}

static void test_health(void) {
  g_assert_true(choir_health_sensible("Paris."));
  g_assert_true(choir_health_sensible("The capital of France is Paris."));
  static const char *const bad[] = {"", "   ", "GGGGGGGGGGGGGGGG", "!!!!!!!!!!!!!!!!", "42", "????"};
  for (gsize i = 0; i < G_N_ELEMENTS(bad); i++)
    g_assert_false(choir_health_sensible(bad[i]));
  json_auto_t *jobs =
      parse("[{\"Meta\":{\"choir_services\":\"llama-api-a, llama-api-b\"},\"TaskGroups\":[{\"Count\":2}]},"
            "{\"Meta\":{\"choir_services\":\"llama-api-c\"},\"TaskGroups\":[{\"Count\":0}]},"
            "{\"Meta\":{\"choir_services\":\"llama-api-d\"},\"Stop\":true,\"TaskGroups\":[{\"Count\":1}]},"
            "{\"Meta\":{\"choir_services\":\"pipecat-app\"},\"TaskGroups\":[{\"Count\":1}]}]");
  g_autoptr(GPtrArray) asleep = g_ptr_array_new_with_free_func(g_free);
  g_assert_cmpuint(choir_health_expected(jobs, asleep), ==, 2);
  g_assert_cmpuint(asleep->len, ==, 1);
  g_assert_cmpstr(asleep->pdata[0], ==, "c");
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/cluster-jobs/states", test_states);
  g_test_add_func("/cluster-jobs/counts", test_counts_are_kept);
  g_test_add_func("/cluster-jobs/variables", test_variables);
  g_test_add_func("/cluster-jobs/placement", test_placement);
  g_test_add_func("/cluster-jobs/models", test_model_lists);
  g_test_add_func("/cluster-jobs/entries", test_entries);
  g_test_add_func("/cluster-jobs/lost-workers", test_lost_workers);
  g_test_add_func("/cluster-jobs/logs", test_logs);
  g_test_add_func("/cluster-jobs/health", test_health);
  return g_test_run();
}
