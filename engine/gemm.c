// Matrix products behind ggml's llamafile_sgemm hook: see gemm.h for the layout and docs/engine.md for the picture.
#include "dot.h"
#include "gemm.h"
#include "scratch.h"
#include "tensor.h"
#include "tile.h"
#include "variant.h"

typedef struct {
  enum core2_type type;
  const char *a, *b;
  size_t a_stride, b_stride; // bytes from row to row, column to column
  int64_t a_block, b_block;  // bytes per block
  float *c;
  int64_t ldc;
  int64_t row0, row1, columns, k; // k in elements
} job;

// Eight rows from `row` on, times the packed columns; the last panel of a matrix may have fewer rows.
static void panel_times_columns(const job *j, core2_scratch *s, int64_t row, int n, int columns, float *c, int add) {
  const int rows = j->row1 - row < CORE2_ROWS ? (int)(j->row1 - row) : CORE2_ROWS;
  int t = 0;
  while (t < columns) {
    const int width = columns - t >= CORE2_TILE ? CORE2_TILE : columns - t;
    float out[CORE2_TILE][CORE2_ROWS] __attribute__((aligned(16)));
    core2_tile(j->type, &s->panel, &s->columns[t], n, width, out);
    for (int i = 0; i < width; i++) {
      float *to = c + (int64_t)(t + i) * j->ldc + row;
      if (rows == CORE2_ROWS) {
        const __m128 low = _mm_load_ps(out[i]), high = _mm_load_ps(out[i] + 4);
        _mm_storeu_ps(to, add ? _mm_add_ps(_mm_loadu_ps(to), low) : low);
        _mm_storeu_ps(to + 4, add ? _mm_add_ps(_mm_loadu_ps(to + 4), high) : high);
      } else {
        for (int r = 0; r < rows; r++)
          to[r] = add ? to[r] + out[i][r] : out[i][r];
      }
    }
    t += width;
  }
}

// Formats that are decoded by their dot product: as fast as core2_gemv for superblocks, rare for the rest.
static core2_dot_fn *dot_for_one_column(enum core2_type type) {
  switch (type) {
  case CORE2_Q5_1:
    return ggml_vec_dot_q5_1_q8_1;
  case CORE2_IQ4_NL:
    return ggml_vec_dot_iq4_nl_q8_0;
  case CORE2_Q2_0:
    return ggml_vec_dot_q2_0_q8_0;
  case CORE2_Q2_K:
    return ggml_vec_dot_q2_K_q8_K;
  case CORE2_Q3_K:
    return ggml_vec_dot_q3_K_q8_K;
  case CORE2_TQ2_0:
    return ggml_vec_dot_tq2_0_q8_K;
  case CORE2_IQ4_XS:
    return ggml_vec_dot_iq4_xs_q8_K;
  default:
    return NULL;
  }
}

// One chunk of the inner dimension for up to CORE2_COLUMNS columns.
static void chunk(const job *j, core2_scratch *s, int64_t column, int64_t k0) {
  const int n = j->k - k0 < CORE2_CHUNK ? (int)(j->k - k0) : CORE2_CHUNK;
  const int columns = j->columns - column < CORE2_COLUMNS ? (int)(j->columns - column) : CORE2_COLUMNS;
  const int a_elements = core2_block_elements(j->type), b_elements = core2_is_super(j->type) ? 256 : 32;
  const size_t a_at = (size_t)(k0 / a_elements * j->a_block), b_at = (size_t)(k0 / b_elements * j->b_block);
  float *c = j->c + column * j->ldc;
  for (int t = 0; t < columns; t++)
    core2_pack_column(j->type, j->b + (size_t)(column + t) * j->b_stride + b_at, n, j->columns == 1, &s->columns[t]);
  if (j->columns == 1) { // unpacking would cost more than it saves
    core2_gemv(j->type, j->a + (size_t)j->row0 * j->a_stride + a_at, j->a_stride, (int)(j->row1 - j->row0), n,
               s->columns, c + j->row0, k0 > 0);
    return;
  }
  for (int64_t row = j->row0; row < j->row1; row += CORE2_ROWS) {
    const char *rows[CORE2_ROWS];
    for (int r = 0; r < CORE2_ROWS; r++) // past the end the last row is repeated and its results dropped
      rows[r] = j->a + (size_t)(row + r < j->row1 ? row + r : j->row1 - 1) * j->a_stride + a_at;
    core2_pack_panel(j->type, rows, n, &s->panel);
    panel_times_columns(j, s, row, n, columns, c, k0 > 0);
  }
}

// Formats that are not ours: a stock file with AVX has kernels for floats.
static _Bool stock_sgemm(const struct core2_params *params, int64_t m, int64_t n, int64_t k, const void *A, int64_t lda,
                         const void *B, int64_t ldb, void *C, int64_t ldc, int Atype, int Btype, int Ctype) {
  _Bool (*stock)(const struct core2_params *, int64_t, int64_t, int64_t, const void *, int64_t, const void *, int64_t,
                 void *, int64_t, int, int, int);
  *(void **)&stock = core2_stock.sgemm;
  return stock && stock(params, m, n, k, A, lda, B, ldb, C, ldc, Atype, Btype, Ctype);
}

static int ours(int type) {
  switch (type) {
  case CORE2_Q4_0:
  case CORE2_Q4_1:
  case CORE2_Q5_0:
  case CORE2_Q5_1:
  case CORE2_Q8_0:
  case CORE2_IQ4_NL:
  case CORE2_Q2_0:
  case CORE2_MXFP4:
  case CORE2_Q2_K:
  case CORE2_Q3_K:
  case CORE2_TQ2_0:
  case CORE2_IQ4_XS:
  case CORE2_Q4_K:
  case CORE2_Q5_K:
  case CORE2_Q6_K:
    return 1;
  default:
    return 0;
  }
}

CORE2_EXPORT _Bool ggml_compute_forward_mul_mat_tiled(const struct core2_params_full *params, core2_tensor *dst) {
  _Bool (*stock)(const struct core2_params_full *, core2_tensor *);
  *(void **)&stock = core2_stock.tiled;
  return !ours(dst->src[0]->type) && stock && stock(params, dst);
}

CORE2_EXPORT _Bool llamafile_sgemm(const struct core2_params *params, int64_t m, int64_t n, int64_t k, const void *A,
                                   int64_t lda, const void *B, int64_t ldb, void *C, int64_t ldc, int Atype, int Btype,
                                   int Ctype) {
  const enum core2_type type = (enum core2_type)Atype;
  // Rows are dealt out in whole panels.
  const int64_t panels = (m + CORE2_ROWS - 1) / CORE2_ROWS;
  const int64_t row0 = panels * params->ith / params->nth * CORE2_ROWS;
  const int64_t end = panels * (params->ith + 1) / params->nth * CORE2_ROWS;
  const int64_t row1 = end < m ? end : m;
  const int halves = Atype == CORE2_F16 && (Btype == CORE2_F16 || Btype == CORE2_F32);
  const int floats = Atype == CORE2_F32 && Btype == CORE2_F32;
  if (floats && stock_sgemm(params, m, n, k, A, lda, B, ldb, C, ldc, Atype, Btype, Ctype))
    return 1; // a stock file with AVX does these eight at a time
  if ((halves || floats) && Ctype == CORE2_F32 && n > 1) {
    core2_gemm_float(&(core2_float_job){Atype, Btype, A, B, lda, ldb, C, ldc, row0, row1, n, k});
    return 1;
  }
  if (!ours(Atype))
    return stock_sgemm(params, m, n, k, A, lda, B, ldb, C, ldc, Atype, Btype, Ctype);
  if (Btype != (int)core2_activation(type) || Ctype != CORE2_F32)
    return 0;
  core2_scratch *s = core2_thread_scratch();
  const int64_t a_block = (int64_t)core2_block_size(type);
  const int64_t b_block = Btype == CORE2_Q8_K   ? (int64_t)sizeof(core2_q8_K)
                          : Btype == CORE2_Q8_1 ? (int64_t)sizeof(core2_q8_1)
                                                : (int64_t)sizeof(core2_q8_0);
  const job j = {.type = type,
                 .a = A,
                 .b = B,
                 .a_stride = (size_t)(lda * a_block),
                 .b_stride = (size_t)(ldb * b_block),
                 .a_block = a_block,
                 .b_block = b_block,
                 .c = C,
                 .ldc = ldc,
                 .row0 = row0,
                 .row1 = row1,
                 .columns = n,
                 .k = k * core2_block_elements(type)};
  core2_dot_fn *dot = n == 1 ? dot_for_one_column(type) : NULL;
  if (dot) {
    for (int64_t row = j.row0; row < j.row1; row++)
      dot((int)j.k, j.c + row, 0, j.a + (size_t)row * j.a_stride, 0, j.b, 0, 1);
    return 1;
  }
  if (j.row0 < j.row1)
    for (int64_t column = 0; column < n; column += CORE2_COLUMNS)
      for (int64_t k0 = 0; k0 < j.k; k0 += CORE2_CHUNK)
        chunk(&j, s, column, k0);
  return 1;
}
