/* Experts as Consul knows them: services with the prefix llama-api-, or one of the old spellings. Main thread only. */
#pragma once
#include "cli/cluster_api.h"

typedef struct {
  char *name, *service, *id;  /* "coding", "llama-api-coding" */
  char *node, *address;       /* "10.0.0.7:21034" */
  char *model, *context;      /* "" unknown */
  char *alloc, *why, *output; /* why the light model serves; what a failing check said; "" otherwise */
  gboolean passing, fallback;
} ChoirFoundExpert;

/* Sorted by name and node. NULL with error: Consul cannot be asked, or shows nothing because the token may not read
 * (an empty catalogue is told from a hidden one by asking about Consul's own node). Free with g_ptr_array_unref. */
GPtrArray *choir_expert_find(ChoirApi *consul, GError **error);
json_t *choir_expert_find_json(const GPtrArray *experts);
/* "coding" of any spelling of a service's name, NULL when it is no expert's. Part of service. */
const char *choir_expert_name_of(const char *service);
/* One entry of /v1/health/service/NAME. Pure. Free with choir_expert_found_free. */
ChoirFoundExpert *choir_expert_found_of(const char *service, const json_t *entry);
void choir_expert_found_free(gpointer expert);
