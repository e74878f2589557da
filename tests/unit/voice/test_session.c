/* Whole conversations under virtual time with fake engines. The bookkeeper in world.c checks the invariants at every
 * step. */
#include "world.h"

#define MIC(ms) ((guint64)(ms)*CHOIR_RATE_MIC / 1000)
#define OUT(ms) ((guint64)(ms)*CHOIR_RATE_OUT / 1000)

static World *start(void) {
  SessionOptions options = world_options();
  return world_new(&options);
}

static void finish(World *w) {
  /* nothing hangs: the reply ends and the client rests */
  w->mic = FALSE;
  world_until(w, SESSION_IDLE, 60000);
  g_assert_cmpuint(w->active_response, ==, 0);
  g_assert_cmpuint(w->responses, ==, w->dones);
  g_assert_cmpuint(w->begins_spoken, ==, w->heards + w->discards);
  g_assert_false(session_needs_tick(&w->s));
  world_free(w);
}

static void test_plain(void) {
  World *w = start();
  world_say(w, 1200);
  world_until(w, SESSION_SPEAKING, 3000);
  world_until(w, SESSION_LISTENING, 10000);
  g_assert_true(world_said(w, "started stt stopped committed transcript response begin done playout heard"));
  g_assert_cmpuint(w->heard_bytes, ==, 80);
  g_assert_false(w->heard_cut);
  g_assert_cmpuint(w->sent, ==, OUT(4000));
  finish(w);
}

/* The transcription began in the pause; the end of the turn finds it done. */
static void test_speculation(void) {
  World *w = start();
  w->stt_ms = 100;
  world_say(w, 800);
  world_run(w, 400);
  g_assert_true(world_said(w, "started stt"));
  g_assert_cmpuint(w->transcripts, ==, 0);
  /* the person goes on: that transcript is void */
  world_say(w, 800);
  world_until(w, SESSION_THINKING, 2000);
  g_assert_true(world_said(w, "started stt stt stopped committed transcript response"));
  g_assert_cmpuint(w->transcripts, ==, 1);
  /* whole utterance, from before the onset to the pause */
  g_assert_cmpuint(w->job_start, <=, MIC(40));
  g_assert_cmpuint(w->job_end, >=, MIC(2000));
  finish(w);
}

static void test_speculation_late(void) {
  World *w = start();
  w->stt_ms = 1500;
  w->deaf = TRUE;
  world_say(w, 600);
  world_run(w, 400);
  world_say(w, 600);
  world_until(w, SESSION_THINKING, 3000);
  world_run(w, 2000);
  g_assert_cmpuint(w->transcripts, ==, 1);
  g_assert_cmpuint(w->s.stale, ==, 1);
  g_assert_true(world_said(w, "started stt stt-cancel stt stopped committed transcript"));
  finish(w);
}

static void test_noise_is_no_onset(void) {
  World *w = start();
  world_say(w, 60);
  world_run(w, 2000);
  g_assert_cmpuint(w->committed, ==, 0);
  g_assert_cmpstr(w->log->str, ==, " ");
  finish(w);
}

static void windows(World *w, guint n, double probability) {
  world_event(w, (SessionEvent){.type = SESSION_EV_AUDIO, .samples = (guint64)n * CHOIR_VAD_WINDOW});
  for (guint i = 0; i < n; i++, w->window_done += CHOIR_VAD_WINDOW)
    world_event(w, (SessionEvent){.type = SESSION_EV_WINDOW,
                                  .position = w->window_done + CHOIR_VAD_WINDOW,
                                  .probability = probability});
}

/* Three windows start a turn, four interrupt; doubtful ones neither count nor break; hysteresis keeps speech going. */
static void test_onset(void) {
  World *w = start();
  windows(w, 2, 0.6);
  windows(w, 1, 0.1);
  windows(w, 2, 0.6);
  windows(w, 1, 0.4);
  g_assert_false(w->s.utterance.active);
  windows(w, 1, 0.6);
  g_assert_true(w->s.utterance.active);
  windows(w, 100, 0.4);
  g_assert_true(w->s.utterance.active);
  windows(w, 18, 0.3);
  g_assert_true(w->s.utterance.active);
  windows(w, 1, 0.3);
  g_assert_false(w->s.utterance.active);
  world_until(w, SESSION_SPEAKING, 3000);
  windows(w, 3, 0.6);
  g_assert_cmpuint(w->pauses, ==, 0);
  windows(w, 1, 0.6);
  g_assert_cmpuint(w->pauses, ==, 1);
  finish(w);
}

/* Doubtful windows do not stretch a run into the past. */
static void test_onset_run(void) {
  World *w = start();
  windows(w, 1, 0.6);
  windows(w, 200, 0.4);
  windows(w, 3, 0.6);
  g_assert_true(w->s.utterance.active);
  g_assert_cmpuint(w->s.utterance.start, ==, 201 * CHOIR_VAD_WINDOW - MIC(300));
  w->speech = FALSE;
  finish(w);
}

static void interrupted(World *w, const char *words) {
  guint responses = w->responses;
  world_say(w, 900);
  g_assert_true(world_said(w, words));
  g_assert_cmpuint(w->responses, ==, responses);
  guint64 silent_since = w->last_audio_at;
  world_run(w, 200);
  g_assert_cmpuint(w->last_audio_at, ==, silent_since);
  world_until(w, SESSION_SPEAKING, 5000);
  g_assert_cmpuint(w->responses, ==, responses + 1);
}

/* Somebody who goes on while the first half is still being transcribed gets one answer to both. */
static void test_barge_in_transcribing(void) {
  World *w = start();
  w->stt_ms = 3000;
  world_say(w, 1000);
  world_until(w, SESSION_THINKING, 2000);
  world_say(w, 1000);
  g_assert_cmpuint(w->responses, ==, 0);
  world_until(w, SESSION_SPEAKING, 12000);
  g_assert_cmpuint(w->committed, ==, 2);
  g_assert_cmpuint(w->transcripts, ==, 2);
  g_assert_cmpuint(w->responses, ==, 1);
  finish(w);
}

static void test_barge_in_thinking(void) {
  World *w = start();
  w->twin_first_ms = 3000;
  world_say(w, 1000);
  world_until(w, SESSION_THINKING, 2000);
  world_run(w, 1000);
  g_assert_cmpuint(w->responses, ==, 1);
  interrupted(w, "response begin started twin-cancel done truncated discard");
  g_assert_cmpuint(w->truncated_samples, ==, 0);
  finish(w);
}

static void test_barge_in_first_clause(void) {
  World *w = start();
  w->tts_ms = 3000;
  world_say(w, 1000);
  world_until(w, SESSION_THINKING, 2000);
  world_run(w, 1000);
  w->tts_ms = 100;
  interrupted(w, "started tts-cancel done truncated discard");
  g_assert_cmpuint(w->heards, ==, 0);
  finish(w);
}

/* A cough while it thinks: nothing is understood, and the question is answered all the same. */
static void test_cough(void) {
  World *w = start();
  w->twin_first_ms = 2000;
  world_say(w, 1000);
  world_until(w, SESSION_THINKING, 2000);
  world_run(w, 800);
  w->understood = FALSE;
  world_say(w, 200);
  g_assert_true(world_said(w, "started twin-cancel done truncated discard"));
  world_until(w, SESSION_SPEAKING, 6000);
  g_assert_cmpuint(w->responses, ==, 2);
  g_assert_cmpuint(w->transcripts, ==, 2);
  finish(w);
}

/* The client that asks for its replies itself is not given one. */
static void test_overtaken_unasked(void) {
  World *w = start();
  SessionOptions options = world_options();
  options.create_response = FALSE;
  world_event(w, (SessionEvent){.type = SESSION_EV_CONFIGURE, .options = &options});
  w->twin_first_ms = 2000;
  world_type(w);
  world_say(w, 400);
  world_run(w, 5000);
  g_assert_cmpuint(w->discards, ==, 1);
  g_assert_cmpuint(w->responses, ==, 1);
  world_simple(w, SESSION_EV_RESPOND);
  world_until(w, SESSION_SPEAKING, 6000);
  finish(w);
}

static void barge_in_speaking(gboolean acks, guint latency_ms) {
  World *w = start();
  w->acks = acks;
  w->latency_ms = latency_ms;
  world_say(w, 1000);
  world_until(w, SESSION_SPEAKING, 3000);
  world_run(w, 1600);
  guint64 onset = w->now;
  interrupted(w, "done truncated heard");
  g_assert_cmpuint(w->truncated, ==, 1);
  g_assert_true(w->heard_cut);
  /* 1600 ms and four windows: six or seven words of five bytes, by what the listener's player really played */
  guint64 heard_ms = w->truncated_samples / OUT(1);
  g_assert_cmpuint(heard_ms, >=, 1600 - latency_ms);
  g_assert_cmpuint(heard_ms, <=, 1600 + 128 + 32 + 20 + 80);
  g_assert_cmpuint(w->heard_bytes, >=, (heard_ms - 250) / 250 * 5 - 1);
  g_assert_cmpuint(w->heard_bytes, <=, (heard_ms + 250) / 250 * 5);
  g_assert_cmpuint(w->now - onset, >, MIC(900));
  finish(w);
}

static void test_barge_in_speaking(void) {
  barge_in_speaking(FALSE, 0);
}

static void test_barge_in_speaking_acks(void) {
  barge_in_speaking(TRUE, 60);
}

/* The pause comes 128 ms after the onset, and nothing more is sent from then on; it becomes a cut when it is clear that
 * somebody speaks. */
static void test_barge_in_delay(void) {
  World *w = start();
  world_say(w, 1000);
  world_until(w, SESSION_SPEAKING, 3000);
  world_run(w, 1000);
  guint64 onset = w->now;
  world_say(w, 400);
  g_assert_cmpuint(w->pauses, ==, 1);
  g_assert_cmpuint(w->truncated, ==, 0);
  g_assert_cmpuint(world_count(w, "started"), ==, 1); /* a stock client would clear its audio at a second one */
  world_say(w, 400);
  g_assert_cmpuint(w->truncated, ==, 1);
  g_assert_cmpuint(world_count(w, "started"), ==, 2);
  g_assert_cmpuint(w->last_audio_at - onset, <=, MIC(128 + 32 + 20));
  /* what had been sent by then was at most 80 ms ahead */
  g_assert_cmpuint(w->sent - w->truncated_samples, <=, OUT(80));
  finish(w);
}

static void test_barge_in_tail(void) {
  World *w = start();
  w->clauses = 1;
  w->acks = TRUE;
  w->latency_ms = 400;
  world_say(w, 1000);
  world_until(w, SESSION_SPEAKING, 3000);
  while (w->dones == 0)
    world_run(w, 20);
  g_assert_cmpint(w->s.reply.phase, ==, REPLY_TAIL);
  w->clauses = 4;
  interrupted(w, "done paused started truncated heard");
  g_assert_cmpuint(w->playouts, ==, 0);
  g_assert_true(w->heard_cut);
  finish(w);
}

static void test_no_interrupt(void) {
  World *w = start();
  SessionOptions options = world_options();
  options.interrupt = FALSE;
  world_event(w, (SessionEvent){.type = SESSION_EV_CONFIGURE, .options = &options});
  world_say(w, 1000);
  world_until(w, SESSION_SPEAKING, 3000);
  world_say(w, 1000);
  g_assert_cmpuint(w->truncated, ==, 0);
  while (w->playouts == 0)
    world_run(w, 20);
  g_assert_cmpuint(w->truncated, ==, 0);
  world_until(w, SESSION_SPEAKING, 3000);
  g_assert_cmpuint(w->responses, ==, 2);
  g_assert_true(world_said(w, "started stt stopped committed transcript done playout heard response begin"));
  finish(w);
}

static void test_cancel(void) {
  World *w = start();
  world_simple(w, SESSION_EV_CANCEL); /* of nothing */
  world_say(w, 1000);
  world_until(w, SESSION_SPEAKING, 3000);
  world_run(w, 500);
  w->mic = FALSE;
  world_simple(w, SESSION_EV_CANCEL);
  g_assert_true(world_said(w, "done truncated heard"));
  world_until(w, SESSION_IDLE, 3000);
  g_assert_cmpuint(w->responses, ==, 1);
  /* while transcribing it drops the answer, not the words */
  w->stt_ms = 2000;
  world_say(w, 1000);
  world_until(w, SESSION_THINKING, 2000);
  world_simple(w, SESSION_EV_CANCEL);
  world_run(w, 4000);
  g_assert_cmpuint(w->transcripts, ==, 2);
  g_assert_cmpuint(w->responses, ==, 1);
  world_simple(w, SESSION_EV_RESPOND);
  world_until(w, SESSION_SPEAKING, 3000);
  finish(w);
}

static void test_typed(void) {
  World *w = start();
  world_type(w);
  g_assert_true(world_said(w, "typed response begin"));
  world_until(w, SESSION_SPEAKING, 3000);
  world_type(w); /* waits for its turn */
  world_type(w);
  while (w->playouts == 0)
    world_run(w, 20);
  world_run(w, 500);
  g_assert_cmpuint(w->responses, ==, 2);
  g_assert_cmpuint(w->truncated, ==, 0);
  finish(w);
}

static void test_push_to_talk(void) {
  World *w = start();
  SessionOptions options = world_options();
  options.server_vad = FALSE;
  world_event(w, (SessionEvent){.type = SESSION_EV_CONFIGURE, .options = &options});
  world_simple(w, SESSION_EV_COMMIT);
  g_assert_cmpint(w->last_error, ==, SESSION_ERR_COMMIT_EMPTY);
  world_say(w, 700);
  world_simple(w, SESSION_EV_CLEAR);
  guint64 cleared = w->s.mic_end;
  world_say(w, 900);
  world_run(w, 3000); /* silence ends nothing */
  g_assert_cmpuint(w->committed, ==, 0);
  world_simple(w, SESSION_EV_COMMIT);
  g_assert_true(world_said(w, "error committed stt"));
  g_assert_cmpuint(w->job_start, ==, cleared);
  g_assert_cmpuint(w->job_end, ==, w->s.mic_end);
  w->mic = FALSE;
  world_until(w, SESSION_SPEAKING, 3000);
  finish(w);
}

static void test_push_to_talk_unasked(void) {
  World *w = start();
  SessionOptions options = world_options();
  options.server_vad = options.create_response = FALSE;
  world_event(w, (SessionEvent){.type = SESSION_EV_CONFIGURE, .options = &options});
  world_simple(w, SESSION_EV_RESPOND);
  g_assert_cmpint(w->last_error, ==, SESSION_ERR_NOTHING_TO_ANSWER);
  world_say(w, 700);
  world_simple(w, SESSION_EV_COMMIT);
  w->mic = FALSE;
  world_run(w, 3000);
  g_assert_cmpuint(w->responses, ==, 0);
  world_simple(w, SESSION_EV_RESPOND);
  world_until(w, SESSION_SPEAKING, 3000);
  world_simple(w, SESSION_EV_RESPOND);
  g_assert_cmpint(w->last_error, ==, SESSION_ERR_RESPONSE_ACTIVE);
  finish(w);
}

/* A client that sends a recording and commits before the VAD has looked at it. */
static void test_commit_ahead_of_ear(void) {
  World *w = start();
  world_event(w, (SessionEvent){.type = SESSION_EV_AUDIO, .samples = MIC(2000)});
  world_simple(w, SESSION_EV_COMMIT);
  w->window_done = w->s.mic_end;
  g_assert_true(world_said(w, "committed stt"));
  g_assert_cmpuint(w->job_start, ==, 0);
  g_assert_cmpuint(w->job_end, ==, MIC(2000));
  /* late windows about committed audio start nothing */
  for (guint64 at = CHOIR_VAD_WINDOW; at <= MIC(2000); at += CHOIR_VAD_WINDOW)
    world_event(w, (SessionEvent){.type = SESSION_EV_WINDOW, .position = at, .probability = 0.99});
  g_assert_false(w->s.utterance.active);
  world_until(w, SESSION_SPEAKING, 3000);
  finish(w);
}

static void test_truncate(void) {
  World *w = start();
  world_type(w);
  world_until(w, SESSION_SPEAKING, 3000);
  world_run(w, 2000);
  guint32 item = w->reply_item;
  g_assert_true(session_knows_reply(&w->s, item));
  g_assert_false(session_knows_reply(&w->s, item + 1));
  world_event(w, (SessionEvent){.type = SESSION_EV_TRUNCATE, .item = item, .samples = OUT(1300)});
  g_assert_cmpuint(w->truncated_samples, ==, OUT(1300));
  /* the first clause and one word: bytes 0..20 and 20..24 */
  g_assert_cmpuint(w->heard_bytes, ==, 24);
  /* told again, the client gets the same answer and the twin none */
  world_event(w, (SessionEvent){.type = SESSION_EV_TRUNCATE, .item = item, .samples = OUT(900)});
  g_assert_cmpuint(w->truncated, ==, 2);
  g_assert_cmpuint(w->truncated_samples, ==, OUT(1300));
  g_assert_cmpuint(w->heards, ==, 1);
  /* more than was sent is not believed */
  world_type(w);
  world_until(w, SESSION_SPEAKING, 3000);
  world_event(w, (SessionEvent){.type = SESSION_EV_TRUNCATE, .item = w->reply_item, .samples = G_MAXUINT64});
  g_assert_cmpuint(w->truncated_samples, ==, w->sent);
  finish(w);
}

static void test_long_speech(void) {
  World *w = start();
  world_say(w, 34000);
  g_assert_cmpuint(w->committed, ==, 1);
  g_assert_cmpuint(w->job_end - w->job_start, <=, MIC(30100));
  guint64 first_end = w->job_end;
  g_assert_cmpuint(w->responses, ==, 0); /* nobody is interrupted after half a minute */
  world_until(w, SESSION_SPEAKING, 4000);
  g_assert_cmpuint(w->job_start, >=, first_end); /* nothing is heard twice */
  g_assert_cmpuint(w->committed, ==, 2);
  g_assert_cmpuint(w->responses, ==, 1);
  finish(w);
}

static void test_empty_transcript(void) {
  World *w = start();
  w->understood = FALSE;
  world_say(w, 800);
  world_run(w, 3000);
  g_assert_cmpuint(w->transcripts, ==, 1);
  g_assert_cmpuint(w->responses, ==, 0);
  g_assert_cmpint(w->shown, ==, SESSION_LISTENING);
  finish(w);
}

static void test_reply_fails(void) {
  World *w = start();
  w->twin_outcome = SESSION_FAILED;
  w->mic = TRUE;
  world_type(w);
  world_until(w, SESSION_ERROR, 3000);
  g_assert_cmpint(w->last_error, ==, SESSION_ERR_REPLY_FAILED);
  world_until(w, SESSION_LISTENING, 3000);
  w->twin_refuses = TRUE;
  world_type(w);
  world_until(w, SESSION_ERROR, 3000);
  g_assert_cmpuint(w->responses, ==, 2);
  w->twin_refuses = FALSE;
  w->twin_outcome = SESSION_COMPLETED;
  world_type(w);
  world_until(w, SESSION_SPEAKING, 3000);
  finish(w);
}

static void test_ear_dies(void) {
  World *w = start();
  world_say(w, 1000);
  world_worker(w, SESSION_EAR, FALSE);
  /* what was said until then is used, and the loss is told */
  g_assert_true(world_said(w, "started error stopped committed stt"));
  g_assert_cmpint(w->last_error, ==, SESSION_ERR_EAR_LOST);
  world_until(w, SESSION_SPEAKING, 3000);
  world_say(w, 500);
  g_assert_cmpuint(w->errors, ==, 1);
  world_until(w, SESSION_LISTENING, 10000);
  world_worker(w, SESSION_EAR, TRUE);
  w->window_done = w->s.mic_end;
  world_worker(w, SESSION_EAR, FALSE);
  world_say(w, 500);
  world_run(w, 500);
  g_assert_cmpuint(w->errors, ==, 2); /* once per outage */
  g_assert_cmpint(w->last_error, ==, SESSION_ERR_EAR_MISSING);
  g_assert_cmpuint(session_mic_room(&w->s), ==, MIC(SESSION_UNREAD_MS));
  world_worker(w, SESSION_EAR, TRUE);
  w->window_done = w->s.mic_end;
  world_say(w, 800);
  world_until(w, SESSION_SPEAKING, 3000);
  finish(w);
}

static void test_stt_dies(void) {
  World *w = start();
  w->stt_ms = 2000;
  world_say(w, 800);
  world_until(w, SESSION_THINKING, 2000);
  world_worker(w, SESSION_STT, FALSE);
  g_assert_true(world_said(w, "committed error transcript-failed"));
  g_assert_cmpint(w->shown, ==, SESSION_LISTENING);
  /* while it is away: told, failed, not stuck */
  world_say(w, 800);
  world_run(w, 1000);
  g_assert_cmpuint(w->failed_transcripts, ==, 2);
  /* dies with a speculation only: the end of the turn tries again */
  world_worker(w, SESSION_STT, TRUE);
  world_say(w, 800);
  world_run(w, 300);
  world_worker(w, SESSION_STT, FALSE);
  world_worker(w, SESSION_STT, TRUE);
  world_until(w, SESSION_SPEAKING, 6000);
  g_assert_cmpuint(w->transcripts, ==, 1);
  /* and typing works without it */
  world_worker(w, SESSION_STT, FALSE);
  world_until(w, SESSION_LISTENING, 10000);
  world_type(w);
  world_until(w, SESSION_SPEAKING, 3000);
  finish(w);
}

static void test_stt_hangs(void) {
  World *w = start();
  w->stt_ms = 1000000;
  world_say(w, 800);
  world_run(w, 800);
  w->mic = FALSE;
  world_run(w, SESSION_STT_DEADLINE_MS);
  g_assert_cmpuint(w->failed_transcripts, ==, 1);
  g_assert_true(world_said(w, "stt-cancel transcript-failed"));
  w->jobs = 0;
  finish(w);
}

static void test_tts_dies(void) {
  World *w = start();
  world_type(w);
  world_until(w, SESSION_SPEAKING, 3000);
  world_run(w, 100);
  w->tts_ms = 5000;
  world_run(w, 500);
  world_worker(w, SESSION_TTS, FALSE);
  g_assert_cmpint(w->last_error, ==, SESSION_ERR_TTS_LOST);
  world_run(w, 6000);
  /* what was spoken was played, the rest was read */
  g_assert_cmpuint(w->dones, ==, 1);
  g_assert_cmpuint(w->playouts, ==, 1);
  g_assert_cmpuint(w->heard_bytes, ==, 80);
  /* the next reply is text, and says why, once */
  world_type(w);
  world_run(w, 3000);
  world_type(w);
  world_run(w, 3000);
  g_assert_cmpuint(w->responses, ==, 3);
  g_assert_cmpuint(w->begins_spoken, ==, 1);
  g_assert_true(world_said(w, "typed status response begin done typed response begin done"));
  w->tts_ms = 100;
  world_worker(w, SESSION_TTS, TRUE);
  world_type(w);
  world_until(w, SESSION_SPEAKING, 3000);
  finish(w);
}

static void test_tts_before_first_clause(void) {
  World *w = start();
  w->tts_ms = 5000;
  world_type(w);
  world_run(w, 600);
  world_worker(w, SESSION_TTS, FALSE);
  world_run(w, 1000);
  g_assert_cmpuint(w->dones, ==, 1);
  g_assert_cmpuint(w->playouts, ==, 0);
  g_assert_cmpuint(w->heards, ==, 1);
  finish(w);
}

static void test_tts_clause_fails(void) {
  World *w = start();
  w->tts_ms = 400;
  world_type(w);
  while (!w->s.reply.synthesising)
    world_run(w, 20);
  for (guint i = 0; i < w->jobs; i++)
    w->job[i].cancelled = w->job[i].cancelled || w->job[i].engine == WORLD_TTS;
  world_event(w, (SessionEvent){.type = SESSION_EV_TTS_FAILED, .gen = w->reply_gen, .index = 0});
  g_assert_cmpint(w->last_error, ==, SESSION_ERR_TTS_FAILED);
  world_until(w, SESSION_SPEAKING, 3000);
  while (w->playouts == 0)
    world_run(w, 20);
  g_assert_cmpuint(w->sent, ==, OUT(3000));
  g_assert_cmpuint(w->heard_bytes, ==, 80);
  finish(w);
}

/* Samples of another clause than the one being spoken belong nowhere. */
static void test_wrong_clause(void) {
  World *w = start();
  w->tts_ms = 1000;
  world_type(w);
  while (!w->s.reply.synthesising)
    world_run(w, 20);
  guint64 stale = w->s.stale;
  for (guint32 index = 1; index < 3; index++) {
    world_event(w, (SessionEvent){.type = SESSION_EV_TTS_PCM, .gen = w->reply_gen, .index = index, .samples = 4800});
    world_event(w, (SessionEvent){.type = SESSION_EV_TTS_DONE, .gen = w->reply_gen, .index = index});
  }
  g_assert_cmpuint(w->s.stale, ==, stale + 4);
  g_assert_cmpuint(w->s.reply.stored, ==, 0);
  finish(w);
}

static void test_back_pressure(void) {
  World *w = start();
  w->clauses = 20;
  w->twin_clause_ms = 10;
  w->tts_ms = 20;
  world_type(w);
  world_until(w, SESSION_SPEAKING, 3000);
  world_run(w, 1000);
  /* six seconds ahead and the clause that crossed the line */
  g_assert_cmpuint(w->store, <=, OUT(7000));
  g_assert_cmpuint(w->store, >=, OUT(5000));
  while (w->playouts == 0)
    world_run(w, 100);
  g_assert_cmpuint(w->sent, ==, OUT(20000));
  finish(w);
}

static void test_acks_stop(void) {
  World *w = start();
  w->acks = TRUE;
  world_type(w);
  world_until(w, SESSION_SPEAKING, 3000);
  world_run(w, 500);
  w->acks = FALSE;
  guint64 sent = w->sent;
  world_run(w, 1000);
  g_assert_cmpuint(w->sent - sent, <=, OUT(80));
  world_run(w, 1000);
  g_assert_true(world_said(w, "status"));
  g_assert_false(w->s.pacer.acks);
  finish(w);
}

/* A hang-up in every phase settles with the twin; afterwards nothing happens any more. */
static void test_hangup(void) {
  for (guint ms = 0; ms < 9000; ms += 100) {
    World *w = start();
    world_say(w, MIN(ms, 1000u));
    if (ms > 1000)
      world_run(w, ms - 1000);
    world_simple(w, SESSION_EV_HANGUP);
    g_assert_cmpuint(w->begins_spoken, ==, w->heards + w->discards);
    guint64 length = w->log->len;
    world_run(w, 3000);
    g_assert_cmpuint(w->log->len, ==, length);
    world_free(w);
  }
}

/* A client that comes back is a new state; results of the old one do not reach it, or are stale there. */
static void test_reconnect(void) {
  World *w = start();
  world_type(w);
  world_until(w, SESSION_SPEAKING, 3000);
  guint32 gen = w->reply_gen;
  world_simple(w, SESSION_EV_HANGUP);
  g_assert_true(w->heard_cut);
  world_free(w);
  w = start();
  world_event(w, (SessionEvent){.type = SESSION_EV_TTS_PCM, .gen = gen, .index = 1, .samples = 4800});
  world_event(w, (SessionEvent){.type = SESSION_EV_TWIN_DONE, .gen = gen});
  g_assert_cmpuint(w->s.stale, ==, 2);
  world_say(w, 800);
  world_until(w, SESSION_SPEAKING, 3000);
  finish(w);
}

static void test_late_results(void) {
  World *w = start();
  w->deaf = TRUE; /* no engine honours a cancel */
  w->tts_ms = 700;
  world_say(w, 800);
  world_until(w, SESSION_SPEAKING, 4000);
  world_run(w, 300);
  world_say(w, 900);
  g_assert_cmpuint(w->truncated, ==, 1);
  world_run(w, 300); /* the old generation's samples arrive here */
  g_assert_cmpuint(w->s.stale, >, 0);
  world_until(w, SESSION_SPEAKING, 5000);
  finish(w);
}

static void test_stream_ends_in_speech(void) {
  World *w = start();
  world_say(w, 900);
  w->mic = FALSE;
  world_run(w, 2000);
  g_assert_true(world_said(w, "started stopped committed stt"));
  finish(w);
}

static void test_turn_limit(void) {
  World *w = start();
  SessionOptions options = world_options();
  options.server_vad = FALSE;
  world_event(w, (SessionEvent){.type = SESSION_EV_CONFIGURE, .options = &options});
  w->stt_ms = 5000;
  w->mic = TRUE;
  for (guint i = 0; i < SESSION_TURNS + 2; i++) {
    world_run(w, 200);
    world_simple(w, SESSION_EV_COMMIT);
  }
  g_assert_cmpuint(w->committed, ==, SESSION_TURNS);
  g_assert_cmpint(w->last_error, ==, SESSION_ERR_TOO_MANY_TURNS);
  w->mic = FALSE;
  world_run(w, 25000);
  g_assert_cmpuint(w->transcripts, ==, SESSION_TURNS);
  g_assert_cmpuint(w->responses, ==, 1);
  finish(w);
}

static void test_mic_room(void) {
  World *w = start();
  g_assert_cmpuint(session_mic_room(&w->s), ==, MIC(30000));
  world_event(w, (SessionEvent){.type = SESSION_EV_AUDIO, .samples = MIC(29000)});
  g_assert_cmpuint(session_mic_room(&w->s), ==, MIC(1000));
  world_event(w, (SessionEvent){.type = SESSION_EV_AUDIO, .samples = MIC(1000)});
  g_assert_cmpuint(session_mic_room(&w->s), ==, 0);
  world_event(w, (SessionEvent){.type = SESSION_EV_WINDOW, .position = 512 * 100, .probability = 0});
  g_assert_cmpuint(session_mic_room(&w->s), ==, 512 * 100);
  world_free(w);
}

int main(int argc, char **argv) {
  static const WorldTest tests[] = {
      {"plain", test_plain},
      {"speculation", test_speculation},
      {"speculation-late", test_speculation_late},
      {"noise", test_noise_is_no_onset},
      {"onset", test_onset},
      {"onset/run", test_onset_run},
      {"barge-in/transcribing", test_barge_in_transcribing},
      {"barge-in/thinking", test_barge_in_thinking},
      {"barge-in/first-clause", test_barge_in_first_clause},
      {"barge-in/cough", test_cough},
      {"barge-in/unasked", test_overtaken_unasked},
      {"barge-in/speaking", test_barge_in_speaking},
      {"barge-in/speaking-acks", test_barge_in_speaking_acks},
      {"barge-in/delay", test_barge_in_delay},
      {"barge-in/tail", test_barge_in_tail},
      {"no-interrupt", test_no_interrupt},
      {"cancel", test_cancel},
      {"typed", test_typed},
      {"push-to-talk", test_push_to_talk},
      {"push-to-talk/unasked", test_push_to_talk_unasked},
      {"commit-ahead-of-ear", test_commit_ahead_of_ear},
      {"truncate", test_truncate},
      {"long-speech", test_long_speech},
      {"empty-transcript", test_empty_transcript},
      {"reply-fails", test_reply_fails},
      {"ear-dies", test_ear_dies},
      {"stt-dies", test_stt_dies},
      {"stt-hangs", test_stt_hangs},
      {"tts-dies", test_tts_dies},
      {"tts-dies/first-clause", test_tts_before_first_clause},
      {"tts-clause-fails", test_tts_clause_fails},
      {"wrong-clause", test_wrong_clause},
      {"back-pressure", test_back_pressure},
      {"acks-stop", test_acks_stop},
      {"hang-up", test_hangup},
      {"reconnect", test_reconnect},
      {"late-results", test_late_results},
      {"stream-ends-in-speech", test_stream_ends_in_speech},
      {"turn-limit", test_turn_limit},
      {"mic-room", test_mic_room},
  };
  return world_test(argc, argv, "/voice/session", 60, tests, G_N_ELEMENTS(tests));
}
