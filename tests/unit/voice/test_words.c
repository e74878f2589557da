/* What words say about turns: backchannels, stop words, open endings; how long a silence must be; echoes by text. */
#include "voice/echo_gate.h"
#include "voice/echo_level.h"
#include "voice/turn_end.h"
#include "voice/turn_text.h"
#include <math.h>
#include <string.h>
#include <unistd.h>

static void test_said(void) {
  static const struct {
    const char *text;
    TurnSaid said;
  } cases[] = {
      {"Mm-hmm.", TURN_SAID_BACKCHANNEL},
      {"Uh-huh.", TURN_SAID_BACKCHANNEL},
      {"Yeah, okay.", TURN_SAID_BACKCHANNEL},
      {"I see.", TURN_SAID_BACKCHANNEL},
      {"Right!", TURN_SAID_BACKCHANNEL},
      {"Oh, really?", TURN_SAID_BACKCHANNEL},
      {"No.", TURN_SAID_WORDS},
      {"I", TURN_SAID_WORDS},
      {"Okay, but what about London?", TURN_SAID_WORDS},
      {"Yes, turn it off.", TURN_SAID_WORDS},
      {"Stop.", TURN_SAID_STOP},
      {"Stop, stop, stop!", TURN_SAID_STOP},
      {"Please be quiet now.", TURN_SAID_STOP},
      {"Wait a moment.", TURN_SAID_STOP},
      {"Okay, stop.", TURN_SAID_STOP},
      {"Stop the music in the kitchen.", TURN_SAID_WORDS},
      {"Where is the bus stop?", TURN_SAID_WORDS},
      {"", TURN_SAID_WORDS},
      {"...", TURN_SAID_WORDS},
  };
  for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_test_message("%s", cases[i].text);
    g_assert_cmpint(turn_text_said(cases[i].text, "en"), ==, cases[i].said);
    g_assert_cmpint(turn_text_said(cases[i].text, NULL), ==, cases[i].said);
  }
  g_assert_cmpint(turn_text_said("Stop.", "de"), ==, TURN_SAID_WORDS);
}

static void test_ending(void) {
  static const struct {
    const char *text;
    TurnEnding ending;
  } cases[] = {
      {"What is the time?", TURN_ENDING_COMPLETE},
      {"Turn off the light.", TURN_ENDING_COMPLETE},
      {"turn off the light", TURN_ENDING_NEUTRAL},
      {"I would like to go to the.", TURN_ENDING_OPEN},
      {"I would like to go to the", TURN_ENDING_OPEN},
      {"Because I\xe2\x80\x99m", TURN_ENDING_OPEN},
      {"Well, um...", TURN_ENDING_OPEN},
      {"Yes, and,", TURN_ENDING_OPEN},
      {"Unless to be rather.", TURN_ENDING_OPEN},
      {"If you have a moment.", TURN_ENDING_OPEN},
      {"If you have a moment, tell me.", TURN_ENDING_COMPLETE},
      {"Whether it rains?", TURN_ENDING_COMPLETE},
      {"and so my fellow Americans.", TURN_ENDING_OPEN},
      {"And turn off the light.", TURN_ENDING_COMPLETE},
      {"And in the kitchen?", TURN_ENDING_COMPLETE},
      {"So?", TURN_ENDING_COMPLETE},
      {"My number is 5 5", TURN_ENDING_OPEN},
      {"My number is 555.", TURN_ENDING_OPEN},
      {"Seven four nine", TURN_ENDING_OPEN},
      {"8 of spades", TURN_ENDING_UNMARKED},
      {"Queen of clothes", TURN_ENDING_UNMARKED},
      {"queen of clubs", TURN_ENDING_NEUTRAL}, /* a recogniser without marks says nothing by that */
      {"Seven.", TURN_ENDING_COMPLETE},
      {"I am 7.", TURN_ENDING_COMPLETE},
      {"My name is spelled B R", TURN_ENDING_OPEN},
      {"What is it about?", TURN_ENDING_COMPLETE},
      {"Who are you with?", TURN_ENDING_COMPLETE},
      {"", TURN_ENDING_NEUTRAL},
  };
  for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_test_message("%s", cases[i].text);
    g_assert_cmpint(turn_text_ending(cases[i].text, "en"), ==, cases[i].ending);
  }
  g_assert_cmpint(turn_text_ending("ich und der.", "de"), ==, TURN_ENDING_NEUTRAL);
}

/* Whatever is known, the bounds hold; more doubt never makes the silence shorter. */
static void test_end(void) {
  static const double verdicts[] = {1, 0.9, 0.6, 0.3, 0.1, 0};
  for (guint pause = 0; pause <= 2000; pause += 50)
    for (int ending = TURN_ENDING_NEUTRAL; ending <= TURN_ENDING_OPEN; ending++) {
      guint last = 0, judged = 1 + pause / 50 % TURN_VERDICTS;
      for (gsize i = 0; i < G_N_ELEMENTS(verdicts); i++) {
        TurnEvidence e = {.usual_ms = 600,
                          .min_ms = 300,
                          .max_ms = 1500,
                          .pause_ms = pause,
                          .ending = (TurnEnding)ending,
                          .judged = judged,
                          .verdict = verdicts[i]};
        guint ms = turn_end_ms(&e);
        g_assert_cmpuint(ms, >=, 300);
        g_assert_cmpuint(ms, <=, 1500);
        g_assert_cmpuint(ms, >=, last);
        last = ms;
        e.unheard = TRUE;
        g_assert_cmpuint(turn_end_ms(&e), >=, 600);
        e.max_ms = 0;
        g_assert_cmpuint(turn_end_ms(&e), ==, 600);
      }
    }
  guint pause = TURN_PAUSE_START_MS;
  for (guint i = 0; i < 30; i++)
    pause = turn_end_learn(pause, 700);
  g_assert_cmpuint(pause, >, 650);
  g_assert_cmpuint(turn_end_learn(300, 50), ==, 300);
  g_assert_cmpuint(turn_end_learn(300, 60000), ==, 300);
}

static void test_echo(void) {
  const char *played = "The river was wide, and the old man had a small boat. He rowed it every morning ";
  static const struct {
    const char *heard;
    gboolean usual, early;
  } cases[] = {
      {"the old man had a small boat", TRUE, TRUE},
      {"The old men had a smell boat.", TRUE, TRUE},
      {"He rode it every morning.", TRUE, TRUE},
      {"river wide old boat", TRUE, TRUE},
      {"morning", TRUE, TRUE},
      {"stop", FALSE, FALSE},
      {"What is the weather in London today?", FALSE, FALSE},
      {"No, I said the old man had a wife and two sons", FALSE, FALSE},
      {"the small cat boat", TRUE, TRUE},
      {"every great evening", FALSE, FALSE},
      {"rowed some days", FALSE, FALSE},
      {"", FALSE, FALSE},
  };
  for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_test_message("%s", cases[i].heard);
    g_assert_cmpint(echo_gate_repeats(cases[i].heard, played, FALSE), ==, cases[i].usual);
    g_assert_cmpint(echo_gate_repeats(cases[i].heard, played, TRUE), ==, cases[i].early);
    g_assert_false(echo_gate_repeats(cases[i].heard, "", TRUE));
  }
  g_assert_false(echo_gate_repeats("rowed some the", played, FALSE));
  g_assert_true(echo_gate_repeats("rowed some morning boats", played, TRUE) ||
                !echo_gate_repeats("rowed some morning boats", played, FALSE));
  /* long texts: the end counts */
  g_autoptr(GString) much = g_string_new(NULL);
  for (guint i = 0; i < 500; i++)
    g_string_append_printf(much, "word%u ", i);
  g_assert_true(echo_gate_repeats("word498 word499", much->str, FALSE));
  g_assert_false(echo_gate_repeats("alpha bravo charlie", much->str, FALSE));
}

typedef struct {
  EchoLevel echo;
  GRand *rand;
  double played[64]; /* ms / 32 ago */
  guint64 now;
  guint flagged, windows;
} Room;

/* 32 ms of a room: the agent speaks in syllables, the microphone hears it `lag` windows later by `gain`, and a person.
 */
static void room(Room *room, guint ms, double gain, guint lag, double person) {
  for (guint at = 0; at < ms; at += 32) {
    static gint16 pcm[768];
    double loud = g_rand_double(room->rand) < 0.3 ? 0.01 : 0.05 + 0.15 * g_rand_double(room->rand);
    for (guint i = 0; i < G_N_ELEMENTS(pcm); i++)
      pcm[i] = (gint16)(32000 * loud * (i % 2 ? 1 : -1));
    echo_level_sent(&room->echo, pcm, G_N_ELEMENTS(pcm));
    memmove(room->played + 1, room->played, sizeof room->played - sizeof room->played[0]);
    room->played[0] = loud;
    room->now += 512;
    echo_level_mark(&room->echo, room->now, room->echo.track);
    /* neighbouring windows and a little of the room come with it */
    double heard = gain * (0.8 * room->played[lag] + 0.2 * room->played[lag + 1]) + 0.002 * g_rand_double(room->rand);
    double voice = person > 0 && g_rand_double(room->rand) < 0.8 ? person * (0.5 + g_rand_double(room->rand)) : 0;
    heard = sqrt(heard * heard + voice * voice);
    room->windows++;
    room->flagged += echo_level_hear(&room->echo, room->now, heard);
  }
}

static void test_echo_level(void) {
  const char *given = g_getenv("SEED");
  guint32 seed = given != NULL ? (guint32)g_ascii_strtoull(given, NULL, 10) : g_random_int();
  g_test_message("SEED=%u", seed);
  for (guint lag = 0; lag < 18; lag += 3) {
    Room r = {.rand = g_rand_new_with_seed(seed)};
    /* cancelled well: a person is a person from the first window on */
    room(&r, 4000, 0, lag, 0.1);
    /* chance likens a person to what was played in one of forty rooms, for half a second at most */
    g_assert_cmpuint(r.flagged, <=, r.windows / 5);
    echo_level_reset(&r.echo);
    /* an echo at -12 dB, known after two seconds */
    room(&r, 2000, 0.25, lag, 0);
    r.flagged = r.windows = 0;
    room(&r, 10000, 0.25, lag, 0);
    g_assert_cmpuint(r.flagged, >=, r.windows * 85 / 100);
    /* somebody speaks over it */
    r.flagged = r.windows = 0;
    room(&r, 1000, 0.25, lag, 0.2);
    g_assert_cmpuint(r.flagged, <=, r.windows / 2);
    g_rand_free(r.rand);
  }
  /* nothing is played: nothing is an echo, far in the future too */
  Room r = {.rand = g_rand_new_with_seed(seed)};
  room(&r, 3000, 0.25, 4, 0);
  for (guint i = 0; i < 100; i++)
    (void)echo_level_hear(&r.echo, r.now += 512, 0.1);
  g_assert_false(echo_level_hear(&r.echo, r.now + 512, 0.1));
  g_assert_false(echo_level_hear(&r.echo, G_MAXUINT32, 0.1));
  g_rand_free(r.rand);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  alarm(60);
  g_test_add_func("/voice/words/said", test_said);
  g_test_add_func("/voice/words/ending", test_ending);
  g_test_add_func("/voice/words/end", test_end);
  g_test_add_func("/voice/words/echo", test_echo);
  g_test_add_func("/voice/words/echo-level", test_echo_level);
  return g_test_run();
}
