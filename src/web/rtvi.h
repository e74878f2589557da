/* RTVI over WebSocket (pipecat's clients): sockets at /rtvi and /ws-client around rtvi_session.h, and POST /start and
 * /connect, which tell a client where they are. Main thread only. */
#pragma once
#include "net/http_server.h"
#include "voice/live.h"

typedef struct ChoirRtvi ChoirRtvi;

/* model: names what bot-ready shows (g_free); called at each connect. */
ChoirRtvi *choir_rtvi_new(ChoirHttpServer *server, ChoirVoice *voice, char *(*model)(gpointer user), gpointer user);
void choir_rtvi_free(ChoirRtvi *rtvi); /* hangs up on every client */
/* {"wsUrl":...} for a Host and an Origin header (NULL when absent); caller frees. */
char *choir_rtvi_connect_json(const char *host, const char *origin, gboolean old_name);
