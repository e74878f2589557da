#include "net/websocket.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/names.h"
#include "base/text.h"
#include "net/websocket_private.h"
#include "net/ws_frames.h"

#define READ_CHUNK 16384
#define CLOSE_WAIT_US (3 * G_USEC_PER_SEC) /* for the peer's close frame */
#define LINGER_US (2 * G_USEC_PER_SEC)     /* for the peer to read our last frame */
#define KERNEL_QUEUE (256 * 1024)          /* the kernel would otherwise buffer megabytes for a stalled peer */
#define NEVER G_MAXINT64

typedef enum { PENDING, OPEN, LINGERING, CLOSED } State;

typedef struct {
  GSource source;
  ChoirWebSocket *ws;
} TimerSource;

struct ChoirWebSocket {
  ChoirHub *hub;
  int fd;
  State state;
  ChoirWsFrames *frames;
  ChoirWebSocketHandlers handlers;
  gpointer user;
  uint32_t watching;                 /* epoll events asked for */
  gboolean feeding, broken, refused; /* refused: a send was, so `writable` is owed */
  GBytes *early;
  gint64 full_since, close_deadline, ping_at; /* NEVER when not running */
  guint unanswered;
  GSource *timer;
  void (*release)(gpointer data);
  gpointer release_data;
  void (*freed)(gpointer data);
  gpointer freed_data;
};

static struct {
  ChoirMetric *open, *dropped, *stalled, *silent, *protocol;
  guint count;
} metrics;

static void metrics_init(void) {
  if (metrics.open != NULL)
    return;
  const char *help = "WebSockets cut by the server.";
  metrics.open = choir_gauge("choir_ws_connections", NULL, "Open WebSockets.");
  metrics.dropped =
      choir_counter("choir_ws_dropped_total", NULL, "Messages refused because the peer's queue was full.");
  metrics.stalled = choir_counter("choir_ws_cut_total", "reason=\"stalled\"", help);
  metrics.silent = choir_counter("choir_ws_cut_total", "reason=\"silent\"", help);
  metrics.protocol = choir_counter("choir_ws_cut_total", "reason=\"protocol\"", help);
}

static void count_open(int change) {
  metrics.count += (guint)change;
  choir_gauge_set(metrics.open, metrics.count);
}

static void finish(ChoirWebSocket *ws, guint16 code) {
  if (ws->state != PENDING)
    choir_hub_remove(ws->hub, ws->fd);
  ws->state = CLOSED;
  g_source_destroy(ws->timer);
  g_source_unref(ws->timer);
  count_open(-1);
  if (ws->handlers.closed != NULL)
    ws->handlers.closed(ws, code, ws->user);
  if (ws->release != NULL)
    ws->release(ws->release_data);
  if (ws->freed != NULL)
    ws->freed(ws->freed_data);
  g_clear_pointer(&ws->early, g_bytes_unref);
  choir_ws_frames_free(ws->frames);
  g_free(ws);
}

/* Timer: the earliest of ping, stall and close. */
static void arm(ChoirWebSocket *ws) {
  gint64 stall_at = ws->full_since != NEVER ? ws->full_since + ws->handlers.stall_ms * G_TIME_SPAN_MILLISECOND : NEVER;
  gint64 at = MIN(MIN(ws->ping_at, ws->close_deadline), stall_at);
  if (ws->broken || ws->early != NULL)
    at = 0;
  g_source_set_ready_time(ws->timer, at == NEVER ? -1 : at);
}

static void watch(ChoirWebSocket *ws) {
  if (ws->state != OPEN && ws->state != LINGERING)
    return;
  uint32_t events = 0;
  /* A peer that sends (pings, say) but does not read would make us answer without end: it waits until it has read. */
  if (choir_ws_frames_queued(ws->frames) <= ws->handlers.max_queue)
    events |= EPOLLIN;
  if (ws->state == OPEN && choir_ws_frames_wants_write(ws->frames))
    events |= EPOLLOUT;
  if (events != ws->watching)
    choir_hub_modify(ws->hub, ws->fd, events);
  ws->watching = events;
}

/* After anything that may have changed the queue. Never ends the socket itself: callers may be inside user code. */
static void settle(ChoirWebSocket *ws) {
  gsize queued = choir_ws_frames_queued(ws->frames);
  if (!ws->refused && queued <= ws->handlers.max_queue)
    ws->full_since = NEVER;
  else if (ws->full_since == NEVER)
    ws->full_since = g_get_monotonic_time();
  if (choir_ws_frames_close_sent(ws->frames) && ws->close_deadline == NEVER)
    ws->close_deadline = g_get_monotonic_time() + CLOSE_WAIT_US;
  watch(ws);
  arm(ws);
}

static void flush(ChoirWebSocket *ws) {
  if (ws->state == OPEN && !ws->feeding && !choir_ws_frames_flush(ws->frames))
    ws->broken = TRUE;
  settle(ws);
}

/* TRUE when it is over: ws is gone then. */
static gboolean end_if_over(ChoirWebSocket *ws) {
  gboolean finished = choir_ws_frames_finished(ws->frames);
  if (ws->broken || (finished && choir_ws_frames_close_received(ws->frames))) {
    finish(ws, choir_ws_frames_close_code(ws->frames));
    return TRUE;
  }
  if (ws->state != OPEN || !finished)
    return FALSE;
  /* Closing a socket with unread bytes resets it and may take our last frame away from the peer: let it read first. */
  shutdown(ws->fd, SHUT_WR);
  ws->state = LINGERING;
  ws->close_deadline = g_get_monotonic_time() + LINGER_US;
  settle(ws);
  return FALSE;
}

static void owe_writable(ChoirWebSocket *ws) {
  if (ws->state != OPEN || !ws->refused || choir_ws_frames_queued(ws->frames) >= ws->handlers.max_queue / 4)
    return;
  ws->refused = FALSE;
  ws->full_since = NEVER;
  if (ws->handlers.writable != NULL)
    ws->handlers.writable(ws, ws->user);
}

static void on_message(gboolean is_text, const char *data, gsize length, gpointer user) {
  ChoirWebSocket *ws = user;
  ws->handlers.message(ws, is_text, data, length, ws->user);
}

static gssize on_write(const guint8 *data, gsize length, gboolean more, gpointer user) {
  ChoirWebSocket *ws = user;
  gssize sent = send(ws->fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL | (more ? MSG_MORE : 0));
  if (sent > 0 && ws->full_since != NEVER)
    ws->full_since = g_get_monotonic_time(); /* slow is not stalled */
  if (sent >= 0)
    return sent;
  return errno == EAGAIN || errno == EINTR ? 0 : -1;
}

static void feed(ChoirWebSocket *ws, const guint8 *data, gsize length) {
  ws->unanswered = 0;
  ws->feeding = TRUE;
  gboolean good = choir_ws_frames_feed(ws->frames, data, length);
  ws->feeding = FALSE;
  if (!good && ws->close_deadline == NEVER) {
    choir_counter_add(metrics.protocol, 1);
    choir_debug(CHOIR_TOPIC_NET, "WebSocket closed for what the peer sent, code %u",
                choir_ws_frames_close_code(ws->frames));
    ws->close_deadline = g_get_monotonic_time() + CLOSE_WAIT_US;
  }
  flush(ws);
}

static void read_some(ChoirWebSocket *ws) {
  guint8 chunk[READ_CHUNK];
  gssize got = recv(ws->fd, chunk, sizeof chunk, MSG_DONTWAIT);
  if (got > 0 && ws->state == OPEN)
    feed(ws, chunk, (gsize)got);
  else if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
    ws->broken = TRUE;
}

static void on_event(int fd, uint32_t events, gpointer user) {
  ChoirWebSocket *ws = user;
  if (events & EPOLLOUT)
    flush(ws);
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && !ws->broken) {
    if ((ws->watching & EPOLLIN) != 0)
      read_some(ws);
    else if ((events & (EPOLLHUP | EPOLLERR)) != 0)
      ws->broken = TRUE;
  }
  if (!end_if_over(ws))
    owe_writable(ws);
}

static gboolean timer_dispatch(GSource *source, GSourceFunc callback, gpointer user) {
  ChoirWebSocket *ws = ((TimerSource *)source)->ws;
  gint64 now = g_get_monotonic_time();
  if (ws->early != NULL && ws->state == OPEN) {
    g_autoptr(GBytes) early = g_steal_pointer(&ws->early);
    gsize length;
    const guint8 *data = g_bytes_get_data(early, &length);
    feed(ws, data, length);
  }
  if (ws->broken || now >= ws->close_deadline) {
    finish(ws, choir_ws_frames_close_code(ws->frames));
    return G_SOURCE_REMOVE;
  }
  if (ws->full_since != NEVER && now >= ws->full_since + ws->handlers.stall_ms * G_TIME_SPAN_MILLISECOND) {
    choir_counter_add(metrics.stalled, 1);
    choir_info(CHOIR_TOPIC_NET, "a WebSocket's peer does not read: cut");
    finish(ws, 1006);
    return G_SOURCE_REMOVE;
  }
  if (now >= ws->ping_at) {
    if (ws->unanswered >= 2) {
      choir_counter_add(metrics.silent, 1);
      finish(ws, 1006);
      return G_SOURCE_REMOVE;
    }
    ws->unanswered++;
    ws->ping_at = now + ws->handlers.ping_s * G_USEC_PER_SEC;
    if (ws->state == OPEN)
      choir_ws_frames_ping(ws->frames);
    flush(ws);
  }
  if (!end_if_over(ws)) {
    owe_writable(ws);
    arm(ws);
  }
  return G_SOURCE_CONTINUE;
}

static GSourceFuncs timer_funcs = {.dispatch = timer_dispatch};

ChoirWebSocket *choir_websocket_new(ChoirHub *hub, const ChoirWebSocketHandlers *handlers, gpointer user) {
  static const ChoirWsFramesHandlers frames_handlers = {.message = on_message, .write = on_write};
  metrics_init();
  count_open(1);
  ChoirWebSocket *ws = g_new0(ChoirWebSocket, 1);
  *ws = (ChoirWebSocket){.hub = hub,
                         .fd = -1,
                         .handlers = *handlers,
                         .user = user,
                         .full_since = NEVER,
                         .close_deadline = NEVER,
                         .ping_at = NEVER};
  if (ws->handlers.max_message == 0)
    ws->handlers.max_message = 1024 * 1024;
  if (ws->handlers.max_queue == 0)
    ws->handlers.max_queue = 1024 * 1024;
  if (ws->handlers.stall_ms == 0)
    ws->handlers.stall_ms = 10000;
  if (ws->handlers.ping_s == 0)
    ws->handlers.ping_s = 20;
  ws->frames = choir_ws_frames_new(ws->handlers.max_message, &frames_handlers, ws);
  ws->timer = g_source_new(&timer_funcs, sizeof(TimerSource));
  g_source_set_static_name(ws->timer, "choir-websocket");
  ((TimerSource *)ws->timer)->ws = ws;
  g_source_attach(ws->timer, NULL);
  return ws;
}

void choir_websocket_attach(ChoirWebSocket *ws, int fd, const void *extra, gsize extra_length,
                            void (*release)(gpointer data), gpointer release_data) {
  g_autoptr(GError) error = NULL;
  int one = 1, size = KERNEL_QUEUE;
  /* Without NODELAY a 20 ms audio frame waits for the acknowledgement of the one before it. */
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
  ws->fd = fd;
  ws->state = OPEN;
  ws->release = release;
  ws->release_data = release_data;
  ws->ping_at = g_get_monotonic_time() + ws->handlers.ping_s * G_USEC_PER_SEC;
  ws->watching = EPOLLIN;
  if (extra_length > 0)
    ws->early = g_bytes_new(extra, extra_length);
  if (!choir_hub_add(ws->hub, fd, EPOLLIN, on_event, ws, &error)) {
    choir_warning(CHOIR_TOPIC_NET, "%s", error->message);
    ws->broken = TRUE;
  }
  flush(ws);
}

void choir_websocket_abort(ChoirWebSocket *ws, guint16 code) {
  if (ws->state == OPEN) {
    choir_ws_frames_close(ws->frames, code, "");
    choir_ws_frames_flush(ws->frames);
  }
  finish(ws, code);
}

void choir_websocket_on_free(ChoirWebSocket *ws, void (*freed)(gpointer data), gpointer data) {
  ws->freed = freed;
  ws->freed_data = data;
}

static gboolean send_message(ChoirWebSocket *ws, gboolean is_text, const void *data, gsize length) {
  if ((ws->state != OPEN && ws->state != PENDING) || ws->broken)
    return FALSE;
  gsize queued = choir_ws_frames_queued(ws->frames);
  if (length > ws->handlers.max_queue || queued > ws->handlers.max_queue - length) {
    choir_counter_add(metrics.dropped, 1);
    ws->refused = TRUE;
    settle(ws);
    return FALSE;
  }
  if (!choir_ws_frames_send(ws->frames, is_text, data, length))
    return FALSE;
  flush(ws);
  return TRUE;
}

gboolean choir_websocket_send_text(ChoirWebSocket *ws, const char *text, gssize length) {
  gsize size = length < 0 ? strlen(text) : (gsize)length;
  if (g_utf8_validate_len(text, size, NULL))
    return send_message(ws, TRUE, text, size);
  /* A browser fails the whole connection on one bad byte. */
  g_autofree char *valid = choir_utf8(text, (gssize)size);
  return send_message(ws, TRUE, valid, strlen(valid));
}

gboolean choir_websocket_send_binary(ChoirWebSocket *ws, const void *data, gsize length) {
  return send_message(ws, FALSE, data, length);
}

gsize choir_websocket_queued(const ChoirWebSocket *ws) {
  return choir_ws_frames_queued(ws->frames);
}

void choir_websocket_close(ChoirWebSocket *ws, guint16 code, const char *reason) {
  if (ws->state == CLOSED || ws->state == LINGERING)
    return;
  choir_ws_frames_close(ws->frames, code, reason);
  if (ws->close_deadline == NEVER)
    ws->close_deadline = g_get_monotonic_time() + CLOSE_WAIT_US;
  flush(ws);
}

void choir_websocket_set_user(ChoirWebSocket *ws, gpointer user) {
  ws->user = user;
}
