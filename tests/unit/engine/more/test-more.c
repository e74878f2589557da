// The formats beyond the first eight (q5_1, iq4_nl, q2_0, q2_K, q3_K, tq2_0, iq4_xs) against ggml's portable dot
// products: one row, one column, and matrices; bit-equal where every sum is an exact integer, else within a bound.
#include <math.h>
#include <string.h>
#include "../../../../engine/gemm.h"
#include "../rig.h"

#define F(n, act, T, A, block, act_block)                                                                              \
  { #n, "ggml_vec_dot_" #n "_" #act, CORE2_##T, CORE2_##A, block, sizeof(core2_##n), sizeof(core2_##act), act_block }

static const RigFormat formats[] = {
    F(q5_1, q8_1, Q5_1, Q8_1, 32, 32),       F(iq4_nl, q8_0, IQ4_NL, Q8_0, 32, 32),
    F(q2_0, q8_0, Q2_0, Q8_0, 64, 32),       F(q2_K, q8_K, Q2_K, Q8_K, 256, 256),
    F(q3_K, q8_K, Q3_K, Q8_K, 256, 256),     F(tq2_0, q8_K, TQ2_0, Q8_K, 256, 256),
    F(iq4_xs, q8_K, IQ4_XS, Q8_K, 256, 256),
};

typedef struct {
  const RigFormat *format;
  RigKind kind;
} Case;

static gboolean exact(RigKind kind) {
  return kind == RIG_EXACT || kind == RIG_EXTREME;
}

// ggml has no x86 kernel of q2_0: there the portable one bears the plain name.
static core2_dot_fn *portable(const RigFormat *f) {
  g_autofree char *generic = g_strconcat(f->dot, "_generic", NULL);
  return rig_stock(f->type == CORE2_Q2_0 ? f->dot : generic);
}

static uint16_t scale_of(RigKind kind) {
  if (exact(kind))
    return 0x3c00; // 1
  if (kind == RIG_SUBNORMAL)
    return (uint16_t)g_test_rand_int_range(0, 0x400);
  return rig_to_f16((float)g_test_rand_double_range(-0.1, 0.1));
}

// Small enough sums for 24 bits; a random or subnormal block may have any scale.
static void fill_iq4_xs(core2_iq4_xs *b, RigKind kind) {
  if (!exact(kind))
    return;
  b->scales_h = 0;
  for (int j = 0; j < 8; j++) {
    const int code = 32 + g_test_rand_int_range(-4, 5);
    if (j % 2 == 0)
      b->scales_l[j / 2] = 0;
    b->scales_l[j / 2] = (uint8_t)(b->scales_l[j / 2] | (code & 15) << 4 * (j % 2));
    b->scales_h = (uint16_t)(b->scales_h | (code >> 4) << 2 * j);
  }
}

static void fill_block(const RigFormat *f, RigKind kind, uint8_t *b) {
  for (size_t i = 0; i < f->size; i++)
    b[i] = kind == RIG_EXTREME ? (g_test_rand_bit() ? 0xff : 0) : (uint8_t)g_test_rand_int_range(0, 256);
  const uint16_t d = scale_of(kind), m = exact(kind) ? 0xc000 /* -2 */ : scale_of(kind);
  size_t at = 0;
  switch (f->type) {
  case CORE2_Q5_1:
    memcpy(b + 2, &m, 2);
    break;
  case CORE2_Q2_K:
    at = offsetof(core2_q2_K, d);
    memcpy(b + at + 2, &m, 2);
    break;
  case CORE2_Q3_K:
    at = offsetof(core2_q3_K, d);
    break;
  case CORE2_TQ2_0:
    at = offsetof(core2_tq2_0, d);
    break;
  case CORE2_IQ4_XS:
    fill_iq4_xs((core2_iq4_xs *)b, kind);
    break;
  default:
    break;
  }
  memcpy(b + at, &d, 2);
}

static void fill(const RigFormat *f, RigKind kind, void *row, int n) {
  for (int i = 0; i < n / f->block; i++)
    fill_block(f, kind, (uint8_t *)row + (size_t)i * f->size);
}

// How many blocks may be added up before an exact sum could need more than 24 bits.
static int most_blocks(const RigFormat *f, RigKind kind, int wish) {
  if (!exact(kind))
    return wish;
  return MIN(wish, f->type == CORE2_IQ4_XS || f->type == CORE2_Q3_K ? 1 : f->block == 256 ? 8 : 30);
}

static double allowed(const RigFormat *f, RigKind kind, const void *x, const void *y, int n) {
  if (exact(kind))
    return 0;
  if (f->block == f->act_block)
    return 0x1.0p-126 + rig_magnitude(f, x, y, n) * 0x1.0p-18;
  double total = 0; // q2_0: two blocks of activations to one of weights
  float w[64];
  for (int i = 0; i < n; i++) {
    if (i % 64 == 0)
      rig_to_float(f->type, (const char *)x + (size_t)(i / 64) * f->size, w, 64);
    uint16_t h;
    memcpy(&h, (const uint8_t *)y + (size_t)(i / 32) * f->act_size, 2);
    total += 127 * fabs((double)w[i % 64] * (double)rig_f16(h));
  }
  return 0x1.0p-126 + total * 0x1.0p-18;
}

static void compare_row(const Case *c, int blocks, size_t shift) {
  const RigFormat *f = c->format;
  const int n = blocks * f->block;
  const size_t xs = (size_t)blocks * f->size, ys = (size_t)(n / f->act_block) * f->act_size;
  core2_dot_fn *ours = rig_ours(f->dot), *generic = portable(f);
  const size_t y_shift = f->act == CORE2_Q8_K ? shift * 2 : shift;
  void *x = rig_row(xs, shift), *y = rig_row(ys, y_shift);
  fill(f, c->kind, x, n);
  rig_fill_activations(f, c->kind, y, n);
  float got = NAN, want = NAN;
  ours(n, &got, 0, x, 0, y, 0, 1);
  generic(n, &want, 0, x, 0, y, 0, 1);
  const double limit = allowed(f, c->kind, x, y, n);
  if (!(fabs((double)got - (double)want) <= limit))
    g_error("%s: %d blocks, shift %zu: got %.9g, the portable kernel says %.9g, %.3g allowed", f->dot, blocks, shift,
            (double)got, (double)want, limit);
  rig_free_row(x, xs, shift);
  rig_free_row(y, ys, y_shift);
}

static void test_dot(gconstpointer data) {
  const Case *c = data;
  const int most = most_blocks(c->format, c->kind, 21);
  for (int r = 0; r < (g_test_quick() ? 6 : 60); r++)
    for (int blocks = 0; blocks <= most; blocks++)
      compare_row(c, blocks, (size_t)g_test_rand_int_range(0, 16) * 2);
}

typedef _Bool sgemm_fn(const struct core2_params *, int64_t, int64_t, int64_t, const void *, int64_t, const void *,
                       int64_t, void *, int64_t, int, int, int);

static void compare_matrix(const Case *c, int m, int n, int k, int threads) {
  static const float untouched = -12345.0f;
  const RigFormat *f = c->format;
  const int length = k * f->block, ldc = m + g_test_rand_int_range(0, 3);
  const size_t row = (size_t)k * f->size, column = (size_t)(length / f->act_block) * f->act_size;
  core2_dot_fn *generic = portable(f);
  sgemm_fn *sgemm = rig_ours("llamafile_sgemm");
  char *a = rig_row(row * (size_t)m, 0), *b = rig_row(column * (size_t)n, 0);
  g_autofree float *out = g_new(float, ldc *n);
  for (int i = 0; i < ldc * n; i++)
    out[i] = untouched;
  fill(f, c->kind, a, length * m);
  for (int j = 0; j < n; j++)
    rig_fill_activations(f, c->kind, b + column * (size_t)j, length);
  for (int t = 0; t < threads; t++) {
    const struct core2_params p = {t, threads};
    g_assert_true(sgemm(&p, m, n, k, a, k, b, length / f->act_block, out, ldc, (int)f->type, (int)f->act, CORE2_F32));
  }
  for (int j = 0; j < n; j++)
    for (int i = 0; i < ldc; i++) {
      const float got = out[j * ldc + i];
      float want = untouched;
      double limit = 0;
      if (i < m) {
        const char *x = a + row * (size_t)i, *y = b + column * (size_t)j;
        generic(length, &want, 0, x, 0, y, 0, 1);
        limit = allowed(f, c->kind, x, y, length);
      }
      if (!(fabs((double)got - (double)want) <= limit))
        g_error("%s: %d rows, %d columns, %d blocks, %d threads: [%d, %d] is %.9g, want %.9g within %.3g", f->name, m,
                n, k, threads, i, j, (double)got, (double)want, limit);
    }
  rig_free_row(a, row * (size_t)m, 0);
  rig_free_row(b, column * (size_t)n, 0);
}

static void test_gemm(gconstpointer data) {
  const Case *c = data;
  const int most = most_blocks(c->format, c->kind, c->format->block == 256 ? 11 : 80);
  for (int r = 0; r < (g_test_quick() ? 25 : 250); r++)
    compare_matrix(c, g_test_rand_int_range(1, 40), r % 4 == 0 ? 1 : g_test_rand_int_range(1, 12),
                   g_test_rand_int_range(1, most + 1), g_test_rand_int_range(1, 4));
  compare_matrix(c, 5, 131, most_blocks(c->format, c->kind, 2), 1); // more columns than one pass holds
}

// Every code of a block decodes to what ggml's own reader says: weights times unit vectors.
static void test_each_element(gconstpointer data) {
  const RigFormat *f = data;
  core2_dot_fn *ours = rig_ours(f->dot);
  g_autofree uint8_t *x = g_malloc(f->size);
  g_autofree uint8_t *y = g_malloc0(f->act_size * (size_t)(f->block / f->act_block));
  float w[256];
  for (int r = 0; r < 20; r++) {
    fill_block(f, RIG_RANDOM, x);
    rig_to_float(f->type, x, w, f->block);
    for (int i = 0; i < f->block; i++) {
      memset(y, 0, f->act_size * (size_t)(f->block / f->act_block));
      uint8_t *b = y + (size_t)(i / f->act_block) * f->act_size;
      const uint16_t one = 0x3c00;
      if (f->act == CORE2_Q8_K) {
        core2_q8_K *k = (core2_q8_K *)b;
        k->d = 1;
        k->qs[i] = 1;
        k->bsums[i / 16] = 1;
      } else {
        memcpy(b, &one, 2);
        if (f->act == CORE2_Q8_1)
          memcpy(b + 2, &one, 2);
        b[(f->act == CORE2_Q8_1 ? 4 : 2) + i % f->act_block] = 1;
      }
      float got;
      ours(f->block, &got, 0, x, 0, y, 0, 1);
      if (!(fabs((double)got - (double)w[i]) <= 1e-5 * (1 + fabs((double)w[i]))))
        g_error("%s: element %d is %.9g, its dot product with a unit vector %.9g", f->name, i, (double)w[i],
                (double)got);
    }
  }
}

int main(int argc, char **argv) {
  static const char *const kinds[] = {"exact", "extreme", "random", "subnormal"};
  rig_open(&argc, &argv);
  for (gsize i = 0; i < G_N_ELEMENTS(formats); i++) {
    for (int k = RIG_EXACT; k <= RIG_SUBNORMAL; k++) {
      static const char *const what[] = {"dot", "gemm"};
      for (int w = 0; w < 2; w++) {
        Case *c = g_new(Case, 1);
        *c = (Case){&formats[i], (RigKind)k};
        g_autofree char *path = g_strdup_printf("/engine/more/%s/%s/%s", what[w], formats[i].name, kinds[k]);
        g_test_add_data_func_full(path, c, w ? test_gemm : test_dot, g_free);
      }
    }
    g_autofree char *path = g_strdup_printf("/engine/more/elements/%s", formats[i].name);
    g_test_add_data_func(path, &formats[i], test_each_element);
  }
  return g_test_run();
}
