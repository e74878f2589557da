#include "web/realtime.h"
#include <string.h>
#include "base/log.h"
#include "base/metrics.h"
#include "base/names.h"
#include "web/guard.h"
#include "web/realtime_session.h"
#include "web/realtime_stages.h"

#define MAX_MESSAGE (4 * 1024 * 1024) /* 30 s of 48 kHz audio in one append */
#define MAX_QUEUE (2 * 1024 * 1024)

struct ChoirRealtime {
  ChoirVoice *voice;
  ChoirLlmServer *llm;
  char *(*model)(gpointer user);
  gpointer user;
  GPtrArray *clients; /* Client */
  ChoirMetric *gauge;
};

typedef struct {
  ChoirRealtime *owner;
  ChoirWebSocket *socket; /* NULL before the upgrade and once it closed */
  ChoirLive *live;
  ChoirRealtimeSession *session;
  guint close_idle;
  guint16 close_code;
} Client;

/* Everything but the struct, which the socket's last call may still find. */
static void client_clear(Client *client) {
  if (client->close_idle)
    g_source_remove(client->close_idle);
  client->close_idle = 0;
  g_clear_pointer(&client->live, choir_live_free);
  g_clear_pointer(&client->session, choir_realtime_session_free);
}

static gboolean on_close_idle(gpointer user) {
  Client *client = user;
  client->close_idle = 0;
  if (client->socket)
    choir_websocket_close(client->socket, client->close_code, client->close_code == 1013 ? "too slow or too many" : "");
  return G_SOURCE_REMOVE;
}

/* From the main loop: the caller may be inside a callback of the live or of the socket. */
static void close_soon(Client *client, guint16 code) {
  if (client->close_idle)
    return;
  client->close_code = code;
  client->close_idle = g_idle_add(on_close_idle, client);
}

static void on_send(const char *text, gsize length, gpointer user) {
  Client *client = user;
  if (!client->socket || client->close_idle)
    return;
  /* An event that is lost would break the protocol's order: rather lose the client, who may come again. */
  if (!choir_websocket_send_text(client->socket, text, (gssize)length)) {
    choir_warning(CHOIR_TOPIC_WEB, "a realtime client does not read fast enough and is cut off");
    close_soon(client, 1013);
  }
}

static ChoirChat *on_chat(gpointer user, const char **ret_model) {
  const Client *client = user;
  ChoirLlmServer *llm = client->owner ? client->owner->llm : NULL;
  if (!llm || !choir_llm_server_ready(llm))
    return NULL;
  *ret_model = choir_llm_server_model(llm);
  return choir_llm_server_chat(llm);
}

static void on_live(ChoirLive *live, const ChoirLiveEvent *event, gpointer user) {
  Client *client = user;
  choir_realtime_session_live(client->session, event);
}

static void on_message(ChoirWebSocket *socket, gboolean is_text, const char *data, gsize length, gpointer user) {
  Client *client = user;
  if (!client->session || !client->live || client->close_idle)
    return;
  if (is_text)
    choir_realtime_session_client(client->session, data, length);
  else
    choir_realtime_session_error(client->session, "invalid_request_error", "binary_frame",
                                 "Events are text frames; audio goes as base64 into input_audio_buffer.append.");
}

static void on_closed(ChoirWebSocket *socket, guint16 code, gpointer user) {
  Client *client = user;
  ChoirRealtime *owner = client->owner;
  client->socket = NULL;
  client_clear(client);
  if (owner) {
    g_ptr_array_remove_fast(owner->clients, client);
    choir_gauge_set(owner->gauge, owner->clients->len);
  }
  g_free(client);
}

const char *choir_realtime_subprotocol(const char *offered) {
  g_auto(GStrv) names = g_strsplit(offered ? offered : "", ",", 16);
  for (char **name = names; *name; name++)
    if (strcmp(g_strstrip(*name), "realtime") == 0)
      return "realtime"; /* a key offered beside it (openai-insecure-api-key.…) is never echoed */
  return NULL;
}

/* Who speaks, for the history: the page and the command line say so themselves. */
static const char *source_of(ChoirHttpRequest *request) {
  static const char *const known[] = {"page", "cli", "realtime", NULL};
  const char *named = choir_http_request_query(request, "source");
  for (guint i = 0; named && known[i]; i++)
    if (strcmp(named, known[i]) == 0)
      return known[i];
  return g_strcmp0(choir_http_request_query(request, "choir"), "1") == 0 ? "page" : "realtime";
}

static void on_upgrade(ChoirHttpRequest *request, gpointer user) {
  static const ChoirWebSocketHandlers handlers = {
      .message = on_message, .closed = on_closed, .max_message = MAX_MESSAGE, .max_queue = MAX_QUEUE};
  ChoirRealtime *owner = user;
  const char *source = source_of(request);
  gboolean extension = g_strcmp0(choir_http_request_query(request, "choir"), "1") == 0;
  g_autofree char *model = owner->model(owner->user);
  Client *client = g_new0(Client, 1);
  client->owner = owner;
  client->session = choir_realtime_session_new(
      choir_voice_defaults(owner->voice),
      &(ChoirRealtimeOptions){
          .model = model, .extension = extension, .chat = on_chat, .send = on_send, .user = client});
  client->socket = choir_http_upgrade(
      request, choir_realtime_subprotocol(choir_http_request_header(request, "Sec-WebSocket-Protocol")), &handlers,
      client);
  if (!client->socket) {
    client_clear(client);
    g_free(client);
    return;
  }
  g_ptr_array_add(owner->clients, client);
  choir_gauge_set(owner->gauge, owner->clients->len);
  choir_realtime_session_start(client->session);
  g_autoptr(GError) error = NULL;
  client->live = choir_live_new(owner->voice, source, on_live, client, &error);
  if (!client->live) {
    choir_realtime_session_error(client->session, "server_error", "too_many_sessions", error->message);
    close_soon(client, 1013);
    return;
  }
  choir_realtime_session_attach(client->session, client->live);
}

ChoirRealtime *choir_realtime_new(ChoirHttpServer *server, ChoirVoice *voice, ChoirLlmServer *llm,
                                  char *(*model)(gpointer user), gpointer user) {
  ChoirRealtime *realtime = g_new0(ChoirRealtime, 1);
  realtime->voice = voice;
  realtime->llm = llm;
  realtime->model = model;
  realtime->user = user;
  realtime->clients = g_ptr_array_new();
  realtime->gauge = choir_gauge("choir_realtime_clients", NULL, "Open /v1/realtime connections.");
  choir_realtime_stages_register();
  choir_http_server_route(server, "GET", "/v1/realtime", on_upgrade, realtime);
  return realtime;
}

void choir_realtime_free(ChoirRealtime *realtime) {
  if (!realtime)
    return;
  for (guint i = 0; i < realtime->clients->len; i++) {
    Client *client = g_ptr_array_index(realtime->clients, i);
    client->owner = NULL;
    client_clear(client);
    choir_websocket_close(client->socket, 1001, "the server stops");
  }
  g_ptr_array_unref(realtime->clients);
  g_free(realtime);
}
