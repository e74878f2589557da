/* WebSocket frames of a hostile client. The bytes are fed whole and in pieces: both must give the same messages, within
 * the limit, and what we send must be well-formed server frames. */
#include <stdint.h>
#include <string.h>
#include "net/ws_frames.h"

#define MAX_MESSAGE 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct {
  ChoirWsFrames *frames;
  GString *got;
  GByteArray *sent;
  gsize room;
  guint messages, close_at;
} World;

static void on_message(gboolean is_text, const char *data, gsize length, gpointer user) {
  World *world = user;
  g_assert_cmpuint(length, <=, MAX_MESSAGE);
  g_assert_cmpint(data[length], ==, '\0');
  for (gsize at = 0; is_text && at < length;
       at += strlen(data + at) + 1) /* a zero byte is valid, but ends a C string */
    g_assert_true(g_utf8_validate(data + at, -1, NULL));
  g_string_append_printf(world->got, "%d %" G_GSIZE_FORMAT ":", is_text, length);
  g_string_append_len(world->got, data, (gssize)length);
  (void)choir_ws_frames_send(world->frames, is_text, data, length);
  if (++world->messages == world->close_at)
    choir_ws_frames_close(world->frames, 1000, "enough");
}

static gssize on_write(const guint8 *data, gsize length, gboolean more, gpointer user) {
  World *world = user;
  gsize take = MIN(length, world->room);
  g_byte_array_append(world->sent, data, (guint)take);
  world->room -= take;
  return (gssize)take;
}

/* Whole frames, unmasked, known opcodes, control frames short, nothing after a close frame. */
static void check_sent(const GByteArray *sent) {
  gsize at = 0;
  gboolean closed = FALSE;
  while (at < sent->len) {
    const guint8 *frame = sent->data + at;
    g_assert_false(closed);
    g_assert_cmpuint(sent->len - at, >=, 2);
    guint opcode = frame[0] & 15, head = (frame[1] & 127) == 126 ? 4 : (frame[1] & 127) == 127 ? 10 : 2;
    guint64 length = frame[1] & 127;
    g_assert_cmpuint(frame[0] & 0xf0, ==, 0x80);
    g_assert_cmpuint(frame[1] & 0x80, ==, 0);
    g_assert_true(opcode == 1 || opcode == 2 || opcode == 8 || opcode == 10);
    g_assert_true(opcode < 8 || head == 2);
    g_assert_cmpuint(sent->len - at, >=, head);
    if (head == 4)
      length = (guint64)frame[2] << 8 | frame[3];
    g_assert_cmpuint(head, !=, 10); /* the limit is below */
    g_assert_cmpuint(sent->len - at - head, >=, length);
    closed = opcode == 8;
    at += head + length;
  }
}

static GString *feed(const uint8_t *data, size_t size, guint step, guint close_at) {
  static const ChoirWsFramesHandlers handlers = {.message = on_message, .write = on_write};
  World world = {.got = g_string_new(NULL), .sent = g_byte_array_new(), .close_at = close_at};
  world.frames = choir_ws_frames_new(MAX_MESSAGE, &handlers, &world);
  for (size_t at = 0; at < size;) {
    size_t length = MIN(step, size - at);
    (void)choir_ws_frames_feed(world.frames, data + at, length);
    at += length;
    world.room = step == size ? 0 : step; /* a peer that reads as slowly as it writes */
    g_assert_true(choir_ws_frames_flush(world.frames));
  }
  world.room = 16 * 1024 * 1024;
  g_assert_true(choir_ws_frames_flush(world.frames));
  /* Only an answer to the peer's close frame, which overtakes all else, leaves something behind. */
  g_assert_true(choir_ws_frames_queued(world.frames) == 0 || choir_ws_frames_close_sent(world.frames));
  check_sent(world.sent);
  (void)choir_ws_frames_finished(world.frames);
  (void)choir_ws_frames_close_code(world.frames);
  choir_ws_frames_free(world.frames);
  g_byte_array_unref(world.sent);
  return world.got;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 2 || size > 65536)
    return 0;
  guint step = data[0] + 1, close_at = data[1] & 15;
  data += 2;
  size -= 2;
  if (size == 0)
    return 0;
  GString *whole = feed(data, size, (guint)size, close_at), *pieces = feed(data, size, step, close_at);
  g_assert_cmpmem(whole->str, whole->len, pieces->str, pieces->len);
  g_string_free(whole, TRUE);
  g_string_free(pieces, TRUE);
  return 0;
}
