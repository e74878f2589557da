#include "web/join_house.h"
#include <string.h>
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"

#define BY_MAX 64

struct ChoirJoinHouse {
  ChoirJoin *join;
  ChoirSealedDoor *door;
};

char *choir_join_fingerprint(const char *ssh_host_key) {
  g_auto(GStrv) words = g_strsplit(ssh_host_key, " ", 3);
  gsize length = 0, size = 32;
  guint8 sum[32];
  if (!words[0] || !words[1] || !g_str_has_prefix(words[0], "ssh-"))
    return NULL;
  g_autofree guchar *blob = g_base64_decode(words[1], &length);
  if (length < 16)
    return NULL;
  g_autoptr(GChecksum) checksum = g_checksum_new(G_CHECKSUM_SHA256);
  g_checksum_update(checksum, blob, (gssize)length);
  g_checksum_get_digest(checksum, sum, &size);
  g_autofree char *text = g_base64_encode(sum, size);
  text[strcspn(text, "=")] = '\0';
  return g_strconcat("SHA256:", text, NULL);
}

static json_t *joins(ChoirJoinHouse *house, gint64 now) {
  json_t *nodes = choir_join_nodes(house->join, now);
  size_t i;
  json_t *node;
  json_array_foreach(nodes, i, node) {
    g_autofree char *fingerprint = choir_join_fingerprint(choir_json_string(node, "ssh_host_key", ""));
    json_object_set_new(node, "fingerprint", fingerprint ? json_string(fingerprint) : json_null());
    json_object_del(node, "ssh_host_key");
  }
  return json_pack("{s:b,s:o}", "ok", 1, "nodes", nodes);
}

static json_t *decide(ChoirJoinHouse *house, const json_t *question, gboolean yes, gint64 now) {
  g_autoptr(GError) error = NULL;
  const char *id = choir_json_string(question, "id", "");
  const char *by = choir_json_string(question, "by", "?");
  if (!choir_sealed_door_fresh(house->door, question))
    return choir_sealed_refusal("old", "the clocks of the two nodes differ by more than two minutes, or this was sent "
                                       "before; nothing was changed");
  gboolean done =
      yes ? choir_join_approve(house->join, id, now, &error) : choir_join_refuse(house->join, id, now, &error);
  if (!done)
    return choir_sealed_refusal(error->code == CHOIR_JOIN_ERROR_UNKNOWN ? "unknown" : "state", error->message);
  choir_info(CHOIR_TOPIC_WEB, "%s: %s on the page by %.*s", id, yes ? "approved" : "refused", BY_MAX, by);
  return json_pack("{s:b}", "ok", 1);
}

static json_t *on_question(const json_t *question, const guint8 *data, gsize length, GBytes **ret_data, gpointer user) {
  ChoirJoinHouse *house = user;
  const char *op = choir_json_string(question, "op", "");
  gint64 now = g_get_real_time() / G_USEC_PER_SEC;
  if (g_str_equal(op, "joins"))
    return joins(house, now);
  if (g_str_equal(op, "approve") || g_str_equal(op, "refuse"))
    return decide(house, question, *op == 'a', now);
  return choir_sealed_refusal("unknown", "this version of Choir does not know that question; update it");
}

ChoirJoinHouse *choir_join_house_new(ChoirHttpServer *server, ChoirJoin *join, const ChoirSealKey *key) {
  ChoirJoinHouse *house = g_new0(ChoirJoinHouse, 1);
  house->join = join;
  house->door = choir_sealed_door_new(server, key, g_get_host_name(), on_question, house);
  return house;
}

void choir_join_house_free(ChoirJoinHouse *house) {
  if (!house)
    return;
  choir_sealed_door_free(house->door);
  g_free(house);
}
