/* A byte buffer with a maximum given at the start: a full one refuses, it never grows past its limit. One thread. */
#pragma once
#include <glib.h>

typedef struct {
  guint8 *data; /* first byte of the content; NULL while nothing was ever added */
  gsize length, capacity, limit;
  gsize head; /* private: consumed bytes in front of data, so that consuming need not move the rest */
} ChoirBuffer;

void choir_buffer_init(ChoirBuffer *buffer, gsize limit);
void choir_buffer_clear(ChoirBuffer *buffer); /* frees the memory; the limit stays */
/* FALSE when it would pass the limit: nothing is added then. */
G_GNUC_WARN_UNUSED_RESULT gboolean choir_buffer_append(ChoirBuffer *buffer, const void *data, gsize length);
void choir_buffer_consume(ChoirBuffer *buffer, gsize length); /* drops bytes from the front */
