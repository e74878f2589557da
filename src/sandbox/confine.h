/* The two steps between choir-sandbox and the program. */
#pragma once
#include "sandbox/confine_spec.h"

/* The command line of bubblewrap that ends in this program's own inner step, NULL without memory; lives as long as the
 * process. spec_fd stays open in it. */
char **choir_confine_bwrap(const ChoirLimits *limits, const char *self, int spec_fd);
/* Applies rlimits, Landlock and seccomp to this process and becomes the program. Returns only on failure, with one
 * sentence on stderr. */
void choir_confine_exec(const ChoirLimits *limits);
