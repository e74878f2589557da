// FAISS behind the C functions of memory/index_module.h: an IndexIDMap2 over an IndexFlatIP, which Python's faiss reads
// too. A module of its own, opened when there is something to search: its libraries take more memory than the daemon.
#include "memory/index_module.h"
#include <cfloat>
#include <cstdint>
#include <cstring>
#include <emmintrin.h>
#include <exception>
#include <faiss/IndexFlat.h>
#include <faiss/IndexIDMap.h>
#include <faiss/impl/IDSelector.h>
#include <faiss/index_io.h>
#include <memory>
#include <omp.h>

namespace {

using Map = faiss::IndexIDMap2;

constexpr int ALIGNED_MOST = 1024;

void say(char *why, size_t room, const char *text) {
  strncpy(why, text, room - 1);
  why[room - 1] = '\0';
}

Map *fresh(int dimensions) {
  omp_set_num_threads(1); // one query at a time: more would wait for one another, spinning
  auto *map = new Map(new faiss::IndexFlatIP(dimensions));
  map->own_fields = true;
  return map;
}

template <typename F> int guarded(char *why, size_t room, F work) {
  try {
    work();
    return 1;
  } catch (const std::exception &problem) {
    say(why, room, problem.what());
  } catch (...) {
    say(why, room, "unknown error of faiss");
  }
  return 0;
}

void *make(int dimensions, char *why, size_t room) {
  Map *map = nullptr;
  guarded(why, room, [&] { map = fresh(dimensions); });
  return map;
}

void *load(const char *path, int dimensions, char *why, size_t room) {
  Map *map = nullptr;
  guarded(why, room, [&] {
    omp_set_num_threads(1);
    std::unique_ptr<faiss::Index> index(faiss::read_index(path));
    auto *read = dynamic_cast<Map *>(index.get());
    if (!read || read->d != dimensions || !dynamic_cast<faiss::IndexFlat *>(read->index) ||
        read->metric_type != faiss::METRIC_INNER_PRODUCT || read->id_map.size() != (size_t)read->ntotal)
      say(why, room, "it holds another kind of index");
    else
      map = static_cast<Map *>(index.release());
  });
  return map;
}

int save(void *self, const char *path, char *why, size_t room) {
  return guarded(why, room, [&] { faiss::write_index(static_cast<Map *>(self), path); });
}

int add(void *self, const int64_t *ids, const float *vectors, size_t n, char *why, size_t room) {
  return guarded(why, room, [&] { static_cast<Map *>(self)->add_with_ids((int64_t)n, vectors, ids); });
}

int take(void *self, int64_t id, char *why, size_t room) {
  return guarded(why, room, [&] {
    int64_t wanted = id;
    static_cast<Map *>(self)->remove_ids(faiss::IDSelectorBatch(1, &wanted));
  });
}

// Both 16-byte aligned, n a multiple of 16. Debian's FAISS multiplies one number after the other on x86-64.
float inner_product(const float *a, const float *b, int n) {
  __m128 sums[4] = {_mm_setzero_ps(), _mm_setzero_ps(), _mm_setzero_ps(), _mm_setzero_ps()};
  for (int i = 0; i < n; i += 16)
    for (int part = 0; part < 4; part++) {
      int at = i + 4 * part;
      sums[part] = _mm_add_ps(sums[part], _mm_mul_ps(_mm_load_ps(a + at), _mm_load_ps(b + at)));
    }
  __m128 sum = _mm_add_ps(_mm_add_ps(sums[0], sums[1]), _mm_add_ps(sums[2], sums[3]));
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  return _mm_cvtss_f32(_mm_add_ss(sum, _mm_shuffle_ps(sum, sum, 1)));
}

// The best k of all rows, best first; of equal ones the older first.
void scan(const Map *map, const float *rows, const float *query, int k, int64_t *ids, float *scores) {
  int found = 0;
  for (int64_t row = 0; row < map->ntotal; row++) {
    float score = inner_product(query, rows + row * map->d, map->d);
    if (found == k && !(score > scores[k - 1]))
      continue;
    int at = found < k ? found++ : k - 1;
    for (; at > 0 && scores[at - 1] < score; at--) {
      scores[at] = scores[at - 1];
      ids[at] = ids[at - 1];
    }
    scores[at] = score;
    ids[at] = map->id_map[(size_t)row];
  }
  for (int at = found; at < k; at++) {
    scores[at] = -FLT_MAX;
    ids[at] = -1;
  }
}

int search(void *self, const float *query, int k, int64_t *ids, float *scores, char *why, size_t room) {
  return guarded(why, room, [&] {
    auto *map = static_cast<Map *>(self);
    const float *rows = static_cast<const faiss::IndexFlat *>(map->index)->get_xb();
    alignas(16) float aligned[ALIGNED_MOST];
    if (map->d % 16 != 0 || map->d > ALIGNED_MOST || reinterpret_cast<uintptr_t>(rows) % 16 != 0) {
      map->search(1, query, k, scores, ids);
      return;
    }
    memcpy(aligned, query, (size_t)map->d * sizeof *query);
    scan(map, rows, aligned, k, ids, scores);
  });
}

size_t count(void *self) {
  return (size_t) static_cast<Map *>(self)->ntotal;
}

void drop(void *self) {
  delete static_cast<Map *>(self);
}

} // namespace

extern "C" __attribute__((visibility("default"))) const ChoirIndexModule choir_index_module = {
    CHOIR_INDEX_MODULE_VERSION, make, load, save, add, take, search, count, drop};
