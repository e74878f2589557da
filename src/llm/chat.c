#include "llm/chat.h"
#include <string.h>
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"

/* Longest silence inside a stream. The server sends a comment line every 30 s while a slow processor reads a prompt. */
#define IDLE_MS 120000
#define MAX_BAD_EVENTS 8
#define MAX_CALLS 8
#define MAX_ARGUMENTS (64u << 10) /* bytes of one call's */
#define MAX_PLAIN_STOPS 4         /* OpenAI's own limit; the request would be refused */

G_DEFINE_QUARK(choir - chat - error - quark, choir_chat_error)

struct ChoirChat {
  ChoirHttpClient *http;
  char *base_url, *api_key, *headers, *model;
  gboolean plain, shared;
};

struct ChoirChatCall {
  ChoirChatHandlers handlers;
  gpointer user;
  GCancellable *cancellable;
  ChoirChatTimings timings;
  char *finish;
  GError *error;     /* what the stream itself said; wins over how the connection ended */
  gboolean finished; /* [DONE] or a finish reason was seen */
  guint bad_events;
  struct {
    char *name;
    GString *arguments;
  } calls[MAX_CALLS];
};

ChoirChat *choir_chat_new(ChoirHttpClient *http, const char *base_url, const char *api_key) {
  ChoirChat *chat = g_new0(ChoirChat, 1);
  chat->http = http;
  choir_chat_set_server(chat, base_url, api_key);
  return chat;
}

void choir_chat_set_server(ChoirChat *chat, const char *base_url, const char *api_key) {
  char *url = g_strdup(base_url);
  for (gsize n = strlen(url); n > 0 && url[n - 1] == '/'; n--)
    url[n - 1] = 0;
  /* People paste the address with /v1, as most clients want it. */
  if (g_str_has_suffix(url, "/v1"))
    url[strlen(url) - 3] = 0;
  char *key = g_strdup(api_key && *api_key ? api_key : NULL);
  g_free(chat->base_url);
  g_free(chat->api_key);
  g_free(chat->headers);
  chat->base_url = url;
  chat->api_key = key;
  chat->headers = key ? g_strdup_printf("Authorization: Bearer %s", key) : NULL;
  if (key)
    choir_log_add_secret(key);
}

void choir_chat_free(ChoirChat *chat) {
  if (!chat)
    return;
  g_free(chat->base_url);
  g_free(chat->api_key);
  g_free(chat->headers);
  g_free(chat->model);
  g_free(chat);
}

const char *choir_chat_base_url(const ChoirChat *chat) {
  return chat->base_url;
}

void choir_chat_set_model(ChoirChat *chat, const char *model, gboolean plain) {
  char *copy = g_strdup(model);
  g_free(chat->model);
  chat->model = copy;
  chat->plain = plain;
}

gboolean choir_chat_plain(const ChoirChat *chat) {
  return chat->plain;
}

void choir_chat_set_shared(ChoirChat *chat, gboolean shared) {
  chat->shared = shared;
}

gboolean choir_chat_shared(const ChoirChat *chat) {
  return chat->shared;
}

const char *choir_chat_headers(const ChoirChat *chat) {
  return chat->headers;
}

ChoirHttpClient *choir_chat_http(ChoirChat *chat) {
  return chat->http;
}

static json_t *request_json(const ChoirChat *chat, const ChoirChatRequest *request) {
  json_t *body = json_pack("{s:O,s:b,s:{s:b},s:f,s:i}", "messages", request->messages, "stream", 1, "stream_options",
                           "include_usage", 1, "temperature", request->temperature, "max_tokens",
                           request->warm ? 0 : request->max_tokens);
  if (chat->model)
    json_object_set_new(body, "model", json_string(chat->model));
  if (!chat->plain) {
    json_object_set_new(body, "cache_prompt", json_true());
    /* With each piece, so that an answer that is stopped early has its counts, too. */
    json_object_set_new(body, "timings_per_token", json_true());
  }
  if (request->warm) {
    /* Without the opening of the assistant's turn the evaluated tokens are a true prefix of what comes later. */
    json_object_set_new(body, "n_predict", json_integer(0));
    json_object_set_new(body, "add_generation_prompt", json_false());
  }
  if (request->slot >= 0 && !chat->plain && !chat->shared)
    json_object_set_new(body, "id_slot", json_integer(request->slot));
  if (request->top_p > 0)
    json_object_set_new(body, "top_p", json_real(request->top_p));
  if (request->repeat_penalty > 0 && !chat->plain)
    json_object_set_new(body, "repeat_penalty", json_real(request->repeat_penalty));
  if (request->seed)
    json_object_set_new(body, "seed", json_integer((json_int_t)(request->seed & G_MAXUINT32)));
  if (request->grammar && !chat->plain)
    json_object_set_new(body, "grammar", json_string(request->grammar));
  if (request->tools)
    json_object_set(body, "tools", (json_t *)request->tools);
  if (request->stop && request->stop[0]) {
    json_t *stop = json_array();
    for (const char *const *s = request->stop; *s && !(chat->plain && json_array_size(stop) == MAX_PLAIN_STOPS); s++)
      json_array_append_new(stop, json_string(*s));
    json_object_set_new(body, "stop", stop);
  }
  return body;
}

static void read_timings(ChoirChatCall *call, json_t *root) {
  json_t *timings = json_object_get(root, "timings");
  if (json_is_object(timings)) {
    call->timings.cached_tokens = (gint)choir_json_int(timings, "cache_n", -1);
    call->timings.evaluated_tokens = (gint)choir_json_int(timings, "prompt_n", 0);
    call->timings.prompt_tokens = call->timings.evaluated_tokens + MAX(call->timings.cached_tokens, 0);
    call->timings.reply_tokens = (gint)choir_json_int(timings, "predicted_n", 0);
    call->timings.prompt_ms = choir_json_double(timings, "prompt_ms", 0);
    call->timings.reply_ms = choir_json_double(timings, "predicted_ms", 0);
    return;
  }
  json_t *usage = json_object_get(root, "usage");
  if (!json_is_object(usage))
    return;
  call->timings.prompt_tokens = (gint)choir_json_int(usage, "prompt_tokens", 0);
  call->timings.reply_tokens = (gint)choir_json_int(usage, "completion_tokens", 0);
  call->timings.cached_tokens =
      (gint)choir_json_int(json_object_get(usage, "prompt_tokens_details"), "cached_tokens", -1);
  call->timings.evaluated_tokens = call->timings.prompt_tokens - MAX(call->timings.cached_tokens, 0);
}

static void fail(ChoirChatCall *call, GError *error) {
  if (call->error)
    g_error_free(error);
  else
    call->error = error;
  g_cancellable_cancel(call->cancellable);
}

static void server_error(ChoirChatCall *call, json_t *error) {
  const char *type = choir_json_string(error, "type", "");
  int code = g_str_equal(type, "exceed_context_size_error") ? CHOIR_CHAT_ERROR_CONTEXT : CHOIR_CHAT_ERROR_SERVER;
  const char *message =
      json_is_string(error) ? json_string_value(error) : choir_json_string(error, "message", "no reason given");
  fail(call, g_error_new(CHOIR_CHAT_ERROR, code, "the language model server says: %s", message));
}

/* They come in pieces: the name in the first one, the arguments in any number. */
static void read_calls(ChoirChatCall *call, const json_t *list) {
  for (gsize i = 0; i < json_array_size(list); i++) {
    const json_t *piece = json_array_get(list, i), *function = json_object_get(piece, "function");
    gint64 at = choir_json_int(piece, "index", (gint64)i);
    const char *name = choir_json_string(function, "name", NULL),
               *arguments = choir_json_string(function, "arguments", "");
    if (at < 0 || at >= MAX_CALLS)
      continue;
    if (name && !call->calls[at].name)
      call->calls[at].name = g_strdup(name);
    if (!call->calls[at].arguments)
      call->calls[at].arguments = g_string_new(NULL);
    if (call->calls[at].arguments->len + strlen(arguments) > MAX_ARGUMENTS)
      fail(call, g_error_new_literal(CHOIR_CHAT_ERROR, CHOIR_CHAT_ERROR_PROTOCOL,
                                     "the language model's call of a function has no end"));
    else
      g_string_append(call->calls[at].arguments, arguments);
  }
}

static void read_choice(ChoirChatCall *call, json_t *choice) {
  read_calls(call, json_object_get(json_object_get(choice, "delta"), "tool_calls"));
  const char *text = choir_json_string(json_object_get(choice, "delta"), "content", NULL);
  const char *finish = choir_json_string(choice, "finish_reason", NULL);
  if (text && *text && call->handlers.delta)
    call->handlers.delta(text, call->user);
  if (finish) {
    g_free(call->finish);
    call->finish = g_strdup(finish);
    call->finished = TRUE;
  }
}

static void on_data(const char *event, const char *data, gsize length, gpointer user) {
  ChoirChatCall *call = user;
  if (call->error || g_cancellable_is_cancelled(call->cancellable))
    return;
  if (length == 6 && memcmp(data, "[DONE]", 6) == 0) {
    call->finished = TRUE;
    return;
  }
  g_autoptr(GError) error = NULL;
  json_t *root = choir_json_parse(data, length, &error);
  if (!root) {
    /* One odd line from a proxy is survivable, a stream of them is not this protocol. */
    choir_debug(CHOIR_TOPIC_LLM, "unreadable event: %s", error->message);
    if (++call->bad_events >= MAX_BAD_EVENTS)
      fail(call, g_error_new(CHOIR_CHAT_ERROR, CHOIR_CHAT_ERROR_PROTOCOL,
                             "what answers at the language model's address is not a chat server: %s", error->message));
    return;
  }
  json_t *failure = json_object_get(root, "error");
  if (failure && !json_is_null(failure)) {
    server_error(call, failure);
  } else {
    read_timings(call, root);
    json_t *choice = json_array_get(json_object_get(root, "choices"), 0);
    if (choice)
      read_choice(call, choice);
  }
  json_decref(root);
}

/* A refusal comes as an ordinary JSON answer; its type tells a too long prompt from everything else. */
static GError *refusal(guint status, const char *body, gsize length, const GError *error) {
  json_t *root = body && length ? choir_json_parse(body, length, NULL) : NULL;
  json_t *failure = json_object_get(root, "error");
  const char *type = choir_json_string(failure, "type", "");
  const char *message = choir_json_string(failure, "message", NULL);
  GError *ret = NULL;
  if (g_str_equal(type, "exceed_context_size_error") || (message && strstr(message, "context size")) ||
      (error && strstr(error->message, "context size")))
    ret =
        g_error_new(CHOIR_CHAT_ERROR, CHOIR_CHAT_ERROR_CONTEXT, "the conversation is longer than the model's context");
  else if (message)
    ret = g_error_new(CHOIR_HTTP_ERROR, CHOIR_HTTP_ERROR_STATUS, "the language model server refused (%u): %s", status,
                      message);
  else if (error)
    ret = g_error_copy(error);
  else
    ret = g_error_new(CHOIR_HTTP_ERROR, CHOIR_HTTP_ERROR_STATUS, "the language model server answered %u", status);
  json_decref(root);
  return ret;
}

static void on_done(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  ChoirChatCall *call = user;
  g_autoptr(GError) failure = g_steal_pointer(&call->error);
  if (!failure) {
    gboolean cancelled = g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
    if (status >= 400 && !cancelled)
      failure = refusal(status, body, length, error);
    else if (error && (cancelled || !call->finished))
      failure = g_error_copy(error);
    else if (!call->finished)
      failure =
          g_error_new(CHOIR_CHAT_ERROR, CHOIR_CHAT_ERROR_PROTOCOL, "the language model's answer ended in the middle");
  }
  for (guint i = 0; i < MAX_CALLS; i++) {
    if (!failure && call->handlers.call && call->calls[i].name)
      call->handlers.call(call->calls[i].name, call->calls[i].arguments->str, call->user);
    g_free(call->calls[i].name);
    if (call->calls[i].arguments)
      g_string_free(call->calls[i].arguments, TRUE);
  }
  call->handlers.done(failure ? NULL : call->finish, &call->timings, failure, call->user);
  g_object_unref(call->cancellable);
  g_free(call->finish);
  g_free(call);
}

ChoirChatCall *choir_chat_begin(ChoirChat *chat, const ChoirChatRequest *request, const ChoirChatHandlers *handlers,
                                gpointer user) {
  ChoirChatCall *call = g_new0(ChoirChatCall, 1);
  call->handlers = *handlers;
  call->user = user;
  call->cancellable = g_cancellable_new();
  call->timings.cached_tokens = -1;
  json_t *json = request_json(chat, request);
  g_autofree char *body = choir_json_dump(json);
  json_decref(json);
  g_autofree char *url = g_strconcat(chat->base_url, "/v1/chat/completions", NULL);
  choir_http_stream(chat->http, url, body, strlen(body), chat->headers, IDLE_MS, call->cancellable, on_data, on_done,
                    call);
  return call;
}

void choir_chat_cancel(ChoirChatCall *call) {
  g_cancellable_cancel(call->cancellable);
}
