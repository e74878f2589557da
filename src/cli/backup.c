/* choir backup: the state folder and the settings in one file, while the daemon runs or not. */
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cluster/state_snapshot.h"
#include "cli/backup_manifest.h"
#include "cli/backup_tar.h"
#include "cli/cli.h"
#include "daemon/settings.h"

#define NAME "backup"
#define LARGEST (8ll << 30)              /* of one file in the agent's folder */
#define DATABASE_MAGIC "SQLite format 3" /* and a NUL */

static char *option_state;
static gboolean option_force, option_json, option_bare;

static const GOptionEntry entries[] = {
    {"state", 's', 0, G_OPTION_ARG_FILENAME, &option_state, "state folder (default: that of the settings)", "DIR"},
    {"force", 'f', 0, G_OPTION_ARG_NONE, &option_force, "replace a FILE that is there", NULL},
    {"no-work", 0, 0, G_OPTION_ARG_NONE, &option_bare, "without the agent's own folder, which can be large", NULL},
    {"json", 0, 0, G_OPTION_ARG_NONE, &option_json, "print JSON", NULL},
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "Writes conversations, memory with its index, owners, certificates, the audit log, timers, saved states, the\n"
    "settings and the agent's own folder STATE-work (documents, repositories) into FILE, a tar file with a manifest "
    "of\n"
    "SHA-256 sums. Choir may be running. What it makes anew by itself (prompt caches, measurements) is left out, and "
    "so\n"
    "are models and folders of yours that were added to the searchable documents; they are named.\n"
    "FILE holds secrets: keep it where nobody else reads. choir restore FILE brings it back.\n\n"
    "Examples:\n"
    "  choir backup choir-$(date +%F).tar\n"
    "  choir backup --state /var/lib/choir /mnt/usb/choir.tar --force\n\n"
    "Exit codes: 0 done, 1 it failed and FILE is as it was, 2 wrong usage.\n";

typedef struct {
  BackupWriter *writer;
  json_t *manifest;
  guint64 bytes;
  guint skipped;
  gboolean strangers; /* the agent's own folder: whatever its programs left there, nothing of it stops a backup */
} Backup;

/* Made anew by the daemon, or only meant for the one that runs. */
static gboolean left_out(const char *relative) {
  static const char *const names[] = {"lock", "llm-probe.json", "tools.meaning", "slots", "ssh", "standby"};
  static const char *const ends[] = {".sock", "-wal", "-shm", "-journal", ".part", ".torn", "~"};
  for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
    if (g_str_equal(relative, names[i]))
      return TRUE;
  for (gsize i = 0; i < G_N_ELEMENTS(ends); i++)
    if (g_str_has_suffix(relative, ends[i]))
      return TRUE;
  return g_str_has_prefix(relative, "backends-") || g_str_has_prefix(relative, "tls/nginx");
}

static gboolean database_failed(sqlite3 *db, const char *path, GError **error) {
  g_set_error(error, CHOIR_BACKUP_ERROR, CHOIR_BACKUP_ERROR_IO, "cannot copy the database %s: %s", path,
              db ? sqlite3_errmsg(db) : "out of memory");
  return FALSE;
}

/* One moment of a database that others write to, by SQLite's own backup. */
static gboolean add_database(Backup *backup, const char *path, const char *name, guint mode, GError **error) {
  sqlite3 *from = NULL, *copy = NULL;
  unsigned char *image = NULL;
  sqlite3_int64 length = 0;
  g_autofree char *sha256 = NULL;
  gboolean done = FALSE;
  if (sqlite3_open_v2(path, &from, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK &&
      sqlite3_open(":memory:", &copy) == SQLITE_OK) {
    sqlite3_busy_timeout(from, 10000);
    sqlite3_backup *run = sqlite3_backup_init(copy, "main", from, "main");
    int code = run ? sqlite3_backup_step(run, -1) : SQLITE_ERROR;
    sqlite3_backup_finish(run);
    if (code == SQLITE_DONE)
      image = sqlite3_serialize(copy, "main", &length, 0);
  }
  if (!image)
    database_failed(copy && sqlite3_errcode(copy) != SQLITE_OK ? copy : from, path, error);
  else
    done = backup_writer_bytes(backup->writer, name, mode, image, (gsize)length, &sha256, error);
  if (done) {
    backup_manifest_add(backup->manifest, name, (guint64)length, sha256, mode);
    backup->bytes += (guint64)length;
  }
  sqlite3_free(image);
  sqlite3_close(copy);
  sqlite3_close(from);
  return done;
}

/* Folders of the person that the searchable documents come from: they are the person's, and are not taken along. */
static json_t *own_folders(const char *state, const char *work) {
  json_t *list = json_array();
  sqlite3 *db = NULL;
  sqlite3_stmt *statement = NULL;
  g_autofree char *path = g_build_filename(state, "rag.db", NULL), *below = g_strconcat(work, "/", NULL);
  if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK &&
      sqlite3_prepare_v2(db, "SELECT path FROM roots ORDER BY path", -1, &statement, NULL) == SQLITE_OK)
    while (sqlite3_step(statement) == SQLITE_ROW) {
      const char *root = (const char *)sqlite3_column_text(statement, 0);
      if (root && !g_str_equal(root, work) && !g_str_has_prefix(root, below))
        json_array_append_new(list, json_string(root));
    }
  sqlite3_finalize(statement);
  sqlite3_close(db);
  return list;
}

static gboolean add_file(Backup *backup, const char *path, const char *name, GError **error) {
  char magic[sizeof DATABASE_MAGIC];
  struct stat info;
  int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) /* the daemon removed it meanwhile */
    return TRUE;
  if (fd < 0 || fstat(fd, &info) != 0) {
    g_set_error(error, CHOIR_BACKUP_ERROR, CHOIR_BACKUP_ERROR_IO, "cannot read %s: %s%s", path, g_strerror(errno),
                errno == EACCES ? "; run it as the user that Choir runs as, or as root" : "");
    if (fd >= 0)
      close(fd);
    return FALSE;
  }
  guint mode = info.st_mode & 0777;
  gboolean done;
  if (!backup->strangers && pread(fd, magic, sizeof magic, 0) == sizeof magic &&
      memcmp(magic, DATABASE_MAGIC, sizeof magic) == 0) {
    done = add_database(backup, path, name, mode, error);
  } else {
    g_autofree char *sha256 = NULL;
    guint64 length = (guint64)info.st_size;
    if (!backup->strangers && g_str_has_suffix(name, ".jsonl"))
      length = choir_snapshot_whole_lines(fd, length);
    done = backup_writer_file(backup->writer, name, mode, fd, length, &sha256, error);
    if (done)
      backup_manifest_add(backup->manifest, name, length, sha256, mode);
    backup->bytes += length;
  }
  close(fd);
  return done;
}

/* What a program left in the agent's folder: a tar may not be able to keep its name, or nobody may read it. */
static gboolean keeps(const char *name, const char *path, const struct stat *info) {
  return backup_name_fits(name) && info->st_size < LARGEST && access(path, R_OK) == 0;
}

static gboolean add_folder(Backup *backup, const char *root, const char *relative, const char *as, GError **error) {
  g_autofree char *folder = g_build_filename(root, relative, NULL);
  g_autoptr(GError) why = NULL;
  g_autoptr(GDir) dir = g_dir_open(folder, 0, &why);
  if (!dir) {
    g_set_error(error, CHOIR_BACKUP_ERROR, CHOIR_BACKUP_ERROR_IO, "%s", why->message);
    return FALSE;
  }
  guint inside = 0;
  for (const char *entry = g_dir_read_name(dir); entry; entry = g_dir_read_name(dir)) {
    struct stat info;
    g_autofree char *below = *relative ? g_build_filename(relative, entry, NULL) : g_strdup(entry);
    g_autofree char *path = g_build_filename(root, below, NULL), *name = g_strconcat(as, below, NULL);
    if ((!backup->strangers && left_out(below)) || lstat(path, &info) != 0)
      continue;
    if ((!S_ISDIR(info.st_mode) && !S_ISREG(info.st_mode)) || (backup->strangers && !keeps(name, path, &info))) {
      backup->skipped++;
      continue;
    }
    if (S_ISDIR(info.st_mode) ? !add_folder(backup, root, below, as, error) : !add_file(backup, path, name, error))
      return FALSE;
    inside++;
  }
  /* git wants even its empty folders. */
  g_autofree char *empty = g_strconcat(as, relative, NULL);
  return inside > 0 || !backup->strangers || !*relative || backup_writer_folder(backup->writer, empty, 0700, error);
}

static gboolean add_settings(Backup *backup, const char *file, GError **error) {
  g_autofree char *drop_ins = g_strconcat(file, ".d", NULL);
  if (g_file_test(file, G_FILE_TEST_IS_REGULAR) && !add_file(backup, file, BACKUP_SETTINGS "choir.conf", error))
    return FALSE;
  return !g_file_test(drop_ins, G_FILE_TEST_IS_DIR) ||
         add_folder(backup, drop_ins, "", BACKUP_SETTINGS "choir.conf.d/", error);
}

static gboolean add_work(Backup *backup, const char *work, GError **error) {
  if (option_bare || !g_file_test(work, G_FILE_TEST_IS_DIR))
    return TRUE;
  backup->strangers = TRUE;
  json_object_set_new(backup->manifest, "work", json_string(work));
  return add_folder(backup, work, "", BACKUP_WORK, error);
}

static gboolean write_backup(Backup *backup, const char *state, const char *work, const char *settings,
                             GError **error) {
  if (!add_folder(backup, state, "", BACKUP_STATE, error) || !add_settings(backup, settings, error) ||
      !add_work(backup, work, error))
    return FALSE;
  g_autofree char *text = json_dumps(backup->manifest, JSON_INDENT(1));
  return backup_writer_bytes(backup->writer, BACKUP_MANIFEST, 0600, text, strlen(text), NULL, error) &&
         backup_writer_finish(backup->writer, error);
}

int choir_backup_main(int argc, char **argv) {
  if (!choir_cli_parse(NAME, "FILE", description, entries, &argc, &argv))
    return CHOIR_CLI_USAGE;
  if (argc != 2)
    return choir_cli_usage(NAME, argc < 2 ? "FILE is missing" : "one FILE is expected");
  g_autoptr(GError) error = NULL;
  g_autofree char *settings = choir_settings_default_file(), *state = choir_cli_state(option_state, &error);
  if (!state)
    return choir_cli_fail(NAME, "%s", error->message);
  if (!g_file_test(state, G_FILE_TEST_IS_DIR))
    return choir_cli_fail(NAME, "there is no state folder %s; name the one that Choir uses with --state", state);
  g_autoptr(BackupWriter) writer = backup_writer_new(argv[1], option_force, &error);
  if (!writer)
    return choir_cli_fail(NAME, "%s", error->message);
  json_auto_t *manifest = backup_manifest_new();
  Backup backup = {.writer = writer, .manifest = manifest};
  g_autofree char *whole = g_canonicalize_filename(state, NULL), *named = g_strconcat(whole, BACKUP_WORK_SUFFIX, NULL);
  char *real = realpath(named, NULL); /* as the documents' index knows it */
  g_autofree char *work = g_strdup(real ? real : named);
  free(real);
  if (!write_backup(&backup, state, work, settings, &error))
    return choir_cli_fail(NAME, "%s", error->message);
  json_auto_t *folders = own_folders(state, work);
  gsize count = json_array_size(json_object_get(manifest, "files"));
  if (option_json) {
    json_object_set_new(manifest, "file", json_string(argv[1]));
    json_object_set(manifest, "not_included", folders);
    choir_cli_print_json(manifest);
    return CHOIR_CLI_OK;
  }
  printf("%zu files, %.1f MB, from %s into %s\n", count, (double)backup.bytes / 1e6, state, argv[1]);
  if (backup.skipped)
    printf("left out: %u links, sockets, or files with names or sizes that a tar file cannot keep\n", backup.skipped);
  for (size_t i = 0; i < json_array_size(folders); i++)
    printf("not in it: %s, which is your own folder and can be searched as documents\n",
           json_string_value(json_array_get(folders, i)));
  printf("It holds keys and passwords' hashes: keep it where nobody else reads.\n");
  return CHOIR_CLI_OK;
}
