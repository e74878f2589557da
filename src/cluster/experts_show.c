/* What is known of the experts, as JSON for the page and as text for people and for the model that routes. */
#include <string.h>
#include "base/clock.h"
#include "base/names.h"
#include "base/text.h"
#include "cluster/experts_private.h"

json_t *choir_experts_names(const ChoirExperts *experts) {
  json_t *names = json_array();
  for (guint i = 0; i < choir_experts_count(experts); i++)
    json_array_append_new(names, json_string(choir_experts_get(experts, i)->name));
  return names;
}

char **choir_experts_problems(ChoirExperts *experts) {
  GPtrArray *list = g_ptr_array_new();
  for (guint i = 0; i < experts->setting_problems->len; i++)
    g_ptr_array_add(list, g_strdup(experts->setting_problems->pdata[i]));
  choir_token_read(experts->key);
  if (choir_token_problem(experts->key))
    g_ptr_array_add(list, g_strdup_printf("[experts] key_file: %s", choir_token_problem(experts->key)));
  if (experts->catalog_problem)
    g_ptr_array_add(list, g_strdup(experts->catalog_problem));
  if (experts->too_many)
    g_ptr_array_add(list, g_strdup_printf("%u more experts are in Consul than are watched", experts->too_many));
  GHashTableIter iter;
  gpointer value;
  if (experts->services) {
    g_hash_table_iter_init(&iter, experts->services);
    while (g_hash_table_iter_next(&iter, NULL, &value))
      if (((ChoirServiceWatch *)value)->problem)
        g_ptr_array_add(list, g_strdup(((ChoirServiceWatch *)value)->problem));
  }
  g_ptr_array_add(list, NULL);
  return (char **)g_ptr_array_free(list, FALSE);
}

static gboolean same_model(const ChoirReplica *replica, const char *main, guint64 params) {
  if (replica->params > 0 && params > 0)
    return replica->params == params;
  return *replica->model && strstr(replica->model, main) != NULL && *main;
}

gboolean choir_experts_same_as_main(const ChoirExperts *experts, const ChoirExpert *expert) {
  if (!experts->options.llm || expert->replicas->len == 0)
    return FALSE;
  const char *main = choir_llm_server_model(experts->options.llm);
  guint64 params = choir_llm_server_params(experts->options.llm);
  for (guint i = 0; i < expert->replicas->len; i++)
    if (!same_model(expert->replicas->pdata[i], main ? main : "", params))
      return FALSE;
  return TRUE;
}

static const char *health_of(const ChoirExpert *expert) {
  gint64 now = choir_clock_us();
  if (expert->replicas->len == 0)
    return "unhealthy";
  for (guint i = 0; i < expert->replicas->len; i++)
    if (((ChoirReplica *)expert->replicas->pdata[i])->rests_until_us <= now)
      return expert->answered + expert->failed > 0 || expert->source == CHOIR_EXPERT_OF_CONSUL ? "healthy" : "unknown";
  return "unhealthy";
}

static const char *source_name(ChoirExpertSource source) {
  static const char *const names[] = {"consul", "list", "outside"};
  return names[source];
}

static json_t *replica_json(const ChoirReplica *replica) {
  json_t *json = json_pack("{s:s,s:s,s:s,s:s,s:b,s:b,s:b}", "id", replica->id, "url", replica->url, "node",
                           replica->node, "model", replica->model, "fallback", (int)replica->fallback, "resting",
                           (int)(replica->rests_until_us > choir_clock_us()), "silent", (int)replica->silent);
  json_object_set_new(json, "slots", replica->slots ? json_integer(replica->slots) : json_null());
  json_object_set_new(json, "busy", replica->slots ? json_integer(replica->busy) : json_null());
  json_object_set_new(json, "asking", json_integer(replica->asking));
  json_object_set_new(json, "first_text_s", replica->first_s > 0 ? json_real(replica->first_s) : json_null());
  json_object_set_new(json, "context", replica->context ? json_integer(replica->context) : json_null());
  return json;
}

json_t *choir_experts_json(ChoirExperts *experts) {
  json_t *list = json_array(), *problems = json_array();
  g_auto(GStrv) sentences = choir_experts_problems(experts);
  for (char **sentence = sentences; *sentence; sentence++)
    json_array_append_new(problems, json_string(*sentence));
  for (guint i = 0; i < experts->list->len; i++) {
    const ChoirExpert *expert = experts->list->pdata[i];
    json_t *replicas = json_array();
    for (guint k = 0; k < expert->replicas->len; k++)
      json_array_append_new(replicas, replica_json(expert->replicas->pdata[k]));
    json_t *json = json_pack("{s:s,s:s,s:s,s:b,s:o}", "name", expert->name, "source", source_name(expert->source),
                             "health", health_of(expert), "same_as_main",
                             (int)choir_experts_same_as_main(experts, expert), "replicas", replicas);
    json_object_set_new(json, "answered", json_integer((json_int_t)expert->answered));
    json_object_set_new(json, "failed", json_integer((json_int_t)expert->failed));
    json_object_set_new(json, "average_s",
                        expert->answered ? json_real(expert->seconds / (double)expert->answered) : json_null());
    json_array_append_new(list, json);
  }
  gint64 answered_us = experts->catalog ? choir_consul_watch_answered_us(experts->catalog) : 0;
  json_t *age = answered_us ? json_real((double)(choir_clock_us() - answered_us) / G_USEC_PER_SEC) : json_null();
  return json_pack("{s:o,s:o,s:o}", "list", list, "problems", problems, "age_s", age);
}

char *choir_experts_text(const ChoirExperts *experts) {
  GString *text = g_string_new(NULL);
  for (guint i = 0; i < choir_experts_count(experts); i++) {
    const ChoirExpert *expert = choir_experts_get(experts, i);
    g_string_append_printf(text,
                           "- Expert: %s (Type: %s, Health: %s)\n  - Successes: %" G_GUINT64_FORMAT
                           ", Failures: %" G_GUINT64_FORMAT "\n",
                           expert->name, expert->source == CHOIR_EXPERT_OUTSIDE ? "external" : "local",
                           health_of(expert), expert->answered, expert->failed);
    if (expert->answered)
      g_string_append_printf(text, "  - Average Latency: %.2fs\n", expert->seconds / (double)expert->answered);
  }
  if (text->len == 0)
    g_string_append(text, "No expert performance data available.\n");
  return g_string_free(text, FALSE);
}

char *choir_experts_summary(const ChoirExperts *experts) {
  GString *text = g_string_new("which expert: ");
  for (guint i = 0; i < choir_experts_count(experts); i++) {
    const ChoirExpert *expert = choir_experts_get(experts, i);
    g_string_append_printf(text, "%s%s (%s", i ? ", " : "", expert->name, health_of(expert));
    if (expert->answered)
      g_string_append_printf(text, ", %" G_GUINT64_FORMAT " answered, %" G_GUINT64_FORMAT " failed, %.1f s",
                             expert->answered, expert->failed, expert->seconds / (double)expert->answered);
    g_string_append_c(text, ')');
  }
  return g_string_free(text, FALSE);
}
