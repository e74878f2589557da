#include "sandbox/filter.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include "sandbox/filters_made.h" /* by make_filters.c: the three switches as bits 0, 1 and 2 of the number */

#define PROGRAM(number)                                                                                                \
  { G_N_ELEMENTS(filter_##number), (struct sock_filter *)filter_##number }

gboolean choir_seccomp_apply(gboolean network, gboolean signals, gboolean outside) {
  const struct sock_fprog programs[] = {PROGRAM(0), PROGRAM(1), PROGRAM(2), PROGRAM(3),
                                        PROGRAM(4), PROGRAM(5), PROGRAM(6), PROGRAM(7)};
  guint number = (network ? 1 : 0) | (signals ? 2 : 0) | (outside ? 4 : 0);
  return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &programs[number], 0, 0) == 0;
}
