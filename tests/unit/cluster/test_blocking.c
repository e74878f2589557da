/* Blocking queries in virtual time against a scripted server: nothing that changes is missed, a broken server is not
 * hammered, an index that goes backwards or is none does not stall. And which replica is chosen. */
#include <string.h>
#include <unistd.h>
#include "cluster/blocking.h"
#include "cluster/replica.h"

#define SECOND ((gint64)G_USEC_PER_SEC)

/* What the server does from `from` on. */
typedef struct {
  gint64 from; /* seconds */
  guint64 index;
  gboolean down;
} Phase;

typedef struct {
  guint asked, failed, changed;
  gint64 longest_silence_us;       /* from a change to the client's knowing it */
  gint64 least_gap_us;             /* between two questions */
  gint64 failures_us[64], back_us; /* back: of the first answer behind a failure */
} Outcome;

static const Phase *phase_at(const Phase *phases, gint64 now) {
  const Phase *found = phases;
  for (const Phase *phase = phases; phase->from >= 0; phase++)
    if (phase->from * SECOND <= now)
      found = phase;
  return found;
}

/* When a question asked at `now` with `index` is answered: at once, at the next change, or after the wait. */
static gint64 answer_at(const Phase *phases, gint64 now, guint64 index) {
  const Phase *phase = phase_at(phases, now);
  if (phase->down || index == 0 || phase->index == 0 || phase->index != index)
    return now + 1000;
  for (phase++; phase->from >= 0; phase++)
    if (phase->from * SECOND > now && (phase->index != index || phase->down))
      return MIN(phase->from * SECOND + 1000, now + CHOIR_BLOCKING_WAIT_S * SECOND);
  return now + CHOIR_BLOCKING_WAIT_S * SECOND;
}

static guint64 index_of(const char *path) {
  const char *at = strstr(path, "index=");
  return at ? g_ascii_strtoull(at + 6, NULL, 10) : 0;
}

static Outcome simulate(const Phase *phases, gint64 seconds, guint32 seed) {
  Outcome out = {.least_gap_us = G_MAXINT64};
  ChoirBlocking blocking;
  gint64 now = 0, asked = -SECOND, known_from = 0;
  guint64 known = 0;
  choir_blocking_init(&blocking, seed);
  while (now < seconds * SECOND) {
    g_autofree char *path = choir_blocking_path(&blocking, "/v1/catalog/services", now);
    out.least_gap_us = MIN(out.least_gap_us, now - asked);
    asked = now;
    out.asked++;
    now = answer_at(phases, now, index_of(path));
    const Phase *phase = phase_at(phases, now);
    guint wait;
    if (phase->down) {
      if (out.failed < G_N_ELEMENTS(out.failures_us))
        out.failures_us[out.failed] = now;
      out.failed++;
      wait = choir_blocking_failed(&blocking);
    } else {
      gboolean changed = FALSE;
      if (out.failed && !out.back_us)
        out.back_us = now;
      wait = choir_blocking_answered(&blocking, phase->index, now, &changed);
      out.changed += changed;
      g_assert_true(changed || known == phase->index); /* nothing new may pass as old */
      if (known != phase->index) {
        gint64 since = phase->from * SECOND;
        if (since > known_from)
          out.longest_silence_us = MAX(out.longest_silence_us, now - since);
        known = phase->index;
        known_from = now;
      }
    }
    now += (gint64)wait * 1000;
  }
  return out;
}

static void test_quiet(void) {
  static const Phase phases[] = {{0, 7, FALSE}, {-1, 0, FALSE}};
  Outcome out = simulate(phases, 3600, 1);
  g_assert_cmpuint(out.asked, <=, 3600 / CHOIR_BLOCKING_WAIT_S + 2);
  g_assert_cmpuint(out.changed, ==, 1);
}

static void test_change_is_seen_at_once(void) {
  static const Phase phases[] = {{0, 7, FALSE}, {100, 8, FALSE}, {101, 9, FALSE}, {500, 20, FALSE}, {-1, 0, FALSE}};
  Outcome out = simulate(phases, 1000, 1);
  g_assert_cmpuint(out.changed, ==, 4);
  g_assert_cmpint(out.longest_silence_us, <=, SECOND / 2);
}

/* Changes every millisecond: the client takes a breath between two questions. */
static void test_flood(void) {
  Phase phases[2001];
  for (guint i = 0; i < 2000; i++)
    phases[i] = (Phase){i / 100, 10 + i, FALSE};
  phases[2000] = (Phase){-1, 0, FALSE};
  Outcome out = simulate(phases, 20, 1);
  g_assert_cmpint(out.least_gap_us, >=, CHOIR_BLOCKING_FLOOR_MS * 1000);
  g_assert_cmpuint(out.asked, <=, 20 * 1000 / CHOIR_BLOCKING_FLOOR_MS + 1);
}

static void test_down_and_back(void) {
  static const Phase phases[] = {{0, 7, FALSE}, {10, 7, TRUE}, {310, 7, FALSE}, {-1, 0, FALSE}};
  guint32 seed = g_random_int();
  g_test_message("seed %u", seed);
  Outcome out = simulate(phases, 400, seed);
  g_assert_cmpuint(out.failed, >=, 8);
  g_assert_cmpuint(out.failed, <=, 24);
  g_assert_cmpuint(out.changed, >=, 2); /* its return is told even though nothing changed meanwhile, and soon */
  g_assert_cmpint(out.back_us - 310 * SECOND, <=, (gint64)CHOIR_BLOCKING_CEILING_MS * 1300);
  for (guint i = 2; i < 6; i++) { /* each pause is longer than the one before, but for chance */
    gint64 before = out.failures_us[i - 1] - out.failures_us[i - 2], now = out.failures_us[i] - out.failures_us[i - 1];
    g_assert_cmpint(now * 10, >, before * 11);
  }
  for (guint i = 1; i < MIN(out.failed, 64); i++)
    g_assert_cmpint(out.failures_us[i] - out.failures_us[i - 1], <=, (gint64)CHOIR_BLOCKING_CEILING_MS * 1300);
}

/* A hundred clients that lost the server together do not come back together. */
static void test_jitter(void) {
  gint64 least = G_MAXINT64, most = 0;
  for (guint32 seed = 1; seed <= 100; seed++) {
    ChoirBlocking blocking;
    choir_blocking_init(&blocking, seed * 2654435761u);
    gint64 sum = 0;
    for (guint i = 0; i < 4; i++)
      sum += choir_blocking_failed(&blocking);
    least = MIN(least, sum);
    most = MAX(most, sum);
  }
  g_assert_cmpint(least, >=, 15000 * 3 / 4 - 10);
  g_assert_cmpint(most, <=, 15000 * 5 / 4 + 10);
  g_assert_cmpint(most - least, >, 2500);
}

static void test_backwards(void) {
  static const Phase phases[] = {{0, 700, FALSE}, {10, 5, FALSE}, {100, 6, FALSE}, {-1, 0, FALSE}};
  Outcome out = simulate(phases, 200, 1);
  g_assert_cmpint(out.longest_silence_us, <=, SECOND);
  g_assert_cmpuint(out.asked, <, 20);
}

static void test_no_index(void) {
  static const Phase phases[] = {{0, 0, FALSE}, {-1, 0, FALSE}};
  Outcome out = simulate(phases, 100, 1);
  g_assert_cmpuint(out.asked, <=, 100 * 1000 / CHOIR_BLOCKING_POLL_MS + 1);
  g_assert_cmpuint(out.asked, >=, 15);
}

static void test_reset(void) {
  ChoirBlocking blocking;
  gboolean changed;
  choir_blocking_init(&blocking, 3);
  choir_blocking_answered(&blocking, 9, 0, &changed);
  g_autofree char *with = choir_blocking_path(&blocking, "/v1/x?dc=a", 0);
  g_assert_cmpstr(with, ==, "/v1/x?dc=a&index=9&wait=60s");
  choir_blocking_reset(&blocking);
  g_autofree char *without = choir_blocking_path(&blocking, "/v1/x", 0);
  g_assert_cmpstr(without, ==, "/v1/x");
}

/* --- replicas */

static void test_home(void) {
  ChoirReplicaLook looks[] = {{.slots = 2, .busy = 1, .first_s = 0.4},
                              {.slots = 2, .busy = 1, .first_s = 0.5, .home = TRUE},
                              {.slots = 2, .busy = 0, .first_s = 0.1}};
  g_assert_cmpint(choir_replica_choose(looks, 3), ==, 1); /* its cache is worth more than an idle server */
  looks[1].busy = 2;                                      /* overloaded */
  g_assert_cmpint(choir_replica_choose(looks, 3), ==, 2);
  looks[0].busy = looks[2].busy = 2; /* so are all: no reason to leave */
  g_assert_cmpint(choir_replica_choose(looks, 3), ==, 1);
  looks[2].busy = 0;
  looks[1].busy = 0;
  looks[1].first_s = 4; /* it says that it is free, but answers forty times later than the quickest */
  g_assert_cmpint(choir_replica_choose(looks, 3), ==, 2);
}

static void test_failures(void) {
  ChoirReplicaLook looks[] = {{.home = TRUE, .tried = TRUE}, {.resting = TRUE}, {.fallback = TRUE}, {.silent = TRUE}};
  g_assert_cmpint(choir_replica_choose(looks, 4), ==, 3); /* rather a silent one than the small model */
  looks[3].tried = TRUE;
  g_assert_cmpint(choir_replica_choose(looks, 4), ==, 2);
  looks[2].tried = TRUE;
  g_assert_cmpint(choir_replica_choose(looks, 4), ==, 1);
  looks[1].tried = TRUE;
  g_assert_cmpint(choir_replica_choose(looks, 4), ==, -1);
  g_assert_cmpint(choir_replica_choose(looks, 0), ==, -1);
}

int main(int argc, char **argv) {
  alarm(60);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/blocking/quiet", test_quiet);
  g_test_add_func("/blocking/change-is-seen-at-once", test_change_is_seen_at_once);
  g_test_add_func("/blocking/flood", test_flood);
  g_test_add_func("/blocking/down-and-back", test_down_and_back);
  g_test_add_func("/blocking/jitter", test_jitter);
  g_test_add_func("/blocking/backwards", test_backwards);
  g_test_add_func("/blocking/no-index", test_no_index);
  g_test_add_func("/blocking/reset", test_reset);
  g_test_add_func("/replica/home", test_home);
  g_test_add_func("/replica/failures", test_failures);
  return g_test_run();
}
