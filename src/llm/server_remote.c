/* Another machine's llama-server in place of this one's process, which stays loaded for when the other is gone. */
#include <string.h>
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"
#include "llm/server_private.h"

#define ASK_MS 3000
#define POLL_MS 2000
#define POLL_TIMEOUT_MS 1500
#define MISSES 2 /* unanswered questions after which it counts as gone */

typedef struct {
  ChoirLlmServer *server; /* a reference */
  GCancellable *mine;     /* that of the server when it was asked: cancelled = nobody waits any more */
  char *url, *key;
} RemoteAsk;

static void ask_free(RemoteAsk *ask) {
  choir_llm_server_unref(ask->server);
  g_object_unref(ask->mine);
  g_free(ask->url);
  g_free(ask->key);
  g_free(ask);
}

static void ask(ChoirLlmServer *server, const char *url, const char *key, const char *path, guint timeout_ms,
                ChoirHttpDone done) {
  RemoteAsk *asked = g_new0(RemoteAsk, 1);
  server->refs++;
  *asked = (RemoteAsk){.server = server,
                       .mine = g_object_ref(server->remote_ask),
                       .url = g_strdup(url),
                       .key = g_strdup(key && *key ? key : NULL)};
  g_autofree char *address = g_strconcat(url, path, NULL);
  g_autofree char *headers = asked->key ? g_strdup_printf("Authorization: Bearer %s", asked->key) : NULL;
  choir_http_request(server->http, "GET", address, NULL, NULL, 0, headers, timeout_ms, 0, asked->mine, done, asked);
}

/* What was known of the server is void: listeners see it go away and come back. */
static void move(ChoirLlmServer *server) {
  server->moving = TRUE;
  choir_llm_server_tell(server);
  server->moving = FALSE;
  choir_llm_server_tell(server);
}

static void go_home(ChoirLlmServer *server, const char *why) {
  choir_warning(CHOIR_TOPIC_LLM, "back to this machine's own language model: %s", why);
  g_clear_pointer(&server->remote, g_free);
  g_clear_pointer(&server->remote_model, g_free);
  choir_chat_set_shared(server->chat, FALSE);
  choir_chat_set_server(server->chat, choir_chat_base_url(server->light), server->command.api_key);
  move(server);
}

static gboolean on_poll(gpointer user);

static void on_health(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  RemoteAsk *asked = user;
  ChoirLlmServer *server = asked->server;
  if (!g_cancellable_is_cancelled(asked->mine) && server->remote) {
    server->remote_misses = status == 200 ? 0 : server->remote_misses + 1;
    if (server->remote_misses >= MISSES) {
      g_autofree char *why = g_strdup_printf("%s does not answer: %s", server->remote, error ? error->message : "?");
      choir_llm_server_drop_remote(server, why);
    } else {
      server->remote_poll = g_timeout_add(POLL_MS, on_poll, server);
    }
  }
  ask_free(asked);
}

static gboolean on_poll(gpointer user) {
  ChoirLlmServer *server = user;
  server->remote_poll = 0;
  ask(server, server->remote, NULL, "/health", POLL_TIMEOUT_MS, on_health);
  return G_SOURCE_REMOVE;
}

static void on_models(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  RemoteAsk *asked = user;
  ChoirLlmServer *server = asked->server;
  json_auto_t *answer = !error && status == 200 ? choir_json_parse(body, length, NULL) : NULL;
  const json_t *model = json_array_get(json_object_get(answer, "data"), 0), *meta = json_object_get(model, "meta");
  if (g_cancellable_is_cancelled(asked->mine)) {
    ask_free(asked);
    return;
  }
  if (!model || !g_str_equal(choir_json_string(model, "owned_by", ""), "llamacpp")) {
    choir_warning(CHOIR_TOPIC_LLM, "%s is no llama-server that can be used: %s", asked->url,
                  error ? error->message : "it does not say which model it has");
  } else {
    server->remote = g_strdup(asked->url);
    server->remote_model = g_path_get_basename(choir_json_string(model, "id", "a model of the cluster"));
    server->remote_params = (guint64)choir_json_int(meta, "n_params", 0);
    server->remote_context = (guint)choir_json_int(meta, "n_ctx", 0);
    server->remote_misses = 0;
    choir_info(CHOIR_TOPIC_LLM, "the language model is now %s at %s", server->remote_model, server->remote);
    choir_chat_set_shared(server->chat, TRUE);
    choir_chat_set_server(server->chat, asked->url, asked->key);
    server->remote_poll = g_timeout_add(POLL_MS, on_poll, server);
    move(server);
  }
  ask_free(asked);
}

void choir_llm_server_forget_remote(ChoirLlmServer *server) {
  g_clear_handle_id(&server->remote_poll, g_source_remove);
  if (server->remote_ask)
    g_cancellable_cancel(server->remote_ask);
  g_clear_object(&server->remote_ask);
}

gboolean choir_llm_server_drop_remote(ChoirLlmServer *server, const char *why) {
  gboolean used = server->remote != NULL;
  choir_llm_server_forget_remote(server);
  if (used)
    go_home(server, why);
  return used;
}

void choir_llm_server_use_remote(ChoirLlmServer *server, const char *url, const char *api_key) {
  if (!server->child || server->dead || (url && g_strcmp0(server->remote, url) == 0))
    return;
  choir_llm_server_drop_remote(server, url ? "another server is to be used" : "its service is not healthy");
  if (!url)
    return;
  server->remote_ask = g_cancellable_new();
  ask(server, url, api_key, "/v1/models", ASK_MS, on_models);
}

const char *choir_llm_server_remote(const ChoirLlmServer *server) {
  return server->remote;
}

ChoirChat *choir_llm_server_light(ChoirLlmServer *server) {
  if (server->state != STATE_READY)
    return NULL;
  return server->light ? server->light : server->chat;
}
