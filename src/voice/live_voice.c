#include "voice/live_private.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"
#include "voice/echo_gate.h"
#include <string.h>

#define TICK_MS 20
#define METER_US 100000
#define SURE_OF_LANGUAGE 0.9
#define SURE_AFTER_MS 1500 /* shorter sounds are like anything */
#define MAX_VISEMES 2000   /* of one clause */

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
  voice->resumes = choir_counter("choir_voice_resumes_total", NULL, "Replies that paused for a sound and went on.");
  voice->echoes = choir_counter("choir_voice_echoes_total", NULL, "Transcripts that were the agent's own voice.");
  voice->guesses =
      choir_counter("choir_voice_guesses_total", "result=\"begun\"", "Replies begun before the turn's end.");
  voice->wrong_guesses =
      choir_counter("choir_voice_guesses_total", "result=\"dropped\"", "Replies begun before the turn's end.");
  voice->failures = choir_counter("choir_voice_errors_total", NULL, "Errors told to live clients.");
  return voice;
}

void choir_voice_configure(ChoirVoice *voice, const ChoirVoiceOptions *options) {
  g_strfreev(voice->languages);
  g_autofree char *list = g_strstrip(g_strdup(options->languages != NULL ? options->languages : ""));
  voice->languages = *list != '\0' ? g_strsplit_set(list, ", ", -1) : NULL;
  voice->fillers.wanted = options->fillers;
}

void choir_voice_free(ChoirVoice *voice) {
  if (voice == NULL)
    return;
  live_fillers_clear(&voice->fillers);
  g_strfreev(voice->languages);
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

guint choir_voice_notice(ChoirVoice *voice, const char *text) {
  g_autoptr(GPtrArray) lives = lives_now(voice);
  guint told = 0;
  for (guint i = 0; i < lives->len; i++)
    if (!((ChoirLive *)lives->pdata[i])->freed)
      told += choir_live_notice(lives->pdata[i], text) ? 1 : 0;
  return told;
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
  if (index == SESSION_TTS && ready)
    live_fillers_make(&voice->fillers, worker);
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
  if (!live->freed) {
    live_echo_follow(live);
    gboolean echo = echo_level_hear(&live->echo, position, (double)values[1]);
    live_post(live, &(LiveEvent){.event = {.type = SESSION_EV_WINDOW,
                                           .position = position,
                                           .probability = (double)values[0],
                                           .echo = echo}});
  }
  live_unref(live);
}

static json_t *payload_json(const ChoirWireFrame *frame) {
  g_autoptr(GError) error = NULL;
  json_t *json = choir_json_parse((const char *)frame->payload, frame->length, &error);
  if (json == NULL)
    choir_warning(CHOIR_TOPIC_VOICE, "a worker's answer is no JSON: %s", error->message);
  return json;
}

/* In the first seconds of a reply echo cancellation is still finding its way. */
static gboolean is_echo(const ChoirLive *live, const char *text) {
  g_autofree char *played = live_turn_played(live);
  gboolean strict = session_audible(&live->state) &&
                    live->state.now - live->state.reply.heard_since < (guint64)SESSION_EARLY_MS * CHOIR_RATE_MIC / 1000;
  return echo_gate_repeats(text, played, strict);
}

/* Before it is known whether there is an echo at all, a single word is what the pause has left of one. */
static gboolean is_scrap(const ChoirLive *live, const char *text, TurnSaid said) {
  return session_audible(&live->state) && !echo_level_settled(&live->echo) && said != TURN_SAID_STOP &&
         strpbrk(text, " -") == NULL;
}

static gboolean is_foreign(const ChoirVoice *voice, const char *language) {
  if (voice->languages == NULL || *language == '\0')
    return FALSE;
  for (guint i = 0; voice->languages[i] != NULL; i++)
    if (*voice->languages[i] != '\0' && g_ascii_strncasecmp(language, voice->languages[i], 2) == 0)
      return FALSE;
  return TRUE;
}

/* The language of the sound, where the recogniser is sure of it; the text's otherwise. Caller frees. */
static char *sounds_like(const json_t *json, const char *language) {
  const char *heard = choir_json_string(json, "heard", "");
  gboolean sure =
      choir_json_double(json, "heard_p", 0) >= SURE_OF_LANGUAGE && choir_json_int(json, "audio_ms", 0) >= SURE_AFTER_MS;
  return g_strdup(*heard != '\0' && sure ? heard : language);
}

static void on_text(ChoirLive *live, const ChoirWireFrame *frame) {
  json_t *json = payload_json(frame);
  if (json == NULL) {
    live_post(live, &(LiveEvent){.event = {.type = SESSION_EV_STT_FAILED, .gen = frame->gen},
                                 .text = "the recogniser's answer cannot be read"});
    return;
  }
  g_autofree char *text = g_strstrip(g_strdup(choir_json_string(json, "text", "")));
  g_autofree char *language = g_strdup(choir_json_string(json, "language", ""));
  g_autofree char *sounded = sounds_like(json, language);
  gboolean understood = *text != '\0';
  TurnSaid said = turn_text_said(text, language);
  json_decref(json);
  if (frame->gen == live->state.stt.gen)
    live_marks_set(&live->marks, LIVE_MARK_STT_TEXT, choir_clock_us());
  live_post(live, &(LiveEvent){.event = {.type = SESSION_EV_STT_TEXT,
                                         .gen = frame->gen,
                                         .flag = understood,
                                         .said = said,
                                         .ending = turn_text_ending(text, language),
                                         .echo = understood && (is_scrap(live, text, said) || is_echo(live, text)),
                                         .foreign = understood && is_foreign(live->voice, sounded)},
                               .text = understood ? text : ""});
}

static void on_verdict(ChoirLive *live, const ChoirWireFrame *frame) {
  float value;
  if (frame->length < sizeof value)
    return;
  memcpy(&value, frame->payload, sizeof value);
  choir_debug(CHOIR_TOPIC_VOICE, "session %u: the turn is over with %.2f", live->session, (double)value);
  if (value >= 0 && value <= 1)
    live_post(live,
              &(LiveEvent){.event = {.type = SESSION_EV_VERDICT, .gen = frame->gen, .probability = (double)value}});
}

static void on_heard(ChoirLive *live, const ChoirWireFrame *frame) {
  G_STATIC_ASSERT((int)SESSION_SPOT_STOP == (int)CHOIR_SPOT_STOP && (int)SESSION_SPOT_WAKE == (int)CHOIR_SPOT_WAKE &&
                  (int)SESSION_SPOT_BACKCHANNEL == (int)CHOIR_SPOT_BACKCHANNEL);
  g_autofree char *phrase = choir_utf8((const char *)frame->payload, frame->length);
  guint64 position = live->mic.end - (guint32)((guint32)live->mic.end - frame->aux);
  choir_debug(CHOIR_TOPIC_VOICE, "session %u: spotted \"%s\"", live->session, phrase);
  live_post(live, &(LiveEvent){.event = {.type = SESSION_EV_HEARD,
                                         .count = frame->flags,
                                         .position = MIN(position, live->mic.end),
                                         .echo = is_echo(live, phrase)}});
}

static gboolean read_row(const json_t *row, LedgerWord *ret_word) {
  gint64 value[5] = {0};
  gsize n = json_array_size(row);
  if (n != 3 && n != 5)
    return FALSE;
  for (gsize k = 0; k < n; k++) {
    value[k] = json_integer_value(json_array_get(row, k));
    if (value[k] < 0 || value[k] > (k < 3 ? G_MAXUINT16 : (gint64)G_MAXINT32))
      return FALSE;
  }
  *ret_word =
      (LedgerWord){(guint16)value[0], (guint16)value[1], (guint16)value[2], (guint32)value[3], (guint32)value[4]};
  return TRUE;
}

static guint read_words(const json_t *json, LedgerWord *words, guint max) {
  const json_t *rows = json_object_get(json, "words");
  gsize n = json_array_size(rows);
  if (n > max)
    return 0;
  for (gsize i = 0; i < n; i++)
    if (!read_row(json_array_get(rows, i), &words[i]))
      return 0;
  return (guint)n;
}

/* [[first, "aa"], ...] in rising order, or NULL. Caller frees. */
static char *read_visemes(const json_t *json) {
  const json_t *rows = json_object_get(json, "visemes");
  gsize n = json_array_size(rows);
  gint64 last = 0;
  if (n == 0 || n > MAX_VISEMES)
    return NULL;
  for (gsize i = 0; i < n; i++) {
    const json_t *row = json_array_get(rows, i), *first = json_array_get(row, 0);
    const char *name = json_string_value(json_array_get(row, 1));
    if (!json_is_integer(first) || json_integer_value(first) < last || json_integer_value(first) > G_MAXINT32 ||
        name == NULL || strlen(name) > 3)
      return NULL;
    last = json_integer_value(first);
  }
  return choir_json_dump(rows);
}

static void on_clause_done(ChoirLive *live, const ChoirWireFrame *frame) {
  LedgerWord words[LEDGER_CLAUSE_WORDS];
  guint n = 0;
  json_t *json = payload_json(frame);
  if (json != NULL)
    n = read_words(json, words, G_N_ELEMENTS(words));
  g_autofree char *visemes = json != NULL ? read_visemes(json) : NULL;
  json_decref(json);
  live_post(
      live,
      &(LiveEvent){
          .event = {.type = SESSION_EV_TTS_DONE, .gen = frame->gen, .index = frame->aux, .words = words, .n_words = n},
          .text = visemes});
}

static void on_mouth(ChoirLive *live, const ChoirWireFrame *frame) {
  json_t *json = payload_json(frame);
  gint64 first = json != NULL ? choir_json_int(json, "first", -1) : -1;
  g_autofree char *visemes = json != NULL ? read_visemes(json) : NULL;
  json_decref(json);
  if (visemes != NULL && first >= 0 && first <= G_MAXINT32)
    live_post(
        live,
        &(LiveEvent){
            .event = {.type = SESSION_EV_TTS_MOUTH, .gen = frame->gen, .index = frame->aux, .position = (guint64)first},
            .text = visemes});
}

static void on_pcm(ChoirLive *live, const ChoirWireFrame *frame) {
  gsize n = frame->length / sizeof(gint16);
  /* The frame's payload may lie at an odd address. */
  g_autofree gint16 *pcm = g_new(gint16, MAX(n, 1));
  if (n > 0)
    memcpy(pcm, frame->payload, n * sizeof(gint16));
  if (n > 0 && frame->gen == live->state.reply.gen)
    live_marks_first(&live->marks, LIVE_MARK_SOUND, choir_clock_us());
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

static void on_filler(ChoirVoice *voice, const ChoirWireFrame *frame) {
  ChoirWorker *tts = voice->worker[SESSION_TTS];
  if (tts == NULL || !live_fillers_frame(&voice->fillers, tts, frame))
    return;
  g_autoptr(GPtrArray) round = lives_now(voice);
  for (guint i = 0; i < round->len; i++)
    live_tell_fillers(round->pdata[i]);
}

void choir_voice_worker_frame(const ChoirWireFrame *frame, gpointer user) {
  ChoirVoice *voice = user;
  if (frame->session == LIVE_FILLERS_SESSION) {
    on_filler(voice, frame);
    return;
  }
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
  case CHOIR_WIRE_EAR_VERDICT:
    on_verdict(live, frame);
    break;
  case CHOIR_WIRE_EAR_HEARD:
    on_heard(live, frame);
    break;
  case CHOIR_WIRE_STT_TEXT:
    on_text(live, frame);
    break;
  case CHOIR_WIRE_TTS_PCM:
    on_pcm(live, frame);
    break;
  case CHOIR_WIRE_TTS_MOUTH:
    on_mouth(live, frame);
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
