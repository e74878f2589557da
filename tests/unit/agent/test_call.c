/* Functions: the list, the shortlist, the choice, and grammars beside the validator. Pure parts; the model's share is
 * in test_real.c. */
#include <string.h>
#include <unistd.h>
#include "agent/call.h"
#include "agent/call_fill.h"
#include "agent/schema.h"
#include "base/text.h"

static json_t *json(const char *text) {
  g_autoptr(GError) error = NULL;
  json_t *parsed = choir_json_parse(text, strlen(text), &error);
  g_assert_no_error(error);
  return parsed;
}

static void test_words(void) {
  static const char *const rows[][2] = {{"get_weather", "get weather"},
                                        {"getWeatherNow", "get weather now"},
                                        {"HTTP.get-2", "http get 2"},
                                        {"__x__", "x"}};
  for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_autofree char *words = choir_call_words(rows[i][0]);
    g_assert_cmpstr(words, ==, rows[i][1]);
  }
}

static ChoirCallTools *house(void) {
  json_auto_t *list =
      json("[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"description\":\"Weather of a "
           "city\"}},{\"type\":\"function\",\"name\":\"set_timer\",\"description\":\"Start a countdown\","
           "\"parameters\":{\"type\":\"object\",\"properties\":{\"minutes\":{\"type\":\"integer\"}}}},"
           "{\"type\":\"function\",\"name\":\"turn_light\",\"description\":\"Switch a lamp\"}]");
  g_autoptr(GError) error = NULL;
  ChoirCallTools *tools = choir_call_tools_new(list, NULL, &error);
  g_assert_no_error(error);
  return tools;
}

static void test_tools(void) {
  static const char *const bad[][2] = {
      {"{}", "tools"},
      {"[{\"type\":\"function\"}]", "tools[0]"},
      {"[{\"type\":\"function\",\"name\":\"a b\"}]", "tools[0]"},
      {"[{\"type\":\"function\",\"name\":\"___\"}]", "tools[0]"},
      {"[{\"type\":\"function\",\"name\":\"a\"},{\"type\":\"function\",\"name\":\"a\"}]", "tools[1]"},
      {"[{\"type\":\"web_search\",\"name\":\"a\"}]", "tools[0].type"},
      {"[{\"type\":\"function\",\"function\":{\"name\":\"a\",\"parameters\":{\"type\":\"string\"}}}]",
       "tools[0].function"},
  };
  for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
    json_auto_t *list = json(bad[i][0]);
    g_autofree char *param = NULL;
    g_autoptr(GError) error = NULL;
    g_assert_null(choir_call_tools_new(list, &param, &error));
    g_assert_error(error, CHOIR_CALL_ERROR, CHOIR_CALL_ERROR_TOOLS);
    g_assert_cmpstr(param, ==, bad[i][1]);
  }
  g_autoptr(ChoirCallTools) tools = house();
  g_assert_cmpuint(choir_call_tools_count(tools), ==, 3);
  g_assert_cmpuint(choir_call_tools_count(NULL), ==, 0);
  g_assert_true(choir_call_tools_has(tools, "set_timer"));
  g_assert_false(choir_call_tools_has(tools, "set timer"));
}

static void test_choice(void) {
  static const struct {
    const char *text;
    ChoirCallChoice choice;
    gboolean good;
  } rows[] = {{"[null]", CHOIR_CALL_AUTO, TRUE},
              {"[\"none\"]", CHOIR_CALL_NONE, TRUE},
              {"[\"required\"]", CHOIR_CALL_REQUIRED, TRUE},
              {"[{\"type\":\"function\",\"name\":\"set_timer\"}]", CHOIR_CALL_NAMED, TRUE},
              {"[{\"type\":\"function\",\"function\":{\"name\":\"set_timer\"}}]", CHOIR_CALL_NAMED, TRUE},
              {"[{\"type\":\"function\",\"name\":\"no\"}]", CHOIR_CALL_AUTO, FALSE},
              {"[\"always\"]", CHOIR_CALL_AUTO, FALSE},
              {"[7]", CHOIR_CALL_AUTO, FALSE}};
  g_autoptr(ChoirCallTools) tools = house();
  for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
    json_auto_t *list = json(rows[i].text);
    ChoirCallChoice choice;
    g_autofree char *name = NULL;
    g_assert_cmpint(choir_call_choice_read(json_array_get(list, 0), tools, &choice, &name), ==, rows[i].good);
    g_assert_cmpint(choice, ==, rows[i].choice);
    g_assert_cmpstr(name, ==, choice == CHOIR_CALL_NAMED ? "set_timer" : NULL);
  }
}

static void test_shortlist(void) {
  g_autoptr(ChoirCallTools) tools = house();
  guint indices[3];
  g_assert_cmpuint(choir_call_shortlist(tools, "Switch the lamps on", indices, 1), ==, 1);
  g_assert_cmpuint(indices[0], ==, 2);
  g_assert_cmpuint(choir_call_shortlist(tools, "five MINUTES please", indices, 3), ==, 3);
  g_assert_cmpuint(indices[0], ==, 1);
}

static void test_pick(void) {
  const double scores[] = {-9, -4, -6}, priors[] = {-12, -4, -8};
  g_assert_cmpint(choir_call_pick(scores, priors, 3, FALSE), ==, 0);
  g_assert_cmpint(choir_call_pick(scores, priors, 3, TRUE), ==, -1); /* 3 against 2 + 1.25 */
  const double clear[] = {-5, -4, -6};
  g_assert_cmpint(choir_call_pick(clear, priors, 3, TRUE), ==, 0);
}

static void test_grammar_refuses(void) {
  static const char *const schemas[] = {
      "{\"type\":\"string\",\"pattern\":\"a\"}",
      "{\"$ref\":\"#/x\"}",
      "{\"allOf\":[{\"type\":\"string\"}]}",
      "{}",
      "{\"type\":\"array\"}",
      "{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"uniqueItems\":true}",
      "{\"type\":\"object\",\"properties\":{\"a\":true}}",
      "{\"type\":\"object\",\"required\":[\"a\"]}",
      "{\"type\":\"integer\",\"minimum\":5,\"maximum\":4}",
      "{\"type\":\"integer\",\"multipleOf\":3}",
      "{\"type\":\"number\",\"maximum\":4}",
      "{\"type\":\"number\",\"minimum\":0.5}",
      "{\"type\":\"number\",\"exclusiveMinimum\":0}",
      "{\"type\":\"string\",\"minLength\":9,\"maxLength\":3}",
      "{\"enum\":[]}",
      "{\"enum\":[{}]}",
      "{\"type\":\"thing\"}",
      "{\"anyOf\":[]}",
      "{\"type\":\"string\",\"anyOf\":[{\"type\":\"string\"}]}",
  };
  for (guint i = 0; i < G_N_ELEMENTS(schemas); i++) {
    json_auto_t *schema = json(schemas[i]);
    g_autoptr(GError) error = NULL;
    g_autofree char *grammar = choir_call_grammar(schema, CHOIR_CALL_WIDE, &error);
    g_test_message("%s", schemas[i]);
    g_assert_null(grammar);
    g_assert_error(error, CHOIR_CALL_ERROR, CHOIR_CALL_ERROR_SCHEMA);
    g_assert_true(g_str_has_prefix(error->message, "parameters"));
  }
  g_autoptr(GString) deep = g_string_new("{\"type\":\"string\"}");
  for (guint i = 0; i < 9; i++) {
    g_string_prepend(deep, "{\"type\":\"array\",\"items\":");
    g_string_append_c(deep, '}');
  }
  json_auto_t *schema = json(deep->str);
  g_assert_null(choir_call_grammar(schema, CHOIR_CALL_WIDE, NULL));
}

/* --- a walker of grammars: writes a random text of them, and matches one --------------------------------------------
 */

static const char *find_rule(const char *grammar, const char *name, gsize length) {
  for (const char *line = grammar; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
    if (strncmp(line, name, length) == 0 && strncmp(line + length, " ::= ", 5) == 0)
      return line + length + 5;
  g_error("there is no rule %.*s", (int)length, name);
}

static const char *alternatives(const char *grammar, const char *at, GRand *rand, GString *out);

/* One term of a sequence, written to out when that is set; returns what follows it. */
static const char *term(const char *grammar, const char *at, GRand *rand, GString *out) {
  if (*at == '"') {
    for (at++; *at != '"'; at++) {
      at += *at == '\\' ? 1 : 0;
      if (out)
        g_string_append_c(out, *at);
    }
    return at + 1;
  }
  if (*at == '[') {
    gboolean text = at[1] == ' ', escapes = strncmp(at, "[\"", 2) == 0;
    if (out && (text || escapes))
      g_string_append_c(out, text ? "abz {}:,"[g_rand_int_range(rand, 0, 8)] : "\"\\/nt"[g_rand_int_range(rand, 0, 5)]);
    else if (out)
      g_string_append_c(out, (char)g_rand_int_range(rand, at[1], at[3] + 1));
    for (at++; *at != ']'; at++)
      at += *at == '\\' ? 1 : 0;
    return at + 1;
  }
  if (*at == '(')
    return alternatives(grammar, at + 1, rand, out) + 1;
  gsize length = strspn(at, "abcdefghijklmnopqrstuvwxyz0123456789");
  g_assert_cmpuint(length, >, 0);
  if (out)
    (void)alternatives(grammar, find_rule(grammar, at, length), rand, out);
  return at + length;
}

static const char *sequence(const char *grammar, const char *at, GRand *rand, GString *out) {
  while (*at && *at != '|' && *at != ')' && *at != '\n') {
    const char *end = term(grammar, at, rand, NULL);
    gint least = 1, most = 1;
    const char *next = end;
    if (*end == '?') {
      least = 0;
      next++;
    } else if (*end == '{') {
      gint used = 0;
      g_assert_cmpint(sscanf(end, "{%d%n", &least, &used), ==, 1);
      most = least;
      next = end + used;
      if (*next == ',') {
        g_assert_cmpint(sscanf(next, ",%d%n", &most, &used), ==, 1);
        next += used;
      }
      g_assert_cmpint(*next++, ==, '}');
    }
    for (gint n = out ? g_rand_int_range(rand, least, most + 1) : 0; n > 0; n--)
      (void)term(grammar, at, rand, out);
    at = next + strspn(next, " ");
  }
  return at;
}

static const char *alternatives(const char *grammar, const char *at, GRand *rand, GString *out) {
  const char *starts[300];
  gint n = 0;
  starts[n++] = at;
  const char *end = sequence(grammar, at, rand, NULL);
  while (*end == '|') {
    g_assert_cmpint(n, <, 300);
    starts[n++] = end + 1 + strspn(end + 1, " ");
    end = sequence(grammar, starts[n - 1], rand, NULL);
  }
  if (out)
    (void)sequence(grammar, starts[g_rand_int_range(rand, 0, n)], rand, out);
  return end;
}

#define WALKS 100000 /* over all schemas; in the emulator and with sanitizers (CHOIR_FULL=0) a tenth */

/* Whatever the grammar lets a model write is what the schema says, by a validator that knows nothing of grammars. */
static void test_grammar_walk(void) {
  static const char *const schemas[] = {
      "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"maxLength\":9},\"b\":{\"type\":\"integer\"},"
      "\"c\":{"
      "\"type\":\"boolean\"}},\"required\":[\"b\"],\"additionalProperties\":false}",
      "{\"type\":\"object\",\"properties\":{},\"additionalProperties\":false}",
      "{\"type\":\"object\",\"properties\":{\"a\\\"\\\\b\":{\"enum\":[\"x\\\"y\",5,null,true]}},\"required\":["
      "\"a\\\"\\\\b\"]}",
      "{\"type\":\"array\",\"items\":{\"type\":[\"integer\",\"null\"]},\"minItems\":1,\"maxItems\":3}",
      "{\"type\":\"array\",\"items\":{\"type\":\"number\",\"minimum\":0,\"maximum\":1}}",
      "{\"anyOf\":[{\"const\":\"auto\"},{\"type\":\"integer\",\"minimum\":1,\"maximum\":12}]}",
      "{\"type\":\"integer\",\"minimum\":-17,\"maximum\":230}",
      "{\"type\":\"integer\",\"exclusiveMinimum\":0,\"maximum\":59}",
      "{\"type\":\"integer\",\"minimum\":98765,\"maximum\":1234567}",
      "{\"type\":\"integer\",\"maximum\":-40}",
      "{\"type\":\"number\",\"minimum\":3}",
      "{\"type\":\"string\",\"minLength\":3,\"maxLength\":4,\"format\":\"date\",\"description\":\"d\"}",
      "{\"type\":\"object\",\"properties\":{\"o\":{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"null\"},\"y\":"
      "{\"type\":"
      "\"number\"}}},\"l\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"n\":{\"type\":"
      "\"string\"}},"
      "\"required\":[\"n\"]}}}}",
  };
  guint32 seed = g_test_rand_int();
  g_test_message("seed %u", seed);
  g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
  guint walks = WALKS / (G_N_ELEMENTS(schemas) * 3) + 1;
  if (g_strcmp0(g_getenv("CHOIR_FULL"), "0") == 0)
    walks /= 10;
  for (guint i = 0; i < G_N_ELEMENTS(schemas) * 3; i++) {
    json_auto_t *schema = json(schemas[i / 3]);
    g_autoptr(GError) error = NULL;
    g_autofree char *grammar = choir_call_grammar(schema, (ChoirCallWidth)(i % 3), &error);
    g_assert_no_error(error);
    for (guint k = 0; k < walks; k++) {
      g_autoptr(GString) text = g_string_new(NULL);
      (void)alternatives(grammar, find_rule(grammar, "root", 4), rand, text);
      json_auto_t *wrapped = NULL;
      g_autofree char *array = g_strdup_printf("[%s]", text->str);
      wrapped = choir_json_parse(array, strlen(array), &error);
      if (!wrapped || !choir_schema_validate(schema, json_array_get(wrapped, 0), &error))
        g_error("%s wrote %s: %s\n%s", schemas[i / 3], text->str, error->message, grammar);
    }
  }
}

/* Every number of a small range can be written, and none beside it: counted by random walks. */
static void test_range(void) {
  static const gint64 rows[][2] = {{0, 0}, {0, 9}, {7, 13}, {-3, 3}, {95, 105}, {-12, -9}, {100, 199}, {1, 60}};
  g_autoptr(GRand) rand = g_rand_new_with_seed(7);
  for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_autofree char *range = choir_call_grammar_range(rows[i][0], rows[i][1]);
    g_autofree char *grammar = g_strdup_printf("root ::= %s\n", range);
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    for (guint k = 0; k < 20000; k++) {
      g_autoptr(GString) text = g_string_new(NULL);
      (void)alternatives(grammar, find_rule(grammar, "root", 4), rand, text);
      gint64 value;
      g_autoptr(GError) error = NULL;
      g_assert_true(g_ascii_string_to_signed(text->str, 10, rows[i][0], rows[i][1], &value, &error));
      g_hash_table_add(seen, GINT_TO_POINTER((gint)value + 1000));
    }
    g_assert_cmpuint(g_hash_table_size(seen), ==, (guint)(rows[i][1] - rows[i][0] + 1));
  }
}

/* What a model that writes the given values makes of a schema: the arguments, and what it was asked. */
static char *filled(const char *schema_text, const char *said, const char *const *values, GString *grammars) {
  json_auto_t *schema = json(schema_text);
  g_autoptr(GError) error = NULL;
  g_autoptr(CallFill) fill = call_fill_new(schema, said, CHOIR_CALL_TIGHT, &error);
  g_assert_no_error(error);
  for (; call_fill_grammar(fill); values++) {
    g_assert_nonnull(*values);
    g_string_append(grammars, call_fill_grammar(fill));
    if (!call_fill_take(fill, *values, &error))
      return NULL;
  }
  g_assert_null(*values);
  json_auto_t *args = choir_json_parse(call_fill_text(fill), strlen(call_fill_text(fill)), &error);
  g_assert_no_error(error);
  if (!choir_schema_validate(schema, args, &error))
    g_error("%s: %s", call_fill_text(fill), error->message);
  return choir_json_dump(args);
}

static void test_fill(void) {
#define COPIED(...) "{\"type\":\"string\",\"$comment\":\"copied\",\"enum\":[" __VA_ARGS__ "]}"
#define SAID "{\"type\":\"integer\",\"$comment\":\"said\",\"enum\":[40,120]}"
  static const struct {
    const char *schema, *said, *values[5], *args, *asked, *not_asked;
  } rows[] = {
      /* Members that must be are written without a question; a value is written with the mark behind it. */
      {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"},\"b\":{\"type\":\"integer\"}},\"required\":["
       "\"a\",\"b\"]"
       "}",
       "",
       {" \"x, \\\"y\\\"}\",", " 7}"},
       "{\"a\":\"x, \\\"y\\\"}\",\"b\":7}",
       "root ::= \" \" r0 (\",\")\n",
       NULL},
      /* One that may be: the model says so with the value before. */
      {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"integer\"}},\"required\":["
       "\"a\"]}",
       "",
       {" 1,", " 2}"},
       "{\"a\":1,\"b\":2}",
       "(\",\" | \"}\")",
       NULL},
      {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"integer\"}},\"required\":["
       "\"a\"]}",
       "",
       {" 1}"},
       "{\"a\":1}",
       NULL,
       NULL},
      /* Several that may be: it is asked which. */
      {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"boolean\"},\"c\":{\"type\":"
       "\"null\"}},"
       "\"required\":[\"a\"]}",
       "",
       {" 1,", " \"c\":", " null}"},
       "{\"a\":1,\"c\":null}",
       "root ::=  (\" \\\"b\\\":\" | \" \\\"c\\\":\")\n",
       NULL},
      {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"boolean\"}}}",
       "",
       {"}"},
       "{}",
       "root ::=  (\"\\\"a\\\":\" | \"\\\"b\\\":\" | \"}\")",
       NULL},
      {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"boolean\"}}}",
       "",
       {"\"b\":", " true}"},
       "{\"b\":true}",
       NULL,
       NULL},
      /* Words that one argument has copied are not offered to the next, unless they were said twice. */
      {"{\"type\":\"object\",\"properties\":{\"a\":" COPIED("\"lamp\",\"main\"") ",\"b\":" COPIED(
           "\"lamp\",\"main\",\"main lamp\"") "},\"required\":[\"a\",\"b\"]}",
       "merge main lamp",
       {" \"lamp\",", " \"main\"}"},
       "{\"a\":\"lamp\",\"b\":\"main\"}",
       "r0 ::= \"\\\"main\\\"\"\n",
       NULL},
      {"{\"type\":\"object\",\"properties\":{\"a\":" COPIED("\"lamp\"") ",\"b\":" COPIED(
           "\"lamp\",\"main\"") "},\"required\":[\"a\",\"b\"]}",
       "merge lamp in lamp",
       {" \"lamp\",", " \"lamp\"}"},
       "{\"a\":\"lamp\",\"b\":\"lamp\"}",
       NULL,
       NULL},
      /* ... or nothing else is left. */
      {"{\"type\":\"object\",\"properties\":{\"a\":" COPIED("\"lamp\"") ",\"b\":" COPIED(
           "\"lamp\"") "},\"required\":[\"a\",\"b\"]}",
       "merge lamp",
       {" \"lamp\",", " \"lamp\"}"},
       "{\"a\":\"lamp\",\"b\":\"lamp\"}",
       NULL,
       NULL},
      {"{\"type\":\"object\",\"properties\":{\"rows\":" SAID ",\"columns\":" SAID
       "},\"required\":[\"rows\",\"columns\"]}",
       "40 by 120",
       {" 40,", " 120}"},
       "{\"rows\":40,\"columns\":120}",
       "r0 ::= \"120\"\n",
       NULL},
      /* What the grammar would not have let through is refused nonetheless. */
      {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}},\"required\":[\"a\"]}",
       "",
       {" 1, \"b\": 2"},
       NULL,
       NULL,
       NULL},
      {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"}},\"required\":[\"a\"]}",
       "",
       {" \"half"},
       NULL,
       NULL,
       NULL},
      {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"}},\"required\":[\"a\"]}",
       "",
       {" \"\xc0\xa0\"}"},
       NULL,
       NULL,
       NULL},
      {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}}}", "", {"\"c\":"}, NULL, NULL, NULL},
  };
  for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_autoptr(GString) grammars = g_string_new(NULL);
    g_autofree char *args = filled(rows[i].schema, rows[i].said, rows[i].values, grammars);
    g_assert_cmpstr(args, ==, rows[i].args);
    g_assert_true(!rows[i].asked || strstr(grammars->str, rows[i].asked));
    g_assert_false(rows[i].not_asked && strstr(grammars->str, rows[i].not_asked));
  }
}

/* What spoils a value (half a character, no end, a mark of the chat that is missing in it) is asked for once more, in a
 * grammar that has room for nothing of the kind; what was taken before stays. */
static void test_fill_plain(void) {
  json_auto_t *schema = json("{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":"
                             "\"string\",\"minLength\":1},\"c\":"
                             "{\"type\":\"string\",\"$comment\":\"copied\",\"enum\":[\"<|x|> "
                             "[a\",\"\xc3\xbc\"]}},\"required\":[\"a\",\"b\",\"c\"]}");
  static const char *const spoiled[] = {" \"\xf0\x9f\",", " \"no end", " \"\",", " \"x\"", ""};
  for (guint i = 0; i < G_N_ELEMENTS(spoiled); i++) {
    g_autoptr(GError) error = NULL;
    g_autoptr(CallFill) fill = call_fill_new(schema, "<|x|> [a \xc3\xbc", CHOIR_CALL_WIDE, &error);
    g_assert_no_error(error);
    g_assert_true(call_fill_take(fill, " 7,", &error));
    g_assert_nonnull(strstr(call_fill_grammar(fill), "char{1,201}"));
    g_assert_false(call_fill_take(fill, spoiled[i], &error));
    g_assert_error(error, CHOIR_CALL_ERROR, CHOIR_CALL_ERROR_BROKEN);
    g_clear_error(&error);
    g_assert_false(call_fill_is_plain(fill));
    g_assert_true(call_fill_plain(fill));
    g_assert_nonnull(strstr(call_fill_grammar(fill), "char{1,48}"));
    g_assert_nonnull(strstr(call_fill_grammar(fill), "char ::= [ !#-;=-Z\\]-~]"));
    g_assert_false(call_fill_plain(fill)); /* only once */
    g_assert_true(call_fill_take(fill, " \"good\",", &error));
    /* The next one is as wide as ever, its words as they were said. */
    g_assert_nonnull(strstr(call_fill_grammar(fill), "<|x|> [a"));
    g_assert_nonnull(strstr(call_fill_grammar(fill), "\xc3\xbc"));
    g_assert_false(call_fill_take(fill, " \" [a\"}", &error)); /* the mark wrote nothing */
    g_clear_error(&error);
    g_assert_true(call_fill_plain(fill));
    g_assert_null(strstr(call_fill_grammar(fill), "<|x|> [a"));
    g_assert_nonnull(strstr(call_fill_grammar(fill), "\\\\u003c|x|> \\\\u005ba"));
    g_assert_nonnull(strstr(call_fill_grammar(fill), "\\\\u00FC"));
    g_assert_true(call_fill_take(fill, " \"\\u003c|x|> \\u005ba\"}", &error));
    g_assert_null(call_fill_grammar(fill));
    json_auto_t *args = choir_json_parse(call_fill_text(fill), strlen(call_fill_text(fill)), &error);
    g_assert_no_error(error);
    g_assert_cmpstr(choir_json_string(args, "c", ""), ==, "<|x|> [a");
    g_assert_cmpint(choir_json_int(args, "a", 0), ==, 7);
    g_assert_cmpstr(choir_json_string(args, "b", ""), ==, "good");
  }
}

int main(int argc, char **argv) {
  alarm(170);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/call/words", test_words);
  g_test_add_func("/call/tools", test_tools);
  g_test_add_func("/call/choice", test_choice);
  g_test_add_func("/call/shortlist", test_shortlist);
  g_test_add_func("/call/pick", test_pick);
  g_test_add_func("/call/grammar-refuses", test_grammar_refuses);
  g_test_add_func("/call/grammar-walk", test_grammar_walk);
  g_test_add_func("/call/range", test_range);
  g_test_add_func("/call/fill", test_fill);
  g_test_add_func("/call/fill-plain", test_fill_plain);
  return g_test_run();
}
