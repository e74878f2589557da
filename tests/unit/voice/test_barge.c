/* Speech over a reply, under virtual time: pauses before cuts, stop words, backchannels, echo. The bookkeeper in
 * world.c checks the invariants at every step. */
#include "turn_world.h"
#include <string.h>

/* A short sound: the reply pauses and goes on, no client is told that anybody spoke, nothing is lost of it. */
static void test_resume(void) {
  for (int kind = 0; kind < 3; kind++) {
    World *w = speaking();
    w->acks = kind == 2;
    w->understood = kind == 0;
    w->said = TURN_SAID_BACKCHANNEL;
    guint64 sent = w->sent, from = w->now;
    world_say(w, 240);
    g_assert_true(w->paused);
    while (w->paused)
      world_run(w, 20);
    between((guint)((w->now - from) / MIC(1)), 300, 900);
    g_assert_cmpuint(w->resumes, ==, 1);
    g_assert_cmpuint(world_count(w, "started"), ==, 1);
    world_run(w, 400);
    g_assert_cmpuint(w->sent, >, sent);
    world_until(w, SESSION_LISTENING, 20000);
    g_assert_cmpuint(w->sent, ==, OUT(12000));
    g_assert_cmpuint(w->truncated, ==, 0);
    g_assert_cmpuint(w->committed, ==, 1);
    g_assert_cmpuint(w->heard_bytes, ==, 240);
    finish(w);
  }
}

/* The recogniser is slow: the reply does not wait for it longer than a second, and is cut when it says "words". */
static void test_resume_then_cut(void) {
  World *w = speaking();
  w->stt_ms = 2000;
  guint64 from = w->now;
  world_say(w, 300);
  while (w->paused)
    world_run(w, 20);
  between((guint)((w->now - from) / MIC(1)), 1000, 1250);
  g_assert_cmpuint(w->truncated, ==, 0);
  while (w->truncated == 0)
    world_run(w, 20);
  between((guint)((w->now - from) / MIC(1)), 2300, 2800);
  g_assert_true(w->heard_cut);
  finish(w);
}

/* "No." is short, but no "mm-hm": cut as soon as it is understood. */
static void test_short_word_cuts(void) {
  World *w = speaking();
  guint64 from = w->now;
  world_say(w, 260);
  while (w->truncated == 0)
    world_run(w, 20);
  g_assert_cmpuint((w->now - from) / MIC(1), <=, 1000);
  g_assert_cmpuint(w->resumes, ==, 0);
  g_assert_true(world_said(w, "paused stt started tts-cancel done truncated heard") ||
                world_said(w, "paused stt started done truncated heard"));
  world_until(w, SESSION_SPEAKING, 3000);
  g_assert_cmpuint(w->responses, ==, 2);
  finish(w);
}

/* A stop word cuts as soon as it is spotted, and asks for no answer. */
static void test_stop_word(void) {
  for (int onset = 0; onset < 2; onset++) {
    World *w = speaking();
    w->said = TURN_SAID_STOP;
    if (onset)
      world_say(w, 200);
    world_heard(w, SESSION_SPOT_STOP);
    g_assert_cmpuint(w->truncated, ==, 1);
    g_assert_cmpuint(world_count(w, "started"), ==, 2);
    world_run(w, 4000);
    g_assert_cmpuint(w->transcripts, ==, 2);
    g_assert_cmpuint(w->responses, ==, 1);
    g_assert_cmpuint(w->spots, ==, 0);
    finish(w);
  }
}

static void test_backchannel_word(void) {
  World *w = speaking();
  world_heard(w, SESSION_SPOT_BACKCHANNEL); /* of nothing */
  world_say(w, 300);
  g_assert_true(w->paused);
  world_heard(w, SESSION_SPOT_BACKCHANNEL);
  world_run(w, 160);
  g_assert_false(w->paused);
  g_assert_cmpuint(w->s.backchannels, ==, 1);
  /* "okay, but" goes on for longer and does interrupt */
  world_run(w, 500);
  w->mic = w->speech = TRUE;
  world_run(w, 300);
  world_heard(w, SESSION_SPOT_BACKCHANNEL);
  world_run(w, 700);
  w->speech = FALSE;
  g_assert_cmpuint(w->truncated, ==, 1);
  finish(w);
}

/* In the first seconds of a reply more speech is needed. */
static void test_early_reply(void) {
  World *w = start();
  w->clauses = 12;
  world_say(w, 1000);
  world_until(w, SESSION_SPEAKING, 3000);
  world_run(w, 200);
  world_say(w, 640);
  g_assert_cmpuint(w->truncated, ==, 0);
  world_say(w, 160);
  g_assert_cmpuint(w->truncated, ==, 1);
  finish(w);
  w = speaking();
  world_say(w, 640);
  g_assert_cmpuint(w->truncated, ==, 1);
  finish(w);
}

/* Pushing on at the client's word, silence or the engines' end never leaves a reply paused. */
static void test_pause_ends(void) {
  for (int how = 0; how < 8; how++) {
    World *w = speaking();
    SessionOptions options = quick_options();
    world_say(w, 240);
    g_assert_true(w->paused);
    switch (how) {
    case 0:
      world_simple(w, SESSION_EV_CLEAR);
      g_assert_false(w->paused);
      break;
    case 1:
      options.server_vad = FALSE;
      configure(w, &options);
      g_assert_false(w->paused);
      break;
    case 2:
      world_worker(w, SESSION_EAR, FALSE);
      g_assert_false(w->paused);
      break;
    case 3:
      world_simple(w, SESSION_EV_COMMIT);
      g_assert_cmpuint(w->truncated, ==, 1);
      break;
    case 4:
      world_simple(w, SESSION_EV_CANCEL);
      g_assert_cmpuint(w->truncated, ==, 1);
      break;
    case 5:
      w->mic = FALSE;
      world_run(w, 1200);
      g_assert_false(w->paused);
      break;
    case 6:
      options.muted = TRUE;
      configure(w, &options);
      g_assert_false(w->paused);
      break;
    default:
      world_worker(w, SESSION_STT, FALSE);
      world_run(w, 500);
      g_assert_false(w->paused);
      break;
    }
    finish(w);
  }
}

/* The agent's own words, heard through the room: no interruption, no turn. */
static void test_echo_text(void) {
  World *w = speaking();
  w->echo_text = TRUE;
  world_say(w, 300);
  world_run(w, 700);
  g_assert_cmpuint(w->resumes, ==, 1);
  g_assert_cmpuint(w->s.echoes, ==, 1);
  /* the last words come back when the reply is over */
  world_until(w, SESSION_LISTENING, 20000);
  world_run(w, 200);
  world_say(w, 500);
  world_run(w, 3000);
  g_assert_cmpuint(w->s.echoes, ==, 2);
  g_assert_cmpuint(w->responses, ==, 1);
  /* much later the same words are a person's */
  world_run(w, 3000);
  world_say(w, 500);
  world_run(w, 3000);
  g_assert_cmpuint(w->responses, ==, 2);
  finish(w);
}

/* Speech that dies with the playback does not interrupt, whatever the recogniser makes of it: ten minutes of a room
 * that gives everything back 200 ms later. */
static void test_echo_room(void) {
  World *w = start();
  w->echo_text = TRUE;
  w->clauses = 60;
  w->twin_clause_ms = 20;
  world_type(w);
  world_until(w, SESSION_SPEAKING, 3000);
  guint64 heard[11] = {0};
  w->mic = TRUE;
  for (guint i = 0; i < 600000 / 20; i++) {
    memmove(heard + 1, heard, sizeof heard - sizeof heard[0]);
    heard[0] = w->s.pacer.played;
    w->speech = heard[9] > heard[10]; /* it moved 200 ms ago */
    world_run(w, 20);
    if (w->s.reply.phase == REPLY_NONE && !w->s.want) {
      g_assert_cmpuint(w->truncated, ==, 0);
      world_type(w);
    }
  }
  w->speech = FALSE;
  g_assert_cmpuint(w->truncated, ==, 0);
  g_assert_cmpuint(w->transcripts, ==, 0);
  g_assert_cmpuint(w->pauses, >, 0);
  finish(w);
}

/* The agent says something that is like a stop word: the spotter hears it in the room. Somebody else says it. */
static void test_echo_stop_word(void) {
  World *w = speaking();
  w->speech = w->echo_sound = TRUE;
  world_run(w, 900);
  world_heard(w, SESSION_SPOT_STOP);
  world_run(w, 100);
  g_assert_cmpuint(w->truncated, ==, 0);
  g_assert_cmpint(w->s.reply.phase, !=, REPLY_NONE);
  w->echo_sound = FALSE;
  world_run(w, 420);
  world_heard(w, SESSION_SPOT_STOP);
  world_run(w, 40);
  g_assert_cmpuint(w->truncated, ==, 1);
  finish(w);
}

int main(int argc, char **argv) {
  static const WorldTest tests[] = {
      {"resume", test_resume},
      {"resume/then-cut", test_resume_then_cut},
      {"cut/short-word", test_short_word_cuts},
      {"cut/stop-word", test_stop_word},
      {"cut/early", test_early_reply},
      {"backchannel", test_backchannel_word},
      {"pause-ends", test_pause_ends},
      {"echo/text", test_echo_text},
      {"echo/room", test_echo_room},
      {"echo/stop-word", test_echo_stop_word},
  };
  return world_test(argc, argv, "/voice/barge", 110, tests, G_N_ELEMENTS(tests));
}
