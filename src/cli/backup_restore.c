/* choir restore: everything is unpacked and looked at beside the state folder first; then the two change places. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "agent/audit.h"
#include "base/text.h"
#include "cli/backup_manifest.h"
#include "cli/backup_tar.h"
#include "cli/cli.h"
#include "daemon/settings.h"
#include "memory/facts.h"
#include "memory/history.h"

#define NAME "restore"

static char *option_state;
static gboolean option_check, option_settings, option_json;

static const GOptionEntry entries[] = {
    {"state", 's', 0, G_OPTION_ARG_FILENAME, &option_state, "state folder (default: that of the settings)", "DIR"},
    {"check", 'c', 0, G_OPTION_ARG_NONE, &option_check, "only look whether FILE is whole", NULL},
    {"settings", 0, 0, G_OPTION_ARG_NONE, &option_settings, "take its settings too where there are others", NULL},
    {"json", 0, 0, G_OPTION_ARG_NONE, &option_json, "print JSON", NULL},
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "Brings back what choir backup wrote. FILE is unpacked beside the state folder and looked at first: sums, "
    "databases,\n"
    "the version. Only then the state folder and the agent's own folder STATE-work are replaced, each in one step, "
    "and\n"
    "those that were there are kept as STATE.before-DATE and STATE-work.before-DATE. Choir must not be running on it.\n"
    "Settings are written where there are none.\n\n"
    "Examples:\n"
    "  choir restore --check choir.tar\n"
    "  choir restore choir.tar\n"
    "  choir restore --state /var/lib/choir --settings /mnt/usb/choir.tar\n\n"
    "Exit codes: 0 done, 1 it failed and everything is as it was, 2 wrong usage.\n";

typedef struct {
  const char *archive;
  char *state, *work, *settings, *staging, *kept, *kept_work;
  char *old_work; /* where the agent's folder was when it was backed up; NULL = it is not in it */
  int lock;       /* of the old state folder */
} Restore;

static gboolean fail(GError **error, const char *verb, const char *path) {
  g_set_error(error, CHOIR_BACKUP_ERROR, CHOIR_BACKUP_ERROR_IO, "cannot %s %s: %s", verb, path, g_strerror(errno));
  return FALSE;
}

static void remove_tree(const char *path) {
  g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
  for (const char *name = dir ? g_dir_read_name(dir) : NULL; name; name = g_dir_read_name(dir)) {
    g_autofree char *below = g_build_filename(path, name, NULL);
    if (g_file_test(below, G_FILE_TEST_IS_DIR) && !g_file_test(below, G_FILE_TEST_IS_SYMLINK))
      remove_tree(below);
    else
      g_unlink(below);
  }
  g_rmdir(path);
}

static gboolean enough_space(const char *folder, guint64 bytes, GError **error) {
  struct statvfs info;
  if (statvfs(folder, &info) != 0 || (guint64)info.f_bavail * info.f_frsize > bytes)
    return TRUE;
  g_set_error(error, CHOIR_BACKUP_ERROR, CHOIR_BACKUP_ERROR_IO, "%s has too little space: %.1f MB are needed", folder,
              (double)bytes / 1e6);
  return FALSE;
}

/* Beside the state folder, so that both can change places; only to look: where temporary files are. */
static gboolean make_staging(Restore *restore, guint64 bytes, GError **error) {
  g_autofree char *above = g_path_get_dirname(restore->state);
  if (!option_check && g_mkdir_with_parents(above, 0700) != 0)
    return fail(error, "make the folder", above);
  g_autofree char *pattern = option_check ? g_build_filename(g_get_tmp_dir(), "choir-restore-XXXXXX", NULL)
                                          : g_strconcat(restore->state, ".restore-XXXXXX", NULL);
  if (!enough_space(option_check ? g_get_tmp_dir() : above, bytes, error))
    return FALSE;
  if (!g_mkdtemp_full(pattern, 0700))
    return fail(error, "make the folder", pattern);
  restore->staging = g_steal_pointer(&pattern);
  return TRUE;
}

static gboolean unpack_member(Restore *restore, BackupReader *reader, const char *name, guint mode, guint64 length,
                              json_t *unpacked, GError **error) {
  if (!g_str_has_prefix(name, BACKUP_STATE) && !g_str_has_prefix(name, BACKUP_SETTINGS) &&
      !g_str_has_prefix(name, BACKUP_WORK)) {
    g_set_error(error, CHOIR_BACKUP_ERROR, CHOIR_BACKUP_ERROR_FORMAT,
                "%s is no backup of Choir: it holds the strange file %s", restore->archive, name);
    return FALSE;
  }
  g_autofree char *own = g_strdup(name), *path = g_build_filename(restore->staging, own, NULL),
                  *folder = g_path_get_dirname(path), *sha256 = NULL;
  if (g_mkdir_with_parents(S_ISDIR(mode) ? path : folder, 0700) != 0)
    return fail(error, "make the folder", folder);
  if (S_ISDIR(mode))
    return TRUE;
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode | 0600);
  if (fd < 0)
    return fail(error, "write", path);
  gboolean done = backup_reader_file(reader, fd, &sha256, error) && (fsync(fd) == 0 || fail(error, "write", path));
  close(fd);
  if (done)
    backup_manifest_add(unpacked, own, length, sha256, mode);
  return done;
}

static gboolean unpack(Restore *restore, GError **error) {
  g_autoptr(BackupReader) reader = backup_reader_new(restore->archive, error);
  json_auto_t *unpacked = backup_manifest_new();
  g_autofree char *manifest = NULL;
  const char *name;
  guint mode;
  guint64 length;
  int got;
  if (!reader || !make_staging(restore, backup_reader_size(reader), error))
    return FALSE;
  while ((got = backup_reader_next(reader, &name, &mode, &length, error)) > 0) {
    if (g_str_equal(name, BACKUP_MANIFEST) && !manifest)
      manifest = backup_reader_text(reader, BACKUP_MANIFEST_MAX, error);
    else if (!unpack_member(restore, reader, name, mode, length, unpacked, error))
      return FALSE;
    if (error && *error)
      return FALSE;
  }
  if (got != 0 || !backup_manifest_check(restore->archive, manifest ? manifest : "", unpacked, error))
    return FALSE;
  json_auto_t *told = choir_json_parse(manifest, (gssize)strlen(manifest), NULL);
  restore->old_work = g_strdup(choir_json_string(told, "work", NULL));
  return TRUE;
}

/* The documents' index names folders of the agent by their whole path, which may be another one now. What it knows of
 * their files it reads anew. */
static gboolean move_documents(Restore *restore, GError **error) {
  g_autofree char *path = g_build_filename(restore->staging, "state", "rag.db", NULL),
                  *below = restore->old_work ? g_strconcat(restore->old_work, "/", NULL) : NULL;
  sqlite3 *db = NULL;
  sqlite3_stmt *statement = NULL;
  if (!below || g_str_equal(restore->old_work, restore->work) || !g_file_test(path, G_FILE_TEST_EXISTS))
    return TRUE;
  gboolean done =
      sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK &&
      (sqlite3_table_column_metadata(db, NULL, "roots", "path", NULL, NULL, NULL, NULL, NULL) != SQLITE_OK ||
       (sqlite3_prepare_v2(db,
                           "UPDATE roots SET path = ?2 || substr(path, length(?1) + 1)"
                           " WHERE path = ?1 OR substr(path, 1, length(?3)) = ?3",
                           -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_bind_text(statement, 1, restore->old_work, -1, SQLITE_STATIC) == SQLITE_OK &&
        sqlite3_bind_text(statement, 2, restore->work, -1, SQLITE_STATIC) == SQLITE_OK &&
        sqlite3_bind_text(statement, 3, below, -1, SQLITE_STATIC) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_DONE));
  if (!done)
    g_set_error(error, CHOIR_BACKUP_ERROR, CHOIR_BACKUP_ERROR_IO, "the index of documents cannot be written: %s",
                sqlite3_errmsg(db));
  sqlite3_finalize(statement);
  sqlite3_close(db);
  return done;
}

static gboolean database_whole(const char *archive, const char *path, GError **error) {
  sqlite3 *db = NULL;
  sqlite3_stmt *statement = NULL;
  gboolean whole = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK &&
                   sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &statement, NULL) == SQLITE_OK &&
                   sqlite3_step(statement) == SQLITE_ROW &&
                   g_strcmp0((const char *)sqlite3_column_text(statement, 0), "ok") == 0;
  if (!whole) {
    g_autofree char *name = g_path_get_basename(path);
    g_set_error(error, CHOIR_BACKUP_ERROR, CHOIR_BACKUP_ERROR_FORMAT, "the database %s in %s is damaged", name,
                archive);
  }
  sqlite3_finalize(statement);
  sqlite3_close(db);
  return whole;
}

/* Opened as the daemon will: a database of a newer version is refused here, an older one is brought up to date. */
static gboolean state_usable(Restore *restore, const char *index, GError **error) {
  g_autofree char *state = g_build_filename(restore->staging, "state", NULL);
  g_autofree char *history = g_build_filename(state, "history.db", NULL),
                  *facts = g_build_filename(state, "facts.db", NULL);
  g_autoptr(GDir) dir = g_dir_open(state, 0, NULL);
  if (!dir) {
    g_set_error(error, CHOIR_BACKUP_ERROR, CHOIR_BACKUP_ERROR_FORMAT, "%s holds no state", restore->archive);
    return FALSE;
  }
  for (const char *name = g_dir_read_name(dir); name; name = g_dir_read_name(dir)) {
    g_autofree char *path = g_build_filename(state, name, NULL);
    if (g_str_has_suffix(name, ".db") && !database_whole(restore->archive, path, error))
      return FALSE;
  }
  if (g_file_test(history, G_FILE_TEST_EXISTS)) {
    ChoirHistory *opened = choir_history_open(history, error);
    if (!opened)
      return FALSE;
    choir_history_close(opened);
  }
  if (g_file_test(facts, G_FILE_TEST_EXISTS)) {
    ChoirFacts *opened = choir_facts_open(state, index, error);
    if (!opened)
      return FALSE;
    choir_facts_close(opened);
  }
  return TRUE;
}

static gboolean lock_state(Restore *restore, GError **error) {
  g_autofree char *path = g_build_filename(restore->state, "lock", NULL);
  restore->lock = open(path, O_RDWR | O_CLOEXEC);
  if (restore->lock < 0 && errno != ENOENT)
    return fail(error, "open", path);
  if (restore->lock < 0 || flock(restore->lock, LOCK_EX | LOCK_NB) == 0)
    return TRUE;
  g_set_error(error, CHOIR_BACKUP_ERROR, CHOIR_BACKUP_ERROR_BUSY,
              "choir runs on %s; stop it, restore, and start it again", restore->state);
  return FALSE;
}

static gboolean give_to(const char *path, uid_t uid, gid_t gid, GError **error) {
  g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
  for (const char *name = dir ? g_dir_read_name(dir) : NULL; name; name = g_dir_read_name(dir)) {
    g_autofree char *below = g_build_filename(path, name, NULL);
    if (!give_to(below, uid, gid, error))
      return FALSE;
  }
  return lchown(path, uid, gid) == 0 || fail(error, "change the owner of", path);
}

/* The old folder, or the one above where there is none yet, says whose the new one is. */
static gboolean keep_owner(Restore *restore, const char *fresh, GError **error) {
  struct stat info;
  if (geteuid() != 0)
    return TRUE;
  g_autofree char *above = g_path_get_dirname(restore->state);
  if (stat(restore->state, &info) != 0 && stat(above, &info) != 0)
    return fail(error, "look at", above);
  return give_to(fresh, info.st_uid, info.st_gid, error);
}

/* The fresh folder in the old one's place, which is kept under a name of its own where there is one. */
static gboolean change_places(const char *fresh, const char *place, char **ret_kept, GError **error) {
  if (!g_file_test(place, G_FILE_TEST_EXISTS))
    return g_rename(fresh, place) == 0 || fail(error, "make", place);
  g_autoptr(GDateTime) now = g_date_time_new_now_local();
  g_autofree char *stamp = g_date_time_format(now, "%Y%m%d-%H%M%S");
  g_autofree char *kept = g_strconcat(place, ".before-", stamp, NULL);
  /* The two change places at once: at no moment is there none. */
  if (renameat2(AT_FDCWD, fresh, AT_FDCWD, place, RENAME_EXCHANGE) != 0)
    return fail(error, "replace", place);
  if (g_rename(fresh, kept) == 0) {
    *ret_kept = g_steal_pointer(&kept);
    return TRUE;
  }
  fail(error, "keep the old folder as", kept);
  (void)renameat2(AT_FDCWD, fresh, AT_FDCWD, place, RENAME_EXCHANGE);
  return FALSE;
}

/* The agent takes a newer copy of its state from other nodes when it starts; what a person brought back stays. */
static gboolean mark_restored(const char *state, GError **error) {
  g_autofree char *folder = g_build_filename(state, "standby", NULL),
                  *path = g_build_filename(folder, "state.json", NULL);
  if (g_mkdir_with_parents(folder, 0700) != 0)
    return fail(error, "make the folder", folder);
  return g_file_set_contents_full(path, "{\"restored\":true}\n", -1, G_FILE_SET_CONTENTS_CONSISTENT, 0600, error);
}

static gboolean put_in_place(Restore *restore, GError **error) {
  g_autofree char *state = g_build_filename(restore->staging, "state", NULL),
                  *work = g_build_filename(restore->staging, "work", NULL);
  gboolean with_work = g_file_test(work, G_FILE_TEST_IS_DIR);
  if (!mark_restored(state, error) || !keep_owner(restore, state, error) ||
      (with_work && !keep_owner(restore, work, error)))
    return FALSE;
  if (with_work && !change_places(work, restore->work, &restore->kept_work, error))
    return FALSE;
  if (change_places(state, restore->state, &restore->kept, error))
    return TRUE;
  if (with_work) { /* back again */
    g_rename(restore->work, work);
    if (restore->kept_work)
      g_rename(restore->kept_work, restore->work);
  }
  return FALSE;
}

/* Returns what to tell about them, NULL for nothing. Caller frees. */
static char *put_settings(Restore *restore) {
  g_autofree char *from = g_build_filename(restore->staging, "settings", "choir.conf", NULL), *text = NULL, *old = NULL;
  gsize length, old_length;
  g_autoptr(GError) error = NULL;
  g_autofree char *folder = g_path_get_dirname(restore->settings);
  if (!g_file_get_contents(from, &text, &length, NULL))
    return NULL;
  gboolean there = g_file_get_contents(restore->settings, &old, &old_length, NULL);
  if (there && old_length == length && memcmp(old, text, length) == 0)
    return NULL;
  if (there && !option_settings)
    return g_strdup_printf("its settings differ from %s, which stays; --settings takes them", restore->settings);
  if (g_mkdir_with_parents(folder, 0755) != 0 ||
      !g_file_set_contents_full(restore->settings, text, (gssize)length, G_FILE_SET_CONTENTS_CONSISTENT, 0600, &error))
    return g_strdup_printf("the settings were not written: %s", error ? error->message : g_strerror(errno));
  return g_strdup_printf("settings written to %s", restore->settings);
}

static char *audit_warning(Restore *restore) {
  g_autofree char *path = g_build_filename(restore->staging, "state", "audit.jsonl", NULL);
  g_autoptr(GError) error = NULL;
  guint64 lines;
  if (!g_file_test(path, G_FILE_TEST_EXISTS) || choir_audit_verify(path, &lines, &error))
    return NULL;
  return g_strdup_printf("the audit log was not intact when it was backed up: %s", error->message);
}

static gboolean run(Restore *restore, char **ret_audit, GError **error) {
  g_autofree char *file = choir_settings_default_file();
  g_autoptr(ChoirConfig) config = choir_config_load(choir_settings, file, error);
  ChoirPaths paths = {0};
  if (!config)
    return FALSE;
  choir_paths_resolve(&paths, config);
  gboolean usable = (option_check || lock_state(restore, error)) && unpack(restore, error) &&
                    state_usable(restore, paths.index, error) && move_documents(restore, error);
  choir_paths_clear(&paths);
  if (!usable)
    return FALSE;
  *ret_audit = audit_warning(restore);
  return option_check || put_in_place(restore, error);
}

static void tell(const Restore *restore, const char *audit, const char *settings) {
  if (option_json) {
    json_auto_t *json =
        json_pack("{s:s,s:b,s:s*,s:s*,s:s*,s:s*}", "state", restore->state, "checked_only", option_check, "kept",
                  restore->kept, "kept_work", restore->kept_work, "audit", audit, "settings", settings);
    choir_cli_print_json(json);
    return;
  }
  if (option_check)
    printf("%s is whole\n", restore->archive);
  else
    printf("restored into %s%s%s\n", restore->state, restore->kept ? "; what was there is in " : "",
           restore->kept ? restore->kept : "");
  if (restore->kept_work)
    printf("the agent's own folder, too; what was there is in %s\n", restore->kept_work);
  if (settings)
    printf("%s\n", settings);
  if (audit)
    printf("%s\n", audit);
}

int choir_restore_main(int argc, char **argv) {
  if (!choir_cli_parse(NAME, "FILE", description, entries, &argc, &argv))
    return CHOIR_CLI_USAGE;
  if (argc != 2)
    return choir_cli_usage(NAME, argc < 2 ? "FILE is missing" : "one FILE is expected");
  g_autoptr(GError) error = NULL;
  Restore restore = {.archive = argv[1], .lock = -1};
  g_autofree char *state = choir_cli_state(option_state, &error), *settings_file = choir_settings_default_file();
  if (!state)
    return choir_cli_fail(NAME, "%s", error->message);
  g_autofree char *work = g_strconcat(state, BACKUP_WORK_SUFFIX, NULL);
  restore.state = state;
  restore.work = work;
  restore.settings = settings_file;
  g_autofree char *audit = NULL;
  gboolean done = run(&restore, &audit, &error);
  g_autofree char *settings = done && !option_check ? put_settings(&restore) : NULL;
  if (done)
    tell(&restore, audit, settings);
  if (restore.staging)
    remove_tree(restore.staging);
  if (restore.lock >= 0)
    close(restore.lock);
  g_free(restore.staging);
  g_free(restore.kept);
  g_free(restore.kept_work);
  g_free(restore.old_work);
  return done ? CHOIR_CLI_OK : choir_cli_fail(NAME, "%s", error->message);
}
