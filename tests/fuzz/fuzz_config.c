/* A configuration file from anywhere: refused with one sentence, or every value is of its type and in its range. */
#include <stdint.h>
#include <string.h>
#include "base/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const ChoirConfigItem items[] = {
    {"vad", "threshold", CHOIR_CONFIG_DOUBLE, "0.5", 0.05, 0.95, NULL, NULL, "How sure."},
    {"vad", "silence_ms", CHOIR_CONFIG_INT, "600", 100, 5000, NULL, NULL, "How long."},
    {"stt", "engine", CHOIR_CONFIG_ENUM, "whisper", 0, 0, "whisper|pocketsphinx|faster-whisper=whisper", NULL, "Who."},
    {"stt", "debug", CHOIR_CONFIG_BOOL, "false", 0, 0, NULL, NULL, "Talk more."},
    {"web", "address", CHOIR_CONFIG_STRING, "127.0.0.1", 0, 0, NULL, NULL, "Where."},
    {NULL},
};

static void check_values(const ChoirConfig *config) {
  double threshold = choir_config_double(config, "vad", "threshold");
  gint64 silence = choir_config_int(config, "vad", "silence_ms");
  const char *engine = choir_config_string(config, "stt", "engine");
  g_assert_true(threshold >= 0.05 && threshold <= 0.95);
  g_assert_true(silence >= 100 && silence <= 5000);
  g_assert_true(strcmp(engine, "whisper") == 0 || strcmp(engine, "pocketsphinx") == 0);
  (void)choir_config_bool(config, "stt", "debug");
  g_assert_true(g_utf8_validate(choir_config_string(config, "web", "address"), -1, NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  g_autoptr(ChoirConfig) config = choir_config_load(items, NULL, NULL);
  g_autoptr(GError) error = NULL;
  g_autofree char *before = g_strdup(choir_config_string(config, "web", "address"));
  if (!choir_config_merge_data(config, (const char *)data, size, "input", &error)) {
    g_assert_true(error->domain == CHOIR_CONFIG_ERROR);
    g_assert_true(g_str_has_prefix(error->message, "input: "));
    g_assert_true(g_utf8_validate(error->message, -1, NULL));
    g_assert_cmpuint(strlen(error->message), <, 2000);
    g_assert_cmpstr(choir_config_string(config, "web", "address"), ==, before);
  }
  check_values(config);
  return 0;
}
