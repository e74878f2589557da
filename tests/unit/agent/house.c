#include "house.h"
#include <glib/gstdio.h>
#include <string.h>
#include "base/text.h"
#include "tools/tools.h"

static char *status(gpointer self) {
  return g_strdup("Current pipeline status:\n- Task test: ready");
}

static char *memory_summary(gpointer self) {
  return g_strdup("1 conversation is kept");
}

static void clear_short_term(gpointer self) {
  g_ptr_array_add(((House *)self)->said, g_strdup("(cleared)"));
}

/* A model that repeats what it is asked: what it is worth is tested with the real one. */
static void ask(gpointer self, const char *system, const char *user, guint max_tokens, GCancellable *cancellable,
                void (*done)(const char *text, const GError *error, gpointer user), gpointer user_data) {
  g_autofree char *text = g_strdup_printf("<%s>", user);
  done(text, NULL, user_data);
}

static void say(gpointer self, const char *text) {
  g_ptr_array_add(((House *)self)->said, g_strdup(text));
}

static json_t *recent(gpointer self, guint turns) {
  return json_pack("[{s:s,s:s},{s:s,s:s},{s:s,s:s}]", "role", "user", "text", "The printer is called Juno.", "role",
                   "assistant", "text", "I see.", "role", "user", "text", "We eat at seven.");
}

static void embed(gpointer self, const char *const *texts, guint n,
                  void (*done)(const float *vectors, guint n, guint dimensions, const GError *error, gpointer user),
                  gpointer user_data) {
  g_autoptr(GError) error =
      g_error_new_literal(CHOIR_TOOL_ERROR, CHOIR_TOOL_ERROR_UNAVAILABLE, "no embeddings in tests");
  if (((House *)self)->embedder) {
    choir_llm_embedder_embed(((House *)self)->embedder, texts, n, done, user_data);
    return;
  }
  done(NULL, 0, 0, error, user_data);
}

static void delegate(ChoirToolCall *parent, const char *task, const char *tools, guint max_steps,
                     void (*done)(const char *answer, const GError *error, gpointer user), gpointer user_data) {
  House *house = choir_tool_call_house(parent)->agent.self;
  g_autoptr(GError) error =
      g_error_new_literal(CHOIR_TOOL_ERROR, CHOIR_TOOL_ERROR_UNAVAILABLE, "the sub-agent is lost");
  g_free(house->task);
  g_free(house->tools);
  house->task = g_strdup(task);
  house->tools = g_strdup(tools);
  house->budget = max_steps;
  gboolean answers = house->delegated && *house->delegated;
  if (answers)
    choir_tool_call_output(parent, house->delegated, -1);
  done(answers ? house->delegated : NULL, answers ? NULL : error, user_data);
}

static void open_toolbox(House *house) {
  ChoirToolHouse services = {.http = house->http,
                             .config = house->config,
                             .sandbox = house->sandbox,
                             .state_dir = house->state,
                             .work_dir = house->work,
                             .source_dir = SOURCE_DIR,
                             .experts = house->experts,
                             .agent = {.self = house,
                                       .status = status,
                                       .memory_summary = memory_summary,
                                       .clear_short_term = clear_short_term,
                                       .ask = ask,
                                       .say = say,
                                       .recent = recent,
                                       .embed = embed,
                                       .delegate = house->no_delegate ? NULL : delegate}};
  house->toolbox = choir_toolbox_new(house->list, &services, house->approvals, house->audit);
  choir_toolbox_start(house->toolbox);
}

typedef struct {
  House *house;
  char *id, *digest;
} Answer;

static gboolean answer(gpointer user) {
  static const ChoirPrincipal terminal = {"test", CHOIR_ROLE_OWNER, CHOIR_CHANNEL_TERMINAL};
  Answer *answer = user;
  choir_approvals_answer(answer->house->approvals, answer->id, answer->digest, answer->house->approve, FALSE, &terminal,
                         NULL);
  g_free(answer->id);
  g_free(answer->digest);
  g_free(answer);
  return G_SOURCE_REMOVE;
}

static void on_card(const char *change, const json_t *card, gpointer user) {
  House *house = user;
  if (!g_str_equal(change, "new"))
    return;
  house->asked++;
  g_free(house->last_card);
  house->last_card = choir_json_dump(card);
  Answer *later = g_new0(Answer, 1);
  later->house = house;
  later->id = g_strdup(choir_json_string(card, "id", ""));
  later->digest = g_strdup(choir_json_string(card, "digest", ""));
  g_idle_add(answer, later);
}

static const ChoirConfigItem items[] = {
    {"tools", "git_protocols", CHOIR_CONFIG_STRING, "git:https", 0, 0, NULL, NULL, ""},
    {"tools", "known_hosts", CHOIR_CONFIG_STRING, "", 0, 0, NULL, NULL, ""},
    {"tools", "documents", CHOIR_CONFIG_STRING, "", 0, 0, NULL, NULL, ""},
    {"tools", "web_hosts", CHOIR_CONFIG_STRING, "", 0, 0, NULL, NULL, ""},
    {"tools", "web_local", CHOIR_CONFIG_STRING, "", 0, 0, NULL, NULL, ""},
    {"tools", "web_ports", CHOIR_CONFIG_STRING, "80,443", 0, 0, NULL, NULL, ""},
    {"tools", "playbooks", CHOIR_CONFIG_STRING, "", 0, 0, NULL, NULL, ""},
    {"experts", "max_tokens", CHOIR_CONFIG_INT, "400", 16, 4096, NULL, NULL, ""},
    {NULL, NULL, CHOIR_CONFIG_STRING, NULL, 0, 0, NULL, NULL, NULL}};

/* What both kinds have. */
static House *found(const ChoirTool *const *tools) {
  House *house = g_new0(House, 1);
  g_autoptr(GError) error = NULL;
  house->list = tools;
  house->dir = g_strdup("/var/tmp/choir-tools-XXXXXX");
  g_assert_nonnull(g_mkdtemp(house->dir));
  house->state = g_build_filename(house->dir, "state", NULL);
  house->work = g_build_filename(house->dir, "work", NULL);
  g_mkdir(house->state, 0700);
  g_mkdir(house->work, 0700);
  house->log = g_build_filename(house->state, "audit.jsonl", NULL);
  house->http = choir_http_client_new();
  house->approvals = choir_approvals_new();
  house->audit = choir_audit_open(house->log, &error);
  g_assert_no_error(error);
  house->said = g_ptr_array_new_with_free_func(g_free);
  house->output = g_string_new(NULL);
  choir_approvals_observe(house->approvals, on_card, house);
  return house;
}

House *house_new(void) {
  House *house = found(choir_tools(TRUE));
  g_autoptr(GError) error = NULL;
  house->config = choir_config_load(items, NULL, &error);
  g_assert_no_error(error);
  house->sandbox = choir_sandbox_new(SANDBOX_PROGRAM);
  house->approve = TRUE;
  open_toolbox(house);
  return house;
}

static gboolean tick(gpointer user) {
  return G_SOURCE_CONTINUE;
}

House *house_with_model(const ChoirTool *const *tools, SoupServerCallback on_request, gpointer user,
                        const char *plain) {
  House *house = found(tools);
  g_autoptr(GError) error = NULL;
  house->server = soup_server_new(NULL, NULL);
  soup_server_add_handler(house->server, NULL, on_request, user, NULL);
  g_assert_true(soup_server_listen_local(house->server, 0, SOUP_SERVER_LISTEN_IPV4_ONLY, &error));
  GSList *uris = soup_server_get_uris(house->server);
  house->url = g_strdup_printf("http://127.0.0.1:%d", g_uri_get_port(uris->data));
  g_slist_free_full(uris, (GDestroyNotify)g_uri_unref);
  ChoirLlmServerOptions options = {
      .external_url = house->url, .model_name = plain ? plain : "mock", .state_dir = house->dir, .context = 2048};
  house->llm = choir_llm_server_new(&options, house->http, &error);
  g_assert_no_error(error);
  if (plain)
    choir_chat_set_model(choir_llm_server_chat(house->llm), plain, TRUE);
  ChoirToolHouse services = {.state_dir = house->state};
  house->toolbox = choir_toolbox_new(tools, &services, house->approvals, house->audit);
  house->shortlist = choir_shortlist_new(house->toolbox);
  house->ticker = g_timeout_add(20, tick, NULL);
  return house;
}

void house_restart(House *house) {
  choir_toolbox_free(house->toolbox);
  open_toolbox(house);
}

static void close_model(House *house) {
  choir_llm_server_free(house->llm);
  choir_http_client_free(house->http);
  while (g_main_context_iteration(NULL, FALSE))
    ;
  soup_server_disconnect(house->server);
  g_object_unref(house->server);
  g_source_remove(house->ticker);
  g_free(house->url);
}

static void close_tools(House *house) {
  choir_sandbox_free(house->sandbox);
  choir_http_client_free(house->http);
  choir_config_free(house->config);
}

void house_free(House *house) {
  choir_shortlist_free(house->shortlist);
  choir_toolbox_free(house->toolbox);
  choir_approvals_free(house->approvals);
  choir_audit_close(house->audit);
  g_assert_true(choir_audit_verify(house->log, NULL, NULL));
  if (house->server)
    close_model(house);
  else
    close_tools(house);
  const char *argv[] = {"rm", "-rf", house->dir, NULL};
  g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
  g_ptr_array_unref(house->said);
  g_string_free(house->output, TRUE);
  g_free(house->last_card);
  g_free(house->task);
  g_free(house->tools);
  g_free(house->dir);
  g_free(house->state);
  g_free(house->work);
  g_free(house->log);
  g_free(house->answer);
  g_free(house->notes);
  g_free(house);
}

/* --- the steps of a turn */

static void on_steps_done(const char *answer, const char *notes, gpointer user) {
  House *house = user;
  g_assert_false(house->done);
  house->done = TRUE;
  house->answer = g_strdup(answer);
  house->notes = g_strdup(notes);
}

static void on_output(const char *text, gsize length, gpointer user) {
  g_string_append_len(((House *)user)->output, text, (gssize)length);
}

ChoirSteps *house_begin(House *house, const char *text) {
  ChoirStepsHandlers handlers = {.output = house->watched ? on_output : NULL, .done = on_steps_done};
  ChoirStepsRequest request = {.toolbox = house->toolbox,
                               .shortlist = house->shortlist,
                               .llm = house->llm,
                               .text = text,
                               .session = "test",
                               .turn_id = "t1"};
  return choir_steps_begin(&request, &handlers, house);
}

void house_spin(House *house, guint seconds) {
  gint64 end = g_get_monotonic_time() + seconds * G_USEC_PER_SEC;
  while (!house->done && g_get_monotonic_time() < end)
    g_main_context_iteration(NULL, TRUE);
}

/* --- one call */

typedef struct {
  gboolean done;
  char *text;
  GError *error;
} Outcome;

static void on_done(const ChoirToolResult *result, const GError *error, gpointer user) {
  Outcome *outcome = user;
  outcome->done = TRUE;
  outcome->text = g_strdup(result->text);
  outcome->error = error ? g_error_copy(error) : NULL;
}

char *house_call(House *house, const char *name, const char *args, GError **ret_error) {
  Outcome outcome = {0};
  g_autoptr(GError) bad = NULL;
  json_auto_t *json = choir_json_parse(args, strlen(args), &bad);
  g_assert_no_error(bad);
  ChoirToolRequest request = {.name = name, .args = json, .session = "test", .turn_id = "turn"};
  choir_toolbox_call(house->toolbox, &request, NULL, on_done, &outcome);
  while (!outcome.done)
    g_main_context_iteration(NULL, TRUE);
  if (outcome.error)
    g_propagate_error(ret_error, outcome.error);
  return outcome.text;
}

char *house_ok(House *house, const char *name, const char *args) {
  g_autoptr(GError) error = NULL;
  char *text = house_call(house, name, args, &error);
  if (error)
    g_error("%s %s: %s", name, args, error->message);
  return text;
}

char *house_fails(House *house, const char *name, const char *args) {
  g_autoptr(GError) error = NULL;
  g_autofree char *text = house_call(house, name, args, &error);
  if (!error)
    g_error("%s %s should have failed: %s", name, args, text);
  return g_strdup(error->message);
}

void house_holds(const char *text, const char *part) {
  if (!strstr(text, part))
    g_error("\"%s\" is not in: %s", part, text);
}

void house_shell(const char *format, ...) {
  va_list args;
  int status = 0;
  g_autofree char *out = NULL, *err = NULL;
  va_start(args, format);
  g_autofree char *script = g_strdup_vprintf(format, args);
  va_end(args);
  const char *argv[] = {"sh", "-ec", script, NULL};
  g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, &err, &status, NULL);
  if (status != 0)
    g_error("%s: %s%s", script, out, err);
}
