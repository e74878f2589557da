#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "cli/bench_node.h"
#include "cli/cli.h"

#define NAME "bench"

/* Most benches need recordings, questions and scripts, which are part of a checkout and not of an installed Choir. */
#ifndef CHOIR_SOURCE_DIR
#define CHOIR_SOURCE_DIR ""
#endif
#define BENCHES CHOIR_SOURCE_DIR "/tests/bench"

static const char help[] =
    "Usage:\n  choir bench [NAME [OPTION...]]\n\n"
    "Runs a bench; without a name it lists them. 'node' measures this machine and works everywhere,\n"
    "the others are part of the source checkout that this program was built from.\n"
    "Options are the bench's own: choir bench NAME --help shows them.\n\n"
    "Examples:\n  choir bench\n  choir bench node\n  choir bench persona --help\n\n"
    "Exit codes: the bench's own; 1 there is no such bench, 2 wrong usage.\n";

/* The program of a bench: the file run, run.EXT or bench.EXT in its folder. Caller frees; NULL when there is none. */
static char *program_of(const char *name) {
  g_autofree char *folder = g_build_filename(BENCHES, name, NULL);
  g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
  for (const char *file = dir ? g_dir_read_name(dir) : NULL; file; file = g_dir_read_name(dir)) {
    g_autofree char *path = g_build_filename(folder, file, NULL);
    if ((strcmp(file, "run") == 0 || g_str_has_prefix(file, "run.") || g_str_has_prefix(file, "bench.")) &&
        g_file_test(path, G_FILE_TEST_IS_EXECUTABLE))
      return g_steal_pointer(&path);
  }
  return NULL;
}

static gint by_name(gconstpointer a, gconstpointer b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

static int list(void) {
  g_autoptr(GDir) dir = g_dir_open(BENCHES, 0, NULL);
  g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
  g_ptr_array_add(names, g_strdup("node"));
  for (const char *name = dir ? g_dir_read_name(dir) : NULL; name; name = g_dir_read_name(dir)) {
    g_autofree char *program = program_of(name);
    if (program)
      g_ptr_array_add(names, g_strdup(name));
  }
  g_ptr_array_sort(names, by_name);
  for (guint i = 0; i < names->len; i++)
    printf("%s\n", (char *)names->pdata[i]);
  return CHOIR_CLI_OK;
}

int choir_bench_main(int argc, char **argv) {
  if (argc < 2)
    return list();
  if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
    fputs(help, stdout);
    return CHOIR_CLI_OK;
  }
  if (argv[1][0] == '-' || strchr(argv[1], '/'))
    return choir_cli_usage(NAME, "'%s' is not the name of a bench", argv[1]);
  if (strcmp(argv[1], "node") == 0)
    return choir_bench_node_main(argc - 1, argv + 1);
  g_autofree char *program = program_of(argv[1]);
  if (!program)
    return choir_cli_fail(NAME,
                          g_file_test(BENCHES, G_FILE_TEST_IS_DIR)
                              ? "there is no bench '%s'; choir bench lists them"
                              : "'%s' needs the source checkout, and there is none beside this program",
                          argv[1]);
  argv[1] = program;
  execv(program, argv + 1);
  return choir_cli_fail(NAME, "cannot start %s: %s", program, g_strerror(errno));
}
