/* Parts of choir-node-bench, the program behind `choir bench node`. It alone links ggml, so that the daemon does not.
 */
#pragma once
#include <glib.h>
#include <jansson.h>

/* Reading speed of memory far larger than any cache: [{"threads","gb_s"}] for 1, 2, 4 ... and all processors. */
json_t *node_memory(guint threads, double seconds);
/* GB/s of the fastest row. */
double node_memory_best(const json_t *rows);

#ifdef CHOIR_HAVE_GGML
/* Loads the CPU back end that ggml chooses from the folder. Returns {"name","why"}: which file serves and what it said
 * about itself; NULL with error. */
json_t *node_load_backend(const char *folder, GError **error);
/* Speed of matrix products of each weight format, as llama.cpp would place and run them:
 * [{"type","bits","decode_gb_s","decode_gmac_s","prefill_gmac_s"}]. decode: one column, weights not in any cache,
 * decode_threads; prefill: 64 columns, prefill_threads. */
json_t *node_kernels(guint decode_threads, guint prefill_threads, double seconds);
/* What a GGUF file asks for per token: {"types":{"q4_K":{"bytes","prefill_mac"}}}; bytes are read once per written
 * token, prefill_mac are products per token of a prompt. NULL with error. */
json_t *node_model(const char *path, GError **error);
#endif
