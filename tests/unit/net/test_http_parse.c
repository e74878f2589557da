#include <string.h>
#include <unistd.h>
#include "net/http_parse.h"

static void test_target(void) {
  static const struct {
    const char *target, *path, *name, *value;
  } good[] = {
      {"/", "/", "x", NULL},
      {"/a%20b", "/a b", "x", NULL},
      {"/a?x=1", "/a", "x", "1"},
      {"/a?x=1&x=2", "/a", "x", "1"},
      {"/a?y&x=a+b%2B", "/a", "x", "a b+"},
      {"/a?x", "/a", "x", ""},
      {"/a?&&x=%C3%BC&", "/a", "x", "ü"},
      {"/a?x=1=2", "/a", "x", "1=2"},
      {"/a?x=?", "/a", "x", "?"},
      {"http://host:80/a?x=1", "/a", "x", "1"},
      {"HTTPS://host/..a/b..", "/..a/b..", "x", NULL},
      {"//double", "//double", "x", NULL},
      {"/+", "/+", "x", NULL},
  };
  static const char *const bad[] = {"",       "a",        "*",        "host:443",  "http://host", "/a b",
                                    "/\x01",  "/a%",      "/a%4",     "/a%4g",     "/%00",        "/%ff",
                                    "/..",    "/a/../b",  "/a/./b",   "/%2e%2e/x", "/a%2f..",     "/a#b",
                                    "/a?x=%", "/a?x=%00", "/a?x=%ff", "/\x7f"};
  for (guint i = 0; i < G_N_ELEMENTS(good); i++) {
    g_autofree char *path = NULL;
    g_autoptr(GPtrArray) query = NULL;
    if (!choir_http_parse_target(good[i].target, &path, &query))
      g_error("refused: %s", good[i].target);
    g_assert_cmpstr(path, ==, good[i].path);
    g_assert_cmpstr(choir_http_query_get(query, good[i].name), ==, good[i].value);
  }
  for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
    char *path = NULL;
    GPtrArray *query = NULL;
    if (choir_http_parse_target(bad[i], &path, &query))
      g_error("accepted: %s", bad[i]);
    g_assert_true(path == NULL && query == NULL);
  }
  GString *many = g_string_new("/?");
  for (guint i = 0; i < 65; i++)
    g_string_append(many, "a=b&");
  char *path = NULL;
  GPtrArray *query = NULL;
  g_assert_false(choir_http_parse_target(many->str, &path, &query));
  g_string_free(many, TRUE);
}

static void test_list(void) {
  g_assert_true(choir_http_list_has("keep-alive, Upgrade", "upgrade"));
  g_assert_true(choir_http_list_has(" ,, upgrade ,x", "upgrade"));
  g_assert_true(choir_http_list_has("upgrade", "upgrade"));
  g_assert_false(choir_http_list_has("upgraded", "upgrade"));
  g_assert_false(choir_http_list_has("up grade", "upgrade"));
  g_assert_false(choir_http_list_has("", "upgrade"));
  g_assert_false(choir_http_list_has(NULL, "upgrade"));
}

static void test_length(void) {
  guint64 length = 0;
  g_assert_true(choir_http_parse_length("0", &length));
  g_assert_true(choir_http_parse_length("18446744073709551609", &length));
  g_assert_cmpuint(length, ==, 18446744073709551609ULL);
  static const char *const bad[] = {
      "", "-1", "+1", " 1", "1 ", "0x10", "1.0", "18446744073709551616", "99999999999999999999999"};
  for (guint i = 0; i < G_N_ELEMENTS(bad); i++)
    g_assert_false(choir_http_parse_length(bad[i], &length));
}

static void on_line(const char *name, const char *value, gpointer user) {
  g_string_append_printf(user, "%s=%s;", name, value);
}

static void test_lines(void) {
  GString *got = g_string_new(NULL);
  g_assert_true(choir_http_parse_lines(NULL, on_line, got));
  g_assert_true(choir_http_parse_lines("A: 1\nB:  two words \r\n\nC:", on_line, got));
  g_assert_cmpstr(got->str, ==, "A=1;B=two words;C=;");
  g_assert_false(choir_http_parse_lines("no colon", on_line, got));
  g_assert_false(choir_http_parse_lines(": empty", on_line, got));
  g_assert_false(choir_http_parse_lines("Na me: x", on_line, got));
  g_assert_false(choir_http_parse_lines("A: x\ry: z", on_line, got));
  g_string_free(got, TRUE);
}

static void test_handshake(void) {
  ChoirHttpHandshake handshake = {"GET", "HTTP/1.1", "Upgrade", "WebSocket", "13", "dGhlIHNhbXBsZSBub25jZQ=="};
  g_autofree char *accept = NULL;
  const char *problem = NULL;
  g_assert_cmpuint(choir_http_check_handshake(&handshake, &accept, &problem), ==, 101);
  g_assert_cmpstr(accept, ==, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
  static const char *const bad_keys[] = {"",
                                         "dGhlIHNhbXBsZSBub25jZQ",
                                         "dGhlIHNhbXBsZSBub25jZQ=a",
                                         "dGhlIHNhbXBsZSBub25jZQ===",
                                         "dGhl HNhbXBsZSBub25jZQ==",
                                         NULL};
  for (guint i = 0; i < G_N_ELEMENTS(bad_keys); i++) {
    char *none = NULL;
    handshake.ws_key = bad_keys[i];
    g_assert_cmpuint(choir_http_check_handshake(&handshake, &none, &problem), ==, 400);
    g_assert_null(none);
    g_assert_nonnull(problem);
  }
}

int main(int argc, char **argv) {
  alarm(60);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/http-parse/target", test_target);
  g_test_add_func("/http-parse/list", test_list);
  g_test_add_func("/http-parse/length", test_length);
  g_test_add_func("/http-parse/lines", test_lines);
  g_test_add_func("/http-parse/handshake", test_handshake);
  return g_test_run();
}
