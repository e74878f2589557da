// Unpacking of superblock parts, shared by the dot products and the GEMM's packing.
#pragma once
#include "simd.h"

// Eight 6-bit scales and eight 6-bit minima as int16.
CORE2_INLINE void core2_unpack_kscales(const uint8_t *packed, __m128i *ret_scales, __m128i *ret_minima) {
  const uint32_t a = core2_load4(packed), b = core2_load4(packed + 4), c = core2_load4(packed + 8);
  const uint32_t m6 = 0x3f3f3f3fu, m4 = 0x0f0f0f0fu, m2 = 0x03030303u;
  const __m128i all = _mm_setr_epi32((int)(a & m6), (int)((c & m4) | (a >> 6 & m2) << 4), (int)(b & m6),
                                     (int)((c >> 4 & m4) | (b >> 6 & m2) << 4));
  *ret_scales = _mm_unpacklo_epi8(all, _mm_setzero_si128());
  *ret_minima = _mm_unpackhi_epi8(all, _mm_setzero_si128());
}

// Sixteen int8 scales as int16.
CORE2_INLINE void core2_unpack_q6_scales(const int8_t *scales, __m128i ret[2]) {
  const __m128i v = core2_load16(scales);
  ret[0] = _mm_srai_epi16(_mm_unpacklo_epi8(v, v), 8);
  ret[1] = _mm_srai_epi16(_mm_unpackhi_epi8(v, v), 8);
}

// Scale i of eight, from vectors that hold each twice (low: 0 to 3, high: 4 to 7), in every lane as pmaddwd wants it.
// A switch, because the instruction takes a constant and i is one only after unrolling.
CORE2_INLINE __m128i core2_pair(__m128i low, __m128i high, int i) {
  const __m128i v = i < 4 ? low : high;
  switch (i & 3) {
  case 0:
    return _mm_shuffle_epi32(v, 0x00);
  case 1:
    return _mm_shuffle_epi32(v, 0x55);
  case 2:
    return _mm_shuffle_epi32(v, 0xaa);
  default:
    return _mm_shuffle_epi32(v, 0xff);
  }
}

// Elements 16 g .. 16 g + 15 of a half superblock (128 elements), 0..63.
CORE2_INLINE __m128i core2_group_q6(const uint8_t *ql, const uint8_t *qh, int g) {
  __m128i low = core2_load16(ql + 16 * (g & 3));
  if (g >= 4)
    low = _mm_srli_epi16(low, 4);
  low = _mm_and_si128(low, _mm_set1_epi8(15));
  const int shift = g / 2 * 2; // of the two bits within a byte of qh
  __m128i high = core2_load16(qh + 16 * (g & 1));
  high = _mm_and_si128(high, _mm_set1_epi8((char)(3 << shift)));
  if (shift < 4)
    high = _mm_slli_epi16(high, 4 - shift);
  else if (shift > 4)
    high = _mm_srli_epi16(high, shift - 4);
  return _mm_or_si128(low, high);
}

// Formats whose scales are for 16 elements each, besides q6_K: q2_K, q3_K and, with scales of one, tq2_0.
// Elements 16 i .. 16 i + 15 of a superblock, as unsigned bytes.
CORE2_INLINE __m128i core2_group_two_bits(const uint8_t *qs, int i) {
  const __m128i v = core2_load16(qs + 32 * (i / 8) + 16 * (i & 1));
  return _mm_and_si128(_mm_srli_epi16(v, i / 2 % 4 * 2), _mm_set1_epi8(3));
}

CORE2_INLINE __m128i core2_group_q3(const core2_q3_K *x, int i) {
  const __m128i bit = _mm_set1_epi8((char)(1 << (i / 2)));
  const __m128i high = _mm_and_si128(core2_load16(x->hmask + 16 * (i & 1)), bit);
  return _mm_or_si128(core2_group_two_bits(x->qs, i), _mm_and_si128(_mm_cmpeq_epi8(high, bit), _mm_set1_epi8(4)));
}

CORE2_INLINE __m128i core2_group16(enum core2_type t, const char *block, int i) {
  switch (t) {
  case CORE2_Q2_K:
    return core2_group_two_bits(((const core2_q2_K *)block)->qs, i);
  case CORE2_Q3_K:
    return core2_group_q3((const core2_q3_K *)block, i);
  case CORE2_TQ2_0:
    return core2_group_two_bits(((const core2_tq2_0 *)block)->qs, i);
  default: {
    const core2_q6_K *x = (const core2_q6_K *)block;
    return core2_group_q6(x->ql + 64 * (i / 8), x->qh + 32 * (i / 8), i % 8);
  }
  }
}

// Their sixteen scales as int16, and the minima of q2_K.
CORE2_INLINE void core2_scales16(enum core2_type t, const char *block, __m128i ret[2], __m128i ret_minima[2]) {
  const __m128i zero = _mm_setzero_si128(), mask = _mm_set1_epi8(15);
  if (t == CORE2_Q6_K) {
    core2_unpack_q6_scales(((const core2_q6_K *)block)->scales, ret);
  } else if (t == CORE2_TQ2_0) {
    ret[0] = ret[1] = _mm_set1_epi16(1);
  } else if (t == CORE2_Q2_K) {
    const __m128i v = core2_load16(((const core2_q2_K *)block)->scales);
    const __m128i low = _mm_and_si128(v, mask), high = _mm_and_si128(_mm_srli_epi16(v, 4), mask);
    ret[0] = _mm_unpacklo_epi8(low, zero);
    ret[1] = _mm_unpackhi_epi8(low, zero);
    ret_minima[0] = _mm_unpacklo_epi8(high, zero);
    ret_minima[1] = _mm_unpackhi_epi8(high, zero);
  } else {
    const uint8_t *p = ((const core2_q3_K *)block)->scales;
    const uint32_t a = core2_load4(p), b = core2_load4(p + 4), c = core2_load4(p + 8);
    const uint32_t m4 = 0x0f0f0f0fu, m2 = 0x03030303u;
    const __m128i v =
        _mm_setr_epi32((int)((a & m4) | (c & m2) << 4), (int)((b & m4) | (c >> 2 & m2) << 4),
                       (int)((a >> 4 & m4) | (c >> 4 & m2) << 4), (int)((b >> 4 & m4) | (c >> 6 & m2) << 4));
    const __m128i less = _mm_set1_epi16(32);
    ret[0] = _mm_sub_epi16(_mm_unpacklo_epi8(v, zero), less);
    ret[1] = _mm_sub_epi16(_mm_unpackhi_epi8(v, zero), less);
  }
}

CORE2_INLINE float core2_scale_of_super(enum core2_type t, const char *block) {
  return core2_f16(t == CORE2_Q2_K    ? ((const core2_q2_K *)block)->d
                   : t == CORE2_Q3_K  ? ((const core2_q3_K *)block)->d
                   : t == CORE2_TQ2_0 ? ((const core2_tq2_0 *)block)->d
                                      : ((const core2_q6_K *)block)->d);
}

// Scale j (0 to 7) of an iq4_xs block.
CORE2_INLINE int core2_scale_iq4_xs(const core2_iq4_xs *x, int j) {
  return ((x->scales_l[j / 2] >> 4 * (j & 1) & 15) | (x->scales_h >> 2 * j & 3) << 4) - 32;
}
