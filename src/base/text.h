/* Small text and JSON helpers that every room needs. Any thread. */
#pragma once
#include <glib.h>
#include <jansson.h>

#define CHOIR_JSON_ERROR (choir_json_error_quark())
GQuark choir_json_error_quark(void);
enum { CHOIR_JSON_ERROR_SYNTAX, CHOIR_JSON_ERROR_DEPTH };

char *choir_id(const char *prefix);                /* "item_" + 16 random hex digits; caller frees */
char *choir_utf8(const char *data, gssize length); /* valid UTF-8 copy, bad bytes become U+FFFD; caller frees */
gboolean choir_json_depth_ok(const char *text, gsize length, guint max_depth); /* brackets outside strings */
/* Parses with a depth limit of 32 and no duplicate keys. NULL with error "line L column C: ...". Caller decrefs. */
json_t *choir_json_parse(const char *text, gsize length, GError **error);
char *choir_json_dump(const json_t *json); /* compact; caller frees with g_free */
/* Member lookups that never fail: fallback when absent or of another type. Strings belong to json. */
const char *choir_json_string(const json_t *object, const char *key, const char *fallback);
gint64 choir_json_int(const json_t *object, const char *key, gint64 fallback);
double choir_json_double(const json_t *object, const char *key, double fallback);
gboolean choir_json_bool(const json_t *object, const char *key, gboolean fallback);
/* Nearest word to `word` in the NULL-ended list by edit distance, or NULL when none is near. */
const char *choir_nearest(const char *word, const char *const *list);
/* A text in one line of at most `most` bytes without control characters, cut between words where it is longer, with
 * "..." behind it; caller frees. text: valid UTF-8. */
char *choir_short_line(const char *text, gsize most);
/* SHA-256 of the first certificate in a PEM text, of its own bytes, in small hex; NULL when there is none. Caller
 * frees. */
char *choir_pem_sha256(const char *pem);
