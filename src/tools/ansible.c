/* The house's own playbooks by the real ansible-playbook. The card shows what it would change (--check --diff). */
#include <string.h>
#include "base/text.h"
#include "tools/boxed.h"
#include "tools/plain.h"
#include "tools/schema.h"
#include "tools/tools.h"

#define RECAP_HOSTS 3 /* whose results are said */

static char *hint(const char *output) {
  static const struct {
    const char *sign, *say;
  } hints[] = {
      {"UNREACHABLE", "a machine cannot be reached: is it on, and does ssh with a key work?"},
      {"is undefined", "a variable has no value: pass it with extra_vars or set it in group_vars"},
      {"Syntax Error", "the playbook has a syntax error; ansible-playbook --syntax-check shows where"},
      {"Permission denied", "the user there may not do that; see become and sudo"},
      {"Missing sudo password", "sudo wants a password there; run it yourself with --ask-become-pass"},
      {"Could not get lock", "apt runs there already; wait until it has finished"},
      {"could not be found", "a file or a module that it names is not there"},
  };
  for (gsize i = 0; i < G_N_ELEMENTS(hints); i++)
    if (strstr(output, hints[i].sign))
      return g_strdup(hints[i].say);
  return NULL;
}

static const char *root_of(const ChoirToolHouse *house) {
  const char *set = choir_config_string(house->config, "tools", "playbooks");
  return *set ? set : house->source_dir;
}

/* The playbooks that there are: YAML files at the top of the folder that hold plays. */
static json_t *choices(const ChoirToolHouse *house, const char *argument) {
  if (!g_str_equal(argument, "playbook"))
    return NULL;
  json_t *list = json_array();
  g_autoptr(GDir) dir = g_dir_open(root_of(house), 0, NULL);
  for (const char *name = dir ? g_dir_read_name(dir) : NULL; name; name = g_dir_read_name(dir)) {
    g_autofree char *path = g_build_filename(root_of(house), name, NULL), *text = NULL;
    gboolean yaml = g_str_has_suffix(name, ".yaml") || g_str_has_suffix(name, ".yml");
    if (yaml && g_file_get_contents(path, &text, NULL, NULL) && strstr(text, "hosts:") && json_array_size(list) < 100)
      json_array_append_new(list, json_string(name));
  }
  return list;
}

static gboolean word_ok(const char *text) {
  return g_ascii_isalnum(*text) &&
         !text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.,:!&")];
}

static void start(ChoirToolCall *call, gboolean check) {
  const ChoirToolHouse *house = choir_tool_call_house(call);
  const char *limit = choir_tool_call_string(call, "limit", NULL), *tags = choir_tool_call_string(call, "tags", NULL),
             *name;
  json_t *vars = json_object_get(choir_tool_call_args(call), "extra_vars"), *var;
  size_t i;
  if ((limit && !word_ok(limit)) || (tags && !word_ok(tags))) {
    tool_fail(call, CHOIR_TOOL_ERROR_ARGUMENTS, "limit and tags are names, with commas between them");
    return;
  }
  g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
  g_ptr_array_add(argv, g_strdup("ansible-playbook"));
  g_ptr_array_add(argv, g_strdup("--diff"));
  if (check)
    g_ptr_array_add(argv, g_strdup("--check"));
  if (limit)
    g_ptr_array_add(argv, g_strconcat("--limit=", limit, NULL));
  if (tags)
    g_ptr_array_add(argv, g_strconcat("--tags=", tags, NULL));
  /* As one JSON object: a value can be no option and no template of another variable's name. */
  json_auto_t *object = json_object();
  json_array_foreach(vars, i, var) {
    name = choir_json_string(var, "name", "");
    if (!word_ok(name)) {
      tool_fail(call, CHOIR_TOOL_ERROR_ARGUMENTS, "\"%s\" is no name of a variable", name);
      return;
    }
    const char *value = choir_json_string(var, "value", "");
    if (strstr(value, "{{") || strstr(value, "{%")) { /* Ansible would run what stands in it */
      tool_fail(call, CHOIR_TOOL_ERROR_ARGUMENTS, "the value of %s holds a template, which is not taken", name);
      return;
    }
    json_object_set_new(object, name, json_string(value));
  }
  if (json_object_size(object) > 0) {
    g_ptr_array_add(argv, g_strdup("--extra-vars"));
    g_ptr_array_add(argv, choir_json_dump(object));
  }
  g_ptr_array_add(argv, g_strdup(choir_tool_call_string(call, "playbook", "playbook.yaml")));
  g_ptr_array_add(argv, NULL);
  tool_plain_run(call, &(ToolPlain){.argv = (const char *const *)argv->pdata, .cwd = root_of(house), .hint = hint});
}

static void run_playbook(ChoirToolCall *call) {
  start(call, FALSE);
}

static void preview(ChoirToolCall *call) {
  start(call, TRUE);
}

/* Ansible's own recap: a line for each host. */
static char *gist(const json_t *args, const char *output) {
  const char *recap = g_strrstr(output, "PLAY RECAP");
  if (!recap || !strchr(recap, '\n'))
    return NULL;
  g_auto(GStrv) lines = g_strsplit(strchr(recap, '\n') + 1, "\n", -1);
  g_autoptr(GString) text = g_string_new(NULL);
  guint hosts = 0;
  for (guint i = 0; lines[i] && strstr(lines[i], "ok="); i++, hosts++) {
    g_autofree char *line = choir_short_line(lines[i], 120);
    if (hosts < RECAP_HOSTS)
      g_string_append_printf(text, "%s%s", hosts ? "; " : "", line);
  }
  return hosts ? g_strdup_printf("The playbook has run on %u host%s: %s%s.", hosts, hosts == 1 ? "" : "s", text->str,
                                 hosts > RECAP_HOSTS ? "; and others" : "")
               : NULL;
}

/* The original has a default playbook, and its extra_vars are an object. */
static void accept(json_t *args) {
  json_t *vars = json_object_get(args, "extra_vars"), *value;
  const char *name;
  if (!json_object_get(args, "playbook"))
    json_object_set_new(args, "playbook", json_string("playbook.yaml"));
  if (!json_is_object(vars))
    return;
  json_t *list = json_array();
  json_object_foreach(vars, name, value) {
    g_autofree char *text = json_is_string(value) ? g_strdup(json_string_value(value)) : choir_json_dump(value);
    json_array_append_new(list, json_pack("{s:s,s:s}", "name", name, "value", text));
  }
  json_object_set_new(args, "extra_vars", list);
}

static char *target(const ChoirToolHouse *house, const json_t *args) {
  return g_strdup_printf("hosts of %s%s%s", choir_json_string(args, "playbook", "playbook.yaml"),
                         json_object_get(args, "limit") ? ", only " : "", choir_json_string(args, "limit", ""));
}

static gboolean available(const ChoirToolHouse *house, char **ret_reason, char **ret_remedy) {
  if (!tool_program_there("ansible-playbook", "ansible-core", ret_reason, ret_remedy))
    return FALSE;
  json_auto_t *list = choices(house, "playbook");
  if (json_array_size(list) > 0)
    return TRUE;
  *ret_reason = g_strdup("there are no playbooks");
  *ret_remedy = g_strdup("name their folder: [tools] playbooks");
  return FALSE;
}

static const ChoirToolSink sinks[] = {
    {"extra_vars", CHOIR_SINK_EXTRA_VAR}, {"limit", CHOIR_SINK_HOST}, {"tags", CHOIR_SINK_EXTRA_VAR}, {NULL, 0}};
static const ChoirToolShot shots[] = {
    {"run the playbook playbook.yaml", "{\"playbook\": \"playbook.yaml\"}"},
    {"run the health check playbook with ansible", "{\"playbook\": \"run_health_check.yaml\"}"},
    {"deploy the expert with ansible", "{\"playbook\": \"deploy_expert.yaml\"}"},
    {"provision the workers with ansible", "{\"playbook\": \"playbook.yaml\", \"limit\": \"workers\"}"},
    {"repair the cluster by ansible", "{\"playbook\": \"heal_cluster.yaml\"}"},
    {"make this node the controller with the ansible playbook", "{\"playbook\": \"promote_controller.yaml\"}"},
    {NULL, NULL}};
static const ChoirToolAction actions[] = {
    {.name = "run_playbook",
     .help = "Run an Ansible playbook.",
     .class = CHOIR_CLASS_FLEET,
     .schema = TOOL_OBJECT(
         TOOL_TEXT("playbook", 200, "its file") "," TOOL_COPIED("limit", 200, "only these hosts") "," TOOL_TEXT(
             "tags", 200, "only these tags") ","
                                             "\"extra_vars\":{\"type\":\"array\",\"maxItems\":20,\"description\":"
                                             "\"variables\",\"items\":" TOOL_OBJECT(
                                                 TOOL_TEXT("name", 64, "name") "," TOOL_TEXT("value", 500, "value"),
                                                 "\"name\",\"value\"") "}",
         "\"playbook\""),
     .sinks = sinks,
     .timeout_s = 900,
     .choices = choices,
     .gist = gist,
     .accept = accept,
     .target = target,
     .shots = shots,
     .preview = preview,
     .run = run_playbook},
};

const ChoirTool choir_tool_ansible = {.id = "ansible",
                                      .title = "Ansible",
                                      .help = "Runs the playbooks of this house.",
                                      .actions = actions,
                                      .n_actions = G_N_ELEMENTS(actions),
                                      .available = available};
