/* Configuration: choir.conf (INI) + choir.conf.d/NAME.conf + environment, checked against one table.
 * Main thread only. An unknown section or key is an error that names the nearest known one. */
#pragma once
#include <glib.h>

typedef enum {
  CHOIR_CONFIG_STRING,
  CHOIR_CONFIG_INT,
  CHOIR_CONFIG_DOUBLE,
  CHOIR_CONFIG_BOOL,
  CHOIR_CONFIG_ENUM
} ChoirConfigType;

typedef struct {
  const char *section, *key;
  ChoirConfigType type;
  const char *fallback; /* default, in the file's spelling */
  double min, max;      /* INT and DOUBLE; unchecked when both are 0 */
  const char *choices;  /* ENUM: "whisper|pocketsphinx"; an alias is written "faster-whisper=whisper" */
  const char *env;      /* environment variables that set it, "STT_SERVICE" or "A,B"; NULL for none */
  const char *help;     /* one sentence, with unit */
} ChoirConfigItem;

typedef struct ChoirConfig ChoirConfig;

#define CHOIR_CONFIG_ERROR (choir_config_error_quark())
GQuark choir_config_error_quark(void);
enum { CHOIR_CONFIG_ERROR_UNKNOWN_KEY, CHOIR_CONFIG_ERROR_BAD_VALUE, CHOIR_CONFIG_ERROR_FILE };

/* items: static table ended by an entry with section NULL, kept by reference.
 * path: the file (may be absent: defaults) or NULL; drop-ins are read from "<path>.d" in strcmp order.
 * Errors name file, line's section/key and what is accepted. Caller frees with choir_config_free(). */
ChoirConfig *choir_config_load(const ChoirConfigItem *items, const char *path, GError **error);
void choir_config_free(ChoirConfig *config);
/* Parses text as one more layer over what is loaded (drop-in semantics); for tests, fuzzing and --set. */
gboolean choir_config_merge_data(ChoirConfig *config, const char *data, gsize length, const char *name, GError **error);
gboolean choir_config_set(ChoirConfig *config, const char *section, const char *key, const char *value, GError **error);
/* Getters: the key must be in the table (else abort: a programming error). Strings belong to config. */
const char *choir_config_string(const ChoirConfig *config, const char *section, const char *key);
gint64 choir_config_int(const ChoirConfig *config, const char *section, const char *key);
double choir_config_double(const ChoirConfig *config, const char *section, const char *key);
gboolean choir_config_bool(const ChoirConfig *config, const char *section, const char *key);
/* "default", "file NAME" or "environment NAME": where the value came from. */
const char *choir_config_origin(const ChoirConfig *config, const char *section, const char *key);
/* A commented choir.conf with every key, its default, range and help. Caller frees. */
char *choir_config_reference(const ChoirConfigItem *items);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirConfig, choir_config_free)
