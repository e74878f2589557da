/* One request at a time to this machine's Nomad or Consul agent, waited for: what the cluster's commands need.
 * Main thread only, with no main loop running (it runs one of its own). Tokens come from files or the environment,
 * never from arguments. */
#pragma once
#include <glib.h>
#include <jansson.h>

typedef enum { CHOIR_API_NOMAD, CHOIR_API_CONSUL } ChoirApiKind;
typedef struct ChoirApi ChoirApi;

/* Options of a command that say where a server is: lines of a GOptionEntry table. url, token_file: static char *. */
#define CHOIR_API_NOMAD_OPTIONS(url, token_file)                                                                       \
  {"nomad", 0, 0, G_OPTION_ARG_STRING, &(url), "Nomad's address (default: $NOMAD_ADDR, else here)", "URL"}, {          \
    "nomad-token-file", 0, 0, G_OPTION_ARG_FILENAME, &(token_file), "file with Nomad's token", "FILE"                  \
  }
#define CHOIR_API_CONSUL_OPTIONS(url, token_file)                                                                      \
  {"consul", 0, 0, G_OPTION_ARG_STRING, &(url), "Consul's address (default: $CONSUL_HTTP_ADDR, else here)", "URL"}, {  \
    "consul-token-file", 0, 0, G_OPTION_ARG_FILENAME, &(token_file), "file with Consul's token", "FILE"                \
  }

/* url: an option, may be NULL: else $NOMAD_ADDR or $CONSUL_HTTP_ADDR ($CONSUL_HOST, $CONSUL_PORT), else this machine's
 * usual port. token_file: an option, may be NULL: else $NOMAD_TOKEN_FILE or $CONSUL_HTTP_TOKEN_FILE, else $NOMAD_TOKEN
 * or $CONSUL_HTTP_TOKEN, else the first of the installation's files that may be read, else none. NULL with error: a
 * named file cannot be read. */
ChoirApi *choir_api_new(ChoirApiKind kind, const char *url, const char *token_file, GError **error);
void choir_api_free(ChoirApi *api);
const char *choir_api_url(const ChoirApi *api);
const char *choir_api_headers(const ChoirApi *api); /* "X-Consul-Token: ..." or NULL */
gboolean choir_api_has_token(const ChoirApi *api);
/* path begins with "/v1/". body may be NULL. ret_status (may be NULL): 0 when there was no answer. NULL with error,
 * whose sentence says what to do about a missing server or token. Caller frees. */
char *choir_api_text(ChoirApi *api, const char *method, const char *path, const char *body, guint timeout_ms,
                     guint *ret_status, GError **error);
/* The same with JSON both ways; an empty answer is json_null(). Caller decrefs. */
json_t *choir_api_json(ChoirApi *api, const char *method, const char *path, const json_t *body, guint *ret_status,
                       GError **error);
/* Any address, with the client of api but not its token: an expert's. */
char *choir_api_outside(ChoirApi *api, const char *url, const char *headers, const char *body, guint timeout_ms,
                        guint *ret_status, GError **error);
/* First word of a file, without its line end; NULL with error. Caller frees. */
char *choir_api_read_token(const char *path, GError **error);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirApi, choir_api_free)
