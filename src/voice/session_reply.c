#include "voice/session_private.h"

static gboolean guessed(const SessionState *s) {
  return s->reply.held && !s->reply.confirmed;
}

void session_reply_emit(SessionStep *step, SessionEffect effect) {
  effect.gen = step->s->reply.gen;
  effect.item = step->s->reply.item;
  effect.response = step->s->reply.response;
  session_emit(step, &effect);
}

gboolean session_reply_clauses_left(const SessionState *s) {
  return s->reply.voiced && (s->reply.synthesising || s->reply.next_clause < s->ledger.clauses);
}

static gboolean open_reply(SessionStep *step, SessionReplyKind kind, SessionCanned canned) {
  SessionState *s = step->s;
  gboolean spoken = s->options.audio_out && s->ready[SESSION_TTS];
  if (s->options.audio_out && !spoken && !s->told[SESSION_TTS]) {
    s->told[SESSION_TTS] = TRUE;
    session_status(step, SESSION_STATUS_TEXT_ONLY);
  }
  s->reply = (SessionReply){.phase = REPLY_RUNNING,
                            .gen = ++s->gens,
                            .item = ++s->items,
                            .response = ++s->responses,
                            .spoken = spoken,
                            .voiced = spoken,
                            .twin_open = TRUE,
                            .held = kind != REPLY_ANNOUNCED && spoken,
                            .confirmed = kind != REPLY_GUESSED,
                            .held_until = s->reopen_until,
                            .asked_at = s->now,
                            .canned = canned,
                            /* nobody waits for an answer to a typed message by ear, or for our own sentence */
                            .filled = canned != SESSION_CANNED_NONE || s->speech_end == 0,
                            .timed = canned != SESSION_CANNED_NONE || s->speech_end == 0};
  ledger_reset(&s->ledger);
  pacer_begin(&s->pacer, session_out_time(s->now));
  s->idle_at = 0;
  return spoken;
}

void session_reply_begin(SessionStep *step, SessionReplyKind kind) {
  SessionState *s = step->s;
  gboolean spoken = open_reply(step, kind, SESSION_CANNED_NONE);
  if (kind != REPLY_GUESSED) {
    s->unanswered = 0;
    s->want = s->want_asked = FALSE;
    s->want_canned = SESSION_CANNED_NONE;
  }
  if (!s->reply.held)
    session_reply_emit(step, (SessionEffect){.type = SESSION_FX_RESPONSE_STARTED});
  session_reply_emit(step, (SessionEffect){.type = SESSION_FX_TWIN_BEGIN,
                                           .flag = spoken,
                                           .position = s->speech_end,
                                           .code = kind == REPLY_GUESSED});
}

void session_reply_canned(SessionStep *step, SessionCanned canned) {
  gboolean spoken = open_reply(step, REPLY_ANNOUNCED, canned);
  session_reply_emit(step, (SessionEffect){.type = SESSION_FX_RESPONSE_STARTED});
  session_reply_emit(step, (SessionEffect){.type = SESSION_FX_CANNED, .flag = spoken, .code = (int)canned});
}

/* How long a turn waited for the voice. */
static void count_wait(SessionState *s) {
  if (s->reply.timed || !s->reply.confirmed)
    return;
  s->wait = (s->wait * 3 + (s->now - s->reply.asked_at)) / 4;
  s->reply.timed = TRUE;
}

void session_reply_confirm(SessionStep *step) {
  SessionState *s = step->s;
  s->reply.confirmed = TRUE;
  s->reply.held_until = s->reopen_until;
  s->reply.asked_at = s->now;
  s->unanswered = 0;
  s->want = s->want_asked = FALSE;
  s->want_canned = SESSION_CANNED_NONE;
  session_reply_emit(step, (SessionEffect){.type = SESSION_FX_TWIN_CONFIRM});
  if (s->reply.stored > 0)
    count_wait(s);
}

void session_reply_announce(SessionStep *step) {
  SessionReply *reply = &step->s->reply;
  reply->held = FALSE;
  session_reply_emit(step, (SessionEffect){.type = SESSION_FX_RESPONSE_STARTED});
  if (reply->text_bytes > 0)
    session_reply_emit(step, (SessionEffect){.type = SESSION_FX_TEXT_DELTA, .bytes = reply->text_bytes});
}

void session_reply_delta(SessionStep *step, guint32 bytes) {
  SessionReply *reply = &step->s->reply;
  if (bytes == 0 || bytes > G_MAXINT32 - reply->text_bytes)
    return;
  reply->text_bytes += bytes;
  if (!reply->held)
    session_reply_emit(step, (SessionEffect){.type = SESSION_FX_TEXT_DELTA, .bytes = bytes});
}

void session_reply_clause(SessionStep *step, const SessionEvent *event) {
  SessionState *s = step->s;
  if (!s->reply.voiced)
    return;
  /* A clause that the ledger cannot hold is not spoken either: what is heard must be known. */
  if (!ledger_add(&s->ledger, event->begin, event->end, event->text_length, event->words, event->n_words)) {
    s->refused++;
    return;
  }
  session_reply_emit(step, (SessionEffect){.type = SESSION_FX_KEEP_CLAUSE, .index = s->ledger.clauses - 1});
}

void session_reply_finish(SessionStep *step, SessionOutcome outcome, SessionReason reason) {
  session_reply_emit(step, (SessionEffect){.type = SESSION_FX_RESPONSE_DONE,
                                           .code = (int)outcome,
                                           .reason = reason,
                                           .flag = !step->s->reply.spoken});
}

static void stop_engines(SessionStep *step) {
  SessionReply *reply = &step->s->reply;
  if (reply->stored > 0)
    session_reply_emit(step, (SessionEffect){.type = SESSION_FX_DROP_PCM});
  if (reply->synthesising)
    session_reply_emit(step, (SessionEffect){.type = SESSION_FX_TTS_CANCEL});
  if (reply->twin_open)
    session_reply_emit(step, (SessionEffect){.type = SESSION_FX_TWIN_CANCEL});
}

/* Its messages are unanswered again. */
static void take_back(SessionStep *step) {
  SessionState *s = step->s;
  session_reply_emit(step, (SessionEffect){.type = SESSION_FX_TWIN_DISCARD, .flag = TRUE});
  s->unanswered = MIN(s->unanswered + 1, (guint)SESSION_UNANSWERED);
  s->want = s->want || s->options.create_response;
}

gboolean session_reply_drop(SessionStep *step) {
  SessionState *s = step->s;
  if (s->reply.phase == REPLY_NONE || !s->reply.held)
    return FALSE;
  stop_engines(step);
  if (s->reply.confirmed)
    take_back(step);
  else
    session_reply_emit(step, (SessionEffect){.type = SESSION_FX_TWIN_DISCARD});
  s->reply.phase = REPLY_NONE;
  s->reply.held = FALSE;
  return TRUE;
}

void session_reply_end(SessionStep *step, guint64 samples, guint32 heard, gboolean cut, gboolean unanswered) {
  SessionState *s = step->s;
  if (unanswered)
    take_back(step);
  else if (s->reply.spoken)
    session_reply_emit(step, (SessionEffect){.type = SESSION_FX_TWIN_HEARD, .bytes = heard, .flag = cut});
  if (s->pacer.sent > 0)
    s->reply_over_at = s->now;
  s->ended_item = s->reply.item;
  s->ended_bytes = heard;
  s->ended_samples = samples;
  s->reply.phase = REPLY_NONE;
  s->reply.paused = FALSE;
  s->awake_until = MAX(s->awake_until, s->now + session_mic_samples(SESSION_AWAKE_MS));
  s->idle_from = s->mic_end;
  if (s->options.idle_ms > 0 && !cut && !unanswered && !s->asked_idle)
    s->idle_at = s->now + session_mic_samples(s->options.idle_ms);
}

static guint32 heard_bytes(const SessionState *s, guint64 sample) {
  const SessionReply *reply = &s->reply;
  gboolean all = !reply->twin_open && !session_reply_clauses_left(s) && sample >= reply->stored;
  /* Once the voice is lost the rest is read, so all that was delivered counts. */
  if (all || !reply->voiced)
    return reply->text_bytes;
  return MIN(ledger_heard(&s->ledger, sample), reply->text_bytes);
}

static void cut_at(SessionStep *step, guint64 sample, SessionOutcome outcome, SessionReason reason) {
  SessionState *s = step->s;
  SessionReply *reply = &s->reply;
  guint32 heard = heard_bytes(s, sample);
  gboolean partly = reply->twin_open || heard < reply->text_bytes;
  stop_engines(step);
  if (reply->phase == REPLY_RUNNING)
    session_reply_finish(step, outcome, reason);
  if (reply->spoken)
    session_reply_emit(step, (SessionEffect){.type = SESSION_FX_TRUNCATED, .samples = sample, .bytes = heard});
  /* Somebody who speaks before the first sound goes on with what was said, or only coughed. */
  gboolean unanswered = reply->spoken && reason == SESSION_REASON_TURN_DETECTED && !reply->voice_began &&
                        reply->canned == SESSION_CANNED_NONE;
  session_reply_end(step, sample, heard, partly, unanswered);
}

void session_reply_cut(SessionStep *step, SessionOutcome outcome, SessionReason reason) {
  SessionState *s = step->s;
  if (s->reply.phase == REPLY_NONE)
    return;
  if (session_reply_drop(step)) {
    /* Nobody knows of it. A failure is told when the turn is over; a client that cancels wants no other. */
    if (reason != SESSION_REASON_TURN_DETECTED)
      s->want = s->want_asked = FALSE;
    return;
  }
  cut_at(step, pacer_heard(&s->pacer), outcome, reason);
}

void session_reply_truncate(SessionStep *step, guint32 item, guint64 samples) {
  SessionState *s = step->s;
  if (s->reply.phase != REPLY_NONE && !s->reply.held && s->reply.item == item) {
    cut_at(step, MIN(samples, s->pacer.sent), SESSION_CANCELLED, SESSION_REASON_CLIENT);
    return;
  }
  /* It ended before and the twin knows how: the client is told that. */
  if (item != 0 && s->ended_item == item)
    session_emit(step,
                 &(SessionEffect){
                     .type = SESSION_FX_TRUNCATED, .item = item, .samples = s->ended_samples, .bytes = s->ended_bytes});
}

void session_reply_done(SessionStep *step, SessionOutcome outcome, guint32 bytes) {
  SessionState *s = step->s;
  s->reply.twin_open = FALSE;
  if (outcome == SESSION_COMPLETED) {
    s->reply.text_bytes = MIN(s->reply.text_bytes, bytes);
    session_reply_emit(step, (SessionEffect){.type = SESSION_FX_TWIN_ENDS, .bytes = s->reply.text_bytes});
    return;
  }
  if (guessed(s)) {
    (void)session_reply_drop(step); /* the end of the turn tries again */
    return;
  }
  if (s->reply.held)
    session_reply_announce(step);
  if (outcome == SESSION_FAILED) {
    s->error_until = s->now + session_mic_samples(SESSION_ERROR_MS);
    session_error(step, SESSION_ERR_REPLY_FAILED);
  }
  session_reply_cut(step, outcome, SESSION_REASON_ENGINE);
}

void session_reply_refused(SessionStep *step) {
  SessionState *s = step->s;
  s->reply.twin_open = s->reply.spoken = s->reply.voiced = FALSE;
  if (guessed(s)) {
    s->reply.phase = REPLY_NONE; /* there is no turn that could be discarded */
    s->reply.held = FALSE;
    session_reply_emit(step, (SessionEffect){.type = SESSION_FX_TWIN_GONE});
    return;
  }
  if (s->reply.held)
    session_reply_announce(step);
  s->error_until = s->now + session_mic_samples(SESSION_ERROR_MS);
  session_error(step, SESSION_ERR_REPLY_FAILED);
  session_reply_cut(step, SESSION_FAILED, SESSION_REASON_ENGINE);
}

void session_reply_pcm(SessionStep *step, guint64 samples) {
  SessionState *s = step->s;
  s->reply.tts_deadline = s->now + session_mic_samples(SESSION_TTS_DEADLINE_MS);
  if (samples > session_out_samples(SESSION_STORE_MS) - session_play_unsent(s)) {
    s->refused += samples;
    return;
  }
  if (s->ledger.clause[s->ledger.current].samples == 0)
    s->reply.clause_since = s->now;
  count_wait(s);
  s->reply.stored += samples;
  ledger_samples(&s->ledger, samples);
  session_reply_emit(step, (SessionEffect){.type = SESSION_FX_STORE_PCM, .samples = samples});
}

/* clause: first sample of the current one. Without room the mouth goes by loudness. */
static void keep_mouth(SessionStep *step, guint64 clause, guint64 position) {
  SessionReply *reply = &step->s->reply;
  if (reply->mouths - reply->told >= SESSION_MOUTHS)
    return;
  reply->mouth[reply->mouths % SESSION_MOUTHS] = (SessionMouth){.clause = clause, .first = clause + position};
  session_reply_emit(step, (SessionEffect){.type = SESSION_FX_KEEP_VISEMES, .index = reply->mouths++});
}

void session_reply_mouth(SessionStep *step, guint64 position) {
  SessionState *s = step->s;
  guint64 clause = s->reply.stored - s->ledger.clause[s->ledger.current].samples;
  s->reply.mouth_clause = s->ledger.current + 1;
  keep_mouth(step, clause, position);
}

static void count_pace(SessionState *s) {
  guint64 took = session_out_time(s->now - s->reply.clause_asked), made = s->ledger.clause[s->ledger.current].samples;
  if (made < session_out_samples(200))
    return; /* too short to tell */
  guint pace = (guint)CLAMP(made * 100 / MAX(took, (guint64)1), (guint64)5, (guint64)10000);
  s->voice_pace = s->voice_pace == 0 ? pace : (s->voice_pace * 2 + pace) / 3;
}

void session_reply_clause_done(SessionStep *step, const LedgerWord *words, guint n) {
  SessionState *s = step->s;
  s->reply.synthesising = FALSE;
  count_pace(s);
  if (s->reply.dry_clause != s->ledger.current + 1)
    s->reserve_ms -= MIN(s->reserve_ms, (guint)SESSION_RESERVE_CALM_MS);
  const LedgerClause *clause = &s->ledger.clause[s->ledger.current];
  if (clause->samples > 0 && s->reply.mouth_clause != s->ledger.current + 1)
    keep_mouth(step, clause->first, 0);
  ledger_complete(&s->ledger, words, n);
}

void session_reply_clause_failed(SessionStep *step, SessionError code) {
  if (guessed(step->s)) {
    (void)session_reply_drop(step); /* the end of the turn tries again */
    return;
  }
  /* The clause stays unspoken (whole or in part) and the reply goes on with the next one. */
  session_error(step, code);
  step->s->reply.synthesising = FALSE;
  ledger_complete(&step->s->ledger, NULL, 0);
}

void session_reply_voice_lost(SessionStep *step) {
  SessionState *s = step->s;
  SessionReply *reply = &s->reply;
  if (reply->phase != REPLY_RUNNING || !reply->voiced)
    return;
  if (!session_reply_clauses_left(s) && !reply->twin_open)
    return; /* all its audio is here */
  if (guessed(s)) {
    (void)session_reply_drop(step);
    return;
  }
  session_error(step, SESSION_ERR_TTS_LOST);
  if (reply->synthesising) {
    reply->synthesising = FALSE;
    ledger_complete(&s->ledger, NULL, 0);
  }
  reply->voiced = FALSE;
}
