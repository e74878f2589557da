#include "daemon/app.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>
#include "base/log.h"
#include "base/metrics.h"
#include "base/names.h"

#define TOPIC CHOIR_TOPIC_DAEMON

/* One daemon per state folder: two would write the same history and slots. */
static gboolean lock_state(ChoirApp *app, GError **error) {
  if (g_mkdir_with_parents(app->paths.state, 0700) != 0) {
    g_set_error(error, G_FILE_ERROR, (int)g_file_error_from_errno(errno),
                "cannot make the state folder %s: %s; choose another with --state", app->paths.state,
                g_strerror(errno));
    return FALSE;
  }
  g_autofree char *path = g_build_filename(app->paths.state, "lock", NULL);
  app->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (app->lock_fd < 0) {
    g_set_error(error, G_FILE_ERROR, (int)g_file_error_from_errno(errno),
                "cannot write in the state folder %s: %s; choose another with --state", app->paths.state,
                g_strerror(errno));
    return FALSE;
  }
  if (flock(app->lock_fd, LOCK_EX | LOCK_NB) != 0) {
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_AGAIN,
                "another choir already uses %s; stop it, or give this one --state and --port of its own",
                app->paths.state);
    return FALSE;
  }
  return TRUE;
}

static gboolean open_server(ChoirApp *app, GError **error) {
  const char *address = choir_config_string(app->config, "web", "address");
  if (!g_str_equal(address, "127.0.0.1") && !g_str_equal(address, "::1") && !g_str_equal(address, "localhost")) {
    g_set_error(error, CHOIR_CONFIG_ERROR, CHOIR_CONFIG_ERROR_BAD_VALUE,
                "[web] address = %s is not loopback; to serve other machines use lan = true, or choir serve --lan",
                address);
    return FALSE;
  }
  gboolean lan = choir_config_bool(app->config, "web", "lan");
  gboolean six = g_file_test("/proc/net/if_inet6", G_FILE_TEST_EXISTS);
  ChoirHttpServerOptions options = {.address = g_str_equal(address, "localhost") ? "127.0.0.1" : address,
                                    .port = (guint16)choir_config_int(app->config, "web", "port")};
  if (lan)
    options.address = six ? "::" : "0.0.0.0";
  app->server = choir_http_server_new(app->hub, &options, error);
  if (!app->server) {
    g_prefix_error(error, "cannot listen on %s port %u: ", options.address, options.port);
    return FALSE;
  }
  if (lan)
    app->tls = choir_tls_new_named(app->paths.state, (guint16)choir_config_int(app->config, "web", "tls_port"),
                                   choir_http_server_port(app->server),
                                   choir_config_string(app->config, "web", "allowed_hosts"), error);
  return !lan || app->tls;
}

static const ChoirModel *choose_model(ChoirApp *app, GError **error) {
  const char *wanted = choir_config_string(app->config, "llm", "model");
  if (!app->models) {
    g_set_error(error, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_LIST, "%s", app->models_error);
    return NULL;
  }
  const ChoirModel *model = *wanted ? choir_models_find(app->models, wanted) : choir_models_current(app->models);
  if (!model && *wanted)
    g_set_error(error, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_UNKNOWN, "no model '%s' in %s; see 'choir models list'",
                wanted, app->paths.list);
  else if (!model || !model->present) {
    g_set_error(error, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_UNKNOWN,
                "the language model %s is not on disk; run ./run --setup-only, or 'choir models fetch'",
                model ? model->name : "");
    return NULL;
  }
  return model;
}

static guint cache_ram_mb(const ChoirConfig *config) {
  gint64 set = choir_config_int(config, "llm", "cache_ram_mb");
  guint64 machine_mb = (guint64)sysconf(_SC_PHYS_PAGES) * (guint64)sysconf(_SC_PAGESIZE) >> 20;
  return set >= 0 ? (guint)set : (guint)CLAMP(machine_mb / 32, 64, 1024);
}

static gboolean open_llm(ChoirApp *app, GError **error) {
  const char *url = choir_config_string(app->config, "llm", "base_url");
  const char *variant = choir_config_string(app->config, "llm", "variant");
  g_autoptr(GError) why = NULL;
  ChoirLlmServerOptions options = {
      .engine_dir = app->paths.engine,
      .state_dir = app->paths.state,
      .context = (guint)choir_config_int(app->config, "llm", "context"),
      .threads = (guint)choir_config_int(app->config, "llm", "threads"),
      .cache_ram_mb = cache_ram_mb(app->config),
      .cpu_variant = *variant ? variant : NULL,
      .external_url = *url ? url : NULL,
  };
  if (!*url) {
    const ChoirModel *model = choose_model(app, &why);
    if (model) {
      options.model_path = model->path;
      options.model_name = model->name;
    }
  } else {
    options.model_name = choir_config_string(app->config, "llm", "model");
  }
  if (why) /* the page must still come up and say what is missing */
    app->llm_error = g_strdup(why->message);
  app->llm = choir_llm_server_new(&options, app->http, error);
  return app->llm != NULL;
}

static void on_worker_frame(const ChoirWireFrame *frame, gpointer user) {
  ChoirApp *app = user;
  if (!choir_desk_frame(app->desk, frame))
    choir_voice_worker_frame(frame, app->voice);
}

static void on_worker_state(ChoirWorker *worker, gboolean ready, gpointer user) {
  ChoirApp *app = user;
  choir_desk_worker_state(app->desk, worker, ready);
  choir_voice_worker_state(worker, ready, app->voice);
}

static ChoirWorker *new_worker(ChoirApp *app, const char *name, const char *topic, GPtrArray *args, int nice) {
  g_autofree char *program = g_build_filename(app->paths.programs, name, NULL);
  g_ptr_array_insert(args, 0, program);
  g_ptr_array_add(args, NULL);
  ChoirWorker *worker = choir_worker_new(app->hub, name, topic, (const char *const *)args->pdata, nice, on_worker_frame,
                                         on_worker_state, app);
  g_ptr_array_unref(args);
  return worker;
}

static void add(GPtrArray *args, const char *flag, const char *value) {
  g_ptr_array_add(args, (gpointer)flag);
  g_ptr_array_add(args, (gpointer)value);
}

/* May the engine of this name be the one that is asked for? "auto" may be any. */
static gboolean may_be(const char *service, const char *engine) {
  return g_str_equal(service, engine) || g_str_equal(service, "auto");
}

static char *stt_model(ChoirApp *app, const char *service) {
  return may_be(service, "whisper") ? g_build_filename(app->paths.models, "ggml-base-q8_0.bin", NULL) : NULL;
}

/* The engine on this machine: the service itself, or who stands in for another machine's. */
static const char *local_engine(ChoirApp *app, const char *section) {
  const char *service = choir_config_string(app->config, section, "service");
  return g_str_equal(service, "wyoming") ? choir_config_string(app->config, section, "fallback") : service;
}

static void add_other_machine(ChoirApp *app, GPtrArray *args, const char *section) {
  if (!g_str_equal(choir_config_string(app->config, section, "service"), "wyoming"))
    return;
  add(args, "--url", choir_config_string(app->config, section, "url"));
  if (!g_str_equal(local_engine(app, section), "none"))
    add(args, "--fallback", local_engine(app, section));
}

static void open_workers(ChoirApp *app) {
  const char *stt = choir_config_string(app->config, "stt", "service");
  const char *tts = choir_config_string(app->config, "tts", "service");
  const char *grammar = choir_config_string(app->config, "stt", "grammar");
  const char *variant = choir_config_string(app->config, "llm", "variant");
  if (*variant) /* ggml's loader in choir-stt reads it, as llama-server's does */
    g_setenv("CHOIR_CPU_VARIANT", variant, TRUE);
  g_autofree char *ort = g_build_filename(app->paths.runtime, "libonnxruntime.so", NULL);
  g_autofree char *silero = g_build_filename(app->paths.models, "silero_vad_16k_op15.onnx", NULL);
  g_autofree char *turn = g_build_filename(app->paths.models, "smart-turn-v3.2-cpu.onnx", NULL);
  g_autofree char *whisper = stt_model(app, local_engine(app, "stt"));
  g_autofree char *voice = g_build_filename(app->paths.models, "en_US-joe-medium.onnx", NULL);
  g_autofree char *backends = g_build_filename(app->paths.engine, "bin", NULL);
  gint64 set_threads = choir_config_int(app->config, "stt", "threads");
  g_autofree char *threads =
      g_strdup_printf("%d", set_threads ? (int)set_threads : MIN(4, (int)g_get_num_processors()));

  GPtrArray *args = g_ptr_array_new();
  add(args, "--engine", "silero");
  add(args, "--onnxruntime", ort);
  add(args, "--model", silero);
  add(args, "--turn-model", turn);
  add(args, "--wake", choir_config_string(app->config, "voice", "wake_phrase"));
  /* The ear must never wait: it decides within 32 ms whether somebody speaks. */
  app->ear = new_worker(app, "choir-ear", CHOIR_TOPIC_EAR, args, 0);

  args = g_ptr_array_new();
  add(args, "--engine", stt);
  add(args, "--threads", threads);
  add(args, "--language", choir_config_string(app->config, "stt", "language"));
  add(args, "--backends", backends);
  if (whisper)
    add(args, "--model", whisper);
  if (may_be(local_engine(app, "stt"), "pocketsphinx"))
    add(args, "--grammar", *grammar ? grammar : app->paths.grammar);
  add_other_machine(app, args, "stt");
  app->stt = new_worker(app, "choir-stt", CHOIR_TOPIC_STT, args, 1);

  args = g_ptr_array_new();
  add(args, "--engine", tts);
  add(args, "--onnxruntime", ort);
  add(args, "--model", voice);
  add_other_machine(app, args, "tts");
  app->tts = new_worker(app, "choir-tts", CHOIR_TOPIC_TTS, args, 0);
  if (may_be(local_engine(app, "tts"), "piper")) {
    g_autofree char *phonemes = g_build_filename(app->paths.programs, "choir-phonemes", NULL);
    const char *argv[] = {phonemes, NULL};
    choir_worker_attach_phonemes(app->tts, argv);
  }
  choir_voice_set_workers(app->voice, app->ear, app->stt, app->tts);
  choir_desk_set_workers(app->desk, app->stt, app->tts);
}

static void open_local_voice(ChoirApp *app) {
  g_autofree char *program = g_build_filename(app->paths.programs, "choir-card", NULL);
  const ChoirLocalVoiceOptions options = {
      .program = program,
      .microphone = choir_config_string(app->config, "voice", "microphone"),
      .speaker = choir_config_string(app->config, "voice", "speaker"),
      .echo = choir_config_bool(app->config, "voice", "echo_cancellation"),
      .wake = choir_config_bool(app->config, "voice", "microphone_wake_word"),
  };
  app->card = choir_local_voice_new(app->hub, app->voice, &options);
}

/* What is read on demand; everything else is counted where it happens. */
static void collect(gpointer user) {
  static guint64 dropped;
  ChoirApp *app = user;
  gint64 resident_kb = choir_app_memory_kb();
  if (resident_kb >= 0)
    choir_gauge_set(choir_gauge("choir_process_resident_bytes", NULL, "Resident memory of the daemon itself."),
                    (double)resident_kb * 1024);
  choir_gauge_set(choir_gauge("choir_history_queue", NULL, "Writes that wait for the history's thread."),
                  choir_history_queued(app->history));
  guint64 now_dropped = choir_log_dropped();
  choir_counter_add(
      choir_counter("choir_log_dropped_total", NULL, "Log lines dropped by the rate limit or a full queue."),
      now_dropped - dropped);
  dropped = now_dropped;
  ChoirWorker *workers[] = {app->ear, app->stt, app->tts};
  for (gsize i = 0; i < G_N_ELEMENTS(workers); i++) {
    g_autofree char *labels = g_strdup_printf("worker=\"%s\"", choir_child_name(choir_worker_child(workers[i])));
    choir_gauge_set(choir_gauge("choir_worker_queue_bytes", labels, "Bytes that wait for a worker to read them."),
                    (double)choir_worker_queued(workers[i]));
  }
  ChoirChild *children[CHOIR_APP_CHILDREN];
  choir_app_children(app, children);
  for (gsize i = 0; i < G_N_ELEMENTS(children); i++) {
    if (!children[i])
      continue;
    g_autofree char *labels = g_strdup_printf("child=\"%s\"", choir_child_name(children[i]));
    choir_gauge_set(choir_gauge("choir_child_resident_bytes", labels, "Resident memory of a child process."),
                    (double)MAX(0, choir_child_rss_kb(children[i])) * 1024);
  }
}

static json_t *on_status(gpointer user) {
  return choir_app_status(user);
}

static void on_use_model(const char *name, gpointer user) {
  ChoirApp *app = user;
  const ChoirModel *model = app->models ? choir_models_find(app->models, name) : NULL;
  if (!model)
    return;
  choir_info(TOPIC, "switching to the language model %s", model->name);
  g_clear_pointer(&app->llm_error, g_free);
  choir_twin_use_model(app->twin, model->path, model->name);
}

static char *mind_status(gpointer user) {
  ChoirApp *app = user;
  GString *text = g_string_new("Current pipeline status:");
  ChoirChild *children[CHOIR_APP_CHILDREN];
  choir_app_children(app, children);
  for (gsize i = 0; i < G_N_ELEMENTS(children); i++)
    if (children[i])
      g_string_append_printf(text, "\n- Task %s: %s", choir_child_name(children[i]),
                             choir_child_state_name(choir_child_state(children[i])));
  if (choir_experts_count(app->experts) > 0) {
    g_autofree char *experts = choir_experts_text(app->experts);
    g_string_append_printf(text, "\n%s", g_strchomp(experts));
  }
  return g_string_free(text, FALSE);
}

static void mind_speaks(const char *text, gpointer user) {
  ChoirApp *app = user;
  if (app->voice) /* what fell due before the start is shown, there is nobody to hear it yet */
    choir_voice_notice(app->voice, text);
}

static gboolean open_mind(ChoirApp *app, GError **error) {
  ChoirMindOptions options = {.hub = app->hub,
                              .http = app->http,
                              .config = app->config,
                              .twin = app->twin,
                              .state_dir = app->paths.state,
                              .sandbox_program = app->paths.sandbox,
                              .source_dir = app->paths.source,
                              .engine_dir = app->paths.engine,
                              .models_dir = app->paths.models,
                              .index_module = app->paths.index,
                              .experts = app->experts,
                              .status = mind_status,
                              .speak = mind_speaks,
                              .user = app};
  app->mind = choir_mind_new(&options, error);
  return app->mind != NULL;
}

guint16 choir_app_tls_port(const ChoirApp *app) {
  gint64 port = choir_config_int(app->config, "web", "public_tls_port");
  return (guint16)(port ? port : choir_config_int(app->config, "web", "tls_port"));
}

/* What was opened begins to run: all of it, or only what other machines use by Wyoming. */
static void start_parts(ChoirApp *app) {
  const char *only = choir_config_string(app->config, "wyoming", "only");
  gboolean all = g_str_equal(only, "no"), both = all || g_str_equal(only, "both");
  if (all && app->llm_error)
    choir_error(TOPIC, "%s", app->llm_error);
  else if (all)
    choir_llm_server_start(app->llm);
  if (all)
    choir_worker_start(app->ear);
  if (both || g_str_equal(only, "stt"))
    choir_worker_start(app->stt);
  if (both || g_str_equal(only, "tts"))
    choir_worker_start(app->tts);
  if (all)
    choir_local_voice_start(app->card);
  if (app->tls)
    choir_tls_start(app->tls);
}

/* Before anything of the state is opened: another node may have a newer one. */
static gboolean open_ship(ChoirApp *app, GError **error) {
  g_autoptr(GError) why = NULL;
  app->ship = choir_cluster_ship(app->config, app->consul, app->paths.state, &why);
  if (why) {
    app->ship_error = g_strdup(why->message);
    choir_error(TOPIC, "the state is kept on no other node: %s", why->message);
  }
  return !app->ship || choir_ship_take_over(app->ship, error);
}

static void on_history_written(gpointer user) {
  ChoirApp *app = user;
  choir_ship_changed(app->ship, choir_history_saved(app->history));
}

static void start_ship(ChoirApp *app) {
  if (!app->ship)
    return;
  app->ship_observer = choir_history_observe(app->history, on_history_written, app);
  choir_ship_start(app->ship, choir_history_saved(app->history));
}

gboolean choir_app_start(ChoirApp *app, GError **error) {
  app->started_us = g_get_monotonic_time();
  if (!lock_state(app, error))
    return FALSE;
  app->consul = choir_cluster_consul(app->config);
  if (!open_ship(app, error))
    return FALSE;
  g_autofree char *owners = g_build_filename(app->paths.state, "owners.json", NULL);
  app->owners = choir_owners_open(owners, error);
  if (!app->owners)
    return FALSE;
  app->hub = choir_hub_new(NULL);
  if (!open_server(app, error))
    return FALSE;
  app->http = choir_http_client_new();
  g_autoptr(GError) why = NULL;
  if (!*choir_config_string(app->config, "llm", "base_url")) {
    app->models = choir_models_load(app->paths.list, app->paths.models, app->paths.state, &why);
    if (!app->models) {
      app->models_error = g_strdup(why->message);
      choir_error(TOPIC, "%s", why->message);
    }
  }
  if (!open_llm(app, error))
    return FALSE;
  g_autofree char *database = g_build_filename(app->paths.state, "history.db", NULL);
  app->history = choir_history_open(database, error);
  if (!app->history)
    return FALSE;
  ChoirTwinOptions twin = {
      .prompts_dir = app->paths.prompts,
      .max_reply_tokens = (guint)choir_config_int(app->config, "llm", "max_tokens"),
      .temperature = choir_config_double(app->config, "llm", "temperature"),
      .benchmark = choir_config_bool(app->config, "agent", "benchmark"),
  };
  app->twin = choir_twin_new(&twin, app->llm, app->history, error);
  if (!app->twin)
    return FALSE;
  ChoirLiveOptions live = {
      .server_vad = TRUE,
      .threshold = choir_config_double(app->config, "vad", "threshold"),
      .silence_ms = (guint)choir_config_int(app->config, "vad", "silence_ms"),
      .prefix_ms = (guint)choir_config_int(app->config, "vad", "prefix_ms"),
      .interrupt = choir_config_bool(app->config, "vad", "interrupt"),
      .create_response = TRUE,
      .audio_out = TRUE,
      .silence_min_ms = (guint)choir_config_int(app->config, "voice", "silence_min_ms"),
      .silence_max_ms = (guint)choir_config_int(app->config, "voice", "silence_max_ms"),
      .speculate = choir_config_bool(app->config, "voice", "speculate"),
      .half_duplex = choir_config_bool(app->config, "voice", "half_duplex"),
      .wake = choir_config_bool(app->config, "voice", "wake_word"),
      .idle_ms = (guint)choir_config_int(app->config, "voice", "idle_ms"),
  };
  app->experts = choir_cluster_experts(app->config, app->http, app->consul, app->llm, app->paths.prompts);
  app->main_model = choir_cluster_main_model(app->config, app->consul, app->llm);
  app->nomad = choir_cluster_nomad(app->config);
  app->view = choir_view_new(app->consul, app->nomad, app->experts);
  if (!open_mind(app, error))
    return FALSE;
  app->voice = choir_voice_new(app->hub, app->twin, &live);
  choir_voice_configure(app->voice,
                        &(ChoirVoiceOptions){.languages = choir_config_string(app->config, "voice", "languages"),
                                             .fillers = choir_config_bool(app->config, "voice", "fillers")});
  app->desk = choir_desk_new();
  open_workers(app);
  open_local_voice(app);
  app->wyoming = choir_wyoming_new(app->hub, app->desk, app->config, error);
  if (!app->wyoming)
    return FALSE;
  ChoirWebOptions web = {.server = app->server,
                         .http = app->http,
                         .twin = app->twin,
                         .voice = app->voice,
                         .hub = app->hub,
                         .desk = app->desk,
                         .programs = app->paths.programs,
                         .models = app->models,
                         .config = app->config,
                         .status = on_status,
                         .use_model = on_use_model,
                         .user = app};
  web.owners = app->owners;
  if (app->tls) {
    web.ca_file = choir_tls_ca_file(app->tls);
    web.twin_secret = choir_tls_secret(app->tls);
    web.tls_port = choir_app_tls_port(app);
  }
  web.machine_keys = choir_config_string(app->config, "web", "machine_keys");
  web.toolbox = choir_mind_toolbox(app->mind);
  web.approvals = choir_mind_approvals(app->mind);
  web.audit = choir_mind_audit(app->mind);
  web.memory = choir_mind_memory(app->mind);
  web.view = app->view;
  web.ship = app->ship;
  app->web = choir_web_new(&web);
  g_autofree char *socket = g_build_filename(app->paths.state, "choir.sock", NULL);
  app->local = choir_http_server_new_local(app->server, socket, error);
  if (!app->local)
    return FALSE;
  choir_metrics_on_collect(collect, app);
  start_parts(app);
  start_ship(app);
  return TRUE;
}

static void on_part_stopped(gpointer user) {
  ChoirApp *app = user;
  if (--app->stopping == 0)
    g_main_loop_quit(app->loop);
}

void choir_app_stop(ChoirApp *app) {
  if (app->stopping)
    return;
  app->stopping = 7; /* six parts and this function itself */
  choir_llm_server_stop(app->llm, on_part_stopped, app);
  choir_worker_stop(app->ear, on_part_stopped, app);
  choir_worker_stop(app->stt, on_part_stopped, app);
  choir_worker_stop(app->tts, on_part_stopped, app);
  choir_local_voice_stop(app->card, on_part_stopped, app);
  choir_mind_stop(app->mind, on_part_stopped, app);
  if (app->tls) {
    app->stopping++;
    choir_tls_stop(app->tls, on_part_stopped, app);
  }
  if (app->ship) {
    app->stopping++;
    choir_ship_stop(app->ship, on_part_stopped, app);
  }
  on_part_stopped(app);
}

void choir_app_clear(ChoirApp *app) {
  g_clear_pointer(&app->local, choir_http_server_free);
  g_clear_pointer(&app->web, choir_web_free);
  g_clear_pointer(&app->owners, choir_owners_free);
  g_clear_pointer(&app->tls, choir_tls_free);
  g_clear_pointer(&app->wyoming, choir_wyoming_free);
  g_clear_pointer(&app->server, choir_http_server_free);
  g_clear_pointer(&app->card, choir_local_voice_free);
  g_clear_pointer(&app->voice, choir_voice_free);
  g_clear_pointer(&app->ear, choir_worker_free);
  g_clear_pointer(&app->stt, choir_worker_free);
  g_clear_pointer(&app->tts, choir_worker_free);
  g_clear_pointer(&app->desk, choir_desk_free);
  g_clear_pointer(&app->mind, choir_mind_free);
  g_clear_pointer(&app->twin, choir_twin_free);
  g_clear_pointer(&app->view, choir_view_free);
  g_clear_pointer(&app->nomad, choir_nomad_free);
  g_clear_pointer(&app->main_model, choir_main_model_free);
  g_clear_pointer(&app->experts, choir_experts_free);
  g_clear_pointer(&app->ship, choir_ship_free);
  g_clear_pointer(&app->consul, choir_consul_free);
  g_clear_pointer(&app->llm, choir_llm_server_free);
  if (app->history)
    choir_history_unobserve(app->history, app->ship_observer);
  g_clear_pointer(&app->history, choir_history_close);
  g_clear_pointer(&app->models, choir_models_free);
  g_clear_pointer(&app->http, choir_http_client_free);
  g_clear_pointer(&app->hub, choir_hub_free);
  g_clear_pointer(&app->models_error, g_free);
  g_clear_pointer(&app->llm_error, g_free);
  g_clear_pointer(&app->ship_error, g_free);
  choir_paths_clear(&app->paths);
  g_clear_pointer(&app->config, choir_config_free);
  if (app->lock_fd > 0)
    close(app->lock_fd);
}
