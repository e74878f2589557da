/* The driver with fake workers and a fake twin, on a clock of the test's own. */
#include "base/clock.h"
#include "base/names.h"
#include "fake_engines.h"
#include "voice/live.h"
#include <math.h>
#include <string.h>
#include <unistd.h>

#define NO_EVENT ((int)-1)

typedef struct {
  ChoirVoice *voice;
  ChoirTwin *twin;
  ChoirWorker *ear, *stt, *tts;
  ChoirLive *live;
  guint count[CHOIR_LIVE_ERROR + 1];
  char *text[CHOIR_LIVE_ERROR + 1], *item[CHOIR_LIVE_ERROR + 1], *status, *reason;
  guint64 ms;
  guint audio_before_visemes; /* samples that had come when the last ones did */
  GArray *heard;              /* samples the client got */
  int free_on;                /* hang up inside this event's callback */
  int type_on;                /* type a message inside it */
  gint64 now;
  guint64 sent, windows; /* microphone samples, those the ear looked at */
} Client;

static const ChoirLiveOptions defaults = {.server_vad = TRUE,
                                          .threshold = 0.5,
                                          .silence_ms = 600,
                                          .prefix_ms = 300,
                                          .interrupt = TRUE,
                                          .create_response = TRUE,
                                          .audio_out = TRUE};

static void on_event(ChoirLive *live, const ChoirLiveEvent *event, gpointer user) {
  Client *c = user;
  g_assert_true(live == c->live || c->live == NULL);
  c->count[event->type]++;
  g_free(c->text[event->type]);
  c->text[event->type] = g_strdup(event->text);
  g_free(c->item[event->type]);
  c->item[event->type] = g_strdup(event->item_id);
  if (event->type == CHOIR_LIVE_AUDIO)
    g_array_append_vals(c->heard, event->pcm, (guint)event->samples);
  if (event->type == CHOIR_LIVE_VISEMES)
    c->audio_before_visemes = c->heard->len;
  if (event->type == CHOIR_LIVE_TRUNCATED)
    c->ms = event->ms;
  if (event->type == CHOIR_LIVE_RESPONSE_DONE) {
    g_free(c->status);
    c->status = g_strdup(event->status);
    g_free(c->reason);
    c->reason = g_strdup(event->reason);
  }
  if ((int)event->type == c->type_on) {
    c->type_on = NO_EVENT;
    g_free(choir_live_text(live, "and this", TRUE));
  }
  if ((int)event->type == c->free_on) {
    c->free_on = NO_EVENT;
    choir_live_free(g_steal_pointer(&c->live));
  }
}

static void set_clock(Client *c, gint64 now) {
  c->now = now;
  choir_clock_set_test_us(now);
}

static void start_with(Client *c, gboolean engines) {
  *c = (Client){.free_on = NO_EVENT, .type_on = NO_EVENT};
  set_clock(c, 1000000);
  c->heard = g_array_new(FALSE, FALSE, sizeof(gint16));
  c->twin = fake_twin_new();
  c->voice = choir_voice_new(NULL, c->twin, &defaults);
  if (engines) {
    c->ear = fake_worker_new(TRUE);
    c->stt = fake_worker_new(TRUE);
    c->tts = fake_worker_new(TRUE);
  }
  choir_voice_set_workers(c->voice, c->ear, c->stt, c->tts);
  g_autoptr(GError) error = NULL;
  c->live = choir_live_new(c->voice, "realtime", on_event, c, &error);
  g_assert_no_error(error);
}

static void start(Client *c) {
  start_with(c, TRUE);
}

static void stop(Client *c) {
  choir_live_free(c->live);
  g_assert_cmpuint(choir_voice_sessions(c->voice), ==, 0);
  choir_voice_free(c->voice);
  fake_twin_free(c->twin); /* turns whose end comes after the client is gone */
  if (c->ear != NULL) {
    fake_worker_free(c->ear);
    fake_worker_free(c->stt);
    fake_worker_free(c->tts);
  }
  for (guint i = 0; i < G_N_ELEMENTS(c->text); i++) {
    g_free(c->text[i]);
    g_free(c->item[i]);
  }
  g_free(c->status);
  g_free(c->reason);
  g_array_unref(c->heard);
  choir_clock_set_test_us(-1);
}

static void answer(Client *c, guint16 type, guint32 gen, guint32 aux, const void *payload, gsize length) {
  ChoirWireFrame frame = {
      .type = type, .session = 1, .gen = gen, .aux = aux, .length = (guint32)length, .payload = payload};
  choir_voice_worker_frame(&frame, c->voice);
}

static void run(Client *c, guint ms) {
  for (guint i = 0; i < ms / 20; i++) {
    set_clock(c, c->now + 20000);
    choir_voice_tick(c->voice);
  }
}

static gint16 mic_sample(guint64 index) {
  return (gint16)(index % 30011);
}

/* Microphone audio at the ear's own rate, so that its samples can be told apart; the ear answers. */
static void speak(Client *c, guint ms, float probability) {
  gint16 pcm[320];
  for (guint i = 0; i < ms / 20 && c->live != NULL; i++) {
    for (guint k = 0; k < G_N_ELEMENTS(pcm); k++)
      pcm[k] = mic_sample(c->sent + k);
    c->sent += G_N_ELEMENTS(pcm);
    g_assert_true(choir_live_audio(c->live, pcm, G_N_ELEMENTS(pcm), 16000));
    for (; c->live != NULL && c->windows + CHOIR_VAD_WINDOW <= c->sent; c->windows += CHOIR_VAD_WINDOW) {
      float values[2] = {probability, 0.1f};
      answer(c, CHOIR_WIRE_EAR_WINDOW, 0, (guint32)(c->windows + CHOIR_VAD_WINDOW), values, sizeof values);
    }
    run(c, 20);
  }
}

static void transcribe(Client *c, const char *text) {
  const FakeFrame *job = fake_worker_last(c->stt, CHOIR_WIRE_STT_JOB, 0);
  g_assert_nonnull(job);
  g_autofree char *json = g_strdup_printf("{\"text\":\"%s\",\"no_speech\":0.1}", text);
  answer(c, CHOIR_WIRE_STT_TEXT, job->gen, 0, json, strlen(json));
}

/* Answers the last job of the voice: `ms` of a ramp, each clause with another start. */
static void synthesise(Client *c, guint ms, const char *words) {
  const FakeFrame *job = fake_worker_last(c->tts, CHOIR_WIRE_TTS_JOB, 0);
  g_assert_nonnull(job);
  guint32 gen = job->gen, index = job->aux;
  gsize n = ms * 24;
  g_autofree gint16 *pcm = g_new(gint16, n);
  for (gsize i = 0; i < n; i++)
    pcm[i] = (gint16)((index + 1) * 1000 + i % 1000);
  answer(c, CHOIR_WIRE_TTS_PCM, gen, index, pcm, n * sizeof(gint16));
  g_autofree char *json = g_strdup_printf("{\"samples\":%zu,\"words\":%s}", n, words);
  answer(c, CHOIR_WIRE_TTS_DONE, gen, index, json, strlen(json));
}

static void ask(Client *c) {
  speak(c, 1000, 0.9f);
  speak(c, 400, 0.01f);
  transcribe(c, "what is the time");
  speak(c, 400, 0.01f);
}

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
  g_assert_cmpuint(size / 2, >=, 1200 * 16);
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

static void between(gsize value, gsize low, gsize high) {
  g_assert_cmpuint(value, >=, low);
  g_assert_cmpuint(value, <=, high);
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

static void quick(Client *c) {
  ChoirLiveOptions options = defaults;
  options.speculate = TRUE;
  options.silence_min_ms = 300;
  options.silence_max_ms = 1500;
  choir_live_configure(c->live, &options);
}

/* Begun in the pause with what was said so far, confirmed or dropped; the client hears of one reply. */
static void test_guess(void) {
  Client c;
  start(&c);
  quick(&c);
  speak(&c, 1000, 0.9f);
  speak(&c, 220, 0.01f);
  const FakeFrame *judge = fake_worker_last(c.ear, CHOIR_WIRE_EAR_TURN, 0);
  g_assert_nonnull(judge);
  between(g_bytes_get_size(judge->payload) / 2, 1000 * 16, 1200 * 16);
  transcribe(&c, "what is the time");
  g_assert_cmpstr(c.twin->prefilled, ==, "what is the time");
  speak(&c, 100, 0.01f);
  ChoirTurn *first = fake_twin_last(c.twin);
  g_assert_true(first->speculative);
  g_assert_false(first->confirmed);
  g_assert_cmpstr(first->text, ==, "what is the time");
  fake_turn_say(first, "It is ten. ");
  synthesise(&c, 500, "[[0,2,2],[3,5,2],[6,10,3]]");
  g_assert_cmpuint(c.count[CHOIR_LIVE_RESPONSE_STARTED] + c.count[CHOIR_LIVE_TEXT_DELTA] + c.count[CHOIR_LIVE_AUDIO],
                   ==, 0);
  speak(&c, 600, 0.9f);
  g_assert_true(first->cancelled && first->discarded && !first->confirmed);
  g_assert_cmpuint(c.count[CHOIR_LIVE_RESPONSE_STARTED] + c.count[CHOIR_LIVE_RESPONSE_DONE], ==, 0);
  speak(&c, 260, 0.01f);
  transcribe(&c, "what is the time in london?");
  speak(&c, 40, 0.01f);
  ChoirTurn *second = fake_twin_last(c.twin);
  g_assert_true(first != second);
  g_assert_cmpstr(second->text, ==, "what is the time in london?");
  fake_turn_say(second, "It is nine. ");
  fake_turn_done(second, NULL);
  synthesise(&c, 500, "[[0,2,2],[3,5,2],[6,11,3]]");
  float over = 0.99f;
  answer(&c, CHOIR_WIRE_EAR_VERDICT, fake_worker_last(c.ear, CHOIR_WIRE_EAR_TURN, 0)->gen, 0, &over, sizeof over);
  g_assert_cmpuint(c.heard->len, ==, 0);
  speak(&c, 100, 0.01f);
  g_assert_true(second->confirmed);
  g_assert_cmpuint(c.heard->len, >=, 80 * 24); /* it was ready */
  g_assert_cmpint(second->first_audio_us, >, 0);
  g_assert_cmpstr(c.text[CHOIR_LIVE_TEXT_DELTA], ==, "It is nine. ");
  g_assert_cmpuint(c.count[CHOIR_LIVE_RESPONSE_STARTED], ==, 1);
  run(&c, 1000);
  g_assert_cmpstr(c.status, ==, "completed");
  g_assert_true(second->heard);
  stop(&c);
}

/* A guess that the twin refuses is no error; the turn's end asks again. */
static void test_guess_refused(void) {
  Client c;
  start(&c);
  quick(&c);
  c.twin->refuse = TRUE;
  speak(&c, 1000, 0.9f);
  speak(&c, 220, 0.01f);
  transcribe(&c, "hello");
  speak(&c, 140, 0.01f);
  g_assert_cmpuint(c.count[CHOIR_LIVE_ERROR], ==, 0);
  c.twin->refuse = FALSE;
  speak(&c, 400, 0.01f);
  g_assert_cmpstr(fake_twin_last(c.twin)->text, ==, "hello");
  g_assert_false(fake_twin_last(c.twin)->speculative);
  stop(&c);
}

/* A pause and what became of it: a sound fades in again, an echo and a listener's "mm-hm" are nothing. */
static void test_pause(void) {
  static const char *const said[] = {"", "mm-hmm", "one two three", "tell me more"};
  for (gsize i = 0; i < G_N_ELEMENTS(said); i++) {
    Client c;
    start(&c);
    ask(&c);
    fake_turn_say(fake_twin_last(c.twin), "one two three four ");
    synthesise(&c, 4000, "[[0,3,3],[4,7,3],[8,13,3],[14,18,3]]");
    const FakeFrame *spot = fake_worker_last(c.ear, CHOIR_WIRE_EAR_SPOT, 0);
    g_assert_cmpuint(spot->flags, ==, CHOIR_SPOT_STOP | CHOIR_SPOT_BACKCHANNEL);
    speak(&c, 3200, 0.01f);
    speak(&c, 240, 0.9f);
    g_assert_cmpuint(c.count[CHOIR_LIVE_PAUSED], ==, 1);
    guint paused_at = c.heard->len;
    speak(&c, 260, 0.01f);
    transcribe(&c, said[i]);
    speak(&c, 40, 0.01f);
    g_assert_cmpuint(c.count[CHOIR_LIVE_RESUMED], ==, i < 3);
    g_assert_cmpuint(c.count[CHOIR_LIVE_SPEECH_STARTED], ==, i < 3 ? 1 : 2);
    if (i < 3) {
      /* the first sample behind the pause is silent, 20 ms later nothing is missing */
      g_assert_cmpuint(c.heard->len, >, paused_at);
      g_assert_cmpint(g_array_index(c.heard, gint16, paused_at), ==, 0);
      g_assert_cmpint(g_array_index(c.heard, gint16, paused_at + 240), <, 1000 + (paused_at + 240) % 1000);
      for (guint k = paused_at + 480; k < c.heard->len; k++)
        g_assert_cmpint(g_array_index(c.heard, gint16, k), ==, 1000 + k % 1000);
    }
    fake_turn_done(fake_twin_last(c.twin), NULL);
    stop(&c);
  }
}

static void spotted(Client *c, guint16 kind, const char *phrase) {
  ChoirWireFrame frame = {.type = CHOIR_WIRE_EAR_HEARD,
                          .flags = kind,
                          .session = 1,
                          .aux = (guint32)c->sent,
                          .length = (guint32)strlen(phrase),
                          .payload = (const guint8 *)phrase};
  choir_voice_worker_frame(&frame, c->voice);
}

/* A spotted stop word stops; the same word in the agent's own mouth does not. */
static void test_stop_word(void) {
  Client c;
  start(&c);
  ask(&c);
  ChoirTurn *turn = fake_twin_last(c.twin);
  fake_turn_say(turn, "the bus will stop here ");
  synthesise(&c, 4000, "[[0,3,3],[4,7,3],[8,12,3],[13,17,3],[18,22,3]]");
  speak(&c, 3200, 0.01f);
  spotted(&c, CHOIR_SPOT_STOP, "stop");
  g_assert_false(turn->cancelled);
  spotted(&c, CHOIR_SPOT_STOP, "be quiet");
  g_assert_true(turn->cancelled && turn->heard_cut);
  g_assert_cmpstr(c.reason, ==, "turn_detected");
  g_assert_cmpuint(fake_worker_last(c.ear, CHOIR_WIRE_EAR_SPOT, 0)->flags, ==, 0);
  spotted(&c, 0xffff, "\xff\xfe");
  speak(&c, 1000, 0.01f);
  transcribe(&c, "Be quiet.");
  speak(&c, 400, 0.01f);
  g_assert_true(fake_twin_last(c.twin) == turn);
  stop(&c);
}

/* Words with their samples; mouth shapes go out before their audio, counted from the item's start. */
static void test_visemes(void) {
  Client c;
  start(&c);
  ask(&c);
  ChoirTurn *turn = fake_twin_last(c.twin);
  fake_turn_say(turn, "one two ");
  fake_turn_say(turn, "three ");
  fake_turn_done(turn, NULL);
  synthesise(&c, 500, "[[0,3,3,0,9000],[4,7,3,9000,12000]],\"visemes\":[[0,\"sil\"],[480,\"O\"],[9000,\"DD\"]]");
  g_assert_cmpstr(c.text[CHOIR_LIVE_VISEMES], ==, "[[0,\"sil\"],[480,\"O\"],[9000,\"DD\"]]");
  g_assert_cmpstr(c.item[CHOIR_LIVE_VISEMES], ==, c.item[CHOIR_LIVE_AUDIO]);
  g_assert_cmpuint(c.audio_before_visemes, ==, 0);
  synthesise(&c, 300, "[[0,5,3,0,7200]],\"visemes\":[[0,\"TH\"]]");
  g_assert_cmpuint(c.count[CHOIR_LIVE_VISEMES], ==, 1); /* the second clause is half a second away */
  run(&c, 500);
  g_assert_cmpuint(c.count[CHOIR_LIVE_VISEMES], ==, 2);
  g_assert_cmpstr(c.text[CHOIR_LIVE_VISEMES], ==, "[[12000,\"TH\"]]");
  g_assert_cmpuint(c.audio_before_visemes, <=, 12000);
  stop(&c);
  /* nonsense is no mouth shape */
  static const char *const bad[] = {"[[5,\"aa\"],[4,\"O\"]]", "[[0,1]]", "[[0,\"toolong\"]]",
                                    "[[-1,\"aa\"]]",          "{}",      "7"};
  for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
    start(&c);
    ask(&c);
    fake_turn_say(fake_twin_last(c.twin), "one ");
    g_autofree char *words = g_strdup_printf("[[0,3,3]],\"visemes\":%s", bad[i]);
    synthesise(&c, 500, words);
    g_assert_cmpuint(c.count[CHOIR_LIVE_VISEMES], ==, 0);
    g_assert_cmpuint(c.heard->len, >, 0);
    choir_live_cancel(c.live);
    stop(&c);
  }
}

/* A language that the engines cannot do gets a sentence of our own, which no history keeps. */
static void test_language(void) {
  Client c;
  start(&c);
  choir_voice_configure(c.voice, &(ChoirVoiceOptions){.languages = "en"});
  speak(&c, 1000, 0.9f);
  speak(&c, 300, 0.01f);
  const FakeFrame *job = fake_worker_last(c.stt, CHOIR_WIRE_STT_JOB, 0);
  static const char json[] = "{\"text\":\"Wie spät ist es?\",\"language\":\"en\",\"heard\":\"de\",\"heard_p\":0.97,"
                             "\"audio_ms\":1600}";
  answer(&c, CHOIR_WIRE_STT_TEXT, job->gen, 0, json, strlen(json));
  speak(&c, 600, 0.01f);
  g_assert_cmpuint(c.twin->turns->len, ==, 0);
  g_assert_cmpstr(c.text[CHOIR_LIVE_TRANSCRIPT], ==, "Wie spät ist es?");
  g_assert_nonnull(strstr(c.text[CHOIR_LIVE_TEXT_DELTA], "English"));
  synthesise(&c, 500, "[]");
  run(&c, 1000);
  g_assert_cmpstr(c.status, ==, "completed");
  /* cut and hung up in the middle of such a sentence */
  for (int how = 0; how < 2; how++) {
    speak(&c, 1000, 0.9f);
    speak(&c, 300, 0.01f);
    answer(&c, CHOIR_WIRE_STT_TEXT, fake_worker_last(c.stt, CHOIR_WIRE_STT_JOB, 0)->gen, 0, json, strlen(json));
    speak(&c, 600, 0.01f);
    synthesise(&c, 3000, "[]");
    if (how == 0)
      choir_live_cancel(c.live);
  }
  stop(&c);
}

/* Spoken once when the voice comes up, then played from memory. */
static void test_fillers(void) {
  Client c;
  start(&c);
  choir_voice_configure(c.voice, &(ChoirVoiceOptions){.fillers = TRUE});
  choir_voice_worker_state(c.tts, TRUE, c.voice);
  guint made = 0;
  for (;; made++) {
    const FakeFrame *job = fake_worker_last(c.tts, CHOIR_WIRE_TTS_JOB, 0);
    if (job == NULL || fake_worker_count(c.tts, CHOIR_WIRE_TTS_JOB) == made)
      break;
    g_autofree gint16 *pcm = g_new(gint16, 4800);
    for (guint i = 0; i < 4800; i++)
      pcm[i] = (gint16)(20000 + (gint)made);
    ChoirWireFrame frame = {.type = CHOIR_WIRE_TTS_PCM,
                            .session = job->session,
                            .gen = job->gen,
                            .aux = job->aux,
                            .length = 9600,
                            .payload = (const guint8 *)pcm};
    choir_voice_worker_frame(&frame, c.voice);
    frame.type = CHOIR_WIRE_TTS_DONE;
    frame.payload = (const guint8 *)"{}";
    frame.length = 2;
    choir_voice_worker_frame(&frame, c.voice);
  }
  g_assert_cmpuint(made, ==, 3);
  quick(&c);
  ask(&c);
  speak(&c, 200, 0.01f);
  g_assert_cmpuint(c.heard->len, ==, 0);
  speak(&c, 1000, 0.01f);
  g_assert_cmpuint(c.heard->len, ==, 4800);
  g_assert_cmpint(g_array_index(c.heard, gint16, 0), ==, 20000);
  ChoirTurn *turn = fake_twin_last(c.twin);
  g_assert_cmpint(turn->first_audio_us, ==, 0); /* the reply itself was not heard yet */
  fake_turn_say(turn, "one two ");
  fake_turn_done(turn, NULL);
  synthesise(&c, 1000, "[[0,3,3],[4,7,3]]");
  run(&c, 600);
  choir_live_cancel(c.live);
  g_assert_cmpstr(c.text[CHOIR_LIVE_TRUNCATED], ==, "one");
  /* a voice that comes up again has nothing to repeat */
  guint jobs = fake_worker_count(c.tts, CHOIR_WIRE_TTS_JOB);
  choir_voice_worker_state(c.tts, TRUE, c.voice);
  g_assert_cmpuint(fake_worker_count(c.tts, CHOIR_WIRE_TTS_JOB), ==, jobs);
  stop(&c);
}

static void test_hangup_in_pause(void) {
  static const int events[] = {CHOIR_LIVE_PAUSED, CHOIR_LIVE_RESUMED, CHOIR_LIVE_VISEMES};
  for (gsize i = 0; i < G_N_ELEMENTS(events); i++) {
    Client c;
    start(&c);
    c.free_on = events[i];
    ask(&c);
    fake_turn_say(fake_twin_last(c.twin), "one two three four ");
    synthesise(&c, 4000, "[],\"visemes\":[[0,\"aa\"]]");
    if (c.live != NULL)
      speak(&c, 1000, 0.01f);
    if (c.live != NULL)
      speak(&c, 240, 0.9f);
    if (c.live != NULL)
      speak(&c, 260, 0.01f);
    if (c.live != NULL)
      transcribe(&c, "");
    g_assert_null(c.live);
    stop(&c);
  }
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
      continue; /* see test_hangup_in_pause() */
    Client c;
    start(&c);
    c.free_on = event;
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
  g_test_add_func("/voice/live/guess", test_guess);
  g_test_add_func("/voice/live/guess-refused", test_guess_refused);
  g_test_add_func("/voice/live/pause", test_pause);
  g_test_add_func("/voice/live/stop-word", test_stop_word);
  g_test_add_func("/voice/live/visemes", test_visemes);
  g_test_add_func("/voice/live/language", test_language);
  g_test_add_func("/voice/live/fillers", test_fillers);
  g_test_add_func("/voice/live/hang-up-in-pause", test_hangup_in_pause);
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
