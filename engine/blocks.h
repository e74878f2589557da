// Block layouts of the quantised formats as GGUF freezes them, and the numbers by which ggml names them.
// They are facts of the file format (a GGUF written in 2023 still loads), so no ggml header is needed for them.
#pragma once
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

enum core2_type {
  CORE2_F32 = 0,
  CORE2_F16 = 1,
  CORE2_Q4_0 = 2,
  CORE2_Q4_1 = 3,
  CORE2_Q5_0 = 6,
  CORE2_Q5_1 = 7,
  CORE2_Q8_0 = 8,
  CORE2_Q8_1 = 9,
  CORE2_Q2_K = 10,
  CORE2_Q3_K = 11,
  CORE2_Q4_K = 12,
  CORE2_Q5_K = 13,
  CORE2_Q6_K = 14,
  CORE2_Q8_K = 15,
  CORE2_IQ4_NL = 20,
  CORE2_IQ4_XS = 23,
  CORE2_TQ2_0 = 35,
  CORE2_MXFP4 = 39,
  CORE2_Q2_0 = 42,
};

// All numbers below are little-endian; f16 is IEEE binary16 kept in a uint16_t.
// Blocks of 32: element j is the low nibble of qs[j], element j + 16 the high nibble of qs[j].
typedef struct {
  uint16_t d; // value = d * (q - 8)
  uint8_t qs[16];
} core2_q4_0;
static_assert(sizeof(core2_q4_0) == 18, "q4_0");

typedef struct {
  uint16_t d, m; // value = d * q + m
  uint8_t qs[16];
} core2_q4_1;
static_assert(sizeof(core2_q4_1) == 20, "q4_1");

typedef struct {
  uint16_t d; // value = d * (q - 16), bit j of qh is bit 4 of element j
  uint8_t qh[4];
  uint8_t qs[16];
} core2_q5_0;
static_assert(sizeof(core2_q5_0) == 22, "q5_0");

typedef struct {
  uint16_t d, m; // value = d * q + m
  uint8_t qh[4];
  uint8_t qs[16];
} core2_q5_1;
static_assert(sizeof(core2_q5_1) == 24, "q5_1");

typedef struct {
  uint16_t d; // value = d * table[q]
  uint8_t qs[16];
} core2_iq4_nl;
static_assert(sizeof(core2_iq4_nl) == 18, "iq4_nl");

typedef struct {
  uint16_t d;     // value = d * (q - 1); a block of 64
  uint8_t qs[16]; // four elements in a row a byte, the first in the lowest bits
} core2_q2_0;
static_assert(sizeof(core2_q2_0) == 18, "q2_0");

typedef struct {
  uint16_t d; // value = d * q; as activations q stays within -127..127
  int8_t qs[32];
} core2_q8_0;
static_assert(sizeof(core2_q8_0) == 34, "q8_0");

typedef struct {
  uint16_t d, s; // s = d * sum(q), rounded to f16
  int8_t qs[32];
} core2_q8_1;
static_assert(sizeof(core2_q8_1) == 36, "q8_1");

typedef struct {
  uint8_t e; // value = 2^(e - 128) * table[q], an OCP microscaling block
  uint8_t qs[16];
} core2_mxfp4;
static_assert(sizeof(core2_mxfp4) == 17, "mxfp4");

// Superblocks of 256. scales holds eight 6-bit scales and eight 6-bit minima packed into 12 bytes.
// Two-bit quants: per 128 elements 32 bytes; bits 2 j, 2 j + 1 of byte l belong to element 32 j + l.
typedef struct {
  uint8_t scales[16]; // low nibble: scale, high nibble: minimum of 16 elements
  uint8_t qs[64];
  uint16_t d, dmin; // value = d * scale * q - dmin * min
} core2_q2_K;
static_assert(sizeof(core2_q2_K) == 84, "q2_K");

typedef struct {
  uint8_t hmask[32]; // bit j of byte l is bit 2 of element 32 j + l
  uint8_t qs[64];
  uint8_t scales[12]; // sixteen 6-bit scales, less 32
  uint16_t d;         // value = d * scale * (q - 4)
} core2_q3_K;
static_assert(sizeof(core2_q3_K) == 110, "q3_K");

typedef struct {
  uint8_t qs[64];
  uint16_t d; // value = d * (q - 1)
} core2_tq2_0;
static_assert(sizeof(core2_tq2_0) == 66, "tq2_0");

typedef struct {
  uint16_t d, scales_h; // two bits of each of eight scales
  uint8_t scales_l[4];  // four bits; a scale is less 32
  uint8_t qs[128];      // 32 elements per 16 bytes as in iq4_nl; value = d * scale * table[q]
} core2_iq4_xs;
static_assert(sizeof(core2_iq4_xs) == 136, "iq4_xs");

typedef struct {
  uint16_t d, dmin; // value = d * scale * q - dmin * min
  uint8_t scales[12];
  uint8_t qs[128]; // 64 elements per 32 bytes: low nibbles first, then the high nibbles
} core2_q4_K;
static_assert(sizeof(core2_q4_K) == 144, "q4_K");

typedef struct {
  uint16_t d, dmin;
  uint8_t scales[12];
  uint8_t qh[32]; // bit j of qh[l] is bit 4 of element 32 j + l
  uint8_t qs[128];
} core2_q5_K;
static_assert(sizeof(core2_q5_K) == 176, "q5_K");

typedef struct {
  uint8_t ql[128]; // per 128 elements 64 bytes: low nibbles are 0..63, high nibbles 64..127
  uint8_t qh[64];  // per 128 elements 32 bytes: bits 2 j, 2 j + 1 of qh[l] belong to element 32 j + l
  int8_t scales[16];
  uint16_t d; // value = d * scale * (q - 32)
} core2_q6_K;
static_assert(sizeof(core2_q6_K) == 210, "q6_K");

typedef struct {
  float d;
  int8_t qs[256];
  int16_t bsums[16]; // sums of 16 neighbouring qs
} core2_q8_K;
static_assert(sizeof(core2_q8_K) == 292, "q8_K");

#define CORE2_EXPORT __attribute__((visibility("default")))

// The two signatures that ggml has kept since 2024.
typedef void core2_dot_fn(int n, float *s, size_t bs, const void *x, size_t bx, const void *y, size_t by, int nrc);
typedef void core2_quantize_fn(const float *x, void *y, int64_t k);
