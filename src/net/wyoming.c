#include "net/wyoming.h"
#include <string.h>
#include "base/buffer.h"
#include "base/text.h"

/* What the Python library of that version says; peers only log it. */
#define VERSION "1.10.2"

struct ChoirWyomingParser {
  ChoirBuffer in;
  ChoirWyomingEvent event;
  gsize given;   /* bytes of the event that was handed out last */
  gsize scanned; /* of the line that is not whole yet */
  gboolean broken;
};

G_DEFINE_QUARK(choir - wyoming - error - quark, choir_wyoming_error)

ChoirWyomingParser *choir_wyoming_parser_new(void) {
  ChoirWyomingParser *parser = g_new0(ChoirWyomingParser, 1);
  choir_buffer_init(&parser->in, 2 * (CHOIR_WYOMING_MAX_LINE + CHOIR_WYOMING_MAX_DATA + CHOIR_WYOMING_MAX_PAYLOAD));
  return parser;
}

static void drop_event(ChoirWyomingParser *parser) {
  g_clear_pointer(&parser->event.type, g_free);
  g_clear_pointer(&parser->event.data, json_decref);
  choir_buffer_consume(&parser->in, parser->given);
  parser->given = 0;
}

void choir_wyoming_parser_free(ChoirWyomingParser *parser) {
  if (!parser)
    return;
  drop_event(parser);
  choir_buffer_clear(&parser->in);
  g_free(parser);
}

static gboolean fail(ChoirWyomingParser *parser, GError **error, int code, const char *what) {
  parser->broken = TRUE;
  g_set_error(error, CHOIR_WYOMING_ERROR, code, "no Wyoming event: %s", what);
  return FALSE;
}

gboolean choir_wyoming_parser_feed(ChoirWyomingParser *parser, const void *data, gsize length, GError **error) {
  if (parser->broken)
    return fail(parser, error, CHOIR_WYOMING_ERROR_SYNTAX, "the stream is broken");
  if (!choir_buffer_append(&parser->in, data, length))
    return fail(parser, error, CHOIR_WYOMING_ERROR_LIMIT, "too many bytes are waiting");
  return TRUE;
}

gboolean choir_wyoming_parser_pending(const ChoirWyomingParser *parser) {
  return parser->in.length > parser->given;
}

/* A count of bytes in the header. FALSE: it is none, or over the limit. null is what some senders write for "none". */
static gboolean read_length(ChoirWyomingParser *parser, const json_t *header, const char *key, gsize limit,
                            gsize *ret_length, GError **error) {
  const json_t *value = json_object_get(header, key);
  *ret_length = 0;
  if (!value || json_is_null(value))
    return TRUE;
  if (!json_is_integer(value) || json_integer_value(value) < 0)
    return fail(parser, error, CHOIR_WYOMING_ERROR_SYNTAX, "a length is not a number of bytes");
  if ((guint64)json_integer_value(value) > limit)
    return fail(parser, error, CHOIR_WYOMING_ERROR_LIMIT, "an event is longer than allowed");
  *ret_length = (gsize)json_integer_value(value);
  return TRUE;
}

/* Length of the header line without its end, or -1 when it is not whole. */
static gssize find_line(ChoirWyomingParser *parser, GError **error) {
  const guint8 *data = parser->in.data;
  gsize length = parser->in.length;
  const guint8 *end = length > parser->scanned ? memchr(data + parser->scanned, '\n', length - parser->scanned) : NULL;
  /* What cannot become a header is refused early: an HTTP request, for one. */
  if (length > 0 && data[0] != '{' && data[0] != ' ') {
    fail(parser, error, CHOIR_WYOMING_ERROR_SYNTAX, "the line is no JSON object");
    return -1;
  }
  if (!end && length > CHOIR_WYOMING_MAX_LINE) {
    fail(parser, error, CHOIR_WYOMING_ERROR_LIMIT, "the line is too long");
    return -1;
  }
  parser->scanned = end ? 0 : length;
  return end ? end - data : -1;
}

static gboolean merge_data(ChoirWyomingParser *parser, json_t *header, const guint8 *bytes, gsize length,
                           GError **error) {
  json_t *own = json_object_get(header, "data");
  if (own && !json_is_null(own) && !json_is_object(own))
    return fail(parser, error, CHOIR_WYOMING_ERROR_SYNTAX, "data is no object");
  parser->event.data = json_is_object(own) ? json_incref(own) : json_object();
  if (length == 0)
    return TRUE;
  json_auto_t *more = choir_json_parse((const char *)bytes, length, NULL);
  if (!json_is_object(more))
    return fail(parser, error, CHOIR_WYOMING_ERROR_SYNTAX, "the bytes of data are no JSON object");
  json_object_update(parser->event.data, more);
  return TRUE;
}

const ChoirWyomingEvent *choir_wyoming_parser_next(ChoirWyomingParser *parser, GError **error) {
  drop_event(parser);
  if (parser->broken) {
    fail(parser, error, CHOIR_WYOMING_ERROR_SYNTAX, "the stream is broken");
    return NULL;
  }
  gssize line = find_line(parser, error);
  if (line < 0)
    return NULL;
  json_auto_t *header =
      (gsize)line <= CHOIR_WYOMING_MAX_LINE ? choir_json_parse((const char *)parser->in.data, (gsize)line, NULL) : NULL;
  const char *type = json_is_object(header) ? choir_json_string(header, "type", "") : "";
  if (!*type) {
    fail(parser, error, CHOIR_WYOMING_ERROR_SYNTAX, "the line is no JSON object with a type");
    return NULL;
  }
  gsize data = 0, payload = 0;
  if (!read_length(parser, header, "data_length", CHOIR_WYOMING_MAX_DATA, &data, error) ||
      !read_length(parser, header, "payload_length", CHOIR_WYOMING_MAX_PAYLOAD, &payload, error))
    return NULL;
  gsize start = (gsize)line + 1;
  if (parser->in.length - start < data + payload)
    return NULL;
  if (!merge_data(parser, header, parser->in.data + start, data, error))
    return NULL;
  parser->event.type = g_strdup(type);
  parser->event.payload = parser->in.data + start + data;
  parser->event.length = payload;
  parser->given = start + data + payload;
  return &parser->event;
}

GByteArray *choir_wyoming_encode(const char *type, json_t *data, const void *payload, gsize length) {
  g_autofree char *text = data && json_object_size(data) > 0 ? choir_json_dump(data) : NULL;
  json_auto_t *header = json_pack("{s:s,s:s}", "type", type, "version", VERSION);
  if (text)
    json_object_set_new(header, "data_length", json_integer((json_int_t)strlen(text)));
  if (length > 0)
    json_object_set_new(header, "payload_length", json_integer((json_int_t)length));
  g_autofree char *line = choir_json_dump(header);
  GByteArray *bytes = g_byte_array_new();
  g_byte_array_append(bytes, (const guint8 *)line, (guint)strlen(line));
  g_byte_array_append(bytes, (const guint8 *)"\n", 1);
  if (text)
    g_byte_array_append(bytes, (const guint8 *)text, (guint)strlen(text));
  if (length > 0)
    g_byte_array_append(bytes, payload, (guint)length);
  json_decref(data);
  return bytes;
}
