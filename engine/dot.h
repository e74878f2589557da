// What this file overrides in a stock CPU variant, under ggml's own names and signatures. Callable from any thread;
// nothing is allocated. n is a multiple of the format's block size; x are weights, y activations; the stride
// arguments and nrc serve processors with matrix instructions and are ignored here, as the stock x86 files do.
#pragma once
#include "blocks.h"

core2_dot_fn ggml_vec_dot_q4_0_q8_0, ggml_vec_dot_q4_1_q8_1, ggml_vec_dot_q5_0_q8_0, ggml_vec_dot_q8_0_q8_0,
    ggml_vec_dot_mxfp4_q8_0, ggml_vec_dot_q5_1_q8_1, ggml_vec_dot_iq4_nl_q8_0, ggml_vec_dot_q2_0_q8_0;
core2_dot_fn ggml_vec_dot_f16, ggml_vec_dot_f32;
core2_dot_fn ggml_vec_dot_q4_K_q8_K, ggml_vec_dot_q5_K_q8_K, ggml_vec_dot_q6_K_q8_K;
core2_dot_fn ggml_vec_dot_q2_K_q8_K, ggml_vec_dot_q3_K_q8_K, ggml_vec_dot_tq2_0_q8_K, ggml_vec_dot_iq4_xs_q8_K;
core2_quantize_fn quantize_row_q8_0, quantize_row_q8_1, quantize_row_q8_K;
