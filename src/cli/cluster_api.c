#include "cli/cluster_api.h"
#include <gio/gio.h>
#include <string.h>
#include <unistd.h>
#include "base/log.h"
#include "base/text.h"
#include "cluster/consul.h"
#include "cluster/token.h"
#include "net/http_client.h"

#define MAX_ANSWER (32 * 1024 * 1024)
#define TIMEOUT_MS 15000

struct ChoirApi {
  ChoirApiKind kind;
  ChoirHttpClient *http;
  char *url, *headers;
};

typedef struct {
  GMainLoop *loop;
  char *text;
  gsize length;
  guint status;
  GError *error;
} Exchange;

static const struct {
  const char *name, *address_env, *token_file_env, *token_env, *header, *fallback_url;
  const char *files[5];
} kinds[] = {
    [CHOIR_API_NOMAD] = {"Nomad",
                         "NOMAD_ADDR",
                         "NOMAD_TOKEN_FILE",
                         "NOMAD_TOKEN",
                         "X-Nomad-Token: ",
                         "http://127.0.0.1:4646",
                         {"/etc/nomad.d/management_token", NULL}},
    [CHOIR_API_CONSUL] = {"Consul",
                          "CONSUL_HTTP_ADDR",
                          "CONSUL_HTTP_TOKEN_FILE",
                          "CONSUL_HTTP_TOKEN",
                          "X-Consul-Token: ",
                          "http://127.0.0.1:8500",
                          {"/etc/consul.d/management_token", "/etc/choir/tokens/health.token",
                           "/etc/choir/tokens/pipecat-app.token", "/etc/choir/tokens/expert.token", NULL}},
};

char *choir_api_read_token(const char *path, GError **error) {
  g_autoptr(ChoirToken) token = choir_token_new(path, NULL);
  const char *value = choir_token_read(token);
  if (!value)
    g_set_error_literal(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, choir_token_problem(token));
  return g_strdup(value);
}

static char *find_token(ChoirApiKind kind, const char *file, GError **error) {
  const char *named = file ? file : g_getenv(kinds[kind].token_file_env);
  if (named && *named)
    return choir_api_read_token(named, error);
  const char *direct = g_getenv(kinds[kind].token_env);
  if (direct && *direct && !strpbrk(direct, "\r\n"))
    return g_strdup(direct);
  for (gsize i = 0; kinds[kind].files[i]; i++)
    if (access(kinds[kind].files[i], R_OK) == 0)
      return choir_api_read_token(kinds[kind].files[i], error);
  return NULL;
}

static char *find_url(ChoirApiKind kind, const char *given) {
  const char *set = given ? given : g_getenv(kinds[kind].address_env);
  g_autofree char *pair = NULL;
  if ((!set || !*set) && kind == CHOIR_API_CONSUL && g_getenv("CONSUL_HOST")) {
    const char *port = g_getenv("CONSUL_PORT");
    pair = g_strdup_printf("%s:%s", g_getenv("CONSUL_HOST"), port && *port ? port : "8500");
    set = pair;
  }
  if (!set || !*set)
    set = kinds[kind].fallback_url;
  return choir_consul_address(set);
}

ChoirApi *choir_api_new(ChoirApiKind kind, const char *url, const char *token_file, GError **error) {
  g_autoptr(GError) problem = NULL;
  g_autofree char *token = find_token(kind, token_file, &problem);
  if (problem) {
    g_propagate_error(error, g_steal_pointer(&problem));
    return NULL;
  }
  ChoirApi *api = g_new0(ChoirApi, 1);
  api->kind = kind;
  api->http = choir_http_client_new();
  api->url = find_url(kind, url);
  if (token) {
    choir_log_add_secret(token);
    api->headers = g_strconcat(kinds[kind].header, token, NULL);
  }
  return api;
}

void choir_api_free(ChoirApi *api) {
  if (!api)
    return;
  choir_http_client_free(api->http);
  g_free(api->url);
  g_free(api->headers);
  g_free(api);
}

const char *choir_api_url(const ChoirApi *api) {
  return api->url;
}

const char *choir_api_headers(const ChoirApi *api) {
  return api->headers;
}

gboolean choir_api_has_token(const ChoirApi *api) {
  return api->headers != NULL;
}

static void on_done(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  Exchange *exchange = user;
  exchange->status = status;
  exchange->error = error ? g_error_copy(error) : NULL;
  exchange->text = body ? g_strndup(body, length) : NULL;
  exchange->length = length;
  g_main_loop_quit(exchange->loop);
}

static char *run(ChoirApi *api, const char *method, const char *url, const char *headers, const char *body,
                 guint timeout_ms, Exchange *exchange) {
  exchange->loop = g_main_loop_new(NULL, FALSE);
  choir_http_request(api->http, method, url, body ? "application/json" : NULL, body, body ? strlen(body) : 0, headers,
                     timeout_ms, MAX_ANSWER, NULL, on_done, exchange);
  g_main_loop_run(exchange->loop);
  g_main_loop_unref(exchange->loop);
  return exchange->text;
}

/* The server's error in words that say what to do. */
static GError *explain(const ChoirApi *api, guint status, const char *text, const GError *error) {
  const char *name = kinds[api->kind].name;
  if (g_error_matches(error, CHOIR_HTTP_ERROR, CHOIR_HTTP_ERROR_CONNECT))
    return g_error_new(error->domain, error->code, "no %s answers at %s; is its service running, and %s right?", name,
                       api->url, kinds[api->kind].address_env);
  if (status == 403)
    return g_error_new(error->domain, error->code, "%s refuses: %s; run it as root, or name a token's file in %s", name,
                       api->headers ? "the token may not do this" : "there is no token",
                       kinds[api->kind].token_file_env);
  if (status >= 400 && text && *text) {
    g_autofree char *line = g_strndup(text, MIN(strcspn(text, "\r\n"), 400));
    return g_error_new(error->domain, error->code, "%s answered %u: %s", name, status, line);
  }
  return g_error_copy(error);
}

char *choir_api_text(ChoirApi *api, const char *method, const char *path, const char *body, guint timeout_ms,
                     guint *ret_status, GError **error) {
  Exchange exchange = {0};
  g_autofree char *url = g_strconcat(api->url, path, NULL);
  g_autofree char *text = run(api, method, url, api->headers, body, timeout_ms ? timeout_ms : TIMEOUT_MS, &exchange);
  g_autoptr(GError) problem = exchange.error;
  if (ret_status)
    *ret_status = exchange.status;
  if (problem) {
    g_propagate_error(error, explain(api, exchange.status, text, problem));
    return NULL;
  }
  return text ? g_steal_pointer(&text) : g_strdup("");
}

json_t *choir_api_json(ChoirApi *api, const char *method, const char *path, const json_t *body, guint *ret_status,
                       GError **error) {
  g_autofree char *sent = body ? choir_json_dump(body) : NULL;
  g_autofree char *text = choir_api_text(api, method, path, sent, 0, ret_status, error);
  if (!text)
    return NULL;
  if (!*g_strstrip(text))
    return json_null();
  json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
  if (!json)
    g_set_error(error, CHOIR_JSON_ERROR, CHOIR_JSON_ERROR_SYNTAX, "%s at %s did not answer with JSON",
                kinds[api->kind].name, api->url);
  return json;
}

char *choir_api_outside(ChoirApi *api, const char *url, const char *headers, const char *body, guint timeout_ms,
                        guint *ret_status, GError **error) {
  Exchange exchange = {0};
  g_autofree char *text = run(api, body ? "POST" : "GET", url, headers, body, timeout_ms, &exchange);
  if (ret_status)
    *ret_status = exchange.status;
  if (exchange.error) {
    g_propagate_error(error, exchange.error);
    return NULL;
  }
  return text ? g_steal_pointer(&text) : g_strdup("");
}
