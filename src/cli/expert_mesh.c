/* The encrypted way to an expert: Consul's built-in proxy beside it, which lets in whom Consul's intentions allow. */
#include <string.h>
#include "base/child.h"
#include "base/names.h"
#include "base/text.h"
#include "cli/expert_private.h"

#define LISTENS "Log data will now stream in" /* what the proxy says once it knows its service */

struct ChoirExpertMesh {
  ChoirChild *child;
  GStrv argv;
};

json_t *choir_expert_mesh_json(const char *service, const char *address, guint16 port) {
  gboolean prefixed = g_str_has_prefix(service, CHOIR_EXPERT_PREFIX);
  /* No name that begins as an expert's: the list of experts must not show the proxy as one. */
  g_autofree char *name = g_strconcat("llama-mesh-", service + (prefixed ? strlen(CHOIR_EXPERT_PREFIX) : 0), NULL);
  return json_pack("{s:{s:s,s:s,s:i,s:{s:s,s:{s:s}}}}", "SidecarService", "Name", name, "Address", address, "Port",
                   (int)port, "Proxy", "LocalServiceAddress", address, "Config", "bind_address", address);
}

static gboolean prepare(ChoirChild *child, GStrv *ret_argv, GStrv *ret_env, GArray *fds, gpointer user,
                        GError **error) {
  *ret_argv = g_strdupv(((ChoirExpertMesh *)user)->argv);
  return TRUE;
}

static void on_line(ChoirChild *child, const char *line, gpointer user) {
  if (strstr(line, LISTENS))
    choir_child_mark_ready(child);
}

ChoirExpertMesh *choir_expert_mesh_start(const char *program, const char *id, const char *consul_url,
                                         const char *token_file) {
  ChoirExpertMesh *mesh = g_new0(ChoirExpertMesh, 1);
  g_autoptr(GPtrArray) words = g_ptr_array_new_with_free_func(g_free);
  const char *const fixed[] = {program, "connect", "proxy", "-log-level=warn"};
  for (gsize i = 0; i < G_N_ELEMENTS(fixed); i++)
    g_ptr_array_add(words, g_strdup(fixed[i]));
  g_ptr_array_add(words, g_strconcat("-sidecar-for=", id, NULL));
  g_ptr_array_add(words, g_strconcat("-http-addr=", consul_url, NULL));
  if (token_file)
    g_ptr_array_add(words, g_strconcat("-token-file=", token_file, NULL));
  g_ptr_array_add(words, NULL);
  mesh->argv = g_strdupv((char **)words->pdata);
  const ChoirChildSpec spec = {
      .name = "consul-proxy", .topic = "mesh", .prepare = prepare, .line = on_line, .user = mesh};
  mesh->child = choir_child_new(&spec);
  choir_child_start(mesh->child); /* until Consul has the expert's entry it ends at once, and is tried again */
  return mesh;
}

void choir_expert_mesh_free(ChoirExpertMesh *mesh) {
  if (!mesh)
    return;
  choir_child_free(mesh->child);
  g_strfreev(mesh->argv);
  g_free(mesh);
}
