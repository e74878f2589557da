#include <dlfcn.h>
#include <ggml.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "rig.h"

#define F(n, act, T, A, block, act_block)                                                                              \
  { #n, "ggml_vec_dot_" #n "_" #act, CORE2_##T, CORE2_##A, block, sizeof(core2_##n), sizeof(core2_##act), act_block }

const RigFormat rig_formats[] = {
    F(q4_0, q8_0, Q4_0, Q8_0, 32, 32),   F(q4_1, q8_1, Q4_1, Q8_1, 32, 32),   F(q5_0, q8_0, Q5_0, Q8_0, 32, 32),
    F(q8_0, q8_0, Q8_0, Q8_0, 32, 32),   F(mxfp4, q8_0, MXFP4, Q8_0, 32, 32), F(q4_K, q8_K, Q4_K, Q8_K, 256, 256),
    F(q5_K, q8_K, Q5_K, Q8_K, 256, 256), F(q6_K, q8_K, Q6_K, Q8_K, 256, 256),
};
const int rig_n_formats = G_N_ELEMENTS(rig_formats);

static void *ours, *stock, *base;

static void *open_in(const char *dir, const char *name) {
  g_autofree char *path = g_build_filename(dir, name, NULL);
  void *h = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!h)
    g_error("%s", dlerror());
  return h;
}

void rig_open(int *argc, char ***argv) {
  const char *dir = g_getenv("CHOIR_ENGINE_DIR");
  const char *file = g_getenv("CHOIR_ENGINE_FILE");
  if (!dir || !*dir || !file || !*file) {
    g_print("1..0 # SKIP needs CHOIR_ENGINE_DIR and CHOIR_ENGINE_FILE\n");
    exit(0);
  }
  g_test_init(argc, argv, NULL);
  alarm(600);
  base = open_in(dir, "libggml-base.so");
  stock = open_in(dir, "libggml-cpu-x64.so");
  ours = dlopen(file, RTLD_NOW | RTLD_LOCAL);
  if (!ours)
    g_error("%s", dlerror());
  void (*init)(void) = rig_stock("ggml_cpu_init"); // fills the f16 table the portable kernels read
  init();
}

static void *find(void *lib, const char *name) {
  void *f = dlsym(lib, name);
  if (!f)
    g_error("%s", dlerror());
  return f;
}

void *rig_ours(const char *name) {
  return find(ours, name);
}

void *rig_stock(const char *name) {
  return find(stock, name);
}

void rig_to_float(enum core2_type type, const void *blocks, float *ret_values, int64_t n) {
  const struct ggml_type_traits *(*traits)(enum ggml_type) = find(base, "ggml_get_type_traits");
  traits((enum ggml_type)type)->to_float(blocks, ret_values, n);
}

static size_t mapped(size_t bytes, size_t shift) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  return (bytes + shift + page - 1) / page * page;
}

void *rig_row(size_t bytes, size_t shift) {
  const size_t len = mapped(bytes, shift);
  char *p = mmap(NULL, len + (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  g_assert_true(p != MAP_FAILED);
  g_assert_cmpint(mprotect(p + len, (size_t)sysconf(_SC_PAGESIZE), PROT_NONE), ==, 0);
  return p + len - bytes - shift;
}

void rig_free_row(void *row, size_t bytes, size_t shift) {
  const size_t len = mapped(bytes, shift);
  munmap((char *)row + bytes + shift - len, len + (size_t)sysconf(_SC_PAGESIZE));
}

float rig_f16(uint16_t h) {
  const int e = h >> 10 & 31, m = h & 1023;
  const float v = e == 31 ? (m ? NAN : INFINITY) : e ? ldexpf((float)(1024 + m), e - 25) : ldexpf((float)m, -24);
  return h & 0x8000 ? -v : v;
}

uint16_t rig_to_f16(float v) {
  ggml_fp16_t (*f)(float) = find(base, "ggml_fp32_to_fp16");
  return f(v);
}

static uint16_t scale(RigKind kind, gboolean may_be_negative) {
  const uint16_t sign = may_be_negative && g_test_rand_bit() ? 0x8000 : 0;
  if (kind == RIG_SUBNORMAL)
    return (uint16_t)(sign | g_test_rand_int_range(0, 0x500)); // both sides of the border
  if (kind == RIG_RANDOM)
    return (uint16_t)(sign | g_test_rand_int_range(0x0800, 0x2c00));
  return sign | 0x3c00; // 1.0
}

static void random_bytes(void *p, size_t n, RigKind kind) {
  uint8_t *b = p;
  for (size_t i = 0; i < n; i++)
    b[i] = kind == RIG_EXTREME ? (g_test_rand_bit() ? 0xff : 0x00) : (uint8_t)g_test_rand_int_range(0, 256);
}

// Six-bit scales as the file packs them; with exact sums only one may be large.
static void fill_scales(uint8_t *packed, RigKind kind) {
  uint8_t sc[8], mn[8];
  for (int i = 0; i < 8; i++) {
    const int big = kind == RIG_RANDOM || kind == RIG_SUBNORMAL;
    sc[i] = (uint8_t)g_test_rand_int_range(0, big ? 64 : 5);
    mn[i] = (uint8_t)g_test_rand_int_range(0, big ? 64 : 5);
  }
  if (g_test_rand_bit())
    sc[g_test_rand_int_range(0, 8)] = 63;
  if (g_test_rand_bit())
    mn[g_test_rand_int_range(0, 8)] = 63;
  for (int i = 0; i < 4; i++) {
    packed[i] = (uint8_t)(sc[i] | (sc[i + 4] >> 4) << 6);
    packed[i + 4] = (uint8_t)(mn[i] | (mn[i + 4] >> 4) << 6);
    packed[i + 8] = (uint8_t)((sc[i + 4] & 15) | (mn[i + 4] & 15) << 4);
  }
}

static void fill_block(const RigFormat *f, RigKind kind, uint8_t *b) {
  random_bytes(b, f->size, kind);
  const uint16_t d = scale(kind, TRUE);
  const uint16_t m = kind == RIG_EXACT || kind == RIG_EXTREME ? 0xc000 : scale(kind, TRUE); // -2
  switch (f->type) {
  case CORE2_MXFP4:
    b[0] = (uint8_t)(kind == RIG_SUBNORMAL ? g_test_rand_int_range(0, 30)
                     : kind == RIG_RANDOM  ? g_test_rand_int_range(110, 130)
                                           : 128);
    break;
  case CORE2_Q6_K:
    memcpy(b + 208, &d, 2);
    for (int i = 0; i < 16 && kind != RIG_RANDOM; i++)
      ((core2_q6_K *)b)->scales[i] = (int8_t)g_test_rand_int_range(-4, 5);
    if (kind == RIG_EXTREME)
      ((core2_q6_K *)b)->scales[g_test_rand_int_range(0, 16)] = -128;
    break;
  case CORE2_Q4_K:
  case CORE2_Q5_K:
    fill_scales(b + 4, kind);
    memcpy(b, &d, 2);
    memcpy(b + 2, &m, 2);
    break;
  case CORE2_Q4_1:
    memcpy(b, &d, 2);
    memcpy(b + 2, &m, 2);
    break;
  default:
    memcpy(b, &d, 2);
  }
}

void rig_fill_weights(const RigFormat *f, RigKind kind, void *row, int n) {
  for (int i = 0; i < n / f->block; i++)
    fill_block(f, kind, (uint8_t *)row + (size_t)i * f->size);
}

// Quants stay within -127..127, the range every ggml quantiser keeps.
static void fill_quants(int8_t *q, int n, RigKind kind) {
  for (int i = 0; i < n; i++)
    q[i] = (int8_t)(kind == RIG_EXTREME ? (g_test_rand_bit() ? 127 : -127) : g_test_rand_int_range(-127, 128));
  if (kind == RIG_EXTREME && g_test_rand_bit())
    memset(q, g_test_rand_bit() ? 127 : -127, (size_t)n);
}

static void fill_q8_K(core2_q8_K *b, RigKind kind) {
  b->d = kind == RIG_RANDOM ? (float)g_test_rand_double_range(-0.1, 0.1) : kind == RIG_SUBNORMAL ? 1e-6f : 1.0f;
  fill_quants(b->qs, 256, kind);
  for (int j = 0; j < 16; j++) {
    b->bsums[j] = 0;
    for (int l = 0; l < 16; l++)
      b->bsums[j] = (int16_t)(b->bsums[j] + b->qs[16 * j + l]);
  }
}

void rig_fill_activations(const RigFormat *f, RigKind kind, void *row, int n) {
  for (int i = 0; i < n / f->act_block; i++) {
    uint8_t *b = (uint8_t *)row + (size_t)i * f->act_size;
    if (f->act == CORE2_Q8_K) {
      fill_q8_K((core2_q8_K *)b, kind);
      continue;
    }
    const uint16_t d = scale(kind, FALSE);
    memcpy(b, &d, 2);
    int8_t *q = (int8_t *)b + (f->act == CORE2_Q8_1 ? 4 : 2);
    fill_quants(q, 32, kind);
    if (f->act == CORE2_Q8_1) {
      int sum = 0;
      for (int j = 0; j < 32; j++)
        sum += q[j];
      const uint16_t s = rig_to_f16((float)sum * rig_f16(d));
      memcpy(b + 2, &s, 2);
    }
  }
}

int rig_most_blocks(const RigFormat *f, RigKind kind, int wish) {
  // A superblock at its extremes reaches 12 million, a random one half a million; a block of 32 at most 520,000.
  if (kind > RIG_EXTREME)
    return wish;
  return MIN(wish, f->block == 32 ? 30 : kind == RIG_EXTREME ? 1 : 9);
}

double rig_magnitude(const RigFormat *f, const void *x, const void *y, int n) {
  double total = 0;
  float w[256];
  for (int i = 0; i < n / f->block; i++) {
    rig_to_float(f->type, (const char *)x + (size_t)i * f->size, w, f->block);
    double top = 0, sum = 0;
    for (int j = 0; j < f->block; j++)
      top = MAX(top, fabs((double)w[j]));
    const uint8_t *b = (const uint8_t *)y + (size_t)i * f->act_size;
    const size_t at = f->act == CORE2_Q8_K ? 4 : f->act == CORE2_Q8_1 ? 4 : 2;
    uint16_t h;
    memcpy(&h, b, 2);
    const double d = f->act == CORE2_Q8_K ? fabs((double)((const core2_q8_K *)b)->d) : fabs((double)rig_f16(h));
    for (int j = 0; j < f->block; j++)
      sum += d * abs(((const int8_t *)b)[at + (size_t)j]);
    total += top * sum;
  }
  return total;
}
