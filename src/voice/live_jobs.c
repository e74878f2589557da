#include "voice/live_private.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/names.h"
#include <string.h>

#define TURN_SECONDS 8 /* smart-turn looks at no more */
#define LOOSE_WORDS 2

/* A turn's audio kept until its job's turn comes: the item's number in front of the samples. */
static GArray *find_capture(ChoirLive *live, guint32 item, guint *ret_index) {
  for (guint i = 0; i < live->captures->len; i++) {
    GArray *capture = live->captures->pdata[i];
    guint32 owner;
    memcpy(&owner, capture->data, sizeof owner);
    if (owner == item) {
      *ret_index = i;
      return capture;
    }
  }
  return NULL;
}

static void capture(ChoirLive *live, const SessionEffect *fx) {
  GArray *audio = g_array_new(FALSE, FALSE, sizeof(gint16));
  g_array_append_vals(audio, &fx->item, 2);
  mic_ring_copy(&live->mic, fx->position, fx->end, audio);
  /* Turns whose transcription failed leave theirs behind. */
  if (live->captures->len >= SESSION_TURNS)
    g_ptr_array_remove_index(live->captures, 0);
  g_ptr_array_add(live->captures, audio);
}

static void stt_job(ChoirLive *live, const SessionEffect *fx) {
  live_marks_set(&live->marks, LIVE_MARK_STT_ASKED, choir_clock_us());
  guint index = 0;
  g_autoptr(GArray) own = NULL;
  const GArray *kept = find_capture(live, fx->item, &index);
  if (kept == NULL) {
    own = g_array_new(FALSE, FALSE, sizeof(gint16));
    mic_ring_copy(&live->mic, fx->position, fx->end, own);
  }
  const gint16 *pcm = kept != NULL ? (const gint16 *)kept->data + 2 : (const gint16 *)own->data;
  gsize n = kept != NULL ? kept->len - 2 : own->len;
  ChoirWorker *stt = live->voice->worker[SESSION_STT];
  if (stt == NULL ||
      !choir_worker_send(stt, CHOIR_WIRE_STT_JOB, fx->flag ? 1 : 0, live->session, fx->gen, 0, pcm, n * sizeof(gint16)))
    live_post(live, &(LiveEvent){.event = {.type = SESSION_EV_STT_FAILED, .gen = fx->gen},
                                 .text = "the recogniser takes no more work"});
  if (kept != NULL)
    g_ptr_array_remove_index(live->captures, index);
}

static void tts_job(ChoirLive *live, const SessionEffect *fx) {
  const char *text = live->turn->clauses->pdata[fx->index];
  ChoirWorker *tts = live->voice->worker[SESSION_TTS];
  if (tts == NULL ||
      !choir_worker_send(tts, CHOIR_WIRE_TTS_JOB, 0, live->session, fx->gen, fx->index, text, strlen(text)))
    live_post(live, &(LiveEvent){.event = {.type = SESSION_EV_TTS_FAILED, .gen = fx->gen, .index = fx->index},
                                 .text = "the voice takes no more work"});
}

static void cancel_jobs(ChoirLive *live, SessionWorker worker, guint16 type, guint32 gen) {
  if (live->voice->worker[worker] != NULL)
    (void)choir_worker_send(live->voice->worker[worker], type, 0, live->session, gen, 0, NULL, 0);
}

static void drop_store(ChoirLive *live) {
  g_array_set_size(live->store, 0);
  live->store_head = 0;
  live->fade = 0;
}

static void store_pcm(ChoirLive *live, const gint16 *pcm, gsize n) {
  if (live->store_head > live->store->len / 2) {
    g_array_remove_range(live->store, 0, (guint)live->store_head);
    live->store_head = 0;
  }
  g_array_append_vals(live->store, pcm, (guint)n);
}

/* The ear must know the session first. */
void live_job_spots(ChoirLive *live) {
  ChoirWorker *ear = live->voice->worker[SESSION_EAR];
  if (ear != NULL && live->ear_open)
    (void)choir_worker_send(ear, CHOIR_WIRE_EAR_SPOT, (guint16)live->spots, live->session, 0, 0, NULL, 0);
}

static void turn_job(ChoirLive *live, const SessionEffect *fx) {
  ChoirWorker *ear = live->voice->worker[SESSION_EAR];
  guint64 most = (guint64)TURN_SECONDS * CHOIR_RATE_MIC;
  guint64 start = fx->end - fx->position > most ? fx->end - most : fx->position;
  g_autoptr(GArray) audio = g_array_new(FALSE, FALSE, sizeof(gint16));
  mic_ring_copy(&live->mic, start, fx->end, audio);
  /* Only a hint: an ear that cannot take it leaves the timer as it is. */
  if (ear != NULL)
    (void)choir_worker_send(ear, CHOIR_WIRE_EAR_TURN, 0, live->session, fx->gen, 0, audio->data,
                            audio->len * sizeof(gint16));
}

/* The recogniser's last words are a guess when the sound broke off in them: the next transcript has others. */
static void drop_words(GString *text, guint words) {
  while (words-- > 0 && text->len > 0) {
    char *space = strrchr(text->str, ' ');
    g_string_truncate(text, space != NULL ? (gsize)(space - text->str) : 0);
  }
}

static void prefill(ChoirLive *live, const SessionEffect *fx, const LiveEvent *cause) {
  if (live->instructions != NULL)
    return; /* another prompt than the one that is kept warm */
  g_autoptr(GString) said = g_string_new(cause->text);
  if (fx->flag)
    drop_words(said, LOOSE_WORDS);
  if (said->len == 0)
    return;
  g_autoptr(GString) text = g_string_new(NULL);
  for (guint i = 0; i < live->unanswered->len; i++)
    g_string_append_printf(text, "%s ", (const char *)live->unanswered->pdata[i]);
  g_string_append(text, said->str);
  choir_twin_prefill(live->voice->twin, text->str);
}

const gint16 *live_store_take(ChoirLive *live, gsize n) {
  gint16 *pcm = (gint16 *)(gpointer)live->store->data + live->store_head;
  const guint all = SESSION_FADE_MS * CHOIR_RATE_OUT / 1000;
  for (gsize i = 0; i < n && live->fade > 0; i++, live->fade--)
    pcm[i] = (gint16)((gint)pcm[i] * (gint)(all - live->fade) / (gint)all);
  live->store_head += n;
  return pcm;
}

void live_job_effect(ChoirLive *live, const SessionEffect *fx, const LiveEvent *cause) {
  switch (fx->type) {
  case SESSION_FX_STT_JOB:
    stt_job(live, fx);
    break;
  case SESSION_FX_STT_CANCEL:
    cancel_jobs(live, SESSION_STT, CHOIR_WIRE_STT_CANCEL, fx->gen);
    break;
  case SESSION_FX_KEEP_TEXT:
    g_free(live->kept);
    live->kept = g_strdup(cause->text);
    live->kept_gen = fx->gen;
    break;
  case SESSION_FX_CAPTURE:
    capture(live, fx);
    break;
  case SESSION_FX_TURN_JOB:
    turn_job(live, fx);
    break;
  case SESSION_FX_SPOT:
    live->spots = fx->bytes;
    live_job_spots(live);
    break;
  case SESSION_FX_PREFILL:
    prefill(live, fx, cause);
    break;
  case SESSION_FX_TTS_JOB:
    tts_job(live, fx);
    break;
  case SESSION_FX_TTS_CANCEL:
    cancel_jobs(live, SESSION_TTS, CHOIR_WIRE_TTS_CANCEL, fx->gen);
    break;
  case SESSION_FX_STORE_PCM:
    store_pcm(live, cause->pcm, fx->samples);
    break;
  case SESSION_FX_FILLER:
    store_pcm(live, live_fillers_pcm(&live->voice->fillers, fx->index), fx->samples);
    break;
  case SESSION_FX_DROP_PCM:
    drop_store(live);
    break;
  default:
    break;
  }
}
