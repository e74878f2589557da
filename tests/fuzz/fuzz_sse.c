/* An event stream from a hostile server, whole and in pieces: the same events, each within the limit. */
#include <stdint.h>
#include <string.h>
#include "net/sse.h"

#define LIMIT 1024

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_event(const char *event, const char *data, gsize length, gpointer user) {
  GString *got = user;
  g_assert_cmpuint(length, <=, LIMIT);
  g_assert_cmpint(data[length], ==, '\0');
  g_assert_null(memchr(data, '\r', length));
  g_assert_cmpint(*event, !=, '\0');
  g_string_append_printf(got, "[%s|%" G_GSIZE_FORMAT "|", event, length);
  g_string_append_len(got, data, (gssize)length);
}

static GString *feed(const uint8_t *data, size_t size, size_t step) {
  GString *got = g_string_new(NULL);
  ChoirSse *sse = choir_sse_new(LIMIT, on_event, got);
  gboolean good = TRUE;
  for (size_t at = 0; at < size && good; at += step) {
    g_autoptr(GError) error = NULL;
    good = choir_sse_feed(sse, (const char *)data + at, MIN(step, size - at), &error);
    g_assert_true(good == (error == NULL));
  }
  choir_sse_end(sse);
  choir_sse_free(sse);
  return got;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 2 || size > 65536)
    return 0;
  GString *whole = feed(data + 1, size - 1, size), *pieces = feed(data + 1, size - 1, data[0] % 32 + 1u);
  g_assert_cmpmem(whole->str, whole->len, pieces->str, pieces->len);
  g_string_free(whole, TRUE);
  g_string_free(pieces, TRUE);
  return 0;
}
