#include "memory/index.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <unistd.h>
#include "memory/index_module.h"

#define WHY_MAX 300

G_DEFINE_QUARK(choir - index - error - quark, choir_index_error)

struct ChoirIndex {
  const ChoirIndexModule *module;
  void *self;
};

/* Stays open: FAISS's thread pool cannot be unloaded. */
static const ChoirIndexModule *open_module(const char *path, GError **error) {
  void *handle = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
  const ChoirIndexModule *module = handle ? dlsym(handle, CHOIR_INDEX_MODULE_SYMBOL) : NULL;
  if (module && module->version == CHOIR_INDEX_MODULE_VERSION)
    return module;
  const char *why = !path    ? "it was not built; install libfaiss-dev and build again"
                    : handle ? "it is another version"
                             : dlerror();
  g_set_error(error, CHOIR_INDEX_ERROR, CHOIR_INDEX_ERROR_MODULE, "there is no choir-index.so: %s", why);
  return NULL;
}

static ChoirIndex *wrap(const ChoirIndexModule *module, void *self) {
  ChoirIndex *index = g_new0(ChoirIndex, 1);
  index->module = module;
  index->self = self;
  return index;
}

static gboolean failed(GError **error, int code, const char *what, const char *why) {
  g_set_error(error, CHOIR_INDEX_ERROR, code, "%s: %s", what, why);
  return FALSE;
}

ChoirIndex *choir_index_new(const char *path, guint dimensions, GError **error) {
  char why[WHY_MAX] = "";
  const ChoirIndexModule *module = open_module(path, error);
  void *self = module ? module->make((int)dimensions, why, sizeof why) : NULL;
  if (module && !self)
    failed(error, CHOIR_INDEX_ERROR_MEMORY, "the index cannot be made", why);
  return self ? wrap(module, self) : NULL;
}

ChoirIndex *choir_index_load(const char *path, const char *file, guint dimensions, GError **error) {
  char why[WHY_MAX] = "";
  const ChoirIndexModule *module = open_module(path, error);
  void *self = module ? module->load(file, (int)dimensions, why, sizeof why) : NULL;
  if (module && !self)
    failed(error, CHOIR_INDEX_ERROR_FILE, file, why);
  return self ? wrap(module, self) : NULL;
}

void choir_index_free(ChoirIndex *index) {
  if (!index)
    return;
  index->module->drop(index->self);
  g_free(index);
}

static gboolean sync_path(const char *path, int flags) {
  int fd = open(path, flags | O_CLOEXEC);
  gboolean good = fd >= 0 && fsync(fd) == 0;
  if (fd >= 0)
    close(fd);
  return good;
}

gboolean choir_index_save(ChoirIndex *index, const char *path, GError **error) {
  char why[WHY_MAX] = "";
  g_autofree char *temporary = g_strconcat(path, ".tmp", NULL);
  g_autofree char *folder = g_path_get_dirname(path);
  if (!index->module->save(index->self, temporary, why, sizeof why)) {
    g_unlink(temporary);
    return failed(error, CHOIR_INDEX_ERROR_FILE, path, why);
  }
  if (!sync_path(temporary, O_RDONLY) || g_rename(temporary, path) != 0 || !sync_path(folder, O_RDONLY | O_DIRECTORY)) {
    int code = errno;
    g_unlink(temporary);
    return failed(error, CHOIR_INDEX_ERROR_FILE, path, g_strerror(code));
  }
  return TRUE;
}

gboolean choir_index_add(ChoirIndex *index, const gint64 *ids, const float *vectors, gsize n, GError **error) {
  char why[WHY_MAX] = "";
  G_STATIC_ASSERT(sizeof(gint64) == sizeof(int64_t));
  return n == 0 || index->module->add(index->self, (const int64_t *)ids, vectors, n, why, sizeof why) ||
         failed(error, CHOIR_INDEX_ERROR_MEMORY, "the index cannot grow", why);
}

gboolean choir_index_remove(ChoirIndex *index, gint64 id, GError **error) {
  char why[WHY_MAX] = "";
  return index->module->take(index->self, id, why, sizeof why) ||
         failed(error, CHOIR_INDEX_ERROR_MEMORY, "the index cannot be changed", why);
}

guint choir_index_search(ChoirIndex *index, const float *query, guint k, gint64 *ret_ids, float *ret_scores,
                         GError **error) {
  char why[WHY_MAX] = "";
  guint found = 0;
  if (k == 0 || choir_index_count(index) == 0)
    return 0;
  if (!index->module->search(index->self, query, (int)k, (int64_t *)ret_ids, ret_scores, why, sizeof why)) {
    failed(error, CHOIR_INDEX_ERROR_MEMORY, "the index cannot be searched", why);
    return G_MAXUINT;
  }
  while (found < k && ret_ids[found] >= 0)
    found++;
  return found;
}

gsize choir_index_count(const ChoirIndex *index) {
  return index->module->count(index->self);
}
