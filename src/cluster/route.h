/* Which expert what somebody said is for. Main thread only; no model is asked. */
#pragma once
#include "cluster/experts.h"

typedef struct {
  const char *expert; /* NULL: none; belongs to the registry */
  double likeness;    /* 0 to 1, to be weighed beside the likeness of tools; 1 = it was named */
  char *query;        /* what to ask it; caller frees */
} ChoirRoute;

/* Personas are read anew (within a second the same text gives the same), so that an example that was just added counts.
 */
void choir_experts_route(ChoirExperts *experts, const char *text, ChoirRoute *ret_route);
/* Something that is said to another part of the house, `who` ("clock"): it counts against every expert. Copied. */
void choir_experts_add_other(ChoirExperts *experts, const char *who, const char *example);
void choir_route_clear(ChoirRoute *route);
