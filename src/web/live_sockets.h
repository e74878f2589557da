/* The WebSockets of a protocol that speaks: each holds a voice session and the protocol's own one around it. Main
 * thread only. */
#pragma once
#include "base/metrics.h"
#include "net/http_server.h"
#include "voice/live.h"

#define CHOIR_LIVE_SOCKET_LATER 1013 /* too slow or too many; "try again later" of RFC 6455's registry */

typedef struct ChoirLiveSockets ChoirLiveSockets; /* all of one protocol */
typedef struct ChoirLiveSocket ChoirLiveSocket;   /* one client; valid until its session is freed */

/* The functions get the protocol's own session. */
typedef struct {
  const char *client; /* "a realtime client", for the log */
  gsize max_message, max_queue;
  void (*heard)(gpointer session, const ChoirLiveEvent *event);
  void (*message)(gpointer session, gboolean is_text, const char *data, gsize length);
  void (*free)(gpointer session);
} ChoirLiveProtocol;

ChoirLiveSockets *choir_live_sockets_new(ChoirVoice *voice, const ChoirLiveProtocol *protocol, ChoirMetric *gauge,
                                         gpointer user);
void choir_live_sockets_free(ChoirLiveSockets *sockets); /* hangs up on every client */
ChoirLiveSocket *choir_live_socket_new(ChoirLiveSockets *sockets);
gpointer choir_live_socket_user(const ChoirLiveSocket *socket);
/* Takes the session and upgrades the request. FALSE: that was answered with an error, and both are freed. */
gboolean choir_live_socket_open(ChoirLiveSocket *socket, ChoirHttpRequest *request, const char *subprotocol,
                                gpointer session);
/* A voice session for it, owned by the socket; NULL with error when there are too many. */
ChoirLive *choir_live_socket_live(ChoirLiveSocket *socket, const char *source, GError **error);
/* A client that does not read fast enough is cut off: what is lost would break the protocol's order, and it may come
 * again. */
void choir_live_socket_send(ChoirLiveSocket *socket, gboolean binary, const void *data, gsize length);
/* From the main loop, since the caller may be inside a callback of the voice session or of the socket; nothing is sent
 * from now on. */
void choir_live_socket_close(ChoirLiveSocket *socket, guint16 code);
