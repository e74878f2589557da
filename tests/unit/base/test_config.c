#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>
#include "base/config.h"

static const ChoirConfigItem items[] = {
    {"vad", "threshold", CHOIR_CONFIG_DOUBLE, "0.5", 0.05, 0.95, NULL, "VAD_THRESHOLD", "How sure."},
    {"vad", "silence_ms", CHOIR_CONFIG_INT, "600", 100, 5000, NULL, NULL, "How long."},
    {"stt", "engine", CHOIR_CONFIG_ENUM, "whisper", 0, 0, "whisper|pocketsphinx|faster-whisper=whisper",
     "STT_SERVICE, STT", "Who hears."},
    {"stt", "debug", CHOIR_CONFIG_BOOL, "false", 0, 0, NULL, NULL, "Talk more."},
    {"web", "address", CHOIR_CONFIG_STRING, "127.0.0.1", 0, 0, NULL, NULL, "Where."},
    {NULL},
};

typedef struct {
  char *dir, *path, *drop_ins;
} Files;

static void setup(Files *files, gconstpointer data) {
  files->dir = g_dir_make_tmp("choir-config-XXXXXX", NULL);
  files->path = g_build_filename(files->dir, "choir.conf", NULL);
  files->drop_ins = g_strconcat(files->path, ".d", NULL);
  g_mkdir(files->drop_ins, 0700);
  g_unsetenv("STT_SERVICE");
  g_unsetenv("STT");
  g_unsetenv("VAD_THRESHOLD");
}

static void write_file(const Files *files, const char *drop_in, const char *text) {
  g_autofree char *path = drop_in != NULL ? g_build_filename(files->drop_ins, drop_in, NULL) : g_strdup(files->path);
  g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void teardown(Files *files, gconstpointer data) {
  static const char *const names[] = {"10.conf", "20.conf", "9.conf", "ignored.txt"};
  for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
    g_autofree char *path = g_build_filename(files->drop_ins, names[i], NULL);
    g_unlink(path);
  }
  g_unlink(files->path);
  g_rmdir(files->drop_ins);
  g_rmdir(files->dir);
  g_free(files->drop_ins);
  g_free(files->path);
  g_free(files->dir);
}

static void test_layers(Files *files, gconstpointer data) {
  g_autoptr(GError) error = NULL;
  write_file(files, NULL, "[vad]\nthreshold=0.6\nsilence_ms = 700 \n[stt]\nengine=Pocketsphinx\n");
  write_file(files, "20.conf", "[vad]\nsilence_ms=900\n");
  write_file(files, "10.conf", "[vad]\nsilence_ms=800\n[stt]\ndebug=YES\n");
  write_file(files, "9.conf", "[vad]\nthreshold=0.7\nsilence_ms=2000\n");
  write_file(files, "ignored.txt", "garbage");
  g_setenv("STT", "faster-whisper", TRUE);
  g_autoptr(ChoirConfig) config = choir_config_load(items, files->path, &error);
  g_assert_no_error(error);
  g_assert_cmpint(choir_config_int(config, "vad", "silence_ms"), ==, 2000); /* "9.conf" is last in strcmp order */
  g_assert_cmpfloat(choir_config_double(config, "vad", "threshold"), ==, 0.7);
  g_assert_cmpfloat(choir_config_double(config, "vad", "silence_ms"), ==, 2000);
  g_assert_cmpstr(choir_config_string(config, "stt", "engine"), ==, "whisper");
  g_assert_true(choir_config_bool(config, "stt", "debug"));
  g_assert_cmpstr(choir_config_origin(config, "stt", "engine"), ==, "environment STT");
  g_assert_cmpstr(choir_config_origin(config, "web", "address"), ==, "default");
  g_assert_true(g_str_has_suffix(choir_config_origin(config, "stt", "debug"), "10.conf"));
  g_setenv("STT_SERVICE", "pocketsphinx", TRUE); /* the first variable of the list wins */
  g_autoptr(ChoirConfig) again = choir_config_load(items, files->path, &error);
  g_assert_cmpstr(choir_config_string(again, "stt", "engine"), ==, "pocketsphinx");
}

static void test_absent(Files *files, gconstpointer data) {
  g_autoptr(GError) error = NULL;
  g_autoptr(ChoirConfig) config = choir_config_load(items, files->path, &error);
  g_assert_no_error(error);
  g_assert_cmpstr(choir_config_string(config, "stt", "engine"), ==, "whisper");
  g_autoptr(ChoirConfig) none = choir_config_load(items, NULL, &error);
  g_assert_nonnull(none);
}

/* What a person reads when something is wrong. */
static void test_messages(Files *files, gconstpointer data) {
  static const struct {
    const char *text, *message;
  } cases[] = {
      {"[vad]\nthresold=0.5", "f: unknown key \"thresold\" in section [vad]; did you mean \"threshold\"?"},
      {"[vda]\nthreshold=0.5", "f: unknown section [vda]; did you mean \"vad\"?"},
      {"[kitchen]\n", "f: unknown section [kitchen]; known are vad, stt, web"},
      {"[vad]\nbanana=1", "f: unknown key \"banana\" in section [vad]; known are threshold, silence_ms"},
      {"[vad]\nengine=1", "f: unknown key \"engine\" in section [vad]; it belongs to [stt]"},
      {"[vad]\nthreshold=loud", "f: [vad] threshold cannot be \"loud\"; it must be a number from 0.05 to 0.95"},
      {"[vad]\nthreshold=nan", "f: [vad] threshold cannot be \"nan\"; it must be a number from 0.05 to 0.95"},
      {"[vad]\nthreshold=0.5x", "f: [vad] threshold cannot be \"0.5x\"; it must be a number from 0.05 to 0.95"},
      {"[vad]\nsilence_ms=99", "f: [vad] silence_ms cannot be \"99\"; it must be a whole number from 100 to 5000"},
      {"[vad]\nsilence_ms=700.5",
       "f: [vad] silence_ms cannot be \"700.5\"; it must be a whole number from 100 to 5000"},
      {"[vad]\nsilence_ms=99999999999999999999",
       "f: [vad] silence_ms cannot be \"99999999999999999999\"; it must be a whole number from 100 to 5000"},
      {"[stt]\nengine=siri",
       "f: [stt] engine cannot be \"siri\"; it must be one of whisper, pocketsphinx, faster-whisper"},
      {"[stt]\ndebug=maybe", "f: [stt] debug cannot be \"maybe\"; it must be true or false"},
  };
  g_autoptr(ChoirConfig) config = choir_config_load(items, NULL, NULL);
  for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autoptr(GError) error = NULL;
    g_assert_false(choir_config_merge_data(config, cases[i].text, strlen(cases[i].text), "f", &error));
    g_assert_cmpstr(error->message, ==, cases[i].message);
  }
}

static void test_file_errors(Files *files, gconstpointer data) {
  static const char *const texts[] = {"threshold=1\n", "[vad\nthreshold=1", "[vad]\nno equals sign here",
                                      "[web]\naddress=\xff\xfe", "[web]\naddress=a\\q"};
  g_autoptr(ChoirConfig) config = choir_config_load(items, NULL, NULL);
  for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
    g_autoptr(GError) error = NULL;
    g_assert_false(choir_config_merge_data(config, texts[i], strlen(texts[i]), "f", &error));
    g_assert_true(g_str_has_prefix(error->message, "f: "));
    g_assert_true(g_utf8_validate(error->message, -1, NULL));
  }
  g_autoptr(GError) error = NULL;
  g_autofree char *long_text = g_strnfill(2 * 1024 * 1024, '#');
  g_assert_false(choir_config_merge_data(config, long_text, strlen(long_text), "f", &error));
  g_assert_error(error, CHOIR_CONFIG_ERROR, CHOIR_CONFIG_ERROR_FILE);
  g_clear_error(&error);
  g_assert_null(choir_config_load(items, files->dir, &error)); /* a folder is not a file */
  g_assert_error(error, CHOIR_CONFIG_ERROR, CHOIR_CONFIG_ERROR_FILE);
}

static void test_all_or_nothing(Files *files, gconstpointer data) {
  static const char text[] = "[vad]\nsilence_ms=1000\n[stt]\nengine=siri\n";
  g_autoptr(ChoirConfig) config = choir_config_load(items, NULL, NULL);
  g_autoptr(GError) error = NULL;
  g_assert_false(choir_config_merge_data(config, text, strlen(text), "f", &error));
  g_assert_cmpint(choir_config_int(config, "vad", "silence_ms"), ==, 600);
  g_assert_true(choir_config_set(config, "vad", "silence_ms", "1000", NULL));
  g_assert_cmpint(choir_config_int(config, "vad", "silence_ms"), ==, 1000);
  g_assert_false(choir_config_set(config, "vad", "silence_ms", "1", NULL));
  g_assert_cmpint(choir_config_int(config, "vad", "silence_ms"), ==, 1000);
}

static void test_environment_error(Files *files, gconstpointer data) {
  g_autoptr(GError) error = NULL;
  g_setenv("VAD_THRESHOLD", "7", TRUE);
  g_assert_null(choir_config_load(items, NULL, &error));
  g_assert_cmpstr(error->message, ==,
                  "environment VAD_THRESHOLD: [vad] threshold cannot be \"7\"; it must be a number from 0.05 to 0.95");
  g_setenv("VAD_THRESHOLD", "", TRUE); /* empty is not set */
  g_autoptr(ChoirConfig) config = choir_config_load(items, NULL, NULL);
  g_assert_nonnull(config);
}

/* The printed reference, with its comment marks taken away, must be a file that the program accepts. */
static void test_reference(Files *files, gconstpointer data) {
  g_autofree char *text = choir_config_reference(items);
  g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
  g_autoptr(GString) active = g_string_new(NULL);
  for (guint i = 0; lines[i] != NULL; i++)
    g_string_append_printf(active, "%s\n", lines[i][0] == '#' && lines[i][1] != ' ' ? lines[i] + 1 : lines[i]);
  g_autoptr(ChoirConfig) config = choir_config_load(items, NULL, NULL);
  g_autoptr(GError) error = NULL;
  g_assert_true(choir_config_merge_data(config, active->str, active->len, "reference", &error));
  g_assert_cmpstr(choir_config_origin(config, "web", "address"), ==, "file reference");
  g_assert_nonnull(strstr(text, "STT_SERVICE, STT"));
  g_assert_nonnull(strstr(text, "from 100 to 5000"));
}

int main(int argc, char **argv) {
  alarm(60);
  g_test_init(&argc, &argv, NULL);
  g_test_add("/config/layers", Files, NULL, setup, test_layers, teardown);
  g_test_add("/config/absent", Files, NULL, setup, test_absent, teardown);
  g_test_add("/config/messages", Files, NULL, setup, test_messages, teardown);
  g_test_add("/config/file-errors", Files, NULL, setup, test_file_errors, teardown);
  g_test_add("/config/all-or-nothing", Files, NULL, setup, test_all_or_nothing, teardown);
  g_test_add("/config/environment-error", Files, NULL, setup, test_environment_error, teardown);
  g_test_add("/config/reference", Files, NULL, setup, test_reference, teardown);
  return g_test_run();
}
