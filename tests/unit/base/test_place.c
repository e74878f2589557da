/* Installed trees of every shape, made in a temporary folder. */
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>
#include "base/place.h"

typedef struct {
  char *root;
} Tree;

static void setup(Tree *tree, gconstpointer data) {
  tree->root = g_dir_make_tmp("choir-place-XXXXXX", NULL);
  g_assert_nonnull(tree->root);
}

static void teardown(Tree *tree, gconstpointer data) {
  const char *argv[] = {"rm", "-rf", tree->root, NULL};
  g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL));
  g_free(tree->root);
}

static char *folder(Tree *tree, const char *relative) {
  char *path = g_build_filename(tree->root, relative, NULL);
  g_assert_cmpint(g_mkdir_with_parents(path, 0755), ==, 0);
  return path;
}

static void expect(Tree *tree, const char *got, const char *relative) {
  g_autofree char *want = relative ? g_build_filename(tree->root, relative, NULL) : NULL;
  g_assert_cmpstr(got, ==, want);
}

static void test_build_folder(Tree *tree, gconstpointer data) {
  g_autofree char *program = g_build_filename(tree->root, "build", "choir", NULL);
  ChoirPlace place;
  choir_place_find(&place, program);
  g_assert_false(place.installed);
  expect(tree, place.own, "build");
  g_assert_null(place.library);
  g_assert_null(place.data);
  g_assert_null(place.settings);
  choir_place_clear(&place);
}

static void test_unpacked(Tree *tree, gconstpointer data) {
  g_autofree char *library = folder(tree, "usr/lib/choir"), *settings = folder(tree, "etc/choir");
  static const char *const programs[] = {"usr/bin/choir", "usr/lib/choir/choir-ear"};
  for (gsize i = 0; i < G_N_ELEMENTS(programs); i++) {
    g_autofree char *program = g_build_filename(tree->root, programs[i], NULL);
    ChoirPlace place;
    choir_place_find(&place, program);
    g_assert_true(place.installed);
    expect(tree, place.library, "usr/lib/choir");
    expect(tree, place.data, "usr/share/choir");
    expect(tree, place.settings, "etc/choir");
    choir_place_clear(&place);
  }
}

/* meson's own prefix: the settings are the system's where the prefix has none. */
static void test_local_prefix(Tree *tree, gconstpointer data) {
  g_autofree char *library = folder(tree, "local/lib/choir");
  g_autofree char *program = g_build_filename(tree->root, "local", "bin", "choir", NULL);
  ChoirPlace place;
  choir_place_find(&place, program);
  g_assert_true(place.installed);
  expect(tree, place.data, "local/share/choir");
  g_assert_cmpstr(place.settings, ==, "/etc/choir");
  choir_place_clear(&place);
  g_autofree char *settings = folder(tree, "local/etc/choir");
  choir_place_find(&place, program);
  expect(tree, place.settings, "local/etc/choir");
  choir_place_clear(&place);
}

/* A program called choir that lies in some bin folder is not an installed one. */
static void test_bare_bin(Tree *tree, gconstpointer data) {
  g_autofree char *program = g_build_filename(tree->root, "bin", "choir", NULL);
  ChoirPlace place;
  choir_place_find(&place, program);
  g_assert_false(place.installed);
  choir_place_clear(&place);
}

static void test_itself(void) {
  ChoirPlace place;
  choir_place_find(&place, NULL);
  g_assert_true(g_path_is_absolute(place.own));
  choir_place_clear(&place);
}

static void test_first(Tree *tree, gconstpointer data) {
  g_autofree char *here = folder(tree, "here"), *gone = g_build_filename(tree->root, "gone", NULL);
  g_autofree char *set = choir_place_first("/as/it/stands", here, NULL);
  g_assert_cmpstr(set, ==, "/as/it/stands");
  g_autofree char *found = choir_place_first("", gone, here, "/never", NULL);
  g_assert_cmpstr(found, ==, here);
  g_autofree char *last = choir_place_first(NULL, gone, "/not/there/either", NULL);
  g_assert_cmpstr(last, ==, "/not/there/either");
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  alarm(60);
  g_test_add("/place/build-folder", Tree, NULL, setup, test_build_folder, teardown);
  g_test_add("/place/unpacked", Tree, NULL, setup, test_unpacked, teardown);
  g_test_add("/place/local-prefix", Tree, NULL, setup, test_local_prefix, teardown);
  g_test_add("/place/bare-bin", Tree, NULL, setup, test_bare_bin, teardown);
  g_test_add("/place/first", Tree, NULL, setup, test_first, teardown);
  g_test_add_func("/place/itself", test_itself);
  return g_test_run();
}
