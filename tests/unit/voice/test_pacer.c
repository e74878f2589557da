/* The pacer against listeners of several kinds, in samples; SEED=n repeats a run. */
#include "voice/pacer.h"
#include "base/names.h"
#include <stdlib.h>
#include <unistd.h>

#define MS(ms) ((guint64)(ms)*CHOIR_RATE_OUT / 1000)

static guint32 seed;

static guint64 push(Pacer *pacer, guint64 *store) {
  guint64 n = pacer_allow(pacer, *store, FALSE);
  g_assert_cmpuint(n, <=, *store);
  pacer_sent(pacer, n);
  *store -= n;
  if (n > 0)
    g_assert_cmpuint(pacer->sent - pacer_heard(pacer), <=, MS(pacer->lead_ms));
  return n;
}

/* Without acknowledgements: real time, never more than the lead ahead, and the play clock waits when nothing is there.
 */
static void test_play_clock(void) {
  g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
  Pacer pacer;
  pacer_init(&pacer, 0);
  guint64 now = 0;
  for (guint item = 0; item < 20; item++) {
    pacer_begin(&pacer, now);
    guint64 store = 0, total = 0, played = 0, begun = 0;
    for (guint tick = 0; tick < 1000; tick++) {
      guint64 step = MS(g_rand_int_range(rand, 5, 60));
      now += step;
      played = MIN(pacer.sent, played + step);
      if (g_rand_int_range(rand, 0, 10) == 0) {
        guint64 more = MS(g_rand_int_range(rand, 10, 2000));
        store += more;
        total += more;
      }
      g_assert_cmpint(pacer_advance(&pacer, now), ==, PACER_SAME);
      g_assert_cmpuint(pacer_heard(&pacer), ==, played);
      guint64 n = push(&pacer, &store);
      if (begun == 0 && n > 0)
        begun = now;
      /* no faster than the clock allows */
      if (begun > 0)
        g_assert_cmpuint(pacer.sent, <=, now - begun + MS(CHOIR_LEAD_MS));
    }
    g_assert_cmpuint(pacer.sent + store, ==, total);
  }
}

/* A listener that acknowledges each 20 ms never starves while there is audio. */
static void test_perfect_acks(void) {
  Pacer pacer;
  pacer_init(&pacer, 0);
  guint64 store = MS(60000), played = 0, now = 0;
  pacer_begin(&pacer, now);
  push(&pacer, &store);
  while (store > MS(20)) {
    now += MS(20);
    pacer_advance(&pacer, now);
    g_assert_cmpuint(pacer.sent - played, >=, MS(20)); /* the player finds its 20 ms */
    played += MS(20);
    pacer_ack(&pacer, played, 0);
    push(&pacer, &store);
  }
  g_assert_cmpuint(pacer.lead_ms, ==, CHOIR_LEAD_MS);
  g_assert_true(pacer.acks);
  /* the rest goes although it is short, and all is heard in the end */
  pacer_ack(&pacer, played + MS(20), 0);
  store = MS(7);
  g_assert_cmpuint(pacer_allow(&pacer, store, FALSE), ==, 0);
  guint64 n = pacer_allow(&pacer, store, TRUE);
  g_assert_cmpuint(n, ==, store);
  pacer_sent(&pacer, n);
  g_assert_false(pacer_drained(&pacer));
  pacer_ack(&pacer, G_MAXUINT64, 0);
  g_assert_true(pacer_drained(&pacer));
}

/* Random acknowledgements, true and false ones: never ahead of the lead, never acknowledged more than sent. */
static void test_wild_acks(void) {
  g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
  Pacer pacer;
  pacer_init(&pacer, 0);
  guint64 now = 0, store = 0, heard = 0;
  pacer_begin(&pacer, now);
  for (guint i = 0; i < 100000; i++) {
    switch (g_rand_int_range(rand, 0, 5)) {
    case 0:
      now += MS(g_rand_int_range(rand, 0, 100));
      pacer_advance(&pacer, now);
      break;
    case 1:
      pacer_ack(&pacer, pacer.acked + (guint64)g_rand_int_range(rand, -2000, 5000),
                (guint)(g_rand_int_range(rand, 0, 20) == 0));
      break;
    case 2:
      store += MS(g_rand_int_range(rand, 0, 200));
      break;
    case 3:
      pacer_dry(&pacer);
      break;
    default:
      push(&pacer, &store);
    }
    g_assert_cmpuint(pacer.acked, <=, pacer.sent);
    g_assert_cmpuint(pacer_heard(&pacer), <=, pacer.sent);
    g_assert_cmpuint(pacer.lead_ms, >=, CHOIR_LEAD_MS);
    g_assert_cmpuint(pacer.lead_ms, <=, CHOIR_LEAD_MAX_MS);
    heard = pacer_heard(&pacer);
    if (g_rand_int_range(rand, 0, 2000) == 0)
      pacer_begin(&pacer, now);
  }
  g_assert_cmpuint(heard, <=, pacer.sent + 1);
}

static void test_lead(void) {
  Pacer pacer;
  guint64 now = 0, store = MS(100000), played = 0;
  char text[64];
  pacer_init(&pacer, 0);
  pacer_begin(&pacer, 0);
  push(&pacer, &store);
  static const guint leads[] = {120, 160, 200, 200, 200};
  for (gsize i = 0; i < G_N_ELEMENTS(leads); i++) {
    now += MS(20);
    pacer_advance(&pacer, now);
    PacerChange change = pacer_ack(&pacer, played += MS(20), 1);
    g_assert_cmpuint(pacer.lead_ms, ==, leads[i]);
    g_assert_cmpint(change, ==, i < 3 ? PACER_LEAD_CHANGED : PACER_SAME);
    push(&pacer, &store);
  }
  pacer_status(&pacer, text, sizeof text);
  g_assert_cmpstr(text, ==, "lead 200 ms (5 underruns reported)");
  /* it comes down by a step each ten quiet seconds, and stays at 80 ms */
  guint changes = 0;
  for (guint ms = 0; ms < 90000; ms += 20) {
    now += MS(20);
    changes += pacer_advance(&pacer, now) == PACER_LEAD_CHANGED;
    pacer_ack(&pacer, played += MS(20), 0);
    push(&pacer, &store);
    g_assert_cmpuint(pacer.lead_ms, ==, MAX(CHOIR_LEAD_MS, 200 - 20 * (gint)((ms + 20) / 10000)));
  }
  g_assert_cmpuint(changes, ==, 6);
}

/* An underrun because there was nothing to send is no reason to run further ahead. */
static void test_own_underrun(void) {
  Pacer pacer;
  guint64 store = MS(100);
  pacer_init(&pacer, 0);
  pacer_begin(&pacer, 0);
  push(&pacer, &store);
  pacer_advance(&pacer, MS(40));
  pacer_ack(&pacer, MS(40), 0);
  push(&pacer, &store);
  pacer_dry(&pacer);
  pacer_advance(&pacer, MS(400));
  pacer_ack(&pacer, MS(100), 1);
  g_assert_cmpuint(pacer.lead_ms, ==, CHOIR_LEAD_MS);
  g_assert_cmpuint(pacer.underruns, ==, 0);
  /* sound is there again for a while: now it is the network's */
  store = MS(2000);
  push(&pacer, &store);
  pacer_advance(&pacer, MS(1400));
  pacer_ack(&pacer, MS(150), 1);
  g_assert_cmpuint(pacer.lead_ms, ==, CHOIR_LEAD_MS + PACER_STEP_UP_MS);
}

static void test_acks_stop(void) {
  Pacer pacer;
  guint64 store = MS(5000), now = 0;
  pacer_init(&pacer, 0);
  pacer_begin(&pacer, 0);
  push(&pacer, &store);
  now = MS(20);
  pacer_advance(&pacer, now);
  pacer_ack(&pacer, MS(20), 0);
  push(&pacer, &store);
  guint64 sent = pacer.sent;
  PacerChange change = PACER_SAME;
  for (guint ms = 0; change == PACER_SAME; ms += 20) {
    g_assert_cmpuint(ms, <=, PACER_ACK_TIMEOUT_MS + 20);
    g_assert_cmpuint(pacer.sent, ==, sent);
    now += MS(20);
    change = pacer_advance(&pacer, now);
    if (change == PACER_SAME)
      push(&pacer, &store);
  }
  g_assert_cmpint(change, ==, PACER_ACKS_LOST);
  g_assert_cmpuint(pacer_heard(&pacer), ==, MS(20));
  for (guint ms = 0; store > 0 && ms < 6000; ms += 20) {
    now += MS(20);
    pacer_advance(&pacer, now);
    pacer_sent(&pacer, pacer_allow(&pacer, store, TRUE));
    store = MS(5000) - pacer.sent;
  }
  g_assert_cmpuint(store, ==, 0);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  alarm(60);
  const char *given = g_getenv("SEED");
  seed = given != NULL ? (guint32)strtoul(given, NULL, 10) : g_random_int();
  g_test_message("SEED=%u", seed);
  g_test_add_func("/voice/pacer/play-clock", test_play_clock);
  g_test_add_func("/voice/pacer/perfect-acks", test_perfect_acks);
  g_test_add_func("/voice/pacer/wild-acks", test_wild_acks);
  g_test_add_func("/voice/pacer/lead", test_lead);
  g_test_add_func("/voice/pacer/own-underrun", test_own_underrun);
  g_test_add_func("/voice/pacer/acks-stop", test_acks_stop);
  return g_test_run();
}
