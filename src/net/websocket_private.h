/* What the HTTP server needs of a WebSocket: it exists before its socket does (the upgrade is still being sent). */
#pragma once
#include "net/hub.h"
#include "net/websocket.h"

ChoirWebSocket *choir_websocket_new(ChoirHub *hub, const ChoirWebSocketHandlers *handlers, gpointer user);
/* extra: bytes that came behind the request. release: runs once after closed(), with fd no longer used. */
void choir_websocket_attach(ChoirWebSocket *ws, int fd, const void *extra, gsize extra_length,
                            void (*release)(gpointer data), gpointer release_data);
/* Ends it at once with a last attempt to say why; closed() runs inside. */
void choir_websocket_abort(ChoirWebSocket *ws, guint16 code);
/* The server's way to know that the pointer is gone; runs after closed(). */
void choir_websocket_on_free(ChoirWebSocket *ws, void (*freed)(gpointer data), gpointer data);
