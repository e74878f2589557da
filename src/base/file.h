/* What everything that writes files or unpacks them needs. Any thread. */
#pragma once
#include <glib.h>

/* Relative, UTF-8, no empty, "." or ".." parts, no control characters, at most 250 bytes: a name from elsewhere that
 * may be a file below a folder of ours. */
gboolean choir_relative_ok(const char *name);
/* All of it, however often write() takes less. FALSE with errno. */
gboolean choir_write_all(int fd, const void *data, gsize length);
