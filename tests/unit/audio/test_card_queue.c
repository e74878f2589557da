/* The loudspeaker's queue: order, pauses, cuts, and the count of what was heard behind a device that holds some back.
 */
#include <unistd.h>
#include "audio/card_queue.h"

static CardQueue queue;

/* Samples that say their number, far from silence. */
static void push(guint32 item, guint from, guint n) {
  g_autofree gint16 *pcm = g_new(gint16, n);
  for (guint i = 0; i < n; i++)
    pcm[i] = (gint16)(1000 + from + i);
  g_assert_cmpuint(card_queue_push(&queue, item, pcm, n), ==, n);
}

static void heard_is(guint64 delay, guint32 item, guint64 samples) {
  guint32 found = 0;
  guint64 count = 0;
  g_assert_true(card_queue_heard(&queue, delay, &found, &count));
  g_assert_cmpuint(found, ==, item);
  g_assert_cmpuint(count, ==, samples);
}

static void test_order(void) {
  gint16 out[480];
  guint32 item;
  guint64 samples;
  card_queue_init(&queue);
  g_assert_cmpuint(card_queue_pull(&queue, out, 480), ==, 0);
  g_assert_false(card_queue_heard(&queue, 0, &item, &samples));
  push(1, 0, 500);
  card_queue_end(&queue, 1);
  push(2, 5000, 300);
  g_assert_cmpuint(card_queue_pull(&queue, out, 480), ==, 480);
  g_assert_cmpint(out[0], ==, 1000);
  heard_is(0, 1, 480);
  heard_is(100, 1, 380);
  g_assert_cmpuint(card_queue_pull(&queue, out, 480), ==, 320);
  g_assert_cmpint(out[20], ==, 6000);
  g_assert_cmpint(out[319], ==, 6299);
  g_assert_cmpint(out[320], ==, 0);
  /* 160 of silence, 300 of the second item, then the end of the first. */
  heard_is(160, 2, 300);
  heard_is(160 + 300, 1, 500);
  heard_is(0, 2, 300);
  g_assert_cmpuint(queue.underruns, ==, 1);
  g_assert_false(card_queue_idle(&queue));
  card_queue_end(&queue, 2);
  g_assert_true(card_queue_idle(&queue));
}

static void test_pause(void) {
  gint16 out[480];
  card_queue_init(&queue);
  push(1, 0, 4000);
  card_queue_pull(&queue, out, 480);
  card_queue_pause(&queue);
  g_assert_cmpuint(card_queue_pull(&queue, out, 480), ==, CARD_QUEUE_FADE_OUT);
  g_assert_cmpint(out[0], >, 1400);
  g_assert_cmpint(out[CARD_QUEUE_FADE_OUT - 1], <, 20);
  for (guint i = 0; i < 10; i++)
    g_assert_cmpuint(card_queue_pull(&queue, out, 480), ==, 0);
  heard_is(0, 1, 480);
  push(1, 4000, 100);
  card_queue_resume(&queue, 1, 480);
  g_assert_cmpuint(card_queue_pull(&queue, out, 480), ==, 480);
  g_assert_cmpint(out[0], <, 10);
  g_assert_cmpint(out[479], ==, 1000 + 480 + 479);
  heard_is(0, 1, 960);
  /* Back by 200, and a wish to go forward changes nothing. */
  card_queue_pause(&queue);
  card_queue_pull(&queue, out, 480);
  card_queue_resume(&queue, 1, 760);
  card_queue_pull(&queue, out, 480);
  g_assert_cmpint(out[479], ==, 1000 + 760 + 479);
  heard_is(0, 1, 1240);
  card_queue_pause(&queue);
  card_queue_resume(&queue, 1, 3000);
  card_queue_pull(&queue, out, 480);
  g_assert_cmpint(out[479], ==, 1000 + 1240 + 479);
  while (card_queue_pull(&queue, out, 480) == 480)
    ;
  heard_is(0, 1, 4100);
}

static void test_flush(void) {
  gint16 out[480];
  card_queue_init(&queue);
  push(1, 0, 4000);
  card_queue_pull(&queue, out, 480);
  card_queue_pause(&queue);
  card_queue_flush(&queue);
  g_assert_cmpuint(card_queue_pull(&queue, out, 480), ==, 0);
  heard_is(0, 1, 480);
  push(2, 100, 480);
  card_queue_resume(&queue, 1, 0);
  g_assert_cmpuint(card_queue_pull(&queue, out, 480), ==, 480);
  g_assert_cmpint(out[0], ==, 1100);
}

static void test_limits(void) {
  static gint16 much[CARD_QUEUE_SAMPLES + 10];
  card_queue_init(&queue);
  g_assert_cmpuint(card_queue_push(&queue, 1, much, G_N_ELEMENTS(much)), ==, CARD_QUEUE_SAMPLES);
  g_assert_cmpuint(queue.dropped, ==, 10);
  card_queue_flush(&queue);
  for (guint32 i = 0; i < CARD_QUEUE_ITEMS; i++)
    g_assert_cmpuint(card_queue_push(&queue, i, much, 1), ==, 1);
  g_assert_cmpuint(card_queue_push(&queue, 99, much, 1), ==, 0);
}

/* Whatever happens, in whatever order: every sample is heard once, none out of order. */
static void test_walk(void) {
  guint32 seed = g_test_rand_int();
  g_autoptr(GRand) chance = g_rand_new_with_seed(seed);
  g_test_message("seed %u", seed);
  gint16 out[480];
  card_queue_init(&queue);
  guint64 pushed = 0, before = 0;
  guint32 item = 1;
  for (guint step = 0; step < 200000; step++) {
    guint n = (guint)g_rand_int_range(chance, 1, 481);
    switch (g_rand_int_range(chance, 0, 8)) {
    case 0:
    case 1:
    case 2:
      pushed += card_queue_push(&queue, item, out, n);
      break;
    case 3:
      card_queue_pause(&queue);
      break;
    case 4:
      card_queue_resume(&queue, item, pushed);
      break;
    case 5:
      if (g_rand_int_range(chance, 0, 50) == 0) {
        card_queue_flush(&queue);
        item++;
        pushed = before = 0;
      }
      break;
    default:
      g_assert_cmpuint(card_queue_pull(&queue, out, n), <=, n);
    }
    guint32 found;
    guint64 count;
    if (!card_queue_heard(&queue, 0, &found, &count) || found != item)
      continue;
    g_assert_cmpuint(count, >=, before);
    g_assert_cmpuint(count, <=, pushed);
    before = count;
    g_assert_cmpuint(queue.fill, ==, pushed - count);
  }
}

int main(int argc, char **argv) {
  alarm(60);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/audio/card_queue/order", test_order);
  g_test_add_func("/audio/card_queue/pause", test_pause);
  g_test_add_func("/audio/card_queue/flush", test_flush);
  g_test_add_func("/audio/card_queue/limits", test_limits);
  g_test_add_func("/audio/card_queue/walk", test_walk);
  return g_test_run();
}
