/* A Realtime client and a live that say anything, in any order. One input line is one event: "{...}" comes from the
 * client, "L" starts one from voice/live: a letter for its type, a digit for the item, a digit for the response, then
 * its text. What the session sends must stay well-formed and keep the protocol's promises. */
/* In place of the real one: the build gives a target one file. NOLINTNEXTLINE(bugprone-suspicious-include) */
#include "../unit/web/fake_live.c"
#include "base/text.h"
#include "web/realtime_session.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct {
  GHashTable *open_items; /* added and not done */
  char *response;         /* the active one */
  gboolean created;
} Checker;

static void must(gboolean condition, const char *promise) {
  if (condition)
    return;
  fprintf(stderr, "broken promise: %s\n", promise);
  abort();
}

static void check_item(Checker *checker, const char *type, const json_t *event) {
  const char *id = choir_json_string(json_object_get(event, "item"), "id", NULL);
  if (strcmp(type, "conversation.item.added") == 0) {
    must(id != NULL, "an added item has an id");
    g_hash_table_add(checker->open_items, g_strdup(id));
  } else if (strcmp(type, "conversation.item.done") == 0) {
    must(id != NULL && g_hash_table_remove(checker->open_items, id), "done follows added, once");
  }
}

static void check_response(Checker *checker, const char *type, const json_t *event) {
  const char *named = choir_json_string(json_object_get(event, "response"), "id", NULL);
  if (strcmp(type, "response.created") == 0) {
    must(checker->response == NULL && named != NULL, "one response at a time");
    checker->response = g_strdup(named);
  } else if (strcmp(type, "response.done") == 0) {
    must(g_strcmp0(checker->response, named) == 0 && named != NULL, "the active response ends");
    g_clear_pointer(&checker->response, g_free);
  } else {
    must(checker->response != NULL, "no content outside a response");
    must(g_strcmp0(choir_json_string(event, "response_id", NULL), checker->response) == 0,
         "content names its response");
  }
}

static void on_send(const char *text, gsize length, gpointer user) {
  Checker *checker = user;
  json_auto_t *event = choir_json_parse(text, length, NULL);
  must(json_is_object(event), "events are JSON objects");
  const char *type = choir_json_string(event, "type", "");
  must(checker->created || strcmp(type, "session.created") == 0, "session.created comes first");
  checker->created = TRUE;
  must(*choir_json_string(event, "event_id", "") != '\0', "every event has an id");
  if (strcmp(type, "error") == 0)
    must(choir_json_string(json_object_get(event, "error"), "message", NULL) != NULL, "errors say why");
  if (g_str_has_prefix(type, "conversation.item."))
    check_item(checker, type, event);
  if (g_str_has_prefix(type, "response."))
    check_response(checker, type, event);
}

static void live_event(ChoirRealtimeSession *session, const char *line, gsize length) {
  static const gint16 pcm[5000];
  static const char *const status[] = {"completed", "cancelled", "failed", NULL};
  static const char *const ids[] = {"live_1", "live_2", "a1", "a2", NULL};
  char item[8], response[8];
  guint8 type = length > 1 ? (guint8)line[1] : 0, which = length > 2 ? (guint8)line[2] : 0,
         reply = length > 3 ? (guint8)line[3] : 0;
  g_snprintf(item, sizeof item, "u%u", which % 8);
  g_snprintf(response, sizeof response, "r%u", reply % 4);
  g_autofree char *text = length > 4 ? g_strndup(line + 4, length - 4) : NULL;
  ChoirLiveEvent event = {.type = (ChoirLiveEventType)(type % (CHOIR_LIVE_ERROR + 1)),
                          .item_id = which & 8 ? ids[which % G_N_ELEMENTS(ids)] : item,
                          .response_id = reply & 16 ? NULL : response,
                          .text = text,
                          .status = status[reply % G_N_ELEMENTS(status)],
                          .reason = reply & 8 ? "turn_detected" : NULL,
                          .ms = reply * 10u,
                          .level = which / 255.0,
                          .probability = reply / 255.0};
  if (event.type == CHOIR_LIVE_AUDIO) {
    event.pcm = pcm;
    event.samples = (gsize)which * 20 % G_N_ELEMENTS(pcm);
  }
  choir_realtime_session_live(session, &event);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const ChoirLiveOptions defaults = {.server_vad = TRUE, .threshold = 0.5, .silence_ms = 600, .audio_out = TRUE};
  Checker checker = {.open_items = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL)};
  ChoirLive *live = fake_live_new();
  ChoirRealtimeOptions options = {
      .model = "m", .extension = size > 0 && (data[0] & 1), .send = on_send, .user = &checker};
  ChoirRealtimeSession *session = choir_realtime_session_new(&defaults, &options);
  choir_realtime_session_start(session);
  choir_realtime_session_attach(session, live);
  const char *at = (const char *)data, *end = at + size;
  while (at < end) {
    const char *stop = memchr(at, '\n', (gsize)(end - at));
    gsize length = (gsize)((stop ? stop : end) - at);
    fake_live.knows_reply = length & 1;
    fake_live.full = length % 7 == 3;
    g_string_truncate(fake_live.log, 0);
    if (length > 0 && *at == 'L')
      live_event(session, at, length);
    else
      choir_realtime_session_client(session, at, length);
    at += length + 1;
  }
  choir_realtime_session_free(session);
  g_hash_table_unref(checker.open_items);
  g_free(checker.response);
  return 0;
}
