#include "scratch.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_key(void) {
  pthread_key_create(&key, free);
}

core2_scratch *core2_thread_scratch(void) {
  pthread_once(&once, make_key);
  core2_scratch *s = pthread_getspecific(key);
  if (s)
    return s;
  s = aligned_alloc(64, (sizeof *s + 63) / 64 * 64);
  if (!s || pthread_setspecific(key, s) != 0) {
    fprintf(stderr, "ggml-cpu-core2: out of memory\n");
    abort();
  }
  return s;
}
