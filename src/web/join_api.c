#include "web/join_api.h"
#include <string.h>
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"
#include "web/answer.h"
#include "web/guard.h"
#include "web/guard_tries.h"
#include "web/principal.h"

#define BUNDLE_MAX (16 * 1024 * 1024)

struct ChoirJoinApi {
  ChoirHttpServer *server;
  ChoirJoin *join;
  ChoirTries *tries;
  char *ca_pem, *fingerprint;
};

typedef enum { ANYBODY, NODE, TERMINAL } Proof;

static gint64 now_s(void) {
  return g_get_real_time() / G_USEC_PER_SEC;
}

static gboolean from_terminal(ChoirHttpRequest *request) {
  ChoirProof proof = choir_web_proof(request);
  return choir_web_principal_of(&proof).channel == CHOIR_CHANNEL_TERMINAL;
}

static const json_t *calling_node(ChoirJoinApi *api, ChoirHttpRequest *request) {
  const char *header = choir_http_request_header(request, "Authorization");
  return header && g_str_has_prefix(header, "Bearer ") ? choir_join_by_key(api->join, header + 7, now_s()) : NULL;
}

static void answer_join_error(ChoirHttpRequest *request, const GError *error) {
  static const struct {
    guint status;
    const char *type, *code;
  } answers[] = {
      [CHOIR_JOIN_ERROR_INVALID] = {400, "invalid_request_error", "invalid"},
      [CHOIR_JOIN_ERROR_TOKEN] = {403, "authentication_error", "token_wrong"},
      [CHOIR_JOIN_ERROR_TAKEN] = {409, "invalid_request_error", "hostname_taken"},
      [CHOIR_JOIN_ERROR_UNKNOWN] = {404, "invalid_request_error", "not_found"},
      [CHOIR_JOIN_ERROR_STATE] = {409, "invalid_request_error", "wrong_state"},
      [CHOIR_JOIN_ERROR_FULL] = {503, "server_error", "full"},
      [CHOIR_JOIN_ERROR_FILE] = {500, "server_error", "not_saved"},
  };
  choir_http_respond_error(request, answers[error->code].status, answers[error->code].type, answers[error->code].code,
                           "%s", error->message);
}

static void answer_node(ChoirHttpRequest *request, guint status, const json_t *node) {
  choir_answer_json(request, status, choir_join_node_public(node));
}

/* Wrong tokens are counted by address; a token is far too long to be guessed, but the log stays readable. */
static gboolean must_wait(ChoirJoinApi *api, ChoirHttpRequest *request, const char *address) {
  guint wait = choir_tries_wait(api->tries, address);
  if (wait == 0)
    return FALSE;
  choir_http_respond_error(request, 429, "authentication_error", "too_many_tries", "too many tries; try again in %u s",
                           wait);
  return TRUE;
}

static void on_ask(ChoirHttpRequest *request, gpointer user) {
  ChoirJoinApi *api = user;
  g_autoptr(GError) error = NULL;
  g_autofree char *address = choir_web_address(request);
  const json_t *node;
  if (must_wait(api, request, address))
    return;
  json_auto_t *asked = choir_answer_body(request, FALSE);
  if (!asked)
    return;
  if (!choir_join_ask(api->join, asked, address, now_s(), &node, &error)) {
    if (error->code == CHOIR_JOIN_ERROR_TOKEN)
      choir_tries_begin(api->tries, address);
    choir_warning(CHOIR_TOPIC_WEB, "join refused, from %s: %s", address, error->message);
    answer_join_error(request, error);
    return;
  }
  choir_tries_good(api->tries, address);
  choir_info(CHOIR_TOPIC_WEB, "%s (%s) asks to join: %s", choir_json_string(node, "hostname", ""), address,
             choir_json_string(node, "status", ""));
  answer_node(request, 202, node);
}

/* The original's call needs no token, so it may do nothing: not even keep the name that it sends. */
static void on_ready_for_provisioning(ChoirHttpRequest *request, gpointer user) {
  json_auto_t *body = choir_answer_body(request, FALSE);
  if (body)
    choir_answer_json(
        request, 202,
        json_pack("{s:s,s:s}", "status", "pending", "message",
                  "nothing was changed: a machine joins with a token, which 'sudo choir nodes token' on the "
                  "controller shows"));
}

static void on_status(ChoirHttpRequest *request, gpointer user) {
  answer_node(request, 200, calling_node(user, request));
}

static void on_bundle(ChoirHttpRequest *request, gpointer user) {
  ChoirJoinApi *api = user;
  const json_t *node = calling_node(api, request);
  g_autofree char *path = choir_join_bundle(api->join, node), *data = NULL;
  const char *status = choir_json_string(node, "status", "");
  gsize length;
  if (strcmp(status, "pending") == 0 || strcmp(status, "approved") == 0 || !path) {
    choir_http_respond_error(request, 409, "invalid_request_error", "not_ready", "there is nothing to fetch: it is %s",
                             status);
    return;
  }
  if (!g_file_get_contents(path, &data, &length, NULL) || length > BUNDLE_MAX) {
    choir_http_respond_error(request, 500, "server_error", "not_readable", "the bundle cannot be read");
    return;
  }
  choir_http_respond(request, 200, "application/gzip", data, length, CHOIR_GUARD_API_HEADERS);
}

static void on_report(ChoirHttpRequest *request, gpointer user) {
  ChoirJoinApi *api = user;
  g_autoptr(GError) error = NULL;
  json_auto_t *body = choir_answer_body(request, FALSE);
  if (!body)
    return;
  if (choir_join_report(api->join, calling_node(api, request), body, now_s(), &error))
    choir_answer_json(request, 200, json_pack("{s:b}", "noted", 1));
  else
    answer_join_error(request, error);
}

static void on_address(ChoirHttpRequest *request, gpointer user) {
  ChoirJoinApi *api = user;
  g_autoptr(GError) error = NULL;
  g_autofree char *peer = choir_web_address(request);
  json_auto_t *body = choir_answer_body(request, TRUE);
  if (!body)
    return;
  if (choir_join_address(api->join, calling_node(api, request), choir_json_string(body, "address", peer), now_s(),
                         &error))
    choir_answer_json(request, 200, json_pack("{s:b}", "noted", 1));
  else
    answer_join_error(request, error);
}

static void on_nodes(ChoirHttpRequest *request, gpointer user) {
  choir_answer_json(request, 200, json_pack("{s:o}", "nodes", choir_join_nodes(((ChoirJoinApi *)user)->join, now_s())));
}

/* The original's shape: {status, start_time, end_time, log, job_id}, for all or one. */
static json_t *provisioning(const json_t *node) {
  const char *status = choir_json_string(node, "status", "");
  gboolean ended = strcmp(status, "joined") == 0 || strcmp(status, "failed") == 0 || strcmp(status, "refused") == 0;
  gint64 changed = choir_json_int(node, "changed", 0);
  return json_pack("{s:s,s:I,s:o,s:s,s:s,s:s}", "status", status, "start_time",
                   (json_int_t)choir_json_int(node, "asked", 0), "end_time",
                   ended ? json_integer(changed) : json_null(), "log", choir_json_string(node, "message", ""), "step",
                   choir_json_string(node, "step", ""), "job_id", choir_json_string(node, "id", ""));
}

static void on_provisioning(ChoirHttpRequest *request, gpointer user) {
  ChoirJoinApi *api = user;
  const char *host = choir_http_request_path(request) + strlen("/api/provisioning/status");
  if (*host == '/') {
    const json_t *node = choir_join_by_host(api->join, host + 1, now_s());
    if (node)
      choir_answer_json(request, 200, provisioning(node));
    else
      choir_http_respond_error(request, 404, "invalid_request_error", "not_found",
                               "no machine of that name asked to join");
    return;
  }
  json_auto_t *nodes = choir_join_nodes(api->join, now_s());
  json_t *all = json_object();
  for (size_t i = 0; i < json_array_size(nodes); i++)
    json_object_set_new(all, choir_json_string(json_array_get(nodes, i), "hostname", ""),
                        provisioning(json_array_get(nodes, i)));
  choir_answer_json(request, 200, all);
}

static void on_tokens(ChoirHttpRequest *request, gpointer user) {
  choir_answer_json(request, 200,
                    json_pack("{s:o}", "tokens", choir_join_tokens(((ChoirJoinApi *)user)->join, now_s())));
}

static void on_token_new(ChoirHttpRequest *request, gpointer user) {
  ChoirJoinApi *api = user;
  g_autoptr(GError) error = NULL;
  json_auto_t *body = choir_answer_body(request, TRUE);
  if (!body)
    return;
  gint64 minutes = CLAMP(choir_json_int(body, "minutes", CHOIR_JOIN_MINUTES), 0, G_MAXINT32);
  g_autofree char *token = choir_join_token_new(api->join, (guint)minutes, choir_json_bool(body, "auto", FALSE),
                                                api->fingerprint, now_s(), &error);
  if (!token)
    answer_join_error(request, error);
  else
    choir_answer_json(request, 200,
                      json_pack("{s:s,s:I}", "token", token, "expires", (json_int_t)now_s() + 60 * minutes));
}

static void answer_done(ChoirHttpRequest *request, const char *what, const char *word, gboolean good,
                        const GError *error) {
  if (!good) {
    answer_join_error(request, error);
    return;
  }
  choir_info(CHOIR_TOPIC_WEB, "%s: %s", word, what);
  choir_answer_json(request, 200, json_pack("{s:b}", what, 1));
}

static void on_token_revoke(ChoirHttpRequest *request, gpointer user) {
  g_autoptr(GError) error = NULL;
  json_auto_t *body = choir_answer_body(request, FALSE);
  const char *id = choir_json_string(body, "id", "");
  gboolean done = body && choir_join_token_revoke(((ChoirJoinApi *)user)->join, id, &error);
  if (body)
    answer_done(request, "revoked", id, done, error);
}

static void on_approve(ChoirHttpRequest *request, gpointer user) {
  g_autoptr(GError) error = NULL;
  json_auto_t *body = choir_answer_body(request, FALSE);
  const char *host = choir_json_string(body, "host", "");
  gboolean done = body && choir_join_approve(((ChoirJoinApi *)user)->join, host, now_s(), &error);
  if (body)
    answer_done(request, "approved", host, done, error);
}

static void on_refuse(ChoirHttpRequest *request, gpointer user) {
  g_autoptr(GError) error = NULL;
  json_auto_t *body = choir_answer_body(request, FALSE);
  const char *host = choir_json_string(body, "host", "");
  gboolean done = body && choir_join_refuse(((ChoirJoinApi *)user)->join, host, now_s(), &error);
  if (body)
    answer_done(request, "refused", host, done, error);
}

static void on_health(ChoirHttpRequest *request, gpointer user) {
  choir_answer_json(request, 200, json_pack("{s:s}", "status", "ok"));
}

static void on_ca(ChoirHttpRequest *request, gpointer user) {
  const char *pem = ((ChoirJoinApi *)user)->ca_pem;
  choir_http_respond(request, 200, "application/x-x509-ca-cert", pem, strlen(pem), CHOIR_GUARD_API_HEADERS);
}

static const struct {
  const char *method, *path;
  ChoirHttpHandler handler;
  Proof proof;
} routes[] = {
    {"GET", "/health", on_health, ANYBODY},
    {"GET", "/choir-ca.crt", on_ca, ANYBODY},
    {"POST", "/api/join", on_ask, ANYBODY},
    {"POST", "/api/ready-for-provisioning", on_ready_for_provisioning, ANYBODY},
    {"GET", "/api/join/status", on_status, NODE},
    {"GET", "/api/join/bundle", on_bundle, NODE},
    {"POST", "/api/join/report", on_report, NODE},
    {"POST", "/api/join/address", on_address, NODE},
    {"GET", "/api/join/nodes", on_nodes, TERMINAL},
    {"GET", "/api/join/tokens", on_tokens, TERMINAL},
    {"POST", "/api/join/tokens", on_token_new, TERMINAL},
    {"POST", "/api/join/tokens/revoke", on_token_revoke, TERMINAL},
    {"POST", "/api/join/approve", on_approve, TERMINAL},
    {"POST", "/api/join/refuse", on_refuse, TERMINAL},
    {"GET", "/api/provisioning/status", on_provisioning, TERMINAL},
    {"GET", "/api/provisioning/status/*", on_provisioning, TERMINAL},
};

/* What is not in the table is for terminals, so that a new route is closed until somebody opens it. */
static Proof proof_of(const char *method, const char *path) {
  for (gsize i = 0; i < G_N_ELEMENTS(routes); i++)
    if (strcmp(routes[i].path, path) == 0 &&
        strcmp(routes[i].method, strcmp(method, "HEAD") == 0 ? "GET" : method) == 0)
      return routes[i].proof;
  return TERMINAL;
}

static gboolean guard(ChoirHttpRequest *request, gpointer user) {
  Proof proof = proof_of(choir_http_request_method(request), choir_http_request_path(request));
  if (proof == ANYBODY || (proof == TERMINAL && from_terminal(request)))
    return TRUE;
  if (proof == NODE && calling_node(user, request))
    return TRUE;
  if (proof == NODE)
    choir_http_respond_error(request, 401, "authentication_error", "key_wrong",
                             "send the key of a machine that asked to join, as Authorization: Bearer");
  else
    choir_http_respond_error(request, 403, "permission_error", "terminal_needed",
                             "only root on the controller may do this; see choir nodes --help there");
  return FALSE;
}

ChoirJoinApi *choir_join_api_new(const ChoirJoinApiOptions *options, GError **error) {
  g_autofree char *pem = NULL;
  if (!g_file_get_contents(options->ca_file, &pem, NULL, error))
    return NULL;
  g_autofree char *fingerprint = choir_pem_sha256(pem); /* a machine compares it with its token */
  if (!fingerprint) {
    g_set_error(error, CHOIR_JOIN_ERROR, CHOIR_JOIN_ERROR_FILE, "%s holds no certificate", options->ca_file);
    return NULL;
  }
  ChoirJoinApi *api = g_new0(ChoirJoinApi, 1);
  api->server = options->server;
  api->join = options->join;
  api->tries = choir_tries_new();
  api->ca_pem = g_steal_pointer(&pem);
  api->fingerprint = g_steal_pointer(&fingerprint);
  choir_principal_use(&(ChoirDoor){.twin_secret = options->twin_secret});
  for (gsize i = 0; i < G_N_ELEMENTS(routes); i++)
    choir_http_server_route(api->server, routes[i].method, routes[i].path, routes[i].handler, api);
  choir_http_server_set_guard(api->server, guard, api);
  return api;
}

void choir_join_api_free(ChoirJoinApi *api) {
  if (!api)
    return;
  choir_http_server_set_guard(api->server, NULL, NULL);
  choir_principal_use(NULL);
  choir_tries_free(api->tries);
  g_free(api->ca_pem);
  g_free(api->fingerprint);
  g_free(api);
}
