/* Client frames (RFC 6455 5.2), right and wrong, for the tests of both WebSocket layers. */
#pragma once
#include <glib.h>
#include <string.h>

/* first: FIN, RSV and opcode. masked FALSE breaks the protocol on purpose. */
static inline void frame_append(GByteArray *out, guint8 first, const void *data, guint64 length, gboolean masked) {
  static const guint8 mask[4] = {0x12, 0x34, 0x56, 0x78};
  guint8 head[10] = {first}, flag = masked ? 0x80 : 0;
  guint size = 2;
  if (length < 126) {
    head[1] = flag | (guint8)length;
  } else if (length < 65536) {
    head[1] = flag | 126;
    head[2] = (guint8)(length >> 8);
    head[3] = (guint8)length;
    size = 4;
  } else {
    head[1] = flag | 127;
    for (guint i = 0; i < 8; i++)
      head[2 + i] = (guint8)(length >> (56 - 8 * i));
    size = 10;
  }
  g_byte_array_append(out, head, size);
  if (masked)
    g_byte_array_append(out, mask, 4);
  for (guint64 i = 0; data != NULL && i < length; i++) {
    guint8 byte = (guint8)(((const guint8 *)data)[i] ^ (masked ? mask[i % 4] : 0));
    g_byte_array_append(out, &byte, 1);
  }
}

static inline void frame_text(GByteArray *out, const char *text) {
  frame_append(out, 0x81, text, strlen(text), TRUE);
}

static inline void frame_close(GByteArray *out, guint16 code) {
  guint8 payload[2] = {(guint8)(code >> 8), (guint8)code};
  frame_append(out, 0x88, payload, 2, TRUE);
}
