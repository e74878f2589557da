// One column times many rows, straight from the GGUF's own layout: what decoding a single stream does.
// The column comes packed, so its scales are converted and its offsets summed once, not once per row.
#include "gemm.h"
#include "kscales.h"
#include "pairs.h"

CORE2_INLINE __m128i act(const int8_t *y) {
  return _mm_load_si128((const __m128i *)y);
}

// Sum of a block's products with the unsigned quants, as eight int16 (q8_0: four int32).
CORE2_INLINE __m128i products(enum core2_type t, const char *x, const int8_t *y) {
  __m128i low, high;
  switch (t) {
  case CORE2_Q4_0:
    core2_nibbles(((const core2_q4_0 *)x)->qs, &low, &high);
    break;
  case CORE2_Q4_1:
    core2_nibbles(((const core2_q4_1 *)x)->qs, &low, &high);
    break;
  case CORE2_Q5_0:
    core2_unpack_q5_0((const core2_q5_0 *)x, &low, &high);
    break;
  case CORE2_MXFP4:
    core2_unpack_mxfp4((const core2_mxfp4 *)x, &low, &high);
    break;
  default:
    low = core2_load16(((const core2_q8_0 *)x)->qs);
    high = core2_load16(((const core2_q8_0 *)x)->qs + 16);
    return _mm_add_epi32(
        _mm_madd_epi16(_mm_maddubs_epi16(_mm_abs_epi8(low), _mm_sign_epi8(act(y), low)), _mm_set1_epi16(1)),
        _mm_madd_epi16(_mm_maddubs_epi16(_mm_abs_epi8(high), _mm_sign_epi8(act(y + 16), high)), _mm_set1_epi16(1)));
  }
  return _mm_add_epi16(_mm_maddubs_epi16(low, act(y)), _mm_maddubs_epi16(high, act(y + 16)));
}

// Four vectors of eight int16 to four int32. Offsets are taken out while still modulo 2^16, where the result fits.
CORE2_INLINE __m128i fold(enum core2_type t, __m128i a, __m128i b, __m128i c, __m128i d, const int32_t *start) {
  if (t == CORE2_Q8_0)
    return core2_sum4_epi32(a, b, c, d);
  const __m128i ab = _mm_add_epi16(_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b));
  const __m128i cd = _mm_add_epi16(_mm_unpacklo_epi32(c, d), _mm_unpackhi_epi32(c, d));
  __m128i all = _mm_add_epi16(_mm_unpacklo_epi64(ab, cd), _mm_unpackhi_epi64(ab, cd));
  if (core2_offset(t))
    all = _mm_add_epi16(all, _mm_load_si128((const __m128i *)start));
  return _mm_madd_epi16(all, _mm_set1_epi16(1));
}

// Weights come from memory once per token, and a row's arithmetic is too long for the processor to look far ahead.
enum { AHEAD = 1024 };
CORE2_INLINE void prefetch(const char *x, size_t size) {
  for (size_t i = 0; i < size; i += 64)
    _mm_prefetch(x + AHEAD + i, _MM_HINT_NTA);
}

// Four blocks, of which the last may be repeated: the packed column is zero beyond its end.
CORE2_INLINE void four_blocks(enum core2_type t, const char *const x[4], const core2_column *c, int b, __m128 *acc,
                              __m128 *mins) {
  const int8_t *y = c->q + 32 * b;
  const __m128i sums = fold(t, products(t, x[0], y), products(t, x[1], y + 32), products(t, x[2], y + 64),
                            products(t, x[3], y + 96), c->b32.start + b);
  __m128 d, m;
  if (t == CORE2_MXFP4) {
    d = _mm_setr_ps(core2_e8m0_half((uint8_t)*x[0]), core2_e8m0_half((uint8_t)*x[1]), core2_e8m0_half((uint8_t)*x[2]),
                    core2_e8m0_half((uint8_t)*x[3]));
  } else {
    const __m128i dm = core2_gather4(x[0], x[1], x[2], x[3]);
    if (t == CORE2_Q4_1) {
      core2_f16x4_pair(dm, &d, &m);
      *mins = _mm_add_ps(*mins, _mm_mul_ps(m, _mm_load_ps(c->b32.s + b)));
    } else {
      d = core2_f16x4_low(dm);
    }
  }
  *acc = _mm_add_ps(*acc, _mm_mul_ps(_mm_cvtepi32_ps(sums), _mm_mul_ps(d, _mm_load_ps(c->b32.d + b))));
}

CORE2_INLINE float row32(enum core2_type t, const char *x, const core2_column *c, int n) {
  const size_t size = core2_block_size(t);
  const int blocks = n / 32;
  __m128 acc = _mm_setzero_ps(), mins = _mm_setzero_ps();
  int b = 0;
  for (; b + 4 <= blocks; b += 4, x += 4 * size) {
    const char *const four[4] = {x, x + size, x + 2 * size, x + 3 * size};
    prefetch(x, 4 * size);
    four_blocks(t, four, c, b, &acc, &mins);
  }
  if (b < blocks) {
    const char *const four[4] = {x, blocks - b > 1 ? x + size : x, blocks - b > 2 ? x + 2 * size : x, x};
    four_blocks(t, four, c, b, &acc, &mins);
  }
  return core2_hsum_ps(_mm_add_ps(acc, mins));
}

CORE2_INLINE __m128i super_with_minima(enum core2_type t, const char *x, const int8_t *y, __m128i scales) {
  const uint8_t *qs = (const uint8_t *)x + (t == CORE2_Q5_K ? offsetof(core2_q5_K, qs) : offsetof(core2_q4_K, qs));
  const __m128i low = _mm_unpacklo_epi16(scales, scales), high = _mm_unpackhi_epi16(scales, scales);
  const __m128i mask = _mm_set1_epi8(15), five = _mm_set1_epi8(16);
  __m128i sum = _mm_setzero_si128();
  __m128i h0 = t == CORE2_Q5_K ? core2_load16(x + offsetof(core2_q5_K, qh)) : sum;
  __m128i h1 = t == CORE2_Q5_K ? core2_load16(x + offsetof(core2_q5_K, qh) + 16) : sum;
#pragma GCC unroll 4
  for (int j = 0; j < 4; j++) {
    const __m128i v0 = core2_load16(qs + 32 * j), v1 = core2_load16(qs + 32 * j + 16);
    __m128i a0 = _mm_and_si128(v0, mask), a1 = _mm_and_si128(v1, mask);
    __m128i b0 = _mm_and_si128(_mm_srli_epi16(v0, 4), mask), b1 = _mm_and_si128(_mm_srli_epi16(v1, 4), mask);
    if (t == CORE2_Q5_K) { // bits 0 and 1 of h, which moves down by two each time
      a0 = _mm_or_si128(a0, _mm_and_si128(_mm_slli_epi16(h0, 4), five));
      a1 = _mm_or_si128(a1, _mm_and_si128(_mm_slli_epi16(h1, 4), five));
      b0 = _mm_or_si128(b0, _mm_and_si128(_mm_slli_epi16(h0, 3), five));
      b1 = _mm_or_si128(b1, _mm_and_si128(_mm_slli_epi16(h1, 3), five));
      h0 = _mm_srli_epi16(h0, 2);
      h1 = _mm_srli_epi16(h1, 2);
    }
    const int8_t *z = y + 64 * j;
    const __m128i p = _mm_add_epi16(_mm_maddubs_epi16(a0, act(z)), _mm_maddubs_epi16(a1, act(z + 16)));
    const __m128i q = _mm_add_epi16(_mm_maddubs_epi16(b0, act(z + 32)), _mm_maddubs_epi16(b1, act(z + 48)));
    sum = _mm_add_epi32(sum, _mm_madd_epi16(p, core2_pair(low, high, 2 * j)));
    sum = _mm_add_epi32(sum, _mm_madd_epi16(q, core2_pair(low, high, 2 * j + 1)));
  }
  return sum;
}

CORE2_INLINE __m128i super_q6(const core2_q6_K *x, const int8_t *y, const int16_t *sums_of_16) {
  __m128i scales[2];
  __m128i sum = _mm_setzero_si128();
  core2_unpack_q6_scales(x->scales, scales);
#pragma GCC unroll 2
  for (int h = 0; h < 2; h++) {
    const __m128i low = _mm_unpacklo_epi16(scales[h], scales[h]), high = _mm_unpackhi_epi16(scales[h], scales[h]);
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
      const __m128i p = _mm_maddubs_epi16(core2_group_q6(x->ql + 64 * h, x->qh + 32 * h, g), act(y + 128 * h + 16 * g));
      sum = _mm_add_epi32(sum, _mm_madd_epi16(p, core2_pair(low, high, g)));
    }
  }
  const __m128i offset = _mm_add_epi32(_mm_madd_epi16(scales[0], _mm_load_si128((const __m128i *)sums_of_16)),
                                       _mm_madd_epi16(scales[1], _mm_load_si128((const __m128i *)sums_of_16 + 1)));
  return _mm_sub_epi32(sum, _mm_slli_epi32(offset, 5));
}

CORE2_INLINE float row_super(enum core2_type t, const char *x, const core2_column *c, int n) {
  __m128 acc = _mm_setzero_ps();
  for (int b = 0; b < n / 256; b++, x += core2_block_size(t)) {
    const int8_t *y = c->q + 256 * b;
    prefetch(x, core2_block_size(t));
    if (t == CORE2_Q6_K) {
      const core2_q6_K *w = (const core2_q6_K *)x;
      const __m128 d = _mm_set1_ps(core2_f16(w->d) * c->k.d[b]);
      acc = _mm_add_ps(acc, _mm_mul_ps(d, _mm_cvtepi32_ps(super_q6(w, y, c->k.sums16[b]))));
      continue;
    }
    __m128i scales, minima;
    core2_unpack_kscales((const uint8_t *)x + 4, &scales, &minima);
    const uint32_t dm = core2_load4(x);
    const __m128 sum = _mm_cvtepi32_ps(super_with_minima(t, x, y, scales));
    const __m128 min = _mm_cvtepi32_ps(_mm_madd_epi16(minima, _mm_load_si128((const __m128i *)c->k.sums[b])));
    acc = _mm_add_ps(acc, _mm_mul_ps(_mm_set1_ps(core2_f16((uint16_t)dm) * c->k.d[b]), sum));
    acc = _mm_sub_ps(acc, _mm_mul_ps(_mm_set1_ps(core2_f16((uint16_t)(dm >> 16)) * c->k.d[b]), min));
  }
  return core2_hsum_ps(acc);
}

#define ROWS(type, row)                                                                                                \
  case type:                                                                                                           \
    for (int i = 0; i < m; i++, rows += stride)                                                                        \
      out[i] = row(type, rows, column, n) + (add ? out[i] : 0.0f);                                                     \
    break;

void core2_gemv(enum core2_type type, const char *rows, size_t stride, int m, int n, const core2_column *column,
                float *out, int add) {
  switch (type) {
    ROWS(CORE2_Q4_0, row32)
    ROWS(CORE2_Q4_1, row32)
    ROWS(CORE2_Q5_0, row32)
    ROWS(CORE2_Q8_0, row32)
    ROWS(CORE2_MXFP4, row32)
    ROWS(CORE2_Q4_K, row_super)
    ROWS(CORE2_Q5_K, row_super)
    ROWS(CORE2_Q6_K, row_super)
  default:
    break;
  }
}
