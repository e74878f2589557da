/* The codec against the forms that the Python library writes, both forms of data, and everything that is broken. */
#include "net/wyoming.h"
#include <string.h>
#include "base/text.h"

static const ChoirWyomingEvent *feed(ChoirWyomingParser *parser, const char *bytes, gssize length) {
  g_autoptr(GError) error = NULL;
  g_assert_true(choir_wyoming_parser_feed(parser, bytes, length < 0 ? strlen(bytes) : (gsize)length, &error));
  const ChoirWyomingEvent *event = choir_wyoming_parser_next(parser, &error);
  g_assert_no_error(error);
  return event;
}

static void check(const ChoirWyomingEvent *event, const char *type, const char *data, const char *payload) {
  g_assert_nonnull(event);
  g_assert_cmpstr(event->type, ==, type);
  g_autofree char *text = choir_json_dump(event->data);
  g_assert_cmpstr(text, ==, data);
  g_assert_cmpmem(event->payload, event->length, payload, strlen(payload));
}

static void test_forms(void) {
  g_autoptr(ChoirWyomingParser) parser = choir_wyoming_parser_new();
  check(feed(parser, "{\"type\":\"describe\"}\n", -1), "describe", "{}", "");
  check(feed(parser, "{\"type\":\"ping\",\"data\":{\"text\":\"x\"}}\r\n", -1), "ping", "{\"text\":\"x\"}", "");
  check(feed(parser,
             "{\"type\": \"a\", \"version\": \"1.10.2\", \"data_length\": 7, \"payload_length\": 3}\n{\"b\":1}pcm", -1),
        "a", "{\"b\":1}", "pcm");
  /* Both: the second one wins. */
  check(feed(parser, "{\"type\":\"a\",\"data\":{\"b\":0,\"c\":2},\"data_length\":7}\n{\"b\":1}", -1), "a",
        "{\"b\":1,\"c\":2}", "");
  check(feed(parser, "{\"type\":\"a\",\"data\":null,\"data_length\":null,\"payload_length\":0}\n", -1), "a", "{}", "");
  g_assert_false(choir_wyoming_parser_pending(parser));
}

static void test_pieces(void) {
  static const char bytes[] = "{\"type\":\"audio-chunk\",\"data_length\":7,\"payload_length\":4}\n{\"b\":1}\n{}\0"
                              "{\"type\":\"audio-stop\"}\n";
  gsize length = sizeof bytes - 1;
  for (gsize step = 1; step < 40; step++) {
    g_autoptr(ChoirWyomingParser) parser = choir_wyoming_parser_new();
    guint seen = 0;
    for (gsize at = 0; at < length; at += step) {
      const ChoirWyomingEvent *event = feed(parser, bytes + at, (gssize)MIN(step, length - at));
      for (; event; event = choir_wyoming_parser_next(parser, NULL)) {
        if (seen == 0)
          g_assert_cmpmem(event->payload, event->length, "\n{}\0", 4);
        g_assert_cmpstr(event->type, ==, seen == 0 ? "audio-chunk" : "audio-stop");
        seen++;
      }
    }
    g_assert_cmpuint(seen, ==, 2);
    g_assert_false(choir_wyoming_parser_pending(parser));
  }
}

static void test_broken(void) {
  static const char *const broken[] = {
      "GET / HTTP/1.1\r\n", /* seen before the line ends */
      "POST",
      "\n",
      "{}\n",
      "{\"type\":5}\n",
      "{\"type\":\"\"}\n",
      "[\"type\"]\n",
      "{\"type\":\"a\"\n",
      "{\"type\":\"a\",\"data\":[]}\n",
      "{\"type\":\"a\",\"data_length\":-1}\n",
      "{\"type\":\"a\",\"data_length\":\"5\"}\n",
      "{\"type\":\"a\",\"data_length\":2.5}\n",
      "{\"type\":\"a\",\"data_length\":3}\n[1]",
      "{\"type\":\"a\",\"data_length\":3}\n{\"b",
      "{\"type\":\"a\",\"data_length\":262145}\n",
      "{\"type\":\"a\",\"payload_length\":1048577}\n",
      "{\"type\":\"a\",\"payload_length\":9223372036854775807}\n",
      "{\"type\":\"a\",\"payload_length\":99999999999999999999999}\n",
      "{\"type\":\"\xff\"}\n",
      "{\"type\":\"a\",\"data\":{\"b\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}}\n",
  };
  for (gsize i = 0; i < G_N_ELEMENTS(broken); i++) {
    g_autoptr(ChoirWyomingParser) parser = choir_wyoming_parser_new();
    g_autoptr(GError) error = NULL, again = NULL, more = NULL;
    g_assert_true(choir_wyoming_parser_feed(parser, broken[i], strlen(broken[i]), NULL));
    g_test_message("stream %" G_GSIZE_FORMAT, i);
    g_assert_null(choir_wyoming_parser_next(parser, &error));
    g_assert_nonnull(error);
    g_assert_null(choir_wyoming_parser_next(parser, &again)); /* and stays so */
    g_assert_nonnull(again);
    g_assert_false(choir_wyoming_parser_feed(parser, "x", 1, &more));
    g_assert_nonnull(more);
  }
}

static void test_limits(void) {
  g_autoptr(ChoirWyomingParser) parser = choir_wyoming_parser_new();
  g_autoptr(GError) error = NULL, full = NULL;
  g_autofree char *spaces = g_strnfill(CHOIR_WYOMING_MAX_LINE + 1, ' ');
  g_assert_true(choir_wyoming_parser_feed(parser, spaces, strlen(spaces), NULL));
  g_assert_null(choir_wyoming_parser_next(parser, &error));
  g_assert_error(error, CHOIR_WYOMING_ERROR, CHOIR_WYOMING_ERROR_LIMIT);
  g_autoptr(ChoirWyomingParser) other = choir_wyoming_parser_new();
  gboolean fits = TRUE;
  for (guint i = 0; i < 64 && fits; i++)
    fits = choir_wyoming_parser_feed(other, spaces, strlen(spaces), &full);
  g_assert_error(full, CHOIR_WYOMING_ERROR, CHOIR_WYOMING_ERROR_LIMIT);
}

static void test_encode(void) {
  g_autoptr(ChoirWyomingParser) parser = choir_wyoming_parser_new();
  g_autoptr(GByteArray) bytes =
      choir_wyoming_encode("synthesize", json_pack("{s:s}", "text", "Grüße\nan alle"), "\1{\n", 3);
  check(feed(parser, (const char *)bytes->data, bytes->len), "synthesize", "{\"text\":\"Grüße\\nan alle\"}", "\1{\n");
}

static void test_encode_bare(void) {
  g_autoptr(GByteArray) bytes = choir_wyoming_encode("ping", NULL, NULL, 0);
  g_assert_cmpmem(bytes->data, bytes->len, "{\"type\":\"ping\",\"version\":\"1.10.2\"}\n", 35);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/net/wyoming/forms", test_forms);
  g_test_add_func("/net/wyoming/pieces", test_pieces);
  g_test_add_func("/net/wyoming/broken", test_broken);
  g_test_add_func("/net/wyoming/limits", test_limits);
  g_test_add_func("/net/wyoming/encode", test_encode);
  g_test_add_func("/net/wyoming/encode-bare", test_encode_bare);
  return g_test_run();
}
