/* A live client with fake workers and a fake twin, on a clock of the test's own. */
#pragma once
#include "base/clock.h"
#include "base/names.h"
#include "fake_engines.h"
#include "voice/live.h"

#define NO_EVENT ((int)-1)

typedef struct {
  ChoirVoice *voice;
  ChoirTwin *twin;
  ChoirWorker *ear, *stt, *tts;
  ChoirLive *live;
  guint count[CHOIR_LIVE_ERROR + 1];
  char *text[CHOIR_LIVE_ERROR + 1], *item[CHOIR_LIVE_ERROR + 1], *status, *reason;
  guint64 ms;
  guint audio_before_visemes; /* samples that had come when the last ones did */
  GArray *heard;              /* samples the client got */
  int free_on;                /* hang up inside this event's callback */
  int type_on;                /* type a message inside it */
  gint64 now;
  guint64 sent, windows; /* microphone samples, those the ear looked at */
} Client;

extern const ChoirLiveOptions defaults;

void start_with(Client *c, gboolean engines);
void start(Client *c);
void stop(Client *c);
void answer(Client *c, guint16 type, guint32 gen, guint32 aux, const void *payload, gsize length);
void run(Client *c, guint ms);
gint16 mic_sample(guint64 index);
void speak(Client *c, guint ms, float probability);
void transcribe(Client *c, const char *text);
void synthesise(Client *c, guint ms, const char *words);
void ask(Client *c);
void between(gsize value, gsize low, gsize high);
