/* HTTP client over libsoup-3: whole answers and SSE streams, limits and deadlines on everything. Main thread only.
 * Each begin call completes exactly once. Errors: CHOIR_HTTP_ERROR; a status >= 400 carries the server's message. */
#pragma once
#include <gio/gio.h>

#define CHOIR_HTTP_ERROR (choir_http_error_quark())
GQuark choir_http_error_quark(void);
enum {
  CHOIR_HTTP_ERROR_CONNECT,
  CHOIR_HTTP_ERROR_STATUS,
  CHOIR_HTTP_ERROR_TIMEOUT,
  CHOIR_HTTP_ERROR_LIMIT,
  CHOIR_HTTP_ERROR_PROTOCOL
};

typedef struct ChoirHttpClient ChoirHttpClient;
typedef void (*ChoirHttpDone)(guint status, const char *body, gsize length, const GError *error, gpointer user);
typedef void (*ChoirHttpData)(const char *event, const char *data, gsize length, gpointer user);

ChoirHttpClient *choir_http_client_new(void);
/* Every request goes to this unix socket, whatever host its URL names. */
ChoirHttpClient *choir_http_client_new_local(const char *socket_path);
void choir_http_client_free(ChoirHttpClient *client); /* cancels what runs */
/* body NULL for none. headers: "Name: value" lines or NULL. timeout_ms: whole exchange. max_body 0 = 8 MiB.
 * cancellable may be NULL; a cancelled request completes with G_IO_ERROR_CANCELLED and its connection is closed at
 * once. */
void choir_http_request(ChoirHttpClient *client, const char *method, const char *url, const char *content_type,
                        const char *body, gsize length, const char *headers, guint timeout_ms, gsize max_body,
                        GCancellable *cancellable, ChoirHttpDone done, gpointer user);
/* A header of the answer whose done callback is running; NULL when absent, and at any other time. */
const char *choir_http_client_header(const ChoirHttpClient *client, const char *name);
/* POST whose answer is an SSE stream; `data` runs for each event, then `done` once (status, no body unless status >=
 * 400). idle_ms: longest silence between bytes. A cut between two events cannot be told from the end: look for the
 * protocol's own last event ("[DONE]"). */
void choir_http_stream(ChoirHttpClient *client, const char *url, const char *body, gsize length, const char *headers,
                       guint idle_ms, GCancellable *cancellable, ChoirHttpData data, ChoirHttpDone done, gpointer user);
