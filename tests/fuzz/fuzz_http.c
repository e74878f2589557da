/* What we read of a request ourselves, from the bytes of a whole request: target and query, token lists, handshake,
 * Content-Length, header lines, JSON body. (The framing itself is libmicrohttpd's.) */
#include <stdint.h>
#include <string.h>
#include "base/text.h"
#include "net/http_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_target(const char *target) {
  char *path = NULL;
  GPtrArray *query = NULL;
  if (!choir_http_parse_target(target, &path, &query)) {
    g_assert_true(path == NULL && query == NULL);
    return;
  }
  g_assert_cmpint(path[0], ==, '/');
  g_assert_true(g_utf8_validate(path, -1, NULL));
  g_assert_null(strstr(path, "/../"));
  g_assert_false(g_str_has_suffix(path, "/.."));
  g_assert_cmpuint(query->len % 2, ==, 0);
  g_assert_cmpuint(query->len, <=, 128);
  for (guint i = 0; i < query->len; i += 2) {
    g_assert_true(g_utf8_validate(g_ptr_array_index(query, i + 1), -1, NULL));
    g_assert_nonnull(choir_http_query_get(query, g_ptr_array_index(query, i)));
  }
  /* Encoded again, it reads as the same. */
  g_autofree char *escaped = g_uri_escape_string(path, "/", FALSE), *again = NULL;
  GPtrArray *none = NULL;
  g_assert_true(choir_http_parse_target(escaped, &again, &none));
  g_assert_cmpstr(again, ==, path);
  g_ptr_array_unref(none);
  g_ptr_array_unref(query);
  g_free(path);
}

typedef struct {
  ChoirHttpHandshake handshake;
  GStringChunk *strings;
} Headers;

static void on_line(const char *name, const char *value, gpointer user) {
  g_assert_cmpint(*name, !=, '\0');
  g_assert_null(strpbrk(name, " \t\r\n:"));
  g_assert_null(strpbrk(value, "\r\n"));
  Headers *headers = user;
  ChoirHttpHandshake *handshake = &headers->handshake;
  const struct {
    const char *name, **value;
  } wanted[] = {{"connection", &handshake->connection},
                {"upgrade", &handshake->upgrade},
                {"sec-websocket-version", &handshake->ws_version},
                {"sec-websocket-key", &handshake->ws_key}};
  for (guint i = 0; i < G_N_ELEMENTS(wanted); i++)
    if (g_ascii_strcasecmp(name, wanted[i].name) == 0)
      *wanted[i].value = g_string_chunk_insert(headers->strings, value);
  guint64 length = 0;
  if (g_ascii_strcasecmp(name, "content-length") == 0 && choir_http_parse_length(value, &length)) {
    g_autofree char *printed = g_strdup_printf("%" G_GUINT64_FORMAT, length);
    g_assert_true(g_str_has_suffix(value, printed)); /* leading zeros aside */
  }
}

static void check_handshake(const char *headers) {
  Headers read = {{.method = "GET", .version = "HTTP/1.1"}, g_string_chunk_new(256)};
  char *accept = NULL;
  const char *problem = NULL;
  (void)choir_http_parse_lines(headers, on_line, &read);
  guint status = choir_http_check_handshake(&read.handshake, &accept, &problem);
  g_assert_true(status == 101 ? accept != NULL && problem == NULL : accept == NULL && problem != NULL);
  if (status == 101)
    g_assert_cmpuint(strlen(accept), ==, 28);
  g_free(accept);
  g_string_chunk_free(read.strings);
}

static void check_json(const char *body, gsize length) {
  g_autoptr(GError) error = NULL;
  json_t *json = choir_json_parse(body, length, &error);
  if (json == NULL) {
    g_assert_true(g_utf8_validate(error->message, -1, NULL));
    return;
  }
  g_assert_no_error(error);
  g_assert_true(choir_json_depth_ok(body, length, 32));
  g_autofree char *text = choir_json_dump(json);
  json_t *again = choir_json_parse(text, strlen(text), NULL);
  g_assert_nonnull(again);
  json_decref(again);
  (void)choir_json_string(json, "model", "");
  (void)choir_json_int(json, "n", 0);
  json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size > 65536)
    return 0;
  g_autofree char *text = g_strndup((const char *)data, size);
  char *space = strchr(text, ' '), *line_end = strstr(text, "\r\n");
  const uint8_t *body = memmem(data, size, "\r\n\r\n", 4);
  if (body != NULL)
    check_json((const char *)body + 4, size - (gsize)(body + 4 - data));
  if (body != NULL && strstr(text, "\r\n\r\n") != NULL)
    *strstr(text, "\r\n\r\n") = '\0';
  if (line_end != NULL) {
    *line_end = '\0';
    check_handshake(line_end + 2);
  }
  if (space != NULL) {
    char *target = space + 1;
    target[strcspn(target, " ")] = '\0';
    check_target(target);
  }
  return 0;
}
