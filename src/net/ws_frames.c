#include "net/ws_frames.h"
#include <string.h>
#include <sys/types.h>
#include <wslay/wslay.h>
#include "base/buffer.h"

#define MESSAGE_COST 96 /* what wslay keeps for a queued message besides its bytes */

struct ChoirWsFrames {
  wslay_event_context_ptr context;
  ChoirWsFramesHandlers handlers;
  gpointer user;
  const guint8 *input; /* while feeding */
  gsize input_length;
  ChoirBuffer message; /* joined here: wslay would keep a list node per fragment, 60 bytes for one of one byte */
  gboolean in_control; /* the frame that is arriving is a control frame */
  gboolean closing;    /* we want to close: nothing goes in or out any more but what is queued */
  char *close_reason;  /* while our close frame waits for the messages before it: wslay would send it first */
  gboolean write_broken;
  guint16 our_code;
};

static ssize_t on_recv(wslay_event_context_ptr context, uint8_t *buffer, size_t length, int flags, void *user) {
  ChoirWsFrames *frames = user;
  gsize take = MIN(length, frames->input_length);
  if (take == 0) {
    wslay_event_set_error(context, WSLAY_ERR_WOULDBLOCK);
    return -1;
  }
  memcpy(buffer, frames->input, take);
  frames->input += take;
  frames->input_length -= take;
  return (ssize_t)take;
}

static ssize_t on_send(wslay_event_context_ptr context, const uint8_t *data, size_t length, int flags, void *user) {
  ChoirWsFrames *frames = user;
  gssize sent = frames->handlers.write(data, length, (flags & WSLAY_MSG_MORE) != 0, frames->user);
  if (sent > 0)
    return (ssize_t)sent;
  frames->write_broken = sent < 0;
  wslay_event_set_error(context, sent == 0 ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
  return -1;
}

static void on_frame_start(wslay_event_context_ptr context, const struct wslay_event_on_frame_recv_start_arg *frame,
                           void *user) {
  ChoirWsFrames *frames = user;
  frames->in_control = wslay_is_ctrl_frame(frame->opcode);
  if (frames->in_control)
    return;
  if (frame->opcode != WSLAY_CONTINUATION_FRAME)
    choir_buffer_consume(&frames->message, frames->message.length);
  /* Refused by its announced length: nothing of it need arrive first. One byte of the buffer is for the NUL. */
  if (frame->payload_length > frames->message.limit - 1 - frames->message.length)
    choir_ws_frames_close(frames, WSLAY_CODE_MESSAGE_TOO_BIG, "message too big");
}

static void on_frame_chunk(wslay_event_context_ptr context, const struct wslay_event_on_frame_recv_chunk_arg *chunk,
                           void *user) {
  ChoirWsFrames *frames = user;
  if (frames->in_control || frames->closing)
    return;
  if (!choir_buffer_append(&frames->message, chunk->data, chunk->data_length))
    choir_ws_frames_close(frames, WSLAY_CODE_MESSAGE_TOO_BIG, "message too big");
}

static void on_message(wslay_event_context_ptr context, const struct wslay_event_on_msg_recv_arg *message, void *user) {
  ChoirWsFrames *frames = user;
  if (message->opcode == WSLAY_PONG && frames->handlers.pong != NULL)
    frames->handlers.pong(frames->user);
  if (wslay_is_ctrl_frame(message->opcode) || frames->closing)
    return;
  gsize length = frames->message.length;
  if (!choir_buffer_append(&frames->message, "", 1)) {
    choir_ws_frames_close(frames, WSLAY_CODE_MESSAGE_TOO_BIG, "message too big");
    return;
  }
  frames->handlers.message(message->opcode == WSLAY_TEXT_FRAME, (const char *)frames->message.data, length,
                           frames->user);
  if (frames->message.capacity > 16384)
    choir_buffer_clear(&frames->message); /* one large message must not hold memory for the life of the socket */
  else
    choir_buffer_consume(&frames->message, length + 1);
}

ChoirWsFrames *choir_ws_frames_new(gsize max_message, const ChoirWsFramesHandlers *handlers, gpointer user) {
  static const struct wslay_event_callbacks callbacks = {.recv_callback = on_recv,
                                                         .send_callback = on_send,
                                                         .on_frame_recv_start_callback = on_frame_start,
                                                         .on_frame_recv_chunk_callback = on_frame_chunk,
                                                         .on_msg_recv_callback = on_message};
  ChoirWsFrames *frames = g_new0(ChoirWsFrames, 1);
  frames->handlers = *handlers;
  frames->user = user;
  choir_buffer_init(&frames->message, max_message + 1);
  if (wslay_event_context_server_init(&frames->context, &callbacks, frames) != 0)
    g_error("out of memory for a WebSocket");
  wslay_event_config_set_no_buffering(frames->context, 1);
  return frames;
}

void choir_ws_frames_free(ChoirWsFrames *frames) {
  if (frames == NULL)
    return;
  wslay_event_context_free(frames->context);
  g_free(frames->close_reason);
  choir_buffer_clear(&frames->message);
  g_free(frames);
}

gboolean choir_ws_frames_feed(ChoirWsFrames *frames, const guint8 *data, gsize length) {
  frames->input = data;
  frames->input_length = length;
  int result = 0;
  while (result == 0 && frames->input_length > 0 && wslay_event_want_read(frames->context))
    result = wslay_event_recv(frames->context);
  frames->input = NULL;
  frames->input_length = 0;
  /* wslay answers a protocol error by queueing the close frame itself and reading no further. */
  if (result != 0 && frames->our_code == 0)
    frames->our_code = WSLAY_CODE_PROTOCOL_ERROR;
  return result == 0 && frames->our_code != WSLAY_CODE_MESSAGE_TOO_BIG &&
         (wslay_event_get_close_received(frames->context) || wslay_event_get_read_enabled(frames->context));
}

static gboolean queue(ChoirWsFrames *frames, guint8 opcode, const void *data, gsize length) {
  struct wslay_event_msg message = {opcode, length > 0 ? data : NULL, length};
  return !frames->closing && wslay_event_queue_msg(frames->context, &message) == 0;
}

gboolean choir_ws_frames_send(ChoirWsFrames *frames, gboolean is_text, const void *data, gsize length) {
  return queue(frames, is_text ? WSLAY_TEXT_FRAME : WSLAY_BINARY_FRAME, data, length);
}

gboolean choir_ws_frames_ping(ChoirWsFrames *frames) {
  return queue(frames, WSLAY_PING, NULL, 0);
}

void choir_ws_frames_close(ChoirWsFrames *frames, guint16 code, const char *reason) {
  if (frames->closing)
    return;
  frames->closing = TRUE;
  frames->our_code = code;
  frames->close_reason = g_utf8_make_valid(reason != NULL ? reason : "", -1);
  /* A control frame carries 125 bytes, 2 of them the code; the cut must not fall into a character. */
  if (strlen(frames->close_reason) > 123)
    *g_utf8_find_prev_char(frames->close_reason, frames->close_reason + 124) = '\0';
}

static void queue_our_close(ChoirWsFrames *frames) {
  wslay_event_queue_close(frames->context, frames->our_code, (const uint8_t *)frames->close_reason,
                          strlen(frames->close_reason));
  g_clear_pointer(&frames->close_reason, g_free);
}

gboolean choir_ws_frames_flush(ChoirWsFrames *frames) {
  int result = wslay_event_send(frames->context);
  if (result == 0 && frames->close_reason != NULL && !wslay_event_want_write(frames->context)) {
    queue_our_close(frames);
    result = wslay_event_send(frames->context);
  }
  return result == 0 && !frames->write_broken;
}

gsize choir_ws_frames_queued(const ChoirWsFrames *frames) {
  return wslay_event_get_queued_msg_length(frames->context) +
         MESSAGE_COST * wslay_event_get_queued_msg_count(frames->context);
}

gboolean choir_ws_frames_wants_write(const ChoirWsFrames *frames) {
  return frames->close_reason != NULL || wslay_event_want_write(frames->context);
}

gboolean choir_ws_frames_finished(const ChoirWsFrames *frames) {
  return wslay_event_get_close_sent(frames->context) && !wslay_event_want_read(frames->context);
}

gboolean choir_ws_frames_close_received(const ChoirWsFrames *frames) {
  return wslay_event_get_close_received(frames->context);
}

gboolean choir_ws_frames_close_sent(const ChoirWsFrames *frames) {
  return wslay_event_get_close_sent(frames->context);
}

guint16 choir_ws_frames_close_code(const ChoirWsFrames *frames) {
  if (wslay_event_get_close_received(frames->context))
    return wslay_event_get_status_code_received(frames->context);
  if (frames->our_code != 0)
    return frames->our_code;
  return wslay_event_get_status_code_sent(frames->context); /* 1006 when none was */
}
