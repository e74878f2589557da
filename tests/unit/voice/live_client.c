#include "live_client.h"
#include <string.h>

const ChoirLiveOptions defaults = {.server_vad = TRUE,
                                   .threshold = 0.5,
                                   .silence_ms = 600,
                                   .prefix_ms = 300,
                                   .interrupt = TRUE,
                                   .create_response = TRUE,
                                   .audio_out = TRUE};

static void on_event(ChoirLive *live, const ChoirLiveEvent *event, gpointer user) {
  Client *c = user;
  g_assert_true(live == c->live || c->live == NULL);
  c->count[event->type]++;
  g_free(c->text[event->type]);
  c->text[event->type] = g_strdup(event->text);
  g_free(c->item[event->type]);
  c->item[event->type] = g_strdup(event->item_id);
  if (event->type == CHOIR_LIVE_AUDIO)
    g_array_append_vals(c->heard, event->pcm, (guint)event->samples);
  if (event->type == CHOIR_LIVE_VISEMES)
    c->audio_before_visemes = c->heard->len;
  if (event->type == CHOIR_LIVE_TRUNCATED)
    c->ms = event->ms;
  if (event->type == CHOIR_LIVE_RESPONSE_DONE) {
    g_free(c->status);
    c->status = g_strdup(event->status);
    g_free(c->reason);
    c->reason = g_strdup(event->reason);
  }
  if ((int)event->type == c->type_on) {
    c->type_on = NO_EVENT;
    g_free(choir_live_text(live, "and this", TRUE));
  }
  if ((int)event->type == c->free_on) {
    c->free_on = NO_EVENT;
    choir_live_free(g_steal_pointer(&c->live));
  }
}

static void set_clock(Client *c, gint64 now) {
  c->now = now;
  choir_clock_set_test_us(now);
}

void start_with(Client *c, gboolean engines) {
  *c = (Client){.free_on = NO_EVENT, .type_on = NO_EVENT};
  set_clock(c, 1000000);
  c->heard = g_array_new(FALSE, FALSE, sizeof(gint16));
  c->twin = fake_twin_new();
  c->voice = choir_voice_new(NULL, c->twin, &defaults);
  if (engines) {
    c->ear = fake_worker_new(TRUE);
    c->stt = fake_worker_new(TRUE);
    c->tts = fake_worker_new(TRUE);
  }
  choir_voice_set_workers(c->voice, c->ear, c->stt, c->tts);
  g_autoptr(GError) error = NULL;
  c->live = choir_live_new(c->voice, "realtime", on_event, c, &error);
  g_assert_no_error(error);
}

void start(Client *c) {
  start_with(c, TRUE);
}

void stop(Client *c) {
  choir_live_free(c->live);
  g_assert_cmpuint(choir_voice_sessions(c->voice), ==, 0);
  choir_voice_free(c->voice);
  fake_twin_free(c->twin); /* turns whose end comes after the client is gone */
  if (c->ear != NULL) {
    fake_worker_free(c->ear);
    fake_worker_free(c->stt);
    fake_worker_free(c->tts);
  }
  for (guint i = 0; i < G_N_ELEMENTS(c->text); i++) {
    g_free(c->text[i]);
    g_free(c->item[i]);
  }
  g_free(c->status);
  g_free(c->reason);
  g_array_unref(c->heard);
  choir_clock_set_test_us(-1);
}

void answer(Client *c, guint16 type, guint32 gen, guint32 aux, const void *payload, gsize length) {
  ChoirWireFrame frame = {
      .type = type, .session = 1, .gen = gen, .aux = aux, .length = (guint32)length, .payload = payload};
  choir_voice_worker_frame(&frame, c->voice);
}

void run(Client *c, guint ms) {
  for (guint i = 0; i < ms / 20; i++) {
    set_clock(c, c->now + 20000);
    choir_voice_tick(c->voice);
  }
}

gint16 mic_sample(guint64 index) {
  return (gint16)(index % 30011);
}

/* Microphone audio at the ear's own rate, so that its samples can be told apart; the ear answers. */
void speak(Client *c, guint ms, float probability) {
  gint16 pcm[320];
  for (guint i = 0; i < ms / 20 && c->live != NULL; i++) {
    for (guint k = 0; k < G_N_ELEMENTS(pcm); k++)
      pcm[k] = mic_sample(c->sent + k);
    c->sent += G_N_ELEMENTS(pcm);
    g_assert_true(choir_live_audio(c->live, pcm, G_N_ELEMENTS(pcm), 16000));
    for (; c->live != NULL && c->windows + CHOIR_VAD_WINDOW <= c->sent; c->windows += CHOIR_VAD_WINDOW) {
      float values[2] = {probability, 0.1f};
      answer(c, CHOIR_WIRE_EAR_WINDOW, 0, (guint32)(c->windows + CHOIR_VAD_WINDOW), values, sizeof values);
    }
    run(c, 20);
  }
}

void transcribe(Client *c, const char *text) {
  const FakeFrame *job = fake_worker_last(c->stt, CHOIR_WIRE_STT_JOB, 0);
  g_assert_nonnull(job);
  g_autofree char *json = g_strdup_printf("{\"text\":\"%s\",\"no_speech\":0.1}", text);
  answer(c, CHOIR_WIRE_STT_TEXT, job->gen, 0, json, strlen(json));
}

/* Answers the last job of the voice: `ms` of a ramp, each clause with another start. */
void synthesise(Client *c, guint ms, const char *words) {
  const FakeFrame *job = fake_worker_last(c->tts, CHOIR_WIRE_TTS_JOB, 0);
  g_assert_nonnull(job);
  guint32 gen = job->gen, index = job->aux;
  gsize n = ms * 24;
  g_autofree gint16 *pcm = g_new(gint16, n);
  for (gsize i = 0; i < n; i++)
    pcm[i] = (gint16)((index + 1) * 1000 + i % 1000);
  answer(c, CHOIR_WIRE_TTS_PCM, gen, index, pcm, n * sizeof(gint16));
  g_autofree char *json = g_strdup_printf("{\"samples\":%zu,\"words\":%s}", n, words);
  answer(c, CHOIR_WIRE_TTS_DONE, gen, index, json, strlen(json));
}

void ask(Client *c) {
  speak(c, 1000, 0.9f);
  speak(c, 400, 0.01f);
  transcribe(c, "what is the time");
  speak(c, 400, 0.01f);
}

void between(gsize value, gsize low, gsize high) {
  g_assert_cmpuint(value, >=, low);
  g_assert_cmpuint(value, <=, high);
}
