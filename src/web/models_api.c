/* /api/models: which language models there are, choose one, fetch one. */
#include <string.h>
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"
#include "web/answer.h"
#include "web/web_private.h"

struct ChoirModelsApi {
  const ChoirWebOptions *options;
  char *name; /* of the last fetch */
  char *error;
  guint64 done, total;
  struct Fetch *running;
  GCancellable *cancellable; /* while it runs */
};

/* A fetch may outlive the ChoirModelsApi by one callback. */
typedef struct Fetch {
  ChoirModelsApi *api; /* NULL once it is gone */
} Fetch;

static json_t *list_json(const ChoirWebOptions *options) {
  json_t *json = choir_models_json(options->models);
  if (json_is_object(json))
    return json;
  const ChoirModel *current = choir_models_current(options->models);
  return json_pack("{s:s?,s:o}", "current", current ? current->name : NULL, "models", json);
}

static void on_list(ChoirHttpRequest *request, gpointer user) {
  ChoirModelsApi *api = user;
  if (api->options->models) {
    choir_answer_json(request, 200, list_json(api->options));
    return;
  }
  /* Another server serves: there is nothing to choose here. */
  g_autofree char *name = choir_web_model_name(api->options);
  choir_answer_json(request, 200, json_pack("{s:s,s:[]}", "current", name, "models"));
}

/* The named model, or NULL after having answered. */
static const ChoirModel *named_model(ChoirModelsApi *api, ChoirHttpRequest *request) {
  json_auto_t *json = choir_answer_body(request, FALSE);
  if (!json)
    return NULL;
  const char *name = choir_json_string(json, "name", "");
  const ChoirModel *model = api->options->models ? choir_models_find(api->options->models, name) : NULL;
  if (!model)
    choir_http_respond_error(request, 404, "invalid_request_error", "model_not_found", "%s",
                             api->options->models
                                 ? "there is no model of that name in the list"
                                 : "there is no list of models here: another server, or a broken list");
  return model;
}

static void on_use(ChoirHttpRequest *request, gpointer user) {
  ChoirModelsApi *api = user;
  const ChoirModel *model = named_model(api, request);
  if (!model)
    return;
  g_autofree char *name = g_strdup(model->name);
  g_autoptr(GError) error = NULL;
  if (!choir_models_use(api->options->models, name, &error)) {
    choir_http_respond_error(request, 409, "invalid_request_error", "model_unusable", "%s", error->message);
    return;
  }
  api->options->use_model(name, api->options->user);
  choir_answer_json(request, 200, json_pack("{s:s}", "name", name));
}

static void on_progress(guint64 done, guint64 total, gpointer user) {
  Fetch *fetch = user;
  if (!fetch->api)
    return;
  fetch->api->done = done;
  fetch->api->total = total;
}

static void on_fetched(GObject *source, GAsyncResult *result, gpointer user) {
  Fetch *fetch = user;
  ChoirModelsApi *api = fetch->api;
  g_autoptr(GError) error = NULL;
  if (api) {
    if (choir_models_fetch_finish(api->options->models, result, &error))
      g_clear_pointer(&api->name, g_free);
    else
      choir_warning(CHOIR_TOPIC_WEB, "%s was not fetched: %s", api->name, error->message);
    api->error = error ? g_strdup(error->message) : NULL;
    g_clear_object(&api->cancellable);
    api->running = NULL;
  }
  g_free(fetch);
}

static void on_fetch(ChoirHttpRequest *request, gpointer user) {
  ChoirModelsApi *api = user;
  const ChoirModel *model = named_model(api, request);
  if (!model)
    return;
  if (api->cancellable) {
    choir_http_respond_error(request, 409, "invalid_request_error", "fetch_running",
                             "%s is being fetched; one at a time", api->name);
    return;
  }
  g_clear_pointer(&api->error, g_free);
  g_free(api->name);
  api->name = g_strdup(model->name);
  api->done = 0;
  api->total = model->bytes;
  api->cancellable = g_cancellable_new();
  Fetch *fetch = g_new0(Fetch, 1);
  fetch->api = api;
  api->running = fetch;
  choir_models_fetch(api->options->models, api->name, on_progress, api->cancellable, on_fetched, fetch);
  choir_answer_json(request, 202, json_pack("{s:s}", "name", api->name));
}

json_t *choir_models_api_fetch_json(const ChoirModelsApi *api) {
  if (!api->name)
    return json_null();
  return json_pack("{s:s,s:I,s:I,s:s?}", "name", api->name, "done", (json_int_t)api->done, "total",
                   (json_int_t)api->total, "error", api->error);
}

ChoirModelsApi *choir_models_api_new(const ChoirWebOptions *options) {
  ChoirModelsApi *api = g_new0(ChoirModelsApi, 1);
  api->options = options;
  choir_http_server_route(options->server, "GET", "/api/models", on_list, api);
  choir_http_server_route(options->server, "POST", "/api/models/use", on_use, api);
  choir_http_server_route(options->server, "POST", "/api/models/fetch", on_fetch, api);
  return api;
}

void choir_models_api_free(ChoirModelsApi *api) {
  if (!api)
    return;
  if (api->cancellable) {
    api->running->api = NULL;
    g_cancellable_cancel(api->cancellable);
    g_object_unref(api->cancellable);
  }
  g_free(api->name);
  g_free(api->error);
  g_free(api);
}
