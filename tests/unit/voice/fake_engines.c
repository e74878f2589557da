#include "fake_engines.h"
#include <string.h>

struct ChoirWorker {
  gboolean ready, refuse;
  GPtrArray *frames;
};

static void frame_free(FakeFrame *frame) {
  g_bytes_unref(frame->payload);
  g_free(frame);
}

ChoirWorker *fake_worker_new(gboolean ready) {
  ChoirWorker *worker = g_new0(ChoirWorker, 1);
  worker->ready = ready;
  worker->frames = g_ptr_array_new_with_free_func((GDestroyNotify)frame_free);
  return worker;
}

void fake_worker_free(ChoirWorker *worker) {
  g_ptr_array_unref(worker->frames);
  g_free(worker);
}

void fake_worker_set_ready(ChoirWorker *worker, gboolean ready) {
  worker->ready = ready;
}

void fake_worker_refuse(ChoirWorker *worker, gboolean refuse) {
  worker->refuse = refuse;
}

const FakeFrame *fake_worker_last(const ChoirWorker *worker, guint16 type, guint back) {
  for (guint i = worker->frames->len; i > 0; i--) {
    const FakeFrame *frame = worker->frames->pdata[i - 1];
    if (frame->type == type && back-- == 0)
      return frame;
  }
  return NULL;
}

guint fake_worker_count(const ChoirWorker *worker, guint16 type) {
  guint n = 0;
  for (guint i = 0; i < worker->frames->len; i++)
    n += ((const FakeFrame *)worker->frames->pdata[i])->type == type;
  return n;
}

gboolean choir_worker_ready(const ChoirWorker *worker) {
  return worker->ready;
}

gboolean choir_worker_send(ChoirWorker *worker, guint16 type, guint16 flags, guint32 session, guint32 gen, guint32 aux,
                           const void *payload, gsize length) {
  if (!worker->ready || worker->refuse)
    return FALSE;
  FakeFrame *frame = g_new(FakeFrame, 1);
  *frame = (FakeFrame){type, flags, session, gen, aux, g_bytes_new(payload, length)};
  g_ptr_array_add(worker->frames, frame);
  return TRUE;
}

ChoirChild *choir_worker_child(ChoirWorker *worker) {
  return NULL;
}

G_DEFINE_QUARK(choir - twin - error - quark, choir_twin_error)

static void turn_free(ChoirTurn *turn) {
  g_string_free(turn->reply, TRUE);
  g_free(turn->text);
  g_free(turn->source);
  g_free(turn);
}

ChoirTwin *fake_twin_new(void) {
  ChoirTwin *twin = g_new0(ChoirTwin, 1);
  twin->turns = g_ptr_array_new_with_free_func((GDestroyNotify)turn_free);
  return twin;
}

void fake_twin_free(ChoirTwin *twin) {
  /* what a twin may rely on: each spoken turn was settled, once */
  for (guint i = 0; i < twin->turns->len; i++) {
    ChoirTurn *turn = twin->turns->pdata[i];
    g_assert_cmpint(turn->heard + turn->discarded, ==, turn->spoken);
    if (!turn->done)
      fake_turn_done(turn, NULL);
  }
  g_ptr_array_unref(twin->turns);
  g_free(twin->prefilled);
  g_free(twin);
}

ChoirTurn *fake_twin_last(ChoirTwin *twin) {
  g_assert_cmpuint(twin->turns->len, >, 0);
  return twin->turns->pdata[twin->turns->len - 1];
}

void fake_turn_say(ChoirTurn *turn, const char *clause) {
  gsize begin = turn->reply->len;
  g_string_append(turn->reply, clause);
  turn->handlers.delta(turn, clause, turn->user);
  turn->handlers.clause(turn, clause, begin, turn->reply->len, turn->user);
}

void fake_turn_done(ChoirTurn *turn, GError *error) {
  g_assert_false(turn->done);
  turn->done = TRUE;
  if (error == NULL && turn->cancelled)
    error = g_error_new_literal(CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_CANCELLED, "cancelled");
  turn->handlers.done(turn, turn->reply->str, error, turn->user);
  g_clear_error(&error);
}

ChoirTurn *choir_twin_begin(ChoirTwin *twin, const ChoirTurnRequest *request, const ChoirTurnHandlers *handlers,
                            gpointer user, GError **error) {
  if (twin->refuse) {
    g_set_error_literal(error, CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_BUSY, "sixteen turns are waiting");
    return NULL;
  }
  ChoirTurn *turn = g_new0(ChoirTurn, 1);
  *turn = (ChoirTurn){.twin = twin,
                      .handlers = *handlers,
                      .user = user,
                      .text = g_strdup(request->text),
                      .source = g_strdup(request->source),
                      .spoken = request->spoken,
                      .speculative = request->speculative,
                      .speech_end_us = request->speech_end_us,
                      .transcript_us = request->transcript_us,
                      .reply = g_string_new(NULL)};
  g_ptr_array_add(twin->turns, turn);
  return turn;
}

void choir_turn_cancel(ChoirTurn *turn) {
  g_assert_false(turn->done);
  g_assert_false(turn->cancelled);
  turn->cancelled = TRUE;
}

void choir_turn_heard(ChoirTurn *turn, gsize heard_bytes, gboolean cut) {
  g_assert_true(turn->spoken);
  g_assert_true(turn->confirmed || !turn->speculative);
  g_assert_false(turn->heard);
  g_assert_cmpuint(heard_bytes, <=, turn->reply->len);
  turn->heard = TRUE;
  turn->heard_bytes = heard_bytes;
  turn->heard_cut = cut;
}

const ChoirChatTimings *choir_turn_timings(const ChoirTurn *turn) {
  static const ChoirChatTimings timings = {.prompt_tokens = 12, .cached_tokens = 4, .reply_tokens = 3};
  return &timings;
}

gboolean choir_turn_limited(const ChoirTurn *turn) {
  return turn->limited;
}

void choir_turn_confirm(ChoirTurn *turn) {
  g_assert_true(turn->speculative);
  g_assert_false(turn->confirmed || turn->heard || turn->discarded);
  turn->confirmed = TRUE;
}

void choir_twin_prefill(ChoirTwin *twin, const char *text) {
  g_free(twin->prefilled);
  twin->prefilled = g_strdup(text);
}

void choir_turn_discard(ChoirTurn *turn) {
  g_assert_true(turn->spoken);
  g_assert_false(turn->heard || turn->discarded);
  turn->discarded = TRUE;
}

void choir_turn_first_audio(ChoirTurn *turn, gint64 at_us) {
  g_assert_cmpint(turn->first_audio_us, ==, 0);
  turn->first_audio_us = at_us;
}
