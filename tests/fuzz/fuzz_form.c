/* The multipart parser on outside bytes: the first line is the Content-Type, the rest the body. */
#include "web/audio_form.h"
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const uint8_t *end = size > 0 ? memchr(data, '\n', size) : NULL;
  gsize line = end ? (gsize)(end - data) : size;
  g_autofree char *type = g_strndup((const char *)data, line);
  g_autofree char *boundary = choir_form_boundary(type);
  if (!boundary || !end)
    return 0;
  const char *body = (const char *)end + 1, *why = NULL;
  gsize length = size - line - 1;
  g_auto(ChoirForm) form = {0};
  if (!choir_form_parse(boundary, body, length, &form, &why)) {
    g_assert_nonnull(why);
    return 0;
  }
  for (guint i = 0; i < form.parts->len; i++) {
    const ChoirFormPart *part = &g_array_index(form.parts, ChoirFormPart, i);
    g_assert_true(part->data >= body && part->data + part->length <= body + length);
    g_assert_true(choir_form_part(&form, part->name) != NULL);
    g_autofree char *text = choir_form_text(&form, part->name);
  }
  return 0;
}
