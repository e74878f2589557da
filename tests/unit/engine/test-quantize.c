// The activation quantisers must write what ggml's portable reference writes, byte for byte.
#include <math.h>
#include <string.h>
#include "rig.h"

typedef struct {
  const char *name;
  int block;
  size_t size;
} Quantizer;

static const Quantizer quantizers[] = {
    {"quantize_row_q8_0", 32, sizeof(core2_q8_0)},
    {"quantize_row_q8_1", 32, sizeof(core2_q8_1)},
    {"quantize_row_q8_K", 256, sizeof(core2_q8_K)},
};

// Ordinary values, exact ties after scaling, zeros, tiny and huge magnitudes.
static void fill(float *x, int n, int how) {
  for (int i = 0; i < n; i++)
    switch (how) {
    case 0:
      x[i] = (float)g_test_rand_double_range(-4, 4);
      break;
    case 1: // amax 127 makes the scale 1, so halves are ties
      x[i] = (float)g_test_rand_int_range(-254, 255) * 0.5f;
      break;
    case 2:
      x[i] = 0.0f;
      break;
    case 3:
      x[i] = ldexpf((float)g_test_rand_double_range(-1, 1), g_test_rand_int_range(-140, -20));
      break;
    default:
      x[i] = ldexpf((float)g_test_rand_double_range(-1, 1), g_test_rand_int_range(-20, 20));
    }
  if (how == 1)
    x[g_test_rand_int_range(0, n)] = g_test_rand_bit() ? 127.0f : -127.0f;
}

static void test_quantizer(gconstpointer data) {
  const Quantizer *q = data;
  core2_quantize_fn *ours = rig_ours(q->name);
  g_autofree char *generic = g_strconcat(q->name, "_generic", NULL);
  core2_quantize_fn *reference = rig_stock(generic);
  for (int r = 0; r < (g_test_quick() ? 300 : 5000); r++) {
    const int how = r % 5, blocks = g_test_rand_int_range(1, 9), n = blocks * q->block;
    const size_t xs = (size_t)n * sizeof(float), ys = (size_t)blocks * q->size;
    float *x = rig_row(xs, 4 * (size_t)g_test_rand_int_range(0, 4));
    g_autofree char *got = g_malloc0(ys), *want = g_malloc0(ys);
    fill(x, n, how);
    ours(x, got, n);
    reference(x, want, n);
    if (memcmp(got, want, ys) != 0)
      g_error("%s: kind %d: bytes differ", q->name, how);
  }
}

// The scale conversion is exact for all f16, and rounds every float as the base library does.
static void test_scales(void) {
  core2_quantize_fn *ours = rig_ours("quantize_row_q8_0");
  float x[32] = {0};
  core2_q8_0 got;
  for (int r = 0; r < 200000; r++) {
    x[0] = ldexpf((float)g_test_rand_double_range(0.5, 1), g_test_rand_int_range(-30, 24));
    ours(x, &got, 32);
    g_assert_cmphex(got.d, ==, rig_to_f16(x[0] / 127.0f));
  }
}

int main(int argc, char **argv) {
  rig_open(&argc, &argv);
  for (size_t i = 0; i < G_N_ELEMENTS(quantizers); i++) {
    g_autofree char *path = g_strdup_printf("/engine/quantize/%s", quantizers[i].name + strlen("quantize_row_"));
    g_test_add_data_func(path, &quantizers[i], test_quantizer);
  }
  g_test_add_func("/engine/quantize/scale", test_scales);
  return g_test_run();
}
