// f32 and f16 dot products. Stock code without AVX does f16 through a 256 kB table that does not fit any L1 cache;
// here eight numbers are widened with shifts and one addition.
#include "dot.h"
#include "simd.h"

CORE2_EXPORT void ggml_vec_dot_f32(int n, float *s, size_t bs, const void *vx, size_t bx, const void *vy, size_t by,
                                   int nrc) {
  (void)bs, (void)bx, (void)by, (void)nrc;
  const float *x = vx, *y = vy;
  __m128 acc[4] = {_mm_setzero_ps(), _mm_setzero_ps(), _mm_setzero_ps(), _mm_setzero_ps()};
  int i = 0;
  for (; i + 16 <= n; i += 16)
    for (int j = 0; j < 4; j++)
      acc[j] = _mm_add_ps(acc[j], _mm_mul_ps(_mm_loadu_ps(x + i + 4 * j), core2_load_floats(y + i + 4 * j)));
  for (; i + 4 <= n; i += 4)
    acc[0] = _mm_add_ps(acc[0], _mm_mul_ps(_mm_loadu_ps(x + i), core2_load_floats(y + i)));
  float sum = core2_hsum_ps(_mm_add_ps(_mm_add_ps(acc[0], acc[1]), _mm_add_ps(acc[2], acc[3])));
  for (; i < n; i++)
    sum += x[i] * y[i];
  *s = sum;
}

CORE2_EXPORT void ggml_vec_dot_f16(int n, float *s, size_t bs, const void *vx, size_t bx, const void *vy, size_t by,
                                   int nrc) {
  (void)bs, (void)bx, (void)by, (void)nrc;
  const uint16_t *x = vx, *y = vy;
  __m128 acc[4] = {_mm_setzero_ps(), _mm_setzero_ps(), _mm_setzero_ps(), _mm_setzero_ps()};
  __m128 x0, x1, y0, y1;
  int i = 0;
  for (; i + 16 <= n; i += 16)
    for (int j = 0; j < 4; j += 2) {
      core2_f16x8(x + i + 4 * j, &x0, &x1);
      core2_f16x8(y + i + 4 * j, &y0, &y1);
      acc[j] = _mm_add_ps(acc[j], _mm_mul_ps(x0, y0));
      acc[j + 1] = _mm_add_ps(acc[j + 1], _mm_mul_ps(x1, y1));
    }
  for (; i + 8 <= n; i += 8) {
    core2_f16x8(x + i, &x0, &x1);
    core2_f16x8(y + i, &y0, &y1);
    acc[0] = _mm_add_ps(acc[0], _mm_mul_ps(x0, y0));
    acc[1] = _mm_add_ps(acc[1], _mm_mul_ps(x1, y1));
  }
  float sum = core2_hsum_ps(_mm_add_ps(_mm_add_ps(acc[0], acc[1]), _mm_add_ps(acc[2], acc[3])));
  for (; i < n; i++)
    sum += core2_f16(x[i]) * core2_f16(y[i]);
  *s = sum;
}
