/* Twin, language model server and model list that do what a test says, so that the routes can be tested alone. */
#pragma once
#include "agent/twin.h"
#include "llm/models.h"
#include "voice/live.h"

typedef struct {
  gboolean ready;        /* the language model is warm */
  gboolean hold;         /* chats and turns wait for fake_house_finish() instead of answering by themselves */
  gboolean refuse_turns; /* choir_twin_begin() says BUSY */
  gboolean fail;         /* chats and turns end with an error */
  gboolean context;      /* ... that the prompt is too long */
  guint chats, cancelled, turns;
  json_t *last_messages; /* of the last chat */
  gint last_max_tokens, last_slot;
  char *last_source, *last_text;
  gint64 opened; /* last conversation opened, -1 = none */
  char *used_model;
} FakeHouse;

extern FakeHouse fake_house;

void fake_house_init(ChoirHistory *history);
void fake_house_clear(void);
ChoirTwin *fake_house_twin(void);
ChoirModels *fake_house_models(void);
ChoirVoice *fake_house_voice(void);
void fake_house_set_ready(gboolean ready);
void fake_house_finish(void);                     /* completes what `hold` keeps */
void fake_house_delta(const char *text);          /* to every held chat */
void fake_house_say(const ChoirTwinEvent *event); /* to every observer */
guint fake_house_observers(void);
