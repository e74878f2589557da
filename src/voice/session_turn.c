#include "voice/session_private.h"

gboolean session_stt_cancel(SessionStep *step) {
  SessionStt *stt = &step->s->stt;
  gboolean was_running = stt->phase == STT_RUNNING;
  if (was_running)
    session_emit(step, &(SessionEffect){.type = SESSION_FX_STT_CANCEL, .gen = stt->gen});
  stt->phase = STT_IDLE;
  /* A reply that was begun on it goes with it. */
  if (step->s->reply.phase != REPLY_NONE && step->s->reply.held && !step->s->reply.confirmed) {
    step->s->wrong_guesses++;
    (void)session_reply_drop(step);
  }
  return was_running;
}

void session_stt_start(SessionStep *step, guint32 item, guint64 start, guint64 end, gboolean speculative) {
  SessionState *s = step->s;
  (void)session_stt_cancel(step); /* what was said so far is in the new one, too */
  s->stt = (SessionStt){.phase = STT_RUNNING,
                        .gen = ++s->gens,
                        .speculative = speculative,
                        .asked_at = s->now,
                        .deadline = s->now + session_mic_samples(SESSION_STT_DEADLINE_MS)};
  s->heard_to = end;
  session_emit(step, &(SessionEffect){.type = SESSION_FX_STT_JOB,
                                      .gen = s->stt.gen,
                                      .item = item,
                                      .position = start,
                                      .end = end,
                                      .flag = speculative});
}

void session_stt_along(SessionStep *step) {
  SessionState *s = step->s;
  const SessionUtterance *u = &s->utterance;
  const SessionOptions *o = &s->options;
  if (!o->speculate || !o->create_response || u->tentative || s->turns > 0 || s->stt.phase != STT_IDLE ||
      s->reply.phase != REPLY_NONE || !s->ready[SESSION_STT])
    return;
  /* A slow recogniser is not kept busy with it. */
  guint64 enough = MAX(session_mic_samples(SESSION_ALONG_MS), 3 * s->stt_took);
  if (s->window_end - MAX(u->start, s->heard_to) < enough)
    return;
  session_stt_start(step, u->item, u->start, s->window_end, TRUE);
  s->stt.partial = s->stt.along = TRUE;
}

/* The oldest turn is done with, in whatever way. */
static void pop_turn(SessionState *s) {
  for (guint i = 1; i < s->turns; i++)
    s->turn[i - 1] = s->turn[i];
  s->turns--;
  s->told_full = FALSE;
}

static void fail_turn(SessionStep *step, SessionError code) {
  session_emit(
      step, &(SessionEffect){.type = SESSION_FX_TRANSCRIPT_FAILED, .item = step->s->turn[0].item, .code = (int)code});
  pop_turn(step->s);
}

/* Does this transcript ask for an answer? What repeats the reply that was being played is its echo; a "stop" over a
 * reply has already done what it asked for. */
static gboolean asks(const SessionStt *stt, gboolean over_reply) {
  if (!stt->understood || stt->foreign)
    return FALSE;
  return !over_reply || (!stt->echo && stt->said != TURN_SAID_STOP);
}

static void resolve_turn(SessionStep *step) {
  SessionState *s = step->s;
  SessionTurn turn = s->turn[0];
  gboolean joins = asks(&s->stt, turn.over_reply);
  s->stt.phase = STT_IDLE;
  s->echoes += s->stt.echo && turn.over_reply;
  session_emit(step,
               &(SessionEffect){.type = SESSION_FX_TRANSCRIPT, .item = turn.item, .gen = s->stt.gen, .flag = joins});
  pop_turn(s);
  if (!joins) {
    if (s->stt.understood && s->stt.foreign && turn.create && !(s->stt.echo && turn.over_reply))
      s->want_canned = SESSION_CANNED_LANGUAGE;
    return;
  }
  s->unanswered = MIN(s->unanswered + 1, (guint)SESSION_UNANSWERED);
  s->speech_end = MAX(turn.speech_end, (guint64)1);
  if (s->reply.phase != REPLY_NONE && s->reply.held && !s->reply.confirmed)
    session_reply_confirm(step);
  else
    s->want = s->want || turn.create;
}

static void next_transcription(SessionStep *step) {
  SessionState *s = step->s;
  while (s->turns > 0 && s->stt.phase == STT_IDLE) {
    if (!s->ready[SESSION_STT]) {
      fail_turn(step, SESSION_ERR_STT_MISSING);
      continue;
    }
    session_stt_start(step, s->turn[0].item, s->turn[0].start, s->turn[0].end, FALSE);
  }
}

void session_turn_commit(SessionStep *step, const SessionTurn *turn, guint32 item) {
  SessionState *s = step->s;
  SessionStt *stt = &s->stt;
  session_emit(step, &(SessionEffect){.type = SESSION_FX_COMMITTED, .item = item});
  s->uncommitted = turn->end;
  s->utterance = (SessionUtterance){0};
  s->turn[s->turns++] = *turn;
  if (stt->phase != STT_IDLE && stt->speculative && stt->partial)
    (void)session_stt_cancel(step);
  if (stt->phase != STT_IDLE && stt->speculative) {
    /* Speculation begins only while no turn waits, so it is this turn's. */
    stt->speculative = FALSE;
    if (stt->phase == STT_KEPT)
      resolve_turn(step);
    return;
  }
  if (stt->phase == STT_RUNNING)
    session_emit(step,
                 &(SessionEffect){.type = SESSION_FX_CAPTURE, .item = item, .position = turn->start, .end = turn->end});
  next_transcription(step);
}

gboolean session_turn_guess(SessionStep *step) {
  SessionState *s = step->s;
  const SessionUtterance *u = &s->utterance;
  const SessionOptions *o = &s->options;
  SessionStt *stt = &s->stt;
  if (!o->speculate || !o->server_vad || !o->create_response || !o->audio_out || !s->ready[SESSION_TTS] || !u->active ||
      u->tentative || stt->phase != STT_KEPT || !stt->speculative || stt->tried || s->turns > 0 ||
      s->reply.phase != REPLY_NONE || !asks(stt, u->over_reply))
    return FALSE;
  /* What is open, or what smart-turn holds for unfinished and is no sentence, is guessed at late: most such guesses are
   * wrong. */
  gboolean doubtful =
      stt->ending == TURN_ENDING_OPEN || (stt->ending != TURN_ENDING_COMPLETE && u->judged && u->verdict < 0.2);
  guint soft = doubtful ? MAX(o->silence_ms, (guint)SESSION_SOFT_MS) : SESSION_SOFT_MS;
  if (s->window_end - u->voiced_until < session_mic_samples(soft))
    return FALSE;
  stt->tried = TRUE;
  s->guesses++;
  s->speech_end = MAX(u->voiced_until, (guint64)1);
  session_reply_begin(step, REPLY_GUESSED);
  return TRUE;
}

void session_stt_text(SessionStep *step, const SessionEvent *event) {
  SessionState *s = step->s;
  SessionStt *stt = &s->stt;
  s->stt_took = s->now - stt->asked_at;
  stt->understood = event->flag;
  stt->echo = event->echo;
  stt->foreign = event->foreign;
  stt->said = event->said;
  stt->ending = event->ending;
  gboolean worth = event->flag && !event->echo && !event->foreign && s->options.create_response && s->options.speculate;
  if (stt->partial) {
    stt->phase = STT_IDLE;
    if (s->utterance.tentative)
      session_barge_text(step);
    if (worth && s->reply.phase == REPLY_NONE)
      session_emit(step, &(SessionEffect){.type = SESSION_FX_PREFILL, .gen = stt->gen, .flag = stt->along});
    return;
  }
  session_emit(step, &(SessionEffect){.type = SESSION_FX_KEEP_TEXT, .gen = stt->gen});
  stt->phase = STT_KEPT;
  if (!stt->speculative) {
    resolve_turn(step);
    next_transcription(step);
    return;
  }
  if (s->utterance.tentative)
    session_barge_text(step);
  if (stt->phase == STT_KEPT && !session_turn_guess(step) && worth && s->reply.phase == REPLY_NONE)
    session_emit(step, &(SessionEffect){.type = SESSION_FX_PREFILL, .gen = stt->gen});
}

void session_stt_failed(SessionStep *step, SessionError code) {
  SessionState *s = step->s;
  gboolean speculative = s->stt.speculative;
  if (code == SESSION_ERR_STT_TIMEOUT)
    (void)session_stt_cancel(step);
  s->stt.phase = STT_IDLE;
  if (speculative && s->utterance.tentative)
    session_barge_release(step);
  if (speculative)
    return; /* the end of the turn tries again */
  fail_turn(step, code);
  next_transcription(step);
}

void session_stt_lost(SessionStep *step) {
  SessionState *s = step->s;
  gboolean running = s->stt.phase == STT_RUNNING;
  if (running && s->turns > 0 && !s->stt.speculative)
    session_error(step, SESSION_ERR_STT_LOST);
  if (running)
    s->stt.phase = STT_IDLE;
  if (s->utterance.tentative)
    session_barge_release(step);
  while (s->turns > 0)
    fail_turn(step, SESSION_ERR_STT_LOST);
}

void session_stt_tick(SessionStep *step) {
  SessionState *s = step->s;
  if (s->stt.phase == STT_RUNNING && s->now >= s->stt.deadline)
    session_stt_failed(step, SESSION_ERR_STT_TIMEOUT);
}

void session_stt_hangup(SessionStep *step) {
  (void)session_stt_cancel(step);
  step->s->utterance = (SessionUtterance){0};
  step->s->turns = 0;
}
