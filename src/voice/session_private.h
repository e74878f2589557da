/* What the files of session_step() share. */
#pragma once
#include "voice/session.h"

typedef struct {
  SessionState *s;
  SessionEffect *effects;
  guint n, max;
} SessionStep;

static inline guint64 session_mic_samples(guint64 ms) {
  return ms * CHOIR_RATE_MIC / 1000;
}

static inline guint64 session_out_samples(guint64 ms) {
  return ms * CHOIR_RATE_OUT / 1000;
}

/* The pacer counts in samples of the other rate. */
static inline guint64 session_out_time(guint64 mic_time) {
  return mic_time * (CHOIR_RATE_OUT / 1000) / (CHOIR_RATE_MIC / 1000);
}

void session_emit(SessionStep *step, const SessionEffect *effect);
void session_error(SessionStep *step, SessionError code);
void session_status(SessionStep *step, SessionStatus status);
/* FALSE: only the wake word counts. */
gboolean session_awake(const SessionState *s);

/* session_ear.c: the utterance */
void session_ear_audio(SessionStep *step, guint64 samples);
void session_ear_window(SessionStep *step, const SessionEvent *event);
void session_ear_commit(SessionStep *step);
void session_ear_clear(SessionStep *step);
void session_ear_configure(SessionStep *step, const SessionOptions *options);
void session_ear_lost(SessionStep *step);
void session_ear_tick(SessionStep *step);
void session_ear_verdict(SessionStep *step, double probability);
void session_ear_drop(SessionStep *step); /* forgets the utterance */

/* session_turn.c: the turns and their transcription */
gboolean session_stt_cancel(SessionStep *step);
void session_stt_start(SessionStep *step, guint32 item, guint64 start, guint64 end, gboolean speculative);
/* While somebody speaks on and on: a transcription of what was said so far, for the prompt. */
void session_stt_along(SessionStep *step);
void session_turn_commit(SessionStep *step, const SessionTurn *turn, guint32 item);
void session_stt_text(SessionStep *step, const SessionEvent *event);
void session_stt_failed(SessionStep *step, SessionError code);
void session_stt_lost(SessionStep *step);
void session_stt_tick(SessionStep *step);
void session_stt_hangup(SessionStep *step);
/* Begins a reply on the kept transcript when the pause is long enough. TRUE: it runs. */
gboolean session_turn_guess(SessionStep *step);

/* session_barge.c: speech over a reply */
void session_barge_begin(SessionStep *step);
void session_barge_window(SessionStep *step, gboolean voiced);
void session_barge_text(SessionStep *step); /* its transcript is there, whole or in part */
void session_barge_heard(SessionStep *step, const SessionEvent *event);
void session_barge_tick(SessionStep *step);
void session_barge_commit(SessionStep *step);  /* it is an interruption */
void session_barge_release(SessionStep *step); /* it was nothing */

/* session_reply.c: the reply and its synthesis */
typedef enum { REPLY_ANNOUNCED, REPLY_HELD, REPLY_GUESSED } SessionReplyKind;
void session_reply_begin(SessionStep *step, SessionReplyKind kind);
void session_reply_canned(SessionStep *step, SessionCanned canned);
/* The turn that a reply was guessed for is over. */
void session_reply_confirm(SessionStep *step);
/* A held reply is taken back. FALSE: there is none. */
gboolean session_reply_drop(SessionStep *step);
void session_reply_delta(SessionStep *step, guint32 bytes);
void session_reply_clause(SessionStep *step, const SessionEvent *event);
void session_reply_done(SessionStep *step, SessionOutcome outcome, guint32 bytes);
void session_reply_refused(SessionStep *step);
void session_reply_pcm(SessionStep *step, guint64 samples);
void session_reply_mouth(SessionStep *step, guint64 position);
void session_reply_clause_done(SessionStep *step, const LedgerWord *words, guint n);
void session_reply_clause_failed(SessionStep *step, SessionError code);
void session_reply_voice_lost(SessionStep *step);
void session_reply_truncate(SessionStep *step, guint32 item, guint64 samples);
/* Ends the reply where the listener is now. */
void session_reply_cut(SessionStep *step, SessionOutcome outcome, SessionReason reason);
/* The reply is over in every respect. */
void session_reply_end(SessionStep *step, guint64 samples, guint32 heard, gboolean cut, gboolean unanswered);
void session_reply_emit(SessionStep *step, SessionEffect effect); /* with the reply's numbers */
void session_reply_announce(SessionStep *step);
gboolean session_reply_clauses_left(const SessionState *s);
void session_reply_finish(SessionStep *step, SessionOutcome outcome, SessionReason reason);

/* session_play.c: its playout */
guint64 session_play_unsent(const SessionState *s);
void session_play_ack(SessionStep *step, const SessionEvent *event);
void session_play_pause(SessionStep *step);
void session_play_resume(SessionStep *step);
/* Sends, synthesises and finishes what can be: after every event. */
void session_play_advance(SessionStep *step);
