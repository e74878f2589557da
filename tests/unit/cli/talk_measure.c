#include "cli/talk_measure.h"
#include <math.h>
#include <unistd.h>

#define RATE 24000
#define SECONDS 12

/* A tone of `amplitude` on one side from..to milliseconds. */
static void tone(gint16 *stereo, guint channel, guint from, guint to, double amplitude) {
  for (guint i = from * (RATE / 1000); i < to * (RATE / 1000); i++)
    stereo[i * 2 + channel] = (gint16)(amplitude * 32767 * sin(2 * G_PI * 440 * i / RATE));
}

static gint16 *silence(void) {
  return g_new0(gint16, RATE * SECONDS * 2);
}

static double number(const GArray *list, guint index) {
  g_assert_cmpuint(index, <, list->len);
  return g_array_index(list, double, index);
}

static void turn(GArray *turns, guint from, guint to) {
  ChoirTalkSpan span = {(gint64)from * RATE / 1000, (gint64)to * RATE / 1000};
  g_array_append_val(turns, span);
}

static void test_answer_and_interruption(void) {
  g_autofree gint16 *stereo = silence();
  g_autoptr(GArray) turns = g_array_new(FALSE, FALSE, sizeof(ChoirTalkSpan));
  turn(turns, 900, 2200); /* the file has silence around the words */
  tone(stereo, 0, 1000, 1400, 0.3);
  tone(stereo, 0, 1900, 2000, 0.3); /* a pause inside a turn does not end it */
  tone(stereo, 1, 2750, 4120, 0.3);
  turn(turns, 4000, 5000);
  tone(stereo, 0, 4000, 5000, 0.3);
  tone(stereo, 1, 6000, 7000, 0.3);
  tone(stereo, 1, 7100, 7500, 0.3); /* 100 ms between words is the same stretch */
  g_autoptr(ChoirTalkFigures) figures = choir_talk_measure(stereo, RATE * SECONDS, RATE, turns);
  g_assert_cmpuint(figures->caller->len, ==, 2);
  g_assert_cmpuint(figures->agent->len, ==, 2);
  g_assert_cmpfloat_with_epsilon(number(figures->voice_to_voice, 0), 750, 10.1);
  g_assert_cmpfloat_with_epsilon(number(figures->voice_to_voice, 1), 1000, 10.1);
  g_assert_cmpuint(figures->interruption->len, ==, 1);
  g_assert_cmpfloat_with_epsilon(number(figures->interruption, 0), 120, 10.1);
  g_assert_cmpuint(figures->cut_in, ==, 0);
}

static void test_quiet_and_short_sounds_do_not_count(void) {
  g_autofree gint16 *stereo = silence();
  g_autoptr(GArray) turns = g_array_new(FALSE, FALSE, sizeof(ChoirTalkSpan));
  turn(turns, 1000, 2000);
  tone(stereo, 0, 1000, 2000, 0.3);
  tone(stereo, 1, 2200, 2300, 0.0035); /* -52 dBFS RMS */
  tone(stereo, 1, 2501, 2509, 0.3);    /* one click */
  tone(stereo, 1, 3000, 4000, 0.01);   /* -43 dBFS RMS */
  g_autoptr(ChoirTalkFigures) figures = choir_talk_measure(stereo, RATE * SECONDS, RATE, turns);
  g_assert_cmpuint(figures->agent->len, ==, 1);
  g_assert_cmpfloat_with_epsilon(number(figures->voice_to_voice, 0), 1000, 10.1);
}

static void test_agent_that_cuts_in(void) {
  g_autofree gint16 *stereo = silence();
  g_autoptr(GArray) turns = g_array_new(FALSE, FALSE, sizeof(ChoirTalkSpan));
  turn(turns, 1000, 3000);
  tone(stereo, 0, 1000, 3000, 0.3);
  tone(stereo, 1, 2000, 2500, 0.3);
  g_autoptr(ChoirTalkFigures) figures = choir_talk_measure(stereo, RATE * SECONDS, RATE, turns);
  g_assert_cmpuint(figures->cut_in, ==, 1);
  g_assert_cmpuint(figures->voice_to_voice->len, ==, 0);
}

static void test_turns_from_the_recording_alone(void) {
  g_autofree gint16 *stereo = silence();
  tone(stereo, 0, 500, 1000, 0.3);
  tone(stereo, 0, 1800, 2000, 0.3); /* 800 ms pause: the same turn */
  tone(stereo, 0, 5000, 6000, 0.3);
  g_autoptr(ChoirTalkFigures) figures = choir_talk_measure(stereo, RATE * SECONDS, RATE, NULL);
  g_assert_cmpuint(figures->caller->len, ==, 2);
}

static void test_nothing(void) {
  g_autofree gint16 *stereo = silence();
  g_autoptr(ChoirTalkFigures) figures = choir_talk_measure(stereo, 0, RATE, NULL);
  json_auto_t *json = choir_talk_figures_json(figures, RATE);
  g_assert_cmpuint(json_array_size(json_object_get(json, "voice_to_voice_ms")), ==, 0);
}

int main(int argc, char **argv) {
  alarm(50);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/cli/talk_measure/answer_and_interruption", test_answer_and_interruption);
  g_test_add_func("/cli/talk_measure/quiet_and_short_sounds_do_not_count", test_quiet_and_short_sounds_do_not_count);
  g_test_add_func("/cli/talk_measure/agent_that_cuts_in", test_agent_that_cuts_in);
  g_test_add_func("/cli/talk_measure/turns_from_the_recording_alone", test_turns_from_the_recording_alone);
  g_test_add_func("/cli/talk_measure/nothing", test_nothing);
  return g_test_run();
}
