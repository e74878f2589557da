#include "house.h"
#include "base/text.h"

static gboolean tick(gpointer user) {
  return G_SOURCE_CONTINUE;
}

typedef struct {
  House *house;
  char *id, *digest;
} Verdict;

static gboolean answer_card(gpointer user) {
  static const ChoirPrincipal owner = {"test", CHOIR_ROLE_OWNER, CHOIR_CHANNEL_TERMINAL};
  Verdict *verdict = user;
  choir_approvals_answer(verdict->house->approvals, verdict->id, verdict->digest, verdict->house->approve, FALSE,
                         &owner, NULL);
  g_free(verdict->id);
  g_free(verdict->digest);
  g_free(verdict);
  return G_SOURCE_REMOVE;
}

static void on_card(const char *change, const json_t *card, gpointer user) {
  House *house = user;
  if (!g_str_equal(change, "new"))
    return;
  house->asked++;
  g_free(house->card);
  house->card = choir_json_dump(card);
  Verdict *verdict = g_new0(Verdict, 1);
  *verdict =
      (Verdict){house, g_strdup(choir_json_string(card, "id", "")), g_strdup(choir_json_string(card, "digest", ""))};
  g_idle_add(answer_card, verdict);
}

House *house_new(const ChoirTool *const *tools, SoupServerCallback on_request, gpointer user, const char *plain) {
  House *house = g_new0(House, 1);
  g_autoptr(GError) error = NULL;
  house->output = g_string_new(NULL);
  house->dir = g_dir_make_tmp("choir-steps-XXXXXX", NULL);
  house->log = g_build_filename(house->dir, "audit.jsonl", NULL);
  house->server = soup_server_new(NULL, NULL);
  soup_server_add_handler(house->server, NULL, on_request, user, NULL);
  g_assert_true(soup_server_listen_local(house->server, 0, SOUP_SERVER_LISTEN_IPV4_ONLY, &error));
  GSList *uris = soup_server_get_uris(house->server);
  house->url = g_strdup_printf("http://127.0.0.1:%d", g_uri_get_port(uris->data));
  g_slist_free_full(uris, (GDestroyNotify)g_uri_unref);
  house->http = choir_http_client_new();
  ChoirLlmServerOptions options = {
      .external_url = house->url, .model_name = plain ? plain : "mock", .state_dir = house->dir, .context = 2048};
  house->llm = choir_llm_server_new(&options, house->http, &error);
  g_assert_no_error(error);
  if (plain)
    choir_chat_set_model(choir_llm_server_chat(house->llm), plain, TRUE);
  house->approvals = choir_approvals_new();
  choir_approvals_observe(house->approvals, on_card, house);
  house->audit = choir_audit_open(house->log, &error);
  g_assert_no_error(error);
  ChoirToolHouse services = {.state_dir = house->dir};
  house->toolbox = choir_toolbox_new(tools, &services, house->approvals, house->audit);
  house->shortlist = choir_shortlist_new(house->toolbox);
  house->ticker = g_timeout_add(20, tick, NULL);
  return house;
}

void house_free(House *house) {
  choir_shortlist_free(house->shortlist);
  choir_toolbox_free(house->toolbox);
  choir_approvals_free(house->approvals);
  choir_audit_close(house->audit);
  g_assert_true(choir_audit_verify(house->log, NULL, NULL));
  choir_llm_server_free(house->llm);
  choir_http_client_free(house->http);
  while (g_main_context_iteration(NULL, FALSE))
    ;
  soup_server_disconnect(house->server);
  g_object_unref(house->server);
  g_source_remove(house->ticker);
  const char *argv[] = {"rm", "-rf", house->dir, NULL};
  g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
  g_string_free(house->output, TRUE);
  g_free(house->url);
  g_free(house->log);
  g_free(house->dir);
  g_free(house->answer);
  g_free(house->notes);
  g_free(house->card);
  g_free(house);
}

static void on_done(const char *answer, const char *notes, gpointer user) {
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
  ChoirStepsHandlers handlers = {.output = house->watched ? on_output : NULL, .done = on_done};
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
