/* Shared by the files of the supervisor; nobody else includes it (tests may). */
#pragma once
#include <jansson.h>
#include "base/metrics.h"
#include "llm/server.h"

/* Measured on the x64 variant, in CPU time: 13.8 tokens a second at 4 a batch, 14.4 at 8. So small ones cost little
 * there, and 4 take 0.3 s. */
#define CHOIR_UBATCH_MIN 4
#define CHOIR_UBATCH_START 32
#define CHOIR_UBATCH_MAX 512
#define CHOIR_BATCH_SECONDS 0.3

typedef struct {
  char *engine_dir, *model_path, *model_name, *state_dir, *slots_dir, *cpu_variant;
  guint16 fixed_port, port;
  guint context, threads, threads_batch, cache_ram_mb, ubatch;
  gboolean half_floats; /* the processor and a CPU back end have F16C */
  char *api_key;        /* new at every start: web pages of this machine cannot talk to the server behind our back */
} ChoirLlmCommand;

void choir_llm_command_clear(ChoirLlmCommand *command);
void choir_llm_command_init(ChoirLlmCommand *command, const ChoirLlmServerOptions *options);
/* Checks that everything is there, picks the KV type, a port and key, prepares the folder of a forced variant; fills
 * argv and environment. */
gboolean choir_llm_command_build(ChoirLlmCommand *command, GStrv *ret_argv, GStrv *ret_env, GError **error);
/* Which libggml-cpu-NAME.so the process has mapped; NULL when none yet. Caller frees. */
char *choir_llm_loaded_variant(GPid pid);
/* One sentence: why that variant serves. said: what the core2 file wrote about itself, NULL when nothing. Caller frees.
 */
char *choir_llm_variant_why(const ChoirLlmCommand *command, const char *variant, const char *said);

/* Probe results live in <state_dir>/llm-probe.json by a key of model, processor, variants and threads. */
char *choir_llm_probe_key(const ChoirLlmCommand *command);
/* 0 when this combination was never probed. ret_rate: tokens a second. */
guint choir_llm_probe_load(const char *state_dir, const char *key, double *ret_rate);
void choir_llm_probe_store(const char *state_dir, const char *key, guint ubatch, double rate);
/* The largest power of two whose batch costs at most CHOIR_BATCH_SECONDS. */
guint choir_llm_probe_choose(double rate);
typedef void (*ChoirLlmProbeDone)(double rate, const GError *error, gpointer user);
/* Times a prompt on the API slot of the running server. Completes exactly once. */
void choir_llm_probe_run(ChoirHttpClient *http, ChoirChat *chat, GCancellable *cancellable, ChoirLlmProbeDone done,
                         gpointer user);

typedef enum { STATE_STOPPED, STATE_STARTING, STATE_LOADING, STATE_PROBING, STATE_READY, STATE_AWAY } ChoirLlmState;

typedef struct {
  void (*changed)(gpointer user);
  gpointer user;
} ChoirLlmListener;

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
  ChoirLlmState state;
  char *progress, *variant, *why;
  char *variant_said, *variant_why; /* what the core2 file wrote; why that variant serves */
  gboolean plain;                   /* external and not a llama-server */
  guint64 params;
  guint context;
  double rate;
  ChoirChat *light; /* the process of this machine; NULL: external */
  /* server_remote.c: another machine's server in place of it */
  char *remote, *remote_model; /* NULL: none is used */
  guint64 remote_params;
  guint remote_context, remote_poll, remote_misses;
  GCancellable *remote_ask;
  gboolean moving;        /* the listeners are told that what they know of the server is void */
  const char *restarting; /* why it is being restarted, static; NULL when it is not */
  guint poll;
  GArray *listeners;
  ChoirMetric *ready_gauge;
};

void choir_llm_server_unref(ChoirLlmServer *server);
void choir_llm_server_tell(ChoirLlmServer *server); /* the listeners */
/* Nothing is asked of another machine any more. */
void choir_llm_server_forget_remote(ChoirLlmServer *server);
