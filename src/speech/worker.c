#include "speech/worker.h"
#include "base/buffer.h"
#include "base/log.h"
#include "base/metrics.h"
#include <errno.h>
#include <glib-unix.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define OUT_LIMIT (8u << 20) /* what a worker may fall behind: four minutes of its audio */
#define READ_CHUNK 65536
#define READS_PER_TURN 16 /* then the loop serves others first */

/* A socketpair between choir-tts and choir-phonemes. Whichever of the two starts first makes it, the other one takes
 * its end; both die of the other's death, so that ends of two pairs never meet. */
typedef struct {
  int fds[2];     /* TTS, PHONEMES; -1 = taken */
  guint made;     /* serial of the pair above */
  guint taken[2]; /* serial of the pair that each one runs with */
} Pair;
enum { TTS, PHONEMES };

typedef struct {
  void (*done)(gpointer user);
  gpointer user;
  guint left; /* children still to stop */
} Stop;

struct ChoirWorker {
  ChoirHub *hub;
  ChoirChild *child, *phonemes;
  GStrv argv, phonemes_argv;
  ChoirWorkerFrame frame;
  ChoirWorkerState state;
  gpointer user;
  const char *name, *topic;
  int fd; /* our end of the frames, -1 = none */
  ChoirBuffer in, out;
  char *info;
  gboolean ready, want_write;
  guint holds;
  gboolean freed;
  Pair pair;
  ChoirMetric *refused;
};

static void worker_destroy(ChoirWorker *worker) {
  choir_buffer_clear(&worker->in);
  choir_buffer_clear(&worker->out);
  g_strfreev(worker->argv);
  g_strfreev(worker->phonemes_argv);
  g_free(worker->info);
  g_free(worker);
}

static void close_socket(ChoirWorker *worker) {
  if (worker->fd >= 0) {
    choir_hub_remove(worker->hub, worker->fd);
    close(worker->fd);
  }
  worker->fd = -1;
  worker->want_write = FALSE;
  choir_buffer_clear(&worker->in);
  choir_buffer_clear(&worker->out);
}

static void set_ready(ChoirWorker *worker, gboolean ready) {
  if (worker->ready == ready)
    return;
  worker->ready = ready;
  if (ready) {
    choir_child_mark_ready(worker->child);
    if (worker->phonemes)
      choir_child_mark_ready(worker->phonemes);
  }
  if (worker->state)
    worker->state(worker, ready, worker->user);
}

/* --- frames --- */

static void take_frame(ChoirWorker *worker, const ChoirWireFrame *frame) {
  if (frame->type != CHOIR_WIRE_READY && frame->type != CHOIR_WIRE_STATUS) {
    if (frame->type == CHOIR_WIRE_ERROR)
      choir_debug(worker->topic, "%s: %.*s", worker->name, (int)MIN(frame->length, 500), (const char *)frame->payload);
    worker->frame(frame, worker->user);
    return;
  }
  g_free(worker->info);
  worker->info = g_utf8_make_valid((const char *)frame->payload, (gssize)frame->length);
  if (frame->type == CHOIR_WIRE_READY)
    set_ready(worker, TRUE);
}

/* Hands out every whole frame. FALSE when the worker is gone or talks nonsense. */
static gboolean take_frames(ChoirWorker *worker) {
  int fd = worker->fd;
  ChoirWireFrame frame;
  int found = 0;
  while (worker->in.length > 0 && (found = choir_wire_decode(worker->in.data, worker->in.length, &frame)) == 1) {
    worker->holds++;
    take_frame(worker, &frame);
    worker->holds--;
    if (worker->freed || worker->fd != fd)
      return FALSE;
    choir_buffer_consume(&worker->in, CHOIR_WIRE_HEADER + frame.length);
  }
  if (found >= 0)
    return TRUE;
  choir_warning(worker->topic, "%s sent bytes that are no frame: killed", worker->name);
  choir_child_kill(worker->child, SIGKILL);
  close_socket(worker);
  return FALSE;
}

static void read_frames(ChoirWorker *worker) {
  static guint8 chunk[READ_CHUNK];
  for (guint i = 0; i < READS_PER_TURN; i++) {
    ssize_t n = read(worker->fd, chunk, sizeof chunk);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0 && errno == EAGAIN)
      return;
    if (n <= 0) {
      /* Its end of the socket is closed: it is exiting, or as good as dead. */
      choir_child_kill(worker->child, SIGTERM);
      close_socket(worker);
      return;
    }
    if (!choir_buffer_append(&worker->in, chunk, (gsize)n))
      g_error("%s: a frame over the limit was not refused", worker->name);
    if (!take_frames(worker))
      return;
  }
}

static void update_watch(ChoirWorker *worker) {
  gboolean want = worker->out.length > 0;
  if (worker->fd < 0 || want == worker->want_write)
    return;
  worker->want_write = want;
  choir_hub_modify(worker->hub, worker->fd, want ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void flush(ChoirWorker *worker) {
  while (worker->fd >= 0 && worker->out.length > 0) {
    ssize_t n = send(worker->fd, worker->out.data, worker->out.length, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      break; /* full, or dead: the read side learns of that */
    choir_buffer_consume(&worker->out, (gsize)n);
  }
  update_watch(worker);
}

static void on_socket(int fd, uint32_t events, gpointer user) {
  ChoirWorker *worker = user;
  worker->holds++;
  if (events & EPOLLOUT)
    flush(worker);
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && worker->fd == fd)
    read_frames(worker);
  worker->holds--;
  if (worker->freed && worker->holds == 0)
    worker_destroy(worker);
}

gboolean choir_worker_send(ChoirWorker *worker, guint16 type, guint16 flags, guint32 session, guint32 gen, guint32 aux,
                           const void *payload, gsize length) {
  gboolean fits = worker->ready && worker->fd >= 0 && length <= CHOIR_WIRE_MAX &&
                  worker->out.length + CHOIR_WIRE_HEADER + length <= worker->out.limit;
  if (!fits) {
    choir_counter_add(worker->refused, 1);
    return FALSE;
  }
  ChoirWireFrame frame = {
      .type = type, .flags = flags, .session = session, .gen = gen, .aux = aux, .length = (guint32)length};
  guint8 header[CHOIR_WIRE_HEADER];
  choir_wire_encode_header(&frame, header);
  if (!choir_buffer_append(&worker->out, header, sizeof header) || !choir_buffer_append(&worker->out, payload, length))
    g_error("out of memory for a frame to %s", worker->name);
  flush(worker);
  return TRUE;
}

/* --- the processes --- */

static gboolean make_pair(int fds[2], GError **error) {
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0)
    return TRUE;
  int saved = errno;
  g_set_error(error, G_UNIX_ERROR, 0, "socketpair: %s", g_strerror(saved));
  return FALSE;
}

static gboolean take_end(ChoirWorker *worker, int side, GArray *fds, GError **error) {
  Pair *pair = &worker->pair;
  if (pair->fds[side] < 0) {
    if (pair->fds[!side] >= 0)
      close(pair->fds[!side]);
    if (!make_pair(pair->fds, error)) {
      pair->fds[TTS] = pair->fds[PHONEMES] = -1;
      return FALSE;
    }
    pair->made++;
  }
  g_array_append_val(fds, pair->fds[side]);
  pair->fds[side] = -1;
  pair->taken[side] = pair->made;
  return TRUE;
}

static gboolean prepare(ChoirChild *child, GStrv *ret_argv, GStrv *ret_env, GArray *fds, gpointer user,
                        GError **error) {
  ChoirWorker *worker = user;
  int ends[2];
  close_socket(worker);
  if (!make_pair(ends, error))
    return FALSE;
  g_array_append_val(fds, ends[1]);
  if (!g_unix_set_fd_nonblocking(ends[0], TRUE, error) ||
      !choir_hub_add(worker->hub, ends[0], EPOLLIN, on_socket, worker, error)) {
    close(ends[0]);
    return FALSE;
  }
  worker->fd = ends[0];
  if (worker->phonemes && !take_end(worker, TTS, fds, error))
    return FALSE;
  *ret_argv = g_strdupv(worker->argv);
  return TRUE;
}

static void on_child_exit(ChoirChild *child, int status, gpointer user) {
  ChoirWorker *worker = user;
  if (worker->fd >= 0) {
    worker->holds++; /* its last words may still lie in the socket */
    read_frames(worker);
    worker->holds--;
    if (worker->freed) {
      if (worker->holds == 0)
        worker_destroy(worker);
      return;
    }
  }
  close_socket(worker);
  set_ready(worker, FALSE);
}

static gboolean prepare_phonemes(ChoirChild *child, GStrv *ret_argv, GStrv *ret_env, GArray *fds, gpointer user,
                                 GError **error) {
  ChoirWorker *worker = user;
  if (!take_end(worker, PHONEMES, fds, error))
    return FALSE;
  *ret_argv = g_strdupv(worker->phonemes_argv);
  return TRUE;
}

static void on_phonemes_exit(ChoirChild *child, int status, gpointer user) {
  ChoirWorker *worker = user;
  /* choir-tts cannot go on with half a pair. */
  if (worker->pair.taken[TTS] == worker->pair.taken[PHONEMES])
    choir_child_kill(worker->child, SIGTERM);
}

ChoirWorker *choir_worker_new(ChoirHub *hub, const char *name, const char *topic, const char *const *argv, int nice,
                              ChoirWorkerFrame frame, ChoirWorkerState state, gpointer user) {
  ChoirWorker *worker = g_new0(ChoirWorker, 1);
  *worker = (ChoirWorker){
      .hub = hub,
      .argv = g_strdupv((char **)argv),
      .frame = frame,
      .state = state,
      .user = user,
      .name = name,
      .topic = topic,
      .fd = -1,
      .pair = {.fds = {-1, -1}},
  };
  choir_buffer_init(&worker->in, CHOIR_WIRE_HEADER + CHOIR_WIRE_MAX + READ_CHUNK);
  choir_buffer_init(&worker->out, OUT_LIMIT);
  g_autofree char *labels = g_strdup_printf("worker=\"%s\"", name);
  worker->refused = choir_counter("choir_worker_refused_total", labels,
                                  "Frames refused as the worker was not ready or too far behind.");
  ChoirChildSpec spec = {
      .name = name, .topic = topic, .prepare = prepare, .exited = on_child_exit, .user = worker, .nice = nice};
  worker->child = choir_child_new(&spec);
  return worker;
}

void choir_worker_attach_phonemes(ChoirWorker *tts, const char *const *argv) {
  g_return_if_fail(tts->phonemes == NULL);
  tts->phonemes_argv = g_strdupv((char **)argv);
  ChoirChildSpec spec = {.name = "choir-phonemes",
                         .topic = tts->topic,
                         .prepare = prepare_phonemes,
                         .exited = on_phonemes_exit,
                         .user = tts};
  tts->phonemes = choir_child_new(&spec);
}

void choir_worker_start(ChoirWorker *worker) {
  choir_child_start(worker->child);
  if (worker->phonemes)
    choir_child_start(worker->phonemes);
}

static void on_stopped(gpointer user) {
  Stop *stop = user;
  if (--stop->left > 0)
    return;
  if (stop->done)
    stop->done(stop->user);
  g_free(stop);
}

void choir_worker_stop(ChoirWorker *worker, void (*done)(gpointer user), gpointer user) {
  Stop *stop = g_new0(Stop, 1);
  *stop = (Stop){.done = done, .user = user, .left = worker->phonemes ? 2 : 1};
  if (worker->phonemes)
    choir_child_stop(worker->phonemes, on_stopped, stop);
  choir_child_stop(worker->child, on_stopped, stop);
}

void choir_worker_free(ChoirWorker *worker) {
  if (!worker || worker->freed)
    return;
  choir_child_free(worker->child);
  choir_child_free(worker->phonemes);
  close_socket(worker);
  for (int side = 0; side < 2; side++)
    if (worker->pair.fds[side] >= 0)
      close(worker->pair.fds[side]);
  worker->freed = TRUE;
  if (worker->holds == 0)
    worker_destroy(worker);
}

gboolean choir_worker_ready(const ChoirWorker *worker) {
  return worker->ready;
}

ChoirChild *choir_worker_child(ChoirWorker *worker) {
  return worker->child;
}

const char *choir_worker_info(const ChoirWorker *worker) {
  return worker->info;
}

gsize choir_worker_queued(const ChoirWorker *worker) {
  return worker->out.length;
}

ChoirChild *choir_worker_phonemes(ChoirWorker *tts) {
  return tts->phonemes;
}
