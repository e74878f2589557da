#include <stdio.h>
#include "base/text.h"
#include "cli/cli.h"

#define NAME "status"

static char *option_url, *option_engine;
static gboolean option_json;

static const GOptionEntry entries[] = {
    {"url", 'u', 0, G_OPTION_ARG_STRING, &option_url, "address of the daemon (default: $CHOIR_URL, else this machine)",
     "URL"},
    {"json", 0, 0, G_OPTION_ARG_NONE, &option_json, "everything, as JSON", NULL},
    {"engine", 0, 0, G_OPTION_ARG_STRING, &option_engine, "only whether this engine is ready: vad, stt or tts", "NAME"},
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "Examples:\n"
    "  choir status\n"
    "  choir status --json | jq .engines\n"
    "  choir status --url http://127.0.0.1:9000\n\n"
    "Exit codes: 0 a daemon answered, 1 none does (with --engine: or it is not ready), 2 wrong usage.\n";

static const char *reset(void) {
  return choir_cli_style(CHOIR_CLI_PLAIN);
}

static void print_model(const json_t *model) {
  const char *state = choir_json_string(model, "state", "unknown");
  gboolean ready = g_str_equal(state, "ready");
  printf("  %-10s %s%s%s", "model", choir_cli_style(ready ? CHOIR_CLI_GREEN : CHOIR_CLI_YELLOW), state, reset());
  printf("  %s", choir_json_string(model, "name", "none"));
  const char *variant = choir_json_string(model, "variant", "");
  if (*variant)
    printf(", CPU variant %s", variant);
  gint64 threads = choir_json_int(model, "threads", 0);
  if (threads > 0)
    printf(", %" G_GINT64_FORMAT " threads", threads);
  printf("\n");
  const char *why = choir_json_string(model, "variant_why", "");
  if (*why)
    printf("  %-10s %s: %s\n", "", variant, why);
  const char *note = choir_json_string(model, "note", "");
  if (*note)
    printf("  %-10s %s\n", "", note);
}

static void print_engines(const json_t *engines) {
  const char *key;
  json_t *engine;
  json_object_foreach((json_t *)engines, key, engine) {
    gboolean ready = choir_json_bool(engine, "ready", FALSE);
    printf("  %-10s %s%s%s  %s", key, choir_cli_style(ready ? CHOIR_CLI_GREEN : CHOIR_CLI_YELLOW),
           ready ? "ready" : "not ready", reset(), choir_json_string(engine, "engine", "none"));
    const char *detail = choir_json_string(engine, "detail", "");
    printf(*detail ? ", %s\n" : "%s\n", detail);
  }
}

static void print_children(const json_t *children) {
  size_t i;
  json_t *child;
  json_array_foreach(children, i, child) {
    printf("  %-16s %-9s pid %-8" G_GINT64_FORMAT " %5" G_GINT64_FORMAT " MB", choir_json_string(child, "name", "?"),
           choir_json_string(child, "state", "?"), choir_json_int(child, "pid", 0),
           choir_json_int(child, "rss_kb", 0) / 1024);
    gint64 restarts = choir_json_int(child, "restarts", 0);
    if (restarts > 0)
      printf("  %" G_GINT64_FORMAT " restarts", restarts);
    const char *error = choir_json_string(child, "error", "");
    if (*error)
      printf("  %s%s%s", choir_cli_style(CHOIR_CLI_RED), error, reset());
    printf("\n");
  }
}

/* Who else keeps what was said, and what the last takeover has lost. */
static void print_standby(const json_t *standby) {
  if (!json_is_object(standby))
    return;
  const json_t *copies = json_object_get(standby, "copies"), *taken = json_object_get(standby, "taken");
  g_autoptr(GString) names = g_string_new(NULL);
  size_t i;
  json_t *copy;
  json_array_foreach((json_t *)copies, i, copy) {
    const char *node = choir_json_string(copy, "node", "");
    if (!json_is_null(json_object_get(copy, "age_s")))
      g_string_append_printf(names, "%s%s", names->len ? ", " : "", *node ? node : choir_json_string(copy, "url", "?"));
  }
  gint64 behind = choir_json_int(standby, "behind", -1);
  printf("  %-10s %s%s%s", "copies", choir_cli_style(names->len && behind <= 0 ? CHOIR_CLI_GREEN : CHOIR_CLI_YELLOW),
         names->len ? names->str : "none", reset());
  if (behind > 0)
    printf(", %" G_GINT64_FORMAT " turns behind", behind);
  printf(", epoch %" G_GINT64_FORMAT ", %" G_GINT64_FORMAT " turns\n", choir_json_int(standby, "epoch", 0),
         choir_json_int(standby, "turns", 0));
  if (!json_is_object(taken))
    return;
  printf("  %-10s from %s with %" G_GINT64_FORMAT " turns; ", "took over", choir_json_string(taken, "from", "?"),
         choir_json_int(taken, "turns", 0));
  if (json_is_integer(json_object_get(taken, "lost")))
    printf("turns lost: %" G_GINT64_FORMAT "\n", choir_json_int(taken, "lost", 0));
  else
    printf("turns lost: not known, no page has told what it saw\n");
}

static void print_status(const json_t *status, const char *url) {
  printf("%sChoir %s%s at %s, up %" G_GINT64_FORMAT " s, %" G_GINT64_FORMAT " MB, %" G_GINT64_FORMAT
         " clients, %" G_GINT64_FORMAT " waiting\n",
         choir_cli_style(CHOIR_CLI_BOLD), choir_json_string(status, "version", "?"), reset(), url,
         choir_json_int(status, "uptime_s", 0), choir_json_int(status, "memory_kb", 0) / 1024,
         choir_json_int(status, "sessions", 0), choir_json_int(status, "queue", 0));
  print_model(json_object_get(status, "model"));
  print_engines(json_object_get(status, "engines"));
  print_children(json_object_get(status, "children"));
  print_standby(json_object_get(status, "standby"));
  size_t i;
  json_t *missing;
  json_array_foreach(json_object_get(status, "missing"), i, missing) printf(
      "%smissing%s %s: %s; %s\n", choir_cli_style(CHOIR_CLI_YELLOW), reset(), choir_json_string(missing, "what", "?"),
      choir_json_string(missing, "why", "?"), choir_json_string(missing, "remedy", ""));
}

/* For checks: one line, and the exit code. */
static int one_engine(const json_t *status, const char *name) {
  const json_t *engine = json_object_get(json_object_get(status, "engines"), name);
  if (!engine)
    return choir_cli_usage(NAME, "there is no engine '%s'; choir status lists them", name);
  if (choir_json_bool(engine, "ready", FALSE)) {
    printf("%s is ready\n", name);
    return CHOIR_CLI_OK;
  }
  const char *detail = choir_json_string(engine, "detail", "");
  printf("%s is not ready%s%s\n", name, *detail ? ": " : "", detail);
  return CHOIR_CLI_FAILED;
}

int choir_status_main(int argc, char **argv) {
  if (!choir_cli_parse(NAME, "", description, entries, &argc, &argv))
    return CHOIR_CLI_USAGE;
  if (argc > 1)
    return choir_cli_usage(NAME, "'%s' is not expected", argv[1]);
  g_autofree char *url = choir_cli_url(option_url);
  g_autoptr(GError) error = NULL;
  json_auto_t *status = choir_cli_request(url, "/api/status", NULL, 5000, &error);
  if (!status)
    return choir_cli_fail(NAME, "%s", error->message);
  if (option_engine)
    return one_engine(status, option_engine);
  if (option_json)
    choir_cli_print_json(status);
  else
    print_status(status, url);
  return CHOIR_CLI_OK;
}
