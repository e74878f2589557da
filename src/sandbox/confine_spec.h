/* What a confined program gets, as it travels from the daemon to choir-sandbox: one JSON object on a pipe, never argv,
 * so that nothing of it shows in the list of processes. */
#pragma once
#include <glib.h>
#include <jansson.h>

typedef struct {
  GStrv argv, env, writable, hidden;
  char *cwd, *proxy_socket;
  guint seconds, cpu_seconds, memory_mb, processes, file_mb;
  gboolean pty, network, full; /* full: bubblewrap as well */
} ChoirLimits;

json_t *choir_limits_to_json(const ChoirLimits *limits); /* caller decrefs */
gboolean choir_limits_from_json(const json_t *json, ChoirLimits *ret_limits, GError **error);
void choir_limits_clear(ChoirLimits *limits);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ChoirLimits, choir_limits_clear)
