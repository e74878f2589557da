/* The driver with fake workers and a fake twin, on a clock of the test's own. */
#include "live_client.h"
#include <math.h>
#include <string.h>
#include <unistd.h>

static void test_spoken_turn(void) {
  Client c;
  start(&c);
  ask(&c);
  g_assert_cmpuint(fake_worker_count(c.ear, CHOIR_WIRE_EAR_OPEN), ==, 1);
  const FakeFrame *heard = fake_worker_last(c.ear, CHOIR_WIRE_EAR_AUDIO, 0);
  g_assert_cmpuint(heard->aux, ==, (1800 - 20) * 16);
  /* one speculative job, with the audio as it came in, from the beginning */
  g_assert_cmpuint(fake_worker_count(c.stt, CHOIR_WIRE_STT_JOB), ==, 1);
  const FakeFrame *job = fake_worker_last(c.stt, CHOIR_WIRE_STT_JOB, 0);
  g_assert_cmpuint(job->flags, ==, 1);
  gsize size;
  const gint16 *pcm = g_bytes_get_data(job->payload, &size);
  g_assert_cmpuint(size / 2, >=, 1060 * 16);
  g_assert_cmpuint(size / 2, <=, 1260 * 16);
  for (gsize i = 0; i < size / 2; i++)
    g_assert_cmpint(pcm[i], ==, mic_sample(i));
  g_assert_cmpuint(c.count[CHOIR_LIVE_SPEECH_STARTED], ==, 1);
  g_assert_cmpuint(c.count[CHOIR_LIVE_SPEECH_STOPPED], ==, 1);
  g_assert_cmpstr(c.item[CHOIR_LIVE_COMMITTED], ==, c.item[CHOIR_LIVE_TRANSCRIPT]);
  g_assert_cmpstr(c.text[CHOIR_LIVE_TRANSCRIPT], ==, "what is the time");
  ChoirTurn *turn = fake_twin_last(c.twin);
  g_assert_cmpstr(turn->text, ==, "what is the time");
  g_assert_true(turn->spoken);
  g_assert_cmpint(turn->speech_end_us, >, 1900000);
  g_assert_cmpint(turn->speech_end_us, <, 2100000);
  g_assert_cmpint(turn->transcript_us, >, turn->speech_end_us);
  g_assert_cmpstr(choir_live_state(c.live), ==, "thinking");
  fake_turn_say(turn, "It is ten ");
  fake_turn_say(turn, "to four.");
  fake_turn_done(turn, NULL);
  g_assert_cmpuint(fake_worker_count(c.tts, CHOIR_WIRE_TTS_JOB), ==, 1);
  synthesise(&c, 500, "[[0,2,2],[3,5,2],[6,9,3]]");
  g_assert_cmpint(turn->first_audio_us, ==, c.now);
  g_assert_cmpuint(c.heard->len, ==, 80 * 24);
  g_assert_cmpstr(choir_live_state(c.live), ==, "speaking");
  g_assert_cmpuint(fake_worker_count(c.tts, CHOIR_WIRE_TTS_JOB), ==, 2);
  synthesise(&c, 300, "[[0,2,2],[3,8,3]]");
  run(&c, 700);
  g_assert_cmpuint(c.count[CHOIR_LIVE_RESPONSE_DONE], ==, 0);
  run(&c, 200);
  g_assert_cmpuint(c.heard->len, ==, 800 * 24);
  for (guint i = 0; i < c.heard->len; i++) {
    guint clause = i < 500 * 24 ? 1 : 2, at = clause == 1 ? i : i - 500 * 24;
    g_assert_cmpint(g_array_index(c.heard, gint16, i), ==, clause * 1000 + at % 1000);
  }
  g_assert_cmpstr(c.status, ==, "completed");
  g_assert_cmpstr(c.text[CHOIR_LIVE_RESPONSE_DONE], ==, "It is ten to four.");
  g_assert_cmpuint(c.count[CHOIR_LIVE_PLAYOUT_DONE], ==, 1);
  g_assert_true(turn->heard);
  g_assert_false(turn->heard_cut);
  g_assert_cmpuint(turn->heard_bytes, ==, strlen("It is ten to four."));
  stop(&c);
}

static void test_resampling(void) {
  Client c;
  start(&c);
  gint16 pcm[960];
  for (guint i = 0; i < G_N_ELEMENTS(pcm); i++)
    pcm[i] = (gint16)(8000 * sin(i * 2 * G_PI * 440 / 48000));
  for (guint i = 0; i < 50; i++)
    g_assert_true(choir_live_audio(c.live, pcm, G_N_ELEMENTS(pcm), 48000));
  gsize total = 0;
  for (guint i = 0; i < fake_worker_count(c.ear, CHOIR_WIRE_EAR_AUDIO); i++)
    total += g_bytes_get_size(fake_worker_last(c.ear, CHOIR_WIRE_EAR_AUDIO, i)->payload) / 2;
  g_assert_cmpuint(total, >=, 16000 - 200);
  g_assert_cmpuint(total, <=, 16000);
  g_assert_false(choir_live_audio(c.live, pcm, G_N_ELEMENTS(pcm), 96000));
  g_assert_true(choir_live_audio(c.live, pcm, 0, 16000));
  stop(&c);
}

static void reply_and_barge_in(Client *c, gboolean acks) {
  ask(c);
  ChoirTurn *turn = fake_twin_last(c->twin);
  fake_turn_say(turn, "one two three four ");
  synthesise(c, 4000, "[[0,3,3],[4,7,3],[8,13,3],[14,18,3]]");
  for (guint ms = 0; ms < 2200; ms += 20) {
    speak(c, 20, 0.01f);
    if (acks)
      choir_live_ack(c->live, c->item[CHOIR_LIVE_AUDIO], ms * 24, 0);
  }
  guint so_far = c->heard->len;
  speak(c, 200, 0.9f);
  g_assert_cmpuint(c->heard->len - so_far, <=, 140 * 24);
  g_assert_cmpuint(c->count[CHOIR_LIVE_PAUSED], ==, 1);
  g_assert_cmpuint(c->count[CHOIR_LIVE_SPEECH_STARTED], ==, 1);
  speak(c, 600, 0.9f);
  g_assert_cmpuint(c->count[CHOIR_LIVE_SPEECH_STARTED], ==, 2);
}

static void test_barge_in(void) {
  Client c;
  start(&c);
  reply_and_barge_in(&c, FALSE);
  ChoirTurn *turn = fake_twin_last(c.twin);
  g_assert_cmpstr(c.status, ==, "cancelled");
  g_assert_cmpstr(c.reason, ==, "turn_detected");
  g_assert_true(turn->cancelled);
  g_assert_true(turn->heard && turn->heard_cut);
  /* such a client plays what it has, 80 ms at most, while it is decided */
  g_assert_cmpuint(c.ms, >=, 2300);
  g_assert_cmpuint(c.ms, <=, 2360 + 80);
  g_assert_cmpstr(c.text[CHOIR_LIVE_TRUNCATED], ==, "one two");
  g_assert_cmpuint(turn->heard_bytes, ==, strlen("one two"));
  /* what comes late goes nowhere */
  guint so_far = c.heard->len, deltas = c.count[CHOIR_LIVE_TEXT_DELTA];
  fake_turn_say(turn, "five ");
  static const gint16 noise[4800];
  answer(&c, CHOIR_WIRE_TTS_PCM, fake_worker_last(c.tts, CHOIR_WIRE_TTS_JOB, 0)->gen, 0, noise, sizeof noise);
  fake_turn_done(turn, NULL);
  run(&c, 500);
  g_assert_cmpuint(c.heard->len, ==, so_far);
  g_assert_cmpuint(c.count[CHOIR_LIVE_TEXT_DELTA], ==, deltas);
  g_assert_cmpuint(c.count[CHOIR_LIVE_RESPONSE_DONE], ==, 1);
  /* the interrupting words are the next turn, with the 300 ms before them */
  speak(&c, 800, 0.01f);
  const FakeFrame *job = fake_worker_last(c.stt, CHOIR_WIRE_STT_JOB, 0);
  const gint16 *pcm = g_bytes_get_data(job->payload, NULL);
  g_assert_cmpint(pcm[0], >=, mic_sample((4000 - 300 - 32) * 16));
  g_assert_cmpint(pcm[0], <=, mic_sample((4000 - 300 + 32) * 16));
  transcribe(&c, "tell me another");
  g_assert_cmpstr(fake_twin_last(c.twin)->text, ==, "tell me another");
  stop(&c);
}

static void test_barge_in_acks(void) {
  Client c;
  start(&c);
  reply_and_barge_in(&c, TRUE);
  g_assert_cmpuint(c.ms, ==, 2180);
  g_assert_cmpstr(c.text[CHOIR_LIVE_TRUNCATED], ==, "one two");
  stop(&c);
}

/* Who goes on before the first sound gets one answer to all of it. */
static void test_overtaken(void) {
  Client c;
  start(&c);
  ask(&c);
  ChoirTurn *first = fake_twin_last(c.twin);
  fake_turn_say(first, "one two ");
  speak(&c, 600, 0.9f);
  g_assert_true(first->cancelled && first->discarded);
  g_assert_cmpstr(c.status, ==, "cancelled");
  speak(&c, 400, 0.01f);
  transcribe(&c, "in london");
  speak(&c, 400, 0.01f);
  ChoirTurn *second = fake_twin_last(c.twin);
  g_assert_true(first != second);
  g_assert_cmpstr(second->text, ==, "what is the time in london");
  stop(&c);
}

static void test_truncate(void) {
  Client c;
  start(&c);
  g_free(choir_live_text(c.live, "hello", TRUE));
  ChoirTurn *turn = fake_twin_last(c.twin);
  g_assert_cmpint(turn->speech_end_us, ==, 0);
  fake_turn_say(turn, "one two three four ");
  synthesise(&c, 4000, "[[0,3,3],[4,7,3],[8,13,3],[14,18,3]]");
  run(&c, 3500);
  g_assert_false(choir_live_truncate(c.live, "item_nonsense", 10));
  g_assert_false(choir_live_truncate(c.live, NULL, 10));
  g_autofree char *other = g_strdup(c.item[CHOIR_LIVE_AUDIO]);
  other[7] ^= 1;
  g_assert_false(choir_live_truncate(c.live, other, 10));
  g_assert_true(choir_live_truncate(c.live, c.item[CHOIR_LIVE_AUDIO], 1600));
  g_assert_cmpuint(c.ms, ==, 1600);
  g_assert_cmpstr(c.text[CHOIR_LIVE_TRUNCATED], ==, "one two");
  g_assert_cmpstr(c.reason, ==, "client_cancelled");
  g_assert_true(choir_live_truncate(c.live, c.item[CHOIR_LIVE_AUDIO], 400));
  g_assert_cmpuint(c.ms, ==, 1600);
  g_assert_cmpstr(c.text[CHOIR_LIVE_TRUNCATED], ==, "one two");
  stop(&c);
}

static void test_no_engines(void) {
  Client c;
  start_with(&c, FALSE);
  static const gint16 pcm[1600];
  for (guint i = 0; i < 1000; i++)
    g_assert_true(choir_live_audio(c.live, pcm, G_N_ELEMENTS(pcm), 16000));
  g_assert_cmpuint(c.count[CHOIR_LIVE_ERROR], ==, 2); /* the ear and the recogniser, once each */
  g_assert_nonnull(strstr(c.text[CHOIR_LIVE_ERROR], "choir-stt"));
  g_free(choir_live_text(c.live, "hello", TRUE));
  ChoirTurn *turn = fake_twin_last(c.twin);
  g_assert_false(turn->spoken);
  g_assert_nonnull(strstr(c.text[CHOIR_LIVE_STATUS], "choir-tts"));
  fake_turn_say(turn, "hi there");
  fake_turn_done(turn, NULL);
  g_assert_cmpstr(c.status, ==, "completed");
  g_assert_cmpstr(c.text[CHOIR_LIVE_RESPONSE_DONE], ==, "hi there");
  g_assert_cmpuint(c.count[CHOIR_LIVE_AUDIO], ==, 0);
  stop(&c);
}

static void test_worker_dies(void) {
  Client c;
  start(&c);
  ask(&c);
  ChoirTurn *turn = fake_twin_last(c.twin);
  fake_turn_say(turn, "one two ");
  fake_worker_set_ready(c.tts, FALSE);
  choir_voice_worker_state(c.tts, FALSE, c.voice);
  g_assert_nonnull(strstr(c.text[CHOIR_LIVE_ERROR], "voice stopped"));
  fake_turn_done(turn, NULL);
  g_assert_cmpstr(c.status, ==, "completed");
  g_assert_cmpuint(turn->heard_bytes, ==, 8);
  /* a live ear that dies is opened again by the next audio */
  choir_voice_worker_state(c.ear, TRUE, c.voice);
  speak(&c, 40, 0.01f);
  g_assert_cmpuint(fake_worker_count(c.ear, CHOIR_WIRE_EAR_OPEN), ==, 2);
  stop(&c);
}

static void test_job_errors(void) {
  Client c;
  start(&c);
  speak(&c, 1000, 0.9f);
  speak(&c, 800, 0.01f);
  static const char why[] = "out of memory";
  answer(&c, CHOIR_WIRE_ERROR, fake_worker_last(c.stt, CHOIR_WIRE_STT_JOB, 0)->gen, 0, why, strlen(why));
  g_assert_nonnull(strstr(c.text[CHOIR_LIVE_TRANSCRIPT_FAILED], why));
  ask(&c);
  ChoirTurn *turn = fake_twin_last(c.twin);
  fake_turn_say(turn, "one ");
  fake_turn_say(turn, "two");
  answer(&c, CHOIR_WIRE_ERROR, fake_worker_last(c.tts, CHOIR_WIRE_TTS_JOB, 0)->gen, 0, why, strlen(why));
  g_assert_nonnull(strstr(c.text[CHOIR_LIVE_ERROR], why));
  g_assert_cmpuint(fake_worker_last(c.tts, CHOIR_WIRE_TTS_JOB, 0)->aux, ==, 1);
  /* the workers' queues are full */
  fake_worker_refuse(c.tts, TRUE);
  fake_turn_say(turn, "three");
  synthesise(&c, 100, "[]");
  fake_turn_done(turn, NULL);
  run(&c, 1000);
  g_assert_cmpstr(c.status, ==, "completed");
  fake_worker_refuse(c.stt, TRUE);
  speak(&c, 1000, 0.9f);
  speak(&c, 800, 0.01f);
  g_assert_cmpuint(c.count[CHOIR_LIVE_TRANSCRIPT_FAILED], ==, 2);
  stop(&c);
}

static void test_reply_errors(void) {
  Client c;
  start(&c);
  c.twin->refuse = TRUE;
  g_free(choir_live_text(c.live, "hello", TRUE));
  g_assert_cmpstr(c.status, ==, "failed");
  g_assert_nonnull(strstr(c.text[CHOIR_LIVE_ERROR], "sixteen turns"));
  g_assert_cmpstr(choir_live_state(c.live), ==, "error");
  c.twin->refuse = FALSE;
  run(&c, 3000);
  g_assert_cmpstr(choir_live_state(c.live), ==, "idle");
  g_free(choir_live_text(c.live, "hello", TRUE));
  ChoirTurn *turn = fake_twin_last(c.twin);
  fake_turn_say(turn, "well ");
  fake_turn_done(turn, g_error_new_literal(CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_MODEL, "the model is gone"));
  g_assert_cmpstr(c.status, ==, "failed");
  g_assert_nonnull(strstr(c.text[CHOIR_LIVE_ERROR], "the model is gone"));
  g_assert_true(turn->heard && turn->heard_cut);
  stop(&c);
}

/* Workers may say anything. */
static void test_wild_frames(void) {
  Client c;
  start(&c);
  speak(&c, 1000, 0.9f);
  float nan[2] = {NAN, 0.5f};
  answer(&c, CHOIR_WIRE_EAR_WINDOW, 0, 20000, nan, sizeof nan);
  answer(&c, CHOIR_WIRE_EAR_WINDOW, 0, 20000, nan, 3);
  answer(&c, CHOIR_WIRE_EAR_WINDOW, 0, G_MAXUINT32, (float[]){0.9f, 0.1f}, 8);
  answer(&c, CHOIR_WIRE_STT_TEXT, 99, 0, "{", 1);
  answer(&c, 4711, 0, 0, NULL, 0);
  speak(&c, 800, 0.01f);
  guint32 gen = fake_worker_last(c.stt, CHOIR_WIRE_STT_JOB, 0)->gen;
  answer(&c, CHOIR_WIRE_STT_TEXT, gen, 0, "[1,", 3);
  g_assert_cmpuint(c.count[CHOIR_LIVE_TRANSCRIPT_FAILED], ==, 1);
  ask(&c);
  ChoirTurn *turn = fake_twin_last(c.twin);
  fake_turn_say(turn, "one two ");
  gen = fake_worker_last(c.tts, CHOIR_WIRE_TTS_JOB, 0)->gen;
  static const char pcm[] = {0, 1, 2, 3, 4, 5, 6};
  answer(&c, CHOIR_WIRE_TTS_PCM, gen, 0, pcm, 7);
  answer(&c, CHOIR_WIRE_TTS_PCM, gen, 1, pcm, 6);
  static const char words[] = "{\"words\":[[1],[2,3,-4],\"x\",[99999999999,1,1]]}";
  answer(&c, CHOIR_WIRE_TTS_DONE, gen, 0, words, strlen(words));
  answer(&c, CHOIR_WIRE_TTS_DONE, gen, 0, words, strlen(words));
  fake_turn_done(turn, NULL);
  run(&c, 200);
  g_assert_cmpuint(c.heard->len, ==, 3);
  g_assert_cmpuint(turn->heard_bytes, ==, 8);
  ChoirWireFrame stranger = {.type = CHOIR_WIRE_STT_TEXT, .session = 77, .payload = (const guint8 *)"{}", .length = 2};
  choir_voice_worker_frame(&stranger, c.voice);
  stop(&c);
}

/* A turn that has to wait for its transcription keeps its audio. */
static void test_waiting_turn(void) {
  Client c;
  start(&c);
  ChoirLiveOptions options = defaults;
  options.server_vad = FALSE;
  choir_live_configure(c.live, &options);
  g_autofree gint16 *pcm = g_new(gint16, 16000);
  for (guint i = 0; i < 16000; i++)
    pcm[i] = 1;
  g_assert_true(choir_live_audio(c.live, pcm, 16000, 16000));
  choir_live_commit(c.live);
  for (guint i = 0; i < 16000; i++)
    pcm[i] = 2;
  g_assert_true(choir_live_audio(c.live, pcm, 8000, 16000));
  choir_live_commit(c.live);
  g_assert_cmpuint(fake_worker_count(c.stt, CHOIR_WIRE_STT_JOB), ==, 1);
  /* two minutes go over the ring */
  for (guint i = 0; i < 120; i++) {
    g_assert_true(choir_live_audio(c.live, pcm, 16000, 16000));
    choir_live_clear(c.live);
  }
  transcribe(&c, "first");
  const FakeFrame *job = fake_worker_last(c.stt, CHOIR_WIRE_STT_JOB, 0);
  gsize size;
  const gint16 *got = g_bytes_get_data(job->payload, &size);
  g_assert_cmpuint(size, ==, 8000 * sizeof(gint16));
  g_assert_cmpint(got[0], ==, 2);
  transcribe(&c, "second");
  g_assert_cmpstr(fake_twin_last(c.twin)->text, ==, "first second");
  stop(&c);
}

static void test_audio_limit(void) {
  Client c;
  start(&c);
  g_autofree gint16 *pcm = g_new0(gint16, 16000);
  guint taken = 0;
  while (choir_live_audio(c.live, pcm, 16000, 16000))
    g_assert_cmpuint(++taken, <=, 30);
  g_assert_cmpuint(taken, >=, 29);
  float quiet[2] = {0.01f, 0};
  answer(&c, CHOIR_WIRE_EAR_WINDOW, 0, 16000 * taken, quiet, sizeof quiet);
  g_assert_true(choir_live_audio(c.live, pcm, 16000, 16000));
  stop(&c);
}

static void test_client_limit(void) {
  Client c;
  start(&c);
  ChoirLive *more[7];
  g_autoptr(GError) error = NULL;
  for (guint i = 0; i < G_N_ELEMENTS(more); i++)
    g_assert_nonnull(more[i] = choir_live_new(c.voice, "page", NULL, NULL, NULL));
  g_assert_null(choir_live_new(c.voice, "page", NULL, NULL, &error));
  g_assert_error(error, CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_BUSY);
  for (guint i = 0; i < G_N_ELEMENTS(more); i++)
    choir_live_free(more[i]);
  g_assert_nonnull(more[0] = choir_live_new(c.voice, "page", NULL, NULL, NULL));
  choir_live_free(more[0]);
  stop(&c);
}

/* The client may hang up inside any callback, with the twin's end still to come. */
static void test_hangup_in_callback(void) {
  for (int event = 0; event <= CHOIR_LIVE_ERROR; event++) {
    if (event == CHOIR_LIVE_VISEMES || event == CHOIR_LIVE_PAUSED || event == CHOIR_LIVE_RESUMED)
      continue; /* see test_live_turns.c */
    Client c;
    start(&c);
    c.free_on = event;
    if (event == CHOIR_LIVE_IDLE) {
      ChoirLiveOptions options = defaults;
      options.idle_ms = 500;
      choir_live_configure(c.live, &options);
    }
    speak(&c, 1000, 0.9f);
    speak(&c, 1000, 0.01f);
    if (c.live != NULL)
      transcribe(&c, "hello");
    if (c.live != NULL)
      fake_turn_say(fake_twin_last(c.twin), "one two three ");
    if (c.live != NULL)
      synthesise(&c, 1000, "[[0,3,3],[4,7,3],[8,13,3]]");
    run(&c, 300);
    if (c.live != NULL && event == CHOIR_LIVE_PLAYOUT_DONE) {
      fake_turn_done(fake_twin_last(c.twin), NULL);
      run(&c, 2000);
      g_assert_null(c.live);
    }
    if (c.live != NULL && event == CHOIR_LIVE_IDLE) {
      fake_turn_done(fake_twin_last(c.twin), NULL);
      run(&c, 2000);
      speak(&c, 2000, 0.01f);
    }
    if (c.live != NULL)
      choir_live_cancel(c.live);
    if (c.live != NULL && event == CHOIR_LIVE_STATUS) {
      fake_worker_set_ready(c.tts, FALSE);
      choir_voice_worker_state(c.tts, FALSE, c.voice);
      g_free(choir_live_text(c.live, "again", TRUE));
    }
    if (c.live != NULL && event == CHOIR_LIVE_ERROR)
      choir_live_commit(c.live);
    if (c.live != NULL && event == CHOIR_LIVE_TRANSCRIPT_FAILED) {
      fake_worker_refuse(c.stt, TRUE);
      speak(&c, 1000, 0.9f);
      speak(&c, 1000, 0.01f);
    }
    g_test_message("hung up in event %d: %s", event, c.live == NULL ? "yes" : "no");
    g_assert_null(c.live);
    stop(&c);
  }
}

static void test_type_in_callback(void) {
  for (int event = 0; event <= CHOIR_LIVE_STATE; event++) {
    Client c;
    start(&c);
    c.type_on = event;
    ask(&c);
    fake_turn_say(fake_twin_last(c.twin), "one ");
    run(&c, 100);
    choir_live_cancel(c.live);
    stop(&c);
  }
}

static void test_meter(void) {
  Client c;
  start(&c);
  speak(&c, 1000, 0.01f);
  g_assert_cmpuint(c.count[CHOIR_LIVE_VAD], >=, 5);
  g_assert_cmpuint(c.count[CHOIR_LIVE_VAD], <=, 10);
  /* push to talk: the level without an ear */
  ChoirLiveOptions options = defaults;
  options.server_vad = FALSE;
  choir_live_configure(c.live, &options);
  guint frames = fake_worker_count(c.ear, CHOIR_WIRE_EAR_AUDIO), meter = c.count[CHOIR_LIVE_VAD];
  speak(&c, 1000, 0.01f);
  g_assert_cmpuint(fake_worker_count(c.ear, CHOIR_WIRE_EAR_AUDIO), ==, frames);
  g_assert_cmpuint(c.count[CHOIR_LIVE_VAD] - meter, >=, 5);
  g_assert_cmpuint(c.count[CHOIR_LIVE_VAD] - meter, <=, 22); /* the test's ear goes on answering */
  stop(&c);
}

/* The lead grows by reports and the client is told. */
static void test_status(void) {
  Client c;
  start(&c);
  g_free(choir_live_text(c.live, "hello", TRUE));
  fake_turn_say(fake_twin_last(c.twin), "one two three four ");
  synthesise(&c, 4000, "[]");
  run(&c, 100);
  choir_live_ack(c.live, c.item[CHOIR_LIVE_AUDIO], 2400, 3);
  g_assert_cmpstr(c.text[CHOIR_LIVE_STATUS], ==, "lead 120 ms (3 underruns reported)");
  stop(&c);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  alarm(60);
  g_test_add_func("/voice/live/spoken-turn", test_spoken_turn);
  g_test_add_func("/voice/live/resampling", test_resampling);
  g_test_add_func("/voice/live/barge-in", test_barge_in);
  g_test_add_func("/voice/live/barge-in-acks", test_barge_in_acks);
  g_test_add_func("/voice/live/overtaken", test_overtaken);
  g_test_add_func("/voice/live/truncate", test_truncate);
  g_test_add_func("/voice/live/no-engines", test_no_engines);
  g_test_add_func("/voice/live/worker-dies", test_worker_dies);
  g_test_add_func("/voice/live/job-errors", test_job_errors);
  g_test_add_func("/voice/live/reply-errors", test_reply_errors);
  g_test_add_func("/voice/live/wild-frames", test_wild_frames);
  g_test_add_func("/voice/live/waiting-turn", test_waiting_turn);
  g_test_add_func("/voice/live/audio-limit", test_audio_limit);
  g_test_add_func("/voice/live/client-limit", test_client_limit);
  g_test_add_func("/voice/live/hang-up-in-callback", test_hangup_in_callback);
  g_test_add_func("/voice/live/type-in-callback", test_type_in_callback);
  g_test_add_func("/voice/live/meter", test_meter);
  g_test_add_func("/voice/live/status", test_status);
  return g_test_run();
}
