#include "cli/expert_find.h"
#include <gio/gio.h>
#include <string.h>
#include "base/names.h"
#include "base/text.h"
#include "cli/jobs_api.h"

const char *choir_expert_name_of(const char *service) {
  static const char *const prefixes[] = {CHOIR_EXPERT_PREFIX, CHOIR_EXPERT_PREFIX_OLD1, CHOIR_EXPERT_PREFIX_OLD2};
  for (gsize i = 0; i < G_N_ELEMENTS(prefixes); i++)
    if (g_str_has_prefix(service, prefixes[i]) && service[strlen(prefixes[i])])
      return service + strlen(prefixes[i]);
  return NULL;
}

void choir_expert_found_free(gpointer data) {
  ChoirFoundExpert *expert = data;
  if (!expert)
    return;
  g_free(expert->name);
  g_free(expert->service);
  g_free(expert->id);
  g_free(expert->node);
  g_free(expert->address);
  g_free(expert->model);
  g_free(expert->context);
  g_free(expert->alloc);
  g_free(expert->why);
  g_free(expert->output);
  g_free(expert);
}

/* The rest of the tag "key=...", "" when there is none. */
static const char *tag_of(const json_t *tags, const char *key) {
  size_t i, length = strlen(key);
  json_t *tag;
  json_array_foreach((json_t *)tags, i, tag) {
    const char *text = json_string_value(tag);
    if (text && strncmp(text, key, length) == 0 && text[length] == '=')
      return text + length + 1;
  }
  return "";
}

static gboolean has_tag(const json_t *tags, const char *word) {
  size_t i;
  json_t *tag;
  json_array_foreach((json_t *)tags, i, tag) if (g_strcmp0(json_string_value(tag), word) == 0) return TRUE;
  return FALSE;
}

ChoirFoundExpert *choir_expert_found_of(const char *service, const json_t *entry) {
  ChoirFoundExpert *expert = g_new0(ChoirFoundExpert, 1);
  const json_t *own = json_object_get(entry, "Service"), *node = json_object_get(entry, "Node");
  const json_t *tags = json_object_get(own, "Tags"), *meta = json_object_get(own, "Meta");
  const char *address = choir_json_string(own, "Address", "");
  expert->name = g_strdup(choir_expert_name_of(service) ? choir_expert_name_of(service) : service);
  expert->service = g_strdup(service);
  expert->id = g_strdup(choir_json_string(own, "ID", ""));
  expert->node = g_strdup(choir_json_string(node, "Node", ""));
  expert->address = g_strdup_printf("%s:%d", *address ? address : choir_json_string(node, "Address", ""),
                                    (int)choir_json_int(own, "Port", 0));
  expert->model = g_strdup(tag_of(tags, "model"));
  expert->context = g_strdup(tag_of(tags, "ctx"));
  expert->alloc = g_strdup(choir_json_string(meta, "alloc", ""));
  expert->why = g_strdup(choir_json_string(meta, "why", ""));
  expert->fallback = has_tag(tags, "fallback");
  expert->passing = TRUE;
  expert->output = g_strdup("");
  size_t i;
  json_t *check;
  json_array_foreach(json_object_get(entry, "Checks"), i, check) {
    if (g_str_equal(choir_json_string(check, "Status", ""), "passing") || !expert->passing)
      continue;
    expert->passing = FALSE;
    g_free(expert->output);
    expert->output = g_strdup(choir_json_string(check, "Output", ""));
    expert->output[strcspn(expert->output, "\r\n")] = '\0';
  }
  return expert;
}

static gint by_name(gconstpointer a, gconstpointer b) {
  const ChoirFoundExpert *one = *(ChoirFoundExpert *const *)a, *two = *(ChoirFoundExpert *const *)b;
  int order = strcmp(one->name, two->name);
  return order ? order : strcmp(one->address, two->address);
}

static gboolean may_read(ChoirApi *consul, GError **error) {
  /* Consul's answer to who may not read is an empty list, not a refusal. It always knows itself. */
  json_auto_t *nodes = choir_api_json(consul, "GET", "/v1/catalog/nodes", NULL, NULL, error);
  if (!nodes)
    return FALSE;
  if (json_array_size(nodes) > 0)
    return TRUE;
  g_set_error(error, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED,
              "Consul at %s shows nothing: %s may not read its services; run it as root, or name a token's file in "
              "CONSUL_HTTP_TOKEN_FILE",
              choir_api_url(consul), choir_api_has_token(consul) ? "the token" : "who has no token");
  return FALSE;
}

GPtrArray *choir_expert_find(ChoirApi *consul, GError **error) {
  json_auto_t *services = choir_api_json(consul, "GET", "/v1/catalog/services", NULL, NULL, error);
  if (!services)
    return NULL;
  if (json_object_size(services) == 0 && !may_read(consul, error))
    return NULL;
  g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(choir_expert_found_free);
  const char *service;
  json_t *tags;
  json_object_foreach(services, service, tags) {
    if (!choir_expert_name_of(service))
      continue;
    g_autofree char *safe = choir_jobs_escape(service);
    g_autofree char *path = g_strconcat("/v1/health/service/", safe, NULL);
    json_auto_t *instances = choir_api_json(consul, "GET", path, NULL, NULL, error);
    size_t i;
    json_t *instance;
    if (!instances)
      return NULL;
    json_array_foreach(instances, i, instance) g_ptr_array_add(found, choir_expert_found_of(service, instance));
  }
  g_ptr_array_sort(found, by_name);
  return g_steal_pointer(&found);
}

json_t *choir_expert_find_json(const GPtrArray *experts) {
  json_t *list = json_array();
  for (guint i = 0; i < experts->len; i++) {
    const ChoirFoundExpert *expert = experts->pdata[i];
    json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:b,s:b,s:s,s:s}", "name", expert->name, "service",
                                          expert->service, "node", expert->node, "address", expert->address, "model",
                                          expert->model, "ctx", expert->context, "passing", expert->passing, "fallback",
                                          expert->fallback, "why", expert->why, "output", expert->output));
  }
  return list;
}
