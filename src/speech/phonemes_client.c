#include "speech/phonemes_client.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEADLINE_MS 10000 /* under an emulator a long clause takes a second */
#define ANSWER_MAX (256 * 1024)

struct ChoirPhonemes {
  int fd;
  guint id;
  GString *input;
};

ChoirPhonemes *choir_phonemes_new(int fd) {
  ChoirPhonemes *phonemes = g_new0(ChoirPhonemes, 1);
  phonemes->fd = fd;
  phonemes->input = g_string_new(NULL);
  return phonemes;
}

void choir_phonemes_free(ChoirPhonemes *phonemes) {
  if (!phonemes)
    return;
  g_string_free(phonemes->input, TRUE);
  g_free(phonemes);
}

static gboolean fail(GError **error, int code, const char *what) {
  g_set_error(error, g_quark_from_static_string("choir-speech-error"), code, "choir-phonemes %s", what);
  return FALSE;
}

static gboolean send_line(ChoirPhonemes *phonemes, const char *line, gsize length, GError **error) {
  while (length > 0) {
    ssize_t n = write(phonemes->fd, line, length);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return fail(error, CHOIR_PHONEMES_ERROR_GONE, "does not take requests any more");
    line += n;
    length -= (gsize)n;
  }
  return TRUE;
}

static gboolean fill(ChoirPhonemes *phonemes, gint64 deadline, GError **error) {
  gint64 left = (deadline - g_get_monotonic_time()) / 1000;
  struct pollfd entry = {.fd = phonemes->fd, .events = POLLIN};
  int ready = poll(&entry, 1, (int)MAX(left, 0));
  if (ready < 0 && errno == EINTR)
    return TRUE;
  if (ready == 0)
    return fail(error, CHOIR_PHONEMES_ERROR_GONE, "did not answer in time");
  char chunk[4096];
  ssize_t n = read(phonemes->fd, chunk, sizeof chunk);
  if (n < 0 && errno == EINTR)
    return TRUE;
  if (n <= 0)
    return fail(error, CHOIR_PHONEMES_ERROR_GONE, "is gone");
  g_string_append_len(phonemes->input, chunk, n);
  if (phonemes->input->len > ANSWER_MAX)
    return fail(error, CHOIR_PHONEMES_ERROR_GONE, "sends too long a line");
  return TRUE;
}

/* The next whole line without its end; caller frees. */
static char *read_line(ChoirPhonemes *phonemes, gint64 deadline, GError **error) {
  char *end;
  while (!(end = memchr(phonemes->input->str, '\n', phonemes->input->len)))
    if (!fill(phonemes, deadline, error))
      return NULL;
  gsize length = (gsize)(end - phonemes->input->str);
  char *line = g_strndup(phonemes->input->str, length);
  g_string_erase(phonemes->input, 0, (gssize)length + 1);
  return line;
}

gboolean choir_phonemes_parse_words(const char *list, ChoirPhonemesWord word, gpointer user) {
  while (*list) {
    char *end = NULL;
    guint64 offset = g_ascii_strtoull(list, &end, 10);
    if (end == list || *end != ':' || offset > G_MAXINT)
      return FALSE;
    list = end + 1;
    guint64 count = g_ascii_strtoull(list, &end, 10);
    if (end == list || count > G_MAXUINT16)
      return FALSE;
    gint64 at = -1;
    if (*end == ':') {
      list = end + 1;
      at = (gint64)g_ascii_strtoull(list, &end, 10);
      if (end == list || at < 0 || at > G_MAXINT)
        return FALSE;
    }
    if (*end != ' ' && *end != 0)
      return FALSE;
    word((guint)offset, (guint)count, (int)at, user);
    list = *end ? end + 1 : end;
  }
  return TRUE;
}

char *choir_phonemes_ask(ChoirPhonemes *phonemes, const char *text, gsize length, ChoirPhonemesWord word, gpointer user,
                         GError **error) {
  g_autofree char *clause = g_strndup(text, length);
  g_autofree char *id = g_strdup_printf("%u", ++phonemes->id);
  g_strdelimit(clause, "\t\r\n", ' ');
  g_autofree char *line = g_strdup_printf("%s\t%s\n", id, clause);
  if (!send_line(phonemes, line, strlen(line), error))
    return NULL;
  gint64 deadline = g_get_monotonic_time() + (gint64)DEADLINE_MS * 1000;
  for (;;) {
    g_autofree char *answer = read_line(phonemes, deadline, error);
    if (!answer)
      return NULL;
    g_auto(GStrv) fields = g_strsplit(answer, "\t", 3);
    if (g_strv_length(fields) != 3 || !g_str_equal(fields[0], id))
      continue; /* an answer to a request that was given up */
    if (!choir_phonemes_parse_words(fields[2], word, user)) {
      fail(error, 0, "sent a line that cannot be read");
      return NULL;
    }
    return g_steal_pointer(&fields[1]);
  }
}
