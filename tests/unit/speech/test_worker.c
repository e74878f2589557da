/* ChoirWorker with a real process behind it: answers, restarts, back-pressure, the pair with choir-phonemes. */
#include "speech/worker.h"
#include "base/metrics.h"
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { ECHO = 200, ECHOED, CRASH, GARBAGE, HANG_UP, BIG, SLEEP, ASK_PHONEMES, PHONEMES };

static const char *tiny_path, *phonemes_path;

typedef struct {
  ChoirHub *hub;
  ChoirWorker *worker;
  guint ups, downs, frames, bad, stopped;
  guint16 last_type;
  guint32 last_session, last_gen, last_aux;
  GByteArray *last;
} Fixture;

static void on_frame(const ChoirWireFrame *frame, gpointer user) {
  Fixture *fixture = user;
  fixture->frames++;
  fixture->last_type = frame->type;
  fixture->last_session = frame->session;
  fixture->last_gen = frame->gen;
  fixture->last_aux = frame->aux;
  g_byte_array_set_size(fixture->last, 0);
  g_byte_array_append(fixture->last, frame->payload, frame->length);
  if (frame->type == BIG)
    for (guint32 i = 0; i < frame->length; i += 4093)
      fixture->bad += frame->payload[i] != frame->aux;
}

static void on_state(ChoirWorker *worker, gboolean ready, gpointer user) {
  Fixture *fixture = user;
  g_assert_true(choir_worker_ready(worker) == ready);
  if (ready)
    fixture->ups++;
  else
    fixture->downs++;
}

static void on_stopped(gpointer user) {
  ((Fixture *)user)->stopped++;
}

static gboolean wake(gpointer user) {
  return G_SOURCE_CONTINUE;
}

/* Runs the loop until *counter reaches the value; fails after 20 s. */
static void run_until(const guint *counter, guint value) {
  guint ticker = g_timeout_add(50, wake, NULL);
  gint64 deadline = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;
  while (*counter < value) {
    g_main_context_iteration(NULL, TRUE);
    g_assert_cmpint(g_get_monotonic_time(), <, deadline);
  }
  g_source_remove(ticker);
}

static void setup(Fixture *fixture, gconstpointer data) {
  const char *argv[] = {tiny_path, NULL}, *phonemes[] = {phonemes_path, NULL};
  fixture->last = g_byte_array_new();
  fixture->hub = choir_hub_new(NULL);
  fixture->worker = choir_worker_new(fixture->hub, "tiny", "tiny", argv, 0, on_frame, on_state, fixture);
  if (data)
    choir_worker_attach_phonemes(fixture->worker, phonemes);
  choir_worker_start(fixture->worker);
  run_until(&fixture->ups, 1);
}

static void teardown(Fixture *fixture, gconstpointer data) {
  choir_worker_stop(fixture->worker, on_stopped, fixture);
  run_until(&fixture->stopped, 1);
  g_assert_cmpint(choir_child_pid(choir_worker_child(fixture->worker)), ==, 0);
  choir_worker_free(fixture->worker);
  choir_hub_free(fixture->hub);
  g_byte_array_unref(fixture->last);
}

static gboolean say(Fixture *fixture, guint16 type) {
  return choir_worker_send(fixture->worker, type, 0, 3, 4, 5, "abc", 3);
}

static void assert_alive(Fixture *fixture) {
  guint before = fixture->frames;
  g_assert_true(say(fixture, ECHO));
  run_until(&fixture->frames, before + 1);
  g_assert_cmpint(fixture->last_type, ==, ECHOED);
  g_assert_cmpmem(fixture->last->data, fixture->last->len, "abc", 3);
}

static void test_echo(Fixture *fixture, gconstpointer data) {
  assert_alive(fixture);
  g_assert_cmpuint(fixture->last_session, ==, 3);
  g_assert_cmpuint(fixture->last_gen, ==, 4);
  g_assert_cmpuint(fixture->last_aux, ==, 5);
  g_assert_nonnull(strstr(choir_worker_info(fixture->worker), "at your service"));
  g_assert_cmpint(choir_child_state(choir_worker_child(fixture->worker)), ==, CHOIR_CHILD_READY);
  say(fixture, 77); /* an ERROR frame comes through like any other */
  run_until(&fixture->frames, 2);
  g_assert_cmpint(fixture->last_type, ==, CHOIR_WIRE_ERROR);
}

static void test_large_frames(Fixture *fixture, gconstpointer data) {
  g_autofree guint8 *payload = g_malloc(CHOIR_WIRE_MAX);
  memset(payload, 0x5a, CHOIR_WIRE_MAX);
  g_assert_true(choir_worker_send(fixture->worker, ECHO, 0, 1, 1, 0, payload, CHOIR_WIRE_MAX));
  run_until(&fixture->frames, 1);
  g_assert_cmpmem(fixture->last->data, fixture->last->len, payload, CHOIR_WIRE_MAX);
  g_assert_false(choir_worker_send(fixture->worker, ECHO, 0, 1, 1, 0, payload, CHOIR_WIRE_MAX + 1));
  say(fixture, BIG);
  run_until(&fixture->frames, 6);
  g_assert_cmpuint(fixture->bad, ==, 0);
}

static void restarts_after(Fixture *fixture, guint16 type) {
  say(fixture, type);
  run_until(&fixture->downs, 1);
  g_assert_false(say(fixture, ECHO)); /* refused while it is down */
  run_until(&fixture->ups, 2);
  g_assert_cmpuint(choir_child_restarts(choir_worker_child(fixture->worker)), ==, 1);
  assert_alive(fixture);
}

static void test_crash(Fixture *fixture, gconstpointer data) {
  double before = choir_metric_value(choir_counter("choir_worker_refused_total", "worker=\"tiny\"", ""));
  restarts_after(fixture, CRASH);
  g_assert_cmpfloat(choir_metric_value(choir_counter("choir_worker_refused_total", "worker=\"tiny\"", "")), ==,
                    before + 1);
}

static void test_garbage(Fixture *fixture, gconstpointer data) {
  restarts_after(fixture, GARBAGE);
}

static void test_hang_up(Fixture *fixture, gconstpointer data) {
  restarts_after(fixture, HANG_UP);
}

/* A worker that does not read: frames pile up to the limit, then are refused; nothing blocks. */
static void test_back_pressure(Fixture *fixture, gconstpointer data) {
  g_autofree guint8 *payload = g_malloc0(1 << 20);
  say(fixture, SLEEP);
  guint sent = 0;
  while (sent < 100 && choir_worker_send(fixture->worker, ECHO, 0, 1, 1, 0, payload, 1 << 20))
    sent++;
  g_assert_cmpuint(sent, >=, 7);
  g_assert_cmpuint(sent, <, 20);
  choir_child_kill(choir_worker_child(fixture->worker), SIGKILL);
  run_until(&fixture->ups, 2);
  assert_alive(fixture); /* nothing of the old backlog reaches the new one */
}

static void ask(Fixture *fixture) {
  guint before = fixture->frames;
  g_assert_true(say(fixture, ASK_PHONEMES));
  run_until(&fixture->frames, before + 1);
  g_assert_cmpint(fixture->last_type, ==, PHONEMES);
  g_byte_array_append(fixture->last, (const guint8 *)"", 1);
  g_assert_true(g_str_has_prefix((const char *)fixture->last->data, "7\t"));
  g_assert_nonnull(strstr((const char *)fixture->last->data, "həlˈoʊ"));
}

static void test_phonemes(Fixture *fixture, gconstpointer data) {
  ChoirChild *phonemes = choir_worker_phonemes(fixture->worker);
  ask(fixture);
  choir_child_kill(phonemes, SIGKILL); /* both start anew, with a new pair */
  run_until(&fixture->ups, 2);
  ask(fixture);
  g_assert_cmpuint(fixture->downs, ==, 1);
  GPid before = choir_child_pid(phonemes);
  choir_child_kill(choir_worker_child(fixture->worker), SIGKILL);
  run_until(&fixture->ups, 3);
  ask(fixture);
  g_assert_cmpint(choir_child_pid(phonemes), !=, before);
  g_assert_cmpuint(fixture->downs, ==, 2);
}

/* Freed while it runs: the process goes, no callback comes. */
static void test_free_running(void) {
  Fixture fixture = {0};
  setup(&fixture, NULL);
  GPid pid = choir_child_pid(choir_worker_child(fixture.worker));
  choir_worker_free(fixture.worker);
  gint64 deadline = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
  while (kill(pid, 0) == 0) {
    g_main_context_iteration(NULL, FALSE);
    g_usleep(2000);
    g_assert_cmpint(g_get_monotonic_time(), <, deadline);
  }
  g_assert_cmpint(errno, ==, ESRCH);
  g_assert_cmpuint(fixture.downs, ==, 0);
  choir_hub_free(fixture.hub);
  g_byte_array_unref(fixture.last);
}

static void test_no_program(void) {
  const char *argv[] = {"/nowhere/choir-none", NULL};
  Fixture fixture = {.last = g_byte_array_new(), .hub = choir_hub_new(NULL)};
  fixture.worker = choir_worker_new(fixture.hub, "none", "none", argv, 0, on_frame, on_state, &fixture);
  choir_worker_start(fixture.worker);
  g_assert_false(say(&fixture, ECHO));
  g_assert_nonnull(choir_child_last_error(choir_worker_child(fixture.worker)));
  teardown(&fixture, NULL);
}

#define ADD(path, data, function) g_test_add(path, Fixture, data, setup, function, teardown)

int main(int argc, char **argv) {
  alarm(110);
  g_test_init(&argc, &argv, NULL);
  tiny_path = g_getenv("CHOIR_TINY_WORKER");
  phonemes_path = g_getenv("CHOIR_PHONEMES");
  g_assert_nonnull(tiny_path);
  g_assert_nonnull(phonemes_path);
  ADD("/speech/worker/echo", NULL, test_echo);
  ADD("/speech/worker/large-frames", NULL, test_large_frames);
  ADD("/speech/worker/crash", NULL, test_crash);
  ADD("/speech/worker/garbage", NULL, test_garbage);
  ADD("/speech/worker/hang-up", NULL, test_hang_up);
  ADD("/speech/worker/back-pressure", NULL, test_back_pressure);
  ADD("/speech/worker/phonemes", "with", test_phonemes);
  g_test_add_func("/speech/worker/free-running", test_free_running);
  g_test_add_func("/speech/worker/no-program", test_no_program);
  return g_test_run();
}
