// Small SSSE3 helpers that every kernel shares.
#pragma once
#include <string.h>
#include <tmmintrin.h>
#include "blocks.h"

#define CORE2_INLINE static inline __attribute__((always_inline))

// Weights lie at odd addresses in a GGUF. Split half loads were tried instead and lost.
CORE2_INLINE __m128i core2_load16(const void *p) {
  return _mm_loadu_si128((const __m128i *)p);
}

CORE2_INLINE uint32_t core2_load4(const void *p) {
  uint32_t v;
  memcpy(&v, p, sizeof v);
  return v;
}

// Activations come through here so that deliberately broken builds (see tests/unit/engine) can spoil any kernel: one
// byte in sixteen gets the wrong bits that CORE2_BREAK_ON_PURPOSE names.
CORE2_INLINE __m128i core2_load_act(const void *p) {
#ifdef CORE2_BREAK_ON_PURPOSE
  const __m128i wrong = _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, CORE2_BREAK_ON_PURPOSE, 0, 0, 0, 0, 0, 0, 0, 0);
  return _mm_xor_si128(core2_load16(p), wrong);
#else
  return core2_load16(p);
#endif
}

CORE2_INLINE __m128 core2_load_floats(const float *p) {
#ifdef CORE2_BREAK_ON_PURPOSE
  return _mm_mul_ps(_mm_loadu_ps(p), _mm_setr_ps(1.0f, 1.0f, 0.75f, 1.0f));
#else
  return _mm_loadu_ps(p);
#endif
}

CORE2_INLINE float core2_hsum_ps(__m128 v) {
  v = _mm_add_ps(v, _mm_movehl_ps(v, v));
  return _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps(v, v, 1)));
}

CORE2_INLINE int32_t core2_hsum_epi32(__m128i v) {
  v = _mm_add_epi32(v, _mm_shuffle_epi32(v, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(v, _mm_shuffle_epi32(v, 0xb1)));
}

// Exact for every f16 including subnormals, infinities and NaNs.
CORE2_INLINE float core2_f16(uint16_t h) {
  union {
    uint32_t u;
    float f;
  } v;
  const uint32_t mag = h & 0x7fffu;
  if (mag - 0x400u < 0x7800u) {
    v.u = (mag << 13) + 0x38000000u;
  } else if (mag < 0x400u) {
    v.f = (float)mag * 0x1.0p-24f;
  } else {
    v.u = 0x7f800000u | (mag & 0x3ffu) << 13;
  }
  v.u |= (uint32_t)(h & 0x8000u) << 16;
  return v.f;
}

// Round to nearest even, as ggml does it.
CORE2_INLINE uint16_t core2_to_f16(float f) {
  union {
    float f;
    uint32_t u;
  } v = {.f = f};
  const uint32_t sign = v.u >> 16 & 0x8000u;
  const uint32_t mag = v.u & 0x7fffffffu;
  if (mag > 0x7f800000u)
    return (uint16_t)(sign | 0x7e00u);
  if (mag >= 0x477ff000u) // rounds to 65536 or more
    return (uint16_t)(sign | 0x7c00u);
  if (mag < 0x38800000u) { // subnormal in f16: let the adder do the rounding
    v.u = mag;
    v.f += 0.5f;
    return (uint16_t)(sign | (v.u - 0x3f000000u));
  }
  return (uint16_t)(sign | ((mag - 0x38000000u + 0xfffu + (mag >> 13 & 1u)) >> 13));
}

// Four f16 numbers, one in the low half of each 32-bit lane, exact for all of them. 13 operations.
CORE2_INLINE __m128 core2_f16x4_any(__m128i h) {
  const __m128i mag = _mm_and_si128(h, _mm_set1_epi32(0x7fff));
  const __m128i sign = _mm_slli_epi32(_mm_and_si128(h, _mm_set1_epi32(0x8000)), 16);
  const __m128i up = _mm_add_epi32(_mm_slli_epi32(mag, 13), _mm_set1_epi32(0x70000000));
  const __m128 normal = _mm_mul_ps(_mm_castsi128_ps(up), _mm_set1_ps(0x1.0p-112f));
  const __m128 subnormal = _mm_mul_ps(_mm_cvtepi32_ps(mag), _mm_set1_ps(0x1.0p-24f));
  const __m128 pick = _mm_castsi128_ps(_mm_cmplt_epi32(mag, _mm_set1_epi32(0x400)));
  const __m128 abs = _mm_or_ps(_mm_and_ps(pick, subnormal), _mm_andnot_ps(pick, normal));
  return _mm_or_ps(abs, _mm_castsi128_ps(sign));
}

// Whether every f16 in the eight 16-bit lanes is normal; then the two cheap conversions below are exact.
CORE2_INLINE int core2_all_normal(__m128i h) {
  const __m128i mag = _mm_and_si128(h, _mm_set1_epi16(0x7fff));
  const __m128i low = _mm_cmplt_epi16(mag, _mm_set1_epi16(0x400));
  const __m128i high = _mm_cmpgt_epi16(mag, _mm_set1_epi16(0x7bff));
  return _mm_movemask_epi8(_mm_or_si128(low, high)) == 0;
}

CORE2_INLINE __m128 core2_f16x4_high_normal(__m128i v) {
  const __m128i m = _mm_and_si128(_mm_srai_epi32(v, 3), _mm_set1_epi32((int)0x8fffe000u));
  return _mm_castsi128_ps(_mm_add_epi32(m, _mm_set1_epi32(0x38000000)));
}

CORE2_INLINE __m128 core2_f16x4_low_normal(__m128i v) {
  return core2_f16x4_high_normal(_mm_slli_epi32(v, 16));
}

// Eight f16 in a row: the bits moved into place, then one multiplication that corrects the exponent. Exact for every
// finite number; subnormals cost time on some processors but, unlike zeros, are rare in caches and activations.
CORE2_INLINE __m128 core2_f16x4_scaled(__m128i high_halves) {
  const __m128i m = _mm_and_si128(_mm_srai_epi32(high_halves, 3), _mm_set1_epi32((int)0x8fffe000u));
  return _mm_mul_ps(_mm_castsi128_ps(m), _mm_set1_ps(0x1.0p112f));
}

CORE2_INLINE void core2_f16x8(const uint16_t *p, __m128 *ret_first, __m128 *ret_second) {
  const __m128i h = core2_load_act(p);
  *ret_first = core2_f16x4_scaled(_mm_unpacklo_epi16(_mm_setzero_si128(), h));
  *ret_second = core2_f16x4_scaled(_mm_unpackhi_epi16(_mm_setzero_si128(), h));
}

// Lanes hold (low f16, high f16): the scale pairs of four blocks.
CORE2_INLINE void core2_f16x4_pair(__m128i v, __m128 *ret_low, __m128 *ret_high) {
  if (__builtin_expect(core2_all_normal(v), 1)) {
    *ret_low = core2_f16x4_low_normal(v);
    *ret_high = core2_f16x4_high_normal(v);
  } else {
    *ret_low = core2_f16x4_any(_mm_and_si128(v, _mm_set1_epi32(0xffff)));
    *ret_high = core2_f16x4_any(_mm_srli_epi32(v, 16));
  }
}

CORE2_INLINE __m128 core2_f16x4_low(__m128i v) {
  v = _mm_slli_epi32(v, 16);
  if (__builtin_expect(core2_all_normal(_mm_or_si128(v, _mm_set1_epi32(0x3c00))), 1))
    return core2_f16x4_high_normal(v);
  return core2_f16x4_any(_mm_srli_epi32(v, 16));
}

// The first four bytes of four blocks.
CORE2_INLINE __m128i core2_gather4(const char *a, const char *b, const char *c, const char *d) {
  const __m128i ab = _mm_unpacklo_epi32(_mm_cvtsi32_si128((int)core2_load4(a)), _mm_cvtsi32_si128((int)core2_load4(b)));
  const __m128i cd = _mm_unpacklo_epi32(_mm_cvtsi32_si128((int)core2_load4(c)), _mm_cvtsi32_si128((int)core2_load4(d)));
  return _mm_unpacklo_epi64(ab, cd);
}

// Adds up four vectors of eight int16 each. The four inputs' pairwise sums must fit int16 (four lanes are added).
CORE2_INLINE __m128i core2_sum4_epi16(__m128i a, __m128i b, __m128i c, __m128i d) {
  const __m128i ab = _mm_add_epi16(_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b));
  const __m128i cd = _mm_add_epi16(_mm_unpacklo_epi32(c, d), _mm_unpackhi_epi32(c, d));
  const __m128i all = _mm_add_epi16(_mm_unpacklo_epi64(ab, cd), _mm_unpackhi_epi64(ab, cd));
  return _mm_madd_epi16(all, _mm_set1_epi16(1));
}

CORE2_INLINE __m128i core2_sum4_epi32(__m128i a, __m128i b, __m128i c, __m128i d) {
  const __m128i ab = _mm_add_epi32(_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b));
  const __m128i cd = _mm_add_epi32(_mm_unpacklo_epi32(c, d), _mm_unpackhi_epi32(c, d));
  return _mm_add_epi32(_mm_unpacklo_epi64(ab, cd), _mm_unpackhi_epi64(ab, cd));
}
