#include "net/http_client.h"
#include <gio/gunixsocketaddress.h>
#include <libsoup/soup.h>
#include <string.h>
#include "base/clock.h"
#include "base/text.h"
#include "net/http_parse.h"
#include "net/sse.h"

#define CHUNK 16384
#define DEFAULT_MAX_BODY (8 * 1024 * 1024)
#define MAX_ERROR_BODY 65536 /* of a stream that turns out to be an error */

struct ChoirHttpClient {
  SoupSession *session;
  SoupMessage *answering; /* whose done callback runs */
  GPtrArray *calls;       /* running ones, not owned */
};

typedef struct {
  ChoirHttpClient *client;
  SoupMessage *message;
  GInputStream *body;
  GCancellable *own, *users; /* own also ends it for time and size */
  gulong users_handler;
  GSource *timer;
  guint timeout_ms;
  gboolean is_stream; /* the timeout counts from the last byte */
  gboolean timed_out, completed;
  gint64 last_byte_us;
  ChoirSse *sse; /* NULL: the body is collected */
  GByteArray *collected;
  gsize max_body;
  guint status;
  GError *error; /* ours, found before or while the library runs */
  ChoirHttpData data;
  ChoirHttpDone done;
  gpointer user;
  char chunk[CHUNK];
} Call;

G_DEFINE_QUARK(choir - http - error, choir_http_error)

static void call_free(Call *call) {
  if (call->users_handler != 0)
    g_signal_handler_disconnect(call->users, call->users_handler);
  if (call->timer != NULL) {
    g_source_destroy(call->timer);
    g_source_unref(call->timer);
  }
  g_clear_object(&call->message);
  g_clear_object(&call->body);
  g_clear_object(&call->own);
  g_clear_object(&call->users);
  g_byte_array_unref(call->collected);
  choir_sse_free(call->sse);
  g_clear_error(&call->error);
  g_free(call);
}

static char *where(const Call *call) {
  if (call->message == NULL)
    return g_strdup("the server");
  GUri *uri = soup_message_get_uri(call->message);
  return g_strdup_printf("%s:%d", g_uri_get_host(uri), g_uri_get_port(uri));
}

/* What a server says about its refusal: {"error":{"message"}}, {"error":"..."}, or its first line. */
static char *server_message(const GByteArray *body) {
  g_autoptr(GError) ignored = NULL;
  json_t *json = choir_json_parse((const char *)body->data, body->len, &ignored);
  const json_t *error = json_object_get(json, "error");
  const char *text = json_is_string(error) ? json_string_value(error) : choir_json_string(error, "message", NULL);
  char *result = text != NULL ? g_strndup(text, 300) : NULL;
  json_decref(json);
  if (result == NULL && body->len > 0) {
    gsize n = 0; /* the array has no NUL behind it */
    while (n < MIN(body->len, 200) && body->data[n] != '\r' && body->data[n] != '\n')
      n++;
    result = choir_utf8((const char *)body->data, (gssize)n);
  }
  return result != NULL ? result : g_strdup("no explanation");
}

static GError *error_for(const Call *call, const GError *problem) {
  g_autofree char *place = where(call);
  if (call->client == NULL || (call->users != NULL && g_cancellable_is_cancelled(call->users)))
    return g_error_new_literal(G_IO_ERROR, G_IO_ERROR_CANCELLED, "the request was cancelled");
  if (call->timed_out)
    return g_error_new(CHOIR_HTTP_ERROR, CHOIR_HTTP_ERROR_TIMEOUT, "%s sent nothing for %u ms", place,
                       call->timeout_ms);
  if (call->error != NULL)
    return g_error_copy(call->error);
  if (problem != NULL) {
    gboolean connect = problem->domain == G_RESOLVER_ERROR || problem->domain == G_TLS_ERROR ||
                       g_error_matches(problem, G_IO_ERROR, G_IO_ERROR_CONNECTION_REFUSED) ||
                       g_error_matches(problem, G_IO_ERROR, G_IO_ERROR_HOST_UNREACHABLE) ||
                       g_error_matches(problem, G_IO_ERROR, G_IO_ERROR_NETWORK_UNREACHABLE) ||
                       g_error_matches(problem, G_IO_ERROR, G_IO_ERROR_HOST_NOT_FOUND) ||
                       g_error_matches(problem, G_IO_ERROR, G_IO_ERROR_NOT_FOUND) || /* a unix socket: none, not ours */
                       g_error_matches(problem, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED) ||
                       g_error_matches(problem, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
    return g_error_new(CHOIR_HTTP_ERROR, connect ? CHOIR_HTTP_ERROR_CONNECT : CHOIR_HTTP_ERROR_PROTOCOL, "%s %s: %s",
                       connect ? "cannot reach" : "the connection was cut by", place, problem->message);
  }
  if (call->status >= 400) {
    g_autofree char *text = server_message(call->collected);
    return g_error_new(CHOIR_HTTP_ERROR, CHOIR_HTTP_ERROR_STATUS, "%s answered %u: %s", place, call->status, text);
  }
  return NULL;
}

static void report(Call *call, const GError *problem) {
  if (call->completed)
    return;
  call->completed = TRUE;
  g_autoptr(GError) error = error_for(call, problem);
  guint8 end = 0;
  g_byte_array_append(call->collected, &end, 1);
  gsize length = call->collected->len - 1;
  gboolean whole = error == NULL || g_error_matches(error, CHOIR_HTTP_ERROR, CHOIR_HTTP_ERROR_STATUS);
  const char *body = whole && call->sse == NULL ? (const char *)call->collected->data : NULL;
  ChoirHttpClient *client = call->client;
  SoupMessage *outer = client != NULL ? client->answering : NULL;
  g_autoptr(SoupMessage) message = call->message != NULL ? g_object_ref(call->message) : NULL;
  if (client != NULL)
    client->answering = message;
  call->done(call->status, body, body != NULL ? length : 0, error, call->user);
  if (call->client != NULL) { /* done may have freed the client, which tells its calls so */
    client->answering = outer;
    g_ptr_array_remove_fast(client->calls, call);
  }
}

static void complete(Call *call, const GError *problem) {
  /* An unfinished body closes its connection; a finished one leaves it for the next request. */
  report(call, problem);
  call_free(call);
}

static void fail(Call *call, gint code, const char *text) {
  g_autofree char *place = where(call);
  if (call->error == NULL)
    call->error = g_error_new(CHOIR_HTTP_ERROR, code, "%s %s", place, text);
}

static void on_sse_event(const char *event, const char *data, gsize length, gpointer user) {
  Call *call = user;
  /* An event behind the cancelling one may be in the same bytes. */
  if (!call->completed && !g_cancellable_is_cancelled(call->own))
    call->data(event, data, length, call->user);
}

/* FALSE when the call is over its limit. */
static gboolean take(Call *call, gsize length) {
  g_autoptr(GError) error = NULL;
  call->last_byte_us = g_get_monotonic_time();
  if (call->sse != NULL) {
    if (choir_sse_feed(call->sse, call->chunk, length, &error))
      return TRUE;
    fail(call, CHOIR_HTTP_ERROR_LIMIT, error->message);
    return FALSE;
  }
  if (call->collected->len + length > call->max_body) {
    fail(call, CHOIR_HTTP_ERROR_LIMIT, "sent more than is accepted");
    return FALSE;
  }
  g_byte_array_append(call->collected, (const guint8 *)call->chunk, (guint)length);
  return TRUE;
}

static void on_read(GObject *source, GAsyncResult *result, gpointer user) {
  Call *call = user;
  g_autoptr(GError) error = NULL;
  gssize length = g_input_stream_read_finish(G_INPUT_STREAM(source), result, &error);
  /* The library takes a chunked body that ends without its last chunk for a whole one; half an event gives it away. */
  if (length == 0 && call->sse != NULL && choir_sse_pending(call->sse))
    fail(call, CHOIR_HTTP_ERROR_PROTOCOL, "cut the stream in the middle of an event");
  if (length <= 0 || call->completed) {
    complete(call, error);
    return;
  }
  if (!take(call, (gsize)length) || g_cancellable_is_cancelled(call->own)) {
    g_cancellable_cancel(call->own);
    complete(call, NULL);
    return;
  }
  g_input_stream_read_async(call->body, call->chunk, CHUNK, G_PRIORITY_DEFAULT, call->own, on_read, call);
}

static void on_sent(GObject *source, GAsyncResult *result, gpointer user) {
  Call *call = user;
  g_autoptr(GError) error = NULL;
  call->body = soup_session_send_finish(SOUP_SESSION(source), result, &error);
  call->last_byte_us = g_get_monotonic_time();
  if (call->body == NULL || call->completed) {
    complete(call, error);
    return;
  }
  call->status = soup_message_get_status(call->message);
  const char *type = soup_message_headers_get_content_type(soup_message_get_response_headers(call->message), NULL);
  if (call->is_stream && call->status < 400) {
    if (type == NULL || g_ascii_strcasecmp(type, "text/event-stream") != 0) {
      fail(call, CHOIR_HTTP_ERROR_PROTOCOL, "did not answer with an event stream");
      g_cancellable_cancel(call->own);
      complete(call, NULL);
      return;
    }
    call->sse = choir_sse_new(0, on_sse_event, call);
  }
  g_input_stream_read_async(call->body, call->chunk, CHUNK, G_PRIORITY_DEFAULT, call->own, on_read, call);
}

static gboolean on_timer(gpointer user);

static void start_timer(Call *call, gint64 ms) {
  g_clear_pointer(&call->timer, g_source_unref);
  call->timer = g_timeout_source_new((guint)ms);
  g_source_set_callback(call->timer, on_timer, call, NULL);
  g_source_attach(call->timer, NULL);
}

static gboolean on_timer(gpointer user) {
  Call *call = user;
  gint64 silent_ms = (g_get_monotonic_time() - call->last_byte_us) / G_TIME_SPAN_MILLISECOND;
  if (call->is_stream && silent_ms < call->timeout_ms) {
    start_timer(call, call->timeout_ms - silent_ms);
    return G_SOURCE_REMOVE;
  }
  call->timed_out = TRUE;
  g_cancellable_cancel(call->own);
  return G_SOURCE_REMOVE;
}

static void on_users_cancelled(GCancellable *cancellable, gpointer user) {
  g_cancellable_cancel(((Call *)user)->own);
}

static void set_header(const char *name, const char *value, gpointer headers) {
  soup_message_headers_replace(headers, name, value);
}

static gboolean complete_later(gpointer user) {
  complete(user, NULL);
  return G_SOURCE_REMOVE;
}

static Call *call_new(ChoirHttpClient *client, const char *method, const char *url, const char *headers,
                      guint timeout_ms, GCancellable *cancellable, ChoirHttpDone done, gpointer user) {
  Call *call = g_new0(Call, 1);
  g_autoptr(GUri) uri = g_uri_parse(url, SOUP_HTTP_URI_FLAGS, NULL);
  const char *scheme = uri != NULL ? g_uri_get_scheme(uri) : "";
  call->client = client;
  call->own = g_cancellable_new();
  call->collected = g_byte_array_new();
  call->timeout_ms = timeout_ms;
  call->last_byte_us = g_get_monotonic_time();
  call->done = done;
  call->user = user;
  g_ptr_array_add(client->calls, call);
  gboolean usable = (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0) && *g_uri_get_host(uri) != '\0';
  if (usable) {
    call->message = soup_message_new_from_uri(method, uri);
    /* An answer must not send us, or a body with secrets, to an address that nobody allowed. */
    soup_message_add_flags(call->message, SOUP_MESSAGE_NO_REDIRECT);
    usable = choir_http_parse_lines(headers, set_header, soup_message_get_request_headers(call->message));
  }
  if (!usable)
    call->error = g_error_new(CHOIR_HTTP_ERROR, CHOIR_HTTP_ERROR_PROTOCOL,
                              "\"%.200s\" is not an http address, or a header is wrong", url);
  if (cancellable != NULL) {
    call->users = g_object_ref(cancellable);
    call->users_handler = g_signal_connect(cancellable, "cancelled", G_CALLBACK(on_users_cancelled), call);
    if (g_cancellable_is_cancelled(cancellable))
      g_cancellable_cancel(call->own);
  }
  return call;
}

static void call_begin(Call *call, const char *content_type, const char *body, gsize length) {
  if (call->error != NULL) {
    g_idle_add_full(G_PRIORITY_DEFAULT, complete_later, call, NULL);
    return;
  }
  if (body != NULL) {
    g_autoptr(GBytes) bytes = g_bytes_new(body, length);
    soup_message_set_request_body_from_bytes(call->message, content_type != NULL ? content_type : "application/json",
                                             bytes);
  }
  if (call->timeout_ms > 0)
    start_timer(call, call->timeout_ms);
  soup_session_send_async(call->client->session, call->message, G_PRIORITY_DEFAULT, call->own, on_sent, call);
}

void choir_http_request(ChoirHttpClient *client, const char *method, const char *url, const char *content_type,
                        const char *body, gsize length, const char *headers, guint timeout_ms, gsize max_body,
                        GCancellable *cancellable, ChoirHttpDone done, gpointer user) {
  Call *call = call_new(client, method, url, headers, timeout_ms, cancellable, done, user);
  call->max_body = max_body != 0 ? max_body : DEFAULT_MAX_BODY;
  call_begin(call, content_type, body, length);
}

void choir_http_stream(ChoirHttpClient *client, const char *url, const char *body, gsize length, const char *headers,
                       guint idle_ms, GCancellable *cancellable, ChoirHttpData data, ChoirHttpDone done,
                       gpointer user) {
  Call *call = call_new(client, "POST", url, headers, idle_ms, cancellable, done, user);
  call->is_stream = TRUE;
  call->max_body = MAX_ERROR_BODY;
  call->data = data;
  if (call->message != NULL)
    soup_message_headers_replace(soup_message_get_request_headers(call->message), "Accept", "text/event-stream");
  call_begin(call, NULL, body, length);
}

const char *choir_http_client_header(const ChoirHttpClient *client, const char *name) {
  if (client->answering == NULL)
    return NULL;
  return soup_message_headers_get_one(soup_message_get_response_headers(client->answering), name);
}

static ChoirHttpClient *client_new(GSocketConnectable *where) {
  ChoirHttpClient *client = g_new0(ChoirHttpClient, 1);
  /* timeout 0: calls have limits of their own, and libsoup would end Consul's blocking queries after 60 s. */
  client->session =
      soup_session_new_with_options("max-conns", 64, "max-conns-per-host", 32, "idle-timeout", 60, "timeout", 0,
                                    "proxy-resolver", NULL, "user-agent", "choir", "remote-connectable", where, NULL);
  soup_session_remove_feature_by_type(client->session, SOUP_TYPE_CONTENT_DECODER);
  soup_session_remove_feature_by_type(client->session, SOUP_TYPE_AUTH_MANAGER);
  client->calls = g_ptr_array_new();
  return client;
}

ChoirHttpClient *choir_http_client_new(void) {
  return client_new(NULL);
}

ChoirHttpClient *choir_http_client_new_local(const char *socket_path) {
  g_autoptr(GSocketAddress) address = g_unix_socket_address_new(socket_path);
  return client_new(G_SOCKET_CONNECTABLE(address));
}

void choir_http_client_free(ChoirHttpClient *client) {
  if (client == NULL)
    return;
  while (client->calls->len > 0) {
    Call *call = g_ptr_array_steal_index_fast(client->calls, client->calls->len - 1);
    call->client = NULL;
    report(call, NULL);
    g_cancellable_cancel(call->own); /* the library's callback frees it */
  }
  soup_session_abort(client->session);
  g_object_unref(client->session);
  g_ptr_array_unref(client->calls);
  g_free(client);
}
