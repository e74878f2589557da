/* /api/cluster/joins: machines that ask to join, and a yes or no to them. The join service of a controller is asked;
 * who may answer is decided here, as for every approval. */
#include <string.h>
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"
#include "cluster/standby.h"
#include "web/answer.h"
#include "web/principal.h"
#include "web/web_private.h"

#define ASK_MS 4000
#define CONTROLLERS_MAX 8

struct ChoirJoinsApi {
  const ChoirWebOptions *options;
  ChoirHttpClient *http;
  GCancellable *cancellable;
  GPtrArray *asks; /* Ask */
};

/* One request of a page; the controllers are asked one after another until one answers. */
typedef struct {
  ChoirJoinsApi *api;
  ChoirHttpRequest *request; /* NULL once the client left */
  ChoirSealKey key;
  char **controllers;
  guint at;
  json_t *question;
  gboolean list, may_answer; /* list: not a decision */
} Ask;

static void ask_free(Ask *ask) {
  g_ptr_array_remove_fast(ask->api->asks, ask);
  g_strfreev(ask->controllers);
  json_decref(ask->question);
  g_free(ask);
}

static void on_left(gpointer user) {
  ((Ask *)user)->request = NULL;
}

/* Those of the settings, else the servers that Nomad knows. Caller frees. */
static char **controllers(const ChoirJoinsApi *api) {
  const char *set = choir_config_string(api->options->config, "cluster", "controllers");
  g_autoptr(GStrvBuilder) list = g_strv_builder_new();
  g_auto(GStrv) words = g_strsplit_set(set, ", \t", -1);
  guint n = 0;
  for (char **word = words; *word && n < CONTROLLERS_MAX; word++)
    if (**word) {
      g_autofree char *url = choir_consul_address(*word);
      g_strv_builder_add(list, url);
      n++;
    }
  json_auto_t *view = n == 0 && api->options->view ? choir_view_json(api->options->view) : NULL;
  const json_t *nodes = json_object_get(json_object_get(view, "nodes"), "list");
  for (size_t i = 0; i < json_array_size(nodes) && n < CONTROLLERS_MAX; i++) {
    const json_t *node = json_array_get(nodes, i);
    const char *address = choir_json_string(node, "address", "");
    if (!choir_json_bool(node, "server", FALSE) || !g_hostname_is_ip_address(address))
      continue;
    g_autofree char *url =
        g_strdup_printf(strchr(address, ':') ? "http://[%s]:%d" : "http://%s:%d", address, CHOIR_PORT_JOIN_HOUSE);
    g_strv_builder_add(list, url);
    n++;
  }
  return g_strv_builder_end(list);
}

/* The list is empty then, and says why: a page that looks is no error. there: somebody could be asked. */
static void answer_none(ChoirHttpRequest *request, gboolean list, gboolean there, gboolean may_answer,
                        const char *why) {
  if (list)
    choir_answer_json(
        request, 200,
        json_pack("{s:[],s:b,s:b,s:s}", "nodes", "there", (int)there, "may_answer", (int)may_answer, "problem", why));
  else
    choir_http_respond_error(request, there ? 502 : 409, there ? "server_error" : "invalid_request_error",
                             "no_join_service", "%s", why);
}

static void ask_next(Ask *ask);

static void on_answer(const json_t *answer, const void *data, gsize length, const GError *error, gpointer user) {
  Ask *ask = user;
  if (!ask->request) {
    ask_free(ask);
    return;
  }
  if (error && error->domain == CHOIR_HTTP_ERROR && ask->controllers[ask->at + 1]) { /* it is away: another one? */
    ask->at++;
    ask_next(ask);
    return;
  }
  if (error && error->domain == CHOIR_STATE_ERROR)
    choir_http_respond_error(ask->request, 409, "invalid_request_error", "wrong_state", "%s", error->message);
  else if (error) {
    g_autofree char *why = g_strdup_printf("the controller's join service does not answer: %s", error->message);
    answer_none(ask->request, ask->list, TRUE, ask->may_answer, why);
  } else if (ask->list)
    choir_answer_json(ask->request, 200,
                      json_pack("{s:O,s:b,s:b,s:n}", "nodes", json_object_get(answer, "nodes"), "there", 1,
                                "may_answer", (int)ask->may_answer, "problem"));
  else
    choir_answer_json(ask->request, 200, json_pack("{s:b}", "done", 1));
  ask_free(ask);
}

static void ask_next(Ask *ask) {
  choir_standby_ask(ask->api->http, &ask->key, ask->controllers[ask->at], json_incref(ask->question), NULL, 0, ASK_MS,
                    ask->api->cancellable, on_answer, ask);
}

static void begin(ChoirJoinsApi *api, ChoirHttpRequest *request, gboolean for_list, json_t *question /* stolen */) {
  json_auto_t *owned = question;
  const char *key_file = choir_config_string(api->options->config, "standby", "key_file");
  g_autoptr(GError) error = NULL;
  g_auto(GStrv) list = controllers(api);
  ChoirPrincipal who = choir_web_principal(request);
  gboolean may_answer = choir_principal_may_approve(&who);
  ChoirSealKey key;
  if (!*key_file || !list[0]) {
    answer_none(request, for_list, FALSE, may_answer,
                *key_file
                    ? "no controller is known: Nomad names none, nor does [cluster] controllers; on a controller "
                      "'sudo choir nodes pending' shows who waits"
                    : "[standby] key_file is not set; on a controller 'sudo choir nodes pending' shows who waits");
    return;
  }
  if (!choir_seal_key_read(key_file, &key, &error)) {
    answer_none(request, for_list, TRUE, may_answer, error->message);
    return;
  }
  Ask *ask = g_new0(Ask, 1);
  *ask = (Ask){.api = api, .request = request, .key = key, .controllers = g_steal_pointer(&list)};
  ask->question = json_incref(owned);
  ask->may_answer = may_answer;
  ask->list = for_list;
  g_ptr_array_add(api->asks, ask);
  choir_http_request_on_gone(request, on_left, ask);
  ask_next(ask);
}

static void on_list(ChoirHttpRequest *request, gpointer user) {
  begin(user, request, TRUE, json_pack("{s:s}", "op", "joins"));
}

static void on_decision(ChoirHttpRequest *request, gpointer user) {
  ChoirJoinsApi *api = user;
  const char *path = choir_http_request_path(request);
  gboolean yes = g_str_has_suffix(path, "/approve");
  json_auto_t *body = choir_answer_body(request, FALSE);
  const char *id = choir_json_string(body, "id", "");
  ChoirPrincipal who = choir_web_principal(request);
  if (!body)
    return;
  if (!choir_principal_may_approve(&who)) {
    choir_http_respond_error(request, 403, "permission_error", "may_not_approve",
                             "you may not let machines in here; log in as an approver");
    return;
  }
  if (!*id || strlen(id) > 64) {
    choir_answer_bad(request, "id_missing", "send {\"id\": ...} as GET /api/cluster/joins shows it");
    return;
  }
  g_autoptr(GError) error = NULL;
  json_auto_t *fields =
      json_pack("{s:s,s:s,s:s}", "what", yes ? "join approved" : "join refused", "id", id, "by", who.name);
  if (api->options->audit && !choir_audit_write(api->options->audit, "policy", fields, &error)) {
    choir_http_respond_error(request, 500, "server_error", "not_written", "%s", error->message);
    return;
  }
  begin(api, request, FALSE,
        json_pack("{s:s,s:s,s:s,s:I}", "op", yes ? "approve" : "refuse", "id", id, "by", who.name, "at",
                  (json_int_t)(g_get_real_time() / G_USEC_PER_SEC)));
}

ChoirJoinsApi *choir_joins_api_new(const ChoirWebOptions *options) {
  ChoirJoinsApi *api = g_new0(ChoirJoinsApi, 1);
  api->options = options;
  api->http = choir_http_client_new();
  api->cancellable = g_cancellable_new();
  api->asks = g_ptr_array_new();
  choir_http_server_route(options->server, "GET", "/api/cluster/joins", on_list, api);
  choir_http_server_route(options->server, "POST", "/api/cluster/joins/approve", on_decision, api);
  choir_http_server_route(options->server, "POST", "/api/cluster/joins/refuse", on_decision, api);
  return api;
}

void choir_joins_api_free(ChoirJoinsApi *api) {
  if (!api)
    return;
  for (guint i = 0; i < api->asks->len; i++) {
    Ask *ask = api->asks->pdata[i];
    if (ask->request)
      choir_http_request_on_gone(ask->request, NULL, NULL);
    ask->request = NULL; /* what is under way frees itself */
  }
  choir_http_client_free(api->http);
  g_object_unref(api->cancellable);
  g_ptr_array_unref(api->asks);
  g_free(api);
}
