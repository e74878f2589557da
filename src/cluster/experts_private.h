/* Shared by the files of the registry; nobody else includes it (tests may). */
#pragma once
#include "cluster/experts.h"
#include "cluster/token.h"

struct ChoirExperts {
  ChoirExpertsOptions options; /* strings owned */
  GPtrArray *list;             /* ChoirExpert, by name */
  GPtrArray *threads;          /* ChoirThread */
  GPtrArray *asks;             /* ChoirAsk, under way */
  ChoirToken *key;
  GPtrArray *setting_problems; /* char* */
  /* Consul */
  ChoirConsulWatch *catalog;
  GHashTable *services; /* name -> ChoirServiceWatch */
  char *catalog_problem;
  guint too_many;
  void (*changed)(gpointer user);
  gpointer user;
  GPtrArray *others; /* "who\texample" of what is for nobody here */
  /* route.c: one turn asks about its text several times */
  char *route_text, *route_query;
  const char *route_expert;
  double route_likeness;
  gint64 route_us; /* 0 = void */
};

typedef struct {
  ChoirExperts *experts;
  char *service, *expert;
  ChoirConsulWatch *watch;
  char *problem; /* NULL: all is well */
  gboolean answered;
} ChoirServiceWatch;

/* What is known of a server before it was asked anything. Strings borrowed. */
typedef struct {
  const char *id, *url, *node, *model, *api_key;
  gboolean fallback, plain;
} ChoirReplicaSpec;

/* experts.c */
ChoirExpert *choir_experts_make(ChoirExperts *experts, const char *name, ChoirExpertSource source);
/* The servers of an expert whose id begins with `group` are these now; those that stay keep what is known of them. */
void choir_experts_set(ChoirExperts *experts, ChoirExpert *expert, const char *group, const ChoirReplicaSpec *specs,
                       guint n);
void choir_experts_tell(ChoirExperts *experts);

/* experts_consul.c */
void choir_experts_watch(ChoirExperts *experts);
void choir_experts_unwatch(ChoirExperts *experts);
/* The catalog's and one service's answers, as Consul gives them. */
void choir_experts_catalog(const json_t *answer, const GError *error, gpointer experts);
void choir_experts_service(const json_t *answer, const GError *error, gpointer service_watch);

/* experts_settings.c */
void choir_experts_read_list(ChoirExperts *experts, const char *list);
void choir_experts_read_external(ChoirExperts *experts, const char *external);

/* ask.c: every question that is under way ends, told as cancelled. */
void choir_experts_end_asks(ChoirExperts *experts);
