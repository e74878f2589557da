#include "web/rtvi.h"
#include <string.h>
#include "base/text.h"
#include "web/guard.h"
#include "web/live_sockets.h"
#include "web/rtvi_session.h"

struct ChoirRtvi {
  ChoirVoice *voice;
  char *(*model)(gpointer user);
  gpointer user;
  ChoirLiveSockets *sockets;
};

static void on_send(gboolean binary, const void *data, gsize length, gpointer user) {
  choir_live_socket_send(user, binary, data, length);
}

static void on_hang_up(gpointer user) {
  choir_live_socket_close(user, 1000);
}

static void on_heard(gpointer session, const ChoirLiveEvent *event) {
  choir_rtvi_session_live(session, event);
}

static void on_message(gpointer session, gboolean is_text, const char *data, gsize length) {
  choir_rtvi_session_client(session, !is_text, data, length);
}

static void on_free(gpointer session) {
  choir_rtvi_session_free(session);
}

static const ChoirLiveProtocol protocol = {.client = "an RTVI client",
                                           .max_message = 1 << 20, /* what the stock client sends at most */
                                           .max_queue = 2 << 20,
                                           .heard = on_heard,
                                           .message = on_message,
                                           .free = on_free};

static void on_upgrade(ChoirHttpRequest *request, gpointer user) {
  ChoirRtvi *owner = user;
  gboolean text_only = g_strcmp0(choir_http_request_query(request, "skip_tts"), "true") == 0;
  g_autofree char *model = owner->model(owner->user);
  g_autoptr(GError) error = NULL;
  ChoirLiveSocket *socket = choir_live_socket_new(owner->sockets);
  ChoirRtviSession *session = choir_rtvi_session_new(
      choir_voice_defaults(owner->voice),
      &(ChoirRtviOptions){
          .model = model, .text_only = text_only, .send = on_send, .hang_up = on_hang_up, .user = socket});
  if (!choir_live_socket_open(socket, request, NULL, session))
    return;
  ChoirLive *live = choir_live_socket_live(socket, "rtvi", &error);
  if (live) {
    choir_rtvi_session_attach(session, live);
    return;
  }
  choir_rtvi_session_error(session, error->message, TRUE);
  choir_live_socket_close(socket, CHOIR_LIVE_SOCKET_LATER);
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
  ChoirMetric *gauge = choir_gauge("choir_rtvi_clients", NULL, "Open RTVI connections.");
  rtvi->sockets = choir_live_sockets_new(voice, &protocol, gauge, rtvi);
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
  choir_live_sockets_free(rtvi->sockets);
  g_free(rtvi);
}
