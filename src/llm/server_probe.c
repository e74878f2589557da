#include "llm/server_private.h"
#include <string.h>
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"

/* Whole batches of the smallest and of the starting size, so that no rest distorts the rate. */
#define PROBE_TOKENS 64
#define PROBE_TIMEOUT_MS 120000

static char *probe_path(const char *state_dir) {
  return g_build_filename(state_dir, "llm-probe.json", NULL);
}

static json_t *probe_read(const char *state_dir) {
  g_autofree char *path = probe_path(state_dir);
  g_autofree char *text = NULL;
  gsize length;
  json_t *all = g_file_get_contents(path, &text, &length, NULL) ? choir_json_parse(text, length, NULL) : NULL;
  if (json_is_object(all))
    return all;
  json_decref(all);
  return json_object();
}

guint choir_llm_probe_load(const char *state_dir, const char *key, double *ret_rate) {
  json_t *all = probe_read(state_dir);
  json_t *one = json_object_get(all, key);
  gint64 ubatch = choir_json_int(one, "ubatch", 0);
  *ret_rate = choir_json_double(one, "tokens_per_second", 0);
  json_decref(all);
  return ubatch >= CHOIR_UBATCH_MIN && ubatch <= CHOIR_UBATCH_MAX ? (guint)ubatch : 0;
}

void choir_llm_probe_store(const char *state_dir, const char *key, guint ubatch, double rate) {
  g_autofree char *path = probe_path(state_dir);
  g_autoptr(GError) error = NULL;
  json_t *all = probe_read(state_dir);
  json_object_set_new(all, key, json_pack("{s:i,s:f}", "ubatch", (int)ubatch, "tokens_per_second", rate));
  g_autofree char *text = choir_json_dump(all);
  json_decref(all);
  /* Without it the next start probes again: not worth failing for. */
  if (!g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0600, &error))
    choir_warning(CHOIR_TOPIC_LLM, "the probe result cannot be kept: %s", error->message);
}

guint choir_llm_probe_choose(double rate) {
  guint ubatch = CHOIR_UBATCH_MIN;
  while (ubatch < CHOIR_UBATCH_MAX && 2 * ubatch <= rate * CHOIR_BATCH_SECONDS)
    ubatch *= 2;
  return ubatch;
}

typedef struct {
  ChoirHttpClient *http;
  ChoirChat *chat;
  GCancellable *cancellable;
  ChoirLlmProbeDone done;
  gpointer user;
  guint round;
  double best;
} Probe;

static void probe_send(Probe *probe);

static void probe_finish(Probe *probe, const GError *error) {
  probe->done(probe->best, error, probe->user);
  g_object_unref(probe->cancellable);
  g_free(probe);
}

static void on_probe(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  Probe *probe = user;
  g_autoptr(GError) failure = error ? g_error_copy(error) : NULL;
  json_t *answer = failure ? NULL : choir_json_parse(body, length, &failure);
  json_t *timings = json_object_get(answer, "timings");
  gint64 tokens = choir_json_int(timings, "prompt_n", 0);
  double ms = choir_json_double(timings, "prompt_ms", 0);
  json_decref(answer);
  if (!failure && (tokens < PROBE_TOKENS / 2 || ms <= 0))
    failure =
        g_error_new(CHOIR_CHAT_ERROR, CHOIR_CHAT_ERROR_PROTOCOL, "the server did not say how long the prompt took");
  if (failure) {
    probe_finish(probe, failure);
    return;
  }
  probe->best = MAX(probe->best, (double)tokens * 1000 / ms);
  /* The first round also pages the model in. Slow machines are not made to wait for a second one when it cannot matter.
   */
  if (++probe->round < 2 && ms < 8000)
    probe_send(probe);
  else
    probe_finish(probe, NULL);
}

static void probe_send(Probe *probe) {
  json_t *prompt = json_array();
  /* Token numbers instead of text: the count is exact for every vocabulary. Different each round: nothing is cached. */
  for (guint i = 0; i < PROBE_TOKENS; i++)
    json_array_append_new(prompt, json_integer(300 + probe->round * PROBE_TOKENS + i));
  json_t *request = json_pack("{s:o,s:i,s:b,s:i,s:b}", "prompt", prompt, "n_predict", 0, "cache_prompt", 0, "id_slot",
                              CHOIR_SLOT_API, "stream", 0);
  g_autofree char *body = choir_json_dump(request);
  json_decref(request);
  g_autofree char *url = g_strconcat(choir_chat_base_url(probe->chat), "/completion", NULL);
  choir_http_request(probe->http, "POST", url, "application/json", body, strlen(body), choir_chat_headers(probe->chat),
                     PROBE_TIMEOUT_MS, 0, probe->cancellable, on_probe, probe);
}

void choir_llm_probe_run(ChoirHttpClient *http, ChoirChat *chat, GCancellable *cancellable, ChoirLlmProbeDone done,
                         gpointer user) {
  Probe *probe = g_new0(Probe, 1);
  probe->http = http;
  probe->chat = chat;
  probe->cancellable = g_object_ref(cancellable);
  probe->done = done;
  probe->user = user;
  probe_send(probe);
}

void choir_llm_server_observe(ChoirLlmServer *server, const ChoirChatTimings *timings) {
  if (!server->child || server->remote || timings->evaluated_tokens < PROBE_TOKENS || timings->prompt_ms <= 0)
    return;
  double rate = timings->evaluated_tokens * 1000.0 / timings->prompt_ms;
  guint ubatch = choir_llm_probe_choose(rate);
  if (rate <= server->rate || ubatch <= server->command.ubatch)
    return;
  server->rate = rate; /* the running process keeps its batch size */
  g_autofree char *key = choir_llm_probe_key(&server->command);
  choir_llm_probe_store(server->command.state_dir, key, ubatch, rate);
  choir_info(CHOIR_TOPIC_LLM, "reads %.1f tokens a second when it is quiet: %u at a time from the next start on", rate,
             ubatch);
}
