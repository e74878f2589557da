#include "turn_world.h"

SessionOptions quick_options(void) {
  SessionOptions options = world_options();
  options.speculate = TRUE;
  options.silence_min_ms = 300;
  options.silence_max_ms = 1500;
  return options;
}

World *start(void) {
  SessionOptions options = quick_options();
  World *w = world_new(&options);
  w->stt_ms = 100;
  return w;
}

void configure(World *w, SessionOptions *options) {
  world_event(w, (SessionEvent){.type = SESSION_EV_CONFIGURE, .options = options});
}

void finish(World *w) {
  w->mic = FALSE;
  world_until(w, SESSION_IDLE, 60000);
  g_assert_cmpuint(w->active_response, ==, 0);
  g_assert_cmpuint(w->responses, ==, w->dones);
  g_assert_cmpuint(w->begins_spoken, ==, w->heards + w->discards);
  world_free(w);
}

guint endpoint(World *w) {
  guint64 from = w->now;
  guint committed = w->committed;
  while (w->committed == committed)
    world_run(w, 20);
  return (guint)((w->now - from) / MIC(1));
}

void between(guint value, guint low, guint high) {
  g_assert_cmpuint(value, >=, low);
  g_assert_cmpuint(value, <=, high);
}

World *speaking(void) {
  World *w = start();
  w->clauses = 12;
  world_say(w, 1000);
  world_until(w, SESSION_SPEAKING, 3000);
  world_run(w, 4000);
  g_assert_cmpuint(w->spots, ==, SESSION_SPOT_STOP | SESSION_SPOT_BACKCHANNEL);
  return w;
}
