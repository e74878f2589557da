#include "llm/models_private.h"
#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/text.h"

/* What the system, the voice and the daemon need beside the language model. */
#define RESERVED_MB 1536

G_DEFINE_QUARK(choir - models - error - quark, choir_models_error)

void choir_model_free(ChoirModel *model) {
  if (!model)
    return;
  g_free(model->name);
  g_free(model->url);
  g_free(model->filename);
  g_free(model->sha256);
  g_free(model->format);
  g_free(model->role);
  g_free(model->note);
  g_free(model->path);
  g_free(model);
}

static void load_state(ChoirModels *models) {
  g_autofree char *text = NULL;
  gsize length = 0;
  if (!g_file_get_contents(models->state_path, &text, &length, NULL))
    return;
  json_t *state = choir_json_parse(text, length, NULL);
  models->chosen = g_strdup(choir_json_string(state, "chosen", NULL));
  const char *name;
  json_t *hash;
  json_object_foreach(json_object_get(state, "sha256"), name, hash) {
    if (json_is_string(hash))
      g_hash_table_insert(models->hashes, g_strdup(name), g_strdup(json_string_value(hash)));
  }
  json_decref(state);
}

gboolean choir_models_save(ChoirModels *models, GError **error) {
  json_t *hashes = json_object();
  GHashTableIter iter;
  gpointer name, hash;
  g_hash_table_iter_init(&iter, models->hashes);
  while (g_hash_table_iter_next(&iter, &name, &hash))
    json_object_set_new(hashes, name, json_string(hash));
  json_t *state = json_pack("{s:s*,s:o}", "chosen", models->chosen, "sha256", hashes);
  g_autofree char *text = choir_json_dump(state);
  json_decref(state);
  g_autofree char *folder = g_path_get_dirname(models->state_path);
  if (g_mkdir_with_parents(folder, 0700) < 0 || !g_file_set_contents(models->state_path, text, -1, error)) {
    if (error && !*error)
      g_set_error(error, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_FETCH, "cannot write %s: %s", models->state_path,
                  g_strerror(errno));
    return FALSE;
  }
  return TRUE;
}

static void look(ChoirModel *model) {
  GStatBuf info;
  model->present = g_stat(model->path, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 0;
  if (model->present && !model->verified)
    model->bytes = (guint64)info.st_size;
}

ChoirModels *choir_models_load(const char *yaml_path, const char *models_dir, const char *state_dir, GError **error) {
  return choir_models_load_expert(yaml_path, "main", models_dir, state_dir, error);
}

ChoirModels *choir_models_load_expert(const char *yaml_path, const char *expert, const char *models_dir,
                                      const char *state_dir, GError **error) {
  ChoirModels *models = g_new0(ChoirModels, 1);
  models->list = g_ptr_array_new_with_free_func((GDestroyNotify)choir_model_free);
  models->hashes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
  models->yaml_path = g_strdup(yaml_path);
  models->models_dir = g_strdup(models_dir);
  models->state_path = g_build_filename(state_dir, "models.json", NULL);
  if (!choir_models_parse(yaml_path, expert, models_dir, models->list, error)) {
    choir_models_free(models);
    return NULL;
  }
  load_state(models);
  for (guint i = 0; i < models->list->len; i++)
    look(models->list->pdata[i]);
  return models;
}

void choir_models_free(ChoirModels *models) {
  if (!models)
    return;
  g_ptr_array_unref(models->list);
  g_hash_table_unref(models->hashes);
  g_free(models->yaml_path);
  g_free(models->models_dir);
  g_free(models->state_path);
  g_free(models->chosen);
  g_free(models);
}

guint choir_models_count(const ChoirModels *models) {
  return models->list->len;
}

const ChoirModel *choir_models_get(const ChoirModels *models, guint index) {
  ChoirModel *model = models->list->pdata[index];
  look(model);
  return model;
}

const ChoirModel *choir_models_find(const ChoirModels *models, const char *name) {
  for (guint i = 0; i < models->list->len; i++) {
    const ChoirModel *model = choir_models_get(models, i);
    if (strcmp(model->name, name) == 0)
      return model;
  }
  return NULL;
}

const char *choir_models_hash(const ChoirModels *models, const ChoirModel *model) {
  return model->sha256 ? model->sha256 : g_hash_table_lookup(models->hashes, model->name);
}

gboolean choir_models_fits(const ChoirModel *model) {
  guint64 mb = (guint64)sysconf(_SC_PHYS_PAGES) * (guint64)sysconf(_SC_PAGESIZE) >> 20;
  return model->memory_mb + (guint64)RESERVED_MB <= mb;
}

const ChoirModel *choir_models_current(const ChoirModels *models) {
  const ChoirModel *best = NULL;
  const ChoirModel *chosen = models->chosen ? choir_models_find(models, models->chosen) : NULL;
  if (chosen && chosen->present)
    return chosen;
  for (guint i = 0; i < models->list->len; i++) {
    const ChoirModel *model = choir_models_get(models, i);
    gboolean better =
        !best || (model->present && !best->present) ||
        (model->present == best->present && choir_models_fits(model) && model->memory_mb > best->memory_mb);
    /* Nothing on disk: the smallest, which is the one ./run brings. */
    if (best && !best->present && !model->present)
      better = model->memory_mb < best->memory_mb;
    if (better)
      best = model;
  }
  return best;
}

static const ChoirModel *require(const ChoirModels *models, const char *name, gboolean on_disk, GError **error) {
  const ChoirModel *model = choir_models_find(models, name);
  if (!model) {
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    for (guint i = 0; i < models->list->len; i++)
      g_ptr_array_add(names, ((ChoirModel *)models->list->pdata[i])->name);
    g_ptr_array_add(names, NULL);
    const char *near = choir_nearest(name, (const char *const *)names->pdata);
    g_set_error(error, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_UNKNOWN,
                "there is no model '%s'%s%s%s; 'choir models list' shows them", name, near ? ", did you mean '" : "",
                near ? near : "", near ? "'?" : "");
    return NULL;
  }
  if (on_disk && !model->present) {
    g_set_error(error, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_UNKNOWN, "%s is not on disk; %s%s", name,
                model->url ? "get it with: choir models fetch " : "get it with: ./run --setup-only",
                model->url ? name : "");
    return NULL;
  }
  return model;
}

gboolean choir_models_use(ChoirModels *models, const char *name, GError **error) {
  const ChoirModel *model = require(models, name, TRUE, error);
  if (!model)
    return FALSE;
  if (!choir_models_fits(model)) {
    g_set_error(error, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_MEMORY,
                "%s needs %u MB beside the %d MB for the system and the voice, more than this machine has; choose a "
                "smaller one",
                name, model->memory_mb, RESERVED_MB);
    return FALSE;
  }
  g_autofree char *before = models->chosen;
  models->chosen = g_strdup(name);
  if (choir_models_save(models, error))
    return TRUE;
  g_free(models->chosen);
  models->chosen = g_steal_pointer(&before);
  return FALSE;
}

char *choir_models_sha256(const char *path, GCancellable *cancellable, GError **error) {
  g_autoptr(GFile) file = g_file_new_for_path(path);
  g_autoptr(GFileInputStream) in = g_file_read(file, cancellable, error);
  if (!in)
    return NULL;
  g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
  g_autofree guint8 *chunk = g_malloc(1 << 18);
  gssize n;
  while ((n = g_input_stream_read(G_INPUT_STREAM(in), chunk, 1 << 18, cancellable, error)) > 0)
    g_checksum_update(sum, chunk, n);
  return n < 0 ? NULL : g_strdup(g_checksum_get_string(sum));
}

gboolean choir_models_verify(ChoirModels *models, const char *name, GError **error) {
  const ChoirModel *model = require(models, name, TRUE, error);
  if (!model)
    return FALSE;
  g_autofree char *hash = choir_models_sha256(model->path, NULL, error);
  if (!hash)
    return FALSE;
  const char *wanted = choir_models_hash(models, model);
  if (!wanted) {
    g_set_error(error, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_HASH, "%s: no sha256 is known yet; the file has %s", name,
                hash);
    return FALSE;
  }
  if (strcmp(hash, wanted) == 0)
    return TRUE;
  g_set_error(error, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_HASH,
              "%s is damaged: sha256 %s, expected %s; remove and fetch it again", name, hash, wanted);
  return FALSE;
}

gboolean choir_models_remove(ChoirModels *models, const char *name, GError **error) {
  const ChoirModel *model = require(models, name, FALSE, error);
  if (!model)
    return FALSE;
  if (model == choir_models_current(models) && model->present) {
    g_set_error(error, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_UNKNOWN, "%s is in use; choose another model first",
                name);
    return FALSE;
  }
  g_autofree char *part = g_strconcat(model->path, ".part", NULL);
  gboolean had_part = g_unlink(part) == 0;
  if (g_unlink(model->path) < 0 && !(errno == ENOENT && had_part)) {
    g_set_error(error, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_UNKNOWN, "cannot remove %s: %s", model->path,
                g_strerror(errno));
    return FALSE;
  }
  return TRUE;
}

json_t *choir_models_json(const ChoirModels *models) {
  json_t *list = json_array();
  for (guint i = 0; i < models->list->len; i++) {
    const ChoirModel *model = choir_models_get(models, i);
    json_array_append_new(list, json_pack("{s:s,s:b,s:i,s:I,s:b,s:b,s:s,s:b,s:s,s:b}", "name", model->name, "present",
                                          model->present, "memory_mb", (int)model->memory_mb, "bytes",
                                          (json_int_t)model->bytes, "verified",
                                          choir_models_hash(models, model) != NULL, "dense", model->dense, "note",
                                          model->note ? model->note : "", "fits", choir_models_fits(model), "format",
                                          model->format ? model->format : "", "fetchable", model->url != NULL));
  }
  return list;
}
