#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"
#include "llm/models_private.h"

#define RESERVED_MB 2048 /* for everything else on the machine; the original's rule */
#define TALK_ROLE "main"

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

void choir_model_refresh(ChoirModel *model) {
  GStatBuf status;
  model->present = g_stat(model->path, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0;
  if (model->present)
    model->bytes = (guint64)status.st_size;
}

static guint64 machine_memory_mb(void) {
  long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
  return pages > 0 && size > 0 ? (guint64)pages * (guint64)size >> 20 : 0;
}

ChoirModels *choir_models_load(const char *yaml_path, const char *models_dir, const char *state_dir, GError **error) {
  GPtrArray *list = choir_models_parse(yaml_path, error);
  if (!list)
    return NULL;
  ChoirModels *models = g_new0(ChoirModels, 1);
  models->list = list;
  models->models_dir = g_strdup(models_dir);
  models->state_dir = g_strdup(state_dir);
  models->fetching = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  models->stall_s = 30;
  models->memory_mb = machine_memory_mb();
  for (guint i = 0; i < list->len; i++) {
    ChoirModel *model = list->pdata[i];
    model->path = g_build_filename(models_dir, model->filename, NULL);
    choir_model_refresh(model);
  }
  return models;
}

void choir_models_free(ChoirModels *models) {
  if (!models)
    return;
  g_ptr_array_unref(models->list);
  g_hash_table_unref(models->fetching);
  g_free(models->models_dir);
  g_free(models->state_dir);
  g_free(models);
}

guint choir_models_count(const ChoirModels *models) {
  return models->list->len;
}

const ChoirModel *choir_models_get(const ChoirModels *models, guint index) {
  return index < models->list->len ? models->list->pdata[index] : NULL;
}

const ChoirModel *choir_models_find(const ChoirModels *models, const char *name) {
  for (guint i = 0; i < models->list->len; i++) {
    const ChoirModel *model = models->list->pdata[i];
    if (g_ascii_strcasecmp(model->name, name) == 0)
      return model;
  }
  return NULL;
}

static ChoirModel *find(const ChoirModels *models, const char *name, GError **error) {
  const ChoirModel *model = choir_models_find(models, name);
  if (model)
    return (ChoirModel *)model;
  g_autoptr(GPtrArray) names = g_ptr_array_new();
  for (guint i = 0; i < models->list->len; i++)
    g_ptr_array_add(names, ((ChoirModel *)models->list->pdata[i])->name);
  g_ptr_array_add(names, NULL);
  const char *near = choir_nearest(name, (const char *const *)names->pdata);
  g_set_error(error, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_UNKNOWN, "there is no model '%s' in the list%s%s%s", name,
              near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "; see choir models list");
  return NULL;
}

static gboolean fits(const ChoirModels *models, const ChoirModel *model) {
  guint64 room = models->memory_mb > RESERVED_MB ? models->memory_mb - RESERVED_MB : models->memory_mb / 2;
  return models->memory_mb == 0 || model->memory_mb <= room;
}

static char *choice_path(const ChoirModels *models) {
  return g_build_filename(models->state_dir, "model", NULL);
}

const ChoirModel *choir_models_current(const ChoirModels *models) {
  g_autofree char *path = choice_path(models);
  g_autofree char *name = NULL;
  if (g_file_get_contents(path, &name, NULL, NULL)) {
    const ChoirModel *chosen = choir_models_find(models, g_strstrip(name));
    if (chosen && chosen->present)
      return chosen;
  }
  const ChoirModel *best = NULL, *any = NULL;
  for (guint i = 0; i < models->list->len; i++) {
    const ChoirModel *model = models->list->pdata[i];
    if (!model->present || !g_str_equal(model->role, TALK_ROLE))
      continue;
    if (!any || model->memory_mb < any->memory_mb)
      any = model;
    if (fits(models, model) && (!best || model->memory_mb > best->memory_mb))
      best = model;
  }
  return best ? best : any; /* too large is better than nothing: it may swap, but it answers */
}

gboolean choir_models_use(ChoirModels *models, const char *name, GError **error) {
  ChoirModel *model = find(models, name, error);
  if (!model)
    return FALSE;
  choir_model_refresh(model);
  if (!model->present) {
    g_set_error(error, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_FETCH, "%s is not on this machine yet; fetch it first", model->name);
    return FALSE;
  }
  if (!fits(models, model)) {
    g_set_error(error, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_MEMORY,
                "%s needs %u MB and this machine has %" G_GUINT64_FORMAT " MB, of which %d are for everything else", model->name,
                model->memory_mb, models->memory_mb, RESERVED_MB);
    return FALSE;
  }
  g_autofree char *path = choice_path(models);
  if (g_mkdir_with_parents(models->state_dir, 0700) == 0 && g_file_set_contents(path, model->name, -1, error))
    return TRUE;
  g_prefix_error(error, "the choice cannot be kept: ");
  return FALSE;
}

/* Recorded hashes: {"FILENAME": "sha256"} */

static json_t *read_records(const ChoirModels *models, char **ret_path) {
  *ret_path = g_build_filename(models->state_dir, "model-hashes.json", NULL);
  g_autofree char *text = NULL;
  gsize length;
  json_t *all = g_file_get_contents(*ret_path, &text, &length, NULL) ? choir_json_parse(text, length, NULL) : NULL;
  if (json_is_object(all))
    return all;
  json_decref(all);
  return json_object();
}

char *choir_models_recorded(const ChoirModels *models, const char *filename) {
  g_autofree char *path = NULL;
  json_t *all = read_records(models, &path);
  char *hash = g_strdup(choir_json_string(all, filename, NULL));
  json_decref(all);
  return hash;
}

gboolean choir_models_record(const ChoirModels *models, const char *filename, const char *sha256, GError **error) {
  g_autofree char *path = NULL;
  json_t *all = read_records(models, &path);
  json_object_set_new(all, filename, json_string(sha256));
  g_autofree char *text = choir_json_dump(all);
  json_decref(all);
  g_mkdir_with_parents(models->state_dir, 0700);
  return g_file_set_contents(path, text, -1, error);
}

char *choir_models_hash_file(const char *path, GCancellable *cancellable, GError **error) {
  g_autoptr(GFile) file = g_file_new_for_path(path);
  g_autoptr(GFileInputStream) stream = g_file_read(file, cancellable, error);
  g_autoptr(GChecksum) checksum = g_checksum_new(G_CHECKSUM_SHA256);
  g_autofree guchar *buffer = g_malloc(1 << 20);
  gssize n;
  if (!stream)
    return NULL;
  while ((n = g_input_stream_read(G_INPUT_STREAM(stream), buffer, 1 << 20, cancellable, error)) > 0)
    g_checksum_update(checksum, buffer, n);
  return n < 0 ? NULL : g_strdup(g_checksum_get_string(checksum));
}

gboolean choir_models_verify(ChoirModels *models, const char *name, GError **error) {
  ChoirModel *model = find(models, name, error);
  if (!model)
    return FALSE;
  g_autofree char *recorded = *model->sha256 ? g_strdup(model->sha256) : choir_models_recorded(models, model->filename);
  g_autofree char *hash = choir_models_hash_file(model->path, NULL, error);
  if (!hash)
    return FALSE;
  if (!recorded) {
    g_set_error(error, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_HASH, "nothing is known to compare %s with; its SHA-256 is %s",
                model->filename, hash);
    return FALSE;
  }
  if (g_ascii_strcasecmp(hash, recorded) == 0)
    return TRUE;
  g_set_error(error, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_HASH, "%s is damaged: SHA-256 %s instead of %s; remove and fetch it again",
              model->filename, hash, recorded);
  return FALSE;
}

gboolean choir_models_remove(ChoirModels *models, const char *name, GError **error) {
  ChoirModel *model = find(models, name, error);
  if (!model)
    return FALSE;
  if (g_hash_table_contains(models->fetching, model->name)) {
    g_set_error(error, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_FETCH, "%s is being fetched; stop that first", model->name);
    return FALSE;
  }
  g_autofree char *part = g_strconcat(model->path, ".part", NULL);
  g_autofree char *tag = g_strconcat(part, ".etag", NULL);
  g_unlink(part);
  g_unlink(tag);
  if (g_unlink(model->path) < 0 && errno != ENOENT) {
    g_set_error(error, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_FETCH, "%s cannot be removed: %s", model->path, g_strerror(errno));
    return FALSE;
  }
  choir_model_refresh(model);
  return TRUE;
}

json_t *choir_models_json(const ChoirModels *models) {
  const ChoirModel *current = choir_models_current(models);
  json_t *list = json_array();
  for (guint i = 0; i < models->list->len; i++) {
    const ChoirModel *m = models->list->pdata[i];
    json_t *one = json_pack("{s:s,s:s,s:s,s:b,s:i,s:I,s:b,s:b,s:s,s:b,s:s}", "name", m->name, "role", m->role, "filename", m->filename,
                            "present", m->present, "memory_mb", (int)m->memory_mb, "bytes", (json_int_t)m->bytes, "verified",
                            m->verified, "dense", m->dense, "note", m->note, "fits", fits(models, m), "format", m->format);
    json_array_append_new(list, one);
  }
  return json_pack("{s:s*,s:o}", "current", current ? current->name : NULL, "models", list);
}
