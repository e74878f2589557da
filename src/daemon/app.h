/* The daemon's parts and how they hang together. Main thread only. */
#pragma once
#include "agent/twin.h"
#include "daemon/cluster.h"
#include "daemon/local_voice.h"
#include "daemon/mind.h"
#include "daemon/settings.h"
#include "daemon/tls.h"
#include "llm/models.h"
#include "net/http_server.h"
#include "speech/desk.h"
#include "speech/worker.h"
#include "voice/live.h"
#include "web/web.h"
#include "web/wyoming.h"

typedef struct {
  ChoirConfig *config;
  ChoirPaths paths;
  GMainLoop *loop;
  ChoirHub *hub;
  ChoirHttpServer *server, *local; /* local: the same routes on a unix socket */
  ChoirHttpClient *http;
  ChoirModels *models; /* NULL: external model server, or the list is broken (models_error says why) */
  char *models_error;
  ChoirLlmServer *llm;
  char *llm_error; /* why there is none */
  ChoirHistory *history;
  ChoirTwin *twin;
  ChoirConsul *consul; /* NULL: none is configured */
  ChoirShip *ship;     /* NULL: the state is kept on no other node */
  char *ship_error;    /* why there is none though there should be */
  guint ship_observer;
  ChoirExperts *experts;
  ChoirMainModel *main_model; /* NULL: this machine's own */
  ChoirNomad *nomad;          /* NULL: none is configured */
  ChoirView *view;
  ChoirMind *mind;
  ChoirVoice *voice;
  ChoirWorker *ear, *stt, *tts;
  ChoirDesk *desk;
  ChoirWyoming *wyoming;
  ChoirLocalVoice *card; /* NULL: this machine's own microphone is off */
  ChoirWeb *web;
  ChoirOwners *owners;
  ChoirTls *tls; /* NULL: loopback only */
  gint64 started_us;
  guint stopping; /* parts that still have to stop */
  gboolean signalled;
  int lock_fd;
} ChoirApp;

/* Opens everything and starts listening; children start behind it. FALSE with one sentence in error. */
gboolean choir_app_start(ChoirApp *app, GError **error);
/* Asks every part to stop; the loop quits when all have. */
void choir_app_stop(ChoirApp *app);
void choir_app_clear(ChoirApp *app);
guint16 choir_app_tls_port(const ChoirApp *app); /* by which other machines reach the TLS twin */
/* The daemon's part of GET /api/status. Caller decrefs. */
json_t *choir_app_status(ChoirApp *app);

#define CHOIR_APP_CHILDREN 8
/* Every supervised process, NULL where there is none. */
void choir_app_children(ChoirApp *app, ChoirChild *ret_children[CHOIR_APP_CHILDREN]);
gint64 choir_app_memory_kb(void); /* resident memory of the daemon itself, -1 when unknown */
