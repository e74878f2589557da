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
