/* Chat completions of a llama-server (or any OpenAI-compatible server), streamed. Main thread only. */
#pragma once
#include <gio/gio.h>
#include <jansson.h>
#include "net/http_client.h"

typedef struct {
  gint prompt_tokens;    /* all tokens of the prompt */
  gint cached_tokens;    /* of these, taken from the slot's cache; -1 when the server does not say */
  gint evaluated_tokens; /* timings.prompt_n */
  gint reply_tokens;
  double prompt_ms, reply_ms;
} ChoirChatTimings;

typedef struct {
  json_t *messages; /* [{role, content}], borrowed */
  int slot;         /* id_slot, -1 = any */
  int max_tokens;   /* 0 with warm = evaluate the prompt only (n_predict 0) */
  double temperature;
  double top_p;            /* 0 = server default */
  guint64 seed;            /* 0 = random */
  const char *const *stop; /* may be NULL */
  const char *grammar;     /* GBNF or NULL */
  double repeat_penalty;   /* 0 = server default (none) */
  const json_t *tools;     /* OpenAI's list, sent as it is; borrowed, NULL = none */
  gboolean warm;           /* evaluate the messages as a prefix, generate nothing; no assistant turn is opened */
} ChoirChatRequest;

typedef struct ChoirChat ChoirChat;         /* one server */
typedef struct ChoirChatCall ChoirChatCall; /* one request in flight */

typedef struct {
  void (*delta)(const char *text, gpointer user);
  /* A function that the model wants called, whole, before done; arguments: what it wrote, whatever that is. May be
   * NULL.
   */
  void (*call)(const char *name, const char *arguments, gpointer user);
  /* finish: "stop" "length" or NULL; error NULL on success. Runs exactly once, the call is freed after it returns. */
  void (*done)(const char *finish, const ChoirChatTimings *timings, const GError *error, gpointer user);
} ChoirChatHandlers;

ChoirChat *choir_chat_new(ChoirHttpClient *http, const char *base_url /* without /v1 */,
                          const char *api_key /* NULL */);
void choir_chat_free(ChoirChat *chat);
ChoirChatCall *choir_chat_begin(ChoirChat *chat, const ChoirChatRequest *request, const ChoirChatHandlers *handlers,
                                gpointer user);
/* Closes the connection at once (the server then drops the slot's work); done still runs, with G_IO_ERROR_CANCELLED. */
void choir_chat_cancel(ChoirChatCall *call);
const char *choir_chat_base_url(const ChoirChat *chat);

/* For servers that choose a new port when they start again; calls in flight keep the old address. */
void choir_chat_set_server(ChoirChat *chat, const char *base_url, const char *api_key);
/* model: the name other makes of servers insist on, NULL to leave it out. plain: not a llama-server, so nothing that
 * only llama-server knows is sent: no slots, no prefix evaluation. */
void choir_chat_set_model(ChoirChat *chat, const char *model, gboolean plain);
gboolean choir_chat_plain(const ChoirChat *chat);
/* A llama-server that others use, too: it chooses the slot, by the prompt that is in it. */
void choir_chat_set_shared(ChoirChat *chat, gboolean shared);
gboolean choir_chat_shared(const ChoirChat *chat);
/* "Authorization: Bearer ..." or NULL: for the server's other routes. */
const char *choir_chat_headers(const ChoirChat *chat);
ChoirHttpClient *choir_chat_http(ChoirChat *chat); /* for those, too */

#define CHOIR_CHAT_ERROR (choir_chat_error_quark())
GQuark choir_chat_error_quark(void);
enum {
  CHOIR_CHAT_ERROR_PROTOCOL, /* the answer is not what the protocol says, or the stream ended in the middle */
  CHOIR_CHAT_ERROR_SERVER,   /* the server reported an error inside the stream */
  CHOIR_CHAT_ERROR_CONTEXT,  /* the prompt is longer than the slot's context */
};
