#include "daemon/local_voice.h"
#include <string.h>
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"

#define TOPIC CHOIR_TOPIC_VOICE
#define SESSION_RETRY_S 5 /* all sessions are taken: asks again so often */
#define SAMPLES_PER_MS (CHOIR_RATE_OUT / 1000)

struct ChoirLocalVoice {
  ChoirVoice *voice;
  ChoirWorker *worker;
  ChoirLive *live; /* NULL while the card is not there */
  char *microphone, *speaker;
  gboolean wake;
  char *item; /* the reply's item that goes to the card, as its number below */
  guint32 number;
  char *state;   /* of the session, for the status */
  char *problem; /* why there is no session although the card is there */
  guint retry;
};

static gboolean is_off(const char *device) {
  return device == NULL || *device == '\0' || strcmp(device, "off") == 0;
}

/* A frame that is refused is counted by the worker; the pacer hears of it by the samples that are not played. */
static void to_card(ChoirLocalVoice *local, guint16 type, guint32 aux, const void *payload, gsize length) {
  (void)choir_worker_send(local->worker, type, 0, 0, local->number, aux, payload, length);
}

static gboolean is_current(const ChoirLocalVoice *local, const char *item) {
  return item != NULL && g_strcmp0(item, local->item) == 0;
}

static void play(ChoirLocalVoice *local, const ChoirLiveEvent *event) {
  if (!is_current(local, event->item_id)) {
    g_free(local->item);
    local->item = g_strdup(event->item_id);
    local->number++;
  }
  to_card(local, CHOIR_WIRE_CARD_PLAY, 0, event->pcm, event->samples * sizeof *event->pcm);
}

static void cut(ChoirLocalVoice *local) {
  to_card(local, CHOIR_WIRE_CARD_FLUSH, 0, NULL, 0);
  g_clear_pointer(&local->item, g_free);
}

static void on_live(ChoirLive *live, const ChoirLiveEvent *event, gpointer user) {
  ChoirLocalVoice *local = user;
  switch (event->type) {
  case CHOIR_LIVE_AUDIO:
    play(local, event);
    break;
  case CHOIR_LIVE_RESPONSE_DONE:
    if (!is_current(local, event->item_id))
      break;
    if (g_strcmp0(event->status, "completed") == 0)
      to_card(local, CHOIR_WIRE_CARD_END, 0, NULL, 0);
    else
      cut(local);
    break;
  case CHOIR_LIVE_TRUNCATED:
    if (is_current(local, event->item_id))
      cut(local);
    break;
  case CHOIR_LIVE_PAUSED:
    if (is_current(local, event->item_id))
      to_card(local, CHOIR_WIRE_CARD_PAUSE, 0, NULL, 0);
    break;
  case CHOIR_LIVE_RESUMED:
    if (is_current(local, event->item_id))
      to_card(local, CHOIR_WIRE_CARD_RESUME, (guint32)(event->ms * SAMPLES_PER_MS), NULL, 0);
    break;
  case CHOIR_LIVE_STATE:
    g_free(local->state);
    local->state = g_strdup(event->text);
    break;
  case CHOIR_LIVE_ERROR:
  case CHOIR_LIVE_TRANSCRIPT_FAILED:
    choir_warning(TOPIC, "at this machine's microphone: %s", event->text);
    break;
  default:
    break;
  }
}

static gboolean open_session(ChoirLocalVoice *local) {
  g_autoptr(GError) error = NULL;
  local->live = choir_live_new(local->voice, "card", on_live, local, &error);
  g_free(local->problem);
  local->problem = local->live ? NULL : g_strdup(error->message);
  if (!local->live) {
    choir_warning(TOPIC, "this machine's microphone waits: %s", error->message);
    return FALSE;
  }
  ChoirLiveOptions options = *choir_live_options(local->live);
  options.server_vad = TRUE;
  options.audio_out = !is_off(local->speaker);
  options.wake = options.wake || local->wake;
  choir_live_configure(local->live, &options);
  return TRUE;
}

static gboolean on_retry(gpointer user) {
  ChoirLocalVoice *local = user;
  if (!open_session(local))
    return G_SOURCE_CONTINUE;
  local->retry = 0;
  return G_SOURCE_REMOVE;
}

static void close_session(ChoirLocalVoice *local) {
  if (local->retry)
    g_source_remove(local->retry);
  local->retry = 0;
  g_clear_pointer(&local->live, choir_live_free);
  g_clear_pointer(&local->item, g_free);
  g_clear_pointer(&local->state, g_free);
}

static void on_state(ChoirWorker *worker, gboolean ready, gpointer user) {
  ChoirLocalVoice *local = user;
  if (!ready) {
    close_session(local);
    return;
  }
  choir_info(TOPIC, "listening at this machine's own microphone");
  if (!open_session(local))
    local->retry = g_timeout_add_seconds(SESSION_RETRY_S, on_retry, local);
}

static void on_frame(const ChoirWireFrame *frame, gpointer user) {
  ChoirLocalVoice *local = user;
  if (!local->live)
    return;
  if (frame->type == CHOIR_WIRE_CARD_HEARD) {
    gint16 pcm[1024];
    gsize n = MIN(frame->length / sizeof *pcm, G_N_ELEMENTS(pcm));
    memcpy(pcm, frame->payload, n * sizeof *pcm); /* the payload need not be aligned */
    (void)choir_live_audio(local->live, pcm, n, CHOIR_RATE_MIC);
  } else if (frame->type == CHOIR_WIRE_CARD_PLAYED && frame->length == sizeof(guint32)) {
    guint32 underruns;
    memcpy(&underruns, frame->payload, sizeof underruns);
    if (frame->gen == local->number && local->item)
      choir_live_ack(local->live, local->item, frame->aux, GUINT32_FROM_LE(underruns));
  }
}

ChoirLocalVoice *choir_local_voice_new(ChoirHub *hub, ChoirVoice *voice, const ChoirLocalVoiceOptions *options) {
  if (is_off(options->microphone)) {
    if (!is_off(options->speaker))
      choir_warning(TOPIC, "[voice] speaker = %s does nothing while microphone is off: nobody can be answered",
                    options->speaker);
    return NULL;
  }
  ChoirLocalVoice *local = g_new0(ChoirLocalVoice, 1);
  local->voice = voice;
  local->microphone = g_strdup(options->microphone);
  local->speaker = g_strdup(is_off(options->speaker) ? "off" : options->speaker);
  local->wake = options->wake;
  g_autoptr(GPtrArray) argv = g_ptr_array_new();
  g_ptr_array_add(argv, (gpointer)options->program);
  g_ptr_array_add(argv, (gpointer) "--microphone");
  g_ptr_array_add(argv, local->microphone);
  if (!is_off(local->speaker)) {
    g_ptr_array_add(argv, (gpointer) "--speaker");
    g_ptr_array_add(argv, local->speaker);
  }
  if (!options->echo)
    g_ptr_array_add(argv, (gpointer) "--no-echo-cancellation");
  g_ptr_array_add(argv, NULL);
  /* It must never wait: sound that is late is lost. */
  local->worker =
      choir_worker_new(hub, "choir-card", TOPIC, (const char *const *)argv->pdata, 0, on_frame, on_state, local);
  return local;
}

void choir_local_voice_start(ChoirLocalVoice *local) {
  if (local)
    choir_worker_start(local->worker);
}

void choir_local_voice_stop(ChoirLocalVoice *local, void (*done)(gpointer user), gpointer user) {
  if (local)
    choir_worker_stop(local->worker, done, user);
  else
    done(user);
}

void choir_local_voice_free(ChoirLocalVoice *local) {
  if (!local)
    return;
  close_session(local);
  choir_worker_free(local->worker);
  g_free(local->microphone);
  g_free(local->speaker);
  g_free(local->problem);
  g_free(local);
}

ChoirChild *choir_local_voice_child(ChoirLocalVoice *local) {
  return local ? choir_worker_child(local->worker) : NULL;
}

json_t *choir_local_voice_status(ChoirLocalVoice *local) {
  if (!local)
    return json_pack("{s:s}", "microphone", "off");
  const char *info = choir_worker_info(local->worker);
  const char *error = choir_child_last_error(choir_worker_child(local->worker));
  json_auto_t *parsed = info ? json_loads(info, 0, NULL) : NULL;
  gboolean ready = local->live != NULL;
  const char *detail = local->problem ? local->problem : parsed ? choir_json_string(parsed, "detail", "") : "";
  if (!choir_worker_ready(local->worker) && error)
    detail = error;
  return json_pack("{s:s,s:s,s:b,s:s,s:s}", "microphone", local->microphone, "speaker", local->speaker, "ready", ready,
                   "detail", detail, "state", local->state ? local->state : "");
}
