#include "cluster/standby.h"
#include <string.h>
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"
#include "cluster/sealed_door.h"

#define BLOCKS_MAX 256

struct ChoirStandby {
  ChoirStandbyStore *store;
  ChoirSealedDoor *door;
};

static const char *code_of(const GError *error) {
  if (!error || error->domain != CHOIR_STATE_ERROR)
    return "io";
  switch (error->code) {
  case CHOIR_STATE_ERROR_OLDER:
    return "older";
  case CHOIR_STATE_ERROR_LIMIT:
    return "limit";
  case CHOIR_STATE_ERROR_DAMAGED:
    return "damaged";
  case CHOIR_STATE_ERROR_CHANGED:
    return "changed";
  default:
    return "io";
  }
}

/* The list without the sums of blocks is enough to choose by. */
static json_t *newest(const ChoirStandby *standby, const json_t *question) {
  const json_t *manifest = choir_standby_store_newest(standby->store);
  json_t *answer = json_pack("{s:b}", "ok", 1);
  json_t *told = manifest ? json_copy((json_t *)manifest) : json_null();
  if (manifest && !choir_json_bool(question, "files", FALSE))
    json_object_del(told, "files");
  json_object_set_new(answer, "manifest", told);
  return answer;
}

static json_t *commit(ChoirStandby *standby, const json_t *question, GError **error) {
  const json_t *manifest = json_object_get(question, "manifest");
  json_t *missing = choir_standby_store_commit(standby->store, manifest, error);
  if (!missing)
    return NULL;
  if (json_array_size(missing) == 0)
    choir_debug(CHOIR_TOPIC_CLUSTER, "keeps %" G_GINT64_FORMAT ".%" G_GINT64_FORMAT " of %s",
                choir_state_age(manifest).epoch, choir_state_age(manifest).generation,
                choir_json_string(manifest, "node", "?"));
  return json_pack("{s:b,s:o}", "ok", 1, "missing", missing);
}

static json_t *put(ChoirStandby *standby, const json_t *question, const guint8 *data, gsize length, GError **error) {
  const json_t *sizes = json_object_get(question, "sizes");
  gsize at = 0;
  for (size_t i = 0; i < MIN(json_array_size(sizes), BLOCKS_MAX); i++) {
    json_int_t size = json_integer_value(json_array_get(sizes, i));
    if (size < 1 || (guint64)size > length - at) {
      g_set_error_literal(error, CHOIR_STATE_ERROR, CHOIR_STATE_ERROR_DAMAGED, "the sizes do not fit what came");
      return NULL;
    }
    if (!choir_standby_store_put(standby->store, data + at, (gsize)size, error))
      return NULL;
    at += (gsize)size;
  }
  return json_pack("{s:b}", "ok", 1);
}

static json_t *read_part(ChoirStandby *standby, const json_t *question, GBytes **ret_data, GError **error) {
  gint64 offset = choir_json_int(question, "offset", 0), length = choir_json_int(question, "length", 0);
  if (offset < 0 || length < 1 || length > (gint64)CHOIR_STANDBY_READ) {
    g_set_error_literal(error, CHOIR_STATE_ERROR, CHOIR_STATE_ERROR_LIMIT, "at most 256 KiB are given at once");
    return NULL;
  }
  *ret_data = choir_standby_store_read(standby->store, choir_state_age(question),
                                       choir_json_string(question, "name", ""), (guint64)offset, (gsize)length, error);
  return *ret_data ? json_pack("{s:b}", "ok", 1) : NULL;
}

static json_t *answer_to(const json_t *question, const guint8 *data, gsize length, GBytes **ret_data, gpointer user) {
  ChoirStandby *standby = user;
  const char *op = choir_json_string(question, "op", "");
  g_autoptr(GError) error = NULL;
  json_t *answer = NULL;
  if (g_str_equal(op, "newest"))
    answer = newest(standby, question);
  else if (g_str_equal(op, "commit"))
    answer = commit(standby, question, &error);
  else if (g_str_equal(op, "put"))
    answer = put(standby, question, data, length, &error);
  else if (g_str_equal(op, "read"))
    answer = read_part(standby, question, ret_data, &error);
  else
    return choir_sealed_refusal("unknown", "this version of Choir does not know that question; update it");
  return answer ? answer : choir_sealed_refusal(code_of(error), error ? error->message : "it failed");
}

static void on_health(ChoirHttpRequest *request, gpointer user) {
  const json_t *manifest = choir_standby_store_newest(((ChoirStandby *)user)->store);
  choir_http_respond_json(request, 200, json_pack("{s:s,s:b}", "status", "ok", "keeps", manifest != NULL));
}

ChoirStandby *choir_standby_new(ChoirHttpServer *server, ChoirStandbyStore *store, const ChoirSealKey *key,
                                const char *node) {
  ChoirStandby *standby = g_new0(ChoirStandby, 1);
  standby->store = store;
  standby->door = choir_sealed_door_new(server, key, node, answer_to, standby);
  choir_http_server_route(server, "GET", "/health", on_health, standby);
  return standby;
}

void choir_standby_free(ChoirStandby *standby) {
  if (!standby)
    return;
  choir_sealed_door_free(standby->door);
  g_free(standby);
}
