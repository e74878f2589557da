#include "cluster/state_manifest.h"
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "base/file.h"
#include "base/text.h"
#include "base/version.h"

#define FORMAT "choir-state"
#define VERSION 1

G_DEFINE_QUARK(choir - state - error - quark, choir_state_error)

gboolean choir_state_fail(GError **error, const char *verb, const char *path) {
  int code = errno;
  g_set_error(error, CHOIR_STATE_ERROR, code == ENOSPC ? CHOIR_STATE_ERROR_LIMIT : CHOIR_STATE_ERROR_IO,
              "cannot %s %s: %s%s", verb, path, g_strerror(code), code == ENOSPC ? "; free some space there" : "");
  return FALSE;
}

ChoirStateAge choir_state_age(const json_t *manifest) {
  return (ChoirStateAge){.epoch = choir_json_int(manifest, "epoch", 0),
                         .generation = choir_json_int(manifest, "generation", 0)};
}

int choir_state_age_compare(ChoirStateAge a, ChoirStateAge b) {
  if (a.epoch != b.epoch)
    return a.epoch < b.epoch ? -1 : 1;
  return a.generation < b.generation ? -1 : a.generation > b.generation;
}

gboolean choir_state_name_ok(const char *name) {
  gsize first = strcspn(name, "/");
  return choir_relative_ok(name) && !(first == strlen(CHOIR_STATE_OWN) && strncmp(name, CHOIR_STATE_OWN, first) == 0);
}

static gboolean sum_ok(const char *text) {
  return strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64;
}

static gboolean file_ok(const json_t *file) {
  const json_t *blocks = json_object_get(file, "blocks");
  gint64 bytes = choir_json_int(file, "bytes", -1), mode = choir_json_int(file, "mode", -1);
  if (!choir_state_name_ok(choir_json_string(file, "name", "")) || bytes < 0 ||
      (guint64)bytes > CHOIR_STATE_BYTES_MAX || mode < 0 || mode > 0777 ||
      !sum_ok(choir_json_string(file, "sha256", "")) || !json_is_array(blocks) ||
      json_array_size(blocks) != ((guint64)bytes + CHOIR_STATE_BLOCK - 1) / CHOIR_STATE_BLOCK)
    return FALSE;
  for (size_t i = 0; i < json_array_size(blocks); i++) {
    const char *sum = json_string_value(json_array_get(blocks, i));
    if (!sum || !sum_ok(sum))
      return FALSE;
  }
  return TRUE;
}

static gboolean damaged(GError **error, const char *why, const char *name) {
  g_set_error(error, CHOIR_STATE_ERROR, CHOIR_STATE_ERROR_DAMAGED, "the list of a copy is not usable: %s %s", why,
              name);
  return FALSE;
}

/* A name may not be another one's folder: "a" and "a/b". */
static gboolean names_distinct(const json_t *files, GError **error) {
  g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);
  for (size_t i = 0; i < json_array_size(files); i++) {
    const char *name = choir_json_string(json_array_get(files, i), "name", "");
    if (!g_hash_table_add(names, (gpointer)name))
      return damaged(error, "it names twice", name);
  }
  for (size_t i = 0; i < json_array_size(files); i++) {
    const char *name = choir_json_string(json_array_get(files, i), "name", "");
    for (const char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
      g_autofree char *above = g_strndup(name, (gsize)(slash - name));
      if (g_hash_table_contains(names, above))
        return damaged(error, "a file cannot be a folder too:", above);
    }
  }
  return TRUE;
}

gboolean choir_state_manifest_check(const json_t *manifest, GError **error) {
  const json_t *files = json_object_get(manifest, "files");
  ChoirStateAge age = choir_state_age(manifest);
  if (!g_str_equal(choir_json_string(manifest, "format", ""), FORMAT) || !json_is_array(files) || age.epoch < 0 ||
      age.generation < 1 || choir_json_int(manifest, "turns", -1) < 0)
    return damaged(error, "it is no list of", "a copy");
  if (choir_json_int(manifest, "version", 0) != VERSION)
    return damaged(error, "it is of another version of Choir,", choir_json_string(manifest, "choir", "?"));
  if (json_array_size(files) > CHOIR_STATE_FILES_MAX || choir_state_bytes(manifest) > CHOIR_STATE_BYTES_MAX)
    return damaged(error, "it is", "too large");
  for (size_t i = 0; i < json_array_size(files); i++) {
    const json_t *file = json_array_get(files, i);
    g_autofree char *name = choir_utf8(choir_json_string(file, "name", ""), -1);
    if (!file_ok(file))
      return damaged(error, "a wrong entry for", name);
  }
  return names_distinct(files, error);
}

guint64 choir_state_bytes(const json_t *manifest) {
  const json_t *files = json_object_get(manifest, "files");
  guint64 sum = 0;
  for (size_t i = 0; i < json_array_size(files); i++)
    sum += (guint64)CLAMP(choir_json_int(json_array_get(files, i), "bytes", 0), 0, (gint64)CHOIR_STATE_BYTES_MAX);
  return sum;
}

json_t *choir_state_manifest_new(ChoirStateAge age, gint64 turns, const char *node, json_t *files) {
  return json_pack("{s:s,s:i,s:I,s:I,s:I,s:s,s:I,s:s,s:o}", "format", FORMAT, "version", VERSION, "epoch",
                   (json_int_t)age.epoch, "generation", (json_int_t)age.generation, "turns", (json_int_t)turns, "node",
                   node, "made", (json_int_t)(g_get_real_time() / G_USEC_PER_SEC), "choir", choir_version(), "files",
                   files);
}

gboolean choir_state_read_at(int fd, void *data, gsize length, guint64 offset, GError **error) {
  for (char *at = data; length > 0;) {
    ssize_t n = pread(fd, at, length, (off_t)offset);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return choir_state_fail(error, "read", "a file of the state");
    if (n == 0) {
      g_set_error_literal(error, CHOIR_STATE_ERROR, CHOIR_STATE_ERROR_CHANGED,
                          "a file of the state became shorter while it was read");
      return FALSE;
    }
    at += n;
    offset += (guint64)n;
    length -= (gsize)n;
  }
  return TRUE;
}

gboolean choir_state_write_all(int fd, const void *data, gsize length, GError **error) {
  return choir_write_all(fd, data, length) || choir_state_fail(error, "write", "a copy of the state");
}

char *choir_state_sum(const void *data, gsize length) {
  return g_compute_checksum_for_data(G_CHECKSUM_SHA256, data, length);
}

json_t *choir_state_file(int fd, const char *name, guint mode, guint64 length, GError **error) {
  g_autoptr(GChecksum) whole = g_checksum_new(G_CHECKSUM_SHA256);
  g_autofree guint8 *block = g_malloc(CHOIR_STATE_BLOCK);
  json_auto_t *blocks = json_array();
  for (guint64 at = 0; at < length; at += CHOIR_STATE_BLOCK) {
    gsize n = (gsize)MIN(CHOIR_STATE_BLOCK, length - at);
    if (!choir_state_read_at(fd, block, n, at, error))
      return NULL;
    g_checksum_update(whole, block, (gssize)n);
    g_autofree char *sum = choir_state_sum(block, n);
    json_array_append_new(blocks, json_string(sum));
  }
  return json_pack("{s:s,s:i,s:I,s:s,s:O}", "name", name, "mode", (int)mode, "bytes", (json_int_t)length, "sha256",
                   g_checksum_get_string(whole), "blocks", blocks);
}

GHashTable *choir_state_places(const json_t *manifest) {
  const json_t *files = json_object_get(manifest, "files");
  GHashTable *places = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, g_free);
  for (size_t i = 0; i < json_array_size(files); i++) {
    const json_t *file = json_array_get(files, i), *blocks = json_object_get(file, "blocks");
    guint64 bytes = (guint64)choir_json_int(file, "bytes", 0);
    for (size_t k = 0; k < json_array_size(blocks); k++) {
      ChoirStatePlace *place = g_new0(ChoirStatePlace, 1);
      place->name = choir_json_string(file, "name", "");
      place->offset = (guint64)k * CHOIR_STATE_BLOCK;
      place->length = (gsize)MIN(CHOIR_STATE_BLOCK, bytes - place->offset);
      g_hash_table_replace(places, (gpointer)json_string_value(json_array_get(blocks, k)), place);
    }
  }
  return places;
}

static int by_name(gconstpointer a, gconstpointer b) {
  return strcmp(choir_json_string(*(json_t *const *)a, "name", ""), choir_json_string(*(json_t *const *)b, "name", ""));
}

static GPtrArray *sorted(const json_t *manifest) {
  const json_t *files = json_object_get(manifest, "files");
  GPtrArray *list = g_ptr_array_new();
  for (size_t i = 0; i < json_array_size(files); i++)
    g_ptr_array_add(list, json_array_get(files, i));
  g_ptr_array_sort(list, by_name);
  return list;
}

gboolean choir_state_same_files(const json_t *a, const json_t *b) {
  g_autoptr(GPtrArray) left = sorted(a), right = sorted(b);
  if (left->len != right->len)
    return FALSE;
  for (guint i = 0; i < left->len; i++)
    if (!json_equal(left->pdata[i], right->pdata[i]))
      return FALSE;
  return TRUE;
}

void choir_state_remove_tree(const char *path) {
  g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
  for (const char *name = dir ? g_dir_read_name(dir) : NULL; name; name = g_dir_read_name(dir)) {
    g_autofree char *below = g_build_filename(path, name, NULL);
    if (g_file_test(below, G_FILE_TEST_IS_DIR) && !g_file_test(below, G_FILE_TEST_IS_SYMLINK))
      choir_state_remove_tree(below);
    else
      g_unlink(below);
  }
  g_rmdir(path);
}

gboolean choir_state_make_above(const char *path, GError **error) {
  g_autofree char *folder = g_path_get_dirname(path);
  return g_mkdir_with_parents(folder, 0700) == 0 || choir_state_fail(error, "make the folder", folder);
}

void choir_state_sync_folder(const char *path) {
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0) {
    fsync(fd);
    close(fd);
  }
}

guint64 choir_state_room(const char *path) {
  struct statvfs info;
  return statvfs(path, &info) == 0 ? (guint64)info.f_bavail * info.f_frsize : G_MAXUINT64;
}
