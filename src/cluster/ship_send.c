/* One copy on its way to one standby: its list first, then the blocks that are missing there, then the list again. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"
#include "cluster/ship_private.h"

#define ASK_MS 10000
#define COMMIT_MS 30000 /* the other side writes and syncs */
#define BATCH 4         /* blocks in one message */
#define ROUNDS 4
#define REST_MS 1000 /* after a failure; doubles */
#define REST_MAX_MS 60000

struct ChoirSending {
  ChoirShip *ship;
  ChoirPeer *peer; /* NULL: dropped */
  json_t *manifest, *missing;
  GHashTable *places; /* choir_state_places() */
  size_t at;
  guint rounds;
};

static void sending_free(ChoirSending *sending) {
  if (sending->peer)
    sending->peer->sending = NULL;
  json_decref(sending->manifest);
  json_decref(sending->missing);
  if (sending->places)
    g_hash_table_unref(sending->places);
  g_free(sending);
}

void choir_sending_drop(ChoirSending *sending) {
  sending->peer->sending = NULL;
  sending->peer = NULL; /* the answer that is under way frees it */
}

static void failed(ChoirSending *sending, const GError *error) {
  ChoirPeer *peer = sending->peer;
  ChoirShip *ship = sending->ship;
  guint rest = MIN(REST_MS << MIN(peer->failures, 10u), REST_MAX_MS);
  gboolean again = g_error_matches(error, CHOIR_STATE_ERROR, CHOIR_STATE_ERROR_CHANGED);
  if (again) { /* a newer snapshot was made meanwhile: that one goes out */
    ship->dirty = ship->dirty || choir_state_age_compare(choir_state_age(sending->manifest), ship->age) == 0;
    sending_free(sending);
    choir_ship_pump(ship);
    return;
  }
  if (g_strcmp0(peer->problem, error->message) != 0)
    choir_warning(CHOIR_TOPIC_CLUSTER, "the state is not kept at %s: %s", peer->url, error->message);
  g_free(peer->problem);
  peer->problem = g_strdup(error->message);
  peer->failures++;
  peer->rests_until_us = g_get_monotonic_time() + (gint64)(rest / 2 + (guint)g_random_int_range(0, (gint)rest)) * 1000;
  choir_counter_add(ship->m_failed, 1);
  sending_free(sending);
  choir_ship_pump(ship);
}

static void succeeded(ChoirSending *sending) {
  ChoirPeer *peer = sending->peer;
  ChoirShip *ship = sending->ship;
  if (peer->problem)
    choir_info(CHOIR_TOPIC_CLUSTER, "the state is kept at %s again", peer->url);
  g_clear_pointer(&peer->problem, g_free);
  peer->failures = 0;
  peer->rests_until_us = 0;
  peer->has = choir_state_age(sending->manifest);
  peer->has_turns = choir_json_int(sending->manifest, "turns", 0);
  peer->has_us = g_get_monotonic_time();
  choir_counter_add(ship->m_ok, 1);
  if (ship->changed_us && !ship->dirty && !ship->taking && choir_state_age_compare(peer->has, ship->age) == 0) {
    choir_histogram_observe(ship->m_seconds, (double)(peer->has_us - ship->changed_us) / 1e6);
    ship->changed_us = 0;
  }
  sending_free(sending);
  choir_ship_pump(ship);
}

static void on_newest(const json_t *answer, const void *data, gsize length, const GError *error, gpointer user) {
  ChoirSending *sending = user;
  ChoirShip *ship = sending->ship;
  if (!sending->peer) {
    sending_free(sending);
    return;
  }
  if (error) {
    failed(sending, error);
    return;
  }
  ChoirStateAge there = choir_state_age(json_object_get(answer, "manifest"));
  if (there.epoch > ship->age.epoch) {
    ship->superseded = TRUE;
    choir_warning(CHOIR_TOPIC_CLUSTER,
                  "%s keeps the state of another agent that has taken over; what is said here is kept nowhere else",
                  sending->peer->url);
  } else if (there.generation >= ship->age.generation) {
    ship->age.generation = there.generation; /* our own count was lost: go on behind theirs */
    ship->force = ship->dirty = TRUE;
  }
  sending_free(sending);
  choir_ship_pump(ship);
}

static void next(ChoirSending *sending);

static void refused(ChoirSending *sending, const GError *error) {
  choir_counter_add(sending->ship->m_refused, 1);
  choir_standby_ask(sending->ship->http, &sending->ship->key, sending->peer->url, json_pack("{s:s}", "op", "newest"),
                    NULL, 0, ASK_MS, sending->ship->cancellable, on_newest, sending);
}

static void on_committed(const json_t *answer, const void *data, gsize length, const GError *error, gpointer user) {
  ChoirSending *sending = user;
  if (!sending->peer) {
    sending_free(sending);
    return;
  }
  if (g_error_matches(error, CHOIR_STATE_ERROR, CHOIR_STATE_ERROR_OLDER)) {
    refused(sending, error);
    return;
  }
  if (error) {
    failed(sending, error);
    return;
  }
  const char *node = choir_json_string(answer, "node", "");
  if (*node && !g_str_equal(node, sending->peer->node)) {
    g_free(sending->peer->node);
    sending->peer->node = choir_utf8(node, -1);
  }
  json_t *missing = json_object_get(answer, "missing");
  if (json_array_size(missing) == 0) {
    succeeded(sending);
    return;
  }
  json_decref(sending->missing);
  sending->missing = json_incref(missing);
  sending->at = 0;
  if (++sending->rounds > ROUNDS) {
    g_autoptr(GError) problem =
        g_error_new_literal(CHOIR_STATE_ERROR, CHOIR_STATE_ERROR_IO, "it loses what it is given");
    failed(sending, problem);
    return;
  }
  next(sending);
}

static void commit(ChoirSending *sending) {
  choir_standby_ask(sending->ship->http, &sending->ship->key, sending->peer->url,
                    json_pack("{s:s,s:O}", "op", "commit", "manifest", sending->manifest), NULL, 0, COMMIT_MS,
                    sending->ship->cancellable, on_committed, sending);
}

static void on_put(const json_t *answer, const void *data, gsize length, const GError *error, gpointer user) {
  ChoirSending *sending = user;
  if (!sending->peer)
    sending_free(sending);
  else if (error)
    failed(sending, error);
  else
    next(sending);
}

static gboolean add_block(ChoirSending *sending, const char *sum, GByteArray *data, json_t *sizes, GError **error) {
  const ChoirStatePlace *place = sum ? g_hash_table_lookup(sending->places, sum) : NULL;
  if (!place) {
    g_set_error_literal(error, CHOIR_STATE_ERROR, CHOIR_STATE_ERROR_DAMAGED, "it asks for what it was not offered");
    return FALSE;
  }
  g_autofree char *path = choir_snapshot_path(sending->ship->snapshot, place->name);
  guint before = data->len;
  int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  g_byte_array_set_size(data, before + (guint)place->length);
  gboolean done = fd >= 0 && choir_state_read_at(fd, data->data + before, place->length, place->offset, NULL);
  if (fd >= 0)
    close(fd);
  g_autofree char *found = done ? choir_state_sum(data->data + before, place->length) : NULL;
  json_array_append_new(sizes, json_integer((json_int_t)place->length));
  if (g_strcmp0(found, sum) == 0)
    return TRUE;
  g_set_error_literal(error, CHOIR_STATE_ERROR, CHOIR_STATE_ERROR_CHANGED, "the snapshot is another one by now");
  return FALSE;
}

static void next(ChoirSending *sending) {
  if (!sending->places)
    sending->places = choir_state_places(sending->manifest);
  if (sending->at >= json_array_size(sending->missing)) {
    commit(sending);
    return;
  }
  g_autoptr(GByteArray) data = g_byte_array_new();
  g_autoptr(GError) error = NULL;
  json_auto_t *sizes = json_array();
  for (guint i = 0; i < BATCH && sending->at < json_array_size(sending->missing); i++, sending->at++)
    if (!add_block(sending, json_string_value(json_array_get(sending->missing, sending->at)), data, sizes, &error)) {
      failed(sending, error);
      return;
    }
  choir_counter_add(sending->ship->m_bytes, data->len);
  choir_standby_ask(sending->ship->http, &sending->ship->key, sending->peer->url,
                    json_pack("{s:s,s:O}", "op", "put", "sizes", sizes), data->data, data->len, ASK_MS,
                    sending->ship->cancellable, on_put, sending);
}

void choir_ship_send(ChoirShip *ship, ChoirPeer *peer) {
  ChoirSending *sending = g_new0(ChoirSending, 1);
  *sending = (ChoirSending){.ship = ship, .peer = peer, .manifest = json_incref(ship->manifest)};
  peer->sending = sending;
  commit(sending);
}
