#include "base/config.h"
#include "base/text.h"
#include <math.h>
#include <string.h>

#define MAX_FILE (1024 * 1024)

typedef struct {
  char *text; /* canonical: an alias is already replaced */
  gint64 integer;
  double number;
  gboolean flag;
  char *origin;
} Value;

struct ChoirConfig {
  const ChoirConfigItem *items;
  guint n_items;
  Value *values; /* one per item */
};

G_DEFINE_QUARK(choir - config - error, choir_config_error)

static void value_clear(Value *value) {
  g_clear_pointer(&value->text, g_free);
  g_clear_pointer(&value->origin, g_free);
}

void choir_config_free(ChoirConfig *config) {
  if (config == NULL)
    return;
  for (guint i = 0; i < config->n_items; i++)
    value_clear(&config->values[i]);
  g_free(config->values);
  g_free(config);
}

static gint find_item(const ChoirConfig *config, const char *section, const char *key) {
  for (guint i = 0; i < config->n_items; i++)
    if (strcmp(config->items[i].section, section) == 0 && strcmp(config->items[i].key, key) == 0)
      return (gint)i;
  return -1;
}

static char *number_text(double number) {
  char digits[G_ASCII_DTOSTR_BUF_SIZE];
  return g_strdup(g_ascii_formatd(digits, sizeof digits, "%.10g", number));
}

/* "one of whisper, pocketsphinx", "a whole number from 1 to 9": what is accepted, for errors and the reference. */
static char *accepted(const ChoirConfigItem *item) {
  g_autofree char *min = number_text(item->min), *max = number_text(item->max);
  g_autofree char *range =
      item->min == 0 && item->max == 0 ? g_strdup("") : g_strdup_printf(" from %s to %s", min, max);
  if (item->type == CHOIR_CONFIG_INT)
    return g_strconcat("a whole number", range, NULL);
  if (item->type == CHOIR_CONFIG_DOUBLE)
    return g_strconcat("a number", range, NULL);
  if (item->type == CHOIR_CONFIG_BOOL)
    return g_strdup("true or false");
  if (item->type == CHOIR_CONFIG_STRING)
    return g_strdup("text");
  g_auto(GStrv) choices = g_strsplit(item->choices, "|", -1);
  GString *list = g_string_new("one of ");
  for (guint i = 0; choices[i] != NULL; i++) {
    char *equals = strchr(choices[i], '=');
    if (equals != NULL)
      *equals = '\0';
    g_string_append_printf(list, "%s%s", i > 0 ? ", " : "", choices[i]);
  }
  return g_string_free(list, FALSE);
}

static gboolean parse_bool(const char *text, gboolean *ret_flag) {
  static const char *const yes[] = {"true", "yes", "on", "1"}, *const no[] = {"false", "no", "off", "0"};
  for (guint i = 0; i < G_N_ELEMENTS(yes); i++) {
    if (g_ascii_strcasecmp(text, yes[i]) == 0 || g_ascii_strcasecmp(text, no[i]) == 0) {
      *ret_flag = g_ascii_strcasecmp(text, yes[i]) == 0;
      return TRUE;
    }
  }
  return FALSE;
}

/* The canonical spelling of a choice, NULL when it is none. Caller frees. */
static char *parse_choice(const char *choices, const char *text) {
  g_auto(GStrv) list = g_strsplit(choices, "|", -1);
  for (guint i = 0; list[i] != NULL; i++) {
    char *equals = strchr(list[i], '=');
    if (equals != NULL)
      *equals = '\0';
    if (g_ascii_strcasecmp(list[i], text) == 0)
      return g_strdup(equals != NULL ? equals + 1 : list[i]);
  }
  return NULL;
}

static gboolean in_range(const ChoirConfigItem *item, double number) {
  return (item->min == 0 && item->max == 0) || (number >= item->min && number <= item->max);
}

/* Fills value->text and the parsed form; FALSE when the text is not acceptable. */
static gboolean parse_value(const ChoirConfigItem *item, const char *text, Value *value) {
  char *end = NULL;
  *value = (Value){0};
  switch (item->type) {
  case CHOIR_CONFIG_STRING:
    break;
  case CHOIR_CONFIG_INT:
    if (!g_ascii_string_to_signed(text, 10, G_MININT64, G_MAXINT64, &value->integer, NULL) ||
        !in_range(item, (double)value->integer))
      return FALSE;
    value->number = (double)value->integer;
    break;
  case CHOIR_CONFIG_DOUBLE:
    value->number = g_ascii_strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(value->number) || !in_range(item, value->number))
      return FALSE;
    break;
  case CHOIR_CONFIG_BOOL:
    if (!parse_bool(text, &value->flag))
      return FALSE;
    break;
  case CHOIR_CONFIG_ENUM:
    value->text = parse_choice(item->choices, text);
    return value->text != NULL;
  }
  value->text = g_strdup(text);
  return TRUE;
}

static gboolean parse_or_explain(const ChoirConfigItem *item, const char *text, const char *source, Value *value,
                                 GError **error) {
  if (parse_value(item, text, value))
    return TRUE;
  g_autofree char *wanted = accepted(item), *shown = choir_utf8(text, (gssize)strnlen(text, 80));
  g_set_error(error, CHOIR_CONFIG_ERROR, CHOIR_CONFIG_ERROR_BAD_VALUE, "%s: [%s] %s cannot be \"%s\"; it must be %s",
              source, item->section, item->key, shown, wanted);
  return FALSE;
}

static gboolean has_section(const ChoirConfig *config, const char *section) {
  for (guint i = 0; i < config->n_items; i++)
    if (strcmp(config->items[i].section, section) == 0)
      return TRUE;
  return FALSE;
}

/* Sections, or the keys of one section, each once, NULL-ended. Caller frees the array only. */
static GPtrArray *known_names(const ChoirConfig *config, const char *section) {
  GPtrArray *names = g_ptr_array_new();
  for (guint i = 0; i < config->n_items; i++) {
    const ChoirConfigItem *item = &config->items[i];
    if (section != NULL && strcmp(item->section, section) != 0)
      continue;
    const char *name = section != NULL ? item->key : item->section;
    if (!g_ptr_array_find_with_equal_func(names, name, g_str_equal, NULL))
      g_ptr_array_add(names, (gpointer)name);
  }
  g_ptr_array_add(names, NULL);
  return names;
}

/* "; did you mean "x"?" or the whole list when nothing is near. */
static char *suggestion(const char *word, GPtrArray *names) {
  const char *near = choir_nearest(word, (const char *const *)names->pdata);
  if (near != NULL)
    return g_strdup_printf("did you mean \"%s\"?", near);
  g_autofree char *list = g_strjoinv(", ", (char **)names->pdata);
  return g_strdup_printf("known are %s", list);
}

static void explain_unknown(const ChoirConfig *config, const char *section, const char *key, const char *source,
                            GError **error) {
  g_autofree char *shown_section = choir_utf8(section, (gssize)strnlen(section, 60));
  g_autofree char *shown_key = choir_utf8(key, (gssize)strnlen(key, 60));
  if (!has_section(config, section)) {
    g_autoptr(GPtrArray) names = known_names(config, NULL);
    g_autofree char *hint = suggestion(section, names);
    g_set_error(error, CHOIR_CONFIG_ERROR, CHOIR_CONFIG_ERROR_UNKNOWN_KEY, "%s: unknown section [%s]; %s", source,
                shown_section, hint);
    return;
  }
  for (guint i = 0; i < config->n_items; i++) {
    if (strcmp(config->items[i].key, key) == 0) {
      g_set_error(error, CHOIR_CONFIG_ERROR, CHOIR_CONFIG_ERROR_UNKNOWN_KEY,
                  "%s: unknown key \"%s\" in section [%s]; it belongs to [%s]", source, shown_key, shown_section,
                  config->items[i].section);
      return;
    }
  }
  g_autoptr(GPtrArray) names = known_names(config, section);
  g_autofree char *hint = suggestion(key, names);
  g_set_error(error, CHOIR_CONFIG_ERROR, CHOIR_CONFIG_ERROR_UNKNOWN_KEY, "%s: unknown key \"%s\" in section [%s]; %s",
              source, shown_key, shown_section, hint);
}

static gboolean set_value(ChoirConfig *config, const char *section, const char *key, const char *text,
                          const char *source, const char *origin, GError **error) {
  gint index = find_item(config, section, key);
  Value value;
  if (index < 0) {
    explain_unknown(config, section, key, source, error);
    return FALSE;
  }
  if (!parse_or_explain(&config->items[index], text, source, &value, error))
    return FALSE;
  value.origin = g_strdup(origin);
  value_clear(&config->values[index]);
  config->values[index] = value;
  return TRUE;
}

/* \\n, \\t, \\r, \\s and \\\\, as GKeyFile has them (its own reader complains about a second mistake on standard
 * error). NULL when it is no UTF-8 text or has another escape. Caller frees. */
static char *unescape(const char *raw) {
  static const char letters[] = "ntrs\\", meanings[] = "\n\t\r \\";
  g_autoptr(GString) text = g_string_new(NULL);
  for (const char *c = raw; *c != '\0'; c++) {
    const char *letter = *c == '\\' ? (c[1] != '\0' ? strchr(letters, c[1]) : NULL) : NULL;
    if (*c == '\\' && letter == NULL)
      return NULL;
    g_string_append_c(text, letter != NULL ? meanings[letter - letters] : *c);
    c += letter != NULL;
  }
  if (!g_utf8_validate(text->str, (gssize)text->len, NULL))
    return NULL;
  return g_string_free(g_steal_pointer(&text), FALSE);
}

static gboolean merge_group(ChoirConfig *config, GKeyFile *file, const char *group, const char *name, GError **error) {
  g_auto(GStrv) keys = g_key_file_get_keys(file, group, NULL, NULL);
  g_autofree char *origin = g_strdup_printf("file %s", name);
  if (keys == NULL || keys[0] == NULL) {
    if (has_section(config, group))
      return TRUE;
    explain_unknown(config, group, "", name, error);
    return FALSE;
  }
  for (guint i = 0; keys[i] != NULL; i++) {
    g_autofree char *raw = g_key_file_get_value(file, group, keys[i], NULL);
    g_autofree char *text = raw != NULL ? unescape(g_strchomp(raw)) : NULL;
    if (find_item(config, group, keys[i]) >= 0 && text == NULL) {
      g_set_error(error, CHOIR_CONFIG_ERROR, CHOIR_CONFIG_ERROR_BAD_VALUE,
                  "%s: [%s] %s is not valid UTF-8 text, or has a wrong escape; it must be text in which \\ stands "
                  "before n, t, r, s or another \\ only",
                  name, group, keys[i]);
      return FALSE;
    }
    if (!set_value(config, group, keys[i], text != NULL ? text : "", name, origin, error))
      return FALSE;
  }
  return TRUE;
}

static ChoirConfig *config_copy(const ChoirConfig *config) {
  ChoirConfig *copy = g_new0(ChoirConfig, 1);
  *copy = *config;
  copy->values = g_memdup2(config->values, config->n_items * sizeof *config->values);
  for (guint i = 0; i < copy->n_items; i++) {
    copy->values[i].text = g_strdup(copy->values[i].text);
    copy->values[i].origin = g_strdup(copy->values[i].origin);
  }
  return copy;
}

gboolean choir_config_merge_data(ChoirConfig *config, const char *data, gsize length, const char *name,
                                 GError **error) {
  g_autoptr(GKeyFile) file = g_key_file_new();
  g_autoptr(GError) problem = NULL;
  if (length > MAX_FILE) {
    g_set_error(error, CHOIR_CONFIG_ERROR, CHOIR_CONFIG_ERROR_FILE, "%s: longer than 1 MiB", name);
    return FALSE;
  }
  if (!g_key_file_load_from_data(file, length > 0 ? data : "", length, G_KEY_FILE_NONE, &problem)) {
    g_autofree char *message =
        choir_utf8(problem->message, (gssize)strnlen(problem->message, 300)); /* it quotes a line */
    g_set_error(error, CHOIR_CONFIG_ERROR, CHOIR_CONFIG_ERROR_FILE, "%s: %s", name, message);
    return FALSE;
  }
  /* Into a copy: a layer with a mistake changes nothing. */
  g_autoptr(ChoirConfig) copy = config_copy(config);
  g_auto(GStrv) groups = g_key_file_get_groups(file, NULL);
  for (guint i = 0; groups[i] != NULL; i++)
    if (!merge_group(copy, file, groups[i], name, error))
      return FALSE;
  Value *values = config->values;
  config->values = copy->values;
  copy->values = values;
  return TRUE;
}

gboolean choir_config_set(ChoirConfig *config, const char *section, const char *key, const char *value,
                          GError **error) {
  return set_value(config, section, key, value, "setting", "setting", error);
}

static gboolean merge_file(ChoirConfig *config, const char *path, GError **error) {
  g_autofree char *data = NULL;
  gsize length = 0;
  g_autoptr(GError) problem = NULL;
  if (!g_file_get_contents(path, &data, &length, &problem)) {
    if (g_error_matches(problem, G_FILE_ERROR, G_FILE_ERROR_NOENT))
      return TRUE;
    g_set_error(error, CHOIR_CONFIG_ERROR, CHOIR_CONFIG_ERROR_FILE, "cannot read %s: %s", path, problem->message);
    return FALSE;
  }
  return choir_config_merge_data(config, data, length, path, error);
}

static int compare_names(gconstpointer a, gconstpointer b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static gboolean merge_drop_ins(ChoirConfig *config, const char *path, GError **error) {
  g_autofree char *folder = g_strconcat(path, ".d", NULL);
  g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
  if (dir == NULL)
    return TRUE;
  g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
  for (const char *name = g_dir_read_name(dir); name != NULL; name = g_dir_read_name(dir))
    if (g_str_has_suffix(name, ".conf") && *name != '.')
      g_ptr_array_add(names, g_strdup(name));
  g_ptr_array_sort(names, compare_names);
  for (guint i = 0; i < names->len; i++) {
    g_autofree char *file = g_build_filename(folder, g_ptr_array_index(names, i), NULL);
    if (!merge_file(config, file, error))
      return FALSE;
  }
  return TRUE;
}

/* The first variable of an item that is set and not empty wins. */
static gboolean merge_environment(ChoirConfig *config, GError **error) {
  for (guint i = 0; i < config->n_items; i++) {
    const ChoirConfigItem *item = &config->items[i];
    g_auto(GStrv) names = g_strsplit(item->env != NULL ? item->env : "", ",", -1);
    for (guint j = 0; names[j] != NULL; j++) {
      const char *name = g_strstrip(names[j]), *text = g_getenv(name);
      if (text == NULL || *text == '\0')
        continue;
      g_autofree char *origin = g_strdup_printf("environment %s", name);
      if (!set_value(config, item->section, item->key, text, origin, origin, error))
        return FALSE;
      break;
    }
  }
  return TRUE;
}

ChoirConfig *choir_config_load(const ChoirConfigItem *items, const char *path, GError **error) {
  g_autoptr(ChoirConfig) config = g_new0(ChoirConfig, 1);
  config->items = items;
  while (items[config->n_items].section != NULL)
    config->n_items++;
  config->values = g_new0(Value, config->n_items);
  for (guint i = 0; i < config->n_items; i++) {
    if (!parse_value(&items[i], items[i].fallback, &config->values[i]))
      g_error("the default of [%s] %s is not acceptable", items[i].section, items[i].key);
    config->values[i].origin = g_strdup("default");
  }
  if (path != NULL && (!merge_file(config, path, error) || !merge_drop_ins(config, path, error)))
    return NULL;
  if (!merge_environment(config, error))
    return NULL;
  return g_steal_pointer(&config);
}

static const Value *get(const ChoirConfig *config, const char *section, const char *key, ChoirConfigType type) {
  gint index = find_item(config, section, key);
  if (index < 0)
    g_error("[%s] %s is not in the configuration table", section, key);
  ChoirConfigType real = config->items[index].type;
  if (real == CHOIR_CONFIG_ENUM || type == CHOIR_CONFIG_STRING)
    real = type; /* every value can be read as text */
  if (real != type && !(type == CHOIR_CONFIG_DOUBLE && real == CHOIR_CONFIG_INT))
    g_error("[%s] %s is read as another type than the table's", section, key);
  return &config->values[index];
}

const char *choir_config_string(const ChoirConfig *config, const char *section, const char *key) {
  return get(config, section, key, CHOIR_CONFIG_STRING)->text;
}

gint64 choir_config_int(const ChoirConfig *config, const char *section, const char *key) {
  return get(config, section, key, CHOIR_CONFIG_INT)->integer;
}

double choir_config_double(const ChoirConfig *config, const char *section, const char *key) {
  return get(config, section, key, CHOIR_CONFIG_DOUBLE)->number;
}

gboolean choir_config_bool(const ChoirConfig *config, const char *section, const char *key) {
  return get(config, section, key, CHOIR_CONFIG_BOOL)->flag;
}

const char *choir_config_origin(const ChoirConfig *config, const char *section, const char *key) {
  return get(config, section, key, CHOIR_CONFIG_STRING)->origin;
}

static void append_item(GString *text, const ChoirConfigItem *item) {
  g_autofree char *wanted = accepted(item);
  g_string_append_printf(text, "# %s\n# Accepts %s.", item->help, wanted);
  if (item->env != NULL)
    g_string_append_printf(text, " Environment: %s.", item->env);
  g_string_append_printf(text, "\n#%s=%s\n\n", item->key, item->fallback);
}

char *choir_config_reference(const ChoirConfigItem *items) {
  GString *text = g_string_new("# Choir's configuration. Every line that starts with # shows a default.\n"
                               "# Files in the folder next to this one with .d added to its name are read after it;\n"
                               "# environment variables win over both.\n\n");
  g_autoptr(GPtrArray) seen = g_ptr_array_new();
  for (guint i = 0; items[i].section != NULL; i++) {
    if (g_ptr_array_find_with_equal_func(seen, items[i].section, g_str_equal, NULL))
      continue;
    g_ptr_array_add(seen, (gpointer)items[i].section);
    g_string_append_printf(text, "[%s]\n", items[i].section);
    for (guint j = i; items[j].section != NULL; j++)
      if (strcmp(items[j].section, items[i].section) == 0)
        append_item(text, &items[j]);
  }
  return g_string_free(text, FALSE);
}
