// Working memory of one compute thread: a fixed size, kept until the thread ends.
#pragma once
#include "gemm.h"

// Never NULL: without it the threads of one operation could not agree on who computes what, so running out of memory
// here ends the process, as it does everywhere in ggml.
core2_scratch *core2_thread_scratch(void);
