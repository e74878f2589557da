/* Supervisor of the local llama-server: command line, probe of -b/-ub, two slots, readiness, prefix save and restore.
 * Slot 0 belongs to the live conversation, slot 1 to the API and everything else. Main thread only. */
#pragma once
#include <glib.h>
#include "base/child.h"
#include "llm/chat.h"

#define CHOIR_SLOT_LIVE 0
#define CHOIR_SLOT_API 1

typedef struct {
  const char *engine_dir; /* holds bin/llama-server */
  const char *model_path;
  const char *model_name;
  const char *state_dir;    /* slot files, probe results */
  guint16 port;             /* 0 = any free one, loopback */
  guint context;            /* tokens per slot */
  guint threads;            /* 0 = cores - 1, at least 1 */
  const char *cpu_variant;  /* NULL = the loader's choice; "x64" forces it (CHOIR_CPU_VARIANT) */
  guint cache_ram_mb;       /* -cram */
  const char *external_url; /* LLM_BASE_URL: nothing is started, only watched; NULL = local */
} ChoirLlmServerOptions;

typedef struct ChoirLlmServer ChoirLlmServer;

ChoirLlmServer *choir_llm_server_new(const ChoirLlmServerOptions *options, ChoirHttpClient *http, GError **error);
void choir_llm_server_start(ChoirLlmServer *server);
void choir_llm_server_stop(ChoirLlmServer *server, void (*done)(gpointer user), gpointer user);
void choir_llm_server_free(ChoirLlmServer *server);
/* Restarts with another model file (copied strings). No effect on an external server. */
void choir_llm_server_use_model(ChoirLlmServer *server, const char *model_path, const char *model_name);
gboolean choir_llm_server_ready(const ChoirLlmServer *server);
/* Called whenever readiness or the progress text changes. */
void choir_llm_server_on_change(ChoirLlmServer *server, void (*changed)(gpointer user), gpointer user);
ChoirChat *choir_llm_server_chat(ChoirLlmServer *server);
/* Another machine's llama-server takes the place of this one's process, which stays ready, as soon as it answers and as
 * long as it does; when it fails the local one is back at once. NULL: back now. No effect on an external server. */
void choir_llm_server_use_remote(ChoirLlmServer *server, const char *url, const char *api_key);
const char *choir_llm_server_remote(const ChoirLlmServer *server); /* its address while it is used, else NULL */
/* A request to it failed: TRUE when the local one serves from now on. */
gboolean choir_llm_server_drop_remote(ChoirLlmServer *server, const char *why);
/* The process of this machine, while it is ready; also when another machine's server is used. NULL: there is none. */
ChoirChat *choir_llm_server_light(ChoirLlmServer *server);
ChoirChild *choir_llm_server_child(ChoirLlmServer *server); /* NULL when external */
json_t *choir_llm_server_status(
    const ChoirLlmServer
        *server); /* {"state","progress","model","variant","variant_why","why","batch","ubatch","threads","url"};
                     caller decrefs */
/* Slot file under state_dir/slots, by model and prompt hash; done(ok). No-ops (done(FALSE)) on an external server. */
void choir_llm_server_slot_save(ChoirLlmServer *server, int slot, const char *key,
                                void (*done)(gboolean ok, gint tokens, gpointer user), gpointer user);
void choir_llm_server_slot_restore(ChoirLlmServer *server, int slot, const char *key,
                                   void (*done)(gboolean ok, gint tokens, gpointer user), gpointer user);
/* Parameters of the loaded model as the server reports them, 0 when unknown: personas are chosen by it. */
guint64 choir_llm_server_params(const ChoirLlmServer *server);
/* Tokens of context in one slot, 0 when unknown. */
guint choir_llm_server_context(const ChoirLlmServer *server);
/* May be called several times; each listener is called. */
void choir_llm_server_off_change(ChoirLlmServer *server, void (*changed)(gpointer user), gpointer user);
/* What a real prompt cost. A machine that was busy while it was probed is not held to that: a better rate is kept for
 * the next start. */
void choir_llm_server_observe(ChoirLlmServer *server, const ChoirChatTimings *timings);
const char *choir_llm_server_model(const ChoirLlmServer *server);
/* One sentence for a person while it is not ready: "loading the language model". */
const char *choir_llm_server_progress(const ChoirLlmServer *server);

#define CHOIR_LLM_ERROR (choir_llm_error_quark())
GQuark choir_llm_error_quark(void);
enum { CHOIR_LLM_ERROR_ENGINE, CHOIR_LLM_ERROR_MODEL, CHOIR_LLM_ERROR_VARIANT, CHOIR_LLM_ERROR_PORT };
