#include "voice/live_fillers.h"
#include <string.h>

static const char *const phrases[LIVE_FILLERS] = {"Hmm, let me think.", "One moment.", "Let me see."};

void live_fillers_clear(LiveFillers *fillers) {
  g_clear_pointer(&fillers->making, g_array_unref);
  for (guint i = 0; i < LIVE_FILLERS; i++)
    g_clear_pointer(&fillers->ready[i], g_array_unref);
}

static void speak_next(LiveFillers *fillers, ChoirWorker *tts) {
  while (fillers->next < LIVE_FILLERS && fillers->ready[fillers->next] != NULL)
    fillers->next++;
  if (fillers->next >= LIVE_FILLERS)
    return;
  if (fillers->making == NULL)
    fillers->making = g_array_new(FALSE, FALSE, sizeof(gint16));
  g_array_set_size(fillers->making, 0);
  const char *text = phrases[fillers->next];
  if (!choir_worker_send(tts, CHOIR_WIRE_TTS_JOB, 0, LIVE_FILLERS_SESSION, ++fillers->gen, fillers->next, text,
                         strlen(text)))
    fillers->next = LIVE_FILLERS; /* until the voice comes up again */
}

void live_fillers_make(LiveFillers *fillers, ChoirWorker *tts) {
  fillers->next = 0;
  if (fillers->wanted)
    speak_next(fillers, tts);
}

static void take(LiveFillers *fillers, const ChoirWireFrame *frame) {
  gsize n = frame->length / sizeof(gint16), have = fillers->making->len;
  if (n == 0 || have + n > LIVE_FILLER_MAX)
    return;
  g_array_set_size(fillers->making, (guint)(have + n));
  memcpy(fillers->making->data + have * sizeof(gint16), frame->payload, n * sizeof(gint16));
}

gboolean live_fillers_frame(LiveFillers *fillers, ChoirWorker *tts, const ChoirWireFrame *frame) {
  if (fillers->making == NULL || fillers->next >= LIVE_FILLERS || frame->gen != fillers->gen)
    return FALSE;
  gboolean done = frame->type == CHOIR_WIRE_TTS_DONE;
  if (frame->type == CHOIR_WIRE_TTS_PCM)
    take(fillers, frame);
  if (frame->type == CHOIR_WIRE_ERROR) {
    fillers->next = LIVE_FILLERS; /* replies go without; the voice's own trouble is told elsewhere */
    return FALSE;
  }
  if (!done)
    return FALSE;
  gboolean got = fillers->making->len > 0;
  if (got)
    fillers->ready[fillers->next] = g_steal_pointer(&fillers->making);
  fillers->next++;
  speak_next(fillers, tts);
  return got;
}

guint64 live_fillers_samples(const LiveFillers *fillers, guint index) {
  return fillers->ready[index] != NULL ? fillers->ready[index]->len : 0;
}

const gint16 *live_fillers_pcm(const LiveFillers *fillers, guint index) {
  return (const gint16 *)(gconstpointer)fillers->ready[index]->data;
}
