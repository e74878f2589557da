/* The protocol by which the agent's state gets to other nodes and back: POST CHOIR_STANDBY_PATH, both ways a sealed
 * frame (seal.h) of a length in four bytes, big end first, JSON of that length, and data. Questions: {"op":"newest"};
 * {"op":"commit","manifest"}; {"op":"put","sizes":[...]} with blocks as data; {"op":"read","epoch","generation","name",
 * "offset","length"}. Answers: {"ok":true,...} or {"ok":false,"code","message"}, bound to the salt of their question,
 * so that an old answer is none. Main thread only. */
#pragma once
#include "cluster/seal.h"
#include "cluster/standby_store.h"
#include "net/http_client.h"
#include "net/http_server.h"

#define CHOIR_STANDBY_PATH "/standby/1"
#define CHOIR_STANDBY_READ (256u << 10)   /* bytes of one answer */
#define CHOIR_STANDBY_BODY_MAX (8u << 20) /* of a question: a list of blocks is the longest */

/* --- the node that keeps copies */
typedef struct ChoirStandby ChoirStandby;

/* Registers the route, and GET /health. store is borrowed. node: as whom it answers. */
ChoirStandby *choir_standby_new(ChoirHttpServer *server, ChoirStandbyStore *store, const ChoirSealKey *key,
                                const char *node);
void choir_standby_free(ChoirStandby *standby);

/* --- who asks */
/* answer: borrowed, {"ok":true,...}; NULL with error: CHOIR_HTTP_ERROR, CHOIR_STATE_ERROR (said by the other side) or
 * CHOIR_SEAL_ERROR. Exactly once, later. */
typedef void (*ChoirStandbyAnswered)(const json_t *answer, const void *data, gsize length, const GError *error,
                                     gpointer user);
void choir_standby_ask(ChoirHttpClient *http, const ChoirSealKey *key, const char *url, json_t *question /* stolen */,
                       const void *data, gsize length, guint timeout_ms, GCancellable *cancellable,
                       ChoirStandbyAnswered answered, gpointer user);
