/* The archive of `choir backup`: a plain POSIX ustar file (IEEE 1003.1-2017, pax) of regular files and folders, which
 * any tar unpacks. Written and read in one pass, nothing but the file at hand in memory. Blocking; one thread. */
#pragma once
#include <glib.h>

#define CHOIR_BACKUP_ERROR (choir_backup_error_quark())
GQuark choir_backup_error_quark(void);
enum { CHOIR_BACKUP_ERROR_IO, CHOIR_BACKUP_ERROR_FORMAT, CHOIR_BACKUP_ERROR_BUSY };

/* choir_relative_ok(), which both sides want, and it fits into a header, whose fields want it cut between two folders.
 */
gboolean backup_name_fits(const char *name);

typedef struct BackupWriter BackupWriter;
/* The file has no name until the end: a writer that is dropped or killed leaves nothing. replace: one that is there. */
BackupWriter *backup_writer_new(const char *path, gboolean replace, GError **error);
/* One member from memory, or from a file of exactly `length` bytes. ret_sha256: caller frees. */
gboolean backup_writer_bytes(BackupWriter *writer, const char *name, guint mode, const void *data, gsize length,
                             char **ret_sha256, GError **error);
gboolean backup_writer_file(BackupWriter *writer, const char *name, guint mode, int fd, guint64 length,
                            char **ret_sha256, GError **error);
/* A folder that would otherwise not be there, as nothing is in it. */
gboolean backup_writer_folder(BackupWriter *writer, const char *name, guint mode, GError **error);
gboolean backup_writer_finish(BackupWriter *writer, GError **error); /* on disk and in its place */
void backup_writer_free(BackupWriter *writer);

typedef struct BackupReader BackupReader;
BackupReader *backup_reader_new(const char *path, GError **error);
/* 1 with the next member's name (until the next call), 0 at the end, -1 with error. ret_mode: permissions, with S_IFDIR
 * for a folder. */
int backup_reader_next(BackupReader *reader, const char **ret_name, guint *ret_mode, guint64 *ret_length,
                       GError **error);
/* The member's bytes, once: into a file, or into memory where it is at most `limit` bytes long. Caller frees both. */
gboolean backup_reader_file(BackupReader *reader, int fd, char **ret_sha256, GError **error);
char *backup_reader_text(BackupReader *reader, gsize limit, GError **error);
guint64 backup_reader_size(const BackupReader *reader); /* of the whole archive */
void backup_reader_free(BackupReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BackupWriter, backup_writer_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BackupReader, backup_reader_free)
