// Plan B, in place of variant.c: a whole CPU variant, stock sources and our kernels linked into one file
// (tools/build-engine --core2-full). The stock objects' own versions of what we replace carry the prefix stock_.
// It needs no symbol to be replaceable, but belongs to the one ggml it was built from.
#include <cpuid.h>
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../dot.h"
#include "../variant.h"

#define SCORE 22 // as libggml-cpu-core2.so has it
#define SCORE_FORCED (1 << 20)

// Weak, since a ggml may lack one of them.
__attribute__((weak)) void stock_llamafile_sgemm(void);
__attribute__((weak)) void stock_ggml_compute_forward_mul_mat_tiled(void);
__attribute__((weak)) void stock_ggml_compute_forward_flash_attn_ext(void);
void *stock_ggml_backend_init(void);
const char *ggml_version(void);

struct core2_stock core2_stock;
static char status[256] = "not loaded";

const char *choir_core2_status(void) {
  return status;
}

// The smaller file decides where it lies beside this one; it comes here when a stock file cannot be built upon.
static int other_decides(void) {
  Dl_info self;
  char path[PATH_MAX];
  if (!dladdr((void *)ggml_backend_score, &self) || !self.dli_fname)
    return 0;
  const char *slash = strrchr(self.dli_fname, '/');
  const int dir = slash ? (int)(slash + 1 - self.dli_fname) : 0;
  return (size_t)snprintf(path, sizeof path, "%.*slibggml-cpu-core2.so", dir, self.dli_fname) < sizeof path &&
         access(path, R_OK) == 0;
}

int ggml_backend_score(void) {
  unsigned a, b, c = 0, d;
  const char *wanted = getenv("CHOIR_CPU_VARIANT");
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_SSSE3))
    return 0;
  if (wanted && *wanted)
    return strcmp(wanted, "core2-full") == 0 ? SCORE_FORCED : 0;
  return other_decides() ? 0 : SCORE;
}

void *ggml_backend_init(void) {
  const char *version = ggml_version();
  if (strcmp(version, CORE2_GGML_VERSION) != 0) {
    snprintf(status, sizeof status, "built for ggml " CORE2_GGML_VERSION ", not for ggml %.100s: rebuild it", version);
    fprintf(stderr, "ggml-cpu-core2-full: %s\n", status);
    return NULL;
  }
  core2_stock.sgemm = (void *)stock_llamafile_sgemm;
  core2_stock.tiled = (void *)stock_ggml_compute_forward_mul_mat_tiled;
  core2_stock.attention = (void *)stock_ggml_compute_forward_flash_attn_ext;
  snprintf(status, sizeof status, "SSSE3 kernels in a variant of their own (ggml %.100s)", version);
  fprintf(stderr, "ggml-cpu-core2-full: %s\n", status);
  return stock_ggml_backend_init();
}
