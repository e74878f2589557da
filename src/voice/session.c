#include "voice/session_private.h"

void session_init(SessionState *state, const SessionOptions *options, guint64 now) {
  *state = (SessionState){.options = *options, .now = now, .pause_ms = TURN_PAUSE_START_MS};
  ledger_reset(&state->ledger);
  pacer_init(&state->pacer, session_out_time(now));
}

void session_emit(SessionStep *step, const SessionEffect *effect) {
  if (step->n < step->max)
    step->effects[step->n++] = *effect;
  else
    step->s->lost_effects++;
}

void session_error(SessionStep *step, SessionError code) {
  session_emit(step, &(SessionEffect){.type = SESSION_FX_ERROR, .code = (int)code});
}

void session_status(SessionStep *step, SessionStatus status) {
  session_emit(step, &(SessionEffect){.type = SESSION_FX_STATUS, .code = (int)status});
}

gboolean session_audible(const SessionState *s) {
  return s->reply.phase != REPLY_NONE && !s->reply.held && s->pacer.sent > 0;
}

static gboolean guessed(const SessionState *s) {
  return s->reply.phase != REPLY_NONE && s->reply.held && !s->reply.confirmed;
}

gboolean session_awake(const SessionState *s) {
  return !s->options.wake || s->now < s->awake_until || s->utterance.active || s->turns > 0 || s->want ||
         s->reply.phase != REPLY_NONE;
}

guint32 session_new_item(SessionState *state) {
  return ++state->items;
}

guint64 session_mic_room(const SessionState *state) {
  guint64 seen = state->options.server_vad ? state->window_end : state->uncommitted;
  guint64 unread = state->mic_end - MIN(seen, state->mic_end), limit = session_mic_samples(SESSION_UNREAD_MS);
  return unread < limit ? limit - unread : 0;
}

gboolean session_knows_reply(const SessionState *state, guint32 item) {
  return item != 0 && (item == state->ended_item || (state->reply.phase != REPLY_NONE && item == state->reply.item));
}

const char *session_shown_name(SessionShown shown) {
  static const char *const names[] = {"idle", "listening", "thinking", "speaking", "error"};
  return names[shown];
}

/* The one place where results of an old generation end. */
static gboolean is_stale(const SessionState *s, const SessionEvent *event) {
  const SessionReply *reply = &s->reply;
  gboolean current = reply->phase != REPLY_NONE && event->gen == reply->gen;
  switch (event->type) {
  case SESSION_EV_VERDICT:
    return !s->utterance.active || s->utterance.judge_gen == 0 || event->gen != s->utterance.judge_gen;
  case SESSION_EV_STT_TEXT:
  case SESSION_EV_STT_FAILED:
    return s->stt.phase != STT_RUNNING || event->gen != s->stt.gen;
  case SESSION_EV_TWIN_DELTA:
  case SESSION_EV_TWIN_CLAUSE:
  case SESSION_EV_TWIN_DONE:
  case SESSION_EV_TWIN_REFUSED:
    return !current || !reply->twin_open;
  case SESSION_EV_TTS_PCM:
  case SESSION_EV_TTS_MOUTH:
  case SESSION_EV_TTS_DONE:
  case SESSION_EV_TTS_FAILED:
    return !current || !reply->synthesising || event->index != reply->next_clause - 1;
  default:
    return FALSE;
  }
}

static void worker_changed(SessionStep *step, SessionWorker worker, gboolean ready) {
  SessionState *s = step->s;
  gboolean was = s->ready[worker];
  s->ready[worker] = ready;
  /* A new ear knows nothing of the audio before it, like one that is lost. */
  if (ready && worker == SESSION_EAR)
    session_ear_lost(step);
  if (ready)
    s->told[worker] = FALSE;
  if (ready || !was)
    return;
  if (worker == SESSION_EAR)
    session_ear_lost(step);
  else if (worker == SESSION_STT)
    session_stt_lost(step);
  else
    session_reply_voice_lost(step);
}

static void respond(SessionStep *step) {
  SessionState *s = step->s;
  if (s->unanswered == 0 && s->turns == 0) {
    gboolean active = s->reply.phase == REPLY_RUNNING && !guessed(s);
    session_error(step, active ? SESSION_ERR_RESPONSE_ACTIVE : SESSION_ERR_NOTHING_TO_ANSWER);
    return;
  }
  s->want = s->want_asked = TRUE;
}

static void cancel(SessionStep *step) {
  SessionState *s = step->s;
  if (guessed(s)) {
    (void)session_reply_drop(step);
    return;
  }
  if (s->reply.phase != REPLY_NONE) {
    session_reply_cut(step, SESSION_CANCELLED, SESSION_REASON_CLIENT);
    return;
  }
  /* The reply that would have come does not; its question stays unanswered until the next one. */
  s->want = s->want_asked = FALSE;
  for (guint i = 0; i < s->turns; i++)
    s->turn[i].create = FALSE;
}

static void typed(SessionStep *step, guint32 item, gboolean answer) {
  SessionState *s = step->s;
  if (guessed(s))
    (void)session_reply_drop(step); /* it does not know of this message */
  session_emit(step, &(SessionEffect){.type = SESSION_FX_TYPED, .item = item});
  s->unanswered = MIN(s->unanswered + 1, (guint)SESSION_UNANSWERED);
  s->speech_end = 0;
  s->idle_at = 0;
  s->asked_idle = FALSE;
  s->want = s->want || answer;
}

static void hang_up(SessionStep *step) {
  SessionState *s = step->s;
  session_stt_hangup(step);
  session_reply_cut(step, SESSION_CANCELLED, SESSION_REASON_CLIENT);
  s->unanswered = 0;
  s->want = FALSE;
  s->gone = TRUE;
}

static void dispatch_input(SessionStep *step, const SessionEvent *event) {
  switch (event->type) {
  case SESSION_EV_CONFIGURE:
    session_ear_configure(step, event->options);
    break;
  case SESSION_EV_WORKER:
    worker_changed(step, event->worker, event->flag);
    break;
  case SESSION_EV_AUDIO:
    session_ear_audio(step, event->samples);
    break;
  case SESSION_EV_WINDOW:
    session_ear_window(step, event);
    break;
  case SESSION_EV_HEARD:
    session_barge_heard(step, event);
    break;
  case SESSION_EV_FILLER:
    if (event->index < SESSION_FILLERS)
      step->s->filler[event->index] = event->samples;
    break;
  case SESSION_EV_COMMIT:
    session_ear_commit(step);
    break;
  case SESSION_EV_CLEAR:
    session_ear_clear(step);
    break;
  case SESSION_EV_TEXT:
    typed(step, event->item, event->flag);
    break;
  case SESSION_EV_NOTICE:
    if (step->s->notices < SESSION_NOTICES)
      step->s->notices++;
    break;
  case SESSION_EV_RESPOND:
    respond(step);
    break;
  case SESSION_EV_CANCEL:
    cancel(step);
    break;
  case SESSION_EV_TRUNCATE:
    session_reply_truncate(step, event->item, event->samples);
    break;
  case SESSION_EV_ACK:
    session_play_ack(step, event);
    break;
  case SESSION_EV_HANGUP:
    hang_up(step);
    break;
  default:
    break;
  }
}

static void dispatch_result(SessionStep *step, const SessionEvent *event) {
  switch (event->type) {
  case SESSION_EV_VERDICT:
    session_ear_verdict(step, event->probability);
    break;
  case SESSION_EV_STT_TEXT:
    session_stt_text(step, event);
    break;
  case SESSION_EV_STT_FAILED:
    session_stt_failed(step, SESSION_ERR_STT_FAILED);
    break;
  case SESSION_EV_TWIN_DELTA:
    session_reply_delta(step, event->end);
    break;
  case SESSION_EV_TWIN_CLAUSE:
    session_reply_clause(step, event);
    break;
  case SESSION_EV_TWIN_DONE:
    session_reply_done(step, event->outcome, event->end);
    break;
  case SESSION_EV_TWIN_REFUSED:
    session_reply_refused(step);
    break;
  case SESSION_EV_TTS_PCM:
    session_reply_pcm(step, event->samples);
    break;
  case SESSION_EV_TTS_MOUTH:
    session_reply_mouth(step, event->position);
    break;
  case SESSION_EV_TTS_DONE:
    session_reply_clause_done(step, event->words, event->n_words);
    break;
  case SESSION_EV_TTS_FAILED:
    session_reply_clause_failed(step, SESSION_ERR_TTS_FAILED);
    break;
  default:
    break;
  }
}

static void begin_canned_reply(SessionStep *step) {
  SessionState *s = step->s;
  if (s->want_canned != SESSION_CANNED_NONE) {
    SessionCanned canned = s->want_canned;
    s->want_canned = SESSION_CANNED_NONE;
    session_reply_canned(step, canned);
    return;
  }
  if (s->notices > 0) {
    s->notices--;
    session_reply_canned(step, SESSION_CANNED_NOTICE);
    return;
  }
  gboolean there = s->options.server_vad && !s->options.muted && !s->options.wake && s->mic_end > 0 &&
                   s->now - s->audio_at < session_mic_samples(SESSION_QUIET_MS);
  if (s->idle_at == 0 || s->now < s->idle_at)
    return;
  s->idle_at = 0;
  if (!there)
    return;
  s->asked_idle = TRUE; /* once; then it is quiet until somebody says something */
  session_emit(
      step, &(SessionEffect){.type = SESSION_FX_IDLE, .item = ++s->items, .position = s->idle_from, .end = s->mic_end});
  session_reply_canned(step, SESSION_CANNED_IDLE);
}

static void begin_wanted_reply(SessionStep *step) {
  SessionState *s = step->s;
  if (s->turns > 0 || s->reply.phase != REPLY_NONE)
    return;
  if (s->want && s->unanswered == 0) {
    if (s->want_asked)
      session_error(step, SESSION_ERR_NOT_UNDERSTOOD);
    s->want = s->want_asked = FALSE;
  }
  if (s->utterance.active)
    return;
  if (!s->want) {
    begin_canned_reply(step);
    return;
  }
  gboolean may_go_on = s->options.speculate && s->speech_end > 0 && !s->want_asked && s->now < s->reopen_until;
  session_reply_begin(step, may_go_on ? REPLY_HELD : REPLY_ANNOUNCED);
}

/* What the ear has to listen for beside speech. */
static void choose_spots(SessionStep *step) {
  SessionState *s = step->s;
  guint spots = 0;
  if (!s->gone && s->options.server_vad && !s->options.muted) {
    if (session_audible(s) && s->options.interrupt && !s->options.half_duplex)
      spots = SESSION_SPOT_STOP | SESSION_SPOT_BACKCHANNEL;
    else if (!session_awake(s))
      spots = SESSION_SPOT_WAKE;
  }
  if (spots == s->spots || !s->ready[SESSION_EAR])
    return;
  s->spots = spots;
  session_emit(step, &(SessionEffect){.type = SESSION_FX_SPOT, .bytes = spots});
}

static void tell_sleep(SessionStep *step) {
  SessionState *s = step->s;
  gboolean asleep = !session_awake(s);
  if (asleep == s->asleep)
    return;
  s->asleep = asleep;
  session_status(step, asleep ? SESSION_STATUS_ASLEEP : SESSION_STATUS_AWAKE);
}

static SessionShown shown(const SessionState *s) {
  if (s->reply.phase != REPLY_NONE && !guessed(s))
    return session_audible(s) ? SESSION_SPEAKING : SESSION_THINKING;
  if (s->utterance.active)
    return SESSION_LISTENING;
  if (s->turns > 0)
    return SESSION_THINKING;
  if (s->error_until > s->now)
    return SESSION_ERROR;
  gboolean heard = s->mic_end > 0 && s->now - s->audio_at < session_mic_samples(SESSION_QUIET_MS);
  return heard ? SESSION_LISTENING : SESSION_IDLE;
}

guint session_step(SessionState *state, const SessionEvent *event, SessionEffect *effects, guint max) {
  SessionStep step = {.s = state, .effects = effects, .max = max};
  if (state->gone)
    return 0;
  state->now = MAX(state->now, event->now);
  /* The play clock must stand where it is now before anything asks what was heard. */
  PacerChange change = pacer_advance(&state->pacer, session_out_time(state->now));
  if (change != PACER_SAME)
    session_emit(&step,
                 &(SessionEffect){.type = SESSION_FX_STATUS,
                                  .code = change == PACER_ACKS_LOST ? SESSION_STATUS_ACKS_LOST : SESSION_STATUS_LEAD});
  if (is_stale(state, event)) {
    state->stale++;
  } else {
    dispatch_input(&step, event);
    dispatch_result(&step, event);
  }
  if (!state->gone) {
    session_stt_tick(&step);
    session_ear_tick(&step);
    session_play_advance(&step);
    begin_wanted_reply(&step);
    tell_sleep(&step);
  }
  choose_spots(&step);
  SessionShown now = state->gone ? SESSION_IDLE : shown(state);
  if (now != state->shown) {
    state->shown = now;
    session_emit(&step, &(SessionEffect){.type = SESSION_FX_STATE, .code = (int)now});
  }
  return step.n;
}

gboolean session_needs_tick(const SessionState *state) {
  return !state->gone &&
         (state->idle_at > 0 || (state->options.wake && !state->asleep) || state->shown != SESSION_IDLE ||
          state->stt.phase != STT_IDLE || state->pacer.lead_ms > CHOIR_LEAD_MS || state->reply.phase != REPLY_NONE);
}
