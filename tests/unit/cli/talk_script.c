#include "cli/talk_script.h"
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

static ChoirTalkStep *step(ChoirTalkScript *script, guint index) {
  g_assert_cmpuint(index, <, script->steps->len);
  return script->steps->pdata[index];
}

static void test_every_instruction(void) {
  g_autoptr(GError) error = NULL;
  g_autofree char *folder = g_dir_make_tmp("choir-talk-XXXXXX", &error);
  g_autofree char *wav = g_build_filename(folder, "a b.wav", NULL);
  g_assert_true(g_file_set_contents(wav, "x", 1, &error));
  g_autoptr(ChoirTalkScript) script = choir_talk_script_parse("# a comment\n"
                                                              "timeout 2m\n"
                                                              "play \"a b.wav\"   # spoken\n"
                                                              "\n"
                                                              "wait agent 5s\n"
                                                              "after agent 1.5s play 'a b.wav'\r\n"
                                                              "wait silence 250ms 9s\n"
                                                              "sleep 20ms\n"
                                                              "say-text \"Good # morning\"\n",
                                                              folder, NULL, &error);
  g_assert_no_error(error);
  g_assert_cmpuint(script->timeout_ms, ==, 120000);
  g_assert_cmpuint(script->steps->len, ==, 8);
  g_assert_cmpint(step(script, 0)->kind, ==, CHOIR_TALK_PLAY);
  g_assert_cmpstr(step(script, 0)->text, ==, wav);
  g_assert_cmpuint(step(script, 0)->line, ==, 3);
  g_assert_cmpuint(step(script, 1)->limit_ms, ==, 5000);
  g_assert_cmpint(step(script, 2)->kind, ==, CHOIR_TALK_WAIT_AGENT);
  g_assert_cmpint(step(script, 3)->kind, ==, CHOIR_TALK_SLEEP);
  g_assert_cmpuint(step(script, 3)->ms, ==, 1500);
  g_assert_cmpint(step(script, 4)->kind, ==, CHOIR_TALK_PLAY);
  g_assert_cmpuint(step(script, 5)->ms, ==, 250);
  g_assert_cmpuint(step(script, 5)->limit_ms, ==, 9000);
  g_assert_cmpuint(step(script, 6)->ms, ==, 20);
  g_assert_cmpstr(step(script, 7)->text, ==, "Good # morning");
  g_remove(wav);
  g_rmdir(folder);
}

static void test_errors_name_the_line(void) {
  static const struct {
    const char *text, *word;
  } cases[] = {
      {"sleep 5", "sleep TIME"},          {"\n\nsing", "line 3"},      {"play", "play FILE"},
      {"play missing.wav", "no file"},    {"wait", "wait agent"},      {"wait agent soon", "a time"},
      {"sleep -1s", "sleep TIME"},        {"sleep 2h", "sleep TIME"},  {"say-text", "say-text"},
      {"say-text a b", "say-text"},       {"play 'x", "quotes"},       {"", "no instruction"},
      {"timeout 1s\ntimeout 2s", "once"}, {"sleep 61m", "sleep TIME"}, {"wait silence 1s 2s 3s", "nothing more"}};
  for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autoptr(GError) error = NULL;
    g_assert_null(choir_talk_script_parse(cases[i].text, "/nonexistent", NULL, &error));
    g_assert_nonnull(error);
    if (!strstr(error->message, cases[i].word))
      g_error("'%s' gave '%s', without '%s'", cases[i].text, error->message, cases[i].word);
  }
}

int main(int argc, char **argv) {
  alarm(50);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/cli/talk_script/every_instruction", test_every_instruction);
  g_test_add_func("/cli/talk_script/errors_name_the_line", test_errors_name_the_line);
  return g_test_run();
}
