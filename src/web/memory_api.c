/* /api/memory: what is remembered, to be seen, added, changed, forgotten; /api/state: the original's save and load. */
#include <string.h>
#include "base/text.h"
#include "memory/memory.h"
#include "web/answer.h"
#include "web/guard.h"
#include "web/principal.h"
#include "web/web_private.h"

#define SHOWN 50
#define SHOWN_MAX 1000
#define SHORT_TERM 200 /* entries of a conversation that a state takes along */
#define IMPORT_MAX (32u << 20)

struct ChoirMemoryApi {
  const ChoirWebOptions *options;
  GPtrArray *waiting; /* Ask */
};

typedef void (*Answer)(struct ChoirMemoryApi *api, ChoirHttpRequest *request, const json_t *result, const char *name);

/* A request that the memory works on. */
typedef struct {
  ChoirMemoryApi *api;       /* NULL once it is gone */
  ChoirHttpRequest *request; /* NULL once the client left */
  Answer answer;
  char *name;
} Ask;

static void on_gone(gpointer user) {
  ((Ask *)user)->request = NULL;
}

static Ask *ask_new(ChoirMemoryApi *api, ChoirHttpRequest *request, Answer answer, const char *name) {
  Ask *ask = g_new0(Ask, 1);
  *ask = (Ask){.api = api, .request = request, .answer = answer, .name = g_strdup(name)};
  g_ptr_array_add(api->waiting, ask);
  choir_http_request_on_gone(request, on_gone, ask);
  return ask;
}

static guint status_of(const GError *error) {
  if (g_error_matches(error, CHOIR_FACTS_ERROR, CHOIR_FACTS_ERROR_NOT_FOUND))
    return 404;
  return g_error_matches(error, CHOIR_FACTS_ERROR, CHOIR_FACTS_ERROR_TEXT) ? 400 : 500;
}

static void on_done(const json_t *result, const GError *error, gpointer user) {
  Ask *ask = user;
  if (ask->api)
    g_ptr_array_remove_fast(ask->api->waiting, ask);
  if (ask->request && ask->api && error) {
    guint status = status_of(error);
    choir_http_respond_error(ask->request, status, status < 500 ? "invalid_request_error" : "server_error",
                             status == 404 ? "not_found" : "memory_failed", "%s", error->message);
  } else if (ask->request && ask->api) {
    ask->answer(ask->api, ask->request, result, ask->name);
  }
  g_free(ask->name);
  g_free(ask);
}

static void plain(ChoirMemoryApi *api, ChoirHttpRequest *request, const json_t *result, const char *name) {
  choir_answer_json(request, 200, json_deep_copy(result));
}

static void lines(ChoirMemoryApi *api, ChoirHttpRequest *request, const json_t *result, const char *name) {
  const char *text = choir_json_string(result, "lines", "");
  if (g_strcmp0(choir_http_request_query(request, "format"), "json") == 0) {
    plain(api, request, result, name);
    return;
  }
  choir_http_respond(request, 200, "application/jsonl", text, strlen(text),
                     CHOIR_GUARD_API_HEADERS "\nContent-Disposition: attachment; filename=\"memory.jsonl\"");
}

static void saved(ChoirMemoryApi *api, ChoirHttpRequest *request, const json_t *result, const char *name) {
  g_autofree char *text = g_strdup_printf("Successfully saved state to '%s'", name);
  choir_answer_json(request, 200, json_pack("{s:s}", "message", text));
}

static ChoirMemory *memory_of(ChoirMemoryApi *api, ChoirHttpRequest *request) {
  if (!api->options->memory)
    choir_http_respond_error(request, 409, "invalid_request_error", "memory_off",
                             "the memory is switched off; [memory] enabled = true turns it on");
  return api->options->memory;
}

/* Whoever may act may also change what is remembered. */
static gboolean may_change(ChoirHttpRequest *request) {
  if (choir_web_principal(request).role >= CHOIR_ROLE_OPERATOR)
    return TRUE;
  choir_http_respond_error(request, 403, "permission_error", "may_not_change", "you may read the memory only");
  return FALSE;
}

static void on_get(ChoirHttpRequest *request, gpointer user) {
  ChoirMemoryApi *api = user;
  ChoirMemory *memory = memory_of(api, request);
  const char *query = choir_http_request_query(request, "q");
  const char *text = choir_http_request_query(request, "n");
  const char *history = choir_http_request_query(request, "history");
  guint64 n = SHOWN;
  if (!memory)
    return;
  if (text && !g_ascii_string_to_unsigned(text, 10, 1, SHOWN_MAX, &n, NULL))
    choir_answer_bad(request, "n_invalid", "n must be a number from 1 to 1000");
  else if (query && g_utf8_strlen(query, -1) > CHOIR_FACTS_TEXT_MAX)
    choir_answer_bad(request, "q_invalid", "q has at most 1000 characters");
  else if (query && *query)
    choir_memory_search(memory, query, (guint)n, on_done, ask_new(api, request, plain, NULL));
  else
    choir_memory_list(memory, (guint)n, g_strcmp0(history, "1") == 0, on_done, ask_new(api, request, plain, NULL));
}

static void on_export(ChoirHttpRequest *request, gpointer user) {
  ChoirMemoryApi *api = user;
  ChoirMemory *memory = memory_of(api, request);
  if (memory)
    choir_memory_export(memory, on_done, ask_new(api, request, lines, NULL));
}

/* {"text"} or, from an export, {"lines"}. */
static void on_add(ChoirHttpRequest *request, gpointer user) {
  ChoirMemoryApi *api = user;
  ChoirMemory *memory = memory_of(api, request);
  json_auto_t *body = memory && may_change(request) ? choir_answer_body(request, FALSE) : NULL;
  if (!body)
    return;
  const char *many = choir_json_string(body, "lines", NULL);
  g_autofree char *text = g_strstrip(g_strdup(choir_json_string(body, "text", "")));
  if (many) {
    choir_memory_import(memory, many, on_done, ask_new(api, request, plain, NULL));
  } else if (!*text || g_utf8_strlen(text, -1) > CHOIR_FACTS_TEXT_MAX) {
    choir_answer_bad(request, "text_missing", "send {\"text\":\"...\"} with 1 to 1000 characters");
  } else {
    ChoirPrincipal who = choir_web_principal(request);
    ChoirFactNew fact = {.text = text, .source = who.channel == CHOIR_CHANNEL_LOOPBACK ? "api" : who.name};
    choir_memory_add(memory, &fact, on_done, ask_new(api, request, plain, NULL));
  }
}

/* The body's id, or 0 after having answered. ret_body: caller decrefs. */
static gint64 wanted(ChoirHttpRequest *request, json_t **ret_body) {
  *ret_body = may_change(request) ? choir_answer_body(request, FALSE) : NULL;
  gint64 id = choir_json_int(*ret_body, "id", 0);
  if (*ret_body && id <= 0)
    choir_answer_bad(request, "id_missing", "send {\"id\":...}, a number that GET /api/memory shows");
  return MAX(id, 0);
}

static void on_forget(ChoirHttpRequest *request, gpointer user) {
  ChoirMemoryApi *api = user;
  ChoirMemory *memory = memory_of(api, request);
  json_t *body = NULL;
  gint64 id = memory ? wanted(request, &body) : 0;
  if (id)
    choir_memory_forget(memory, id, on_done, ask_new(api, request, plain, NULL));
  json_decref(body);
}

static void on_edit(ChoirHttpRequest *request, gpointer user) {
  ChoirMemoryApi *api = user;
  ChoirMemory *memory = memory_of(api, request);
  json_t *body = NULL;
  gint64 id = memory ? wanted(request, &body) : 0;
  g_autofree char *text = g_strstrip(g_strdup(choir_json_string(body, "text", "")));
  if (id && (!*text || g_utf8_strlen(text, -1) > CHOIR_FACTS_TEXT_MAX))
    choir_answer_bad(request, "text_missing", "send {\"id\":...,\"text\":\"...\"} with 1 to 1000 characters");
  else if (id)
    choir_memory_edit(memory, id, text, on_done, ask_new(api, request, plain, NULL));
  json_decref(body);
}

/* Saved states */

/* "User: ..", "Assistant: ..", as the original kept them. */
static json_t *short_term(ChoirMemoryApi *api) {
  ChoirHistory *history = choir_twin_history(api->options->twin);
  json_auto_t *entries = choir_history_entries(history, choir_history_current(history), SHORT_TERM, NULL);
  json_t *list = json_array();
  size_t i;
  json_t *entry;
  json_array_foreach(entries, i, entry) {
    gboolean person = g_str_equal(choir_json_string(entry, "role", ""), "user");
    g_autofree char *text = g_strconcat(person ? "User: " : "Assistant: ", choir_json_string(entry, "text", ""), NULL);
    json_array_append_new(list, json_string(text));
  }
  return list;
}

typedef struct {
  ChoirTwin *twin;
  ChoirHistory *history;
  json_t *entries;
} Restore;

static void on_conversation(gint64 id, const GError *error, gpointer user) {
  Restore *restore = user;
  size_t i;
  json_t *text;
  if (!error) {
    json_array_foreach(restore->entries, i, text) {
      const char *said = json_string_value(text);
      gboolean person = g_str_has_prefix(said, "User:");
      const char *colon = strchr(said, ':');
      ChoirHistoryEntry entry = {.role = person ? "user" : "assistant",
                                 .text = colon ? colon + 1 + strspn(colon + 1, " ") : said,
                                 .source = "state"};
      if (*entry.text)
        choir_history_append(restore->history, id, &entry, NULL, NULL);
    }
    choir_twin_open_conversation(restore->twin, id);
  }
  json_decref(restore->entries);
  g_free(restore);
}

/* The conversation of the state becomes a new one: the one that is open stays in the list. */
static void loaded(ChoirMemoryApi *api, ChoirHttpRequest *request, const json_t *result, const char *name) {
  g_autofree char *text = g_strdup_printf("Successfully loaded state from '%s'", name);
  json_t *entries = json_object_get(result, "short_term");
  if (json_array_size(entries) > 0) {
    Restore *restore = g_new0(Restore, 1);
    restore->twin = api->options->twin;
    restore->history = choir_twin_history(api->options->twin);
    restore->entries = json_incref(entries);
    choir_history_new_conversation(restore->history, name, on_conversation, restore);
  }
  choir_answer_json(request, 200, json_pack("{s:s}", "message", text));
}

static void on_state(ChoirHttpRequest *request, ChoirMemoryApi *api, gboolean load) {
  ChoirMemory *memory = memory_of(api, request);
  json_auto_t *body = memory && may_change(request) ? choir_answer_body(request, TRUE) : NULL;
  if (!body)
    return;
  const char *name = choir_json_string(body, "save_name", "");
  if (!*name) {
    choir_answer_bad(request, "save_name_missing", "save_name is required");
  } else if (!choir_memory_state_name_ok(name)) {
    choir_answer_bad(request, "save_name_invalid",
                     "save_name may have up to 64 letters, digits and _.- and does not begin with a dot");
  } else if (load) {
    choir_memory_load_state(memory, name, on_done, ask_new(api, request, loaded, name));
  } else {
    json_auto_t *said = short_term(api);
    choir_memory_save_state(memory, name, said, on_done, ask_new(api, request, saved, name));
  }
}

static void on_save(ChoirHttpRequest *request, gpointer user) {
  on_state(request, user, FALSE);
}

static void on_load(ChoirHttpRequest *request, gpointer user) {
  on_state(request, user, TRUE);
}

ChoirMemoryApi *choir_memory_api_new(const ChoirWebOptions *options) {
  ChoirMemoryApi *api = g_new0(ChoirMemoryApi, 1);
  api->options = options;
  api->waiting = g_ptr_array_new();
  choir_http_server_route(options->server, "GET", "/api/memory", on_get, api);
  choir_http_server_route(options->server, "POST", "/api/memory", on_add, api);
  choir_http_server_route(options->server, "GET", "/api/memory/export", on_export, api);
  choir_http_server_route(options->server, "POST", "/api/memory/forget", on_forget, api);
  choir_http_server_route(options->server, "POST", "/api/memory/edit", on_edit, api);
  choir_http_server_route(options->server, "POST", "/api/state/save", on_save, api);
  choir_http_server_route(options->server, "POST", "/api/state/load", on_load, api);
  choir_http_server_allow_body(options->server, "/api/memory", IMPORT_MAX);
  return api;
}

void choir_memory_api_free(ChoirMemoryApi *api) {
  if (!api)
    return;
  for (guint i = 0; i < api->waiting->len; i++) {
    Ask *ask = g_ptr_array_index(api->waiting, i);
    ChoirHttpRequest *request = g_steal_pointer(&ask->request);
    ask->api = NULL;
    if (request)
      choir_answer_busy(request, "stopping", "the server stops");
  }
  g_ptr_array_unref(api->waiting);
  g_free(api);
}
