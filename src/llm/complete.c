#include "llm/complete.h"
#include <string.h>
#include "base/text.h"

#define TIMEOUT_MS 120000
#define MAX_TOP 2000

struct ChoirComplete {
  ChoirCompleteDone done;
  ChoirTokensDone tokens;
  gpointer user;
  GCancellable *cancellable;
  gboolean dropped; /* cancelled: nobody is told */
};

json_t *choir_complete_json(const ChoirCompleteRequest *request) {
  json_t *prompt = json_string(request->prompt);
  if (request->n_tokens > 0) {
    json_t *mixed = json_pack("[o]", prompt);
    for (guint i = 0; i < request->n_tokens; i++)
      json_array_append_new(mixed, json_integer(request->tokens[i]));
    prompt = mixed;
  }
  json_t *body = json_pack("{s:o,s:i,s:f,s:b,s:b}", "prompt", prompt, "n_predict", (int)MAX(request->max_tokens, 1),
                           "temperature", request->temperature, "cache_prompt", 1, "stream", 0);
  if (request->slot >= 0)
    json_object_set_new(body, "id_slot", json_integer(request->slot));
  if (request->top > 0)
    json_object_set_new(body, "n_probs", json_integer(MIN(request->top, MAX_TOP)));
  if (request->seed)
    json_object_set_new(body, "seed", json_integer((json_int_t)(request->seed & G_MAXUINT32)));
  if (request->grammar)
    json_object_set_new(body, "grammar", json_string(request->grammar));
  return body;
}

static void read_probs(json_t *root, GArray *probs) {
  json_t *first = json_array_get(json_object_get(root, "completion_probabilities"), 0);
  size_t i;
  json_t *entry;
  json_array_foreach(json_object_get(first, "top_logprobs"), i, entry) {
    ChoirTokenProb prob = {.id = (gint)choir_json_int(entry, "id", -1),
                           .logprob = choir_json_double(entry, "logprob", -1e9)};
    if (prob.id >= 0 && probs->len < MAX_TOP)
      g_array_append_val(probs, prob);
  }
}

gboolean choir_complete_read(json_t *root, GArray *probs, ChoirCompleteResult *ret_result, GError **error) {
  const char *text = choir_json_string(root, "content", NULL);
  if (!text) {
    g_set_error_literal(error, CHOIR_CHAT_ERROR, CHOIR_CHAT_ERROR_PROTOCOL,
                        "the language model's completion has no content");
    return FALSE;
  }
  g_array_set_size(probs, 0);
  read_probs(root, probs);
  const json_t *timings = json_object_get(root, "timings");
  ChoirCompleteResult result = {.text = text,
                                .probs = (const ChoirTokenProb *)(gpointer)probs->data,
                                .n_probs = probs->len,
                                .cut = strcmp(choir_json_string(root, "stop_type", "eos"), "limit") == 0,
                                .timings = {.cached_tokens = (gint)choir_json_int(timings, "cache_n", 0),
                                            .evaluated_tokens = (gint)choir_json_int(timings, "prompt_n", 0),
                                            .reply_tokens = (gint)choir_json_int(timings, "predicted_n", 0),
                                            .prompt_ms = choir_json_double(timings, "prompt_ms", 0),
                                            .reply_ms = choir_json_double(timings, "predicted_ms", 0)}};
  result.timings.prompt_tokens = result.timings.cached_tokens + result.timings.evaluated_tokens;
  *ret_result = result;
  return TRUE;
}

static void complete_free(ChoirComplete *complete) {
  g_object_unref(complete->cancellable);
  g_free(complete);
}

/* The answer as JSON, or NULL with what the server or the connection said. */
static json_t *answer(guint status, const char *body, gsize length, const GError *error, GError **ret_error) {
  json_t *root = body && length ? choir_json_parse(body, length, NULL) : NULL;
  const char *message = choir_json_string(json_object_get(root, "error"), "message", NULL);
  if (status == 200 && root && !error)
    return root;
  if (message)
    g_set_error(ret_error, CHOIR_CHAT_ERROR, CHOIR_CHAT_ERROR_SERVER, "the language model server refused (%u): %s",
                status, message);
  else if (error)
    *ret_error = g_error_copy(error);
  else
    g_set_error(ret_error, CHOIR_CHAT_ERROR, CHOIR_CHAT_ERROR_PROTOCOL,
                "the language model server answered %u and no JSON", status);
  json_decref(root);
  return NULL;
}

static void on_complete(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  ChoirComplete *complete = user;
  if (complete->dropped) {
    complete_free(complete);
    return;
  }
  g_autoptr(GError) failure = NULL;
  g_autoptr(GArray) probs = g_array_new(FALSE, FALSE, sizeof(ChoirTokenProb));
  json_t *root = answer(status, body, length, error, &failure);
  ChoirCompleteResult result;
  gboolean good = root && choir_complete_read(root, probs, &result, &failure);
  complete->done(good ? &result : NULL, failure, complete->user);
  json_decref(root);
  complete_free(complete);
}

static void on_tokens(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  ChoirComplete *complete = user;
  if (complete->dropped) {
    complete_free(complete);
    return;
  }
  g_autoptr(GError) failure = NULL;
  g_autoptr(GArray) tokens = g_array_new(FALSE, FALSE, sizeof(gint));
  json_t *root = answer(status, body, length, error, &failure);
  size_t i;
  json_t *token;
  json_array_foreach(json_object_get(root, "tokens"), i, token) {
    gint id = (gint)json_integer_value(token);
    g_array_append_val(tokens, id);
  }
  if (root && tokens->len == 0)
    failure = g_error_new_literal(CHOIR_CHAT_ERROR, CHOIR_CHAT_ERROR_PROTOCOL,
                                  "the language model server cut a text into no tokens");
  complete->tokens(failure ? NULL : (const gint *)(gpointer)tokens->data, failure ? 0 : tokens->len, failure,
                   complete->user);
  json_decref(root);
  complete_free(complete);
}

static ChoirComplete *post(ChoirChat *chat, const char *path, json_t *json /* stolen */, ChoirHttpDone done,
                           gpointer user) {
  ChoirComplete *complete = g_new0(ChoirComplete, 1);
  complete->user = user;
  complete->cancellable = g_cancellable_new();
  g_autofree char *body = choir_json_dump(json);
  json_decref(json);
  g_autofree char *url = g_strconcat(choir_chat_base_url(chat), path, NULL);
  choir_http_request(choir_chat_http(chat), "POST", url, "application/json", body, strlen(body),
                     choir_chat_headers(chat), TIMEOUT_MS, 0, complete->cancellable, done, complete);
  return complete;
}

ChoirComplete *choir_complete_begin(ChoirChat *chat, const ChoirCompleteRequest *request, ChoirCompleteDone done,
                                    gpointer user) {
  json_t *body = choir_complete_json(request);
  if (choir_chat_shared(chat))
    json_object_del(body, "id_slot");
  ChoirComplete *complete = post(chat, "/completion", body, on_complete, user);
  complete->done = done;
  return complete;
}

ChoirComplete *choir_complete_tokens(ChoirChat *chat, const char *text, ChoirTokensDone done, gpointer user) {
  ChoirComplete *complete = post(chat, "/tokenize", json_pack("{s:s}", "content", text), on_tokens, user);
  complete->tokens = done;
  return complete;
}

void choir_complete_cancel(ChoirComplete *complete) {
  complete->dropped = TRUE;
  g_cancellable_cancel(complete->cancellable);
}
