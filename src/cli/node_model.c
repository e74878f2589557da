#include <dlfcn.h>
#include <ggml-backend.h>
#include <ggml.h>
#include <gguf.h>
#include <string.h>
#include "cli/node_bench.h"

#define PREFIX "/libggml-cpu-"

/* Path of the variant that is mapped; the core2 file stands on a stock one, so it is asked for first. Caller frees. */
static char *mapped_variant(void) {
  g_autofree char *maps = NULL;
  if (!g_file_get_contents("/proc/self/maps", &maps, NULL, NULL))
    return NULL;
  const char *at = strstr(maps, PREFIX "core2.so");
  if (!at)
    at = strstr(maps, PREFIX);
  if (!at)
    return NULL;
  const char *begin = at;
  while (begin > maps && begin[-1] != ' ' && begin[-1] != '\n')
    begin--;
  return g_strndup(begin, strcspn(begin, "\n"));
}

static void silent(enum ggml_log_level level, const char *text, void *user) {
  (void)level, (void)text, (void)user; /* what matters of it is said again in one sentence */
}

json_t *node_load_backend(const char *folder, GError **error) {
  ggml_log_set(silent, NULL);
  ggml_backend_load_all_from_path(folder);
  if (!ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU)) {
    g_set_error(error, g_quark_from_static_string("choir-node-bench-error"), 0,
                "no CPU back end in %s that this processor can run; run ./run --setup-only", folder);
    return NULL;
  }
  g_autofree char *path = mapped_variant();
  const char *file = path ? strstr(path, PREFIX) + strlen(PREFIX) : "unknown";
  g_autofree char *name = g_strndup(file, strcspn(file, ".\n"));
  void *handle = path ? dlopen(path, RTLD_NOW | RTLD_NOLOAD) : NULL;
  const char *(*status)(void) = NULL;
  if (handle)
    *(void **)&status = dlsym(handle, "choir_core2_status");
  json_t *answer = json_pack("{s:s,s:s}", "name", name, "why", status ? status() : "");
  if (handle)
    dlclose(handle);
  return answer;
}

static double number_of(const struct gguf_context *file, const char *architecture, const char *key, double otherwise) {
  g_autofree char *full = g_strdup_printf("%s.%s", architecture, key);
  const gint64 id = gguf_find_key(file, full);
  return id >= 0 && gguf_get_kv_type(file, id) == GGUF_TYPE_UINT32 ? gguf_get_val_u32(file, id) : otherwise;
}

/* Of a mixture only the chosen experts are computed. */
static double share(const char *name, double experts, double used) {
  return strstr(name, "_exps.") && experts > 0 ? used / experts : 1;
}

static void add(json_t *types, enum ggml_type type, double bytes, double products) {
  const char *name = ggml_type_name(type);
  json_t *entry = json_object_get(types, name);
  if (!entry) {
    entry = json_pack("{s:f,s:f}", "bytes", 0.0, "prefill_mac", 0.0);
    json_object_set_new(types, name, entry);
  }
  json_real_set(json_object_get(entry, "bytes"), json_real_value(json_object_get(entry, "bytes")) + bytes);
  json_real_set(json_object_get(entry, "prefill_mac"),
                json_real_value(json_object_get(entry, "prefill_mac")) + products);
}

json_t *node_model(const char *path, GError **error) {
  struct ggml_context *meta = NULL;
  struct gguf_context *file = gguf_init_from_file(path, (struct gguf_init_params){.no_alloc = true, .ctx = &meta});
  if (!file) {
    g_set_error(error, g_quark_from_static_string("choir-node-bench-error"), 0, "%s is not a GGUF file", path);
    return NULL;
  }
  const gint64 key = gguf_find_key(file, "general.architecture");
  const char *architecture = key >= 0 ? gguf_get_val_str(file, key) : "llama";
  const double experts = number_of(file, architecture, "expert_count", 0);
  const double used = number_of(file, architecture, "expert_used_count", experts);
  const gboolean own_head = gguf_find_tensor(file, "output.weight") >= 0;
  json_t *types = json_object();
  for (gint64 i = 0; i < gguf_get_n_tensors(file); i++) {
    const char *name = gguf_get_tensor_name(file, i);
    const struct ggml_tensor *tensor = ggml_get_tensor(meta, name);
    const gboolean embedding = g_str_equal(name, "token_embd.weight"), head = g_str_equal(name, "output.weight");
    if (!tensor || ggml_n_dims(tensor) < 2 || (embedding && own_head))
      continue; /* of an embedding that is not the head too, one row is read */
    const double part = share(name, experts, used);
    add(types, tensor->type, part * (double)ggml_nbytes(tensor),
        embedding || head ? 0 : part * (double)ggml_nelements(tensor));
  }
  gguf_free(file);
  ggml_free(meta);
  return json_pack("{s:o}", "types", types);
}
