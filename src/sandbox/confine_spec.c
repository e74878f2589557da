#include "sandbox/confine_format.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static uint32_t append(GString *bytes, char *const *texts) {
  uint32_t n = 0;
  for (; texts && texts[n]; n++)
    g_string_append_len(bytes, texts[n], (gssize)strlen(texts[n]) + 1);
  return n;
}

int choir_limits_write(const ChoirLimits *l) {
  g_autoptr(GString) bytes = g_string_new(NULL);
  ChoirSpecHead head = {.version = CHOIR_SPEC_VERSION,
                        .seconds = l->seconds,
                        .cpu_seconds = l->cpu_seconds,
                        .memory_mb = l->memory_mb,
                        .processes = l->processes,
                        .file_mb = l->file_mb,
                        .pty = l->pty,
                        .network = l->network,
                        .full = l->full};
  char *const single[] = {l->cwd, l->proxy_socket ? l->proxy_socket : (char *)"", NULL};
  g_string_append_len(bytes, (const char *)&head, sizeof head);
  append(bytes, single);
  head.argv = append(bytes, l->argv);
  head.env = append(bytes, l->env);
  head.writable = append(bytes, l->writable);
  head.hidden = append(bytes, l->hidden);
  memcpy(bytes->str, &head, sizeof head);
  if (bytes->len > CHOIR_SPEC_MAX) {
    errno = E2BIG;
    return -1;
  }
  int fd = memfd_create("choir-sandbox", MFD_CLOEXEC);
  if (fd >= 0 && write(fd, bytes->str, bytes->len) != (ssize_t)bytes->len) {
    close(fd);
    fd = -1;
  }
  return fd;
}
