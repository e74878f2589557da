#include "cluster/view.h"
#include <string.h>
#include "base/clock.h"
#include "base/text.h"
#include "base/version.h"

#define FRESH_US (2 * G_USEC_PER_SEC)
#define ASK_MS 3000
#define META_US (300 * G_USEC_PER_SEC)
#define MAX_ALLOCATIONS 200
#define MAX_META 64

enum { PART_NODES, PART_HEALTH, PART_CLIENTS, PART_SERVERS, PART_JOBS, PART_ALLOCATIONS, PARTS };
static const struct {
  gboolean nomad;
  const char *path;
} parts[PARTS] = {
    [PART_NODES] = {FALSE, "/v1/catalog/nodes"},         [PART_HEALTH] = {FALSE, "/v1/health/state/critical"},
    [PART_CLIENTS] = {TRUE, "/v1/nodes?resources=true"}, [PART_SERVERS] = {TRUE, "/v1/agent/members"},
    [PART_JOBS] = {TRUE, "/v1/jobs?namespace=*"},        [PART_ALLOCATIONS] = {TRUE, "/v1/allocations?namespace=*"},
};

typedef struct {
  ChoirView *view;
  guint index;
  json_t *json;
  gint64 answered_us;
  char *problem;
  gboolean asked;
} Part;

typedef struct {
  ChoirView *view;
  char *id;
} MetaAsk;

static void meta_ask_free(gpointer data) {
  MetaAsk *ask = data;
  g_free(ask->id);
  g_free(ask);
}

typedef struct {
  guint id;
  void (*done)(gpointer user);
  gpointer user;
} Waiter;

struct ChoirView {
  ChoirConsul *consul;
  ChoirNomad *nomad;
  ChoirExperts *experts;
  Part part[PARTS];
  GArray *waiters;  /* Waiter */
  GPtrArray *metas; /* MetaAsk, under way */
  GHashTable *meta; /* id of a Nomad client -> its metadata, json_t */
  gint64 meta_us, asked_us;
  guint pending, last_id;
};

ChoirView *choir_view_new(ChoirConsul *consul, ChoirNomad *nomad, ChoirExperts *experts) {
  ChoirView *view = g_new0(ChoirView, 1);
  view->consul = consul;
  view->nomad = nomad;
  view->experts = experts;
  view->waiters = g_array_new(FALSE, FALSE, sizeof(Waiter));
  view->metas = g_ptr_array_new_with_free_func(meta_ask_free);
  view->meta = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)json_decref);
  for (guint i = 0; i < PARTS; i++)
    view->part[i] = (Part){.view = view, .index = i};
  return view;
}

ChoirNomad *choir_view_nomad(ChoirView *view) {
  return view->nomad;
}

static void tell(ChoirView *view) {
  g_autoptr(GArray) waiters = g_steal_pointer(&view->waiters);
  view->waiters = g_array_new(FALSE, FALSE, sizeof(Waiter));
  for (guint i = 0; i < waiters->len; i++) {
    Waiter waiter = g_array_index(waiters, Waiter, i);
    waiter.done(waiter.user);
  }
}

static void on_meta(const json_t *json, const char *text, const GError *error, gpointer user) {
  MetaAsk *ask = user;
  json_t *meta = json_object_get(json, "Meta");
  if (meta && g_hash_table_size(ask->view->meta) < MAX_META)
    g_hash_table_insert(ask->view->meta, g_steal_pointer(&ask->id), json_incref(meta));
  ChoirView *view = ask->view;
  g_ptr_array_remove_fast(view->metas, ask);
  if (--view->pending == 0)
    tell(view);
}

/* The list of clients has no metadata; each is asked for its own, rarely. */
static void ask_meta(ChoirView *view, const json_t *clients) {
  size_t i;
  json_t *client;
  gint64 now = choir_clock_us();
  if (view->meta_us && now - view->meta_us > META_US)
    g_hash_table_remove_all(view->meta);
  view->meta_us = now;
  json_array_foreach((json_t *)clients, i, client) {
    const char *id = choir_json_string(client, "ID", "");
    if (!choir_nomad_id_ok(id) || g_hash_table_contains(view->meta, id) || i >= MAX_META)
      continue;
    MetaAsk *ask = g_new0(MetaAsk, 1);
    *ask = (MetaAsk){.view = view, .id = g_strdup(id)};
    g_autofree char *path = g_strconcat("/v1/node/", id, NULL);
    view->pending++;
    g_ptr_array_add(view->metas, ask);
    choir_nomad_get(view->nomad, path, ASK_MS, on_meta, ask);
  }
}

static void take(Part *part, const json_t *json, const GError *error) {
  ChoirView *view = part->view;
  part->asked = FALSE;
  g_clear_pointer(&part->problem, g_free);
  if (error) {
    part->problem = g_strdup(error->message);
  } else {
    json_decref(part->json);
    part->json = json_incref((json_t *)json);
    part->answered_us = choir_clock_us();
    if (part->index == PART_CLIENTS)
      ask_meta(view, json);
  }
  if (--view->pending == 0)
    tell(view);
}

static void on_consul(const json_t *json, const GError *error, gpointer part) {
  take(part, json, error);
}

static void on_nomad(const json_t *json, const char *text, const GError *error, gpointer part) {
  take(part, json, error);
}

guint choir_view_refresh(ChoirView *view, void (*done)(gpointer user), gpointer user) {
  gint64 now = choir_clock_us();
  if (view->pending == 0 && (!view->asked_us || now - view->asked_us >= FRESH_US)) {
    view->asked_us = now;
    for (guint i = 0; i < PARTS; i++) {
      if (parts[i].nomad ? !view->nomad : !view->consul)
        continue;
      view->part[i].asked = TRUE;
      view->pending++;
      if (parts[i].nomad)
        choir_nomad_get(view->nomad, parts[i].path, ASK_MS, on_nomad, &view->part[i]);
      else
        choir_consul_get(view->consul, parts[i].path, ASK_MS, on_consul, &view->part[i]);
    }
  }
  if (view->pending == 0) {
    done(user);
    return 0;
  }
  Waiter waiter = {.id = ++view->last_id, .done = done, .user = user};
  g_array_append_val(view->waiters, waiter);
  return waiter.id;
}

void choir_view_forget(ChoirView *view, guint id) {
  for (guint i = 0; i < view->waiters->len; i++)
    if (g_array_index(view->waiters, Waiter, i).id == id) {
      g_array_remove_index_fast(view->waiters, i);
      return;
    }
}

void choir_view_free(ChoirView *view) {
  if (!view)
    return;
  for (guint i = 0; i < PARTS; i++) {
    json_decref(view->part[i].json);
    g_free(view->part[i].problem);
  }
  g_array_unref(view->waiters);
  g_hash_table_unref(view->meta);
  g_ptr_array_unref(view->metas);
  g_free(view);
}

/* --- JSON */

static json_t *age_of(gint64 answered_us) {
  return answered_us ? json_real((double)(choir_clock_us() - answered_us) / G_USEC_PER_SEC) : json_null();
}

static json_t *part_json(const ChoirView *view, guint index, json_t *list) {
  const Part *part = &view->part[index];
  gboolean there = parts[index].nomad ? view->nomad != NULL : view->consul != NULL;
  const char *missing = parts[index].nomad ? "no Nomad is configured; set [cluster] nomad_url or NOMAD_ADDR"
                                           : "no Consul is configured; set [cluster] consul_url or CONSUL_HTTP_ADDR";
  return json_pack("{s:o,s:o,s:s?}", "list", list, "age_s", age_of(part->answered_us), "problem",
                   there ? part->problem : missing);
}

static gboolean is_critical(const json_t *critical, const char *node) {
  size_t i;
  json_t *check;
  json_array_foreach((json_t *)critical, i,
                     check) if (g_str_equal(choir_json_string(check, "CheckID", ""), "serfHealth") &&
                                g_str_equal(choir_json_string(check, "Node", ""), node)) return TRUE;
  return FALSE;
}

static json_t *node_of(json_t *list, const char *name, const char *address) {
  size_t i;
  json_t *node;
  json_array_foreach(list, i, node) if (g_str_equal(choir_json_string(node, "name", ""), name)) return node;
  node = json_pack("{s:s,s:s,s:n,s:n,s:b,s:n}", "name", name, "address", address, "alive", "nomad", "server", 0,
                   "eligible");
  json_array_append_new(list, node);
  return node;
}

static void add_meta(const ChoirView *view, json_t *node, const char *id) {
  static const char *const keys[][2] = {{"cpu", "choir_cpu"},
                                        {"version", "choir_version"},
                                        {"gbps", "choir_gbps"},
                                        {"gmacs", "choir_gmacs"},
                                        {"ram_mb", "choir_ram_mb"}};
  const json_t *meta = g_hash_table_lookup(view->meta, id);
  for (gsize i = 0; i < G_N_ELEMENTS(keys); i++) {
    const char *text = choir_json_string(meta, keys[i][1], NULL);
    json_object_set_new(node, keys[i][0],
                        !text   ? json_null()
                        : i < 2 ? json_string(text)
                                : json_real(g_ascii_strtod(text, NULL)));
  }
}

/* "worker1.global" is the server on worker1. */
static char *member_name(const json_t *member) {
  const char *name = choir_json_string(member, "Name", ""), *dot = strrchr(name, '.');
  return dot ? g_strndup(name, (gsize)(dot - name)) : g_strdup(name);
}

/* Nodes of one cluster run the same version; NULL where they do. Caller frees. */
static char *other_versions(const json_t *list) {
  g_autoptr(GString) others = g_string_new(NULL);
  size_t i;
  json_t *node;
  json_array_foreach((json_t *)list, i, node) {
    const char *version = choir_json_string(node, "version", NULL);
    if (version && !g_str_equal(version, choir_version()))
      g_string_append_printf(others, "%s%s (%s)", others->len ? ", " : "", choir_json_string(node, "name", ""),
                             version);
  }
  return others->len == 0 ? NULL
                          : g_strdup_printf("another version of Choir than this one (%s) runs on %s: bring all to one "
                                            "with ansible-playbook upgrade.yaml",
                                            choir_version(), others->str);
}

static json_t *nodes_json(const ChoirView *view) {
  json_t *list = json_array(), *item;
  size_t i;
  json_array_foreach(view->part[PART_NODES].json, i, item) {
    const char *name = choir_json_string(item, "Node", "");
    json_t *node = node_of(list, name, choir_json_string(item, "Address", ""));
    json_object_set_new(node, "alive", json_boolean(!is_critical(view->part[PART_HEALTH].json, name)));
  }
  json_array_foreach(view->part[PART_CLIENTS].json, i, item) {
    json_t *node = node_of(list, choir_json_string(item, "Name", ""), choir_json_string(item, "Address", ""));
    const char *status = choir_json_string(item, "Status", "");
    json_object_set_new(node, "nomad", json_string(status));
    json_object_set_new(node, "eligible",
                        json_boolean(g_str_equal(choir_json_string(item, "SchedulingEligibility", ""), "eligible")));
    if (json_is_null(json_object_get(node, "alive")))
      json_object_set_new(node, "alive", json_boolean(g_str_equal(status, "ready")));
    add_meta(view, node, choir_json_string(item, "ID", ""));
  }
  json_array_foreach(json_object_get(view->part[PART_SERVERS].json, "Members"), i, item) {
    g_autofree char *name = member_name(item);
    json_t *node = node_of(list, name, choir_json_string(item, "Addr", ""));
    json_object_set_new(node, "server", json_true());
    if (json_is_null(json_object_get(node, "alive")))
      json_object_set_new(node, "alive", json_boolean(g_str_equal(choir_json_string(item, "Status", ""), "alive")));
  }
  json_t *json = part_json(view, view->consul ? PART_NODES : PART_CLIENTS, list);
  if (view->consul && view->nomad && view->part[PART_CLIENTS].problem && !view->part[PART_NODES].problem)
    json_object_set_new(json, "problem", json_string(view->part[PART_CLIENTS].problem));
  g_autofree char *skew = other_versions(list);
  if (skew && json_is_null(json_object_get(json, "problem")))
    json_object_set_new(json, "problem", json_string(skew));
  return json;
}

static json_int_t summed(const json_t *summary, const char *key) {
  const char *group;
  json_t *counts;
  json_int_t sum = 0;
  json_object_foreach((json_t *)summary, group, counts) sum += choir_json_int(counts, key, 0);
  return sum;
}

static json_t *jobs_json(const ChoirView *view) {
  json_t *list = json_array(), *job;
  size_t i;
  json_array_foreach(view->part[PART_JOBS].json, i, job) {
    const json_t *summary = json_object_get(json_object_get(job, "JobSummary"), "Summary");
    json_array_append_new(
        list,
        json_pack("{s:s,s:s,s:s,s:s,s:b,s:I,s:I,s:I,s:I,s:I,s:I}", "id", choir_json_string(job, "ID", ""), "namespace",
                  choir_json_string(job, "Namespace", "default"), "type", choir_json_string(job, "Type", ""), "status",
                  choir_json_string(job, "Status", ""), "stopped", (int)choir_json_bool(job, "Stop", FALSE), "running",
                  summed(summary, "Running"), "starting", summed(summary, "Starting"), "failed",
                  summed(summary, "Failed"), "lost", summed(summary, "Lost"), "queued", summed(summary, "Queued"),
                  "complete", summed(summary, "Complete")));
  }
  return part_json(view, PART_JOBS, list);
}

static json_t *tasks_json(const json_t *states) {
  json_t *list = json_array(), *state;
  const char *name;
  json_object_foreach((json_t *)states, name, state) json_array_append_new(
      list, json_pack("{s:s,s:s,s:b,s:I}", "name", name, "state", choir_json_string(state, "State", ""), "failed",
                      (int)choir_json_bool(state, "Failed", FALSE), "restarts",
                      (json_int_t)choir_json_int(state, "Restarts", 0)));
  return list;
}

static gint newest_first(gconstpointer a, gconstpointer b) {
  gint64 x = choir_json_int(*(json_t *const *)a, "ModifyTime", 0),
         y = choir_json_int(*(json_t *const *)b, "ModifyTime", 0);
  return x > y ? -1 : x < y;
}

static json_t *allocations_json(const ChoirView *view) {
  g_autoptr(GPtrArray) sorted = g_ptr_array_new();
  json_t *list = json_array(), *item;
  size_t i;
  json_array_foreach(view->part[PART_ALLOCATIONS].json, i, item) g_ptr_array_add(sorted, item);
  g_ptr_array_sort(sorted, newest_first);
  for (i = 0; i < sorted->len && i < MAX_ALLOCATIONS; i++) {
    item = sorted->pdata[i];
    double changed_s = (double)choir_json_int(item, "ModifyTime", 0) / 1e9;
    json_array_append_new(
        list,
        json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:f,s:o}", "id", choir_json_string(item, "ID", ""), "job",
                  choir_json_string(item, "JobID", ""), "namespace", choir_json_string(item, "Namespace", "default"),
                  "group", choir_json_string(item, "TaskGroup", ""), "node", choir_json_string(item, "NodeName", ""),
                  "status", choir_json_string(item, "ClientStatus", ""), "wanted",
                  choir_json_string(item, "DesiredStatus", ""), "changed", changed_s, "tasks",
                  tasks_json(json_object_get(item, "TaskStates"))));
  }
  return part_json(view, PART_ALLOCATIONS, list);
}

json_t *choir_view_json(ChoirView *view) {
  const char *consul_problem = view->consul ? choir_consul_problem(view->consul) : NULL;
  const char *nomad_problem = NULL;
  for (guint i = 0; i < PARTS && !nomad_problem; i++)
    if (parts[i].nomad)
      nomad_problem = view->part[i].problem;
  return json_pack("{s:{s:s?,s:s?},s:{s:s?,s:s?},s:o,s:o,s:o,s:o}", "consul", "url",
                   view->consul ? choir_consul_url(view->consul) : NULL, "problem", consul_problem, "nomad", "url",
                   view->nomad ? choir_nomad_url(view->nomad) : NULL, "problem", nomad_problem, "nodes",
                   nodes_json(view), "jobs", jobs_json(view), "allocations", allocations_json(view), "experts",
                   choir_experts_json(view->experts));
}
