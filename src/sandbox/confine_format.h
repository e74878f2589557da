/* The bytes of the memory file: this head, then texts that each end in a zero byte: cwd, proxy_socket ("" = none), and
 * the four lists in the head's order. Both sides are of one build. */
#pragma once
#include <stdint.h>
#include "sandbox/confine_spec.h"

#define CHOIR_SPEC_VERSION 1u
#define CHOIR_SPEC_MAX (4 << 20)

typedef struct {
  uint32_t version, seconds, cpu_seconds, memory_mb, processes, file_mb, pty, network, full;
  uint32_t argv, env, writable, hidden; /* how many texts */
} ChoirSpecHead;
