#include "tile.h"

// Element group kq (four elements) of 16 loaded ones, in every lane.
#define SPREAD(y, kq) _mm_shuffle_epi32(y, ((kq)&3) * 0x55)

// Where one column's factors are. pmaddubsw overwrites its unsigned factor: that is the activations, since a spread
// copy of them is made anyway, and weights can be operands in memory. A Core 2 has one load port and three others,
// though, so the first row group's weights are loaded once for both columns, and only the second's are read by each.
// For the compiler not to share these, too, and copy registers instead, the second column has pointers of its own.
typedef struct {
  const __m128i *q, *start;
  const int8_t *y;
} source;

CORE2_INLINE const void *hidden(const void *p) {
  __asm__("" : "+r"(p));
  return p;
}

CORE2_INLINE void open_sources(source ret[CORE2_TILE], const __m128i *q, const __m128i *start, const core2_column *c,
                               int width) {
  for (int t = 0; t < width; t++)
    ret[t] = (source){t ? hidden(q) : q, t ? hidden(start) : start, c[t].q};
}

// Sums of the products of 16 elements (four vectors per row group), in int16. The first 16 of a block begin it.
CORE2_INLINE void step16(const source s[CORE2_TILE], size_t at, int width, int first, __m128i acc[2][CORE2_TILE]) {
  __m128i v[CORE2_TILE];
  for (int t = 0; t < width; t++)
    v[t] = _mm_load_si128((const __m128i *)(s[t].y + 16 * at));
#define QUAD(kq)                                                                                                       \
  {                                                                                                                    \
    __m128i w = s[0].q[8 * at + 2 * (kq)];                                                                             \
    if (width > 1)                                                                                                     \
      __asm__("" : "+x"(w)); /* really loaded, once */                                                                 \
    for (int t = 0; t < width; t++) {                                                                                  \
      const __m128i b = SPREAD(v[t], kq);                                                                              \
      const __m128i m0 = _mm_maddubs_epi16(b, w), m1 = _mm_maddubs_epi16(b, s[t].q[8 * at + 2 * (kq) + 1]);            \
      acc[0][t] = first && (kq) == 0 ? m0 : _mm_add_epi16(acc[0][t], m0);                                              \
      acc[1][t] = first && (kq) == 0 ? m1 : _mm_add_epi16(acc[1][t], m1);                                              \
    }                                                                                                                  \
  }
  QUAD(0)
  QUAD(1)
  QUAD(2)
  QUAD(3)
#undef QUAD
}

// 16 or 32 elements from 16 * at on, whose start is number `block`.
CORE2_INLINE void products(const source s[CORE2_TILE], size_t at, int elements, size_t block, int width,
                           __m128i acc[2][CORE2_TILE]) {
  step16(s, at, width, 1, acc);
  if (elements == 32)
    step16(s, at + 1, width, 0, acc);
  for (int t = 0; t < width; t++)
    for (int g = 0; g < 2; g++)
      acc[g][t] = _mm_add_epi16(acc[g][t], s[t].start[2 * block + g]);
}

CORE2_INLINE void clear(__m128i acc[2][CORE2_TILE], int width) {
  for (int t = 0; t < width; t++)
    acc[0][t] = acc[1][t] = _mm_setzero_si128();
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
  source s[CORE2_TILE];
  __m128 out[2][CORE2_TILE];
  open_sources(s, p->q, p->b32.start[0], c, width);
  for (int t = 0; t < width; t++)
    out[0][t] = out[1][t] = _mm_setzero_ps();
  for (int b = 0; b < n / 32; b++) {
    __m128i acc[2][CORE2_TILE];
    products(s, 2 * (size_t)b, 32, (size_t)b, width, acc);
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
    clear(acc, width);
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
  const size_t group = type == CORE2_Q4_K ? 32 : 16;
  __m128 out[2][CORE2_TILE];
  for (int t = 0; t < width; t++)
    out[0][t] = out[1][t] = _mm_setzero_ps();
  for (int b = 0; b < n / 256; b++) {
    __m128i sum[2][CORE2_TILE];
    clear(sum, width);
    source s[CORE2_TILE];
    open_sources(s, p->q + 128 * b, p->k.start[b][0], c, width);
    for (int t = 0; t < width; t++)
      s[t].y += 256 * b;
    for (size_t i = 0; i < 256 / group; i++) {
      __m128i acc[2][CORE2_TILE];
      products(s, i * (group / 16), (int)group, i, width, acc);
      const __m128i *scales = p->k.scales[b][group == 32 || core2_has_groups(type) ? i : i / 2];
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
    clear(sum, width);
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
