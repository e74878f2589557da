#include "cli/expert_models.h"
#include <gio/gio.h>
#include <string.h>
#include <sys/stat.h>
#include "base/text.h"
#include "llm/models.h"

/* Context and buffers beside the weights, for models whose need nobody measured. */
#define EXTRA_MB 200

static void model_free(gpointer data) {
  ChoirExpertModel *model = data;
  g_free(model->name);
  g_free(model->filename);
  g_free(model->path);
  g_free(model->why);
  g_free(model);
}

static char *find(const char *filename, const char *const *folders) {
  for (; folders && *folders; folders++) {
    g_autofree char *path = g_build_filename(*folders, filename, NULL);
    if (g_file_test(path, G_FILE_TEST_IS_REGULAR))
      return g_steal_pointer(&path);
  }
  return NULL;
}

static ChoirExpertModel *model_new(const char *name, const char *filename, guint memory_mb, guint64 bytes,
                                   const char *const *folders) {
  ChoirExpertModel *model = g_new0(ChoirExpertModel, 1);
  struct stat status;
  model->name = g_strdup(name);
  model->filename = g_strdup(filename);
  model->path = find(filename, folders);
  model->bytes = bytes;
  if (model->path && stat(model->path, &status) == 0)
    model->bytes = (guint64)status.st_size;
  model->memory_mb = memory_mb ? memory_mb : model->bytes ? (guint)(model->bytes >> 20) * 11 / 10 + EXTRA_MB : 0;
  return model;
}

GPtrArray *choir_expert_models_parse(const char *json, const char *const *folders, GError **error) {
  g_autoptr(GError) problem = NULL;
  json_auto_t *root = choir_json_parse(json, (gssize)strlen(json), &problem);
  if (!json_is_array(root) || json_array_size(root) == 0) {
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                "the list of models must be JSON like [{\"name\": \"phi-3-mini\", \"filename\": \"phi-3-mini.gguf\", "
                "\"memory_mb\": 3000}]%s%s",
                problem ? ": " : "", problem ? problem->message : "");
    return NULL;
  }
  g_autoptr(GPtrArray) models = g_ptr_array_new_with_free_func(model_free);
  size_t i;
  json_t *entry;
  json_array_foreach(root, i, entry) {
    const char *filename = choir_json_string(entry, "filename", ""), *name = choir_json_string(entry, "name", filename);
    gint64 memory = choir_json_int(entry, "memory_mb", 0);
    if (!*filename || strchr(filename, '/') || *filename == '.' || memory < 0 || memory > 1 << 24) {
      g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                  "model %zu of the list needs a \"filename\" without folders, and \"memory_mb\" as a whole number",
                  i + 1);
      return NULL;
    }
    g_ptr_array_add(models, model_new(name, filename, (guint)memory, 0, folders));
  }
  return g_steal_pointer(&models);
}

GPtrArray *choir_expert_models_list(const char *yaml_path, const char *expert, const char *const *folders,
                                    GError **error) {
  g_autoptr(GPtrArray) models = g_ptr_array_new_with_free_func(model_free);
  const char *first = folders && *folders ? *folders : ".";
  ChoirModels *list = choir_models_load_expert(yaml_path, expert, first, first, NULL);
  if (!list)
    list = choir_models_load(yaml_path, first, first, error);
  if (!list)
    return NULL;
  for (guint i = 0; i < choir_models_count(list); i++) {
    const ChoirModel *model = choir_models_get(list, i);
    g_ptr_array_add(models, model_new(model->name, model->filename, model->memory_mb, model->bytes, folders));
  }
  choir_models_free(list);
  return g_steal_pointer(&models);
}

static gint larger_first(gconstpointer a, gconstpointer b) {
  const ChoirExpertModel *one = *(ChoirExpertModel *const *)a, *two = *(ChoirExpertModel *const *)b;
  return one->memory_mb > two->memory_mb ? -1 : one->memory_mb < two->memory_mb;
}

void choir_expert_models_order(GPtrArray *models, guint budget_mb) {
  g_ptr_array_sort(models, larger_first);
  for (guint i = 0; i < models->len; i++) {
    ChoirExpertModel *model = models->pdata[i];
    g_clear_pointer(&model->why, g_free);
    if (!model->path)
      model->why = g_strdup("is not on this node");
    else if (budget_mb && model->memory_mb > budget_mb)
      model->why = g_strdup_printf("needs %u MB, %u MB are reserved", model->memory_mb, budget_mb);
  }
}

const ChoirExpertModel *choir_expert_models_smallest(const GPtrArray *models) {
  const ChoirExpertModel *smallest = NULL;
  for (guint i = 0; i < models->len; i++) {
    const ChoirExpertModel *model = models->pdata[i];
    if (model->path && (!smallest || model->memory_mb < smallest->memory_mb))
      smallest = model;
  }
  return smallest;
}

char *choir_expert_models_reasons(const GPtrArray *models) {
  GString *text = g_string_new(NULL);
  for (guint i = 0; i < models->len; i++) {
    const ChoirExpertModel *model = models->pdata[i];
    if (model->why)
      g_string_append_printf(text, "%s%s %s", text->len ? "; " : "", model->name, model->why);
  }
  return g_string_free(text, FALSE);
}

json_t *choir_expert_models_json(const GPtrArray *models) {
  json_t *list = json_array();
  for (guint i = 0; i < models->len; i++) {
    const ChoirExpertModel *model = models->pdata[i];
    json_array_append_new(list, json_pack("{s:s,s:s,s:i}", "name", model->name, "filename", model->filename,
                                          "memory_mb", (int)model->memory_mb));
  }
  return list;
}
