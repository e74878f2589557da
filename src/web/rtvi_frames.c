#include "web/rtvi_frames.h"
#include <string.h>

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

typedef struct {
  const guint8 *at, *end;
} Reader;

typedef struct {
  guint32 number;
  guint wire;
  guint64 value;      /* of WIRE_VARINT */
  const guint8 *data; /* of WIRE_BYTES */
  gsize length;
} Member;

static gboolean read_varint(Reader *reader, guint64 *ret_value) {
  guint64 value = 0;
  for (guint shift = 0; shift < 70; shift += 7) {
    if (reader->at == reader->end)
      return FALSE;
    guint8 byte = *reader->at++;
    if (shift == 63 && byte > 1)
      return FALSE; /* more than 64 bits */
    value |= (guint64)(byte & 0x7f) << shift;
    if (!(byte & 0x80)) {
      *ret_value = value;
      return TRUE;
    }
  }
  return FALSE;
}

static gboolean skip(Reader *reader, gsize n) {
  if ((gsize)(reader->end - reader->at) < n)
    return FALSE;
  reader->at += n;
  return TRUE;
}

static gboolean read_member(Reader *reader, Member *ret_member) {
  guint64 key, length;
  if (!read_varint(reader, &key) || key >> 3 == 0 || key >> 3 > G_MAXUINT32)
    return FALSE;
  *ret_member = (Member){.number = (guint32)(key >> 3), .wire = (guint)(key & 7)};
  switch (ret_member->wire) {
  case WIRE_VARINT:
    return read_varint(reader, &ret_member->value);
  case WIRE_FIXED64:
    return skip(reader, 8);
  case WIRE_FIXED32:
    return skip(reader, 4);
  case WIRE_BYTES:
    if (!read_varint(reader, &length) || length > (guint64)(reader->end - reader->at))
      return FALSE;
    ret_member->data = reader->at;
    ret_member->length = (gsize)length;
    return skip(reader, (gsize)length);
  default: /* groups are not of proto3 */
    return FALSE;
  }
}

/* The bytes member that carries each kind's content. */
static guint32 content_member(ChoirRtviFrameKind kind) {
  switch (kind) {
  case CHOIR_RTVI_MESSAGE:
    return 1;
  case CHOIR_RTVI_INTERRUPTION:
    return 0;
  default:
    return 3;
  }
}

static gboolean read_content(ChoirRtviFrame *frame, const Member *outer) {
  Reader reader = {.at = outer->data, .end = outer->data + outer->length};
  *frame = (ChoirRtviFrame){.kind = (ChoirRtviFrameKind)outer->number};
  while (reader.at < reader.end) {
    Member member;
    if (!read_member(&reader, &member))
      return FALSE;
    if (member.wire == WIRE_BYTES && member.number == content_member(frame->kind)) {
      frame->data = member.data;
      frame->length = member.length;
    } else if (member.wire == WIRE_VARINT && frame->kind == CHOIR_RTVI_AUDIO && member.number == 4) {
      frame->rate = (guint32)MIN(member.value, G_MAXUINT32);
    } else if (member.wire == WIRE_VARINT && frame->kind == CHOIR_RTVI_AUDIO && member.number == 5) {
      frame->channels = (guint32)MIN(member.value, G_MAXUINT32);
    }
  }
  return TRUE;
}

gboolean choir_rtvi_frame_read(const guint8 *bytes, gsize length, ChoirRtviFrame *ret_frame) {
  Reader reader = {.at = bytes, .end = bytes + length};
  ChoirRtviFrame frame = {0};
  while (reader.at < reader.end) {
    Member member;
    if (!read_member(&reader, &member))
      return FALSE;
    if (member.number > CHOIR_RTVI_INTERRUPTION)
      continue;
    if (member.wire != WIRE_BYTES || !read_content(&frame, &member))
      return FALSE;
  }
  if (frame.kind == 0)
    return FALSE;
  *ret_frame = frame;
  return TRUE;
}

/* --- writing -------------------------------------------------------------------------------------------------------
 */

static gsize varint_size(guint64 value) {
  gsize n = 1;
  while (value >>= 7)
    n++;
  return n;
}

static void append_varint(GByteArray *out, guint64 value) {
  guint8 bytes[10];
  guint n = 0;
  do {
    bytes[n] = (guint8)(value & 0x7f) | (value > 0x7f ? 0x80 : 0);
    value >>= 7;
    n++;
  } while (value);
  g_byte_array_append(out, bytes, n);
}

static void append_key(GByteArray *out, guint32 number, guint wire) {
  append_varint(out, (guint64)number << 3 | wire);
}

static gsize bytes_size(gsize length) { /* of a member with a number below 16 */
  return 1 + varint_size(length) + length;
}

static void append_bytes(GByteArray *out, guint32 number, const void *data, gsize length) {
  append_key(out, number, WIRE_BYTES);
  append_varint(out, length);
  g_byte_array_append(out, data, (guint)length);
}

void choir_rtvi_frame_audio(GByteArray *out, const gint16 *pcm, gsize samples, guint32 rate) {
  static const char name[] = "audio";
  gsize length = samples * sizeof *pcm;
  gsize inner = bytes_size(sizeof name - 1) + bytes_size(length) + 1 + varint_size(rate) + 2;
  append_key(out, CHOIR_RTVI_AUDIO, WIRE_BYTES);
  append_varint(out, inner);
  append_bytes(out, 2, name, sizeof name - 1);
  append_key(out, 3, WIRE_BYTES);
  append_varint(out, length);
  for (gsize i = 0; i < samples; i++) {
    guint8 sample[2] = {(guint8)((guint16)pcm[i] & 0xff), (guint8)((guint16)pcm[i] >> 8)};
    g_byte_array_append(out, sample, 2);
  }
  append_key(out, 4, WIRE_VARINT);
  append_varint(out, rate);
  append_key(out, 5, WIRE_VARINT);
  append_varint(out, 1);
}

void choir_rtvi_frame_message(GByteArray *out, const char *json, gsize length) {
  append_key(out, CHOIR_RTVI_MESSAGE, WIRE_BYTES);
  append_varint(out, bytes_size(length));
  append_bytes(out, 1, json, length);
}
