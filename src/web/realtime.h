/* GET /v1/realtime: sockets around realtime_session.h. Main thread only. */
#pragma once
#include "net/http_server.h"
#include "llm/server.h"
#include "voice/live.h"

typedef struct ChoirRealtime ChoirRealtime;

/* model: names what the session object shows (g_free); called at each connect. */
ChoirRealtime *choir_realtime_new(ChoirHttpServer *server, ChoirVoice *voice, ChoirLlmServer *llm,
                                  char *(*model)(gpointer user), gpointer user);
void choir_realtime_free(ChoirRealtime *realtime); /* hangs up on every client */
/* The subprotocol to select from the Sec-WebSocket-Protocol header, or NULL. */
const char *choir_realtime_subprotocol(const char *offered);
