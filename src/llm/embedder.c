#include "llm/embedder.h"
#include <math.h>
#include <string.h>
#include "base/log.h"
#include "base/metrics.h"
#include "base/names.h"
#include "base/text.h"
#include "llm/server_private.h"

#define QUEUE_MAX 64
#define TEXT_MAX 2000 /* bytes: about the 512 tokens that the model reads */
#define TEXT_SURE 480 /* no text of so many bytes has more than 512 tokens */
#define POLL_MS 50
#define START_MS 60000 /* a server that is not there by then is not waited for */
#define REQUEST_MS 120000
#define IDLE_S 300

typedef struct {
  ChoirEmbedder *embedder;
  GPtrArray *texts;
  gboolean cut; /* sent again with shorter texts */
  ChoirEmbedderDone done;
  gpointer user;
} Request;

struct ChoirEmbedder {
  guint refs;
  gboolean dead;
  ChoirLlmCommand command;
  ChoirHttpClient *http;
  ChoirChild *child;
  GCancellable *cancellable;
  GQueue queue; /* Request, not sent */
  Request *sent;
  char *url;
  guint poll, idle, idle_s, deadline, pump;
  gboolean ready, wanted;
  GError *failed; /* of the last start */
  ChoirMetric *m_texts, *m_failed, *m_seconds;
  gint64 sent_us;
};

static void pump_soon(ChoirEmbedder *embedder);

static void embedder_unref(ChoirEmbedder *embedder) {
  if (--embedder->refs > 0)
    return;
  choir_llm_command_clear(&embedder->command);
  g_clear_object(&embedder->cancellable);
  g_clear_error(&embedder->failed);
  g_free(embedder->url);
  g_free(embedder);
}

static void complete(Request *request, const float *vectors, const GError *error) {
  if (error)
    choir_counter_add(request->embedder->m_failed, request->texts->len);
  else
    choir_counter_add(request->embedder->m_texts, request->texts->len);
  request->done(vectors, vectors ? request->texts->len : 0, vectors ? CHOIR_EMBEDDER_DIMENSIONS : 0, error,
                request->user);
  g_ptr_array_unref(request->texts);
  embedder_unref(request->embedder);
  g_free(request);
}

static void fail_all(ChoirEmbedder *embedder, const GError *error) {
  for (Request *request; (request = g_queue_pop_head(&embedder->queue));)
    complete(request, NULL, error);
}

/* The process */

static gboolean on_idle(gpointer user) {
  ChoirEmbedder *embedder = user;
  embedder->idle = 0;
  embedder->wanted = embedder->ready = FALSE;
  choir_debug(CHOIR_TOPIC_LLM, "the embedding server was idle, it stops");
  choir_child_stop(embedder->child, NULL, NULL);
  return G_SOURCE_REMOVE;
}

static void on_health(guint status, const char *body, gsize length, const GError *error, gpointer user);

static gboolean on_poll(gpointer user) {
  ChoirEmbedder *embedder = user;
  g_autofree char *url = g_strconcat(embedder->url, "/health", NULL);
  embedder->poll = 0;
  embedder->refs++;
  choir_http_request(embedder->http, "GET", url, NULL, NULL, 0, NULL, 3000, 0, embedder->cancellable, on_health,
                     embedder);
  return G_SOURCE_REMOVE;
}

static void on_health(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  ChoirEmbedder *embedder = user;
  if (!embedder->dead && !g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
    if (status == 200) {
      embedder->ready = TRUE;
      g_clear_handle_id(&embedder->deadline, g_source_remove);
      choir_child_mark_ready(embedder->child);
      pump_soon(embedder);
    } else if (embedder->poll == 0) {
      embedder->poll = g_timeout_add(POLL_MS, on_poll, embedder);
    }
  }
  embedder_unref(embedder);
}

static gboolean on_prepare(ChoirChild *child, GStrv *ret_argv, GStrv *ret_env, GArray *fds, gpointer user,
                           GError **error) {
  static const char *const more[] = {"--embedding", "--pooling", "mean", "-np", "1",     "-c", "512",
                                     "-b",          "512",       "-ub",  "512", "-cram", "0",  NULL};
  ChoirEmbedder *embedder = user;
  g_clear_error(&embedder->failed);
  if (!choir_llm_command_build(&embedder->command, ret_argv, ret_env, &embedder->failed)) {
    g_propagate_error(error, g_error_copy(embedder->failed));
    return FALSE;
  }
  /* The later option counts. */
  guint n = g_strv_length(*ret_argv), extra = G_N_ELEMENTS(more);
  *ret_argv = g_renew(char *, *ret_argv, n + extra);
  for (guint i = 0; i < extra; i++)
    (*ret_argv)[n + i] = g_strdup(more[i]);
  g_free(embedder->url);
  embedder->url = g_strdup_printf("http://127.0.0.1:%u", embedder->command.port);
  return TRUE;
}

static void on_started(ChoirChild *child, GPid pid, gpointer user) {
  ChoirEmbedder *embedder = user;
  if (embedder->poll == 0)
    embedder->poll = g_timeout_add(POLL_MS, on_poll, embedder);
}

static void on_exited(ChoirChild *child, int wait_status, gpointer user) {
  ChoirEmbedder *embedder = user;
  embedder->ready = FALSE;
  g_clear_handle_id(&embedder->poll, g_source_remove);
  g_cancellable_cancel(embedder->cancellable);
  g_clear_object(&embedder->cancellable);
  embedder->cancellable = g_cancellable_new();
}

/* Its chatter is of no use to anybody; errors are. */
static int line_level(const char *line) {
  const char *mark = line + strspn(line, "0123456789.");
  return mark != line && mark[0] == ' ' && mark[1] == 'E' ? CHOIR_LOG_WARNING : CHOIR_LOG_DEBUG;
}

static gboolean on_deadline(gpointer user) {
  ChoirEmbedder *embedder = user;
  embedder->deadline = 0;
  g_autoptr(GError) error =
      g_error_new(CHOIR_LLM_ERROR, CHOIR_LLM_ERROR_ENGINE, "the embedding server does not start: %s",
                  choir_child_last_error(embedder->child) ? choir_child_last_error(embedder->child) : "no answer");
  fail_all(embedder, error);
  on_idle(embedder);
  return G_SOURCE_REMOVE;
}

/* Requests */

static gboolean read_vectors(const char *body, gsize length, guint n, float *ret_vectors) {
  json_auto_t *root = choir_json_parse(body, length, NULL);
  const json_t *data = json_object_get(root, "data");
  if (json_array_size(data) != n)
    return FALSE;
  for (guint i = 0; i < n; i++) {
    const json_t *vector = json_object_get(json_array_get(data, i), "embedding");
    float *row = ret_vectors + (gsize)i * CHOIR_EMBEDDER_DIMENSIONS;
    double sum = 0;
    if (json_array_size(vector) != CHOIR_EMBEDDER_DIMENSIONS)
      return FALSE;
    for (guint k = 0; k < CHOIR_EMBEDDER_DIMENSIONS; k++) {
      double value = json_number_value(json_array_get(vector, k));
      row[k] = (float)value;
      sum += value * value;
    }
    if (!(sum > 0) || !isfinite(sum))
      return FALSE;
    for (guint k = 0; k < CHOIR_EMBEDDER_DIMENSIONS; k++)
      row[k] = (float)((double)row[k] / sqrt(sum));
  }
  return TRUE;
}

static void on_answer(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  Request *request = user;
  ChoirEmbedder *embedder = request->embedder;
  embedder->sent = NULL;
  if (!embedder->dead && error && status >= 400 && !request->cut) {
    request->cut = TRUE;
    g_queue_push_head(&embedder->queue, request);
    pump_soon(embedder);
    return;
  }
  embedder->refs++;
  g_autofree float *vectors = g_new(float, (gsize)request->texts->len *CHOIR_EMBEDDER_DIMENSIONS);
  g_autoptr(GError) why = error ? g_error_copy(error) : NULL;
  if (!error && !read_vectors(body, length, request->texts->len, vectors))
    why = g_error_new(CHOIR_LLM_ERROR, CHOIR_LLM_ERROR_MODEL, "the embedding server's answer cannot be read");
  if (!why)
    choir_histogram_observe(embedder->m_seconds, (double)(g_get_monotonic_time() - embedder->sent_us) / G_USEC_PER_SEC);
  complete(request, why ? NULL : vectors, why);
  if (!embedder->dead)
    pump_soon(embedder);
  embedder_unref(embedder);
}

static void send_request(ChoirEmbedder *embedder, Request *request) {
  json_t *input = json_array();
  for (guint i = 0; i < request->texts->len; i++) {
    const char *text = request->texts->pdata[i];
    gsize most = MIN(strlen(text), request->cut ? TEXT_SURE : TEXT_MAX);
    while (most > 0 && ((guchar)text[most] & 0xc0) == 0x80)
      most--;
    json_array_append_new(input, json_stringn(most ? text : " ", most ? most : 1));
  }
  json_auto_t *body = json_pack("{s:o}", "input", input);
  g_autofree char *text = choir_json_dump(body);
  g_autofree char *url = g_strconcat(embedder->url, "/v1/embeddings", NULL);
  g_autofree char *headers = g_strconcat("Authorization: Bearer ", embedder->command.api_key, NULL);
  embedder->sent = request;
  embedder->sent_us = g_get_monotonic_time();
  choir_http_request(embedder->http, "POST", url, "application/json", text, strlen(text), headers, REQUEST_MS, 0,
                     embedder->cancellable, on_answer, request);
}

static gboolean on_pump(gpointer user) {
  ChoirEmbedder *embedder = user;
  embedder->pump = 0;
  if (embedder->sent || embedder->dead)
    return G_SOURCE_REMOVE;
  g_clear_handle_id(&embedder->idle, g_source_remove);
  if (g_queue_is_empty(&embedder->queue)) {
    if (embedder->wanted)
      embedder->idle = g_timeout_add_seconds(embedder->idle_s, on_idle, embedder);
    return G_SOURCE_REMOVE;
  }
  g_autofree char *missing = choir_llm_embedder_missing(embedder);
  if (missing && !embedder->ready) {
    g_autoptr(GError) error = g_error_new_literal(CHOIR_LLM_ERROR, CHOIR_LLM_ERROR_MODEL, missing);
    fail_all(embedder, error);
  } else if (embedder->ready) {
    send_request(embedder, g_queue_pop_head(&embedder->queue));
  } else if (!embedder->deadline) {
    embedder->wanted = TRUE;
    embedder->deadline = g_timeout_add(START_MS, on_deadline, embedder);
    choir_child_start(embedder->child);
  }
  return G_SOURCE_REMOVE;
}

static void pump_soon(ChoirEmbedder *embedder) {
  if (embedder->pump == 0)
    embedder->pump = g_idle_add(on_pump, embedder);
}

void choir_llm_embedder_embed(ChoirEmbedder *embedder, const char *const *texts, guint n, ChoirEmbedderDone done,
                              gpointer user) {
  Request *request = g_new0(Request, 1);
  request->embedder = embedder;
  request->texts = g_ptr_array_new_with_free_func(g_free);
  for (guint i = 0; i < n; i++)
    g_ptr_array_add(request->texts, choir_utf8(texts[i], -1));
  request->done = done;
  request->user = user;
  embedder->refs++;
  if (embedder->queue.length >= QUEUE_MAX) /* the oldest one has waited too long already */
  {
    g_autoptr(GError) error =
        g_error_new(CHOIR_LLM_ERROR, CHOIR_LLM_ERROR_ENGINE, "too many texts wait for the embedding server");
    complete(g_queue_pop_head(&embedder->queue), NULL, error);
  }
  g_queue_push_tail(&embedder->queue, request);
  pump_soon(embedder);
}

gboolean choir_llm_embedder_ready(const ChoirEmbedder *embedder) {
  return embedder->ready;
}

char *choir_llm_embedder_missing(const ChoirEmbedder *embedder) {
  const char *path = embedder->command.model_path;
  return path && g_file_test(path, G_FILE_TEST_IS_REGULAR)
             ? NULL
             : g_strdup_printf("the embedding model %s is missing; run ./run --setup-only",
                               path ? path : CHOIR_EMBEDDER_FILE);
}

ChoirEmbedder *choir_llm_embedder_new(const ChoirEmbedderOptions *options, ChoirHttpClient *http) {
  ChoirEmbedder *embedder = g_new0(ChoirEmbedder, 1);
  ChoirLlmServerOptions server = {.engine_dir = options->engine_dir,
                                  .model_path = options->model_path,
                                  .model_name = "minilm",
                                  .state_dir = options->state_dir,
                                  .cpu_variant = options->cpu_variant,
                                  .context = 512};
  embedder->refs = 1;
  embedder->http = http;
  embedder->idle_s = options->idle_s ? options->idle_s : IDLE_S;
  embedder->cancellable = g_cancellable_new();
  g_queue_init(&embedder->queue);
  choir_llm_command_init(&embedder->command, &server);
  ChoirChildSpec spec = {.name = "embedder",
                         .topic = CHOIR_TOPIC_LLM,
                         .prepare = on_prepare,
                         .started = on_started,
                         .exited = on_exited,
                         .line_level = line_level,
                         .user = embedder,
                         .nice = 6};
  embedder->child = choir_child_new(&spec);
  embedder->m_texts = choir_counter("choir_embeddings_total", "result=\"done\"", "Texts embedded by result");
  embedder->m_failed = choir_counter("choir_embeddings_total", "result=\"failed\"", "Texts embedded by result");
  embedder->m_seconds =
      choir_histogram("choir_embedding_seconds", NULL, "One request to the embedding server", NULL, 0);
  return embedder;
}

static void forget(ChoirEmbedder *embedder) {
  g_clear_handle_id(&embedder->poll, g_source_remove);
  g_clear_handle_id(&embedder->idle, g_source_remove);
  g_clear_handle_id(&embedder->deadline, g_source_remove);
  g_clear_handle_id(&embedder->pump, g_source_remove);
  g_cancellable_cancel(embedder->cancellable);
}

void choir_llm_embedder_stop(ChoirEmbedder *embedder, void (*done)(gpointer user), gpointer user) {
  forget(embedder);
  embedder->ready = embedder->wanted = FALSE;
  choir_child_stop(embedder->child, done, user);
}

void choir_llm_embedder_free(ChoirEmbedder *embedder) {
  if (!embedder)
    return;
  g_autoptr(GError) error = g_error_new(G_IO_ERROR, G_IO_ERROR_CANCELLED, "the embedding server stops");
  embedder->dead = TRUE;
  forget(embedder);
  fail_all(embedder, error);
  choir_child_free(embedder->child);
  embedder->child = NULL;
  embedder_unref(embedder);
}

ChoirChild *choir_llm_embedder_child(ChoirEmbedder *embedder) {
  return embedder->child;
}
