/* Shared by the files of `choir expert`; nobody else includes it (tests may). */
#pragma once
#include "cli/expert_models.h"
#include "cli/jobs_api.h"
#include "daemon/settings.h"

#define CHOIR_EXPERT "expert"
/* Beside the model: the store of prompts that left their slot, and this program. Reserved on top of the model's need.
 */
#define CHOIR_EXPERT_CACHE_MB 64
#define CHOIR_EXPERT_EXTRA_MB (CHOIR_EXPERT_CACHE_MB + 32)
#define CHOIR_EXPERT_KEY_FILE "/etc/choir/expert.key"
#define CHOIR_EXPERT_TOKEN_FILE "/etc/choir/tokens/expert.token"
#define CHOIR_EXPERT_JOBS "/opt/nomad/jobs"
#define CHOIR_EXPERT_BENCH_KEYS "choir/bench/"

/* Each is `choir expert WORD`; argv[0] is the word. */
int choir_expert_start(int argc, char **argv);
int choir_expert_list(int argc, char **argv);
int choir_expert_deploy(int argc, char **argv);
int choir_expert_plan(int argc, char **argv);
int choir_expert_bench(int argc, char **argv);
int choir_expert_batch(int argc, char **argv);

/* Where models lie here: `extra` (may be NULL), the cluster's folder, that of the settings. Free with g_strfreev. */
GStrv choir_expert_folders(char **extra, const ChoirPaths *paths);
/* An expert's list: json (text or @FILE, may be NULL), else $CHOIR_EXPERT_MODELS, else models.yaml. */
GPtrArray *choir_expert_wanted(const char *json, const char *expert, const ChoirPaths *paths,
                               const char *const *folders, GError **error);
/* The settings' paths; FALSE after an error was printed. Clear with choir_paths_clear. */
gboolean choir_expert_paths(ChoirPaths *ret_paths);
/* "NODE/FILE": tokens a second, from what the nodes' benches left in Consul. Caller decrefs. */
json_t *choir_expert_benches(ChoirApi *consul);

/* expert_server.c: one llama-server, started, watched and ended. Main thread, default main context. */
typedef struct ChoirExpertServer ChoirExpertServer;
typedef struct {
  const char *engine_dir, *model_path, *model_name, *state_dir, *address, *key_file; /* key_file NULL: loopback only */
  const char *rpc;                                                                   /* "host:port,..." or NULL */
  guint16 port;                                                                      /* 0: a free one, loopback only */
  guint context, threads, load_timeout_s;
  gboolean embedding; /* vectors instead of answers */
} ChoirExpertServerOptions;
typedef struct {
  void (*ready)(gpointer user);                  /* it has answered a first prompt */
  void (*ended)(const char *why, gpointer user); /* once, also after stop: "killed by signal 9: <last line>" */
} ChoirExpertServerHandlers;
ChoirExpertServer *choir_expert_server_start(const ChoirExpertServerOptions *options,
                                             const ChoirExpertServerHandlers *handlers, gpointer user, GError **error);
void choir_expert_server_stop(ChoirExpertServer *server); /* SIGTERM, then SIGKILL; ended still runs */
void choir_expert_server_free(ChoirExpertServer *server); /* after ended */
guint16 choir_expert_server_port(const ChoirExpertServer *server);
const char *choir_expert_server_headers(const ChoirExpertServer *server); /* Authorization, or NULL */

/* expert_register.c: the entry in Consul, kept there until it is taken back. */
typedef struct ChoirExpertEntry ChoirExpertEntry;
/* The body of the registration: pure, for tests. why: "" or why the fallback serves. Caller decrefs. */
json_t *choir_expert_entry_json(const char *id, const char *service, const char *address, guint16 port,
                                const char *model, guint context, gboolean fallback, const char *why,
                                const char *alloc);
ChoirExpertEntry *choir_expert_entry_new(const char *consul_url, const char *headers, json_t *body /* taken */);
/* done runs when Consul has taken it back, or did not answer in time. */
void choir_expert_entry_remove(ChoirExpertEntry *entry, void (*done)(gpointer user), gpointer user);
void choir_expert_entry_free(ChoirExpertEntry *entry);

/* expert_mesh.c: the encrypted way to it, by Consul's built-in proxy. Main thread. */
typedef struct ChoirExpertMesh ChoirExpertMesh;
/* "Connect" of the registration: a proxy at address:port that passes on to the expert at address. Caller decrefs. */
json_t *choir_expert_mesh_json(const char *service, const char *address, guint16 port);
/* Runs the proxy of the service id, again and again should it end. token_file may be NULL. */
ChoirExpertMesh *choir_expert_mesh_start(const char *program, const char *id, const char *consul_url,
                                         const char *token_file);
void choir_expert_mesh_free(ChoirExpertMesh *mesh);

/* expert_rpc.c: the rpc-servers that hold a model's layers. Main thread, default main context. */
typedef struct ChoirExpertWorkers ChoirExpertWorkers;
/* Waits until `count` of the service pass. NULL with error. */
ChoirExpertWorkers *choir_expert_workers_find(ChoirApi *consul, const char *service, guint count, guint seconds,
                                              GError **error);
const char *choir_expert_workers_list(const ChoirExpertWorkers *workers); /* "host:port,host:port" */
/* lost runs once, when one of them has ended, was started anew, or its node is away; workers may not be freed in it. */
void choir_expert_workers_watch(ChoirExpertWorkers *workers, void (*lost)(const char *why, gpointer user),
                                gpointer user);
void choir_expert_workers_free(ChoirExpertWorkers *workers);
/* chosen, now: lists of Consul's /v1/health/service. Which one is lost, NULL when none is. Pure. Caller frees. */
char *choir_expert_workers_lost(const json_t *chosen, const json_t *now);
