/* What the commands share: one main each, options, address of the daemon, output. Main thread only.
 * Exit codes of every command: 0 done, 1 it failed (one sentence on stderr), 2 wrong usage, 130 interrupted. */
#pragma once
#include <glib.h>
#include <jansson.h>

enum { CHOIR_CLI_OK = 0, CHOIR_CLI_FAILED = 1, CHOIR_CLI_USAGE = 2, CHOIR_CLI_INTERRUPTED = 130 };

/* argv[0] is the command's name. */
int choir_chat_main(int argc, char **argv);
int choir_talk_main(int argc, char **argv);
int choir_say_main(int argc, char **argv);
int choir_transcribe_main(int argc, char **argv);
int choir_status_main(int argc, char **argv);
int choir_models_main(int argc, char **argv);
int choir_config_main(int argc, char **argv);
int choir_bench_main(int argc, char **argv);
int choir_tools_main(int argc, char **argv);
int choir_approve_main(int argc, char **argv);
int choir_audit_main(int argc, char **argv);
int choir_memory_main(int argc, char **argv);
int choir_cert_main(int argc, char **argv);
int choir_owner_main(int argc, char **argv);
int choir_token_main(int argc, char **argv);
int choir_backup_main(int argc, char **argv);
int choir_restore_main(int argc, char **argv);
int choir_service_main(int argc, char **argv);
int choir_expert_main(int argc, char **argv);
int choir_jobs_main(int argc, char **argv);
int choir_health_main(int argc, char **argv);
int choir_logs_main(int argc, char **argv);
int choir_forward_main(int argc, char **argv);
int choir_standby_main(int argc, char **argv);
int choir_nodes_main(int argc, char **argv);

/* Parses options for `choir NAME`. usage: what follows the options, "" for nothing; text: description with examples.
 * FALSE after an error was printed. */
gboolean choir_cli_parse(const char *name, const char *usage, const char *text, const GOptionEntry *entries, int *argc,
                         char ***argv);
/* Prints "choir NAME: message" on stderr; returns CHOIR_CLI_FAILED, or CHOIR_CLI_USAGE with a hint at --help. */
int choir_cli_fail(const char *name, const char *format, ...) G_GNUC_PRINTF(2, 3);
int choir_cli_usage(const char *name, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* given (an option, may be NULL), else $CHOIR_URL, else loopback with $WEB_PORT, else the unix socket of the daemon
 * that runs with the settings ("unix:PATH", which needs no login), else loopback with the usual port; no slash at the
 * end. */
char *choir_cli_url(const char *given);
/* "unix:PATH" of the running daemon's socket: the given state folder's (may be NULL), else the one of the settings.
 * Requests to it come from "this terminal", which may answer approvals. */
char *choir_cli_socket(const char *state);
/* The state folder: given (an option, may be NULL), else the one of the settings. NULL with error. Caller frees. */
char *choir_cli_state(const char *given, GError **error);
/* "Authorization: Bearer $CHOIR_TOKEN" for a url that is no unix socket, else NULL. Caller frees. */
char *choir_cli_authorization(const char *url);
/* One request to the daemon, waited for. Returns the parsed answer (json_decref) or NULL with error; an unreachable
 * daemon gives a sentence that says how to start it. body may be NULL (GET). */
json_t *choir_cli_request(const char *url, const char *path, const json_t *body, guint timeout_ms, GError **error);
/* Escape sequence for a terminal, "" elsewhere or with NO_COLOR set. */
typedef enum {
  CHOIR_CLI_PLAIN,
  CHOIR_CLI_BOLD,
  CHOIR_CLI_DIM,
  CHOIR_CLI_RED,
  CHOIR_CLI_GREEN,
  CHOIR_CLI_YELLOW
} ChoirCliStyle;
const char *choir_cli_style(ChoirCliStyle style);
void choir_cli_print_json(const json_t *json); /* indented, one trailing line end */
