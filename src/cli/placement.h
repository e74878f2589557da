/* Which model each node of the cluster can serve, from what the nodes publish about themselves. Pure: no requests. */
#pragma once
#include <glib.h>
#include <jansson.h>

/* What the system, Nomad, Consul and the agent need of a node's memory, as in llm/models. */
#define CHOIR_PLACEMENT_RESERVED_MB 1536
/* Slower than this nobody listens to. */
#define CHOIR_PLACEMENT_USABLE 4.0

typedef struct {
  char *name, *cpu; /* cpu: "ssse3", "avx2", "" unknown */
  double gb_s, gmac_s;
  guint ram_mb;
  gboolean ready;
} ChoirPlaceNode;

typedef struct {
  const ChoirPlaceNode *node;
  char *model;   /* NULL: none fits */
  double tokens; /* a second, 0 = unknown */
  gboolean measured;
  guint memory_mb;
} ChoirPlacement;

/* details: what GET /v1/node/ID answered, an array. Sorted by name. Free with g_ptr_array_unref. */
GPtrArray *choir_place_nodes(const json_t *details);
/* Memory that a node has for one model, 0 when it has none to spare. */
guint choir_place_budget(const ChoirPlaceNode *node);
/* One entry per node. models: of ChoirExpertModel; the largest that fits and is fast enough, else the smallest that
 * fits. benches: {"NODE/FILE": tokens a second}, may be NULL. Free with g_ptr_array_unref; nodes must outlive it. */
GPtrArray *choir_place(const GPtrArray *nodes, const GPtrArray *models, const json_t *benches);
/* What an expert should reserve so that every ready node can take it: the largest model's need that fits the smallest
 * of them. 0 with error, one sentence, when none fits. */
guint choir_place_reserve(const GPtrArray *nodes, const GPtrArray *models, GError **error);
json_t *choir_place_json(const GPtrArray *placements);
void choir_place_print(const GPtrArray *placements);
