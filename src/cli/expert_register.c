#include <string.h>
#include <stdio.h>
#include "base/text.h"
#include "cli/expert_private.h"
#include "net/http_client.h"

#define RETRY_MS 3000
#define LOOK_MS 15000 /* a Consul agent that lost its data is told again this soon */
#define ANSWER_MS 5000

struct ChoirExpertEntry {
  ChoirHttpClient *http;
  char *url, *headers, *id, *text;
  guint timer;
  gboolean told; /* one complaint, not one every three seconds */
  gboolean there, removing;
  void (*done)(gpointer user);
  gpointer user;
};

json_t *choir_expert_entry_json(const char *id, const char *service, const char *address, guint16 port,
                                const char *model, guint context, gboolean fallback, const char *why,
                                const char *alloc) {
  g_autofree char *model_tag = g_strconcat("model=", model, NULL);
  g_autofree char *context_tag = g_strdup_printf("ctx=%u", context);
  g_autofree char *context_text = g_strdup_printf("%u", context);
  g_autofree char *health = g_strdup_printf("http://%s:%u/health", address, port);
  g_autofree char *reason = g_strndup(why, 500); /* Consul takes 512 bytes */
  g_autofree char *safe = choir_utf8(reason, -1);
  json_t *tags = json_pack("[s,s]", model_tag, context_tag);
  if (fallback)
    json_array_append_new(tags, json_string("fallback"));
  return json_pack("{s:s,s:s,s:s,s:i,s:o,s:{s:s,s:s,s:s,s:s},s:{s:s,s:s,s:s,s:s,s:s,s:s}}", "ID", id, "Name", service,
                   "Address", address, "Port", (int)port, "Tags", tags, "Meta", "model", model, "ctx", context_text,
                   "alloc", alloc, "why", safe, "Check", "Name", "llama-server answers", "HTTP", health, "Interval",
                   "2s", "Timeout", "5s", "Status", "passing", "DeregisterCriticalServiceAfter", "1m");
}

static void ask(ChoirExpertEntry *entry);

static gboolean on_timer(gpointer user) {
  ChoirExpertEntry *entry = user;
  entry->timer = 0;
  ask(entry);
  return G_SOURCE_REMOVE;
}

static void later(ChoirExpertEntry *entry, guint ms) {
  g_clear_handle_id(&entry->timer, g_source_remove);
  if (!entry->removing)
    entry->timer = g_timeout_add(ms, on_timer, entry);
}

static void on_registered(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  ChoirExpertEntry *entry = user;
  if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    return;
  entry->there = !error;
  if (error && !entry->told)
    fprintf(stderr, "%s: Consul does not take the registration (%s); it is tried again\n", g_get_prgname(),
            error->message);
  else if (!error && entry->told)
    fprintf(stderr, "%s: Consul has the registration now\n", g_get_prgname());
  entry->told = error != NULL;
  later(entry, error ? RETRY_MS : LOOK_MS);
}

static void on_looked(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  ChoirExpertEntry *entry = user;
  if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    return;
  entry->there = status != 404;
  later(entry, status == 404 ? 1 : LOOK_MS);
}

static void ask(ChoirExpertEntry *entry) {
  if (entry->there) {
    g_autofree char *url = g_strdup_printf("%s/v1/agent/service/%s", entry->url, entry->id);
    choir_http_request(entry->http, "GET", url, NULL, NULL, 0, entry->headers, ANSWER_MS, 0, NULL, on_looked, entry);
    return;
  }
  g_autofree char *url = g_strconcat(entry->url, "/v1/agent/service/register?replace-existing-checks=true", NULL);
  choir_http_request(entry->http, "PUT", url, "application/json", entry->text, strlen(entry->text), entry->headers,
                     ANSWER_MS, 0, NULL, on_registered, entry);
}

ChoirExpertEntry *choir_expert_entry_new(const char *consul_url, const char *headers, json_t *body) {
  ChoirExpertEntry *entry = g_new0(ChoirExpertEntry, 1);
  entry->http = choir_http_client_new();
  entry->url = g_strdup(consul_url);
  entry->headers = g_strdup(headers);
  entry->id = g_strdup(choir_json_string(body, "ID", ""));
  entry->text = choir_json_dump(body);
  json_decref(body);
  ask(entry);
  return entry;
}

static void on_removed(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  ChoirExpertEntry *entry = user;
  if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    entry->done(entry->user);
}

void choir_expert_entry_remove(ChoirExpertEntry *entry, void (*done)(gpointer user), gpointer user) {
  g_autofree char *url = g_strdup_printf("%s/v1/agent/service/deregister/%s", entry->url, entry->id);
  entry->removing = TRUE;
  entry->done = done;
  entry->user = user;
  g_clear_handle_id(&entry->timer, g_source_remove);
  choir_http_request(entry->http, "PUT", url, NULL, NULL, 0, entry->headers, 2000, 0, NULL, on_removed, entry);
}

void choir_expert_entry_free(ChoirExpertEntry *entry) {
  if (!entry)
    return;
  g_clear_handle_id(&entry->timer, g_source_remove);
  choir_http_client_free(entry->http);
  g_free(entry->url);
  g_free(entry->headers);
  g_free(entry->id);
  g_free(entry->text);
  g_free(entry);
}
