/* The list of language models (group_vars/models.yaml), what is on disk, which one is chosen. Main thread only, except
 * fetch. */
#pragma once
#include <gio/gio.h>
#include <jansson.h>

typedef struct {
  char *name, *url, *filename, *sha256, *format, *role, *note;
  guint64 bytes;
  guint memory_mb;
  gboolean verified; /* FALSE = "unverified": its hash is recorded on first fetch */
  gboolean dense;    /* TRUE = a cached prefix can be restored */
  gboolean present;
  char *path; /* where it is or would be */
} ChoirModel;

typedef struct ChoirModels ChoirModels;
#define CHOIR_MODELS_ERROR (choir_models_error_quark())
GQuark choir_models_error_quark(void);
enum {
  CHOIR_MODELS_ERROR_LIST,
  CHOIR_MODELS_ERROR_UNKNOWN,
  CHOIR_MODELS_ERROR_HASH,
  CHOIR_MODELS_ERROR_FETCH,
  CHOIR_MODELS_ERROR_MEMORY
};

ChoirModels *choir_models_load(const char *yaml_path, const char *models_dir, const char *state_dir, GError **error);
/* The list of another expert, expert_models.EXPERT. */
ChoirModels *choir_models_load_expert(const char *yaml_path, const char *expert, const char *models_dir,
                                      const char *state_dir, GError **error);
void choir_models_free(ChoirModels *models);
guint choir_models_count(const ChoirModels *models);
const ChoirModel *choir_models_get(const ChoirModels *models, guint index);
const ChoirModel *choir_models_find(const ChoirModels *models, const char *name);
/* The one chosen by `use`, else the largest present one that fits the memory; never NULL when the default is present.
 */
const ChoirModel *choir_models_current(const ChoirModels *models);
/* Fits this machine's memory beside the system and the voice. */
gboolean choir_models_fits(const ChoirModel *model);
gboolean choir_models_use(ChoirModels *models, const char *name, GError **error);
gboolean choir_models_verify(ChoirModels *models, const char *name, GError **error); /* blocking: hashes the file */
gboolean choir_models_remove(ChoirModels *models, const char *name, GError **error);
/* Resumable fetch in a worker thread; progress runs on the main context. A file is renamed into place only when its
 * hash is right. */
void choir_models_fetch(ChoirModels *models, const char *name,
                        void (*progress)(guint64 done, guint64 total, gpointer user), GCancellable *cancellable,
                        GAsyncReadyCallback callback, gpointer user);
gboolean choir_models_fetch_finish(ChoirModels *models, GAsyncResult *result, GError **error);
json_t *choir_models_json(const ChoirModels *models);
