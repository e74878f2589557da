// Shared by the engine tests: our file and an untouched stock variant opened side by side, and random blocks.
#pragma once
#include <glib.h>
#include <stdint.h>
#include "../../../engine/blocks.h"

typedef struct {
  const char *name;      // "q4_1"
  const char *dot;       // ggml_vec_dot_<name>_<activation>
  enum core2_type type;  // weights
  enum core2_type act;   // activations
  int block;             // elements per weight block
  size_t size, act_size; // bytes per `block` elements of weights, bytes per activation block
  int act_block;
} RigFormat;

extern const RigFormat rig_formats[];
extern const int rig_n_formats;

typedef enum {
  RIG_EXACT,     // scales are powers of two and minima small integers, so that float sums are exact integers
  RIG_EXTREME,   // the same with every quant at an end of its range
  RIG_RANDOM,    // scales as real models have them
  RIG_SUBNORMAL, // f16 scales below 2^-14
} RigKind;

// Reads CHOIR_ENGINE_DIR (an engine's bin folder) and CHOIR_ENGINE_FILE (our file); skips the program when unset.
void rig_open(int *argc, char ***argv);
// A function of our file / of the stock x64 variant; fails the test when missing.
void *rig_ours(const char *name);
void *rig_stock(const char *name);
void rig_to_float(enum core2_type type, const void *blocks, float *ret_values, int64_t n);

// A row whose last byte is followed by an unreadable page; freed by rig_free_row.
void *rig_row(size_t bytes, size_t shift);
void rig_free_row(void *row, size_t bytes, size_t shift);

void rig_fill_weights(const RigFormat *f, RigKind kind, void *row, int n);
void rig_fill_activations(const RigFormat *f, RigKind kind, void *row, int n);
// How many blocks a row may have (at most `wish`) for its sum to stay below 2^24 when it must be exact.
int rig_most_blocks(const RigFormat *f, RigKind kind, int wish);
// The scale of the allowed float error: sum over blocks of max |weight| times sum |activation|.
double rig_magnitude(const RigFormat *f, const void *x, const void *y, int n);
float rig_f16(uint16_t h);
uint16_t rig_to_f16(float v);
