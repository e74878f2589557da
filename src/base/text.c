#include "base/text.h"
#include <string.h>
#include <sys/random.h>

#define JSON_MAX_DEPTH 32
#define NEAREST_MAX 48 /* longer words are never compared: the table below is on the stack */

G_DEFINE_QUARK(choir - json - error, choir_json_error)

char *choir_id(const char *prefix) {
  guint64 bits = 0;
  if (getrandom(&bits, sizeof bits, 0) != sizeof bits)
    bits = (guint64)g_random_int() << 32 | g_random_int();
  return g_strdup_printf("%s%016" G_GINT64_MODIFIER "x", prefix, bits);
}

char *choir_utf8(const char *data, gssize length) {
  return g_utf8_make_valid(data, length);
}

gboolean choir_json_depth_ok(const char *text, gsize length, guint max_depth) {
  guint depth = 0;
  gboolean in_string = FALSE;
  for (gsize i = 0; i < length; i++) {
    char c = text[i];
    if (in_string) {
      if (c == '\\')
        i++;
      else if (c == '"')
        in_string = FALSE;
    } else if (c == '"') {
      in_string = TRUE;
    } else if (c == '{' || c == '[') {
      if (++depth > max_depth)
        return FALSE;
    } else if ((c == '}' || c == ']') && depth > 0) {
      depth--;
    }
  }
  return TRUE;
}

json_t *choir_json_parse(const char *text, gsize length, GError **error) {
  if (!choir_json_depth_ok(text, length, JSON_MAX_DEPTH)) {
    g_set_error(error, CHOIR_JSON_ERROR, CHOIR_JSON_ERROR_DEPTH, "JSON nested deeper than %d levels", JSON_MAX_DEPTH);
    return NULL;
  }
  json_error_t problem = {0};
  json_t *json = json_loadb(length > 0 ? text : "", length, JSON_REJECT_DUPLICATES, &problem);
  if (json == NULL) {
    /* The message quotes the text near the error: it may be cut inside a character. */
    g_autofree char *message = choir_utf8(problem.text, -1);
    g_set_error(error, CHOIR_JSON_ERROR, CHOIR_JSON_ERROR_SYNTAX, "line %d column %d: %s", MAX(problem.line, 1),
                MAX(problem.column, 0), message);
  }
  return json;
}

static int append_to_string(const char *data, size_t length, void *user) {
  g_string_append_len(user, data, (gssize)length);
  return 0;
}

char *choir_json_dump(const json_t *json) {
  GString *text = g_string_new(NULL);
  if (json == NULL || json_dump_callback(json, append_to_string, text, JSON_COMPACT | JSON_ENCODE_ANY) != 0)
    g_string_assign(text, "null");
  return g_string_free(text, FALSE);
}

const char *choir_json_string(const json_t *object, const char *key, const char *fallback) {
  const char *value = json_string_value(json_object_get(object, key));
  return value != NULL ? value : fallback;
}

gint64 choir_json_int(const json_t *object, const char *key, gint64 fallback) {
  const json_t *value = json_object_get(object, key);
  if (json_is_integer(value))
    return json_integer_value(value);
  /* 3.0 is an integer to JSON clients; a cast outside the range would be undefined. */
  if (json_is_real(value) && json_real_value(value) >= -9.0e18 && json_real_value(value) <= 9.0e18)
    return (gint64)json_real_value(value);
  return fallback;
}

double choir_json_double(const json_t *object, const char *key, double fallback) {
  const json_t *value = json_object_get(object, key);
  return json_is_number(value) ? json_number_value(value) : fallback;
}

gboolean choir_json_bool(const json_t *object, const char *key, gboolean fallback) {
  const json_t *value = json_object_get(object, key);
  return json_is_boolean(value) ? json_is_true(value) : fallback;
}

/* Edit distance with neighbouring letters swapped counted as one (optimal string alignment), case ignored. */
static guint edit_distance(const char *a, gsize a_length, const char *b, gsize b_length) {
  guint8 rows[3][NEAREST_MAX + 1];
  for (gsize j = 0; j <= b_length; j++)
    rows[0][j] = (guint8)j;
  for (gsize i = 1; i <= a_length; i++) {
    guint8 *row = rows[i % 3], *above = rows[(i - 1) % 3], *above2 = rows[(i + 1) % 3];
    row[0] = (guint8)i;
    for (gsize j = 1; j <= b_length; j++) {
      gboolean same = g_ascii_tolower(a[i - 1]) == g_ascii_tolower(b[j - 1]);
      guint best = MIN(above[j - 1] + (same ? 0u : 1u), MIN(above[j], row[j - 1]) + 1u);
      if (i > 1 && j > 1 && g_ascii_tolower(a[i - 1]) == g_ascii_tolower(b[j - 2]) &&
          g_ascii_tolower(a[i - 2]) == g_ascii_tolower(b[j - 1]))
        best = MIN(best, above2[j - 2] + 1u);
      row[j] = (guint8)best;
    }
  }
  return rows[a_length % 3][b_length];
}

const char *choir_nearest(const char *word, const char *const *list) {
  gsize length = strlen(word);
  if (length > NEAREST_MAX)
    return NULL;
  const char *nearest = NULL;
  guint nearest_distance = G_MAXUINT;
  for (gsize i = 0; list[i] != NULL; i++) {
    gsize other = strlen(list[i]);
    if (other > NEAREST_MAX)
      continue;
    guint distance = edit_distance(word, length, list[i], other);
    /* A third of the letters wrong is a slip; more is another word. */
    if (distance <= MAX(1, MAX(length, other) / 3) && distance < nearest_distance) {
      nearest = list[i];
      nearest_distance = distance;
    }
  }
  return nearest;
}

char *choir_pem_sha256(const char *pem) {
  static const char begin[] = "-----BEGIN CERTIFICATE-----", end[] = "-----END CERTIFICATE-----";
  const char *from = strstr(pem, begin), *to = from ? strstr(from, end) : NULL;
  if (!to)
    return NULL;
  g_autofree char *body = g_strndup(from + strlen(begin), (gsize)(to - from) - strlen(begin));
  gsize length;
  g_autofree guchar *der = g_base64_decode(body, &length);
  return g_compute_checksum_for_data(G_CHECKSUM_SHA256, der, length);
}

char *choir_short_line(const char *text, gsize most) {
  g_autoptr(GString) line = g_string_new(NULL);
  for (const char *c = text; *c; c = g_utf8_next_char(c)) {
    gunichar one = g_utf8_get_char(c);
    if (g_unichar_isspace(one) || g_unichar_iscntrl(one)) {
      if (line->len > 0 && line->str[line->len - 1] != ' ')
        g_string_append_c(line, ' ');
    } else if (g_unichar_isprint(one)) {
      g_string_append_unichar(line, one);
    }
    if (line->len > most + 16)
      break;
  }
  g_strchomp(line->str);
  g_string_truncate(line, strlen(line->str));
  if (line->len <= most)
    return g_strdup(line->str);
  const char *end = NULL;
  g_utf8_validate(line->str, (gssize)(most > 3 ? most - 3 : 0), &end);
  gsize length = (gsize)(end - line->str), word = length;
  while (word > length / 2 && line->str[word] != ' ')
    word--;
  if (word > length / 2)
    length = word;
  g_string_truncate(line, length);
  return g_strconcat(line->str, "...", NULL);
}
