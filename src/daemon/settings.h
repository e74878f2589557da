/* The table of every setting, and the paths that follow from it. Main thread only. */
#pragma once
#include "base/config.h"

extern const ChoirConfigItem choir_settings[];

typedef struct {
  char *state;    /* history, slots, chosen model, lock */
  char *engine;   /* holds bin/ */
  char *models;   /* converted models */
  char *runtime;  /* libonnxruntime.so */
  char *prompts;  /* personas */
  char *list;     /* models.yaml */
  char *grammar;  /* commands for the light recogniser */
  char *programs; /* folder of choir-ear and the other workers */
  char *sandbox;  /* choir-sandbox */
  char *index;    /* choir-index.so; NULL = not built */
  char *source;   /* a checkout, or what is installed of one: playbooks, docs; "" = none */
} ChoirPaths;

/* The file `choir serve` reads when --config is not given: the user's, else /etc/choir/choir.conf. Caller frees. */
char *choir_settings_default_file(void);
/* Fills every path: the setting, else what belongs to this program (base/place.h): installed below its prefix, or the
 * checkout's and the user's cache. */
void choir_paths_resolve(ChoirPaths *paths, const ChoirConfig *config);
/* The same with the default file's settings: what the commands do. FALSE with error. */
gboolean choir_paths_load(ChoirPaths *ret_paths, GError **error);
void choir_paths_clear(ChoirPaths *paths);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ChoirPaths, choir_paths_clear)
