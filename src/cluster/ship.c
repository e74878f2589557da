#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/resource.h>
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"
#include "cluster/ship_private.h"

#define LOOK_MS 5000 /* changes that nobody told us of: facts, timers, owners, the audit log */
#define STOP_MS 5000
#define NICE 10
#define SNAPSHOT_AGAIN_MS 10000 /* after one that failed */

/* A look at the state folder, on the thread. */
struct ChoirShipLook {
  ChoirShip *ship;      /* NULL once it is gone */
  gboolean lazy, force; /* lazy: only when something looks other; force: a new generation in any case */
  json_t *before;
  ChoirStateAge age;
  json_t *taken;
  gboolean looked; /* it was not left at a glance */
  json_t *manifest;
  GError *error;
};

typedef struct ChoirShipLook Look;

static void look_free(Look *look) {
  json_decref(look->before);
  json_decref(look->taken);
  json_decref(look->manifest);
  g_clear_error(&look->error);
  g_free(look);
}

/* --- the thread */

static json_t *take(ChoirShip *ship, Look *look) {
  json_auto_t *files = choir_snapshot_take(ship->snapshot, &look->error);
  if (!files)
    return NULL;
  g_autofree char *history = choir_snapshot_path(ship->snapshot, "history.db");
  gint64 turns = MAX(0, choir_snapshot_turns(history));
  look->age.generation++;
  json_auto_t *manifest = choir_state_manifest_new(look->age, turns, ship->node, json_incref(files));
  if (!look->force && look->before && choir_state_same_files(manifest, look->before))
    return NULL;
  if (choir_state_bytes(manifest) > CHOIR_STATE_BYTES_MAX) {
    look->error = g_error_new(CHOIR_STATE_ERROR, CHOIR_STATE_ERROR_LIMIT,
                              "the state is larger than 2 GB; only as much can be kept on other nodes");
    return NULL;
  }
  /* On disk before anybody is told: a count that goes back would make an older copy look like a newer one. */
  return choir_ship_write_state(ship->own, look->age, turns, look->taken, &look->error) ? json_incref(manifest) : NULL;
}

static gboolean on_looked(gpointer data);

static void on_thread(gpointer data, gpointer user) {
  Look *look = data;
  setpriority(PRIO_PROCESS, 0, NICE); /* of this thread alone, on Linux */
  if (!look->lazy || choir_snapshot_stale(look->ship->snapshot)) {
    look->looked = TRUE;
    look->manifest = take(look->ship, look);
  }
  g_autoptr(GSource) source = g_idle_source_new();
  g_source_set_priority(source, G_PRIORITY_DEFAULT);
  g_source_set_callback(source, on_looked, look, NULL);
  g_source_attach(source, NULL);
}

/* --- the main thread */

static void tell_problem(ChoirShip *ship, const GError *error) {
  if (error && g_strcmp0(ship->problem, error->message) != 0)
    choir_warning(CHOIR_TOPIC_CLUSTER, "no copy of the state is made: %s", error->message);
  g_free(ship->problem);
  ship->problem = error ? g_strdup(error->message) : NULL;
}

static gboolean on_looked(gpointer data) {
  Look *look = data;
  ChoirShip *ship = look->ship;
  if (!ship) {
    look_free(look);
    return G_SOURCE_REMOVE;
  }
  ship->taking = FALSE;
  if (look->looked)
    tell_problem(ship, look->error);
  if (look->error) {
    ship->dirty = TRUE;
    ship->force = ship->force || look->force;
  }
  if (look->manifest) {
    json_decref(ship->manifest);
    ship->manifest = json_incref(look->manifest);
    ship->age = look->age;
    ship->turns = choir_json_int(look->manifest, "turns", 0);
    if (!ship->changed_us)
      ship->changed_us = g_get_monotonic_time();
  } else if (!look->error && !ship->dirty) {
    ship->changed_us = 0; /* it was told of a change that changed nothing */
  }
  gboolean rest = look->error != NULL;
  look_free(look);
  if (!rest || ship->stopped)
    choir_ship_pump(ship);
  return G_SOURCE_REMOVE;
}

static void look_now(ChoirShip *ship, gboolean lazy) {
  Look *look = g_new0(Look, 1);
  *look = (Look){.ship = ship,
                 .lazy = lazy,
                 .force = ship->force,
                 .before = json_incref(ship->manifest),
                 .age = ship->age,
                 .taken = json_incref(ship->taken)};
  ship->taking = TRUE;
  ship->looking = look;
  if (!lazy)
    ship->dirty = ship->force = FALSE;
  g_thread_pool_push(ship->pool, look, NULL);
}

static gboolean needs(const ChoirShip *ship, const ChoirPeer *peer) {
  return ship->manifest && choir_state_age_compare(peer->has, ship->age) < 0;
}

static gboolean on_timer(gpointer user) {
  ChoirShip *ship = user;
  ship->timer = 0;
  choir_ship_pump(ship);
  return G_SOURCE_REMOVE;
}

static void stop_now(ChoirShip *ship) {
  void (*stopped)(gpointer user) = ship->stopped;
  g_clear_handle_id(&ship->stop_timer, g_source_remove);
  g_clear_handle_id(&ship->timer, g_source_remove);
  g_clear_handle_id(&ship->look, g_source_remove);
  ship->stopped = NULL;
  ship->started = FALSE;
  stopped(ship->stopped_user);
}

/* The first `copies` that answer get what they do not have; returns how many of them have it or will. */
static guint serve_peers(ChoirShip *ship) {
  gint64 now = g_get_monotonic_time(), soonest = 0;
  guint served = 0, have = 0;
  for (guint i = 0; i < ship->peers->len && served < ship->copies && !ship->superseded; i++) {
    ChoirPeer *peer = ship->peers->pdata[i];
    if (peer->own)
      continue;
    if (peer->rests_until_us > now) {
      soonest = soonest ? MIN(soonest, peer->rests_until_us) : peer->rests_until_us;
      continue;
    }
    served++;
    if (!peer->sending && needs(ship, peer))
      choir_ship_send(ship, peer);
    have += ship->manifest && !needs(ship, peer);
  }
  choir_gauge_set(ship->m_copies, have);
  if (soonest && served < ship->copies && !ship->timer)
    ship->timer = g_timeout_add((guint)MAX(1, (soonest - now) / 1000 + 1), on_timer, ship);
  return served;
}

static gboolean something_under_way(const ChoirShip *ship) {
  for (guint i = 0; i < ship->peers->len; i++)
    if (((const ChoirPeer *)ship->peers->pdata[i])->sending)
      return TRUE;
  return ship->taking || ship->dirty;
}

static gint64 kept_turns(const ChoirShip *ship) {
  gint64 most = -1;
  for (guint i = 0; i < ship->peers->len; i++) {
    const ChoirPeer *peer = ship->peers->pdata[i];
    if (peer->has.epoch == ship->age.epoch)
      most = MAX(most, peer->has_turns);
  }
  return most;
}

void choir_ship_pump(ChoirShip *ship) {
  if (!ship->started)
    return;
  if (ship->dirty && !ship->taking && !ship->superseded)
    look_now(ship, FALSE);
  serve_peers(ship);
  gint64 kept = kept_turns(ship);
  choir_gauge_set(ship->m_behind, kept < 0 ? 0 : (double)MAX(0, ship->acknowledged - kept));
  if (ship->stopped &&
      (ship->superseded || choir_ship_others(ship) == 0 || ship->problem || !something_under_way(ship)))
    stop_now(ship);
}

static gboolean on_look(gpointer user) {
  ChoirShip *ship = user;
  if (!ship->taking && !ship->superseded)
    look_now(ship, !ship->dirty);
  choir_ship_pump(ship);
  return G_SOURCE_CONTINUE;
}

ChoirShip *choir_ship_new(const ChoirShipOptions *options, GError **error) {
  g_autoptr(ChoirShip) ship = g_new0(ChoirShip, 1);
  ship->peers = g_ptr_array_new_with_free_func(choir_peer_free);
  ship->seen = -1;
  if (!choir_seal_key_read(options->key_file, &ship->key, error))
    return NULL;
  ship->state = g_strdup(options->state);
  ship->own = g_build_filename(options->state, CHOIR_STATE_OWN, NULL);
  ship->node = g_strdup(options->node && *options->node ? options->node : g_get_host_name());
  ship->service = g_strdup(options->service);
  ship->static_peers = g_strdup(options->peers ? options->peers : "");
  ship->copies = CLAMP(options->copies, 1u, 4u);
  ship->consul = options->consul;
  ship->http = choir_http_client_new();
  ship->cancellable = g_cancellable_new();
  if (g_mkdir_with_parents(ship->own, 0700) != 0) {
    choir_state_fail(error, "make the folder", ship->own);
    return NULL;
  }
  ship->snapshot = choir_snapshot_new(options->state);
  ship->pool = g_thread_pool_new(on_thread, NULL, 1, TRUE, NULL);
  static const char sent[] = "Copies of the agent's state sent to other nodes.";
  ship->m_ok = choir_counter("choir_state_ship_total", "result=\"ok\"", sent);
  ship->m_failed = choir_counter("choir_state_ship_total", "result=\"failed\"", sent);
  ship->m_refused = choir_counter("choir_state_ship_total", "result=\"refused\"", sent);
  ship->m_bytes = choir_counter("choir_state_ship_bytes_total", NULL, "Bytes of state sent to other nodes.");
  ship->m_seconds =
      choir_histogram("choir_state_ship_seconds", NULL, "From a change of the state to its first copy.", NULL, 0);
  ship->m_behind = choir_gauge("choir_state_ship_behind_turns", NULL, "Acknowledged turns that no other node has.");
  ship->m_copies = choir_gauge("choir_state_ship_copies", NULL, "Other nodes that keep the newest state.");
  ship->m_lost = choir_gauge("choir_state_turns_lost", NULL, "Turns that the pages saw and the last takeover did not.");
  return g_steal_pointer(&ship);
}

void choir_ship_start(ChoirShip *ship, gint64 turns) {
  ship->acknowledged = turns;
  ship->started = ship->dirty = TRUE;
  if (*ship->static_peers)
    choir_ship_read_static(ship);
  choir_ship_watch(ship);
  ship->look = g_timeout_add(LOOK_MS, on_look, ship);
  choir_ship_pump(ship);
}

void choir_ship_changed(ChoirShip *ship, gint64 turns) {
  ship->acknowledged = turns;
  ship->dirty = TRUE;
  if (!ship->changed_us)
    ship->changed_us = g_get_monotonic_time();
  choir_ship_pump(ship);
}

static gboolean on_stop_timer(gpointer user) {
  ChoirShip *ship = user;
  ship->stop_timer = 0;
  choir_warning(CHOIR_TOPIC_CLUSTER, "not everything could be sent to other nodes before the end");
  stop_now(ship);
  return G_SOURCE_REMOVE;
}

void choir_ship_stop(ChoirShip *ship, void (*done)(gpointer user), gpointer user) {
  ship->stopped = done;
  ship->stopped_user = user;
  ship->started = ship->dirty = TRUE;
  ship->stop_timer = g_timeout_add(STOP_MS, on_stop_timer, ship);
  g_clear_handle_id(&ship->timer, g_source_remove);
  ship->timer = g_idle_add(on_timer, ship);
}

void choir_ship_free(ChoirShip *ship) {
  if (!ship)
    return;
  g_clear_handle_id(&ship->timer, g_source_remove);
  g_clear_handle_id(&ship->look, g_source_remove);
  g_clear_handle_id(&ship->stop_timer, g_source_remove);
  choir_consul_unwatch(ship->watch);
  ship->started = FALSE;
  if (ship->pool) {
    g_thread_pool_free(ship->pool, FALSE, TRUE);
    if (ship->taking)
      ship->looking->ship = NULL; /* what the thread has left for us frees itself */
  }
  g_ptr_array_unref(ship->peers);
  if (ship->http)
    choir_http_client_free(ship->http);
  g_clear_object(&ship->cancellable);
  choir_snapshot_free(ship->snapshot);
  json_decref(ship->manifest);
  json_decref(ship->taken);
  g_free(ship->state);
  g_free(ship->own);
  g_free(ship->node);
  g_free(ship->service);
  g_free(ship->static_peers);
  g_free(ship->consul_problem);
  g_free(ship->problem);
  g_free(ship->told);
  g_free(ship);
}
