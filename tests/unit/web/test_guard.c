#include <unistd.h>
#include "web/guard.h"

typedef struct {
  const char *method, *host, *origin, *site;
  gboolean upgrade;
  ChoirGuardVerdict expected;
} Row;

static const Row rows[] = {
    /* names of this machine */
    {"GET", "localhost:8000", NULL, NULL, FALSE, CHOIR_GUARD_OK},
    {"GET", "LOCALHOST:8000", NULL, NULL, FALSE, CHOIR_GUARD_OK},
    {"GET", "127.0.0.1:8000", NULL, NULL, FALSE, CHOIR_GUARD_OK},
    {"GET", "[::1]:8000", NULL, NULL, FALSE, CHOIR_GUARD_OK},
    {"GET", "choir.lan", NULL, NULL, FALSE, CHOIR_GUARD_OK},
    {"GET", "choir.lan:9999", NULL, NULL, FALSE, CHOIR_GUARD_OK},
    {"GET", "box.lan:8443", NULL, NULL, FALSE, CHOIR_GUARD_OK},
    /* others */
    {"GET", NULL, NULL, NULL, FALSE, CHOIR_GUARD_HOST_MISSING},
    {"GET", "", NULL, NULL, FALSE, CHOIR_GUARD_HOST_MISSING},
    {"GET", "localhost", NULL, NULL, FALSE, CHOIR_GUARD_HOST},
    {"GET", "localhost:8001", NULL, NULL, FALSE, CHOIR_GUARD_HOST},
    {"GET", "localhost.:8000", NULL, NULL, FALSE, CHOIR_GUARD_HOST},
    {"GET", "evil.example:8000", NULL, NULL, FALSE, CHOIR_GUARD_HOST},
    {"GET", "127.0.0.1.evil.example:8000", NULL, NULL, FALSE, CHOIR_GUARD_HOST},
    {"GET", "localhost:8000@evil.example", NULL, NULL, FALSE, CHOIR_GUARD_HOST},
    {"GET", "localhost:8000:8000", NULL, NULL, FALSE, CHOIR_GUARD_HOST},
    {"GET", "localhost:08000x", NULL, NULL, FALSE, CHOIR_GUARD_HOST},
    {"GET", "[::1", NULL, NULL, FALSE, CHOIR_GUARD_HOST},
    {"GET", "[::1]evil:8000", NULL, NULL, FALSE, CHOIR_GUARD_HOST},
    {"GET", "[::2]:8000", NULL, NULL, FALSE, CHOIR_GUARD_HOST},
    {"GET", ":8000", NULL, NULL, FALSE, CHOIR_GUARD_HOST},
    {"GET", "box.lan:8444", NULL, NULL, FALSE, CHOIR_GUARD_HOST},
    {"GET", "localhost:8000; script-src *", NULL, NULL, FALSE, CHOIR_GUARD_HOST},
    /* our own page */
    {"POST", "localhost:8000", "http://localhost:8000", NULL, FALSE, CHOIR_GUARD_OK},
    {"POST", "localhost:8000", "HTTP://LocalHost:8000", "same-origin", FALSE, CHOIR_GUARD_OK},
    {"GET", "localhost:8000", "http://localhost:8000", NULL, TRUE, CHOIR_GUARD_OK},
    {"POST", "choir.lan", "https://choir.lan", NULL, FALSE, CHOIR_GUARD_OK},
    {"POST", "choir.lan:443", "https://choir.lan", NULL, FALSE, CHOIR_GUARD_OK},
    {"POST", "localhost:8000", "https://desk.lan", NULL, FALSE, CHOIR_GUARD_OK},
    /* foreign pages */
    {"POST", "localhost:8000", "http://127.0.0.1:8000", NULL, FALSE, CHOIR_GUARD_ORIGIN},
    {"POST", "localhost:8000", "http://localhost:3000", NULL, FALSE, CHOIR_GUARD_ORIGIN},
    {"POST", "localhost:8000", "http://evil.example", NULL, FALSE, CHOIR_GUARD_ORIGIN},
    {"POST", "localhost:8000", "http://localhost:8000.evil.example", NULL, FALSE, CHOIR_GUARD_ORIGIN},
    {"POST", "localhost:8000", "null", NULL, FALSE, CHOIR_GUARD_ORIGIN},
    {"POST", "localhost:8000", "", NULL, FALSE, CHOIR_GUARD_ORIGIN},
    {"POST", "localhost:8000", "file://", NULL, FALSE, CHOIR_GUARD_ORIGIN},
    {"POST", "localhost:8000", "http://desk.lan", NULL, FALSE, CHOIR_GUARD_ORIGIN},
    {"GET", "localhost:8000", "null", NULL, TRUE, CHOIR_GUARD_ORIGIN},
    {"GET", "localhost:8000", "http://evil.example", NULL, TRUE, CHOIR_GUARD_ORIGIN},
    {"GET", "localhost:8000", "http://evil.example", NULL, FALSE, CHOIR_GUARD_ORIGIN},
    {"DELETE", "localhost:8000", "http://evil.example", NULL, FALSE, CHOIR_GUARD_ORIGIN},
    /* no Origin: programs may, browsers must not across sites */
    {"POST", "localhost:8000", NULL, NULL, FALSE, CHOIR_GUARD_OK},
    {"POST", "localhost:8000", NULL, "none", FALSE, CHOIR_GUARD_OK},
    {"POST", "localhost:8000", NULL, "cross-site", FALSE, CHOIR_GUARD_SITE},
    {"POST", "localhost:8000", NULL, "same-site", FALSE, CHOIR_GUARD_SITE},
    {"GET", "localhost:8000", NULL, "cross-site", TRUE, CHOIR_GUARD_SITE},
    {"GET", "localhost:8000", NULL, "cross-site", FALSE, CHOIR_GUARD_OK},
};

static void test_table(void) {
  g_autoptr(ChoirGuard) guard = choir_guard_new(8000, "choir.lan, box.lan:8443", "https://desk.lan:443");
  for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
    const Row *row = &rows[i];
    ChoirGuardRequest request = {row->method, row->host, row->origin, row->site, row->upgrade};
    ChoirGuardVerdict verdict = choir_guard_check(guard, &request);
    if (verdict != row->expected)
      g_test_message("row %zu: %s Host %s Origin %s", i, row->method, row->host, row->origin);
    g_assert_cmpint(verdict, ==, row->expected);
  }
}

static void test_port_80(void) {
  g_autoptr(ChoirGuard) guard = choir_guard_new(80, "", "");
  g_assert_cmpint(choir_guard_check(guard, &(ChoirGuardRequest){"GET", "localhost", NULL, NULL, FALSE}), ==,
                  CHOIR_GUARD_OK);
  g_assert_cmpint(
      choir_guard_check(guard, &(ChoirGuardRequest){"POST", "localhost", "http://localhost:80", NULL, FALSE}), ==,
      CHOIR_GUARD_OK);
  g_assert_cmpint(
      choir_guard_check(guard, &(ChoirGuardRequest){"POST", "localhost:80", "http://localhost", NULL, FALSE}), ==,
      CHOIR_GUARD_OK);
}

static void test_page_headers(void) {
  g_autofree char *headers = choir_guard_page_headers("localhost:8000");
  g_assert_nonnull(strstr(headers, "connect-src 'self' ws://localhost:8000 wss://localhost:8000;"));
  g_assert_nonnull(strstr(headers, "frame-ancestors 'none'"));
  g_assert_null(strstr(headers, "unsafe"));
  g_auto(GStrv) lines = g_strsplit(headers, "\n", -1);
  for (char **line = lines; *line; line++)
    g_assert_nonnull(strstr(*line, ": "));
}

static void test_response_urls(void) {
  const char *list = "http://127.0.0.1, http://localhost,https://hook.lan:8443";
  const char *good[] = {"http://127.0.0.1/x", "http://127.0.0.1:9999/a?b=c", "http://LOCALHOST:1",
                        "https://hook.lan:8443/deep/path"};
  const char *bad[] = {"https://127.0.0.1/",
                       "http://127.0.0.2/",
                       "http://127.0.0.1.evil.example/",
                       "http://127.0.0.1@evil.example/",
                       "http://user@127.0.0.1/",
                       "http://user:pw@127.0.0.1:80/",
                       "https://hook.lan/",
                       "https://hook.lan:8444/",
                       "file:///etc/passwd",
                       "ftp://127.0.0.1/",
                       "127.0.0.1",
                       "",
                       "http://",
                       "http:///x",
                       "//127.0.0.1/",
                       "http://evil.example/?http://127.0.0.1",
                       "http://evil.example#@127.0.0.1",
                       "http://127.0.0.1\\@evil.example/",
                       "http://evil.example\\.127.0.0.1"};
  for (gsize i = 0; i < G_N_ELEMENTS(good); i++) {
    g_test_message("%s", good[i]);
    g_assert_true(choir_guard_url_allowed(list, good[i]));
  }
  for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
    g_test_message("%s", bad[i]);
    g_assert_false(choir_guard_url_allowed(list, bad[i]));
  }
  g_assert_false(choir_guard_url_allowed("", "http://127.0.0.1/"));
}

int main(int argc, char **argv) {
  alarm(30);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/guard/table", test_table);
  g_test_add_func("/guard/port-80", test_port_80);
  g_test_add_func("/guard/page-headers", test_page_headers);
  g_test_add_func("/guard/response-urls", test_response_urls);
  return g_test_run();
}
