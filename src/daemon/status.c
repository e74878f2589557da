/* GET /api/status: what runs, how well, what is missing and what to do about it. */
#include <string.h>
#include <unistd.h>
#include "base/log.h"
#include "base/metrics.h"
#include "base/names.h"
#include "base/text.h"
#include "base/version.h"
#include "daemon/app.h"

static json_t *child_json(ChoirChild *child) {
  const char *error = choir_child_last_error(child);
  return json_pack("{s:s,s:i,s:s,s:i,s:I,s:s?}", "name", choir_child_name(child), "pid", (int)choir_child_pid(child),
                   "state", choir_child_state_name(choir_child_state(child)), "restarts",
                   (int)choir_child_restarts(child), "rss_kb", (json_int_t)choir_child_rss_kb(child), "error", error);
}

static json_t *engine_json(ChoirWorker *worker, const char *configured) {
  const char *info = choir_worker_info(worker);
  json_auto_t *parsed = info ? json_loads(info, 0, NULL) : NULL;
  const char *error = choir_child_last_error(choir_worker_child(worker));
  gboolean ready = choir_worker_ready(worker);
  const char *detail = parsed ? choir_json_string(parsed, "detail", "") : "";
  if (!ready && error)
    detail = error;
  json_t *engine =
      json_pack("{s:s,s:b,s:s}", "engine", parsed ? choir_json_string(parsed, "engine", configured) : configured,
                "ready", ready, "detail", detail);
  /* tier and reason: which engine was chosen and why; realtime: its cost for a second of sound. */
  static const char *const more[] = {"progress", "tier", "reason", "realtime", "turn_ms", "spot"};
  for (gsize i = 0; parsed && i < G_N_ELEMENTS(more); i++)
    if (json_object_get(parsed, more[i]))
      json_object_set(engine, more[i], json_object_get(parsed, more[i]));
  return engine;
}

static void missing(json_t *list, const char *what, const char *why, const char *remedy) {
  json_array_append_new(list, json_pack("{s:s,s:s,s:s}", "what", what, "why", why, "remedy", remedy));
}

static void missing_child(json_t *list, ChoirChild *child, const char *what, const char *remedy) {
  if (!child || choir_child_state(child) != CHOIR_CHILD_BACKOFF)
    return;
  const char *error = choir_child_last_error(child);
  missing(list, what, error ? error : "it stopped", remedy);
}

static void missing_worker(json_t *list, ChoirWorker *worker, const char *what, const char *remedy) {
  missing_child(list, choir_worker_child(worker), what, remedy);
}

static json_t *missing_json(ChoirApp *app) {
  json_t *list = json_array();
  if (app->llm_error)
    missing(list, "language model", app->llm_error, "run ./run --setup-only, or choose a model below");
  ChoirChild *llm = choir_llm_server_child(app->llm);
  if (llm && choir_child_state(llm) == CHOIR_CHILD_BACKOFF)
    missing(list, "language model server", choir_child_last_error(llm) ? choir_child_last_error(llm) : "it stopped",
            "see the log under the topic llm; 'choir models verify' checks the file");
  missing_worker(list, app->ear, "voice activity detection",
                 "see the log under the topic ear; ./run --setup-only fetches what it needs");
  missing_worker(list, app->stt, "speech recognition",
                 "see the log under the topic stt; STT_SERVICE=pocketsphinx is the light engine");
  missing_worker(list, app->tts, "voice output",
                 "see the log under the topic tts; TTS_SERVICE=flite is the light voice");
  missing_child(list, choir_local_voice_child(app->card), "this machine's own microphone and speaker",
                "it is tried again by itself; [voice] microphone and speaker name the devices, off turns them off");
  const char *consul = app->consul ? choir_consul_problem(app->consul) : NULL;
  if (consul)
    missing(list, "Consul", consul, "the last known experts stay in use; see the view Cluster, or 'choir nodes'");
  const char *alone = app->ship ? choir_ship_problem(app->ship) : app->ship_error;
  if (alone)
    missing(list, "copy on another node", alone,
            "when this machine dies, what was said on it is lost; see docs/cluster.md");
  return list;
}

static json_t *model_json(ChoirApp *app) {
  json_t *model = choir_llm_server_status(app->llm);
  const char *name = choir_json_string(model, "model", "");
  const ChoirModel *listed = app->models ? choir_models_find(app->models, name) : NULL;
  json_object_set_new(model, "name", json_string(name));
  json_object_set_new(model, "weak", json_boolean(listed && listed->memory_mb < 500));
  json_object_set_new(model, "note", json_string(listed && listed->note ? listed->note : ""));
  if (app->llm_error)
    json_object_set_new(model, "state", json_string("missing"));
  return model;
}

void choir_app_children(ChoirApp *app, ChoirChild *ret_children[CHOIR_APP_CHILDREN]) {
  ret_children[0] = choir_llm_server_child(app->llm);
  ret_children[1] = choir_worker_child(app->ear);
  ret_children[2] = choir_worker_child(app->stt);
  ret_children[3] = choir_worker_child(app->tts);
  ret_children[4] = choir_worker_phonemes(app->tts);
  ret_children[5] = choir_local_voice_child(app->card);
  ret_children[6] = choir_mind_embedder(app->mind);
  ret_children[7] = app->tls ? choir_tls_child(app->tls) : NULL;
}

gint64 choir_app_memory_kb(void) {
  g_autofree char *text = NULL;
  long pages = 0;
  if (!g_file_get_contents("/proc/self/statm", &text, NULL, NULL) || sscanf(text, "%*d %ld", &pages) != 1)
    return -1;
  return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static char *readable(json_t *children, const char *twin) {
  GString *text = g_string_new("Current pipeline status:\n");
  g_string_append_printf(text, "- Task %s: %s\n", CHOIR_SERVICE_CLASS, twin);
  size_t i;
  json_t *child;
  json_array_foreach(children, i, child) g_string_append_printf(
      text, "- Task %s: %s\n", choir_json_string(child, "name", ""), choir_json_string(child, "state", ""));
  g_string_truncate(text, text->len - 1);
  return g_string_free(text, FALSE);
}

json_t *choir_app_status(ChoirApp *app) {
  json_t *children = json_array();
  ChoirChild *list[CHOIR_APP_CHILDREN];
  choir_app_children(app, list);
  for (gsize i = 0; i < G_N_ELEMENTS(list); i++)
    if (list[i])
      json_array_append_new(children, child_json(list[i]));
  g_autofree char *text = readable(children, choir_twin_state(app->twin));
  const char *stt = choir_config_string(app->config, "stt", "service");
  const char *tts = choir_config_string(app->config, "tts", "service");
  json_t *engines = json_pack("{s:o,s:o,s:o}", "vad", engine_json(app->ear, "silero"), "stt",
                              engine_json(app->stt, stt), "tts", engine_json(app->tts, tts));
  return json_pack("{s:s,s:s,s:s,s:f,s:o,s:o,s:o,s:o,s:o,s:o,s:i,s:i,s:I,s:I,s:o}", "status", text, "version",
                   choir_version(), "state", choir_twin_state(app->twin), "uptime_s",
                   (double)(g_get_monotonic_time() - app->started_us) / 1e6, "model", model_json(app), "engines",
                   engines, "children", children, "missing", missing_json(app), "card",
                   choir_local_voice_status(app->card), "wyoming", choir_wyoming_status(app->wyoming), "queue",
                   (int)choir_twin_queued(app->twin), "sessions", (int)choir_voice_sessions(app->voice), "memory_kb",
                   (json_int_t)choir_app_memory_kb(), "log_drops", (json_int_t)choir_log_dropped(), "standby",
                   app->ship ? choir_ship_status(app->ship) : json_null());
}
