#include "base/file.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

gboolean choir_relative_ok(const char *name) {
  if (!*name || strlen(name) > 250 || *name == '/' || !g_utf8_validate(name, -1, NULL))
    return FALSE;
  for (const char *c = name; *c; c++)
    if ((guchar)*c < 0x20 || *c == 0x7f)
      return FALSE;
  g_auto(GStrv) parts = g_strsplit(name, "/", -1);
  for (char **part = parts; *part; part++)
    if (!**part || g_str_equal(*part, ".") || g_str_equal(*part, ".."))
      return FALSE;
  return TRUE;
}

gboolean choir_write_all(int fd, const void *data, gsize length) {
  for (const char *at = data; length > 0;) {
    ssize_t n = write(fd, at, length);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return FALSE;
    at += n;
    length -= (gsize)n;
  }
  return TRUE;
}
