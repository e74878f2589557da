#include "web/rtvi.h"
#include <string.h>
#include "base/log.h"
#include "base/metrics.h"
#include "base/names.h"
#include "base/text.h"
#include "web/guard.h"
#include "web/rtvi_session.h"

#define MAX_MESSAGE (1024 * 1024) /* what the stock client sends at most */
#define MAX_QUEUE (2 * 1024 * 1024)

struct ChoirRtvi {
  ChoirVoice *voice;
  char *(*model)(gpointer user);
  gpointer user;
  GPtrArray *clients; /* Client */
  ChoirMetric *gauge;
};

typedef struct {
  ChoirRtvi *owner;
  ChoirWebSocket *socket; /* NULL before the upgrade and once it closed */
  ChoirLive *live;
  ChoirRtviSession *session;
  guint close_idle;
  guint16 close_code;
} Client;

/* Everything but the struct, which the socket's last call may still find. */
static void client_clear(Client *client) {
  if (client->close_idle)
    g_source_remove(client->close_idle);
  client->close_idle = 0;
  g_clear_pointer(&client->live, choir_live_free);
  g_clear_pointer(&client->session, choir_rtvi_session_free);
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

static void on_send(gboolean binary, const void *data, gsize length, gpointer user) {
  Client *client = user;
  if (!client->socket || client->close_idle)
    return;
  gboolean sent = binary ? choir_websocket_send_binary(client->socket, data, length)
                         : choir_websocket_send_text(client->socket, data, (gssize)length);
  if (sent)
    return;
  choir_warning(CHOIR_TOPIC_WEB, "an RTVI client does not read fast enough and is cut off");
  close_soon(client, 1013);
}

static void on_hang_up(gpointer user) {
  close_soon(user, 1000);
}

static void on_live(ChoirLive *live, const ChoirLiveEvent *event, gpointer user) {
  Client *client = user;
  choir_rtvi_session_live(client->session, event);
}

static void on_message(ChoirWebSocket *socket, gboolean is_text, const char *data, gsize length, gpointer user) {
  Client *client = user;
  if (client->session && client->live && !client->close_idle)
    choir_rtvi_session_client(client->session, !is_text, data, length);
}

static void on_closed(ChoirWebSocket *socket, guint16 code, gpointer user) {
  Client *client = user;
  ChoirRtvi *owner = client->owner;
  client->socket = NULL;
  client_clear(client);
  if (owner) {
    g_ptr_array_remove_fast(owner->clients, client);
    choir_gauge_set(owner->gauge, owner->clients->len);
  }
  g_free(client);
}

static void on_upgrade(ChoirHttpRequest *request, gpointer user) {
  static const ChoirWebSocketHandlers handlers = {
      .message = on_message, .closed = on_closed, .max_message = MAX_MESSAGE, .max_queue = MAX_QUEUE};
  ChoirRtvi *owner = user;
  g_autofree char *model = owner->model(owner->user);
  gboolean text_only = g_strcmp0(choir_http_request_query(request, "skip_tts"), "true") == 0;
  Client *client = g_new0(Client, 1);
  client->owner = owner;
  client->session = choir_rtvi_session_new(
      choir_voice_defaults(owner->voice),
      &(ChoirRtviOptions){
          .model = model, .text_only = text_only, .send = on_send, .hang_up = on_hang_up, .user = client});
  client->socket = choir_http_upgrade(request, NULL, &handlers, client);
  if (!client->socket) {
    client_clear(client);
    g_free(client);
    return;
  }
  g_ptr_array_add(owner->clients, client);
  choir_gauge_set(owner->gauge, owner->clients->len);
  g_autoptr(GError) error = NULL;
  client->live = choir_live_new(owner->voice, "rtvi", on_live, client, &error);
  if (!client->live) {
    choir_rtvi_session_error(client->session, error->message, TRUE);
    close_soon(client, 1013);
    return;
  }
  choir_rtvi_session_attach(client->session, client->live);
}

/* --- where it is ----------------------------------------------------------------------------------------------------
 */

char *choir_rtvi_connect_json(const char *host, const char *origin, gboolean old_name) {
  gboolean tls = origin && g_ascii_strncasecmp(origin, "https://", 8) == 0;
  g_autofree char *url = g_strdup_printf("%s://%s/rtvi", tls ? "wss" : "ws", host ? host : "127.0.0.1");
  json_auto_t *json = json_pack("{s:s}", old_name ? "ws_url" : "wsUrl", url);
  return choir_json_dump(json);
}

/* A page of another origin may read the answer when the guard lets it in, which it does for `[web] allowed_origins`. */
static char *headers_for(const char *origin, gboolean preflight) {
  if (!origin)
    return g_strdup(CHOIR_GUARD_API_HEADERS);
  return g_strdup_printf(CHOIR_GUARD_API_HEADERS "\nAccess-Control-Allow-Origin: %s\nVary: Origin%s", origin,
                         preflight ? "\nAccess-Control-Allow-Methods: POST\nAccess-Control-Allow-Headers: "
                                     "Content-Type, Authorization\nAccess-Control-Max-Age: 600"
                                   : "");
}

static void on_start(ChoirHttpRequest *request, gpointer user) {
  const char *origin = choir_http_request_header(request, "Origin");
  gboolean old_name = strcmp(choir_http_request_path(request), "/connect") == 0;
  g_autofree char *text = choir_rtvi_connect_json(choir_http_request_header(request, "Host"), origin, old_name);
  g_autofree char *headers = headers_for(origin, FALSE);
  choir_http_respond(request, 200, "application/json", text, strlen(text), headers);
}

static void on_preflight(ChoirHttpRequest *request, gpointer user) {
  g_autofree char *headers = headers_for(choir_http_request_header(request, "Origin"), TRUE);
  choir_http_respond(request, 204, "text/plain", "", 0, headers);
}

ChoirRtvi *choir_rtvi_new(ChoirHttpServer *server, ChoirVoice *voice, char *(*model)(gpointer user), gpointer user) {
  static const char *const sockets[] = {"/rtvi", "/ws-client"}, *const starts[] = {"/start", "/connect"};
  ChoirRtvi *rtvi = g_new0(ChoirRtvi, 1);
  rtvi->voice = voice;
  rtvi->model = model;
  rtvi->user = user;
  rtvi->clients = g_ptr_array_new();
  rtvi->gauge = choir_gauge("choir_rtvi_clients", NULL, "Open RTVI connections.");
  for (guint i = 0; i < 2; i++) {
    choir_http_server_route(server, "GET", sockets[i], on_upgrade, rtvi);
    choir_http_server_route(server, "POST", starts[i], on_start, rtvi);
    choir_http_server_route(server, "OPTIONS", starts[i], on_preflight, rtvi);
  }
  return rtvi;
}

void choir_rtvi_free(ChoirRtvi *rtvi) {
  if (!rtvi)
    return;
  for (guint i = 0; i < rtvi->clients->len; i++) {
    Client *client = g_ptr_array_index(rtvi->clients, i);
    client->owner = NULL;
    client_clear(client);
    choir_websocket_close(client->socket, 1001, "the server stops");
  }
  g_ptr_array_unref(rtvi->clients);
  g_free(rtvi);
}
