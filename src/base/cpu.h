/* What this processor is, in the words that CPU variants and cluster metadata use. Any thread. */
#pragma once
#include <glib.h>

/* "x86-64" (no SSSE3), "ssse3" (65 nm Core 2), "sse4.1" (45 nm Core 2), "sse4.2", "avx", "avx2" (with FMA), "avx512";
 * static. */
const char *choir_cpu_class(void);
/* "Intel(R) Core(TM)2 Duo CPU E8400", or "unknown"; caller frees. */
char *choir_cpu_model(void);
guint64 choir_cpu_memory_mb(void); /* of the machine */
