/* WebSocket framing of a server (RFC 6455, by wslay) without a socket: bytes in, messages out; messages in, bytes out.
 * Fragments are joined within a limit, text and close reasons are checked for UTF-8, pings are answered. One thread. */
#pragma once
#include <glib.h>

typedef struct ChoirWsFrames ChoirWsFrames;

typedef struct {
  /* One whole message, NUL-terminated behind length; gone when the call returns. */
  void (*message)(gboolean is_text, const char *data, gsize length, gpointer user);
  void (*pong)(gpointer user);
  /* Takes bytes for the peer; returns how many, 0 = try later, -1 = broken. more: further bytes follow at once. */
  gssize (*write)(const guint8 *data, gsize length, gboolean more, gpointer user);
} ChoirWsFramesHandlers;

ChoirWsFrames *choir_ws_frames_new(gsize max_message, const ChoirWsFramesHandlers *handlers, gpointer user);
void choir_ws_frames_free(ChoirWsFrames *frames);
/* Any slicing of the stream. FALSE: the peer broke the protocol; a close frame with the reason is queued then. After a
 * close frame, in either direction, further bytes are ignored. */
gboolean choir_ws_frames_feed(ChoirWsFrames *frames, const guint8 *data, gsize length);
gboolean choir_ws_frames_send(ChoirWsFrames *frames, gboolean is_text, const void *data, gsize length);
gboolean choir_ws_frames_ping(ChoirWsFrames *frames);
/* Queues a close frame behind what is queued; no message is delivered after it. */
void choir_ws_frames_close(ChoirWsFrames *frames, guint16 code, const char *reason);
/* Hands queued bytes to `write`. FALSE when that said broken. */
gboolean choir_ws_frames_flush(ChoirWsFrames *frames);
gsize choir_ws_frames_queued(const ChoirWsFrames *frames); /* bytes, with what each message costs to keep */
gboolean choir_ws_frames_wants_write(const ChoirWsFrames *frames);
/* Our close frame is sent and nothing more will be read: the peer's came too, or it broke the protocol. */
gboolean choir_ws_frames_finished(const ChoirWsFrames *frames);
gboolean choir_ws_frames_close_received(const ChoirWsFrames *frames);
gboolean choir_ws_frames_close_sent(const ChoirWsFrames *frames);
guint16 choir_ws_frames_close_code(const ChoirWsFrames *frames); /* the peer's, else ours, else 1006 */
