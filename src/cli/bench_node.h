/* `choir bench node`: what this machine can do, and what that means for each listed model. */
#pragma once
#include <jansson.h>

int choir_bench_node_main(int argc, char **argv);

/* Pure sums, for the tests. kernels and types as choir-node-bench prints them, gb_s the memory's reading speed.
 * Returns {"decode_t_s","prefill_t_s","bound_t_s","gb"}; a format that was not measured counts as the slowest one. */
json_t *choir_bench_node_expect(const json_t *kernels, const json_t *types, double gb_s);
/* The same "types" for a model of which only size and format are known ("Q4_K_M"): all its bytes are weights that are
 * read for each token. NULL when the format is not known. */
json_t *choir_bench_node_guess(const json_t *kernels, const char *format, double bytes);
