#include <unistd.h>
#include "web/realtime_audio.h"

static void test_base64(void) {
  g_test_message("seed: printed by GLib with --verbose");
  for (guint i = 0; i < 2000; i++) {
    guint length = g_test_rand_int_range(0, 300) % 300;
    guint8 bytes[300];
    for (guint k = 0; k < length; k++)
      bytes[k] = (guint8)g_test_rand_int_range(0, 256);
    g_autofree char *text = g_base64_encode(bytes, length);
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_byte_array_append(out, (const guint8 *)"x", 1);
    g_assert_true(choir_realtime_base64(text, strlen(text), out));
    g_assert_cmpmem(out->data + 1, out->len - 1, bytes, length);
  }
}

static void test_base64_bad(void) {
  static const char *const bad[] = {"A",    "AA",    "AAA",     "A===",     "AA=A", "AAAA=", "AA==AAAA",
                                    "AA A", "AA\n=", "AAA\xc3", "QQ==QQ==", "QR==", "QUI=\n"};
  for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_byte_array_append(out, (const guint8 *)"x", 1);
    g_test_message("%s", bad[i]);
    g_assert_false(choir_realtime_base64(bad[i], strlen(bad[i]), out));
    g_assert_cmpuint(out->len, ==, 1);
  }
}

static void test_pcm(void) {
  const guint8 bytes[] = {0x34, 0x12, 0xff, 0xff, 0x00};
  g_autoptr(GArray) pcm = g_array_new(FALSE, FALSE, sizeof(gint16));
  g_assert_cmpuint(choir_realtime_decode(CHOIR_REALTIME_PCM, bytes, sizeof bytes, pcm), ==, 4);
  g_assert_cmpuint(pcm->len, ==, 2);
  g_assert_cmpint(g_array_index(pcm, gint16, 0), ==, 0x1234);
  g_assert_cmpint(g_array_index(pcm, gint16, 1), ==, -1);
}

/* Values of ITU-T G.711 tables 1a and 2a, at the scale of sox and libsndfile. */
static void test_g711(void) {
  static const struct {
    ChoirRealtimeFormat format;
    guint8 code;
    gint16 value;
  } rows[] = {{CHOIR_REALTIME_PCMU, 0xff, 0},      {CHOIR_REALTIME_PCMU, 0x7f, 0},  {CHOIR_REALTIME_PCMU, 0x00, -32124},
              {CHOIR_REALTIME_PCMU, 0x80, 32124},  {CHOIR_REALTIME_PCMU, 0xfe, 8},  {CHOIR_REALTIME_PCMU, 0x70, -120},
              {CHOIR_REALTIME_PCMA, 0xd5, 8},      {CHOIR_REALTIME_PCMA, 0x55, -8}, {CHOIR_REALTIME_PCMA, 0xaa, 32256},
              {CHOIR_REALTIME_PCMA, 0x2a, -32256}, {CHOIR_REALTIME_PCMA, 0xd4, 24}, {CHOIR_REALTIME_PCMA, 0x80, 5504}};
  for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_autoptr(GArray) pcm = g_array_new(FALSE, FALSE, sizeof(gint16));
    g_assert_cmpuint(choir_realtime_decode(rows[i].format, &rows[i].code, 1, pcm), ==, 1);
    g_test_message("code %02x", rows[i].code);
    g_assert_cmpint(g_array_index(pcm, gint16, 0), ==, rows[i].value);
  }
}

int main(int argc, char **argv) {
  alarm(30);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/realtime-audio/base64", test_base64);
  g_test_add_func("/realtime-audio/base64-bad", test_base64_bad);
  g_test_add_func("/realtime-audio/pcm", test_pcm);
  g_test_add_func("/realtime-audio/g711", test_g711);
  return g_test_run();
}
