/* The state folder's files change places with what was fetched. The folder itself stays: it is locked, and the one
 * above may belong to somebody else. STATE/standby/swap names the folder for the old files and the step, so that what a
 * power cut interrupts is brought to its end at the next start. */
#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"
#include "cluster/ship_private.h"

#define KEEP_REPLACED 3

gboolean choir_ship_write_state(const char *own, ChoirStateAge age, gint64 turns, const json_t *taken, GError **error) {
  g_autofree char *path = g_build_filename(own, "state.json", NULL);
  json_auto_t *json = json_pack("{s:I,s:I,s:I,s:O?}", "epoch", (json_int_t)age.epoch, "generation",
                                (json_int_t)age.generation, "turns", (json_int_t)turns, "taken", taken);
  g_autofree char *text = choir_json_dump(json);
  if (g_mkdir_with_parents(own, 0700) != 0)
    return choir_state_fail(error, "make the folder", own);
  return g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE, 0600,
                                  error);
}

static gboolean write_step(const char *own, const char *step, const char *kept, GError **error) {
  g_autofree char *path = g_build_filename(own, "swap", NULL), *text = g_strdup_printf("%s %s\n", step, kept);
  return g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE, 0600,
                                  error);
}

/* The top-level names of a folder that move. */
static GPtrArray *moving(const char *folder) {
  GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
  g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
  for (const char *name = dir ? g_dir_read_name(dir) : NULL; name; name = g_dir_read_name(dir)) {
    gboolean log =
        g_str_has_suffix(name, "-wal") || g_str_has_suffix(name, "-shm") || g_str_has_suffix(name, "-journal");
    if (log || !choir_snapshot_left_out(name)) /* a database's log goes with it */
      g_ptr_array_add(names, g_strdup(name));
  }
  return names;
}

static gboolean move_all(const char *from, const char *to, GError **error) {
  g_autoptr(GPtrArray) names = moving(from);
  if (g_mkdir_with_parents(to, 0700) != 0)
    return choir_state_fail(error, "make the folder", to);
  for (guint i = 0; i < names->len; i++) {
    g_autofree char *old = g_build_filename(from, names->pdata[i], NULL),
                    *new = g_build_filename(to, names->pdata[i], NULL);
    if (g_rename(old, new) != 0)
      return choir_state_fail(error, "move", old);
  }
  choir_state_sync_folder(to);
  choir_state_sync_folder(from);
  return TRUE;
}

static int by_text(gconstpointer a, gconstpointer b) {
  return strcmp(*(char *const *)b, *(char *const *)a);
}

static void forget_oldest(const char *own) {
  g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
  g_autoptr(GDir) dir = g_dir_open(own, 0, NULL);
  for (const char *name = dir ? g_dir_read_name(dir) : NULL; name; name = g_dir_read_name(dir))
    if (g_str_has_prefix(name, "replaced-"))
      g_ptr_array_add(names, g_strdup(name));
  g_ptr_array_sort(names, by_text);
  for (guint i = KEEP_REPLACED; i < names->len; i++) {
    g_autofree char *path = g_build_filename(own, names->pdata[i], NULL);
    choir_state_remove_tree(path);
  }
}

/* From a step on to the end. Each may be done twice. */
static gboolean go_on(const char *state, const char *own, gboolean old_moved, const char *kept, GError **error) {
  g_autofree char *incoming = g_build_filename(own, "incoming", NULL), *swap = g_build_filename(own, "swap", NULL),
                  *replaced = g_build_filename(own, kept, NULL);
  if (!old_moved && (!move_all(state, replaced, error) || !write_step(own, "new", kept, error)))
    return FALSE;
  if (!move_all(incoming, state, error))
    return FALSE;
  choir_state_remove_tree(incoming);
  g_unlink(swap);
  choir_state_sync_folder(own);
  g_rmdir(replaced); /* there was nothing before */
  forget_oldest(own);
  return TRUE;
}

gboolean choir_ship_swap(const char *state, const char *own, char **ret_kept, GError **error) {
  g_autoptr(GDateTime) now = g_date_time_new_now_utc();
  g_autofree char *stamp = g_date_time_format(now, "%Y%m%d-%H%M%S");
  g_autofree char *kept = g_strdup_printf("replaced-%s-%06d", stamp, g_date_time_get_microsecond(now));
  g_autofree char *path = g_build_filename(own, kept, NULL);
  if (!write_step(own, "old", kept, error) || !go_on(state, own, FALSE, kept, error))
    return FALSE;
  *ret_kept = g_file_test(path, G_FILE_TEST_IS_DIR) ? g_steal_pointer(&path) : NULL;
  return TRUE;
}

gboolean choir_ship_finish_swap(const char *state, const char *own, GError **error) {
  g_autofree char *path = g_build_filename(own, "swap", NULL), *text = NULL;
  if (!g_file_get_contents(path, &text, NULL, NULL))
    return TRUE;
  g_auto(GStrv) words = g_strsplit(g_strstrip(text), " ", 2);
  if (!words[0] || !words[1] || !g_str_has_prefix(words[1], "replaced-") || strchr(words[1], '/')) {
    g_set_error(error, CHOIR_STATE_ERROR, CHOIR_STATE_ERROR_DAMAGED,
                "%s is damaged; look into %s for the files of the state, and remove it", path, own);
    return FALSE;
  }
  choir_warning(CHOIR_TOPIC_CLUSTER, "a takeover that was interrupted is brought to its end");
  return go_on(state, own, g_str_equal(words[0], "new"), words[1], error);
}
