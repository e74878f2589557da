// How the file behaves towards ggml's loader: its score, and when it stands aside. Each case runs in a process of its
// own, in a folder made for it, because what is loaded cannot be taken back.
#include <dlfcn.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "rig.h"

typedef int score_fn(void);
typedef void *init_fn(void);
typedef const char *status_fn(void);

static char *folder;

static void put(const char *target, const char *name) {
  g_autofree char *at = g_build_filename(folder, name, NULL);
  g_assert_no_errno(symlink(target, at));
}

static char *stock_file(const char *name) {
  return g_build_filename(g_getenv("CHOIR_ENGINE_DIR"), name, NULL);
}

static void begin(void) {
  alarm(60);
  g_unsetenv("CHOIR_CPU_VARIANT");
  folder = g_dir_make_tmp("core2-XXXXXX", NULL);
  g_assert_nonnull(folder);
  put(g_getenv("CHOIR_ENGINE_FILE"), "libggml-cpu-core2.so");
}

static void *load(void) {
  g_autofree char *path = g_build_filename(folder, "libggml-cpu-core2.so", NULL);
  void *h = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!h)
    g_error("%s", dlerror());
  return h;
}

static void end(void) {
  static const char *const names[] = {"libggml-cpu-core2.so", "libggml-cpu-x64.so"};
  for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
    g_autofree char *at = g_build_filename(folder, names[i], NULL);
    g_unlink(at);
  }
  g_rmdir(folder);
}

static void test_scores(void) {
  begin();
  score_fn *score = dlsym(load(), "ggml_backend_score");
  g_assert_cmpint(score(), ==, 0); // nothing to stand on
  g_autofree char *x64 = stock_file("libggml-cpu-x64.so");
  put(x64, "libggml-cpu-x64.so");
  const int plain = score();
  g_assert_cmpint(plain, >, 21); // stock sandybridge, slower here
  g_assert_cmpint(plain, <, 64); // stock haswell
  g_setenv("CHOIR_CPU_VARIANT", "core2", TRUE);
  g_assert_cmpint(score(), >, 1 << 16);
  g_setenv("CHOIR_CPU_VARIANT", "haswell", TRUE);
  g_assert_cmpint(score(), ==, 0);
  g_setenv("CHOIR_CPU_VARIANT", "", TRUE);
  g_assert_cmpint(score(), ==, plain);
  end();
}

static void init_over(const char *base, const char *stock, const char *expected, gboolean ours) {
  begin();
  if (base && !dlopen(base, RTLD_NOW | RTLD_LOCAL))
    g_error("%s", dlerror());
  put(stock, "libggml-cpu-x64.so");
  void *h = load();
  init_fn *init = dlsym(h, "ggml_backend_init");
  status_fn *status = dlsym(h, "choir_core2_status");
  g_assert_nonnull(init());
  if (!strstr(status(), expected))
    g_error("status is '%s', not '%s'", status(), expected);
  g_autofree char *path = g_build_filename(folder, "libggml-cpu-x64.so", NULL);
  void *loaded = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
  g_assert_nonnull(loaded);
  const struct { void *from_float, *vec_dot; } * (*traits)(int) = dlsym(loaded, "ggml_get_type_traits_cpu");
  for (int i = 0; i < rig_n_formats; i++)
    g_assert_cmpint(traits(rig_formats[i].type)->vec_dot == dlsym(h, rig_formats[i].dot), ==, ours);
  end();
}

static void test_takes_over(void) {
  g_autofree char *base = stock_file("libggml-base.so");
  g_autofree char *x64 = stock_file("libggml-cpu-x64.so");
  init_over(base, x64, "SSSE3 kernels over", TRUE);
}

static void test_unknown_version(void) {
  init_over(g_getenv("FAKE_BASE"), g_getenv("FAKE_STOCK"), "standing aside: ggml 0.99.0 is newer than this file knows",
            FALSE);
}

static void test_old_version(void) {
  init_over(g_getenv("FAKE_OLD_BASE"), g_getenv("FAKE_STOCK"),
            "standing aside: ggml 0.9.7 is older than this file knows", FALSE);
}

static void test_no_version(void) {
  init_over(NULL, g_getenv("FAKE_STOCK"), "standing aside: ggml (unknown) has no version", FALSE);
}

static void test_not_replaceable(void) {
  g_autofree char *base = stock_file("libggml-base.so");
  init_over(base, g_getenv("FAKE_STOCK"), "cannot be replaced", FALSE);
}

static void in_subprocess(gconstpointer data) {
  g_test_trap_subprocess(data, 60 * G_USEC_PER_SEC, G_TEST_SUBPROCESS_INHERIT_STDERR);
  g_test_trap_assert_passed();
}

int main(int argc, char **argv) {
  static const struct {
    const char *path;
    GTestFunc test;
  } cases[] = {
      {"scores", test_scores},           {"takes-over", test_takes_over}, {"unknown-version", test_unknown_version},
      {"old-version", test_old_version}, {"no-version", test_no_version}, {"not-replaceable", test_not_replaceable},
  };
  if (!g_getenv("CHOIR_ENGINE_DIR") || !g_getenv("CHOIR_ENGINE_FILE")) {
    g_print("1..0 # SKIP needs CHOIR_ENGINE_DIR and CHOIR_ENGINE_FILE\n");
    return 0;
  }
  g_test_init(&argc, &argv, NULL);
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    char *inner = g_strdup_printf("/engine/loader/%s/subprocess", cases[i].path);
    g_autofree char *outer = g_strdup_printf("/engine/loader/%s", cases[i].path);
    g_test_add_func(inner, cases[i].test);
    g_test_add_data_func_full(outer, inner, in_subprocess, g_free);
  }
  return g_test_run();
}
