#include <string.h>
#include <unistd.h>
#include "net/sse.h"

static void on_event(const char *event, const char *data, gsize length, gpointer user) {
  g_assert_cmpint(data[length], ==, '\0');
  g_string_append_printf(user, "[%s|%s]", event, data);
}

static void test_cases(void) {
  static const char *const cases[][2] = {
      {"data: a\n\n", "[message|a]"},
      {"data:a\r\ndata: b\r\n\r\n", "[message|a\nb]"},
      {"data: a\rdata: b\r\r", "[message|a\nb]"},
      {"\xef\xbb\xbf"
       "data: a\n\n",
       "[message|a]"},
      {"data: a\n\n\xef\xbb\xbf"
       "data: b\n\n",
       "[message|a]"}, /* only the very first bytes may be a mark */
      {"event: x\ndata: 1\n\ndata: 2\n\n", "[x|1][message|2]"},
      {"event: x\n\ndata: 2\n\n", "[message|2]"}, /* no data, no event, and its name is forgotten */
      {": comment\nid: 5\nretry: 10\nunknown: x\ndata: y\n\n", "[message|y]"},
      {"data\n\n", "[message|]"},
      {"data:\ndata:\n\n", "[message|\n]"},
      {"data:  two spaces\n\n", "[message| two spaces]"},
      {"data: a: b\n\n", "[message|a: b]"},
      {"Data: a\n\n", ""},
      {" data: a\n\n", ""},
      {"data: unfinished", ""},
      {"data: unfinished\n", ""},
      {"\n\n\n", ""},
      {"data: [DONE]\n\n", "[message|[DONE]]"},
  };
  for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
    for (gsize step = 1; step <= strlen(cases[i][0]); step++) { /* cut everywhere, CRLF included */
      GString *got = g_string_new(NULL);
      ChoirSse *sse = choir_sse_new(0, on_event, got);
      for (gsize at = 0; at < strlen(cases[i][0]); at += step)
        g_assert_true(choir_sse_feed(sse, cases[i][0] + at, MIN(step, strlen(cases[i][0]) - at), NULL));
      choir_sse_end(sse);
      g_assert_false(choir_sse_pending(sse));
      choir_sse_free(sse);
      if (strcmp(got->str, cases[i][1]) != 0)
        g_error("case %u in steps of %" G_GSIZE_FORMAT ": %s", i, step, got->str);
      g_string_free(got, TRUE);
    }
  }
}

static void test_limits(void) {
  g_autofree char *big = g_strnfill(200, 'x');
  g_autoptr(GError) error = NULL;
  GString *got = g_string_new(NULL);
  ChoirSse *sse = choir_sse_new(100, on_event, got);
  g_assert_true(choir_sse_feed(sse, "data: ok\n\n", 10, NULL));
  g_assert_false(choir_sse_feed(sse, big, 101, &error)); /* a line without end */
  g_assert_error(error, CHOIR_SSE_ERROR, CHOIR_SSE_ERROR_LIMIT);
  g_assert_false(choir_sse_feed(sse, "\n\ndata: x\n\n", 11, NULL)); /* it stays broken */
  g_assert_cmpstr(got->str, ==, "[message|ok]");
  choir_sse_free(sse);
  sse = choir_sse_new(100, on_event, got);
  gboolean good = TRUE;
  for (guint i = 0; i < 60 && good; i++) /* many short lines of one event */
    good = choir_sse_feed(sse, "data: x\n", 8, NULL);
  g_assert_false(good);
  choir_sse_free(sse);
  sse = choir_sse_new(100, on_event, got);
  for (guint i = 0; i < 1000; i++) /* many events are no matter */
    g_assert_true(choir_sse_feed(sse, "data: x\n\n", 9, NULL));
  choir_sse_free(sse);
  choir_sse_free(NULL);
  g_string_free(got, TRUE);
}

static void test_pending(void) {
  GString *got = g_string_new(NULL);
  ChoirSse *sse = choir_sse_new(0, on_event, got);
  g_assert_false(choir_sse_pending(sse));
  g_assert_true(choir_sse_feed(sse, "dat", 3, NULL));
  g_assert_true(choir_sse_pending(sse));
  g_assert_true(choir_sse_feed(sse, "a: x\n", 5, NULL));
  g_assert_true(choir_sse_pending(sse));
  g_assert_true(choir_sse_feed(sse, "\n", 1, NULL));
  g_assert_false(choir_sse_pending(sse));
  choir_sse_free(sse);
  g_string_free(got, TRUE);
}

int main(int argc, char **argv) {
  alarm(60);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/sse/cases", test_cases);
  g_test_add_func("/sse/limits", test_limits);
  g_test_add_func("/sse/pending", test_pending);
  return g_test_run();
}
