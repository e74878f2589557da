/* The agent's state on other nodes: after every acknowledged turn the state folder's newest moment is sent to the
 * standby services (standby.h) of one or two other nodes, and a daemon that starts where there is an older state takes
 * the newest copy first. Never in the way of a turn: one snapshot at a time on a thread of its own, the latest wins,
 * and who does not answer is tried later and later. Main thread only. */
#pragma once
#include "cluster/consul.h"
#include "cluster/state_manifest.h"

typedef struct ChoirShip ChoirShip;

typedef struct {
  const char *state;    /* the state folder, locked by us */
  const char *key_file; /* see choir_seal_key_read() */
  const char *peers;    /* "http://10.0.0.5:8011, http://10.0.0.6:8011"; "" = those of Consul */
  ChoirConsul *consul;  /* borrowed; may be NULL */
  const char *service;  /* of the standby, in Consul */
  const char *node;     /* as whom we send; NULL = the host's name */
  guint copies;         /* 1 to 4 other nodes */
} ChoirShipOptions;

ChoirShip *choir_ship_new(const ChoirShipOptions *options, GError **error);
/* Before anything in the state folder is opened; blocking, a few seconds at most where nobody answers. Takes the newest
 * copy of the others when it is newer than what is here, which is kept in STATE/standby/replaced-DATE. Nothing that
 * others do or fail to do is an error: FALSE only when the folder here cannot be used as it is. */
gboolean choir_ship_take_over(ChoirShip *ship, GError **error);
/* From now on the state is sent. turns: what the history has saved. */
void choir_ship_start(ChoirShip *ship, gint64 turns);
/* Something was acknowledged. */
void choir_ship_changed(ChoirShip *ship, gint64 turns);
/* A page saw that many turns acknowledged in that epoch: so many are lost as the copy did not have. */
void choir_ship_seen(ChoirShip *ship, gint64 epoch, gint64 turns);
gint64 choir_ship_epoch(const ChoirShip *ship);
/* Turns that the copy had which began this epoch, -1 when this epoch began otherwise. */
gint64 choir_ship_taken_turns(const ChoirShip *ship);
const char *choir_ship_node(const ChoirShip *ship);
/* What a person should know, or NULL: nobody keeps a copy, a wrong key, another agent has taken over. Borrowed. */
const char *choir_ship_problem(ChoirShip *ship);
/* {"node","epoch","generation","turns","behind","sent_s","problem","superseded","copies":[{"url","node","epoch",
 * "generation","age_s","problem"}],"taken":{"from","generation","turns","made","at","kept","seen","lost"}|null} */
json_t *choir_ship_status(ChoirShip *ship);
/* What is not sent yet goes out first, for at most five seconds. done runs once, never inside. */
void choir_ship_stop(ChoirShip *ship, void (*done)(gpointer user), gpointer user);
void choir_ship_free(ChoirShip *ship);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirShip, choir_ship_free)
