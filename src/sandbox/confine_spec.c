#include "sandbox/confine_spec.h"
#include <gio/gio.h>
#include "base/text.h"

static json_t *list(const char *const *strings) {
  json_t *array = json_array();
  for (guint i = 0; strings && strings[i]; i++)
    json_array_append_new(array, json_string(strings[i]));
  return array;
}

json_t *choir_limits_to_json(const ChoirLimits *l) {
  json_t *json =
      json_pack("{s:o,s:o,s:o,s:o,s:i,s:i,s:i,s:i,s:i,s:b,s:b,s:b}", "argv", list((const char *const *)l->argv), "env",
                list((const char *const *)l->env), "writable", list((const char *const *)l->writable), "hidden",
                list((const char *const *)l->hidden), "seconds", (int)l->seconds, "cpu_seconds", (int)l->cpu_seconds,
                "memory_mb", (int)l->memory_mb, "processes", (int)l->processes, "file_mb", (int)l->file_mb, "pty",
                (int)l->pty, "network", (int)l->network, "full", (int)l->full);
  json_object_set_new(json, "cwd", json_string(l->cwd));
  if (l->proxy_socket)
    json_object_set_new(json, "proxy_socket", json_string(l->proxy_socket));
  return json;
}

static GStrv strings(const json_t *json, const char *key) {
  g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
  const json_t *array = json_object_get(json, key);
  for (gsize i = 0; i < json_array_size(array); i++) {
    const char *text = json_string_value(json_array_get(array, i));
    if (text)
      g_strv_builder_add(builder, text);
  }
  return g_strv_builder_end(builder);
}

static guint positive(const json_t *json, const char *key) {
  return (guint)CLAMP(choir_json_int(json, key, 1), 1, 1 << 20);
}

gboolean choir_limits_from_json(const json_t *json, ChoirLimits *ret_limits, GError **error) {
  ChoirLimits l = {.argv = strings(json, "argv"),
                   .env = strings(json, "env"),
                   .writable = strings(json, "writable"),
                   .hidden = strings(json, "hidden"),
                   .cwd = g_strdup(choir_json_string(json, "cwd", "/tmp")),
                   .proxy_socket = g_strdup(choir_json_string(json, "proxy_socket", NULL)),
                   .seconds = positive(json, "seconds"),
                   .cpu_seconds = positive(json, "cpu_seconds"),
                   .memory_mb = positive(json, "memory_mb"),
                   .processes = positive(json, "processes"),
                   .file_mb = positive(json, "file_mb"),
                   .pty = choir_json_bool(json, "pty", FALSE),
                   .network = choir_json_bool(json, "network", FALSE),
                   .full = choir_json_bool(json, "full", FALSE)};
  if (!l.argv[0]) {
    choir_limits_clear(&l);
    g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT, "there is no program to run");
    return FALSE;
  }
  *ret_limits = l;
  return TRUE;
}

void choir_limits_clear(ChoirLimits *limits) {
  g_strfreev(limits->argv);
  g_strfreev(limits->env);
  g_strfreev(limits->writable);
  g_strfreev(limits->hidden);
  g_free(limits->cwd);
  g_free(limits->proxy_socket);
  *limits = (ChoirLimits){0};
}
