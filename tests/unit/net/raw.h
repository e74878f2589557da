/* A client made of nothing but a socket, so that tests can be rude: partial requests, silence, resets. Every wait runs
 * the main context, where the server under test lives. */
#pragma once
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include "wait.h"

static inline int raw_connect(guint16 port) {
  struct sockaddr_in address = {
      .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof address), ==, 0);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  return fd;
}

/* FALSE when the server closed or did not read within ms. */
static inline gboolean raw_send(int fd, const void *data, gsize length, guint ms) {
  const char *bytes = data;
  gint64 end = g_get_monotonic_time() + ms * G_TIME_SPAN_MILLISECOND;
  while (length > 0 && g_get_monotonic_time() < end) {
    gssize sent = send(fd, bytes, length, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN)
      return FALSE;
    if (sent < 0) {
      wait_ms(2);
      continue;
    }
    bytes += sent;
    length -= (gsize)sent;
  }
  return length == 0;
}

static inline void raw_say(int fd, const char *text) {
  g_assert_true(raw_send(fd, text, strlen(text), 3000));
}

typedef struct {
  GString *text;
  gboolean eof;
} Raw;

static inline gboolean raw_take(int fd, Raw *raw) {
  char chunk[4096];
  gssize got = recv(fd, chunk, sizeof chunk, 0);
  if (got > 0)
    g_string_append_len(raw->text, chunk, got);
  else if (got == 0 || errno != EAGAIN)
    raw->eof = TRUE;
  return got > 0;
}

static inline gboolean raw_has(int fd, Raw *raw, const char *needle) {
  while (!raw->eof && raw_take(fd, raw))
    continue;
  return raw->eof || (needle != NULL && strstr(raw->text->str, needle) != NULL);
}

/* Until the needle (or, with NULL, the end of the stream); fails after 3 s. Caller frees the text. */
static inline char *raw_read(int fd, const char *needle) {
  Raw raw = {g_string_new(NULL), FALSE};
  WAIT_UNTIL(raw_has(fd, &raw, needle), 3000);
  if (needle != NULL && strstr(raw.text->str, needle) == NULL)
    g_error("no \"%s\" in \"%s\"", needle, raw.text->str);
  return g_string_free(raw.text, FALSE);
}

/* The server closed, within ms. */
static inline void raw_expect_closed(int fd, guint ms) {
  Raw raw = {g_string_new(NULL), FALSE};
  WAIT_UNTIL(raw_has(fd, &raw, NULL), ms);
  g_string_free(raw.text, TRUE);
}
