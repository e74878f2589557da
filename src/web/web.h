/* Everything Choir answers over HTTP: the page, the OpenAI-compatible API, Realtime, and the original's routes.
 * docs/http.md is the contract. Main thread only. */
#pragma once
#include "agent/toolbox.h"
#include "agent/twin.h"
#include "base/config.h"
#include "cluster/ship.h"
#include "cluster/view.h"
#include "llm/models.h"
#include "memory/memory.h"
#include "net/http_server.h"
#include "speech/desk.h"
#include "voice/live.h"
#include "web/owners.h"

typedef struct ChoirWeb ChoirWeb;

typedef struct {
  ChoirHttpServer *server;
  ChoirHttpClient *http; /* for response_url */
  ChoirTwin *twin;
  ChoirVoice *voice;
  ChoirModels *models; /* may be NULL (external model server) */
  ChoirHub *hub;
  ChoirDesk *desk;      /* speech outside of conversations; NULL: no /v1/audio */
  const char *programs; /* folder of choir-codec */
  /* All three or none. */
  ChoirToolbox *toolbox;
  ChoirApprovals *approvals;
  ChoirAudit *audit;
  ChoirMemory *memory;                                /* NULL: switched off */
  ChoirView *view;                                    /* of the cluster; NULL: no /api/cluster */
  ChoirShip *ship;                                    /* NULL: the state is kept on no other node */
  ChoirOwners *owners;                                /* NULL: none are to be, loopback is served */
  const char *machine_keys;                           /* SHA-256 list of PIPECAT_API_KEYS; may be NULL */
  const char *ca_file;                                /* our certificate authority, NULL without TLS twin */
  const char *twin_secret;                            /* what the twin says in X-Choir-Twin, NULL without */
  guint16 tls_port;                                   /* 0 without */
  const ChoirConfig *config;                          /* [web] keys: allowed_hosts, allowed_origins, response_urls */
  json_t *(*status)(gpointer user);                   /* the daemon's part of GET /api/status; stolen by the caller */
  void (*use_model)(const char *name, gpointer user); /* restart the server with it */
  gpointer user;
} ChoirWebOptions;

ChoirWeb *choir_web_new(const ChoirWebOptions *options); /* registers every route; the guard too */
void choir_web_free(ChoirWeb *web);
