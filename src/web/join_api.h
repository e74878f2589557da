/* The join service's routes: machines ask, people answer. It is a service of its own (`choir nodes serve`), so that a
 * controller has it where no agent runs. Everything is proved by a secret or by the unix socket:
 *   anybody        GET /health, GET /choir-ca.crt, POST /api/ready-for-provisioning (answers pending, does nothing)
 *   token          POST /api/join
 *   key of a node  GET /api/join/status, GET /api/join/bundle, POST /api/join/report, POST /api/join/address
 *   unix socket    /api/join/tokens, /api/join/nodes, /api/join/approve, /api/join/refuse, /api/provisioning/status
 * Main thread only. */
#pragma once
#include "net/http_server.h"
#include "web/join.h"

typedef struct ChoirJoinApi ChoirJoinApi;

typedef struct {
  ChoirHttpServer *server; /* its guard becomes ours */
  ChoirJoin *join;
  const char *ca_file;     /* PEM */
  const char *twin_secret; /* of the TLS twin in front; NULL without */
} ChoirJoinApiOptions;

/* NULL when the certificate cannot be read. The strings are copied; join is borrowed. */
ChoirJoinApi *choir_join_api_new(const ChoirJoinApiOptions *options, GError **error);
void choir_join_api_free(ChoirJoinApi *api);
