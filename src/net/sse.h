/* Incremental parser of text/event-stream (WHATWG HTML 9.2). One thread. Lines over the limit are an error. */
#pragma once
#include <glib.h>

typedef struct ChoirSse ChoirSse;
typedef void (*ChoirSseEvent)(const char *event, const char *data, gsize length, gpointer user);

ChoirSse *choir_sse_new(gsize max_event, ChoirSseEvent callback, gpointer user); /* 0 = 1 MiB */
void choir_sse_free(ChoirSse *sse);
gboolean choir_sse_feed(ChoirSse *sse, const char *data, gsize length, GError **error);
void choir_sse_end(ChoirSse *sse); /* end of stream: an unfinished event is dropped, as the standard says */
