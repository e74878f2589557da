/* The archive of choir backup: what goes in comes out, tar reads it, and no byte can be changed unnoticed. */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "cli/backup_manifest.h"
#include "cli/backup_tar.h"

typedef struct {
  char *folder, *path;
} Case;

static void setup(Case *at, gconstpointer data) {
  at->folder = g_dir_make_tmp("choir-backup-XXXXXX", NULL);
  at->path = g_build_filename(at->folder, "b.tar", NULL);
}

static void teardown(Case *at, gconstpointer data) {
  const char *argv[] = {"rm", "-rf", at->folder, NULL};
  g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL));
  g_free(at->path);
  g_free(at->folder);
}

static const char *const names[] = {"state/owners.json", "state/empty", "state/saved_states/a name with blanks/x.json",
                                    "settings/choir.conf"};
static const char *const contents[] = {"{\"people\":[]}\n", "", "[1,2,3]", "[web]\nport = 9000\n"};

static void write_archive(Case *at) {
  g_autoptr(GError) error = NULL;
  g_autoptr(BackupWriter) writer = backup_writer_new(at->path, FALSE, &error);
  g_assert_no_error(error);
  json_auto_t *manifest = backup_manifest_new();
  for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
    g_autofree char *sum = NULL;
    g_assert_true(backup_writer_bytes(writer, names[i], 0600, contents[i], strlen(contents[i]), &sum, &error));
    backup_manifest_add(manifest, names[i], strlen(contents[i]), sum, 0600);
  }
  g_autofree char *text = json_dumps(manifest, 0);
  g_assert_true(backup_writer_bytes(writer, BACKUP_MANIFEST, 0600, text, strlen(text), NULL, &error));
  g_assert_false(g_file_test(at->path, G_FILE_TEST_EXISTS)); /* no name before it is whole */
  g_assert_true(backup_writer_finish(writer, &error));
  g_assert_no_error(error);
}

/* Reads the archive as choir restore does. TRUE when nothing was objected to. */
static gboolean read_archive(const char *path, char **ret_why) {
  g_autoptr(GError) error = NULL;
  g_autoptr(BackupReader) reader = backup_reader_new(path, &error);
  json_auto_t *found = backup_manifest_new();
  g_autofree char *manifest = NULL;
  const char *name;
  guint mode;
  guint64 length;
  int got = -1;
  while (reader && (got = backup_reader_next(reader, &name, &mode, &length, &error)) > 0) {
    g_autofree char *own = g_strdup(name), *sum = NULL;
    if (g_str_equal(own, BACKUP_MANIFEST)) {
      g_free(manifest);
      manifest = backup_reader_text(reader, BACKUP_MANIFEST_MAX, &error);
    } else {
      int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
      if (backup_reader_file(reader, fd, &sum, &error))
        backup_manifest_add(found, own, length, sum, mode);
      close(fd);
    }
    if (error)
      break;
  }
  gboolean good = !error && got == 0 && backup_manifest_check(path, manifest ? manifest : "", found, &error);
  g_assert_true(good == (error == NULL));
  *ret_why = error ? g_strdup(error->message) : NULL;
  return good;
}

static void test_round(Case *at, gconstpointer data) {
  g_autofree char *why = NULL, *out = NULL;
  write_archive(at);
  g_assert_true(read_archive(at->path, &why));
  const char *argv[] = {"tar", "-xOf", at->path, names[2], NULL};
  int status;
  g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, NULL, &status, NULL));
  g_assert_cmpint(status, ==, 0);
  g_assert_cmpstr(out, ==, contents[2]);
}

/* A byte of a content, a name or a length changed, the file cut anywhere: always refused, never a crash. */
static void test_damage(Case *at, gconstpointer data) {
  g_autofree char *image = NULL, *broken = g_build_filename(at->folder, "broken.tar", NULL);
  gsize length;
  write_archive(at);
  g_assert_true(g_file_get_contents(at->path, &image, &length, NULL));
  guint refused = 0, harmless = 0;
  for (gsize i = 0; i < length; i += 7) {
    g_autofree char *why = NULL;
    image[i] ^= 0x11;
    g_assert_true(g_file_set_contents_full(broken, image, (gssize)length, G_FILE_SET_CONTENTS_CONSISTENT, 0600, NULL));
    if (read_archive(broken, &why))
      harmless++; /* padding between members, and what stands behind the end */
    else
      refused++;
    image[i] ^= 0x11;
  }
  g_test_message("%u changes refused, %u in padding", refused, harmless);
  g_assert_cmpuint(refused, >, 5 * 512 / 7 / 2);
  for (gsize i = 0; i + 1024 < length; i += 101) {
    g_autofree char *why = NULL;
    g_assert_true(g_file_set_contents_full(broken, image, (gssize)i, G_FILE_SET_CONTENTS_CONSISTENT, 0600, NULL));
    g_assert_false(read_archive(broken, &why));
    g_assert_nonnull(strstr(why, "ends too early"));
  }
}

static void test_names(void) {
  static const char *const good[] = {"state/a", "state/ä b/c.json", "a"};
  static const char *const bad[] = {"",         "/etc/passwd", "state/../../etc/passwd",
                                    "..",       "state//a",    "state/./a",
                                    "state/a/", "state/a\nb",  "state/\xff"};
  for (gsize i = 0; i < G_N_ELEMENTS(good); i++)
    g_assert_true(choir_relative_ok(good[i]));
  for (gsize i = 0; i < G_N_ELEMENTS(bad); i++)
    g_assert_false(choir_relative_ok(bad[i]));
}

static void test_long_names(Case *at, gconstpointer data) {
  g_autoptr(GError) error = NULL;
  g_autoptr(BackupWriter) writer = backup_writer_new(at->path, FALSE, &error);
  g_autofree char *folder = g_strnfill(120, 'f'), *file = g_strnfill(90, 'x'), *wide = g_strnfill(160, 'y');
  g_autofree char *fits = g_strdup_printf("state/%s/%s", folder, file), *not = g_strdup_printf("state/%s", wide);
  g_autofree char *sum = NULL, *none = NULL;
  g_assert_true(backup_writer_bytes(writer, fits, 0600, "1", 1, &sum, &error));
  g_assert_false(backup_writer_bytes(writer, not, 0600, "1", 1, &none, &error));
  g_assert_error(error, CHOIR_BACKUP_ERROR, CHOIR_BACKUP_ERROR_FORMAT);
  g_clear_error(&error);
  g_assert_true(backup_writer_finish(writer, &error));
  g_autoptr(BackupReader) reader = backup_reader_new(at->path, &error);
  const char *name;
  guint mode;
  guint64 length;
  g_assert_cmpint(backup_reader_next(reader, &name, &mode, &length, &error), ==, 1);
  g_assert_cmpstr(name, ==, fits);
}

/* A dropped writer leaves no file; one that is there stays unless it may be replaced. */
static void test_no_halves(Case *at, gconstpointer data) {
  g_autoptr(GError) error = NULL;
  g_autofree char *text = NULL;
  BackupWriter *writer = backup_writer_new(at->path, FALSE, &error);
  g_assert_true(backup_writer_bytes(writer, "state/a", 0600, "1", 1, NULL, &error));
  backup_writer_free(writer);
  g_autoptr(GDir) dir = g_dir_open(at->folder, 0, NULL);
  g_assert_null(g_dir_read_name(dir));
  g_assert_true(g_file_set_contents(at->path, "mine", -1, NULL));
  g_assert_null(backup_writer_new(at->path, FALSE, &error));
  g_assert_nonnull(strstr(error->message, "--force"));
  writer = backup_writer_new(at->path, TRUE, NULL);
  backup_writer_free(writer);
  g_assert_true(g_file_get_contents(at->path, &text, NULL, NULL));
  g_assert_cmpstr(text, ==, "mine");
}

static void test_manifest(void) {
  static const struct {
    const char *text, *why;
  } cases[] = {
      {"", "cannot be read"},
      {"{\"format\":\"other\",\"version\":1,\"files\":[]}", "cannot be read"},
      {"{\"format\":\"choir-backup\",\"version\":2,\"choir\":\"9.9\",\"files\":[]}", "newer Choir (9.9"},
      {"{\"format\":\"choir-backup\",\"version\":1,\"files\":[{\"name\":\"state/a\",\"bytes\":1,\"sha256\":\"ab\"}]}",
       "state/a is missing"},
  };
  for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autoptr(GError) error = NULL;
    json_auto_t *nothing = backup_manifest_new();
    g_assert_false(backup_manifest_check("F", cases[i].text, nothing, &error));
    g_assert_nonnull(strstr(error->message, cases[i].why));
  }
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  alarm(120);
  g_test_add("/backup/round", Case, NULL, setup, test_round, teardown);
  g_test_add("/backup/damage", Case, NULL, setup, test_damage, teardown);
  g_test_add("/backup/long-names", Case, NULL, setup, test_long_names, teardown);
  g_test_add("/backup/no-halves", Case, NULL, setup, test_no_halves, teardown);
  g_test_add_func("/backup/names", test_names);
  g_test_add_func("/backup/manifest", test_manifest);
  return g_test_run();
}
