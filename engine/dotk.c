// Dot products of one row for the superblock formats (256 elements) against q8_K activations.
// All sums inside a superblock are int32; float work is done once per 256 products. Offsets (the minima of q4_K and
// q5_K, the 32 of q6_K) are taken out with the sums of activations that q8_K carries.
#include "dot.h"
#include "kscales.h"
#include "pairs.h"

// Bit j of every byte, moved to bit 4; j is a constant once the loop is unrolled.
CORE2_INLINE __m128i high_bit(__m128i qh, int j) {
  const __m128i bit = _mm_and_si128(qh, _mm_set1_epi8((char)(1 << j)));
  return j <= 4 ? _mm_slli_epi16(bit, 4 - j) : _mm_srli_epi16(bit, j - 4);
}

// 32 elements with one scale: low or high nibbles of 32 bytes, plus bit j of qh for q5_K.
CORE2_INLINE __m128i sub32(const uint8_t *qs, const __m128i *qh, int j, const int8_t *y, __m128i scale) {
  const __m128i mask = _mm_set1_epi8(15);
  __m128i a = core2_load16(qs), b = core2_load16(qs + 16);
  if (j & 1) {
    a = _mm_srli_epi16(a, 4);
    b = _mm_srli_epi16(b, 4);
  }
  a = _mm_and_si128(a, mask);
  b = _mm_and_si128(b, mask);
  if (qh) {
    a = _mm_or_si128(a, high_bit(qh[0], j));
    b = _mm_or_si128(b, high_bit(qh[1], j));
  }
  const __m128i p =
      _mm_add_epi16(_mm_maddubs_epi16(a, core2_load_act(y)), _mm_maddubs_epi16(b, core2_load_act(y + 16)));
  return _mm_madd_epi16(p, scale);
}

CORE2_INLINE void dot_with_minima(int five, int n, float *s, const char *x, const core2_q8_K *y) {
  __m128 acc = _mm_setzero_ps();
  for (int i = 0; i < n / 256; i++, y++, x += five ? sizeof(core2_q5_K) : sizeof(core2_q4_K)) {
    const uint8_t *qs = (const uint8_t *)x + (five ? offsetof(core2_q5_K, qs) : offsetof(core2_q4_K, qs));
    const __m128i qh[2] = {five ? core2_load16(x + offsetof(core2_q5_K, qh)) : _mm_setzero_si128(),
                           five ? core2_load16(x + offsetof(core2_q5_K, qh) + 16) : _mm_setzero_si128()};
    __m128i scales, minima;
    core2_unpack_kscales((const uint8_t *)x + 4, &scales, &minima);
    const __m128i low = _mm_unpacklo_epi16(scales, scales);
    const __m128i high = _mm_unpackhi_epi16(scales, scales);
    __m128i sum = _mm_setzero_si128();
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++)
      sum = _mm_add_epi32(sum, sub32(qs + 32 * (j / 2), five ? qh : NULL, j, y->qs + 32 * j, core2_pair(low, high, j)));
    const __m128i sums_of_32 = _mm_hadd_epi16(core2_load16(y->bsums), core2_load16(y->bsums + 8));
    const uint32_t dm = core2_load4(x);
    const float d = core2_f16((uint16_t)dm) * y->d;
    const float dmin = core2_f16((uint16_t)(dm >> 16)) * y->d;
    acc = _mm_add_ps(acc, _mm_mul_ps(_mm_set1_ps(d), _mm_cvtepi32_ps(sum)));
    acc = _mm_sub_ps(acc, _mm_mul_ps(_mm_set1_ps(dmin), _mm_cvtepi32_ps(_mm_madd_epi16(minima, sums_of_32))));
  }
  *s = core2_hsum_ps(acc);
}

CORE2_EXPORT void ggml_vec_dot_q4_K_q8_K(int n, float *s, size_t bs, const void *x, size_t bx, const void *y, size_t by,
                                         int nrc) {
  (void)bs, (void)bx, (void)by, (void)nrc;
  dot_with_minima(0, n, s, x, y);
}

CORE2_EXPORT void ggml_vec_dot_q5_K_q8_K(int n, float *s, size_t bs, const void *x, size_t bx, const void *y, size_t by,
                                         int nrc) {
  (void)bs, (void)bx, (void)by, (void)nrc;
  dot_with_minima(1, n, s, x, y);
}

// 128 elements of q6_K: eight groups of 16, each with its own scale.
CORE2_INLINE __m128i half_q6(const uint8_t *ql, const uint8_t *qh, const int8_t *y, __m128i scales) {
  const __m128i low = _mm_unpacklo_epi16(scales, scales);
  const __m128i high = _mm_unpackhi_epi16(scales, scales);
  __m128i sum = _mm_setzero_si128();
#pragma GCC unroll 8
  for (int g = 0; g < 8; g++)
    sum = _mm_add_epi32(sum, _mm_madd_epi16(_mm_maddubs_epi16(core2_group_q6(ql, qh, g), core2_load_act(y + 16 * g)),
                                            core2_pair(low, high, g)));
  return sum;
}

CORE2_EXPORT void ggml_vec_dot_q6_K_q8_K(int n, float *s, size_t bs, const void *vx, size_t bx, const void *vy,
                                         size_t by, int nrc) {
  (void)bs, (void)bx, (void)by, (void)nrc;
  const core2_q6_K *x = vx;
  const core2_q8_K *y = vy;
  __m128 acc = _mm_setzero_ps();
  for (int i = 0; i < n / 256; i++) {
    __m128i scales[2];
    core2_unpack_q6_scales(x[i].scales, scales);
    const __m128i a = half_q6(x[i].ql, x[i].qh, y[i].qs, scales[0]);
    const __m128i b = half_q6(x[i].ql + 64, x[i].qh + 32, y[i].qs + 128, scales[1]);
    const __m128i offset = _mm_add_epi32(_mm_madd_epi16(scales[0], core2_load16(y[i].bsums)),
                                         _mm_madd_epi16(scales[1], core2_load16(y[i].bsums + 8)));
    const __m128i sum = _mm_sub_epi32(_mm_add_epi32(a, b), _mm_slli_epi32(offset, 5));
    acc = _mm_add_ps(acc, _mm_mul_ps(_mm_set1_ps(core2_f16(x[i].d) * y[i].d), _mm_cvtepi32_ps(sum)));
  }
  *s = core2_hsum_ps(acc);
}

// q2_K, q3_K, tq2_0: sixteen groups of 16, and what their offset adds taken out with the sums of activations.
CORE2_INLINE void dot_groups(enum core2_type t, size_t size, int offset, int n, float *s, const char *x,
                             const core2_q8_K *y) {
  __m128 acc = _mm_setzero_ps();
  for (int i = 0; i < n / 256; i++, y++, x += size) {
    __m128i scales[2], minima[2] = {_mm_setzero_si128(), _mm_setzero_si128()};
    __m128i sum = _mm_setzero_si128();
    core2_scales16(t, x, scales, minima);
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
      const __m128i low = _mm_unpacklo_epi16(scales[h], scales[h]), high = _mm_unpackhi_epi16(scales[h], scales[h]);
#pragma GCC unroll 8
      for (int g = 0; g < 8; g++) {
        const __m128i p = _mm_maddubs_epi16(core2_group16(t, x, 8 * h + g), core2_load_act(y->qs + 128 * h + 16 * g));
        sum = _mm_add_epi32(sum, _mm_madd_epi16(p, core2_pair(low, high, g)));
      }
    }
    const __m128i sums[2] = {core2_load16(y->bsums), core2_load16(y->bsums + 8)};
    if (offset) {
      const __m128i all = _mm_add_epi32(_mm_madd_epi16(scales[0], sums[0]), _mm_madd_epi16(scales[1], sums[1]));
      sum = _mm_sub_epi32(sum, offset == 4 ? _mm_slli_epi32(all, 2) : all);
    }
    const float d = core2_scale_of_super(t, x) * y->d;
    acc = _mm_add_ps(acc, _mm_mul_ps(_mm_set1_ps(d), _mm_cvtepi32_ps(sum)));
    if (t == CORE2_Q2_K) {
      const __m128i all = _mm_add_epi32(_mm_madd_epi16(minima[0], sums[0]), _mm_madd_epi16(minima[1], sums[1]));
      const float dmin = core2_f16(((const core2_q2_K *)x)->dmin) * y->d;
      acc = _mm_sub_ps(acc, _mm_mul_ps(_mm_set1_ps(dmin), _mm_cvtepi32_ps(all)));
    }
  }
  *s = core2_hsum_ps(acc);
}

CORE2_EXPORT void ggml_vec_dot_q2_K_q8_K(int n, float *s, size_t bs, const void *x, size_t bx, const void *y, size_t by,
                                         int nrc) {
  (void)bs, (void)bx, (void)by, (void)nrc;
  dot_groups(CORE2_Q2_K, sizeof(core2_q2_K), 0, n, s, x, y);
}

CORE2_EXPORT void ggml_vec_dot_q3_K_q8_K(int n, float *s, size_t bs, const void *x, size_t bx, const void *y, size_t by,
                                         int nrc) {
  (void)bs, (void)bx, (void)by, (void)nrc;
  dot_groups(CORE2_Q3_K, sizeof(core2_q3_K), 4, n, s, x, y);
}

CORE2_EXPORT void ggml_vec_dot_tq2_0_q8_K(int n, float *s, size_t bs, const void *x, size_t bx, const void *y,
                                          size_t by, int nrc) {
  (void)bs, (void)bx, (void)by, (void)nrc;
  dot_groups(CORE2_TQ2_0, sizeof(core2_tq2_0), 1, n, s, x, y);
}

CORE2_EXPORT void ggml_vec_dot_iq4_xs_q8_K(int n, float *s, size_t bs, const void *vx, size_t bx, const void *vy,
                                           size_t by, int nrc) {
  (void)bs, (void)bx, (void)by, (void)nrc;
  const core2_iq4_xs *x = vx;
  const core2_q8_K *y = vy;
  __m128 acc = _mm_setzero_ps();
  for (int i = 0; i < n / 256; i++, x++, y++) {
    __m128i sum = _mm_setzero_si128();
    for (int j = 0; j < 8; j++) {
      __m128i w0, w1;
      core2_unpack_iq4(x->qs + 16 * j, &w0, &w1);
      const __m128i scale = _mm_set1_epi16((short)core2_scale_iq4_xs(x, j));
      sum = _mm_add_epi32(sum, core2_quads_signed(w0, w1, y->qs + 32 * j, scale));
    }
    acc = _mm_add_ps(acc, _mm_mul_ps(_mm_set1_ps(core2_f16(x->d) * y->d), _mm_cvtepi32_ps(sum)));
  }
  *s = core2_hsum_ps(acc);
}
