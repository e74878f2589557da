#include <emmintrin.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "cli/node_bench.h"

#define BYTES_PER_THREAD ((gsize)64 << 20)

typedef struct {
  const char *data;
  double seconds, gb_s;
  pthread_barrier_t *start;
} Reader;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Four chains of additions, so that the loads and not their sums set the pace. */
static void read_once(const char *data, __m128i sum[4]) {
  for (gsize i = 0; i < BYTES_PER_THREAD; i += 64)
    for (int j = 0; j < 4; j++)
      sum[j] = _mm_add_epi64(sum[j], _mm_load_si128((const __m128i *)(data + i) + j));
}

static void *reader(void *user) {
  Reader *self = user;
  __m128i sum[4] = {_mm_setzero_si128(), _mm_setzero_si128(), _mm_setzero_si128(), _mm_setzero_si128()};
  pthread_barrier_wait(self->start);
  const double begun = now();
  double used;
  gsize rounds = 0;
  do {
    read_once(self->data, sum);
    rounds++;
    used = now() - begun;
  } while (used < self->seconds);
  self->gb_s = (double)(rounds * BYTES_PER_THREAD) / used / 1e9;
  volatile gint64 keep = _mm_cvtsi128_si64(_mm_add_epi64(_mm_add_epi64(sum[0], sum[1]), _mm_add_epi64(sum[2], sum[3])));
  (void)keep;
  return NULL;
}

static double read_rate(guint threads, double seconds) {
  pthread_barrier_t start;
  g_autofree Reader *readers = g_new0(Reader, threads);
  g_autofree pthread_t *ids = g_new0(pthread_t, threads);
  double total = 0;
  char *data = mmap(NULL, threads * BYTES_PER_THREAD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED)
    return 0;
  memset(data, 1, threads * BYTES_PER_THREAD); /* pages of zeros would all be the same one */
  pthread_barrier_init(&start, NULL, threads);
  guint running = 0;
  for (; running < threads; running++) {
    readers[running] = (Reader){.data = data + running * BYTES_PER_THREAD, .seconds = seconds, .start = &start};
    if (running + 1 < threads && pthread_create(&ids[running], NULL, reader, &readers[running]) != 0)
      g_error("cannot start a thread");
  }
  reader(&readers[threads - 1]);
  for (guint i = 0; i + 1 < threads; i++)
    pthread_join(ids[i], NULL);
  for (guint i = 0; i < threads; i++)
    total += readers[i].gb_s;
  pthread_barrier_destroy(&start);
  munmap(data, threads * BYTES_PER_THREAD);
  return total;
}

json_t *node_memory(guint threads, double seconds) {
  json_t *rows = json_array();
  for (guint n = 1;; n = MIN(2 * n, threads)) {
    double best = 0;
    for (int repeat = 0; repeat < 3; repeat++)
      best = MAX(best, read_rate(n, seconds));
    json_array_append_new(rows, json_pack("{s:i,s:f}", "threads", (int)n, "gb_s", best));
    if (n == threads)
      return rows;
  }
}

double node_memory_best(const json_t *rows) {
  double best = 0;
  size_t i;
  json_t *row;
  json_array_foreach(rows, i, row) best = MAX(best, json_number_value(json_object_get(row, "gb_s")));
  return best;
}
