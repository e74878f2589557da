/* The multipart parser: what clients send, and everything that is broken. */
#include "web/audio_form.h"
#include <string.h>

static void boundary(const char *type, const char *expected) {
  g_autofree char *found = choir_form_boundary(type);
  g_assert_cmpstr(found, ==, expected);
}

static void test_boundary(void) {
  boundary("multipart/form-data; boundary=abc", "abc");
  boundary("Multipart/Form-Data; charset=utf-8; Boundary=\"a b\"", "a b");
  boundary("multipart/form-data; x=\"boundary=no\"; boundary=yes", "yes");
  boundary("multipart/form-data", NULL);
  boundary("multipart/form-data; boundary=", NULL);
  boundary("multipart/mixed; boundary=abc", NULL);
  boundary("multipart/form-database; boundary=abc", NULL);
  boundary("application/json", NULL);
  boundary(NULL, NULL);
  g_autofree char *longest = g_strnfill(71, 'x'), *type = g_strconcat("multipart/form-data; boundary=", longest, NULL);
  boundary(type, NULL);
}

static gboolean parse(const char *body, gsize length, ChoirForm *form, const char **why) {
  *why = NULL;
  return choir_form_parse("b", body, length, form, why);
}

#define PART(name, data) "--b\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n" data "\r\n"

static void test_parts(void) {
  static const char body[] =
      "preamble\r\n" PART("model", "whisper-1") PART("file\"; filename=\"a \\\"b\\\".wav", "RIFF\r\n--bogus\r\n\0\r\n")
          PART("empty", "") PART("model", "last wins") "--b--\r\nepilogue";
  const char *why;
  g_auto(ChoirForm) form = {0};
  g_assert_true(parse(body, sizeof body - 1, &form, &why));
  g_assert_cmpuint(form.parts->len, ==, 4);
  const ChoirFormPart *file = choir_form_part(&form, "file");
  g_assert_cmpstr(file->filename, ==, "a \"b\".wav");
  g_assert_cmpmem(file->data, file->length, "RIFF\r\n--bogus\r\n\0\r\n", 18);
  g_autofree char *model = choir_form_text(&form, "model"), *empty = choir_form_text(&form, "empty");
  g_assert_cmpstr(model, ==, "last wins");
  g_assert_cmpstr(empty, ==, "");
  g_assert_null(choir_form_text(&form, "absent"));
  g_assert_null(choir_form_text(&form, "file")); /* no text */
}

static void test_broken(void) {
  static const char *const broken[] = {
      "",
      "--b",
      "--b\r\n",
      "--x\r\n\r\n",
      "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\ncut",
      "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\ncut\r\n--b",
      "--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--",
      "--b\r\n\r\nx\r\n--b--",
      "--b\r\nX: y\r\n--b--",
      "--bx\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n--b--",
      "--b\r\nContent-Disposition: form-data; name=\"\xff\"\r\n\r\nx\r\n--b--",
  };
  for (gsize i = 0; i < G_N_ELEMENTS(broken); i++) {
    ChoirForm form = {0};
    const char *why;
    g_test_message("body %" G_GSIZE_FORMAT, i);
    g_assert_false(parse(broken[i], strlen(broken[i]), &form, &why));
    g_assert_nonnull(why);
    g_assert_null(form.parts);
  }
}

static void test_many(void) {
  g_autoptr(GString) body = g_string_new(NULL);
  for (guint i = 0; i < CHOIR_FORM_PARTS; i++)
    g_string_append(body, PART("x", "y"));
  g_auto(ChoirForm) form = {0};
  ChoirForm over = {0};
  const char *why;
  g_autofree char *whole = g_strconcat(body->str, "--b--", NULL),
                  *more = g_strconcat(body->str, PART("x", "y"), "--b--", NULL);
  g_assert_true(parse(whole, strlen(whole), &form, &why));
  g_assert_false(parse(more, strlen(more), &over, &why));
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/web/audio-form/boundary", test_boundary);
  g_test_add_func("/web/audio-form/parts", test_parts);
  g_test_add_func("/web/audio-form/broken", test_broken);
  g_test_add_func("/web/audio-form/many", test_many);
  return g_test_run();
}
