/* /v1/models and /v1/chat/completions. One request runs at a time on the API's slot; a bounded queue waits behind it
 * and while the model warms up. A client that leaves stops the decoding. Pages see every request and its answer. */
#include <gio/gio.h>
#include <string.h>
#include "base/clock.h"
#include "base/metrics.h"
#include "base/names.h"
#include "base/text.h"
#include "web/answer.h"
#include "web/openai_request.h"
#include "web/web_private.h"

#define MAX_STREAM_QUEUE (256 * 1024)
#define MAX_SHOWN 10000   /* characters of a request that pages see */
#define ARGUMENT_PIECE 24 /* bytes of a function's arguments in one chunk */

struct ChoirOpenai {
  const ChoirWebOptions *options;
  GQueue waiting;     /* Call, oldest first */
  GPtrArray *running; /* Call: one on the slot, and turns of the live conversation */
  gboolean slot_busy;
  guint max_waiting;
  ChoirMetric *queue_gauge, *refused, *first, *total;
};

typedef struct {
  ChoirOpenai *owner;        /* NULL once the owner is gone */
  ChoirHttpRequest *request; /* until it is answered or streams */
  ChoirHttpStream *stream;
  gboolean over; /* nothing more is to be written to the stream */
  ChoirOpenaiRequest in;
  gboolean live;            /* a turn of the one conversation: the twin shows it */
  gboolean shown;           /* pages know of it and wait for its end */
  ChoirCall *deciding;      /* between a function and words */
  ChoirChatTimings decided; /* what that cost */
  ChoirChatCall *chat;
  ChoirTurn *turn;
  char *id, *model;
  gint64 created, begun_us;
  GString *text;
} Call;

static void call_free(Call *call) {
  choir_openai_request_clear(&call->in);
  g_free(call->id);
  g_free(call->model);
  g_string_free(call->text, TRUE);
  g_free(call);
}

/* Frees it once neither the engine nor the client can come back to it. */
static void call_settle(Call *call) {
  if (call->deciding || call->chat || call->turn || call->stream || call->request)
    return;
  if (call->owner)
    g_ptr_array_remove_fast(call->owner->running, call);
  call_free(call);
}

static void run_next(ChoirOpenai *api);

/* --- answers --------------------------------------------------------------------------------------------------------
 */

static json_t *base_json(const Call *call, const char *object) {
  return json_pack("{s:s,s:s,s:I,s:s,s:s}", "id", call->id, "object", object, "created", (json_int_t)call->created,
                   "model", call->model, "system_fingerprint", "choir-" CHOIR_VERSION_STRING);
}

static json_t *usage_json(const Call *call, const ChoirChatTimings *timings) {
  gint prompt = timings->prompt_tokens + call->decided.prompt_tokens;
  gint reply = timings->reply_tokens + call->decided.reply_tokens;
  gint cached = MAX(timings->cached_tokens, 0) + MAX(call->decided.cached_tokens, 0);
  return json_pack("{s:i,s:i,s:i,s:{s:i}}", "prompt_tokens", prompt, "completion_tokens", reply, "total_tokens",
                   prompt + reply, "prompt_tokens_details", "cached_tokens", cached);
}

/* --- what pages see of it -------------------------------------------------------------------------------------------
 */

static void show(Call *call, const char *type, const char *text) {
  if (!call->owner || !call->shown)
    return;
  ChoirTwinEvent event = {.type = type, .text = text, .source = "api", .turn_id = call->id};
  choir_twin_show(call->owner->options->twin, &event);
}

static void show_question(Call *call) {
  const char *text = choir_openai_request_last_user(&call->in);
  if (call->live || !text)
    return;
  gboolean whole = g_utf8_strlen(text, -1) <= MAX_SHOWN;
  g_autofree char *part = whole ? NULL : g_utf8_substring(text, 0, MAX_SHOWN);
  call->shown = TRUE;
  show(call, "user", whole ? text : part);
}

/* Once. */
static void show_end(Call *call, const GError *error) {
  gboolean left = g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  show(call, left ? "cut" : error ? "error" : "agent", error && !left ? error->message : call->text->str);
  call->shown = FALSE;
}

static void free_slot(ChoirOpenai *api);

static void stop_engine(Call *call) {
  if (call->deciding) { /* nobody comes back from it */
    choir_call_cancel(g_steal_pointer(&call->deciding));
    show_end(call, NULL);
    if (call->owner)
      free_slot(call->owner);
  }
  if (call->chat)
    choir_chat_cancel(call->chat);
  if (call->turn)
    choir_turn_cancel(call->turn);
}

static void on_stream_closed(gpointer user) {
  Call *call = user;
  call->stream = NULL;
  stop_engine(call);
  call_settle(call);
}

static void write_event(Call *call, json_t *json /* stolen */) {
  g_autofree char *text = choir_json_dump(json);
  g_autofree char *event = g_strdup_printf("data: %s\n\n", text);
  json_decref(json);
  /* A reader so slow that 256 kB wait for it gets no more: half an answer is worse than a cut one. */
  if (call->stream && !call->over && !choir_http_stream_write(call->stream, event, strlen(event))) {
    call->over = TRUE;
    stop_engine(call);
    choir_http_stream_end(call->stream);
  }
}

static void write_chunk(Call *call, json_t *delta /* stolen */, const char *finish) {
  json_t *chunk = base_json(call, "chat.completion.chunk");
  json_object_set_new(
      chunk, "choices",
      json_pack("[{s:i,s:o,s:n,s:s?}]", "index", 0, "delta", delta, "logprobs", "finish_reason", finish));
  if (call->in.include_usage)
    json_object_set_new(chunk, "usage", json_null());
  write_event(call, chunk);
}

/* With the first bytes only: until then a failure can still be a proper status. */
static void stream_begin(Call *call) {
  ChoirHttpRequest *request = g_steal_pointer(&call->request);
  if (call->stream || !request)
    return;
  call->stream = choir_http_stream_start(request, 200, "text/event-stream", MAX_STREAM_QUEUE, on_stream_closed, call);
  if (call->stream)
    write_chunk(call, json_pack("{s:s,s:s}", "role", "assistant", "content", ""), NULL);
}

static void on_text(Call *call, const char *raw) {
  g_autofree char *text = choir_utf8(raw, -1);
  if (call->text->len == 0 && *text && call->owner)
    choir_histogram_observe(call->owner->first, (double)(choir_clock_us() - call->begun_us) / 1e6);
  g_string_append(call->text, text);
  if (*text)
    show(call, "agent_delta", text);
  if (!call->in.stream || !*text)
    return;
  stream_begin(call);
  if (call->stream)
    write_chunk(call, json_pack("{s:s}", "content", text), NULL);
}

static void finish_stream(Call *call, const char *finish, const ChoirChatTimings *timings, const GError *error) {
  if (!call->stream || call->over)
    return;
  if (error) {
    write_event(call, json_pack("{s:{s:s,s:s,s:s}}", "error", "type", "server_error", "code", "model_error", "message",
                                error->message));
  } else {
    write_chunk(call, json_object(), finish ? finish : "stop");
    if (call->in.include_usage && timings) {
      json_t *chunk = base_json(call, "chat.completion.chunk");
      json_object_set_new(chunk, "choices", json_array());
      json_object_set_new(chunk, "usage", usage_json(call, timings));
      write_event(call, chunk);
    }
  }
  if (call->over)
    return;
  call->over = TRUE;
  if (!error)
    choir_http_stream_write(call->stream, "data: [DONE]\n\n", 14);
  choir_http_stream_end(call->stream);
}

static void answer_failure(ChoirHttpRequest *request, const GError *error) {
  if (error->domain == CHOIR_TWIN_ERROR)
    choir_answer_error(request, error);
  else if (g_error_matches(error, CHOIR_CALL_ERROR, CHOIR_CALL_ERROR_MODEL))
    choir_http_respond_error(request, 501, "server_error", "function_calls_unavailable", "%s", error->message);
  else if (g_error_matches(error, CHOIR_CALL_ERROR, CHOIR_CALL_ERROR_BROKEN))
    choir_http_respond_error(request, 502, "server_error", "function_call_refused", "%s", error->message);
  else if (g_error_matches(error, CHOIR_CHAT_ERROR, CHOIR_CHAT_ERROR_CONTEXT))
    choir_answer_bad(request, "context_length_exceeded", error->message);
  else
    choir_http_respond_error(request, 502, "server_error", "model_error", "%s", error->message);
}

/* The engine is done with it. timings may be NULL. */
static void finish(Call *call, const char *reason, const ChoirChatTimings *timings, const GError *error) {
  if (call->owner && !error)
    choir_histogram_observe(call->owner->total, (double)(choir_clock_us() - call->begun_us) / 1e6);
  show_end(call, error);
  if (call->in.stream && !error)
    stream_begin(call); /* an empty answer is an answer, too */
  finish_stream(call, reason, timings, error);
  ChoirHttpRequest *request = g_steal_pointer(&call->request);
  if (request && error) {
    answer_failure(request, error);
  } else if (request) {
    json_t *json = base_json(call, "chat.completion");
    json_object_set_new(json, "choices",
                        json_pack("[{s:i,s:{s:s,s:s,s:n},s:n,s:s}]", "index", 0, "message", "role", "assistant",
                                  "content", call->text->str, "refusal", "logprobs", "finish_reason",
                                  reason ? reason : "stop"));
    if (timings)
      json_object_set_new(json, "usage", usage_json(call, timings));
    choir_answer_json(request, 200, json);
  }
}

/* --- the slot of the API
 * ---------------------------------------------------------------------------------------------- */

static void on_chat_delta(const char *text, gpointer user) {
  on_text(user, text);
}

static void on_chat_done(const char *reason, const ChoirChatTimings *timings, const GError *error, gpointer user) {
  Call *call = user;
  ChoirOpenai *owner = call->owner;
  call->chat = NULL;
  finish(call, reason, timings, error);
  call_settle(call);
  if (owner)
    free_slot(owner);
}

/* Choir's own persona, and the last question in the form that it expects. */
static void add_persona(ChoirTwin *twin, json_t *messages) {
  for (size_t i = json_array_size(messages); i > 0; i--) {
    json_t *message = json_array_get(messages, i - 1);
    if (!g_str_equal(choir_json_string(message, "role", ""), "user"))
      continue;
    g_autofree char *text = choir_twin_message(twin, choir_json_string(message, "content", ""));
    json_object_set_new(message, "content", json_string(text));
    break;
  }
  json_array_insert_new(messages, 0, json_pack("{s:s,s:s}", "role", "system", "content", choir_twin_persona(twin)));
}

static void begin_chat(ChoirOpenai *api, Call *call) {
  static const ChoirChatHandlers handlers = {.delta = on_chat_delta, .done = on_chat_done};
  if (!call->in.has_system)
    add_persona(api->options->twin, call->in.messages);
  double temperature = call->in.temperature >= 0 ? call->in.temperature
                                                 : choir_config_double(api->options->config, "web", "api_temperature");
  ChoirChatRequest request = {
      .messages = call->in.messages,
      .slot = CHOIR_SLOT_API,
      .max_tokens = call->in.max_tokens ? call->in.max_tokens
                                        : (gint)choir_config_int(api->options->config, "web", "api_max_tokens"),
      .temperature = temperature,
      .top_p = call->in.top_p,
      .seed = call->in.seed,
      .stop = (const char *const *)call->in.stop,
  };
  call->chat = choir_chat_begin(choir_llm_server_chat(choir_twin_llm(api->options->twin)), &request, &handlers, call);
}

/* --- functions ------------------------------------------------------------------------------------------------------
 */

/* The arguments are whole and valid before the first piece goes out. */
static void stream_call(Call *call, const char *id, const char *name, const char *arguments) {
  ChoirHttpRequest *request = g_steal_pointer(&call->request);
  call->stream =
      request ? choir_http_stream_start(request, 200, "text/event-stream", MAX_STREAM_QUEUE, on_stream_closed, call)
              : NULL;
  if (!call->stream)
    return;
  write_chunk(call,
              json_pack("{s:s,s:n,s:[{s:i,s:s,s:s,s:{s:s,s:s}}]}", "role", "assistant", "content", "tool_calls",
                        "index", 0, "id", id, "type", "function", "function", "name", name, "arguments", ""),
              NULL);
  for (const char *at = arguments; *at;) {
    gsize n = MIN(strlen(at), (gsize)ARGUMENT_PIECE);
    while (((guchar)at[n] & 0xc0) == 0x80)
      n++;
    g_autofree char *piece = g_strndup(at, n);
    write_chunk(call, json_pack("{s:[{s:i,s:{s:s}}]}", "tool_calls", "index", 0, "function", "arguments", piece), NULL);
    at += n;
  }
}

static void answer_call(Call *call, const char *name, const char *arguments) {
  static const ChoirChatTimings none;
  g_autofree char *id = choir_id("call_");
  g_string_printf(call->text, "%s(%s)", name, arguments);
  show_end(call, NULL);
  if (call->in.stream) {
    stream_call(call, id, name, arguments);
    finish_stream(call, "tool_calls", &none, NULL);
    return;
  }
  ChoirHttpRequest *request = g_steal_pointer(&call->request);
  if (!request)
    return;
  json_t *json = base_json(call, "chat.completion");
  json_t *message =
      json_pack("{s:s,s:n,s:n,s:[{s:s,s:s,s:{s:s,s:s}}]}", "role", "assistant", "content", "refusal", "tool_calls",
                "id", id, "type", "function", "function", "name", name, "arguments", arguments);
  json_object_set_new(
      json, "choices",
      json_pack("[{s:i,s:o,s:n,s:s}]", "index", 0, "message", message, "logprobs", "finish_reason", "tool_calls"));
  json_object_set_new(json, "usage", usage_json(call, &none));
  choir_answer_json(request, 200, json);
}

static void on_decided(const char *name, const char *arguments, const ChoirChatTimings *usage, const GError *error,
                       gpointer user) {
  Call *call = user;
  ChoirOpenai *owner = call->owner;
  call->deciding = NULL;
  call->decided = *usage;
  if (!error && !name && owner) {
    begin_chat(owner, call);
    return;
  }
  if (error)
    finish(call, NULL, NULL, error);
  else if (name)
    answer_call(call, name, arguments);
  call_settle(call);
  if (owner)
    free_slot(owner);
}

static void start_chat(ChoirOpenai *api, Call *call) {
  ChoirLlmServer *llm = choir_twin_llm(api->options->twin);
  api->slot_busy = TRUE;
  g_ptr_array_add(api->running, call);
  call->begun_us = choir_clock_us();
  if (call->in.choice == CHOIR_CALL_NONE || choir_call_tools_count(call->in.tools) == 0) {
    begin_chat(api, call);
    return;
  }
  g_ptr_array_add(call->in.used, NULL);
  ChoirCallRequest request = {.tools = call->in.tools,
                              .choice = call->in.choice,
                              .name = call->in.choice_name,
                              .text = call->in.question,
                              .used = (const char *const *)call->in.used->pdata,
                              .model = choir_llm_server_model(llm),
                              .slot = CHOIR_SLOT_API};
  call->deciding = choir_call_begin(choir_llm_server_chat(llm), &request, on_decided, call);
}

static void free_slot(ChoirOpenai *api) {
  api->slot_busy = FALSE;
  run_next(api);
}

static void run_next(ChoirOpenai *api) {
  if (!api->slot_busy && api->waiting.length > 0 && choir_llm_server_ready(choir_twin_llm(api->options->twin)))
    start_chat(api, g_queue_pop_head(&api->waiting));
  choir_gauge_set(api->queue_gauge, api->waiting.length);
}

static void on_model_changed(gpointer user) {
  run_next(user);
}

/* --- a turn of the one conversation
 * -------------------------------------------------------------------------------------- */

static void on_turn_delta(ChoirTurn *turn, const char *text, gpointer user) {
  on_text(user, text);
}

static void on_turn_done(ChoirTurn *turn, const char *reply, const GError *error, gpointer user) {
  Call *call = user;
  call->turn = NULL;
  if (!error && call->text->len == 0 && reply)
    on_text(call, reply);
  finish(call, "stop", NULL, error);
  call_settle(call);
}

static void start_turn(ChoirOpenai *api, Call *call) {
  static const ChoirTurnHandlers handlers = {.delta = on_turn_delta, .done = on_turn_done};
  ChoirTurnRequest request = {.text = choir_openai_request_last_user(&call->in), .source = "api"};
  g_autoptr(GError) error = NULL;
  if (!request.text) {
    choir_answer_bad(g_steal_pointer(&call->request), "invalid_value",
                     "a live turn needs a message of the role 'user'");
    call_free(call);
    return;
  }
  call->begun_us = choir_clock_us();
  call->turn = choir_twin_begin(api->options->twin, &request, &handlers, call, &error);
  if (!call->turn) {
    choir_answer_error(g_steal_pointer(&call->request), error);
    call_free(call);
    return;
  }
  g_ptr_array_add(api->running, call);
}

/* --- routes
 * ----------------------------------------------------------------------------------------------------------------- */

static void on_gone(gpointer user) {
  Call *call = user;
  ChoirOpenai *owner = call->owner;
  if (!call->request)
    return; /* it streams: on_stream_closed() does this */
  call->request = NULL;
  if (owner && g_queue_remove(&owner->waiting, call)) {
    choir_gauge_set(owner->queue_gauge, owner->waiting.length);
    show(call, "cut", "");
    call_free(call);
    return;
  }
  stop_engine(call); /* its done settles the call */
  call_settle(call);
}

static void answer_fault(ChoirHttpRequest *request, ChoirFault *fault) {
  json_auto_t *json = json_pack("{s:{s:s,s:s?,s:s,s:s}}", "error", "type", "invalid_request_error", "param",
                                fault->param, "code", fault->code, "message", fault->message);
  g_autofree char *text = choir_json_dump(json);
  choir_http_respond(request, 400, "application/json", text, strlen(text), CHOIR_GUARD_API_HEADERS);
  choir_fault_clear(fault);
}

static void on_completions(ChoirHttpRequest *request, gpointer user) {
  ChoirOpenai *api = user;
  json_auto_t *body = choir_answer_body(request, FALSE);
  ChoirFault fault = {0};
  ChoirOpenaiRequest in;
  if (!body)
    return;
  if (!choir_openai_request_parse(body, &in, &fault)) {
    answer_fault(request, &fault);
    return;
  }
  const char *conversation = choir_http_request_header(request, "X-Choir-Conversation");
  gboolean live = conversation && g_ascii_strcasecmp(conversation, "live") == 0;
  if (live && choir_call_tools_count(in.tools) > 0) {
    choir_openai_request_clear(&in);
    choir_answer_bad(request, "unsupported_parameter",
                     "'tools' are for requests with a history of their own: leave X-Choir-Conversation out");
    return;
  }
  if (!live && api->waiting.length >= api->max_waiting &&
      (api->slot_busy || api->waiting.length > 0 || !choir_llm_server_ready(choir_twin_llm(api->options->twin)))) {
    choir_counter_add(api->refused, 1);
    choir_openai_request_clear(&in);
    choir_answer_busy(request, "busy",
                      "the model is busy or still loading and the queue is full: try again in a few seconds");
    return;
  }
  Call *call = g_new0(Call, 1);
  call->owner = api;
  call->request = request;
  call->in = in;
  call->live = live;
  call->id = choir_id("chatcmpl-");
  call->model = choir_web_model_name(api->options);
  call->created = g_get_real_time() / G_USEC_PER_SEC;
  call->text = g_string_new(NULL);
  choir_http_request_on_gone(request, on_gone, call);
  if (live) {
    start_turn(api, call);
    return;
  }
  show_question(call);
  g_queue_push_tail(&api->waiting, call);
  run_next(api);
}

static json_t *model_json(const char *name) {
  return json_pack("{s:s,s:s,s:i,s:s}", "id", name, "object", "model", "created", 0, "owned_by", "choir");
}

static void on_models(ChoirHttpRequest *request, gpointer user) {
  ChoirOpenai *api = user;
  g_autofree char *name = choir_web_model_name(api->options);
  choir_answer_json(request, 200, json_pack("{s:s,s:[o]}", "object", "list", "data", model_json(name)));
}

static void on_model(ChoirHttpRequest *request, gpointer user) {
  ChoirOpenai *api = user;
  g_autofree char *name = choir_web_model_name(api->options);
  const char *wanted = choir_http_request_path(request) + strlen("/v1/models/");
  if (strcmp(wanted, name) == 0)
    choir_answer_json(request, 200, model_json(name));
  else
    choir_http_respond_error(request, 404, "invalid_request_error", "model_not_found",
                             "this server runs '%s'; see /v1/models", name);
}

ChoirOpenai *choir_openai_new(const ChoirWebOptions *options) {
  ChoirOpenai *api = g_new0(ChoirOpenai, 1);
  api->options = options;
  g_queue_init(&api->waiting);
  api->running = g_ptr_array_new();
  api->max_waiting = (guint)choir_config_int(options->config, "web", "api_queue");
  api->queue_gauge = choir_gauge("choir_api_queue", NULL, "Chat requests that wait for the model.");
  api->refused = choir_counter("choir_api_refused_total", NULL, "Chat requests refused because the queue was full.");
  api->first = choir_histogram("choir_api_seconds", "stage=\"first_token\"",
                               "Chat requests, from the start of the work.", NULL, 0);
  api->total =
      choir_histogram("choir_api_seconds", "stage=\"total\"", "Chat requests, from the start of the work.", NULL, 0);
  choir_llm_server_on_change(choir_twin_llm(options->twin), on_model_changed, api);
  choir_http_server_route(options->server, "GET", "/v1/models", on_models, api);
  choir_http_server_route(options->server, "GET", "/v1/models/*", on_model, api);
  choir_http_server_route(options->server, "POST", "/v1/chat/completions", on_completions, api);
  return api;
}

void choir_openai_free(ChoirOpenai *api) {
  if (!api)
    return;
  choir_llm_server_off_change(choir_twin_llm(api->options->twin), on_model_changed, api);
  Call *call;
  while ((call = g_queue_pop_head(&api->waiting)) != NULL) {
    choir_answer_busy(g_steal_pointer(&call->request), "stopping", "the server stops");
    call_free(call);
  }
  for (guint i = 0; i < api->running->len; i++) {
    call = g_ptr_array_index(api->running, i);
    call->owner = NULL;
    ChoirHttpRequest *request = g_steal_pointer(&call->request);
    if (request)
      choir_answer_busy(request, "stopping", "the server stops");
    stop_engine(call);
    call_settle(call);
  }
  g_ptr_array_unref(api->running);
  g_free(api);
}
