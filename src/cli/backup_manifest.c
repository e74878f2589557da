#include "cli/backup_manifest.h"
#include <string.h>
#include "base/text.h"
#include "base/version.h"
#include "cli/backup_tar.h"

#define FORMAT "choir-backup"
#define VERSION 1

json_t *backup_manifest_new(void) {
  g_autoptr(GDateTime) now = g_date_time_new_now_utc();
  g_autofree char *made = g_date_time_format_iso8601(now);
  return json_pack("{s:s,s:i,s:s,s:s,s:[]}", "format", FORMAT, "version", VERSION, "choir", choir_version(), "made",
                   made, "files");
}

void backup_manifest_add(json_t *manifest, const char *name, guint64 bytes, const char *sha256, guint mode) {
  json_array_append_new(
      json_object_get(manifest, "files"),
      json_pack("{s:s,s:I,s:s,s:i}", "name", name, "bytes", (json_int_t)bytes, "sha256", sha256, "mode", (int)mode));
}

static gboolean wrong(const char *archive, const char *why, const char *name, GError **error) {
  g_set_error(error, CHOIR_BACKUP_ERROR, CHOIR_BACKUP_ERROR_FORMAT, "%s is damaged: %s %s", archive, name, why);
  return FALSE;
}

static gboolean same_files(const char *archive, const json_t *told, const json_t *found, GError **error) {
  g_autoptr(GHashTable) by_name = g_hash_table_new(g_str_hash, g_str_equal);
  size_t i;
  json_t *file;
  json_array_foreach(told, i, file) {
    if (!g_hash_table_insert(by_name, (gpointer)choir_json_string(file, "name", ""), file))
      return wrong(archive, "is listed twice", choir_json_string(file, "name", ""), error);
  }
  json_array_foreach(found, i, file) {
    const char *name = choir_json_string(file, "name", "");
    const json_t *listed = g_hash_table_lookup(by_name, name);
    if (!listed)
      return wrong(archive, "is not in its list, or is in it twice", name, error);
    if (choir_json_int(listed, "bytes", -1) != choir_json_int(file, "bytes", -2) ||
        !g_str_equal(choir_json_string(listed, "sha256", ""), choir_json_string(file, "sha256", "?")))
      return wrong(archive, "is not what was backed up", name, error);
    g_hash_table_remove(by_name, name);
  }
  GHashTableIter iter;
  gpointer name;
  g_hash_table_iter_init(&iter, by_name);
  return !g_hash_table_iter_next(&iter, &name, NULL) || wrong(archive, "is missing in it", name, error);
}

gboolean backup_manifest_check(const char *archive, const char *text, const json_t *unpacked, GError **error) {
  json_auto_t *manifest = choir_json_parse(text, (gssize)strlen(text), NULL);
  gint64 version = choir_json_int(manifest, "version", 0);
  const json_t *files = json_object_get(manifest, "files");
  if (!g_str_equal(choir_json_string(manifest, "format", ""), FORMAT) || version < 1 || !json_is_array(files)) {
    g_set_error(error, CHOIR_BACKUP_ERROR, CHOIR_BACKUP_ERROR_FORMAT,
                "%s is no backup of Choir, or a damaged one: its manifest cannot be read", archive);
    return FALSE;
  }
  if (version > VERSION) {
    g_set_error(error, CHOIR_BACKUP_ERROR, CHOIR_BACKUP_ERROR_FORMAT,
                "%s was made by a newer Choir (%s, this one is %s); update Choir, then restore it", archive,
                choir_json_string(manifest, "choir", "?"), choir_version());
    return FALSE;
  }
  return same_files(archive, files, json_object_get(unpacked, "files"), error);
}
