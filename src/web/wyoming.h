/* Server of the Wyoming protocol (net/wyoming.h) for Home Assistant and its kin: speech to text and text to speech by
 * the daemon's own workers. docs/wyoming.md is the contract. Main thread only. */
#pragma once
#include "base/config.h"
#include "net/hub.h"
#include "speech/desk.h"

typedef struct ChoirWyoming ChoirWyoming;

/* Listens as [wyoming] says. A port that is taken is no error: it is named in choir_wyoming_status(). NULL with error:
 * the settings make no sense. */
ChoirWyoming *choir_wyoming_new(ChoirHub *hub, ChoirDesk *desk, const ChoirConfig *config, GError **error);
void choir_wyoming_free(ChoirWyoming *server);
/* {"address","stt_port","tts_port","connections","problem"}; a port is 0 when nobody listens there. */
json_t *choir_wyoming_status(const ChoirWyoming *server);
