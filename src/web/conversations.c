/* /api/conversations: what was said before. */
#include <string.h>
#include "base/text.h"
#include "web/answer.h"
#include "web/web_private.h"

#define LIST_LIMIT 500
#define MAX_TITLE 200
#define PREFIX "/api/conversations/"

struct ChoirConversations {
  const ChoirWebOptions *options;
  GPtrArray *writes; /* Write */
};

/* A write under way; the answer waits for it. */
typedef struct {
  ChoirConversations *owner; /* NULL once the owner is gone */
  ChoirHttpRequest *request; /* NULL once the client left */
  enum { CREATED, RENAMED, DELETED } what;
  gint64 id;
  gboolean was_open;
} Write;

static ChoirHistory *history_of(const ChoirConversations *api) {
  return choir_twin_history(api->options->twin);
}

static void on_gone(gpointer user) {
  ((Write *)user)->request = NULL;
}

static void on_written(gint64 id, const GError *error, gpointer user) {
  Write *write = user;
  ChoirConversations *owner = write->owner;
  ChoirTwin *twin = owner ? owner->options->twin : NULL;
  if (owner)
    g_ptr_array_remove_fast(owner->writes, write);
  if (owner && !error && write->what == CREATED)
    choir_twin_open_conversation(twin, id);
  /* Something must be open: a deleted one gives way to a new one. */
  if (owner && !error && write->what == DELETED && write->was_open)
    choir_twin_open_conversation(twin, 0);
  if (write->request && error)
    choir_answer_error(write->request, error);
  else if (write->request)
    choir_answer_json(write->request, 200,
                      json_pack("{s:I}", "id", (json_int_t)(write->what == CREATED ? id : write->id)));
  g_free(write);
}

static Write *write_new(ChoirConversations *api, ChoirHttpRequest *request, int what, gint64 id) {
  Write *write = g_new0(Write, 1);
  write->owner = api;
  write->request = request;
  write->what = what;
  write->id = id;
  write->was_open = id == choir_history_current(history_of(api));
  g_ptr_array_add(api->writes, write);
  choir_http_request_on_gone(request, on_gone, write);
  return write;
}

static void on_list(ChoirHttpRequest *request, gpointer user) {
  ChoirConversations *api = user;
  g_autoptr(GError) error = NULL;
  json_t *list = choir_history_list(history_of(api), LIST_LIMIT, &error);
  if (!list) {
    choir_answer_error(request, error);
    return;
  }
  choir_answer_json(
      request, 200,
      json_pack("{s:I,s:o}", "current", (json_int_t)choir_history_current(history_of(api)), "conversations", list));
}

static const char *title_of(const json_t *json) {
  const char *title = choir_json_string(json, "title", "");
  return g_utf8_strlen(title, -1) <= MAX_TITLE ? title : NULL;
}

static void on_create(ChoirHttpRequest *request, gpointer user) {
  ChoirConversations *api = user;
  json_auto_t *json = choir_answer_body(request, TRUE);
  if (!json)
    return;
  const char *title = title_of(json);
  if (!title)
    choir_answer_bad(request, "invalid_title", "a title has at most 200 characters");
  else
    choir_history_new_conversation(history_of(api), title, on_written, write_new(api, request, CREATED, 0));
}

/* "/api/conversations/12/export" -> 12, "export". FALSE: no such thing. */
static gboolean split_path(const char *path, gint64 *ret_id, const char **ret_action) {
  char *end = NULL;
  const char *digits = path + strlen(PREFIX);
  gint64 id = g_ascii_isdigit(*digits) ? g_ascii_strtoll(digits, &end, 10) : 0;
  if (id <= 0 || id == G_MAXINT64 || (*end != '\0' && *end != '/'))
    return FALSE;
  *ret_id = id;
  *ret_action = *end == '/' ? end + 1 : "";
  return TRUE;
}

static void not_found(ChoirHttpRequest *request) {
  choir_http_respond_error(request, 404, "invalid_request_error", "not_found", "there is no such conversation");
}

static void on_read(ChoirHttpRequest *request, gpointer user) {
  ChoirConversations *api = user;
  gint64 id;
  const char *action;
  gboolean found = split_path(choir_http_request_path(request), &id, &action);
  gboolean export = found && strcmp(action, "export") == 0;
  if (!found || (!export && *action)) {
    not_found(request);
    return;
  }
  g_autoptr(GError) error = NULL;
  json_t *json = choir_history_export(history_of(api), id, &error);
  if (!json) {
    choir_answer_error(request, error);
    return;
  }
  if (!export) {
    json_auto_t *entries = choir_history_entries(history_of(api), id, 0, &error);
    json_auto_t *whole = json;
    if (!entries)
      choir_answer_error(request, error);
    else
      choir_answer_json(request, 200,
                        json_pack("{s:I,s:s,s:O}", "id", (json_int_t)id, "title", choir_json_string(whole, "title", ""),
                                  "entries", entries));
    return;
  }
  g_autofree char *text = json_dumps(json, JSON_INDENT(2)); /* a file for people */
  g_autofree char *headers = g_strdup_printf(
      CHOIR_GUARD_API_HEADERS "\nContent-Disposition: attachment; filename=\"conversation-%" G_GINT64_FORMAT ".json\"",
      id);
  json_decref(json);
  choir_http_respond(request, 200, "application/json", text, strlen(text), headers);
}

static void on_change(ChoirHttpRequest *request, gpointer user) {
  ChoirConversations *api = user;
  gint64 id;
  const char *action;
  if (!split_path(choir_http_request_path(request), &id, &action)) {
    not_found(request);
    return;
  }
  json_auto_t *json = choir_answer_body(request, TRUE);
  if (!json)
    return;
  g_autoptr(GError) error = NULL;
  json_auto_t *known = choir_history_export(history_of(api), id, &error);
  if (!known) {
    choir_answer_error(request, error);
  } else if (strcmp(action, "open") == 0) {
    choir_twin_open_conversation(api->options->twin, id);
    choir_answer_json(request, 200, json_pack("{s:I}", "id", (json_int_t)id));
  } else if (strcmp(action, "delete") == 0) {
    choir_history_delete(history_of(api), id, on_written, write_new(api, request, DELETED, id));
  } else if (strcmp(action, "rename") == 0) {
    const char *title = title_of(json);
    if (!title || !*title)
      choir_answer_bad(request, "invalid_title", "a title has 1 to 200 characters");
    else
      choir_history_rename(history_of(api), id, title, on_written, write_new(api, request, RENAMED, id));
  } else {
    not_found(request);
  }
}

ChoirConversations *choir_conversations_new(const ChoirWebOptions *options) {
  ChoirConversations *api = g_new0(ChoirConversations, 1);
  api->options = options;
  api->writes = g_ptr_array_new();
  choir_http_server_route(options->server, "GET", "/api/conversations", on_list, api);
  choir_http_server_route(options->server, "POST", "/api/conversations", on_create, api);
  choir_http_server_route(options->server, "GET", PREFIX "*", on_read, api);
  choir_http_server_route(options->server, "POST", PREFIX "*", on_change, api);
  return api;
}

void choir_conversations_free(ChoirConversations *api) {
  if (!api)
    return;
  for (guint i = 0; i < api->writes->len; i++) {
    Write *write = g_ptr_array_index(api->writes, i);
    ChoirHttpRequest *request = g_steal_pointer(&write->request);
    write->owner = NULL;
    if (request)
      choir_answer_busy(request, "stopping", "the server stops");
  }
  g_ptr_array_unref(api->writes);
  g_free(api);
}
