#include "net/sse.h"
#include <string.h>

#define DEFAULT_LIMIT (1024 * 1024)
#define MAX_TYPE 256 /* of an event's type, longer ones are cut */

struct ChoirSse {
  gsize limit;
  ChoirSseEvent callback;
  gpointer user;
  GString *line, *data, *type;
  gboolean has_data;   /* an empty data field makes an event too, no field makes none */
  gboolean after_cr;   /* the next LF belongs to the line end before it */
  gboolean first_line; /* may start with a byte order mark */
  gboolean broken;
};

G_DEFINE_QUARK(choir - sse - error, choir_sse_error)

ChoirSse *choir_sse_new(gsize max_event, ChoirSseEvent callback, gpointer user) {
  ChoirSse *sse = g_new0(ChoirSse, 1);
  *sse = (ChoirSse){.limit = max_event != 0 ? max_event : DEFAULT_LIMIT,
                    .callback = callback,
                    .user = user,
                    .line = g_string_new(NULL),
                    .data = g_string_new(NULL),
                    .type = g_string_new(NULL),
                    .first_line = TRUE};
  return sse;
}

void choir_sse_free(ChoirSse *sse) {
  if (sse == NULL)
    return;
  g_string_free(sse->line, TRUE);
  g_string_free(sse->data, TRUE);
  g_string_free(sse->type, TRUE);
  g_free(sse);
}

static void reset_event(ChoirSse *sse) {
  g_string_truncate(sse->data, 0);
  g_string_truncate(sse->type, 0);
  sse->has_data = FALSE;
}

static void dispatch(ChoirSse *sse) {
  if (sse->has_data)
    sse->callback(sse->type->len > 0 ? sse->type->str : "message", sse->data->str, sse->data->len, sse->user);
  reset_event(sse);
}

/* One whole line without its end. FALSE when the event grows over the limit. */
static gboolean take_line(ChoirSse *sse) {
  const char *line = sse->line->str;
  gsize length = sse->line->len;
  if (sse->first_line && length >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) {
    line += 3;
    length -= 3;
  }
  sse->first_line = FALSE;
  if (length == 0) {
    dispatch(sse);
    return TRUE;
  }
  const char *colon = memchr(line, ':', length);
  gsize name_length = colon != NULL ? (gsize)(colon - line) : length;
  const char *value = colon != NULL ? colon + 1 : line + length;
  gsize value_length = (gsize)(line + length - value);
  if (value_length > 0 && *value == ' ') {
    value++;
    value_length--;
  }
  if (name_length == 4 && memcmp(line, "data", 4) == 0) {
    if (sse->data->len + value_length + 1 > sse->limit)
      return FALSE;
    if (sse->has_data)
      g_string_append_c(sse->data, '\n');
    g_string_append_len(sse->data, value, (gssize)value_length);
    sse->has_data = TRUE;
  } else if (name_length == 5 && memcmp(line, "event", 5) == 0) {
    g_string_truncate(sse->type, 0);
    g_string_append_len(sse->type, value,
                        (gssize)strnlen(value, MIN(value_length, MAX_TYPE))); /* a C string to its reader */
  }
  /* id and retry serve reconnecting, which nobody here does; comments and unknown fields are ignored. */
  return TRUE;
}

static gboolean end_line(ChoirSse *sse) {
  gboolean good = take_line(sse);
  g_string_truncate(sse->line, 0);
  return good;
}

gboolean choir_sse_feed(ChoirSse *sse, const char *data, gsize length, GError **error) {
  const char *end = data + length;
  while (data < end && !sse->broken) {
    if (sse->after_cr && *data == '\n') {
      sse->after_cr = FALSE;
      data++;
      continue;
    }
    sse->after_cr = FALSE;
    const char *stop = data;
    while (stop < end && *stop != '\n' && *stop != '\r')
      stop++;
    if (sse->line->len + (gsize)(stop - data) > sse->limit) {
      sse->broken = TRUE;
      break;
    }
    g_string_append_len(sse->line, data, stop - data);
    if (stop < end) {
      sse->after_cr = *stop == '\r';
      sse->broken = !end_line(sse);
      stop++;
    }
    data = stop;
  }
  if (sse->broken)
    g_set_error(error, CHOIR_SSE_ERROR, CHOIR_SSE_ERROR_LIMIT,
                "an event of the stream is longer than %" G_GSIZE_FORMAT " bytes", sse->limit);
  return !sse->broken;
}

gboolean choir_sse_pending(const ChoirSse *sse) {
  return sse->line->len > 0 || sse->has_data;
}

void choir_sse_end(ChoirSse *sse) {
  g_string_truncate(sse->line, 0);
  reset_event(sse);
}
