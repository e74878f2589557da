// Attention against a plain double-precision softmax, over cache types, head sharing, masks, sinks and threads.
#include <ggml.h>
#include <math.h>
#include <string.h>
#include "../../../engine/tensor.h"
#include "rig.h"

#define SAME_OFFSET(field) G_STATIC_ASSERT(offsetof(core2_tensor, field) == offsetof(struct ggml_tensor, field))
SAME_OFFSET(type);
SAME_OFFSET(ne);
SAME_OFFSET(nb);
SAME_OFFSET(op_params);
SAME_OFFSET(src);
SAME_OFFSET(data);

typedef void attention_fn(const struct core2_params_full *, core2_tensor *);

typedef struct {
  int dk, dv, tokens, heads, kv_heads, streams, positions;
  enum core2_type cache;
  gboolean mask, sinks, softcap;
  int threads;
} Shape;

static size_t bytes_of(enum core2_type t, int n) {
  return t == CORE2_F32 ? 4 * (size_t)n : t == CORE2_F16 ? 2 * (size_t)n : (size_t)n / 32 * sizeof(core2_q8_0);
}

// Random values in a tensor of the given type; `ret` receives them as the tensor holds them.
static void fill(core2_tensor *t, enum core2_type type, int n0, int n1, int n2, int n3, float *ret) {
  const size_t row = bytes_of(type, n0);
  *t = (core2_tensor){.type = type, .ne = {n0, n1, n2, n3}};
  t->nb[0] = type == CORE2_F32 ? 4 : type == CORE2_F16 ? 2 : sizeof(core2_q8_0);
  // As in a real cache the heads of one position lie side by side.
  t->nb[2] = row;
  t->nb[1] = row * (size_t)n2;
  t->nb[3] = t->nb[1] * (size_t)n1;
  t->data = rig_row(t->nb[3] * (size_t)n3, 0);
  core2_quantize_fn *quantize = rig_ours("quantize_row_q8_0");
  g_autofree float *v = g_new(float, n0);
  for (int s = 0; s < n3; s++)
    for (int h = 0; h < n2; h++)
      for (int p = 0; p < n1; p++) {
        char *to = t->data + (size_t)s * t->nb[3] + (size_t)h * t->nb[2] + (size_t)p * t->nb[1];
        float *known = ret + (size_t)((s * n2 + h) * n1 + p) * (size_t)n0;
        for (int i = 0; i < n0; i++)
          v[i] = (float)g_test_rand_double_range(-2, 2);
        if (g_test_rand_int_range(0, 8) == 0)
          v[0] = 1e-6f; // subnormal as f16
        if (type == CORE2_F32) {
          memcpy(to, v, row);
        } else if (type == CORE2_F16) {
          for (int i = 0; i < n0; i++)
            ((uint16_t *)to)[i] = rig_to_f16(v[i]);
        } else {
          quantize(v, to, n0);
        }
        if (type == CORE2_F32)
          memcpy(known, v, row);
        else if (type == CORE2_F16)
          for (int i = 0; i < n0; i++)
            known[i] = rig_f16(((uint16_t *)to)[i]);
        else
          rig_to_float(type, to, known, n0);
      }
}

static void reference(const Shape *s, const float *q, const float *k, const float *v, const uint16_t *mask,
                      const float *sinks, int head, int token, int stream, double scale, double softcap, double *ret) {
  const int kv = head / (s->heads / s->kv_heads);
  g_autofree double *score = g_new(double, s->positions);
  double top = sinks ? (double)sinks[head] : -INFINITY, sum = 0;
  for (int p = 0; p < s->positions; p++) {
    double dot = 0;
    for (int i = 0; i < s->dk; i++)
      dot += (double)q[((stream * s->heads + head) * s->tokens + token) * s->dk + i] *
             (double)k[((stream * s->kv_heads + kv) * s->positions + p) * s->dk + i];
    score[p] = softcap != 0 ? softcap * tanh(dot * scale / softcap) : dot * scale;
    if (mask)
      score[p] += (double)rig_f16(mask[token * s->positions + p]);
    top = MAX(top, score[p]);
  }
  memset(ret, 0, sizeof(double) * (size_t)s->dv);
  for (int p = 0; p < s->positions && top != -INFINITY; p++) {
    const double w = exp(score[p] - top);
    sum += w;
    for (int i = 0; i < s->dv; i++)
      ret[i] += w * (double)v[((stream * s->kv_heads + kv) * s->positions + p) * s->dv + i];
  }
  if (sinks)
    sum += exp((double)sinks[head] - top);
  for (int i = 0; i < s->dv; i++)
    ret[i] = sum == 0 ? 0 : ret[i] / sum;
}

static void check(const Shape *s) {
  core2_tensor q, k, v, mask = {.type = CORE2_F16}, sinks = {.type = CORE2_F32}, dst = {.type = CORE2_F32};
  g_autofree float *fq = g_new(float, s->dk * s->tokens * s->heads * s->streams);
  g_autofree float *fk = g_new(float, s->dk * s->positions * s->kv_heads * s->streams);
  g_autofree float *fv = g_new(float, s->dv * s->positions * s->kv_heads * s->streams);
  fill(&q, CORE2_F32, s->dk, s->tokens, s->heads, s->streams, fq);
  for (int i = 0; s->cache == CORE2_F16 && i < s->dk * s->tokens * s->heads * s->streams; i++)
    fq[i] = rig_f16(rig_to_f16(fq[i])); // as stock variants do
  fill(&k, s->cache, s->dk, s->positions, s->kv_heads, s->streams, fk);
  fill(&v, s->cache, s->dv, s->positions, s->kv_heads, s->streams, fv);
  uint16_t *m = rig_row(2 * (size_t)(s->tokens * s->positions), 0);
  const int window = g_test_rand_int_range(0, s->positions + 1);
  for (int t = 0; t < s->tokens; t++)
    for (int p = 0; p < s->positions; p++)
      m[t * s->positions + p] = p > t + window || p + 70 < t + window ? 0xfc00 : g_test_rand_bit() ? 0x0000 : 0xb800;
  g_autofree float *sink = g_new(float, s->heads);
  for (int h = 0; h < s->heads; h++)
    sink[h] = (float)g_test_rand_double_range(-3, 3);
  mask.data = (char *)m;
  memcpy(mask.ne, (int64_t[]){s->positions, s->tokens, 1, 1}, sizeof mask.ne);
  memcpy(mask.nb, (size_t[]){2, 2 * (size_t)s->positions, 0, 0}, sizeof mask.nb);
  sinks.data = (char *)sink;
  memcpy(dst.ne, (int64_t[]){s->dv, s->heads, s->tokens, s->streams}, sizeof dst.ne);
  dst.nb[0] = 4;
  dst.nb[1] = 4 * (size_t)s->dv;
  dst.data = rig_row(dst.nb[1] * (size_t)(s->heads * s->tokens * s->streams), 0);
  const float numbers[3] = {0.17f, 0.0f, s->softcap ? 5.0f : 0.0f};
  memcpy(dst.op_params, numbers, sizeof numbers);
  dst.src[0] = &q, dst.src[1] = &k, dst.src[2] = &v;
  dst.src[3] = s->mask ? &mask : NULL;
  dst.src[4] = s->sinks ? &sinks : NULL;
  attention_fn *ours = rig_ours("ggml_compute_forward_flash_attn_ext");
  for (int t = 0; t < s->threads; t++)
    ours(&(struct core2_params_full){.ith = t, .nth = s->threads}, &dst);
  g_autofree double *want = g_new(double, s->dv);
  for (int stream = 0; stream < s->streams; stream++)
    for (int h = 0; h < s->heads; h++)
      for (int t = 0; t < s->tokens; t++) {
        reference(s, fq, fk, fv, s->mask ? m : NULL, s->sinks ? sink : NULL, h, t, stream, (double)numbers[0],
                  (double)numbers[2], want);
        const float *got = (float *)dst.data + (size_t)((stream * s->tokens + t) * s->heads + h) * (size_t)s->dv;
        for (int i = 0; i < s->dv; i++)
          if (!(fabs((double)got[i] - want[i]) <= 2e-5))
            g_error("head %d token %d [%d]: got %g, want %g (%d positions, cache type %d)", h, t, i, (double)got[i],
                    want[i], s->positions, s->cache);
      }
  rig_free_row(q.data, q.nb[3] * (size_t)s->streams, 0);
  rig_free_row(k.data, k.nb[3] * (size_t)s->streams, 0);
  rig_free_row(v.data, v.nb[3] * (size_t)s->streams, 0);
  rig_free_row(m, 2 * (size_t)(s->tokens * s->positions), 0);
  rig_free_row(dst.data, dst.nb[1] * (size_t)(s->heads * s->tokens * s->streams), 0);
}

static void test_attention(gconstpointer data) {
  static const int widths[] = {32, 64, 96, 128, 256};
  const enum core2_type cache = (enum core2_type)GPOINTER_TO_INT(data);
  for (int r = 0; r < (g_test_quick() ? 30 : 300); r++) {
    const int kv_heads = g_test_rand_int_range(1, 4);
    const Shape s = {
        .dk = widths[g_test_rand_int_range(0, G_N_ELEMENTS(widths))],
        .dv = widths[g_test_rand_int_range(0, G_N_ELEMENTS(widths))],
        .tokens = r % 3 == 0 ? 1 : g_test_rand_int_range(1, 40),
        .kv_heads = kv_heads,
        .heads = kv_heads * g_test_rand_int_range(1, 5),
        .streams = g_test_rand_int_range(1, 3),
        .positions = g_test_rand_int_range(1, 150),
        .cache = cache,
        .mask = g_test_rand_bit(),
        .sinks = g_test_rand_int_range(0, 4) == 0,
        .softcap = g_test_rand_int_range(0, 4) == 0,
        .threads = g_test_rand_int_range(1, 4),
    };
    check(&s);
  }
}

static void test_float_dots(gconstpointer data) {
  const int half = GPOINTER_TO_INT(data);
  core2_dot_fn *ours = rig_ours(half ? "ggml_vec_dot_f16" : "ggml_vec_dot_f32");
  for (int r = 0; r < 400; r++) {
    const int n = g_test_rand_int_range(0, 300);
    const size_t bytes = (half ? 2 : 4) * (size_t)n, shift = (half ? 2 : 4) * (size_t)g_test_rand_int_range(0, 8);
    char *x = rig_row(bytes, shift), *y = rig_row(bytes, shift);
    double want = 0, magnitude = 0;
    for (int i = 0; i < n; i++) {
      double v[2];
      for (int j = 0; j < 2; j++) {
        char *row = j ? y : x;
        if (half) {
          const uint16_t h = (uint16_t)(g_test_rand_int_range(0, r % 2 ? 0x4800 : 0x600) | (g_test_rand_bit() << 15));
          memcpy(row + 2 * i, &h, 2);
          v[j] = (double)rig_f16(h);
        } else {
          const float f = (float)g_test_rand_double_range(-3, 3);
          memcpy(row + 4 * i, &f, 4);
          v[j] = (double)f;
        }
      }
      want += v[0] * v[1];
      magnitude += fabs(v[0] * v[1]);
    }
    float got = NAN;
    ours(n, &got, 0, x, 0, y, 0, 1);
    if (!(fabs((double)got - want) <= magnitude * 0x1.0p-20))
      g_error("%d elements: got %g, want %g", n, (double)got, want);
    rig_free_row(x, bytes, shift);
    rig_free_row(y, bytes, shift);
  }
}

int main(int argc, char **argv) {
  rig_open(&argc, &argv);
  g_test_add_data_func("/engine/attention/f16", GINT_TO_POINTER(CORE2_F16), test_attention);
  g_test_add_data_func("/engine/attention/f32", GINT_TO_POINTER(CORE2_F32), test_attention);
  g_test_add_data_func("/engine/attention/q8_0", GINT_TO_POINTER(CORE2_Q8_0), test_attention);
  g_test_add_data_func("/engine/float-dot/f16", GINT_TO_POINTER(1), test_float_dots);
  g_test_add_data_func("/engine/float-dot/f32", GINT_TO_POINTER(0), test_float_dots);
  return g_test_run();
}
