/* Replays inputs without libFuzzer: each argument is a file, or a folder of files. "--mutate N" adds N damaged copies
 * of each, from a fixed seed ("--seed S" for another), so that an ordinary test run looks a little beyond the corpus
 * too. */
#include <glib.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static guint mutations, inputs;
static guint32 seed = 1;
static const char *current_file;
static guint current_mutation;

/* An exact copy on the heap: a sanitizer then sees every read past the end. */
static void run(const guint8 *data, gsize size) {
  g_autofree guint8 *copy = g_malloc(MAX(size, 1));
  memcpy(copy, data, size);
  LLVMFuzzerTestOneInput(copy, size);
  inputs++;
}

static void damage(GByteArray *bytes, GRand *rand) {
  guint8 any = (guint8)g_rand_int(rand);
  guint at = bytes->len > 0 ? (guint)g_rand_int_range(rand, 0, (gint32)bytes->len) : 0;
  guint length = bytes->len > 0 ? (guint)g_rand_int_range(rand, 1, (gint32)MIN(bytes->len - at, 64) + 1) : 0;
  switch (g_rand_int_range(rand, 0, 5)) {
  case 0:
    if (bytes->len > 0)
      bytes->data[at] ^= (guint8)(1 << (any & 7));
    break;
  case 1:
    if (bytes->len > 0)
      bytes->data[at] = any;
    break;
  case 2:
    g_byte_array_remove_range(bytes, at, length);
    break;
  case 3: {
    g_autofree guint8 *piece = g_memdup2(bytes->data + at, length); /* appending may move the original */
    g_byte_array_append(bytes, piece, length);
    break;
  }
  default:
    g_byte_array_set_size(bytes, at);
  }
}

static gboolean run_file(const char *path) {
  g_autofree char *data = NULL;
  gsize size = 0;
  g_autoptr(GError) error = NULL;
  if (!g_file_get_contents(path, &data, &size, &error)) {
    fprintf(stderr, "%s\n", error->message);
    return FALSE;
  }
  g_autoptr(GRand) rand = g_rand_new_with_seed(seed ^ g_str_hash(path + strlen(path) - MIN(strlen(path), 16)));
  current_file = path;
  current_mutation = 0;
  run((const guint8 *)data, size);
  for (current_mutation = 1; current_mutation <= mutations; current_mutation++) {
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    g_byte_array_append(bytes, (const guint8 *)data, (guint)size);
    for (gint i = g_rand_int_range(rand, 1, 5); i > 0; i--)
      damage(bytes, rand);
    run(bytes->data, bytes->len);
  }
  return TRUE;
}

static gboolean run_folder(const char *path) {
  g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
  gboolean good = TRUE;
  for (const char *name = g_dir_read_name(dir); name != NULL; name = g_dir_read_name(dir)) {
    g_autofree char *file = g_build_filename(path, name, NULL);
    good = run_file(file) && good;
  }
  return good;
}

static void say_where(void) {
  if (current_file != NULL)
    fprintf(stderr, "while replaying %s, mutation %u of seed %u\n", current_file, current_mutation, seed);
}

static void on_abort(int signal) {
  say_where();
  _exit(128 + signal);
}

int main(int argc, char **argv) {
  gboolean good = TRUE;
  alarm(300);
  signal(SIGABRT, on_abort);
  run((const guint8 *)"", 0);
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--mutate") == 0 && i + 1 < argc)
      mutations = (guint)g_ascii_strtoull(argv[++i], NULL, 10);
    else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
      seed = (guint32)g_ascii_strtoull(argv[++i], NULL, 10);
    else if (g_file_test(argv[i], G_FILE_TEST_IS_DIR))
      good = run_folder(argv[i]) && good;
    else
      good = run_file(argv[i]) && good;
  }
  printf("%u inputs\n", inputs);
  return good && inputs > 1 ? 0 : 1;
}
