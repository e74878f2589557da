/* The parts of a request that we read ourselves: target, query, token lists, WebSocket handshake (RFC 9110, 6455).
 * Pure functions, any thread. */
#pragma once
#include <glib.h>

/* "/a%20b?c=d" -> path "/a b" and names and values in turn (decoded, freed with the array). Also takes the absolute
 * form "http://host/path". FALSE on anything odd: control characters, bad escapes, NUL, dot segments, over 64
 * parameters. */
gboolean choir_http_parse_target(const char *target, char **ret_path, GPtrArray **ret_query);
/* NULL when absent. The string belongs to query. */
const char *choir_http_query_get(const GPtrArray *query, const char *name);
/* Is the token in the comma-separated list? Case is ignored. A NULL list has none. */
gboolean choir_http_list_has(const char *list, const char *token);
/* Digits only, as Content-Length must be; FALSE on sign, space, overflow. */
gboolean choir_http_parse_length(const char *text, guint64 *ret_length);
/* "Name: value" lines joined by \n. Runs `line` for each; FALSE on the first bad one. */
typedef void (*ChoirHttpHeaderLine)(const char *name, const char *value, gpointer user);
gboolean choir_http_parse_lines(const char *lines, ChoirHttpHeaderLine line, gpointer user);

typedef struct {
  const char *method, *version, *connection, *upgrade, *ws_version, *ws_key; /* header values, NULL when absent */
} ChoirHttpHandshake;

/* 101 with the value of Sec-WebSocket-Accept (caller frees), else 400 or 426 with a sentence. */
guint choir_http_check_handshake(const ChoirHttpHandshake *handshake, char **ret_accept, const char **ret_problem);
