#include "net/http_parse.h"
#include <string.h>

#define MAX_PARAMETERS 64
#define WS_GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

/* NULL on a bad escape, NUL or text that is not UTF-8. Caller frees. */
static char *decode(const char *text, gsize length, gboolean plus_is_space) {
  g_autoptr(GString) result = g_string_sized_new(length + 1);
  for (gsize i = 0; i < length; i++) {
    if (text[i] == '%') {
      if (length - i < 3)
        return NULL;
      int high = g_ascii_xdigit_value(text[i + 1]), low = high >= 0 ? g_ascii_xdigit_value(text[i + 2]) : -1;
      if (low < 0 || (high == 0 && low == 0))
        return NULL;
      g_string_append_c(result, (char)(high << 4 | low));
      i += 2;
    } else {
      g_string_append_c(result, plus_is_space && text[i] == '+' ? ' ' : text[i]);
    }
  }
  if (!g_utf8_validate(result->str, (gssize)result->len, NULL))
    return NULL;
  return g_string_free(g_steal_pointer(&result), FALSE);
}

static gboolean has_dot_segment(const char *path) {
  g_auto(GStrv) segments = g_strsplit(path, "/", -1);
  for (guint i = 0; segments[i] != NULL; i++)
    if (strcmp(segments[i], ".") == 0 || strcmp(segments[i], "..") == 0)
      return TRUE;
  return FALSE;
}

/* NULL when it cannot be read. */
static GPtrArray *parse_query(const char *text) {
  g_autoptr(GPtrArray) query = g_ptr_array_new_with_free_func(g_free);
  while (*text != '\0') {
    gsize length = strcspn(text, "&");
    const char *equals = memchr(text, '=', length);
    gsize name_length = equals != NULL ? (gsize)(equals - text) : length;
    if (length > 0) {
      g_autofree char *name = decode(text, name_length, TRUE);
      g_autofree char *value = equals != NULL ? decode(equals + 1, length - name_length - 1, TRUE) : g_strdup("");
      if (name == NULL || value == NULL || query->len >= 2 * MAX_PARAMETERS)
        return NULL;
      g_ptr_array_add(query, g_steal_pointer(&name));
      g_ptr_array_add(query, g_steal_pointer(&value));
    }
    text += length;
    if (*text == '&')
      text++;
  }
  return g_steal_pointer(&query);
}

gboolean choir_http_parse_target(const char *target, char **ret_path, GPtrArray **ret_query) {
  for (const char *c = target; *c != '\0'; c++)
    if ((guchar)*c <= 0x20 || (guchar)*c == 0x7f)
      return FALSE;
  if (g_ascii_strncasecmp(target, "http://", 7) == 0 || g_ascii_strncasecmp(target, "https://", 8) == 0) {
    target = strstr(target, "://") + 3;
    target += strcspn(target, "/?#");
  }
  gsize path_length = strcspn(target, "?#");
  if (*target != '/' || strchr(target, '#') != NULL)
    return FALSE;
  g_autofree char *path = decode(target, path_length, FALSE);
  if (path == NULL || has_dot_segment(path))
    return FALSE;
  GPtrArray *query = parse_query(target[path_length] == '?' ? target + path_length + 1 : "");
  if (query == NULL)
    return FALSE;
  *ret_path = g_steal_pointer(&path);
  *ret_query = query;
  return TRUE;
}

const char *choir_http_query_get(const GPtrArray *query, const char *name) {
  for (guint i = 0; i + 1 < query->len; i += 2)
    if (strcmp(g_ptr_array_index(query, i), name) == 0)
      return g_ptr_array_index(query, i + 1);
  return NULL;
}

gboolean choir_http_list_has(const char *list, const char *token) {
  gsize wanted = strlen(token);
  while (list != NULL && *list != '\0') {
    list += strspn(list, " \t,");
    gsize length = strcspn(list, ",");
    gsize trimmed = length;
    while (trimmed > 0 && (list[trimmed - 1] == ' ' || list[trimmed - 1] == '\t'))
      trimmed--;
    if (trimmed == wanted && g_ascii_strncasecmp(list, token, wanted) == 0)
      return TRUE;
    list += length;
  }
  return FALSE;
}

gboolean choir_http_parse_length(const char *text, guint64 *ret_length) {
  guint64 length = 0;
  if (*text == '\0')
    return FALSE;
  for (const char *c = text; *c != '\0'; c++) {
    if (!g_ascii_isdigit(*c) || length > (G_MAXUINT64 - 9) / 10)
      return FALSE;
    length = length * 10 + (guint64)(*c - '0');
  }
  *ret_length = length;
  return TRUE;
}

gboolean choir_http_parse_lines(const char *lines, ChoirHttpHeaderLine line, gpointer user) {
  g_auto(GStrv) list = g_strsplit(lines != NULL ? lines : "", "\n", -1);
  for (guint i = 0; list[i] != NULL; i++) {
    char *text = g_strchomp(list[i]), *colon = strchr(text, ':');
    if (*text == '\0')
      continue;
    if (colon == NULL || colon == text)
      return FALSE;
    *colon = '\0';
    for (const char *c = text; *c != '\0'; c++)
      if (!g_ascii_isalnum(*c) && strchr("!#$%&'*+-.^_`|~", *c) == NULL)
        return FALSE;
    for (const char *c = colon + 1; *c != '\0'; c++)
      if (((guchar)*c < 0x20 && *c != '\t') || (guchar)*c == 0x7f)
        return FALSE;
    line(text, g_strchug(colon + 1), user);
  }
  return TRUE;
}

/* 16 bytes in base64: 22 characters and "==". */
static gboolean key_is_good(const char *key) {
  if (key == NULL || strlen(key) != 24 || strcmp(key + 22, "==") != 0)
    return FALSE;
  for (guint i = 0; i < 22; i++)
    if (!g_ascii_isalnum(key[i]) && key[i] != '+' && key[i] != '/')
      return FALSE;
  return TRUE;
}

guint choir_http_check_handshake(const ChoirHttpHandshake *handshake, char **ret_accept, const char **ret_problem) {
  *ret_accept = NULL;
  *ret_problem = NULL;
  if (strcmp(handshake->method, "GET") != 0 || strcmp(handshake->version, "HTTP/1.1") != 0) {
    *ret_problem = "a WebSocket is opened by GET and HTTP/1.1";
    return 400;
  }
  if (!choir_http_list_has(handshake->upgrade, "websocket") || !choir_http_list_has(handshake->connection, "upgrade")) {
    *ret_problem = "this address speaks WebSocket: send Upgrade: websocket and Connection: Upgrade";
    return 426;
  }
  if (handshake->ws_version == NULL || strcmp(handshake->ws_version, "13") != 0) {
    *ret_problem = "only WebSocket version 13 is spoken here";
    return 426;
  }
  if (!key_is_good(handshake->ws_key)) {
    *ret_problem = "Sec-WebSocket-Key must be 16 bytes in base64";
    return 400;
  }
  g_autoptr(GChecksum) checksum = g_checksum_new(G_CHECKSUM_SHA1);
  g_checksum_update(checksum, (const guchar *)handshake->ws_key, -1);
  g_checksum_update(checksum, (const guchar *)WS_GUID, -1);
  guint8 digest[20];
  gsize length = sizeof digest;
  g_checksum_get_digest(checksum, digest, &length);
  *ret_accept = g_base64_encode(digest, length);
  return 101;
}
