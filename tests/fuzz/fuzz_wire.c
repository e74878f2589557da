/* choir_wire_decode() on outside bytes, fed whole and in pieces: both ways must give the same frames. */
#include "speech/wire.h"
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct {
  guint frames;
  guint32 hash;
  int last;
} Seen;

static void see(Seen *seen, const ChoirWireFrame *frame) {
  seen->frames++;
  seen->hash = seen->hash * 31 + frame->type + frame->session + frame->gen + frame->aux + frame->length;
  for (guint32 i = 0; i < frame->length; i++)
    seen->hash = seen->hash * 31 + frame->payload[i];
}

/* Takes frames from the front; returns how many bytes they were. */
static gsize take(Seen *seen, const uint8_t *data, size_t size) {
  gsize used = 0;
  ChoirWireFrame frame;
  while (used < size && (seen->last = choir_wire_decode(data + used, size - used, &frame)) == 1) {
    g_assert_cmpuint(frame.length, <=, CHOIR_WIRE_MAX);
    g_assert_cmpuint(CHOIR_WIRE_HEADER + frame.length, <=, size - used);
    see(seen, &frame);
    guint8 header[CHOIR_WIRE_HEADER];
    choir_wire_encode_header(&frame, header);
    g_assert_cmpint(memcmp(header, data + used, sizeof header), ==, 0);
    used += CHOIR_WIRE_HEADER + frame.length;
  }
  return used;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Seen whole = {0}, pieces = {0};
  take(&whole, data, size);
  g_autoptr(GByteArray) buffer = g_byte_array_new();
  gsize step = size > 0 ? data[size - 1] % 37u + 1 : 1;
  for (gsize at = 0; at < size && pieces.last >= 0; at += step) {
    g_byte_array_append(buffer, data + at, (guint)MIN(step, size - at));
    gsize used = take(&pieces, buffer->data, buffer->len);
    if (used > 0)
      g_byte_array_remove_range(buffer, 0, (guint)used);
  }
  g_assert_cmpuint(whole.frames, ==, pieces.frames);
  g_assert_cmpuint(whole.hash, ==, pieces.hash);
  return 0;
}
