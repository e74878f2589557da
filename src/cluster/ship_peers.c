/* The standbys there are: a list in the settings, or a service of Consul. */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <string.h>
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"
#include "cluster/ship_private.h"

void choir_peer_free(gpointer data) {
  ChoirPeer *peer = data;
  if (peer->sending)
    choir_sending_drop(peer->sending);
  g_free(peer->url);
  g_free(peer->node);
  g_free(peer->problem);
  g_free(peer);
}

static gboolean is_own_address(const char *address) {
  struct ifaddrs *list = NULL;
  gboolean own = FALSE;
  if (getifaddrs(&list) != 0)
    return FALSE;
  for (const struct ifaddrs *one = list; one && !own; one = one->ifa_next) {
    char text[INET6_ADDRSTRLEN] = "";
    if (one->ifa_addr && one->ifa_addr->sa_family == AF_INET)
      inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)one->ifa_addr)->sin_addr, text, sizeof text);
    else if (one->ifa_addr && one->ifa_addr->sa_family == AF_INET6)
      inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)one->ifa_addr)->sin6_addr, text, sizeof text);
    own = g_str_equal(text, address);
  }
  freeifaddrs(list);
  return own;
}

/* Those that stay keep what is known of them. */
static void set_peers(ChoirShip *ship, GPtrArray *fresh /* ChoirPeer */) {
  for (guint i = 0; i < fresh->len; i++) {
    const ChoirPeer *wanted = fresh->pdata[i];
    for (guint k = 0; k < ship->peers->len; k++) {
      ChoirPeer *known = ship->peers->pdata[k];
      if (!known || !g_str_equal(known->url, wanted->url))
        continue;
      choir_peer_free(fresh->pdata[i]);
      fresh->pdata[i] = known;
      ship->peers->pdata[k] = NULL;
      break;
    }
  }
  for (guint i = 0; i < ship->peers->len; i++)
    if (ship->peers->pdata[i])
      choir_peer_free(ship->peers->pdata[i]);
  g_ptr_array_set_free_func(ship->peers, NULL);
  g_ptr_array_unref(ship->peers);
  ship->peers = g_ptr_array_ref(fresh);
}

static ChoirPeer *peer_new(const char *url, const char *node) {
  ChoirPeer *peer = g_new0(ChoirPeer, 1);
  peer->url = g_strdup(url);
  peer->node = g_strdup(node);
  return peer;
}

void choir_ship_read_static(ChoirShip *ship) {
  g_autoptr(GPtrArray) fresh = g_ptr_array_new_with_free_func(choir_peer_free);
  g_auto(GStrv) words = g_strsplit_set(ship->static_peers, ", \t\r\n", -1);
  for (char **word = words; *word && fresh->len < CHOIR_SHIP_PEERS_MAX; word++) {
    g_autofree char *url = **word ? choir_consul_address(*word) : NULL;
    if (url)
      g_ptr_array_add(fresh, peer_new(url, ""));
  }
  set_peers(ship, fresh);
}

static int by_url(gconstpointer a, gconstpointer b) {
  return strcmp((*(ChoirPeer *const *)a)->url, (*(ChoirPeer *const *)b)->url);
}

void choir_ship_read_service(ChoirShip *ship, const json_t *answer) {
  g_autoptr(GPtrArray) fresh = g_ptr_array_new_with_free_func(choir_peer_free);
  size_t i;
  json_t *instance;
  json_array_foreach((json_t *)answer, i, instance) {
    const json_t *service = json_object_get(instance, "Service"), *node = json_object_get(instance, "Node");
    const char *address = choir_json_string(service, "Address", "");
    gint64 port = choir_json_int(service, "Port", 0);
    if (!*address)
      address = choir_json_string(node, "Address", "");
    if (!g_hostname_is_ip_address(address) || port < 1 || port > 65535 || fresh->len >= CHOIR_SHIP_PEERS_MAX)
      continue;
    g_autofree char *url =
        g_strdup_printf(strchr(address, ':') ? "http://[%s]:%d" : "http://%s:%d", address, (int)port);
    ChoirPeer *peer = peer_new(url, choir_json_string(node, "Node", ""));
    peer->own = is_own_address(address);
    g_ptr_array_add(fresh, peer);
  }
  g_ptr_array_sort(fresh, by_url);
  set_peers(ship, fresh);
  ship->consul_answered = TRUE;
  ship->listed = (guint)json_array_size(answer);
}

guint choir_ship_others(const ChoirShip *ship) {
  guint n = 0;
  for (guint i = 0; i < ship->peers->len; i++)
    n += !((const ChoirPeer *)ship->peers->pdata[i])->own;
  return n;
}

static void on_service(const json_t *answer, const GError *error, gpointer user) {
  ChoirShip *ship = user;
  g_clear_pointer(&ship->consul_problem, g_free);
  if (error) /* those that are known stay in use */
    ship->consul_problem = g_strdup(error->message);
  else
    choir_ship_read_service(ship, answer);
  choir_ship_pump(ship);
}

char *choir_ship_service_path(const ChoirShip *ship) {
  g_autofree char *safe = g_uri_escape_string(ship->service, NULL, FALSE);
  return g_strdup_printf("/v1/health/service/%s?passing=1", safe);
}

void choir_ship_watch(ChoirShip *ship) {
  g_autofree char *path = choir_ship_service_path(ship);
  if (ship->consul && !*ship->static_peers)
    ship->watch = choir_consul_watch(ship->consul, path, on_service, ship);
}
