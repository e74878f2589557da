#include <string.h>
#include <unistd.h>
#include "base/buffer.h"
#include "base/clock.h"
#include "base/text.h"

static void test_id(void) {
  g_autofree char *a = choir_id("item_"), *b = choir_id("item_");
  g_assert_cmpuint(strlen(a), ==, 5 + 16);
  g_assert_cmpuint(strspn(a + 5, "0123456789abcdef"), ==, 16);
  g_assert_cmpstr(a, !=, b);
}

static void test_utf8(void) {
  g_autofree char *bad = choir_utf8("a\xff"
                                    "b\0c",
                                    5);
  g_assert_cmpstr(bad, ==,
                  "a\xef\xbf\xbd"
                  "b\xef\xbf\xbd"
                  "c");
  g_autofree char *good = choir_utf8("grün", -1);
  g_assert_cmpstr(good, ==, "grün");
}

static void test_depth(void) {
  g_assert_true(choir_json_depth_ok("[[1]]", 5, 2));
  g_assert_false(choir_json_depth_ok("[[[1]]]", 7, 2));
  g_assert_true(choir_json_depth_ok("[\"[[[[\\\"[[\"]", 12, 1)); /* brackets in strings do not count */
  g_assert_true(choir_json_depth_ok("[][][][]", 8, 1));
  g_assert_true(choir_json_depth_ok("\"\\", 2, 1)); /* an escape at the very end */
}

static json_t *parse(const char *text, char **ret_message) {
  g_autoptr(GError) error = NULL;
  json_t *json = choir_json_parse(text, strlen(text), &error);
  *ret_message = error != NULL ? g_strdup(error->message) : NULL;
  g_assert_true((json == NULL) == (error != NULL));
  return json;
}

static void test_parse(void) {
  static const char *const bad[] = {
      "", " ", "{", "[1,]", "{\"a\":1,\"a\":2}", "{\"a\":01}", "nul", "{} x", "{\"a\":\"\xff\"}", "[1e999]"};
  char *message = NULL;
  json_t *json = parse("{\"s\":\"x\",\"i\":7,\"d\":1.5,\"b\":true,\"n\":null,\"huge\":1e300}", &message);
  g_assert_no_error(NULL);
  g_assert_cmpstr(choir_json_string(json, "s", "?"), ==, "x");
  g_assert_cmpstr(choir_json_string(json, "i", "?"), ==, "?");
  g_assert_cmpstr(choir_json_string(json, "missing", NULL), ==, NULL);
  g_assert_cmpint(choir_json_int(json, "i", 0), ==, 7);
  g_assert_cmpint(choir_json_int(json, "d", 0), ==, 1);
  g_assert_cmpint(choir_json_int(json, "huge", -3), ==, -3);
  g_assert_cmpfloat(choir_json_double(json, "i", 0), ==, 7);
  g_assert_cmpfloat(choir_json_double(json, "s", 2.5), ==, 2.5);
  g_assert_true(choir_json_bool(json, "b", FALSE));
  g_assert_true(choir_json_bool(json, "n", TRUE));
  g_assert_cmpint(choir_json_int(NULL, "i", 4), ==, 4);
  g_autofree char *dumped = choir_json_dump(json);
  g_assert_true(g_str_has_prefix(dumped, "{\"s\":\"x\",\"i\":7,\"d\":1.5,"));
  json_decref(json);
  for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
    json = parse(bad[i], &message);
    if (json != NULL)
      g_error("accepted: %s", bad[i]);
    g_assert_true(g_utf8_validate(message, -1, NULL));
    g_free(message);
  }
  json = parse("{\n  \"a\": x}", &message);
  g_assert_null(json);
  g_assert_true(g_str_has_prefix(message, "line 2 column "));
  g_free(message);
  g_autofree char *deep = g_strnfill(100, '[');
  g_assert_null(parse(deep, &message));
  g_assert_nonnull(strstr(message, "deeper"));
  g_free(message);
}

static void test_nearest(void) {
  static const char *const words[] = {"threshold", "silence_ms", "engine", NULL};
  g_assert_cmpstr(choir_nearest("thresold", words), ==, "threshold");
  g_assert_cmpstr(choir_nearest("THRESHOLD", words), ==, "threshold");
  g_assert_cmpstr(choir_nearest("enigne", words), ==, "engine"); /* swapped letters are one slip */
  g_assert_null(choir_nearest("banana", words));
  g_assert_null(choir_nearest("", words));
  g_autofree char *endless = g_strnfill(10000, 'e');
  g_assert_null(choir_nearest(endless, words));
}

static void test_buffer(void) {
  ChoirBuffer buffer;
  choir_buffer_init(&buffer, 10);
  g_assert_true(choir_buffer_append(&buffer, "", 0));
  g_assert_true(choir_buffer_append(&buffer, "12345678", 8));
  g_assert_false(choir_buffer_append(&buffer, "abc", 3));
  g_assert_cmpuint(buffer.length, ==, 8);
  g_assert_false(choir_buffer_append(&buffer, "x", G_MAXSIZE));
  choir_buffer_consume(&buffer, 6);
  g_assert_true(choir_buffer_append(&buffer, "abcdefgh", 8));
  g_assert_cmpmem(buffer.data, buffer.length, "78abcdefgh", 10);
  choir_buffer_consume(&buffer, 1000);
  g_assert_cmpuint(buffer.length, ==, 0);
  choir_buffer_clear(&buffer);
  g_assert_cmpuint(buffer.limit, ==, 10);
  choir_buffer_clear(&buffer);
}

/* Against a plain model: same bytes, and never more memory than the limit. */
static void test_buffer_random(void) {
  ChoirBuffer buffer;
  g_autoptr(GByteArray) model = g_byte_array_new();
  choir_buffer_init(&buffer, 5000);
  for (guint step = 0; step < 20000; step++) {
    if (g_test_rand_bit()) {
      guint8 chunk[300];
      guint length = (guint)g_test_rand_int_range(0, 300);
      for (guint i = 0; i < length; i++)
        chunk[i] = (guint8)g_test_rand_int();
      gboolean fits = model->len + length <= 5000;
      g_assert_true(choir_buffer_append(&buffer, chunk, length) == fits);
      if (fits)
        g_byte_array_append(model, chunk, length);
    } else {
      guint length = (guint)g_test_rand_int_range(0, 400);
      choir_buffer_consume(&buffer, length);
      g_byte_array_remove_range(model, 0, MIN(length, model->len));
    }
    g_assert_cmpmem(buffer.data, buffer.length, model->data, model->len);
    g_assert_cmpuint(buffer.capacity, <=, 5000);
  }
  choir_buffer_clear(&buffer);
}

static void test_clock(void) {
  gint64 before = choir_clock_us();
  choir_clock_set_test_us(5);
  g_assert_cmpint(choir_clock_us(), ==, 5);
  choir_clock_set_test_us(-1);
  g_assert_cmpint(choir_clock_us(), >=, before);
}

static void test_short_line(void) {
  static const struct {
    const char *text;
    gsize most;
    const char *line;
  } rows[] = {{"one\n\ttwo  three\r\n", 40, "one two three"},
              {"one two three four", 14, "one two..."},
              {"aaaaaaaaaaaaaaaaaaaa", 10, "aaaaaaa..."},
              {"\xc3\xa4\xc3\xb6\xc3\xbc\xc3\xa4\xc3\xb6\xc3\xbc", 8, "\xc3\xa4\xc3\xb6..."}, /* no half characters */
              {"\x1b[31mred\x1b[0m \xe2\x80\xaeturned", 40, "[31mred [0m turned"},
              {" \n ", 8, ""},
              {"", 8, ""}};
  for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_autofree char *line = choir_short_line(rows[i].text, rows[i].most);
    g_assert_cmpstr(line, ==, rows[i].line);
  }
}

int main(int argc, char **argv) {
  alarm(60);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/text/id", test_id);
  g_test_add_func("/text/utf8", test_utf8);
  g_test_add_func("/text/depth", test_depth);
  g_test_add_func("/text/parse", test_parse);
  g_test_add_func("/text/nearest", test_nearest);
  g_test_add_func("/text/short-line", test_short_line);
  g_test_add_func("/buffer/limit", test_buffer);
  g_test_add_func("/buffer/random", test_buffer_random);
  g_test_add_func("/clock", test_clock);
  return g_test_run();
}
