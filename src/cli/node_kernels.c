#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml.h>
#include <string.h>
#include <time.h>
#include "cli/node_bench.h"

#define WIDTH 2048
#define COLD_BYTES ((gint64)64 << 20)
#define PREFILL_ROWS 8192
#define COLUMNS 64
#define PATTERN_ROWS 16

static const enum ggml_type types[] = {GGML_TYPE_Q4_0, GGML_TYPE_Q4_1,   GGML_TYPE_Q5_0,  GGML_TYPE_Q5_1,
                                       GGML_TYPE_Q8_0, GGML_TYPE_Q3_K,   GGML_TYPE_Q4_K,  GGML_TYPE_Q5_K,
                                       GGML_TYPE_Q6_K, GGML_TYPE_IQ4_NL, GGML_TYPE_MXFP4, GGML_TYPE_F16};

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A few rows of noise, quantised once and repeated: speed does not depend on the values. */
static void fill(struct ggml_tensor *weights) {
  static float noise[PATTERN_ROWS * WIDTH];
  const gsize row = ggml_row_size(weights->type, WIDTH), total = ggml_nbytes(weights);
  g_autofree char *pattern = g_malloc(row * PATTERN_ROWS);
  g_autofree char *all = g_malloc(total);
  g_autoptr(GRand) random = g_rand_new_with_seed(4);
  for (gsize i = 0; i < G_N_ELEMENTS(noise); i++)
    noise[i] = (float)g_rand_double_range(random, -1, 1);
  ggml_quantize_chunk(weights->type, noise, pattern, 0, PATTERN_ROWS, WIDTH, NULL);
  for (gsize at = 0; at < total; at += row * PATTERN_ROWS)
    memcpy(all + at, pattern, MIN(row * PATTERN_ROWS, total - at));
  ggml_backend_tensor_set(weights, all, 0, total);
}

typedef struct {
  ggml_backend_dev_t device;
  ggml_backend_t backend;
} Cpu;

/* Where llama.cpp would put such weights: in a layout of the back end's own when it has one for them. */
static ggml_backend_buffer_t place(const Cpu *cpu, struct ggml_context *context, struct ggml_tensor *product) {
  ggml_backend_dev_get_extra_bufts_t extra = (ggml_backend_dev_get_extra_bufts_t)ggml_backend_reg_get_proc_address(
      ggml_backend_dev_backend_reg(cpu->device), "ggml_backend_dev_get_extra_bufts");
  ggml_backend_buffer_type_t *list = extra ? extra(cpu->device) : NULL;
  for (; list && *list; list++) {
    ggml_backend_buffer_t buffer = ggml_backend_alloc_ctx_tensors_from_buft(context, *list);
    if (buffer && ggml_backend_dev_supports_op(cpu->device, product))
      return buffer;
    ggml_backend_buffer_free(buffer);
    for (struct ggml_tensor *t = ggml_get_first_tensor(context); t; t = ggml_get_next_tensor(context, t)) {
      t->buffer = NULL;
      t->data = NULL;
      t->extra = NULL;
    }
  }
  return ggml_backend_alloc_ctx_tensors_from_buft(context, ggml_backend_dev_buffer_type(cpu->device));
}

static void use_threads(const Cpu *cpu, guint threads) {
  ggml_backend_set_n_threads_t set = (ggml_backend_set_n_threads_t)ggml_backend_reg_get_proc_address(
      ggml_backend_dev_backend_reg(cpu->device), "ggml_backend_set_n_threads");
  if (set)
    set(cpu->backend, (int)threads);
}

/* Products a second of one weight matrix times some columns; 0 when it cannot be measured. */
static double product_rate(const Cpu *cpu, enum ggml_type type, gint64 rows, gint64 columns, double seconds) {
  struct ggml_init_params params = {.mem_size = 16 * ggml_tensor_overhead() + ggml_graph_overhead(), .no_alloc = true};
  struct ggml_context *of_weights = ggml_init(params), *of_rest = ggml_init(params);
  struct ggml_tensor *weights = ggml_new_tensor_2d(of_weights, type, WIDTH, rows);
  struct ggml_tensor *input = ggml_new_tensor_2d(of_rest, GGML_TYPE_F32, WIDTH, columns);
  struct ggml_tensor *product = ggml_mul_mat(of_rest, weights, input);
  struct ggml_cgraph *graph = ggml_new_graph(of_rest);
  ggml_build_forward_expand(graph, product);
  ggml_backend_buffer_t first = place(cpu, of_weights, product);
  ggml_backend_buffer_t second =
      ggml_backend_alloc_ctx_tensors_from_buft(of_rest, ggml_backend_dev_buffer_type(cpu->device));
  double best = 0;
  if (first && second) {
    fill(weights);
    g_autofree float *values = g_new(float, WIDTH *columns);
    for (gint64 i = 0; i < WIDTH * columns; i++)
      values[i] = (float)(i % 17) / 16 - 0.5f;
    ggml_backend_tensor_set(input, values, 0, sizeof(float) * (gsize)(WIDTH * columns));
    ggml_backend_graph_compute(cpu->backend, graph);
    for (int repeat = 0; repeat < 3; repeat++) {
      const double begun = now();
      double used;
      guint rounds = 0;
      do {
        ggml_backend_graph_compute(cpu->backend, graph);
        rounds++;
        used = now() - begun;
      } while (used < seconds);
      best = MAX(best, (double)rounds * WIDTH * (double)rows * (double)columns / used);
    }
  }
  ggml_backend_buffer_free(first);
  ggml_backend_buffer_free(second);
  ggml_free(of_weights);
  ggml_free(of_rest);
  return best;
}

json_t *node_kernels(guint decode_threads, guint prefill_threads, double seconds) {
  json_t *rows = json_array();
  Cpu cpu = {.device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU)};
  cpu.backend = cpu.device ? ggml_backend_dev_init(cpu.device, NULL) : NULL;
  for (gsize i = 0; cpu.backend && i < G_N_ELEMENTS(types); i++) {
    const double bytes_each = (double)ggml_row_size(types[i], WIDTH) / WIDTH;
    const gint64 cold_rows = COLD_BYTES / (gint64)ggml_row_size(types[i], WIDTH) / 64 * 64;
    use_threads(&cpu, decode_threads);
    const double decode = product_rate(&cpu, types[i], cold_rows, 1, seconds);
    use_threads(&cpu, prefill_threads);
    const double prefill = product_rate(&cpu, types[i], PREFILL_ROWS, COLUMNS, seconds);
    json_array_append_new(rows, json_pack("{s:s,s:f,s:f,s:f,s:f}", "type", ggml_type_name(types[i]), "bits",
                                          8 * bytes_each, "decode_gb_s", decode * bytes_each / 1e9, "decode_gmac_s",
                                          decode / 1e9, "prefill_gmac_s", prefill / 1e9));
  }
  if (cpu.backend)
    ggml_backend_free(cpu.backend);
  return rows;
}
