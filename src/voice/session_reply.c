#include "voice/session_private.h"

static void emit_reply(SessionStep *step, SessionEffect effect) {
  effect.gen = step->s->reply.gen;
  effect.item = step->s->reply.item;
  effect.response = step->s->reply.response;
  session_emit(step, &effect);
}

static guint64 unsent(const SessionState *s) {
  return s->reply.stored - s->pacer.sent;
}

static gboolean clauses_left(const SessionReply *reply, const Ledger *ledger) {
  return reply->voiced && (reply->synthesising || reply->next_clause < ledger->clauses);
}

void session_reply_begin(SessionStep *step) {
  SessionState *s = step->s;
  gboolean spoken = s->options.audio_out && s->ready[SESSION_TTS];
  if (s->options.audio_out && !spoken && !s->told[SESSION_TTS]) {
    s->told[SESSION_TTS] = TRUE;
    session_emit(step, &(SessionEffect){.type = SESSION_FX_STATUS, .code = SESSION_STATUS_TEXT_ONLY});
  }
  s->reply = (SessionReply){.phase = REPLY_RUNNING,
                            .gen = ++s->gens,
                            .item = ++s->items,
                            .response = ++s->responses,
                            .spoken = spoken,
                            .voiced = spoken,
                            .twin_open = TRUE};
  ledger_reset(&s->ledger);
  pacer_begin(&s->pacer, session_out_time(s->now));
  s->unanswered = 0;
  s->want = s->want_asked = FALSE;
  emit_reply(step, (SessionEffect){.type = SESSION_FX_RESPONSE_STARTED});
  emit_reply(step, (SessionEffect){.type = SESSION_FX_TWIN_BEGIN, .flag = spoken, .position = s->speech_end});
}

void session_reply_delta(SessionStep *step, guint32 bytes) {
  SessionReply *reply = &step->s->reply;
  if (bytes == 0 || bytes > G_MAXINT32 - reply->text_bytes)
    return;
  reply->text_bytes += bytes;
  emit_reply(step, (SessionEffect){.type = SESSION_FX_TEXT_DELTA, .bytes = bytes});
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
  emit_reply(step, (SessionEffect){.type = SESSION_FX_KEEP_CLAUSE, .index = s->ledger.clauses - 1});
}

static void respond_done(SessionStep *step, SessionOutcome outcome, SessionReason reason) {
  emit_reply(step, (SessionEffect){.type = SESSION_FX_RESPONSE_DONE,
                                   .code = (int)outcome,
                                   .reason = reason,
                                   .flag = !step->s->reply.spoken});
}

/* The reply is over in every respect. */
static void end_reply(SessionStep *step, guint64 samples, guint32 heard, gboolean cut, gboolean unanswered) {
  SessionState *s = step->s;
  if (unanswered) {
    emit_reply(step, (SessionEffect){.type = SESSION_FX_TWIN_DISCARD});
    s->unanswered = MIN(s->unanswered + 1, (guint)SESSION_UNANSWERED);
    s->want = s->want || s->options.create_response;
  } else if (s->reply.spoken)
    emit_reply(step, (SessionEffect){.type = SESSION_FX_TWIN_HEARD, .bytes = heard, .flag = cut});
  s->ended_item = s->reply.item;
  s->ended_bytes = heard;
  s->ended_samples = samples;
  s->reply.phase = REPLY_NONE;
}

static guint32 heard_bytes(const SessionState *s, guint64 sample) {
  const SessionReply *reply = &s->reply;
  gboolean all = !reply->twin_open && !clauses_left(reply, &s->ledger) && sample >= reply->stored;
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
  if (reply->stored > 0)
    emit_reply(step, (SessionEffect){.type = SESSION_FX_DROP_PCM});
  if (reply->synthesising)
    emit_reply(step, (SessionEffect){.type = SESSION_FX_TTS_CANCEL});
  if (reply->twin_open)
    emit_reply(step, (SessionEffect){.type = SESSION_FX_TWIN_CANCEL});
  if (reply->phase == REPLY_RUNNING)
    respond_done(step, outcome, reason);
  if (reply->spoken)
    emit_reply(step, (SessionEffect){.type = SESSION_FX_TRUNCATED, .samples = sample, .bytes = heard});
  /* Somebody who speaks before the first sound goes on with what was said, or only coughed. */
  gboolean unanswered = reply->spoken && reason == SESSION_REASON_TURN_DETECTED && s->pacer.sent == 0;
  end_reply(step, sample, heard, partly, unanswered);
}

void session_reply_cut(SessionStep *step, SessionOutcome outcome, SessionReason reason) {
  if (step->s->reply.phase != REPLY_NONE)
    cut_at(step, pacer_heard(&step->s->pacer), outcome, reason);
}

void session_reply_truncate(SessionStep *step, guint32 item, guint64 samples) {
  SessionState *s = step->s;
  if (s->reply.phase != REPLY_NONE && s->reply.item == item) {
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
    emit_reply(step, (SessionEffect){.type = SESSION_FX_TWIN_ENDS, .bytes = s->reply.text_bytes});
    return;
  }
  if (outcome == SESSION_FAILED) {
    s->error_until = s->now + session_mic_samples(SESSION_ERROR_MS);
    session_error(step, SESSION_ERR_REPLY_FAILED);
  }
  session_reply_cut(step, outcome, SESSION_REASON_ENGINE);
}

void session_reply_refused(SessionStep *step) {
  SessionState *s = step->s;
  s->reply.twin_open = s->reply.spoken = s->reply.voiced = FALSE;
  s->error_until = s->now + session_mic_samples(SESSION_ERROR_MS);
  session_error(step, SESSION_ERR_REPLY_FAILED);
  session_reply_cut(step, SESSION_FAILED, SESSION_REASON_ENGINE);
}

void session_reply_pcm(SessionStep *step, guint64 samples) {
  SessionState *s = step->s;
  s->reply.tts_deadline = s->now + session_mic_samples(SESSION_TTS_DEADLINE_MS);
  if (samples > session_out_samples(SESSION_STORE_MS) - unsent(s)) {
    s->refused += samples;
    return;
  }
  s->reply.stored += samples;
  ledger_samples(&s->ledger, samples);
  emit_reply(step, (SessionEffect){.type = SESSION_FX_STORE_PCM, .samples = samples});
}

void session_reply_clause_done(SessionStep *step, const LedgerWord *words, guint n) {
  step->s->reply.synthesising = FALSE;
  ledger_complete(&step->s->ledger, words, n);
}

void session_reply_clause_failed(SessionStep *step, SessionError code) {
  /* The clause stays unspoken (whole or in part) and the reply goes on with the next one. */
  session_error(step, code);
  session_reply_clause_done(step, NULL, 0);
}

void session_reply_voice_lost(SessionStep *step) {
  SessionReply *reply = &step->s->reply;
  if (reply->phase != REPLY_RUNNING || !reply->voiced)
    return;
  if (!clauses_left(reply, &step->s->ledger) && !reply->twin_open)
    return; /* all its audio is here */
  session_error(step, SESSION_ERR_TTS_LOST);
  if (reply->synthesising)
    session_reply_clause_done(step, NULL, 0);
  reply->voiced = FALSE;
}

void session_reply_ack(SessionStep *step, const SessionEvent *event) {
  SessionState *s = step->s;
  if (s->reply.phase == REPLY_NONE || s->reply.item != event->item)
    return;
  if (pacer_ack(&s->pacer, event->samples, event->count) == PACER_LEAD_CHANGED)
    session_emit(step, &(SessionEffect){.type = SESSION_FX_STATUS, .code = SESSION_STATUS_LEAD});
}

static void synthesise(SessionStep *step) {
  SessionState *s = step->s;
  SessionReply *reply = &s->reply;
  if (!reply->voiced || reply->synthesising || reply->next_clause >= s->ledger.clauses ||
      unsent(s) > session_out_samples(SESSION_AHEAD_MS))
    return;
  reply->synthesising = TRUE;
  reply->tts_deadline = s->now + session_mic_samples(SESSION_TTS_DEADLINE_MS);
  emit_reply(step, (SessionEffect){.type = SESSION_FX_TTS_JOB, .index = reply->next_clause++});
}

static void send_audio(SessionStep *step) {
  SessionState *s = step->s;
  gboolean more = s->reply.twin_open || clauses_left(&s->reply, &s->ledger);
  guint64 n = pacer_allow(&s->pacer, unsent(s), !more);
  if (n > 0) {
    if (s->pacer.sent == 0)
      emit_reply(step, (SessionEffect){.type = SESSION_FX_FIRST_AUDIO});
    pacer_sent(&s->pacer, n);
    emit_reply(step, (SessionEffect){.type = SESSION_FX_SEND_AUDIO, .samples = n});
  }
  if (more && unsent(s) < session_out_samples(PACER_CHUNK_MS) && s->pacer.sent > 0)
    pacer_dry(&s->pacer);
}

void session_reply_advance(SessionStep *step) {
  SessionState *s = step->s;
  SessionReply *reply = &s->reply;
  if (reply->phase == REPLY_NONE)
    return;
  if (reply->synthesising && s->now >= reply->tts_deadline) {
    emit_reply(step, (SessionEffect){.type = SESSION_FX_TTS_CANCEL});
    /* Its late samples would count for the next clause, so the rest is text. */
    session_reply_clause_failed(step, SESSION_ERR_TTS_TIMEOUT);
    reply->voiced = FALSE;
  }
  synthesise(step);
  send_audio(step);
  if (reply->phase == REPLY_RUNNING && !reply->twin_open && !clauses_left(reply, &s->ledger) && unsent(s) == 0) {
    respond_done(step, SESSION_COMPLETED, SESSION_REASON_NONE);
    reply->phase = REPLY_TAIL;
  }
  if (reply->phase == REPLY_TAIL && pacer_drained(&s->pacer)) {
    if (s->pacer.sent > 0)
      emit_reply(step, (SessionEffect){.type = SESSION_FX_PLAYOUT_DONE});
    end_reply(step, s->pacer.sent, reply->text_bytes, FALSE, FALSE);
  }
}
