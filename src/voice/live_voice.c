#include "voice/live_private.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"
#include <string.h>

#define TICK_MS 20
#define METER_US 100000

ChoirVoice *choir_voice_new(ChoirHub *hub, ChoirTwin *twin, const ChoirLiveOptions *defaults) {
  ChoirVoice *voice = g_new0(ChoirVoice, 1);
  voice->hub = hub;
  voice->twin = twin;
  voice->defaults = *defaults;
  voice->lives = g_ptr_array_new();
  voice->sessions_gauge = choir_gauge("choir_voice_sessions", NULL, "Live clients.");
  voice->barge_ins = choir_counter("choir_voice_barge_ins_total", NULL, "Replies cut by speech.");
  voice->stale = choir_counter("choir_voice_stale_results_total", NULL, "Late engine results dropped by generation.");
  voice->refused = choir_counter("choir_voice_refused_total", NULL, "Reply samples and clauses over a limit.");
  voice->underruns = choir_counter("choir_voice_underruns_total", NULL, "Underruns reported by listeners.");
  voice->failures = choir_counter("choir_voice_errors_total", NULL, "Errors told to live clients.");
  return voice;
}

void choir_voice_free(ChoirVoice *voice) {
  if (voice == NULL)
    return;
  while (voice->lives->len > 0)
    choir_live_free(voice->lives->pdata[0]);
  if (voice->tick != 0)
    g_source_remove(voice->tick);
  g_ptr_array_unref(voice->lives);
  g_free(voice);
}

guint choir_voice_sessions(const ChoirVoice *voice) {
  return voice->lives->len;
}

const ChoirLiveOptions *choir_voice_defaults(const ChoirVoice *voice) {
  return &voice->defaults;
}

/* Callbacks may close clients, so a round goes over its own list. */
static GPtrArray *lives_now(ChoirVoice *voice) {
  GPtrArray *round = g_ptr_array_new_with_free_func((GDestroyNotify)live_unref);
  for (guint i = 0; i < voice->lives->len; i++) {
    live_ref(voice->lives->pdata[i]);
    g_ptr_array_add(round, voice->lives->pdata[i]);
  }
  return round;
}

void choir_voice_tick(ChoirVoice *voice) {
  g_autoptr(GPtrArray) round = lives_now(voice);
  for (guint i = 0; i < round->len; i++) {
    ChoirLive *live = round->pdata[i];
    if (!live->freed && session_needs_tick(&live->state))
      live_post(live, &(LiveEvent){.event = {.type = SESSION_EV_TICK}});
  }
}

static gboolean on_tick(gpointer user) {
  ChoirVoice *voice = user;
  choir_voice_tick(voice);
  for (guint i = 0; i < voice->lives->len; i++)
    if (session_needs_tick(&((ChoirLive *)voice->lives->pdata[i])->state))
      return G_SOURCE_CONTINUE;
  voice->tick = 0;
  return G_SOURCE_REMOVE;
}

void live_need_tick(ChoirVoice *voice) {
  if (voice->tick == 0)
    voice->tick = g_timeout_add_full(G_PRIORITY_HIGH, TICK_MS, on_tick, voice, NULL);
}

static void worker_changed(ChoirVoice *voice, SessionWorker index) {
  ChoirWorker *worker = voice->worker[index];
  gboolean ready = worker != NULL && choir_worker_ready(worker);
  g_autoptr(GPtrArray) round = lives_now(voice);
  for (guint i = 0; i < round->len; i++) {
    ChoirLive *live = round->pdata[i];
    if (live->freed)
      continue;
    if (index == SESSION_EAR)
      live->ear_open = FALSE;
    live_post(live, &(LiveEvent){.event = {.type = SESSION_EV_WORKER, .worker = index, .flag = ready}});
  }
}

void choir_voice_set_workers(ChoirVoice *voice, ChoirWorker *ear, ChoirWorker *stt, ChoirWorker *tts) {
  voice->worker[SESSION_EAR] = ear;
  voice->worker[SESSION_STT] = stt;
  voice->worker[SESSION_TTS] = tts;
  for (guint i = 0; i < SESSION_WORKERS; i++)
    worker_changed(voice, i);
}

void choir_voice_worker_state(ChoirWorker *worker, gboolean ready, gpointer user) {
  ChoirVoice *voice = user;
  for (guint i = 0; i < SESSION_WORKERS; i++)
    if (voice->worker[i] == worker)
      worker_changed(voice, i);
}

static ChoirLive *find_live(ChoirVoice *voice, guint32 session) {
  for (guint i = 0; i < voice->lives->len; i++) {
    ChoirLive *live = voice->lives->pdata[i];
    if (live->session == session)
      return live;
  }
  return NULL;
}

static void on_window(ChoirLive *live, const ChoirWireFrame *frame) {
  float values[2];
  if (frame->length < sizeof values)
    return;
  memcpy(values, frame->payload, sizeof values);
  if (!(values[0] >= 0 && values[0] <= 1) || !(values[1] >= 0 && values[1] <= 1))
    return; /* not a number, or nonsense */
  /* The wire carries the low half of the sample index; the window lies shortly before the microphone's end. */
  guint64 position = live->mic.end - (guint32)((guint32)live->mic.end - frame->aux);
  live_ref(live);
  gint64 now = choir_clock_us();
  if (now - live->meter_us >= METER_US) {
    live->meter_us = now;
    live_emit(live, &(ChoirLiveEvent){.type = CHOIR_LIVE_VAD, .level = values[1], .probability = values[0]});
  }
  if (!live->freed)
    live_post(live, &(LiveEvent){.event = {.type = SESSION_EV_WINDOW, .position = position, .probability = values[0]}});
  live_unref(live);
}

static json_t *payload_json(const ChoirWireFrame *frame) {
  g_autoptr(GError) error = NULL;
  json_t *json = choir_json_parse((const char *)frame->payload, frame->length, &error);
  if (json == NULL)
    choir_warning(CHOIR_TOPIC_VOICE, "a worker's answer is no JSON: %s", error->message);
  return json;
}

static void on_text(ChoirLive *live, const ChoirWireFrame *frame) {
  json_t *json = payload_json(frame);
  if (json == NULL) {
    live_post(live, &(LiveEvent){.event = {.type = SESSION_EV_STT_FAILED, .gen = frame->gen},
                                 .text = "the recogniser's answer cannot be read"});
    return;
  }
  g_autofree char *text = g_strstrip(g_strdup(choir_json_string(json, "text", "")));
  gboolean understood = *text != '\0';
  json_decref(json);
  live_post(live, &(LiveEvent){.event = {.type = SESSION_EV_STT_TEXT, .gen = frame->gen, .flag = understood},
                               .text = understood ? text : ""});
}

static guint read_words(const json_t *json, LedgerWord *words, guint max) {
  const json_t *rows = json_object_get(json, "words");
  gsize n = json_array_size(rows);
  if (n > max)
    return 0;
  for (gsize i = 0; i < n; i++) {
    const json_t *row = json_array_get(rows, i);
    gint64 value[3];
    for (gsize k = 0; k < 3; k++) {
      value[k] = json_integer_value(json_array_get(row, k));
      if (json_array_size(row) != 3 || value[k] < 0 || value[k] > G_MAXUINT16)
        return 0;
    }
    words[i] = (LedgerWord){(guint16)value[0], (guint16)value[1], (guint16)value[2]};
  }
  return (guint)n;
}

static void on_clause_done(ChoirLive *live, const ChoirWireFrame *frame) {
  LedgerWord words[LEDGER_CLAUSE_WORDS];
  guint n = 0;
  json_t *json = payload_json(frame);
  if (json != NULL)
    n = read_words(json, words, G_N_ELEMENTS(words));
  json_decref(json);
  live_post(
      live,
      &(LiveEvent){
          .event = {
              .type = SESSION_EV_TTS_DONE, .gen = frame->gen, .index = frame->aux, .words = words, .n_words = n}});
}

static void on_pcm(ChoirLive *live, const ChoirWireFrame *frame) {
  gsize n = frame->length / sizeof(gint16);
  /* The frame's payload may lie at an odd address. */
  g_autofree gint16 *pcm = g_new(gint16, MAX(n, 1));
  if (n > 0)
    memcpy(pcm, frame->payload, n * sizeof(gint16));
  live_post(live,
            &(LiveEvent){.event = {.type = SESSION_EV_TTS_PCM, .gen = frame->gen, .index = frame->aux, .samples = n},
                         .pcm = pcm});
}

/* The job's generation says whose error it is: recogniser and voice share the counter. */
static void on_error(ChoirLive *live, const ChoirWireFrame *frame) {
  g_autofree char *why = choir_utf8((const char *)frame->payload, frame->length);
  gboolean voice = frame->gen == live->state.reply.gen;
  live_post(live, &(LiveEvent){.event = {.type = voice ? SESSION_EV_TTS_FAILED : SESSION_EV_STT_FAILED,
                                         .gen = frame->gen,
                                         .index = frame->aux},
                               .text = why});
}

void choir_voice_worker_frame(const ChoirWireFrame *frame, gpointer user) {
  ChoirVoice *voice = user;
  ChoirLive *live = find_live(voice, frame->session);
  if (live == NULL) {
    /* A hung-up client's late result, or a worker that speaks of itself. */
    if (frame->type == CHOIR_WIRE_ERROR && frame->gen == 0)
      choir_warning(CHOIR_TOPIC_VOICE, "a worker reports: %.*s", (int)MIN(frame->length, 300),
                    (const char *)frame->payload);
    else
      choir_counter_add(voice->stale, 1);
    return;
  }
  switch (frame->type) {
  case CHOIR_WIRE_EAR_WINDOW:
    on_window(live, frame);
    break;
  case CHOIR_WIRE_STT_TEXT:
    on_text(live, frame);
    break;
  case CHOIR_WIRE_TTS_PCM:
    on_pcm(live, frame);
    break;
  case CHOIR_WIRE_TTS_DONE:
    on_clause_done(live, frame);
    break;
  case CHOIR_WIRE_ERROR:
    on_error(live, frame);
    break;
  default:
    break;
  }
}
