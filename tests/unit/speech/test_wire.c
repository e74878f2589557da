#include "speech/wire.h"
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static GByteArray *encode(const ChoirWireFrame *frame) {
  guint8 header[CHOIR_WIRE_HEADER];
  choir_wire_encode_header(frame, header);
  GByteArray *out = g_byte_array_new();
  g_byte_array_append(out, header, sizeof header);
  if (frame->length > 0)
    g_byte_array_append(out, frame->payload, frame->length);
  return out;
}

static void test_layout(void) {
  const ChoirWireFrame frame = {.type = 0x1122,
                                .flags = 0x3344,
                                .session = 0x55667788,
                                .gen = 0x99aabbcc,
                                .aux = 0xddeeff01,
                                .length = 3,
                                .payload = (const guint8 *)"xyz"};
  static const guint8 expected[] = {'C',  'H',  'W', '1', 0x22, 0x11, 0x44, 0x33, 0x88, 0x77, 0x66, 0x55, 0xcc, 0xbb,
                                    0xaa, 0x99, 3,   0,   0,    0,    0x01, 0xff, 0xee, 0xdd, 'x',  'y',  'z'};
  g_autoptr(GByteArray) bytes = encode(&frame);
  g_assert_cmpmem(bytes->data, bytes->len, expected, sizeof expected);
  ChoirWireFrame back = {0};
  g_assert_cmpint(choir_wire_decode(bytes->data, bytes->len, &back), ==, 1);
  g_assert_cmpuint(back.type, ==, frame.type);
  g_assert_cmpuint(back.flags, ==, frame.flags);
  g_assert_cmpuint(back.session, ==, frame.session);
  g_assert_cmpuint(back.gen, ==, frame.gen);
  g_assert_cmpuint(back.aux, ==, frame.aux);
  g_assert_cmpmem(back.payload, back.length, "xyz", 3);
}

/* Every prefix of a frame asks for more; heap copies let the sanitizer see a read past the end. */
static void test_short(void) {
  const ChoirWireFrame frame = {.type = 1, .length = 10, .payload = (const guint8 *)"0123456789"};
  g_autoptr(GByteArray) bytes = encode(&frame);
  for (guint length = 0; length < bytes->len; length++) {
    g_autofree guint8 *copy = g_memdup2(bytes->data, length);
    guint8 none = 0;
    ChoirWireFrame back;
    g_assert_cmpint(choir_wire_decode(copy ? copy : &none, length, &back), ==, 0);
  }
}

static void test_garbage(void) {
  ChoirWireFrame frame = {.type = 1, .length = CHOIR_WIRE_MAX + 1}, back;
  guint8 header[CHOIR_WIRE_HEADER];
  choir_wire_encode_header(&frame, header);
  g_assert_cmpint(choir_wire_decode(header, sizeof header, &back), ==, -1);
  frame.length = CHOIR_WIRE_MAX;
  choir_wire_encode_header(&frame, header);
  g_assert_cmpint(choir_wire_decode(header, sizeof header, &back), ==, 0);
  for (gsize length = 1; length <= 24; length++)
    g_assert_cmpint(choir_wire_decode((const guint8 *)"GET / HTTP/1.1\r\nHost: xx", length, &back), ==, -1);
  static const guint8 magic[4] = {'C', 'H', 'W', '1'};
  for (int i = 0; i < 20000; i++) {
    guint8 bytes[64];
    for (gsize k = 0; k < sizeof bytes; k++)
      bytes[k] = (guint8)g_test_rand_int();
    gsize length = (gsize)g_test_rand_int_range(0, sizeof bytes + 1);
    if (g_test_rand_bit())
      memcpy(bytes, magic, sizeof magic);
    if (choir_wire_decode(bytes, length, &back) == 1)
      g_assert_cmpuint(back.length + CHOIR_WIRE_HEADER, <=, length);
  }
}

typedef struct {
  int fd;
  guint16 type;
} Writer;

#define FRAMES 200

static gpointer write_many(gpointer data) {
  Writer *writer = data;
  g_autofree guint8 *payload = g_malloc(3000);
  memset(payload, writer->type, 3000);
  for (guint i = 0; i < FRAMES; i++) {
    ChoirWireFrame frame = {.type = writer->type, .aux = i, .length = 3000, .payload = payload};
    g_assert_true(choir_wire_write(writer->fd, &frame));
  }
  return NULL;
}

/* Two threads on a small, non-blocking socket: frames arrive whole and in order. */
static void test_threads(void) {
  int fds[2], small = 4096;
  g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
  setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
  fcntl(fds[0], F_SETFL, O_NONBLOCK);
  Writer writers[2] = {{fds[0], 1}, {fds[0], 2}};
  GThread *threads[2];
  for (int i = 0; i < 2; i++)
    threads[i] = g_thread_new("writer", write_many, &writers[i]);
  g_autoptr(GByteArray) buffer = g_byte_array_new();
  guint next[3] = {0};
  while (next[1] + next[2] < 2 * FRAMES) {
    guint8 chunk[1000];
    ssize_t n = read(fds[1], chunk, sizeof chunk);
    g_assert_cmpint(n, >, 0);
    g_byte_array_append(buffer, chunk, (guint)n);
    ChoirWireFrame frame;
    int found;
    while ((found = choir_wire_decode(buffer->data, buffer->len, &frame)) == 1) {
      g_assert_cmpuint(frame.aux, ==, next[frame.type]++);
      g_assert_cmpuint(frame.payload[0], ==, frame.type);
      g_assert_cmpuint(frame.payload[2999], ==, frame.type);
      g_byte_array_remove_range(buffer, 0, CHOIR_WIRE_HEADER + frame.length);
    }
    g_assert_cmpint(found, ==, 0);
  }
  for (int i = 0; i < 2; i++)
    g_thread_join(threads[i]);
  close(fds[1]);
  const ChoirWireFrame last = {.type = 1};
  g_assert_false(choir_wire_write(fds[0], &last)); /* the daemon is gone */
  close(fds[0]);
}

int main(int argc, char **argv) {
  alarm(60);
  signal(SIGPIPE, SIG_IGN);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/speech/wire/layout", test_layout);
  g_test_add_func("/speech/wire/short", test_short);
  g_test_add_func("/speech/wire/garbage", test_garbage);
  g_test_add_func("/speech/wire/threads", test_threads);
  return g_test_run();
}
