#include "voice/session_private.h"

static guint64 silence_samples(const SessionState *s) {
  return session_mic_samples(s->options.silence_ms);
}

static gboolean stt_cancel(SessionStep *step) {
  SessionStt *stt = &step->s->stt;
  gboolean was_running = stt->phase == STT_RUNNING;
  if (was_running)
    session_emit(step, &(SessionEffect){.type = SESSION_FX_STT_CANCEL, .gen = stt->gen});
  stt->phase = STT_IDLE;
  return was_running;
}

static void stt_start(SessionStep *step, guint32 item, guint64 start, guint64 end, gboolean speculative) {
  SessionState *s = step->s;
  s->stt = (SessionStt){.phase = STT_RUNNING,
                        .gen = ++s->gens,
                        .speculative = speculative,
                        .deadline = s->now + session_mic_samples(SESSION_STT_DEADLINE_MS)};
  session_emit(step, &(SessionEffect){.type = SESSION_FX_STT_JOB,
                                      .gen = s->stt.gen,
                                      .item = item,
                                      .position = start,
                                      .end = end,
                                      .flag = speculative});
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

static void resolve_turn(SessionStep *step) {
  SessionState *s = step->s;
  SessionTurn turn = s->turn[0];
  gboolean understood = s->stt.understood;
  s->stt.phase = STT_IDLE;
  session_emit(
      step, &(SessionEffect){.type = SESSION_FX_TRANSCRIPT, .item = turn.item, .gen = s->stt.gen, .flag = understood});
  if (understood) {
    s->unanswered = MIN(s->unanswered + 1, (guint)SESSION_UNANSWERED);
    s->speech_end = MAX(turn.speech_end, (guint64)1);
    s->want = s->want || turn.create;
  }
  pop_turn(s);
}

static void next_transcription(SessionStep *step) {
  SessionState *s = step->s;
  while (s->turns > 0 && s->stt.phase == STT_IDLE) {
    if (!s->ready[SESSION_STT]) {
      fail_turn(step, SESSION_ERR_STT_MISSING);
      continue;
    }
    stt_start(step, s->turn[0].item, s->turn[0].start, s->turn[0].end, FALSE);
  }
}

/* A committed utterance joins the turns and is transcribed, at once or when the ones before it are. */
static void commit_turn(SessionStep *step, guint32 item, guint64 start, guint64 end, guint64 speech_end) {
  SessionState *s = step->s;
  SessionStt *stt = &s->stt;
  session_emit(step, &(SessionEffect){.type = SESSION_FX_COMMITTED, .item = item});
  s->uncommitted = end;
  s->utterance = (SessionUtterance){0};
  s->turn[s->turns++] = (SessionTurn){item, start, end, speech_end, s->options.create_response};
  if (stt->phase != STT_IDLE && stt->speculative) {
    /* Speculation begins only while no turn waits, so it is this turn's. */
    stt->speculative = FALSE;
    if (stt->phase == STT_KEPT)
      resolve_turn(step);
    return;
  }
  if (stt->phase == STT_RUNNING)
    session_emit(step, &(SessionEffect){.type = SESSION_FX_CAPTURE, .item = item, .position = start, .end = end});
  next_transcription(step);
}

static void stop_speaking(SessionStep *step, guint64 end) {
  SessionState *s = step->s;
  SessionUtterance u = s->utterance;
  session_emit(step, &(SessionEffect){.type = SESSION_FX_SPEECH_STOPPED, .item = u.item, .position = end});
  /* A little of the silence stays: a recogniser wants to hear that the last word is over. */
  guint64 audio_end = MIN(end, u.voiced_until + session_mic_samples(SESSION_PAUSE_MS));
  commit_turn(step, u.item, u.start, MAX(audio_end, u.start + 1), u.voiced_until);
  s->uncommitted = end;
}

static void start_speaking(SessionStep *step) {
  SessionState *s = step->s;
  SessionUtterance *u = &s->utterance;
  if (s->turns == SESSION_TURNS) {
    u->run = 0;
    if (!s->told_full)
      session_error(step, SESSION_ERR_TOO_MANY_TURNS);
    s->told_full = TRUE;
    return;
  }
  guint64 prefix = session_mic_samples(s->options.prefix_ms);
  guint64 start = u->run_start > prefix ? u->run_start - prefix : 0;
  *u = (SessionUtterance){
      .active = TRUE, .item = ++s->items, .start = MAX(start, s->uncommitted), .voiced_until = s->window_end};
  session_emit(step, &(SessionEffect){.type = SESSION_FX_SPEECH_STARTED, .item = u->item, .position = u->start});
  if (s->options.interrupt)
    session_reply_cut(step, SESSION_CANCELLED, SESSION_REASON_TURN_DETECTED);
}

static void await_onset(SessionStep *step, double probability) {
  SessionState *s = step->s;
  SessionUtterance *u = &s->utterance;
  /* Doubtful windows neither count nor break a run, but they do not stretch it for ever. */
  if (u->run > 0 && s->window_end - u->run_start > session_mic_samples(SESSION_RUN_MS))
    u->run = 0;
  if (probability >= s->options.threshold) {
    if (u->run++ == 0)
      u->run_start = s->window_end - CHOIR_VAD_WINDOW;
  } else if (probability < s->options.threshold - SESSION_HYSTERESIS) {
    u->run = 0;
  }
  guint need = s->reply.phase == REPLY_NONE ? SESSION_ONSET_WINDOWS : SESSION_BARGE_IN_WINDOWS;
  if (u->run >= need)
    start_speaking(step);
}

static void follow_speech(SessionStep *step, double probability) {
  SessionState *s = step->s;
  SessionUtterance *u = &s->utterance;
  double floor = u->paused ? s->options.threshold : s->options.threshold - SESSION_HYSTERESIS;
  if (probability >= floor) {
    u->voiced_until = s->window_end;
    u->paused = FALSE;
    /* The person goes on: what was transcribed is not all. */
    if (s->stt.phase != STT_IDLE && s->stt.speculative)
      stt_cancel(step);
  } else {
    u->paused = TRUE;
  }
  guint64 silence = s->window_end - u->voiced_until;
  if (silence >= silence_samples(s) || s->window_end - u->start >= session_mic_samples(SESSION_UTTERANCE_MS)) {
    stop_speaking(step, s->window_end);
    return;
  }
  if (silence >= session_mic_samples(SESSION_PAUSE_MS) && s->stt.phase == STT_IDLE && s->turns == 0 &&
      s->ready[SESSION_STT])
    stt_start(step, u->item, u->start, s->window_end, TRUE);
}

void session_ear_window(SessionStep *step, guint64 position, double probability) {
  SessionState *s = step->s;
  if (position <= s->window_end || position > s->mic_end || position < CHOIR_VAD_WINDOW)
    return;
  s->window_end = position;
  s->window_at = s->now;
  if (!s->options.server_vad || !s->ready[SESSION_EAR] || position - CHOIR_VAD_WINDOW < s->vad_floor)
    return;
  if (s->utterance.active)
    follow_speech(step, probability);
  else
    await_onset(step, probability);
}

void session_ear_audio(SessionStep *step, guint64 samples) {
  SessionState *s = step->s;
  s->mic_end += samples;
  s->audio_at = s->now;
  if (s->options.server_vad && !s->ready[SESSION_EAR]) {
    /* Nobody listens: the audio is let go, and the person is told once. */
    s->window_end = s->uncommitted = s->mic_end;
    if (!s->told[SESSION_EAR])
      session_error(step, SESSION_ERR_EAR_MISSING);
    s->told[SESSION_EAR] = TRUE;
  }
  if (!s->ready[SESSION_STT] && !s->told[SESSION_STT]) {
    session_error(step, SESSION_ERR_STT_MISSING);
    s->told[SESSION_STT] = TRUE;
  }
}

/* Forgets what the VAD still has to say about audio up to here. */
static void forget_windows(SessionState *s) {
  s->vad_floor = s->mic_end;
  s->utterance.run = 0;
}

void session_ear_commit(SessionStep *step) {
  SessionState *s = step->s;
  SessionUtterance u = s->utterance;
  guint64 end = s->mic_end, start = s->uncommitted;
  if (u.active) {
    if (u.voiced_until < end && s->window_end < end)
      s->utterance.voiced_until = end; /* nobody has heard the rest yet, so it may be speech */
    if (s->stt.phase != STT_IDLE && s->stt.speculative && s->window_end < end)
      stt_cancel(step);
    stop_speaking(step, end);
    forget_windows(s);
    return;
  }
  if (s->options.server_vad) {
    /* Silence that was looked at is no speech; what nobody looked at yet may be. */
    guint64 prefix = session_mic_samples(s->options.prefix_ms);
    guint64 unseen = s->utterance.run > 0 ? s->utterance.run_start : s->window_end;
    if (end - unseen < session_mic_samples(SESSION_COMMIT_MIN_MS))
      start = end;
    else
      start = MAX(start, unseen > prefix ? unseen - prefix : 0);
  }
  if (end - start < session_mic_samples(SESSION_COMMIT_MIN_MS)) {
    session_error(step, SESSION_ERR_COMMIT_EMPTY);
    return;
  }
  if (s->turns == SESSION_TURNS) {
    session_error(step, SESSION_ERR_TOO_MANY_TURNS);
    return;
  }
  if (end - start > session_mic_samples(SESSION_UTTERANCE_MS))
    start = end - session_mic_samples(SESSION_UTTERANCE_MS);
  commit_turn(step, ++s->items, start, end, end);
  forget_windows(s);
}

static void drop_utterance(SessionStep *step) {
  SessionState *s = step->s;
  if (s->stt.phase != STT_IDLE && s->stt.speculative)
    stt_cancel(step);
  s->utterance = (SessionUtterance){0};
}

void session_ear_clear(SessionStep *step) {
  drop_utterance(step);
  step->s->uncommitted = step->s->mic_end;
  forget_windows(step->s);
}

void session_ear_configure(SessionStep *step, const SessionOptions *options) {
  SessionState *s = step->s;
  if (options->server_vad != s->options.server_vad) {
    /* What was being said belongs to the next commit, or to the next onset. */
    if (s->utterance.active)
      s->uncommitted = s->utterance.start;
    else if (!options->server_vad)
      s->uncommitted = s->mic_end;
    drop_utterance(step);
    /* Without a VAD no window marks audio as seen; what came meanwhile is none of its business. */
    s->window_end = s->mic_end;
    forget_windows(s);
  }
  s->options = *options;
}

void session_ear_lost(SessionStep *step) {
  SessionState *s = step->s;
  s->utterance.run = 0;
  if (s->utterance.active) {
    session_error(step, SESSION_ERR_EAR_LOST);
    s->told[SESSION_EAR] = TRUE;
    stop_speaking(step, s->mic_end);
  }
  s->window_end = s->vad_floor = s->mic_end;
}

void session_ear_tick(SessionStep *step) {
  SessionState *s = step->s;
  if (s->stt.phase == STT_RUNNING && s->now >= s->stt.deadline)
    session_stt_failed(step, SESSION_ERR_STT_TIMEOUT);
  guint64 last = MAX(s->audio_at, s->window_at);
  guint64 patience = silence_samples(s) + session_mic_samples(SESSION_STALL_MS);
  if (s->utterance.active && s->now > last && s->now - last >= patience) {
    /* The stream ended in mid-speech; no window will ever say so. */
    stop_speaking(step, s->mic_end);
    forget_windows(s);
  }
}

void session_stt_text(SessionStep *step, gboolean understood) {
  SessionState *s = step->s;
  session_emit(step, &(SessionEffect){.type = SESSION_FX_KEEP_TEXT, .gen = s->stt.gen});
  s->stt.understood = understood;
  s->stt.phase = STT_KEPT;
  if (s->stt.speculative)
    return;
  resolve_turn(step);
  next_transcription(step);
}

void session_stt_failed(SessionStep *step, SessionError code) {
  SessionState *s = step->s;
  gboolean speculative = s->stt.speculative;
  if (code == SESSION_ERR_STT_TIMEOUT)
    stt_cancel(step);
  s->stt.phase = STT_IDLE;
  if (speculative)
    return; /* the end of the turn tries again */
  fail_turn(step, code);
  next_transcription(step);
}

void session_stt_lost(SessionStep *step) {
  SessionState *s = step->s;
  if (s->stt.phase == STT_RUNNING && s->turns > 0 && !s->stt.speculative)
    session_error(step, SESSION_ERR_STT_LOST);
  if (s->stt.phase == STT_RUNNING)
    s->stt.phase = STT_IDLE;
  while (s->turns > 0)
    fail_turn(step, SESSION_ERR_STT_LOST);
}

void session_stt_hangup(SessionStep *step) {
  stt_cancel(step);
  step->s->utterance = (SessionUtterance){0};
  step->s->turns = 0;
}
