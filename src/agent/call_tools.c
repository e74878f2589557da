#include <math.h>
#include <string.h>
#include "agent/call_private.h"
#include "base/text.h"

#define MAX_NAME 64
#define MAX_DESCRIPTION 8192
#define COMMON_PREFIX 4 /* "weather" and "weathers" are one word, "car" and "care" are not */

static void tool_free(gpointer data) {
  CallTool *tool = data;
  g_free(tool->name);
  g_free(tool->description);
  g_free(tool->label.words);
  json_decref(tool->schema);
  g_free(tool);
}

char *choir_call_words(const char *name) {
  GString *out = g_string_new(NULL);
  for (const char *c = name; *c; c++) {
    gboolean hump = g_ascii_isupper(*c) && c > name && (g_ascii_islower(c[-1]) || g_ascii_isdigit(c[-1]));
    if (hump || (!g_ascii_isalnum(*c) && out->len > 0 && out->str[out->len - 1] != ' '))
      g_string_append_c(out, ' ');
    if (g_ascii_isalnum(*c))
      g_string_append_c(out, g_ascii_tolower(*c));
  }
  g_strchomp(out->str);
  return g_string_free(out, FALSE);
}

static gboolean name_ok(const char *name) {
  gsize length = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.");
  g_autofree char *words = choir_call_words(name);
  return length > 0 && length == strlen(name) && length <= MAX_NAME && *words;
}

static gboolean bad(char **ret_param, guint index, const char *member, GError **error, const char *why) {
  if (ret_param)
    *ret_param = g_strdup_printf("tools[%u]%s", index, member);
  g_set_error(error, CHOIR_CALL_ERROR, CHOIR_CALL_ERROR_TOOLS, "tools[%u]%s: %s", index, member, why);
  return FALSE;
}

static gboolean add(ChoirCallTools *tools, guint index, const json_t *entry, char **ret_param, GError **error) {
  const json_t *nested = json_object_get(entry, "function");
  const json_t *function = json_is_object(nested) ? nested : entry;
  const char *where = json_is_object(nested) ? ".function" : "";
  const char *name = choir_json_string(function, "name", "");
  const char *description = choir_json_string(function, "description", "");
  if (strcmp(choir_json_string(entry, "type", "function"), "function") != 0)
    return bad(ret_param, index, ".type", error, "only tools of the type 'function' can be offered");
  if (!name_ok(name))
    return bad(ret_param, index, where, error, "a function has a 'name' of 1 to 64 letters, digits, '_', '-' or '.'");
  if (choir_call_tools_has(tools, name))
    return bad(ret_param, index, where, error, "two functions have the same name");
  if (strlen(description) > MAX_DESCRIPTION)
    return bad(ret_param, index, where, error, "the description is longer than 8192 bytes");
  json_t *parameters = json_object_get(function, "parameters");
  gboolean none =
      !parameters || json_is_null(parameters) || (json_is_object(parameters) && json_object_size(parameters) == 0);
  json_t *schema = none ? json_pack("{s:s}", "type", "object") : json_incref(parameters);
  g_autoptr(GError) refused = NULL;
  g_autofree char *grammar = choir_call_grammar(schema, CHOIR_CALL_WIDE, &refused);
  const char *type = choir_json_string(schema, "type", json_object_get(schema, "properties") ? "object" : "");
  if (!grammar || strcmp(type, "object") != 0) {
    json_decref(schema);
    return bad(ret_param, index, where, error,
               grammar ? "'parameters' must be of the type 'object'" : refused->message);
  }
  CallTool *tool = g_new0(CallTool, 1);
  tool->name = g_strdup(name);
  tool->description = g_strdup(description);
  tool->schema = schema;
  tool->label.words = choir_call_words(name);
  g_ptr_array_add(tools->list, tool);
  return TRUE;
}

ChoirCallTools *choir_call_tools_new(const json_t *json, char **ret_param, GError **error) {
  g_autoptr(ChoirCallTools) tools = g_new0(ChoirCallTools, 1);
  tools->refs = 1;
  tools->list = g_ptr_array_new_with_free_func(tool_free);
  tools->answer.words = g_strdup("answer question");
  tools->json = json_is_array(json) ? json_deep_copy(json) : json_array();
  if (json && !json_is_null(json) && !json_is_array(json)) {
    if (ret_param)
      *ret_param = g_strdup("tools");
    g_set_error_literal(error, CHOIR_CALL_ERROR, CHOIR_CALL_ERROR_TOOLS, "tools: it must be a list");
    return NULL;
  }
  if (json_array_size(json) > CHOIR_CALL_MAX_TOOLS) {
    if (ret_param)
      *ret_param = g_strdup("tools");
    g_set_error(error, CHOIR_CALL_ERROR, CHOIR_CALL_ERROR_TOOLS, "tools: more than %d", CHOIR_CALL_MAX_TOOLS);
    return NULL;
  }
  for (guint i = 0; i < json_array_size(json); i++)
    if (!add(tools, i, json_array_get(json, i), ret_param, error))
      return NULL;
  return g_steal_pointer(&tools);
}

ChoirCallTools *choir_call_tools_ref(ChoirCallTools *tools) {
  if (tools)
    tools->refs++;
  return tools;
}

void choir_call_tools_unref(ChoirCallTools *tools) {
  if (!tools || --tools->refs > 0)
    return;
  g_ptr_array_unref(tools->list);
  g_free(tools->answer.words);
  g_free(tools->model);
  json_decref(tools->json);
  g_free(tools);
}

guint choir_call_tools_count(const ChoirCallTools *tools) {
  return tools ? tools->list->len : 0;
}

const json_t *choir_call_tools_json(const ChoirCallTools *tools) {
  return tools->json;
}

const CallTool *choir_call_tools_find(const ChoirCallTools *tools, const char *name) {
  for (guint i = 0; name && i < choir_call_tools_count(tools); i++) {
    const CallTool *tool = tools->list->pdata[i];
    if (strcmp(tool->name, name) == 0)
      return tool;
  }
  return NULL;
}

gboolean choir_call_tools_has(const ChoirCallTools *tools, const char *name) {
  return choir_call_tools_find(tools, name) != NULL;
}

gboolean choir_call_choice_read(const json_t *choice, const ChoirCallTools *tools, ChoirCallChoice *ret_choice,
                                char **ret_name) {
  static const char *const words[] = {"none", "auto", "required"};
  *ret_name = NULL;
  *ret_choice = CHOIR_CALL_AUTO;
  if (!choice || json_is_null(choice))
    return TRUE;
  for (guint i = 0; i < G_N_ELEMENTS(words); i++)
    if (g_strcmp0(json_string_value(choice), words[i]) == 0) {
      *ret_choice = (ChoirCallChoice)i;
      return TRUE;
    }
  const char *name = choir_json_string(choice, "name", NULL);
  if (!name)
    name = choir_json_string(json_object_get(choice, "function"), "name", NULL);
  if (!choir_call_tools_has(tools, name) || strcmp(choir_json_string(choice, "type", ""), "function") != 0)
    return FALSE;
  *ret_choice = CHOIR_CALL_NAMED;
  *ret_name = g_strdup(name);
  return TRUE;
}

/* --- shortlist -----------------------------------------------------------------------------------------------------
 */

/* Words of three letters or more, in lower case. */
static void add_words(GPtrArray *out, const char *text) {
  g_autofree char *lower = g_utf8_strdown(text, -1);
  g_autoptr(GString) word = g_string_new(NULL);
  for (const char *c = lower;; c++) {
    if (*c && (g_ascii_isalnum(*c) || (guchar)*c >= 0x80)) {
      g_string_append_c(word, *c);
      continue;
    }
    if (word->len >= 3)
      g_ptr_array_add(out, g_strdup(word->str));
    g_string_truncate(word, 0);
    if (!*c)
      return;
  }
}

static gboolean same_word(const char *a, const char *b) {
  gsize n = 0;
  while (a[n] && a[n] == b[n])
    n++;
  if (!a[n] && !b[n])
    return TRUE;
  return n >= COMMON_PREFIX && strlen(a + n) <= 3 && strlen(b + n) <= 3;
}

static gboolean holds(const GPtrArray *words, const char *word) {
  for (guint i = 0; i < words->len; i++)
    if (same_word(words->pdata[i], word))
      return TRUE;
  return FALSE;
}

static GPtrArray *words_of(const CallTool *tool) {
  GPtrArray *words = g_ptr_array_new_with_free_func(g_free);
  add_words(words, tool->label.words);
  add_words(words, tool->description);
  const char *key;
  json_t *property;
  json_object_foreach(json_object_get(tool->schema, "properties"), key, property) {
    g_autofree char *name = choir_call_words(key);
    add_words(words, name);
    add_words(words, choir_json_string(property, "description", ""));
    size_t i;
    json_t *member;
    json_array_foreach(json_object_get(property, "enum"), i, member) {
      if (json_is_string(member))
        add_words(words, json_string_value(member));
    }
  }
  return words;
}

guint choir_call_shortlist(const ChoirCallTools *tools, const char *text, guint *ret_indices, guint most) {
  guint n = choir_call_tools_count(tools);
  g_autoptr(GPtrArray) said = g_ptr_array_new_with_free_func(g_free);
  g_autoptr(GPtrArray) texts = g_ptr_array_new_with_free_func((GDestroyNotify)g_ptr_array_unref);
  g_autofree double *scores = g_new0(double, MAX(n, 1));
  add_words(said, text);
  for (guint i = 0; i < n; i++)
    g_ptr_array_add(texts, words_of(tools->list->pdata[i]));
  for (guint w = 0; w < said->len; w++) {
    guint found = 0;
    for (guint i = 0; i < n; i++)
      found += holds(texts->pdata[i], said->pdata[w]) ? 1 : 0;
    for (guint i = 0; found && i < n; i++)
      if (holds(texts->pdata[i], said->pdata[w]))
        scores[i] += log(1 + (double)n / found);
  }
  guint count = 0;
  for (; count < MIN(n, most); count++) {
    guint best = 0;
    for (guint i = 1; i < n; i++)
      if (scores[i] > scores[best])
        best = i;
    ret_indices[count] = best;
    scores[best] = -1;
  }
  return count;
}

/* --- what a model reads --------------------------------------------------------------------------------------------
 */

static const char *type_word(const json_t *schema) {
  const char *type = choir_json_string(schema, "type", "");
  if (strcmp(type, "string") == 0)
    return "text";
  if (strcmp(type, "array") == 0)
    return "list";
  return *type ? type : "value";
}

char *choir_call_arguments_text(const json_t *schema) {
  GString *out = g_string_new(NULL);
  const char *key;
  json_t *property;
  json_object_foreach(json_object_get(schema, "properties"), key, property) {
    g_string_append_printf(out, "%s%s (%s", out->len ? ", " : "", key, type_word(property));
    const char *description = choir_json_string(property, "description", NULL);
    if (description)
      g_string_append_printf(out, ": %.100s", description);
    size_t i;
    json_t *member;
    json_array_foreach(json_object_get(property, "enum"), i, member) {
      if (json_is_string(member) && i < 12)
        g_string_append_printf(out, "%s%.40s", i ? "|" : ": ", json_string_value(member));
    }
    g_string_append_c(out, ')');
  }
  char *valid = choir_utf8(out->str, (gssize)out->len); /* the cuts may have split a character */
  g_string_free(out, TRUE);
  return valid;
}
