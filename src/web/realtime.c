#include "web/realtime.h"
#include <string.h>
#include "web/live_sockets.h"
#include "web/realtime_session.h"
#include "web/realtime_stages.h"

struct ChoirRealtime {
  ChoirVoice *voice;
  ChoirLlmServer *llm;
  char *(*model)(gpointer user);
  gpointer user;
  ChoirLiveSockets *sockets;
};

static void on_send(const char *text, gsize length, gpointer user) {
  choir_live_socket_send(user, FALSE, text, length);
}

static ChoirChat *on_chat(gpointer user, const char **ret_model) {
  const ChoirRealtime *owner = choir_live_socket_user(user);
  if (!owner->llm || !choir_llm_server_ready(owner->llm))
    return NULL;
  *ret_model = choir_llm_server_model(owner->llm);
  return choir_llm_server_chat(owner->llm);
}

static void on_heard(gpointer session, const ChoirLiveEvent *event) {
  choir_realtime_session_live(session, event);
}

static void on_message(gpointer session, gboolean is_text, const char *data, gsize length) {
  if (is_text)
    choir_realtime_session_client(session, data, length);
  else
    choir_realtime_session_error(session, "invalid_request_error", "binary_frame",
                                 "Events are text frames; audio goes as base64 into input_audio_buffer.append.");
}

static void on_free(gpointer session) {
  choir_realtime_session_free(session);
}

static const ChoirLiveProtocol protocol = {.client = "a realtime client",
                                           .max_message = 4 << 20, /* 30 s of 48 kHz audio in one append */
                                           .max_queue = 2 << 20,
                                           .heard = on_heard,
                                           .message = on_message,
                                           .free = on_free};

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
  ChoirRealtime *owner = user;
  gboolean extension = g_strcmp0(choir_http_request_query(request, "choir"), "1") == 0;
  g_autofree char *model = owner->model(owner->user);
  g_autoptr(GError) error = NULL;
  const char *source = source_of(request);
  ChoirLiveSocket *socket = choir_live_socket_new(owner->sockets);
  ChoirRealtimeSession *session = choir_realtime_session_new(
      choir_voice_defaults(owner->voice),
      &(ChoirRealtimeOptions){
          .model = model, .extension = extension, .chat = on_chat, .send = on_send, .user = socket});
  const char *offered = choir_http_request_header(request, "Sec-WebSocket-Protocol");
  if (!choir_live_socket_open(socket, request, choir_realtime_subprotocol(offered), session))
    return;
  choir_realtime_session_start(session);
  ChoirLive *live = choir_live_socket_live(socket, source, &error);
  if (live) {
    choir_realtime_session_attach(session, live);
    return;
  }
  choir_realtime_session_error(session, "server_error", "too_many_sessions", error->message);
  choir_live_socket_close(socket, CHOIR_LIVE_SOCKET_LATER);
}

ChoirRealtime *choir_realtime_new(ChoirHttpServer *server, ChoirVoice *voice, ChoirLlmServer *llm,
                                  char *(*model)(gpointer user), gpointer user) {
  ChoirRealtime *realtime = g_new0(ChoirRealtime, 1);
  realtime->voice = voice;
  realtime->llm = llm;
  realtime->model = model;
  realtime->user = user;
  ChoirMetric *gauge = choir_gauge("choir_realtime_clients", NULL, "Open /v1/realtime connections.");
  realtime->sockets = choir_live_sockets_new(voice, &protocol, gauge, realtime);
  choir_realtime_stages_register();
  choir_http_server_route(server, "GET", "/v1/realtime", on_upgrade, realtime);
  return realtime;
}

void choir_realtime_free(ChoirRealtime *realtime) {
  if (!realtime)
    return;
  choir_live_sockets_free(realtime->sockets);
  g_free(realtime);
}
