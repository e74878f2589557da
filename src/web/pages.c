/* /ws: every open page sees the log, what is said by any way in, and the answers. Nothing here waits for a reader: what
 * a slow page cannot take is dropped (log lines first) and counted, and the socket's own stall rule cuts a dead one. */
#include <string.h>
#include "base/log.h"
#include "base/metrics.h"
#include "base/text.h"
#include "base/version.h"
#include "web/answer.h"
#include "web/principal.h"
#include "web/web_private.h"

#define BACKLOG 200
#define MAX_MESSAGE (64 * 1024)
#define MAX_QUEUE (1024 * 1024)

struct ChoirPages {
  const ChoirWebOptions *options;
  GPtrArray *pages; /* Page */
  guint observer, approvals_observer, saved_observer;
  gint64 saved;
  guint max_pages;
  gboolean sending; /* a log line of our own sending must not be sent in turn */
  ChoirMetric *gauge, *dropped_log, *dropped_event;
};

typedef struct {
  ChoirPages *owner; /* NULL once the owner is gone */
  ChoirWebSocket *socket;
  ChoirProof proof;
  GHashTable *asked; /* request id -> digest: what this very socket was shown and may answer */
  guint log_id;
  ChoirLogLevel level;
  GPatternSpec *topic;
} Page;

static gboolean send_json(Page *page, json_t *json /* stolen */) {
  g_autofree char *text = choir_json_dump(json);
  json_decref(json);
  return choir_websocket_send_text(page->socket, text, -1);
}

static void on_log(const ChoirLogLine *line, gpointer user) {
  Page *page = user;
  ChoirPages *owner = page->owner;
  if (!owner || owner->sending || line->level > page->level || !g_pattern_spec_match_string(page->topic, line->topic))
    return;
  if (choir_websocket_queued(page->socket) > MAX_QUEUE / 2) {
    choir_counter_add(owner->dropped_log, 1);
    return;
  }
  owner->sending = TRUE;
  json_t *json = json_pack("{s:s,s:s,s:s,s:s,s:f,s:I}", "type", "log", "data", line->text, "topic", line->topic,
                           "level", choir_log_level_name(line->level), "time", (double)line->wall_us / 1e6, "serial",
                           (json_int_t)line->serial);
  if (!send_json(page, json))
    choir_counter_add(owner->dropped_log, 1);
  owner->sending = FALSE;
}

static void add_string(json_t *json, const char *key, const char *value) {
  if (value)
    json_object_set_new(json, key, json_string(value));
}

static void on_twin(const ChoirTwinEvent *event, gpointer user) {
  ChoirPages *pages = user;
  if (pages->pages->len == 0)
    return;
  gboolean cut = strcmp(event->type, "cut") == 0;
  json_auto_t *json = json_pack("{s:s}", "type", cut ? "agent" : event->type);
  json_object_set_new(json, "data", json_string(event->text ? event->text : ""));
  add_string(json, "turn_id", event->turn_id);
  add_string(json, "source", event->source);
  add_string(json, "request_id", event->request_id);
  if (cut)
    json_object_set_new(json, "cut", json_true());
  g_autofree char *text = choir_json_dump(json);
  pages->sending = TRUE;
  for (guint i = 0; i < pages->pages->len; i++) {
    Page *page = g_ptr_array_index(pages->pages, i);
    if (!choir_websocket_send_text(page->socket, text, -1))
      choir_counter_add(pages->dropped_event, 1);
  }
  pages->sending = FALSE;
}

/* --- approvals, in the original's messages --------------------------------------------------------------------------
 */

static json_t *request_data(const json_t *card, gboolean may_answer) {
  static const char *const copied[] = {"digest", "action",  "target",  "session",
                                       "class",  "reasons", "preview", "expires_ms"};
  g_autofree char *tool =
      g_strdup_printf("%s.%s", choir_json_string(card, "tool", ""), choir_json_string(card, "action", ""));
  json_t *data = json_pack("{s:s,s:{s:s,s:O},s:b}", "request_id", choir_json_string(card, "id", ""), "tool_call",
                           "tool", tool, "args", json_object_get(card, "args"), "may_answer", (int)may_answer);
  for (gsize i = 0; i < G_N_ELEMENTS(copied); i++)
    if (json_object_get(card, copied[i]))
      json_object_set(data, copied[i], json_object_get(card, copied[i]));
  return data;
}

static void show_request(Page *page, const json_t *card) {
  ChoirPrincipal who = choir_web_principal_of(&page->proof);
  if (who.role < CHOIR_ROLE_VIEWER)
    return;
  json_t *data = request_data(card, choir_principal_may_approve(&who));
  if (send_json(page, json_pack("{s:s,s:o}", "type", "approval_request", "data", data)))
    g_hash_table_insert(page->asked, g_strdup(choir_json_string(card, "id", "")),
                        g_strdup(choir_json_string(card, "digest", "")));
  else
    choir_counter_add(page->owner->dropped_event, 1);
}

static void show_closed(Page *page, const json_t *card) {
  const char *id = choir_json_string(card, "id", ""), *by = choir_json_string(card, "by", NULL);
  if (!g_hash_table_remove(page->asked, id))
    return;
  json_t *data = json_pack("{s:s,s:s}", "request_id", id, "verdict", choir_json_string(card, "verdict", ""));
  if (by)
    json_object_set_new(data, "by", json_string(by));
  if (!send_json(page, json_pack("{s:s,s:o}", "type", "approval_closed", "data", data)))
    choir_counter_add(page->owner->dropped_event, 1);
}

static void on_approval(const char *change, const json_t *card, gpointer user) {
  ChoirPages *pages = user;
  pages->sending = TRUE;
  for (guint i = 0; i < pages->pages->len; i++) {
    if (strcmp(change, "new") == 0)
      show_request(pages->pages->pdata[i], card);
    else
      show_closed(pages->pages->pdata[i], card);
  }
  pages->sending = FALSE;
}

/* --- what is acknowledged, so that a page can tell what a takeover has lost -----------------------------------------
 */

static void add_saved(const ChoirPages *pages, json_t *json) {
  const ChoirShip *ship = pages->options->ship;
  json_object_set_new(json, "turns", json_integer(choir_history_saved(choir_twin_history(pages->options->twin))));
  if (!ship)
    return;
  json_object_set_new(json, "epoch", json_integer(choir_ship_epoch(ship)));
  json_object_set_new(json, "node", json_string(choir_ship_node(ship)));
  if (choir_ship_taken_turns(ship) >= 0)
    json_object_set_new(json, "taken_turns", json_integer(choir_ship_taken_turns(ship)));
}

static void on_saved(gpointer user) {
  ChoirPages *pages = user;
  gint64 saved = choir_history_saved(choir_twin_history(pages->options->twin));
  if (saved == pages->saved)
    return;
  pages->saved = saved;
  pages->sending = TRUE;
  for (guint i = 0; i < pages->pages->len; i++) {
    json_t *json = json_pack("{s:s}", "type", "saved");
    add_saved(pages, json);
    if (!send_json(pages->pages->pdata[i], json))
      choir_counter_add(pages->dropped_event, 1);
  }
  pages->sending = FALSE;
}

static void on_seen(Page *page, const json_t *json) {
  ChoirShip *ship = page->owner->options->ship;
  if (ship && choir_web_principal_of(&page->proof).role >= CHOIR_ROLE_VIEWER)
    choir_ship_seen(ship, choir_json_int(json, "epoch", -1), choir_json_int(json, "turns", -1));
}

/* --- from the page -------------------------------------------------------------------------------------------------
 */

static void on_turn_delta(ChoirTurn *turn, const char *text, gpointer user) {
}

static void on_turn_done(ChoirTurn *turn, const char *reply, const GError *error, gpointer user) {
}

static void page_error(Page *page, const char *message) {
  send_json(page, json_pack("{s:s,s:s}", "type", "error", "data", message));
}

static void on_user_message(Page *page, const json_t *json) {
  /* The observers bring the answer to every page, this one included. */
  static const ChoirTurnHandlers handlers = {.delta = on_turn_delta, .done = on_turn_done};
  const char *why;
  const char *text = choir_answer_text(json, &why);
  if (choir_web_principal_of(&page->proof).role < CHOIR_ROLE_OPERATOR) {
    page_error(page, "you may watch here, but not talk: that needs the role operator");
    return;
  }
  if (!text) {
    page_error(page, why);
    return;
  }
  const char *named = choir_json_string(json, "source", "");
  const char *source = strcmp(named, "page") == 0 ? "page" : strcmp(named, "cli") == 0 ? "cli" : "ws";
  const char *request_id = choir_json_string(json, "request_id", NULL);
  ChoirTurnRequest request = {
      .text = text, .source = source, .request_id = request_id && strlen(request_id) <= 128 ? request_id : NULL};
  g_autoptr(GError) error = NULL;
  if (!choir_twin_begin(page->owner->options->twin, &request, &handlers, NULL, &error))
    page_error(page, error->message);
}

static void on_approval_response(Page *page, const json_t *json) {
  ChoirApprovals *approvals = page->owner->options->approvals;
  const json_t *data = json_object_get(json, "data");
  const char *id = choir_json_string(data, "request_id", "");
  const char *shown = g_hash_table_lookup(page->asked, id);
  ChoirPrincipal who = choir_web_principal_of(&page->proof);
  g_autoptr(GError) error = NULL;
  if (!json_is_boolean(json_object_get(data, "approved"))) {
    page_error(page, "an approval_response has data {request_id, approved: true or false}");
    return;
  }
  if (!approvals || !shown) {
    page_error(page, "this connection was not asked that, or it was answered already, or it expired");
    return;
  }
  /* The answer may close it for every page, this one's entry included. */
  g_autofree char *digest = g_strdup(choir_json_string(data, "digest", shown));
  if (!choir_approvals_answer(approvals, id, digest, choir_json_bool(data, "approved", FALSE),
                              choir_json_bool(data, "grant", FALSE), &who, &error))
    page_error(page, error->message);
}

static void on_log_filter(Page *page, const json_t *json) {
  const char *level = choir_json_string(json, "level", "info");
  const char *topic = choir_json_string(json, "topic", "*");
  for (ChoirLogLevel known = CHOIR_LOG_ERROR; known <= CHOIR_LOG_DEBUG; known++)
    if (strcmp(choir_log_level_name(known), level) == 0)
      page->level = known;
  if (strlen(topic) > 64)
    return;
  g_pattern_spec_free(page->topic);
  page->topic = g_pattern_spec_new(topic);
}

static void on_message(ChoirWebSocket *socket, gboolean is_text, const char *data, gsize length, gpointer user) {
  Page *page = user;
  if (!page->owner)
    return;
  json_auto_t *json = is_text ? choir_json_parse(data, length, NULL) : NULL;
  const char *type = json_is_object(json) ? choir_json_string(json, "type", "") : NULL;
  if (!type)
    page_error(page, "a message is a JSON object with a 'type'");
  else if (strcmp(type, "user_message") == 0)
    on_user_message(page, json);
  else if (strcmp(type, "approval_response") == 0)
    on_approval_response(page, json);
  else if (strcmp(type, "log_filter") == 0)
    on_log_filter(page, json);
  else if (strcmp(type, "seen") == 0)
    on_seen(page, json);
  else if (strcmp(type, "sync") == 0)
    send_json(page, json_pack("{s:s,s:I}", "type", "sync", "id", (json_int_t)choir_json_int(json, "id", 0)));
  else
    page_error(page, "types are user_message, approval_response, log_filter, seen and sync");
}

static void page_quiet(Page *page) {
  if (page->log_id)
    choir_log_unlisten(page->log_id);
  page->log_id = 0;
  page->owner = NULL;
}

static void page_free(Page *page) {
  g_pattern_spec_free(page->topic);
  g_hash_table_unref(page->asked);
  g_free(page);
}

static void on_closed(ChoirWebSocket *socket, guint16 code, gpointer user) {
  Page *page = user;
  ChoirPages *owner = page->owner;
  if (owner) {
    g_ptr_array_remove_fast(owner->pages, page);
    choir_gauge_set(owner->gauge, owner->pages->len);
  }
  page_quiet(page);
  page_free(page);
}

static void show_waiting(Page *page) {
  ChoirApprovals *approvals = page->owner->options->approvals;
  json_auto_t *list = approvals ? choir_approvals_list(approvals) : NULL;
  for (size_t i = 0; i < json_array_size(list); i++)
    show_request(page, json_array_get(list, i));
}

static void on_upgrade(ChoirHttpRequest *request, gpointer user) {
  static const ChoirWebSocketHandlers handlers = {
      .message = on_message, .closed = on_closed, .max_message = MAX_MESSAGE, .max_queue = MAX_QUEUE};
  ChoirPages *owner = user;
  if (owner->pages->len >= owner->max_pages) {
    choir_answer_busy(request, "too_many_pages", "too many pages are open: close one, or raise [web] max_pages");
    return;
  }
  Page *page = g_new0(Page, 1);
  page->owner = owner;
  page->level = CHOIR_LOG_INFO;
  page->topic = g_pattern_spec_new("*");
  page->proof = choir_web_proof(request);
  page->asked = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
  page->socket = choir_http_upgrade(request, NULL, &handlers, page);
  if (!page->socket) {
    page_free(page);
    return;
  }
  g_ptr_array_add(owner->pages, page);
  choir_gauge_set(owner->gauge, owner->pages->len);
  gint64 conversation = choir_history_current(choir_twin_history(owner->options->twin));
  json_t *hello =
      json_pack("{s:s,s:s,s:I}", "type", "hello", "version", choir_version(), "conversation", (json_int_t)conversation);
  add_saved(owner, hello);
  send_json(page, hello);
  page->log_id = choir_log_listen(BACKLOG, on_log, page);
  show_waiting(page);
}

ChoirPages *choir_pages_new(const ChoirWebOptions *options) {
  ChoirPages *pages = g_new0(ChoirPages, 1);
  pages->options = options;
  pages->pages = g_ptr_array_new();
  pages->max_pages = (guint)choir_config_int(options->config, "web", "max_pages");
  pages->gauge = choir_gauge("choir_page_clients", NULL, "Open /ws connections.");
  pages->dropped_log =
      choir_counter("choir_page_dropped_total", "what=\"log\"", "Messages that a slow page did not get.");
  pages->dropped_event =
      choir_counter("choir_page_dropped_total", "what=\"event\"", "Messages that a slow page did not get.");
  pages->observer = choir_twin_observe(options->twin, on_twin, pages);
  pages->saved = choir_history_saved(choir_twin_history(options->twin));
  pages->saved_observer = choir_history_observe(choir_twin_history(options->twin), on_saved, pages);
  if (options->approvals)
    pages->approvals_observer = choir_approvals_observe(options->approvals, on_approval, pages);
  choir_http_server_route(options->server, "GET", "/ws", on_upgrade, pages);
  return pages;
}

void choir_pages_free(ChoirPages *pages) {
  if (!pages)
    return;
  choir_twin_unobserve(pages->options->twin, pages->observer);
  choir_history_unobserve(choir_twin_history(pages->options->twin), pages->saved_observer);
  if (pages->approvals_observer)
    choir_approvals_unobserve(pages->options->approvals, pages->approvals_observer);
  for (guint i = 0; i < pages->pages->len; i++) {
    Page *page = g_ptr_array_index(pages->pages, i);
    page_quiet(page);
    choir_websocket_close(page->socket, 1001, "the server stops");
  }
  g_ptr_array_unref(pages->pages);
  g_free(pages);
}
