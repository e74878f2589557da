/* The reference's place, in a simulated room: a far voice whose echo comes back over a way that nobody reports, reports
 * that are late as those of starved threads are, clocks that differ, samples that are lost. */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>
#include "audio/card_align.h"

#define RATE CHOIR_AEC_RATE
#define FRAME CHOIR_AEC_FRAME
#define SECONDS 60

typedef struct {
  CardAlign align;
  gint16 *far;     /* what the loudspeaker plays, SECONDS of it */
  gint64 at;       /* samples of the microphone so far */
  double truth;    /* what perfect reports would say */
  double wrong;    /* what they say beside it */
  double echo_ms;  /* from the air to the microphone */
  double drift;    /* samples of the truth a sample */
  gboolean silent; /* nothing is played */
  gboolean near;   /* somebody speaks near the microphone */
  gint jitter;     /* samples by which a report may be late */
  guint jumps;
  GRand *chance;
} Room;

/* Noise in syllables. */
static gint16 *syllables(GRand *chance, gsize n) {
  gint16 *out = g_new(gint16, n);
  double gain = 0, wanted = 0;
  for (gsize i = 0; i < n; i++) {
    if (i % (RATE / 8) == 0)
      wanted = g_rand_double(chance) < 0.3 ? 0 : g_rand_double_range(chance, 0.3, 1);
    gain += (wanted - gain) * 0.004;
    out[i] = (gint16)(g_rand_double_range(chance, -1, 1) * gain * 8000);
  }
  return out;
}

static void room_init(Room *room, guint32 seed) {
  *room = (Room){.truth = -500, .echo_ms = 60};
  room->chance = g_rand_new_with_seed(seed);
  room->far = syllables(room->chance, (gsize)RATE * SECONDS);
  card_align_init(&room->align);
}

static void room_clear(Room *room) {
  g_free(room->far);
  g_rand_free(room->chance);
}

static gint16 far_at(const Room *room, double place) {
  return place >= 0 && place < (double)RATE * SECONDS && !room->silent ? room->far[(gsize)place] : 0;
}

static void run(Room *room, double seconds) {
  for (gint64 end = room->at + (gint64)(seconds * RATE); room->at < end; room->at += FRAME) {
    gint16 mic[FRAME], far[FRAME];
    double late = room->jitter > 0 && g_rand_double(room->chance) < 0.3
                      ? g_rand_int_range(room->chance, -room->jitter, room->jitter)
                      : 0;
    room->jumps += card_align_report(&room->align, room->truth + room->wrong + late);
    for (guint i = 0; i < FRAME; i++) {
      double heard = (double)(room->at + i) + room->truth - room->echo_ms * RATE / 1000;
      mic[i] = (gint16)(far_at(room, heard) / 4 + g_rand_int_range(room->chance, -20, 20));
      if (room->near)
        mic[i] = (gint16)(mic[i] + room->far[(gsize)(room->at + i + 20 * RATE) % ((gsize)RATE * SECONDS)]);
      far[i] = far_at(room, (double)(room->at + i) + room->align.offset);
    }
    room->jumps += card_align_hear(&room->align, mic, far);
    room->truth += room->drift * FRAME;
  }
}

/* How long the filter would have to be for the echo, in ms; negative: it comes before its reference. */
static double lag_ms(const Room *room) {
  return (room->align.offset - room->truth) * 1000 / RATE + room->echo_ms;
}

static void test_late_reports_move_nothing(void) {
  Room room;
  room_init(&room, 1);
  room.jitter = 1200; /* 75 ms */
  run(&room, 2);
  guint moves = room.align.moves;
  run(&room, 20);
  g_assert_cmpuint(room.align.moves, ==, moves);
  g_assert_cmpfloat(fabs(lag_ms(&room) - 60), <, 12);
  room_clear(&room);
}

static void found_in(double echo_ms, double wrong_ms) {
  Room room;
  room_init(&room, 2);
  room.echo_ms = echo_ms;
  room.wrong = wrong_ms * RATE / 1000;
  run(&room, 6);
  g_test_message("echo %.0f ms, reports off by %.0f ms: the filter needs %.1f ms", echo_ms, wrong_ms, lag_ms(&room));
  g_assert_cmpfloat(lag_ms(&room), >, 0);
  g_assert_cmpfloat(lag_ms(&room), <, 200);
  g_assert_cmpuint(room.align.moves, <=, 3);
  guint moves = room.align.moves;
  run(&room, 20); /* and stays there, although the reports go on being wrong */
  g_assert_cmpuint(room.align.moves, ==, moves);
  room_clear(&room);
}

static void test_delays_nobody_reports(void) {
  found_in(60, 0);
  found_in(380, 0);
  found_in(700, 0);
  found_in(60, -180); /* the echo seems to come before its cause */
  found_in(40, 500);
  found_in(190, 0); /* within the filter: left alone */
}

static void test_somebody_speaks_over_it(void) {
  Room room;
  room_init(&room, 3);
  run(&room, 3);
  guint moves = room.align.moves;
  room.near = TRUE;
  run(&room, 15);
  g_assert_cmpuint(room.align.moves, ==, moves);
  room_clear(&room);
}

static void test_clocks_that_differ(void) {
  Room room;
  room_init(&room, 4);
  room.jitter = 60;
  room.drift = 100e-6;
  room.silent = TRUE;
  run(&room, 50); /* 80 samples */
  g_assert_cmpfloat(fabs(room.align.offset - room.truth), <, 66);
  room.at = 0;
  room_clear(&room);
}

static void test_lost_samples(void) {
  Room room;
  room_init(&room, 5);
  run(&room, 3);
  room.truth += 4000; /* a quarter of a second is missing */
  card_align_gap(&room.align);
  run(&room, 1);
  g_assert_cmpfloat(fabs(lag_ms(&room) - 60), <, 5);
  g_assert_cmpuint(room.jumps, >=, 1);
  room.truth -= 4000; /* and nobody said so */
  run(&room, 5);
  g_assert_cmpfloat(lag_ms(&room), >, 0);
  g_assert_cmpfloat(lag_ms(&room), <, 200);
  room_clear(&room);
}

static void test_a_reference_that_is_not_written_yet(void) {
  CardAlign align;
  card_align_init(&align);
  (void)card_align_report(&align, 100);
  g_assert_cmpfloat(card_align_late(&align, 50), >=, 50); /* silence: at once */
  double offset = align.offset;
  const gint16 sound[FRAME] = {[3] = 9000}, nothing[FRAME] = {0};
  for (guint i = 0; i < 400; i++) { /* a thread that is late now and then moves nothing */
    (void)card_align_hear(&align, nothing, sound);
    g_assert_cmpfloat(card_align_late(&align, i % 20 == 0 ? 300 : -100), ==, 0);
  }
  g_assert_cmpfloat(align.offset, ==, offset);
  double moved = 0;
  for (guint i = 0; i < 6; i++)
    moved += card_align_late(&align, 300);
  g_assert_cmpfloat(moved, >=, 300);
  g_assert_cmpfloat(align.offset, ==, offset - moved);
}

int main(int argc, char **argv) {
  alarm(60);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/card_align/late_reports", test_late_reports_move_nothing);
  g_test_add_func("/card_align/unreported_delays", test_delays_nobody_reports);
  g_test_add_func("/card_align/double_talk", test_somebody_speaks_over_it);
  g_test_add_func("/card_align/clocks", test_clocks_that_differ);
  g_test_add_func("/card_align/lost_samples", test_lost_samples);
  g_test_add_func("/card_align/not_written", test_a_reference_that_is_not_written_yet);
  return g_test_run();
}
