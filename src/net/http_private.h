/* Shared by http_server.c (daemon, connections, deadlines) and http_request.c (requests, answers, streams). */
#pragma once
#include <microhttpd.h>
#include "base/buffer.h"
#include "net/http_server.h"

typedef enum { CHOIR_DEADLINE_NONE, CHOIR_DEADLINE_REQUEST, CHOIR_DEADLINE_IDLE, CHOIR_DEADLINE_STALL } ChoirDeadline;

typedef struct {
  ChoirHttpServer *server;
  int fd;
  char peer[64];
  gboolean excess;  /* over a limit: gets a 503 and nothing else */
  gboolean watched; /* the hub looks for the peer leaving */
  gint64 deadline_us;
  ChoirDeadline deadline;
  char *target; /* of the request that is arriving, as sent; NULL before its first line */
  ChoirHttpRequest *request;
} ChoirHttpConnection;

typedef enum {
  CHOIR_REQUEST_READING,
  CHOIR_REQUEST_HANDLING,
  CHOIR_REQUEST_WAITING,
  CHOIR_REQUEST_ANSWERED,
  CHOIR_REQUEST_GONE
} ChoirHttpRequestState;

struct ChoirHttpRequest {
  ChoirHttpConnection *connection;
  struct MHD_Connection *mhd;
  const char *method, *version;
  char *path;
  GPtrArray *query;
  ChoirBuffer body;
  gsize body_length, reserved, max_body;
  ChoirHttpRequestState state;
  guint refusal; /* status to answer instead of calling a handler, 0 for none */
  const char *refusal_code, *refusal_text;
  struct MHD_Response *response;
  guint status;
  void (*gone)(gpointer user);
  gpointer gone_user;
  ChoirHttpStream *stream;
  ChoirWebSocket *ws;
  struct MHD_UpgradeResponseHandle *upgrade;
};

struct ChoirHttpStream {
  ChoirHttpRequest *request;
  ChoirBuffer queue;
  void (*closed)(gpointer user);
  gpointer user;
  gboolean ended, suspended, over; /* over: closed() has run */
};

/* http_server.c */
void choir_http_connection_deadline(ChoirHttpConnection *connection, ChoirDeadline deadline, gint64 in_ms);
void choir_http_connection_watch(ChoirHttpConnection *connection);
void choir_http_connection_unwatch(ChoirHttpConnection *connection);
ChoirHub *choir_http_server_hub(ChoirHttpServer *server);
/* To be called after MHD_resume_connection() and the end of an upgrade: with an external loop the library wakes nobody.
 */
void choir_http_server_resumed(ChoirHttpServer *server);
void choir_http_server_count(ChoirHttpServer *server, guint status);
const ChoirHttpServerOptions *choir_http_server_options(const ChoirHttpServer *server);
gboolean choir_http_server_closing(const ChoirHttpServer *server);
/* The limit of a path, see choir_http_server_allow_body(). */
gsize choir_http_server_max_body(const ChoirHttpServer *server, const char *path);
/* Bodies of all connections together have a limit too; give back with a negative number. FALSE = over it. */
gboolean choir_http_server_reserve(ChoirHttpServer *server, gssize bytes);
void choir_http_server_dispatch(ChoirHttpServer *server, ChoirHttpRequest *request);

/* http_request.c: callbacks of libmicrohttpd, and the peer's leaving */
enum MHD_Result choir_http_on_request(void *server, struct MHD_Connection *mhd, const char *url, const char *method,
                                      const char *version, const char *data, size_t *length, void **context);
void choir_http_on_completed(void *server, struct MHD_Connection *mhd, void **context,
                             enum MHD_RequestTerminationCode why);
void choir_http_respond_not_allowed(ChoirHttpRequest *request, const char *allowed); /* 405 */
/* The peer has left, or is cut: tells the owner once. The caller shuts the socket down. */
void choir_http_request_lost(ChoirHttpRequest *request);
