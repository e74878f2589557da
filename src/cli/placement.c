#include "cli/placement.h"
#include <gio/gio.h>
#include <stdio.h>
#include <string.h>
#include "base/text.h"
#include "cli/expert_models.h"

static void node_free(gpointer data) {
  ChoirPlaceNode *node = data;
  g_free(node->name);
  g_free(node->cpu);
  g_free(node);
}

static void placement_free(gpointer data) {
  ChoirPlacement *placement = data;
  g_free(placement->model);
  g_free(placement);
}

static gint by_name(gconstpointer a, gconstpointer b) {
  return strcmp((*(ChoirPlaceNode *const *)a)->name, (*(ChoirPlaceNode *const *)b)->name);
}

static double number(const json_t *meta, const char *key) {
  return g_ascii_strtod(choir_json_string(meta, key, "0"), NULL);
}

GPtrArray *choir_place_nodes(const json_t *details) {
  GPtrArray *nodes = g_ptr_array_new_with_free_func(node_free);
  size_t i;
  json_t *detail;
  json_array_foreach((json_t *)details, i, detail) {
    const json_t *meta = json_object_get(detail, "Meta");
    const json_t *memory = json_object_get(json_object_get(detail, "NodeResources"), "Memory");
    ChoirPlaceNode *node = g_new0(ChoirPlaceNode, 1);
    node->name = g_strdup(choir_json_string(detail, "Name", "?"));
    node->cpu = g_strdup(choir_json_string(meta, "choir_cpu", ""));
    node->gb_s = number(meta, "choir_gbps");
    node->gmac_s = number(meta, "choir_gmacs");
    node->ram_mb = (guint)number(meta, "choir_ram_mb");
    guint nomads = (guint)choir_json_int(memory, "MemoryMB", 0);
    /* A container may have less than its machine; Nomad's figure is what it will hand out. */
    node->ram_mb = node->ram_mb && nomads ? MIN(node->ram_mb, nomads) : MAX(node->ram_mb, nomads);
    node->ready = g_str_equal(choir_json_string(detail, "Status", ""), "ready") &&
                  g_str_equal(choir_json_string(detail, "SchedulingEligibility", "eligible"), "eligible");
    g_ptr_array_add(nodes, node);
  }
  g_ptr_array_sort(nodes, by_name);
  return nodes;
}

guint choir_place_budget(const ChoirPlaceNode *node) {
  /* Small nodes give a share: with 1.5 GB nothing would be left of it, though the light model runs well there. */
  guint large = node->ram_mb > CHOIR_PLACEMENT_RESERVED_MB ? node->ram_mb - CHOIR_PLACEMENT_RESERVED_MB : 0;
  return MAX(large, node->ram_mb * 3 / 10);
}

static double expected(const ChoirPlaceNode *node, const ChoirExpertModel *model, const json_t *benches,
                       gboolean *ret_measured) {
  g_autofree char *key = g_strdup_printf("%s/%s", node->name, model->filename);
  double measured = json_number_value(json_object_get(benches, key));
  *ret_measured = measured > 0;
  if (measured > 0)
    return measured;
  /* Every token reads all weights once. */
  double bytes = model->bytes ? (double)model->bytes : model->memory_mb * 0.7e6;
  return node->gb_s > 0 && bytes > 0 ? node->gb_s * 1e9 / bytes : 0;
}

static gboolean better(const ChoirPlacement *now, guint memory_mb, double tokens) {
  gboolean usable = tokens == 0 || tokens >= CHOIR_PLACEMENT_USABLE;
  gboolean now_usable = now->model && (now->tokens == 0 || now->tokens >= CHOIR_PLACEMENT_USABLE);
  if (!now->model || usable != now_usable)
    return !now->model || usable;
  return usable ? memory_mb > now->memory_mb : memory_mb < now->memory_mb;
}

GPtrArray *choir_place(const GPtrArray *nodes, const GPtrArray *models, const json_t *benches) {
  GPtrArray *placements = g_ptr_array_new_with_free_func(placement_free);
  for (guint i = 0; i < nodes->len; i++) {
    ChoirPlacement *placement = g_new0(ChoirPlacement, 1);
    placement->node = nodes->pdata[i];
    for (guint j = 0; j < models->len; j++) {
      const ChoirExpertModel *model = models->pdata[j];
      gboolean measured;
      double tokens = expected(placement->node, model, benches, &measured);
      if (model->memory_mb > choir_place_budget(placement->node) || !better(placement, model->memory_mb, tokens))
        continue;
      g_free(placement->model);
      placement->model = g_strdup(model->name);
      placement->memory_mb = model->memory_mb;
      placement->tokens = tokens;
      placement->measured = measured;
    }
    g_ptr_array_add(placements, placement);
  }
  return placements;
}

guint choir_place_reserve(const GPtrArray *nodes, const GPtrArray *models, GError **error) {
  const ChoirPlaceNode *smallest = NULL;
  guint best = 0, least = G_MAXUINT;
  for (guint i = 0; i < nodes->len; i++) {
    const ChoirPlaceNode *node = nodes->pdata[i];
    if (node->ready && (!smallest || node->ram_mb < smallest->ram_mb))
      smallest = node;
  }
  if (!smallest) {
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "no node of the cluster is ready; see nomad node status");
    return 0;
  }
  for (guint i = 0; i < models->len; i++) {
    const ChoirExpertModel *model = models->pdata[i];
    least = MIN(least, model->memory_mb);
    if (model->memory_mb <= choir_place_budget(smallest))
      best = MAX(best, model->memory_mb);
  }
  if (best == 0)
    g_set_error(
        error, G_IO_ERROR, G_IO_ERROR_NO_SPACE,
        "the smallest model of the list needs %u MB and the node %s has %u MB for one; list a smaller model, or "
        "give --memory-mb to use larger nodes only",
        models->len ? least : 0, smallest->name, choir_place_budget(smallest));
  return best;
}

json_t *choir_place_json(const GPtrArray *placements) {
  json_t *list = json_array();
  for (guint i = 0; i < placements->len; i++) {
    const ChoirPlacement *placement = placements->pdata[i];
    const ChoirPlaceNode *node = placement->node;
    json_array_append_new(
        list, json_pack("{s:s,s:s,s:f,s:f,s:i,s:b,s:i,s:s*,s:f,s:s}", "node", node->name, "cpu", node->cpu, "gb_s",
                        node->gb_s, "gmac_s", node->gmac_s, "ram_mb", (int)node->ram_mb, "ready", node->ready,
                        "budget_mb", (int)choir_place_budget(node), "model", placement->model, "tokens_per_second",
                        placement->tokens, "from", placement->measured ? "benchmark" : "memory speed"));
  }
  return list;
}

void choir_place_print(const GPtrArray *placements) {
  printf("%-16s %-8s %7s %8s %8s  %-28s %s\n", "node", "class", "GB/s", "GMAC/s", "RAM MB", "best model that fits",
         "tokens/s");
  for (guint i = 0; i < placements->len; i++) {
    const ChoirPlacement *placement = placements->pdata[i];
    const ChoirPlaceNode *node = placement->node;
    printf("%-16s %-8s %7.1f %8.1f %8u  %-28s ", node->name, *node->cpu ? node->cpu : "?", node->gb_s, node->gmac_s,
           node->ram_mb,
           !node->ready       ? "(not ready)"
           : placement->model ? placement->model
                              : "(none fits)");
    if (placement->model && placement->tokens > 0)
      printf("%s%.1f", placement->measured ? "" : "at most ", placement->tokens);
    printf("\n");
  }
}
