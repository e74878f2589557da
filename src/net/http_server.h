/* HTTP/1.1 server over libmicrohttpd (external epoll nested in the hub): routes, limits, pull streaming, upgrades.
 * Main thread only. Handlers get whole bodies. Every error we send is {"error":{"type","code","message"}}. */
#pragma once
#include <glib.h>
#include <jansson.h>
#include "net/hub.h"
#include "net/websocket.h"

typedef struct ChoirHttpServer ChoirHttpServer;
typedef struct ChoirHttpRequest ChoirHttpRequest; /* valid until answered (or its stream ends) */
typedef struct ChoirHttpStream ChoirHttpStream;
typedef void (*ChoirHttpHandler)(ChoirHttpRequest *request, gpointer user);
/* FALSE = refused, the guard has already answered. */
typedef gboolean (*ChoirHttpGuard)(ChoirHttpRequest *request, gpointer user);

typedef struct {
  const char *address;      /* "127.0.0.1" */
  guint16 port;             /* 0 = any free one */
  gsize max_body;           /* 0 = 8 MiB; over it: 413 */
  guint max_connections;    /* 0 = 128; per address: half of it */
  guint header_deadline_ms; /* 0 = 10000: header and body must be complete by then (our own timer) */
  guint idle_timeout_s;     /* 0 = 60, keep-alive */
  gsize max_header;         /* 0 = 16 KiB: over it 431 */
} ChoirHttpServerOptions;

ChoirHttpServer *choir_http_server_new(ChoirHub *hub, const ChoirHttpServerOptions *options, GError **error);
/* The same routes and guard on a unix socket, for the terminals of this machine: path is made anew with mode 0600, and
 * the kernel says who calls. Its requests have the peer "unix:UID". Free it before `routes`, whose guard must be set.
 */
ChoirHttpServer *choir_http_server_new_local(ChoirHttpServer *routes, const char *path, GError **error);
void choir_http_server_free(ChoirHttpServer *server); /* closes every connection */
guint16 choir_http_server_port(const ChoirHttpServer *server);
/* Runs before every handler, upgrades included: Host, Origin, tokens. */
void choir_http_server_set_guard(ChoirHttpServer *server, ChoirHttpGuard guard, gpointer user);
/* method "GET", path "/v1/models"; a path ending in "/" + "*" matches every path below. HEAD falls back to GET. A known
 * path with another method answers 405 with Allow; an unknown path 404. */
void choir_http_server_route(ChoirHttpServer *server, const char *method, const char *path, ChoirHttpHandler handler,
                             gpointer user);
/* Bodies sent to this path (exact) may have up to max_body bytes, and a minute to arrive. */
void choir_http_server_allow_body(ChoirHttpServer *server, const char *path, gsize max_body);
/* Every route there is, for what must know them all (a test of the roles). */
void choir_http_server_each_route(const ChoirHttpServer *server,
                                  void (*each)(const char *method, const char *path, gpointer user), gpointer user);
guint choir_http_server_connections(const ChoirHttpServer *server);

const char *choir_http_request_method(const ChoirHttpRequest *request);
const char *choir_http_request_path(const ChoirHttpRequest *request);
const char *choir_http_request_header(const ChoirHttpRequest *request, const char *name); /* NULL when absent */
const char *choir_http_request_query(const ChoirHttpRequest *request, const char *name); /* decoded, NULL when absent */
gboolean choir_http_request_routed(const ChoirHttpRequest *request);  /* a handler waits behind the guard */
const char *choir_http_request_peer(const ChoirHttpRequest *request); /* "127.0.0.1", "unix:1000" */
/* Body bytes (not NUL-safe text: NUL-terminated for convenience). */
const char *choir_http_request_body(const ChoirHttpRequest *request, gsize *ret_length);
/* Parses the body as JSON; on failure answers 400 and returns NULL. Caller decrefs. */
json_t *choir_http_request_json(ChoirHttpRequest *request);
/* A handler that answers later keeps the pointer; `gone` tells it that the client left (then it must not answer).
 * Exactly one of respond*, stream, upgrade must be called for each request, unless gone ran. A client that
 * only closes its sending side counts as gone. */
void choir_http_request_on_gone(ChoirHttpRequest *request, void (*gone)(gpointer user), gpointer user);

/* headers: "Name: value" lines joined by \n, or NULL. Body is copied. */
void choir_http_respond(ChoirHttpRequest *request, guint status, const char *content_type, const void *body,
                        gsize length, const char *headers);
void choir_http_respond_static(ChoirHttpRequest *request, guint status, const char *content_type, const void *body,
                               gsize length, const char *headers);
void choir_http_respond_json(ChoirHttpRequest *request, guint status, json_t *json /* stolen */);
void choir_http_respond_error(ChoirHttpRequest *request, guint status, const char *type, const char *code,
                              const char *format, ...) G_GNUC_PRINTF(5, 6);

/* Streaming answer (SSE): a bounded queue of max_queue bytes drained by the socket. `closed` runs once, when the client
 * left, stalled longer than 30 s with a full queue, or after choir_http_stream_end() was drained. */
ChoirHttpStream *choir_http_stream_start(ChoirHttpRequest *request, guint status, const char *content_type,
                                         gsize max_queue, void (*closed)(gpointer user), gpointer user);
gboolean choir_http_stream_write(ChoirHttpStream *stream, const void *data,
                                 gsize length); /* FALSE: full or closed; nothing queued */
gsize choir_http_stream_queued(const ChoirHttpStream *stream);
void choir_http_stream_end(ChoirHttpStream *stream);
/* Cuts the answer off, so that the client sees that it is not whole. `closed` runs inside. */
void choir_http_stream_abort(ChoirHttpStream *stream);

/* Upgrade to a WebSocket (RFC 6455 handshake checked; else answers 400/426). subprotocol: the one to select or NULL.
 * Returns NULL when it had to answer with an error. */
ChoirWebSocket *choir_http_upgrade(ChoirHttpRequest *request, const char *subprotocol,
                                   const ChoirWebSocketHandlers *handlers, gpointer user);
