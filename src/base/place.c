#include "base/place.h"
#include <stdarg.h>
#include <string.h>

/* PREFIX of PREFIX/bin/choir and of PREFIX/lib/choir/choir-ear. NULL: neither. Caller frees. */
static char *prefix_of(const char *own) {
  g_autofree char *above = g_path_get_dirname(own);
  g_autofree char *library = g_build_filename(above, "lib", "choir", NULL);
  if ((g_str_has_suffix(own, "/bin") || g_str_has_suffix(own, "/sbin")) && g_file_test(library, G_FILE_TEST_IS_DIR))
    return g_steal_pointer(&above);
  return g_str_has_suffix(own, "/lib/choir") ? g_path_get_dirname(above) : NULL;
}

/* /etc for /usr and /usr/local, and the etc beside usr for a package that was only unpacked. */
static char *settings_of(const char *prefix) {
  g_autofree char *root = g_path_get_dirname(prefix);
  g_autofree char *below = g_build_filename(g_str_has_suffix(prefix, "/usr") ? root : prefix, "etc", "choir", NULL);
  return g_file_test(below, G_FILE_TEST_IS_DIR) ? g_steal_pointer(&below) : g_strdup("/etc/choir");
}

void choir_place_find(ChoirPlace *place, const char *program) {
  g_autofree char *self = program ? g_strdup(program) : g_file_read_link("/proc/self/exe", NULL);
  *place = (ChoirPlace){.own = self ? g_path_get_dirname(self) : g_strdup(".")};
  g_autofree char *prefix = prefix_of(place->own);
  if (!prefix)
    return;
  place->installed = TRUE;
  place->library = g_build_filename(prefix, "lib", "choir", NULL);
  place->data = g_build_filename(prefix, "share", "choir", NULL);
  place->settings = settings_of(prefix);
}

void choir_place_clear(ChoirPlace *place) {
  g_clear_pointer(&place->own, g_free);
  g_clear_pointer(&place->library, g_free);
  g_clear_pointer(&place->data, g_free);
  g_clear_pointer(&place->settings, g_free);
}

char *choir_place_first(const char *setting, ...) {
  if (setting && *setting)
    return g_strdup(setting);
  va_list list;
  va_start(list, setting);
  const char *last = NULL;
  for (const char *path = va_arg(list, const char *); path; path = va_arg(list, const char *)) {
    last = path;
    if (g_file_test(path, G_FILE_TEST_EXISTS))
      break;
  }
  va_end(list);
  return g_strdup(last);
}
