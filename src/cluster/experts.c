#include "cluster/experts.h"
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"
#include "cluster/experts_private.h"

#define MAX_NAME 40
#define LOOK_MS 3000
#define REST_S 10 /* after a failure, doubled with each further one */
#define REST_MAX_S 300
#define KEPT 0.7 /* of what was measured before, beside what is measured now */
#define MAX_THREADS 64
#define THREAD_BYTES 8000 /* of a thread; then its older half goes */

const char *choir_expert_of_service(const char *service) {
  static const char *const prefixes[] = {CHOIR_EXPERT_PREFIX, CHOIR_EXPERT_PREFIX_OLD1, CHOIR_EXPERT_PREFIX_OLD2};
  for (gsize i = 0; i < G_N_ELEMENTS(prefixes); i++)
    if (g_str_has_prefix(service, prefixes[i]) && choir_expert_name_ok(service + strlen(prefixes[i])))
      return service + strlen(prefixes[i]);
  return NULL;
}

gboolean choir_expert_name_ok(const char *name) {
  gsize length = strlen(name);
  return length > 0 && length <= MAX_NAME && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") == length;
}

/* --- replicas */

ChoirReplica *choir_replica_ref(ChoirReplica *replica) {
  replica->refs++;
  return replica;
}

void choir_replica_unref(ChoirReplica *replica) {
  if (!replica || --replica->refs > 0)
    return;
  choir_chat_free(replica->chat);
  g_clear_object(&replica->look);
  g_free(replica->id);
  g_free(replica->url);
  g_free(replica->node);
  g_free(replica->model);
  g_free(replica);
}

void choir_replica_answered(ChoirReplica *replica, double first_s) {
  replica->failures = 0;
  replica->rests_until_us = 0;
  replica->first_s = replica->first_s > 0 ? KEPT * replica->first_s + (1 - KEPT) * first_s : first_s;
}

void choir_replica_failed(ChoirReplica *replica) {
  gint64 rest_s = MIN((gint64)REST_S << MIN(replica->failures, 6), REST_MAX_S);
  replica->failures++;
  replica->rests_until_us = choir_clock_us() + rest_s * G_USEC_PER_SEC;
}

/* What a server says of its model. One of another make than llama-server is asked by the name it gives. */
static void on_models(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  ChoirReplica *replica = user;
  json_auto_t *answer = !error && status == 200 ? choir_json_parse(body, length, NULL) : NULL;
  const json_t *model = json_array_get(json_object_get(answer, "data"), 0), *meta = json_object_get(model, "meta");
  if (model && !replica->gone) {
    const char *id = choir_json_string(model, "id", "");
    gboolean plain = !g_str_equal(choir_json_string(model, "owned_by", "llamacpp"), "llamacpp");
    replica->params = (guint64)choir_json_int(meta, "n_params", 0);
    replica->context = (guint)choir_json_int(meta, "n_ctx", 0);
    if (!*replica->model) {
      g_free(replica->model);
      replica->model = g_path_get_basename(id);
    }
    if (replica->source != CHOIR_EXPERT_OUTSIDE)
      choir_chat_set_model(replica->chat, plain ? id : NULL, plain);
  }
  choir_replica_unref(replica);
}

static void look_at(ChoirReplica *replica) {
  g_autofree char *url = g_strconcat(choir_chat_base_url(replica->chat), "/v1/models", NULL);
  choir_http_request(choir_chat_http(replica->chat), "GET", url, NULL, NULL, 0, choir_chat_headers(replica->chat),
                     LOOK_MS, 0, replica->look, on_models, choir_replica_ref(replica));
}

static void replica_gone(gpointer data) {
  ChoirReplica *replica = data;
  replica->gone = TRUE;
  g_cancellable_cancel(replica->look);
  choir_replica_unref(replica);
}

static ChoirReplica *replica_new(ChoirExperts *experts, ChoirExpertSource source, const ChoirReplicaSpec *spec) {
  ChoirReplica *replica = g_new0(ChoirReplica, 1);
  replica->refs = 1;
  replica->id = g_strdup(spec->id);
  replica->url = g_strdup(spec->url);
  replica->node = g_strdup(spec->node ? spec->node : "");
  replica->model = g_strdup(spec->model ? spec->model : "");
  replica->source = source;
  replica->look = g_cancellable_new();
  const char *key = source == CHOIR_EXPERT_OUTSIDE ? spec->api_key : choir_token_read(experts->key);
  replica->chat = choir_chat_new(experts->options.http, spec->url, key);
  if (spec->plain)
    choir_chat_set_model(replica->chat, spec->model, TRUE);
  if (source != CHOIR_EXPERT_OUTSIDE) /* another house's server is asked nothing but questions */
    look_at(replica);
  return replica;
}

/* --- experts */

static void expert_free(gpointer data) {
  ChoirExpert *expert = data;
  g_ptr_array_unref(expert->replicas);
  g_free(expert->name);
  g_free(expert);
}

static gint by_name(gconstpointer a, gconstpointer b) {
  return strcmp((*(ChoirExpert *const *)a)->name, (*(ChoirExpert *const *)b)->name);
}

ChoirExpert *choir_experts_find(const ChoirExperts *experts, const char *name) {
  for (guint i = 0; i < experts->list->len; i++) {
    ChoirExpert *expert = experts->list->pdata[i];
    if (g_str_equal(expert->name, name))
      return expert;
  }
  return NULL;
}

ChoirExpert *choir_experts_make(ChoirExperts *experts, const char *name, ChoirExpertSource source) {
  ChoirExpert *expert = choir_experts_find(experts, name);
  if (expert)
    return expert;
  expert = g_new0(ChoirExpert, 1);
  expert->name = g_strdup(name);
  expert->source = source;
  expert->replicas = g_ptr_array_new_with_free_func(replica_gone);
  g_autofree char *labels = g_strdup_printf("expert=\"%s\"", name);
  expert->m_first = choir_histogram("choir_expert_first_text_seconds", labels,
                                    "From a question to an expert to the first word of its answer.", NULL, 0);
  expert->m_whole = choir_histogram("choir_expert_answer_seconds", labels,
                                    "From a question to an expert to the end of its answer.", NULL, 0);
  g_ptr_array_add(experts->list, expert);
  g_ptr_array_sort(experts->list, by_name);
  return expert;
}

static gboolean same(const ChoirReplica *replica, const ChoirReplicaSpec *spec) {
  gboolean model = !spec->model || !*spec->model || g_str_equal(replica->model, spec->model);
  return g_str_equal(replica->id, spec->id) && g_str_equal(replica->url, spec->url) && model &&
         replica->fallback == spec->fallback;
}

void choir_experts_set(ChoirExperts *experts, ChoirExpert *expert, const char *group, const ChoirReplicaSpec *specs,
                       guint n) {
  for (guint i = expert->replicas->len; i > 0; i--) {
    const ChoirReplica *replica = expert->replicas->pdata[i - 1];
    gboolean stays = !g_str_has_prefix(replica->id, group);
    for (guint k = 0; k < n && !stays; k++)
      stays = same(replica, &specs[k]);
    if (!stays)
      g_ptr_array_remove_index(expert->replicas, i - 1);
  }
  for (guint k = 0; k < n; k++) {
    gboolean there = FALSE;
    for (guint i = 0; i < expert->replicas->len && !there; i++)
      there = same(expert->replicas->pdata[i], &specs[k]);
    if (there)
      continue;
    ChoirReplica *replica = replica_new(experts, expert->source, &specs[k]);
    replica->fallback = specs[k].fallback;
    g_ptr_array_add(expert->replicas, replica);
  }
}

void choir_experts_tell(ChoirExperts *experts) {
  guint servers = 0;
  experts->route_us = 0;
  for (guint i = 0; i < experts->list->len; i++)
    servers += ((ChoirExpert *)experts->list->pdata[i])->replicas->len;
  choir_gauge_set(choir_gauge("choir_experts", NULL, "Experts that are known now."), choir_experts_count(experts));
  choir_gauge_set(choir_gauge("choir_expert_replicas", NULL, "Servers of experts that are known now."), servers);
  if (experts->changed)
    experts->changed(experts->user);
}

void choir_experts_on_change(ChoirExperts *experts, void (*changed)(gpointer user), gpointer user) {
  experts->changed = changed;
  experts->user = user;
}

ChoirExperts *choir_experts_new(const ChoirExpertsOptions *options) {
  ChoirExperts *experts = g_new0(ChoirExperts, 1);
  experts->options = *options;
  experts->options.prompts_dir = g_strdup(options->prompts_dir);
  experts->options.list = experts->options.external = experts->options.key_file = NULL;
  experts->list = g_ptr_array_new_with_free_func(expert_free);
  experts->threads = g_ptr_array_new();
  experts->asks = g_ptr_array_new();
  experts->others = g_ptr_array_new_with_free_func(g_free);
  experts->setting_problems = g_ptr_array_new_with_free_func(g_free);
  experts->key = choir_token_new(options->key_file, NULL);
  if (options->list && *options->list)
    choir_experts_read_list(experts, options->list);
  if (options->external && *options->external)
    choir_experts_read_external(experts, options->external);
  for (guint i = 0; i < experts->setting_problems->len; i++)
    choir_warning(CHOIR_TOPIC_CLUSTER, "%s", (const char *)experts->setting_problems->pdata[i]);
  if (options->consul)
    choir_experts_watch(experts);
  choir_experts_tell(experts);
  return experts;
}

static void thread_free(ChoirThread *thread) {
  json_decref(thread->messages);
  g_free(thread->expert);
  g_free(thread->home);
  g_free(thread);
}

void choir_experts_free(ChoirExperts *experts) {
  if (!experts)
    return;
  choir_experts_end_asks(experts);
  choir_experts_unwatch(experts);
  g_ptr_array_unref(experts->asks);
  g_ptr_array_unref(experts->list);
  for (guint i = 0; i < experts->threads->len; i++)
    thread_free(experts->threads->pdata[i]);
  g_ptr_array_unref(experts->threads);
  g_ptr_array_unref(experts->setting_problems);
  choir_token_free(experts->key);
  g_free(experts->catalog_problem);
  g_ptr_array_unref(experts->others);
  g_free(experts->route_text);
  g_free(experts->route_query);
  g_free((char *)experts->options.prompts_dir);
  g_free(experts);
}

guint choir_experts_count(const ChoirExperts *experts) {
  guint n = 0;
  for (guint i = 0; experts && i < experts->list->len; i++)
    n += ((ChoirExpert *)experts->list->pdata[i])->replicas->len > 0;
  return n;
}

const ChoirExpert *choir_experts_get(const ChoirExperts *experts, guint index) {
  for (guint i = 0; i < experts->list->len; i++) {
    const ChoirExpert *expert = experts->list->pdata[i];
    if (expert->replicas->len > 0 && index-- == 0)
      return expert;
  }
  return NULL;
}

const ChoirExpertsOptions *choir_experts_options(const ChoirExperts *experts) {
  return &experts->options;
}

/* --- threads */

ChoirThread *choir_experts_thread(ChoirExperts *experts, gint64 conversation, const char *expert) {
  ChoirThread *oldest = NULL;
  guint at = 0;
  for (guint i = 0; i < experts->threads->len; i++) {
    ChoirThread *thread = experts->threads->pdata[i];
    if (thread->conversation == conversation && g_str_equal(thread->expert, expert)) {
      thread->used_us = choir_clock_us();
      return thread;
    }
    if (!oldest || thread->used_us < oldest->used_us) {
      oldest = thread;
      at = i;
    }
  }
  if (experts->threads->len >= MAX_THREADS) {
    g_ptr_array_remove_index_fast(experts->threads, at);
    thread_free(oldest);
  }
  ChoirThread *thread = g_new0(ChoirThread, 1);
  thread->conversation = conversation;
  thread->expert = g_strdup(expert);
  thread->messages = json_array();
  thread->used_us = choir_clock_us();
  g_ptr_array_add(experts->threads, thread);
  return thread;
}

static gsize thread_bytes(const ChoirThread *thread) {
  gsize bytes = 0, i;
  json_t *message;
  json_array_foreach(thread->messages, i, message) bytes += strlen(choir_json_string(message, "content", ""));
  return bytes;
}

void choir_thread_halve(ChoirThread *thread) {
  gsize pairs = json_array_size(thread->messages) / 2;
  for (gsize i = 0; i < 2 * ((pairs + 1) / 2); i++)
    json_array_remove(thread->messages, 0);
}

void choir_thread_add(ChoirThread *thread, const char *query, const char *answer) {
  json_array_append_new(thread->messages, json_pack("{s:s,s:s}", "role", "user", "content", query));
  json_array_append_new(thread->messages, json_pack("{s:s,s:s}", "role", "assistant", "content", answer));
  while (thread_bytes(thread) > THREAD_BYTES && json_array_size(thread->messages) > 0)
    choir_thread_halve(thread);
}
