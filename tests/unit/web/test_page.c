/* The embedded files, once of the real page and once of a folder that holds index.html alone. */
#include <gio/gio.h>
#include <unistd.h>
#include "web/page.h"

static GBytes *unpack(const ChoirAsset *asset) {
  g_autoptr(GInputStream) packed = g_memory_input_stream_new_from_data(asset->gzip, (gssize)asset->gzip_length, NULL);
  g_autoptr(GConverter) gzip = G_CONVERTER(g_zlib_decompressor_new(G_ZLIB_COMPRESSOR_FORMAT_GZIP));
  g_autoptr(GInputStream) plain = g_converter_input_stream_new(packed, gzip);
  g_autoptr(GOutputStream) out = g_memory_output_stream_new_resizable();
  g_autoptr(GError) error = NULL;
  g_output_stream_splice(out, plain, G_OUTPUT_STREAM_SPLICE_CLOSE_TARGET, NULL, &error);
  g_assert_no_error(error);
  return g_memory_output_stream_steal_as_bytes(G_MEMORY_OUTPUT_STREAM(out));
}

static void test_assets(void) {
  gsize total = 0;
  gboolean index = FALSE;
  for (const ChoirAsset *asset = choir_page_assets; asset->path; asset++) {
    g_assert_true(asset->path[0] == '/' && asset->etag[0] == '"');
    g_assert_false(g_str_has_suffix(asset->path, ".d.ts") || g_str_has_suffix(asset->path, ".md"));
    index |= strcmp(asset->path, "/index.html") == 0 && g_str_has_prefix(asset->content_type, "text/html");
    total += asset->gzip ? asset->gzip_length : asset->length;
    for (const ChoirAsset *other = choir_page_assets; other != asset; other++)
      g_assert_cmpstr(other->path, !=, asset->path);
    if (!asset->gzip)
      continue;
    g_assert_cmpuint(asset->gzip_length, <, asset->length);
    g_autoptr(GBytes) plain = unpack(asset);
    gsize length;
    const void *data = g_bytes_get_data(plain, &length);
    g_assert_cmpmem(data, length, asset->data, asset->length);
  }
  g_assert_true(index);
  g_test_message("%zu bytes packed", total);
  g_assert_cmpuint(total, <=, 150 * 1000);
}

static void test_accepts_gzip(void) {
  const char *yes[] = {"gzip", "gzip, deflate, br", "deflate,GZIP;q=0.5", "*", "br;q=1.0, *;q=0.1", " gzip ;q=1"};
  const char *no[] = {"", "br", "gzip;q=0", "gzip;q=0.0, *", "*;q=0", "x-gzipped", "identity"};
  for (gsize i = 0; i < G_N_ELEMENTS(yes); i++)
    g_assert_true(choir_page_accepts_gzip(yes[i]));
  for (gsize i = 0; i < G_N_ELEMENTS(no); i++)
    g_assert_false(choir_page_accepts_gzip(no[i]));
  g_assert_false(choir_page_accepts_gzip(NULL));
}

static void test_etag(void) {
  g_assert_true(choir_page_etag_matches("\"a\"", "\"a\""));
  g_assert_true(choir_page_etag_matches("\"b\", W/\"a\"", "\"a\""));
  g_assert_true(choir_page_etag_matches("*", "\"a\""));
  g_assert_false(choir_page_etag_matches("a", "\"a\""));
  g_assert_false(choir_page_etag_matches("\"ab\"", "\"a\""));
  g_assert_false(choir_page_etag_matches(NULL, "\"a\""));
}

int main(int argc, char **argv) {
  alarm(30);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/page/assets", test_assets);
  g_test_add_func("/page/accepts-gzip", test_accepts_gzip);
  g_test_add_func("/page/etag", test_etag);
  return g_test_run();
}
