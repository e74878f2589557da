#include "gemm.h"
#include "kscales.h"
#include "pairs.h"

// 16 elements of each of four rows become four vectors of four elements by four rows. Returns the bytes' sum of them:
// eight weights of at most five bits, or four of six, add up within int8.
CORE2_INLINE __m128i interleave(const __m128i v[4], __m128i *out, int step) {
  const __m128i a = _mm_unpacklo_epi32(v[0], v[1]), b = _mm_unpacklo_epi32(v[2], v[3]);
  const __m128i c = _mm_unpackhi_epi32(v[0], v[1]), d = _mm_unpackhi_epi32(v[2], v[3]);
  out[0] = _mm_unpacklo_epi64(a, b);
  out[step] = _mm_unpackhi_epi64(a, b);
  out[2 * step] = _mm_unpacklo_epi64(c, d);
  out[3 * step] = _mm_unpackhi_epi64(c, d);
  return _mm_add_epi8(_mm_add_epi8(out[0], out[step]), _mm_add_epi8(out[2 * step], out[3 * step]));
}

// Minus 128 times the weights, whose sum this is, in the int16 lanes that their products go to.
CORE2_INLINE __m128i start_of_panel(__m128i sums) {
  return _mm_sub_epi16(_mm_setzero_si128(), _mm_maddubs_epi16(_mm_set1_epi8(-128), sums));
}

// The scales (and minima behind them) at the beginning of four blocks, as floats.
CORE2_INLINE void four_scales(const char *const block[4], int minima, float *ret_d, float *ret_m) {
  __m128 d, m;
  core2_f16x4_pair(core2_gather4(block[0], block[1], block[2], block[3]), &d, &m);
  _mm_store_ps(ret_d, d);
  if (minima)
    _mm_store_ps(ret_m, m);
}

CORE2_INLINE void unpack32(enum core2_type t, const char *block, __m128i *ret_low, __m128i *ret_high) {
  switch (t) {
  case CORE2_Q4_0:
    core2_nibbles(((const core2_q4_0 *)block)->qs, ret_low, ret_high);
    break;
  case CORE2_Q4_1:
    core2_nibbles(((const core2_q4_1 *)block)->qs, ret_low, ret_high);
    break;
  case CORE2_Q5_0:
    core2_unpack_q5_0((const core2_q5_0 *)block, ret_low, ret_high);
    break;
  case CORE2_MXFP4:
    core2_unpack_mxfp4((const core2_mxfp4 *)block, ret_low, ret_high);
    break;
  case CORE2_Q5_1:
    core2_unpack_q5_1((const core2_q5_1 *)block, ret_low, ret_high);
    break;
  case CORE2_IQ4_NL:
    core2_unpack_iq4(((const core2_iq4_nl *)block)->qs, ret_low, ret_high);
    break;
  default:
    *ret_low = core2_load16(((const core2_q8_0 *)block)->qs);
    *ret_high = core2_load16(((const core2_q8_0 *)block)->qs + 16);
  }
}

CORE2_INLINE void pack32(enum core2_type t, const char *const rows[CORE2_ROWS], int n, core2_panel *ret) {
  const size_t size = core2_block_size(t);
  const __m128i offset = _mm_set1_epi8((char)core2_offset(t));
  for (int b = 0; b < n / 32; b++)
    for (int g = 0; g < 2; g++) {
      __m128i low[4], high[4];
      const char *block[4];
      for (int r = 0; r < 4; r++) {
        // Half a block of 64 shares its scale with the other half.
        block[r] = rows[4 * g + r] + (size_t)(t == CORE2_Q2_0 ? b / 2 : b) * size;
        if (t == CORE2_Q2_0)
          core2_unpack_q2_0(((const core2_q2_0 *)block[r])->qs + 8 * (b & 1), &low[r], &high[r]);
        else
          unpack32(t, block[r], &low[r], &high[r]);
        if (core2_offset(t)) {
          low[r] = _mm_sub_epi8(low[r], offset);
          high[r] = _mm_sub_epi8(high[r], offset);
        }
        if (t == CORE2_MXFP4)
          ret->b32.d[b][4 * g + r] = core2_e8m0_half((uint8_t)*block[r]);
      }
      if (t != CORE2_MXFP4)
        four_scales(block, t == CORE2_Q4_1 || t == CORE2_Q5_1, ret->b32.d[b] + 4 * g, ret->b32.m[b] + 4 * g);
      const __m128i sum = interleave(low, &ret->q[16 * b + g], 2);
      const __m128i other = interleave(high, &ret->q[16 * b + 8 + g], 2);
      if (core2_has_room(t))
        ret->b32.start[b][g] = start_of_panel(_mm_add_epi8(sum, other));
    }
}

// Elements 16 i .. 16 i + 15 of a superblock.
CORE2_INLINE __m128i unpack_super(enum core2_type t, const char *block, int i) {
  if (core2_has_groups(t))
    return core2_group16(t, block, i);
  if (t == CORE2_IQ4_XS) {
    __m128i low, high;
    core2_unpack_iq4(((const core2_iq4_xs *)block)->qs + 16 * (i / 2), &low, &high);
    return i & 1 ? high : low;
  }
  const int j = i / 2; // which 32 elements
  const uint8_t *qs = (const uint8_t *)block + (t == CORE2_Q5_K ? offsetof(core2_q5_K, qs) : offsetof(core2_q4_K, qs));
  __m128i v = core2_load16(qs + 32 * (j / 2) + 16 * (i & 1));
  if (j & 1)
    v = _mm_srli_epi16(v, 4);
  v = _mm_and_si128(v, _mm_set1_epi8(15));
  if (t == CORE2_Q5_K) {
    const __m128i bit = _mm_set1_epi8((char)(1 << j));
    const __m128i qh = core2_load16(((const core2_q5_K *)block)->qh + 16 * (i & 1));
    v = _mm_or_si128(v, _mm_and_si128(_mm_cmpeq_epi8(_mm_and_si128(qh, bit), bit), _mm_set1_epi8(16)));
  }
  return v;
}

// Eight scales of each of four rows, from scale i on: each twice, as pmaddwd wants it.
CORE2_INLINE void put_scales(core2_panel *ret, int b, int i, int g, const __m128i scales[4]) {
  for (int h = 0; h < 2; h++) {
    const __m128i one = h ? _mm_unpackhi_epi16(scales[0], scales[1]) : _mm_unpacklo_epi16(scales[0], scales[1]);
    const __m128i two = h ? _mm_unpackhi_epi16(scales[2], scales[3]) : _mm_unpacklo_epi16(scales[2], scales[3]);
    const __m128i first = _mm_unpacklo_epi32(one, two), second = _mm_unpackhi_epi32(one, two);
    ret->k.scales[b][i + 4 * h][g] = _mm_unpacklo_epi16(first, first);
    ret->k.scales[b][i + 4 * h + 1][g] = _mm_unpackhi_epi16(first, first);
    ret->k.scales[b][i + 4 * h + 2][g] = _mm_unpacklo_epi16(second, second);
    ret->k.scales[b][i + 4 * h + 3][g] = _mm_unpackhi_epi16(second, second);
  }
}

// q4_K and q5_K.
CORE2_INLINE void pack_minima(const char *const block[4], int b, int g, core2_panel *ret) {
  __m128i scales[4], minima[4];
  for (int r = 0; r < 4; r++)
    core2_unpack_kscales((const uint8_t *)block[r] + 4, &scales[r], &minima[r]);
  four_scales(block, 1, ret->k.d[b] + 4 * g, ret->k.dmin[b] + 4 * g);
  put_scales(ret, b, 0, g, scales);
  interleave(minima, &ret->k.minima[b][0][g], 2);
}

CORE2_INLINE void pack_groups(enum core2_type t, const char *const block[4], int b, int g, core2_panel *ret) {
  __m128i scales[2][4], minima[2][4];
  for (int r = 0; r < 4; r++) {
    __m128i sc[2], mn[2] = {_mm_setzero_si128(), _mm_setzero_si128()};
    core2_scales16(t, block[r], sc, mn);
    for (int h = 0; h < 2; h++) {
      scales[h][r] = sc[h];
      minima[h][r] = mn[h];
    }
    ret->k.d[b][4 * g + r] = core2_scale_of_super(t, block[r]);
    if (t == CORE2_Q2_K)
      ret->k.dmin[b][4 * g + r] = core2_f16(((const core2_q2_K *)block[r])->dmin);
  }
  for (int h = 0; h < 2; h++) {
    put_scales(ret, b, 8 * h, g, scales[h]);
    if (t == CORE2_Q2_K)
      interleave(minima[h], &ret->k.minima[b][4 * h][g], 2);
  }
}

CORE2_INLINE void pack_xs(const char *const block[4], int b, int g, core2_panel *ret) {
  __m128i scales[4];
  for (int r = 0; r < 4; r++) {
    int16_t sc[8];
    for (int j = 0; j < 8; j++)
      sc[j] = (int16_t)core2_scale_iq4_xs((const core2_iq4_xs *)block[r], j);
    memcpy(&scales[r], sc, sizeof sc);
  }
  four_scales(block, 0, ret->k.d[b] + 4 * g, NULL);
  put_scales(ret, b, 0, g, scales);
}

CORE2_INLINE void pack_super(enum core2_type t, const char *const rows[CORE2_ROWS], int n, core2_panel *ret) {
  const size_t size = core2_block_size(t);
  const __m128i offset = _mm_set1_epi8((char)core2_offset(t));
  for (int b = 0; b < n / 256; b++)
    for (int g = 0; g < 2; g++) {
      const char *block[4];
      __m128i before = _mm_setzero_si128(); // the sum of the 16 elements before
      for (int r = 0; r < 4; r++)
        block[r] = rows[4 * g + r] + (size_t)b * size;
      if (core2_has_groups(t))
        pack_groups(t, block, b, g, ret);
      else if (t == CORE2_IQ4_XS)
        pack_xs(block, b, g, ret);
      else
        pack_minima(block, b, g, ret);
      for (int i = 0; i < 16; i++) {
        __m128i v[4];
        for (int r = 0; r < 4; r++) {
          v[r] = unpack_super(t, block[r], i);
          if (core2_offset(t))
            v[r] = _mm_sub_epi8(v[r], offset);
        }
        const __m128i sum = interleave(v, &ret->q[128 * b + 8 * i + g], 2);
        if (t == CORE2_Q4_K) {
          if (i & 1)
            ret->k.start[b][i / 2][g] = start_of_panel(_mm_add_epi8(before, sum));
          before = sum;
        } else if (core2_has_room(t)) {
          ret->k.start[b][i][g] = start_of_panel(sum);
        }
      }
    }
}

#define PACK(type, how)                                                                                                \
  case type:                                                                                                           \
    how(type, rows, n, ret);                                                                                           \
    break;

void core2_pack_panel(enum core2_type type, const char *const rows[CORE2_ROWS], int n, core2_panel *ret) {
  switch (type) {
    PACK(CORE2_Q4_0, pack32)
    PACK(CORE2_Q4_1, pack32)
    PACK(CORE2_Q5_0, pack32)
    PACK(CORE2_Q5_1, pack32)
    PACK(CORE2_Q8_0, pack32)
    PACK(CORE2_IQ4_NL, pack32)
    PACK(CORE2_Q2_0, pack32)
    PACK(CORE2_MXFP4, pack32)
    PACK(CORE2_Q2_K, pack_super)
    PACK(CORE2_Q3_K, pack_super)
    PACK(CORE2_Q4_K, pack_super)
    PACK(CORE2_Q5_K, pack_super)
    PACK(CORE2_Q6_K, pack_super)
    PACK(CORE2_TQ2_0, pack_super)
    PACK(CORE2_IQ4_XS, pack_super)
  default:
    break;
  }
}

// Minus offset times the activations, split as the int16 lanes of a panel's accumulator are: elements 0 and 1 of
// every four in the low half, 2 and 3 in the high half.
CORE2_INLINE int32_t start_of(__m128i sums_of_two, int offset) {
  const __m128i one = _mm_set1_epi32(0x00010001);
  const __m128i even = _mm_and_si128(sums_of_two, _mm_set1_epi32(0xffff));
  const __m128i odd = _mm_andnot_si128(_mm_set1_epi32(0xffff), sums_of_two);
  const int32_t a = core2_hsum_epi32(_mm_madd_epi16(even, one)), b = core2_hsum_epi32(_mm_madd_epi16(odd, one));
  return (int32_t)((uint32_t)(-offset * a & 0xffff) | (uint32_t)(-offset * b) << 16);
}

static void pack_column32(enum core2_type type, const char *column, int n, int alone, core2_column *ret) {
  const int sums = core2_activation(type) == CORE2_Q8_1;
  const size_t size = sums ? sizeof(core2_q8_1) : sizeof(core2_q8_0);
  const __m128i one = _mm_set1_epi8(1), ones = _mm_set1_epi16(1);
  const __m128i more = _mm_set1_epi8(!alone && core2_has_room(type) ? -128 : 0);
  // What core2_gemv starts from; in a tile only q5_1 needs the activations' sums, to add its offset again.
  const int offset = alone || type == CORE2_Q5_1 ? core2_offset(type) : 0;
  for (int b = 0; b < n / 32; b++, column += size) {
    const char *q = column + (sums ? offsetof(core2_q8_1, qs) : offsetof(core2_q8_0, qs));
    const __m128i y0 = core2_load_act(q), y1 = core2_load_act(q + 16);
    _mm_store_si128((__m128i *)(ret->q + 32 * b), _mm_xor_si128(y0, more));
    _mm_store_si128((__m128i *)(ret->q + 32 * b + 16), _mm_xor_si128(y1, more));
    const uint32_t ds = core2_load4(column);
    ret->b32.d[b] = core2_f16((uint16_t)ds);
    if (sums)
      ret->b32.s[b] = core2_f16((uint16_t)(ds >> 16));
    if (offset) {
      const __m128i pairs = _mm_add_epi16(_mm_maddubs_epi16(one, y0), _mm_maddubs_epi16(one, y1));
      ret->b32.whole[b] = offset * core2_hsum_epi32(_mm_madd_epi16(pairs, ones));
      ret->b32.start[b] = start_of(pairs, offset);
    }
  }
  for (int b = n / 32; b % 4; b++) { // core2_gemv takes four blocks at a time
    memset(ret->q + 32 * b, 0, 32);
    ret->b32.d[b] = ret->b32.s[b] = 0.0f;
    ret->b32.start[b] = 0;
  }
}

void core2_pack_column(enum core2_type type, const char *column, int n, int alone, core2_column *ret) {
  if (!core2_is_super(type)) {
    pack_column32(type, column, n, alone, ret);
    return;
  }
  const core2_q8_K *y = (const core2_q8_K *)column;
  const __m128i more = _mm_set1_epi8(!alone && core2_has_room(type) ? -128 : 0);
  for (int b = 0; b < n / 256; b++) {
    ret->k.d[b] = y[b].d;
    for (int i = 0; i < 16; i++) {
      const __m128i q = core2_load_act(y[b].qs + 16 * i);
      _mm_store_si128((__m128i *)(ret->q + 256 * b + 16 * i), _mm_xor_si128(q, more));
    }
    memcpy(ret->k.sums16[b], y[b].bsums, sizeof y[b].bsums);
    for (int j = 0; j < 8; j++)
      ret->k.sums[b][j] = (int16_t)(y[b].bsums[2 * j] + y[b].bsums[2 * j + 1]);
  }
}
