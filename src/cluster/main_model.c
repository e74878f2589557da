#include "cluster/main_model.h"
#include <string.h>
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"
#include "cluster/token.h"

#define AGAIN_S 5 /* a healthy server that could not be used is tried again */

struct ChoirMainModel {
  ChoirLlmServer *llm;
  ChoirToken *key;
  ChoirConsulWatch *watch;
  char *url; /* that is to be used now, NULL = none */
  guint timer;
};

static char *address_of(const json_t *instance) {
  const json_t *service = json_object_get(instance, "Service"), *checks = json_object_get(instance, "Checks");
  const char *address = choir_json_string(service, "Address", "");
  gint64 port = choir_json_int(service, "Port", 0);
  size_t i;
  json_t *check;
  if (!*address)
    address = choir_json_string(json_object_get(instance, "Node"), "Address", "");
  json_array_foreach((json_t *)checks, i,
                     check) if (g_str_equal(choir_json_string(check, "Status", ""), "critical")) return NULL;
  if (!*address || port < 1 || port > 65535)
    return NULL;
  return g_strdup_printf(strchr(address, ':') ? "http://[%s]:%d" : "http://%s:%d", address, (int)port);
}

char *choir_main_model_pick(const json_t *answer, const char *stay) {
  g_autofree char *first = NULL;
  size_t i;
  json_t *instance;
  json_array_foreach((json_t *)answer, i, instance) {
    g_autofree char *url = address_of(instance);
    if (url && g_strcmp0(url, stay) == 0)
      return g_steal_pointer(&url);
    if (url && !first)
      first = g_steal_pointer(&url);
  }
  return g_steal_pointer(&first);
}

static void on_service(const json_t *answer, const GError *error, gpointer user) {
  ChoirMainModel *model = user;
  if (error) /* the server may be well while Consul is not; its own health decides */
    return;
  char *url = choir_main_model_pick(answer, choir_llm_server_remote(model->llm));
  g_free(model->url);
  model->url = url;
  choir_llm_server_use_remote(model->llm, url, choir_token_read(model->key));
}

static gboolean on_again(gpointer user) {
  ChoirMainModel *model = user;
  if (model->url && !choir_llm_server_remote(model->llm))
    choir_llm_server_use_remote(model->llm, model->url, choir_token_read(model->key));
  return G_SOURCE_CONTINUE;
}

ChoirMainModel *choir_main_model_new(ChoirConsul *consul, ChoirLlmServer *llm, const char *service,
                                     const char *key_file) {
  ChoirMainModel *model = g_new0(ChoirMainModel, 1);
  g_autofree char *escaped = g_uri_escape_string(service, NULL, FALSE);
  g_autofree char *path = g_strconcat("/v1/health/service/", escaped, NULL);
  model->llm = llm;
  model->key = choir_token_new(key_file, NULL);
  model->watch = choir_consul_watch(consul, path, on_service, model);
  model->timer = g_timeout_add_seconds(AGAIN_S, on_again, model);
  return model;
}

void choir_main_model_free(ChoirMainModel *model) {
  if (!model)
    return;
  g_source_remove(model->timer);
  choir_consul_unwatch(model->watch);
  choir_token_free(model->key);
  g_free(model->url);
  g_free(model);
}
