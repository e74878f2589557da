#include "agent/audit.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/scrub.h"
#include "base/text.h"

#define LINE_MAX_BYTES (1u << 20)
#define FIRST "0000000000000000000000000000000000000000000000000000000000000000"

struct ChoirAudit {
  int fd;
  char *path;
  guint64 seq;
  char prev[65];
};

static void fail(GError **error, const char *what, const char *path) {
  int code = errno;
  g_set_error(error, G_FILE_ERROR, (int)g_file_error_from_errno(code),
              "%s the audit log %s: %s; nothing that must be logged will run", what, path, g_strerror(code));
}

static void hash_line(const char *line, gsize length, char ret_hash[65]) {
  g_autofree char *hash = g_compute_checksum_for_data(G_CHECKSUM_SHA256, (const guchar *)line, length);
  g_strlcpy(ret_hash, hash, 65);
}

/* One line of the chain; FALSE with what is wrong with it. */
static gboolean check_line(const char *line, gsize length, guint64 seq, const char *prev, const char **ret_why) {
  json_error_t where;
  json_t *json = json_loadb(line, length, JSON_REJECT_DUPLICATES, &where);
  *ret_why = NULL;
  if (!json_is_object(json))
    *ret_why = "is no JSON object";
  else if ((guint64)choir_json_int(json, "seq", -1) != seq)
    *ret_why = "is not the next in number: lines were removed or added";
  else if (!g_str_equal(choir_json_string(json, "prev", ""), prev))
    *ret_why = "does not belong to the line before it: that one was changed";
  json_decref(json);
  return *ret_why == NULL;
}

typedef struct {
  guint64 lines;
  char prev[65];
  gint64 good; /* bytes */
} Chain;

/* Follows the chain to its end. torn: an unfinished last line is no error. */
static gboolean follow(const char *path, gboolean torn, const ChoirAuditHead *known, Chain *chain, GError **error) {
  g_autofree char *line = NULL;
  size_t room = 0;
  ssize_t length;
  *chain = (Chain){.prev = FIRST};
  FILE *file = fopen(path, "re");
  if (!file) {
    fail(error, "cannot read", path);
    return FALSE;
  }
  const char *why = NULL;
  while (!why && (length = getline(&line, &room, file)) > 0) {
    if (line[length - 1] != '\n') {
      why = torn ? NULL : "is unfinished";
      break;
    }
    if (!check_line(line, (gsize)length - 1, chain->lines + 1, chain->prev, &why))
      break;
    char before[65];
    g_strlcpy(before, chain->prev, sizeof before);
    hash_line(line, (gsize)length - 1, chain->prev);
    if (known && chain->lines + 1 == known->seq && !g_str_equal(chain->prev, known->hash)) {
      why = "is not the one that was written: it was changed";
      g_strlcpy(chain->prev, before, sizeof before);
      break;
    }
    chain->lines++;
    chain->good += length;
  }
  if (!why && known && chain->lines < known->seq)
    why = "is missing: the end was cut off";
  gboolean broken = ferror(file) != 0;
  fclose(file);
  if (broken)
    fail(error, "cannot read", path);
  else if (why)
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "%s line %" G_GUINT64_FORMAT " %s", path, chain->lines + 1,
                why);
  return !broken && !why;
}

/* What a power cut left of a last line goes aside. */
static gboolean keep_torn(ChoirAudit *audit, gint64 good, GError **error) {
  struct stat status;
  if (fstat(audit->fd, &status) != 0 || status.st_size <= good)
    return TRUE;
  gsize length = (gsize)(status.st_size - good);
  g_autofree char *rest = g_malloc(length), *aside = g_strconcat(audit->path, ".torn", NULL);
  if (pread(audit->fd, rest, length, good) != (ssize_t)length ||
      !g_file_set_contents(aside, rest, (gssize)length, NULL) || ftruncate(audit->fd, good) != 0) {
    fail(error, "cannot mend", audit->path);
    return FALSE;
  }
  return TRUE;
}

ChoirAudit *choir_audit_open(const char *path, GError **error) {
  g_autoptr(ChoirAudit) audit = g_new0(ChoirAudit, 1);
  Chain chain;
  audit->path = g_strdup(path);
  audit->fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (audit->fd < 0) {
    fail(error, "cannot open", path);
    return NULL;
  }
  struct stat status;
  if (fstat(audit->fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    errno = EINVAL;
    fail(error, "cannot use", path);
    return NULL;
  }
  if (!follow(path, TRUE, NULL, &chain, error) || !keep_torn(audit, chain.good, error))
    return NULL;
  audit->seq = chain.lines;
  g_strlcpy(audit->prev, chain.prev, sizeof audit->prev);
  return g_steal_pointer(&audit);
}

void choir_audit_close(ChoirAudit *audit) {
  if (!audit)
    return;
  if (audit->fd >= 0)
    close(audit->fd);
  g_free(audit->path);
  g_free(audit);
}

/* A copy in which every string is free of secrets. */
static json_t *scrubbed(const json_t *value) {
  const char *key;
  size_t i;
  json_t *inner;
  if (json_is_string(value)) {
    g_autofree char *clean = choir_scrub(json_string_value(value));
    return json_string(clean);
  }
  if (json_is_object(value)) {
    json_t *copy = json_object();
    json_object_foreach((json_t *)value, key, inner) json_object_set_new(copy, key, scrubbed(inner));
    return copy;
  }
  if (json_is_array(value)) {
    json_t *copy = json_array();
    json_array_foreach((json_t *)value, i, inner) json_array_append_new(copy, scrubbed(inner));
    return copy;
  }
  return json_deep_copy(value);
}

static char *make_line(const ChoirAudit *audit, const char *kind, const json_t *fields) {
  g_autoptr(GDateTime) now = g_date_time_new_now_utc();
  g_autofree char *time = g_date_time_format(now, "%Y-%m-%dT%H:%M:%S.%fZ");
  json_t *entry = json_object(), *clean = scrubbed(fields);
  json_object_set_new(entry, "seq", json_integer((json_int_t)audit->seq + 1));
  json_object_set_new(entry, "time", json_string(time));
  json_object_set_new(entry, "kind", json_string(kind));
  json_object_update_missing(entry, clean);
  json_object_set_new(entry, "prev", json_string(audit->prev));
  json_decref(clean);
  char *line = choir_json_dump(entry);
  json_decref(entry);
  return line;
}

gboolean choir_audit_write(ChoirAudit *audit, const char *kind, const json_t *fields, GError **error) {
  g_autofree char *line = make_line(audit, kind, fields);
  gsize length = strlen(line);
  if (length >= LINE_MAX_BYTES) {
    errno = EMSGSIZE;
    fail(error, "cannot write to", audit->path);
    return FALSE;
  }
  off_t before = lseek(audit->fd, 0, SEEK_END);
  line[length] = '\n'; /* instead of the NUL: one write, so that a line is whole or torn, never mixed */
  ssize_t written = write(audit->fd, line, length + 1);
  line[length] = '\0';
  if (written != (ssize_t)length + 1 || fdatasync(audit->fd) != 0) {
    if (written >= 0 && written != (ssize_t)length + 1)
      errno = ENOSPC;
    fail(error, "cannot write to", audit->path);
    if (before >= 0 && ftruncate(audit->fd, before) != 0)
      close(g_steal_fd(&audit->fd)); /* a torn line in the middle would break the chain: no more lines */
    return FALSE;
  }
  hash_line(line, length, audit->prev);
  audit->seq++;
  return TRUE;
}

json_t *choir_audit_tail(ChoirAudit *audit, guint n, GError **error) {
  g_autofree char *text = NULL;
  gsize length;
  if (!g_file_get_contents(audit->path, &text, &length, error))
    return NULL;
  json_t *list = json_array();
  char *end = text + length;
  while (json_array_size(list) < n && end > text) {
    char *begin = memrchr(text, '\n', (gsize)(end - 1 - text));
    begin = begin ? begin + 1 : text;
    json_t *entry = json_loadb(begin, (size_t)(end - begin), 0, NULL);
    if (entry)
      json_array_append_new(list, entry);
    end = begin;
  }
  return list;
}

const char *choir_audit_path(const ChoirAudit *audit) {
  return audit->path;
}

void choir_audit_head(const ChoirAudit *audit, ChoirAuditHead *ret_head) {
  ret_head->seq = audit->seq;
  g_strlcpy(ret_head->hash, audit->prev, sizeof ret_head->hash);
}

char *choir_audit_head_text(const ChoirAuditHead *head) {
  return g_strdup_printf("%" G_GUINT64_FORMAT ":%s", head->seq, head->hash);
}

gboolean choir_audit_head_parse(const char *text, ChoirAuditHead *ret_head) {
  const char *colon = strchr(text, ':');
  g_autofree char *number = colon ? g_strndup(text, (gsize)(colon - text)) : NULL;
  if (!number || !g_ascii_string_to_unsigned(number, 10, 1, G_MAXINT64, &ret_head->seq, NULL) ||
      strlen(colon + 1) != 64 || strspn(colon + 1, "0123456789abcdef") != 64)
    return FALSE;
  g_strlcpy(ret_head->hash, colon + 1, sizeof ret_head->hash);
  return TRUE;
}

gboolean choir_audit_verify_from(const char *path, const ChoirAuditHead *known, ChoirAuditHead *ret_head,
                                 GError **error) {
  Chain chain;
  gboolean ok = follow(path, FALSE, known, &chain, error);
  if (ret_head) {
    ret_head->seq = chain.lines;
    g_strlcpy(ret_head->hash, chain.prev, sizeof ret_head->hash);
  }
  return ok;
}

gboolean choir_audit_verify(const char *path, guint64 *ret_lines, GError **error) {
  ChoirAuditHead head;
  gboolean ok = choir_audit_verify_from(path, NULL, &head, error);
  if (ret_lines)
    *ret_lines = head.seq;
  return ok;
}
