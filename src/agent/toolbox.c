#include "agent/toolbox.h"
#include <string.h>
#include "agent/schema.h"
#include "agent/toolbox_private.h"
#include "base/text.h"

G_DEFINE_QUARK(choir - tool - error - quark, choir_tool_error)

const char *choir_tool_class_name(ChoirToolClass class) {
  static const char *const names[] = {"read", "local", "change", "fleet", "denied"};
  return names[class];
}

static json_t *load_schema(const ChoirTool *tool, const ChoirToolAction *action) {
  g_autoptr(GError) error = NULL;
  json_t *schema = choir_json_parse(action->schema, strlen(action->schema), &error);
  if (!schema || !choir_schema_check_closed(schema, &error))
    g_error("the schema of %s.%s cannot be used: %s", tool->id, action->name, error->message);
  return schema;
}

static void state_free(gpointer tool, gpointer state, gpointer user) {
  const ChoirTool *of = tool;
  if (of->close && state)
    of->close(state);
}

ChoirToolbox *choir_toolbox_new(const ChoirTool *const *tools, const ChoirToolHouse *house, ChoirApprovals *approvals,
                                ChoirAudit *audit) {
  ChoirToolbox *toolbox = g_new0(ChoirToolbox, 1);
  toolbox->tools = tools;
  toolbox->house = *house;
  toolbox->approvals = approvals;
  toolbox->audit = audit;
  toolbox->states = g_hash_table_new(NULL, NULL);
  toolbox->schemas = g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify)json_decref);
  toolbox->calls = g_ptr_array_new();
  toolbox->denied = g_ptr_array_new_with_free_func((GDestroyNotify)g_pattern_spec_free);
  for (; tools[toolbox->n]; toolbox->n++) {
    const ChoirTool *tool = tools[toolbox->n];
    for (guint i = 0; i < toolbox->n; i++)
      if (g_str_equal(tools[i]->id, tool->id))
        g_error("there are two tools %s", tool->id);
    for (guint i = 0; i < tool->n_actions; i++)
      g_hash_table_insert(toolbox->schemas, (gpointer)&tool->actions[i], load_schema(tool, &tool->actions[i]));
  }
  return toolbox;
}

void choir_toolbox_free(ChoirToolbox *toolbox) {
  if (!toolbox)
    return;
  toolbox->dead = TRUE;
  while (toolbox->calls->len > 0)
    choir_toolbox_cancel(toolbox, 0);
  g_hash_table_foreach(toolbox->states, state_free, NULL);
  g_hash_table_unref(toolbox->states);
  g_hash_table_unref(toolbox->schemas);
  g_ptr_array_unref(toolbox->calls);
  g_ptr_array_unref(toolbox->denied);
  g_free(toolbox);
}

void choir_toolbox_start(ChoirToolbox *toolbox) {
  for (guint i = 0; i < toolbox->n; i++)
    if (toolbox->tools[i]->at_start)
      choir_toolbox_state(toolbox, toolbox->tools[i]);
}

const ChoirToolHouse *choir_toolbox_house(const ChoirToolbox *toolbox) {
  return &toolbox->house;
}

guint choir_toolbox_count(const ChoirToolbox *toolbox) {
  return toolbox->n;
}

const ChoirTool *choir_toolbox_tool(const ChoirToolbox *toolbox, guint index) {
  return index < toolbox->n ? toolbox->tools[index] : NULL;
}

const ChoirToolAction *choir_toolbox_find(const ChoirToolbox *toolbox, const char *name, const ChoirTool **ret_tool) {
  const char *dot = strchr(name, '.');
  for (guint i = 0; !dot && i < toolbox->n; i++) /* a tool of one action may go by its own name */
    if (toolbox->tools[i]->n_actions == 1 && g_str_equal(toolbox->tools[i]->id, name)) {
      if (ret_tool)
        *ret_tool = toolbox->tools[i];
      return toolbox->tools[i]->actions;
    }
  if (!dot)
    return NULL;
  for (guint i = 0; i < toolbox->n; i++) {
    const ChoirTool *tool = toolbox->tools[i];
    if (strlen(tool->id) != (gsize)(dot - name) || strncmp(tool->id, name, (gsize)(dot - name)) != 0)
      continue;
    for (guint k = 0; k < tool->n_actions; k++)
      if (g_str_equal(tool->actions[k].name, dot + 1)) {
        if (ret_tool)
          *ret_tool = tool;
        return &tool->actions[k];
      }
  }
  return NULL;
}

gboolean choir_toolbox_available(const ChoirToolbox *toolbox, const ChoirTool *tool, char **ret_reason,
                                 char **ret_remedy) {
  g_autofree char *reason = NULL, *remedy = NULL;
  gboolean there = !tool->available || tool->available(&toolbox->house, &reason, &remedy);
  if (!there && ret_reason)
    *ret_reason = g_steal_pointer(&reason);
  if (!there && ret_remedy)
    *ret_remedy = g_steal_pointer(&remedy);
  return there;
}

json_t *choir_toolbox_schema(const ChoirToolbox *toolbox, const ChoirToolAction *action) {
  json_t *schema = json_deep_copy(g_hash_table_lookup(toolbox->schemas, action)), *property;
  const char *name;
  json_object_foreach(json_object_get(schema, "properties"), name, property) {
    json_t *choices = action->choices ? action->choices(&toolbox->house, name) : NULL;
    g_autofree char *text = action->describe ? action->describe(&toolbox->house, name) : NULL;
    if (choices)
      json_object_set_new(property, "enum", choices);
    if (text)
      json_object_set_new(property, "description", json_string(text));
  }
  return schema;
}

gboolean choir_toolbox_accept(const ChoirToolbox *toolbox, const ChoirToolAction *action, json_t *args,
                              GError **error) {
  json_auto_t *schema = choir_toolbox_schema(toolbox, action);
  if (action->accept && json_is_object(args))
    action->accept(args);
  return choir_schema_validate(schema, args, error);
}

gpointer choir_toolbox_state(ChoirToolbox *toolbox, const ChoirTool *tool) {
  gpointer state = g_hash_table_lookup(toolbox->states, tool);
  if (!state && tool->open) {
    state = tool->open(&toolbox->house);
    g_hash_table_insert(toolbox->states, (gpointer)tool, state);
  }
  return state;
}

static json_t *describe_actions(const ChoirToolbox *toolbox, const ChoirTool *tool) {
  json_t *list = json_array();
  for (guint i = 0; i < tool->n_actions; i++) {
    const ChoirToolAction *action = &tool->actions[i];
    json_t *item = json_object();
    json_object_set_new(item, "name", json_string(action->name));
    json_object_set_new(item, "help", json_string(action->help));
    json_object_set_new(item, "class", json_string(choir_tool_class_name(action->class)));
    json_object_set_new(item, "timeout_s", json_integer(action->timeout_s ? action->timeout_s : 30));
    json_object_set_new(item, "schema", choir_toolbox_schema(toolbox, action));
    json_array_append_new(list, item);
  }
  return list;
}

json_t *choir_toolbox_list(const ChoirToolbox *toolbox) {
  json_t *list = json_array();
  for (guint i = 0; i < toolbox->n; i++) {
    const ChoirTool *tool = toolbox->tools[i];
    g_autofree char *reason = NULL, *remedy = NULL;
    json_t *item = json_object();
    gboolean there = choir_toolbox_available(toolbox, tool, &reason, &remedy);
    json_object_set_new(item, "id", json_string(tool->id));
    json_object_set_new(item, "title", json_string(tool->title));
    json_object_set_new(item, "help", json_string(tool->help));
    json_object_set_new(item, "available", json_boolean(there));
    json_object_set_new(item, "reason", reason ? json_string(reason) : json_null());
    json_object_set_new(item, "remedy", remedy ? json_string(remedy) : json_null());
    json_object_set_new(item, "actions", describe_actions(toolbox, tool));
    json_array_append_new(list, item);
  }
  return list;
}

json_t *choir_toolbox_functions(const ChoirToolbox *toolbox) {
  json_t *list = json_array();
  for (guint i = 0; i < toolbox->n; i++) {
    const ChoirTool *tool = toolbox->tools[i];
    if (!choir_toolbox_available(toolbox, tool, NULL, NULL))
      continue;
    for (guint k = 0; k < tool->n_actions; k++) {
      const ChoirToolAction *action = &tool->actions[k];
      g_autofree char *name = g_strdup_printf("%s.%s", tool->id, action->name);
      if (choir_toolbox_denied(toolbox, name))
        continue;
      json_t *function = json_object(), *item = json_object();
      json_object_set_new(function, "name", json_string(name));
      json_object_set_new(function, "description", json_string(action->help));
      json_object_set_new(function, "parameters", choir_toolbox_schema(toolbox, action));
      json_object_set_new(item, "type", json_string("function"));
      json_object_set_new(item, "function", function);
      json_array_append_new(list, item);
    }
  }
  return list;
}

void choir_toolbox_policy(ChoirToolbox *toolbox, const char *mode, const char *const *denied) {
  toolbox->strict = g_strcmp0(mode, "strict") == 0;
  g_ptr_array_set_size(toolbox->denied, 0);
  for (guint i = 0; denied && denied[i]; i++)
    g_ptr_array_add(toolbox->denied, g_pattern_spec_new(denied[i]));
}

gboolean choir_toolbox_denied(const ChoirToolbox *toolbox, const char *name) {
  for (guint i = 0; i < toolbox->denied->len; i++)
    if (g_pattern_spec_match_string(toolbox->denied->pdata[i], name))
      return TRUE;
  return FALSE;
}
