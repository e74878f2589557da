/* Experts that stand in the settings: a list for machines without Consul, and servers of other houses. */
#include <string.h>
#include "base/log.h"
#include "base/text.h"
#include "cluster/experts_private.h"

#define MAX_FILE (64 * 1024)

static void problem(ChoirExperts *experts, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void problem(ChoirExperts *experts, const char *format, ...) {
  va_list args;
  va_start(args, format);
  g_ptr_array_add(experts->setting_problems, g_strdup_vprintf(format, args));
  va_end(args);
}

static gboolean is_http(const char *url) {
  g_autoptr(GUri) uri = g_uri_parse(url, G_URI_FLAGS_NONE, NULL);
  const char *scheme = uri ? g_uri_get_scheme(uri) : "";
  return (g_str_equal(scheme, "http") || g_str_equal(scheme, "https")) && g_uri_get_host(uri) && *g_uri_get_host(uri);
}

void choir_experts_read_list(ChoirExperts *experts, const char *list) {
  g_auto(GStrv) items = g_strsplit(list, ",", -1);
  for (char **item = items; *item; item++) {
    char *line = g_strstrip(*item), *equals = strchr(line, '=');
    if (!*line)
      continue;
    if (!equals) {
      problem(experts, "[experts] list: write \"%s\" as NAME=ADDRESS", line);
      continue;
    }
    g_autofree char *name = g_strndup(line, (gsize)(equals - line));
    g_strstrip(name);
    if (!choir_expert_name_ok(name)) {
      problem(experts, "[experts] list: \"%s\" is no name: lower case letters, digits, - and _ are", name);
      continue;
    }
    g_auto(GStrv) urls = g_strsplit_set(equals + 1, " \t", -1);
    ChoirReplicaSpec specs[16];
    g_autoptr(GPtrArray) keep = g_ptr_array_new_with_free_func(g_free);
    guint n = 0;
    for (char **url = urls; *url && n < G_N_ELEMENTS(specs); url++) {
      if (!**url)
        continue;
      char *address = choir_consul_address(*url);
      g_ptr_array_add(keep, address);
      if (!is_http(address)) {
        problem(experts, "[experts] list: \"%s\" of %s is no address; write it as http://10.0.0.5:8080", *url, name);
        continue;
      }
      g_autoptr(GUri) uri = g_uri_parse(address, G_URI_FLAGS_NONE, NULL);
      char *id = g_strconcat("list:", address, NULL), *node = g_strdup(g_uri_get_host(uri));
      g_ptr_array_add(keep, id);
      g_ptr_array_add(keep, node);
      specs[n++] = (ChoirReplicaSpec){.id = id, .url = address, .node = node};
    }
    if (n > 0)
      choir_experts_set(experts, choir_experts_make(experts, name, CHOIR_EXPERT_OF_LIST), "list:", specs, n);
  }
}

static void read_one(ChoirExperts *experts, const char *name, const json_t *about) {
  const char *url = choir_json_string(about, "base_url", ""), *model = choir_json_string(about, "model", "");
  const char *variable = choir_json_string(about, "api_key_env", NULL);
  const char *key = variable ? g_getenv(variable) : NULL;
  if (!choir_expert_name_ok(name)) {
    problem(experts, "EXTERNAL_EXPERTS_CONFIG: \"%s\" is no name: lower case letters, digits, - and _ are", name);
  } else if (!is_http(url)) {
    problem(experts, "EXTERNAL_EXPERTS_CONFIG: %s needs a \"base_url\" that begins with http:// or https://", name);
  } else if (choir_experts_find(experts, name)) {
    problem(experts, "EXTERNAL_EXPERTS_CONFIG: %s is in [experts] list already, which counts", name);
  } else {
    if (variable && !key)
      problem(experts, "EXTERNAL_EXPERTS_CONFIG: the variable %s with the key of %s is not set", variable, name);
    g_autofree char *id = g_strconcat("outside:", url, NULL);
    g_autoptr(GUri) uri = g_uri_parse(url, G_URI_FLAGS_NONE, NULL);
    ChoirReplicaSpec spec = {.id = id,
                             .url = url,
                             .node = g_uri_get_host(uri),
                             .model = *model ? model : NULL,
                             .api_key = key,
                             .plain = TRUE};
    choir_experts_set(experts, choir_experts_make(experts, name, CHOIR_EXPERT_OUTSIDE), "outside:", &spec, 1);
  }
}

void choir_experts_read_external(ChoirExperts *experts, const char *external) {
  g_autoptr(GError) error = NULL;
  g_autofree char *text = NULL;
  gsize length;
  while (g_ascii_isspace(*external))
    external++;
  if (*external == '{') {
    text = g_strdup(external);
    length = strlen(text);
  } else if (!g_file_get_contents(external, &text, &length, &error) || length > MAX_FILE) {
    problem(experts,
            "EXTERNAL_EXPERTS_CONFIG must be JSON as in {\"NAME\": {\"base_url\": \"https://...\", \"api_key_env\": "
            "\"...\", \"model\": \"...\"}}, or a file of it: %s",
            error ? error->message : "it is too long");
    return;
  }
  json_auto_t *json = choir_json_parse(text, length, &error);
  const char *name;
  json_t *about;
  if (!json_is_object(json)) {
    problem(experts, "EXTERNAL_EXPERTS_CONFIG is no JSON object: %s", error ? error->message : "it is a list or text");
    return;
  }
  json_object_foreach(json, name, about) read_one(experts, name, about);
  json_object_foreach(json, name, about) if (choir_json_string(about, "api_key_env", NULL))
      g_unsetenv(choir_json_string(about, "api_key_env", NULL)); /* no child of ours needs it */
}
