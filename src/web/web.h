/* Everything Choir answers over HTTP: the page, the OpenAI-compatible API, Realtime, and the original's routes.
 * docs/http.md is the contract. Main thread only. */
#pragma once
#include "agent/toolbox.h"
#include "agent/twin.h"
#include "base/config.h"
#include "llm/models.h"
#include "net/http_server.h"
#include "speech/desk.h"
#include "voice/live.h"

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
  const ChoirConfig *config;                          /* [web] keys: allowed_hosts, allowed_origins, response_urls */
  json_t *(*status)(gpointer user);                   /* the daemon's part of GET /api/status; stolen by the caller */
  void (*use_model)(const char *name, gpointer user); /* restart the server with it */
  gpointer user;
} ChoirWebOptions;

ChoirWeb *choir_web_new(const ChoirWebOptions *options); /* registers every route; the guard too */
void choir_web_free(ChoirWeb *web);
