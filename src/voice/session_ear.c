#include "voice/session_private.h"

static gboolean end_of_turn(const SessionState *s) {
  const SessionUtterance *u = &s->utterance;
  const SessionOptions *o = &s->options;
  gboolean kept = s->stt.phase == STT_KEPT && s->stt.speculative;
  TurnEvidence evidence = {.usual_ms = o->silence_ms,
                           .min_ms = o->silence_min_ms,
                           .max_ms = o->silence_max_ms,
                           .pause_ms = s->pause_ms,
                           .ending = kept ? s->stt.ending : TURN_ENDING_NEUTRAL,
                           .judged = u->judged,
                           .verdict = u->verdict,
                           .pending = s->judges && u->asked > u->judged,
                           .unheard = s->ready[SESSION_STT] && !kept};
  return s->window_end - u->voiced_until >= session_mic_samples(turn_end_ms(&evidence));
}

static void stop_speaking(SessionStep *step, guint64 end) {
  SessionState *s = step->s;
  SessionUtterance u = s->utterance;
  session_emit(step, &(SessionEffect){.type = SESSION_FX_SPEECH_STOPPED, .item = u.item, .position = end});
  guint64 audio_end = MIN(end, u.voiced_until + session_mic_samples(SESSION_TRAIL_MS));
  guint64 silence = end - MIN(end, u.voiced_until);
  guint64 open = session_mic_samples(SESSION_SOFT_MS + SESSION_REOPEN_MS);
  s->reopen_until = s->now + (open > silence ? open - silence : 0);
  s->voice_end = u.voiced_until;
  SessionTurn turn = {.item = u.item,
                      .start = u.start,
                      .end = MAX(audio_end, u.start + 1),
                      .speech_end = u.voiced_until,
                      .create = s->options.create_response,
                      .over_reply = u.over_reply};
  session_turn_commit(step, &turn, u.item);
  s->uncommitted = end;
}

static gboolean aftermath(const SessionState *s) {
  return s->reply_over_at > 0 && s->now - s->reply_over_at < session_mic_samples(SESSION_AFTERMATH_MS);
}

/* An interruption in the middle of a reply waits for more than an onset; anything else stops what was begun. */
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
  gboolean audible = session_audible(s);
  gboolean after = aftermath(s);
  guint64 gap = u->run_start - MIN(u->run_start, s->voice_end);
  if (s->now < s->reopen_until && !audible) {
    /* That silence was a pause of this speaker after all. */
    s->pause_ms = turn_end_learn(s->pause_ms, (guint)(gap * 1000 / CHOIR_RATE_MIC));
    s->reopened++;
  } else {
    s->said_from = MAX(start, s->uncommitted);
  }
  *u = (SessionUtterance){.active = TRUE,
                          .item = ++s->items,
                          .start = MAX(start, s->uncommitted),
                          .voiced_until = s->window_end,
                          .voiced = s->window_end - u->run_start,
                          .over_reply = audible || after};
  s->idle_at = 0;
  gboolean begun = s->reply.phase != REPLY_NONE && !s->reply.held; /* and the room still gives the one before back */
  if ((audible || (after && begun)) && s->options.interrupt) {
    session_barge_begin(step);
    return;
  }
  s->asked_idle = FALSE;
  session_emit(step, &(SessionEffect){.type = SESSION_FX_SPEECH_STARTED, .item = u->item, .position = u->start});
  if (!session_reply_drop(step) && s->options.interrupt)
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

static guint64 pause_samples(const SessionState *s) {
  gboolean quick = s->stt_took > 0 && s->stt_took <= session_mic_samples(SESSION_QUICK_MS);
  return session_mic_samples(quick ? SESSION_PAUSE_QUICK_MS : SESSION_PAUSE_MS);
}

/* What can be asked about a pause while it lasts. */
static void use_pause(SessionStep *step, guint64 silence) {
  SessionState *s = step->s;
  SessionUtterance *u = &s->utterance;
  gboolean sure = u->judged > 0 && turn_end_sure(u->judged, u->verdict);
  static const guint after[TURN_VERDICTS] = {SESSION_JUDGE_MS, SESSION_JUDGE_AGAIN_MS, SESSION_JUDGE_LAST_MS};
  if (u->asked < TURN_VERDICTS && u->asked == u->judged && !sure && s->options.silence_max_ms > 0 &&
      silence >= session_mic_samples(after[u->asked])) {
    u->judge_gen = ++s->gens;
    u->asked++;
    session_emit(step, &(SessionEffect){.type = SESSION_FX_TURN_JOB,
                                        .gen = u->judge_gen,
                                        .position = MIN(s->said_from, u->start),
                                        .end = s->window_end});
  }
  gboolean idle = s->stt.phase == STT_IDLE || (s->stt.phase == STT_RUNNING && s->stt.partial);
  if (silence >= pause_samples(s) && idle && s->turns == 0 && s->ready[SESSION_STT])
    session_stt_start(step, u->item, u->start, s->window_end, TRUE);
  (void)session_turn_guess(step);
}

static void goes_on(SessionStep *step) {
  SessionState *s = step->s;
  SessionUtterance *u = &s->utterance;
  u->voiced += CHOIR_VAD_WINDOW;
  if (u->paused) {
    guint64 pause = s->window_end - CHOIR_VAD_WINDOW - u->voiced_until;
    if (!u->tentative)
      s->pause_ms = turn_end_learn(s->pause_ms, (guint)(pause * 1000 / CHOIR_RATE_MIC));
    u->judge_gen = 0;
    u->asked = u->judged = 0;
    /* What was transcribed is not all; what is being transcribed may still go into the prompt. */
    if (s->stt.phase == STT_KEPT && s->stt.speculative)
      (void)session_stt_cancel(step);
    else if (s->stt.phase == STT_RUNNING && s->stt.speculative)
      s->stt.partial = TRUE;
  }
  u->voiced_until = s->window_end;
  u->paused = FALSE;
}

static void follow_speech(SessionStep *step, double probability) {
  SessionState *s = step->s;
  SessionUtterance *u = &s->utterance;
  double floor = u->paused ? s->options.threshold : s->options.threshold - SESSION_HYSTERESIS;
  gboolean voiced = probability >= floor;
  if (voiced)
    goes_on(step);
  else
    u->paused = TRUE;
  if (u->tentative) {
    session_barge_window(step, voiced);
    if (!u->active)
      return;
  }
  if (!u->tentative &&
      ((u->paused && end_of_turn(s)) || s->window_end - u->start >= session_mic_samples(SESSION_UTTERANCE_MS))) {
    stop_speaking(step, s->window_end);
    return;
  }
  if (u->paused)
    use_pause(step, s->window_end - u->voiced_until);
  else
    session_stt_along(step);
}

/* Nobody listens now. */
static gboolean deaf(const SessionState *s) {
  gboolean tail = s->reply_over_at > 0 && s->now - s->reply_over_at < session_mic_samples(SESSION_DEAF_TAIL_MS);
  return s->options.muted || (s->options.half_duplex && (session_audible(s) || tail));
}

void session_ear_window(SessionStep *step, const SessionEvent *event) {
  SessionState *s = step->s;
  if (!s->options.server_vad || event->position <= s->vad_floor || event->position <= s->window_end ||
      event->position > s->mic_end)
    return;
  s->window_end = event->position;
  s->window_at = s->now;
  double probability = event->probability;
  gboolean loud = probability >= s->options.threshold - SESSION_HYSTERESIS;
  s->loud = s->loud << 1 | loud;
  s->own = s->own << 1 | (loud && event->echo);
  /* The agent's own voice is silence, in the room's aftermath as well, as long as nobody speaks over it: then it would
   * be no echo. */
  if (event->echo && (session_audible(s) || s->utterance.over_reply || aftermath(s)))
    probability = 0;
  if (s->utterance.active) {
    follow_speech(step, deaf(s) ? 0 : probability);
  } else if (deaf(s) || !session_awake(s)) {
    s->utterance.run = 0;
  } else {
    await_onset(step, probability);
  }
}

void session_ear_verdict(SessionStep *step, double probability) {
  SessionUtterance *u = &step->s->utterance;
  step->s->judges = TRUE;
  u->judged = MIN(u->judged + 1, u->asked);
  u->verdict = probability;
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
  guint64 end = s->mic_end, start = s->uncommitted;
  if (s->utterance.active) {
    if (s->utterance.tentative)
      session_barge_commit(step);
    if (s->utterance.voiced_until < end && s->window_end < end)
      s->utterance.voiced_until = end; /* nobody has heard the rest yet, so it may be speech */
    if (s->stt.phase != STT_IDLE && s->stt.speculative && s->window_end < end)
      (void)session_stt_cancel(step);
    stop_speaking(step, end);
    s->reopen_until = 0; /* the client says that the turn is over */
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
  guint32 item = ++s->items;
  s->idle_at = s->reopen_until = 0;
  s->asked_idle = FALSE;
  SessionTurn turn = {
      .item = item, .start = start, .end = end, .speech_end = end, .create = s->options.create_response};
  session_turn_commit(step, &turn, item);
  forget_windows(s);
}

void session_ear_drop(SessionStep *step) {
  SessionState *s = step->s;
  if (s->stt.phase != STT_IDLE && s->stt.speculative)
    (void)session_stt_cancel(step);
  s->utterance = (SessionUtterance){0};
  if (s->reply.paused)
    session_play_resume(step);
}

void session_ear_clear(SessionStep *step) {
  session_ear_drop(step);
  step->s->uncommitted = step->s->mic_end;
  forget_windows(step->s);
}

void session_ear_configure(SessionStep *step, const SessionOptions *options) {
  SessionState *s = step->s;
  if (s->utterance.active && options->server_vad && options->muted && !s->options.muted) {
    /* The switch ends the turn; what was said before it counts. */
    if (s->utterance.tentative)
      session_barge_release(step);
    else
      stop_speaking(step, s->mic_end);
    forget_windows(s);
  }
  if (options->server_vad != s->options.server_vad) {
    /* What was being said belongs to the next commit, or to the next onset. */
    if (s->utterance.active)
      s->uncommitted = s->utterance.start;
    else if (!options->server_vad)
      s->uncommitted = s->mic_end;
    session_ear_drop(step);
    /* Without a VAD no window marks audio as seen; what came meanwhile is none of its business. */
    s->window_end = s->mic_end;
    forget_windows(s);
  }
  /* A guess was made under the old rules. */
  if (s->reply.phase != REPLY_NONE && s->reply.held && !s->reply.confirmed)
    (void)session_reply_drop(step);
  s->options = *options;
  if (options->idle_ms == 0)
    s->idle_at = 0;
}

void session_ear_lost(SessionStep *step) {
  SessionState *s = step->s;
  s->utterance.run = 0;
  s->spots = 0;
  if (s->utterance.active && s->utterance.tentative) {
    session_barge_release(step);
  } else if (s->utterance.active) {
    session_error(step, SESSION_ERR_EAR_LOST);
    s->told[SESSION_EAR] = TRUE;
    stop_speaking(step, s->mic_end);
  }
  s->window_end = s->vad_floor = s->mic_end;
}

void session_ear_tick(SessionStep *step) {
  SessionState *s = step->s;
  guint64 last = MAX(s->audio_at, s->window_at);
  guint64 patience = session_mic_samples(MAX(s->options.silence_ms, s->options.silence_max_ms) + SESSION_STALL_MS);
  if (!s->utterance.active)
    return;
  if (s->utterance.tentative)
    session_barge_tick(step);
  if (s->utterance.active && s->now > last && s->now - last >= patience) {
    /* The stream ended in mid-speech; no window will ever say so. */
    if (s->utterance.tentative)
      session_barge_release(step);
    else
      stop_speaking(step, s->mic_end);
    forget_windows(s);
  }
}
