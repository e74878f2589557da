// The part of ggml's tensor that whole operations read. The attention test compares these offsets with ggml.h.
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef struct core2_tensor {
  int type;
  void *buffer;
  int64_t ne[4]; // elements per dimension
  size_t nb[4];  // bytes from one to the next
  int op;
  int32_t op_params[16];
  int32_t flags;
  struct core2_tensor *src[10];
  struct core2_tensor *view_src;
  size_t view_offs;
  char *data;
} core2_tensor;

struct core2_params_full { // ggml_compute_params
  int ith, nth;
  size_t wsize;
  void *wdata;
  void *threadpool;
  _Bool use_ref;
};

// ggml's own name: dst = softmax(scale q k^T + mask) v. q: [DK, tokens, heads, streams] f32; k, v: [DK or DV,
// positions, kv heads, streams]; dst: [DV, heads, tokens, streams] f32. Called by every thread of the graph.
void ggml_compute_forward_flash_attn_ext(const struct core2_params_full *params, core2_tensor *dst);

// Stock variants with AVX take k-quants here, before they ask llamafile_sgemm. Declines the formats that are ours.
_Bool ggml_compute_forward_mul_mat_tiled(const struct core2_params_full *params, core2_tensor *dst);
