#include "base/buffer.h"
#include <string.h>

#define FIRST_CAPACITY 512

void choir_buffer_init(ChoirBuffer *buffer, gsize limit) {
  *buffer = (ChoirBuffer){.limit = limit};
}

void choir_buffer_clear(ChoirBuffer *buffer) {
  if (buffer->data != NULL)
    g_free(buffer->data - buffer->head);
  choir_buffer_init(buffer, buffer->limit);
}

/* Makes room for `length` more bytes behind the content: first by closing the gap in front, then by growing. */
static gboolean make_room(ChoirBuffer *buffer, gsize length) {
  gsize needed = buffer->length + length;
  if (buffer->data != NULL && buffer->head + needed <= buffer->capacity)
    return TRUE;
  guint8 *base = buffer->data != NULL ? buffer->data - buffer->head : NULL;
  if (needed <= buffer->capacity && buffer->head >= buffer->length) {
    memcpy(base, buffer->data, buffer->length);
    buffer->data = base;
    buffer->head = 0;
    return TRUE;
  }
  gsize capacity = MAX(buffer->capacity, FIRST_CAPACITY);
  while (capacity < needed)
    capacity *= 2;
  capacity = MIN(capacity, MAX(buffer->limit, needed));
  guint8 *grown = g_try_malloc(capacity);
  if (grown == NULL)
    return FALSE;
  if (buffer->length > 0)
    memcpy(grown, buffer->data, buffer->length);
  g_free(base);
  buffer->data = grown;
  buffer->head = 0;
  buffer->capacity = capacity;
  return TRUE;
}

gboolean choir_buffer_append(ChoirBuffer *buffer, const void *data, gsize length) {
  if (length > buffer->limit || buffer->length > buffer->limit - length)
    return FALSE;
  if (length == 0)
    return TRUE;
  if (!make_room(buffer, length))
    return FALSE;
  memcpy(buffer->data + buffer->length, data, length);
  buffer->length += length;
  return TRUE;
}

void choir_buffer_consume(ChoirBuffer *buffer, gsize length) {
  length = MIN(length, buffer->length);
  if (length == 0)
    return;
  buffer->data += length;
  buffer->head += length;
  buffer->length -= length;
  if (buffer->length == 0) {
    buffer->data -= buffer->head;
    buffer->head = 0;
  }
}
