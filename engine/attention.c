// Attention over f16, f32 or q8_0 caches. Keys and values are widened to floats once per block of positions and then
// serve every query of the tile: all heads that share them and, in prefill, many tokens. Softmax runs along (the
// largest score so far and the sum are kept per query), so memory does not grow with the context.
#include <math.h>
#include <stdlib.h>
#include "scratch.h"
#include "tensor.h"
#include "variant.h"

enum { POSITIONS = 32, MAX_QUERIES = 256, MAX_WIDTH = 256, TILE_FLOATS = 64 * MAX_WIDTH };

typedef struct {
  float k[POSITIONS * MAX_WIDTH] __attribute__((aligned(16)));
  float v[POSITIONS * MAX_WIDTH] __attribute__((aligned(16)));
  float out[TILE_FLOATS] __attribute__((aligned(16)));
  float q[TILE_FLOATS] __attribute__((aligned(16)));
  float score[POSITIONS] __attribute__((aligned(16)));
  float top[MAX_QUERIES], sum[MAX_QUERIES];
} work;
static_assert(sizeof(work) <= sizeof(core2_scratch), "attention fits the thread's scratch");

typedef struct {
  const core2_tensor *q, *k, *v, *mask;
  int dk, dv;
  int shared; // query heads per key/value head
  float scale, softcap;
} attention;

// e^x for x <= 0, within 2 units of the last place; below -87 it is 0. Cody-Waite reduction, polynomial of degree 6.
CORE2_INLINE __m128 exp_ps(__m128 x) {
  const __m128 alive = _mm_cmpgt_ps(x, _mm_set1_ps(-87.0f));
  x = _mm_max_ps(x, _mm_set1_ps(-87.0f));
  const __m128i n = _mm_cvtps_epi32(_mm_mul_ps(x, _mm_set1_ps(1.44269504f)));
  const __m128 f = _mm_cvtepi32_ps(n);
  __m128 r = _mm_sub_ps(x, _mm_mul_ps(f, _mm_set1_ps(0x1.63p-1f)));
  r = _mm_sub_ps(r, _mm_mul_ps(f, _mm_set1_ps(-0x1.bd0106p-13f)));
  __m128 p = _mm_set1_ps(1.0f / 720.0f);
  p = _mm_add_ps(_mm_mul_ps(p, r), _mm_set1_ps(1.0f / 120.0f));
  p = _mm_add_ps(_mm_mul_ps(p, r), _mm_set1_ps(1.0f / 24.0f));
  p = _mm_add_ps(_mm_mul_ps(p, r), _mm_set1_ps(1.0f / 6.0f));
  p = _mm_add_ps(_mm_mul_ps(p, r), _mm_set1_ps(0.5f));
  p = _mm_add_ps(_mm_mul_ps(p, r), _mm_set1_ps(1.0f));
  p = _mm_add_ps(_mm_mul_ps(p, r), _mm_set1_ps(1.0f));
  const __m128i power = _mm_slli_epi32(_mm_add_epi32(n, _mm_set1_epi32(127)), 23);
  return _mm_and_ps(_mm_mul_ps(p, _mm_castsi128_ps(power)), alive);
}

static void widen(int type, const char *from, int n, float *to) {
  if (type == CORE2_F32) {
    for (int i = 0; i < n; i += 4)
      _mm_store_ps(to + i, core2_load_floats((const float *)from + i));
  } else if (type == CORE2_F16) {
    for (int i = 0; i < n; i += 8) {
      __m128 a, b;
      core2_f16x8((const uint16_t *)from + i, &a, &b);
      _mm_store_ps(to + i, a);
      _mm_store_ps(to + i + 4, b);
    }
  } else {
    const core2_q8_0 *b = (const core2_q8_0 *)from;
    for (int i = 0; i < n; i += 32, b++) {
      const __m128 d = _mm_set1_ps(core2_f16(b->d));
      for (int j = 0; j < 32; j += 16) {
        const __m128i v = core2_load_act(b->qs + j);
        const __m128i w[2] = {_mm_unpacklo_epi8(v, v), _mm_unpackhi_epi8(v, v)};
        for (int h = 0; h < 2; h++) {
          const __m128i lo = _mm_srai_epi32(_mm_unpacklo_epi16(w[h], w[h]), 24);
          const __m128i hi = _mm_srai_epi32(_mm_unpackhi_epi16(w[h], w[h]), 24);
          _mm_store_ps(to + i + j + 8 * h, _mm_mul_ps(d, _mm_cvtepi32_ps(lo)));
          _mm_store_ps(to + i + j + 8 * h + 4, _mm_mul_ps(d, _mm_cvtepi32_ps(hi)));
        }
      }
    }
  }
}

// Stock variants turn queries into the keys' type. Exact queries would be no better beside rounded keys, and answers
// would stray from stock's by a tenth more.
static void round_to_f16(float *q, int n) {
  for (int i = 0; i < n; i++)
    q[i] = core2_f16(core2_to_f16(q[i]));
}

// Scores of one query against `count` (rounded up to four) widened keys.
CORE2_INLINE void score_keys(const float *q, const float *k, int dk, int count, float *ret) {
  for (int p = 0; p < count; p += 4, k += 4 * dk) {
    __m128 a = _mm_setzero_ps(), b = a, c = a, d = a;
    for (int i = 0; i < dk; i += 4) {
      const __m128 x = _mm_load_ps(q + i);
      a = _mm_add_ps(a, _mm_mul_ps(x, _mm_load_ps(k + i)));
      b = _mm_add_ps(b, _mm_mul_ps(x, _mm_load_ps(k + dk + i)));
      c = _mm_add_ps(c, _mm_mul_ps(x, _mm_load_ps(k + 2 * dk + i)));
      d = _mm_add_ps(d, _mm_mul_ps(x, _mm_load_ps(k + 3 * dk + i)));
    }
    _MM_TRANSPOSE4_PS(a, b, c, d);
    _mm_store_ps(ret + p, _mm_add_ps(_mm_add_ps(a, b), _mm_add_ps(c, d)));
  }
}

CORE2_INLINE void add_values(const float *weight, const float *v, int dv, int count, float *out) {
  for (int p = 0; p < count; p += 4, v += 4 * dv) {
    const __m128 w = _mm_load_ps(weight + p);
    const __m128 a = _mm_shuffle_ps(w, w, 0x00), b = _mm_shuffle_ps(w, w, 0x55);
    const __m128 c = _mm_shuffle_ps(w, w, 0xaa), d = _mm_shuffle_ps(w, w, 0xff);
    for (int i = 0; i < dv; i += 4) {
      const __m128 ab = _mm_add_ps(_mm_mul_ps(a, _mm_load_ps(v + i)), _mm_mul_ps(b, _mm_load_ps(v + dv + i)));
      const __m128 cd =
          _mm_add_ps(_mm_mul_ps(c, _mm_load_ps(v + 2 * dv + i)), _mm_mul_ps(d, _mm_load_ps(v + 3 * dv + i)));
      _mm_store_ps(out + i, _mm_add_ps(_mm_load_ps(out + i), _mm_add_ps(ab, cd)));
    }
  }
}

// scale, softcap and mask; positions beyond `count` become minus infinity. Returns the largest score.
static float finish_scores(const attention *a, float *score, int count, const uint16_t *mask) {
  __m128 top = _mm_set1_ps(-INFINITY);
  for (int p = count; p % 4; p++)
    score[p] = -INFINITY;
  for (int p = 0; p < count; p += 4) {
    __m128 s = _mm_mul_ps(_mm_load_ps(score + p), _mm_set1_ps(a->scale));
    if (a->softcap != 0.0f) {
      float t[4];
      _mm_storeu_ps(t, s);
      for (int i = 0; i < 4; i++)
        t[i] = a->softcap * tanhf(t[i]);
      s = _mm_loadu_ps(t);
    }
    if (mask && count - p >= 4) {
      const __m128i h = _mm_loadl_epi64((const __m128i *)(mask + p));
      s = _mm_add_ps(s, core2_f16x4_any(_mm_unpacklo_epi16(h, _mm_setzero_si128())));
    } else if (count - p < 4) {
      float t[4];
      _mm_storeu_ps(t, s);
      for (int i = 0; i < 4; i++)
        t[i] = p + i < count ? t[i] + (mask ? core2_f16(mask[p + i]) : 0.0f) : -INFINITY;
      s = _mm_loadu_ps(t);
    }
    _mm_store_ps(score + p, s);
    top = _mm_max_ps(top, s);
  }
  top = _mm_max_ps(top, _mm_movehl_ps(top, top));
  return _mm_cvtss_f32(_mm_max_ss(top, _mm_shuffle_ps(top, top, 1)));
}

static void scale_row(float *row, int n, float by) {
  const __m128 f = _mm_set1_ps(by);
  for (int i = 0; i < n; i += 4)
    _mm_store_ps(row + i, _mm_mul_ps(_mm_load_ps(row + i), f));
}

// One query of the tile against the widened block of positions.
static void one_query(const attention *a, work *w, int i, int count, const uint16_t *mask) {
  score_keys(w->q + i * a->dk, w->k, a->dk, count, w->score);
  const float top = finish_scores(a, w->score, count, mask);
  if (top == -INFINITY)
    return;
  float *out = w->out + i * a->dv;
  if (top > w->top[i]) {
    const float shrink = w->top[i] == -INFINITY ? 0.0f : expf(w->top[i] - top);
    scale_row(out, a->dv, shrink);
    w->sum[i] *= shrink;
    w->top[i] = top;
  }
  __m128 sum = _mm_setzero_ps();
  for (int p = 0; p < count; p += 4) {
    const __m128 e = exp_ps(_mm_sub_ps(_mm_load_ps(w->score + p), _mm_set1_ps(w->top[i])));
    _mm_store_ps(w->score + p, e);
    sum = _mm_add_ps(sum, e);
  }
  w->sum[i] += core2_hsum_ps(sum);
  add_values(w->score, w->v, a->dv, count, out);
}

static const uint16_t *mask_row(const attention *a, int64_t token, int64_t head, int64_t stream) {
  const core2_tensor *m = a->mask;
  if (!m)
    return NULL;
  return (const uint16_t *)(m->data + (size_t)token * m->nb[1] + (size_t)(head % m->ne[2]) * m->nb[2] +
                            (size_t)(stream % m->ne[3]) * m->nb[3]);
}

static int all_masked(const uint16_t *mask, int count) {
  for (int p = 0; p < count; p++)
    if (mask[p] != 0xfc00)
      return 0;
  return 1;
}

// Tokens token0 .. token0 + tokens - 1 of all query heads that share key/value head `kv`.
static void tile(const attention *a, work *w, core2_tensor *dst, int64_t stream, int64_t kv, int64_t token0,
                 int tokens) {
  const int queries = tokens * a->shared;
  for (int i = 0; i < queries; i++) {
    const int64_t head = kv * a->shared + i % a->shared, token = token0 + i / a->shared;
    const char *q =
        a->q->data + (size_t)token * a->q->nb[1] + (size_t)head * a->q->nb[2] + (size_t)stream * a->q->nb[3];
    memcpy(w->q + i * a->dk, q, (size_t)a->dk * sizeof(float));
    if (a->k->type == CORE2_F16)
      round_to_f16(w->q + i * a->dk, a->dk);
    w->top[i] = -INFINITY;
    w->sum[i] = 0.0f;
  }
  memset(w->out, 0, (size_t)queries * (size_t)a->dv * sizeof(float));
  const int64_t positions = a->k->ne[1];
  const int64_t k_stream = stream / (a->q->ne[3] / a->k->ne[3]), v_stream = stream / (a->q->ne[3] / a->v->ne[3]);
  const char *k = a->k->data + (size_t)kv * a->k->nb[2] + (size_t)k_stream * a->k->nb[3];
  const char *v = a->v->data + (size_t)kv * a->v->nb[2] + (size_t)v_stream * a->v->nb[3];
  for (int64_t p0 = 0; p0 < positions; p0 += POSITIONS) {
    const int count = positions - p0 < POSITIONS ? (int)(positions - p0) : POSITIONS;
    int wanted = !a->mask;
    for (int t = 0; !wanted && t < queries; t++)
      wanted = !all_masked(mask_row(a, token0 + t / a->shared, kv * a->shared + t % a->shared, stream) + p0, count);
    if (!wanted)
      continue;
    for (int p = 0; p < count; p++) {
      widen(a->k->type, k + (size_t)(p0 + p) * a->k->nb[1], a->dk, w->k + p * a->dk);
      widen(a->v->type, v + (size_t)(p0 + p) * a->v->nb[1], a->dv, w->v + p * a->dv);
    }
    for (int p = count; p % 4; p++) { // rows that the loops over four positions read but must not mind
      memset(w->k + p * a->dk, 0, (size_t)a->dk * sizeof(float));
      memset(w->v + p * a->dv, 0, (size_t)a->dv * sizeof(float));
    }
    for (int i = 0; i < queries; i++) {
      const uint16_t *mask = mask_row(a, token0 + i / a->shared, kv * a->shared + i % a->shared, stream);
      one_query(a, w, i, count, mask ? mask + p0 : NULL);
    }
  }
  for (int i = 0; i < queries; i++) {
    const int64_t head = kv * a->shared + i % a->shared, token = token0 + i / a->shared;
    const core2_tensor *sinks = dst->src[4];
    float sum = w->sum[i], shrink = 1.0f;
    if (sinks) { // one more score per head that has no value
      const float s = ((const float *)sinks->data)[head];
      shrink = s > w->top[i] ? expf(w->top[i] - s) : 1.0f;
      sum = sum * shrink + (s > w->top[i] ? 1.0f : expf(s - w->top[i]));
    }
    scale_row(w->out + i * a->dv, a->dv, sum == 0.0f ? 0.0f : shrink / sum);
    memcpy(dst->data + (size_t)((stream * dst->ne[2] + token) * dst->ne[1] + head) * dst->nb[1], w->out + i * a->dv,
           (size_t)a->dv * sizeof(float));
  }
}

static int cache_type_known(const core2_tensor *t) {
  return t->type == CORE2_F32 || t->type == CORE2_F16 || (t->type == CORE2_Q8_0 && t->ne[0] % 32 == 0);
}

// Depends on the tensors alone, so that all threads of an operation decide alike.
static int can_do(const core2_tensor *dst, float max_bias) {
  const core2_tensor *q = dst->src[0], *k = dst->src[1], *v = dst->src[2], *mask = dst->src[3];
  return q->type == CORE2_F32 && cache_type_known(k) && cache_type_known(v) && k->ne[0] <= MAX_WIDTH &&
         v->ne[0] <= MAX_WIDTH && k->ne[0] % 8 == 0 && v->ne[0] % 8 == 0 && max_bias == 0.0f && k->ne[2] == v->ne[2] &&
         q->ne[2] % k->ne[2] == 0 && q->ne[2] / k->ne[2] <= TILE_FLOATS / MAX_WIDTH && q->nb[0] == sizeof(float) &&
         (!mask || (mask->type == CORE2_F16 && mask->nb[0] == 2)) && dst->nb[1] == (size_t)v->ne[0] * sizeof(float);
}

CORE2_EXPORT void ggml_compute_forward_flash_attn_ext(const struct core2_params_full *params, core2_tensor *dst) {
  float numbers[3]; // scale, ALiBi slope, softcap
  memcpy(numbers, dst->op_params, sizeof numbers);
  if (params->use_ref || !can_do(dst, numbers[1])) {
    void (*stock)(const struct core2_params_full *, core2_tensor *);
    *(void **)&stock = core2_stock.attention;
    if (!stock)
      abort();
    stock(params, dst);
    return;
  }
  const core2_tensor *q = dst->src[0], *k = dst->src[1];
  attention a = {.q = q,
                 .k = k,
                 .v = dst->src[2],
                 .mask = dst->src[3],
                 .dk = (int)k->ne[0],
                 .dv = (int)dst->src[2]->ne[0],
                 .shared = (int)(q->ne[2] / k->ne[2]),
                 .scale = numbers[0],
                 .softcap = numbers[2]};
  if (a.softcap != 0.0f)
    a.scale /= a.softcap;
  const int fit = TILE_FLOATS / (a.dk > a.dv ? a.dk : a.dv);
  const int most = (fit < MAX_QUERIES ? fit : MAX_QUERIES) / a.shared;
  // Small tiles when there are few tokens, so that every thread gets some.
  const int64_t per_thread = (q->ne[1] * k->ne[2] + params->nth - 1) / params->nth;
  const int tokens = per_thread < most ? (int)(per_thread < 1 ? 1 : per_thread) : most;
  const int64_t tiles = (q->ne[1] + tokens - 1) / tokens;
  work *w = (work *)core2_thread_scratch();
  for (int64_t unit = params->ith; unit < tiles * k->ne[2] * q->ne[3]; unit += params->nth) {
    const int64_t token0 = unit % tiles * tokens, kv = unit / tiles % k->ne[2], stream = unit / tiles / k->ne[2];
    tile(&a, w, dst, stream, kv, token0, q->ne[1] - token0 < tokens ? (int)(q->ne[1] - token0) : tokens);
  }
}
