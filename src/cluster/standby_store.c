#include "cluster/standby_store.h"
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"

#define KEEP 2
#define ROOM_MARGIN (1u << 20) /* stays free */

struct ChoirStandbyStore {
  char *dir, *blocks;
  json_t *newest;
  GHashTable *places; /* choir_state_places() of the newest copy */
};

static char *folder_of(const ChoirStandbyStore *store, ChoirStateAge age) {
  return g_strdup_printf("%s/g-%" G_GINT64_FORMAT "-%" G_GINT64_FORMAT, store->dir, age.epoch, age.generation);
}

static gboolean age_of_name(const char *name, ChoirStateAge *ret_age) {
  int end = 0;
  return sscanf(name, "g-%" G_GINT64_FORMAT "-%" G_GINT64_FORMAT "%n", &ret_age->epoch, &ret_age->generation, &end) ==
             2 &&
         name[end] == '\0';
}

static int newest_first(gconstpointer a, gconstpointer b) {
  return -choir_state_age_compare(*(const ChoirStateAge *)a, *(const ChoirStateAge *)b);
}

static GArray *ages(const ChoirStandbyStore *store) {
  GArray *list = g_array_new(FALSE, FALSE, sizeof(ChoirStateAge));
  g_autoptr(GDir) dir = g_dir_open(store->dir, 0, NULL);
  for (const char *name = dir ? g_dir_read_name(dir) : NULL; name; name = g_dir_read_name(dir)) {
    ChoirStateAge age;
    if (age_of_name(name, &age))
      g_array_append_val(list, age);
  }
  g_array_sort(list, newest_first);
  return list;
}

static void use(ChoirStandbyStore *store, json_t *manifest /* stolen */) {
  g_hash_table_unref(store->places);
  json_decref(store->newest);
  store->newest = manifest;
  store->places = choir_state_places(manifest);
}

static gboolean file_whole(const char *folder, const json_t *file) {
  const char *name = choir_json_string(file, "name", "");
  g_autofree char *path = g_build_filename(folder, "files", name, NULL);
  int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0)
    return FALSE;
  json_auto_t *found = choir_state_file(fd, name, (guint)choir_json_int(file, "mode", 0),
                                        (guint64)choir_json_int(file, "bytes", 0), NULL);
  close(fd);
  return found && json_equal(found, file);
}

/* The manifest of a copy that is whole, NULL with a sentence. */
static json_t *look(const ChoirStandbyStore *store, ChoirStateAge age, GError **error) {
  g_autofree char *folder = folder_of(store, age), *path = g_build_filename(folder, "manifest.json", NULL),
                  *text = NULL;
  gsize length;
  if (!g_file_get_contents(path, &text, &length, error))
    return NULL;
  json_auto_t *manifest = choir_json_parse(text, length, error);
  if (!manifest || !choir_state_manifest_check(manifest, error))
    return NULL;
  const json_t *files = json_object_get(manifest, "files");
  for (size_t i = 0; i < json_array_size(files); i++)
    if (!file_whole(folder, json_array_get(files, i))) {
      g_set_error(error, CHOIR_STATE_ERROR, CHOIR_STATE_ERROR_DAMAGED, "%s in it is not what was stored",
                  choir_json_string(json_array_get(files, i), "name", ""));
      return NULL;
    }
  return json_incref(manifest);
}

static void clear_rest(ChoirStandbyStore *store) {
  g_autoptr(GArray) list = ages(store);
  g_autoptr(GDir) dir = g_dir_open(store->dir, 0, NULL);
  for (guint i = KEEP; i < list->len; i++) {
    g_autofree char *folder = folder_of(store, g_array_index(list, ChoirStateAge, i));
    choir_state_remove_tree(folder);
  }
  for (const char *name = dir ? g_dir_read_name(dir) : NULL; name; name = g_dir_read_name(dir))
    if (g_str_has_suffix(name, ".part")) {
      g_autofree char *path = g_build_filename(store->dir, name, NULL);
      choir_state_remove_tree(path);
    }
  choir_state_remove_tree(store->blocks);
}

ChoirStandbyStore *choir_standby_store_open(const char *dir, GError **error) {
  if (g_mkdir_with_parents(dir, 0700) != 0) {
    choir_state_fail(error, "make the folder", dir);
    return NULL;
  }
  ChoirStandbyStore *store = g_new0(ChoirStandbyStore, 1);
  store->dir = g_strdup(dir);
  store->blocks = g_build_filename(dir, "blocks", NULL);
  store->places = choir_state_places(NULL);
  g_autoptr(GArray) list = ages(store);
  for (guint i = 0; i < list->len && !store->newest; i++) {
    g_autoptr(GError) why = NULL;
    ChoirStateAge age = g_array_index(list, ChoirStateAge, i);
    g_autofree char *folder = folder_of(store, age), *aside = g_strconcat(folder, ".damaged", NULL);
    json_t *manifest = look(store, age, &why);
    if (manifest) {
      use(store, manifest);
      continue;
    }
    choir_warning(CHOIR_TOPIC_CLUSTER, "the copy %s is damaged and was put aside as %s: %s", folder, aside,
                  why->message);
    choir_state_remove_tree(aside);
    (void)g_rename(folder, aside);
  }
  clear_rest(store);
  return store;
}

void choir_standby_store_free(ChoirStandbyStore *store) {
  if (!store)
    return;
  json_decref(store->newest);
  g_hash_table_unref(store->places);
  g_free(store->blocks);
  g_free(store->dir);
  g_free(store);
}

const json_t *choir_standby_store_newest(const ChoirStandbyStore *store) {
  return store->newest;
}

static gboolean room_for(const ChoirStandbyStore *store, guint64 bytes, GError **error) {
  if (choir_state_room(store->dir) > bytes + ROOM_MARGIN)
    return TRUE;
  g_set_error(error, CHOIR_STATE_ERROR, CHOIR_STATE_ERROR_LIMIT,
              "the disk of %s has too little space for a copy of the agent's state; free some there", store->dir);
  return FALSE;
}

gboolean choir_standby_store_put(ChoirStandbyStore *store, const void *block, gsize length, GError **error) {
  g_autofree char *sum = choir_state_sum(block, length), *path = g_build_filename(store->blocks, sum, NULL);
  if (length == 0 || length > CHOIR_STATE_BLOCK) {
    g_set_error(error, CHOIR_STATE_ERROR, CHOIR_STATE_ERROR_LIMIT, "a block has 1 to %u bytes", CHOIR_STATE_BLOCK);
    return FALSE;
  }
  if (!room_for(store, length, error))
    return FALSE;
  if (g_mkdir_with_parents(store->blocks, 0700) != 0)
    return choir_state_fail(error, "make the folder", store->blocks);
  g_autofree char *part = g_strconcat(path, ".new", NULL);
  int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0)
    return choir_state_fail(error, "write", part);
  gboolean done = choir_state_write_all(fd, block, length, error);
  close(fd);
  if (done && g_rename(part, path) != 0)
    done = choir_state_fail(error, "write", path);
  if (!done)
    g_unlink(part);
  return done;
}

/* The block of that sum, from what was put or from the newest copy; FALSE when neither has it as it should be. */
static gboolean find_block(ChoirStandbyStore *store, const char *sum, gsize length, guint8 *ret_block) {
  g_autofree char *path = g_build_filename(store->blocks, sum, NULL);
  const ChoirStatePlace *place = NULL;
  guint64 offset = 0;
  int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0 && (place = g_hash_table_lookup(store->places, sum))) {
    g_autofree char *folder = folder_of(store, choir_state_age(store->newest));
    g_autofree char *from = g_build_filename(folder, "files", place->name, NULL);
    offset = place->offset;
    fd = open(from, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  }
  if (fd < 0)
    return FALSE;
  gboolean read = choir_state_read_at(fd, ret_block, length, offset, NULL);
  close(fd);
  g_autofree char *found = read ? choir_state_sum(ret_block, length) : NULL;
  if (g_strcmp0(found, sum) == 0)
    return TRUE;
  if (place) /* rotten: it must come again */
    g_hash_table_remove(store->places, sum);
  else
    g_unlink(path);
  return FALSE;
}

static gboolean has_block(const ChoirStandbyStore *store, const char *sum) {
  g_autofree char *path = g_build_filename(store->blocks, sum, NULL);
  return g_hash_table_contains(store->places, sum) || g_file_test(path, G_FILE_TEST_IS_REGULAR);
}

static json_t *missing_blocks(const ChoirStandbyStore *store, const json_t *manifest) {
  const json_t *files = json_object_get(manifest, "files");
  g_autoptr(GHashTable) told = g_hash_table_new(g_str_hash, g_str_equal);
  json_t *missing = json_array();
  for (size_t i = 0; i < json_array_size(files); i++) {
    const json_t *blocks = json_object_get(json_array_get(files, i), "blocks");
    for (size_t k = 0; k < json_array_size(blocks); k++) {
      const char *sum = json_string_value(json_array_get(blocks, k));
      if (!has_block(store, sum) && g_hash_table_add(told, (gpointer)sum))
        json_array_append(missing, json_array_get(blocks, k));
    }
  }
  return missing;
}

static const json_t *same_in_newest(const ChoirStandbyStore *store, const json_t *file) {
  const json_t *files = json_object_get(store->newest, "files");
  for (size_t i = 0; i < json_array_size(files); i++)
    if (json_equal(json_array_get(files, i), file))
      return json_array_get(files, i);
  return NULL;
}

/* One file of the next copy. FALSE without error: a block was not what it should be and must come again. */
static gboolean assemble(ChoirStandbyStore *store, const json_t *file, const char *to, GError **error) {
  const json_t *blocks = json_object_get(file, "blocks");
  guint64 left = (guint64)choir_json_int(file, "bytes", 0);
  g_autofree guint8 *block = g_malloc(CHOIR_STATE_BLOCK);
  int fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0)
    return choir_state_fail(error, "write", to);
  gboolean done = TRUE;
  for (size_t i = 0; done && i < json_array_size(blocks); i++) {
    gsize n = (gsize)MIN(CHOIR_STATE_BLOCK, left);
    done = find_block(store, json_string_value(json_array_get(blocks, i)), n, block) &&
           choir_state_write_all(fd, block, n, error);
    left -= n;
  }
  if (done && fsync(fd) != 0)
    done = choir_state_fail(error, "write", to);
  close(fd);
  return done;
}

static gboolean make_file(ChoirStandbyStore *store, const json_t *file, const char *part, GError **error) {
  const char *name = choir_json_string(file, "name", "");
  g_autofree char *to = g_build_filename(part, "files", name, NULL);
  if (!choir_state_make_above(to, error))
    return FALSE;
  if (same_in_newest(store, file)) {
    g_autofree char *folder = folder_of(store, choir_state_age(store->newest));
    g_autofree char *from = g_build_filename(folder, "files", name, NULL);
    if (link(from, to) == 0)
      return TRUE;
  }
  return assemble(store, file, to, error);
}

/* Bytes of the files that must be written anew. */
static guint64 new_bytes(const ChoirStandbyStore *store, const json_t *manifest) {
  const json_t *files = json_object_get(manifest, "files");
  guint64 sum = 0;
  for (size_t i = 0; i < json_array_size(files); i++)
    if (!same_in_newest(store, json_array_get(files, i)))
      sum += (guint64)choir_json_int(json_array_get(files, i), "bytes", 0);
  return sum;
}

static gboolean build(ChoirStandbyStore *store, const json_t *manifest, const char *part, GError **error) {
  const json_t *files = json_object_get(manifest, "files");
  g_autofree char *inside = g_build_filename(part, "files", NULL),
                  *list = g_build_filename(part, "manifest.json", NULL);
  choir_state_remove_tree(part);
  if (!room_for(store, new_bytes(store, manifest), error))
    return FALSE;
  if (g_mkdir_with_parents(inside, 0700) != 0)
    return choir_state_fail(error, "make the folder", inside);
  for (size_t i = 0; i < json_array_size(files); i++)
    if (!make_file(store, json_array_get(files, i), part, error))
      return FALSE;
  g_autofree char *text = choir_json_dump(manifest);
  if (!g_file_set_contents_full(list, text, -1, G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE, 0600,
                                error))
    return FALSE;
  choir_state_sync_folder(inside);
  choir_state_sync_folder(part);
  return TRUE;
}

static gboolean newer(const ChoirStandbyStore *store, const json_t *manifest, GError **error) {
  ChoirStateAge now = choir_state_age(store->newest), age = choir_state_age(manifest);
  if (!store->newest || choir_state_age_compare(age, now) > 0)
    return TRUE;
  g_set_error(error, CHOIR_STATE_ERROR, CHOIR_STATE_ERROR_OLDER,
              "a newer copy is here already: %" G_GINT64_FORMAT ".%" G_GINT64_FORMAT
              " of %s, this one is %" G_GINT64_FORMAT ".%" G_GINT64_FORMAT,
              now.epoch, now.generation, choir_json_string(store->newest, "node", "?"), age.epoch, age.generation);
  return FALSE;
}

json_t *choir_standby_store_commit(ChoirStandbyStore *store, const json_t *manifest, GError **error) {
  if (!choir_state_manifest_check(manifest, error))
    return NULL;
  if (store->newest && json_equal(store->newest, manifest)) /* the answer to the first one was lost */
    return json_array();
  if (!newer(store, manifest, error))
    return NULL;
  json_auto_t *missing = missing_blocks(store, manifest);
  if (json_array_size(missing) > 0)
    return json_incref(missing);
  g_autoptr(GError) problem = NULL;
  g_autofree char *folder = folder_of(store, choir_state_age(manifest)), *part = g_strconcat(folder, ".part", NULL);
  gboolean built = build(store, manifest, part, &problem);
  if (built && g_rename(part, folder) != 0)
    built = choir_state_fail(&problem, "make", folder);
  if (!built) {
    choir_state_remove_tree(part);
    if (problem) {
      g_propagate_error(error, g_steal_pointer(&problem));
      return NULL;
    }
    return missing_blocks(store, manifest);
  }
  choir_state_sync_folder(store->dir);
  use(store, json_deep_copy(manifest));
  clear_rest(store);
  return json_array();
}

static const json_t *file_named(const json_t *manifest, const char *name) {
  const json_t *files = json_object_get(manifest, "files");
  for (size_t i = 0; i < json_array_size(files); i++)
    if (g_str_equal(choir_json_string(json_array_get(files, i), "name", ""), name))
      return json_array_get(files, i);
  return NULL;
}

GBytes *choir_standby_store_read(ChoirStandbyStore *store, ChoirStateAge age, const char *name, guint64 offset,
                                 gsize length, GError **error) {
  const json_t *file = file_named(store->newest, name);
  guint64 bytes = (guint64)choir_json_int(file, "bytes", 0);
  if (!file || choir_state_age_compare(age, choir_state_age(store->newest)) != 0 || offset > bytes) {
    g_set_error(error, CHOIR_STATE_ERROR, CHOIR_STATE_ERROR_CHANGED, "there is another copy here by now");
    return NULL;
  }
  g_autofree char *folder = folder_of(store, age), *path = g_build_filename(folder, "files", name, NULL);
  length = (gsize)MIN(length, bytes - offset);
  int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) {
    choir_state_fail(error, "read", path);
    return NULL;
  }
  g_autofree guint8 *data = g_malloc(length + 1);
  gboolean done = choir_state_read_at(fd, data, length, offset, error);
  close(fd);
  return done ? g_bytes_new_take(g_steal_pointer(&data), length) : NULL;
}
