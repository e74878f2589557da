// Preloaded into an unmodified llama-bench that runs one thread: its clock then counts the CPU time of the process
// instead of the time of day, so that neighbours on a busy machine do not count.
//   gcc -O2 -shared -fPIC -o cpuclock.so engine/bench/cpuclock.c
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

__attribute__((visibility("default"))) int clock_gettime(clockid_t id, struct timespec *t) {
  return (int)syscall(SYS_clock_gettime, id == CLOCK_MONOTONIC ? CLOCK_PROCESS_CPUTIME_ID : id, t);
}
