/* What is told of the shipping: to the page, choir status, and about turns that are lost. */
#include <string.h>
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"
#include "cluster/ship_private.h"

#define SEEN_MAX 1000 /* turns that a page may say it saw beyond the copy: a takeover is a matter of seconds */

gint64 choir_ship_epoch(const ChoirShip *ship) {
  return ship->age.epoch;
}

const char *choir_ship_node(const ChoirShip *ship) {
  return ship->node;
}

gint64 choir_ship_taken_turns(const ChoirShip *ship) {
  return choir_json_int(ship->taken, "turns", -1);
}

static gint64 lost(const ChoirShip *ship) {
  return ship->seen < 0 ? 0 : MAX(0, ship->seen - choir_ship_taken_turns(ship));
}

void choir_ship_seen(ChoirShip *ship, gint64 epoch, gint64 turns) {
  gint64 had = choir_ship_taken_turns(ship);
  if (had < 0 || epoch != ship->age.epoch - 1 || turns < 0 || turns > had + SEEN_MAX || turns <= ship->seen)
    return;
  ship->seen = turns;
  choir_gauge_set(ship->m_lost, (double)lost(ship));
  if (turns > had)
    choir_warning(CHOIR_TOPIC_CLUSTER,
                  "%" G_GINT64_FORMAT " turns that a page saw were not in the copy that was taken over", turns - had);
}

static const ChoirPeer *freshest(const ChoirShip *ship) {
  const ChoirPeer *best = NULL;
  for (guint i = 0; i < ship->peers->len; i++) {
    const ChoirPeer *peer = ship->peers->pdata[i];
    if (peer->has_us && (!best || choir_state_age_compare(peer->has, best->has) > 0))
      best = peer;
  }
  return best;
}

static const char *first_problem(const ChoirShip *ship) {
  for (guint i = 0; i < ship->peers->len; i++)
    if (((const ChoirPeer *)ship->peers->pdata[i])->problem)
      return ((const ChoirPeer *)ship->peers->pdata[i])->problem;
  return NULL;
}

const char *choir_ship_problem(ChoirShip *ship) {
  const ChoirPeer *best = freshest(ship);
  const char *peer_problem = first_problem(ship);
  g_clear_pointer(&ship->told, g_free);
  if (ship->superseded)
    ship->told = g_strdup("another agent has taken over; what is said here is kept on no other node");
  else if (ship->problem)
    ship->told = g_strdup(ship->problem);
  else if (choir_ship_others(ship) == 0 && ship->consul_problem)
    ship->told = g_strdup_printf("Consul names no other node: %s", ship->consul_problem);
  else if (ship->peers->len == 0 &&
           (ship->consul_answered || !ship->consul)) /* one machine alone has its own standby */
    ship->told = g_strdup("no node keeps copies; on each the service choir-standby must run");
  else if (!best && peer_problem)
    ship->told = g_strdup(peer_problem);
  else if (best && peer_problem && ship->manifest && choir_state_age_compare(best->has, ship->age) < 0)
    ship->told = g_strdup_printf("the newest state is kept on no other node: %s", peer_problem);
  return ship->told;
}

static json_t *copies(const ChoirShip *ship) {
  json_t *list = json_array();
  gint64 now = g_get_monotonic_time();
  for (guint i = 0; i < ship->peers->len; i++) {
    const ChoirPeer *peer = ship->peers->pdata[i];
    if (!peer->has_us && !peer->problem && !peer->sending)
      continue; /* not one of ours */
    json_array_append_new(list,
                          json_pack("{s:s,s:s,s:I,s:I,s:o,s:s?}", "url", peer->url, "node", peer->node, "epoch",
                                    (json_int_t)peer->has.epoch, "generation", (json_int_t)peer->has.generation,
                                    "age_s", peer->has_us ? json_real((double)(now - peer->has_us) / 1e6) : json_null(),
                                    "problem", peer->problem));
  }
  return list;
}

json_t *choir_ship_status(ChoirShip *ship) {
  const ChoirPeer *best = freshest(ship);
  json_t *taken = ship->taken ? json_copy(ship->taken) : json_null();
  if (ship->taken) {
    json_object_set_new(taken, "seen", ship->seen < 0 ? json_null() : json_integer(ship->seen));
    json_object_set_new(taken, "lost", ship->seen < 0 ? json_null() : json_integer(lost(ship)));
  }
  gint64 behind = best && best->has.epoch == ship->age.epoch ? MAX(0, ship->acknowledged - best->has_turns) : -1;
  return json_pack("{s:s,s:I,s:I,s:I,s:o,s:o,s:s?,s:b,s:o,s:o}", "node", ship->node, "epoch",
                   (json_int_t)ship->age.epoch, "generation", (json_int_t)ship->age.generation, "turns",
                   (json_int_t)ship->acknowledged, "behind", behind < 0 ? json_null() : json_integer(behind), "sent_s",
                   best ? json_real((double)(g_get_monotonic_time() - best->has_us) / 1e6) : json_null(), "problem",
                   choir_ship_problem(ship), "superseded", (int)ship->superseded, "copies", copies(ship), "taken",
                   taken);
}
