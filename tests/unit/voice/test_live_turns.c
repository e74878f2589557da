/* The driver where turns are guessed at, paused over and decided, with fake engines. */
#include "live_client.h"
#include <string.h>
#include <unistd.h>

static void quick(Client *c) {
  ChoirLiveOptions options = defaults;
  options.speculate = TRUE;
  options.silence_min_ms = 300;
  options.silence_max_ms = 1500;
  choir_live_configure(c->live, &options);
}

/* The last words of a transcript that ends in mid-speech are not for the prompt. */
static void test_reads_along(void) {
  Client c;
  start(&c);
  quick(&c);
  speak(&c, 2200, 0.9f);
  transcribe(&c, "please tell me what the whether");
  g_assert_cmpstr(c.twin->prefilled, ==, "please tell me what");
  speak(&c, 1700, 0.9f);
  transcribe(&c, "please tell");
  g_assert_cmpstr(c.twin->prefilled, ==, "please tell me what"); /* nothing is left of it */
  stop(&c);
}

/* Begun in the pause with what was said so far, confirmed or dropped; the client hears of one reply. */
static void test_guess(void) {
  Client c;
  start(&c);
  quick(&c);
  speak(&c, 1000, 0.9f);
  speak(&c, 140, 0.01f);
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

/* A voice that knows the mouth shapes of each piece of a clause before its sound: none is late, none comes twice. */
static void test_visemes_in_pieces(void) {
  Client c;
  start(&c);
  ask(&c);
  fake_turn_say(fake_twin_last(c.twin), "one two ");
  const FakeFrame *job = fake_worker_last(c.tts, CHOIR_WIRE_TTS_JOB, 0);
  g_assert_nonnull(job);
  guint32 gen = job->gen;
  g_autofree gint16 *pcm = g_new0(gint16, 12000);
  static const char *const mouth[] = {"{\"first\":0,\"visemes\":[[0,\"sil\"],[480,\"O\"]]}",
                                      "{\"first\":12000,\"visemes\":[[12000,\"DD\"],[15000,\"U\"]]}"};
  static const char *const bad[] = {"{\"first\":-1,\"visemes\":[[0,\"O\"]]}", "{\"visemes\":[[0,\"O\"]]}",
                                    "{\"first\":0}", "["};
  for (gsize i = 0; i < G_N_ELEMENTS(bad); i++)
    answer(&c, CHOIR_WIRE_TTS_MOUTH, gen, 0, bad[i], strlen(bad[i]));
  answer(&c, CHOIR_WIRE_TTS_MOUTH, gen, 0, mouth[0], strlen(mouth[0]));
  answer(&c, CHOIR_WIRE_TTS_MOUTH, gen + 1, 0, mouth[1], strlen(mouth[1])); /* nobody's */
  g_assert_cmpuint(c.count[CHOIR_LIVE_VISEMES], ==, 0);
  for (guint i = 0; i < 2; i++)
    answer(&c, CHOIR_WIRE_TTS_PCM, gen, 0, pcm, 6000 * sizeof(gint16));
  run(&c, 40);
  g_assert_cmpuint(c.count[CHOIR_LIVE_VISEMES], ==, 1);
  g_assert_cmpstr(c.text[CHOIR_LIVE_VISEMES], ==, "[[0,\"sil\"],[480,\"O\"]]");
  g_assert_cmpuint(c.audio_before_visemes, ==, 0);
  answer(&c, CHOIR_WIRE_TTS_MOUTH, gen, 0, mouth[1], strlen(mouth[1]));
  answer(&c, CHOIR_WIRE_TTS_PCM, gen, 0, pcm, 12000 * sizeof(gint16));
  static const char done[] = "{\"samples\":24000,\"words\":[[0,3,3]],\"visemes\":[[0,\"TH\"]]}";
  answer(&c, CHOIR_WIRE_TTS_DONE, gen, 0, done, strlen(done));
  run(&c, 600);
  g_assert_cmpuint(c.count[CHOIR_LIVE_VISEMES], ==, 2);
  g_assert_cmpstr(c.text[CHOIR_LIVE_VISEMES], ==, "[[12000,\"DD\"],[15000,\"U\"]]");
  g_assert_cmpuint(c.audio_before_visemes, <=, 12000);
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

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  alarm(60);
  g_test_add_func("/voice/live/reads-along", test_reads_along);
  g_test_add_func("/voice/live/guess", test_guess);
  g_test_add_func("/voice/live/guess-refused", test_guess_refused);
  g_test_add_func("/voice/live/pause", test_pause);
  g_test_add_func("/voice/live/stop-word", test_stop_word);
  g_test_add_func("/voice/live/visemes", test_visemes);
  g_test_add_func("/voice/live/visemes-in-pieces", test_visemes_in_pieces);
  g_test_add_func("/voice/live/language", test_language);
  g_test_add_func("/voice/live/fillers", test_fillers);
  g_test_add_func("/voice/live/hang-up-in-pause", test_hangup_in_pause);
  return g_test_run();
}
