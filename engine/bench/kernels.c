// Kernel rates in GMAC per second of CPU time, for each library named on the command line: dot products of 2,048-long
// rows, then a matrix times one column and times 32 (by dot products where a library has no matrix kernel for the
// format). The libraries take turns, so a busy machine slows all of them alike; medians are shown.
//   gcc -O2 -o kernels engine/bench/kernels.c -ldl
//   ./kernels build/engine/libggml-cpu-core2.so path/to/libggml-cpu-x64.so ...
#define _GNU_SOURCE
#include <dlfcn.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "../blocks.h"

enum { LENGTH = 2048, ROWS = 96, COLUMNS = 32, ROUNDS = 7, MAX_LIBS = 8 };

typedef _Bool sgemm_fn(const void *, int64_t, int64_t, int64_t, const void *, int64_t, const void *, int64_t, void *,
                       int64_t, int, int, int);

static const struct {
  const char *dot;
  size_t block, size, act_block, act_size;
  int type, act;
} formats[] = {
    {"ggml_vec_dot_q4_0_q8_0", 32, sizeof(core2_q4_0), 32, sizeof(core2_q8_0), CORE2_Q4_0, CORE2_Q8_0},
    {"ggml_vec_dot_q4_1_q8_1", 32, sizeof(core2_q4_1), 32, sizeof(core2_q8_1), CORE2_Q4_1, CORE2_Q8_1},
    {"ggml_vec_dot_q5_0_q8_0", 32, sizeof(core2_q5_0), 32, sizeof(core2_q8_0), CORE2_Q5_0, CORE2_Q8_0},
    {"ggml_vec_dot_q8_0_q8_0", 32, sizeof(core2_q8_0), 32, sizeof(core2_q8_0), CORE2_Q8_0, CORE2_Q8_0},
    {"ggml_vec_dot_q5_1_q8_1", 32, sizeof(core2_q5_1), 32, sizeof(core2_q8_1), CORE2_Q5_1, CORE2_Q8_1},
    {"ggml_vec_dot_iq4_nl_q8_0", 32, sizeof(core2_iq4_nl), 32, sizeof(core2_q8_0), CORE2_IQ4_NL, CORE2_Q8_0},
    {"ggml_vec_dot_q2_0_q8_0", 64, sizeof(core2_q2_0), 32, sizeof(core2_q8_0), CORE2_Q2_0, CORE2_Q8_0},
    {"ggml_vec_dot_q2_K_q8_K", 256, sizeof(core2_q2_K), 256, sizeof(core2_q8_K), CORE2_Q2_K, CORE2_Q8_K},
    {"ggml_vec_dot_q3_K_q8_K", 256, sizeof(core2_q3_K), 256, sizeof(core2_q8_K), CORE2_Q3_K, CORE2_Q8_K},
    {"ggml_vec_dot_tq2_0_q8_K", 256, sizeof(core2_tq2_0), 256, sizeof(core2_q8_K), CORE2_TQ2_0, CORE2_Q8_K},
    {"ggml_vec_dot_iq4_xs_q8_K", 256, sizeof(core2_iq4_xs), 256, sizeof(core2_q8_K), CORE2_IQ4_XS, CORE2_Q8_K},
    {"ggml_vec_dot_mxfp4_q8_0", 32, sizeof(core2_mxfp4), 32, sizeof(core2_q8_0), CORE2_MXFP4, CORE2_Q8_0},
    {"ggml_vec_dot_q4_K_q8_K", 256, sizeof(core2_q4_K), 256, sizeof(core2_q8_K), CORE2_Q4_K, CORE2_Q8_K},
    {"ggml_vec_dot_q5_K_q8_K", 256, sizeof(core2_q5_K), 256, sizeof(core2_q8_K), CORE2_Q5_K, CORE2_Q8_K},
    {"ggml_vec_dot_q6_K_q8_K", 256, sizeof(core2_q6_K), 256, sizeof(core2_q8_K), CORE2_Q6_K, CORE2_Q8_K},
    {"ggml_vec_dot_f16", 1, 2, 1, 2, CORE2_F16, CORE2_F16},
    {"ggml_vec_dot_f32", 1, 4, 1, 4, CORE2_F32, CORE2_F32},
};

static double cpu_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double rate(core2_dot_fn *dot, const char *x, size_t row, const char *y) {
  float s;
  double best = 0;
  for (int round = 0; round < 3; round++) {
    long dots = 0;
    const double start = cpu_seconds();
    double used;
    do {
      for (int i = 0; i < ROWS; i++, dots++)
        dot(LENGTH, &s, 0, x + (size_t)(i % ROWS) * row, 0, y, 0, 1);
      used = cpu_seconds() - start;
    } while (used < 0.006);
    const double r = (double)dots * LENGTH / used / 1e9;
    best = r > best ? r : best;
  }
  return best;
}

// ggml calls the hook; where it declines, every pair of row and column is a dot product.
static double matrix_rate(sgemm_fn *sgemm, core2_dot_fn *dot, size_t f, const char *x, size_t row, const char *y,
                          size_t column, int columns) {
  static float out[ROWS * COLUMNS];
  const struct {
    int ith, nth;
    size_t wsize;
    void *wdata, *threadpool;
    _Bool use_ref;
  } params = {.nth = 1};
  const int64_t lda = (int64_t)(LENGTH / formats[f].block), ldb = (int64_t)(LENGTH / formats[f].act_block);
  double best = 0;
  for (int round = 0; round < 2; round++) {
    long products = 0;
    const double start = cpu_seconds();
    double used;
    do {
      if (!sgemm ||
          !sgemm(&params, ROWS, columns, lda, x, lda, y, ldb, out, ROWS, formats[f].type, formats[f].act, CORE2_F32))
        for (int j = 0; j < columns; j++)
          for (int i = 0; i < ROWS; i++)
            dot(LENGTH, &out[j * ROWS + i], 0, x + (size_t)i * row, 0, y + (size_t)j * column, 0, 1);
      products += ROWS * columns;
      used = cpu_seconds() - start;
    } while (used < 0.01);
    const double r = (double)products * LENGTH / used / 1e9;
    best = r > best ? r : best;
  }
  return best;
}

static int by_value(const void *a, const void *b) {
  return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

// Bytes that are harmless in any format: small quants, scales near 0.01 wherever a scale may lie.
static char *fill(size_t bytes) {
  char *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
  for (size_t i = 0; i < bytes; i++)
    p[i] = (char)(i & 1 ? 0x21 : rand() & 0x7f);
  return p;
}

static void measure(void *const lib[], int n, size_t f, int columns) {
  const size_t row = LENGTH / formats[f].block * formats[f].size;
  const size_t column = LENGTH / formats[f].act_block * formats[f].act_size;
  char *x = fill(row * ROWS), *y = fill(column * COLUMNS);
  double rates[MAX_LIBS][ROUNDS] = {{0}};
  for (int r = 0; r < ROUNDS; r++)
    for (int l = 0; l < n; l++) {
      core2_dot_fn *dot = (core2_dot_fn *)dlsym(lib[l], formats[f].dot);
      // Stock hooks need a thread pool, so only ours, the first library, is called through it.
      sgemm_fn *sgemm = l == 0 ? (sgemm_fn *)dlsym(lib[l], "llamafile_sgemm") : NULL;
      if (dot)
        rates[l][r] = columns ? matrix_rate(sgemm, dot, f, x, row, y, column, columns) : rate(dot, x, row, y);
    }
  printf("%s %-21s", columns > 1 ? "gemm" : columns ? "gemv" : "dot ", formats[f].dot + strlen("ggml_vec_dot_"));
  for (int l = 0; l < n; l++) {
    qsort(rates[l], ROUNDS, sizeof(double), by_value);
    printf(" %24.2f", rates[l][ROUNDS / 2]);
  }
  printf("\n");
  fflush(stdout);
  free(x);
  free(y);
}

int main(int argc, char **argv) {
  void *lib[MAX_LIBS];
  const int n = argc - 1 < MAX_LIBS ? argc - 1 : MAX_LIBS;
  if (n < 1) {
    fprintf(stderr, "usage: kernels OUR-FILE [STOCK-VARIANT]...\n");
    return 2;
  }
  printf("%-26s", "GMAC/s");
  for (int l = 0; l < n; l++) {
    lib[l] = dlopen(argv[l + 1], RTLD_NOW | RTLD_LOCAL);
    if (!lib[l]) {
      fprintf(stderr, "kernels: %s\n", dlerror());
      return 1;
    }
    void (*init)(void) = (void (*)(void))dlsym(lib[l], "ggml_cpu_init");
    if (init)
      init();
    char *name = strdup(argv[l + 1]);
    printf(" %24.24s", basename(name));
    free(name);
  }
  printf("\n");
  static const int columns[] = {0, 1, COLUMNS};
  for (int i = 0; i < 3; i++)
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++)
      measure(lib, n, f, columns[i]);
  return 0;
}
