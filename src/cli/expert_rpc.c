/* The rpc-servers that hold a model's layers: found, then watched. A head that is not asked anything never notices that
 * one of them has ended, and aborts in the middle of the next question. */
#include <string.h>
#include "base/text.h"
#include "cli/expert_private.h"
#include "net/http_client.h"

#define FIND_US 1000000
#define LOOK_MS 2000
#define ANSWER_MS 5000

struct ChoirExpertWorkers {
  char *url, *headers, *list;
  json_t *chosen; /* entries of Consul's health list */
  ChoirHttpClient *http;
  guint timer;
  void (*lost)(const char *why, gpointer user);
  gpointer user;
};

static const json_t *entry_of(const json_t *entries, const char *id) {
  size_t index;
  const json_t *entry;
  json_array_foreach(entries, index, entry) {
    if (g_str_equal(choir_json_string(json_object_get(entry, "Service"), "ID", ""), id))
      return entry;
  }
  return NULL;
}

static gboolean node_away(const json_t *entry) {
  size_t index;
  const json_t *check;
  json_array_foreach(json_object_get(entry, "Checks"), index, check) {
    if (g_str_equal(choir_json_string(check, "CheckID", ""), "serfHealth"))
      return g_str_equal(choir_json_string(check, "Status", ""), "critical");
  }
  return FALSE;
}

char *choir_expert_workers_lost(const json_t *chosen, const json_t *now) {
  size_t index;
  const json_t *old;
  json_array_foreach(chosen, index, old) {
    const json_t *service = json_object_get(old, "Service");
    const char *node = choir_json_string(json_object_get(old, "Node"), "Node", "?");
    const json_t *entry = entry_of(now, choir_json_string(service, "ID", ""));
    if (!entry)
      return g_strdup_printf("the rpc-server on %s has ended", node);
    /* Started anew it is registered anew; a check that fails for a while changes nothing here. */
    if (choir_json_int(json_object_get(entry, "Service"), "CreateIndex", 0) !=
        choir_json_int(service, "CreateIndex", 0))
      return g_strdup_printf("the rpc-server on %s was started anew", node);
    if (node_away(entry))
      return g_strdup_printf("%s, which holds layers, is away", node);
  }
  return NULL;
}

static ChoirExpertWorkers *chosen_of(ChoirApi *consul, const json_t *found, guint count, char *path) {
  ChoirExpertWorkers *workers = g_new0(ChoirExpertWorkers, 1);
  GString *list = g_string_new(NULL);
  workers->chosen = json_array();
  for (guint i = 0; i < count; i++) {
    json_t *entry = json_array_get(found, i);
    const json_t *service = json_object_get(entry, "Service");
    g_string_append_printf(list, "%s%s:%d", i ? "," : "", choir_json_string(service, "Address", ""),
                           (int)choir_json_int(service, "Port", 0));
    json_array_append(workers->chosen, entry);
  }
  workers->list = g_string_free(list, FALSE);
  workers->url = g_strconcat(choir_api_url(consul), path, NULL);
  workers->headers = g_strdup(choir_api_headers(consul));
  return workers;
}

ChoirExpertWorkers *choir_expert_workers_find(ChoirApi *consul, const char *service, guint count, guint seconds,
                                              GError **error) {
  gint64 end = g_get_monotonic_time() + (gint64)seconds * G_USEC_PER_SEC;
  g_autofree char *safe = choir_jobs_escape(service);
  g_autofree char *path = g_strdup_printf("/v1/health/service/%s", safe);
  g_autofree char *passing = g_strconcat(path, "?passing=1", NULL);
  size_t found = 0;
  do {
    json_auto_t *answer = choir_api_json(consul, "GET", passing, NULL, NULL, error);
    if (!answer)
      return NULL;
    found = json_array_size(answer);
    if (found >= count)
      return chosen_of(consul, answer, count, path);
    g_usleep(FIND_US);
  } while (g_get_monotonic_time() < end);
  g_set_error(error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "only %zu of %u workers of %s are there after %u s", found,
              count, service, seconds);
  return NULL;
}

const char *choir_expert_workers_list(const ChoirExpertWorkers *workers) {
  return workers->list;
}

static gboolean on_timer(gpointer user);

static void on_looked(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  ChoirExpertWorkers *workers = user;
  if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    return;
  /* Without Consul nothing is known, which is no loss. */
  json_auto_t *now = error ? NULL : choir_json_parse(body, length, NULL);
  g_autofree char *why = json_is_array(now) ? choir_expert_workers_lost(workers->chosen, now) : NULL;
  if (why)
    workers->lost(why, workers->user);
  else
    workers->timer = g_timeout_add(LOOK_MS, on_timer, workers);
}

static gboolean on_timer(gpointer user) {
  ChoirExpertWorkers *workers = user;
  workers->timer = 0;
  choir_http_request(workers->http, "GET", workers->url, NULL, NULL, 0, workers->headers, ANSWER_MS, 0, NULL, on_looked,
                     workers);
  return G_SOURCE_REMOVE;
}

void choir_expert_workers_watch(ChoirExpertWorkers *workers, void (*lost)(const char *why, gpointer user),
                                gpointer user) {
  workers->lost = lost;
  workers->user = user;
  if (!workers->http)
    workers->http = choir_http_client_new();
  if (!workers->timer)
    workers->timer = g_timeout_add(LOOK_MS, on_timer, workers);
}

void choir_expert_workers_free(ChoirExpertWorkers *workers) {
  if (!workers)
    return;
  g_clear_handle_id(&workers->timer, g_source_remove);
  g_clear_pointer(&workers->http, choir_http_client_free);
  json_decref(workers->chosen);
  g_free(workers->url);
  g_free(workers->headers);
  g_free(workers->list);
  g_free(workers);
}
