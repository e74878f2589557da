/* group_vars/models.yaml through libyaml. Other keys of the file belong to other parts and are passed over. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>
#include "llm/models_private.h"

static const yaml_node_t *member(yaml_document_t *document, const yaml_node_t *map, const char *key) {
  if (!map || map->type != YAML_MAPPING_NODE)
    return NULL;
  for (yaml_node_pair_t *pair = map->data.mapping.pairs.start; pair < map->data.mapping.pairs.top; pair++) {
    const yaml_node_t *name = yaml_document_get_node(document, pair->key);
    if (name && name->type == YAML_SCALAR_NODE && strcmp((const char *)name->data.scalar.value, key) == 0)
      return yaml_document_get_node(document, pair->value);
  }
  return NULL;
}

static char *text_of(yaml_document_t *document, const yaml_node_t *map, const char *key) {
  const yaml_node_t *node = member(document, map, key);
  if (!node || node->type != YAML_SCALAR_NODE || node->data.scalar.length == 0)
    return NULL;
  return g_utf8_make_valid((const char *)node->data.scalar.value, (gssize)node->data.scalar.length);
}

static gboolean flag_of(yaml_document_t *document, const yaml_node_t *map, const char *key, gboolean fallback) {
  g_autofree char *text = text_of(document, map, key);
  if (!text)
    return fallback;
  return g_ascii_strcasecmp(text, "true") == 0 || g_ascii_strcasecmp(text, "yes") == 0 ||
         g_ascii_strcasecmp(text, "on") == 0;
}

static gboolean number_of(yaml_document_t *document, const yaml_node_t *map, const char *key, const char *name,
                          guint64 max, guint64 *ret_number, GError **error) {
  g_autofree char *text = text_of(document, map, key);
  *ret_number = 0;
  if (!text || g_ascii_string_to_unsigned(text, 10, 0, max, ret_number, NULL))
    return TRUE;
  g_set_error(error, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_LIST, "model %s: %s must be a whole number, not '%s'", name,
              key, text);
  return FALSE;
}

static gboolean check(const ChoirModel *model, const char *sha256, gboolean unverified, GError **error) {
  const char *wrong = NULL;
  if (!model->filename || strchr(model->filename, '/') || model->filename[0] == '.')
    wrong = "needs a filename without folders";
  else if (sha256 && (strlen(sha256) != 64 || strspn(sha256, "0123456789abcdef") != 64))
    wrong = "its sha256 must be 64 small hex digits";
  else if (!sha256 && !unverified)
    wrong = "has no sha256; write 'unverified: true' when nobody has fetched it yet";
  else if (model->url && !g_str_has_prefix(model->url, "https://") && !g_str_has_prefix(model->url, "http://"))
    wrong = "its url must begin with https:// or http://";
  if (!wrong)
    return TRUE;
  g_set_error(error, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_LIST, "model %s: %s", model->name, wrong);
  return FALSE;
}

/* On a node the language models stand in a folder of their own beside those of speech. */
static char *path_of(const char *models_dir, const char *filename) {
  g_autofree char *apart = g_build_filename(models_dir, "llm", filename, NULL);
  return g_file_test(apart, G_FILE_TEST_EXISTS) ? g_steal_pointer(&apart)
                                                : g_build_filename(models_dir, filename, NULL);
}

static ChoirModel *read_model(yaml_document_t *document, const yaml_node_t *node, const char *models_dir,
                              GError **error) {
  ChoirModel *model = g_new0(ChoirModel, 1);
  guint64 memory = 0;
  model->name = text_of(document, node, "name");
  model->url = text_of(document, node, "url");
  model->filename = text_of(document, node, "filename");
  model->sha256 = text_of(document, node, "sha256");
  model->format = text_of(document, node, "format");
  model->note = text_of(document, node, "note");
  model->role = g_strdup("main");
  model->verified = model->sha256 != NULL;
  model->dense = flag_of(document, node, "dense", TRUE);
  gboolean unverified = flag_of(document, node, "unverified", FALSE);
  if (!model->name) {
    g_set_error(error, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_LIST, "line %zu: a model without a name",
                node->start_mark.line + 1);
  } else if (check(model, model->sha256, unverified, error) &&
             number_of(document, node, "bytes", model->name, G_MAXINT64, &model->bytes, error) &&
             number_of(document, node, "memory_mb", model->name, 1u << 30, &memory, error)) {
    model->memory_mb = (guint)memory;
    model->path = path_of(models_dir, model->filename);
    return model;
  }
  choir_model_free(model);
  return NULL;
}

static gboolean read_list(yaml_document_t *document, const char *expert, const char *models_dir, GPtrArray *list,
                          GError **error) {
  const yaml_node_t *experts = member(document, yaml_document_get_root_node(document), "expert_models");
  const yaml_node_t *own_list = member(document, experts, expert);
  if (!own_list || own_list->type != YAML_SEQUENCE_NODE) {
    g_set_error(error, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_LIST, "there is no list expert_models: %s:", expert);
    return FALSE;
  }
  for (yaml_node_item_t *item = own_list->data.sequence.items.start; item < own_list->data.sequence.items.top; item++) {
    ChoirModel *model = read_model(document, yaml_document_get_node(document, *item), models_dir, error);
    if (!model)
      return FALSE;
    for (guint i = 0; i < list->len; i++) {
      const ChoirModel *other = list->pdata[i];
      if (strcmp(other->name, model->name) == 0) {
        g_set_error(error, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_LIST, "the model %s stands there twice", model->name);
        choir_model_free(model);
        return FALSE;
      }
    }
    g_ptr_array_add(list, model);
  }
  return TRUE;
}

gboolean choir_models_parse(const char *yaml_path, const char *expert, const char *models_dir, GPtrArray *list,
                            GError **error) {
  FILE *file = fopen(yaml_path, "re");
  if (!file) {
    g_set_error(error, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_LIST, "cannot read the model list %s: %s", yaml_path,
                g_strerror(errno));
    return FALSE;
  }
  yaml_parser_t parser;
  yaml_document_t document;
  gboolean ok = FALSE;
  yaml_parser_initialize(&parser);
  yaml_parser_set_input_file(&parser, file);
  if (yaml_parser_load(&parser, &document)) {
    ok = read_list(&document, expert, models_dir, list, error);
    g_prefix_error(error, "%s: ", yaml_path);
    yaml_document_delete(&document);
  } else {
    g_set_error(error, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_LIST, "%s line %zu: %s", yaml_path,
                parser.problem_mark.line + 1, parser.problem ? parser.problem : "not YAML");
  }
  yaml_parser_delete(&parser);
  fclose(file);
  return ok;
}
