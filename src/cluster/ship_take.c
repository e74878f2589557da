/* At the start: is there a newer state on other nodes than here? Then it is fetched, looked at, and put in place. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"
#include "cluster/ship_private.h"
#include "memory/facts.h"
#include "memory/history.h"

#define ASK_MS 3000
#define READ_MS 10000
#define PATIENCE_MS 6000        /* for Consul to answer */
#define PATIENCE_EMPTY_MS 30000 /* ... where there is nothing to begin with */
#define AGAIN_MS 500

typedef struct {
  ChoirPeer *peer;
  json_t *manifest; /* without files */
} Offer;

typedef struct {
  ChoirShip *ship;
  guint waiting;
  GPtrArray *offers; /* Offer */
  GError *error;     /* of the last question */
  json_t *answer;
  GByteArray *data;
  gboolean timed_out;
} Taking;

static void offer_free(gpointer data) {
  json_decref(((Offer *)data)->manifest);
  g_free(data);
}

static void wait_for(Taking *taking) {
  while (taking->waiting > 0)
    g_main_context_iteration(NULL, TRUE);
}

/* --- who has what */

static void on_service(const json_t *answer, const GError *error, gpointer user) {
  Taking *taking = user;
  taking->waiting--;
  if (error)
    taking->error = g_error_copy(error);
  else
    choir_ship_read_service(taking->ship, answer);
}

static gboolean find_peers(Taking *taking, gboolean empty) {
  ChoirShip *ship = taking->ship;
  gint64 end = g_get_monotonic_time() + (empty ? PATIENCE_EMPTY_MS : PATIENCE_MS) * (gint64)1000;
  if (*ship->static_peers) {
    choir_ship_read_static(ship);
    return TRUE;
  }
  if (!ship->consul)
    return FALSE;
  g_autofree char *path = choir_ship_service_path(ship);
  for (;;) {
    g_clear_error(&taking->error);
    taking->waiting++;
    choir_consul_get(ship->consul, path, ASK_MS, on_service, taking);
    wait_for(taking);
    if (!taking->error &&
        ship->listed > 0) /* none at all: Consul may not have found its own yet, or lets us see none */
      return ship->peers->len > 0;
    if (g_get_monotonic_time() > end)
      break;
    g_usleep(AGAIN_MS * 1000);
  }
  if (taking->error)
    choir_warning(CHOIR_TOPIC_CLUSTER, "not known whether other nodes have a newer state: %s", taking->error->message);
  return FALSE;
}

typedef struct {
  Taking *taking;
  ChoirPeer *peer;
} Newest;

static void on_newest(const json_t *answer, const void *data, gsize length, const GError *error, gpointer user) {
  Newest *newest = user;
  Taking *taking = newest->taking;
  const json_t *manifest = json_object_get(answer, "manifest");
  taking->waiting--;
  if (error)
    choir_warning(CHOIR_TOPIC_CLUSTER, "the standby at %s was not heard: %s", newest->peer->url, error->message);
  if (json_is_object(manifest)) {
    Offer *offer = g_new0(Offer, 1);
    *offer = (Offer){.peer = newest->peer, .manifest = json_incref((json_t *)manifest)};
    g_ptr_array_add(taking->offers, offer);
  }
  g_free(newest);
}

static int newest_first(gconstpointer a, gconstpointer b) {
  return -choir_state_age_compare(choir_state_age((*(Offer *const *)a)->manifest),
                                  choir_state_age((*(Offer *const *)b)->manifest));
}

static void ask_all(Taking *taking) {
  ChoirShip *ship = taking->ship;
  for (guint i = 0; i < ship->peers->len; i++) {
    Newest *newest = g_new0(Newest, 1);
    *newest = (Newest){.taking = taking, .peer = ship->peers->pdata[i]};
    taking->waiting++;
    choir_standby_ask(ship->http, &ship->key, newest->peer->url, json_pack("{s:s}", "op", "newest"), NULL, 0, ASK_MS,
                      ship->cancellable, on_newest, newest);
  }
  wait_for(taking);
  g_ptr_array_sort(taking->offers, newest_first);
}

/* --- fetching */

static void on_answer(const json_t *answer, const void *data, gsize length, const GError *error, gpointer user) {
  Taking *taking = user;
  taking->waiting--;
  json_decref(taking->answer);
  taking->answer = answer ? json_deep_copy(answer) : NULL;
  g_byte_array_set_size(taking->data, 0);
  if (length > 0)
    g_byte_array_append(taking->data, data, (guint)length);
  g_clear_error(&taking->error);
  taking->error = error ? g_error_copy(error) : NULL;
}

static gboolean ask_one(Taking *taking, const ChoirPeer *peer, json_t *question, GError **error) {
  taking->waiting++;
  choir_standby_ask(taking->ship->http, &taking->ship->key, peer->url, question, NULL, 0, READ_MS,
                    taking->ship->cancellable, on_answer, taking);
  wait_for(taking);
  if (!taking->error)
    return TRUE;
  g_propagate_error(error, g_steal_pointer(&taking->error));
  return FALSE;
}

static gboolean fetch_file(Taking *taking, const Offer *offer, const json_t *file, const char *to, GError **error) {
  const char *name = choir_json_string(file, "name", "");
  guint64 bytes = (guint64)choir_json_int(file, "bytes", 0);
  guint mode = (guint)choir_json_int(file, "mode", 0600);
  ChoirStateAge age = choir_state_age(offer->manifest);
  if (!choir_state_make_above(to, error))
    return FALSE;
  int fd = open(to, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600 | mode);
  if (fd < 0)
    return choir_state_fail(error, "write", to);
  gboolean done = TRUE;
  for (guint64 at = 0; done && at < bytes; at += taking->data->len) {
    json_t *question = json_pack("{s:s,s:I,s:I,s:s,s:I,s:i}", "op", "read", "epoch", (json_int_t)age.epoch,
                                 "generation", (json_int_t)age.generation, "name", name, "offset", (json_int_t)at,
                                 "length", (int)CHOIR_STANDBY_READ);
    done = ask_one(taking, offer->peer, question, error);
    if (done && (taking->data->len == 0 || taking->data->len > bytes - at)) {
      g_set_error(error, CHOIR_STATE_ERROR, CHOIR_STATE_ERROR_DAMAGED, "%s is not as long as it should be", name);
      done = FALSE;
    }
    done = done && choir_state_write_all(fd, taking->data->data, taking->data->len, error);
  }
  json_auto_t *found = done ? choir_state_file(fd, name, mode, bytes, error) : NULL;
  if (found && !json_equal(found, file)) {
    g_set_error(error, CHOIR_STATE_ERROR, CHOIR_STATE_ERROR_DAMAGED, "%s is not what was stored there", name);
    done = FALSE;
  }
  if (found && done && fsync(fd) != 0)
    done = choir_state_fail(error, "write", to);
  close(fd);
  return done && found;
}

/* Opened as the daemon will: what a newer version wrote is refused here. */
static gboolean usable(const char *incoming, GError **error) {
  g_autofree char *database = g_build_filename(incoming, "history.db", NULL),
                  *facts_file = g_build_filename(incoming, "facts.db", NULL);
  ChoirHistory *history = choir_history_open(database, error);
  if (!history)
    return FALSE;
  choir_history_close(history);
  if (!g_file_test(facts_file, G_FILE_TEST_EXISTS))
    return TRUE;
  g_autoptr(ChoirFacts) facts = choir_facts_open(incoming, NULL, error);
  return facts != NULL;
}

static gboolean fetch(Taking *taking, const Offer *offer, const char *incoming, GError **error) {
  choir_state_remove_tree(incoming);
  if (!ask_one(taking, offer->peer, json_pack("{s:s,s:b}", "op", "newest", "files", 1), error))
    return FALSE;
  json_auto_t *manifest = json_incref(json_object_get(taking->answer, "manifest"));
  if (!choir_state_manifest_check(manifest, error))
    return FALSE;
  if (choir_state_age_compare(choir_state_age(manifest), choir_state_age(offer->manifest)) != 0) {
    g_set_error_literal(error, CHOIR_STATE_ERROR, CHOIR_STATE_ERROR_CHANGED, "there is another copy by now");
    return FALSE;
  }
  if (g_mkdir_with_parents(incoming, 0700) != 0)
    return choir_state_fail(error, "make the folder", incoming);
  if (choir_state_room(incoming) < choir_state_bytes(manifest)) {
    g_set_error(error, CHOIR_STATE_ERROR, CHOIR_STATE_ERROR_LIMIT, "%s has too little space for it", incoming);
    return FALSE;
  }
  const json_t *files = json_object_get(manifest, "files");
  for (size_t i = 0; i < json_array_size(files); i++) {
    const json_t *file = json_array_get(files, i);
    g_autofree char *to = g_build_filename(incoming, choir_json_string(file, "name", ""), NULL);
    if (!fetch_file(taking, offer, file, to, error))
      return FALSE;
  }
  return usable(incoming, error);
}

/* --- deciding */

static gboolean put_in_place(Taking *taking, const Offer *offer, GError **error) {
  ChoirShip *ship = taking->ship;
  ChoirStateAge age = choir_state_age(offer->manifest);
  gint64 turns = choir_json_int(offer->manifest, "turns", 0);
  g_autofree char *kept = NULL, *node = choir_utf8(choir_json_string(offer->manifest, "node", "?"), -1);
  if (!choir_ship_swap(ship->state, ship->own, &kept, error))
    return FALSE;
  ship->age = (ChoirStateAge){.epoch = age.epoch + 1, .generation = age.generation};
  ship->turns = turns;
  ship->force = TRUE;
  json_decref(ship->taken);
  ship->taken = json_pack("{s:s,s:I,s:I,s:I,s:I,s:s?}", "from", node, "generation", (json_int_t)age.generation, "turns",
                          (json_int_t)turns, "made", (json_int_t)choir_json_int(offer->manifest, "made", 0), "at",
                          (json_int_t)(g_get_real_time() / G_USEC_PER_SEC), "kept", kept);
  choir_info(CHOIR_TOPIC_CLUSTER,
             "took over from %s: its state %" G_GINT64_FORMAT ".%" G_GINT64_FORMAT " with %" G_GINT64_FORMAT
             " turns, kept at %s%s%s",
             node, age.epoch, age.generation, turns, offer->peer->url, kept ? "; what was here is in " : "",
             kept ? kept : "");
  return choir_ship_write_state(ship->own, ship->age, turns, ship->taken, error);
}

/* Taken from an earlier start, as long as its epoch lasts. */
static void read_own(ChoirShip *ship, gboolean *ret_known, gboolean *ret_restored) {
  g_autofree char *path = g_build_filename(ship->own, "state.json", NULL), *text = NULL;
  gsize length;
  json_auto_t *own = g_file_get_contents(path, &text, &length, NULL) ? choir_json_parse(text, length, NULL) : NULL;
  ship->age = choir_state_age(own);
  ship->turns = choir_json_int(own, "turns", 0);
  const json_t *taken = json_object_get(own, "taken");
  ship->taken = json_is_object(taken) ? json_incref((json_t *)taken) : NULL;
  *ret_restored = choir_json_bool(own, "restored", FALSE);
  *ret_known = json_is_object(own) && !*ret_restored;
}

/* The state here stays, under a new epoch: nobody may take the others' for newer. */
static gboolean stay(ChoirShip *ship, ChoirStateAge there, gint64 turns, GError **error) {
  ship->age = (ChoirStateAge){.epoch = there.epoch + 1, .generation = there.generation};
  ship->force = TRUE;
  return choir_ship_write_state(ship->own, ship->age, MAX(0, turns), NULL, error);
}

static gboolean choose(Taking *taking, gboolean known, gboolean restored, gint64 turns, GError **error) {
  ChoirShip *ship = taking->ship;
  g_autofree char *incoming = g_build_filename(ship->own, "incoming", NULL);
  const Offer *best = taking->offers->len > 0 ? taking->offers->pdata[0] : NULL;
  if (!best)
    return TRUE;
  /* Without a count of our own the turns decide; what a person brought back on purpose stays. */
  if (restored || (!known && turns > choir_json_int(best->manifest, "turns", 0)))
    return stay(ship, choir_state_age(best->manifest), turns, error);
  for (guint i = 0; i < taking->offers->len; i++) {
    const Offer *offer = taking->offers->pdata[i];
    g_autoptr(GError) why = NULL;
    if (known && choir_state_age_compare(choir_state_age(offer->manifest), ship->age) <= 0)
      break;
    if (fetch(taking, offer, incoming, &why))
      return put_in_place(taking, offer, error);
    choir_warning(CHOIR_TOPIC_CLUSTER, "the copy at %s cannot be used: %s", offer->peer->url, why->message);
  }
  choir_state_remove_tree(incoming);
  return TRUE;
}

gboolean choir_ship_take_over(ChoirShip *ship, GError **error) {
  gboolean known, restored;
  g_autofree char *history = g_build_filename(ship->state, "history.db", NULL);
  if (!choir_ship_finish_swap(ship->state, ship->own, error))
    return FALSE;
  read_own(ship, &known, &restored);
  gint64 turns = choir_snapshot_turns(history);
  Taking taking = {.ship = ship, .offers = g_ptr_array_new_with_free_func(offer_free), .data = g_byte_array_new()};
  gboolean done = TRUE;
  if (find_peers(&taking, turns < 0)) {
    ask_all(&taking);
    done = choose(&taking, known && turns >= 0, restored, turns, error);
  }
  g_ptr_array_unref(taking.offers);
  g_byte_array_unref(taking.data);
  json_decref(taking.answer);
  g_clear_error(&taking.error);
  return done;
}
