// Products of f16 or f32 matrices: eight rows widened to floats and turned so that one element of four rows fills a
// vector, times two columns. What convolutions, and attention outside the fused operation, come down to.
#include "gemm.h"
#include "scratch.h"

enum { DEPTH = 512, COLUMNS = 128 };

typedef struct {
  __m128 panel[DEPTH][2];
  float columns[COLUMNS][DEPTH] __attribute__((aligned(16)));
} work;
static_assert(sizeof(work) <= sizeof(core2_scratch), "fits the thread's scratch");

// n elements to floats, zeros up to a multiple of four.
static void widen(int type, const char *from, int n, float *to) {
  int i = 0;
  if (type == CORE2_F16)
    for (; i + 8 <= n; i += 8) {
      __m128 a, b;
      core2_f16x8((const uint16_t *)from + i, &a, &b);
      _mm_store_ps(to + i, a);
      _mm_store_ps(to + i + 4, b);
    }
  else
    for (; i + 4 <= n; i += 4)
      _mm_store_ps(to + i, core2_load_floats((const float *)from + i));
  for (; i < n; i++)
    to[i] = type == CORE2_F16 ? core2_f16(((const uint16_t *)from)[i]) : ((const float *)from)[i];
  for (; i % 4; i++)
    to[i] = 0.0f;
}

static void pack(int type, const char *const rows[CORE2_ROWS], int n, work *w) {
  float row[4][DEPTH] __attribute__((aligned(16)));
  for (int g = 0; g < 2; g++) {
    for (int r = 0; r < 4; r++)
      widen(type, rows[4 * g + r], n, row[r]);
    for (int i = 0; i < n; i += 4) {
      __m128 a = _mm_load_ps(row[0] + i), b = _mm_load_ps(row[1] + i);
      __m128 c = _mm_load_ps(row[2] + i), d = _mm_load_ps(row[3] + i);
      _MM_TRANSPOSE4_PS(a, b, c, d);
      w->panel[i][g] = a;
      w->panel[i + 1][g] = b;
      w->panel[i + 2][g] = c;
      w->panel[i + 3][g] = d;
    }
  }
}

CORE2_INLINE void tile(const work *w, const float *x, const float *y, int n, __m128 out[2][2]) {
  __m128 x0 = _mm_setzero_ps(), x1 = x0, y0 = x0, y1 = x0;
  for (int i = 0; i < n; i += 4) {
    const __m128 u = _mm_load_ps(x + i), v = _mm_load_ps(y + i);
#define STEP(j)                                                                                                        \
  {                                                                                                                    \
    const __m128 a = _mm_shuffle_ps(u, u, (j)*0x55), b = _mm_shuffle_ps(v, v, (j)*0x55);                               \
    x0 = _mm_add_ps(x0, _mm_mul_ps(w->panel[i + (j)][0], a));                                                          \
    x1 = _mm_add_ps(x1, _mm_mul_ps(w->panel[i + (j)][1], a));                                                          \
    y0 = _mm_add_ps(y0, _mm_mul_ps(w->panel[i + (j)][0], b));                                                          \
    y1 = _mm_add_ps(y1, _mm_mul_ps(w->panel[i + (j)][1], b));                                                          \
  }
    STEP(0)
    STEP(1)
    STEP(2)
    STEP(3)
#undef STEP
  }
  out[0][0] = x0, out[0][1] = x1, out[1][0] = y0, out[1][1] = y1;
}

static void store(const __m128 v[2], float *to, int rows, int add) {
  float t[CORE2_ROWS];
  _mm_storeu_ps(t, v[0]);
  _mm_storeu_ps(t + 4, v[1]);
  for (int r = 0; r < rows; r++)
    to[r] = add ? to[r] + t[r] : t[r];
}

void core2_gemm_float(const core2_float_job *j) {
  work *w = (work *)core2_thread_scratch();
  const size_t a_size = j->a_type == CORE2_F16 ? 2 : 4, b_size = j->b_type == CORE2_F16 ? 2 : 4;
  for (int64_t column = 0; column < j->columns; column += COLUMNS)
    for (int64_t k0 = 0; k0 < j->k; k0 += DEPTH) {
      const int n = j->k - k0 < DEPTH ? (int)(j->k - k0) : DEPTH;
      const int columns = j->columns - column < COLUMNS ? (int)(j->columns - column) : COLUMNS;
      for (int t = 0; t < columns; t++)
        widen(j->b_type, j->b + ((size_t)(column + t) * (size_t)j->ldb + (size_t)k0) * b_size, n, w->columns[t]);
      for (int64_t row = j->row0; row < j->row1; row += CORE2_ROWS) {
        const int rows_left = j->row1 - row < CORE2_ROWS ? (int)(j->row1 - row) : CORE2_ROWS;
        const char *rows[CORE2_ROWS];
        for (int r = 0; r < CORE2_ROWS; r++)
          rows[r] = j->a + ((size_t)(row + (r < rows_left ? r : rows_left - 1)) * (size_t)j->lda + (size_t)k0) * a_size;
        pack(j->a_type, rows, n, w);
        for (int t = 0; t < columns; t += 2) {
          const int second = t + 1 < columns ? t + 1 : t;
          __m128 out[2][2];
          tile(w, w->columns[t], w->columns[second], n, out);
          float *c = j->c + (column + t) * j->ldc + row;
          store(out[0], c, rows_left, k0 > 0);
          if (second != t)
            store(out[1], c + j->ldc, rows_left, k0 > 0);
        }
      }
    }
}
