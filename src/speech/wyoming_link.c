#include "speech/wyoming_link.h"
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/text.h"

#define CONNECT_MS 2000
#define ANSWER_MS 2000 /* to describe */
#define SLICE_MS 50    /* how often a cancel is looked for */
#define BACKOFF_FIRST_S 1
#define BACKOFF_MOST_S 60

struct ChoirWyomingLink {
  char *host, *port, *place, *service, *what, *fallback;
  ChoirWyomingReport report;
  gpointer user;
  GThread *thread;
  GMutex mutex;
  GCond changed;
  gboolean up, ending; /* under the mutex */
};

struct ChoirWyomingCall {
  int fd;
  ChoirWyomingParser *parser;
  ChoirWyomingCancelled cancelled;
  gpointer user;
  char *place;
};

G_DEFINE_QUARK(choir - wyoming - link - error - quark, choir_wyoming_link_error)

/* --- one connection --- */

static gboolean gone(GError **error, const char *place, const char *why) {
  g_set_error(error, CHOIR_WYOMING_LINK_ERROR, CHOIR_WYOMING_LINK_ERROR_GONE, "%s: %s", place, why);
  return FALSE;
}

/* TRUE when ready. FALSE with error, or without one when cancelled. */
static gboolean wait_for(int fd, short events, guint limit_ms, ChoirWyomingCancelled cancelled, gpointer user,
                         const char *place, GError **error) {
  gint64 end = g_get_monotonic_time() + (gint64)limit_ms * 1000;
  for (;;) {
    struct pollfd entry = {.fd = fd, .events = events};
    gint64 left = (end - g_get_monotonic_time()) / 1000;
    int ready = poll(&entry, 1, (int)CLAMP(left, 0, SLICE_MS));
    if (cancelled && cancelled(user))
      return FALSE;
    if (ready > 0)
      return TRUE;
    if (ready == 0 && left <= 0)
      return gone(error, place, "no answer in time");
    if (ready < 0 && errno != EINTR)
      return gone(error, place, g_strerror(errno));
  }
}

/* A connected socket, or -1. */
static int dial(const struct addrinfo *address, const ChoirWyomingLink *link, ChoirWyomingCancelled cancelled,
                gpointer user, GError **error) {
  int one = 1, problem = 0;
  socklen_t size = sizeof problem;
  int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    gone(error, link->place, g_strerror(errno));
  if (fd < 0)
    return -1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  gboolean ok = connect(fd, address->ai_addr, address->ai_addrlen) == 0;
  if (!ok && errno != EINPROGRESS)
    gone(error, link->place, g_strerror(errno));
  else if (!ok && wait_for(fd, POLLOUT, CONNECT_MS, cancelled, user, link->place, error)) {
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &problem, &size);
    ok = problem == 0 || gone(error, link->place, g_strerror(problem));
  }
  if (ok)
    return fd;
  close(fd);
  return -1;
}

ChoirWyomingCall *choir_wyoming_call(ChoirWyomingLink *link, ChoirWyomingCancelled cancelled, gpointer user,
                                     GError **error) {
  const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
  struct addrinfo *list = NULL;
  int code = getaddrinfo(link->host, link->port, &hints, &list);
  if (code != 0) {
    gone(error, link->place, gai_strerror(code));
    return NULL;
  }
  int fd = -1;
  for (const struct addrinfo *address = list; address && fd < 0; address = address->ai_next) {
    g_clear_error(error);
    fd = dial(address, link, cancelled, user, error);
  }
  freeaddrinfo(list);
  if (fd < 0)
    return NULL;
  ChoirWyomingCall *call = g_new0(ChoirWyomingCall, 1);
  *call = (ChoirWyomingCall){.fd = fd,
                             .parser = choir_wyoming_parser_new(),
                             .cancelled = cancelled,
                             .user = user,
                             .place = g_strdup(link->place)};
  return call;
}

void choir_wyoming_call_free(ChoirWyomingCall *call) {
  if (!call)
    return;
  close(call->fd);
  choir_wyoming_parser_free(call->parser);
  g_free(call->place);
  g_free(call);
}

gboolean choir_wyoming_call_send(ChoirWyomingCall *call, const char *type, json_t *data, const void *payload,
                                 gsize length, GError **error) {
  g_autoptr(GByteArray) bytes = choir_wyoming_encode(type, data, payload, length);
  for (guint at = 0; at < bytes->len;) {
    ssize_t n = send(call->fd, bytes->data + at, bytes->len - at, MSG_NOSIGNAL);
    if (n > 0)
      at += (guint)n;
    else if (n < 0 && errno == EAGAIN) {
      if (!wait_for(call->fd, POLLOUT, 10000, call->cancelled, call->user, call->place, error))
        return FALSE;
    } else if (n < 0 && errno != EINTR)
      return gone(error, call->place, g_strerror(errno));
  }
  return TRUE;
}

const ChoirWyomingEvent *choir_wyoming_call_next(ChoirWyomingCall *call, guint silence_ms, GError **error) {
  guint8 chunk[16384];
  for (;;) {
    g_autoptr(GError) broken = NULL;
    const ChoirWyomingEvent *event = choir_wyoming_parser_next(call->parser, &broken);
    if (event && !g_str_equal(event->type, "error"))
      return event;
    if (event)
      g_set_error(error, CHOIR_WYOMING_LINK_ERROR, CHOIR_WYOMING_LINK_ERROR_REFUSED, "%s: %s", call->place,
                  choir_json_string(event->data, "text", "it refused without a reason"));
    if (broken)
      gone(error, call->place, broken->message);
    if (event || broken || !wait_for(call->fd, POLLIN, silence_ms, call->cancelled, call->user, call->place, error))
      return NULL;
    ssize_t n = recv(call->fd, chunk, sizeof chunk, 0);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
      continue;
    if (n <= 0 || !choir_wyoming_parser_feed(call->parser, chunk, (gsize)n, NULL)) {
      gone(error, call->place, n == 0 ? "it hung up" : n < 0 ? g_strerror(errno) : "it sends too much");
      return NULL;
    }
  }
}

/* --- up or down --- */

/* Whether a server answers there that offers the service. ret_name: of its first program. */
static gboolean look(ChoirWyomingLink *link, char **ret_name, GError **error) {
  ChoirWyomingCall *call = choir_wyoming_call(link, NULL, NULL, error);
  const ChoirWyomingEvent *event = NULL;
  if (call && choir_wyoming_call_send(call, "describe", NULL, NULL, 0, error))
    do
      event = choir_wyoming_call_next(call, ANSWER_MS, error);
    while (event && !g_str_equal(event->type, "info"));
  const json_t *first = event ? json_array_get(json_object_get(event->data, link->service), 0) : NULL;
  if (event && !first)
    g_set_error(error, CHOIR_WYOMING_LINK_ERROR, CHOIR_WYOMING_LINK_ERROR_GONE, "%s: the server there offers no %s",
                link->place, link->service);
  if (first)
    *ret_name = g_strdup(choir_json_string(first, "name", "unnamed"));
  choir_wyoming_call_free(call);
  return first != NULL;
}

static char *detail_up(const ChoirWyomingLink *link, const char *name) {
  return g_strdup_printf("%s %s at %s", link->what, name, link->place);
}

static char *detail_down(const ChoirWyomingLink *link, const char *why) {
  return g_strdup_printf("%s at %s; %s%s until it is back", link->what, why,
                         link->fallback ? link->fallback : "nobody stands in",
                         link->fallback ? " on this machine stands in" : "");
}

/* Sleeps while all is well; looks after a lost line. */
static gpointer watch(gpointer data) {
  ChoirWyomingLink *link = data;
  guint pause = BACKOFF_FIRST_S;
  g_mutex_lock(&link->mutex);
  while (!link->ending) {
    if (link->up) {
      pause = BACKOFF_FIRST_S;
      g_cond_wait(&link->changed, &link->mutex);
      continue;
    }
    if (g_cond_wait_until(&link->changed, &link->mutex, g_get_monotonic_time() + pause * G_TIME_SPAN_SECOND))
      continue;
    pause = MIN(2 * pause, BACKOFF_MOST_S);
    g_mutex_unlock(&link->mutex);
    g_autofree char *name = NULL;
    gboolean up = look(link, &name, NULL);
    g_autofree char *detail = up ? detail_up(link, name) : NULL;
    g_mutex_lock(&link->mutex);
    link->up = up;
    if (up && !link->ending)
      link->report(detail, link->user);
  }
  g_mutex_unlock(&link->mutex);
  return NULL;
}

/* tcp://host:port, the host perhaps in brackets. */
static gboolean split_url(const char *url, char **ret_host, char **ret_port) {
  const char *rest = g_str_has_prefix(url, "tcp://") ? url + 6 : NULL;
  const char *colon = rest ? strrchr(rest, ':') : NULL;
  if (!colon || colon == rest || !colon[1] || strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
      g_ascii_strtoull(colon + 1, NULL, 10) - 1 > 65534)
    return FALSE;
  gboolean brackets = rest[0] == '[' && colon[-1] == ']';
  *ret_host = brackets ? g_strndup(rest + 1, (gsize)(colon - rest - 2)) : g_strndup(rest, (gsize)(colon - rest));
  *ret_port = g_strdup(colon + 1);
  return TRUE;
}

ChoirWyomingLink *choir_wyoming_link_new(const ChoirWyomingLinkOptions *options, char **ret_detail, GError **error) {
  g_autofree char *host = NULL, *port = NULL;
  if (!options->url || !split_url(options->url, &host, &port)) {
    g_set_error(error, CHOIR_WYOMING_LINK_ERROR, CHOIR_WYOMING_LINK_ERROR_URL,
                "'%s' is no address of a Wyoming server; write it as tcp://host:port",
                options->url ? options->url : "");
    return NULL;
  }
  ChoirWyomingLink *link = g_new0(ChoirWyomingLink, 1);
  char *place = g_strdup_printf("%s port %s", host, port);
  *link = (ChoirWyomingLink){.place = place,
                             .host = g_steal_pointer(&host),
                             .port = g_steal_pointer(&port),
                             .service = g_strdup(options->service),
                             .what = g_strdup(options->what),
                             .fallback = g_strdup(options->fallback),
                             .report = options->report,
                             .user = options->user};
  g_mutex_init(&link->mutex);
  g_cond_init(&link->changed);
  g_autoptr(GError) why = NULL;
  g_autofree char *name = NULL;
  link->up = look(link, &name, &why);
  *ret_detail = link->up ? detail_up(link, name) : detail_down(link, why ? why->message : "no answer");
  link->thread = g_thread_new("wyoming", watch, link);
  return link;
}

void choir_wyoming_link_free(ChoirWyomingLink *link) {
  if (!link)
    return;
  g_mutex_lock(&link->mutex);
  link->ending = TRUE;
  g_cond_signal(&link->changed);
  g_mutex_unlock(&link->mutex);
  g_thread_join(link->thread);
  g_mutex_clear(&link->mutex);
  g_cond_clear(&link->changed);
  g_free(link->place);
  g_free(link->host);
  g_free(link->port);
  g_free(link->service);
  g_free(link->what);
  g_free(link->fallback);
  g_free(link);
}

gboolean choir_wyoming_link_up(ChoirWyomingLink *link) {
  g_mutex_lock(&link->mutex);
  gboolean up = link->up;
  g_mutex_unlock(&link->mutex);
  return up;
}

void choir_wyoming_link_lost(ChoirWyomingLink *link, const GError *why) {
  g_autofree char *detail = detail_down(link, why->message);
  g_mutex_lock(&link->mutex);
  if (link->up)
    link->report(detail, link->user);
  link->up = FALSE;
  g_cond_signal(&link->changed);
  g_mutex_unlock(&link->mutex);
}
