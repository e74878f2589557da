/* Shared by the files of the model list; nobody else includes it (tests may). */
#pragma once
#include "llm/models.h"

struct ChoirModels {
  GPtrArray *list; /* ChoirModel */
  char *yaml_path, *models_dir, *state_path;
  char *chosen;       /* what `use` said, NULL when nothing */
  GHashTable *hashes; /* name -> sha256 recorded at the first fetch of an unverified model */
};

/* models_list.c: reads one expert's list of the YAML file (expert_models.main, ...) into list. */
gboolean choir_models_parse(const char *yaml_path, const char *expert, const char *models_dir, GPtrArray *list,
                            GError **error);
void choir_model_free(ChoirModel *model);
/* Writes the choice and the recorded hashes, atomically. */
gboolean choir_models_save(ChoirModels *models, GError **error);
/* The hash that counts: the list's, else the recorded one, else NULL. */
const char *choir_models_hash(const ChoirModels *models, const ChoirModel *model);
/* Hex sha256 of a file, NULL with error. Blocking. */
char *choir_models_sha256(const char *path, GCancellable *cancellable, GError **error);
