// The rest of what fuzz.c feeds: activation quantisers, float products and attention, against plain readings in double.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../../../engine/dot.h"
#include "../../../engine/gemm.h"
#include "../../../engine/tensor.h"
#include "fuzz.h"

enum { MOST_FLOATS = 2048, MOST_HALVES = 600 };

static void wrong(const char *what, int at, double got, double want) {
  fprintf(stderr, "%s [%d]: got %.9g, want %.9g\n", what, at, got, want);
  abort();
}

static uint8_t byte_at(const uint8_t *data, size_t size, size_t i) {
  return (uint8_t)(data[i % size] ^ (i / size * 53));
}

// Any finite number but the tiniest, whose reciprocal scales overflow in the reference too.
static float float_at(const uint8_t *data, size_t size, size_t i) {
  float f;
  uint8_t b[4];
  for (size_t j = 0; j < 4; j++)
    b[j] = byte_at(data, size, 4 * i + j);
  memcpy(&f, b, 4);
  return isfinite(f) && fabsf(f) < 1e30f && (f == 0.0f || fabsf(f) > 1e-30f) ? f : (float)b[1] - 100.0f;
}

static uint16_t to_half(float f) {
  const uint16_t sign = signbit(f) ? 0x8000 : 0;
  const double a = fabs((double)f);
  int e;
  if (a >= 65520)
    return sign | 0x7c00;
  if (a < 0x1p-14)
    return (uint16_t)(sign | (int)nearbyint(a * 0x1p24));
  frexp(a, &e);
  return (uint16_t)(sign | (((e + 14) << 10) + (int)nearbyint(ldexp(a, 11 - e)) - 1024));
}

void fuzz_quantisers(const uint8_t *data, size_t size) {
  const int n = 256 * (1 + data[1] % 8);
  float x[MOST_FLOATS];
  for (int i = 0; i < n; i++)
    x[i] = float_at(data, size, (size_t)i + 2);
  core2_q8_0 *a = malloc((size_t)n / 32 * sizeof *a);
  core2_q8_1 *b = malloc((size_t)n / 32 * sizeof *b);
  core2_q8_K *k = malloc((size_t)n / 256 * sizeof *k);
  quantize_row_q8_0(x, a, n);
  quantize_row_q8_1(x, b, n);
  quantize_row_q8_K(x, k, n);
  for (int i = 0; i < n / 32; i++) {
    float top = 0;
    for (int j = 0; j < 32; j++)
      top = fmaxf(top, fabsf(x[32 * i + j]));
    const float d = top / 127.0f, id = d != 0 ? 1.0f / d : 0.0f;
    int sum = 0;
    for (int j = 0; j < 32; j++) {
      const int q = (int)roundf(x[32 * i + j] * id);
      sum += q;
      if (a[i].qs[j] != q || b[i].qs[j] != q)
        wrong("q8_0, q8_1", 32 * i + j, a[i].qs[j], q);
    }
    if (a[i].d != to_half(d) || b[i].d != to_half(d) || b[i].s != to_half((float)sum * d))
      wrong("scale of q8_0, q8_1", i, a[i].d, to_half(d));
  }
  for (int i = 0; i < n / 256; i++) {
    float max = 0;
    for (int j = 0; j < 256; j++)
      max = fabsf(x[256 * i + j]) > fabsf(max) ? x[256 * i + j] : max;
    const float scale = max != 0 ? -127.0f / max : 0.0f;
    for (int j = 0; j < 256; j++)
      if (k[i].qs[j] != (int)nearbyintf(scale * x[256 * i + j]))
        wrong("q8_K", 256 * i + j, k[i].qs[j], (double)nearbyintf(scale * x[256 * i + j]));
    for (int g = 0; g < 16; g++) {
      int sum = 0;
      for (int j = 0; j < 16; j++)
        sum += k[i].qs[16 * g + j];
      if (k[i].bsums[g] != sum)
        wrong("sums of q8_K", 16 * i + g, k[i].bsums[g], sum);
    }
  }
  free(a), free(b), free(k);
}

// An f16 between 1/8 and 2 in magnitude, or a subnormal, or zero.
static uint16_t half_at(const uint8_t *data, size_t size, size_t i, double *ret) {
  const uint16_t bits = (uint16_t)(byte_at(data, size, 2 * i) | byte_at(data, size, 2 * i + 1) << 8);
  const uint16_t h = bits % 11 == 0 ? bits & 0x83ff : (uint16_t)((bits & 0x8fff) | 0x3000);
  *ret = (double)core2_f16(h);
  return h;
}

static void check(const char *what, int at, double got, double want, double size) {
  if (!(fabs(got - want) <= size * 0x1.0p-18 + 0x1.0p-100))
    wrong(what, at, got, want);
}

void fuzz_float_products(const uint8_t *data, size_t size) {
  const int n = 1 + (data[1] | data[2] << 8) % MOST_HALVES, rows = 1 + data[3] % 11, columns = 2 + data[4] % 5;
  uint16_t *h = malloc((size_t)(rows * n) * 2), *g = malloc((size_t)(columns * n) * 2);
  float *hf = malloc((size_t)(rows * n) * 4), *gf = malloc((size_t)(columns * n) * 4);
  double v;
  for (int i = 0; i < rows * n; i++)
    h[i] = half_at(data, size, (size_t)i, &v), hf[i] = (float)v;
  for (int i = 0; i < columns * n; i++)
    g[i] = half_at(data, size, (size_t)i * 3 + 1, &v), gf[i] = (float)v;
  float out[3][11 * 6], dot[2];
  const struct core2_params p = {0, 1};
  llamafile_sgemm(&p, rows, columns, n, h, n, g, n, out[0], rows, CORE2_F16, CORE2_F16, CORE2_F32);
  llamafile_sgemm(&p, rows, columns, n, h, n, gf, n, out[1], rows, CORE2_F16, CORE2_F32, CORE2_F32);
  llamafile_sgemm(&p, rows, columns, n, hf, n, gf, n, out[2], rows, CORE2_F32, CORE2_F32, CORE2_F32);
  for (int j = 0; j < columns; j++)
    for (int i = 0; i < rows; i++) {
      double want = 0, magnitude = 0;
      for (int l = 0; l < n; l++) {
        want += (double)hf[i * n + l] * (double)gf[j * n + l];
        magnitude += fabs((double)hf[i * n + l] * (double)gf[j * n + l]);
      }
      for (int t = 0; t < 3; t++)
        check("float matrix", t, (double)out[t][j * rows + i], want, magnitude);
      ggml_vec_dot_f16(n, &dot[0], 0, h + i * n, 0, g + j * n, 0, 1);
      ggml_vec_dot_f32(n, &dot[1], 0, hf + i * n, 0, gf + j * n, 0, 1);
      check("f16 dot", i, (double)dot[0], want, magnitude);
      check("f32 dot", i, (double)dot[1], want, magnitude);
    }
  free(h), free(g), free(hf), free(gf);
}

void fuzz_attention(const uint8_t *data, size_t size) {
  const int d = 32 * (1 + data[1] % 3), positions = 1 + data[2] % 70, tokens = 1 + data[3] % 4, heads = 1 + data[4] % 3;
  float *q = malloc((size_t)(d * tokens * heads) * 4), *out = malloc((size_t)(d * tokens * heads) * 4);
  uint16_t *k = malloc((size_t)(d * positions) * 2), *v = malloc((size_t)(d * positions) * 2);
  uint16_t *mask = malloc((size_t)(positions * tokens) * 2);
  double *fk = malloc((size_t)(d * positions) * 8), *fv = malloc((size_t)(d * positions) * 8), x;
  for (int i = 0; i < d * tokens * heads; i++)
    half_at(data, size, (size_t)i, &x), q[i] = (float)x;
  for (int i = 0; i < d * positions; i++) {
    k[i] = half_at(data, size, (size_t)i * 3 + 1, &fk[i]);
    v[i] = half_at(data, size, (size_t)i * 5 + 2, &fv[i]);
  }
  for (int i = 0; i < positions * tokens; i++)
    mask[i] = byte_at(data, size, (size_t)i) % 3 ? 0 : 0xfc00;
  const size_t row = (size_t)d;
  core2_tensor tq = {.type = CORE2_F32,
                     .ne = {d, tokens, heads, 1},
                     .nb = {4, row * 4, row * 4 * (size_t)tokens, 0},
                     .data = (char *)q};
  core2_tensor tk = {.type = CORE2_F16, .ne = {d, positions, 1, 1}, .nb = {2, row * 2, row * 2, 0}, .data = (char *)k};
  core2_tensor tv = tk, tm = {.type = CORE2_F16,
                              .ne = {positions, tokens, 1, 1},
                              .nb = {2, 2 * (size_t)positions, 0, 0},
                              .data = (char *)mask};
  core2_tensor to = {.type = CORE2_F32, .ne = {d, heads, tokens, 1}, .nb = {4, row * 4, 0, 0}, .data = (char *)out};
  const float scale = 0.1f;
  tv.data = (char *)v;
  memcpy(to.op_params, &scale, 4);
  to.src[0] = &tq, to.src[1] = &tk, to.src[2] = &tv, to.src[3] = &tm;
  ggml_compute_forward_flash_attn_ext(&(struct core2_params_full){.ith = 0, .nth = 1}, &to);
  for (int t = 0; t < tokens; t++)
    for (int h = 0; h < heads; h++) {
      double score[70], top = -INFINITY, sum = 0;
      for (int p = 0; p < positions; p++) {
        score[p] = 0;
        for (int i = 0; i < d; i++)
          score[p] += (double)q[(h * tokens + t) * d + i] * fk[p * d + i];
        score[p] = mask[t * positions + p] ? -INFINITY : score[p] * (double)scale;
        top = fmax(top, score[p]);
      }
      for (int p = 0; p < positions; p++)
        sum += score[p] = top == -INFINITY ? 0 : exp(score[p] - top);
      for (int i = 0; i < d; i++) {
        double want = 0;
        for (int p = 0; p < positions; p++)
          want += sum == 0 ? 0 : score[p] / sum * fv[p * d + i];
        if (!(fabs((double)out[(t * heads + h) * d + i] - want) <= 5e-5))
          wrong("attention", i, (double)out[(t * heads + h) * d + i], want);
      }
    }
  free(q), free(out), free(k), free(v), free(mask), free(fk), free(fv);
}
