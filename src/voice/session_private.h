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

/* session_ear.c: the utterance, the turns and their transcription */
void session_ear_audio(SessionStep *step, guint64 samples);
void session_ear_window(SessionStep *step, guint64 position, double probability);
void session_ear_commit(SessionStep *step);
void session_ear_clear(SessionStep *step);
void session_ear_configure(SessionStep *step, const SessionOptions *options);
void session_ear_lost(SessionStep *step);
void session_ear_tick(SessionStep *step);
void session_stt_text(SessionStep *step, gboolean understood);
void session_stt_failed(SessionStep *step, SessionError code);
void session_stt_lost(SessionStep *step);
void session_stt_hangup(SessionStep *step);

/* session_reply.c: the reply, its synthesis and its playout */
void session_reply_begin(SessionStep *step);
void session_reply_delta(SessionStep *step, guint32 bytes);
void session_reply_clause(SessionStep *step, const SessionEvent *event);
void session_reply_done(SessionStep *step, SessionOutcome outcome, guint32 bytes);
void session_reply_refused(SessionStep *step);
void session_reply_pcm(SessionStep *step, guint64 samples);
void session_reply_clause_done(SessionStep *step, const LedgerWord *words, guint n);
void session_reply_clause_failed(SessionStep *step, SessionError code);
void session_reply_voice_lost(SessionStep *step);
void session_reply_ack(SessionStep *step, const SessionEvent *event);
void session_reply_truncate(SessionStep *step, guint32 item, guint64 samples);
/* Ends the reply where the listener is now. */
void session_reply_cut(SessionStep *step, SessionOutcome outcome, SessionReason reason);
/* Sends, synthesises and finishes what can be: after every event. */
void session_reply_advance(SessionStep *step);
