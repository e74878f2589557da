/* Server side of a WebSocket (framing by wslay) on the hub. Main thread only.
 * A peer that does not read is cut when its queue is full for stall_ms; limits count and are metrics. */
#pragma once
#include <glib.h>

typedef struct ChoirWebSocket ChoirWebSocket;

typedef struct {
  /* data: one whole message, NUL-terminated behind length. is_text messages are valid UTF-8. */
  void (*message)(ChoirWebSocket *ws, gboolean is_text, const char *data, gsize length, gpointer user);
  void (*closed)(ChoirWebSocket *ws, guint16 code, gpointer user); /* last call; ws is freed after it returns */
  void (*writable)(ChoirWebSocket *ws, gpointer user);             /* queue drained to below a quarter; may be NULL */
  gsize max_message;                                               /* 0 = 1 MiB; over it: closed with 1009 */
  gsize max_queue;                                                 /* 0 = 1 MiB of unsent bytes */
  guint stall_ms;                                                  /* 0 = 10000 */
  guint ping_s;                                                    /* 0 = 20: ping, cut after two unanswered */
} ChoirWebSocketHandlers;

/* FALSE when the queue is full or the socket closes: nothing is queued, the drop is counted. */
gboolean choir_websocket_send_text(ChoirWebSocket *ws, const char *text, gssize length);
gboolean choir_websocket_send_binary(ChoirWebSocket *ws, const void *data, gsize length);
gsize choir_websocket_queued(const ChoirWebSocket *ws);
void choir_websocket_close(ChoirWebSocket *ws, guint16 code, const char *reason); /* closed() still runs */
void choir_websocket_set_user(ChoirWebSocket *ws, gpointer user);
