/* The experts there are now: services of Consul whose name begins with llama-api- (old spellings are read too),
 * EXTERNAL_EXPERTS_CONFIG, and a list in the settings for machines without Consul. Main thread only. */
#pragma once
#include <gio/gio.h>
#include <jansson.h>
#include "base/metrics.h"
#include "cluster/consul.h"
#include "llm/chat.h"
#include "llm/server.h"

typedef struct ChoirExperts ChoirExperts;

typedef enum { CHOIR_EXPERT_OF_CONSUL, CHOIR_EXPERT_OF_LIST, CHOIR_EXPERT_OUTSIDE } ChoirExpertSource;

/* One server of an expert. Counted: an answer under way keeps it. */
typedef struct {
  guint refs;
  char *id;   /* Consul's service id, or its address */
  char *url;  /* without /v1 */
  char *node; /* the machine it runs on, "" when unknown */
  char *model;
  ChoirExpertSource source;
  gboolean fallback; /* tag of its service: a smaller model than the expert is meant to have */
  gboolean gone;     /* no longer listed */
  ChoirChat *chat;
  guint64 params; /* of its model, 0 = unknown */
  guint context;  /* tokens of a slot, 0 = unknown */
  guint slots, busy;
  gboolean silent;
  guint asking, failures; /* failures: in a row */
  double first_s;         /* of late */
  gint64 rests_until_us;
  GCancellable *look; /* questions about it under way */
} ChoirReplica;

typedef struct {
  char *name;
  ChoirExpertSource source;
  GPtrArray *replicas; /* ChoirReplica */
  guint64 answered, failed;
  double seconds; /* of the answered ones, together */
  ChoirMetric *m_first, *m_whole;
} ChoirExpert;

typedef struct {
  ChoirHttpClient *http;
  ChoirConsul *consul;     /* borrowed; NULL: none is configured */
  ChoirLlmServer *llm;     /* the agent's own model */
  const char *prompts_dir; /* NAME_expert.txt */
  const char *list;        /* "coding=http://10.0.0.5:8080 http://10.0.0.6:8080, math=..." */
  const char *external;    /* JSON, or the path of a file that holds it */
  const char *key_file;    /* of the experts' servers; may be NULL */
} ChoirExpertsOptions;

ChoirExperts *choir_experts_new(const ChoirExpertsOptions *options);
void choir_experts_free(ChoirExperts *experts); /* questions under way end as cancelled */
guint choir_experts_count(const ChoirExperts *experts);
const ChoirExpert *choir_experts_get(const ChoirExperts *experts, guint index);
ChoirExpert *choir_experts_find(const ChoirExperts *experts, const char *name);
json_t *choir_experts_names(const ChoirExperts *experts); /* caller decrefs */
/* Sentences for a person about what is wrong: Consul away, no permission, a setting that cannot be read. NULL-ended,
 * caller frees. */
char **choir_experts_problems(ChoirExperts *experts);
/* {"list":[{"name","source","health","same_as_main","answered","failed","average_s","replicas":[...]}],"problems",
 * "age_s"} */
json_t *choir_experts_json(ChoirExperts *experts);
/* In the original's words, for the model that routes: "- Expert: coding (Type: local, Health: healthy)" ...; caller
 * frees. */
char *choir_experts_text(const ChoirExperts *experts);
/* The same in half a sentence, for the description of the argument; caller frees. */
char *choir_experts_summary(const ChoirExperts *experts);
/* Every server of it runs the very model that the agent itself talks with. */
gboolean choir_experts_same_as_main(const ChoirExperts *experts, const ChoirExpert *expert);
/* Called when the list of experts or of their servers changed. */
void choir_experts_on_change(ChoirExperts *experts, void (*changed)(gpointer user), gpointer user);
const ChoirExpertsOptions *choir_experts_options(const ChoirExperts *experts);

/* What was asked and answered in a conversation with an expert: follow-ups need it, and its prompt stays a prefix of
 * the next one, so that a server's cache is of use. */
typedef struct {
  gint64 conversation;
  char *expert, *home; /* home: id of the replica that answered last */
  json_t *messages;    /* user and assistant in turn */
  gint64 used_us;
} ChoirThread;
ChoirThread *choir_experts_thread(ChoirExperts *experts, gint64 conversation, const char *expert);
void choir_thread_add(ChoirThread *thread, const char *query, const char *answer);
void choir_thread_halve(ChoirThread *thread); /* it was longer than the server's context */

ChoirReplica *choir_replica_ref(ChoirReplica *replica);
void choir_replica_unref(ChoirReplica *replica);
/* How an answer went. */
void choir_replica_answered(ChoirReplica *replica, double first_s);
void choir_replica_failed(ChoirReplica *replica);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirReplica, choir_replica_unref)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirExperts, choir_experts_free)

/* Pure parts. */
/* "coding" of "llama-api-coding", of the old spellings too; NULL when it is no expert's. Within service. */
const char *choir_expert_of_service(const char *service);
/* Names are lower case letters, digits, - and _, at most 40. */
gboolean choir_expert_name_ok(const char *name);
