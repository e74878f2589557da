/* Experts that are services of Consul: one watch of the catalog's names, one of each expert's instances. */
#include <string.h>
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"
#include "cluster/experts_private.h"

#define MAX_SERVICES 24 /* each keeps a question waiting at Consul; the client has 32 connections to one host */
#define MAX_INSTANCES 64

static void service_free(gpointer data) {
  ChoirServiceWatch *service = data;
  choir_consul_unwatch(service->watch);
  g_free(service->service);
  g_free(service->expert);
  g_free(service->problem);
  g_free(service);
}

static const char *tag_value(const json_t *tags, const char *name) {
  size_t i;
  json_t *tag;
  gsize length = strlen(name);
  json_array_foreach((json_t *)tags, i, tag) {
    const char *text = json_string_value(tag);
    if (text && strncmp(text, name, length) == 0 && (text[length] == '=' || text[length] == '\0'))
      return text[length] == '=' ? text + length + 1 : text + length;
  }
  return NULL;
}

static gboolean passing(const json_t *checks) {
  size_t i;
  json_t *check;
  json_array_foreach((json_t *)checks, i,
                     check) if (g_str_equal(choir_json_string(check, "Status", ""), "critical")) return FALSE;
  return TRUE;
}

static const char *first_complaint(const json_t *checks) {
  size_t i;
  json_t *check;
  json_array_foreach((json_t *)checks, i, check) if (g_str_equal(choir_json_string(check, "Status", ""),
                                                                 "critical")) return choir_json_string(check, "Output",
                                                                                                       "");
  return "";
}

/* Fills spec from an instance; the strings that had to be made go to keep. FALSE: it has no address. */
static gboolean read_instance(const json_t *instance, const char *group, GPtrArray *keep, ChoirReplicaSpec *spec) {
  const json_t *node = json_object_get(instance, "Node"), *service = json_object_get(instance, "Service");
  const char *address = choir_json_string(service, "Address", "");
  gint64 port = choir_json_int(service, "Port", 0);
  if (!*address)
    address = choir_json_string(node, "Address", "");
  if (!*address || port < 1 || port > 65535)
    return FALSE;
  const json_t *tags = json_object_get(service, "Tags");
  gboolean six = strchr(address, ':') != NULL;
  char *url = g_strdup_printf(six ? "http://[%s]:%d" : "http://%s:%d", address, (int)port);
  char *id = g_strdup_printf("%s%s", group, choir_json_string(service, "ID", url));
  g_ptr_array_add(keep, url);
  g_ptr_array_add(keep, id);
  *spec = (ChoirReplicaSpec){.id = id,
                             .url = url,
                             .node = choir_json_string(node, "Node", ""),
                             .model = tag_value(tags, "model"),
                             .fallback = tag_value(tags, "fallback") != NULL};
  return TRUE;
}

void choir_experts_service(const json_t *answer, const GError *error, gpointer user) {
  ChoirServiceWatch *service = user;
  ChoirExperts *experts = service->experts;
  size_t i;
  json_t *instance;
  if (error || !json_is_array(answer)) /* the last known servers stay; the catalog's problem is told */
    return;
  service->answered = TRUE;
  g_autoptr(GPtrArray) keep = g_ptr_array_new_with_free_func(g_free);
  g_autofree char *group = g_strdup_printf("consul:%s:", service->service);
  g_autofree ChoirReplicaSpec *specs = g_new0(ChoirReplicaSpec, MAX_INSTANCES);
  const char *complaint = "";
  guint n = 0;
  json_array_foreach((json_t *)answer, i, instance) {
    const json_t *checks = json_object_get(instance, "Checks");
    if (!passing(checks))
      complaint = first_complaint(checks);
    else if (n < MAX_INSTANCES && read_instance(instance, group, keep, &specs[n]))
      n++;
  }
  g_clear_pointer(&service->problem, g_free);
  if (json_array_size(answer) == 0)
    service->problem = g_strdup_printf("Consul names the service %s but shows no server of it; the token may lack "
                                       "permission to read nodes",
                                       service->service);
  else if (n == 0)
    service->problem =
        g_strdup_printf("no server of %s is healthy%s%.200s", service->service, *complaint ? ": " : "", complaint);
  choir_experts_set(experts, choir_experts_make(experts, service->expert, CHOIR_EXPERT_OF_CONSUL), group, specs, n);
  choir_experts_tell(experts);
}

static void add_service(ChoirExperts *experts, const char *name) {
  if (g_hash_table_contains(experts->services, name))
    return;
  if (g_hash_table_size(experts->services) >= MAX_SERVICES) {
    experts->too_many++;
    return;
  }
  const char *expert = choir_expert_of_service(name);
  const ChoirExpert *known = choir_experts_find(experts, expert);
  if (known && known->source != CHOIR_EXPERT_OF_CONSUL) /* the settings count */
    return;
  ChoirServiceWatch *service = g_new0(ChoirServiceWatch, 1);
  service->experts = experts;
  service->service = g_strdup(name);
  service->expert = g_strdup(expert);
  g_hash_table_insert(experts->services, g_strdup(name), service);
  g_autofree char *path = g_strconcat("/v1/health/service/", name, NULL);
  if (experts->options.consul)
    service->watch = choir_consul_watch(experts->options.consul, path, choir_experts_service, service);
}

static void drop_services(ChoirExperts *experts, const json_t *names) {
  GHashTableIter iter;
  gpointer name, value;
  g_hash_table_iter_init(&iter, experts->services);
  while (g_hash_table_iter_next(&iter, &name, &value)) {
    ChoirServiceWatch *service = value;
    if (json_object_get(names, name))
      continue;
    g_autofree char *group = g_strdup_printf("consul:%s:", service->service);
    ChoirExpert *expert = choir_experts_find(experts, service->expert);
    if (expert)
      choir_experts_set(experts, expert, group, NULL, 0);
    g_hash_table_iter_remove(&iter);
  }
}

void choir_experts_catalog(const json_t *answer, const GError *error, gpointer user) {
  ChoirExperts *experts = user;
  const char *name;
  json_t *tags;
  g_clear_pointer(&experts->catalog_problem, g_free);
  if (error) {
    experts->catalog_problem = g_strdup(error->message);
    return;
  }
  if (json_object_size(answer) == 0) {
    /* Consul lists at least itself to whoever may read services; denied looks like nothing. */
    gboolean token = !experts->options.consul || choir_consul_has_token(experts->options.consul);
    experts->catalog_problem =
        g_strdup_printf("Consul shows no services at all, which is what it shows without permission; %s",
                        token ? "give the token of [cluster] consul_token_file the right to read services and nodes"
                              : "put a token that may read services and nodes into [cluster] consul_token_file");
    choir_warning(CHOIR_TOPIC_CLUSTER, "%s; the last known list is kept", experts->catalog_problem);
    return;
  }
  drop_services(experts, answer);
  experts->too_many = 0;
  json_object_foreach((json_t *)answer, name, tags) if (choir_expert_of_service(name)) add_service(experts, name);
  choir_experts_tell(experts);
}

void choir_experts_watch(ChoirExperts *experts) {
  experts->services = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, service_free);
  if (experts->options.consul)
    experts->catalog =
        choir_consul_watch(experts->options.consul, "/v1/catalog/services", choir_experts_catalog, experts);
}

void choir_experts_unwatch(ChoirExperts *experts) {
  g_clear_pointer(&experts->services, g_hash_table_unref);
  g_clear_pointer(&experts->catalog, choir_consul_unwatch);
}
