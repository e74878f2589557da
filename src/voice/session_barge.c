#include "voice/session_private.h"

void session_barge_begin(SessionStep *step) {
  step->s->utterance.tentative = TRUE;
  session_play_pause(step);
}

void session_barge_commit(SessionStep *step) {
  SessionState *s = step->s;
  SessionUtterance *u = &s->utterance;
  u->tentative = FALSE;
  s->asked_idle = FALSE;
  s->cuts += session_audible(s);
  session_emit(step, &(SessionEffect){.type = SESSION_FX_SPEECH_STARTED, .item = u->item, .position = u->start});
  session_reply_cut(step, SESSION_CANCELLED, SESSION_REASON_TURN_DETECTED);
}

void session_barge_release(SessionStep *step) {
  session_ear_drop(step);
}

/* How much speech interrupts. An echo dies with the playback: what is buffered, and the room, go on for a while. */
static guint64 enough(const SessionState *s) {
  gboolean early = s->now - s->reply.heard_since < session_mic_samples(SESSION_EARLY_MS);
  guint ms = early ? SESSION_CUT_EARLY_MS : SESSION_CUT_MS;
  if (s->utterance.backchannel)
    ms += SESSION_CUT_BACKCHANNEL_MS;
  guint onset = SESSION_BARGE_IN_WINDOWS * CHOIR_VAD_WINDOW * 1000 / CHOIR_RATE_MIC;
  return session_mic_samples(MAX(ms, onset + s->pacer.lead_ms + SESSION_ECHO_TAIL_MS));
}

void session_barge_window(SessionStep *step, gboolean voiced) {
  SessionState *s = step->s;
  SessionUtterance *u = &s->utterance;
  if (!voiced) {
    u->run = 0;
    guint64 silence = s->window_end - u->voiced_until;
    gboolean deciding = s->stt.phase == STT_RUNNING && s->stt.speculative;
    if ((u->backchannel && silence >= session_mic_samples(SESSION_JUDGE_MS)) ||
        (silence >= session_mic_samples(SESSION_TRAIL_MS) && (!s->ready[SESSION_STT] || s->turns > 0)) ||
        (silence >= session_mic_samples(SESSION_UNDECIDED_MS) && !deciding))
      session_barge_release(step);
    return;
  }
  u->run++;
  /* It went on while nobody knew what was said first. */
  if (!s->reply.paused && u->run >= SESSION_BARGE_IN_WINDOWS && session_audible(s))
    session_play_pause(step);
  if (u->voiced >= enough(s))
    session_barge_commit(step);
}

void session_barge_text(SessionStep *step) {
  SessionState *s = step->s;
  const SessionStt *stt = &s->stt;
  gboolean words = stt->understood && !stt->echo && stt->said != TURN_SAID_BACKCHANNEL;
  if (words) {
    session_barge_commit(step);
    return;
  }
  /* Who goes on speaking gets a hearing for that, too. */
  if (stt->partial)
    return;
  s->echoes += stt->understood && stt->echo;
  s->backchannels += stt->understood && !stt->echo;
  session_barge_release(step);
}

static void wake_up(SessionStep *step, guint64 position) {
  SessionState *s = step->s;
  s->awake_until = s->now + session_mic_samples(SESSION_AWAKE_MS);
  /* The wake word is no part of what is asked. */
  s->vad_floor = MAX(s->vad_floor, MIN(position, s->mic_end));
  s->uncommitted = MAX(s->uncommitted, s->vad_floor);
  s->utterance.run = 0;
}

/* Most of the voice in which a phrase was spotted was the agent's. */
static gboolean own_words(const SessionState *s) {
  const guint32 mask = (1u << SESSION_SPOT_WINDOWS) - 1;
  guint loud = (guint)__builtin_popcount(s->loud & mask), own = (guint)__builtin_popcount(s->own & mask);
  return own > 0 && 2 * own >= loud;
}

void session_barge_heard(SessionStep *step, const SessionEvent *event) {
  SessionState *s = step->s;
  SessionUtterance *u = &s->utterance;
  if (event->echo || s->options.muted || !s->options.server_vad)
    return;
  if (event->count & SESSION_SPOT_WAKE) {
    if (s->options.wake && !session_awake(s))
      wake_up(step, event->position);
    return;
  }
  if (!session_audible(s) || !s->options.interrupt || s->options.half_duplex || own_words(s))
    return;
  if (event->count & SESSION_SPOT_BACKCHANNEL) {
    if (!u->active || !u->tentative)
      return;
    u->backchannel = TRUE;
    s->backchannels++;
    if (u->paused)
      session_barge_release(step);
    return;
  }
  if (u->active) {
    if (u->tentative)
      session_barge_commit(step);
    return;
  }
  if (s->turns == SESSION_TURNS)
    return;
  /* Heard without an onset: softly, or under the agent's voice. */
  guint64 back = session_mic_samples(s->options.prefix_ms + SESSION_CUT_MS), end = MIN(event->position, s->window_end);
  guint64 start = MAX(end > back ? end - back : 0, s->uncommitted);
  if (start >= end) {
    /* In audio that is part of a turn already: there is nothing left to transcribe. */
    session_reply_cut(step, SESSION_CANCELLED, SESSION_REASON_TURN_DETECTED);
    return;
  }
  *u = (SessionUtterance){.active = TRUE, .item = ++s->items, .start = start, .voiced_until = end, .over_reply = TRUE};
  s->idle_at = 0;
  session_barge_commit(step);
}

void session_barge_tick(SessionStep *step) {
  SessionState *s = step->s;
  SessionUtterance *u = &s->utterance;
  if (!s->reply.paused || s->now - s->reply.paused_at < session_mic_samples(SESSION_DECIDE_MS))
    return;
  u->run = 0;
  /* It was not enough; what comes back of the agent's own voice in each such pause must not add up. */
  u->voiced = 0;
  session_play_resume(step);
}
