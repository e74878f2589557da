#include "speech/wire.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static void put16(guint8 *p, guint16 value) {
  p[0] = (guint8)value;
  p[1] = (guint8)(value >> 8);
}

static void put32(guint8 *p, guint32 value) {
  put16(p, (guint16)value);
  put16(p + 2, (guint16)(value >> 16));
}

static guint16 get16(const guint8 *p) {
  return (guint16)(p[0] | p[1] << 8);
}

static guint32 get32(const guint8 *p) {
  return get16(p) | (guint32)get16(p + 2) << 16;
}

int choir_wire_decode(const guint8 *data, gsize length, ChoirWireFrame *ret_frame) {
  if (length < CHOIR_WIRE_HEADER) {
    /* Garbage is refused as early as it can be told. */
    static const guint8 magic[4] = {'C', 'H', 'W', '1'};
    return memcmp(data, magic, MIN(length, 4)) == 0 ? 0 : -1;
  }
  guint32 payload = get32(data + 16);
  if (get32(data) != CHOIR_WIRE_MAGIC || payload > CHOIR_WIRE_MAX)
    return -1;
  if (length - CHOIR_WIRE_HEADER < payload)
    return 0;
  *ret_frame = (ChoirWireFrame){
      .type = get16(data + 4),
      .flags = get16(data + 6),
      .session = get32(data + 8),
      .gen = get32(data + 12),
      .aux = get32(data + 20),
      .length = payload,
      .payload = data + CHOIR_WIRE_HEADER,
  };
  return 1;
}

void choir_wire_encode_header(const ChoirWireFrame *frame, guint8 ret_header[CHOIR_WIRE_HEADER]) {
  put32(ret_header, CHOIR_WIRE_MAGIC);
  put16(ret_header + 4, frame->type);
  put16(ret_header + 6, frame->flags);
  put32(ret_header + 8, frame->session);
  put32(ret_header + 12, frame->gen);
  put32(ret_header + 16, frame->length);
  put32(ret_header + 20, frame->aux);
}

/* Blocks until fd takes more, also when it was made non-blocking by whoever gave it to us. */
static gboolean wait_writable(int fd) {
  struct pollfd entry = {.fd = fd, .events = POLLOUT};
  return poll(&entry, 1, -1) >= 0 || errno == EINTR;
}

static gboolean write_vector(int fd, struct iovec *part, int count) {
  while (count > 0) {
    ssize_t n = writev(fd, part, count);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0 && errno == EAGAIN && wait_writable(fd))
      continue;
    if (n < 0)
      return FALSE;
    while (count > 0 && (gsize)n >= part->iov_len) {
      n -= (ssize_t)part->iov_len;
      part++;
      count--;
    }
    if (count > 0) {
      part->iov_base = (guint8 *)part->iov_base + n;
      part->iov_len -= (gsize)n;
    }
  }
  return TRUE;
}

gboolean choir_wire_write(int fd, const ChoirWireFrame *frame) {
  static GMutex mutex; /* a worker has one daemon; a frame must not be torn by another thread's */
  if (frame->length > CHOIR_WIRE_MAX)
    return FALSE;
  guint8 header[CHOIR_WIRE_HEADER];
  choir_wire_encode_header(frame, header);
  struct iovec parts[2] = {
      {.iov_base = header, .iov_len = sizeof header},
      {.iov_base = (void *)frame->payload, .iov_len = frame->length},
  };
  g_mutex_lock(&mutex);
  gboolean ok = write_vector(fd, parts, frame->length > 0 ? 2 : 1);
  g_mutex_unlock(&mutex);
  return ok;
}
