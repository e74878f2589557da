/* The schema validator against the JSON-Schema-Test-Suite, and what a tool's schema must not be. */
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>
#include "agent/schema.h"
#include "base/text.h"

#define SUITE_PART "jsonschema-4.26.0.tar.gz"
#define SUITE_DIR "jsonschema-4.26.0/json/tests/draft2020-12"

/* Keywords that are refused, so groups that use them say nothing. */
static const char *const refused[] = {"$ref",
                                      "$defs",
                                      "$id",
                                      "$anchor",
                                      "$dynamicRef",
                                      "$dynamicAnchor",
                                      "$vocabulary",
                                      "unevaluatedProperties",
                                      "unevaluatedItems",
                                      "format",
                                      "contentEncoding",
                                      "contentMediaType",
                                      "contentSchema",
                                      "definitions",
                                      "dependencies",
                                      NULL};

static gboolean uses_refused(const json_t *value) {
  const char *key;
  size_t i;
  json_t *inner;
  json_array_foreach((json_t *)value, i, inner) if (uses_refused(inner)) return TRUE;
  json_object_foreach((json_t *)value, key,
                      inner) if (g_strv_contains(refused, key) || uses_refused(inner)) return TRUE;
  return FALSE;
}

typedef struct {
  guint groups, skipped, tests, wrong;
} Score;

static void run_group(const char *file, const json_t *group, Score *score) {
  const json_t *schema = json_object_get(group, "schema"), *test;
  g_autoptr(GError) error = NULL;
  size_t i;
  score->groups++;
  if (!choir_schema_check(schema, &error)) {
    score->skipped++;
    if (!uses_refused(schema)) {
      g_test_message("%s: \"%s\" was refused: %s", file, choir_json_string(group, "description", ""), error->message);
      score->wrong++;
    }
    return;
  }
  json_array_foreach(json_object_get(group, "tests"), i, test) {
    gboolean want = json_is_true(json_object_get(test, "valid"));
    score->tests++;
    if (choir_schema_validate(schema, json_object_get(test, "data"), NULL) == want)
      continue;
    score->wrong++;
    g_test_message("%s: \"%s\", \"%s\" should be %s", file, choir_json_string(group, "description", ""),
                   choir_json_string(test, "description", ""), want ? "valid" : "invalid");
  }
}

static void test_suite(void) {
  g_autofree char *part = g_build_filename(g_get_user_cache_dir(), "choir", "parts", SUITE_PART, NULL);
  g_autofree char *dir = g_dir_make_tmp("choir-schema-XXXXXX", NULL);
  const char *argv[] = {"tar", "xzf", part, "-C", dir, SUITE_DIR, NULL};
  g_autoptr(GError) error = NULL;
  int status;
  g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, &status, &error));
  g_assert_true(g_spawn_check_wait_status(status, &error)); /* ./test fetches it: tools/fetch-parts --set test */
  g_autofree char *suite = g_build_filename(dir, SUITE_DIR, NULL);
  g_autoptr(GDir) files = g_dir_open(suite, 0, &error);
  g_assert_no_error(error);
  Score score = {0};
  for (const char *name = g_dir_read_name(files); name; name = g_dir_read_name(files)) {
    if (!g_str_has_suffix(name, ".json"))
      continue;
    g_autofree char *path = g_build_filename(suite, name, NULL);
    json_t *groups = json_load_file(path, JSON_DECODE_ANY, NULL), *group;
    size_t i;
    json_array_foreach(groups, i, group) run_group(name, group, &score);
    json_decref(groups);
  }
  g_test_message("%u groups, %u of them with keywords we refuse; %u tests, %u wrong", score.groups, score.skipped,
                 score.tests, score.wrong);
  const char *clean[] = {"rm", "-r", dir, NULL};
  g_spawn_sync(NULL, (char **)clean, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
  g_assert_cmpuint(score.tests, >, 600);
  g_assert_cmpuint(score.wrong, ==, 0);
}

static void refuses(const char *text, const char *part, gboolean closed) {
  g_autoptr(GError) error = NULL;
  json_t *schema = json_loads(text, JSON_DECODE_ANY, NULL);
  g_assert_nonnull(schema);
  gboolean ok = closed ? choir_schema_check_closed(schema, &error) : choir_schema_check(schema, &error);
  json_decref(schema);
  g_assert_false(ok);
  g_assert_nonnull(strstr(error->message, part));
}

static void test_refusals(void) {
  refuses("{\"$ref\":\"#/x\"}", "$ref", FALSE);
  refuses("{\"properties\":{\"a\":{\"maxlength\":3}}}", "schema /properties/a: \"maxlength\"", FALSE);
  refuses("{\"type\":\"text\"}", "names no type", FALSE);
  refuses("{\"pattern\":\"(\"}", "regular expression", FALSE);
  refuses("{\"minLength\":-1}", "whole number", FALSE);
  refuses("{\"multipleOf\":0}", "above 0", FALSE);
  refuses("7", "object or a boolean", FALSE);
  refuses("{\"type\":\"object\",\"properties\":{}}", "additionalProperties", TRUE);
  refuses("{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"a\":{\"type\":\"string\"}}}",
          "maxLength", TRUE);
  refuses("{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"a\":{\"type\":\"integer\"}}}",
          "minimum", TRUE);
  refuses(
      "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"a\":{\"type\":\"array\",\"maxItems\":3,"
      "\"items\":{\"type\":\"object\"}}}}",
      "additionalProperties", TRUE);
  GString *deep = g_string_new(NULL);
  for (guint i = 0; i < 40; i++)
    g_string_append(deep, "{\"not\":");
  g_string_append(deep, "true");
  for (guint i = 0; i < 40; i++)
    g_string_append(deep, "}");
  refuses(deep->str, "too deeply", FALSE);
  g_string_free(deep, TRUE);
}

static void test_words(void) {
  static const struct {
    const char *value, *what;
  } cases[] = {
      {"{\"host\":\"atlas\",\"port\":70000}", "arguments.port: is above 65535"},
      {"{\"host\":\"atlas\",\"prt\":1}", "arguments: has no place for \"prt\""},
      {"{\"port\":1}", "arguments: lacks \"host\""},
      {"{\"host\":\"no such\"}", "arguments.host: must be one of \"atlas\", \"juno\""},
      {"{\"host\":\"juno\",\"tags\":[\"a\",5]}", "arguments.tags[1]: must be of type string"},
      {"{\"host\":\"juno\",\"tags\":[\"abcdefgh\"]}", "arguments.tags[0]: is longer than 4 characters"},
  };
  json_t *schema =
      json_loads("{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"host\"],\"properties\":{"
                 "\"host\":{\"type\":\"string\",\"enum\":[\"atlas\",\"juno\"]},"
                 "\"port\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":65535},"
                 "\"tags\":{\"type\":\"array\",\"maxItems\":3,\"items\":{\"type\":\"string\",\"maxLength\":4}}}}",
                 0, NULL);
  g_autoptr(GError) closed = NULL;
  g_assert_true(choir_schema_check_closed(schema, &closed));
  for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autoptr(GError) error = NULL;
    json_t *value = json_loads(cases[i].value, 0, NULL);
    g_assert_false(choir_schema_validate(schema, value, &error));
    g_assert_cmpstr(error->message, ==, cases[i].what);
    json_decref(value);
  }
  json_decref(schema);
}

int main(int argc, char **argv) {
  alarm(120);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/agent/schema/suite", test_suite);
  g_test_add_func("/agent/schema/refusals", test_refusals);
  g_test_add_func("/agent/schema/words", test_words);
  return g_test_run();
}
