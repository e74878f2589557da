#include "gemm.h"
#include "kscales.h"
#include "pairs.h"

// 16 elements of each of four rows become four vectors of four elements by four rows.
CORE2_INLINE void interleave(const __m128i v[4], __m128i *out, int step) {
  const __m128i a = _mm_unpacklo_epi32(v[0], v[1]), b = _mm_unpacklo_epi32(v[2], v[3]);
  const __m128i c = _mm_unpackhi_epi32(v[0], v[1]), d = _mm_unpackhi_epi32(v[2], v[3]);
  out[0] = _mm_unpacklo_epi64(a, b);
  out[step] = _mm_unpackhi_epi64(a, b);
  out[2 * step] = _mm_unpacklo_epi64(c, d);
  out[3 * step] = _mm_unpackhi_epi64(c, d);
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
  for (int b = 0; b < n / 32; b++)
    for (int g = 0; g < 2; g++) {
      __m128i low[4], high[4];
      for (int r = 0; r < 4; r++) {
        // Half a block of 64 shares its scale with the other half.
        const char *block = rows[4 * g + r] + (size_t)(t == CORE2_Q2_0 ? b / 2 : b) * size;
        if (t == CORE2_Q2_0)
          core2_unpack_q2_0(((const core2_q2_0 *)block)->qs + 8 * (b & 1), &low[r], &high[r]);
        else
          unpack32(t, block, &low[r], &high[r]);
        const uint32_t dm = core2_load4(block);
        ret->b32.d[b][4 * g + r] = t == CORE2_MXFP4 ? core2_e8m0_half((uint8_t)dm) : core2_f16((uint16_t)dm);
        if (t == CORE2_Q4_1 || t == CORE2_Q5_1)
          ret->b32.m[b][4 * g + r] = core2_f16((uint16_t)(dm >> 16));
      }
      interleave(low, &ret->q[16 * b + g], 2);
      interleave(high, &ret->q[16 * b + 8 + g], 2);
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

// Scale i of row r, twice, as pmaddwd wants it.
CORE2_INLINE void put_scale(core2_panel *ret, int b, int i, int r, int16_t scale) {
  int16_t *pair = (int16_t *)&ret->k.scales[b][i][r / 4] + 2 * (r % 4);
  pair[0] = pair[1] = scale;
}

CORE2_INLINE void pack_minima(const char *block, int b, int r, core2_panel *ret) {
  int16_t sc[8], mn[8];
  __m128i scales, minima;
  core2_unpack_kscales((const uint8_t *)block + 4, &scales, &minima);
  _mm_storeu_si128((__m128i *)sc, scales);
  _mm_storeu_si128((__m128i *)mn, minima);
  for (int j = 0; j < 8; j++) {
    put_scale(ret, b, j, r, sc[j]);
    ((int16_t *)&ret->k.minima[b][j / 2][r / 4])[2 * (r % 4) + j % 2] = mn[j];
  }
}

CORE2_INLINE void pack_groups(enum core2_type t, const char *block, int b, int r, core2_panel *ret) {
  int16_t sc[16], mn[16];
  __m128i scales[2], minima[2] = {_mm_setzero_si128(), _mm_setzero_si128()};
  core2_scales16(t, block, scales, minima);
  for (int h = 0; h < 2; h++) {
    _mm_storeu_si128((__m128i *)(sc + 8 * h), scales[h]);
    _mm_storeu_si128((__m128i *)(mn + 8 * h), minima[h]);
  }
  ret->k.d[b][r] = core2_scale_of_super(t, block);
  for (int i = 0; i < 16; i++)
    put_scale(ret, b, i, r, sc[i]);
  if (t != CORE2_Q2_K)
    return;
  ret->k.dmin[b][r] = core2_f16(((const core2_q2_K *)block)->dmin);
  for (int i = 0; i < 16; i++)
    ((int16_t *)&ret->k.minima[b][i / 2][r / 4])[2 * (r % 4) + i % 2] = mn[i];
}

CORE2_INLINE void pack_super(enum core2_type t, const char *const rows[CORE2_ROWS], int n, core2_panel *ret) {
  const size_t size = core2_block_size(t);
  for (int b = 0; b < n / 256; b++) {
    for (int r = 0; r < CORE2_ROWS; r++) {
      const char *block = rows[r] + (size_t)b * size;
      if (core2_has_groups(t)) {
        pack_groups(t, block, b, r, ret);
        continue;
      }
      if (t == CORE2_IQ4_XS) {
        ret->k.d[b][r] = core2_f16(((const core2_iq4_xs *)block)->d);
        for (int j = 0; j < 8; j++)
          put_scale(ret, b, j, r, (int16_t)core2_scale_iq4_xs((const core2_iq4_xs *)block, j));
        continue;
      }
      const uint32_t dm = core2_load4(block);
      ret->k.d[b][r] = core2_f16((uint16_t)dm);
      ret->k.dmin[b][r] = core2_f16((uint16_t)(dm >> 16));
      pack_minima(block, b, r, ret);
    }
    for (int g = 0; g < 2; g++)
      for (int i = 0; i < 16; i++) {
        __m128i v[4];
        for (int r = 0; r < 4; r++)
          v[r] = unpack_super(t, rows[4 * g + r] + (size_t)b * size, i);
        interleave(v, &ret->q[128 * b + 8 * i + g], 2);
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

static void pack_column32(enum core2_type type, const char *column, int n, core2_column *ret) {
  const int sums = core2_activation(type) == CORE2_Q8_1;
  const size_t size = sums ? sizeof(core2_q8_1) : sizeof(core2_q8_0);
  const __m128i one = _mm_set1_epi8(1);
  const int offset = core2_offset(type);
  for (int b = 0; b < n / 32; b++, column += size) {
    const char *q = column + (sums ? offsetof(core2_q8_1, qs) : offsetof(core2_q8_0, qs));
    const __m128i y0 = core2_load_act(q), y1 = core2_load_act(q + 16);
    _mm_store_si128((__m128i *)(ret->q + 32 * b), y0);
    _mm_store_si128((__m128i *)(ret->q + 32 * b + 16), y1);
    const uint32_t ds = core2_load4(column);
    ret->b32.d[b] = core2_f16((uint16_t)ds);
    if (sums)
      ret->b32.s[b] = core2_f16((uint16_t)(ds >> 16));
    if (offset) {
      const __m128i pairs = _mm_add_epi16(_mm_maddubs_epi16(one, y0), _mm_maddubs_epi16(one, y1));
      ret->b32.start[b] = start_of(pairs, offset);
      ret->b32.whole[b] = offset * core2_hsum_epi32(_mm_madd_epi16(pairs, _mm_set1_epi16(1)));
    }
  }
  for (int b = n / 32; b % 4; b++) { // core2_gemv takes four blocks at a time
    memset(ret->q + 32 * b, 0, 32);
    ret->b32.d[b] = ret->b32.s[b] = 0.0f;
    ret->b32.start[b] = 0;
  }
}

void core2_pack_column(enum core2_type type, const char *column, int n, core2_column *ret) {
  if (!core2_is_super(type)) {
    pack_column32(type, column, n, ret);
    return;
  }
  const core2_q8_K *y = (const core2_q8_K *)column;
  const __m128i one = _mm_set1_epi8(1);
  for (int b = 0; b < n / 256; b++) {
    ret->k.d[b] = y[b].d;
    for (int i = 0; i < 16; i++) {
      const __m128i q = core2_load_act(y[b].qs + 16 * i);
      _mm_store_si128((__m128i *)(ret->q + 256 * b + 16 * i), q);
      if (core2_offset(type))
        ret->k.start[b][i] = start_of(_mm_maddubs_epi16(one, q), core2_offset(type));
    }
    memcpy(ret->k.sums16[b], y[b].bsums, sizeof y[b].bsums);
    for (int j = 0; j < 8; j++)
      ret->k.sums[b][j] = (int16_t)(y[b].bsums[2 * j] + y[b].bsums[2 * j + 1]);
  }
}
