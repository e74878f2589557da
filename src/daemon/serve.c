#include "daemon/serve.h"
#include <glib-unix.h>
#include <malloc.h>
#include <stdio.h>
#include <signal.h>
#include "base/log.h"
#include "base/loop_lag.h"
#include "base/names.h"
#include "daemon/app.h"

#define TOPIC CHOIR_TOPIC_DAEMON

static char *option_config, *option_state;
static int option_port = -1;
static gboolean option_json, option_lan;
static char **option_set;

static const GOptionEntry entries[] = {
    {"config", 'c', 0, G_OPTION_ARG_FILENAME, &option_config,
     "configuration file (default: the user's choir.conf, else /etc/choir/choir.conf)", "FILE"},
    {"port", 'p', 0, G_OPTION_ARG_INT, &option_port, "port of the page, 0 for any free one", "N"},
    {"state", 's', 0, G_OPTION_ARG_FILENAME, &option_state, "folder for history and choices", "DIR"},
    {"set", 0, 0, G_OPTION_ARG_STRING_ARRAY, &option_set, "a setting, as in --set vad.silence_ms=800; may be repeated",
     "SECTION.KEY=VALUE"},
    {"lan", 0, 0, G_OPTION_ARG_NONE, &option_lan, "serve other machines too, over TLS and with a login", NULL},
    {"log-json", 0, 0, G_OPTION_ARG_NONE, &option_json, "log JSON lines", NULL},
    G_OPTION_ENTRY_NULL,
};

static gboolean apply_options(ChoirConfig *config, GError **error) {
  g_autofree char *port = option_port >= 0 ? g_strdup_printf("%d", option_port) : NULL;
  if (port && !choir_config_set(config, "web", "port", port, error))
    return FALSE;
  if (option_lan && !choir_config_set(config, "web", "lan", "true", error))
    return FALSE;
  if (option_state) {
    g_autofree char *absolute = g_canonicalize_filename(option_state, NULL);
    if (!choir_config_set(config, "paths", "state", absolute, error))
      return FALSE;
  }
  for (char **set = option_set; set && *set; set++) {
    g_auto(GStrv) pair = g_strsplit(*set, "=", 2);
    g_auto(GStrv) name = pair[0] ? g_strsplit(pair[0], ".", 2) : NULL;
    if (!pair[0] || !pair[1] || !name[0] || !name[1]) {
      g_set_error(error, CHOIR_CONFIG_ERROR, CHOIR_CONFIG_ERROR_BAD_VALUE, "--set %s: write it as SECTION.KEY=VALUE",
                  *set);
      return FALSE;
    }
    if (!choir_config_set(config, name[0], name[1], pair[1], error))
      return FALSE;
  }
  return TRUE;
}

/* Variables of the original that belong to parts which are not there yet: said once, so that nobody waits for an
 * effect. */
static void warn_unused_variables(void) {
  static const char later[] = "HA_URL HA_TOKEN WORLD_MODEL_URL TOOL_SERVER_API_KEY YOLO_MODEL_PATH "
                              "VISION_MODEL_NAME POWER_AGENT_INTERFACE LLM_PROVIDER ALLOWED_ORIGINS "
                              "TRUSTED_PROXIES SANDBOX_EXECUTOR TOOL_EXECUTION_MODE SSL_KEYFILE SSL_CERTFILE "
                              "MEMORY_SERVICE_URL MEMORY_ENCRYPTION_KEY OBSIDIAN_VAULT_PATH";
  g_auto(GStrv) names = g_strsplit(later, " ", -1);
  for (char **name = names; *name; name++)
    if (g_getenv(*name))
      choir_warning(TOPIC, "%s is set, but no part of this version uses it", *name);
}

static gboolean on_signal(gpointer user) {
  ChoirApp *app = user;
  if (app->signalled) {
    choir_warning(TOPIC, "second signal: leaving at once");
    _exit(1); /* children die with us: PDEATHSIG and EOF */
  }
  app->signalled = TRUE;
  choir_info(TOPIC, "stopping");
  choir_app_stop(app);
  return G_SOURCE_CONTINUE;
}

static int fail(const char *message) {
  fprintf(stderr, "choir serve: %s\n", message);
  return 1;
}

int choir_serve_main(int argc, char **argv) {
  g_autoptr(GOptionContext) context = g_option_context_new("- the assistant: page, API, voice");
  g_autoptr(GError) error = NULL;
  g_set_prgname("choir serve");
  g_option_context_add_main_entries(context, entries, NULL);
  g_option_context_set_description(context, "Examples:\n  choir serve\n  choir serve --port 9000 --state /srv/choir\n"
                                            "  STT_SERVICE=pocketsphinx TTS_SERVICE=flite choir serve\n"
                                            "  choir serve --set llm.variant=x64 --set log.levels=info,voice=debug\n\n"
                                            "Exit codes: 0 stopped by a signal, 1 could not start, 2 wrong usage.\n");
  if (!g_option_context_parse(context, &argc, &argv, &error)) {
    fprintf(stderr, "choir serve: %s; see choir serve --help\n", error->message);
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  /* Else glibc raises it with the first large upload, and keeps what later ones took. */
  mallopt(M_MMAP_THRESHOLD, 256 * 1024);
  ChoirApp app = {.lock_fd = -1};
  g_autofree char *file = option_config ? g_strdup(option_config) : choir_settings_default_file();
  if (option_config && !g_file_test(option_config, G_FILE_TEST_EXISTS)) {
    fprintf(stderr, "choir serve: there is no file %s\n", option_config);
    return 1;
  }
  app.config = choir_config_load(choir_settings, file, &error);
  if (!app.config)
    return fail(error->message);
  if (!apply_options(app.config, &error)) {
    int code = fail(error->message);
    choir_app_clear(&app);
    return code;
  }
  gboolean json = option_json || g_str_equal(choir_config_string(app.config, "log", "format"), "json");
  const char *levels = choir_config_bool(app.config, "log", "debug") ? "debug,glib*=info"
                                                                     : choir_config_string(app.config, "log", "levels");
  choir_paths_resolve(&app.paths, app.config);
  if (!choir_log_init(json, levels, &error) || !choir_app_start(&app, &error)) {
    int code = fail(error->message);
    choir_app_clear(&app);
    return code;
  }
  warn_unused_variables();
  /* Whoever needs it has a copy by now; workers must not inherit it. */
  g_unsetenv("OPENAI_API_KEY");
  choir_loop_lag_start();
  app.loop = g_main_loop_new(NULL, FALSE);
  g_unix_signal_add(SIGTERM, on_signal, &app);
  g_unix_signal_add(SIGINT, on_signal, &app);
  const char *address = choir_config_string(app.config, "web", "address");
  if (choir_owners_code(app.owners)) /* goes out together with the address, for what waits for that */
    printf("Set-up code of the first owner, for /setup or 'choir owner add': %s\n", choir_owners_code(app.owners));
  if (app.tls)
    printf("Other machines use https://%s:%d (choir cert tells how to trust it)\n", g_get_host_name(),
           (int)choir_app_tls_port(&app));
  printf("Choir listens on http://%s:%u\n", g_str_equal(address, "::1") ? "[::1]" : "127.0.0.1",
         choir_http_server_port(app.server));
  fflush(stdout);
  g_main_loop_run(app.loop);
  choir_info(TOPIC, "stopped");
  g_main_loop_unref(app.loop);
  choir_app_clear(&app);
  return 0;
}
