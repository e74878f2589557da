#include "web/login_api.h"
#include <string.h>
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"
#include "web/answer.h"
#include "web/guard.h"
#include "web/guard_tries.h"
#include "web/page.h"
#include "web/principal.h"

#define CODE_KEY "the set-up code" /* counted for everybody together: the code is short */
#define CA_MAX 65536

extern const ChoirAsset choir_login_assets[];

struct ChoirLoginApi {
  const ChoirWebOptions *options;
  ChoirTries *tries;
  GPtrArray *calls; /* Call */
};

typedef enum { SETUP, LOGIN, ADD, PASSWORD } Kind;

/* A password that is being hashed. */
typedef struct {
  ChoirLoginApi *api;        /* NULL once it is gone */
  ChoirHttpRequest *request; /* NULL once the client left */
  Kind kind;
  gboolean tls;
  char *name, *address, *by;
} Call;

static void on_left(gpointer user) {
  ((Call *)user)->request = NULL;
}

static Call *call_new(ChoirLoginApi *api, ChoirHttpRequest *request, Kind kind, const char *name) {
  Call *call = g_new0(Call, 1);
  ChoirPrincipal who = choir_web_principal(request);
  call->api = api;
  call->request = request;
  call->kind = kind;
  call->tls = choir_web_over_tls(request);
  call->name = g_strdup(name);
  call->address = choir_web_address(request);
  call->by = g_strdup(who.name);
  g_ptr_array_add(api->calls, call);
  choir_http_request_on_gone(request, on_left, call);
  return call;
}

static void note(ChoirLoginApi *api, const char *what, const char *name, const char *by, const char *from) {
  g_autoptr(GError) error = NULL;
  json_auto_t *fields = json_pack("{s:s,s:s,s:s,s:s}", "what", what, "name", name, "by", by, "from", from);
  choir_info(CHOIR_TOPIC_WEB, "%s: %s, by %s from %s", what, name, by, from);
  if (api->options->audit && !choir_audit_write(api->options->audit, "login", fields, &error))
    choir_error(CHOIR_TOPIC_WEB, "%s", error->message);
}

static void answer_error(ChoirHttpRequest *request, const GError *error) {
  static const struct {
    guint status;
    const char *type, *code;
  } answers[] = {
      [CHOIR_OWNERS_ERROR_INVALID] = {400, "invalid_request_error", "invalid"},
      [CHOIR_OWNERS_ERROR_EXISTS] = {409, "invalid_request_error", "exists"},
      [CHOIR_OWNERS_ERROR_UNKNOWN] = {404, "invalid_request_error", "not_found"},
      [CHOIR_OWNERS_ERROR_WRONG] = {403, "authentication_error", "login_wrong"},
      [CHOIR_OWNERS_ERROR_LAST] = {409, "invalid_request_error", "last_owner"},
      [CHOIR_OWNERS_ERROR_BUSY] = {503, "server_error", "busy"},
      [CHOIR_OWNERS_ERROR_FILE] = {500, "server_error", "not_saved"},
  };
  choir_http_respond_error(request, answers[error->code].status, answers[error->code].type, answers[error->code].code,
                           "%s", error->message);
}

static void answer_cookie(ChoirHttpRequest *request, gboolean tls, const char *secret, gint64 seconds, json_t *body) {
  g_autofree char *headers = g_strdup_printf(CHOIR_GUARD_API_HEADERS "\nSet-Cookie: %s=%s; Path=/; HttpOnly; "
                                                                     "SameSite=Strict; Max-Age=%" G_GINT64_FORMAT "%s",
                                             choir_web_cookie_name(tls), secret, seconds, tls ? "; Secure" : "");
  g_autofree char *text = choir_json_dump(body);
  json_decref(body);
  choir_http_respond(request, 200, "application/json", text, strlen(text), headers);
}

static void log_in(Call *call) {
  g_autoptr(GError) error = NULL;
  g_autofree char *secret = choir_owners_session_new(call->api->options->owners, call->name, &error);
  if (!secret)
    answer_error(call->request, error);
  else
    answer_cookie(call->request, call->tls, secret, CHOIR_SESSION_SECONDS, json_pack("{s:s}", "name", call->name));
}

static void forget_tries(Call *call) {
  g_autofree char *name = g_strconcat("name ", call->name, NULL);
  choir_tries_good(call->api->tries, call->address);
  choir_tries_good(call->api->tries, name);
}

static void on_hashed(const GError *error, gpointer user) {
  static const char *const done[] = {"set up", "logged in", "added", "new password"};
  static const char *const failed[] = {"set-up failed", "log-in failed", NULL, NULL};
  Call *call = user;
  ChoirLoginApi *api = call->api;
  if (api) {
    g_ptr_array_remove_fast(api->calls, call);
    if (!error && call->kind <= LOGIN)
      forget_tries(call);
    if (!error || failed[call->kind])
      note(api, error ? failed[call->kind] : done[call->kind], call->name, call->by, call->address);
  }
  if (api && call->request && error)
    answer_error(call->request, error);
  else if (api && call->request && call->kind <= LOGIN)
    log_in(call);
  else if (api && call->request)
    choir_answer_json(call->request, 200, json_pack("{s:s}", "name", call->name));
  g_free(call->name);
  g_free(call->address);
  g_free(call->by);
  g_free(call);
}

static gboolean must_wait(ChoirLoginApi *api, ChoirHttpRequest *request, const char *name) {
  g_autofree char *address = choir_web_address(request);
  g_autofree char *key = g_strconcat("name ", name, NULL);
  guint wait = MAX(choir_tries_wait(api->tries, address), choir_tries_wait(api->tries, key));
  if (wait == 0) {
    choir_tries_begin(api->tries, address);
    choir_tries_begin(api->tries, key);
    return FALSE;
  }
  g_autofree char *headers = g_strdup_printf(CHOIR_GUARD_API_HEADERS "\nRetry-After: %u", wait);
  g_autofree char *message = g_strdup_printf("too many tries; try again in %u s", wait);
  json_auto_t *body = json_pack("{s:{s:s,s:s,s:s}}", "error", "type", "authentication_error", "code", "too_many_tries",
                                "message", message);
  g_autofree char *text = choir_json_dump(body);
  choir_http_respond(request, 429, "application/json", text, strlen(text), headers);
  return TRUE;
}

static gboolean two_texts(ChoirHttpRequest *request, const json_t *body, const char **name, const char **password) {
  *name = choir_json_string(body, "name", "");
  *password = choir_json_string(body, "password", "");
  if (**name && strlen(*name) <= 128 && **password)
    return TRUE;
  choir_answer_bad(request, "name_or_password_missing", "send {\"name\",\"password\"}");
  return FALSE;
}

static void on_login(ChoirHttpRequest *request, gpointer user) {
  ChoirLoginApi *api = user;
  const char *name, *password;
  json_auto_t *body = choir_answer_body(request, FALSE);
  if (!body || !two_texts(request, body, &name, &password) || must_wait(api, request, name))
    return;
  choir_owners_check(api->options->owners, name, password, on_hashed, call_new(api, request, LOGIN, name));
}

static void on_setup(ChoirHttpRequest *request, gpointer user) {
  ChoirLoginApi *api = user;
  const char *name, *password;
  json_auto_t *body = choir_answer_body(request, FALSE);
  if (!body)
    return;
  if (choir_owners_exist(api->options->owners)) {
    choir_http_respond_error(request, 409, "invalid_request_error", "owner_exists",
                             "this Choir has an owner already; log in at /login");
    return;
  }
  if (!two_texts(request, body, &name, &password) || must_wait(api, request, CODE_KEY))
    return;
  if (!choir_owners_code_is(api->options->owners, choir_json_string(body, "code", ""))) {
    g_autofree char *address = choir_web_address(request);
    note(api, "wrong set-up code", name, "nobody", address);
    choir_http_respond_error(request, 403, "authentication_error", "code_wrong",
                             "the set-up code is wrong; 'choir owner code' on the machine shows it");
    return;
  }
  g_autofree char *key = g_strconcat("name ", CODE_KEY, NULL);
  choir_tries_good(api->tries, key);
  choir_owners_add(api->options->owners, name, CHOIR_ROLE_OWNER, password, TRUE, on_hashed,
                   call_new(api, request, SETUP, name));
}

static void on_logout(ChoirHttpRequest *request, gpointer user) {
  ChoirLoginApi *api = user;
  ChoirProof proof = choir_web_proof(request);
  if (*proof.cookie)
    choir_owners_session_end(api->options->owners, proof.cookie);
  answer_cookie(request, choir_web_over_tls(request), "", 0, json_pack("{s:b}", "logged_out", 1));
}

static void on_me(ChoirHttpRequest *request, gpointer user) {
  static const char *const channels[] = {"agent", "loopback", "setup", "terminal", "login", "key"};
  ChoirLoginApi *api = user;
  ChoirPrincipal who = choir_web_principal(request);
  gboolean known = who.role != CHOIR_ROLE_NONE;
  choir_answer_json(request, 200,
                    json_pack("{s:s,s:s,s:s,s:b,s:b,s:b,s:b,s:i,s:i}", "name", known ? who.name : "", "role",
                              choir_role_name(who.role), "channel", known ? channels[who.channel] : "", "logged_in",
                              (int)(who.channel == CHOIR_CHANNEL_LOGIN), "owner_exists",
                              (int)choir_owners_exist(api->options->owners), "may_approve",
                              (int)choir_principal_may_approve(&who), "lan", (int)(api->options->tls_port != 0), "port",
                              (int)choir_http_server_port(api->options->server), "tls_port",
                              (int)api->options->tls_port));
}

/* Only for who sits at the machine, whatever else an owner may do. */
static void on_code(ChoirHttpRequest *request, gpointer user) {
  ChoirLoginApi *api = user;
  ChoirPrincipal who = choir_web_principal(request);
  if (who.channel != CHOIR_CHANNEL_TERMINAL)
    choir_http_respond_error(request, 403, "permission_error", "terminal_needed",
                             "the code is shown on the machine itself, by 'choir owner code'");
  else
    choir_answer_json(request, 200, json_pack("{s:s?}", "code", choir_owners_code(api->options->owners)));
}

static void on_people(ChoirHttpRequest *request, gpointer user) {
  ChoirLoginApi *api = user;
  choir_answer_json(request, 200, json_pack("{s:o}", "people", choir_owners_list(api->options->owners)));
}

static void on_add(ChoirHttpRequest *request, gpointer user) {
  ChoirLoginApi *api = user;
  const char *name, *password;
  json_auto_t *body = choir_answer_body(request, FALSE);
  if (body && two_texts(request, body, &name, &password))
    choir_owners_add(api->options->owners, name, choir_role_parse(choir_json_string(body, "role", "")), password, FALSE,
                     on_hashed, call_new(api, request, ADD, name));
}

static void on_password(ChoirHttpRequest *request, gpointer user) {
  ChoirLoginApi *api = user;
  const char *name, *password;
  json_auto_t *body = choir_answer_body(request, FALSE);
  if (body && two_texts(request, body, &name, &password))
    choir_owners_set_password(api->options->owners, name, password, on_hashed, call_new(api, request, PASSWORD, name));
}

static void changed(ChoirLoginApi *api, ChoirHttpRequest *request, const char *what, const char *name,
                    json_t *answer /* stolen; NULL = it failed */, const GError *error) {
  ChoirPrincipal who = choir_web_principal(request);
  g_autofree char *address = choir_web_address(request);
  if (!answer) {
    answer_error(request, error);
    return;
  }
  note(api, what, name, who.name, address);
  choir_answer_json(request, 200, answer);
}

static void on_remove(ChoirHttpRequest *request, gpointer user) {
  ChoirLoginApi *api = user;
  g_autoptr(GError) error = NULL;
  json_auto_t *body = choir_answer_body(request, FALSE);
  if (!body)
    return;
  const char *name = choir_json_string(body, "name", "");
  gboolean done = choir_owners_remove(api->options->owners, name, &error);
  changed(api, request, "removed", name, done ? json_pack("{s:b}", "removed", 1) : NULL, error);
}

static void on_tokens(ChoirHttpRequest *request, gpointer user) {
  ChoirLoginApi *api = user;
  choir_answer_json(request, 200, json_pack("{s:o}", "tokens", choir_owners_tokens(api->options->owners)));
}

static void on_token_new(ChoirHttpRequest *request, gpointer user) {
  ChoirLoginApi *api = user;
  g_autoptr(GError) error = NULL;
  json_auto_t *body = choir_answer_body(request, FALSE);
  if (!body)
    return;
  const char *name = choir_json_string(body, "name", "");
  g_autofree char *token = choir_owners_token_new(
      api->options->owners, name, choir_role_parse(choir_json_string(body, "role", "operator")), &error);
  changed(api, request, "new token", name, token ? json_pack("{s:s}", "token", token) : NULL, error);
}

static void on_token_revoke(ChoirHttpRequest *request, gpointer user) {
  ChoirLoginApi *api = user;
  g_autoptr(GError) error = NULL;
  json_auto_t *body = choir_answer_body(request, FALSE);
  if (!body)
    return;
  const char *name = choir_json_string(body, "name", "");
  gboolean done = choir_owners_token_revoke(api->options->owners, name, &error);
  changed(api, request, "revoked token", name, done ? json_pack("{s:b}", "revoked", 1) : NULL, error);
}

static void on_ca(ChoirHttpRequest *request, gpointer user) {
  ChoirLoginApi *api = user;
  g_autofree char *pem = NULL;
  gsize length = 0;
  if (!api->options->ca_file || !g_file_get_contents(api->options->ca_file, &pem, &length, NULL) || length > CA_MAX)
    choir_http_respond_error(request, 404, "invalid_request_error", "no_ca",
                             "there is no certificate: Choir was started without --lan");
  else
    choir_http_respond(request, 200, "application/x-x509-ca-cert", pem, length,
                       CHOIR_GUARD_API_HEADERS "\nContent-Disposition: attachment; filename=choir-ca.crt");
}

static void add_pages(ChoirHttpServer *server) {
  for (const ChoirAsset *asset = choir_login_assets; asset->path; asset++) {
    gboolean page = g_str_has_suffix(asset->path, ".html");
    g_autofree char *path = g_strndup(asset->path, strlen(asset->path) - (page ? strlen(".html") : 0));
    choir_http_server_route(server, "GET", path, choir_page_answer, (gpointer)asset);
  }
}

ChoirLoginApi *choir_login_api_new(const ChoirWebOptions *options) {
  ChoirLoginApi *api = g_new0(ChoirLoginApi, 1);
  const struct {
    const char *method, *path;
    ChoirHttpHandler handler;
  } routes[] = {
      {"GET", "/api/me", on_me},
      {"POST", "/api/login", on_login},
      {"POST", "/api/logout", on_logout},
      {"POST", "/api/setup", on_setup},
      {"GET", "/api/setup/code", on_code},
      {"GET", "/api/people", on_people},
      {"POST", "/api/people", on_add},
      {"POST", "/api/people/remove", on_remove},
      {"POST", "/api/people/password", on_password},
      {"GET", "/api/tokens", on_tokens},
      {"POST", "/api/tokens", on_token_new},
      {"POST", "/api/tokens/revoke", on_token_revoke},
      {"GET", "/choir-ca.crt", on_ca},
  };
  api->options = options;
  api->tries = choir_tries_new();
  api->calls = g_ptr_array_new();
  for (gsize i = 0; i < G_N_ELEMENTS(routes); i++)
    choir_http_server_route(options->server, routes[i].method, routes[i].path, routes[i].handler, api);
  add_pages(options->server);
  return api;
}

void choir_login_api_free(ChoirLoginApi *api) {
  if (!api)
    return;
  for (guint i = 0; i < api->calls->len; i++) {
    Call *call = api->calls->pdata[i];
    if (call->request)
      choir_http_request_on_gone(call->request, NULL, NULL);
    call->request = NULL;
    call->api = NULL; /* it ends when its password is hashed */
  }
  g_ptr_array_unref(api->calls);
  choir_tries_free(api->tries);
  g_free(api);
}
