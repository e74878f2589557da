#include "web/live_sockets.h"
#include "base/log.h"
#include "base/names.h"

struct ChoirLiveSockets {
  ChoirVoice *voice;
  const ChoirLiveProtocol *protocol;
  ChoirMetric *gauge;
  gpointer user;
  GPtrArray *list; /* ChoirLiveSocket */
};

struct ChoirLiveSocket {
  ChoirLiveSockets *owner; /* NULL once that is gone */
  const ChoirLiveProtocol *protocol;
  gpointer user;
  ChoirWebSocket *socket; /* NULL before the upgrade and once it closed */
  ChoirLive *live;
  gpointer session;
  guint close_idle;
  guint16 close_code;
};

/* Everything but the struct, which the socket's last call may still find. */
static void clear(ChoirLiveSocket *self) {
  g_clear_handle_id(&self->close_idle, g_source_remove);
  g_clear_pointer(&self->live, choir_live_free);
  g_clear_pointer(&self->session, self->protocol->free);
}

static gboolean on_close_idle(gpointer user) {
  ChoirLiveSocket *self = user;
  self->close_idle = 0;
  if (self->socket)
    choir_websocket_close(self->socket, self->close_code,
                          self->close_code == CHOIR_LIVE_SOCKET_LATER ? "too slow or too many" : "");
  return G_SOURCE_REMOVE;
}

void choir_live_socket_close(ChoirLiveSocket *self, guint16 code) {
  if (self->close_idle)
    return;
  self->close_code = code;
  self->close_idle = g_idle_add(on_close_idle, self);
}

void choir_live_socket_send(ChoirLiveSocket *self, gboolean binary, const void *data, gsize length) {
  if (!self->socket || self->close_idle)
    return;
  if (binary ? choir_websocket_send_binary(self->socket, data, length)
             : choir_websocket_send_text(self->socket, data, (gssize)length))
    return;
  choir_warning(CHOIR_TOPIC_WEB, "%s does not read fast enough and is cut off", self->protocol->client);
  choir_live_socket_close(self, CHOIR_LIVE_SOCKET_LATER);
}

static void on_live(ChoirLive *live, const ChoirLiveEvent *event, gpointer user) {
  ChoirLiveSocket *self = user;
  self->protocol->heard(self->session, event);
}

static void on_message(ChoirWebSocket *socket, gboolean is_text, const char *data, gsize length, gpointer user) {
  ChoirLiveSocket *self = user;
  if (self->session && self->live && !self->close_idle)
    self->protocol->message(self->session, is_text, data, length);
}

static void on_closed(ChoirWebSocket *socket, guint16 code, gpointer user) {
  ChoirLiveSocket *self = user;
  self->socket = NULL;
  clear(self);
  if (self->owner) {
    g_ptr_array_remove_fast(self->owner->list, self);
    choir_gauge_set(self->owner->gauge, self->owner->list->len);
  }
  g_free(self);
}

ChoirLiveSocket *choir_live_socket_new(ChoirLiveSockets *sockets) {
  ChoirLiveSocket *self = g_new0(ChoirLiveSocket, 1);
  self->owner = sockets;
  self->protocol = sockets->protocol;
  self->user = sockets->user;
  return self;
}

gpointer choir_live_socket_user(const ChoirLiveSocket *self) {
  return self->user;
}

gboolean choir_live_socket_open(ChoirLiveSocket *self, ChoirHttpRequest *request, const char *subprotocol,
                                gpointer session) {
  ChoirWebSocketHandlers handlers = {.message = on_message,
                                     .closed = on_closed,
                                     .max_message = self->protocol->max_message,
                                     .max_queue = self->protocol->max_queue};
  self->session = session;
  self->socket = choir_http_upgrade(request, subprotocol, &handlers, self);
  if (!self->socket) {
    clear(self);
    g_free(self);
    return FALSE;
  }
  g_ptr_array_add(self->owner->list, self);
  choir_gauge_set(self->owner->gauge, self->owner->list->len);
  return TRUE;
}

ChoirLive *choir_live_socket_live(ChoirLiveSocket *self, const char *source, GError **error) {
  self->live = choir_live_new(self->owner->voice, source, on_live, self, error);
  return self->live;
}

ChoirLiveSockets *choir_live_sockets_new(ChoirVoice *voice, const ChoirLiveProtocol *protocol, ChoirMetric *gauge,
                                         gpointer user) {
  ChoirLiveSockets *sockets = g_new0(ChoirLiveSockets, 1);
  sockets->voice = voice;
  sockets->protocol = protocol;
  sockets->gauge = gauge;
  sockets->user = user;
  sockets->list = g_ptr_array_new();
  return sockets;
}

void choir_live_sockets_free(ChoirLiveSockets *sockets) {
  if (!sockets)
    return;
  for (guint i = 0; i < sockets->list->len; i++) {
    ChoirLiveSocket *self = g_ptr_array_index(sockets->list, i);
    self->owner = NULL;
    clear(self);
    choir_websocket_close(self->socket, 1001, "the server stops");
  }
  g_ptr_array_unref(sockets->list);
  g_free(sockets);
}
