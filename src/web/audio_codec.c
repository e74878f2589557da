#include "web/audio_codec.h"
#include <errno.h>
#include <glib-unix.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/buffer.h"
#include "base/text.h"

#define QUEUE_MAX (4u << 20)
#define READ_CHUNK 65536
#define WORDS_MAX 500

struct ChoirAudioCodec {
  ChoirHub *hub;
  const ChoirAudioCodecHandlers *handlers;
  gpointer user;
  GPid pid;
  guint child_watch;
  int in, out, err; /* its standard input, output and error; -1 = closed */
  GBytes *file;
  gsize file_at;
  ChoirBuffer queue;
  gboolean decodes, ended, held;
  guint8 half; /* a sample that came in two reads */
  gboolean has_half, exited, dispatching, freed;
  int status;
};

G_DEFINE_QUARK(choir - codec - error - quark, choir_codec_error)

static void close_fd(ChoirAudioCodec *codec, int *fd) {
  if (*fd < 0)
    return;
  choir_hub_remove(codec->hub, *fd);
  close(*fd);
  *fd = -1;
}

static void destroy(ChoirAudioCodec *codec) {
  g_clear_pointer(&codec->file, g_bytes_unref);
  choir_buffer_clear(&codec->queue);
  g_free(codec);
}

static void on_reaped(GPid pid, gint status, gpointer user) {
  g_spawn_close_pid(pid);
}

void choir_audio_codec_free(ChoirAudioCodec *codec) {
  if (!codec)
    return;
  close_fd(codec, &codec->in);
  close_fd(codec, &codec->out);
  if (codec->err >= 0)
    close(codec->err);
  if (!codec->exited) {
    kill(codec->pid, SIGKILL);
    g_source_remove(codec->child_watch);
    g_child_watch_add(codec->pid, on_reaped, NULL);
  }
  codec->freed = TRUE;
  if (!codec->dispatching)
    destroy(codec);
}

static GError *verdict(ChoirAudioCodec *codec) {
  char words[WORDS_MAX];
  ssize_t n = codec->err >= 0 ? read(codec->err, words, sizeof words) : 0;
  g_autofree char *text = choir_utf8(words, MAX(n, 0));
  g_strchomp(text);
  gboolean left = WIFEXITED(codec->status);
  if (left && WEXITSTATUS(codec->status) == 0)
    return NULL;
  if (left && *text && codec->decodes)
    return g_error_new_literal(CHOIR_CODEC_ERROR,
                               WEXITSTATUS(codec->status) == 2 ? CHOIR_CODEC_ERROR_TOO_LONG : CHOIR_CODEC_ERROR_FORMAT,
                               text);
  return g_error_new(CHOIR_CODEC_ERROR, codec->decodes ? CHOIR_CODEC_ERROR_FORMAT : CHOIR_CODEC_ERROR_FAILED,
                     codec->decodes ? "the file breaks the decoder; it is damaged" : "the encoder stopped: %s", text);
}

/* All of its output was read, and how it ended is known. */
static void finish_if_over(ChoirAudioCodec *codec) {
  if (!codec->exited || codec->out >= 0 || codec->freed)
    return;
  g_autoptr(GError) error = verdict(codec);
  codec->dispatching = TRUE;
  codec->handlers->done(error, codec->user);
  codec->dispatching = FALSE;
  if (codec->freed)
    destroy(codec);
}

static void on_exit_status(GPid pid, gint status, gpointer user) {
  ChoirAudioCodec *codec = user;
  g_spawn_close_pid(pid);
  codec->exited = TRUE;
  codec->status = status;
  finish_if_over(codec);
}

/* --- its input --- */

static gboolean pending(const ChoirAudioCodec *codec, const guint8 **ret_data, gsize *ret_length) {
  if (codec->file) {
    gsize size;
    const guint8 *data = g_bytes_get_data(codec->file, &size);
    *ret_data = data + codec->file_at;
    *ret_length = size - codec->file_at;
  } else {
    *ret_data = codec->queue.data;
    *ret_length = codec->queue.length;
  }
  return *ret_length > 0;
}

static void consume(ChoirAudioCodec *codec, gsize n) {
  if (codec->file)
    codec->file_at += n;
  else
    choir_buffer_consume(&codec->queue, n);
}

static void feed(ChoirAudioCodec *codec) {
  const guint8 *data;
  gsize length;
  while (codec->in >= 0 && pending(codec, &data, &length)) {
    ssize_t n = write(codec->in, data, length);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0 && errno == EAGAIN) {
      choir_hub_modify(codec->hub, codec->in, EPOLLOUT);
      return;
    }
    if (n < 0) { /* it stopped reading: its exit says why */
      close_fd(codec, &codec->in);
      return;
    }
    consume(codec, (gsize)n);
  }
  if (codec->in < 0)
    return;
  choir_hub_modify(codec->hub, codec->in, 0);
  if (codec->ended) {
    close_fd(codec, &codec->in);
    g_clear_pointer(&codec->file, g_bytes_unref);
  }
}

static void on_in(int fd, uint32_t events, gpointer user) {
  ChoirAudioCodec *codec = user;
  if (events & (EPOLLERR | EPOLLHUP))
    close_fd(codec, &codec->in);
  else
    feed(codec);
}

/* --- its output --- */

static void give(ChoirAudioCodec *codec, guint8 *data, gsize length) {
  if (!codec->decodes) {
    codec->handlers->data(data, length, codec->user);
    return;
  }
  gsize whole = length & ~(gsize)1;
  gboolean odd = whole < length;
  guint8 last = data[length - 1];
  if (whole > 0)
    codec->handlers->data(data, whole, codec->user);
  codec->has_half = odd;
  codec->half = last;
}

static void on_out(int fd, uint32_t events, gpointer user) {
  static guint8 chunk[READ_CHUNK + 2] __attribute__((aligned(2)));
  ChoirAudioCodec *codec = user;
  gsize kept = codec->has_half ? 1 : 0;
  if (kept)
    chunk[0] = codec->half;
  ssize_t n = read(fd, chunk + kept, READ_CHUNK);
  if (n < 0 && (errno == EINTR || errno == EAGAIN))
    return;
  if (n <= 0) {
    close_fd(codec, &codec->out);
    finish_if_over(codec);
    return;
  }
  codec->dispatching = TRUE;
  give(codec, chunk, kept + (gsize)n);
  codec->dispatching = FALSE;
  if (codec->freed)
    destroy(codec);
}

void choir_audio_codec_hold(ChoirAudioCodec *codec, gboolean hold) {
  if (hold != codec->held && codec->out >= 0)
    choir_hub_modify(codec->hub, codec->out, hold ? 0 : EPOLLIN);
  codec->held = hold;
}

/* --- both --- */

static ChoirAudioCodec *start(ChoirHub *hub, const char *programs, const char *option, const char *value,
                              const ChoirAudioCodecHandlers *handlers, gpointer user, GError **error) {
  g_autofree char *program = g_build_filename(programs, "choir-codec", NULL);
  char *argv[] = {program, (char *)option, (char *)value, NULL};
  ChoirAudioCodec *codec = g_new0(ChoirAudioCodec, 1);
  *codec = (ChoirAudioCodec){.hub = hub, .handlers = handlers, .user = user, .in = -1, .out = -1, .err = -1};
  choir_buffer_init(&codec->queue, QUEUE_MAX);
  g_autoptr(GError) why = NULL;
  if (!g_spawn_async_with_pipes(NULL, argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &codec->pid, &codec->in,
                                &codec->out, &codec->err, &why)) {
    g_set_error(error, CHOIR_CODEC_ERROR, CHOIR_CODEC_ERROR_FAILED, "choir-codec cannot be started: %s", why->message);
    g_free(codec);
    return NULL;
  }
  g_unix_set_fd_nonblocking(codec->in, TRUE, NULL);
  g_unix_set_fd_nonblocking(codec->out, TRUE, NULL);
  g_unix_set_fd_nonblocking(codec->err, TRUE, NULL);
  choir_hub_add(hub, codec->in, 0, on_in, codec, NULL);
  choir_hub_add(hub, codec->out, EPOLLIN, on_out, codec, NULL);
  codec->child_watch = g_child_watch_add(codec->pid, on_exit_status, codec);
  return codec;
}

ChoirAudioCodec *choir_audio_codec_decode(ChoirHub *hub, const char *programs, GBytes *file, guint max_seconds,
                                          const ChoirAudioCodecHandlers *handlers, gpointer user, GError **error) {
  g_autofree char *seconds = g_strdup_printf("%u", max_seconds);
  ChoirAudioCodec *codec = start(hub, programs, "--max-seconds", seconds, handlers, user, error);
  if (!codec)
    return NULL;
  codec->decodes = codec->ended = TRUE;
  codec->file = g_bytes_ref(file);
  feed(codec);
  return codec;
}

ChoirAudioCodec *choir_audio_codec_encode(ChoirHub *hub, const char *programs, const char *format,
                                          const ChoirAudioCodecHandlers *handlers, gpointer user, GError **error) {
  return start(hub, programs, "--encode", format, handlers, user, error);
}

gboolean choir_audio_codec_write(ChoirAudioCodec *codec, const gint16 *samples, gsize n) {
  if (!choir_buffer_append(&codec->queue, samples, n * sizeof(gint16)))
    return FALSE;
  feed(codec);
  return TRUE;
}

gsize choir_audio_codec_queued(const ChoirAudioCodec *codec) {
  return codec->queue.length;
}

void choir_audio_codec_end(ChoirAudioCodec *codec) {
  codec->ended = TRUE;
  feed(codec);
}
