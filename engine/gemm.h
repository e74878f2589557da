// Shapes that the packing (pack.c) and the multiplying (gemm.c, gemv.c) agree on.
//
// A panel is eight weight rows over at most CHUNK elements, unpacked to bytes and interleaved so that one 16-byte
// vector holds four neighbouring elements of four rows:
//     q[((k / 4) * 2 + g)] = row 4g: k k+1 k+2 k+3 | row 4g+1: k .. k+3 | row 4g+2 ... | row 4g+3 ...
// A pmaddubsw of the same four elements of one activation column, broadcast, with it then leaves each row's sum in its
// own 32-bit lane: no horizontal additions, and one vector of scales serves four rows. The unsigned factor is the
// activations, plus 128; an accumulator starts from minus 128 times the weights, so that it ends, modulo 2^16, at the
// product of weights and activations, which fits.
#pragma once
#include "simd.h"

enum { CORE2_CHUNK = 2048, CORE2_ROWS = 8, CORE2_COLUMNS = 128 };
enum { CORE2_BLOCKS = CORE2_CHUNK / 32, CORE2_SUPERS = CORE2_CHUNK / 256 };

typedef struct {
  __m128i q[CORE2_CHUNK * CORE2_ROWS / 16]; // quants, less their format's offset
  union {
    struct {
      float d[CORE2_BLOCKS][CORE2_ROWS], m[CORE2_BLOCKS][CORE2_ROWS];
      __m128i start[CORE2_BLOCKS][2]; // what int16 accumulators start from
    } b32;
    struct {
      float d[CORE2_SUPERS][CORE2_ROWS], dmin[CORE2_SUPERS][CORE2_ROWS];
      __m128i scales[CORE2_SUPERS][16][2]; // each row's scale twice, as int16; q4_K and q5_K use eight of them
      __m128i minima[CORE2_SUPERS][8][2];  // minima 2j and 2j + 1 of four rows; q4_K and q5_K use four of them
      __m128i start[CORE2_SUPERS][16][2];  // as above per 16 elements; q4_K per 32, it uses eight of them
    } k;
  };
} core2_panel;

// One activation column of the same chunk, aligned.
typedef struct {
  int8_t q[CORE2_CHUNK]; // plus 128 for core2_tile, where core2_has_room()
  union {
    struct {
      float d[CORE2_BLOCKS], s[CORE2_BLOCKS];
      int32_t whole[CORE2_BLOCKS]; // offset times the activations, where it is added again (q5_1)
      int32_t start[CORE2_BLOCKS]; // for core2_gemv: two int16, together minus offset times the activations
    } b32;
    struct {
      float d[CORE2_SUPERS];
      int16_t sums[CORE2_SUPERS][8] __attribute__((aligned(16)));    // of 32 activations each
      int16_t sums16[CORE2_SUPERS][16] __attribute__((aligned(16))); // of 16
    } k;
  };
} __attribute__((aligned(64))) core2_column;

typedef struct {
  core2_panel panel;
  core2_column columns[CORE2_COLUMNS];
} core2_scratch;

// What differs between formats, known at compile time in every kernel.
CORE2_INLINE int core2_is_super(enum core2_type t) {
  return t == CORE2_Q4_K || t == CORE2_Q5_K || t == CORE2_Q6_K || t == CORE2_Q2_K || t == CORE2_Q3_K ||
         t == CORE2_TQ2_0 || t == CORE2_IQ4_XS;
}

// Whose scales are for 16 elements, not 32.
CORE2_INLINE int core2_has_groups(enum core2_type t) {
  return t == CORE2_Q6_K || t == CORE2_Q2_K || t == CORE2_Q3_K || t == CORE2_TQ2_0;
}

// Whether int16 holds two products of a weight with an activation plus 128.
CORE2_INLINE int core2_has_room(enum core2_type t) {
  return t != CORE2_Q8_0 && t != CORE2_IQ4_NL && t != CORE2_IQ4_XS;
}

// Elements in one block of the file.
CORE2_INLINE int core2_block_elements(enum core2_type t) {
  return core2_is_super(t) ? 256 : t == CORE2_Q2_0 ? 64 : 32;
}

CORE2_INLINE size_t core2_block_size(enum core2_type t) {
  switch (t) {
  case CORE2_Q4_0:
    return sizeof(core2_q4_0);
  case CORE2_Q4_1:
    return sizeof(core2_q4_1);
  case CORE2_Q5_0:
    return sizeof(core2_q5_0);
  case CORE2_Q5_1:
    return sizeof(core2_q5_1);
  case CORE2_IQ4_NL:
    return sizeof(core2_iq4_nl);
  case CORE2_Q2_0:
    return sizeof(core2_q2_0);
  case CORE2_Q2_K:
    return sizeof(core2_q2_K);
  case CORE2_Q3_K:
    return sizeof(core2_q3_K);
  case CORE2_TQ2_0:
    return sizeof(core2_tq2_0);
  case CORE2_IQ4_XS:
    return sizeof(core2_iq4_xs);
  case CORE2_Q8_0:
    return sizeof(core2_q8_0);
  case CORE2_MXFP4:
    return sizeof(core2_mxfp4);
  case CORE2_Q4_K:
    return sizeof(core2_q4_K);
  case CORE2_Q5_K:
    return sizeof(core2_q5_K);
  default:
    return sizeof(core2_q6_K);
  }
}

CORE2_INLINE enum core2_type core2_activation(enum core2_type t) {
  return core2_is_super(t) ? CORE2_Q8_K : t == CORE2_Q4_1 || t == CORE2_Q5_1 ? CORE2_Q8_1 : CORE2_Q8_0;
}

// What is subtracted from the unsigned quants to give the weight.
CORE2_INLINE int core2_offset(enum core2_type t) {
  return t == CORE2_Q4_0                       ? 8
         : t == CORE2_Q5_0                     ? 16
         : t == CORE2_Q5_1                     ? 16 // only for the sake of int16: added again
         : t == CORE2_MXFP4                    ? 12
         : t == CORE2_Q6_K                     ? 32
         : t == CORE2_Q3_K                     ? 4
         : t == CORE2_Q2_0 || t == CORE2_TQ2_0 ? 1
                                               : 0;
}

// rows[] points at the chunk's first block in each of eight rows; n is the chunk's number of elements.
void core2_pack_panel(enum core2_type type, const char *const rows[CORE2_ROWS], int n, core2_panel *ret);
// column is q8_0, q8_1 or q8_K, as `type` (the weights' format) wants it. `alone`: for core2_gemv, else for core2_tile.
void core2_pack_column(enum core2_type type, const char *column, int n, int alone, core2_column *ret);

// One column times m rows; row i begins at rows + i * stride. Adds to out when `add` is set.
void core2_gemv(enum core2_type type, const char *rows, size_t stride, int m, int n, const core2_column *column,
                float *out, int add);

// The same for f16 and f32 matrices (gemmf.c); strides in elements.
typedef struct {
  int a_type, b_type;
  const char *a, *b;
  int64_t lda, ldb;
  float *c;
  int64_t ldc;
  int64_t row0, row1, columns, k;
} core2_float_job;
void core2_gemm_float(const core2_float_job *job);

struct core2_params { // the head of ggml_compute_params, unchanged since 2024
  int ith, nth;
};

// ggml's hook for matrix products. C (n columns of m floats, ldc apart) = A (m rows of k blocks) times B. Returns 0
// when the formats are not ours; then ggml goes on with dot products. Every thread of a graph calls it with its ith.
_Bool llamafile_sgemm(const struct core2_params *params, int64_t m, int64_t n, int64_t k, const void *A, int64_t lda,
                      const void *B, int64_t ldb, void *C, int64_t ldc, int Atype, int Btype, int Ctype);
