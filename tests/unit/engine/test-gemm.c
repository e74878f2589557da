// The matrix hook against ggml's portable dot products: every shape, several threads, nothing written outside.
#include <math.h>
#include <string.h>
#include "../../../engine/gemm.h"
#include "rig.h"

typedef _Bool sgemm_fn(const struct core2_params *, int64_t, int64_t, int64_t, const void *, int64_t, const void *,
                       int64_t, void *, int64_t, int, int, int);

typedef struct {
  const RigFormat *format;
  RigKind kind;
} Case;

static const float untouched = -12345.0f;

typedef struct {
  int m, n, k; // k in weight blocks
  int threads;
} Shape;

static void compare(const Case *c, Shape s) {
  const RigFormat *f = c->format;
  const int length = s.k * f->block, ldc = s.m + g_test_rand_int_range(0, 3);
  const size_t row = (size_t)s.k * f->size, column = (size_t)(length / f->act_block) * f->act_size;
  g_autofree char *generic_name = g_strconcat(f->dot, "_generic", NULL);
  core2_dot_fn *generic = rig_stock(generic_name);
  sgemm_fn *sgemm = rig_ours("llamafile_sgemm");
  char *a = rig_row(row * (size_t)s.m, 0), *b = rig_row(column * (size_t)s.n, 0);
  g_autofree float *out = g_new(float, ldc *s.n);
  for (int i = 0; i < ldc * s.n; i++)
    out[i] = untouched;
  rig_fill_weights(f, c->kind, a, length * s.m);
  rig_fill_activations(f, c->kind, b, length * s.n);
  for (int t = 0; t < s.threads; t++) {
    const struct core2_params p = {t, s.threads};
    g_assert_true(sgemm(&p, s.m, s.n, s.k, a, s.k, b, length / f->act_block, out, ldc, f->type, f->act, CORE2_F32));
  }
  for (int j = 0; j < s.n; j++)
    for (int i = 0; i < ldc; i++) {
      const float got = out[j * ldc + i];
      float want = untouched;
      double allowed = 0;
      if (i < s.m) {
        generic(length, &want, 0, a + row * (size_t)i, 0, b + column * (size_t)j, 0, 1);
        if (c->kind > RIG_EXTREME)
          allowed = 0x1.0p-126 + 0x1.0p-18 * rig_magnitude(f, a + row * (size_t)i, b + column * (size_t)j, length);
      }
      if (!(fabs((double)got - (double)want) <= allowed))
        g_error("%s: %d rows, %d columns, %d blocks, %d threads: [%d, %d] is %.9g, want %.9g within %.3g", f->name, s.m,
                s.n, s.k, s.threads, i, j, got, want, allowed);
    }
  rig_free_row(a, row * (size_t)s.m, 0);
  rig_free_row(b, column * (size_t)s.n, 0);
}

static void test_gemm(gconstpointer data) {
  const Case *c = data;
  const int most = rig_most_blocks(c->format, c->kind, c->format->block == 256 ? 11 : 80);
  for (int r = 0; r < (g_test_quick() ? 25 : 250); r++)
    compare(c, (Shape){g_test_rand_int_range(1, 40), r % 4 == 0 ? 1 : g_test_rand_int_range(1, 12),
                       g_test_rand_int_range(1, most + 1), g_test_rand_int_range(1, 4)});
  compare(c, (Shape){5, 131, rig_most_blocks(c->format, c->kind, 2), 1}); // more columns than one pass holds
}

// f16 and f32 matrices against sums in double precision.
static void test_floats(gconstpointer data) {
  const int pair = GPOINTER_TO_INT(data);
  const int a_type = pair == 2 ? CORE2_F32 : CORE2_F16, b_type = pair == 0 ? CORE2_F16 : CORE2_F32;
  const size_t as = a_type == CORE2_F16 ? 2 : 4, bs = b_type == CORE2_F16 ? 2 : 4;
  sgemm_fn *sgemm = rig_ours("llamafile_sgemm");
  for (int r = 0; r < (g_test_quick() ? 25 : 250); r++) {
    const int m = g_test_rand_int_range(1, 30), n = g_test_rand_int_range(2, 12), k = g_test_rand_int_range(1, 1200);
    char *a = rig_row((size_t)(m * k) * as, 0), *b = rig_row((size_t)(n * k) * bs, 0);
    g_autofree float *fa = g_new(float, m *k), *fb = g_new(float, n *k), *out = g_new(float, m *n);
    for (int side = 0; side < 2; side++)
      for (int i = 0; i < (side ? n : m) * k; i++) {
        const float v = (float)g_test_rand_double_range(-2, 2) * (g_test_rand_int_range(0, 9) ? 1.0f : 1e-5f);
        float *known = side ? &fb[i] : &fa[i];
        *known = v;
        if ((side ? bs : as) == 2) {
          const uint16_t h = rig_to_f16(v);
          memcpy((side ? b : a) + 2 * i, &h, 2);
          *known = rig_f16(h);
        } else {
          memcpy((side ? b : a) + 4 * i, &v, 4);
        }
      }
    const int threads = g_test_rand_int_range(1, 4);
    for (int t = 0; t < threads; t++)
      g_assert_true(sgemm(&(struct core2_params){t, threads}, m, n, k, a, k, b, k, out, m, a_type, b_type, CORE2_F32));
    for (int j = 0; j < n; j++)
      for (int i = 0; i < m; i++) {
        double want = 0, magnitude = 0;
        for (int l = 0; l < k; l++) {
          want += (double)fa[i * k + l] * (double)fb[j * k + l];
          magnitude += fabs((double)fa[i * k + l] * (double)fb[j * k + l]);
        }
        if (!(fabs((double)out[j * m + i] - want) <= magnitude * 0x1.0p-18))
          g_error("%d x %d x %d [%d, %d]: %g, want %g", m, n, k, i, j, (double)out[j * m + i], want);
      }
    rig_free_row(a, (size_t)(m * k) * as, 0);
    rig_free_row(b, (size_t)(n * k) * bs, 0);
  }
}

static void test_refusals(void) {
  sgemm_fn *sgemm = rig_ours("llamafile_sgemm");
  const struct core2_params p = {0, 1};
  float a[64] = {0}, c[4];
  g_assert_false(sgemm(&p, 2, 2, 1, a, 1, a, 1, c, 2, CORE2_Q4_0, CORE2_F32, CORE2_F32));
  g_assert_false(sgemm(&p, 2, 2, 1, a, 1, a, 1, c, 2, CORE2_Q4_0, CORE2_Q8_1, CORE2_F32));
  g_assert_false(sgemm(&p, 2, 2, 1, a, 1, a, 1, c, 2, CORE2_Q4_1, CORE2_Q8_1, CORE2_F16));
  g_assert_false(sgemm(&p, 2, 2, 1, a, 1, a, 1, c, 2, 1000, CORE2_Q8_0, CORE2_F32));
}

int main(int argc, char **argv) {
  static const char *const kinds[] = {"exact", "extreme", "random", "subnormal"};
  rig_open(&argc, &argv);
  for (int i = 0; i < rig_n_formats; i++)
    for (int k = RIG_EXACT; k <= RIG_SUBNORMAL; k++) {
      Case *c = g_new(Case, 1);
      *c = (Case){&rig_formats[i], (RigKind)k};
      g_autofree char *path = g_strdup_printf("/engine/gemm/%s/%s", rig_formats[i].name, kinds[k]);
      g_test_add_data_func_full(path, c, test_gemm, g_free);
    }
  static const char *const pairs[] = {"f16-f16", "f16-f32", "f32-f32"};
  for (int i = 0; i < 3; i++) {
    g_autofree char *path = g_strdup_printf("/engine/gemm/%s", pairs[i]);
    g_test_add_data_func(path, GINT_TO_POINTER(i), test_floats);
  }
  g_test_add_func("/engine/gemm/refusals", test_refusals);
  return g_test_run();
}
