#include <ctype.h>
#include <gio/gio.h>
#include <stdio.h>
#include <string.h>
#include "base/text.h"
#include "cli/cli.h"
#include "cli/expert_find.h"
#include "cli/expert_private.h"
#include "cli/health.h"

#define NAME "health"

static gboolean option_json;
static int option_expect = -1, option_timeout = 120;
static char *option_question, *option_key, *option_nomad, *option_consul, *option_nomad_token, *option_consul_token;

static const GOptionEntry entries[] = {
    {"expect", 0, 0, G_OPTION_ARG_INT, &option_expect,
     "experts that must be there (default: those that Nomad's jobs want, at least one without Nomad)", "N"},
    {"question", 'q', 0, G_OPTION_ARG_STRING, &option_question, "what each is asked", "TEXT"},
    {"timeout", 0, 0, G_OPTION_ARG_INT, &option_timeout, "seconds for one answer (default 120)", "S"},
    {"key-file", 0, 0, G_OPTION_ARG_FILENAME, &option_key, "the experts' key (default: " CHOIR_EXPERT_KEY_FILE ")",
     "FILE"},
    {"json", 0, 0, G_OPTION_ARG_NONE, &option_json, "print JSON", NULL},
    CHOIR_API_NOMAD_OPTIONS(option_nomad, option_nomad_token),
    CHOIR_API_CONSUL_OPTIONS(option_consul, option_consul_token),
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "Asks every expert of the cluster a real question and waits for its answer. An expert that sleeps (count 0) is "
    "not\n"
    "waked and is no failure.\n\n"
    "Examples:\n"
    "  choir health\n"
    "  choir health --json --expect 2\n\n"
    "Exit codes: 0 every expert answered, 1 one did not, or fewer are there than expected, 2 wrong usage.\n";

gboolean choir_health_sensible(const char *answer) {
  gsize letters = 0, same = 0, total = 0;
  for (const char *at = answer; *at; at++) {
    total++;
    letters += g_ascii_isalpha(*at) != 0 || (guchar)*at >= 0x80;
    same += at > answer && at[0] == at[-1];
  }
  /* Broken weights and kernels write one sign over and over, or none that is a letter. */
  return letters >= 2 && (total < 8 || same * 10 < total * 8);
}

guint choir_health_expected(const json_t *jobs, GPtrArray *ret_asleep) {
  guint expected = 0;
  size_t i;
  json_t *job;
  json_array_foreach((json_t *)jobs, i, job) {
    const char *services = choir_json_string(json_object_get(job, "Meta"), "choir_services", "");
    g_auto(GStrv) names = g_strsplit_set(services, ", ", -1);
    for (char **name = names; *name; name++) {
      const char *expert = choir_expert_name_of(*name);
      if (!expert || choir_json_bool(job, "Stop", FALSE))
        continue;
      if (choir_job_wanted(job) > 0)
        expected++;
      else
        g_ptr_array_add(ret_asleep, g_strdup(expert));
    }
  }
  return expected;
}

/* Whole jobs of Nomad, an array; NULL when it cannot be asked. */
static json_t *nomads_jobs(void) {
  g_autoptr(ChoirApi) nomad = choir_api_new(CHOIR_API_NOMAD, option_nomad, option_nomad_token, NULL);
  json_auto_t *list = nomad ? choir_api_json(nomad, "GET", "/v1/jobs?namespace=*", NULL, NULL, NULL) : NULL;
  json_t *jobs = list ? json_array() : NULL;
  size_t i;
  json_t *stub;
  json_array_foreach(list, i, stub) {
    g_autofree char *path =
        choir_jobs_path(choir_json_string(stub, "Namespace", "default"), choir_json_string(stub, "ID", ""), "", "");
    json_t *job = choir_api_json(nomad, "GET", path, NULL, NULL, NULL);
    if (job)
      json_array_append_new(jobs, job);
  }
  return jobs;
}

/* "" when the expert answered sensibly, else what is wrong. ret_answer: its first line. Caller frees both. */
static char *question(ChoirApi *consul, const ChoirFoundExpert *expert, const char *headers, char **ret_answer) {
  g_autoptr(GError) error = NULL;
  const char *text = option_question ? option_question : "Say in one sentence what a library is.";
  json_auto_t *body = json_pack("{s:[{s:s,s:s}],s:i,s:f}", "messages", "role", "user", "content", text, "max_tokens",
                                24, "temperature", 0.0);
  g_autofree char *sent = choir_json_dump(body);
  g_autofree char *url = g_strdup_printf("http://%s/v1/chat/completions", expert->address);
  if (!expert->passing)
    return g_strdup_printf("its check fails: %s", *expert->output ? expert->output : "no word why");
  g_autofree char *got = choir_api_outside(consul, url, headers, sent, (guint)option_timeout * 1000, NULL, &error);
  if (!got)
    return g_strdup(error->message);
  json_auto_t *json = choir_json_parse(got, (gssize)strlen(got), NULL);
  const json_t *choice = json_array_get(json_object_get(json, "choices"), 0);
  const char *answer = choir_json_string(json_object_get(choice, "message"), "content", "");
  *ret_answer = g_strstrip(g_strndup(answer, 200));
  (*ret_answer)[strcspn(*ret_answer, "\r\n")] = '\0';
  return choir_health_sensible(answer) ? g_strdup("") : g_strdup_printf("it answers nonsense: \"%.60s\"", answer);
}

typedef struct {
  ChoirApi *consul;
  const char *headers;
  json_t *rows;
  guint failed;
} Check;

static void check_one(Check *check, const ChoirFoundExpert *expert) {
  g_autofree char *answer = NULL;
  gint64 began = g_get_monotonic_time();
  if (!option_json)
    printf("--- Checking service: %s ---\n", expert->service);
  fflush(stdout);
  g_autofree char *wrong = question(check->consul, expert, check->headers, &answer);
  double seconds = (double)(g_get_monotonic_time() - began) / 1e6;
  gboolean good = *wrong == '\0';
  check->failed += !good;
  json_array_append_new(check->rows, json_pack("{s:s,s:s,s:s,s:s,s:b,s:b,s:f,s:s,s:s}", "service", expert->service,
                                               "node", expert->node, "address", expert->address, "model", expert->model,
                                               "fallback", expert->fallback, "passed", good, "seconds", seconds,
                                               "answer", answer ? answer : "", "why", wrong));
  if (option_json)
    return;
  if (good)
    printf("Health check PASSED for %s at %s on %s (%s%s, %.1f s): %s\n", expert->service, expert->address,
           expert->node, expert->model, expert->fallback ? ", the light model stands in" : "", seconds, answer);
  else
    printf("Health check FAILED for %s at %s on %s: %s\n", expert->service, expert->address, expert->node, wrong);
  fflush(stdout);
}

static guint services_of(const GPtrArray *found) {
  guint count = 0;
  for (guint i = 0; i < found->len; i++)
    count += i == 0 || !g_str_equal(((ChoirFoundExpert *)found->pdata[i])->service,
                                    ((ChoirFoundExpert *)found->pdata[i - 1])->service);
  return count;
}

static int conclude(Check *check, const GPtrArray *found, guint expected, const GPtrArray *asleep) {
  guint services = services_of(found);
  gboolean few = services < expected;
  if (option_json) {
    json_auto_t *sleeping = json_array();
    for (guint i = 0; i < asleep->len; i++)
      json_array_append_new(sleeping, json_string(asleep->pdata[i]));
    json_auto_t *answer =
        json_pack("{s:b,s:i,s:i,s:i,s:O,s:O}", "healthy", !few && check->failed == 0, "expected", (int)expected,
                  "found", (int)services, "failed", (int)check->failed, "asleep", sleeping, "experts", check->rows);
    choir_cli_print_json(answer);
    return few || check->failed ? CHOIR_CLI_FAILED : CHOIR_CLI_OK;
  }
  for (guint i = 0; i < asleep->len; i++)
    printf("--- %s sleeps (count 0) ---\n", (char *)asleep->pdata[i]);
  if (services == 0)
    printf("No 'llama-api-*' services found%s\n", expected ? "" : ", and none is expected");
  if (few)
    printf("Health check FAILED: %u of %u expected experts are in Consul; choir jobs says why\n", services, expected);
  printf("--- Health Check Complete ---\n");
  return few || check->failed ? CHOIR_CLI_FAILED : CHOIR_CLI_OK;
}

static int run(ChoirApi *consul) {
  g_autoptr(GError) error = NULL;
  g_autofree char *headers = NULL;
  const char *key_file = option_key                                               ? option_key
                         : g_file_test(CHOIR_EXPERT_KEY_FILE, G_FILE_TEST_EXISTS) ? CHOIR_EXPERT_KEY_FILE
                                                                                  : NULL;
  if (key_file) {
    g_autofree char *key = choir_api_read_token(key_file, &error);
    if (!key)
      return choir_cli_fail(NAME, "%s", error->message);
    headers = g_strconcat("Authorization: Bearer ", key, NULL);
  }
  if (!option_json)
    printf("--- Starting Cluster-Wide LLM Health Check ---\n");
  fflush(stdout);
  g_autoptr(GPtrArray) asleep = g_ptr_array_new_with_free_func(g_free);
  json_auto_t *jobs = nomads_jobs();
  guint expected = jobs ? choir_health_expected(jobs, asleep) : 1;
  if (option_expect >= 0)
    expected = (guint)option_expect;
  g_autoptr(GPtrArray) found = choir_expert_find(consul, &error);
  if (!found)
    return choir_cli_fail(NAME, "%s", error->message);
  json_auto_t *rows = json_array();
  Check check = {.consul = consul, .headers = headers, .rows = rows};
  for (guint i = 0; i < found->len; i++)
    check_one(&check, found->pdata[i]);
  return conclude(&check, found, expected, asleep);
}

int choir_health_main(int argc, char **argv) {
  if (!choir_cli_parse(NAME, "", description, entries, &argc, &argv))
    return CHOIR_CLI_USAGE;
  if (argc > 1)
    return choir_cli_usage(NAME, "'%s' is not expected", argv[1]);
  if (option_timeout < 1 || option_expect < -1)
    return choir_cli_usage(NAME, "a number is out of its range");
  g_autoptr(GError) error = NULL;
  g_autoptr(ChoirApi) consul = choir_api_new(CHOIR_API_CONSUL, option_consul, option_consul_token, &error);
  return consul ? run(consul) : choir_cli_fail(NAME, "%s", error->message);
}
