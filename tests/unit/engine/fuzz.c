// Fuzz targets of the kernels: blocks of any bytes, compared with a plain scalar reading of the format in double
// precision. Built with ASan and UBSan and the engine's sources inside. The input's first byte chooses the format, or
// fuzz-floats.c's quantisers, float products and attention; the test run takes them one by one:
//     fuzz-engine FORMAT [SEED [INPUTS]]
// To search longer: CC=clang, compile with -fsanitize=fuzzer,address,undefined -DFUZZ_WITH_LIBFUZZER.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../../../engine/dot.h"
#include "../../../engine/gemm.h"
#include "../../../engine/variant.h"
#include "fuzz.h"

enum { ROWS = 5, COLUMNS = 3, MAX_BLOCKS = 70 };

struct core2_stock core2_stock; // no stock file here: what is not ours is refused

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static double half(const uint8_t *p) {
  const int h = p[0] | p[1] << 8, e = h >> 10 & 31, m = h & 1023;
  const double v = e == 31 ? (m ? NAN : INFINITY) : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
  return h & 0x8000 ? -v : v;
}

// Scale and minimum i of the twelve packed bytes of q4_K and q5_K.
static void scale_of(const uint8_t *p, int i, int *ret_scale, int *ret_min) {
  *ret_scale = i < 4 ? p[i] & 63 : (p[i + 4] & 15) | (p[i - 4] >> 6) << 4;
  *ret_min = i < 4 ? p[i + 4] & 63 : p[i + 4] >> 4 | (p[i] >> 6) << 4;
}

static const int iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
static const int fp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// Element j of a small block: value = scale * q + minimum.
static void element_small(enum core2_type t, const uint8_t *b, int j, double *ret_scaled, double *ret_min) {
  const uint8_t *qs = b + (t == CORE2_Q4_1 ? 4 : t == CORE2_Q5_0 ? 6 : t == CORE2_Q5_1 ? 8 : t == CORE2_MXFP4 ? 1 : 2);
  const int nibble = j < 16 ? qs[j % 16] & 15 : qs[j % 16] >> 4;
  switch (t) {
  case CORE2_Q4_0:
    *ret_scaled = half(b) * (nibble - 8);
    return;
  case CORE2_Q4_1:
    *ret_scaled = half(b) * nibble;
    *ret_min = half(b + 2);
    return;
  case CORE2_Q5_0:
    *ret_scaled = half(b) * ((nibble | (b[2 + j / 8] >> j % 8 & 1) << 4) - 16);
    return;
  case CORE2_Q5_1:
    *ret_scaled = half(b) * (nibble | (b[4 + j / 8] >> j % 8 & 1) << 4);
    *ret_min = half(b + 2);
    return;
  case CORE2_IQ4_NL:
    *ret_scaled = half(b) * iq4[nibble];
    return;
  case CORE2_Q2_0: // a block of 64
    *ret_scaled = half(b) * ((qs[j / 4] >> j % 4 * 2 & 3) - 1);
    return;
  case CORE2_MXFP4:
    *ret_scaled = ldexp(fp4[nibble], b[0] - 128);
    return;
  default:
    *ret_scaled = half(b) * (int8_t)b[2 + j];
  }
}

static int two_bits(const uint8_t *qs, int j) {
  return qs[j / 128 * 32 + j % 32] >> j % 128 / 32 * 2 & 3;
}

static void element_super(enum core2_type t, const uint8_t *b, int j, double *ret_scaled, double *ret_min) {
  const int group = j / 32, sixteen = j / 16;
  int scale, min, q;
  switch (t) {
  case CORE2_Q2_K:
    *ret_scaled = half(b + 80) * (b[sixteen] & 15) * two_bits(b + 16, j);
    *ret_min = -half(b + 82) * (b[sixteen] >> 4);
    return;
  case CORE2_Q3_K:
    q = (two_bits(b + 32, j) | (b[j % 32] >> group & 1) << 2) - 4;
    scale = sixteen < 8 ? b[96 + sixteen] & 15 : b[88 + sixteen] >> 4;
    scale |= (b[104 + sixteen % 4] >> sixteen / 4 * 2 & 3) << 4;
    *ret_scaled = half(b + 108) * (scale - 32) * q;
    return;
  case CORE2_TQ2_0:
    *ret_scaled = half(b + 64) * (two_bits(b, j) - 1);
    return;
  case CORE2_IQ4_XS:
    scale = (b[4 + group / 2] >> group % 2 * 4 & 15) | ((b[2] | b[3] << 8) >> 2 * group & 3) << 4;
    q = b[8 + 16 * group + j % 16] >> (j % 32 < 16 ? 0 : 4) & 15;
    *ret_scaled = half(b) * (scale - 32) * iq4[q];
    return;
  case CORE2_Q4_K:
  case CORE2_Q5_K:
    q = b[(t == CORE2_Q5_K ? 48 : 16) + group / 2 * 32 + j % 32] >> (group & 1) * 4 & 15;
    if (t == CORE2_Q5_K)
      q |= (b[16 + j % 32] >> group & 1) << 4;
    scale_of(b + 4, group, &scale, &min);
    *ret_scaled = half(b) * scale * q;
    *ret_min = -half(b + 2) * min;
    return;
  default: { // q6_K
    const int h = j / 128, l = j % 128;
    q = (b[h * 64 + l % 64] >> l / 64 * 4 & 15) | (b[128 + h * 32 + l % 32] >> l / 32 * 2 & 3) << 4;
    *ret_scaled = half(b + 208) * (int8_t)b[192 + sixteen] * (q - 32);
  }
  }
}

static size_t activation_size(enum core2_type t) {
  const enum core2_type a = core2_activation(t);
  return a == CORE2_Q8_K ? sizeof(core2_q8_K) : a == CORE2_Q8_1 ? sizeof(core2_q8_1) : sizeof(core2_q8_0);
}

static void reference(enum core2_type t, const uint8_t *x, const uint8_t *y, int n, double *ret_sum, double *ret_size) {
  const int block = core2_block_elements(t), act_block = core2_is_super(t) ? 256 : 32;
  const int with_sums = core2_activation(t) == CORE2_Q8_1; // the minimum then meets the activations' rounded sum
  *ret_sum = *ret_size = 0;
  for (int i = 0; i < n; i++) {
    const uint8_t *xb = x + core2_block_size(t) * (size_t)(i / block);
    const uint8_t *yb = y + activation_size(t) * (size_t)(i / act_block);
    float d8;
    memcpy(&d8, yb, 4);
    const double d = act_block == 256 ? (double)d8 : half(yb);
    const int q = ((const int8_t *)yb)[(act_block == 256 || with_sums ? 4 : 2) + i % act_block];
    double scaled, min = 0;
    (core2_is_super(t) ? element_super : element_small)(t, xb, i % block, &scaled, &min);
    *ret_sum += d * q * (with_sums ? scaled : scaled + min);
    *ret_size += fabs(d * q) * (fabs(scaled) + fabs(min));
    if (with_sums && i % 32 == 0) {
      *ret_sum += half(xb + 2) * half(yb + 2);
      *ret_size += fabs(half(xb + 2) * half(yb + 2));
    }
  }
}

static void check(const char *what, double got, double want, double size) {
  if (size < 1e30 && !(fabs(got - want) <= size * 0x1.0p-17 + 0x1.0p-120)) {
    fprintf(stderr, "%s: got %.9g, want %.9g, size %.3g\n", what, got, want, size);
    abort();
  }
}

// What the quantisers guarantee: no -128, true sums, a finite scale.
static void make_activations_valid(enum core2_type t, uint8_t *y, int n) {
  if (!core2_is_super(t)) {
    const size_t size = activation_size(t);
    for (int i = 0; i < n / 32; i++)
      for (size_t j = size - 32; j < size; j++)
        y[(size_t)i * size + j] = y[(size_t)i * size + j] == 0x80 ? 0x81 : y[(size_t)i * size + j];
    return;
  }
  core2_q8_K *b = (core2_q8_K *)(void *)y;
  for (int i = 0; i < n / 256; i++, b++) {
    memset(b->bsums, 0, sizeof b->bsums);
    b->d = (float)b->qs[0] / 1024.0f;
    for (int j = 0; j < 256; j++) {
      b->qs[j] = b->qs[j] == -128 ? -127 : b->qs[j];
      b->bsums[j / 16] = (int16_t)(b->bsums[j / 16] + b->qs[j]);
    }
  }
}

static const struct {
  const char *name;
  enum core2_type type;
  core2_dot_fn *dot;
  void (*other)(const uint8_t *, size_t);
} targets[] = {{"q4_0", CORE2_Q4_0, ggml_vec_dot_q4_0_q8_0, NULL},
               {"q4_1", CORE2_Q4_1, ggml_vec_dot_q4_1_q8_1, NULL},
               {"q5_0", CORE2_Q5_0, ggml_vec_dot_q5_0_q8_0, NULL},
               {"q8_0", CORE2_Q8_0, ggml_vec_dot_q8_0_q8_0, NULL},
               {"mxfp4", CORE2_MXFP4, ggml_vec_dot_mxfp4_q8_0, NULL},
               {"q4_K", CORE2_Q4_K, ggml_vec_dot_q4_K_q8_K, NULL},
               {"q5_K", CORE2_Q5_K, ggml_vec_dot_q5_K_q8_K, NULL},
               {"q6_K", CORE2_Q6_K, ggml_vec_dot_q6_K_q8_K, NULL},
               {"q5_1", CORE2_Q5_1, ggml_vec_dot_q5_1_q8_1, NULL},
               {"iq4_nl", CORE2_IQ4_NL, ggml_vec_dot_iq4_nl_q8_0, NULL},
               {"q2_0", CORE2_Q2_0, ggml_vec_dot_q2_0_q8_0, NULL},
               {"q2_K", CORE2_Q2_K, ggml_vec_dot_q2_K_q8_K, NULL},
               {"q3_K", CORE2_Q3_K, ggml_vec_dot_q3_K_q8_K, NULL},
               {"tq2_0", CORE2_TQ2_0, ggml_vec_dot_tq2_0_q8_K, NULL},
               {"iq4_xs", CORE2_IQ4_XS, ggml_vec_dot_iq4_xs_q8_K, NULL},
               {"quantisers", 0, NULL, fuzz_quantisers},
               {"floats", 0, NULL, fuzz_float_products},
               {"attention", 0, NULL, fuzz_attention}};
enum { TARGETS = sizeof targets / sizeof *targets };

static void blocks_of(enum core2_type t, core2_dot_fn *one_dot, const uint8_t *data, size_t size) {
  const int block = core2_block_elements(t), blocks = 1 + data[1] % (block == 256 ? 10 : MAX_BLOCKS);
  const int act_blocks = blocks * block / (core2_is_super(t) ? 256 : 32);
  const size_t xs = core2_block_size(t) * (size_t)blocks, ys = activation_size(t) * (size_t)act_blocks;
  uint8_t *x = malloc(xs * ROWS), *y = malloc(ys * COLUMNS);
  for (size_t i = 0; i < xs * ROWS; i++)
    x[i] = (uint8_t)(data[i % size] ^ (i / size * 37));
  for (size_t i = 0; i < ys * COLUMNS; i++)
    y[i] = (uint8_t)(data[(i * 7 + 3) % size] ^ (i / size * 101));
  make_activations_valid(t, y, blocks * block * COLUMNS);
  float many[ROWS * COLUMNS], one[ROWS], single;
  const struct core2_params p = {0, 1};
  llamafile_sgemm(&p, ROWS, COLUMNS, blocks, x, blocks, y, act_blocks, many, ROWS, (int)t, (int)core2_activation(t),
                  CORE2_F32);
  llamafile_sgemm(&p, ROWS, 1, blocks, x, blocks, y, act_blocks, one, ROWS, (int)t, (int)core2_activation(t),
                  CORE2_F32);
  for (int j = 0; j < COLUMNS; j++)
    for (int i = 0; i < ROWS; i++) {
      double want, magnitude;
      reference(t, x + xs * (size_t)i, y + ys * (size_t)j, blocks * block, &want, &magnitude);
      check("matrix", (double)many[j * ROWS + i], want, magnitude);
      one_dot(blocks * block, &single, 0, x + xs * (size_t)i, 0, y + ys * (size_t)j, 0, 1);
      check("dot", (double)single, want, magnitude);
      if (j == 0)
        check("vector", (double)one[i], want, magnitude);
    }
  free(x);
  free(y);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 8)
    return 0;
  const int i = data[0] % TARGETS;
  if (targets[i].other)
    targets[i].other(data, size);
  else
    blocks_of(targets[i].type, targets[i].dot, data, size);
  return 0;
}

#ifndef FUZZ_WITH_LIBFUZZER
int main(int argc, char **argv) {
  uint8_t input[700];
  int target = 0;
  while (target < TARGETS && (argc < 2 || strcmp(argv[1], targets[target].name) != 0))
    target++;
  if (target == TARGETS) {
    fprintf(stderr, "usage: fuzz-engine FORMAT [SEED [INPUTS]]\n");
    return 2;
  }
  const unsigned seed = argc > 2 ? (unsigned)atoi(argv[2]) : 20061;
  const int rounds = argc > 3 ? atoi(argv[3]) : 150;
  srand(seed);
  for (int r = 0; r < rounds; r++) {
    const size_t size = 8 + (size_t)rand() % (sizeof input - 8);
    for (size_t i = 0; i < size; i++)
      input[i] = (uint8_t)(r % 5 == 0 ? (rand() & 1 ? 0xff : 0) : rand() >> 7);
    input[0] = (uint8_t)target;
    LLVMFuzzerTestOneInput(input, size);
  }
  printf("%s, seed %u: %d inputs\n", targets[target].name, seed, rounds);
  return 0;
}
#endif
