#include "base/cpu.h"
#include <string.h>
#include <unistd.h>

const char *choir_cpu_class(void) {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"))
    return "avx512";
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return "avx2";
  if (__builtin_cpu_supports("avx"))
    return "avx";
  if (__builtin_cpu_supports("sse4.2"))
    return "sse4.2";
  if (__builtin_cpu_supports("sse4.1"))
    return "sse4.1";
  return __builtin_cpu_supports("ssse3") ? "ssse3" : "x86-64";
}

char *choir_cpu_model(void) {
  g_autofree char *info = NULL;
  const char *line = NULL;
  if (g_file_get_contents("/proc/cpuinfo", &info, NULL, NULL))
    line = strstr(info, "model name");
  const char *colon = line ? strchr(line, ':') : NULL;
  return colon ? g_strstrip(g_strndup(colon + 1, strcspn(colon + 1, "\n"))) : g_strdup("unknown");
}

guint64 choir_cpu_memory_mb(void) {
  return (guint64)sysconf(_SC_PHYS_PAGES) * (guint64)sysconf(_SC_PAGESIZE) >> 20;
}
