#include "cluster/sealed_door.h"
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"
#include "cluster/standby.h"
#include "cluster/standby_frame.h"

#define COMPLAIN_US (60 * G_USEC_PER_SEC)
#define FRESH_S 120
#define SEEN_MAX 4096

struct ChoirSealedDoor {
  ChoirSealKey key;
  char *node;
  ChoirSealedAnswer answer;
  gpointer user;
  gint64 complained_us;
  char *salt;       /* of the question at hand */
  GHashTable *seen; /* salt -> seconds */
};

json_t *choir_sealed_refusal(const char *code, const char *message) {
  return json_pack("{s:b,s:s,s:s}", "ok", 0, "code", code, "message", message);
}

static gboolean is_old(gpointer salt, gpointer at, gpointer now) {
  return GPOINTER_TO_SIZE(at) + 2 * FRESH_S < GPOINTER_TO_SIZE(now);
}

gboolean choir_sealed_door_fresh(ChoirSealedDoor *door, const json_t *question) {
  gint64 now = g_get_real_time() / G_USEC_PER_SEC, at = choir_json_int(question, "at", 0);
  g_hash_table_foreach_remove(door->seen, is_old, GSIZE_TO_POINTER((gsize)now));
  if (llabs(now - at) > FRESH_S || g_hash_table_contains(door->seen, door->salt) ||
      g_hash_table_size(door->seen) >= SEEN_MAX)
    return FALSE;
  g_hash_table_insert(door->seen, g_strdup(door->salt), GSIZE_TO_POINTER((gsize)now));
  return TRUE;
}

static void refuse(ChoirSealedDoor *door, ChoirHttpRequest *request, const char *why) {
  gint64 now = g_get_monotonic_time();
  if (!door->complained_us || now - door->complained_us > COMPLAIN_US) {
    door->complained_us = now;
    choir_warning(CHOIR_TOPIC_CLUSTER, "refused a message from %s: %s", choir_http_request_peer(request), why);
  }
  choir_http_respond_error(request, 403, "authentication_error", "key_wrong",
                           "the key of %s is another one than yours; every node has the same in /etc/choir/state.key",
                           door->node);
}

static void on_question(ChoirHttpRequest *request, gpointer user) {
  ChoirSealedDoor *door = user;
  gsize body_length, data_length = 0, part_length = 0, size;
  const char *body = choir_http_request_body(request, &body_length);
  const guint8 *data = NULL;
  g_autoptr(GError) error = NULL;
  g_autoptr(GBytes) opened = choir_unseal(&door->key, CHOIR_STANDBY_QUESTION, NULL, 0, body, body_length, &error),
                    part = NULL;
  json_auto_t *question = opened ? choir_standby_unframe(opened, &data, &data_length) : NULL;
  if (!question) {
    refuse(door, request, error ? error->message : "it is no frame");
    return;
  }
  g_free(door->salt);
  door->salt = choir_state_sum(body + CHOIR_SEAL_MARK, CHOIR_SEAL_SALT);
  json_auto_t *answer = door->answer(question, data, data_length, &part, door->user);
  json_object_set_new(answer, "node", json_string(door->node));
  const void *part_data = part ? g_bytes_get_data(part, &part_length) : NULL;
  g_autoptr(GByteArray) frame = choir_standby_frame(answer, part_data, part_length);
  g_autoptr(GBytes) sealed =
      choir_seal(&door->key, CHOIR_STANDBY_ANSWER, body + CHOIR_SEAL_MARK, CHOIR_SEAL_SALT, frame->data, frame->len);
  const void *bytes = g_bytes_get_data(sealed, &size);
  choir_http_respond(request, 200, "application/octet-stream", bytes, size, NULL);
}

ChoirSealedDoor *choir_sealed_door_new(ChoirHttpServer *server, const ChoirSealKey *key, const char *node,
                                       ChoirSealedAnswer answer, gpointer user) {
  ChoirSealedDoor *door = g_new0(ChoirSealedDoor, 1);
  *door = (ChoirSealedDoor){.key = *key, .node = g_strdup(node), .answer = answer, .user = user};
  door->seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  choir_http_server_route(server, "POST", CHOIR_STANDBY_PATH, on_question, door);
  return door;
}

void choir_sealed_door_free(ChoirSealedDoor *door) {
  if (!door)
    return;
  g_hash_table_unref(door->seen);
  g_free(door->salt);
  g_free(door->node);
  g_free(door);
}
