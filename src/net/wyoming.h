/* Codec of the Wyoming protocol (Open Home Foundation; README of the Python package `wyoming` 1.10): one event is a
 * line of JSON {"type","data"?,"data_length"?,"payload_length"?}, then data_length bytes of JSON merged over data, then
 * the payload. No I/O; one thread. */
#pragma once
#include <glib.h>
#include <jansson.h>

#define CHOIR_WYOMING_ERROR (choir_wyoming_error_quark())
GQuark choir_wyoming_error_quark(void);
enum { CHOIR_WYOMING_ERROR_SYNTAX, CHOIR_WYOMING_ERROR_LIMIT };

#define CHOIR_WYOMING_MAX_LINE (64u << 10)
#define CHOIR_WYOMING_MAX_DATA (256u << 10)
#define CHOIR_WYOMING_MAX_PAYLOAD (1u << 20) /* 32 s of 16 kHz audio; usual chunks have 2 kB */

typedef struct {
  char *type;   /* valid UTF-8, never empty */
  json_t *data; /* an object, never NULL */
  const guint8 *payload;
  gsize length; /* of the payload */
} ChoirWyomingEvent;

typedef struct ChoirWyomingParser ChoirWyomingParser;
ChoirWyomingParser *choir_wyoming_parser_new(void);
void choir_wyoming_parser_free(ChoirWyomingParser *parser);
/* Adds bytes; at most one event and this much are kept. FALSE once the stream is broken: give it up. */
gboolean choir_wyoming_parser_feed(ChoirWyomingParser *parser, const void *data, gsize length, GError **error);
/* The next whole event, or NULL: more bytes are needed, or (with error) the stream is broken. Belongs to the parser and
 * is valid until the next call on it. */
const ChoirWyomingEvent *choir_wyoming_parser_next(ChoirWyomingParser *parser, GError **error);
gboolean choir_wyoming_parser_pending(const ChoirWyomingParser *parser); /* half an event has come */

/* data: stolen, may be NULL. payload may be NULL. Caller unrefs. */
GByteArray *choir_wyoming_encode(const char *type, json_t *data, const void *payload, gsize length);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirWyomingParser, choir_wyoming_parser_free)
