#include "world.h"
#include <string.h>
#include <unistd.h>

#define CLAUSE_BYTES 20
#define TICK_MS 20
#define MIC_MS (CHOIR_RATE_MIC / 1000)
#define OUT_MS (CHOIR_RATE_OUT / 1000)

static const char *const names[] = {
    [SESSION_FX_SPEECH_STARTED] = "started",
    [SESSION_FX_SPEECH_STOPPED] = "stopped",
    [SESSION_FX_COMMITTED] = "committed",
    [SESSION_FX_TYPED] = "typed",
    [SESSION_FX_TRANSCRIPT] = "transcript",
    [SESSION_FX_TRANSCRIPT_FAILED] = "transcript-failed",
    [SESSION_FX_RESPONSE_STARTED] = "response",
    [SESSION_FX_RESPONSE_DONE] = "done",
    [SESSION_FX_TRUNCATED] = "truncated",
    [SESSION_FX_PLAYOUT_DONE] = "playout",
    [SESSION_FX_STATUS] = "status",
    [SESSION_FX_ERROR] = "error",
    [SESSION_FX_STT_JOB] = "stt",
    [SESSION_FX_STT_CANCEL] = "stt-cancel",
    [SESSION_FX_TWIN_BEGIN] = "begin",
    [SESSION_FX_TWIN_CANCEL] = "twin-cancel",
    [SESSION_FX_TWIN_HEARD] = "heard",
    [SESSION_FX_TWIN_DISCARD] = "discard",
    [SESSION_FX_TWIN_CONFIRM] = "confirm",
    [SESSION_FX_TWIN_GONE] = "gone",
    [SESSION_FX_CANNED] = "canned",
    [SESSION_FX_IDLE] = "idle",
    [SESSION_FX_PREFILL] = "prefill",
    [SESSION_FX_PAUSED] = "paused",
    [SESSION_FX_RESUMED] = "resumed",
    [SESSION_FX_FILLER] = "filler",
    [SESSION_FX_TTS_CANCEL] = "tts-cancel",
};

SessionOptions world_options(void) {
  return (SessionOptions){.server_vad = TRUE,
                          .interrupt = TRUE,
                          .create_response = TRUE,
                          .audio_out = TRUE,
                          .threshold = 0.5,
                          .silence_ms = 600,
                          .prefix_ms = 300};
}

World *world_new(const SessionOptions *options) {
  World *w = g_new0(World, 1);
  w->log = g_string_new(" ");
  w->stt_ms = 300;
  w->twin_first_ms = 200;
  w->twin_clause_ms = 100;
  w->tts_ms = 100;
  w->clause_ms = 1000;
  w->clauses = 4;
  w->understood = TRUE;
  session_init(&w->s, options, 0);
  for (guint i = 0; i < SESSION_WORKERS; i++)
    world_worker(w, i, TRUE);
  return w;
}

void world_free(World *w) {
  g_string_free(w->log, TRUE);
  g_free(w);
}

static void schedule(World *w, int engine, guint ms, SessionEvent event) {
  g_assert_cmpuint(w->jobs, <, WORLD_JOBS);
  w->job[w->jobs++] = (WorldJob){.due = w->now + (guint64)ms * MIC_MS, .event = event, .engine = engine};
}

static void cancel(World *w, int engine, guint32 gen) {
  for (guint i = 0; i < w->jobs; i++)
    if ((int)w->job[i].engine == engine && w->job[i].event.gen <= gen)
      w->job[i].cancelled = TRUE;
}

static void fake_twin(World *w, const SessionEffect *fx) {
  if (w->twin_refuses && fx->type == SESSION_FX_TWIN_BEGIN) {
    schedule(w, WORLD_TWIN, 0, (SessionEvent){.type = SESSION_EV_TWIN_REFUSED, .gen = fx->gen});
    return;
  }
  guint at = w->twin_first_ms;
  for (guint i = 0; i < w->clauses; i++, at += w->twin_clause_ms) {
    schedule(w, WORLD_TWIN, at, (SessionEvent){.type = SESSION_EV_TWIN_DELTA, .gen = fx->gen, .end = CLAUSE_BYTES});
    /* four words of five bytes */
    static const LedgerWord words[] = {{0, 4, 4}, {5, 9, 4}, {10, 14, 4}, {15, 19, 4}};
    schedule(w, WORLD_TWIN, at,
             (SessionEvent){.type = SESSION_EV_TWIN_CLAUSE,
                            .gen = fx->gen,
                            .begin = i * CLAUSE_BYTES,
                            .end = (i + 1) * CLAUSE_BYTES,
                            .text_length = CLAUSE_BYTES,
                            .words = words,
                            .n_words = G_N_ELEMENTS(words)});
  }
  schedule(
      w, WORLD_TWIN, at,
      (SessionEvent){
          .type = SESSION_EV_TWIN_DONE, .gen = fx->gen, .outcome = w->twin_outcome, .end = w->clauses * CLAUSE_BYTES});
}

static void fake_tts(World *w, const SessionEffect *fx) {
  static const LedgerWord words[] = {{0, 4, 3}, {5, 9, 3}, {10, 14, 3}, {15, 19, 3}};
  for (guint i = 1; i <= 10 && w->voice_ms > 0; i++)
    schedule(w, WORLD_TTS, w->voice_ms * i / 10,
             (SessionEvent){.type = SESSION_EV_TTS_PCM,
                            .gen = fx->gen,
                            .index = fx->index,
                            .samples = (guint64)w->clause_ms * OUT_MS / 10});
  if (w->voice_ms > 0) {
    schedule(w, WORLD_TTS, w->voice_ms,
             (SessionEvent){.type = SESSION_EV_TTS_DONE,
                            .gen = fx->gen,
                            .index = fx->index,
                            .words = words,
                            .n_words = G_N_ELEMENTS(words)});
    return;
  }
  SessionEvent pcm = {
      .type = SESSION_EV_TTS_PCM, .gen = fx->gen, .index = fx->index, .samples = (guint64)w->clause_ms * OUT_MS / 2};
  schedule(w, WORLD_TTS, w->tts_ms, pcm);
  schedule(w, WORLD_TTS, w->tts_ms + w->tts_ms / 2, pcm);
  schedule(w, WORLD_TTS, w->tts_ms + w->tts_ms / 2,
           (SessionEvent){.type = SESSION_EV_TTS_DONE,
                          .gen = fx->gen,
                          .index = fx->index,
                          .words = words,
                          .n_words = G_N_ELEMENTS(words)});
}

static void begin_reply(World *w, const SessionEffect *fx) {
  g_assert_false(w->heard_owed);
  w->reply_gen = fx->gen;
  w->reply_item = fx->item;
  w->generated = 0;
  w->cut = w->paused = FALSE;
  w->store = w->sent = w->filler_samples = 0;
  w->shapes = 0;
}

static void check_reply(World *w, const SessionEffect *fx) {
  switch (fx->type) {
  case SESSION_FX_RESPONSE_STARTED:
    g_assert_cmpuint(w->active_response, ==, 0);
    g_assert_cmpuint(fx->response, >, w->last_response);
    g_assert_false(w->guess);
    w->active_response = w->last_response = fx->response;
    if (fx->gen != w->reply_gen)
      begin_reply(w, fx);
    g_assert_cmpuint(fx->item, ==, w->reply_item);
    w->responses++;
    break;
  case SESSION_FX_TEXT_DELTA:
    g_assert_cmpuint(fx->response, ==, w->active_response);
    w->generated += fx->bytes;
    break;
  case SESSION_FX_PAUSED:
    g_assert_false(w->paused);
    g_assert_cmpuint(w->sent, >, 0);
    g_assert_cmpuint(fx->item, ==, w->reply_item);
    w->paused = TRUE;
    w->pauses++;
    w->paused_at = w->now;
    break;
  case SESSION_FX_RESUMED:
    g_assert_true(w->paused);
    g_assert_cmpuint(fx->samples, <=, w->sent);
    w->paused = FALSE;
    w->resumes++;
    break;
  case SESSION_FX_VISEMES:
    g_assert_cmpuint(fx->index, >=, w->shapes);
    w->shapes = fx->index + 1;
    w->late_shapes += fx->position < w->sent; /* a voice that reports them long after the sound */
    break;
  case SESSION_FX_FILLER:
    g_assert_cmpuint(fx->index, <, SESSION_FILLERS);
    g_assert_cmpuint(w->store, ==, 0);
    w->store += fx->samples;
    w->filler_samples = fx->samples;
    w->fillers++;
    break;
  case SESSION_FX_STORE_PCM:
    g_assert_false(w->cut);
    w->store += fx->samples;
    g_assert_cmpuint(w->store, <=, SESSION_STORE_MS * OUT_MS);
    break;
  case SESSION_FX_DROP_PCM:
    w->store = 0;
    break;
  case SESSION_FX_SEND_AUDIO:
    g_assert_cmpuint(fx->item, ==, w->reply_item);
    g_assert_cmpuint(fx->response, ==, w->active_response);
    g_assert_cmpuint(fx->samples, <=, w->store);
    g_assert_false(w->paused);
    g_assert_false(w->guess);
    w->store -= fx->samples;
    w->sent += fx->samples;
    if (w->play_item != fx->item) {
      w->play_item = fx->item;
      w->play_sent = w->played = 0;
      memset(w->arrived, 0, sizeof w->arrived);
    }
    w->play_sent += fx->samples;
    /* never further ahead of the listener than the lead, at the moment of sending */
    g_assert_cmpuint(w->s.pacer.sent, <=, pacer_heard(&w->s.pacer) + w->s.pacer.lead_ms * OUT_MS);
    w->last_audio_at = w->now;
    break;
  case SESSION_FX_RESPONSE_DONE:
    g_assert_cmpuint(fx->response, ==, w->active_response);
    g_assert_cmpuint(w->active_response, !=, 0);
    if (fx->code == SESSION_COMPLETED)
      g_assert_cmpuint(w->store, ==, 0);
    w->active_response = 0;
    w->paused = FALSE;
    w->dones++;
    break;
  case SESSION_FX_TRUNCATED:
    w->truncated++;
    w->truncated_samples = fx->samples;
    if (fx->item == w->reply_item) {
      g_assert_cmpuint(fx->samples, <=, w->sent);
      w->cut = TRUE;
      w->paused = FALSE;
    }
    break;
  case SESSION_FX_PLAYOUT_DONE:
    g_assert_cmpuint(w->active_response, ==, 0);
    g_assert_false(w->cut);
    w->playouts++;
    break;
  default:
    break;
  }
}

static void check_twin(World *w, const SessionEffect *fx) {
  switch (fx->type) {
  case SESSION_FX_TWIN_BEGIN:
  case SESSION_FX_CANNED:
    if (fx->gen != w->reply_gen)
      begin_reply(w, fx); /* it is held: the client knows nothing of it */
    w->guess = fx->type == SESSION_FX_TWIN_BEGIN && fx->code == 1;
    w->reply_spoken = fx->flag;
    w->heard_owed = fx->flag && (!w->twin_refuses || fx->type == SESSION_FX_CANNED);
    w->begins++;
    w->guesses += w->guess;
    w->canned += fx->type == SESSION_FX_CANNED;
    w->begins_spoken += w->heard_owed;
    fake_twin(w, fx);
    break;
  case SESSION_FX_TWIN_CONFIRM:
    g_assert_cmpuint(fx->gen, ==, w->reply_gen);
    g_assert_true(w->guess);
    w->guess = FALSE;
    break;
  case SESSION_FX_TWIN_GONE:
    g_assert_true(w->guess);
    w->guess = FALSE;
    break;
  case SESSION_FX_TWIN_CANCEL:
    g_assert_cmpuint(fx->gen, ==, w->reply_gen);
    cancel(w, WORLD_TWIN, fx->gen);
    schedule(w, WORLD_TWIN, 0,
             (SessionEvent){.type = SESSION_EV_TWIN_DONE, .gen = fx->gen, .outcome = SESSION_CANCELLED});
    break;
  case SESSION_FX_TWIN_HEARD:
    g_assert_true(w->heard_owed);
    g_assert_false(w->guess);
    g_assert_cmpuint(fx->gen, ==, w->reply_gen);
    g_assert_cmpuint(fx->bytes, <=, w->generated);
    w->heard_owed = FALSE;
    w->heard_bytes = fx->bytes;
    w->heard_cut = fx->flag;
    w->heards++;
    break;
  case SESSION_FX_TWIN_DISCARD:
    g_assert_true(w->heard_owed);
    g_assert_cmpuint(fx->gen, ==, w->reply_gen);
    g_assert_cmpuint(w->sent, <=, w->filler_samples); /* nothing of it was heard */
    g_assert_true(fx->flag == !w->guess);
    w->heard_owed = w->guess = FALSE;
    w->discards++;
    break;
  case SESSION_FX_TTS_JOB:
    g_assert_cmpuint(fx->gen, ==, w->reply_gen);
    /* back-pressure */
    g_assert_cmpuint(w->store, <=, SESSION_AHEAD_MS * OUT_MS);
    fake_tts(w, fx);
    break;
  case SESSION_FX_TTS_CANCEL:
    cancel(w, WORLD_TTS, fx->gen);
    break;
  case SESSION_FX_STT_JOB:
    g_assert_cmpuint(fx->position, <, fx->end);
    g_assert_cmpuint(fx->end, <=, w->s.mic_end);
    /* the microphone's ring still holds it, or it was captured while it did */
    if (!w->item_captured[fx->item])
      g_assert_cmpuint(w->s.mic_end - fx->position, <=, 62 * CHOIR_RATE_MIC);
    w->job_start = fx->position;
    w->job_end = fx->end;
    schedule(w, WORLD_STT, w->stt_ms,
             (SessionEvent){.type = SESSION_EV_STT_TEXT,
                            .gen = fx->gen,
                            .flag = w->understood,
                            .said = w->said,
                            .ending = w->ending,
                            .echo = w->echo_text,
                            .foreign = w->foreign});
    break;
  case SESSION_FX_TURN_JOB:
    g_assert_cmpuint(fx->position, <, fx->end);
    g_assert_cmpuint(fx->end, <=, w->s.mic_end);
    w->judged++;
    if (w->judge_ms > 0)
      schedule(w, WORLD_EAR, w->judge_ms,
               (SessionEvent){.type = SESSION_EV_VERDICT, .gen = fx->gen, .probability = w->verdict});
    break;
  case SESSION_FX_SPOT:
    g_assert_cmpuint(fx->bytes, !=, w->spots);
    w->spots = fx->bytes;
    break;
  case SESSION_FX_CAPTURE:
    g_assert_cmpuint(w->s.mic_end - fx->position, <=, 62 * CHOIR_RATE_MIC);
    w->item_captured[fx->item] = 1;
    break;
  case SESSION_FX_STT_CANCEL:
    cancel(w, WORLD_STT, fx->gen);
    break;
  default:
    break;
  }
}

static void check_items(World *w, const SessionEffect *fx) {
  switch (fx->type) {
  case SESSION_FX_COMMITTED:
    g_assert_cmpuint(fx->item, <, WORLD_ITEMS);
    g_assert_cmpuint(w->item_state[fx->item], ==, 0);
    w->item_state[fx->item] = 1;
    w->last_committed = fx->item;
    w->committed++;
    break;
  case SESSION_FX_TRANSCRIPT:
  case SESSION_FX_TRANSCRIPT_FAILED:
    g_assert_cmpuint(w->item_state[fx->item], ==, 1);
    w->item_state[fx->item] = 2;
    w->transcripts += fx->type == SESSION_FX_TRANSCRIPT;
    w->failed_transcripts += fx->type == SESSION_FX_TRANSCRIPT_FAILED;
    break;
  case SESSION_FX_SPEECH_STOPPED:
    w->stopped_at = w->now;
    break;
  case SESSION_FX_STATE:
    g_assert_cmpint((int)w->shown, !=, fx->code);
    w->shown = (SessionShown)fx->code;
    break;
  case SESSION_FX_ERROR:
    w->errors++;
    w->last_error = fx->code;
    break;
  default:
    break;
  }
}

static void check_state(const World *w) {
  const SessionState *s = &w->s;
  g_assert_cmpuint(s->lost_effects, ==, 0);
  g_assert_cmpuint(s->turns, <=, SESSION_TURNS);
  g_assert_cmpuint(s->unanswered, <=, SESSION_UNANSWERED);
  g_assert_cmpuint(s->pacer.acked, <=, s->pacer.sent);
  g_assert_cmpuint(s->pacer.played, <=, s->pacer.sent);
  g_assert_cmpuint(s->pacer.lead_ms, <=, CHOIR_LEAD_MAX_MS);
  g_assert_cmpuint(s->pacer.lead_ms, >=, CHOIR_LEAD_MS);
  g_assert_cmpuint(s->reply.next_clause, <=, s->ledger.clauses);
  gboolean held = s->reply.phase != REPLY_NONE && s->reply.held;
  if (held) {
    g_assert_true(s->reply.spoken || w->twin_refuses);
    g_assert_cmpuint(s->pacer.sent, ==, 0);
    g_assert_cmpuint(w->active_response, ==, 0);
  }
  /* a guess lives as long as the transcript it was made on */
  if (held && !s->reply.confirmed)
    g_assert_true(s->utterance.active && !s->utterance.tentative && s->stt.phase == STT_KEPT && s->stt.speculative);
  g_assert_cmpint(w->guess, ==, held && !s->reply.confirmed);
  /* a reply is paused only while somebody may be interrupting it */
  if (s->reply.phase != REPLY_NONE && s->reply.paused) {
    g_assert_true(s->utterance.active && s->utterance.tentative);
    g_assert_cmpuint(s->now - s->reply.paused_at, <=, (SESSION_DECIDE_MS + 100) * MIC_MS + s->now - w->before);
  }
  g_assert_cmpint(w->paused, ==, s->reply.phase != REPLY_NONE && s->reply.paused);
  if (s->reply.phase != REPLY_NONE) {
    g_assert_cmpuint(s->pacer.sent, <=, s->reply.stored);
    g_assert_cmpuint(s->ledger.total, ==, s->reply.stored);
    g_assert_cmpuint(s->pacer.sent, ==, w->sent);
    g_assert_cmpuint(s->reply.stored - s->pacer.sent, ==, w->store);
  }
}

void world_event(World *w, SessionEvent event) {
  SessionEffect effects[SESSION_MAX_EFFECTS];
  event.now = w->now;
  w->before = w->s.now;
  if (event.type == SESSION_EV_WORKER && event.worker == SESSION_EAR)
    w->spots = 0; /* the new one has not been told */
  guint n = session_step(&w->s, &event, effects, G_N_ELEMENTS(effects));
  w->steps++;
  for (guint i = 0; i < n; i++) {
    const SessionEffect *fx = &effects[i];
    if ((gsize)fx->type < G_N_ELEMENTS(names) && names[fx->type] != NULL)
      g_string_append_printf(w->log, "%s ", names[fx->type]);
    if (fx->type == SESSION_FX_STORE_PCM)
      g_assert_cmpuint(event.gen, ==, w->reply_gen);
    check_reply(w, fx);
    check_twin(w, fx);
    check_items(w, fx);
  }
  check_state(w);
}

void world_simple(World *w, SessionEventType type) {
  world_event(w, (SessionEvent){.type = type});
}

void world_worker(World *w, SessionWorker worker, gboolean ready) {
  if (!ready)
    /* its jobs die with it */
    for (guint i = 0; i < w->jobs; i++)
      if ((worker == SESSION_STT && w->job[i].engine == WORLD_STT) ||
          (worker == SESSION_TTS && w->job[i].engine == WORLD_TTS))
        w->job[i].cancelled = TRUE;
  world_event(w, (SessionEvent){.type = SESSION_EV_WORKER, .worker = worker, .flag = ready});
}

void world_heard(World *w, SessionSpot kind) {
  world_event(w, (SessionEvent){.type = SESSION_EV_HEARD, .count = kind, .position = w->s.mic_end});
}

guint world_count(const World *w, const char *word) {
  g_autofree char *needle = g_strdup_printf(" %s ", word);
  guint n = 0;
  for (const char *at = w->log->str; (at = strstr(at, needle)) != NULL; at += strlen(needle) - 1)
    n++;
  return n;
}

void world_type(World *w) {
  world_event(w, (SessionEvent){.type = SESSION_EV_TEXT, .item = session_new_item(&w->s), .flag = TRUE});
}

static void deliver_due(World *w) {
  for (guint i = 0; i < w->jobs;) {
    if (w->job[i].due > w->now) {
      i++;
      continue;
    }
    WorldJob job = w->job[i];
    memmove(&w->job[i], &w->job[i + 1], (w->jobs - i - 1) * sizeof job);
    w->jobs--;
    if (!job.cancelled || w->deaf)
      world_event(w, job.event);
  }
}

/* The listener's player: what arrived latency_ms ago may sound; a gap in the middle of an item is an underrun. */
static void listen(World *w) {
  gsize slots = G_N_ELEMENTS(w->arrived), delay = MIN(w->latency_ms / TICK_MS, slots - 1);
  memmove(w->arrived + 1, w->arrived, (slots - 1) * sizeof w->arrived[0]);
  w->arrived[0] = w->play_sent;
  guint64 there = w->arrived[delay], want = TICK_MS * OUT_MS;
  if (w->play_item == 0 || w->cut || (w->paused && w->acks))
    return; /* a listener that acknowledges holds what it has */
  guint64 n = MIN(want, there - MIN(there, w->played));
  w->played += n;
  gboolean inside = w->played > 0 && w->played % ((guint64)w->clause_ms * OUT_MS) != 0;
  w->gaps_in_clause += n < want && w->gap == 0 && inside && w->active_response != 0;
  w->gap = n < want ? w->gap + 1 : 0;
  if (w->acks && n > 0)
    world_event(w, (SessionEvent){.type = SESSION_EV_ACK, .item = w->play_item, .samples = w->played});
}

static void tick(World *w) {
  w->now += TICK_MS * MIC_MS;
  if (w->mic) {
    world_event(w, (SessionEvent){.type = SESSION_EV_AUDIO, .samples = TICK_MS * MIC_MS});
    for (; w->window_done + CHOIR_VAD_WINDOW <= w->s.mic_end; w->window_done += CHOIR_VAD_WINDOW)
      if (w->s.ready[SESSION_EAR])
        world_event(w, (SessionEvent){.type = SESSION_EV_WINDOW,
                                      .position = w->window_done + CHOIR_VAD_WINDOW,
                                      .probability = w->speech ? 0.9 : 0.05,
                                      .echo = w->echo_sound});
  }
  deliver_due(w);
  listen(w);
  world_simple(w, SESSION_EV_TICK);
}

void world_run(World *w, guint ms) {
  for (guint i = 0; i < ms / TICK_MS; i++)
    tick(w);
}

void world_say(World *w, guint ms) {
  w->mic = w->speech = TRUE;
  world_run(w, ms);
  w->speech = FALSE;
}

void world_until(World *w, SessionShown shown, guint limit_ms) {
  for (guint ms = 0; w->shown != shown; ms += TICK_MS) {
    if (ms >= limit_ms)
      g_error("the state is %s after %u ms, wanted %s; so far:%s", session_shown_name(w->shown), limit_ms,
              session_shown_name(shown), w->log->str);
    tick(w);
  }
}

gboolean world_said(const World *w, const char *words) {
  g_autofree char *needle = g_strdup_printf(" %s ", words);
  if (strstr(w->log->str, needle) != NULL)
    return TRUE;
  g_test_message("log:%s", w->log->str);
  return FALSE;
}

int world_test(int argc, char **argv, const char *folder, guint seconds, const WorldTest *tests, gsize n) {
  g_test_init(&argc, &argv, NULL);
  alarm(seconds);
  for (gsize i = 0; i < n; i++) {
    g_autofree char *path = g_strdup_printf("%s/%s", folder, tests[i].name);
    g_test_add_func(path, tests[i].run);
  }
  return g_test_run();
}
