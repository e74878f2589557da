#include "voice/live_private.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"
#include <string.h>

void live_ref(ChoirLive *live) {
  live->refs++;
}

void live_unref(ChoirLive *live) {
  if (--live->refs > 0)
    return;
  for (guint i = 0; i < live->turns->len; i++)
    ((LiveTurn *)live->turns->pdata[i])->live = NULL;
  g_ptr_array_unref(live->turns);
  g_ptr_array_unref(live->captures);
  g_ptr_array_unref(live->unanswered);
  g_ptr_array_unref(live->notices);
  g_array_unref(live->scratch);
  g_array_unref(live->store);
  mic_ring_clear(&live->mic);
  if (live->resampler != NULL)
    choir_resampler_free(live->resampler);
  g_free(live->kept);
  g_free(live->problem);
  g_free(live->ended_text);
  g_free(live->source);
  g_free(live->salt);
  g_free(live->instructions);
  g_free(live->notes);
  g_free(live);
}

void live_emit(ChoirLive *live, const ChoirLiveEvent *event) {
  if (live->callback != NULL)
    live->callback(live, event, live->user);
}

static LiveEvent *event_copy(const LiveEvent *event) {
  LiveEvent *copy = g_memdup2(event, sizeof *event);
  if (event->event.n_words > 0)
    copy->event.words = g_memdup2(event->event.words, event->event.n_words * sizeof(LedgerWord));
  if (event->pcm != NULL)
    copy->pcm = g_memdup2(event->pcm, event->event.samples * sizeof(gint16));
  copy->text = g_strdup(event->text);
  return copy;
}

static void event_free(LiveEvent *event) {
  if (event->event.n_words > 0)
    g_free((gpointer)event->event.words);
  g_free((gpointer)event->pcm);
  g_free((gpointer)event->text);
  g_free(event);
}

/* What failed, for the sentence that the client gets. */
static void note_problem(ChoirLive *live, const LiveEvent *event) {
  SessionEventType type = event->event.type;
  if (type != SESSION_EV_STT_FAILED && type != SESSION_EV_TTS_FAILED && type != SESSION_EV_TWIN_REFUSED &&
      type != SESSION_EV_TWIN_DONE)
    return;
  g_free(live->problem);
  live->problem = g_strdup(event->text);
}

/* The session's counters, as they were before a step, against what they are now. */
static void count(ChoirLive *live, const guint64 before[6]) {
  const ChoirVoice *voice = live->voice;
  const SessionState *s = &live->state;
  const guint64 now[] = {s->stale, s->refused, s->resumes, s->echoes, s->guesses, s->wrong_guesses};
  ChoirMetric *const metric[] = {voice->stale,  voice->refused, voice->resumes,
                                 voice->echoes, voice->guesses, voice->wrong_guesses};
  for (guint i = 0; i < G_N_ELEMENTS(now); i++)
    if (now[i] > before[i])
      choir_counter_add(metric[i], now[i] - before[i]);
}

static void step(ChoirLive *live, const LiveEvent *event) {
  SessionEffect effects[SESSION_MAX_EFFECTS];
  SessionEvent timed = event->event;
  const guint64 before[] = {live->state.stale,  live->state.refused, live->state.resumes,
                            live->state.echoes, live->state.guesses, live->state.wrong_guesses};
  note_problem(live, event);
  timed.now = (guint64)(choir_clock_us() - live->start_us) * (CHOIR_RATE_MIC / 1000) / 1000;
  guint n = session_step(&live->state, &timed, effects, G_N_ELEMENTS(effects));
  count(live, before);
  if (event->event.type == SESSION_EV_TTS_DONE) {
    live->voice->voice_pace = live->state.voice_pace;
    live->voice->reserve_ms = live->state.reserve_ms;
  }
  for (guint i = 0; i < n; i++)
    live_effect(live, &effects[i], event);
}

/* Effects may cause events (an engine refuses, the client answers at once); those wait for their turn. */
void live_post(ChoirLive *live, const LiveEvent *event) {
  if (live->stepping) {
    if (live->queue.length < LIVE_QUEUE)
      g_queue_push_tail(&live->queue, event_copy(event));
    else
      choir_warning(CHOIR_TOPIC_VOICE, "an event of session %u is dropped: %u are waiting", live->session, LIVE_QUEUE);
    return;
  }
  live_ref(live);
  live->stepping = TRUE;
  step(live, event);
  LiveEvent *next;
  while ((next = g_queue_pop_head(&live->queue)) != NULL) {
    step(live, next);
    event_free(next);
  }
  live->stepping = FALSE;
  if (!live->freed && session_needs_tick(&live->state))
    live_need_tick(live->voice);
  live_unref(live);
}

static void post_simple(ChoirLive *live, SessionEventType type) {
  live_post(live, &(LiveEvent){.event = {.type = type}});
}

static SessionOptions session_options(const ChoirLiveOptions *options) {
  return (SessionOptions){.server_vad = options->server_vad,
                          .interrupt = options->interrupt,
                          .create_response = options->create_response,
                          .audio_out = options->audio_out,
                          .threshold = CLAMP(options->threshold, 0.1, 0.95),
                          .silence_ms = CLAMP(options->silence_ms, 200u, 3000u),
                          .prefix_ms = MIN(options->prefix_ms, 1000u),
                          .silence_min_ms = CLAMP(options->silence_min_ms, 200u, 5000u),
                          .silence_max_ms =
                              options->silence_max_ms > 0 ? CLAMP(options->silence_max_ms, 200u, 5000u) : 0,
                          .speculate = options->speculate,
                          .muted = options->muted,
                          .half_duplex = options->half_duplex,
                          .wake = options->wake,
                          .idle_ms = MIN(options->idle_ms, 3600000u)};
}

void live_tell_fillers(ChoirLive *live) {
  for (guint i = 0; i < LIVE_FILLERS && !live->freed; i++)
    live_post(live, &(LiveEvent){.event = {.type = SESSION_EV_FILLER,
                                           .index = i,
                                           .samples = live_fillers_samples(&live->voice->fillers, i)}});
}

ChoirLive *choir_live_new(ChoirVoice *voice, const char *source, ChoirLiveCallback callback, gpointer user,
                          GError **error) {
  if (voice->lives->len >= LIVE_MAX) {
    g_set_error(error, CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_BUSY,
                "%d conversations are open already; close one (a browser tab, a terminal) and try again", LIVE_MAX);
    return NULL;
  }
  ChoirLive *live = g_new0(ChoirLive, 1);
  live->voice = voice;
  live->refs = 1;
  live->session = ++voice->sessions;
  live->source = g_strdup(source);
  live->salt = g_strdup_printf("%08x", g_random_int());
  live->callback = callback;
  live->user = user;
  live->options = voice->defaults;
  live->session_options = session_options(&live->options);
  live->start_us = choir_clock_us();
  live->scratch = g_array_new(FALSE, FALSE, sizeof(gint16));
  live->store = g_array_new(FALSE, FALSE, sizeof(gint16));
  live->captures = g_ptr_array_new_with_free_func((GDestroyNotify)g_array_unref);
  live->unanswered = g_ptr_array_new_with_free_func(g_free);
  live->notices = g_ptr_array_new_with_free_func(g_free);
  live->turns = g_ptr_array_new();
  g_queue_init(&live->queue);
  session_init(&live->state, &live->session_options, 0);
  live->state.voice_pace = voice->voice_pace;
  live->state.reserve_ms = voice->reserve_ms;
  g_ptr_array_add(voice->lives, live);
  choir_gauge_set(voice->sessions_gauge, voice->lives->len);
  for (guint i = 0; i < SESSION_WORKERS; i++) {
    gboolean ready = voice->worker[i] != NULL && choir_worker_ready(voice->worker[i]);
    live_post(live, &(LiveEvent){.event = {.type = SESSION_EV_WORKER, .worker = i, .flag = ready}});
  }
  live_tell_fillers(live);
  return live;
}

void choir_live_free(ChoirLive *live) {
  if (live == NULL || live->freed)
    return;
  ChoirVoice *voice = live->voice;
  live->callback = NULL;
  post_simple(live, SESSION_EV_HANGUP);
  live->freed = TRUE;
  if (live->ear_open && voice->worker[SESSION_EAR] != NULL)
    (void)choir_worker_send(voice->worker[SESSION_EAR], CHOIR_WIRE_EAR_CLOSE, 0, live->session, 0, 0, NULL, 0);
  g_ptr_array_remove(voice->lives, live);
  choir_gauge_set(voice->sessions_gauge, voice->lives->len);
  live_unref(live);
}

void choir_live_configure(ChoirLive *live, const ChoirLiveOptions *options) {
  live->options = *options;
  live->session_options = session_options(options);
  /* An ear that heard nothing for a while begins anew. */
  if (!options->server_vad)
    live->ear_open = FALSE;
  live_post(live, &(LiveEvent){.event = {.type = SESSION_EV_CONFIGURE, .options = &live->session_options}});
}

void choir_live_prompt(ChoirLive *live, const ChoirLivePrompt *prompt) {
  g_free(live->instructions);
  g_free(live->notes);
  live->instructions = g_strdup(prompt->instructions);
  live->notes = g_strdup(prompt->notes);
  live->max_tokens = prompt->max_tokens;
  /* A reply that was begun on a guess had the old one. */
  live_post(live, &(LiveEvent){.event = {.type = SESSION_EV_CONFIGURE, .options = &live->session_options}});
}

gsize choir_live_heard(const ChoirLive *live) {
  return live->turn ? ledger_heard(&live->state.ledger, pacer_heard(&live->state.pacer)) : 0;
}

const ChoirLiveOptions *choir_live_options(const ChoirLive *live) {
  return &live->options;
}

const char *choir_live_state(const ChoirLive *live) {
  return session_shown_name(live->state.shown);
}

/* A meter without an ear: the level alone. */
static void plain_meter(ChoirLive *live, const gint16 *pcm, gsize n) {
  gint64 now = choir_clock_us();
  if (now - live->meter_us < 100000)
    return;
  live->meter_us = now;
  live_emit(live, &(ChoirLiveEvent){.type = CHOIR_LIVE_VAD, .level = choir_pcm_rms(pcm, n)});
}

static void to_ear(ChoirLive *live, const gint16 *pcm, gsize n, guint64 position) {
  ChoirWorker *ear = live->voice->worker[SESSION_EAR];
  if (!live->options.server_vad || ear == NULL || !choir_worker_ready(ear)) {
    plain_meter(live, pcm, n);
    return;
  }
  if (!live->ear_open) {
    live->ear_open = choir_worker_send(ear, CHOIR_WIRE_EAR_OPEN, 0, live->session, 0, 0, NULL, 0);
    if (live->spots != 0)
      live_job_spots(live);
  }
  (void)choir_worker_send(ear, CHOIR_WIRE_EAR_AUDIO, 0, live->session, 0, (guint32)position, pcm, n * sizeof(gint16));
}

gboolean choir_live_audio(ChoirLive *live, const gint16 *pcm, gsize samples, guint rate) {
  if (rate < 8000 || rate > 48000)
    return FALSE;
  if (samples == 0 || live->options.muted)
    return TRUE;
  /* One sample more than the exact count: what the resampler held back may come out with it. */
  if ((guint64)samples * CHOIR_RATE_MIC / rate + 1 > session_mic_room(&live->state))
    return FALSE;
  if (live->resampler == NULL || live->rate != rate) {
    if (live->resampler != NULL)
      choir_resampler_free(live->resampler);
    live->resampler = choir_resampler_new(rate, CHOIR_RATE_MIC);
    live->rate = rate;
  }
  g_array_set_size(live->scratch, 0);
  choir_resampler_run(live->resampler, pcm, samples, live->scratch);
  gsize n = live->scratch->len;
  if (n == 0)
    return TRUE;
  live_ref(live);
  guint64 position = live->mic.end;
  mic_ring_push(&live->mic, (const gint16 *)live->scratch->data, n);
  live->mic_us = choir_clock_us();
  to_ear(live, (const gint16 *)live->scratch->data, n, position);
  live_post(live, &(LiveEvent){.event = {.type = SESSION_EV_AUDIO, .samples = n}});
  live_unref(live);
  return TRUE;
}

void choir_live_commit(ChoirLive *live) {
  post_simple(live, SESSION_EV_COMMIT);
}

void choir_live_clear(ChoirLive *live) {
  post_simple(live, SESSION_EV_CLEAR);
}

char *choir_live_text(ChoirLive *live, const char *text, gboolean respond) {
  guint32 item = session_new_item(&live->state);
  char *id = live_item_id(live, item);
  live_post(live, &(LiveEvent){.event = {.type = SESSION_EV_TEXT, .item = item, .flag = respond}, .text = text});
  return id;
}

gboolean choir_live_notice(ChoirLive *live, const char *text) {
  if (live->notices->len >= SESSION_NOTICES || strlen(text) > LIVE_REPLY_MAX)
    return FALSE;
  g_ptr_array_add(live->notices, g_strdup(text));
  post_simple(live, SESSION_EV_NOTICE);
  return TRUE;
}

void choir_live_respond(ChoirLive *live) {
  post_simple(live, SESSION_EV_RESPOND);
}

void choir_live_cancel(ChoirLive *live) {
  post_simple(live, SESSION_EV_CANCEL);
}

char *live_item_id(const ChoirLive *live, guint32 item) {
  return g_strdup_printf("item_%s%08x", live->salt, item);
}

/* 0: not one of ours. */
static guint32 item_of_id(const ChoirLive *live, const char *id) {
  if (id == NULL || !g_str_has_prefix(id, "item_") || strncmp(id + 5, live->salt, 8) != 0 || strlen(id) != 21)
    return 0;
  guint64 item;
  return g_ascii_string_to_unsigned(id + 13, 16, 1, G_MAXUINT32, &item, NULL) ? (guint32)item : 0;
}

gboolean choir_live_truncate(ChoirLive *live, const char *item_id, guint64 audio_end_ms) {
  guint32 item = item_of_id(live, item_id);
  if (!session_knows_reply(&live->state, item))
    return FALSE;
  guint64 samples = MIN(audio_end_ms, G_MAXUINT32) * (CHOIR_RATE_OUT / 1000);
  live_post(live, &(LiveEvent){.event = {.type = SESSION_EV_TRUNCATE, .item = item, .samples = samples}});
  return TRUE;
}

void choir_live_ack(ChoirLive *live, const char *item_id, guint64 played_samples, guint underruns) {
  guint32 item = item_of_id(live, item_id);
  const Pacer *pacer = &live->state.pacer;
  choir_counter_add(live->voice->underruns, underruns);
  if (item != 0 && item == live->state.reply.item && pacer->sent > 0)
    echo_level_mark(&live->echo, live->mic.end, live->echo_base + MIN(played_samples, pacer->sent));
  live_post(live, &(LiveEvent){
                      .event = {.type = SESSION_EV_ACK, .item = item, .samples = played_samples, .count = underruns}});
}
