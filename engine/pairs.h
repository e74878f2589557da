// Products of one block of 32 weights with 32 activations, as eight int16 whose sum is the block's integer dot
// product. Every lane holds four products, small enough that adding four lanes stays inside int16:
// 16 products of at most 15 * 127 (q4), 16 * 127 (q5), 12 * 127 (mxfp4). Offsets are subtracted modulo 2^16,
// which is exact because the true result fits.
#pragma once
#include "simd.h"

CORE2_INLINE void core2_nibbles(const void *p, __m128i *ret_low, __m128i *ret_high) {
  const __m128i v = core2_load16(p);
  const __m128i mask = _mm_set1_epi8(15);
  *ret_low = _mm_and_si128(v, mask);
  *ret_high = _mm_and_si128(_mm_srli_epi16(v, 4), mask);
}

CORE2_INLINE __m128i core2_pairs_u8(__m128i x0, __m128i x1, const int8_t *y) {
  return _mm_add_epi16(_mm_maddubs_epi16(x0, core2_load_act(y)), _mm_maddubs_epi16(x1, core2_load_act(y + 16)));
}

// The same with the weights meant as x - offset.
CORE2_INLINE __m128i core2_pairs_u8_offset(__m128i x0, __m128i x1, const int8_t *y, int offset) {
  const __m128i o = _mm_set1_epi8((char)offset);
  const __m128i y0 = core2_load_act(y);
  const __m128i y1 = core2_load_act(y + 16);
  const __m128i p = _mm_add_epi16(_mm_maddubs_epi16(x0, y0), _mm_maddubs_epi16(x1, y1));
  return _mm_sub_epi16(p, _mm_add_epi16(_mm_maddubs_epi16(o, y0), _mm_maddubs_epi16(o, y1)));
}

CORE2_INLINE __m128i core2_pairs_q4_0(const void *p, const int8_t *y) {
  const core2_q4_0 *x = p;
  __m128i x0, x1;
  core2_nibbles(x->qs, &x0, &x1);
  return core2_pairs_u8_offset(x0, x1, y, 8);
}

CORE2_INLINE __m128i core2_pairs_q4_1(const void *p, const int8_t *y) {
  const core2_q4_1 *x = p;
  __m128i x0, x1;
  core2_nibbles(x->qs, &x0, &x1);
  return core2_pairs_u8(x0, x1, y);
}

// 16 bits to 16 bytes of 0 or 16.
CORE2_INLINE __m128i core2_spread_bits(__m128i bits, int first_byte) {
  const __m128i lanes = _mm_set_epi32(0x01010101, 0x01010101, 0, 0);
  const __m128i each = _mm_shuffle_epi8(bits, _mm_add_epi8(lanes, _mm_set1_epi8((char)first_byte)));
  const __m128i pick = _mm_set1_epi64x((long long)0x8040201008040201ull);
  return _mm_and_si128(_mm_cmpeq_epi8(_mm_and_si128(each, pick), pick), _mm_set1_epi8(16));
}

CORE2_INLINE void core2_unpack_q5_0(const core2_q5_0 *x, __m128i *ret_low, __m128i *ret_high) {
  const __m128i bits = _mm_cvtsi32_si128((int)core2_load4(x->qh));
  __m128i x0, x1;
  core2_nibbles(x->qs, &x0, &x1);
  *ret_low = _mm_or_si128(x0, core2_spread_bits(bits, 0));
  *ret_high = _mm_or_si128(x1, core2_spread_bits(bits, 2));
}

CORE2_INLINE void core2_unpack_q5_1(const core2_q5_1 *x, __m128i *ret_low, __m128i *ret_high) {
  const __m128i bits = _mm_cvtsi32_si128((int)core2_load4(x->qh));
  __m128i x0, x1;
  core2_nibbles(x->qs, &x0, &x1);
  *ret_low = _mm_or_si128(x0, core2_spread_bits(bits, 0));
  *ret_high = _mm_or_si128(x1, core2_spread_bits(bits, 2));
}

CORE2_INLINE __m128i core2_pairs_q5_0(const void *p, const int8_t *y) {
  __m128i x0, x1;
  core2_unpack_q5_0(p, &x0, &x1);
  return core2_pairs_u8_offset(x0, x1, y, 16);
}

// E2M1 values doubled (0 .5 1 1.5 2 3 4 6 and their negatives), plus 12 to make them unsigned.
CORE2_INLINE void core2_unpack_mxfp4(const core2_mxfp4 *x, __m128i *ret_low, __m128i *ret_high) {
  const __m128i table = _mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0);
  __m128i x0, x1;
  core2_nibbles(x->qs, &x0, &x1);
  *ret_low = _mm_shuffle_epi8(table, x0);
  *ret_high = _mm_shuffle_epi8(table, x1);
}

CORE2_INLINE __m128i core2_pairs_mxfp4(const void *p, const int8_t *y) {
  __m128i x0, x1;
  core2_unpack_mxfp4(p, &x0, &x1);
  return core2_pairs_u8_offset(x0, x1, y, 12);
}

// The signed values of iq4_nl and iq4_xs.
CORE2_INLINE void core2_unpack_iq4(const uint8_t *qs, __m128i *ret_low, __m128i *ret_high) {
  const __m128i table = _mm_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);
  __m128i x0, x1;
  core2_nibbles(qs, &x0, &x1);
  *ret_low = _mm_shuffle_epi8(table, x0);
  *ret_high = _mm_shuffle_epi8(table, x1);
}

// 32 two-bit elements of q2_0 from eight bytes, in order: each nibble is looked up for its two elements.
CORE2_INLINE void core2_unpack_q2_0(const uint8_t *qs, __m128i *ret_low, __m128i *ret_high) {
  const __m128i first = _mm_setr_epi8(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3);
  const __m128i second = _mm_setr_epi8(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
  const __m128i v = _mm_loadl_epi64((const __m128i *)qs), mask = _mm_set1_epi8(15);
  const __m128i low = _mm_and_si128(v, mask), high = _mm_and_si128(_mm_srli_epi16(v, 4), mask);
  const __m128i ab = _mm_unpacklo_epi8(_mm_shuffle_epi8(first, low), _mm_shuffle_epi8(second, low));
  const __m128i cd = _mm_unpacklo_epi8(_mm_shuffle_epi8(first, high), _mm_shuffle_epi8(second, high));
  *ret_low = _mm_unpacklo_epi16(ab, cd);
  *ret_high = _mm_unpackhi_epi16(ab, cd);
}

CORE2_INLINE __m128i core2_pairs_q2_0(const uint8_t *qs, const int8_t *y) {
  __m128i x0, x1;
  core2_unpack_q2_0(qs, &x0, &x1);
  return core2_pairs_u8_offset(x0, x1, y, 1);
}

// 31 * 127 a product: sixteen of them do not fit int16, so q5_1 is widened at once.
CORE2_INLINE __m128i core2_quads_q5_1(const void *p, const int8_t *y) {
  __m128i x0, x1;
  core2_unpack_q5_1(p, &x0, &x1);
  return _mm_madd_epi16(core2_pairs_u8(x0, x1, y), _mm_set1_epi16(1));
}

// q8_0 fills int16 with two products, so it widens at once: four int32 whose sum is the dot product.
// Correct for every weight; the activation -128 would flip its sign wrongly, but no quantiser writes it.
CORE2_INLINE __m128i core2_quads_signed(__m128i x0, __m128i x1, const int8_t *y, __m128i scale) {
  const __m128i p0 = _mm_maddubs_epi16(_mm_abs_epi8(x0), _mm_sign_epi8(core2_load_act(y), x0));
  const __m128i p1 = _mm_maddubs_epi16(_mm_abs_epi8(x1), _mm_sign_epi8(core2_load_act(y + 16), x1));
  return _mm_add_epi32(_mm_madd_epi16(p0, scale), _mm_madd_epi16(p1, scale));
}

CORE2_INLINE __m128i core2_quads_q8_0(const void *p, const int8_t *y) {
  const core2_q8_0 *x = p;
  return core2_quads_signed(core2_load16(x->qs), core2_load16(x->qs + 16), y, _mm_set1_epi16(1));
}

CORE2_INLINE __m128i core2_quads_iq4_nl(const void *p, const int8_t *y) {
  __m128i x0, x1;
  core2_unpack_iq4(((const core2_iq4_nl *)p)->qs, &x0, &x1);
  return core2_quads_signed(x0, x1, y, _mm_set1_epi16(1));
}

// The scale of an mxfp4 block, halved because the table is doubled.
CORE2_INLINE float core2_e8m0_half(uint8_t e) {
  union {
    uint32_t u;
    float f;
  } v = {.u = e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23};
  return v.f;
}
