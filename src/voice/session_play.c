#include "voice/session_private.h"

guint64 session_play_unsent(const SessionState *s) {
  return s->reply.stored - s->pacer.sent;
}

void session_play_ack(SessionStep *step, const SessionEvent *event) {
  SessionState *s = step->s;
  if (s->reply.phase == REPLY_NONE || s->reply.item != event->item)
    return;
  if (pacer_ack(&s->pacer, event->samples, event->count) == PACER_LEAD_CHANGED)
    session_status(step, SESSION_STATUS_LEAD);
}

void session_play_pause(SessionStep *step) {
  SessionState *s = step->s;
  if (s->reply.paused || !session_audible(s))
    return;
  s->reply.paused = s->pacer.paused = TRUE;
  s->reply.paused_at = s->now;
  session_reply_emit(step, (SessionEffect){.type = SESSION_FX_PAUSED});
}

void session_play_resume(SessionStep *step) {
  SessionState *s = step->s;
  if (!s->reply.paused)
    return;
  s->reply.paused = FALSE;
  s->resumes++;
  pacer_resume(&s->pacer);
  /* A listener that acknowledges held what it had and fades in there; the others have played it all. */
  session_reply_emit(
      step, (SessionEffect){.type = SESSION_FX_RESUMED, .samples = pacer_heard(&s->pacer), .flag = !s->pacer.acks});
}

static void synthesise(SessionStep *step) {
  SessionState *s = step->s;
  SessionReply *reply = &s->reply;
  if (!reply->voiced || reply->synthesising || reply->next_clause >= s->ledger.clauses ||
      session_play_unsent(s) > session_out_samples(SESSION_AHEAD_MS))
    return;
  reply->synthesising = TRUE;
  reply->clause_asked = s->now;
  reply->tts_deadline = s->now + session_mic_samples(SESSION_TTS_DEADLINE_MS);
  session_reply_emit(step, (SessionEffect){.type = SESSION_FX_TTS_JOB, .index = reply->next_clause++});
}

/* Something to hear while a long wait lasts: at once when past waits say so, else when this one is long already. */
static void fill_wait(SessionStep *step) {
  SessionState *s = step->s;
  SessionReply *reply = &s->reply;
  if (reply->filled || !reply->confirmed || !reply->voiced || reply->stored > 0)
    return;
  gboolean expected = s->wait >= session_mic_samples(SESSION_FILLER_MS);
  guint64 waited = s->now - reply->asked_at;
  if (waited < session_mic_samples(expected ? SESSION_FILLER_SOON_MS : SESSION_FILLER_MS))
    return;
  for (guint i = 0; i < SESSION_FILLERS && !reply->filled; i++) {
    guint index = (s->next_filler + i) % SESSION_FILLERS;
    guint64 samples = s->filler[index];
    if (samples == 0 || samples > session_out_samples(SESSION_STORE_MS) || !ledger_filler(&s->ledger, samples))
      continue;
    s->next_filler = index + 1;
    reply->filled = TRUE;
    reply->stored += samples;
    session_reply_emit(step, (SessionEffect){.type = SESSION_FX_FILLER, .index = index, .samples = samples});
  }
}

/* A clause that comes in pieces is begun when the voice will not be overtaken in the middle of it: so much must be
 * there as it falls behind while it makes the rest. */
static gboolean keeps_up(const SessionState *s) {
  const LedgerClause *clause = &s->ledger.clause[s->ledger.current];
  guint64 whole = (guint64)clause->text_length * LEDGER_SAMPLES_PER_LETTER;
  guint64 rest = whole > clause->samples ? whole - clause->samples : 0;
  guint64 took = MAX(session_out_time(s->now - s->reply.clause_asked), (guint64)1);
  guint64 pace = MAX(clause->samples * 100 / took, (guint64)1); /* of this clause so far */
  if (s->voice_pace > 0)
    pace = (pace + s->voice_pace) / 2;
  guint64 reserve = MIN(session_out_samples(s->reserve_ms), rest);
  /* The next piece may be as many times as long, and comes as a whole. */
  guint64 next = MIN(rest, (guint64)SESSION_PIECE_RATIO * clause->samples) * SESSION_PIECE_PERCENT / pace;
  if (pace < 125) /* slower than it is heard, or hardly quicker */
    reserve += rest * (125 - pace) / pace;
  return session_play_unsent(s) >= MAX(reserve, next);
}

/* Samples that may go out: those of whole clauses, whose words and mouth shapes are known; of one that is being made
 * when those do not come soon and it will not run dry. */
static guint64 sendable(const SessionState *s) {
  guint64 known = ledger_known(&s->ledger);
  gboolean begun = s->pacer.sent > known;
  gboolean shapes = s->reply.mouth_clause == s->ledger.current + 1;
  gboolean soon = !shapes && s->now - s->reply.clause_since < session_mic_samples(SESSION_CLAUSE_WAIT_MS);
  if (!s->reply.synthesising || begun || (!soon && keeps_up(s)))
    known = s->reply.stored;
  return known - MIN(known, s->pacer.sent);
}

/* The mouth shapes of what begins in the next n samples. */
static void tell_shapes(SessionStep *step, guint64 n) {
  SessionState *s = step->s;
  SessionReply *reply = &s->reply;
  for (guint told = 0; reply->told < reply->mouths && told < 8; reply->told++, told++) {
    const SessionMouth *mouth = &reply->mouth[reply->told % SESSION_MOUTHS];
    if (mouth->first >= s->pacer.sent + n)
      return;
    session_reply_emit(step,
                       (SessionEffect){.type = SESSION_FX_VISEMES, .index = reply->told, .position = mouth->clause});
  }
}

/* The first sample that is no filler's. */
static guint64 voice_begins(const SessionState *s) {
  for (guint i = 0; i < s->ledger.clauses && i <= s->ledger.current; i++)
    if (s->ledger.clause[i].samples > 0)
      return s->ledger.clause[i].first;
  return s->reply.stored;
}

/* A clause that was begun too early is heard torn, on a machine that is busy now and will be in a moment. */
static void note_dry(SessionState *s) {
  SessionReply *reply = &s->reply;
  gboolean torn = reply->synthesising && s->pacer.sent > ledger_known(&s->ledger) && pacer_drained(&s->pacer);
  if (!torn || reply->dry_clause == s->ledger.current + 1)
    return;
  reply->dry_clause = s->ledger.current + 1;
  s->reserve_ms = MIN(s->reserve_ms + SESSION_RESERVE_STEP_MS, (guint)SESSION_RESERVE_MOST_MS);
}

static void send_audio(SessionStep *step) {
  SessionState *s = step->s;
  SessionReply *reply = &s->reply;
  gboolean more = reply->twin_open || session_reply_clauses_left(s);
  guint64 ready = sendable(s);
  guint64 n = pacer_allow(&s->pacer, ready, !more && ready == session_play_unsent(s));
  if (n > 0) {
    tell_shapes(step, n);
    if (s->pacer.sent == 0)
      reply->heard_since = s->now;
    if (!reply->voice_began && s->pacer.sent + n > voice_begins(s)) {
      reply->voice_began = TRUE;
      session_reply_emit(step, (SessionEffect){.type = SESSION_FX_FIRST_AUDIO});
    }
    pacer_sent(&s->pacer, n);
    session_reply_emit(step, (SessionEffect){.type = SESSION_FX_SEND_AUDIO, .samples = n});
  }
  if (more && sendable(s) < session_out_samples(PACER_CHUNK_MS) && s->pacer.sent > 0) {
    note_dry(s);
    pacer_dry(&s->pacer);
  }
}

void session_play_advance(SessionStep *step) {
  SessionState *s = step->s;
  SessionReply *reply = &s->reply;
  if (reply->phase == REPLY_NONE)
    return;
  if (reply->synthesising && s->now >= reply->tts_deadline) {
    session_reply_emit(step, (SessionEffect){.type = SESSION_FX_TTS_CANCEL});
    /* Its late samples would count for the next clause, so the rest is text. */
    session_reply_clause_failed(step, SESSION_ERR_TTS_TIMEOUT);
    if (reply->phase == REPLY_NONE)
      return;
    reply->voiced = FALSE;
  }
  synthesise(step);
  fill_wait(step);
  if (reply->held) {
    gboolean something = sendable(s) > 0 || !reply->voiced || (!reply->twin_open && !session_reply_clauses_left(s));
    if (!reply->confirmed || (!something && s->now < reply->held_until))
      return;
    session_reply_announce(step);
  }
  if (reply->paused)
    return;
  send_audio(step);
  if (reply->phase == REPLY_RUNNING && !reply->twin_open && !session_reply_clauses_left(s) &&
      session_play_unsent(s) == 0) {
    session_reply_finish(step, SESSION_COMPLETED, SESSION_REASON_NONE);
    reply->phase = REPLY_TAIL;
  }
  if (reply->phase == REPLY_TAIL && pacer_drained(&s->pacer)) {
    if (s->pacer.sent > 0)
      session_reply_emit(step, (SessionEffect){.type = SESSION_FX_PLAYOUT_DONE});
    session_reply_end(step, s->pacer.sent, reply->text_bytes, FALSE, FALSE);
  }
}
