/* Which models an expert may serve with, and in what order they are tried. Any thread; no files but the lists are read.
 */
#pragma once
#include <glib.h>
#include <jansson.h>

typedef struct {
  char *name, *filename, *path; /* path NULL: in none of the folders */
  char *why;                    /* why it is not tried, NULL: it is */
  guint memory_mb;
  guint64 bytes; /* 0 = unknown */
  gboolean fallback;
} ChoirExpertModel;

/* The original's model_list: [{"name","url","filename","memory_mb"}]. Without memory_mb it is judged by the file's
 * size. folders: NULL-ended, where filename is looked for. NULL with error that names the entry. Free with
 * g_ptr_array_unref. */
GPtrArray *choir_expert_models_parse(const char *json, const char *const *folders, GError **error);
/* expert_models.EXPERT of models.yaml, else expert_models.main. */
GPtrArray *choir_expert_models_list(const char *yaml_path, const char *expert, const char *const *folders,
                                    GError **error);
/* Largest first; sets `why` where a model is not here or needs more than budget_mb (0 = no limit). */
void choir_expert_models_order(GPtrArray *models, guint budget_mb);
/* The smallest one that is here, NULL when none is: the light one that stands in. Belongs to models. */
const ChoirExpertModel *choir_expert_models_smallest(const GPtrArray *models);
/* "a.gguf is not on this node; b.gguf needs 900 MB, 400 MB are reserved": the reasons, for a person. Caller frees. */
char *choir_expert_models_reasons(const GPtrArray *models);
json_t *choir_expert_models_json(const GPtrArray *models); /* as choir_expert_models_parse() reads it */
