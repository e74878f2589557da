/* /api/cluster: nodes, jobs, experts, allocations; and the logs of a task by a route of their own. */
#include <string.h>
#include "base/text.h"
#include "cluster/view.h"
#include "web/answer.h"
#include "web/web_private.h"

#define LOG_BYTES (64u << 10)
#define MAX_TASK 128

struct ChoirClusterApi {
  const ChoirWebOptions *options;
  GPtrArray *asks; /* Ask */
};

/* One request that is not answered. */
typedef struct {
  ChoirClusterApi *api;      /* NULL once it is gone */
  ChoirHttpRequest *request; /* NULL once the client left */
  guint refresh;
} Ask;

static Ask *ask_new(ChoirClusterApi *api, ChoirHttpRequest *request) {
  Ask *ask = g_new0(Ask, 1);
  *ask = (Ask){.api = api, .request = request};
  g_ptr_array_add(api->asks, ask);
  return ask;
}

static void ask_free(Ask *ask) {
  if (ask->api)
    g_ptr_array_remove_fast(ask->api->asks, ask);
  g_free(ask);
}

static void on_left(gpointer user) {
  ((Ask *)user)->request = NULL;
}

static json_t *main_json(const ChoirWebOptions *options) {
  json_t *status = choir_llm_server_status(choir_twin_llm(options->twin));
  json_t *main = json_pack("{s:s,s:s}", "model", choir_json_string(status, "model", ""), "service",
                           choir_config_string(options->config, "llm", "service"));
  json_object_set(main, "remote", json_object_get(status, "remote"));
  json_decref(status);
  return main;
}

static void on_refreshed(gpointer user) {
  Ask *ask = user;
  if (ask->api && ask->request) {
    json_t *json = choir_view_json(ask->api->options->view);
    json_object_set_new(json, "main", main_json(ask->api->options));
    choir_answer_json(ask->request, 200, json);
  }
  ask_free(ask);
}

static void on_cluster(ChoirHttpRequest *request, gpointer user) {
  ChoirClusterApi *api = user;
  Ask *ask = ask_new(api, request);
  choir_http_request_on_gone(request, on_left, ask);
  guint id = choir_view_refresh(api->options->view, on_refreshed, ask);
  if (id) /* else it was told, and is gone */
    ask->refresh = id;
}

static void on_log(const json_t *json, const char *text, const GError *error, gpointer user) {
  Ask *ask = user;
  if (ask->api && ask->request && error) {
    guint status = error->code == CHOIR_NOMAD_ERROR_NONE ? 404 : error->code == CHOIR_NOMAD_ERROR_DENIED ? 403 : 502;
    choir_http_respond_error(ask->request, status, "server_error", "log_not_there", "%s", error->message);
  } else if (ask->api && ask->request) {
    choir_answer_json(
        ask->request, 200,
        json_pack("{s:s,s:b}", "text", text ? text : "", "cut", (int)(text && strlen(text) >= LOG_BYTES)));
  }
  ask_free(ask);
}

static void on_logs(ChoirHttpRequest *request, gpointer user) {
  ChoirClusterApi *api = user;
  ChoirNomad *nomad = choir_view_nomad(api->options->view);
  const char *alloc = choir_http_request_query(request, "alloc"), *task = choir_http_request_query(request, "task");
  const char *type = choir_http_request_query(request, "type");
  if (!nomad) {
    choir_http_respond_error(request, 409, "invalid_request_error", "no_nomad",
                             "no Nomad is configured; set [cluster] nomad_url or NOMAD_ADDR");
    return;
  }
  if (!alloc || !choir_nomad_id_ok(alloc) || !task || !*task || strlen(task) > MAX_TASK) {
    choir_answer_bad(request, "alloc_invalid", "send ?alloc=ID&task=NAME, as /api/cluster names them");
    return;
  }
  if (type && !g_str_equal(type, "stdout") && !g_str_equal(type, "stderr")) {
    choir_answer_bad(request, "type_invalid", "type must be stdout or stderr");
    return;
  }
  Ask *ask = ask_new(api, request);
  choir_http_request_on_gone(request, on_left, ask);
  choir_nomad_log(nomad, alloc, task, type ? type : "stdout", LOG_BYTES, on_log, ask);
}

ChoirClusterApi *choir_cluster_api_new(const ChoirWebOptions *options) {
  ChoirClusterApi *api = g_new0(ChoirClusterApi, 1);
  api->options = options;
  api->asks = g_ptr_array_new();
  choir_http_server_route(options->server, "GET", "/api/cluster", on_cluster, api);
  choir_http_server_route(options->server, "GET", "/api/cluster/logs", on_logs, api);
  return api;
}

void choir_cluster_api_free(ChoirClusterApi *api) {
  if (!api)
    return;
  while (api->asks->len > 0) {
    Ask *ask = g_ptr_array_steal_index_fast(api->asks, 0);
    if (ask->request)
      choir_http_request_on_gone(ask->request, NULL, NULL);
    ask->request = NULL;
    ask->api = NULL;
    if (ask->refresh) {
      choir_view_forget(api->options->view, ask->refresh);
      g_free(ask);
    } /* else Nomad still tells it */
  }
  g_ptr_array_unref(api->asks);
  g_free(api);
}
