/* Incremental parser of text/event-stream (WHATWG HTML 9.2). One thread. Lines over the limit are an error. */
#pragma once
#include <glib.h>

#define CHOIR_SSE_ERROR (choir_sse_error_quark())
GQuark choir_sse_error_quark(void);
enum { CHOIR_SSE_ERROR_LIMIT };

typedef struct ChoirSse ChoirSse;
/* event: its type, "message" by default. data: NUL-terminated behind length, bytes as they came (not checked for
 * UTF-8). The callback must not free the parser. */
typedef void (*ChoirSseEvent)(const char *event, const char *data, gsize length, gpointer user);

ChoirSse *choir_sse_new(gsize max_event, ChoirSseEvent callback, gpointer user); /* 0 = 1 MiB */
void choir_sse_free(ChoirSse *sse);
/* FALSE once an event or a line is over the limit; the parser then stays broken. */
gboolean choir_sse_feed(ChoirSse *sse, const char *data, gsize length, GError **error);
/* Half an event has come: the stream, if it ends now, was cut. */
gboolean choir_sse_pending(const ChoirSse *sse);
void choir_sse_end(ChoirSse *sse); /* end of stream: an unfinished event is dropped, as the standard says */
