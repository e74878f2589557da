/* The original's routes: health, status, metrics and the two ways in for other programs. */
#include <string.h>
#include "base/log.h"
#include "base/loop_lag.h"
#include "base/metrics.h"
#include "base/names.h"
#include "base/text.h"
#include "net/http_client.h"
#include "web/answer.h"
#include "web/web_private.h"

#define POST_TIMEOUT_MS 5000
#define MAX_WAITING 64 /* answers of /internal/chat that are under way to their response_url */

struct ChoirInternal {
  const ChoirWebOptions *options;
  ChoirModelsApi *models_api;
  GPtrArray *jobs; /* Job */
  GCancellable *cancellable;
  GPtrArray *posts; /* Post */
  ChoirMetric *post_failed;
};

/* One message by /internal/chat: with `request` the caller waits, else the answer is posted to `url`. */
typedef struct {
  ChoirInternal *owner; /* NULL once the owner is gone */
  ChoirHttpRequest *request;
  ChoirTurn *turn;
  char *request_id, *url;
  guint timer;
} Job;

static void job_free(Job *job) {
  if (job->timer)
    g_source_remove(job->timer);
  if (job->owner)
    g_ptr_array_remove_fast(job->owner->jobs, job);
  g_free(job->request_id);
  g_free(job->url);
  g_free(job);
}

typedef struct {
  ChoirInternal *owner; /* NULL once the owner is gone */
  char *url;
} Post;

static void on_posted(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  Post *post = user;
  ChoirInternal *owner = post->owner;
  if (owner)
    g_ptr_array_remove_fast(owner->posts, post);
  if (owner && (error || status < 200 || status >= 300)) {
    choir_counter_add(owner->post_failed, 1);
    choir_warning(CHOIR_TOPIC_WEB, "the answer for %s was not taken: %s", post->url,
                  error ? error->message : "it did not answer with 2xx");
  }
  g_free(post->url);
  g_free(post);
}

static void post_answer(Job *job, const char *content) {
  ChoirInternal *owner = job->owner;
  if (!owner)
    return;
  json_auto_t *json = json_pack("{s:s,s:s}", "request_id", job->request_id, "content", content);
  g_autofree char *body = choir_json_dump(json);
  Post *post = g_new0(Post, 1);
  post->owner = owner;
  post->url = g_strdup(job->url);
  g_ptr_array_add(owner->posts, post);
  choir_http_request(owner->options->http, "POST", job->url, "application/json", body, strlen(body), NULL,
                     POST_TIMEOUT_MS, 65536, owner->cancellable, on_posted, post);
}

static void on_delta(ChoirTurn *turn, const char *text, gpointer user) {
}

static void on_done(ChoirTurn *turn, const char *reply, const GError *error, gpointer user) {
  Job *job = user;
  ChoirHttpRequest *request = g_steal_pointer(&job->request);
  if (request && error)
    choir_answer_error(request, error);
  else if (request)
    choir_answer_json(request, 200,
                      json_pack("{s:s,s:s}", "request_id", job->request_id, "content", reply ? reply : ""));
  else if (job->url)
    post_answer(job, error ? error->message : reply ? reply : "");
  job_free(job);
}

static void on_gone(gpointer user) {
  Job *job = user;
  job->request = NULL;
  choir_turn_cancel(job->turn); /* done runs later and frees the job */
}

static gboolean on_late(gpointer user) {
  Job *job = user;
  ChoirHttpRequest *request = g_steal_pointer(&job->request);
  job->timer = 0;
  choir_http_respond_error(request, 504, "server_error", "timeout", "no answer in time; see [web] chat_timeout_s");
  choir_turn_cancel(job->turn);
  return G_SOURCE_REMOVE;
}

/* Starts the turn. request NULL: the answer goes to url. FALSE: *error. */
static gboolean job_start(ChoirInternal *owner, const json_t *json, const char *text, ChoirHttpRequest *request,
                          const char *url, GError **error) {
  static const ChoirTurnHandlers handlers = {.delta = on_delta, .done = on_done};
  const char *named = choir_json_string(json, "request_id", NULL);
  Job *job = g_new0(Job, 1);
  job->request_id = named && *named && strlen(named) <= 128 ? g_strdup(named) : choir_id("req_");
  job->url = g_strdup(url);
  ChoirTurnRequest turn = {.text = text, .source = "internal", .request_id = job->request_id};
  job->turn = choir_twin_begin(owner->options->twin, &turn, &handlers, job, error);
  if (!job->turn) {
    job_free(job);
    return FALSE;
  }
  job->owner = owner;
  g_ptr_array_add(owner->jobs, job);
  job->request = request;
  if (request) {
    job->timer =
        g_timeout_add_seconds((guint)choir_config_int(owner->options->config, "web", "chat_timeout_s"), on_late, job);
    choir_http_request_on_gone(request, on_gone, job);
  }
  return TRUE;
}

static void on_chat(ChoirHttpRequest *request, gpointer user) {
  ChoirInternal *owner = user;
  json_auto_t *json = choir_answer_body(request, FALSE);
  if (!json)
    return;
  const char *why;
  const char *text = choir_answer_text(json, &why);
  const char *url = choir_json_string(json, "response_url", NULL);
  if (!text || !url) {
    choir_answer_bad(request, "invalid_request", text ? "the member 'response_url' is missing" : why);
    return;
  }
  if (!choir_guard_url_allowed(choir_config_string(owner->options->config, "web", "response_urls"), url)) {
    choir_http_respond_error(request, 403, "permission_error", "response_url_not_allowed",
                             "answers may not be sent there; see [web] response_urls");
    return;
  }
  if (owner->posts->len + owner->jobs->len >= MAX_WAITING) {
    choir_answer_busy(request, "busy", "too many answers wait to be delivered");
    return;
  }
  g_autoptr(GError) error = NULL;
  if (!job_start(owner, json, text, NULL, url, &error))
    choir_answer_error(request, error);
  else
    choir_answer_json(request, 202, json_pack("{s:s}", "message", "Request accepted"));
}

static void on_chat_sync(ChoirHttpRequest *request, gpointer user) {
  json_auto_t *json = choir_answer_body(request, FALSE);
  if (!json)
    return;
  const char *why;
  const char *text = choir_answer_text(json, &why);
  g_autoptr(GError) error = NULL;
  if (!text)
    choir_answer_bad(request, "invalid_request", why);
  else if (!job_start(user, json, text, request, NULL, &error))
    choir_answer_error(request, error);
}

static void on_health(ChoirHttpRequest *request, gpointer user) {
  ChoirInternal *owner = user;
  ChoirLlmServer *llm = choir_twin_llm(owner->options->twin);
  gboolean ready = choir_llm_server_ready(llm);
  /* Why: a cluster's check shows it to whoever looks for the reason. */
  choir_answer_json(request, ready ? 200 : 503,
                    json_pack("{s:s,s:s*}", "status", ready ? "ok" : "initializing", "why",
                              ready ? NULL : choir_llm_server_progress(llm)));
}

static void on_status(ChoirHttpRequest *request, gpointer user) {
  ChoirInternal *owner = user;
  const ChoirWebOptions *options = owner->options;
  json_t *status = options->status ? options->status(options->user) : NULL;
  if (!status)
    status = json_pack("{s:s}", "status", "No active pipelines.");
  json_object_set_new(status, "connections", json_integer(choir_http_server_connections(options->server)));
  if (!json_object_get(status, "loop_lag_ms"))
    json_object_set_new(status, "loop_lag_ms", json_real(choir_loop_lag_ms()));
  json_object_set_new(status, "fetch",
                      owner->models_api ? choir_models_api_fetch_json(owner->models_api) : json_null());
  choir_answer_json(request, 200, status);
}

static void on_metrics(ChoirHttpRequest *request, gpointer user) {
  g_autofree char *text = choir_metrics_text();
  choir_http_respond(request, 200, "text/plain; version=0.0.4; charset=utf-8", text, strlen(text),
                     CHOIR_GUARD_API_HEADERS);
}

ChoirInternal *choir_internal_new(const ChoirWebOptions *options, ChoirModelsApi *models_api) {
  ChoirInternal *internal = g_new0(ChoirInternal, 1);
  internal->options = options;
  internal->models_api = models_api;
  internal->jobs = g_ptr_array_new();
  internal->posts = g_ptr_array_new();
  internal->cancellable = g_cancellable_new();
  internal->post_failed =
      choir_counter("choir_response_url_failed_total", NULL, "Answers of /internal/chat that nobody took.");
  choir_http_server_route(options->server, "GET", "/health", on_health, internal);
  choir_http_server_route(options->server, "GET", "/api/status", on_status, internal);
  choir_http_server_route(options->server, "GET", "/metrics", on_metrics, internal);
  choir_http_server_route(options->server, "POST", "/internal/chat", on_chat, internal);
  choir_http_server_route(options->server, "POST", "/internal/chat/sync", on_chat_sync, internal);
  return internal;
}

void choir_internal_free(ChoirInternal *internal) {
  if (!internal)
    return;
  for (guint i = 0; i < internal->posts->len; i++)
    ((Post *)g_ptr_array_index(internal->posts, i))->owner = NULL;
  g_cancellable_cancel(internal->cancellable);
  for (guint i = 0; i < internal->jobs->len; i++) {
    Job *job = g_ptr_array_index(internal->jobs, i);
    ChoirHttpRequest *request = g_steal_pointer(&job->request);
    job->owner = NULL;
    if (request)
      choir_answer_busy(request, "stopping", "the server stops");
    choir_turn_cancel(job->turn);
  }
  g_ptr_array_unref(internal->jobs);
  g_ptr_array_unref(internal->posts);
  g_object_unref(internal->cancellable);
  g_free(internal);
}
