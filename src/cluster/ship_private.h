/* Shared by the files of the shipping; nobody else includes it (tests may). */
#pragma once
#include "base/metrics.h"
#include "cluster/seal.h"
#include "cluster/ship.h"
#include "cluster/standby.h"
#include "cluster/state_snapshot.h"

#define CHOIR_SHIP_PEERS_MAX 32

typedef struct ChoirSending ChoirSending;

/* One standby. */
typedef struct {
  char *url, *node; /* node: as Consul or itself says, "" at first */
  char *problem;    /* NULL: all is well */
  gboolean own;     /* this machine's: asked for a newer state at the start, never sent one */
  ChoirStateAge has;
  gint64 has_us, has_turns, rests_until_us;
  guint failures; /* in a row */
  ChoirSending *sending;
} ChoirPeer;

struct ChoirShip {
  char *state, *own, *node, *service, *static_peers; /* own: STATE/standby */
  guint copies;
  ChoirSealKey key;
  ChoirHttpClient *http;
  ChoirConsul *consul;
  ChoirConsulWatch *watch;
  GPtrArray *peers; /* ChoirPeer */
  char *consul_problem;
  gboolean consul_answered;
  guint listed; /* standbys that Consul named last, our own among them */
  /* what was taken last */
  ChoirSnapshot *snapshot;
  GThreadPool *pool;
  struct ChoirShipLook *looking; /* while taking */
  json_t *manifest;              /* NULL: nothing yet */
  ChoirStateAge age;
  gint64 turns, acknowledged; /* in the manifest; by the history */
  gboolean started, taking, dirty, force, superseded;
  char *problem;     /* of the snapshot */
  char *told;        /* what choir_ship_problem() said */
  gint64 changed_us; /* the oldest change that is nowhere else, 0 = none */
  guint timer, look;
  /* takeover */
  json_t *taken; /* NULL: this epoch began otherwise */
  gint64 seen;   /* most turns that any page saw before; -1 = none said so */
  /* stop */
  void (*stopped)(gpointer user);
  gpointer stopped_user;
  guint stop_timer;
  GCancellable *cancellable;
  ChoirMetric *m_ok, *m_failed, *m_refused, *m_bytes, *m_seconds, *m_behind, *m_copies, *m_lost;
};

/* ship_peers.c */
void choir_ship_read_static(ChoirShip *ship);
/* Consul's answer about the service. */
void choir_ship_read_service(ChoirShip *ship, const json_t *answer);
void choir_ship_watch(ChoirShip *ship);
char *choir_ship_service_path(const ChoirShip *ship); /* caller frees */
guint choir_ship_others(const ChoirShip *ship);       /* peers that are not this machine's own */
void choir_peer_free(gpointer peer);

/* ship.c: begins whatever can begin. */
void choir_ship_pump(ChoirShip *ship);

/* ship_send.c: sends the manifest of now to a peer; the end is a pump. */
void choir_ship_send(ChoirShip *ship, ChoirPeer *peer);
void choir_sending_drop(ChoirSending *sending); /* the peer or the ship goes */

/* ship_take.c */
gboolean choir_ship_write_state(const char *own, ChoirStateAge age, gint64 turns, const json_t *taken, GError **error);
/* A swap that was interrupted is brought to its end. */
gboolean choir_ship_finish_swap(const char *state, const char *own, GError **error);
/* incoming: OWN/incoming with everything of the new state. ret_kept: where the old one is, caller frees. */
gboolean choir_ship_swap(const char *state, const char *own, char **ret_kept, GError **error);
