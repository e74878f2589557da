/* The parts of `choir health` that need no cluster. Pure. */
#pragma once
#include <glib.h>
#include <jansson.h>

/* Is this the answer of a model that works? (Not: is it right.) */
gboolean choir_health_sensible(const char *answer);
/* jobs: whole jobs of Nomad. How many experts should answer; those with count 0 are added to ret_asleep (strings). */
guint choir_health_expected(const json_t *jobs, GPtrArray *ret_asleep);
