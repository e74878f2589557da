#include "tile.h"

// Element group kq (four elements) of 16 loaded ones, in every lane.
#define SPREAD(y, kq) _mm_shuffle_epi32(y, ((kq)&3) * 0x55)

// Adds 16 elements (four vectors per row group) into int16 accumulators.
CORE2_INLINE void step16(const __m128i *q, const int8_t *const y[], int at, int width, __m128i acc[2][CORE2_TILE]) {
  __m128i v[CORE2_TILE];
  for (int t = 0; t < width; t++)
    v[t] = _mm_load_si128((const __m128i *)(y[t] + at));
#define QUAD(kq)                                                                                                       \
  {                                                                                                                    \
    const __m128i w0 = q[2 * (kq)], w1 = q[2 * (kq) + 1];                                                              \
    for (int t = 0; t < width; t++) {                                                                                  \
      const __m128i b = SPREAD(v[t], kq);                                                                              \
      acc[0][t] = _mm_add_epi16(acc[0][t], _mm_maddubs_epi16(w0, b));                                                  \
      acc[1][t] = _mm_add_epi16(acc[1][t], _mm_maddubs_epi16(w1, b));                                                  \
    }                                                                                                                  \
  }
  QUAD(0)
  QUAD(1)
  QUAD(2)
  QUAD(3)
#undef QUAD
}

CORE2_INLINE void begin(__m128i acc[2][CORE2_TILE], const int32_t *const start[], int i, int width) {
  for (int t = 0; t < width; t++)
    acc[0][t] = acc[1][t] = start ? _mm_set1_epi32(start[t][i]) : _mm_setzero_si128();
}

// The minima's share of q4_1 and q5_1, in a loop of its own: inside the other one it would cost registers.
CORE2_INLINE void add_minima(const core2_panel *p, const core2_column *c, int blocks, int width,
                             __m128 out[2][CORE2_TILE]) {
  for (int b = 0; b < blocks; b++)
    for (int t = 0; t < width; t++) {
      const __m128 s = _mm_set1_ps(c[t].b32.s[b]);
      out[0][t] = _mm_add_ps(out[0][t], _mm_mul_ps(_mm_load_ps(p->b32.m[b]), s));
      out[1][t] = _mm_add_ps(out[1][t], _mm_mul_ps(_mm_load_ps(p->b32.m[b] + 4), s));
    }
}

CORE2_INLINE void tile32(enum core2_type type, const core2_panel *p, const core2_column *c, int n, int width,
                         float ret[CORE2_TILE][CORE2_ROWS]) {
  const __m128i one = _mm_set1_epi16(1);
  const int offset = core2_offset(type);
  const int8_t *y[CORE2_TILE];
  const int32_t *start[CORE2_TILE];
  __m128 out[2][CORE2_TILE];
  for (int t = 0; t < width; t++) {
    y[t] = c[t].q;
    start[t] = c[t].b32.start;
    out[0][t] = out[1][t] = _mm_setzero_ps();
  }
  for (int b = 0; b < n / 32; b++) {
    __m128i acc[2][CORE2_TILE];
    begin(acc, offset ? start : NULL, b, width);
    step16(p->q + 16 * b, y, 32 * b, width, acc);
    step16(p->q + 16 * b + 8, y, 32 * b + 16, width, acc);
    for (int t = 0; t < width; t++) {
      const __m128 d = _mm_set1_ps(c[t].b32.d[b]);
      for (int g = 0; g < 2; g++) {
        __m128i whole = _mm_madd_epi16(acc[g][t], one);
        if (type == CORE2_Q5_1)
          whole = _mm_add_epi32(whole, _mm_set1_epi32(c[t].b32.whole[b]));
        const __m128 sum = _mm_cvtepi32_ps(whole);
        const __m128 scale = _mm_mul_ps(_mm_load_ps(p->b32.d[b] + 4 * g), d);
        out[g][t] = _mm_add_ps(out[g][t], _mm_mul_ps(sum, scale));
      }
    }
  }
  if (type == CORE2_Q4_1 || type == CORE2_Q5_1)
    add_minima(p, c, n / 32, width, out);
  for (int t = 0; t < width; t++)
    for (int g = 0; g < 2; g++)
      _mm_store_ps(ret[t] + 4 * g, out[g][t]);
}

// q8_0 and iq4_nl have no headroom in int16: every pmaddubsw is widened at once.
CORE2_INLINE void tile8(const core2_panel *p, const core2_column *c, int n, int width,
                        float ret[CORE2_TILE][CORE2_ROWS]) {
  const __m128i one = _mm_set1_epi16(1);
  __m128 out[2][CORE2_TILE];
  for (int t = 0; t < width; t++)
    out[0][t] = out[1][t] = _mm_setzero_ps();
  for (int b = 0; b < n / 32; b++) {
    __m128i acc[2][CORE2_TILE];
    begin(acc, NULL, b, width);
    for (int h = 0; h < 2; h++) {
      const __m128i *q = p->q + 16 * b + 8 * h;
      __m128i v[CORE2_TILE];
      for (int t = 0; t < width; t++)
        v[t] = _mm_load_si128((const __m128i *)(c[t].q + 32 * b + 16 * h));
#define QUAD(kq)                                                                                                       \
  for (int g = 0; g < 2; g++) {                                                                                        \
    const __m128i w = q[2 * (kq) + g], a = _mm_abs_epi8(w);                                                            \
    for (int t = 0; t < width; t++) {                                                                                  \
      const __m128i m = _mm_maddubs_epi16(a, _mm_sign_epi8(SPREAD(v[t], kq), w));                                      \
      acc[g][t] = _mm_add_epi32(acc[g][t], _mm_madd_epi16(m, one));                                                    \
    }                                                                                                                  \
  }
      QUAD(0)
      QUAD(1)
      QUAD(2)
      QUAD(3)
#undef QUAD
    }
    for (int t = 0; t < width; t++)
      for (int g = 0; g < 2; g++) {
        const __m128 scale = _mm_mul_ps(_mm_load_ps(p->b32.d[b] + 4 * g), _mm_set1_ps(c[t].b32.d[b]));
        out[g][t] = _mm_add_ps(out[g][t], _mm_mul_ps(_mm_cvtepi32_ps(acc[g][t]), scale));
      }
  }
  for (int t = 0; t < width; t++)
    for (int g = 0; g < 2; g++)
      _mm_store_ps(ret[t] + 4 * g, out[g][t]);
}

// The float part of a superblock: minus the minima times the sums of activations.
CORE2_INLINE __m128i eight_minima(const __m128i minima[][2], int g, __m128i sums) {
  __m128i m = _mm_madd_epi16(minima[0][g], SPREAD(sums, 0));
  m = _mm_add_epi32(m, _mm_madd_epi16(minima[1][g], SPREAD(sums, 1)));
  m = _mm_add_epi32(m, _mm_madd_epi16(minima[2][g], SPREAD(sums, 2)));
  return _mm_add_epi32(m, _mm_madd_epi16(minima[3][g], SPREAD(sums, 3)));
}

CORE2_INLINE void subtract_minima(enum core2_type type, const core2_panel *p, const core2_column *c, int b, int width,
                                  __m128 out[2][CORE2_TILE]) {
  for (int t = 0; t < width; t++) {
    const __m128i *sums = (const __m128i *)(type == CORE2_Q2_K ? c[t].k.sums16[b] : c[t].k.sums[b]);
    for (int g = 0; g < 2; g++) {
      __m128i m = eight_minima(p->k.minima[b], g, _mm_load_si128(sums));
      if (type == CORE2_Q2_K)
        m = _mm_add_epi32(m, eight_minima(p->k.minima[b] + 4, g, _mm_load_si128(sums + 1)));
      const __m128 scale = _mm_mul_ps(_mm_load_ps(p->k.dmin[b] + 4 * g), _mm_set1_ps(c[t].k.d[b]));
      out[g][t] = _mm_sub_ps(out[g][t], _mm_mul_ps(_mm_cvtepi32_ps(m), scale));
    }
  }
}

CORE2_INLINE void tile_super(enum core2_type type, const core2_panel *p, const core2_column *c, int n, int width,
                             float ret[CORE2_TILE][CORE2_ROWS]) {
  // How many elements int16 lanes can hold before they are scaled: 32 of four bits, 16 of five or six.
  const int group = type == CORE2_Q4_K ? 32 : 16;
  const int8_t *y[CORE2_TILE];
  __m128 out[2][CORE2_TILE];
  for (int t = 0; t < width; t++) {
    y[t] = c[t].q;
    out[0][t] = out[1][t] = _mm_setzero_ps();
  }
  for (int b = 0; b < n / 256; b++) {
    __m128i sum[2][CORE2_TILE];
    const int32_t *start[CORE2_TILE];
    begin(sum, NULL, 0, width);
    for (int t = 0; t < width; t++)
      start[t] = c[t].k.start[b];
    for (int i = 0; i < 16; i += group / 16) {
      __m128i acc[2][CORE2_TILE];
      begin(acc, core2_offset(type) ? start : NULL, i, width);
      step16(p->q + 128 * b + 8 * i, y, 256 * b + 16 * i, width, acc);
      if (group == 32)
        step16(p->q + 128 * b + 8 * i + 8, y, 256 * b + 16 * i + 16, width, acc);
      const __m128i *scales = p->k.scales[b][core2_has_groups(type) ? i : i / 2];
      for (int t = 0; t < width; t++) {
        sum[0][t] = _mm_add_epi32(sum[0][t], _mm_madd_epi16(acc[0][t], scales[0]));
        sum[1][t] = _mm_add_epi32(sum[1][t], _mm_madd_epi16(acc[1][t], scales[1]));
      }
    }
    for (int t = 0; t < width; t++)
      for (int g = 0; g < 2; g++) {
        const __m128 scale = _mm_mul_ps(_mm_load_ps(p->k.d[b] + 4 * g), _mm_set1_ps(c[t].k.d[b]));
        out[g][t] = _mm_add_ps(out[g][t], _mm_mul_ps(_mm_cvtepi32_ps(sum[g][t]), scale));
      }
    if (type == CORE2_Q4_K || type == CORE2_Q5_K || type == CORE2_Q2_K)
      subtract_minima(type, p, c, b, width, out);
  }
  for (int t = 0; t < width; t++)
    for (int g = 0; g < 2; g++)
      _mm_store_ps(ret[t] + 4 * g, out[g][t]);
}

// iq4_xs: signed bytes without headroom, widened and scaled in one step.
CORE2_INLINE void tile_xs(const core2_panel *p, const core2_column *c, int n, int width,
                          float ret[CORE2_TILE][CORE2_ROWS]) {
  __m128 out[2][CORE2_TILE];
  for (int t = 0; t < width; t++)
    out[0][t] = out[1][t] = _mm_setzero_ps();
  for (int b = 0; b < n / 256; b++) {
    __m128i sum[2][CORE2_TILE];
    begin(sum, NULL, 0, width);
    for (int i = 0; i < 16; i++) {
      const __m128i *q = p->q + 128 * b + 8 * i, *scales = p->k.scales[b][i / 2];
      __m128i v[CORE2_TILE];
      for (int t = 0; t < width; t++)
        v[t] = _mm_load_si128((const __m128i *)(c[t].q + 256 * b + 16 * i));
#define QUAD(kq)                                                                                                       \
  for (int g = 0; g < 2; g++) {                                                                                        \
    const __m128i w = q[2 * (kq) + g], a = _mm_abs_epi8(w);                                                            \
    for (int t = 0; t < width; t++) {                                                                                  \
      const __m128i m = _mm_maddubs_epi16(a, _mm_sign_epi8(SPREAD(v[t], kq), w));                                      \
      sum[g][t] = _mm_add_epi32(sum[g][t], _mm_madd_epi16(m, scales[g]));                                              \
    }                                                                                                                  \
  }
      QUAD(0)
      QUAD(1)
      QUAD(2)
      QUAD(3)
#undef QUAD
    }
    for (int t = 0; t < width; t++)
      for (int g = 0; g < 2; g++) {
        const __m128 scale = _mm_mul_ps(_mm_load_ps(p->k.d[b] + 4 * g), _mm_set1_ps(c[t].k.d[b]));
        out[g][t] = _mm_add_ps(out[g][t], _mm_mul_ps(_mm_cvtepi32_ps(sum[g][t]), scale));
      }
  }
  for (int t = 0; t < width; t++)
    for (int g = 0; g < 2; g++)
      _mm_store_ps(ret[t] + 4 * g, out[g][t]);
}

CORE2_INLINE void tile(enum core2_type type, const core2_panel *p, const core2_column *c, int n, int width,
                       float ret[CORE2_TILE][CORE2_ROWS]) {
  if (type == CORE2_Q8_0 || type == CORE2_IQ4_NL)
    tile8(p, c, n, width, ret);
  else if (type == CORE2_IQ4_XS)
    tile_xs(p, c, n, width, ret);
  else if (core2_is_super(type))
    tile_super(type, p, c, n, width, ret);
  else
    tile32(type, p, c, n, width, ret);
}

// One compiled kernel per format and width, so that every accumulator stays in a register.
#define KERNEL(type)                                                                                                   \
  case type:                                                                                                           \
    if (width == CORE2_TILE)                                                                                           \
      tile(type, panel, columns, n, CORE2_TILE, ret);                                                                  \
    else                                                                                                               \
      tile(type, panel, columns, n, 1, ret);                                                                           \
    break;

void core2_tile(enum core2_type type, const core2_panel *panel, const core2_column *columns, int n, int width,
                float ret[CORE2_TILE][CORE2_ROWS]) {
  switch (type) {
    KERNEL(CORE2_Q4_0)
    KERNEL(CORE2_Q4_1)
    KERNEL(CORE2_Q5_0)
    KERNEL(CORE2_Q5_1)
    KERNEL(CORE2_Q8_0)
    KERNEL(CORE2_IQ4_NL)
    KERNEL(CORE2_Q2_0)
    KERNEL(CORE2_MXFP4)
    KERNEL(CORE2_Q2_K)
    KERNEL(CORE2_Q3_K)
    KERNEL(CORE2_TQ2_0)
    KERNEL(CORE2_IQ4_XS)
    KERNEL(CORE2_Q4_K)
    KERNEL(CORE2_Q5_K)
    KERNEL(CORE2_Q6_K)
  default:
    break;
  }
}
