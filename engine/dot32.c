// Dot products of one row for the formats with blocks of 32: q4_0, q4_1, q5_0, q5_1, q8_0, iq4_nl, mxfp4; and q2_0.
// Four blocks at a time: their int16 sums are folded into one vector of four int32, so that the float work
// (convert, scale, add) is paid once per 128 products, and the four scales are converted together.
#include "dot.h"
#include "pairs.h"

enum fmt { Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL, MXFP4 };

CORE2_INLINE int has_minimum(enum fmt f) {
  return f == Q4_1 || f == Q5_1;
}

// Whose products come widened to int32.
CORE2_INLINE int is_wide(enum fmt f) {
  return f == Q5_1 || f == Q8_0 || f == IQ4_NL;
}

CORE2_INLINE size_t weight_size(enum fmt f) {
  return f == Q4_0     ? sizeof(core2_q4_0)
         : f == Q4_1   ? sizeof(core2_q4_1)
         : f == Q5_0   ? sizeof(core2_q5_0)
         : f == Q5_1   ? sizeof(core2_q5_1)
         : f == Q8_0   ? sizeof(core2_q8_0)
         : f == IQ4_NL ? sizeof(core2_iq4_nl)
                       : sizeof(core2_mxfp4);
}

CORE2_INLINE size_t act_size(enum fmt f) {
  return has_minimum(f) ? sizeof(core2_q8_1) : sizeof(core2_q8_0);
}

CORE2_INLINE __m128i pairs(enum fmt f, const void *x, const int8_t *y) {
  return f == Q4_0     ? core2_pairs_q4_0(x, y)
         : f == Q4_1   ? core2_pairs_q4_1(x, y)
         : f == Q5_0   ? core2_pairs_q5_0(x, y)
         : f == Q5_1   ? core2_quads_q5_1(x, y)
         : f == Q8_0   ? core2_quads_q8_0(x, y)
         : f == IQ4_NL ? core2_quads_iq4_nl(x, y)
                       : core2_pairs_mxfp4(x, y);
}

CORE2_INLINE __m128 scale4(enum fmt f, const char *x, const char *y, __m128 *ret_min) {
  const size_t xs = weight_size(f), ys = act_size(f);
  if (has_minimum(f)) {
    __m128 dx, mx, dy, sy;
    core2_f16x4_pair(core2_gather4(x, x + xs, x + 2 * xs, x + 3 * xs), &dx, &mx);
    core2_f16x4_pair(core2_gather4(y, y + ys, y + 2 * ys, y + 3 * ys), &dy, &sy);
    *ret_min = _mm_mul_ps(mx, sy);
    return _mm_mul_ps(dx, dy);
  }
  const __m128 dy = core2_f16x4_low(core2_gather4(y, y + ys, y + 2 * ys, y + 3 * ys));
  if (f == MXFP4) {
    const __m128 dx = _mm_setr_ps(core2_e8m0_half((uint8_t)x[0]), core2_e8m0_half((uint8_t)x[xs]),
                                  core2_e8m0_half((uint8_t)x[2 * xs]), core2_e8m0_half((uint8_t)x[3 * xs]));
    return _mm_mul_ps(dx, dy);
  }
  return _mm_mul_ps(core2_f16x4_low(core2_gather4(x, x + xs, x + 2 * xs, x + 3 * xs)), dy);
}

CORE2_INLINE float one_block(enum fmt f, const char *x, const char *y) {
  const __m128i p = pairs(f, x, (const int8_t *)y + (has_minimum(f) ? 4 : 2));
  const int32_t sum = core2_hsum_epi32(is_wide(f) ? p : _mm_madd_epi16(p, _mm_set1_epi16(1)));
  const float dy = core2_f16((uint16_t)core2_load4(y));
  if (f == MXFP4)
    return core2_e8m0_half((uint8_t)x[0]) * dy * (float)sum;
  const uint32_t dm = core2_load4(x);
  const float scaled = core2_f16((uint16_t)dm) * dy * (float)sum;
  return has_minimum(f) ? scaled + core2_f16((uint16_t)(dm >> 16)) * core2_f16((uint16_t)(core2_load4(y) >> 16))
                        : scaled;
}

CORE2_INLINE void dot32(enum fmt f, int n, float *s, const char *x, const char *y) {
  const size_t xs = weight_size(f), ys = act_size(f);
  const size_t q = has_minimum(f) ? 4 : 2; // where an activation block's bytes begin
  __m128 acc = _mm_setzero_ps();
  __m128 mins = _mm_setzero_ps();
  int i = n / 32;
  for (; i >= 4; i -= 4, x += 4 * xs, y += 4 * ys) {
    const __m128i a = pairs(f, x, (const int8_t *)(y + q));
    const __m128i b = pairs(f, x + xs, (const int8_t *)(y + ys + q));
    const __m128i c = pairs(f, x + 2 * xs, (const int8_t *)(y + 2 * ys + q));
    const __m128i d = pairs(f, x + 3 * xs, (const int8_t *)(y + 3 * ys + q));
    const __m128i sums = is_wide(f) ? core2_sum4_epi32(a, b, c, d) : core2_sum4_epi16(a, b, c, d);
    __m128 min = _mm_setzero_ps();
    const __m128 scale = scale4(f, x, y, &min);
    acc = _mm_add_ps(acc, _mm_mul_ps(_mm_cvtepi32_ps(sums), scale));
    if (has_minimum(f))
      mins = _mm_add_ps(mins, min);
  }
  float sum = core2_hsum_ps(has_minimum(f) ? _mm_add_ps(acc, mins) : acc);
  for (; i > 0; i--, x += xs, y += ys)
    sum += one_block(f, x, y);
  *s = sum;
}

#define DEFINE_DOT(name, format)                                                                                       \
  CORE2_EXPORT void name(int n, float *s, size_t bs, const void *x, size_t bx, const void *y, size_t by, int nrc) {    \
    (void)bs, (void)bx, (void)by, (void)nrc;                                                                           \
    dot32(format, n, s, x, y);                                                                                         \
  }

DEFINE_DOT(ggml_vec_dot_q4_0_q8_0, Q4_0)
DEFINE_DOT(ggml_vec_dot_q4_1_q8_1, Q4_1)
DEFINE_DOT(ggml_vec_dot_q5_0_q8_0, Q5_0)
DEFINE_DOT(ggml_vec_dot_q8_0_q8_0, Q8_0)
DEFINE_DOT(ggml_vec_dot_mxfp4_q8_0, MXFP4)
DEFINE_DOT(ggml_vec_dot_q5_1_q8_1, Q5_1)
DEFINE_DOT(ggml_vec_dot_iq4_nl_q8_0, IQ4_NL)

// Blocks of 64 against two blocks of activations; two of them make the four sums that are folded into one vector.
CORE2_EXPORT void ggml_vec_dot_q2_0_q8_0(int n, float *s, size_t bs, const void *vx, size_t bx, const void *vy,
                                         size_t by, int nrc) {
  (void)bs, (void)bx, (void)by, (void)nrc;
  const core2_q2_0 *x = vx;
  const core2_q8_0 *y = vy;
  __m128 acc = _mm_setzero_ps();
  int i = n / 64;
  for (; i >= 2; i -= 2, x += 2, y += 4) {
    const __m128i sums = core2_sum4_epi16(core2_pairs_q2_0(x[0].qs, y[0].qs), core2_pairs_q2_0(x[0].qs + 8, y[1].qs),
                                          core2_pairs_q2_0(x[1].qs, y[2].qs), core2_pairs_q2_0(x[1].qs + 8, y[3].qs));
    const char *a = (const char *)x, *b = (const char *)y;
    const size_t step = sizeof *y;
    const __m128 dx = core2_f16x4_low(core2_gather4(a, a, a + sizeof *x, a + sizeof *x));
    const __m128 dy = core2_f16x4_low(core2_gather4(b, b + step, b + 2 * step, b + 3 * step));
    acc = _mm_add_ps(acc, _mm_mul_ps(_mm_cvtepi32_ps(sums), _mm_mul_ps(dx, dy)));
  }
  float sum = core2_hsum_ps(acc);
  for (int h = 0; i > 0 && h < 2; h++) {
    const __m128i p = _mm_madd_epi16(core2_pairs_q2_0(x->qs + 8 * h, y[h].qs), _mm_set1_epi16(1));
    sum += core2_f16(x->d) * core2_f16(y[h].d) * (float)core2_hsum_epi32(p);
  }
  *s = sum;
}
