/* The C functions that the module choir-index.so (index_faiss.cc) offers to index.c; nobody else includes it. Those
 * that may fail return 0 or NULL and write a sentence of at most `room` bytes. One thread at a time. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CHOIR_INDEX_MODULE_VERSION 1
#define CHOIR_INDEX_MODULE_SYMBOL "choir_index_module"

typedef struct {
  int version;
  void *(*make)(int dimensions, char *why, size_t room);
  void *(*load)(const char *path, int dimensions, char *why, size_t room);
  int (*save)(void *self, const char *path, char *why, size_t room);
  int (*add)(void *self, const int64_t *ids, const float *vectors, size_t n, char *why, size_t room);
  int (*take)(void *self, int64_t id, char *why, size_t room);
  /* k results, best first, padded with id -1 */
  int (*search)(void *self, const float *query, int k, int64_t *ids, float *scores, char *why, size_t room);
  size_t (*count)(void *self);
  void (*drop)(void *self);
} ChoirIndexModule;

extern const ChoirIndexModule choir_index_module;

#ifdef __cplusplus
}
#endif
