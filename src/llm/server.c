#include "llm/server_private.h"
#include <glib/gstdio.h>
#include <string.h>
#include "base/log.h"
#include "base/metrics.h"
#include "base/names.h"
#include "base/text.h"

#define POLL_STARTING_MS 200
#define POLL_EXTERNAL_MS 5000
#define HEALTH_TIMEOUT_MS 3000
#define SLOT_TIMEOUT_MS 60000
#define MAX_SLOT_FILES 4 /* persona, live conversation, and one older of each */

typedef enum { STATE_STOPPED, STATE_STARTING, STATE_LOADING, STATE_PROBING, STATE_READY, STATE_AWAY } State;
static const char *const state_names[] = {"stopped", "starting", "loading", "probing", "ready", "away"};

typedef struct {
  void (*changed)(gpointer user);
  gpointer user;
} Listener;

/* Requests in flight hold a reference each, so that free() needs to wait for none of them. */
struct ChoirLlmServer {
  guint refs;
  gboolean dead;
  ChoirLlmCommand command;
  char *external_url;
  ChoirHttpClient *http;
  ChoirChat *chat;
  ChoirChild *child;
  GCancellable *cancellable; /* of the running process's requests */
  State state;
  char *progress, *variant, *why;
  guint64 params;
  guint context;
  double rate;
  const char *restarting; /* why it is being restarted, static; NULL when it is not */
  guint poll;
  GArray *listeners;
  ChoirMetric *ready_gauge;
};

static void server_unref(ChoirLlmServer *server) {
  if (--server->refs > 0)
    return;
  choir_chat_free(server->chat);
  choir_llm_command_clear(&server->command);
  g_clear_object(&server->cancellable);
  g_array_unref(server->listeners);
  g_free(server->external_url);
  g_free(server->progress);
  g_free(server->variant);
  g_free(server->why);
  g_free(server);
}

static void set_state(ChoirLlmServer *server, State state, const char *progress) {
  if (server->state == state && g_strcmp0(server->progress, progress) == 0)
    return;
  server->state = state;
  char *copy = g_strdup(progress);
  g_free(server->progress);
  server->progress = copy;
  choir_gauge_set(server->ready_gauge, state == STATE_READY);
  /* A listener may remove itself or others while we walk. */
  g_autoptr(GArray) walk = g_array_copy(server->listeners);
  for (guint i = 0; i < walk->len; i++) {
    Listener *listener = &g_array_index(walk, Listener, i);
    listener->changed(listener->user);
  }
}

static void schedule_poll(ChoirLlmServer *server, guint ms);

static void become_ready(ChoirLlmServer *server) {
  if (server->child)
    choir_child_mark_ready(server->child);
  set_state(server, STATE_READY, "ready");
}

static void restart_after_stop(gpointer user) {
  ChoirLlmServer *server = user;
  if (!server->dead && server->restarting)
    choir_child_start(server->child);
  server->restarting = NULL;
  server_unref(server);
}

static void restart(ChoirLlmServer *server, const char *reason) {
  server->restarting = reason;
  server->refs++;
  set_state(server, STATE_STARTING, reason);
  choir_child_stop(server->child, restart_after_stop, server);
}

static void explain(ChoirLlmServer *server, const char *source) {
  guint ubatch = server->command.ubatch;
  g_free(server->why);
  server->why = g_strdup_printf("%s: reads %.1f tokens a second, so %u at a time: a cancelled prompt stops within %.1f s", source,
                                server->rate, ubatch, MAX(0.1, ubatch / server->rate));
}

static void on_probe(double rate, const GError *error, gpointer user) {
  ChoirLlmServer *server = user;
  if (!server->dead && !(error && g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))) {
    if (error) {
      choir_warning(CHOIR_TOPIC_LLM, "the probe failed, keeping -ub %u: %s", server->command.ubatch, error->message);
      become_ready(server);
    } else {
      guint before = server->command.ubatch;
      server->rate = rate;
      server->command.ubatch = choir_llm_probe_choose(rate);
      explain(server, "probed");
      g_autofree char *key = choir_llm_probe_key(&server->command);
      choir_llm_probe_store(server->command.state_dir, key, server->command.ubatch, rate);
      choir_info(CHOIR_TOPIC_LLM, "%s", server->why);
      if (server->command.ubatch == before) {
        become_ready(server);
      } else {
        restart(server, "starting again with the probed batch size");
      }
    }
  }
  server_unref(server);
}

static void on_models(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  ChoirLlmServer *server = user;
  if (!server->dead && !(error && g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))) {
    json_t *answer = !error && status == 200 ? choir_json_parse(body, length, NULL) : NULL;
    json_t *model = json_array_get(json_object_get(answer, "data"), 0);
    json_t *meta = json_object_get(model, "meta");
    server->params = (guint64)choir_json_int(meta, "n_params", 0);
    server->context = server->child ? server->command.context : (guint)choir_json_int(meta, "n_ctx", 0);
    if (!server->child && !server->command.model_name)
      server->command.model_name = g_strdup(choir_json_string(model, "id", NULL));
    json_decref(answer);
    if (server->child && server->rate <= 0) {
      set_state(server, STATE_PROBING, "measuring how fast this machine reads");
      server->refs++;
      choir_llm_probe_run(server->http, server->chat, server->cancellable, on_probe, server);
    } else {
      become_ready(server);
    }
  }
  server_unref(server);
}

static void get(ChoirLlmServer *server, const char *path, ChoirHttpDone done) {
  g_autofree char *url = g_strconcat(choir_chat_base_url(server->chat), path, NULL);
  server->refs++;
  choir_http_request(server->http, "GET", url, NULL, NULL, 0, choir_chat_headers(server->chat), HEALTH_TIMEOUT_MS, 0,
                     server->cancellable, done, server);
}

static void on_health(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  ChoirLlmServer *server = user;
  gboolean cancelled = error && g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  if (!server->dead && !cancelled) {
    /* 404: an OpenAI-compatible server of another make; its list of models answers instead. */
    gboolean up = status == 200 || (!server->child && (status == 404 || status == 401));
    if (server->child) {
      if (up) {
        g_free(server->variant);
        server->variant = choir_llm_loaded_variant(choir_child_pid(server->child));
        get(server, "/v1/models", on_models);
      } else {
        set_state(server, STATE_LOADING, status == 503 ? "loading the language model" : "starting the language model server");
        schedule_poll(server, POLL_STARTING_MS);
      }
    } else {
      if (up && server->state != STATE_READY) {
        get(server, "/v1/models", on_models);
      } else if (!up) {
        g_autofree char *text = g_strdup_printf("waiting for %s: %s", server->external_url, error ? error->message : "not ready");
        set_state(server, status == 503 ? STATE_LOADING : STATE_AWAY, text);
      }
      schedule_poll(server, up ? POLL_EXTERNAL_MS : POLL_EXTERNAL_MS / 5);
    }
  }
  server_unref(server);
}

static gboolean poll_now(gpointer user) {
  ChoirLlmServer *server = user;
  server->poll = 0;
  get(server, "/health", on_health);
  return G_SOURCE_REMOVE;
}

static void schedule_poll(ChoirLlmServer *server, guint ms) {
  if (server->poll == 0)
    server->poll = g_timeout_add(ms, poll_now, server);
}

static void forget_process(ChoirLlmServer *server) {
  g_clear_handle_id(&server->poll, g_source_remove);
  g_cancellable_cancel(server->cancellable);
  g_clear_object(&server->cancellable);
  server->cancellable = g_cancellable_new();
}

static gboolean on_prepare(ChoirChild *child, GStrv *ret_argv, GStrv *ret_env, GArray *fds, gpointer user, GError **error) {
  ChoirLlmServer *server = user;
  if (!choir_llm_command_build(&server->command, ret_argv, ret_env, error))
    return FALSE;
  g_autofree char *url = g_strdup_printf("http://127.0.0.1:%u", server->command.port);
  choir_chat_set_server(server->chat, url, server->command.api_key);
  return TRUE;
}

static void on_started(ChoirChild *child, GPid pid, gpointer user) {
  ChoirLlmServer *server = user;
  forget_process(server);
  set_state(server, STATE_STARTING, "starting the language model server");
  schedule_poll(server, POLL_STARTING_MS);
}

static void on_exited(ChoirChild *child, int wait_status, gpointer user) {
  ChoirLlmServer *server = user;
  forget_process(server);
  const char *reason = choir_child_last_error(child);
  g_autofree char *text = server->restarting ? g_strdup(server->restarting)
                          : reason           ? g_strdup_printf("the language model server stopped: %s", reason)
                                             : g_strdup("the language model server is not running");
  set_state(server, server->restarting ? STATE_STARTING : STATE_STOPPED, text);
}

/* What an earlier probe of this model on this machine found. */
static void recall_probe(ChoirLlmServer *server) {
  g_autofree char *key = choir_llm_probe_key(&server->command);
  server->rate = 0;
  guint ubatch = choir_llm_probe_load(server->command.state_dir, key, &server->rate);
  if (ubatch && server->rate > 0) {
    server->command.ubatch = ubatch;
    explain(server, "probed earlier");
  } else {
    server->command.ubatch = CHOIR_UBATCH_START;
    g_clear_pointer(&server->why, g_free);
  }
}

static void setup_local(ChoirLlmServer *server, const ChoirLlmServerOptions *options) {
  choir_llm_command_init(&server->command, options);
  recall_probe(server);
  server->chat = choir_chat_new(server->http, "http://127.0.0.1:0", NULL);
  /* A little nicer than the audio workers: a late word is better than a gap in one. */
  ChoirChildSpec spec = {.name = "llama-server", .topic = CHOIR_TOPIC_LLM, .prepare = on_prepare, .started = on_started,
                         .exited = on_exited, .user = server, .nice = 5};
  server->child = choir_child_new(&spec);
}

ChoirLlmServer *choir_llm_server_new(const ChoirLlmServerOptions *options, ChoirHttpClient *http, GError **error) {
  ChoirLlmServer *server = g_new0(ChoirLlmServer, 1);
  server->refs = 1;
  server->http = http;
  server->cancellable = g_cancellable_new();
  server->listeners = g_array_new(FALSE, FALSE, sizeof(Listener));
  server->progress = g_strdup("not started");
  server->ready_gauge = choir_gauge("choir_llm_ready", NULL, "1 when the language model server answers");
  if (options->external_url && *options->external_url) {
    server->chat = choir_chat_new(http, options->external_url, g_getenv("OPENAI_API_KEY"));
    server->external_url = g_strdup(choir_chat_base_url(server->chat));
    server->command.model_name = g_strdup(options->model_name);
    server->command.state_dir = g_strdup(options->state_dir);
    server->why = g_strdup("another machine's server decides");
  } else {
    setup_local(server, options);
  }
  return server;
}

void choir_llm_server_start(ChoirLlmServer *server) {
  if (server->child)
    choir_child_start(server->child);
  else
    schedule_poll(server, 1);
}

void choir_llm_server_use_model(ChoirLlmServer *server, const char *model_path, const char *model_name) {
  if (!server->child)
    return;
  gboolean again = server->restarting != NULL;
  char *path = g_strdup(model_path), *name = g_strdup(model_name);
  g_free(server->command.model_path);
  g_free(server->command.model_name);
  server->command.model_path = path;
  server->command.model_name = name;
  recall_probe(server);
  if (!again) /* a restart under way reads the new path when it starts */
    restart(server, "changing the language model");
}

void choir_llm_server_stop(ChoirLlmServer *server, void (*done)(gpointer user), gpointer user) {
  server->restarting = NULL;
  forget_process(server);
  if (server->child) {
    choir_child_stop(server->child, done, user);
    return;
  }
  set_state(server, STATE_STOPPED, "stopped");
  if (done)
    done(user);
}

void choir_llm_server_free(ChoirLlmServer *server) {
  if (!server)
    return;
  server->dead = TRUE;
  g_array_set_size(server->listeners, 0);
  forget_process(server);
  if (server->child)
    choir_child_free(server->child);
  server->child = NULL;
  server_unref(server);
}

gboolean choir_llm_server_ready(const ChoirLlmServer *server) {
  return server->state == STATE_READY;
}

void choir_llm_server_on_change(ChoirLlmServer *server, void (*changed)(gpointer user), gpointer user) {
  Listener listener = {changed, user};
  g_array_append_val(server->listeners, listener);
}

void choir_llm_server_off_change(ChoirLlmServer *server, void (*changed)(gpointer user), gpointer user) {
  for (guint i = server->listeners->len; i-- > 0;) {
    Listener *listener = &g_array_index(server->listeners, Listener, i);
    if (listener->changed == changed && listener->user == user)
      g_array_remove_index(server->listeners, i);
  }
}

ChoirChat *choir_llm_server_chat(ChoirLlmServer *server) {
  return server->chat;
}

ChoirChild *choir_llm_server_child(ChoirLlmServer *server) {
  return server->child;
}

guint64 choir_llm_server_params(const ChoirLlmServer *server) {
  return server->params;
}

guint choir_llm_server_context(const ChoirLlmServer *server) {
  return server->context;
}

const char *choir_llm_server_model(const ChoirLlmServer *server) {
  return server->command.model_name;
}

const char *choir_llm_server_progress(const ChoirLlmServer *server) {
  return server->progress;
}

json_t *choir_llm_server_status(const ChoirLlmServer *server) {
  return json_pack("{s:s,s:s,s:s*,s:s*,s:s*,s:i,s:i,s:i,s:s}", "state", state_names[server->state], "progress",
                   server->progress ? server->progress : "", "model", server->command.model_name, "variant", server->variant,
                   "why", server->why, "batch", server->child ? (int)server->command.ubatch : 0, "ubatch",
                   server->child ? (int)server->command.ubatch : 0, "threads", (int)server->command.threads, "url",
                   choir_chat_base_url(server->chat));
}

/* Slot files */

typedef struct {
  ChoirLlmServer *server;
  char *path;
  gboolean save;
  void (*done)(gboolean ok, gint tokens, gpointer user);
  gpointer user;
} SlotJob;

static void slot_job_finish(SlotJob *job, gboolean ok, gint tokens) {
  job->done(ok, tokens, job->user);
  server_unref(job->server);
  g_free(job->path);
  g_free(job);
}

static gint newer_first(gconstpointer a, gconstpointer b) {
  GStatBuf x = {0}, y = {0};
  g_stat(*(const char *const *)a, &x);
  g_stat(*(const char *const *)b, &y);
  return x.st_mtim.tv_sec != y.st_mtim.tv_sec ? (x.st_mtim.tv_sec < y.st_mtim.tv_sec ? 1 : -1)
                                              : (x.st_mtim.tv_nsec < y.st_mtim.tv_nsec) - (x.st_mtim.tv_nsec > y.st_mtim.tv_nsec);
}

static void prune_slots(const char *dir) {
  g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);
  g_autoptr(GDir) handle = g_dir_open(dir, 0, NULL);
  const char *name;
  while (handle && (name = g_dir_read_name(handle)))
    if (g_str_has_suffix(name, ".slot"))
      g_ptr_array_add(paths, g_build_filename(dir, name, NULL));
  g_ptr_array_sort(paths, newer_first);
  for (guint i = MAX_SLOT_FILES; i < paths->len; i++)
    g_unlink(paths->pdata[i]);
}

static void on_slot(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  SlotJob *job = user;
  json_t *answer = !error && status == 200 ? choir_json_parse(body, length, NULL) : NULL;
  gint tokens = (gint)choir_json_int(answer, job->save ? "n_saved" : "n_restored", 0);
  json_decref(answer);
  if (tokens > 0 && job->save)
    prune_slots(job->server->command.slots_dir);
  if (tokens <= 0) {
    choir_debug(CHOIR_TOPIC_LLM, "slot %s: %s", job->save ? "save" : "restore", error ? error->message : "no tokens");
    /* Half-written, or of another cache type: it would fail at every start. */
    if (!(error && g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED)))
      g_unlink(job->path);
  }
  slot_job_finish(job, tokens > 0, tokens);
}

static gboolean slot_refused(gpointer user) {
  slot_job_finish(user, FALSE, 0);
  return G_SOURCE_REMOVE;
}

static void slot_action(ChoirLlmServer *server, int slot, const char *key, gboolean save,
                        void (*done)(gboolean ok, gint tokens, gpointer user), gpointer user) {
  SlotJob *job = g_new0(SlotJob, 1);
  job->server = server;
  job->save = save;
  job->done = done;
  job->user = user;
  server->refs++;
  if (!server->child || server->state != STATE_READY) {
    g_idle_add(slot_refused, job);
    return;
  }
  /* What the file depends on besides the caller's prompt: weights, cache type, context. */
  g_autofree char *kind = g_strdup_printf("%s|%s|%d|%u|%s", server->command.model_path, server->command.engine_dir,
                                          server->command.half_floats, server->command.context, key);
  g_autofree char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, kind, -1);
  g_autofree char *name = g_strdup_printf("%.32s.slot", hash);
  job->path = g_build_filename(server->command.slots_dir, name, NULL);
  if (!save && !g_file_test(job->path, G_FILE_TEST_IS_REGULAR)) {
    g_idle_add(slot_refused, job);
    return;
  }
  g_autofree char *url = g_strdup_printf("%s/slots/%d?action=%s", choir_chat_base_url(server->chat), slot, save ? "save" : "restore");
  g_autofree char *body = g_strdup_printf("{\"filename\":\"%s\"}", name);
  choir_http_request(server->http, "POST", url, "application/json", body, strlen(body), choir_chat_headers(server->chat),
                     SLOT_TIMEOUT_MS, 0, server->cancellable, on_slot, job);
}

void choir_llm_server_slot_save(ChoirLlmServer *server, int slot, const char *key, void (*done)(gboolean ok, gint tokens, gpointer user),
                                gpointer user) {
  slot_action(server, slot, key, TRUE, done, user);
}

void choir_llm_server_slot_restore(ChoirLlmServer *server, int slot, const char *key,
                                   void (*done)(gboolean ok, gint tokens, gpointer user), gpointer user) {
  slot_action(server, slot, key, FALSE, done, user);
}
