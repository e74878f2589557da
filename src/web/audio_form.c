#include "web/audio_form.h"
#include <string.h>

#define BOUNDARY_MAX 70 /* RFC 2046, 5.1.1 */
#define HEADERS_MAX 4096

/* The value of a parameter (name="value" or name=value) of a header line that begins at text; NULL when absent. */
static char *parameter(const char *text, gsize length, const char *name) {
  g_autofree char *line = g_strndup(text, length);
  for (char *at = strchr(line, ';'); at; at = strchr(at, ';')) {
    at += 1 + strspn(at + 1, " \t");
    gsize n = strlen(name);
    gboolean found = g_ascii_strncasecmp(at, name, n) == 0 && at[n] == '=';
    at += strcspn(at, "=;\"");
    if (*at != '=')
      continue;
    at++;
    GString *value = g_string_new(NULL);
    if (*at == '"') {
      for (at++; *at && *at != '"'; at++) {
        if (*at == '\\' && (at[1] == '"' || at[1] == '\\'))
          at++;
        g_string_append_c(value, *at);
      }
    } else {
      gsize word = strcspn(at, "; \t");
      g_string_append_len(value, at, (gssize)word);
      at += word;
    }
    char *text_value = g_string_free(value, FALSE);
    if (found)
      return text_value;
    g_free(text_value);
  }
  return NULL;
}

char *choir_form_boundary(const char *content_type) {
  if (!content_type || g_ascii_strncasecmp(content_type, "multipart/form-data", 19) != 0 ||
      (content_type[19] != ';' && content_type[19] != ' '))
    return NULL;
  g_autofree char *boundary = parameter(content_type, strlen(content_type), "boundary");
  gsize length = boundary ? strlen(boundary) : 0;
  return length > 0 && length <= BOUNDARY_MAX ? g_steal_pointer(&boundary) : NULL;
}

static const char *find(const char *data, gsize length, const char *what) {
  return memmem(data, length, what, strlen(what));
}

/* The next delimiter that is one: the boundary may be the beginning of something longer. */
static const char *find_delimiter(const char *data, const char *end, const char *what) {
  gsize n = strlen(what);
  for (const char *at = data; (at = find(at, (gsize)(end - at), what)) != NULL; at += n) {
    const char *tail = at + n;
    if (end - tail >= 2 && memcmp(tail, "--", 2) == 0)
      return at;
    while (tail < end && (*tail == ' ' || *tail == '\t'))
      tail++;
    if (end - tail >= 2 && memcmp(tail, "\r\n", 2) == 0)
      return at;
  }
  return NULL;
}

static void part_clear(gpointer data) {
  ChoirFormPart *part = data;
  g_free(part->name);
  g_free(part->filename);
}

void choir_form_clear(ChoirForm *form) {
  g_clear_pointer(&form->parts, g_array_unref);
}

/* headers: the lines in front of a part's empty line. */
static gboolean read_headers(const char *headers, gsize length, ChoirFormPart *part) {
  for (gsize at = 0; at < length;) {
    const char *line = headers + at, *end = find(line, length - at, "\r\n");
    gsize n = end ? (gsize)(end - line) : length - at;
    if (n > 20 && g_ascii_strncasecmp(line, "Content-Disposition:", 20) == 0) {
      part->name = parameter(line, n, "name");
      part->filename = parameter(line, n, "filename");
    }
    at += n + 2;
  }
  return part->name && g_utf8_validate(part->name, -1, NULL) &&
         (!part->filename || g_utf8_validate(part->filename, -1, NULL));
}

static gboolean take_part(ChoirForm *form, const char *data, gsize length, const char **why) {
  ChoirFormPart part = {0};
  const char *blank = find(data, MIN(length, HEADERS_MAX), "\r\n\r\n");
  /* A part without any header begins with its empty line; it has no name, so it is of no use. */
  if (!blank || !read_headers(data, (gsize)(blank - data), &part)) {
    part_clear(&part);
    *why = "a part of the form has no name";
    return FALSE;
  }
  part.data = blank + 4;
  part.length = length - (gsize)(part.data - data);
  g_array_append_val(form->parts, part);
  return TRUE;
}

gboolean choir_form_parse(const char *boundary, const char *body, gsize length, ChoirForm *ret_form, const char **why) {
  g_autofree char *first = g_strconcat("--", boundary, NULL), *later = g_strconcat("\r\n--", boundary, NULL);
  g_auto(ChoirForm) form = {.parts = g_array_new(FALSE, FALSE, sizeof(ChoirFormPart))};
  g_array_set_clear_func(form.parts, part_clear);
  const char *end = body + length;
  const char *at = length >= strlen(first) && memcmp(body, first, strlen(first)) == 0 ? body + strlen(first) : NULL;
  if (!at) { /* a preamble, which nobody reads */
    const char *found = find_delimiter(body, end, later);
    at = found ? found + strlen(later) : NULL;
  }
  *why = "the body does not hold the boundary that Content-Type names";
  while (at) {
    if (end - at >= 2 && memcmp(at, "--", 2) == 0) {
      *ret_form = form;
      form.parts = NULL;
      return TRUE;
    }
    while (at < end && (*at == ' ' || *at == '\t'))
      at++;
    *why = "the form is cut off";
    if (end - at < 2 || memcmp(at, "\r\n", 2) != 0)
      return FALSE;
    at += 2;
    const char *next = find_delimiter(at, end, later);
    if (!next)
      return FALSE;
    if (form.parts->len >= CHOIR_FORM_PARTS) {
      *why = "the form has more than 64 parts";
      return FALSE;
    }
    if (!take_part(&form, at, (gsize)(next - at), why))
      return FALSE;
    at = next + strlen(later);
  }
  return FALSE;
}

const ChoirFormPart *choir_form_part(const ChoirForm *form, const char *name) {
  for (guint i = form->parts->len; i-- > 0;) {
    const ChoirFormPart *part = &g_array_index(form->parts, ChoirFormPart, i);
    if (g_str_equal(part->name, name))
      return part;
  }
  return NULL;
}

char *choir_form_text(const ChoirForm *form, const char *name) {
  const ChoirFormPart *part = choir_form_part(form, name);
  if (!part || part->length > G_MAXINT16 || !g_utf8_validate_len(part->data, part->length, NULL))
    return NULL;
  return g_strndup(part->data, part->length);
}
