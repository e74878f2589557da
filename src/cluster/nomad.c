#include "cluster/nomad.h"
#include <string.h>
#include "base/text.h"
#include "cluster/consul.h"
#include "cluster/token.h"

#define MAX_ANSWER (8u << 20)
#define LOG_MS 5000

G_DEFINE_QUARK(choir - nomad - error - quark, choir_nomad_error)

struct ChoirNomad {
  char *url;
  ChoirToken *token;
  ChoirHttpClient *http;
  GPtrArray *asks; /* Ask */
};

typedef struct {
  ChoirNomad *nomad; /* NULL: nobody is told */
  gboolean text;
  ChoirNomadDone done;
  gpointer user;
} Ask;

ChoirNomad *choir_nomad_new(const char *url, const char *token_file) {
  ChoirNomad *nomad = g_new0(ChoirNomad, 1);
  nomad->url = choir_consul_address(url);
  nomad->token = choir_token_new(token_file, NULL);
  nomad->http = choir_http_client_new();
  nomad->asks = g_ptr_array_new();
  return nomad;
}

void choir_nomad_free(ChoirNomad *nomad) {
  if (!nomad)
    return;
  for (guint i = 0; i < nomad->asks->len; i++)
    ((Ask *)nomad->asks->pdata[i])->nomad = NULL;
  choir_http_client_free(nomad->http);
  choir_token_free(nomad->token);
  g_ptr_array_unref(nomad->asks);
  g_free(nomad->url);
  g_free(nomad);
}

const char *choir_nomad_url(const ChoirNomad *nomad) {
  return nomad->url;
}

static GError *explain(ChoirNomad *nomad, guint status, const char *body, const GError *error) {
  const char *file = choir_token_problem(nomad->token);
  if (status == 401 || status == 403)
    return g_error_new(CHOIR_NOMAD_ERROR, CHOIR_NOMAD_ERROR_DENIED,
                       "Nomad does not allow it (%u); put a token that may read jobs and logs into [cluster] "
                       "nomad_token_file%s%s",
                       status, file ? "; " : "", file ? file : "");
  if (status == 404)
    return g_error_new(CHOIR_NOMAD_ERROR, CHOIR_NOMAD_ERROR_NONE, "Nomad has no such thing (any more): %.200s",
                       body ? body : "");
  if (error)
    return g_error_new(CHOIR_NOMAD_ERROR, CHOIR_NOMAD_ERROR_AWAY, "Nomad does not answer: %s", error->message);
  return g_error_new(CHOIR_NOMAD_ERROR, CHOIR_NOMAD_ERROR_ANSWER, "what answers at %s is not Nomad", nomad->url);
}

static void on_answer(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  Ask *ask = user;
  if (ask->nomad) {
    gboolean good = !error && status == 200;
    g_ptr_array_remove_fast(ask->nomad->asks, ask);
    g_autofree char *text = body && (ask->text || !good) ? choir_utf8(body, (gssize)length) : NULL;
    json_auto_t *json = good && !ask->text ? choir_json_parse(body, length, NULL) : NULL;
    g_autoptr(GError) problem = good && (json || ask->text) ? NULL : explain(ask->nomad, status, text, error);
    ask->done(json, problem ? NULL : text, problem, ask->user);
  }
  g_free(ask);
}

static void get(ChoirNomad *nomad, const char *path, guint timeout_ms, gboolean text, ChoirNomadDone done,
                gpointer user) {
  Ask *ask = g_new0(Ask, 1);
  *ask = (Ask){.nomad = nomad, .text = text, .done = done, .user = user};
  g_ptr_array_add(nomad->asks, ask);
  const char *token = choir_token_read(nomad->token);
  g_autofree char *url = g_strconcat(nomad->url, path, NULL);
  g_autofree char *headers = token ? g_strconcat("X-Nomad-Token: ", token, NULL) : NULL;
  choir_http_request(nomad->http, "GET", url, NULL, NULL, 0, headers, timeout_ms, MAX_ANSWER, NULL, on_answer, ask);
}

void choir_nomad_get(ChoirNomad *nomad, const char *path, guint timeout_ms, ChoirNomadDone done, gpointer user) {
  get(nomad, path, timeout_ms, FALSE, done, user);
}

gboolean choir_nomad_id_ok(const char *id) {
  gsize length = strlen(id);
  return length >= 8 && length <= 36 && strspn(id, "0123456789abcdef-") == length;
}

void choir_nomad_log(ChoirNomad *nomad, const char *alloc, const char *task, const char *type, guint bytes,
                     ChoirNomadDone done, gpointer user) {
  g_autofree char *name = g_uri_escape_string(task, NULL, FALSE);
  g_autofree char *path = g_strdup_printf("/v1/client/fs/logs/%s?task=%s&type=%s&plain=true&origin=end&offset=%u",
                                          alloc, name, type, bytes);
  get(nomad, path, LOG_MS, TRUE, done, user);
}
