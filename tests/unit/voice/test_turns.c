/* Manners and speed under virtual time: ends that adapt, replies begun on a guess, pauses before cuts, echo, sleep. The
 * bookkeeper in world.c checks the invariants at every step. */
#include "turn_world.h"
#include <string.h>

/* Begun before the turn's end, unheard before it, heard at once after it. */
static void test_guess(void) {
  World *w = start();
  world_say(w, 1200);
  guint64 quiet = w->now;
  while (w->guesses == 0)
    world_run(w, 20);
  between((guint)((w->now - quiet) / MIC(1)), 150, 400);
  g_assert_cmpint(w->shown, ==, SESSION_LISTENING);
  while (w->committed == 0)
    world_run(w, 20);
  g_assert_cmpuint(w->sent, <=,
                   CHOIR_LEAD_MS * 24); /* what was ready goes out with the end; the world checks that no guess does */
  guint64 ended = w->now;
  world_until(w, SESSION_SPEAKING, 3000);
  g_assert_cmpuint((w->now - ended) / MIC(1), <=, 200); /* twin 200 ms, voice 150 ms, since the guess */
  world_until(w, SESSION_LISTENING, 10000);
  g_assert_true(world_said(w, "started stt begin stopped committed transcript confirm response done playout heard"));
  g_assert_cmpuint(w->heard_bytes, ==, 80);
  g_assert_cmpuint(w->begins, ==, 1);
  finish(w);
}

/* The person goes on in the pause: the client never hears of the reply that was begun. */
static void test_guess_dropped(void) {
  World *w = start();
  world_say(w, 1000);
  while (w->guesses == 0)
    world_run(w, 20);
  world_run(w, 100);
  world_say(w, 1000);
  g_assert_cmpuint(w->discards, ==, 1);
  g_assert_cmpuint(w->responses, ==, 0);
  g_assert_cmpuint(w->transcripts, ==, 0);
  world_until(w, SESSION_SPEAKING, 3000);
  g_assert_cmpuint(w->responses, ==, 1);
  g_assert_cmpuint(w->transcripts, ==, 1);
  g_assert_cmpuint(w->committed, ==, 1);
  g_assert_cmpuint(w->job_start, <=, MIC(40)); /* one turn, from its beginning */
  g_assert_true(world_said(w, "begin twin-cancel discard stt begin stopped committed transcript confirm response"));
  finish(w);
}

/* ... or after the turn's end, but before a sound: both halves are one question, and the first reply is taken back
 * without a word. */
static void test_reopened(void) {
  World *w = start();
  w->ending = TURN_ENDING_COMPLETE;
  w->twin_first_ms = 1500;
  world_say(w, 1000);
  between(endpoint(w), 510, 610); /* 85 % of the usual time */
  g_assert_cmpuint(w->responses, ==, 0);
  world_run(w, 200);
  guint pause = w->s.pause_ms;
  world_say(w, 800);
  g_assert_cmpuint(w->discards, ==, 1);
  g_assert_cmpuint(w->responses, ==, 0);
  g_assert_cmpuint(w->s.reopened, ==, 1);
  g_assert_cmpuint(w->s.pause_ms, >, pause); /* and the speaker is known better */
  w->twin_first_ms = 100;
  world_until(w, SESSION_SPEAKING, 3000);
  g_assert_cmpuint(w->responses, ==, 1);
  g_assert_cmpuint(w->transcripts, ==, 2);
  g_assert_cmpuint(w->discards, ==, 1);
  finish(w);
}

/* A reply that takes long is announced when nobody will go on any more. */
static void test_announced_late(void) {
  World *w = start();
  w->twin_first_ms = 5000;
  world_say(w, 1000);
  guint64 quiet = w->now;
  while (w->responses == 0)
    world_run(w, 20);
  between((guint)((w->now - quiet) / MIC(1)), 940, 1150);
  g_assert_cmpint(w->shown, ==, SESSION_THINKING);
  finish(w);
}

/* Everything that makes a guess wrong takes it back. */
static void test_guess_overtaken(void) {
  for (int how = 0; how < 6; how++) {
    World *w = start();
    SessionOptions options = quick_options();
    world_say(w, 1000);
    while (w->guesses == 0)
      world_run(w, 20);
    g_assert_cmpuint(w->discards, ==, 0);
    guint expected = 1;
    switch (how) {
    case 0:
      world_type(w);
      break;
    case 1:
      configure(w, &options);
      break;
    case 2:
      world_simple(w, SESSION_EV_CANCEL);
      break;
    case 3:
      world_simple(w, SESSION_EV_CLEAR);
      expected = 0;
      break;
    case 4:
      world_worker(w, SESSION_TTS, FALSE);
      break;
    default:
      world_simple(w, SESSION_EV_RESPOND); /* nothing to answer yet: an error, no harm */
      g_assert_cmpint(w->last_error, ==, SESSION_ERR_NOTHING_TO_ANSWER);
      break;
    }
    g_assert_cmpuint(w->discards, ==, how == 5 ? 0 : 1);
    g_assert_cmpuint(w->responses, ==, 0);
    world_run(w, 2500);
    g_assert_cmpuint(w->responses, ==, expected);
    finish(w);
  }
}

/* A model that refuses or fails on a guess is asked again at the end of the turn. */
static void test_guess_fails(void) {
  for (int refuse = 0; refuse < 2; refuse++) {
    World *w = start();
    w->twin_refuses = refuse;
    w->twin_outcome = SESSION_FAILED;
    w->clauses = 0;
    w->twin_first_ms = 50;
    world_say(w, 1000);
    while (w->guesses == 0)
      world_run(w, 20);
    world_run(w, 100);
    g_assert_cmpuint(w->errors, ==, 0);
    w->twin_refuses = FALSE;
    w->twin_outcome = SESSION_COMPLETED;
    w->clauses = 2;
    world_until(w, SESSION_SPEAKING, 3000);
    g_assert_cmpuint(w->errors, ==, 0);
    g_assert_cmpuint(w->guesses, ==, 1);
    g_assert_cmpuint(w->begins, ==, 2);
    finish(w);
  }
}

/* What was said before a short pause goes to the prompt while the person speaks on. */
static void test_prefill_while_speaking(void) {
  World *w = start();
  w->stt_ms = 400;
  world_say(w, 1500);
  world_run(w, 260);
  world_say(w, 2000); /* its transcript comes in here */
  g_assert_true(world_said(w, "started stt prefill"));
  g_assert_cmpuint(w->begins, ==, 0);
  world_until(w, SESSION_SPEAKING, 3000);
  g_assert_cmpuint(w->responses, ==, 1);
  finish(w);
}

/* Who speaks on and on is read along, a slow recogniser less often; what is being transcribed when they stop is
 * dropped for the whole. */
static void test_reads_along(void) {
  World *w = start();
  w->stt_ms = 300;
  world_say(w, 5200);
  g_assert_cmpuint(world_count(w, "prefill"), ==, 3);
  g_assert_cmpuint(w->begins + w->committed, ==, 0);
  world_until(w, SESSION_SPEAKING, 3000);
  g_assert_cmpuint(w->responses, ==, 1);
  g_assert_cmpuint(w->transcripts, ==, 1);
  finish(w);
  w = start();
  w->stt_ms = 1000;
  world_say(w, 9000);
  between(world_count(w, "prefill"), 2, 3);
  finish(w);
}

static guint ending_after(TurnEnding ending, guint judge_ms, double verdict) {
  World *w = start();
  w->ending = ending;
  w->judge_ms = judge_ms;
  w->verdict = verdict;
  world_say(w, 1000);
  guint ms = endpoint(w);
  g_assert_cmpuint(w->judged, <=, TURN_VERDICTS);
  g_assert_cmpuint(w->judged, >=, 1);
  finish(w);
  return ms;
}

static void test_end_adapts(void) {
  between(ending_after(TURN_ENDING_NEUTRAL, 0, 0), 600, 680);
  between(ending_after(TURN_ENDING_COMPLETE, 0, 0), 510, 590);
  between(ending_after(TURN_ENDING_COMPLETE, 50, 0.97), 300, 400);
  between(ending_after(TURN_ENDING_NEUTRAL, 50, 0.97), 320, 400);
  between(ending_after(TURN_ENDING_NEUTRAL, 50, 0.02), 1180, 1280);
  between(ending_after(TURN_ENDING_COMPLETE, 50, 0.02), 1180, 1280);
  between(ending_after(TURN_ENDING_COMPLETE, 50, 0.3), 1080, 1160);
  between(ending_after(TURN_ENDING_UNMARKED, 50, 0.95), 1080, 1160);
  between(ending_after(TURN_ENDING_UNMARKED, 50, 0.99), 480, 560);
  between(ending_after(TURN_ENDING_OPEN, 0, 0), 1120, 1220);
  between(ending_after(TURN_ENDING_OPEN, 50, 0.97), 1120, 1220);
  between(ending_after(TURN_ENDING_OPEN, 50, 0.02), 1480, 1580);
}

/* Asked at once and again a moment later; the second answer counts. */
static void test_second_verdict(void) {
  World *w = start();
  w->ending = TURN_ENDING_COMPLETE;
  w->judge_ms = 50;
  w->verdict = 0.93; /* a "perhaps" at once, and still one when the silence has lasted */
  world_say(w, 1000);
  world_run(w, 200);
  g_assert_cmpuint(w->judged, ==, 1);
  between(200 + endpoint(w), 300, 420);
  g_assert_cmpuint(w->judged, ==, 2);
  world_until(w, SESSION_LISTENING, 60000);
  world_say(w, 1000);
  world_run(w, 200);
  w->verdict = 0.6; /* an opinion that sank: a pause */
  between(200 + endpoint(w), 1080, 1160);
  finish(w);
}

/* Somebody who makes long pauses is given them; the same client, later. */
static void test_end_learns(void) {
  World *w = start();
  w->mic = TRUE;
  for (guint i = 0; i < 8; i++) {
    world_say(w, 700);
    world_run(w, 560);
  }
  world_say(w, 700);
  g_assert_cmpuint(w->committed, ==, 0);
  g_assert_cmpuint(w->s.pause_ms, >, 420);
  g_assert_cmpuint(endpoint(w), >, 750);
  finish(w);
  w = start();
  for (guint i = 0; i < 12; i++) {
    world_say(w, 700);
    world_run(w, 220);
  }
  world_say(w, 700);
  between(endpoint(w), 480, 590);
  finish(w);
}

/* A verdict about a pause that is over counts for nothing. */
static void test_late_verdict(void) {
  World *w = start();
  w->judge_ms = 400;
  w->verdict = 0.99;
  world_say(w, 800);
  world_run(w, 160);
  world_say(w, 1000);
  g_assert_cmpuint(w->s.stale, ==, 1);
  g_assert_false(w->s.utterance.judged);
  w->judge_ms = 0;
  between(endpoint(w), 480, 680);
  finish(w);
}

/* One that is long in coming is waited for a little, where there have been some. */
static void test_awaited_verdict(void) {
  World *w = start();
  w->ending = TURN_ENDING_COMPLETE;
  w->verdict = 0.99;
  w->judge_ms = 2000;
  world_say(w, 1000);
  between(endpoint(w), 510, 590);
  world_until(w, SESSION_LISTENING, 60000);
  w->judge_ms = 50;
  world_say(w, 1000);
  between(endpoint(w), 300, 420);
  world_until(w, SESSION_LISTENING, 60000);
  w->judge_ms = 2000;
  world_say(w, 1000);
  between(endpoint(w), 760, 860);
  world_until(w, SESSION_LISTENING, 60000);
  w->judge_ms = 400; /* and ends the turn at once when it comes */
  world_say(w, 1000);
  between(endpoint(w), 480, 590);
  finish(w);
}

/* A fixed silence stays fixed. */
static void test_end_fixed(void) {
  World *w = start();
  SessionOptions options = quick_options();
  options.silence_max_ms = 0;
  configure(w, &options);
  w->ending = TURN_ENDING_OPEN;
  world_say(w, 1000);
  between(endpoint(w), 600, 660);
  g_assert_cmpuint(w->judged, ==, 0);
  finish(w);
}

static void test_filler(void) {
  World *w = start();
  for (guint i = 0; i < SESSION_FILLERS; i++)
    world_event(w, (SessionEvent){.type = SESSION_EV_FILLER, .index = i, .samples = OUT(400)});
  w->twin_first_ms = 400;
  world_say(w, 1000);
  while (w->playouts < 1)
    world_run(w, 20);
  g_assert_cmpuint(w->fillers, ==, 0); /* quick enough */
  w->twin_first_ms = 3000;
  world_say(w, 1000);
  world_until(w, SESSION_SPEAKING, 3000);
  g_assert_cmpuint(w->fillers, ==, 1);
  while (w->playouts < 2)
    world_run(w, 20);
  g_assert_cmpuint(w->sent, ==, OUT(4400));
  g_assert_cmpuint(w->heard_bytes, ==, 80);
  /* the next one is expected to take long, and is filled sooner; a cut in the filler is a cut before the first word */
  world_say(w, 1000);
  while (w->committed < 3)
    world_run(w, 20);
  guint64 ended = w->now;
  while (w->fillers < 2)
    world_run(w, 20);
  between((guint)((w->now - ended) / MIC(1)), 280, 1020);
  world_run(w, 100);
  guint discards = w->discards;
  world_say(w, 1000);
  g_assert_cmpuint(w->discards, ==, discards + 1);
  /* typed questions get none */
  while (w->playouts < 3)
    world_run(w, 20);
  guint fillers = w->fillers;
  world_type(w);
  world_until(w, SESSION_SPEAKING, 9000);
  g_assert_cmpuint(w->fillers, ==, fillers);
  finish(w);
}

/* A voice slower than speech hands out its clauses in pieces: each is begun when it will not run dry in mid-word. */
static void test_slow_voice(void) {
  World *w = start();
  w->voice_ms = 1500; /* for 1000 ms of sound, in ten pieces */
  w->acks = TRUE;
  world_type(w);
  world_until(w, SESSION_SPEAKING, 6000);
  while (w->playouts < 1)
    world_run(w, 20);
  g_assert_cmpuint(w->gaps_in_clause, ==, 0); /* its first piece came slowly enough to tell */
  g_assert_cmpuint(w->s.voice_pace, <, 80);
  for (guint reply = 2; reply <= 3; reply++) {
    world_type(w);
    while (w->playouts < reply)
      world_run(w, 20);
    g_assert_cmpuint(w->gaps_in_clause, ==, 0);
  }
  finish(w);
}

static void test_idle(void) {
  World *w = start();
  SessionOptions options = quick_options();
  options.idle_ms = 5000;
  configure(w, &options);
  world_say(w, 1000);
  world_until(w, SESSION_SPEAKING, 3000);
  while (w->playouts == 0)
    world_run(w, 20);
  world_run(w, 4800);
  g_assert_cmpuint(w->canned, ==, 0);
  world_run(w, 400);
  g_assert_cmpuint(w->canned, ==, 1);
  g_assert_cmpuint(world_count(w, "idle"), ==, 1);
  world_run(w, 30000);
  g_assert_cmpuint(w->canned, ==, 1); /* once */
  g_assert_cmpuint(w->playouts, ==, 2);
  world_say(w, 1000);
  while (w->playouts < 3)
    world_run(w, 20);
  world_run(w, 6000);
  g_assert_cmpuint(w->canned, ==, 2);
  /* nobody is asked whose microphone is off */
  w->mic = FALSE;
  world_type(w);
  world_run(w, 20000);
  g_assert_cmpuint(w->canned, ==, 2);
  finish(w);
}

static void test_foreign(void) {
  World *w = start();
  w->foreign = TRUE;
  world_say(w, 1000);
  world_until(w, SESSION_SPEAKING, 3000);
  g_assert_cmpuint(w->canned, ==, 1);
  g_assert_cmpuint(w->begins, ==, 1);
  g_assert_cmpuint(w->guesses, ==, 0);
  g_assert_cmpuint(w->s.unanswered, ==, 0);
  finish(w);
}

static void test_mute(void) {
  World *w = start();
  SessionOptions options = quick_options();
  world_say(w, 900);
  options.muted = TRUE;
  configure(w, &options);
  g_assert_true(world_said(w, "started stopped committed")); /* what was said counts */
  world_until(w, SESSION_SPEAKING, 3000);
  world_run(w, 1000);
  world_say(w, 2000);
  world_heard(w, SESSION_SPOT_STOP);
  g_assert_cmpuint(w->pauses, ==, 0);
  g_assert_cmpuint(w->truncated, ==, 0);
  world_until(w, SESSION_LISTENING, 20000);
  world_say(w, 2000);
  world_run(w, 2000);
  g_assert_cmpuint(w->committed, ==, 1);
  options.muted = FALSE;
  configure(w, &options);
  world_say(w, 900);
  world_until(w, SESSION_SPEAKING, 3000);
  finish(w);
}

static void test_half_duplex(void) {
  World *w = start();
  SessionOptions options = quick_options();
  options.half_duplex = TRUE;
  configure(w, &options);
  world_say(w, 900);
  world_until(w, SESSION_SPEAKING, 3000);
  g_assert_cmpuint(w->spots, ==, 0);
  w->speech = TRUE;
  while (w->playouts == 0)
    world_run(w, 20);
  world_run(w, 200); /* the room's last echo */
  w->speech = FALSE;
  world_run(w, 3000);
  g_assert_cmpuint(w->pauses + w->truncated, ==, 0);
  g_assert_cmpuint(w->committed, ==, 1);
  world_say(w, 900);
  world_until(w, SESSION_SPEAKING, 3000);
  finish(w);
}

static void test_wake_word(void) {
  World *w = start();
  SessionOptions options = quick_options();
  options.wake = TRUE;
  configure(w, &options);
  w->mic = TRUE;
  world_run(w, 100);
  g_assert_cmpuint(w->spots, ==, SESSION_SPOT_WAKE);
  world_say(w, 2000);
  world_run(w, 1000);
  g_assert_cmpuint(w->committed, ==, 0);
  g_assert_cmpstr(w->log->str, ==, " status ");
  /* "hey ..., what time is it": the wake word is no part of the question */
  w->speech = TRUE;
  world_run(w, 600);
  guint64 position = w->s.mic_end;
  world_heard(w, SESSION_SPOT_WAKE);
  world_run(w, 1000);
  w->speech = FALSE;
  world_until(w, SESSION_SPEAKING, 3000);
  g_assert_cmpuint(w->job_start, >=, position);
  /* a window for what follows, then sleep */
  while (w->playouts == 0)
    world_run(w, 20);
  world_run(w, 3000);
  world_say(w, 800);
  world_until(w, SESSION_SPEAKING, 3000);
  while (w->playouts == 1)
    world_run(w, 20);
  world_run(w, 8500);
  world_say(w, 800);
  world_run(w, 3000);
  g_assert_cmpuint(w->responses, ==, 2);
  g_assert_cmpuint(w->spots, ==, SESSION_SPOT_WAKE);
  /* woken for nothing it sleeps again */
  world_heard(w, SESSION_SPOT_WAKE);
  g_assert_cmpuint(w->spots, ==, 0);
  world_run(w, 8500);
  g_assert_cmpuint(w->spots, ==, SESSION_SPOT_WAKE);
  finish(w);
}

/* A new ear is told again what to listen for. */
static void test_spots_again(void) {
  World *w = speaking();
  world_worker(w, SESSION_EAR, FALSE);
  world_worker(w, SESSION_EAR, TRUE);
  w->window_done = w->s.mic_end;
  g_assert_cmpuint(w->spots, ==, SESSION_SPOT_STOP | SESSION_SPOT_BACKCHANNEL);
  finish(w);
}

int main(int argc, char **argv) {
  static const WorldTest tests[] = {
      {"guess", test_guess},
      {"guess/dropped", test_guess_dropped},
      {"guess/reopened", test_reopened},
      {"guess/announced-late", test_announced_late},
      {"guess/overtaken", test_guess_overtaken},
      {"guess/fails", test_guess_fails},
      {"prefill", test_prefill_while_speaking},
      {"prefill/along", test_reads_along},
      {"end/adapts", test_end_adapts},
      {"end/second-verdict", test_second_verdict},
      {"end/learns", test_end_learns},
      {"end/late-verdict", test_late_verdict},
      {"end/awaited-verdict", test_awaited_verdict},
      {"end/fixed", test_end_fixed},
      {"filler", test_filler},
      {"slow-voice", test_slow_voice},
      {"idle", test_idle},
      {"foreign", test_foreign},
      {"mute", test_mute},
      {"half-duplex", test_half_duplex},
      {"wake-word", test_wake_word},
      {"spots-again", test_spots_again},
  };
  return world_test(argc, argv, "/voice/turns", 110, tests, G_N_ELEMENTS(tests));
}
