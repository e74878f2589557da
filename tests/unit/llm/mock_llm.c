#include "mock_llm.h"
#include <libsoup/soup.h>
#include <string.h>
#include "base/text.h"

typedef struct {
  MockMode mode;
  char *pieces;
  guint delay_ms;
} Script;

struct MockLlm {
  SoupServer *server;
  char *url;
  GQueue scripts;
  GPtrArray *requests;
  GList *streams;
  guint warms, left;
  gboolean ready, plain, mute;
  guint slots, busy;
};

typedef struct {
  MockLlm *mock;
  GIOStream *io;
  GSource *gone;
  char **pieces;
  guint index, count, timer, delay_ms;
  MockMode mode;
} Stream;

static void stream_close(Stream *stream) {
  stream->mock->streams = g_list_remove(stream->mock->streams, stream);
  g_clear_handle_id(&stream->timer, g_source_remove);
  g_source_destroy(stream->gone);
  g_source_unref(stream->gone);
  g_io_stream_close(stream->io, NULL, NULL);
  g_object_unref(stream->io);
  g_strfreev(stream->pieces);
  g_free(stream);
}

static gboolean stream_write(Stream *stream, const char *text) {
  return g_output_stream_write_all(g_io_stream_get_output_stream(stream->io), text, strlen(text), NULL, NULL, NULL);
}

static void write_event(Stream *stream, const char *data) {
  g_autofree char *event = g_strdup_printf("data: %s\n\n", data);
  g_autofree char *chunk = g_strdup_printf("%zx\r\n%s\r\n", strlen(event), event);
  stream_write(stream, chunk);
}

static void write_delta(Stream *stream, const char *text) {
  json_t *json = json_pack("{s:[{s:{s:s},s:n}]}", "choices", "delta", "content", text, "finish_reason");
  g_autofree char *data = choir_json_dump(json);
  json_decref(json);
  write_event(stream, data);
}

static void write_end(Stream *stream) {
  write_event(stream, "{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}");
  write_event(stream, "{\"choices\":[],\"timings\":{\"cache_n\":5,\"prompt_n\":7,\"prompt_ms\":10.0,\"predicted_n\":3,"
                      "\"predicted_ms\":20.0}}");
  write_event(stream, "[DONE]");
  stream_write(stream, "0\r\n\r\n");
}

static gboolean stream_step(gpointer user) {
  Stream *stream = user;
  gboolean half = stream->index >= (stream->count + 1) / 2;
  if (stream->mode == MOCK_HANG)
    return G_SOURCE_CONTINUE;
  if (stream->mode == MOCK_GARBAGE && stream->index < 20) {
    write_event(stream, "{not json");
    stream->index++;
    return G_SOURCE_CONTINUE;
  }
  if (stream->mode == MOCK_CUT && half) {
    stream->timer = 0;
    stream_close(stream);
    return G_SOURCE_REMOVE;
  }
  if (stream->mode == MOCK_ERROR_EVENT && half)
    write_event(stream, "{\"error\":{\"code\":500,\"message\":\"out of luck\",\"type\":\"server_error\"}}");
  if (stream->index < stream->count && !(stream->mode == MOCK_ERROR_EVENT && half)) {
    write_delta(stream, stream->pieces[stream->index++]);
    return G_SOURCE_CONTINUE;
  }
  if (stream->mode == MOCK_OK)
    write_end(stream);
  else
    stream_write(stream, "0\r\n\r\n");
  stream->timer = 0;
  stream_close(stream);
  return G_SOURCE_REMOVE;
}

static gboolean on_gone(GObject *pollable, gpointer user) {
  Stream *stream = user;
  char byte;
  /* The client sends nothing more: readable means that it left. */
  if (g_pollable_input_stream_read_nonblocking(G_POLLABLE_INPUT_STREAM(pollable), &byte, 1, NULL, NULL) > 0)
    return G_SOURCE_CONTINUE;
  stream->mock->left++;
  stream_close(stream);
  return G_SOURCE_REMOVE;
}

static void start_stream(MockLlm *mock, SoupServerMessage *message, MockMode mode, const char *pieces, guint delay_ms) {
  Stream *stream = g_new0(Stream, 1);
  stream->mock = mock;
  stream->mode = mode;
  stream->delay_ms = delay_ms;
  stream->pieces = g_strsplit(pieces, "|", -1);
  stream->count = g_strv_length(stream->pieces);
  stream->io = soup_server_message_steal_connection(message);
  stream->gone =
      g_pollable_input_stream_create_source(G_POLLABLE_INPUT_STREAM(g_io_stream_get_input_stream(stream->io)), NULL);
  g_source_set_callback(stream->gone, G_SOURCE_FUNC(on_gone), stream, NULL);
  g_source_attach(stream->gone, NULL);
  mock->streams = g_list_prepend(mock->streams, stream);
  stream_write(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
  stream->timer = g_timeout_add(delay_ms, stream_step, stream);
}

static void answer(SoupServerMessage *message, guint status, const char *type, const char *body) {
  soup_server_message_set_status(message, status, NULL);
  soup_server_message_set_response(message, type, SOUP_MEMORY_COPY, body, strlen(body));
}

static void on_chat(SoupServer *server, SoupServerMessage *message, const char *path, GHashTable *query,
                    gpointer user) {
  MockLlm *mock = user;
  SoupMessageBody *body = soup_server_message_get_request_body(message);
  g_autoptr(GBytes) bytes = soup_message_body_flatten(body);
  gsize length;
  const char *data = g_bytes_get_data(bytes, &length);
  json_t *request = choir_json_parse(data, length, NULL);
  g_assert_nonnull(request);
  if (json_object_get(request, "n_predict")) {
    mock->warms++;
    json_decref(request);
    start_stream(mock, message, MOCK_OK, "", 1);
    return;
  }
  g_ptr_array_add(mock->requests, request);
  Script *script = g_queue_pop_head(&mock->scripts);
  MockMode mode = script ? script->mode : MOCK_OK;
  if (mode == MOCK_STATUS_500)
    answer(message, 500, "application/json",
           "{\"error\":{\"code\":500,\"message\":\"model exploded\",\"type\":\"server_error\"}}");
  else if (mode == MOCK_CONTEXT)
    answer(message, 400, "application/json",
           "{\"error\":{\"code\":400,\"message\":\"request exceeds the available context "
           "size\",\"type\":\"exceed_context_size_error\"}}");
  else if (mode == MOCK_HTML)
    answer(message, 200, "text/html", "<html><body>Welcome to the router</body></html>\n");
  else
    start_stream(mock, message, mode, script ? script->pieces : "Fine.", script ? script->delay_ms : 1);
  if (script)
    g_free(script->pieces);
  g_free(script);
}

static void on_health(SoupServer *server, SoupServerMessage *message, const char *path, GHashTable *query,
                      gpointer user) {
  MockLlm *mock = user;
  if (mock->mute)
    soup_server_message_pause(message);
  else if (mock->plain)
    answer(message, 404, "text/plain", "404 page not found");
  else if (mock->ready)
    answer(message, 200, "application/json", "{\"status\":\"ok\"}");
  else
    answer(message, 503, "application/json",
           "{\"error\":{\"code\":503,\"message\":\"Loading model\",\"type\":\"unavailable_error\"}}");
}

static void on_slots(SoupServer *server, SoupServerMessage *message, const char *path, GHashTable *query,
                     gpointer user) {
  MockLlm *mock = user;
  if (mock->mute) {
    soup_server_message_pause(message);
    return;
  }
  json_t *slots = json_array();
  for (guint i = 0; i < mock->slots; i++)
    json_array_append_new(slots, json_pack("{s:i,s:b}", "id", (int)i, "is_processing", (int)(i < mock->busy)));
  g_autofree char *text = choir_json_dump(slots);
  json_decref(slots);
  if (mock->slots)
    answer(message, 200, "application/json", text);
  else
    answer(message, 404, "text/plain", "404 page not found");
}

static void on_models(SoupServer *server, SoupServerMessage *message, const char *path, GHashTable *query,
                      gpointer user) {
  answer(message, 200, "application/json",
         ((MockLlm *)user)->plain ? "{\"data\":[{\"id\":\"mock\",\"owned_by\":\"somebody\"},{\"id\":\"second\"}]}"
                                  : "{\"data\":[{\"id\":\"mock\",\"owned_by\":\"llamacpp\",\"meta\":{\"n_params\":"
                                    "134515008,\"n_ctx\":2048}}]}");
}

MockLlm *mock_llm_new(void) {
  MockLlm *mock = g_new0(MockLlm, 1);
  g_autoptr(GError) error = NULL;
  mock->ready = TRUE;
  mock->requests = g_ptr_array_new_with_free_func((GDestroyNotify)json_decref);
  mock->server = soup_server_new(NULL, NULL);
  soup_server_add_handler(mock->server, "/v1/chat/completions", on_chat, mock, NULL);
  soup_server_add_handler(mock->server, "/v1/models", on_models, mock, NULL);
  soup_server_add_handler(mock->server, "/health", on_health, mock, NULL);
  soup_server_add_handler(mock->server, "/slots", on_slots, mock, NULL);
  soup_server_listen_local(mock->server, 0, SOUP_SERVER_LISTEN_IPV4_ONLY, &error);
  g_assert_no_error(error);
  GSList *uris = soup_server_get_uris(mock->server);
  mock->url = g_strdup_printf("http://127.0.0.1:%d", g_uri_get_port(uris->data));
  g_slist_free_full(uris, (GDestroyNotify)g_uri_unref);
  return mock;
}

void mock_llm_free(MockLlm *mock) {
  while (mock->streams)
    stream_close(mock->streams->data);
  soup_server_disconnect(mock->server);
  g_object_unref(mock->server);
  Script *script;
  while ((script = g_queue_pop_head(&mock->scripts))) {
    g_free(script->pieces);
    g_free(script);
  }
  g_ptr_array_unref(mock->requests);
  g_free(mock->url);
  g_free(mock);
}

const char *mock_llm_url(const MockLlm *mock) {
  return mock->url;
}

void mock_llm_push(MockLlm *mock, MockMode mode, const char *pieces, guint delay_ms) {
  Script *script = g_new0(Script, 1);
  script->mode = mode;
  script->pieces = g_strdup(pieces);
  script->delay_ms = MAX(delay_ms, 1);
  g_queue_push_tail(&mock->scripts, script);
}

guint mock_llm_requests(const MockLlm *mock) {
  return mock->requests->len;
}

json_t *mock_llm_request(const MockLlm *mock, guint index) {
  return mock->requests->pdata[index];
}

guint mock_llm_warms(const MockLlm *mock) {
  return mock->warms;
}

guint mock_llm_left(const MockLlm *mock) {
  return mock->left;
}

void mock_llm_set_slots(MockLlm *mock, guint n, guint busy) {
  mock->slots = n;
  mock->busy = busy;
}

void mock_llm_mute(MockLlm *mock) {
  mock->mute = TRUE;
}

void mock_llm_set_plain(MockLlm *mock) {
  mock->plain = TRUE;
}

void mock_llm_set_ready(MockLlm *mock, gboolean ready) {
  mock->ready = ready;
}
