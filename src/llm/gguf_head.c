#include "llm/gguf_head.h"
#include <string.h>

#define KEY "general.file_type"
#define NUMBER 4 /* GGUF's types: uint32, string, array */
#define STRING 8
#define ARRAY 9
#define DEPTH 4 /* of arrays within arrays; real files have one */

typedef struct {
  const guint8 *at, *end;
} Cursor;

static gboolean skip(Cursor *c, guint64 n) {
  if (n > (guint64)(c->end - c->at))
    return FALSE;
  c->at += n;
  return TRUE;
}

static gboolean read_number(Cursor *c, gsize bytes, guint64 *ret) {
  const guint8 *from = c->at;
  if (!skip(c, bytes))
    return FALSE;
  *ret = 0;
  for (gsize i = bytes; i > 0; i--)
    *ret = *ret << 8 | from[i - 1];
  return TRUE;
}

static gboolean read_string(Cursor *c, const guint8 **ret, guint64 *ret_n) {
  if (!read_number(c, 8, ret_n))
    return FALSE;
  *ret = c->at;
  return skip(c, *ret_n);
}

static gboolean skip_values(Cursor *c, guint64 type, guint64 n, guint depth);

static gboolean skip_array(Cursor *c, guint depth) {
  guint64 type, n;
  return depth < DEPTH && read_number(c, 4, &type) && read_number(c, 8, &n) && skip_values(c, type, n, depth + 1);
}

static gboolean skip_values(Cursor *c, guint64 type, guint64 n, guint depth) {
  static const guint8 size[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  const guint8 *text;
  guint64 length;
  if (type >= G_N_ELEMENTS(size))
    return FALSE;
  if (size[type] > 0)
    return n <= G_MAXUINT64 / 8 && skip(c, n * size[type]);
  for (guint64 i = 0; i < n; i++) /* every turn of it takes eight bytes or more, so the file's length bounds it */
    if (!(type == STRING ? read_string(c, &text, &length) : skip_array(c, depth)))
      return FALSE;
  return TRUE;
}

static int file_type(Cursor *c) {
  guint64 version, tensors, keys, type, length, value;
  const guint8 *key;
  if (c->end - c->at < 4 || memcmp(c->at, "GGUF", 4) != 0)
    return -1;
  c->at += 4;
  if (!read_number(c, 4, &version) || version < 2 || version > 3 || !read_number(c, 8, &tensors) ||
      !read_number(c, 8, &keys))
    return -1;
  for (guint64 i = 0; i < keys; i++) {
    if (!read_string(c, &key, &length) || !read_number(c, 4, &type))
      return -1;
    if (type == NUMBER && length == strlen(KEY) && memcmp(key, KEY, length) == 0)
      return read_number(c, 4, &value) && value <= G_MAXINT ? (int)value : -1;
    if (!skip_values(c, type, 1, 0))
      return -1;
  }
  return -1;
}

int choir_gguf_file_type(const char *path) {
  g_autoptr(GMappedFile) file = g_mapped_file_new(path, FALSE, NULL);
  if (!file || g_mapped_file_get_length(file) == 0)
    return -1;
  const guint8 *bytes = (const guint8 *)g_mapped_file_get_contents(file);
  Cursor c = {bytes, bytes + g_mapped_file_get_length(file)};
  return file_type(&c);
}
