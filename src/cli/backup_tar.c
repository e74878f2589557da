#include "cli/backup_tar.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"

#define BLOCK 512
#define CHUNK (128 * 1024)
#define LENGTH_MAX 077777777777ull /* eleven octal digits */

typedef struct {
  char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[6], version[2],
      user[32], group[32], major[8], minor[8], prefix[155], pad[12];
} Header;
G_STATIC_ASSERT(sizeof(Header) == BLOCK);

G_DEFINE_QUARK(choir - backup - error - quark, choir_backup_error)

struct BackupWriter {
  char *path, *part; /* part: the name until the end, where the file system knows no nameless files */
  int fd;
  gboolean replace;
};

struct BackupReader {
  char *path;
  int fd;
  guint64 size, left, padding;
  char name[257];
};

static gboolean fail(GError **error, const char *path, const char *verb) {
  int code = errno;
  g_set_error(error, CHOIR_BACKUP_ERROR, CHOIR_BACKUP_ERROR_IO, "cannot %s %s: %s%s", verb, path, g_strerror(code),
              code == ENOSPC ? "; free some space and try again" : "");
  return FALSE;
}

static gboolean damaged(BackupReader *reader, const char *why, GError **error) {
  g_set_error(error, CHOIR_BACKUP_ERROR, CHOIR_BACKUP_ERROR_FORMAT, "%s is no backup of Choir, or a damaged one: %s",
              reader->path, why);
  return FALSE;
}

static gboolean write_all(BackupWriter *writer, const void *data, gsize length, GError **error) {
  return choir_write_all(writer->fd, data, length) || fail(error, writer->path, "write");
}

BackupWriter *backup_writer_new(const char *path, gboolean replace, GError **error) {
  if (!replace && g_file_test(path, G_FILE_TEST_EXISTS)) {
    g_set_error(error, CHOIR_BACKUP_ERROR, CHOIR_BACKUP_ERROR_IO, "%s is there already; --force replaces it", path);
    return NULL;
  }
  BackupWriter *writer = g_new0(BackupWriter, 1);
  g_autofree char *folder = g_path_get_dirname(path);
  writer->path = g_strdup(path);
  writer->replace = replace;
  writer->fd = open(folder, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
  if (writer->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
    writer->part = g_strconcat(path, ".part", NULL);
    writer->fd = open(writer->part, O_CREAT | O_TRUNC | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0600);
  }
  if (writer->fd >= 0)
    return writer;
  fail(error, path, "write");
  g_clear_pointer(&writer->part, g_free);
  backup_writer_free(writer);
  return NULL;
}

/* The prefix takes whole folders where the name is longer than its own field. */
static gboolean put_name(Header *header, const char *name) {
  gsize length = strlen(name);
  const char *split = name;
  while (length - (gsize)(split - name) > sizeof header->name)
    if (!(split = strchr(split, '/')) || !*++split)
      return FALSE;
  gsize before = split > name ? (gsize)(split - name) - 1 : 0;
  if (before > sizeof header->prefix)
    return FALSE;
  memcpy(header->prefix, name, before);
  memcpy(header->name, split, length - (gsize)(split - name));
  return TRUE;
}

static guint checksum_of(const Header *header) {
  guint sum = 0;
  for (gsize i = 0; i < BLOCK; i++)
    sum += i >= offsetof(Header, checksum) && i < offsetof(Header, type) ? ' ' : ((const guint8 *)header)[i];
  return sum;
}

gboolean backup_name_fits(const char *name) {
  Header header;
  return choir_relative_ok(name) && put_name(&header, name);
}

static gboolean put_header(BackupWriter *writer, const char *name, guint mode, guint64 length, GError **error) {
  Header header = {.type = S_ISDIR(mode) ? '5' : '0', .magic = "ustar", .version = {'0', '0'}};
  if (!choir_relative_ok(name) || length > LENGTH_MAX || !put_name(&header, name)) {
    g_set_error(error, CHOIR_BACKUP_ERROR, CHOIR_BACKUP_ERROR_FORMAT,
                "%s cannot be kept in a backup: its name is too long or strange, or it is larger than 8 GB", name);
    return FALSE;
  }
  g_snprintf(header.mode, sizeof header.mode, "%07o", mode & 0777);
  g_snprintf(header.uid, sizeof header.uid, "%07o", 0);
  g_snprintf(header.gid, sizeof header.gid, "%07o", 0);
  g_snprintf(header.size, sizeof header.size, "%011llo", (unsigned long long)length);
  g_snprintf(header.mtime, sizeof header.mtime, "%011llo", (unsigned long long)(g_get_real_time() / G_USEC_PER_SEC));
  g_snprintf(header.checksum, sizeof header.checksum, "%06o", checksum_of(&header));
  header.checksum[7] = ' ';
  return write_all(writer, &header, sizeof header, error);
}

static gboolean put_padding(BackupWriter *writer, guint64 length, GError **error) {
  static const char zeros[BLOCK];
  return length % BLOCK == 0 || write_all(writer, zeros, BLOCK - length % BLOCK, error);
}

gboolean backup_writer_bytes(BackupWriter *writer, const char *name, guint mode, const void *data, gsize length,
                             char **ret_sha256, GError **error) {
  if (!put_header(writer, name, mode, length, error) || !write_all(writer, data, length, error) ||
      !put_padding(writer, length, error))
    return FALSE;
  if (ret_sha256)
    *ret_sha256 = g_compute_checksum_for_data(G_CHECKSUM_SHA256, data, length);
  return TRUE;
}

gboolean backup_writer_file(BackupWriter *writer, const char *name, guint mode, int fd, guint64 length,
                            char **ret_sha256, GError **error) {
  g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
  g_autofree guint8 *chunk = g_malloc(CHUNK);
  if (!put_header(writer, name, mode, length, error))
    return FALSE;
  for (guint64 left = length; left > 0;) {
    ssize_t n = read(fd, chunk, MIN(left, CHUNK));
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return fail(error, name, "read");
    if (n == 0) {
      g_set_error(error, CHOIR_BACKUP_ERROR, CHOIR_BACKUP_ERROR_IO, "%s became shorter while it was read; try again",
                  name);
      return FALSE;
    }
    g_checksum_update(sum, chunk, n);
    if (!write_all(writer, chunk, (gsize)n, error))
      return FALSE;
    left -= (guint64)n;
  }
  *ret_sha256 = g_strdup(g_checksum_get_string(sum));
  return put_padding(writer, length, error);
}

gboolean backup_writer_folder(BackupWriter *writer, const char *name, guint mode, GError **error) {
  return put_header(writer, name, (mode & 0777) | S_IFDIR, 0, error);
}

static gboolean give_name(BackupWriter *writer, GError **error) {
  if (!writer->part) {
    g_autofree char *from = g_strdup_printf("/proc/self/fd/%d", writer->fd);
    if (!writer->replace)
      return linkat(AT_FDCWD, from, AT_FDCWD, writer->path, AT_SYMLINK_FOLLOW) == 0 ||
             fail(error, writer->path, "make");
    g_autofree char *part = g_strconcat(writer->path, ".part", NULL);
    unlink(part);
    if (linkat(AT_FDCWD, from, AT_FDCWD, part, AT_SYMLINK_FOLLOW) != 0)
      return fail(error, part, "make");
    writer->part = g_steal_pointer(&part);
  }
  if (rename(writer->part, writer->path) != 0)
    return fail(error, writer->path, "make");
  g_clear_pointer(&writer->part, g_free);
  return TRUE;
}

gboolean backup_writer_finish(BackupWriter *writer, GError **error) {
  static const char end[2 * BLOCK];
  if (!write_all(writer, end, sizeof end, error))
    return FALSE;
  if (fsync(writer->fd) != 0)
    return fail(error, writer->path, "write");
  if (!give_name(writer, error))
    return FALSE;
  g_autofree char *folder = g_path_get_dirname(writer->path);
  int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  gboolean synced = fd >= 0 && fsync(fd) == 0;
  if (!synced)
    fail(error, folder, "write");
  if (fd >= 0)
    close(fd);
  return synced;
}

void backup_writer_free(BackupWriter *writer) {
  if (!writer)
    return;
  if (writer->part)
    unlink(writer->part);
  if (writer->fd >= 0)
    close(writer->fd);
  g_free(writer->part);
  g_free(writer->path);
  g_free(writer);
}

BackupReader *backup_reader_new(const char *path, GError **error) {
  struct stat info;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0 || fstat(fd, &info) != 0) {
    fail(error, path, "read");
    if (fd >= 0)
      close(fd);
    return NULL;
  }
  BackupReader *reader = g_new0(BackupReader, 1);
  reader->path = g_strdup(path);
  reader->fd = fd;
  reader->size = (guint64)info.st_size;
  if (S_ISREG(info.st_mode) || damaged(reader, "it is no regular file", error))
    return reader;
  backup_reader_free(reader);
  return NULL;
}

static gboolean read_all(BackupReader *reader, void *data, gsize length, GError **error) {
  for (char *at = data; length > 0;) {
    ssize_t n = read(reader->fd, at, length);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return fail(error, reader->path, "read");
    if (n == 0)
      return damaged(reader, "it ends too early", error);
    at += n;
    length -= (gsize)n;
  }
  return TRUE;
}

/* Octal digits up to a blank or the field's end; -1 for anything else. */
static gint64 octal(const char *field, gsize length) {
  gint64 value = 0;
  gsize i = 0;
  for (; i < length && field[i] >= '0' && field[i] <= '7'; i++)
    value = value * 8 + (field[i] - '0');
  return i == 0 || (i < length && field[i] != '\0' && field[i] != ' ') ? -1 : value;
}

static gboolean take_name(BackupReader *reader, const Header *header) {
  int prefix = (int)strnlen(header->prefix, sizeof header->prefix);
  int name = (int)strnlen(header->name, sizeof header->name);
  g_snprintf(reader->name, sizeof reader->name, "%.*s%s%.*s", prefix, header->prefix, prefix ? "/" : "", name,
             header->name);
  return choir_relative_ok(reader->name);
}

int backup_reader_next(BackupReader *reader, const char **ret_name, guint *ret_mode, guint64 *ret_length,
                       GError **error) {
  static const char zeros[BLOCK];
  Header header;
  if (reader->left + reader->padding > 0 && lseek(reader->fd, (off_t)(reader->left + reader->padding), SEEK_CUR) < 0) {
    fail(error, reader->path, "read");
    return -1;
  }
  reader->left = reader->padding = 0;
  if (!read_all(reader, &header, sizeof header, error))
    return -1;
  if (memcmp(&header, zeros, BLOCK) == 0)
    return 0;
  gint64 length = octal(header.size, sizeof header.size), mode = octal(header.mode, sizeof header.mode);
  const char *why = NULL;
  if (memcmp(header.magic, "ustar", 5) != 0 ||
      octal(header.checksum, sizeof header.checksum) != (gint64)checksum_of(&header))
    why = "it is no tar file";
  else if (header.type != '0' && header.type != '\0' && header.type != '5')
    why = "it holds something else than plain files";
  else if ((header.type == '5' && length != 0) || length < 0 || mode < 0 || !take_name(reader, &header))
    why = "a name or a size in it is not allowed";
  else if ((guint64)length > reader->size)
    why = "it ends too early";
  if (why) {
    damaged(reader, why, error);
    return -1;
  }
  reader->left = (guint64)length;
  reader->padding = (BLOCK - reader->left % BLOCK) % BLOCK;
  *ret_name = reader->name;
  *ret_mode = ((guint)mode & 0777) | (header.type == '5' ? S_IFDIR : 0);
  *ret_length = reader->left;
  return 1;
}

gboolean backup_reader_file(BackupReader *reader, int fd, char **ret_sha256, GError **error) {
  g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
  g_autofree guint8 *chunk = g_malloc(CHUNK);
  BackupWriter out = {.fd = fd, .path = reader->name};
  while (reader->left > 0) {
    gsize n = MIN(reader->left, CHUNK);
    if (!read_all(reader, chunk, n, error) || !write_all(&out, chunk, n, error))
      return FALSE;
    g_checksum_update(sum, chunk, (gssize)n);
    reader->left -= n;
  }
  *ret_sha256 = g_strdup(g_checksum_get_string(sum));
  return TRUE;
}

char *backup_reader_text(BackupReader *reader, gsize limit, GError **error) {
  if (reader->left > limit) {
    damaged(reader, "its manifest is too large", error);
    return NULL;
  }
  g_autofree char *text = g_malloc0(reader->left + 1);
  if (!read_all(reader, text, reader->left, error))
    return NULL;
  reader->left = 0;
  return g_steal_pointer(&text);
}

guint64 backup_reader_size(const BackupReader *reader) {
  return reader->size;
}

void backup_reader_free(BackupReader *reader) {
  if (!reader)
    return;
  if (reader->fd >= 0)
    close(reader->fd);
  g_free(reader->path);
  g_free(reader);
}
