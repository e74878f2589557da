/* The list's embeddings: asked for in batches, once, kept in a file, by a stand-in that makes a vector of a text's
 * first letters. */
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>
#include "agent/meaning.h"

#define TEXTS 20
#define DIMENSIONS 4

typedef struct {
  guint requests, texts;
  gboolean broken;
} Embedder;

static void embed(gpointer self, const char *const *texts, guint n,
                  void (*done)(const float *vectors, guint n, guint dimensions, const GError *error, gpointer user),
                  gpointer user_data) {
  Embedder *embedder = self;
  embedder->requests++;
  embedder->texts += n;
  if (embedder->broken) {
    g_autoptr(GError) error = g_error_new_literal(CHOIR_TOOL_ERROR, CHOIR_TOOL_ERROR_UNAVAILABLE, "away");
    done(NULL, 0, 0, error, user_data);
    return;
  }
  g_autofree float *vectors = g_new0(float, (gsize)n *DIMENSIONS);
  for (guint i = 0; i < n; i++)
    vectors[i * DIMENSIONS + (guint)texts[i][0] % DIMENSIONS] = 1;
  done(vectors, n, DIMENSIONS, NULL, user_data);
}

static gboolean raise_flag(gpointer user) {
  *(gboolean *)user = TRUE;
  return G_SOURCE_REMOVE;
}

static void on_told(gpointer user) {
  *(gboolean *)user = TRUE;
}

static void run_ms(guint ms) {
  gboolean over = FALSE;
  g_timeout_add(ms, raise_flag, &over);
  while (!over)
    g_main_context_iteration(NULL, TRUE);
}

static ChoirMeaning *list_of(Embedder *embedder, const char *path) {
  const char *texts[TEXTS];
  for (guint i = 0; i < TEXTS; i++)
    texts[i] = i % 2 ? "alarm in the morning" : "brew coffee";
  ChoirToolAgent agent = {.self = embedder, .embed = embed};
  return choir_meaning_new(&agent, path, texts, TEXTS);
}

static gboolean knows(ChoirMeaning *meaning, const char *text) {
  gboolean told = FALSE;
  double like[TEXTS];
  if (choir_meaning_prepare(meaning, text, on_told, &told))
    while (!told)
      g_main_context_iteration(NULL, TRUE);
  return choir_meaning_likeness(meaning, text, like) && like[1] == 1 && like[0] == 0;
}

typedef struct {
  char *dir, *path;
} Fixture;

static void set_up(Fixture *f, gconstpointer data) {
  f->dir = g_dir_make_tmp("choir-meaning-XXXXXX", NULL);
  f->path = g_build_filename(f->dir, "tools.meaning", NULL);
}

static void tear_down(Fixture *f, gconstpointer data) {
  g_unlink(f->path);
  g_assert_cmpint(g_rmdir(f->dir), ==, 0);
  g_free(f->path);
  g_free(f->dir);
}

/* Before anybody said anything, so that the first order is understood. */
static void test_learns_ahead(Fixture *f, gconstpointer data) {
  Embedder embedder = {0};
  g_autoptr(ChoirMeaning) meaning = list_of(&embedder, f->path);
  choir_meaning_learn(meaning, 20);
  choir_meaning_learn(meaning, 20);
  g_assert_cmpuint(embedder.requests, ==, 0);
  run_ms(200);
  g_assert_cmpuint(embedder.texts, ==, TEXTS);
  g_assert_cmpuint(embedder.requests, ==, TEXTS / 4);
  g_assert_true(g_file_test(f->path, G_FILE_TEST_EXISTS));
  g_assert_true(knows(meaning, "all awake"));
}

/* The next start reads them, and asks for none. */
static void test_keeps(Fixture *f, gconstpointer data) {
  Embedder first = {0}, second = {0}, third = {0};
  g_autoptr(ChoirMeaning) made = list_of(&first, f->path);
  choir_meaning_learn(made, 1);
  run_ms(100);
  g_autoptr(ChoirMeaning) read = list_of(&second, f->path);
  choir_meaning_learn(read, 1);
  run_ms(100);
  g_assert_cmpuint(second.requests, ==, 0);
  g_assert_true(knows(read, "all awake"));
  g_assert_true(g_file_set_contents(f->path, "choir-meaning-1\nbroken", -1, NULL));
  g_autoptr(ChoirMeaning) again = list_of(&third, f->path);
  choir_meaning_learn(again, 1);
  run_ms(100);
  g_assert_cmpuint(third.texts, ==, TEXTS);
}

/* Freed before its time; an embedder that is away; none at all. */
static void test_without(Fixture *f, gconstpointer data) {
  Embedder unused = {0}, away = {.broken = TRUE};
  ChoirMeaning *gone = list_of(&unused, f->path);
  choir_meaning_learn(gone, 20);
  choir_meaning_free(gone);
  g_autoptr(ChoirMeaning) meaning = list_of(&away, f->path);
  choir_meaning_learn(meaning, 1);
  run_ms(100);
  g_assert_cmpuint(unused.requests, ==, 0);
  g_assert_cmpuint(away.requests, ==, 1);
  g_assert_false(g_file_test(f->path, G_FILE_TEST_EXISTS));
  away.broken = FALSE;
  choir_meaning_learn(meaning, 1);
  run_ms(100);
  g_assert_true(knows(meaning, "all awake"));
  ChoirToolAgent nobody = {0};
  const char *text = "alone";
  g_autoptr(ChoirMeaning) none = choir_meaning_new(&nobody, NULL, &text, 1);
  choir_meaning_learn(none, 1);
  run_ms(50);
  g_assert_false(choir_meaning_likeness(none, "alone", NULL));
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  alarm(60);
  g_test_add("/agent/meaning/learns-ahead", Fixture, NULL, set_up, test_learns_ahead, tear_down);
  g_test_add("/agent/meaning/keeps", Fixture, NULL, set_up, test_keeps, tear_down);
  g_test_add("/agent/meaning/without", Fixture, NULL, set_up, test_without, tear_down);
  return g_test_run();
}
