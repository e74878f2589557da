// Kernel rates: one row of 2,048 weights against one activation row, in GMAC per second of CPU time, for each library
// named on the command line. The libraries take turns, so a busy machine slows all of them alike; medians are shown.
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

enum { LENGTH = 2048, ROWS = 24, ROUNDS = 7, MAX_LIBS = 8 };

static const struct {
  const char *dot;
  size_t block, size, act_block, act_size;
} formats[] = {
    {"ggml_vec_dot_q4_0_q8_0", 32, sizeof(core2_q4_0), 32, sizeof(core2_q8_0)},
    {"ggml_vec_dot_q4_1_q8_1", 32, sizeof(core2_q4_1), 32, sizeof(core2_q8_1)},
    {"ggml_vec_dot_q5_0_q8_0", 32, sizeof(core2_q5_0), 32, sizeof(core2_q8_0)},
    {"ggml_vec_dot_q8_0_q8_0", 32, sizeof(core2_q8_0), 32, sizeof(core2_q8_0)},
    {"ggml_vec_dot_mxfp4_q8_0", 32, sizeof(core2_mxfp4), 32, sizeof(core2_q8_0)},
    {"ggml_vec_dot_q4_K_q8_K", 256, sizeof(core2_q4_K), 256, sizeof(core2_q8_K)},
    {"ggml_vec_dot_q5_K_q8_K", 256, sizeof(core2_q5_K), 256, sizeof(core2_q8_K)},
    {"ggml_vec_dot_q6_K_q8_K", 256, sizeof(core2_q6_K), 256, sizeof(core2_q8_K)},
    {"ggml_vec_dot_f16", 1, 2, 1, 2},
    {"ggml_vec_dot_f32", 1, 4, 1, 4},
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
      for (int i = 0; i < ROWS * 4; i++, dots++)
        dot(LENGTH, &s, 0, x + (size_t)(i % ROWS) * row, 0, y, 0, 1);
      used = cpu_seconds() - start;
    } while (used < 0.006);
    const double r = (double)dots * LENGTH / used / 1e9;
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

int main(int argc, char **argv) {
  void *lib[MAX_LIBS];
  const int n = argc - 1 < MAX_LIBS ? argc - 1 : MAX_LIBS;
  if (n < 1) {
    fprintf(stderr, "usage: kernels OUR-FILE [STOCK-VARIANT]...\n");
    return 2;
  }
  printf("%-26s", "GMAC/s, one column");
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
  for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
    const size_t row = LENGTH / formats[f].block * formats[f].size;
    char *x = fill(row * ROWS), *y = fill(LENGTH / formats[f].act_block * formats[f].act_size);
    double rates[MAX_LIBS][ROUNDS] = {{0}};
    for (int r = 0; r < ROUNDS; r++)
      for (int l = 0; l < n; l++) {
        core2_dot_fn *dot = (core2_dot_fn *)dlsym(lib[l], formats[f].dot);
        if (dot)
          rates[l][r] = rate(dot, x, row, y);
      }
    printf("%-26s", formats[f].dot + strlen("ggml_vec_dot_"));
    for (int l = 0; l < n; l++) {
      qsort(rates[l], ROUNDS, sizeof(double), by_value);
      printf(" %24.2f", rates[l][ROUNDS / 2]);
    }
    printf("\n");
    free(x);
    free(y);
  }
  return 0;
}
