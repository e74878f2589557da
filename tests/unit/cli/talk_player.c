#include "cli/talk_player.h"
#include <unistd.h>

#define MS 24 /* samples in one */

static void add(ChoirTalkPlayer *player, const char *item, guint ms, gint16 value) {
  g_autofree gint16 *samples = g_new(gint16, ms * MS);
  for (guint i = 0; i < ms * MS; i++)
    samples[i] = value;
  choir_talk_player_add(player, item, samples, ms * MS);
}

/* Milliseconds of `value` heard in the next `ms`. */
static guint heard(ChoirTalkPlayer *player, guint ms, gint16 value) {
  guint count = 0;
  for (guint i = 0; i < ms; i++) {
    gint16 out[MS];
    choir_talk_player_pull(player, out, MS);
    for (guint k = 0; k < MS; k++)
      count += out[k] == value;
  }
  return count / MS;
}

static void test_begins_with_sixty_ms(void) {
  ChoirTalkPlayer *player = choir_talk_player_new();
  guint64 played;
  add(player, "a", 40, 7);
  g_assert_cmpuint(heard(player, 20, 7), ==, 0);
  add(player, "a", 20, 7);
  g_assert_cmpuint(heard(player, 20, 7), ==, 20);
  g_assert_cmpstr(choir_talk_player_position(player, &played), ==, "a");
  g_assert_cmpuint(played, ==, 20 * MS);
  choir_talk_player_free(player);
}

static void test_short_item_plays_when_it_ends(void) {
  ChoirTalkPlayer *player = choir_talk_player_new();
  add(player, "a", 20, 7);
  g_assert_cmpuint(heard(player, 10, 7), ==, 0);
  choir_talk_player_end(player, "a");
  g_assert_cmpuint(heard(player, 50, 7), ==, 20);
  g_assert_true(choir_talk_player_empty(player));
  g_assert_cmpuint(choir_talk_player_underruns(player), ==, 0);
  choir_talk_player_free(player);
}

static void test_gap_is_silence_and_counted(void) {
  ChoirTalkPlayer *player = choir_talk_player_new();
  add(player, "a", 60, 7);
  g_assert_cmpuint(heard(player, 100, 7), ==, 60);
  g_assert_cmpuint(choir_talk_player_underruns(player), ==, 0); /* may have been the end */
  add(player, "a", 60, 7);
  g_assert_cmpuint(choir_talk_player_underruns(player), ==, 1);
  g_assert_cmpuint(heard(player, 100, 7), ==, 60);
  choir_talk_player_end(player, "a");
  add(player, "b", 40, 9);
  g_assert_cmpuint(choir_talk_player_underruns(player), ==, 1); /* between two items is no gap */
  g_assert_cmpuint(heard(player, 40, 9), ==, 0);
  choir_talk_player_end(player, "b");
  g_assert_cmpuint(heard(player, 60, 9), ==, 40);
  choir_talk_player_free(player);
}

static void test_flush_is_immediate_and_final(void) {
  ChoirTalkPlayer *player = choir_talk_player_new();
  add(player, "a", 100, 7);
  g_assert_cmpuint(heard(player, 30, 7), ==, 30);
  choir_talk_player_flush(player);
  g_assert_cmpuint(heard(player, 50, 7), ==, 0);
  add(player, "a", 100, 7); /* was on its way */
  g_assert_cmpuint(heard(player, 100, 7), ==, 0);
  add(player, "b", 100, 9);
  g_assert_cmpuint(heard(player, 100, 9), ==, 100);
  g_assert_cmpuint(choir_talk_player_underruns(player), ==, 0);
  choir_talk_player_free(player);
}

static void test_items_follow_without_a_seam(void) {
  ChoirTalkPlayer *player = choir_talk_player_new();
  guint64 played;
  add(player, "a", 60, 7);
  choir_talk_player_end(player, "a");
  add(player, "b", 60, 7);
  choir_talk_player_end(player, "b");
  g_assert_cmpuint(heard(player, 120, 7), ==, 120);
  g_assert_cmpstr(choir_talk_player_position(player, &played), ==, "b");
  g_assert_cmpuint(played, ==, 60 * MS);
  choir_talk_player_free(player);
}

int main(int argc, char **argv) {
  alarm(50);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/cli/talk_player/begins_with_sixty_ms", test_begins_with_sixty_ms);
  g_test_add_func("/cli/talk_player/short_item_plays_when_it_ends", test_short_item_plays_when_it_ends);
  g_test_add_func("/cli/talk_player/gap_is_silence_and_counted", test_gap_is_silence_and_counted);
  g_test_add_func("/cli/talk_player/flush_is_immediate_and_final", test_flush_is_immediate_and_final);
  g_test_add_func("/cli/talk_player/items_follow_without_a_seam", test_items_follow_without_a_seam);
  return g_test_run();
}
