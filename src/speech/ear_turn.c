#include "speech/ear_turn.h"
#include "speech/ort.h"
#include "speech/turn_mel.h"
#include "audio/resample.h"
#include <math.h>
#include <sched.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct {
  ChoirWireFrame about; /* without payload */
  gint16 *samples;
  gsize n;
} Question;

struct ChoirEarTurn {
  GThread *thread;
  GMutex mutex; /* guards all below it */
  GCond filled;
  GQueue waiting; /* Question, one a session */
  Question *at_work;
  gboolean dropped; /* the one at work was replaced or forgotten */
  gboolean stopping, broken;
  OrtRunOptions *running;
  /* of the thread */
  ChoirOrt *ort;
  OrtSession *session;
  char *library, *model;
  ChoirEarTurnReady ready;
  ChoirEarTurnVerdict verdict;
  gpointer user;
};

static void question_free(gpointer data) {
  Question *question = data;
  g_free(question->samples);
  g_free(question);
}

/* Mutex held. */
static void interrupt(ChoirEarTurn *turn) {
  turn->dropped = TRUE;
  if (turn->running)
    turn->ort->api->ReleaseStatus(turn->ort->api->RunOptionsSetTerminate(turn->running));
}

/* Mutex held. */
static void forget(ChoirEarTurn *turn, guint32 session) {
  for (GList *link = turn->waiting.head; link; link = link->next) {
    Question *question = link->data;
    if (question->about.session != session)
      continue;
    question_free(question);
    g_queue_delete_link(&turn->waiting, link);
    break;
  }
  if (turn->at_work && turn->at_work->about.session == session)
    interrupt(turn);
}

static gboolean begin_run(ChoirEarTurn *turn, OrtRunOptions *options) {
  g_mutex_lock(&turn->mutex);
  turn->running = options;
  gboolean go = !turn->dropped;
  g_mutex_unlock(&turn->mutex);
  return go;
}

static void end_run(ChoirEarTurn *turn, OrtRunOptions *options) {
  g_mutex_lock(&turn->mutex);
  turn->running = NULL;
  g_mutex_unlock(&turn->mutex);
  turn->ort->api->ReleaseRunOptions(options);
}

static gboolean judge(ChoirEarTurn *turn, const gint16 *samples, gsize n, float *ret_probability, GError **error) {
  static const char *const input_names[] = {"input_features"}, *const output_names[] = {"logits"};
  static const gint64 shape[] = {1, CHOIR_TURN_MELS, CHOIR_TURN_FRAMES};
  const OrtApi *api = turn->ort->api;
  g_autofree float *mel = g_new(float, (gsize)CHOIR_TURN_MELS *CHOIR_TURN_FRAMES);
  choir_turn_mel(samples, n, mel);
  OrtValue *input = choir_ort_floats(turn->ort, mel, shape, 3, error), *output = NULL;
  OrtRunOptions *options = NULL;
  gboolean ok = input && choir_ort_ok(turn->ort, api->CreateRunOptions(&options), error);
  if (ok) {
    ok =
        begin_run(turn, options) && choir_ort_ok(turn->ort,
                                                 api->Run(turn->session, options, input_names,
                                                          (const OrtValue *const *)&input, 1, output_names, 1, &output),
                                                 error);
    end_run(turn, options);
  }
  gsize count = 0;
  const float *value = ok ? choir_ort_data(turn->ort, output, &count, error) : NULL;
  if (value && count > 0 && isfinite(value[0]))
    *ret_probability = CLAMP(value[0], 0.0f, 1.0f);
  else
    ok = FALSE;
  if (input)
    api->ReleaseValue(input);
  if (output)
    api->ReleaseValue(output);
  return ok;
}

static double thread_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* With one verdict over silence: it proves that the model fits, and says what a verdict costs here. */
static gboolean open_model(ChoirEarTurn *turn, double *ret_cost, GError **error) {
  turn->ort = choir_ort_open(turn->library, error);
  if (turn->ort)
    turn->session = choir_ort_session(turn->ort, turn->model, 1, TRUE, error);
  if (!turn->session)
    return FALSE;
  g_autofree gint16 *hum = g_new0(gint16, CHOIR_TURN_SAMPLES);
  for (guint i = 0; i < CHOIR_TURN_SAMPLES; i++)
    hum[i] = (gint16)(i % 160 < 80 ? 300 : -300);
  float probability = 0;
  double start = thread_ms();
  gboolean ok = judge(turn, hum, CHOIR_TURN_SAMPLES, &probability, error);
  if (!ok && error && !*error)
    g_set_error(error, CHOIR_SPEECH_ERROR, 0, "%s is not smart-turn v3", turn->model);
  *ret_cost = thread_ms() - start;
  return ok;
}

/* FALSE when the thread shall end. */
static gboolean serve_one(ChoirEarTurn *turn) {
  g_mutex_lock(&turn->mutex);
  while (turn->waiting.length == 0 && !turn->stopping)
    g_cond_wait(&turn->filled, &turn->mutex);
  Question *question = turn->stopping ? NULL : g_queue_pop_head(&turn->waiting);
  turn->at_work = question;
  turn->dropped = FALSE;
  g_mutex_unlock(&turn->mutex);
  if (!question)
    return FALSE;
  float probability = 0;
  gboolean ok = judge(turn, question->samples, question->n, &probability, NULL);
  g_mutex_lock(&turn->mutex);
  turn->at_work = NULL;
  ok = ok && !turn->dropped;
  g_mutex_unlock(&turn->mutex);
  if (ok)
    turn->verdict(&question->about, probability, turn->user);
  question_free(question);
  return TRUE;
}

static gpointer turn_thread(gpointer data) {
  ChoirEarTurn *turn = data;
  g_autoptr(GError) error = NULL;
  double cost = -1;
  /* Of this thread only. A niced one keeps its core for some milliseconds when a thread of the recogniser wakes up,
   * which happens hundreds of times in an utterance; an idle one gives it up at once. */
  const struct sched_param none = {0};
  (void)sched_setscheduler(gettid(), SCHED_IDLE, &none);
  gboolean ok = open_model(turn, &cost, &error);
  g_mutex_lock(&turn->mutex);
  turn->broken = !ok;
  gboolean stopping = turn->stopping;
  if (turn->broken)
    g_queue_clear_full(&turn->waiting, question_free);
  g_mutex_unlock(&turn->mutex);
  if (!stopping)
    turn->ready(ok ? cost : -1, error ? error->message : NULL, turn->user);
  while (ok && serve_one(turn))
    ;
  return NULL;
}

ChoirEarTurn *choir_ear_turn_new(const char *library, const char *model, ChoirEarTurnReady ready,
                                 ChoirEarTurnVerdict verdict, gpointer user) {
  ChoirEarTurn *turn = g_new0(ChoirEarTurn, 1);
  g_mutex_init(&turn->mutex);
  g_cond_init(&turn->filled);
  g_queue_init(&turn->waiting);
  turn->library = g_strdup(library);
  turn->model = g_strdup(model);
  turn->ready = ready;
  turn->verdict = verdict;
  turn->user = user;
  turn->thread = g_thread_new("turn", turn_thread, turn);
  return turn;
}

void choir_ear_turn_free(ChoirEarTurn *turn) {
  if (!turn)
    return;
  g_mutex_lock(&turn->mutex);
  turn->stopping = TRUE;
  interrupt(turn);
  g_cond_signal(&turn->filled);
  g_mutex_unlock(&turn->mutex);
  g_thread_join(turn->thread);
  g_queue_clear_full(&turn->waiting, question_free);
  if (turn->session)
    turn->ort->api->ReleaseSession(turn->session);
  choir_ort_close(turn->ort);
  g_mutex_clear(&turn->mutex);
  g_cond_clear(&turn->filled);
  g_free(turn->library);
  g_free(turn->model);
  g_free(turn);
}

gboolean choir_ear_turn_ask(ChoirEarTurn *turn, const ChoirWireFrame *frame) {
  gsize n = MIN(frame->length / 2, CHOIR_TURN_SAMPLES);
  g_mutex_lock(&turn->mutex);
  forget(turn, frame->session);
  gboolean fits = turn->waiting.length < CHOIR_EAR_TURN_WAITING;
  if (fits && !turn->broken) {
    Question *question = g_new0(Question, 1);
    question->about = (ChoirWireFrame){.session = frame->session, .gen = frame->gen, .aux = frame->aux};
    question->n = n;
    question->samples = g_new(gint16, MAX(n, 1));
    const guint8 *end = frame->payload + frame->length / 2 * 2 - n * 2; /* the last 8 s of what was sent */
    for (gsize i = 0; i < n; i++)
      question->samples[i] = (gint16)(end[2 * i] | end[2 * i + 1] << 8);
    g_queue_push_tail(&turn->waiting, question);
    g_cond_signal(&turn->filled);
  }
  g_mutex_unlock(&turn->mutex);
  return fits;
}

void choir_ear_turn_forget(ChoirEarTurn *turn, guint32 session) {
  g_mutex_lock(&turn->mutex);
  forget(turn, session);
  g_mutex_unlock(&turn->mutex);
}
