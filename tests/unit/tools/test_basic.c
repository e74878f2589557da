/* The tools that need nothing but this machine, each against its real thing. */
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>
#include "base/text.h"
#include "house.h"
#include "tools/when.h"

static void test_durations(void) {
  static const struct {
    const char *text;
    guint seconds;
  } cases[] = {{"10 minutes", 600},
               {"ten minutes", 600},
               {"90s", 90},
               {"an hour and a half", 5400},
               {"half an hour", 1800},
               {"1 hour 30 minutes", 5400},
               {"a quarter of an hour", 900},
               {"two days", 172800},
               {"5min", 300},
               {"twenty five minutes", 1500},
               {"in 3 hours", 10800},
               {"1.5 hours", 5400},
               {"ten", 0},
               {"soon", 0},
               {"", 0},
               {"0 seconds", 0},
               {"9999 weeks", 0},
               {"five bananas", 0}};
  for (guint i = 0; i < G_N_ELEMENTS(cases); i++)
    if (choir_when_duration(cases[i].text) != cases[i].seconds)
      g_error("\"%s\" is %u, not %u", cases[i].text, choir_when_duration(cases[i].text), cases[i].seconds);
}

static void test_moments(void) {
  static const struct {
    const char *text, *when;
  } cases[] = {{"17:30", "2026-11-25 17:30"},
               {"5 pm", "2026-11-25 17:00"},
               {"5:15pm", "2026-11-25 17:15"},
               {"noon", "2026-11-26 12:00"},
               {"midnight", "2026-11-26 00:00"},
               {"tomorrow at 8", "2026-11-26 08:00"},
               {"8", "2026-11-25 20:00"},
               {"3", "2026-11-26 03:00"},
               {"at five pm", "2026-11-25 17:00"},
               {"2026-12-01 09:00", "2026-12-01 09:00"},
               {"today at 16:00", "2026-11-25 16:00"},
               {"25:00", NULL},
               {"2026-13-01 09:00", NULL},
               {"later", NULL},
               {"13 pm", NULL}};
  g_autoptr(GTimeZone) zone = g_time_zone_new_utc();
  g_autoptr(GDateTime) now = g_date_time_new(zone, 2026, 11, 25, 15, 30, 0);
  for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
    gint64 at = choir_when_moment(cases[i].text, now);
    g_autoptr(GDateTime) moment = at ? g_date_time_new_from_unix_utc(at) : NULL;
    g_autofree char *text = moment ? g_date_time_format(moment, "%Y-%m-%d %H:%M") : NULL;
    if (g_strcmp0(text, cases[i].when) != 0)
      g_error("\"%s\" is %s, not %s", cases[i].text, text ? text : "nothing",
              cases[i].when ? cases[i].when : "nothing");
  }
}

static gboolean on_late(gpointer user) {
  *(gboolean *)user = TRUE;
  return G_SOURCE_REMOVE;
}

static void wait_said(House *house, guint n) {
  gboolean late = FALSE;
  guint timer = g_timeout_add_seconds(20, on_late, &late);
  while (house->said->len < n && !late)
    g_main_context_iteration(NULL, TRUE);
  if (!late)
    g_source_remove(timer);
  g_assert_cmpuint(house->said->len, >=, n);
}

static void test_clock(void) {
  g_autoptr(House) house = house_new();
  g_autofree char *time = house_ok(house, "clock.get_time", "{}");
  house_holds(time, "It is ");
  g_free(house_ok(house, "clock.set_timer", "{\"duration\":\"1 second\",\"label\":\"egg\"}"));
  wait_said(house, 1);
  g_assert_cmpstr(house->said->pdata[0], ==, "The egg timer is over.");
  g_autofree char *bad = house_fails(house, "clock.set_timer", "{\"duration\":\"soon\"}");
  house_holds(bad, "is no duration");
  g_free(house_ok(house, "clock.set_reminder", "{\"when\":\"in 2 seconds\",\"text\":\"call Ada\"}"));
  g_free(house_ok(house, "clock.set_timer", "{\"duration\":\"1 hour\"}"));
  house_restart(house); /* what waits survives it */
  g_autofree char *list = house_ok(house, "clock.list_timers", "{}");
  house_holds(list, "Reminder: call Ada.");
  house_holds(list, "1 hour");
  wait_said(house, 2);
  g_assert_cmpstr(house->said->pdata[1], ==, "Reminder: call Ada.");
  g_free(house_ok(house, "clock.cancel_timer", "{\"number\":0}"));
  g_autofree char *none = house_fails(house, "clock.cancel_timer", "{\"number\":0}");
  house_holds(none, "no timer");
  /* What fell due while nobody was there is said at the next start. */
  choir_toolbox_free(g_steal_pointer(&house->toolbox));
  g_autofree char *path = g_build_filename(house->state, "timers.json", NULL);
  g_assert_true(g_file_set_contents(path, "[{\"id\":7,\"due\":1000,\"text\":\"Old.\"}]", -1, NULL));
  house_restart(house);
  wait_said(house, 3);
  house_holds(house->said->pdata[2], "Old. This was due ");
  choir_toolbox_free(g_steal_pointer(&house->toolbox));
  g_assert_true(g_file_set_contents(path, "{broken", -1, NULL));
  house_restart(house); /* a broken file stops nobody */
  g_free(house_ok(house, "clock.list_timers", "{}"));
}

static void test_agent(void) {
  g_autoptr(House) house = house_new();
  g_autofree char *status = house_ok(house, "mcp.get_status", "{}");
  house_holds(status, "- Task test: ready");
  g_free(house_ok(house, "mcp.get_memory_summary", "{}"));
  g_free(house_ok(house, "mcp.clear_short_term_memory", "{}"));
  g_assert_cmpuint(house->said->len, ==, 1);
  g_autofree char *final = house_ok(house, "final_answer.submit_task", "{\"summary\":\"all is well\"}");
  g_assert_cmpstr(final, ==, "all is well");
  g_autofree char *summary = house_ok(house, "summarizer.get_summary", "{\"query\":\"what is the printer called\"}");
  house_holds(summary, "You said: The printer is called Juno.");
  g_assert_null(strstr(summary, "seven"));
  g_autofree char *nothing = house_ok(house, "summarizer.get_summary", "{\"query\":\"zebra\"}");
  house_holds(nothing, "Nothing in this conversation");
  g_autofree char *plan = house_ok(house, "prompt_improver.create_prompt_plan", "{\"user_input\":\"a bird counter\"}");
  house_holds(plan, "One page\n\n<a bird counter>");
  house_holds(plan, "Plan\n\n<<<a bird counter>>>");
  g_autofree char *later = house_fails(house, "vision.get_observation", "{}");
  house_holds(later, "not available");
}

static void test_shell(void) {
  g_autoptr(House) house = house_new();
  g_autofree char *out = house_ok(house, "shell.execute_command", "{\"command\":\"echo $((6*7)); pwd; id -u\"}");
  house_holds(out, "42\n");
  house_holds(out, house->work);
  g_assert_cmpuint(house->asked, ==, 0);
  /* Looking outside its own folder: asks, though it stays in the sandbox. */
  static const char *const asks[] = {"ls /etc", "cat <../secret", "x=/home; ls $x", "ls ~", "cat '/usr/../etc/passwd'"};
  house->approve = FALSE;
  for (guint i = 0; i < G_N_ELEMENTS(asks); i++) {
    g_autofree char *call = g_strdup_printf("{\"command\":\"%s\"}", asks[i]);
    g_autofree char *refused = house_fails(house, "shell.execute_command", call);
    house_holds(refused, "a person said no");
    house_holds(house->last_card, "not in its own folder");
    g_assert_cmpuint(house->asked, ==, i + 1);
  }
  house->approve = TRUE;
  g_autofree char *listed = house_ok(house, "shell.execute_command", "{\"command\":\"ls /etc\"}");
  house_holds(listed, "passwd");
  house->asked = 0;
  g_free(house_ok(house, "shell.execute_command", "{\"command\":\"ls /usr/bin /tmp . >/dev/null; echo 1/2 a.b\"}"));
  g_assert_cmpuint(house->asked, ==, 0);
  g_autofree char *failed = house_ok(house, "shell.execute_command", "{\"command\":\"exit 3\"}");
  house_holds(failed, "(exit code 3)");
  g_autofree char *hidden =
      house_ok(house, "shell.execute_command", "{\"command\":\"cat ../state/audit.jsonl; echo over\"}");
  g_assert_null(strstr(hidden, "\"seq\""));
  g_autofree char *slow = house_fails(house, "shell.execute_command", "{\"command\":\"sleep 30\",\"timeout\":1}");
  house_holds(slow, "time");
  /* Outside the sandbox: asks; a no does nothing, a yes really changes files, and the shell lives on. */
  g_autofree char *target = g_build_filename("/var/tmp", "choir-host-test", NULL);
  g_unlink(target);
  g_autofree char *touch = g_strdup_printf("{\"command\":\"touch %s\",\"host\":true}", target);
  house->approve = FALSE;
  g_autofree char *denied = house_fails(house, "shell.execute_command", touch);
  house_holds(denied, "a person said no");
  g_assert_false(g_file_test(target, G_FILE_TEST_EXISTS));
  house->approve = TRUE;
  g_free(house_ok(house, "shell.execute_command", touch));
  g_assert_true(g_file_test(target, G_FILE_TEST_EXISTS));
  g_assert_cmpuint(house->asked, ==, 3);
  house_holds(house->last_card, "it wants to leave the sandbox");
  g_free(house_ok(house, "shell.execute_command", "{\"command\":\"cd /usr; word=kept; false\",\"host\":true}"));
  g_autofree char *kept =
      house_ok(house, "shell.execute_command", "{\"command\":\"pwd; echo $word; cat\",\"host\":true}");
  house_holds(kept, "/usr\nkept");
  g_autofree char *who = house_ok(house, "shell.execute_command", "{\"command\":\"id -u\",\"host\":true}");
  g_assert_cmpint(atoi(who), !=, 0); /* never root */
  g_autofree char *ended = house_fails(house, "shell.execute_command", "{\"command\":\"exit 0\",\"host\":true}");
  house_holds(ended, "the shell ended");
  g_free(house_ok(house, "shell.execute_command", "{\"command\":\"true\",\"host\":true}"));
  g_unlink(target);
}

static void test_code(void) {
  g_autoptr(House) house = house_new();
  g_autofree char *python = house_ok(house, "code_runner.run_python_code", "{\"code\":\"print(sum(range(10)))\"}");
  g_assert_cmpstr(g_strstrip(python), ==, "45");
  g_autofree char *trouble = house_ok(house, "code_runner.run_python_code", "{\"code\":\"1/0\"}");
  house_holds(trouble, "ZeroDivisionError");
  g_autofree char *c =
      house_ok(house, "code_runner.run_code_in_sandbox",
               "{\"language\":\"c\",\"code\":\"#include <stdio.h>\\nint main(void) { puts(\\\"from c\\\"); }\"}");
  house_holds(c, "from c");
  if (g_file_test("/usr/bin/node", G_FILE_TEST_IS_EXECUTABLE)) {
    g_autofree char *js = house_ok(house, "code_runner.run_code_in_sandbox",
                                   "{\"language\":\"javascript\",\"code\":\"console.log(6*7)\"}");
    house_holds(js, "42");
  }
  if (g_file_test("/usr/bin/go", G_FILE_TEST_IS_EXECUTABLE)) {
    g_autofree char *text = house_ok(
        house, "code_runner.run_code_in_sandbox",
        "{\"language\":\"go\",\"code\":\"package main\\nimport \\\"fmt\\\"\\nfunc main() { fmt.Println(6*7) }\"}");
    house_holds(text, "42");
  }
  g_autofree char *cobol =
      house_fails(house, "code_runner.run_code_in_sandbox", "{\"language\":\"cobol\",\"code\":\"x\"}");
  house_holds(cobol, "must be one of \"python\"");
  g_autofree char *libraries = house_fails(house, "code_runner.run_code_in_sandbox",
                                           "{\"language\":\"python\",\"code\":\"x\",\"libraries\":[\"requests\"]}");
  house_holds(libraries, "no network");
  g_autoptr(GDir) left = g_dir_open(house->work, 0, NULL);
  g_assert_null(g_dir_read_name(left)); /* its folders are gone */
}

static char *screen_within(House *house, const char *part, guint looks) {
  for (guint i = 0; i < looks; i++) {
    g_autofree char *screen = house_ok(house, "term_everything.read_screen", "{}");
    if (strstr(screen, part))
      return g_steal_pointer(&screen);
    g_usleep(250000);
    for (guint k = 0; k < 20; k++)
      g_main_context_iteration(NULL, FALSE);
  }
  return NULL;
}

static char *screen_with(House *house, const char *part) {
  char *screen = screen_within(house, part, 80);
  if (!screen)
    g_error("the screen never showed \"%s\"", part);
  return screen;
}

static void test_terminal(void) {
  g_autoptr(House) house = house_new();
  g_autofree char *none = house_ok(house, "term_everything.read_screen", "{}");
  house_holds(none, "No program runs");
  g_free(house_ok(house, "term_everything.execute",
                  "{\"command\":\"printf '\\\\033[2J\\\\033[5;10Hhere'; read line; echo got $line\"}"));
  g_autofree char *drawn = screen_with(house, "\n         here"); /* the line that was typed holds the word too */
  g_auto(GStrv) lines = g_strsplit(drawn, "\n", -1);
  g_assert_true(g_str_has_prefix(lines[4], "         here")); /* a screen, not a stream */
  g_free(house_ok(house, "term_everything.type", "{\"keys\":\"abc{enter}\"}"));
  g_free(screen_with(house, "got abc"));
  g_free(house_ok(house, "term_everything.resize", "{\"rows\":40,\"columns\":100}"));
  g_free(house_ok(house, "term_everything.execute", "{\"command\":\"clear; stty size\"}"));
  g_free(screen_with(house, "40 100"));
  g_free(house_ok(house, "term_everything.execute", "{\"command\":\"sleep 60\"}"));
  g_free(house_ok(house, "term_everything.type", "{\"keys\":\"{ctrl-c}\"}"));
  g_free(screen_with(house, "^C"));
  g_autofree char *freed = NULL;
  /* bash drops what is typed while it handles the interrupt, and an interrupt while it starts the program */
  for (guint i = 0; !freed && i < 10; i++) {
    g_free(
        house_ok(house, "term_everything.type", i % 2 ? "{\"keys\":\"{ctrl-c}\"}" : "{\"keys\":\"echo free{enter}\"}"));
    freed = screen_within(house, "\nfree", i % 2 ? 1 : 10);
  }
  g_assert_nonnull(freed);
  g_free(house_ok(house, "term_everything.close", "{}"));
  g_free(screen_with(house, "the program has ended"));
  g_free(house_ok(house, "term_everything.execute", "{\"command\":\"echo again\"}")); /* a new one */
  g_free(screen_with(house, "again"));
}

int main(int argc, char **argv) {
  alarm(280);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/tools/durations", test_durations);
  g_test_add_func("/tools/moments", test_moments);
  g_test_add_func("/tools/clock", test_clock);
  g_test_add_func("/tools/agent", test_agent);
  g_test_add_func("/tools/shell", test_shell);
  g_test_add_func("/tools/code", test_code);
  g_test_add_func("/tools/terminal", test_terminal);
  return g_test_run();
}
