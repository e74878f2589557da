/* Facts: merging, superseding, search by words and vectors, the index's file, import, and a process that is killed at
 * any moment. Vectors here are made from a text's letters, so that equal texts are equal and others are not. */
#include <glib/gstdio.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "killed.h"
#include "base/text.h"
#include "memory/memory.h"
#include "memory/facts_private.h"
#include "memory/memory_private.h"

#define N CHOIR_FACTS_DIMENSIONS
static const char *module;
static char *self;

/* Pairs of letters, hashed: texts that differ in one word are near one another. */
static void vector_of(const char *text, float *ret_vector) {
  double sum = 0;
  memset(ret_vector, 0, N * sizeof(float));
  for (const char *p = text; p[0] && p[1]; p++)
    ret_vector[((guint)g_ascii_tolower(p[0]) * 31 + (guint)g_ascii_tolower(p[1])) % N] += 1;
  for (int i = 0; i < N; i++)
    sum += (double)ret_vector[i] * (double)ret_vector[i];
  for (int i = 0; i < N && sum > 0; i++)
    ret_vector[i] /= (float)sqrt(sum);
}

typedef struct {
  char *dir;
  ChoirFacts *facts;
} World;

static void reopen(World *world) {
  g_autoptr(GError) error = NULL;
  choir_facts_close(world->facts);
  world->facts = choir_facts_open(world->dir, module, &error);
  g_assert_no_error(error);
}

static void set_up(World *world, gconstpointer data) {
  world->dir = g_dir_make_tmp("choir-facts-XXXXXX", NULL);
  reopen(world);
}

static void remove_folder(const char *dir) {
  GDir *handle = g_dir_open(dir, 0, NULL);
  for (const char *name; (name = g_dir_read_name(handle));) {
    g_autofree char *path = g_build_filename(dir, name, NULL);
    g_unlink(path);
  }
  g_dir_close(handle);
  g_rmdir(dir);
}

static void tear_down(World *world, gconstpointer data) {
  choir_facts_close(world->facts);
  remove_folder(world->dir);
  g_free(world->dir);
}

static gint64 add(World *world, const char *text, ChoirFactOutcome *ret_outcome) {
  g_autoptr(GError) error = NULL;
  float vector[N];
  vector_of(text, vector);
  ChoirFactNew fact = {.text = text, .source = "test"};
  gint64 id = choir_facts_add(world->facts, &fact, vector, ret_outcome, &error);
  g_assert_no_error(error);
  g_assert_cmpint(id, >, 0);
  return id;
}

static char *first(World *world, const char *query, gboolean meaning) {
  g_autoptr(GError) error = NULL;
  float vector[N];
  vector_of(query, vector);
  json_auto_t *found = choir_facts_search(world->facts, query, meaning ? vector : NULL, 5, &error);
  g_assert_no_error(error);
  return g_strdup(choir_json_string(json_array_get(found, 0), "text", ""));
}

static void test_key(void) {
  static const struct {
    const char *text, *key, *value;
  } cases[] = {
      {"My server is called atlas", "my server #name", "atlas"},
      {"my server's name is Zeus.", "my server #name", "zeus"},
      {"The printer is at 10.0.0.5", "printer #at", "10.0.0.5"},
      {"My favourite colour is blue", "my favourite colour", "blue"},
      {"I like tea", "", ""},
      {"is", "", ""},
      {"", "", ""},
  };
  for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autofree char *value = NULL, *key = choir_facts_key(cases[i].text, &value);
    g_assert_cmpstr(key, ==, cases[i].key);
    g_assert_cmpstr(value, ==, cases[i].value);
  }
}

static void test_merge(World *world, gconstpointer data) {
  ChoirFactOutcome outcome;
  gint64 atlas = add(world, "My server is called atlas", &outcome);
  g_assert_cmpint(outcome, ==, CHOIR_FACT_ADDED);
  g_assert_cmpint(add(world, "my server is called Atlas", &outcome), ==, atlas);
  g_assert_cmpint(outcome, ==, CHOIR_FACT_MERGED);
  gint64 zeus = add(world, "My server is called zeus", &outcome);
  g_assert_cmpint(outcome, ==, CHOIR_FACT_SUPERSEDED);
  add(world, "My cat is called Mimi", &outcome);
  g_assert_cmpint(outcome, ==, CHOIR_FACT_ADDED);
  g_assert_cmpuint(choir_facts_count(world->facts), ==, 2);
  json_auto_t *all = choir_facts_list(world->facts, 0, TRUE, NULL);
  g_assert_cmpuint(json_array_size(all), ==, 3);
  g_assert_cmpint(choir_json_int(json_array_get(all, 2), "superseded_by", 0), ==, zeus);
  g_autofree char *found = first(world, "what is my server called", TRUE);
  g_assert_cmpstr(found, ==, "My server is called zeus");
  /* Another's words do not replace the person's. */
  ChoirFactNew strange = {.text = "My server is called evil", .source = "web", .tainted = TRUE};
  g_assert_cmpint(choir_facts_add(world->facts, &strange, NULL, &outcome, NULL), >, 0);
  g_assert_cmpint(outcome, ==, CHOIR_FACT_ADDED);
  /* Forgetting takes the history along. */
  g_assert_true(choir_facts_forget(world->facts, zeus, NULL));
  json_auto_t *left = choir_facts_list(world->facts, 0, TRUE, NULL);
  g_assert_cmpuint(json_array_size(left), ==, 2);
  g_autoptr(GError) error = NULL;
  g_assert_false(choir_facts_forget(world->facts, zeus, &error));
  g_assert_error(error, CHOIR_FACTS_ERROR, CHOIR_FACTS_ERROR_NOT_FOUND);
}

static void test_search(World *world, gconstpointer data) {
  add(world, "The backup runs at 3 in the night", NULL);
  add(world, "My sister lives in Lisbon", NULL);
  gint64 code = add(world, "Error E-4711 means the pump is dry", NULL);
  g_autofree char *by_word = first(world, "what was E-4711?", FALSE);
  g_assert_cmpstr(by_word, ==, "Error E-4711 means the pump is dry");
  g_autofree char *by_both = first(world, "my sisters live in Lisbon", TRUE);
  g_assert_cmpstr(by_both, ==, "My sister lives in Lisbon");
  g_autofree char *operators = first(world, "\" OR NOT (lisbon) * NEAR", FALSE);
  g_assert_cmpstr(operators, ==, "My sister lives in Lisbon");
  float vector[N];
  vector_of("Error E-4712 means the pump is wet", vector);
  g_assert_true(choir_facts_edit(world->facts, code, "Error E-4712 means the pump is wet", vector, NULL));
  g_autofree char *edited = first(world, "E-4712", FALSE);
  g_assert_cmpstr(edited, ==, "Error E-4712 means the pump is wet");
  g_autofree char *gone = first(world, "4711", FALSE);
  g_assert_cmpstr(gone, ==, "");
}

static void test_refusals(World *world, gconstpointer data) {
  g_autofree char *long_text = g_strnfill(CHOIR_FACTS_TEXT_MAX + 1, 'a');
  const char *bad[] = {"", long_text, "\xff\xfe"};
  for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
    g_autoptr(GError) error = NULL;
    g_assert_cmpint(choir_facts_add(world->facts, &(ChoirFactNew){.text = bad[i]}, NULL, NULL, &error), ==, 0);
    g_assert_error(error, CHOIR_FACTS_ERROR, CHOIR_FACTS_ERROR_TEXT);
  }
  add(world, "My bike is red", NULL);
  g_autoptr(GError) error = NULL;
  g_assert_cmpint(choir_facts_import(world->facts, "{\"text\":\"one\"}\n{\"no\":1}\n", &error), ==, -1);
  g_assert_nonnull(strstr(error->message, "line 2"));
  g_assert_cmpuint(choir_facts_count(world->facts), ==, 1);
  g_assert_false(choir_facts_replace(world->facts, "rubbish", NULL));
  g_assert_cmpuint(choir_facts_count(world->facts), ==, 1);
}

static void test_export(World *world, gconstpointer data) {
  add(world, "My server is called atlas", NULL);
  add(world, "My server is called zeus", NULL);
  add(world, "I was born in 1970", NULL);
  g_autofree char *lines = choir_facts_export(world->facts, NULL);
  g_assert_cmpint(choir_facts_import(world->facts, lines, NULL), ==, 0); /* nothing new */
  g_assert_true(choir_facts_replace(world->facts, lines, NULL));
  json_auto_t *all = choir_facts_list(world->facts, 0, TRUE, NULL);
  g_assert_cmpuint(json_array_size(all), ==, 3);
  g_assert_cmpuint(choir_facts_count(world->facts), ==, 2);
  json_auto_t *open = choir_facts_unembedded(world->facts, 10);
  g_assert_cmpuint(json_array_size(open), ==, 2);
}

static void test_file(World *world, gconstpointer data) {
  g_autofree char *path = g_build_filename(world->dir, "long_term_memory.faiss", NULL);
  g_autoptr(GError) error = NULL;
  for (int i = 0; i < 40; i++) {
    g_autofree char *text = g_strdup_printf("number %d of the list", i * 7919);
    add(world, text, NULL);
  }
  reopen(world);
  g_assert_true(g_file_test(path, G_FILE_TEST_EXISTS));
  g_assert_nonnull(choir_facts_index(world->facts));
  g_assert_false(world->facts->dirty); /* the file was taken */
  /* Missing, damaged, of another state: made anew, with all. */
  for (int damage = 0; damage < 3; damage++) {
    choir_facts_close(g_steal_pointer(&world->facts));
    if (damage == 0)
      g_unlink(path);
    else if (damage == 1)
      g_assert_true(g_file_set_contents(path, "IxM2 and then rubbish", -1, NULL));
    else
      g_assert_cmpint(truncate(path, 5000), ==, 0);
    reopen(world);
    g_assert_nonnull(choir_facts_index(world->facts));
    g_assert_true(world->facts->dirty);
    g_assert_cmpuint(choir_index_count(world->facts->index), ==, 40);
    g_autofree char *found = first(world, "number 7919 of the list", TRUE);
    g_assert_cmpstr(found, ==, "number 7919 of the list");
    g_assert_true(choir_facts_flush(world->facts, &error));
  }
  /* Without the module words still do. */
  choir_facts_close(world->facts);
  world->facts = choir_facts_open(world->dir, "/nowhere/choir-index.so", NULL);
  g_autofree char *found = first(world, "number 15838", TRUE);
  g_assert_cmpstr(found, ==, "number 15838 of the list");
  g_assert_nonnull(choir_facts_index_problem(world->facts));
}

/* The best k are those of a plain loop over all vectors, in its order; removed ones are not among them. */
static void test_nearest(void) {
  enum { ROWS = 700, K = 50, REMOVED = 7 };
  static float rows[ROWS][N], query[N];
  gint64 ids[K], row_ids[ROWS];
  float scores[K];
  g_autoptr(GError) error = NULL;
  g_autoptr(ChoirIndex) index = choir_index_new(module, N, &error);
  g_assert_no_error(error);
  for (guint i = 0; i < ROWS; i++) {
    row_ids[i] = 1000 + (gint64)i * 3;
    for (guint k = 0; k < N; k++)
      rows[i][k] = (float)g_test_rand_double_range(-1, 1);
  }
  memcpy(rows[300], rows[20], sizeof rows[0]); /* as near as each other: the older comes first */
  memcpy(query, rows[20], sizeof query);
  g_assert_true(choir_index_add(index, row_ids, rows[0], ROWS, &error));
  g_assert_true(choir_index_remove(index, row_ids[REMOVED], &error));
  g_assert_cmpuint(choir_index_search(index, query, K, ids, scores, &error), ==, K);
  g_assert_cmpint(ids[0], ==, row_ids[20]);
  g_assert_cmpint(ids[1], ==, row_ids[300]);
  for (guint place = 0; place < K; place++) {
    guint row = (guint)((ids[place] - 1000) / 3), better = 0;
    g_assert_cmpuint(row, !=, REMOVED);
    double own = 0;
    for (guint k = 0; k < N; k++)
      own += (double)rows[row][k] * (double)query[k];
    g_assert_cmpfloat_with_epsilon(scores[place], own, 1e-3);
    for (guint i = 0; i < ROWS; i++) {
      double score = 0;
      for (guint k = 0; k < N; k++)
        score += (double)rows[i][k] * (double)query[k];
      better += i != REMOVED && score > own + 1e-3;
    }
    g_assert_cmpuint(better, <=, place);
  }
  /* Fewer than asked for. */
  g_autoptr(ChoirIndex) small = choir_index_new(module, N, &error);
  g_assert_cmpuint(choir_index_search(small, query, K, ids, scores, &error), ==, 0);
  g_assert_true(choir_index_add(small, row_ids, rows[0], 3, &error));
  g_assert_cmpuint(choir_index_search(small, query, K, ids, scores, &error), ==, 3);
}

/* Saves again and again under one name, with one fact more each time; prints how many each acknowledged one holds. */
static int saving_main(World *world) {
  json_auto_t *said = json_array();
  for (guint i = choir_facts_count(world->facts);; i++) {
    g_autoptr(GError) error = NULL;
    g_autofree char *text = g_strdup_printf("saved %u", i);
    char line[32];
    add(world, text, NULL);
    json_auto_t *saved = choir_state_save(world->facts, world->dir, "one", said, &error);
    g_assert_no_error(error);
    int n = snprintf(line, sizeof line, "%u\n", choir_facts_count(world->facts));
    if (write(1, line, (gsize)n) != n)
      _exit(4);
  }
}

static int child_main(const char *dir, guint from) {
  World world = {.dir = g_strdup(dir)};
  reopen(&world);
  if (from == G_MAXUINT)
    return saving_main(&world);
  for (guint i = from;; i++) {
    g_autofree char *text = g_strdup_printf("acknowledged %u", i);
    gint64 id = add(&world, text, NULL);
    char line[32];
    int n = snprintf(line, sizeof line, "%" G_GINT64_FORMAT "\n", id);
    if (write(1, line, (gsize)n) != n)
      _exit(4);
    if (i % 5 == 4)
      choir_facts_flush(world.facts, NULL);
  }
}

static void test_kill(World *world, gconstpointer data) {
  int rounds = g_strcmp0(g_getenv("CHOIR_FULL"), "1") == 0 ? 500 : 25;
  g_autoptr(GArray) acknowledged = g_array_new(FALSE, FALSE, sizeof(gint64));
  choir_facts_close(g_steal_pointer(&world->facts));
  for (int round = 0; round < rounds; round++) {
    g_autofree char *from = g_strdup_printf("%d", round * 100000);
    const char *argv[] = {self, "--child", world->dir, from, module, NULL};
    /* Most die at work, some while they open the database. */
    killed_lines(killed_child(argv, round % 5 > 0, 2000, 70000), acknowledged);
  }
  reopen(world);
  for (guint i = 0; i < acknowledged->len; i++) {
    g_autofree char *sql = g_strdup_printf("SELECT count(*) FROM facts WHERE id = %" G_GINT64_FORMAT,
                                           g_array_index(acknowledged, gint64, i));
    g_assert_cmpint(choir_facts_int(world->facts, sql), ==, 1);
  }
  guint facts = choir_facts_count(world->facts);
  g_assert_nonnull(choir_facts_index(world->facts));
  g_assert_cmpuint(choir_index_count(world->facts->index), ==, facts);
  g_assert_cmpint(choir_facts_int(world->facts, "SELECT count(*) FROM words"), ==, facts);
  printf("# %d kills, %u acknowledged, none lost\n", rounds, acknowledged->len);
  g_assert_cmpuint(acknowledged->len, >, (guint)rounds);
}

/* Whenever the end comes, the name holds a whole state, the newest that was acknowledged or the one after it. */
static void test_kill_save(World *world, gconstpointer data) {
  int rounds = g_strcmp0(g_getenv("CHOIR_FULL"), "1") == 0 ? 500 : 10;
  gint64 last = 0;
  g_autoptr(GError) error = NULL;
  choir_facts_close(g_steal_pointer(&world->facts));
  for (int round = 0; round < rounds; round++) {
    const char *argv[] = {self, "--child", world->dir, "-1", module, NULL};
    g_autoptr(GArray) acknowledged = g_array_new(FALSE, FALSE, sizeof(gint64));
    killed_lines(killed_child(argv, TRUE, 1000, 50000), acknowledged);
    if (acknowledged->len > 0)
      last = g_array_index(acknowledged, gint64, acknowledged->len - 1);
    reopen(world);
    json_auto_t *loaded = choir_state_load(world->facts, world->dir, "one", &error);
    g_assert_no_error(error);
    gint64 facts = choir_json_int(loaded, "facts", 0);
    g_assert_cmpint(facts, >=, last);
    g_assert_cmpint(facts, <=, last + 1);
    last = facts;
    choir_facts_close(g_steal_pointer(&world->facts));
  }
  printf("# %d kills while a state is saved, %d facts in the last one\n", rounds, (int)last);
  g_autofree char *one = g_build_filename(world->dir, "saved_states", NULL);
  const char *argv[] = {"rm", "-rf", one, NULL};
  g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
}

/* What is said to an order to remember; nothing to all else. */
static void test_acknowledge(void) {
  static const struct {
    const char *said, *reply;
  } rows[] = {{"Remember that my server is called atlas.", "Your server is called atlas. I will remember that."},
              {"Please remember: I'm allergic to nuts!", "You're allergic to nuts. I will remember that."},
              {"Remember I am 40. Also, who are you?", NULL},
              {"remember my sister is Ada. Don't forget that she gave me the cat.",
               "Your sister is Ada. She gave you the cat. I will remember that."},
              {"Remember that you are called Jarvis and I like it.",
               "You are called Jarvis and I like it. I will remember that."},
              {"Remember when we met?", NULL},
              {"My server is called atlas.", NULL},
              {"remember", NULL},
              {"", NULL}};
  for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_autofree char *reply = choir_keep_acknowledge(rows[i].said);
    g_assert_cmpstr(reply, ==, rows[i].reply);
  }
}

#define ADD(name) g_test_add("/memory/facts/" #name, World, NULL, set_up, test_##name, tear_down)

int main(int argc, char **argv) {
  module = g_getenv("CHOIR_INDEX_MODULE");
  if (argc == 5 && g_str_equal(argv[1], "--child")) {
    module = argv[4];
    return child_main(argv[2], (guint)atoi(argv[3]));
  }
  self = g_file_read_link("/proc/self/exe", NULL);
  g_test_init(&argc, &argv, NULL);
  alarm(g_getenv("CHOIR_FULL") ? 3000 : 500);
  g_test_add_func("/memory/facts/key", test_key);
  g_test_add_func("/memory/facts/acknowledge", test_acknowledge);
  ADD(merge);
  ADD(search);
  ADD(refusals);
  ADD(export);
  if (module) {
    g_test_add_func("/memory/facts/nearest", test_nearest);
    ADD(file);
    ADD(kill);
    ADD(kill_save);
  }
  return g_test_run();
}
