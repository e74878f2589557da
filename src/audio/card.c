#include "audio/card.h"
#include <string.h>
#include "audio/aec.h"
#include "audio/card_align.h"
#include "audio/card_pcm.h"
#include "audio/card_queue.h"
#include "audio/resample.h"
#include "base/names.h"

#define PLAY_CHUNK 240 /* samples of CHOIR_RATE_OUT pulled at once, 10 ms */
#define REPORT_US 40000
#define FAR_SAMPLES (1u << 15) /* 2 s of CHOIR_AEC_RATE: what was played, for the canceller */
#define FAR_MASK (FAR_SAMPLES - 1)
/* The reference runs so far ahead of the microphone that no jitter of the clocks puts an echo before its cause. */
#define FAR_MARGIN 128
#define FAR_KNOWN                                                                                                      \
  64 /* and never so far that it is not written yet: a driver that knows of no delay would have it so                  \
      */

#define FAR_WAIT_US 40000 /* of the 200 ms that the microphone's buffer holds */

/* Where the loudspeaker was at a moment, in samples of CHOIR_AEC_RATE since it was opened. */
typedef struct {
  guint64 written;
  double heard;
  gint64 at_us;
  gboolean gap; /* it stood still for a while: the microphone's thread has to know */
} FarClock;

struct ChoirCard {
  ChoirCardCallbacks callbacks;
  gpointer user;
  CardPcm *microphone, *speaker;
  GThread *listens, *speaks;
  gint stop;   /* atomic */
  GMutex lock; /* queue, far, clock */
  GCond more;  /* of far */
  CardQueue queue;
  gint16 far[FAR_SAMPLES];
  FarClock clock;
  /* Thread of the microphone */
  ChoirAec *aec;
  ChoirResampler *in;
  guint64 taken; /* samples of CHOIR_AEC_RATE */
  CardAlign align;
};

/* --- the loudspeaker --- */

static void remember_far(ChoirCard *card, const GArray *far, gsize delay, guint rate) {
  for (guint i = 0; i < far->len; i++)
    card->far[(card->clock.written + i) & FAR_MASK] = g_array_index(far, gint16, i);
  card->clock.written += far->len;
  card->clock.heard = (double)card->clock.written - (double)delay * CHOIR_AEC_RATE / rate;
  card->clock.at_us = g_get_monotonic_time();
}

static void report(ChoirCard *card, guint64 delay, guint *underruns_told) {
  guint32 item;
  guint64 samples;
  g_mutex_lock(&card->lock);
  gboolean any = card_queue_heard(&card->queue, delay, &item, &samples);
  guint underruns = card->queue.underruns - *underruns_told;
  g_mutex_unlock(&card->lock);
  if (!any)
    return;
  *underruns_told += underruns;
  card->callbacks.played(item, samples, underruns, card->user);
}

static gpointer speak(gpointer data) {
  ChoirCard *card = data;
  guint rate = card_pcm_rate(card->speaker), told = 0;
  ChoirResampler *out = choir_resampler_new(CHOIR_RATE_OUT, rate);
  ChoirResampler *reference = choir_resampler_new(CHOIR_RATE_OUT, CHOIR_AEC_RATE);
  g_autoptr(GArray) device = g_array_new(FALSE, FALSE, sizeof(gint16));
  g_autoptr(GArray) far = g_array_new(FALSE, FALSE, sizeof(gint16));
  g_autoptr(GError) error = NULL;
  gint64 reported = 0;
  guint busy = 0; /* chunks until silence has passed through the device too */
  while (!g_atomic_int_get(&card->stop)) {
    gint16 chunk[PLAY_CHUNK];
    g_mutex_lock(&card->lock);
    gsize sound = card_queue_pull(&card->queue, chunk, PLAY_CHUNK);
    gboolean waits = !card_queue_idle(&card->queue);
    g_mutex_unlock(&card->lock);
    busy = sound > 0 || waits ? 30 : busy - MIN(busy, 1);
    g_array_set_size(device, 0);
    g_array_set_size(far, 0);
    choir_resampler_run(out, chunk, PLAY_CHUNK, device);
    choir_resampler_run(reference, chunk, PLAY_CHUNK, far);
    CardPcmResult result = card_pcm_write(card->speaker, (const gint16 *)(gpointer)device->data, device->len, &error);
    if (result == CARD_PCM_LOST) {
      card->callbacks.failed(error->message, card->user);
      break;
    }
    gsize delay = card_pcm_delay(card->speaker);
    g_mutex_lock(&card->lock);
    if (result == CARD_PCM_XRUN && sound > 0)
      card->queue.underruns++;
    card->clock.gap = card->clock.gap || result == CARD_PCM_XRUN;
    remember_far(card, far, delay, rate);
    g_cond_signal(&card->more);
    g_mutex_unlock(&card->lock);
    gint64 now = g_get_monotonic_time();
    if (busy == 0 || now - reported < REPORT_US)
      continue;
    reported = now;
    report(card, (guint64)delay * CHOIR_RATE_OUT / rate, &told);
  }
  choir_resampler_free(out);
  choir_resampler_free(reference);
  return NULL;
}

/* --- the microphone --- */

/* What the devices say about their clocks right now. */
static double offset_now(const ChoirCard *card, gsize waiting) {
  gint64 now = g_get_monotonic_time();
  double heard = card->clock.heard + (double)(now - card->clock.at_us) * CHOIR_AEC_RATE / G_USEC_PER_SEC;
  double recorded = (double)card->taken + (double)waiting * CHOIR_AEC_RATE / card_pcm_rate(card->microphone);
  return MIN(heard, (double)card->clock.written) - recorded;
}

/* The loudspeaker's thread got no processor for a moment: its samples come. Called with the lock. */
static double await_far(ChoirCard *card, double last) {
  gint64 deadline = g_get_monotonic_time() + FAR_WAIT_US;
  while ((double)card->clock.written < last && g_cond_wait_until(&card->more, &card->lock, deadline))
    ;
  return (double)card->clock.written;
}

/* What the loudspeaker gave to the air while the last frame was recorded. */
static void reference(ChoirCard *card, gint16 *ret_far) {
  gsize waiting = card_pcm_delay(card->microphone);
  g_mutex_lock(&card->lock);
  if (card->clock.gap)
    card_align_gap(&card->align);
  card->clock.gap = FALSE;
  if (card_align_report(&card->align, offset_now(card, waiting)))
    choir_aec_reset(card->aec);
  double drift = choir_aec_drift(card->aec), written = (double)card->clock.written;
  double at = (double)card->taken - CHOIR_AEC_FRAME + card->align.offset + FAR_MARGIN;
  double last = at + (1 + drift) * CHOIR_AEC_FRAME + FAR_KNOWN;
  if (last > written && card_align_in_sound(&card->align))
    written = await_far(card, last);
  at -= card_align_late(&card->align, last - written);
  for (guint i = 0; i < CHOIR_AEC_FRAME; i++, at += 1 + drift) {
    gboolean known = at >= 1 && at + 3 < written && at + FAR_SAMPLES - 3 > written;
    ret_far[i] = known ? (gint16)CLAMP(choir_aec_between(card->far, FAR_SAMPLES, at), -32768, 32767) : 0;
  }
  card->align.offset += drift * CHOIR_AEC_FRAME;
  g_mutex_unlock(&card->lock);
}

static void hear(ChoirCard *card, GArray *waiting) {
  guint at = 0;
  for (; waiting->len - at >= CHOIR_AEC_FRAME; at += CHOIR_AEC_FRAME) {
    gint16 far[CHOIR_AEC_FRAME] = {0}, clean[CHOIR_AEC_FRAME];
    card->taken += CHOIR_AEC_FRAME;
    const gint16 *mic = &g_array_index(waiting, gint16, at);
    if (card->speaker)
      reference(card, far);
    if (card->speaker && card_align_hear(&card->align, mic, far))
      choir_aec_reset(card->aec);
    choir_aec_run(card->aec, mic, far, clean);
    card->callbacks.heard(clean, CHOIR_AEC_FRAME, card->user);
  }
  if (at > 0)
    g_array_remove_range(waiting, 0, at);
}

static gpointer listen(gpointer data) {
  ChoirCard *card = data;
  gsize period = card_pcm_period(card->microphone);
  g_autofree gint16 *chunk = g_new(gint16, period);
  g_autoptr(GArray) waiting = g_array_new(FALSE, FALSE, sizeof(gint16));
  g_autoptr(GError) error = NULL;
  while (!g_atomic_int_get(&card->stop)) {
    CardPcmResult result = card_pcm_read(card->microphone, chunk, period, &error);
    if (result == CARD_PCM_LOST) {
      card->callbacks.failed(error->message, card->user);
      break;
    }
    if (result == CARD_PCM_XRUN)
      card_align_gap(&card->align); /* samples are missing: its count no longer tells the time */
    choir_resampler_run(card->in, chunk, period, waiting);
    hear(card, waiting);
  }
  return NULL;
}

/* --- both --- */

ChoirCard *choir_card_open(const ChoirCardOptions *options, const ChoirCardCallbacks *callbacks, gpointer user,
                           GError **error) {
  ChoirCard *card = g_new0(ChoirCard, 1);
  card->callbacks = *callbacks;
  card->user = user;
  g_mutex_init(&card->lock);
  g_cond_init(&card->more);
  card_queue_init(&card->queue);
  card_align_init(&card->align);
  card->microphone = card_pcm_open(options->microphone, FALSE, error);
  if (card->microphone && options->speaker)
    card->speaker = card_pcm_open(options->speaker, TRUE, error);
  if (!card->microphone || (options->speaker && !card->speaker)) {
    choir_card_free(card);
    return NULL;
  }
  card->aec = choir_aec_new(options->echo && card->speaker != NULL);
  card->in = choir_resampler_new(card_pcm_rate(card->microphone), CHOIR_AEC_RATE);
  if (card->speaker)
    card->speaks = g_thread_new("speaker", speak, card);
  card->listens = g_thread_new("microphone", listen, card);
  return card;
}

void choir_card_free(ChoirCard *card) {
  if (!card)
    return;
  g_atomic_int_set(&card->stop, 1);
  if (card->listens)
    g_thread_join(card->listens);
  if (card->speaks)
    g_thread_join(card->speaks);
  card_pcm_close(card->microphone);
  card_pcm_close(card->speaker);
  choir_aec_free(card->aec);
  choir_resampler_free(card->in);
  g_mutex_clear(&card->lock);
  g_cond_clear(&card->more);
  g_free(card);
}

char *choir_card_describe(const ChoirCard *card) {
  g_autofree char *microphone = card_pcm_describe(card->microphone);
  g_autofree char *speaker = card->speaker ? card_pcm_describe(card->speaker) : g_strdup("no speaker");
  return g_strdup_printf("%s, %s", microphone, speaker);
}

void choir_card_play(ChoirCard *card, guint32 item, const gint16 *pcm, gsize n) {
  g_mutex_lock(&card->lock);
  (void)card_queue_push(&card->queue, item, pcm, n);
  g_mutex_unlock(&card->lock);
}

void choir_card_end(ChoirCard *card, guint32 item) {
  g_mutex_lock(&card->lock);
  card_queue_end(&card->queue, item);
  g_mutex_unlock(&card->lock);
}

void choir_card_pause(ChoirCard *card) {
  g_mutex_lock(&card->lock);
  card_queue_pause(&card->queue);
  g_mutex_unlock(&card->lock);
}

void choir_card_resume(ChoirCard *card, guint32 item, guint64 sample) {
  g_mutex_lock(&card->lock);
  card_queue_resume(&card->queue, item, sample);
  g_mutex_unlock(&card->lock);
}

void choir_card_flush(ChoirCard *card) {
  g_mutex_lock(&card->lock);
  card_queue_flush(&card->queue);
  g_mutex_unlock(&card->lock);
}
