/* Heads of model files made here: right ones, other ones, cut at every byte, with counts that lie. */
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>
#include "llm/gguf_head.h"
#include "llm/server_private.h"
#include "base/cpu.h"

static void number(GString *file, guint64 value, guint bytes) {
  for (guint i = 0; i < bytes; i++)
    g_string_append_c(file, (char)(value >> 8 * i));
}

static void text(GString *file, const char *value) {
  number(file, strlen(value), 8);
  g_string_append(file, value);
}

/* With a string, an array of strings and one of numbers before the key, as real files have. */
static GString *head(guint32 version, guint32 type) {
  GString *file = g_string_new("GGUF");
  number(file, version, 4);
  number(file, 0, 8);
  number(file, 4, 8);
  text(file, "general.architecture"), number(file, 8, 4), text(file, "llama");
  text(file, "general.languages"), number(file, 9, 4), number(file, 8, 4), number(file, 2, 8);
  text(file, "en"), text(file, "de");
  text(file, "scores"), number(file, 9, 4), number(file, 6, 4), number(file, 3, 8), number(file, 0, 8),
      number(file, 0, 4);
  text(file, "general.file_type"), number(file, 4, 4), number(file, type, 4);
  return file;
}

static int type_of(const char *bytes, gsize n) {
  g_autofree char *path = NULL;
  int fd = g_file_open_tmp("gguf-XXXXXX", &path, NULL);
  g_assert_cmpint(write(fd, bytes, n), ==, (gssize)n);
  close(fd);
  int type = choir_gguf_file_type(path);
  g_unlink(path);
  return type;
}

static void test_reads(void) {
  g_autoptr(GString) q4_1 = head(3, 3), q4_k = head(2, 15), old = head(1, 3), new = head(4, 3);
  g_assert_cmpint(type_of(q4_1->str, q4_1->len), ==, CHOIR_GGUF_MOSTLY_Q4_1);
  g_assert_cmpint(type_of(q4_k->str, q4_k->len), ==, 15);
  g_assert_cmpint(type_of(old->str, old->len), ==, -1);
  g_assert_cmpint(type_of(new->str, new->len), ==, -1);
  g_assert_cmpint(type_of("GGML", 4), ==, -1);
  g_assert_cmpint(type_of("", 0), ==, -1);
  g_assert_cmpint(choir_gguf_file_type("/nonexistent/model.gguf"), ==, -1);
}

static void test_cut(void) {
  g_autoptr(GString) file = head(3, 3);
  for (gsize n = 0; n < file->len; n++)
    g_assert_cmpint(type_of(file->str, n), ==, -1);
}

/* Every byte in turn becomes 0xff: lengths and counts that reach far beyond the file. */
static void test_lies(void) {
  g_autoptr(GString) file = head(3, 3);
  for (gsize i = 0; i < file->len; i++) {
    char was = file->str[i];
    file->str[i] = (char)0xff;
    int type = type_of(file->str, file->len);
    g_assert_true(type == -1 || type >= 0);
    file->str[i] = was;
  }
  g_autoptr(GString) many = g_string_new("GGUF");
  number(many, 3, 4), number(many, 0, 8), number(many, G_MAXUINT64, 8);
  text(many, "a"), number(many, 9, 4), number(many, 9, 4), number(many, G_MAXUINT64, 8);
  g_assert_cmpint(type_of(many->str, many->len), ==, -1);
}

/* Ours is asked for where it is the faster one, unless somebody forces another. */
static void test_choice(void) {
  g_autofree char *dir = g_dir_make_tmp("choir-choice-XXXXXX", NULL);
  g_autofree char *bin = g_build_filename(dir, "bin", NULL);
  g_autofree char *model = g_build_filename(dir, "model.gguf", NULL);
  g_mkdir(bin, 0700);
  static const char *const files[] = {"llama-server", "libggml-cpu-haswell.so", "libggml-cpu-core2.so"};
  for (guint i = 0; i < G_N_ELEMENTS(files); i++) {
    g_autofree char *file = g_build_filename(bin, files[i], NULL);
    g_assert_true(g_file_set_contents(file, "", 0, NULL) && g_chmod(file, 0700) == 0);
  }
  for (guint i = 0; i < 3; i++) {
    g_autoptr(GString) bytes = head(3, i == 1 ? 15 : 3);
    g_assert_true(g_file_set_contents(model, bytes->str, (gssize)bytes->len, NULL));
    ChoirLlmServerOptions options = {.engine_dir = dir,
                                     .model_path = model,
                                     .model_name = "m",
                                     .state_dir = dir,
                                     .cpu_variant = i == 2 ? "haswell" : NULL};
    ChoirLlmCommand command = {0};
    g_auto(GStrv) argv = NULL, env = NULL;
    g_autoptr(GError) error = NULL;
    choir_llm_command_init(&command, &options);
    choir_llm_command_build(&command, &argv, &env, &error);
    g_assert_no_error(error);
    gboolean wanted = i == 0 && g_str_equal(choir_cpu_class(), "avx2");
    g_assert_cmpint(g_strv_contains((const char *const *)env, "CHOIR_CPU_VARIANT=core2"), ==, wanted);
    g_autofree char *why = choir_llm_variant_why(&command, wanted ? "core2" : "haswell", NULL);
    g_assert_cmpint(strstr(why, "for a model in Q4_1") != NULL, ==, wanted);
    choir_llm_command_clear(&command);
  }
  /* a forced variant has a folder of its own, and all have one for the slots */
  const char *remove[] = {"rm", "-r", "--", dir, NULL};
  g_assert_true(g_spawn_sync(NULL, (char **)remove, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL));
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  alarm(100);
  g_test_add_func("/llm/gguf/reads", test_reads);
  g_test_add_func("/llm/gguf/cut", test_cut);
  g_test_add_func("/llm/gguf/lies", test_lies);
  g_test_add_func("/llm/gguf/choice", test_choice);
  return g_test_run();
}
