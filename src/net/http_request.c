#include <string.h>
#include "base/log.h"
#include "base/metrics.h"
#include "base/names.h"
#include "base/text.h"
#include "net/http_parse.h"
#include "net/http_private.h"
#include "net/websocket_private.h"

#define STALL_MS 30000
#define UPLOAD_MS 60000
#define BLOCK 16384

static void resume(ChoirHttpRequest *request) {
  MHD_resume_connection(request->mhd);
  choir_http_server_resumed(request->connection->server);
}

static void refuse(ChoirHttpRequest *request, guint status, const char *code, const char *text) {
  if (request->refusal != 0)
    return;
  request->refusal = status;
  request->refusal_code = code;
  request->refusal_text = text;
}

static enum MHD_Result count_host(void *user, enum MHD_ValueKind kind, const char *name, const char *value) {
  *(guint *)user += g_ascii_strcasecmp(name, "Host") == 0;
  return MHD_YES;
}

/* Looks at the headers. TRUE: read on (the refusal, if any, is answered when all is read: a client that is still
 * sending would lose an early answer to the reset that follows). FALSE: answer and close now. */
static gboolean check_headers(ChoirHttpRequest *request) {
  ChoirHttpServer *server = request->connection->server;
  const ChoirHttpServerOptions *options = choir_http_server_options(server);
  const char *length_text = choir_http_request_header(request, "Content-Length");
  const union MHD_ConnectionInfo *info = MHD_get_connection_info(request->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
  guint64 length = 0;
  guint hosts = 0;
  if (request->connection->excess || choir_http_server_closing(server)) {
    refuse(request, 503, "too_many_connections", "There are too many connections; try again later.");
    return FALSE;
  }
  if (info != NULL && info->header_size > options->max_header)
    refuse(request, 431, "header_too_large", "The header of the request is too large.");
  /* RFC 9112, 3.2. The guard looks at the first one, a proxy in front perhaps at the last. */
  MHD_get_connection_values(request->mhd, MHD_HEADER_KIND, count_host, &hosts);
  if (hosts > 1) {
    refuse(request, 400, "bad_request", "A request has one Host.");
    return FALSE;
  }
  if (length_text != NULL && choir_http_request_header(request, "Transfer-Encoding") != NULL) {
    refuse(request, 400, "bad_request", "A request has Content-Length or Transfer-Encoding, not both.");
    return FALSE;
  }
  if (length_text != NULL && !choir_http_parse_length(length_text, &length)) {
    refuse(request, 400, "bad_request", "Content-Length is not a number.");
    return FALSE;
  }
  if (length > request->max_body) {
    refuse(request, 413, "body_too_large", "The body of the request is too large.");
    return length <= 4 * (guint64)request->max_body && choir_http_request_header(request, "Expect") == NULL;
  }
  return TRUE;
}

static ChoirHttpRequest *request_new(ChoirHttpServer *server, struct MHD_Connection *mhd, const char *method,
                                     const char *version) {
  ChoirHttpRequest *request = g_new0(ChoirHttpRequest, 1);
  request->connection = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
  request->connection->request = request;
  request->mhd = mhd;
  request->method = method;
  request->version = version;
  const char *target = request->connection->target;
  if (target == NULL || !choir_http_parse_target(target, &request->path, &request->query)) {
    refuse(request, 400, "bad_request", "The address of the request cannot be read.");
    request->path = g_strdup("/");
    request->query = g_ptr_array_new_with_free_func(g_free);
  }
  request->max_body = choir_http_server_max_body(server, request->path);
  choir_buffer_init(&request->body, request->max_body + 1);
  if (request->max_body > choir_http_server_options(server)->max_body && !request->connection->excess)
    choir_http_connection_deadline(request->connection, CHOIR_DEADLINE_REQUEST, UPLOAD_MS);
  return request;
}

static void request_free(ChoirHttpRequest *request) {
  choir_http_server_reserve(request->connection->server, -(gssize)request->reserved);
  g_free(request->path);
  g_ptr_array_unref(request->query);
  choir_buffer_clear(&request->body);
  g_clear_pointer(&request->response, MHD_destroy_response);
  if (request->stream != NULL)
    choir_buffer_clear(&request->stream->queue);
  g_free(request->stream);
  g_free(request);
}

static void take_body(ChoirHttpRequest *request, const char *data, gsize length) {
  ChoirHttpServer *server = request->connection->server;
  if (request->refusal != 0)
    return; /* read and dropped */
  if (!choir_http_server_reserve(server, (gssize)length))
    refuse(request, 503, "overloaded", "Too much is being uploaded; try again later.");
  else if (request->reserved += length,
           !choir_buffer_append(&request->body, data, length) || request->body.length > request->max_body)
    refuse(request, 413, "body_too_large", "The body of the request is too large.");
  if (request->refusal != 0)
    choir_buffer_clear(&request->body);
}

/* Hands the answer over to libmicrohttpd. */
static enum MHD_Result queue_answer(ChoirHttpRequest *request) {
  struct MHD_Response *response = g_steal_pointer(&request->response);
  enum MHD_Result result = MHD_queue_response(request->mhd, request->status, response);
  MHD_destroy_response(response);
  return result;
}

static void answer_refusal(ChoirHttpRequest *request, gboolean now) {
  request->state = CHOIR_REQUEST_HANDLING;
  const char *type = request->refusal >= 500 ? "server_error" : "invalid_request_error";
  choir_http_respond_error(request, request->refusal, type, request->refusal_code, "%s", request->refusal_text);
  if (now)
    MHD_add_response_header(request->response, "Connection", "close");
}

static enum MHD_Result whole_request(ChoirHttpServer *server, ChoirHttpRequest *request) {
  choir_http_connection_deadline(request->connection, CHOIR_DEADLINE_NONE, 0);
  request->body_length = request->body.length;
  if (!choir_buffer_append(&request->body, "", 1))
    return MHD_NO;
  if (request->refusal != 0) {
    answer_refusal(request, FALSE);
    return queue_answer(request);
  }
  request->state = CHOIR_REQUEST_HANDLING;
  choir_http_server_dispatch(server, request);
  if (request->response != NULL)
    return queue_answer(request);
  request->state = CHOIR_REQUEST_WAITING;
  MHD_suspend_connection(request->mhd);
  choir_http_connection_watch(request->connection);
  return MHD_YES;
}

enum MHD_Result choir_http_on_request(void *user, struct MHD_Connection *mhd, const char *url, const char *method,
                                      const char *version, const char *data, size_t *length, void **context) {
  ChoirHttpRequest *request = *context;
  if (request == NULL) {
    *context = request = request_new(user, mhd, method, version);
    if (check_headers(request))
      return MHD_YES;
    answer_refusal(request, TRUE);
    return queue_answer(request);
  }
  if (*length > 0) {
    take_body(request, data, *length);
    *length = 0;
    return MHD_YES;
  }
  if (request->state == CHOIR_REQUEST_READING)
    return whole_request(user, request);
  /* Called again after a wait: with an answer, or because the peer left. */
  return request->response != NULL ? queue_answer(request) : MHD_NO;
}

static void stream_over(ChoirHttpStream *stream) {
  if (stream->over)
    return;
  stream->over = TRUE;
  if (stream->closed != NULL)
    stream->closed(stream->user);
}

static void stream_resume(ChoirHttpStream *stream) {
  if (stream->suspended)
    resume(stream->request);
  stream->suspended = FALSE;
}

void choir_http_request_lost(ChoirHttpRequest *request) {
  if (request->stream != NULL) {
    stream_over(request->stream);
    stream_resume(request->stream);
  } else if (request->state == CHOIR_REQUEST_WAITING) {
    request->state = CHOIR_REQUEST_GONE;
    if (request->gone != NULL)
      request->gone(request->gone_user);
    resume(request);
  }
}

/* For an upgraded connection this runs inside a lock of libmicrohttpd: nothing of it may be called then, and is not, as
 * its WebSocket has ended before. */
void choir_http_on_completed(void *user, struct MHD_Connection *mhd, void **context,
                             enum MHD_RequestTerminationCode why) {
  ChoirHttpConnection *connection = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
  ChoirHttpRequest *request = *context;
  *context = NULL;
  choir_http_connection_unwatch(connection);
  const ChoirHttpServerOptions *options = choir_http_server_options(connection->server);
  choir_http_connection_deadline(connection, CHOIR_DEADLINE_IDLE,
                                 options->idle_timeout_s * 1000LL + options->header_deadline_ms);
  if (request == NULL)
    return;
  if (request->stream != NULL)
    stream_over(request->stream);
  if (request->ws != NULL)
    choir_websocket_abort(request->ws, 1006);
  connection->request = NULL;
  request_free(request);
}

const char *choir_http_request_method(const ChoirHttpRequest *request) {
  return request->method;
}

const char *choir_http_request_path(const ChoirHttpRequest *request) {
  return request->path;
}

const char *choir_http_request_header(const ChoirHttpRequest *request, const char *name) {
  return MHD_lookup_connection_value(request->mhd, MHD_HEADER_KIND, name);
}

const char *choir_http_request_query(const ChoirHttpRequest *request, const char *name) {
  return choir_http_query_get(request->query, name);
}

const char *choir_http_request_peer(const ChoirHttpRequest *request) {
  return request->connection->peer;
}

const char *choir_http_request_body(const ChoirHttpRequest *request, gsize *ret_length) {
  if (ret_length != NULL)
    *ret_length = request->body_length;
  return (const char *)request->body.data;
}

json_t *choir_http_request_json(ChoirHttpRequest *request) {
  g_autoptr(GError) error = NULL;
  json_t *json = choir_json_parse((const char *)request->body.data, request->body_length, &error);
  if (json == NULL)
    choir_http_respond_error(request, 400, "invalid_request_error", "invalid_json", "The body is not valid JSON: %s.",
                             error->message);
  return json;
}

void choir_http_request_on_gone(ChoirHttpRequest *request, void (*gone)(gpointer user), gpointer user) {
  request->gone = gone;
  request->gone_user = user;
}

static gboolean may_answer(const ChoirHttpRequest *request) {
  return request->state == CHOIR_REQUEST_HANDLING || request->state == CHOIR_REQUEST_WAITING;
}

/* Takes the response. */
static void answer(ChoirHttpRequest *request, guint status, struct MHD_Response *response) {
  gboolean waited = request->state == CHOIR_REQUEST_WAITING;
  request->response = response;
  request->status = status;
  request->state = CHOIR_REQUEST_ANSWERED;
  choir_http_server_count(request->connection->server, status);
  if (request->stream != NULL)
    choir_http_connection_watch(request->connection);
  else
    choir_http_connection_unwatch(request->connection);
  if (waited)
    resume(request);
}

static void add_line(const char *name, const char *value, gpointer response) {
  MHD_add_response_header(response, name, value);
}

static void respond(ChoirHttpRequest *request, guint status, const char *content_type, const void *body, gsize length,
                    const char *headers, enum MHD_ResponseMemoryMode mode) {
  g_return_if_fail(may_answer(request));
  struct MHD_Response *response = MHD_create_response_from_buffer(length, (void *)(length > 0 ? body : ""), mode);
  if (content_type != NULL)
    MHD_add_response_header(response, "Content-Type", content_type);
  if (!choir_http_parse_lines(headers, add_line, response))
    choir_warning(CHOIR_TOPIC_NET, "an answer to %s had a header that cannot be sent", request->path);
  answer(request, status, response);
}

void choir_http_respond(ChoirHttpRequest *request, guint status, const char *content_type, const void *body,
                        gsize length, const char *headers) {
  respond(request, status, content_type, body, length, headers, MHD_RESPMEM_MUST_COPY);
}

void choir_http_respond_static(ChoirHttpRequest *request, guint status, const char *content_type, const void *body,
                               gsize length, const char *headers) {
  respond(request, status, content_type, body, length, headers, MHD_RESPMEM_PERSISTENT);
}

static void respond_json(ChoirHttpRequest *request, guint status, json_t *json, const char *headers) {
  g_autofree char *text = choir_json_dump(json);
  json_decref(json);
  choir_http_respond(request, status, "application/json", text, strlen(text), headers);
}

void choir_http_respond_json(ChoirHttpRequest *request, guint status, json_t *json) {
  respond_json(request, status, json, NULL);
}

static json_t *error_json(const char *type, const char *code, const char *message) {
  g_autofree char *valid = choir_utf8(message, -1);
  return json_pack("{s:{s:s,s:s,s:s}}", "error", "type", type, "code", code, "message", valid);
}

void choir_http_respond_error(ChoirHttpRequest *request, guint status, const char *type, const char *code,
                              const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  g_autofree char *message = g_strdup_vprintf(format, arguments);
  va_end(arguments);
  respond_json(request, status, error_json(type, code, message), NULL);
}

void choir_http_respond_not_allowed(ChoirHttpRequest *request, const char *allowed) {
  g_autofree char *message =
      g_strdup_printf("%s does not take %s; it takes %s.", request->path, request->method, allowed);
  g_autofree char *header = g_strdup_printf("Allow: %s", allowed);
  respond_json(request, 405, error_json("invalid_request_error", "method_not_allowed", message), header);
}

/* libmicrohttpd asks for more when the socket takes it. */
static ssize_t read_stream(void *user, uint64_t position, char *buffer, size_t max) {
  ChoirHttpStream *stream = user;
  if (stream->over)
    return MHD_CONTENT_READER_END_WITH_ERROR;
  gsize length = MIN(stream->queue.length, max);
  if (length == 0 && stream->ended)
    return MHD_CONTENT_READER_END_OF_STREAM;
  if (length == 0) {
    stream->suspended = TRUE;
    MHD_suspend_connection(stream->request->mhd);
    return 0;
  }
  memcpy(buffer, stream->queue.data, length);
  choir_buffer_consume(&stream->queue, length);
  if (stream->request->connection->deadline == CHOIR_DEADLINE_STALL)
    choir_http_connection_deadline(stream->request->connection, CHOIR_DEADLINE_NONE, 0);
  return (ssize_t)length;
}

ChoirHttpStream *choir_http_stream_start(ChoirHttpRequest *request, guint status, const char *content_type,
                                         gsize max_queue, void (*closed)(gpointer user), gpointer user) {
  g_return_val_if_fail(may_answer(request), NULL);
  ChoirHttpStream *stream = g_new0(ChoirHttpStream, 1);
  *stream = (ChoirHttpStream){.request = request, .closed = closed, .user = user};
  choir_buffer_init(&stream->queue, max_queue);
  request->stream = stream;
  struct MHD_Response *response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, read_stream, stream, NULL);
  MHD_add_response_header(response, "Content-Type", content_type);
  MHD_add_response_header(response, "Cache-Control", "no-store");
  MHD_add_response_header(response, "X-Accel-Buffering", "no"); /* nginx in front must not collect it */
  answer(request, status, response);
  return stream;
}

gboolean choir_http_stream_write(ChoirHttpStream *stream, const void *data, gsize length) {
  static ChoirMetric *dropped;
  if (stream->over || stream->ended)
    return FALSE;
  if (!choir_buffer_append(&stream->queue, data, length)) {
    if (dropped == NULL)
      dropped =
          choir_counter("choir_http_stream_dropped_total", NULL, "Writes refused because a stream's queue was full.");
    choir_counter_add(dropped, 1);
    if (stream->request->connection->deadline != CHOIR_DEADLINE_STALL)
      choir_http_connection_deadline(stream->request->connection, CHOIR_DEADLINE_STALL, STALL_MS);
    return FALSE;
  }
  stream_resume(stream);
  return TRUE;
}

gsize choir_http_stream_queued(const ChoirHttpStream *stream) {
  return stream->queue.length;
}

void choir_http_stream_end(ChoirHttpStream *stream) {
  stream->ended = TRUE;
  stream_resume(stream);
}

void choir_http_stream_abort(ChoirHttpStream *stream) {
  stream_over(stream);
  stream_resume(stream);
}

static void on_websocket_freed(gpointer user) {
  ((ChoirHttpRequest *)user)->ws = NULL;
}

/* Gives the socket back to libmicrohttpd, which closes it. */
static void on_websocket_released(gpointer user) {
  ChoirHttpRequest *request = user;
  MHD_upgrade_action(request->upgrade, MHD_UPGRADE_ACTION_CLOSE);
  choir_http_server_resumed(request->connection->server);
}

static void on_upgrade(void *user, struct MHD_Connection *mhd, void *context, const char *extra, size_t extra_length,
                       MHD_socket fd, struct MHD_UpgradeResponseHandle *urh) {
  ChoirHttpRequest *request = user;
  request->upgrade = urh;
  if (request->ws == NULL)
    on_websocket_released(request);
  else
    choir_websocket_attach(request->ws, fd, extra, extra_length, on_websocket_released, request);
}

ChoirWebSocket *choir_http_upgrade(ChoirHttpRequest *request, const char *subprotocol,
                                   const ChoirWebSocketHandlers *handlers, gpointer user) {
  g_return_val_if_fail(may_answer(request), NULL);
  ChoirHttpHandshake handshake = {request->method,
                                  request->version,
                                  choir_http_request_header(request, "Connection"),
                                  choir_http_request_header(request, "Upgrade"),
                                  choir_http_request_header(request, "Sec-WebSocket-Version"),
                                  choir_http_request_header(request, "Sec-WebSocket-Key")};
  g_autofree char *accept = NULL;
  const char *problem = NULL;
  guint status = choir_http_check_handshake(&handshake, &accept, &problem);
  if (status != 101) {
    respond_json(request, status, error_json("invalid_request_error", "bad_handshake", problem),
                 status == 426 ? "Upgrade: websocket\nSec-WebSocket-Version: 13" : NULL);
    return NULL;
  }
  struct MHD_Response *response = MHD_create_response_for_upgrade(on_upgrade, request);
  MHD_add_response_header(response, "Upgrade", "websocket");
  MHD_add_response_header(response, "Sec-WebSocket-Accept", accept);
  if (subprotocol != NULL &&
      choir_http_list_has(choir_http_request_header(request, "Sec-WebSocket-Protocol"), subprotocol))
    MHD_add_response_header(response, "Sec-WebSocket-Protocol", subprotocol);
  request->ws = choir_websocket_new(choir_http_server_hub(request->connection->server), handlers, user);
  choir_websocket_on_free(request->ws, on_websocket_freed, request);
  ChoirWebSocket *ws = request->ws;
  answer(request, 101, response);
  return ws;
}
