// The loader's side of the file: see docs/engine.md. Both functions are called by ggml's own loader, on its thread.
#pragma once
#include "blocks.h"

// 0: do not use this file here. Stock scores: x64 1, sse42 5, sandybridge 21, haswell 64 and more.
CORE2_EXPORT int ggml_backend_score(void);

// A ggml_backend_reg_t of the stock variant beside this file, with our kernels bound into it; NULL without one.
CORE2_EXPORT void *ggml_backend_init(void);

// What was decided and why, one line; static storage. For status pages, found by dlsym.
CORE2_EXPORT const char *choir_core2_status(void);

// The stock variant's own functions, for what a kernel hands back; NULL before ggml_backend_init.
extern struct core2_stock { void *sgemm, *tiled, *attention; } core2_stock;
