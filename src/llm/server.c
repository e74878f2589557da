#include "llm/server_private.h"
#include <string.h>
#include "base/log.h"
#include "base/metrics.h"
#include "base/names.h"
#include "base/text.h"

#define POLL_STARTING_MS 200
#define POLL_EXTERNAL_MS 5000
#define HEALTH_TIMEOUT_MS 3000
#define VARIANT_SAYS "ggml-cpu-core2: " /* engine/variant.c */

static const char *const state_names[] = {"stopped", "starting", "loading", "probing", "ready", "away"};

void choir_llm_server_unref(ChoirLlmServer *server) {
  if (--server->refs > 0)
    return;
  choir_chat_free(server->chat);
  choir_chat_free(server->light);
  g_free(server->remote);
  g_free(server->remote_model);
  choir_llm_command_clear(&server->command);
  g_clear_object(&server->cancellable);
  g_array_unref(server->listeners);
  g_free(server->external_url);
  g_free(server->progress);
  g_free(server->variant);
  g_free(server->why);
  g_free(server->variant_said);
  g_free(server->variant_why);
  g_free(server);
}

void choir_llm_server_tell(ChoirLlmServer *server) {
  /* A listener may remove itself or others while we walk. */
  g_autoptr(GArray) walk = g_array_copy(server->listeners);
  for (guint i = 0; i < walk->len; i++) {
    ChoirLlmListener *listener = &g_array_index(walk, ChoirLlmListener, i);
    listener->changed(listener->user);
  }
}

static void set_state(ChoirLlmServer *server, ChoirLlmState state, const char *progress) {
  if (server->state == state && g_strcmp0(server->progress, progress) == 0)
    return;
  server->state = state;
  char *copy = g_strdup(progress);
  g_free(server->progress);
  server->progress = copy;
  choir_gauge_set(server->ready_gauge, state == STATE_READY);
  choir_llm_server_tell(server);
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
  choir_llm_server_unref(server);
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
  server->why =
      g_strdup_printf("%s: reads %.1f tokens a second, so %u at a time: a cancelled prompt stops within %.1f s", source,
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
  choir_llm_server_unref(server);
}

static void on_models(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  ChoirLlmServer *server = user;
  if (!server->dead && !(error && g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))) {
    json_t *answer = !error && status == 200 ? choir_json_parse(body, length, NULL) : NULL;
    json_t *model = json_array_get(json_object_get(answer, "data"), 0);
    json_t *meta = json_object_get(model, "meta");
    server->params = (guint64)choir_json_int(meta, "n_params", 0);
    server->context = server->child ? server->command.context : (guint)choir_json_int(meta, "n_ctx", 0);
    if (!server->child) {
      /* A health route alone does not make it a llama-server: others have one, too, and name themselves here. */
      gboolean other = !g_str_equal(choir_json_string(model, "owned_by", "llamacpp"), "llamacpp");
      if (!server->command.model_name)
        server->command.model_name = g_strdup(choir_json_string(model, "id", NULL));
      choir_chat_set_model(server->chat, server->command.model_name, server->plain || other);
    }
    json_decref(answer);
    if (server->child && server->rate <= 0) {
      set_state(server, STATE_PROBING, "measuring how fast this machine reads");
      server->refs++;
      choir_llm_probe_run(server->http, server->light, server->cancellable, on_probe, server);
    } else {
      become_ready(server);
    }
  }
  choir_llm_server_unref(server);
}

static void get(ChoirLlmServer *server, const char *path, ChoirHttpDone done) {
  const ChoirChat *own = server->light ? server->light : server->chat;
  g_autofree char *url = g_strconcat(choir_chat_base_url(own), path, NULL);
  server->refs++;
  choir_http_request(server->http, "GET", url, NULL, NULL, 0, choir_chat_headers(own), HEALTH_TIMEOUT_MS, 0,
                     server->cancellable, done, server);
}

static void on_health(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  ChoirLlmServer *server = user;
  gboolean cancelled = error && g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  if (!server->dead && !cancelled) {
    /* 4xx: an OpenAI-compatible server of another make has no such route, or wants the key; its list of models answers.
     */
    gboolean up = status == 200 || (!server->child && status >= 400 && status < 500 && status != 429);
    if (server->child) {
      if (up) {
        g_free(server->variant);
        server->variant = choir_llm_loaded_variant(choir_child_pid(server->child));
        g_clear_pointer(&server->variant_why, g_free);
        if (server->variant)
          server->variant_why = choir_llm_variant_why(&server->command, server->variant, server->variant_said);
        get(server, "/v1/models", on_models);
      } else {
        set_state(server, STATE_LOADING,
                  status == 503 ? "loading the language model" : "starting the language model server");
        schedule_poll(server, POLL_STARTING_MS);
      }
    } else {
      if (up && server->state != STATE_READY) {
        server->plain = status != 200;
        get(server, "/v1/models", on_models);
      } else if (!up) {
        g_autofree char *text =
            g_strdup_printf("waiting for %s: %s", server->external_url, error ? error->message : "not ready");
        set_state(server, status == 503 ? STATE_LOADING : STATE_AWAY, text);
      }
      schedule_poll(server, up ? POLL_EXTERNAL_MS : POLL_EXTERNAL_MS / 5);
    }
  }
  choir_llm_server_unref(server);
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

static gboolean on_prepare(ChoirChild *child, GStrv *ret_argv, GStrv *ret_env, GArray *fds, gpointer user,
                           GError **error) {
  ChoirLlmServer *server = user;
  g_autoptr(GError) problem = NULL;
  if (!choir_llm_command_build(&server->command, ret_argv, ret_env, &problem)) {
    set_state(server, STATE_STOPPED, problem->message);
    g_propagate_error(error, g_steal_pointer(&problem));
    return FALSE;
  }
  g_autofree char *url = g_strdup_printf("http://127.0.0.1:%u", server->command.port);
  choir_chat_set_server(server->light, url, server->command.api_key);
  if (!server->remote)
    choir_chat_set_server(server->chat, url, server->command.api_key);
  return TRUE;
}

/* "0.12.345.678 W slot ...": its warnings are remarks on every turn ("need to evaluate ..."), its errors are errors. */
static int line_level(const char *line) {
  const char *mark = line + strspn(line, "0123456789.");
  if (mark == line || mark[0] != ' ' || mark[1] == '\0' || mark[2] != ' ')
    return -1;
  return mark[1] == 'E' ? CHOIR_LOG_WARNING : CHOIR_LOG_DEBUG;
}

/* Our CPU variant says once, on standard error, what it decided. */
static void on_line(ChoirChild *child, const char *line, gpointer user) {
  ChoirLlmServer *server = user;
  if (g_str_has_prefix(line, VARIANT_SAYS)) {
    g_free(server->variant_said);
    server->variant_said = g_strdup(line + strlen(VARIANT_SAYS));
  }
}

static void on_started(ChoirChild *child, GPid pid, gpointer user) {
  ChoirLlmServer *server = user;
  forget_process(server);
  g_clear_pointer(&server->variant_said, g_free);
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
  server->light = choir_chat_new(server->http, "http://127.0.0.1:0", NULL);
  /* A little nicer than the audio workers: a late word is better than a gap in one. */
  ChoirChildSpec spec = {.name = "llama-server",
                         .topic = CHOIR_TOPIC_LLM,
                         .prepare = on_prepare,
                         .started = on_started,
                         .exited = on_exited,
                         .line_level = line_level,
                         .line = on_line,
                         .user = server,
                         .nice = 5};
  server->child = choir_child_new(&spec);
}

ChoirLlmServer *choir_llm_server_new(const ChoirLlmServerOptions *options, ChoirHttpClient *http, GError **error) {
  ChoirLlmServer *server = g_new0(ChoirLlmServer, 1);
  server->refs = 1;
  server->http = http;
  server->cancellable = g_cancellable_new();
  server->listeners = g_array_new(FALSE, FALSE, sizeof(ChoirLlmListener));
  server->progress = g_strdup("not started");
  server->ready_gauge = choir_gauge("choir_llm_ready", NULL, "1 when the language model server answers");
  if (options->external_url && *options->external_url) {
    server->chat = choir_chat_new(http, options->external_url, g_getenv("OPENAI_API_KEY"));
    server->external_url = g_strdup(choir_chat_base_url(server->chat));
    if (options->model_name && *options->model_name)
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
  choir_llm_server_forget_remote(server);
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
  choir_llm_server_forget_remote(server);
  g_array_set_size(server->listeners, 0);
  forget_process(server);
  if (server->child)
    choir_child_free(server->child);
  server->child = NULL;
  choir_llm_server_unref(server);
}

gboolean choir_llm_server_ready(const ChoirLlmServer *server) {
  return !server->moving && (server->remote || server->state == STATE_READY);
}

void choir_llm_server_on_change(ChoirLlmServer *server, void (*changed)(gpointer user), gpointer user) {
  ChoirLlmListener listener = {changed, user};
  g_array_append_val(server->listeners, listener);
}

void choir_llm_server_off_change(ChoirLlmServer *server, void (*changed)(gpointer user), gpointer user) {
  for (guint i = server->listeners->len; i-- > 0;) {
    ChoirLlmListener *listener = &g_array_index(server->listeners, ChoirLlmListener, i);
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
  return server->remote ? server->remote_params : server->params;
}

guint choir_llm_server_context(const ChoirLlmServer *server) {
  return server->remote ? server->remote_context : server->context;
}

const char *choir_llm_server_model(const ChoirLlmServer *server) {
  return server->remote ? server->remote_model : server->command.model_name;
}

const char *choir_llm_server_progress(const ChoirLlmServer *server) {
  return server->progress;
}

json_t *choir_llm_server_status(const ChoirLlmServer *server) {
  return json_pack("{s:s,s:s,s:s*,s:s*,s:s*,s:s*,s:s*,s:i,s:i,s:i,s:s}", "state",
                   server->remote ? "ready" : state_names[server->state], "progress",
                   server->remote     ? "ready"
                   : server->progress ? server->progress
                                      : "",
                   "model", choir_llm_server_model(server), "remote", server->remote, "variant", server->variant,
                   "variant_why", server->variant_why, "why", server->why, "batch",
                   server->child ? (int)server->command.ubatch : 0, "ubatch",
                   server->child ? (int)server->command.ubatch : 0, "threads", (int)server->command.threads, "url",
                   choir_chat_base_url(server->chat));
}
