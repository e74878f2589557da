/* A Realtime session between scripted client events and scripted live events, for its tests. */
#pragma once
#include "base/text.h"
#include "fake_call.h"
#include "fake_live.h"
#include "web/realtime_session.h"

typedef struct {
  ChoirRealtimeSession *session;
  json_t *events; /* what the client got */
  gboolean no_model;
} Fixture;

/* extension: not NULL = the client speaks Choir's own events, too. */
void realtime_setup(Fixture *f, gconstpointer extension);
void realtime_teardown(Fixture *f, gconstpointer data);
void realtime_client(Fixture *f, const char *text);
void realtime_live(Fixture *f, ChoirLiveEvent event);
/* The types received since the last call, joined by blanks; long common beginnings are shortened. */
void realtime_expect(Fixture *f, const char *expected);
void realtime_forget(Fixture *f);
json_t *realtime_event(Fixture *f, gsize index);
json_t *realtime_last(Fixture *f);
/* A member by path: "response.output.0.id". */
const json_t *realtime_at(const json_t *json, const char *path);
const char *realtime_text(const json_t *json, const char *path);
/* What the live tells of a reply, up to its end. */
void realtime_reply(Fixture *f, const char *response, const char *item, const char *const *deltas, gboolean audio);
void realtime_add_text(Fixture *f);
