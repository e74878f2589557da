#include "sandbox/confine_format.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
  char *at, *end;
} Rest;

/* The next text, NULL at the end. */
static char *next(Rest *rest) {
  char *text = rest->at, *end = memchr(text, '\0', (gsize)(rest->end - text));
  rest->at = end ? end + 1 : rest->end;
  return end ? text : NULL;
}

static char **list(Rest *rest, guint32 n) {
  char **texts = n <= (gsize)(rest->end - rest->at) ? calloc((gsize)n + 1, sizeof *texts) : NULL;
  for (guint32 i = 0; texts && i < n; i++)
    if (!(texts[i] = next(rest)))
      return NULL;
  return texts;
}

gboolean choir_limits_read(int fd, ChoirLimits *ret_limits) {
  ChoirSpecHead head;
  struct stat status;
  if (fstat(fd, &status) != 0 || status.st_size < (off_t)sizeof head || status.st_size > CHOIR_SPEC_MAX ||
      pread(fd, &head, sizeof head, 0) != (ssize_t)sizeof head || head.version != CHOIR_SPEC_VERSION)
    return FALSE;
  gsize length = (gsize)status.st_size - sizeof head;
  char *text = malloc(length + 1); /* what the lists point into */
  if (!text || pread(fd, text, length, sizeof head) != (ssize_t)length)
    return FALSE;
  Rest rest = {text, text + length};
  ChoirLimits l = {.seconds = head.seconds,
                   .cpu_seconds = head.cpu_seconds,
                   .memory_mb = head.memory_mb,
                   .processes = head.processes,
                   .file_mb = head.file_mb,
                   .pty = head.pty != 0,
                   .network = head.network != 0,
                   .full = head.full != 0};
  l.cwd = next(&rest);
  l.proxy_socket = next(&rest);
  l.argv = list(&rest, head.argv);
  l.env = list(&rest, head.env);
  l.writable = list(&rest, head.writable);
  l.hidden = list(&rest, head.hidden);
  if (!l.cwd || !l.proxy_socket || !l.argv || !l.argv[0] || !l.env || !l.writable || !l.hidden)
    return FALSE;
  if (!*l.proxy_socket)
    l.proxy_socket = NULL;
  *ret_limits = l;
  return TRUE;
}
