#include "cli/chat_cards.h"
#include <stdio.h>
#include <string.h>
#include "base/text.h"
#include "cli/cli.h"
#include "cli/wsclient.h"

#define NAME "chat"
#define TYPED_MAX 256
#define SYNC_WAIT 2 /* seconds */

struct ChoirChatCards {
  ChoirWsClient *client;
  GPtrArray *waiting; /* json_t *: data of approval_request, the first one is shown */
  GString *typed;     /* since it was shown: what was typed before is no answer to it */
  gboolean quiet;
  gboolean in_line; /* what a tool put out last has no end of line */
  enum { OPENING, OPEN, CLOSED } state;
  gint64 sync; /* the number of the last one asked for */
  guint late;  /* a source; 0 when nothing is awaited */
  void (*synced)(gpointer user);
  void (*idle)(gpointer user);
  gpointer user;
};

static void card_free(gpointer data) {
  json_decref(data);
}

static void show(const json_t *card) {
  const json_t *call = json_object_get(card, "tool_call");
  char *args = json_dumps(json_object_get(call, "args"), JSON_INDENT(1) | JSON_SORT_KEYS | JSON_ENCODE_ANY);
  fprintf(stderr, "\n%s wants to run on %s, class %s, %" G_GINT64_FORMAT " s left:\n%s\n",
          choir_json_string(call, "tool", ""), choir_json_string(card, "target", ""),
          choir_json_string(card, "class", ""), choir_json_int(card, "expires_ms", 0) / 1000, args ? args : "");
  free(args);
  size_t i;
  json_t *reason;
  json_array_foreach(json_object_get(card, "reasons"), i, reason) fprintf(stderr, "! %s\n", json_string_value(reason));
  const char *preview = choir_json_string(card, "preview", "");
  if (*preview)
    fprintf(stderr, "%s\n", preview);
}

static void show_first(ChoirChatCards *cards) {
  g_string_truncate(cards->typed, 0);
  if (cards->waiting->len == 0) {
    cards->idle(cards->user);
    return;
  }
  show(cards->waiting->pdata[0]);
  fprintf(stderr, "approve? [y/N] ");
}

static void on_request(ChoirChatCards *cards, const json_t *card) {
  if (!choir_json_bool(card, "may_answer", FALSE)) {
    choir_cli_fail(NAME, "something waits for an approval that cannot be given here; use choir approve or the page");
    return;
  }
  if (cards->quiet) {
    choir_cli_fail(NAME, "%s waits for an approval: choir approve %s",
                   choir_json_string(json_object_get(card, "tool_call"), "tool", ""),
                   choir_json_string(card, "request_id", ""));
    return;
  }
  g_ptr_array_add(cards->waiting, json_deep_copy(card));
  if (cards->waiting->len == 1)
    show_first(cards);
}

static void on_closed_card(ChoirChatCards *cards, const json_t *closed) {
  const char *id = choir_json_string(closed, "request_id", "");
  for (guint i = 0; i < cards->waiting->len; i++)
    if (strcmp(choir_json_string(cards->waiting->pdata[i], "request_id", ""), id) == 0) {
      fprintf(stderr, "[%s]\n", choir_json_string(closed, "verdict", "closed"));
      g_ptr_array_remove_index(cards->waiting, i);
      if (i == 0)
        show_first(cards);
      return;
    }
}

/* What a tool of a terminal's turn does and finds, beside the answer, which may say less. */
static void on_tool(ChoirChatCards *cards, const char *type, const char *text) {
  if (strcmp(type, "tool") == 0) {
    g_autoptr(GError) error = NULL;
    json_auto_t *call = choir_json_parse(text, strlen(text), &error);
    g_autofree char *args = call ? choir_json_dump(json_object_get(call, "args")) : NULL;
    fprintf(stderr, "\n%s[%s %s]%s\n", choir_cli_style(CHOIR_CLI_DIM), choir_json_string(call, "tool", ""),
            args ? args : "", choir_cli_style(CHOIR_CLI_PLAIN));
  } else {
    fprintf(stderr, "%s%s%s", choir_cli_style(CHOIR_CLI_DIM), text, choir_cli_style(CHOIR_CLI_PLAIN));
    cards->in_line = *text && text[strlen(text) - 1] != '\n';
  }
}

static void sync_ends(ChoirChatCards *cards) {
  if (cards->late == 0)
    return;
  g_source_remove(cards->late);
  cards->late = 0;
  cards->synced(cards->user);
}

static gboolean on_late(gpointer user) {
  ChoirChatCards *cards = user;
  cards->late = 0;
  cards->synced(cards->user);
  return G_SOURCE_REMOVE;
}

static void send_sync(ChoirChatCards *cards) {
  choir_wsclient_send(cards->client, json_pack("{s:s,s:I}", "type", "sync", "id", (json_int_t)cards->sync));
}

void choir_chat_cards_sync(ChoirChatCards *cards, void (*synced)(gpointer user)) {
  if (cards->state == CLOSED) {
    synced(cards->user);
    return;
  }
  cards->synced = synced;
  cards->late = g_timeout_add_seconds(SYNC_WAIT, on_late, cards);
  cards->sync++;
  if (cards->state == OPEN)
    send_sync(cards);
}

static void on_event(const json_t *event, const char *type, gpointer user) {
  ChoirChatCards *cards = user;
  gboolean tool = strcmp(type, "tool") == 0 || strcmp(type, "tool_output") == 0;
  if (tool && strcmp(choir_json_string(event, "source", ""), "cli") == 0)
    on_tool(cards, type, choir_json_string(event, "data", choir_json_string(event, "text", "")));
  if (strcmp(type, "sync") == 0 && choir_json_int(event, "id", 0) == cards->sync)
    sync_ends(cards);
  else if (strcmp(type, "approval_request") == 0)
    on_request(cards, json_object_get(event, "data"));
  else if (strcmp(type, "approval_closed") == 0)
    on_closed_card(cards, json_object_get(event, "data"));
  else if (strcmp(type, "error") == 0 && cards->waiting->len > 0)
    choir_cli_fail(NAME, "%s", choir_json_string(event, "data", ""));
}

static void on_open(gpointer user) {
  ChoirChatCards *cards = user;
  cards->state = OPEN;
  choir_wsclient_send(cards->client,
                      json_pack("{s:s,s:s,s:s}", "type", "log_filter", "level", "error", "topic", "none"));
  if (cards->late)
    send_sync(cards);
}

/* The conversation's own socket says what is wrong. */
static void on_closed(const char *why, gpointer user) {
  ChoirChatCards *cards = user;
  cards->state = CLOSED;
  sync_ends(cards);
}

static void answer(ChoirChatCards *cards, gboolean yes) {
  const json_t *card = cards->waiting->pdata[0];
  choir_wsclient_send(cards->client, json_pack("{s:s,s:{s:s,s:s,s:b}}", "type", "approval_response", "data",
                                               "request_id", choir_json_string(card, "request_id", ""), "digest",
                                               choir_json_string(card, "digest", ""), "approved", (int)yes));
}

void choir_chat_cards_typed(ChoirChatCards *cards, const char *text, gsize length) {
  for (gsize i = 0; i < length && cards->waiting->len > 0; i++) {
    if (text[i] != '\n') {
      if (cards->typed->len < TYPED_MAX)
        g_string_append_c(cards->typed, text[i]);
      continue;
    }
    g_strstrip(cards->typed->str);
    gboolean yes = g_ascii_strcasecmp(cards->typed->str, "y") == 0 || g_ascii_strcasecmp(cards->typed->str, "yes") == 0;
    g_string_truncate(cards->typed, 0);
    answer(cards, yes);
    return; /* the rest of what came with it answers nothing */
  }
}

void choir_chat_cards_end_line(ChoirChatCards *cards) {
  if (cards && cards->in_line)
    fputc('\n', stderr);
  if (cards)
    cards->in_line = FALSE;
}

gboolean choir_chat_cards_waiting(const ChoirChatCards *cards) {
  return cards && cards->waiting->len > 0;
}

ChoirChatCards *choir_chat_cards_new(const char *url, gboolean quiet, void (*idle)(gpointer user), gpointer user) {
  static const ChoirWsClientHandlers handlers = {.open = on_open, .event = on_event, .closed = on_closed};
  ChoirChatCards *cards = g_new0(ChoirChatCards, 1);
  cards->waiting = g_ptr_array_new_with_free_func(card_free);
  cards->typed = g_string_new(NULL);
  cards->quiet = quiet;
  cards->idle = idle;
  cards->user = user;
  cards->client = choir_wsclient_open(url, "/ws", &handlers, cards);
  return cards;
}

void choir_chat_cards_free(ChoirChatCards *cards) {
  if (!cards)
    return;
  choir_wsclient_free(cards->client);
  if (cards->late)
    g_source_remove(cards->late);
  g_ptr_array_unref(cards->waiting);
  g_string_free(cards->typed, TRUE);
  g_free(cards);
}
