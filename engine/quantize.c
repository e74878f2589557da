// Activations to q8_0, q8_1 and q8_K, bit for bit what ggml's portable reference writes.
#include "dot.h"
#include "simd.h"

CORE2_INLINE __m128 abs_ps(__m128 v) {
  return _mm_and_ps(v, _mm_castsi128_ps(_mm_set1_epi32(0x7fffffff)));
}

CORE2_INLINE float hmax_ps(__m128 v) {
  v = _mm_max_ps(v, _mm_movehl_ps(v, v));
  return _mm_cvtss_f32(_mm_max_ss(v, _mm_shuffle_ps(v, v, 1)));
}

// roundf: half away from zero. Adding the largest float below one half and cutting is exact for |v| < 2^22.
CORE2_INLINE __m128i round_away(__m128 v) {
  const __m128 sign = _mm_and_ps(v, _mm_castsi128_ps(_mm_set1_epi32((int)0x80000000u)));
  return _mm_cvttps_epi32(_mm_add_ps(v, _mm_or_ps(sign, _mm_set1_ps(0x1.fffffep-2f))));
}

// 32 floats to bytes; returns their sum. The block's scale is *ret_d.
CORE2_INLINE int32_t quantize32(const float *x, int8_t *q, float *ret_d, int want_sum) {
  __m128 v[8];
  for (int i = 0; i < 8; i++)
    v[i] = core2_load_floats(x + 4 * i);
  __m128 m = abs_ps(v[0]);
  for (int i = 1; i < 8; i++)
    m = _mm_max_ps(m, abs_ps(v[i]));
  const float d = hmax_ps(m) / 127.0f;
  const __m128 id = _mm_set1_ps(d != 0.0f ? 1.0f / d : 0.0f);
  __m128i w[4];
  for (int i = 0; i < 4; i++)
    w[i] = _mm_packs_epi32(round_away(_mm_mul_ps(v[2 * i], id)), round_away(_mm_mul_ps(v[2 * i + 1], id)));
  _mm_storeu_si128((__m128i *)q, _mm_packs_epi16(w[0], w[1]));
  _mm_storeu_si128((__m128i *)(q + 16), _mm_packs_epi16(w[2], w[3]));
  *ret_d = d;
  if (!want_sum)
    return 0;
  const __m128i all = _mm_add_epi16(_mm_add_epi16(w[0], w[1]), _mm_add_epi16(w[2], w[3]));
  return core2_hsum_epi32(_mm_madd_epi16(all, _mm_set1_epi16(1)));
}

CORE2_EXPORT void quantize_row_q8_0(const float *x, void *vy, int64_t k) {
  core2_q8_0 *y = vy;
  for (int64_t i = 0; i < k / 32; i++, x += 32) {
    float d;
    quantize32(x, y[i].qs, &d, 0);
    y[i].d = core2_to_f16(d);
  }
}

CORE2_EXPORT void quantize_row_q8_1(const float *x, void *vy, int64_t k) {
  core2_q8_1 *y = vy;
  for (int64_t i = 0; i < k / 32; i++, x += 32) {
    float d;
    const int32_t sum = quantize32(x, y[i].qs, &d, 1);
    y[i].d = core2_to_f16(d);
    y[i].s = core2_to_f16((float)sum * d);
  }
}

// The signed value of largest magnitude; of equal magnitudes the one that comes first decides the sign.
static float signed_max(const float *x) {
  __m128 m = abs_ps(_mm_loadu_ps(x));
  for (int i = 4; i < 256; i += 4)
    m = _mm_max_ps(m, abs_ps(_mm_loadu_ps(x + i)));
  const float amax = hmax_ps(m);
  const __m128 want = _mm_set1_ps(amax);
  for (int i = 0; i < 256; i += 4) {
    const int hit = _mm_movemask_ps(_mm_cmpeq_ps(abs_ps(_mm_loadu_ps(x + i)), want));
    if (hit)
      return x[i + (hit & 1 ? 0 : hit & 2 ? 1 : hit & 4 ? 2 : 3)];
  }
  return 0.0f;
}

CORE2_EXPORT void quantize_row_q8_K(const float *x, void *vy, int64_t k) {
  core2_q8_K *y = vy;
  for (int64_t i = 0; i < k / 256; i++, x += 256) {
    const float max = signed_max(x);
    if (max == 0.0f) { // the reference leaves bsums alone here; zeros are what a reader expects
      memset(&y[i], 0, sizeof y[i]);
      continue;
    }
    const float iscale = -127.0f / max;
    const __m128 scale = _mm_set1_ps(iscale);
    for (int j = 0; j < 16; j++) {
      const float *v = x + 16 * j;
      __m128i w[4];
      for (int l = 0; l < 4; l++)
        w[l] = _mm_cvtps_epi32(_mm_mul_ps(scale, core2_load_floats(v + 4 * l)));
      const __m128i lo = _mm_packs_epi32(w[0], w[1]);
      const __m128i hi = _mm_packs_epi32(w[2], w[3]);
      _mm_storeu_si128((__m128i *)(y[i].qs + 16 * j), _mm_packs_epi16(lo, hi));
      y[i].bsums[j] = (int16_t)core2_hsum_epi32(_mm_madd_epi16(_mm_add_epi16(lo, hi), _mm_set1_epi16(1)));
    }
    y[i].d = 1.0f / iscale;
  }
}
