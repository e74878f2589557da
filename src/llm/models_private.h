/* Shared by the files of the model list; nobody else includes it (tests may). */
#pragma once
#include "llm/models.h"

struct ChoirModels {
  char *models_dir, *state_dir;
  GPtrArray *list;      /* ChoirModel* */
  GHashTable *fetching; /* names */
  guint stall_s;        /* longest silence of a download */
  guint64 memory_mb;    /* of this machine */
};

/* Reads the list; every other key of the file is left alone. NULL with error that names the line. */
GPtrArray *choir_models_parse(const char *yaml_path, GError **error);
void choir_model_free(ChoirModel *model);
/* Looks at the disk again. */
void choir_model_refresh(ChoirModel *model);
/* SHA-256 that was recorded when an unverified model was fetched first, or NULL; caller frees. */
char *choir_models_recorded(const ChoirModels *models, const char *filename);
gboolean choir_models_record(const ChoirModels *models, const char *filename, const char *sha256, GError **error);
/* Blocking. progress may be NULL. Caller frees. */
char *choir_models_hash_file(const char *path, GCancellable *cancellable, GError **error);
