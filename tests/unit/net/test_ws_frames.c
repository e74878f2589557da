#include <unistd.h>
#include "frames.h"
#include "net/ws_frames.h"

typedef struct {
  ChoirWsFrames *frames;
  GString *got;     /* "t:text\n" and "b:length\n" */
  GByteArray *sent; /* what went to the peer */
  gssize room;      /* bytes that `write` still takes, -1 = broken */
  guint pongs;
  guint close_at_message;
  guint messages;
} World;

static void on_message(gboolean is_text, const char *data, gsize length, gpointer user) {
  World *world = user;
  g_assert_cmpint(data[length], ==, '\0');
  if (is_text)
    g_string_append_printf(world->got, "t:%s\n", data);
  else
    g_string_append_printf(world->got, "b:%" G_GSIZE_FORMAT "\n", length);
  if (++world->messages == world->close_at_message)
    choir_ws_frames_close(world->frames, 1000, "enough");
}

static void on_pong(gpointer user) {
  ((World *)user)->pongs++;
}

static gssize on_write(const guint8 *data, gsize length, gboolean more, gpointer user) {
  World *world = user;
  if (world->room < 0)
    return -1;
  gsize take = MIN(length, (gsize)world->room);
  g_byte_array_append(world->sent, data, (guint)take);
  world->room -= (gssize)take;
  return (gssize)take;
}

static void setup(World *world, gconstpointer data) {
  static const ChoirWsFramesHandlers handlers = {on_message, on_pong, on_write};
  world->frames = choir_ws_frames_new(1000, &handlers, world);
  world->got = g_string_new(NULL);
  world->sent = g_byte_array_new();
  world->room = 1000000;
}

static void teardown(World *world, gconstpointer data) {
  choir_ws_frames_free(world->frames);
  g_string_free(world->got, TRUE);
  g_byte_array_unref(world->sent);
}

static gboolean feed(World *world, GByteArray *bytes) {
  return choir_ws_frames_feed(world->frames, bytes->data, bytes->len);
}

/* The close code that the peer was sent, 0 when none was. */
static guint sent_close(World *world) {
  g_assert_true(choir_ws_frames_flush(world->frames));
  const guint8 *data = world->sent->data;
  for (guint i = 0; i + 1 < world->sent->len; i += 2 + (data[i + 1] & 127))
    if (data[i] == 0x88)
      return (data[i + 1] & 127) >= 2 ? (guint)(data[i + 2] << 8 | data[i + 3]) : 1005;
  return 0;
}

static void test_messages(World *world, gconstpointer data) {
  g_autoptr(GByteArray) in = g_byte_array_new();
  frame_text(in, "hello");
  frame_append(in, 0x01, "frag", 4, TRUE);
  frame_append(in, 0x89, "ping", 4, TRUE); /* between fragments, as it may */
  frame_append(in, 0x00, "men", 3, TRUE);
  frame_append(in, 0x80, "ted", 3, TRUE);
  frame_append(in, 0x82, "\0\1\2", 3, TRUE);
  frame_text(in, "");
  frame_append(in, 0x8a, "", 0, TRUE);
  frame_text(in, "grün €");
  for (guint i = 0; i < in->len; i++) /* byte by byte */
    g_assert_true(choir_ws_frames_feed(world->frames, in->data + i, 1));
  g_assert_cmpstr(world->got->str, ==, "t:hello\nt:fragmented\nb:3\nt:\nt:grün €\n");
  g_assert_cmpuint(world->pongs, ==, 1);
  g_assert_true(choir_ws_frames_flush(world->frames));
  g_assert_cmpmem(world->sent->data, world->sent->len, "\x8a\x04ping", 6);
}

static void test_violations(World *world, gconstpointer data) {
  struct {
    guint8 first;
    const char *payload;
    guint64 length;
    gboolean masked;
    guint code;
  } cases[] = {
      {0x81, "x", 1, FALSE, 1002},       /* not masked */
      {0xc1, "x", 1, TRUE, 1002},        /* a reserved bit */
      {0x83, "x", 1, TRUE, 1002},        /* unknown opcode */
      {0x80, "x", 1, TRUE, 1002},        /* continues nothing */
      {0x09, "x", 1, TRUE, 1005},        /* a fragmented ping */
      {0x81, "\xff\xfe", 2, TRUE, 1007}, /* no UTF-8 */
      {0x81, "\xc3", 1, TRUE, 1007},     /* cut character */
      {0x81, NULL, 1001, TRUE, 1009},    /* too long, by its announcement */
      {0x82, NULL, G_MAXINT64, TRUE, 1009}, {0x82, NULL, G_MAXUINT64, TRUE, 1005},
      {0x88, "\x03\xed", 2, TRUE, 1002}, /* 1005 must not be sent */
      {0x89, NULL, 126, TRUE, 1005},     /* long ping */
  };
  for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autoptr(GByteArray) in = g_byte_array_new();
    frame_append(in, cases[i].first, cases[i].payload, cases[i].length, cases[i].masked);
    g_byte_array_append(in, (const guint8 *)"x", 1); /* a frame is looked at when its first payload byte is there */
    (void)feed(world, in);
    guint code = sent_close(world);
    if (code != cases[i].code)
      g_error("case %u: closed with %u, not %u", i, code, cases[i].code);
    g_assert_cmpuint(world->got->len, ==, 0);
    teardown(world, NULL);
    setup(world, NULL);
  }
}

static void test_text_in_text(World *world, gconstpointer data) {
  g_autoptr(GByteArray) in = g_byte_array_new();
  frame_append(in, 0x01, "a", 1, TRUE);
  frame_text(in, "b"); /* a new message inside another */
  (void)feed(world, in);
  g_assert_cmpuint(sent_close(world), ==, 1002);
  g_assert_cmpuint(world->got->len, ==, 0);
}

static void test_limit(World *world, gconstpointer data) {
  g_autofree char *text = g_strnfill(1000, 'x');
  g_autoptr(GByteArray) in = g_byte_array_new();
  frame_text(in, text);
  g_assert_true(feed(world, in));
  g_assert_cmpuint(world->messages, ==, 1);
  g_byte_array_set_size(in, 0);
  for (guint i = 0; i < 1001; i++) /* one byte each, one too many */
    frame_append(in, i == 0 ? 0x01 : 0x00, "x", 1, TRUE);
  g_assert_false(feed(world, in));
  g_assert_cmpuint(sent_close(world), ==, 1009);
  g_assert_cmpuint(world->messages, ==, 1);
  g_assert_cmpuint(choir_ws_frames_close_code(world->frames), ==, 1009);
}

static void test_close_by_peer(World *world, gconstpointer data) {
  g_autoptr(GByteArray) in = g_byte_array_new();
  frame_text(in, "bye");
  frame_close(in, 4001);
  frame_text(in, "after the end");
  g_assert_true(feed(world, in));
  g_assert_cmpstr(world->got->str, ==, "t:bye\n");
  g_assert_cmpuint(sent_close(world), ==, 4001);
  g_assert_true(choir_ws_frames_finished(world->frames));
  g_assert_true(choir_ws_frames_close_received(world->frames));
  g_assert_cmpuint(choir_ws_frames_close_code(world->frames), ==, 4001);
  g_assert_false(choir_ws_frames_send(world->frames, TRUE, "x", 1));
}

static void test_close_by_us(World *world, gconstpointer data) {
  world->close_at_message = 1;
  g_assert_true(choir_ws_frames_send(world->frames, TRUE, "queued", 6));
  g_autoptr(GByteArray) in = g_byte_array_new();
  frame_text(in, "one");
  frame_text(in, "two"); /* in the same bytes: nobody wants it any more */
  g_assert_true(feed(world, in));
  g_assert_cmpstr(world->got->str, ==, "t:one\n");
  g_assert_false(choir_ws_frames_send(world->frames, TRUE, "x", 1));
  g_assert_true(choir_ws_frames_flush(world->frames));
  /* What was queued goes out before the close frame. */
  g_assert_cmpmem(world->sent->data, world->sent->len,
                  "\x81\x06queued\x88\x08\x03\xe8"
                  "enough",
                  18);
  g_assert_false(choir_ws_frames_finished(world->frames));
  g_byte_array_set_size(in, 0);
  frame_close(in, 1000);
  g_assert_true(feed(world, in));
  g_assert_true(choir_ws_frames_finished(world->frames));
}

static void test_long_reason(World *world, gconstpointer data) {
  GString *reason = g_string_new(NULL);
  for (guint i = 0; i < 100; i++)
    g_string_append(reason, "€");
  choir_ws_frames_close(world->frames, 1011, reason->str);
  g_assert_cmpuint(sent_close(world), ==, 1011);
  g_assert_cmpuint(world->sent->len, ==, 2 + 2 + 123); /* 41 whole characters */
  g_string_free(reason, TRUE);
}

/* A socket that takes little by little: every byte arrives once and in order. */
static void test_short_writes(World *world, gconstpointer data) {
  g_autofree char *text = g_strnfill(300, 'y');
  world->room = 0;
  for (guint i = 0; i < 10; i++)
    g_assert_true(choir_ws_frames_send(world->frames, TRUE, text, 300));
  g_assert_cmpuint(choir_ws_frames_queued(world->frames), >=, 3000);
  while (choir_ws_frames_wants_write(world->frames)) {
    world->room = 7;
    g_assert_true(choir_ws_frames_flush(world->frames));
  }
  g_assert_cmpuint(world->sent->len, ==, 3040);
  for (guint i = 0; i < 10; i++)
    g_assert_cmpmem(world->sent->data + 304 * i, 4, "\x81\x7e\x01\x2c", 4);
  g_assert_cmpuint(choir_ws_frames_queued(world->frames), ==, 0);
  g_assert_true(choir_ws_frames_send(world->frames, TRUE, text, 300));
  world->room = -1;
  g_assert_false(choir_ws_frames_flush(world->frames));
}

/* Any slicing of a valid stream gives the same messages. */
static void test_slicing(World *world, gconstpointer data) {
  for (guint round = 0; round < 300; round++) {
    g_autoptr(GByteArray) in = g_byte_array_new();
    GString *wanted = g_string_new(NULL);
    for (guint m = 0; m < 5; m++) {
      g_autofree char *text = g_strnfill((gsize)g_test_rand_int_range(0, 900), (char)('a' + m));
      gsize cut = strlen(text) / 2;
      frame_append(in, 0x01, text, cut, TRUE);
      frame_append(in, 0x80, text + cut, strlen(text) - cut, TRUE);
      g_string_append_printf(wanted, "t:%s\n", text);
    }
    g_string_truncate(world->got, 0);
    for (guint at = 0; at < in->len;) {
      guint step = (guint)g_test_rand_int_range(1, 700);
      step = MIN(step, in->len - at);
      g_assert_true(choir_ws_frames_feed(world->frames, in->data + at, step));
      at += step;
    }
    g_assert_cmpstr(world->got->str, ==, wanted->str);
    g_string_free(wanted, TRUE);
  }
}

int main(int argc, char **argv) {
  alarm(60);
  g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add("/ws-frames/" name, World, NULL, setup, function, teardown)
  ADD("messages", test_messages);
  ADD("violations", test_violations);
  ADD("text-in-text", test_text_in_text);
  ADD("limit", test_limit);
  ADD("close-by-peer", test_close_by_peer);
  ADD("close-by-us", test_close_by_us);
  ADD("long-reason", test_long_reason);
  ADD("short-writes", test_short_writes);
  ADD("slicing", test_slicing);
  return g_test_run();
}
