/* The registry: settings, Consul's answers, personas, routing; and tokens in files. */
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>
#include "base/text.h"
#include "cluster/ask.h"
#include "cluster/experts_private.h"
#include "cluster/likeness.h"
#include "cluster/main_model.h"
#include "cluster/persona.h"
#include "cluster/route.h"

typedef struct {
  ChoirHttpClient *http;
  ChoirExperts *experts;
  char *dir;
} House;

static House house_new(const char *list, const char *external, const char *prompts) {
  House house = {.http = choir_http_client_new(), .dir = g_dir_make_tmp("choir-experts-XXXXXX", NULL)};
  ChoirExpertsOptions options = {
      .http = house.http, .prompts_dir = prompts ? prompts : house.dir, .list = list, .external = external};
  house.experts = choir_experts_new(&options);
  choir_experts_watch(house.experts); /* as with a Consul, whose answers the test gives itself */
  return house;
}

static void house_clear(House *house) {
  choir_experts_free(house->experts);
  choir_http_client_free(house->http);
  while (g_main_context_iteration(NULL, FALSE))
    ;
  g_autofree char *command = g_strdup_printf("rm -rf '%s'", house->dir);
  g_assert_cmpint(system(command), ==, 0);
  g_free(house->dir);
}

static json_t *parse(const char *text) {
  g_autoptr(GError) error = NULL;
  json_t *json = choir_json_parse(text, strlen(text), &error);
  g_assert_no_error(error);
  return json;
}

static void catalog(House *house, const char *text) {
  json_auto_t *json = parse(text);
  choir_experts_catalog(json, NULL, house->experts);
}

static void service(House *house, const char *name, const char *text) {
  json_auto_t *json = parse(text);
  ChoirServiceWatch *watch = g_hash_table_lookup(house->experts->services, name);
  g_assert_nonnull(watch);
  choir_experts_service(json, NULL, watch);
}

static char *names(const House *house) {
  json_auto_t *json = choir_experts_names(house->experts);
  return choir_json_dump(json);
}

static gboolean problem(House *house, const char *part) {
  g_auto(GStrv) list = choir_experts_problems(house->experts);
  for (char **line = list; *line; line++)
    if (strstr(*line, part))
      return TRUE;
  return FALSE;
}

static void test_names(void) {
  g_assert_cmpstr(choir_expert_of_service("llama-api-coding"), ==, "coding");
  g_assert_cmpstr(choir_expert_of_service("expert-api-math"), ==, "math");
  g_assert_cmpstr(choir_expert_of_service("rpc-main"), ==, "main");
  g_assert_null(choir_expert_of_service("llamacpp-rpc-provider"));
  g_assert_null(choir_expert_of_service("llama-api-"));
  g_assert_null(choir_expert_of_service("llama-api-../x"));
  g_assert_null(choir_expert_of_service("nomad"));
}

static void test_list(void) {
  House house =
      house_new("coding=http://10.0.0.5:8080 10.0.0.6:8081, creative = https://h/ , bad name=http://x, broken, "
                "math=ftp://y",
                NULL, NULL);
  g_autofree char *have = names(&house);
  g_assert_cmpstr(have, ==, "[\"coding\",\"creative\"]");
  const ChoirExpert *coding = choir_experts_find(house.experts, "coding");
  g_assert_cmpuint(coding->replicas->len, ==, 2);
  g_assert_cmpstr(((ChoirReplica *)coding->replicas->pdata[1])->url, ==, "http://10.0.0.6:8081");
  g_assert_true(problem(&house, "bad name"));
  g_assert_true(problem(&house, "broken"));
  g_assert_true(problem(&house, "ftp://y"));
  house_clear(&house);
}

static void test_external(void) {
  g_setenv("TEST_EXPERT_KEY", "secret-of-the-test", TRUE);
  House house =
      house_new("math=http://10.0.0.5:1",
                " {\"law\": {\"base_url\": \"https://models.example/v1\", \"api_key_env\": \"TEST_EXPERT_KEY\", "
                "\"model\": \"jurist-7b\"}, \"math\": {\"base_url\": \"https://x\"}, \"none\": {\"model\": \"a\"}, "
                "\"poor\": {\"base_url\": \"https://y\", \"api_key_env\": \"TEST_NOT_SET\"}}",
                NULL);
  const ChoirExpert *law = choir_experts_find(house.experts, "law");
  const ChoirReplica *replica = law->replicas->pdata[0];
  g_assert_cmpstr(replica->model, ==, "jurist-7b");
  g_assert_cmpstr(choir_chat_headers(replica->chat), ==, "Authorization: Bearer secret-of-the-test");
  g_assert_true(choir_chat_plain(replica->chat));
  g_assert_null(g_getenv("TEST_EXPERT_KEY")); /* no child gets it */
  g_assert_true(problem(&house, "math is in [experts] list already"));
  g_assert_true(problem(&house, "none needs a \"base_url\""));
  g_assert_true(problem(&house, "TEST_NOT_SET"));
  house_clear(&house);
  static const char *const wrong[] = {"{\"law\": ", "[1]", "/nowhere/experts.json", "{}x"};
  for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
    House other = house_new(NULL, wrong[i], NULL);
    g_assert_cmpuint(choir_experts_count(other.experts), ==, 0);
    g_assert_true(problem(&other, "EXTERNAL_EXPERTS_CONFIG"));
    house_clear(&other);
  }
}

#define INSTANCE(id, address, port, tags, status)                                                                      \
  "{\"Node\":{\"Node\":\"worker1\",\"Address\":\"10.88.0.11\"},\"Service\":{\"ID\":\"" id "\",\"Address\":\"" address  \
  "\",\"Port\":" #port ",\"Tags\":[" tags                                                                              \
  "]},\"Checks\":[{\"Status\":\"passing\",\"Output\":\"\"},{\"Status\":\"" status                                      \
  "\",\"Output\":\"connection refused\"}]}"

static void test_consul(void) {
  House house = house_new(NULL, NULL, NULL);
  catalog(&house, "{\"consul\":[],\"nomad\":[],\"llama-api-coding\":[\"fallback\"],\"expert-api-math\":[]}");
  service(&house, "llama-api-coding",
          "[" INSTANCE("a", "10.88.0.12", 9001, "\"model=big.gguf\",\"ctx=4096\"",
                       "passing") "," INSTANCE("b", "", 9002, "\"fallback\",\"model=tiny.gguf\"",
                                               "passing") "," INSTANCE("c", "10.88.0.13", 9003, "", "critical") "]");
  const ChoirExpert *coding = choir_experts_find(house.experts, "coding");
  g_assert_cmpuint(coding->replicas->len, ==, 2);
  ChoirReplica *a = coding->replicas->pdata[0], *b = coding->replicas->pdata[1];
  g_assert_cmpstr(a->url, ==, "http://10.88.0.12:9001");
  g_assert_cmpstr(a->model, ==, "big.gguf");
  g_assert_false(a->fallback);
  g_assert_cmpstr(b->url, ==, "http://10.88.0.11:9002"); /* no address of its own: the node's */
  g_assert_true(b->fallback);
  a->first_s = 3; /* what is known of a server that stays is kept */
  service(&house, "llama-api-coding", "[" INSTANCE("a", "10.88.0.12", 9001, "\"model=big.gguf\"", "passing") "]");
  g_assert_cmpuint(coding->replicas->len, ==, 1);
  g_assert_cmpfloat(((ChoirReplica *)coding->replicas->pdata[0])->first_s, ==, 3);
  /* It came back at another port: another server. */
  service(&house, "llama-api-coding", "[" INSTANCE("a", "10.88.0.12", 9009, "\"model=big.gguf\"", "passing") "]");
  g_assert_cmpfloat(((ChoirReplica *)coding->replicas->pdata[0])->first_s, ==, 0);
  service(&house, "expert-api-math", "[" INSTANCE("m", "10.88.0.12", 1, "", "critical") "]");
  g_assert_true(problem(&house, "no server of expert-api-math is healthy: connection refused"));
  g_autofree char *have = names(&house);
  g_assert_cmpstr(have, ==, "[\"coding\"]"); /* nobody is sent to what cannot answer */
  service(&house, "expert-api-math", "[]");
  g_assert_true(problem(&house, "permission to read nodes"));
  catalog(&house, "{\"consul\":[]}");
  g_assert_cmpuint(choir_experts_count(house.experts), ==, 0);
  g_assert_false(problem(&house, "math"));
  house_clear(&house);
}

/* Denied looks like nothing: the list is kept, and it is said. So it is when Consul is lost. */
static void test_kept(void) {
  House house = house_new(NULL, NULL, NULL);
  g_autoptr(GError) away =
      g_error_new_literal(CHOIR_CONSUL_ERROR, CHOIR_CONSUL_ERROR_AWAY, "Consul does not answer: x");
  catalog(&house, "{\"consul\":[],\"llama-api-coding\":[]}");
  service(&house, "llama-api-coding", "[" INSTANCE("a", "10.88.0.12", 9001, "", "passing") "]");
  catalog(&house, "{}");
  g_assert_cmpuint(choir_experts_count(house.experts), ==, 1);
  g_assert_true(problem(&house, "without permission"));
  choir_experts_catalog(NULL, away, house.experts);
  choir_experts_service(NULL, away, g_hash_table_lookup(house.experts->services, "llama-api-coding"));
  g_assert_cmpuint(choir_experts_count(house.experts), ==, 1);
  g_assert_true(problem(&house, "Consul does not answer"));
  catalog(&house, "{\"consul\":[],\"llama-api-coding\":[]}");
  g_assert_false(problem(&house, "Consul"));
  house_clear(&house);
}

/* Two spellings of one expert are its two servers; what stands in the settings is not taken over by Consul. */
static void test_merge(void) {
  House house = house_new("math=http://10.0.0.9:1", NULL, NULL);
  catalog(&house, "{\"llama-api-coding\":[],\"rpc-coding\":[],\"llama-api-math\":[]}");
  service(&house, "llama-api-coding", "[" INSTANCE("a", "10.88.0.12", 1, "", "passing") "]");
  service(&house, "rpc-coding", "[" INSTANCE("b", "10.88.0.13", 2, "", "passing") "]");
  g_assert_cmpuint(choir_experts_find(house.experts, "coding")->replicas->len, ==, 2);
  g_assert_null(g_hash_table_lookup(house.experts->services, "llama-api-math"));
  catalog(&house, "{\"rpc-coding\":[]}");
  g_assert_cmpuint(choir_experts_find(house.experts, "coding")->replicas->len, ==, 1);
  GString *many = g_string_new("{");
  for (guint i = 0; i < 60; i++)
    g_string_append_printf(many, "%s\"llama-api-e%u\":[]", i ? "," : "", i);
  g_string_append_c(many, '}');
  catalog(&house, many->str);
  g_assert_true(problem(&house, "more experts are in Consul than are watched"));
  g_string_free(many, TRUE);
  house_clear(&house);
}

static void test_main_model(void) {
  json_auto_t *answer = parse("[" INSTANCE("a", "10.0.0.1", 1, "", "critical") "," INSTANCE(
      "b", "10.0.0.2", 2, "", "passing") "," INSTANCE("c", "10.0.0.3", 3, "", "passing") "]");
  g_autofree char *first = choir_main_model_pick(answer, NULL);
  g_assert_cmpstr(first, ==, "http://10.0.0.2:2");
  g_autofree char *stay = choir_main_model_pick(answer, "http://10.0.0.3:3");
  g_assert_cmpstr(stay, ==, "http://10.0.0.3:3");
  g_autofree char *sick = choir_main_model_pick(answer, "http://10.0.0.1:1");
  g_assert_cmpstr(sick, ==, "http://10.0.0.2:2");
  json_auto_t *none = parse("[]");
  g_assert_null(choir_main_model_pick(none, "http://10.0.0.3:3"));
}

/* Junk from the network is no reason to fall over. */
static void test_junk(void) {
  House house = house_new(NULL, NULL, NULL);
  catalog(&house, "{\"llama-api-coding\":[]}");
  service(&house, "llama-api-coding",
          "[1,null,\"x\",{},{\"Node\":7},{\"Service\":{\"Port\":99999}},{\"Service\":{\"Port\":5,\"Address\":\"h\"},"
          "\"Checks\":7}]");
  g_assert_cmpuint(choir_experts_find(house.experts, "coding")->replicas->len, ==, 1);
  json_auto_t *text = json_string("no list");
  choir_experts_catalog(text, NULL, house.experts);
  choir_experts_service(text, NULL, g_hash_table_lookup(house.experts->services, "llama-api-coding"));
  g_assert_true(problem(&house, "without permission"));
  house_clear(&house);
}

static void write_file(const House *house, const char *name, const char *text) {
  g_autofree char *path = g_build_filename(house->dir, name, NULL);
  g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void test_persona(void) {
  House house = house_new(NULL, NULL, NULL);
  g_autoptr(ChoirExpertPersona) none = choir_expert_persona_read(house.dir, "coding", 0);
  g_assert_false(none->found);
  g_assert_nonnull(strstr(none->text, "coding"));
  write_file(&house, "coding_expert.txt", "# a comment\n#example: sort a list\nYou code.\n");
  g_autoptr(ChoirExpertPersona) one = choir_expert_persona_read(house.dir, "coding", 0);
  g_assert_cmpstr(one->text, ==, "You code.");
  g_assert_cmpuint(one->examples->len, ==, 1);
  write_file(&house, "coding_expert.txt", "You code well.\n"); /* read again every time */
  write_file(&house, "coding_expert.small.txt", "Code.\n");
  g_autoptr(ChoirExpertPersona) two = choir_expert_persona_read(house.dir, "coding", 7000000000);
  g_assert_cmpstr(two->text, ==, "You code well.");
  g_autoptr(ChoirExpertPersona) small = choir_expert_persona_read(house.dir, "coding", 135000000);
  g_assert_cmpstr(small->text, ==, "Code.");
  g_autoptr(ChoirExpertPersona) out = choir_expert_persona_read(house.dir, "../coding", 0);
  g_assert_false(out->found);
  house_clear(&house);
}

static void expect_route(const House *house, const char *text, const char *expert, const char *query) {
  ChoirRoute route;
  choir_experts_route(house->experts, text, &route);
  g_test_message("%s: %s %.2f", text, route.expert ? route.expert : "none", route.likeness);
  g_assert_cmpstr(route.expert, ==, expert);
  if (query)
    g_assert_cmpstr(route.query, ==, query);
  choir_route_clear(&route);
}

static void test_route(void) {
  House house =
      house_new("coding=http://10.0.0.5:1,creative=http://10.0.0.5:2,deep-math=http://10.0.0.5:3", NULL, PROMPTS_DIR);
  expect_route(&house, "Please ask the coding expert how to sort a list.", "coding", "how to sort a list.");
  expect_route(&house, "ask deep math about the number seven", "deep-math", "the number seven");
  expect_route(&house, "ask the coding expert", "coding", NULL);
  ChoirRoute told;
  choir_experts_route(house.experts, "I did ask the coding expert yesterday and he was rude", &told);
  g_assert_cmpfloat(told.likeness, <, 1); /* told of, not asked for */
  choir_route_clear(&told);
  expect_route(&house, "zzz qqq", NULL, NULL);
  expect_route(&house, "how do I loop over an array in python", "coding", NULL);
  choir_experts_add_other(house.experts, "lamp", "how do I loop over an array in python");
  expect_route(&house, "loop over an array in python", NULL, NULL);
  expect_route(&house, "", NULL, NULL);
  expect_route(&house, "write a poem about a python function", "creative", NULL);
  house_clear(&house);
}

/* The bench prints the rates; here only that the choice is far from chance, so that a broken one is noticed. */
static void test_questions(void) {
  House house = house_new("coding=http://10.0.0.5:1,creative=http://10.0.0.5:2", NULL, PROMPTS_DIR);
  g_autofree char *text = NULL;
  guint n = 0, right = 0;
  g_assert_true(g_file_get_contents(QUESTIONS_DIR "/tuning.tsv", &text, NULL, NULL));
  g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
  for (char **line = lines; *line; line++) {
    g_auto(GStrv) fields = g_strsplit(*line, "\t", 2);
    if (**line == '#' || g_strv_length(fields) != 2)
      continue;
    ChoirRoute route;
    choir_experts_route(house.experts, fields[1], &route);
    right += g_str_equal(fields[0], route.expert ? route.expert : "none");
    n++;
    choir_route_clear(&route);
  }
  g_assert_cmpuint(n, >=, 80);
  g_assert_cmpuint(right * 100, >=, n * 75);
  house_clear(&house);
}

static void test_likeness(void) {
  g_autoptr(ChoirLikeness) likeness = choir_likeness_new();
  double shares[CHOIR_LIKENESS_CLASSES];
  choir_likeness_add(likeness, 0, "sing a song");
  choir_likeness_add(likeness, 1, "mow the lawn");
  g_assert_cmpfloat(choir_likeness_ask(likeness, "xyz", shares), ==, 0);
  g_assert_cmpfloat(choir_likeness_ask(likeness, "Singing songs!", shares), >, 0.9);
  g_assert_cmpfloat(shares[0], >, 0.8);
  g_assert_cmpfloat_with_epsilon(shares[0] + shares[1], 1, 1e-9);
  g_autofree char *long_text = g_strnfill(1 << 20, 'a');
  choir_likeness_ask(likeness, long_text, shares);
}

static char *fed(const char *said, const char *pieces) {
  ChoirEcho echo = {0};
  GString *out = g_string_new(NULL);
  g_auto(GStrv) list = g_strsplit(pieces, "|", -1);
  choir_echo_init(&echo, said);
  for (char **piece = list; *piece; piece++) {
    g_autofree char *fresh = choir_echo_feed(&echo, *piece);
    g_string_append(out, fresh);
  }
  g_autofree char *rest = choir_echo_end(&echo);
  g_string_append(out, rest);
  choir_echo_clear(&echo);
  return g_string_free(out, FALSE);
}

static void test_echo(void) {
  static const struct {
    const char *said, *pieces, *fresh;
  } rows[] = {{"", "a|b", "ab"},
              {"The sea", "The| sea| is| deep", " is deep"},
              {"The sea", "The sea is| deep", " is deep"},
              {"The sea", " is| deep", " is deep"},
              {"The sea", "The|re is", "There is"},
              {"The sea", "The sea", ""},
              {"The sea", "The", "The"},
              {"The sea", "", ""}};
  for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_autofree char *fresh = fed(rows[i].said, rows[i].pieces);
    g_assert_cmpstr(fresh, ==, rows[i].fresh);
  }
}

static void test_thread(void) {
  House house = house_new("coding=http://10.0.0.5:1", NULL, NULL);
  ChoirThread *thread = choir_experts_thread(house.experts, 1, "coding");
  for (guint i = 0; i < 100; i++) {
    g_autofree char *answer = g_strnfill(500, 'x');
    choir_thread_add(thread, "question", answer);
    g_assert_cmpuint(json_array_size(thread->messages), >=, 2);
    g_assert_cmpuint(json_array_size(thread->messages), <=, 34);
    g_assert_cmpuint(json_array_size(thread->messages) % 2, ==, 0);
  }
  g_assert_true(choir_experts_thread(house.experts, 1, "coding") == thread);
  for (gint64 i = 2; i < 300; i++)
    choir_experts_thread(house.experts, i, "coding");
  g_assert_cmpuint(house.experts->threads->len, <=, 64);
  house_clear(&house);
}

static void test_token(void) {
  House house = house_new(NULL, NULL, NULL);
  g_autofree char *path = g_build_filename(house.dir, "token", NULL);
  g_autoptr(ChoirToken) token = choir_token_new(path, NULL);
  g_assert_null(choir_token_read(token));
  g_assert_nonnull(strstr(choir_token_problem(token), "cannot be read"));
  write_file(&house, "token", "first-token\n");
  g_assert_cmpstr(choir_token_read(token), ==, "first-token");
  g_assert_null(choir_token_problem(token));
  guint before = choir_token_changes(token);
  write_file(&house, "token", "second-token\n");
  g_assert_cmpstr(choir_token_read(token), ==, "second-token");
  g_assert_cmpuint(choir_token_changes(token), ==, before + 1);
  write_file(&house, "token", "two words\n");
  g_assert_null(choir_token_read(token));
  g_assert_nonnull(strstr(choir_token_problem(token), "holds no token"));
  g_autoptr(ChoirToken) plain = choir_token_new("", "from-the-environment");
  g_assert_cmpstr(choir_token_read(plain), ==, "from-the-environment");
  house_clear(&house);
}

static void test_texts(void) {
  House house = house_new("coding=http://10.0.0.5:1", NULL, NULL);
  ChoirExpert *coding = choir_experts_find(house.experts, "coding");
  g_autofree char *before = choir_experts_text(house.experts);
  g_assert_cmpstr(before, ==, "- Expert: coding (Type: local, Health: unknown)\n  - Successes: 0, Failures: 0\n");
  coding->answered = 2;
  coding->failed = 1;
  coding->seconds = 3;
  g_autofree char *after = choir_experts_text(house.experts);
  g_assert_cmpstr(after, ==,
                  "- Expert: coding (Type: local, Health: healthy)\n  - Successes: 2, Failures: 1\n"
                  "  - Average Latency: 1.50s\n");
  g_autofree char *summary = choir_experts_summary(house.experts);
  g_assert_cmpstr(summary, ==, "which expert: coding (healthy, 2 answered, 1 failed, 1.5 s)");
  json_auto_t *json = choir_experts_json(house.experts);
  g_assert_cmpuint(json_array_size(json_object_get(json, "list")), ==, 1);
  house_clear(&house);
}

int main(int argc, char **argv) {
  alarm(100);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/experts/names", test_names);
  g_test_add_func("/experts/list", test_list);
  g_test_add_func("/experts/external", test_external);
  g_test_add_func("/experts/consul", test_consul);
  g_test_add_func("/experts/kept", test_kept);
  g_test_add_func("/experts/merge", test_merge);
  g_test_add_func("/experts/main-model", test_main_model);
  g_test_add_func("/experts/junk", test_junk);
  g_test_add_func("/experts/persona", test_persona);
  g_test_add_func("/experts/route", test_route);
  g_test_add_func("/experts/questions", test_questions);
  g_test_add_func("/experts/likeness", test_likeness);
  g_test_add_func("/experts/echo", test_echo);
  g_test_add_func("/experts/thread", test_thread);
  g_test_add_func("/experts/token", test_token);
  g_test_add_func("/experts/texts", test_texts);
  return g_test_run();
}
