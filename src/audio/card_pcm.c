#include "audio/card_pcm.h"
#include <alsa/asoundlib.h>
#include <string.h>

#define WANTED_RATE 48000
#define PERIOD_US 10000
#define PLAY_BUFFER_US 40000    /* what a cut still lets through */
#define RECORD_BUFFER_US 200000 /* how late this program may be */
#define WAIT_MS 1000
#define STUCK_US (5 * G_USEC_PER_SEC)
#define CHUNK 2048
/* A device without a clock is slowed to a little over real time; no real one is off by so much. */
#define PACE 1.005
#define PACE_AHEAD_US 150000

struct CardPcm {
  snd_pcm_t *handle;
  char *name;
  gboolean playback;
  unsigned int rate, channels;
  snd_pcm_uframes_t period, buffer;
  gint64 start_us; /* of the pace */
  guint64 frames;
};

G_DEFINE_QUARK(card - error - quark, card_error)

static const char *kind(gboolean playback) {
  return playback ? "speaker" : "microphone";
}

static gboolean failed(int code, const char *what, const char *name, gboolean playback, GError **error) {
  if (code >= 0)
    return FALSE;
  g_set_error(error, CARD_ERROR, CARD_ERROR_OPEN, "%s '%s': %s: %s; 'arecord -L' and 'aplay -L' list the devices",
              kind(playback), name, what, snd_strerror(code));
  return TRUE;
}

/* Hardware that is opened without the plug layer has its own ideas of channels and rate. */
static gboolean set_hardware(CardPcm *pcm, GError **error) {
  snd_pcm_hw_params_t *hw;
  snd_pcm_hw_params_alloca(&hw);
  unsigned int period_us = PERIOD_US, buffer_us = pcm->playback ? PLAY_BUFFER_US : RECORD_BUFFER_US;
  pcm->rate = WANTED_RATE;
  pcm->channels = 1;
  if (failed(snd_pcm_hw_params_any(pcm->handle, hw), "has no configuration", pcm->name, pcm->playback, error) ||
      failed(snd_pcm_hw_params_set_access(pcm->handle, hw, SND_PCM_ACCESS_RW_INTERLEAVED),
             "cannot be read and written plainly", pcm->name, pcm->playback, error) ||
      failed(snd_pcm_hw_params_set_format(pcm->handle, hw, SND_PCM_FORMAT_S16_LE),
             "knows no 16 bit samples (write it as plughw:...)", pcm->name, pcm->playback, error))
    return FALSE;
  if (snd_pcm_hw_params_set_channels(pcm->handle, hw, 1) < 0) {
    pcm->channels = 2;
    if (failed(snd_pcm_hw_params_set_channels(pcm->handle, hw, 2),
               "has neither one nor two channels (write it as plughw:...)", pcm->name, pcm->playback, error))
      return FALSE;
  }
  if (failed(snd_pcm_hw_params_set_rate_near(pcm->handle, hw, &pcm->rate, NULL), "has no rate near 48 kHz", pcm->name,
             pcm->playback, error))
    return FALSE;
  (void)snd_pcm_hw_params_set_period_time_near(pcm->handle, hw, &period_us, NULL);
  (void)snd_pcm_hw_params_set_buffer_time_near(pcm->handle, hw, &buffer_us, NULL);
  if (failed(snd_pcm_hw_params(pcm->handle, hw), "refuses the format", pcm->name, pcm->playback, error))
    return FALSE;
  (void)snd_pcm_hw_params_get_period_size(hw, &pcm->period, NULL);
  (void)snd_pcm_hw_params_get_buffer_size(hw, &pcm->buffer);
  return TRUE;
}

static gboolean set_software(CardPcm *pcm, GError **error) {
  snd_pcm_sw_params_t *sw;
  snd_pcm_sw_params_alloca(&sw);
  snd_pcm_uframes_t start = pcm->playback ? MIN(pcm->period * 2, pcm->buffer) : 1;
  return !failed(snd_pcm_sw_params_current(pcm->handle, sw), "has no settings", pcm->name, pcm->playback, error) &&
         !failed(snd_pcm_sw_params_set_start_threshold(pcm->handle, sw, start), "does not start", pcm->name,
                 pcm->playback, error) &&
         !failed(snd_pcm_sw_params(pcm->handle, sw), "refuses the settings", pcm->name, pcm->playback, error);
}

CardPcm *card_pcm_open(const char *name, gboolean playback, GError **error) {
  CardPcm *pcm = g_new0(CardPcm, 1);
  pcm->name = g_strdup(name);
  pcm->playback = playback;
  int code =
      snd_pcm_open(&pcm->handle, name, playback ? SND_PCM_STREAM_PLAYBACK : SND_PCM_STREAM_CAPTURE, SND_PCM_NONBLOCK);
  if (failed(code, "cannot be opened", name, playback, error) || !set_hardware(pcm, error) ||
      !set_software(pcm, error)) {
    card_pcm_close(pcm);
    return NULL;
  }
  if (!playback)
    (void)snd_pcm_start(pcm->handle);
  pcm->start_us = g_get_monotonic_time() + PACE_AHEAD_US; /* what it may be ahead is earned first */
  return pcm;
}

void card_pcm_close(CardPcm *pcm) {
  if (!pcm)
    return;
  if (pcm->handle)
    snd_pcm_close(pcm->handle);
  g_free(pcm->name);
  g_free(pcm);
}

guint card_pcm_rate(const CardPcm *pcm) {
  return pcm->rate;
}

guint card_pcm_period(const CardPcm *pcm) {
  return (guint)CLAMP(pcm->period, pcm->rate / 200, CHUNK / 2);
}

char *card_pcm_describe(const CardPcm *pcm) {
  return g_strdup_printf("%s %s (%u Hz, %s, buffer %u ms)", kind(pcm->playback), pcm->name, pcm->rate,
                         pcm->channels == 1 ? "mono" : "stereo", (guint)(pcm->buffer * 1000 / pcm->rate));
}

static void pace(CardPcm *pcm, gsize frames) {
  pcm->frames += frames;
  gint64 due = pcm->start_us + (gint64)((double)pcm->frames * G_USEC_PER_SEC / ((double)pcm->rate * PACE));
  gint64 now = g_get_monotonic_time();
  if (due - now > PACE_AHEAD_US)
    g_usleep((gulong)(due - now - PACE_AHEAD_US));
  else if (due < now) /* the device is the slower one: it sets the pace */
    pcm->start_us += now - due;
}

static CardPcmResult lost(const CardPcm *pcm, const char *why, GError **error) {
  g_set_error(error, CARD_ERROR, CARD_ERROR_LOST, "%s '%s' is gone: %s", kind(pcm->playback), pcm->name, why);
  return CARD_PCM_LOST;
}

/* After an error of a read or write. OK: try again. */
static CardPcmResult recover(CardPcm *pcm, int code, GError **error) {
  if (code == -EINTR)
    return CARD_PCM_OK;
  if (code != -EPIPE && code != -ESTRPIPE)
    return lost(pcm, snd_strerror(code), error);
  int again = snd_pcm_recover(pcm->handle, code, 1);
  if (again >= 0 && !pcm->playback)
    again = snd_pcm_start(pcm->handle);
  return again < 0 ? lost(pcm, snd_strerror(again), error) : CARD_PCM_XRUN;
}

/* The device was not ready: waits for it, not for ever. */
static CardPcmResult wait_ready(CardPcm *pcm, gint64 since_us, GError **error) {
  if (g_get_monotonic_time() - since_us > STUCK_US)
    return lost(pcm, "it stood still for five seconds", error);
  int code = snd_pcm_wait(pcm->handle, WAIT_MS);
  return code < 0 ? recover(pcm, code, error) : CARD_PCM_OK;
}

static snd_pcm_sframes_t move(CardPcm *pcm, gint16 *mono, gsize frames) {
  gint16 both[2 * CHUNK];
  frames = MIN(frames, CHUNK);
  if (pcm->channels == 1)
    return pcm->playback ? snd_pcm_writei(pcm->handle, mono, frames) : snd_pcm_readi(pcm->handle, mono, frames);
  for (gsize i = 0; pcm->playback && i < frames; i++)
    both[2 * i] = both[2 * i + 1] = mono[i];
  snd_pcm_sframes_t n =
      pcm->playback ? snd_pcm_writei(pcm->handle, both, frames) : snd_pcm_readi(pcm->handle, both, frames);
  for (snd_pcm_sframes_t i = 0; !pcm->playback && i < n; i++)
    mono[i] = (gint16)((both[2 * i] + both[2 * i + 1]) / 2);
  return n;
}

static CardPcmResult transfer(CardPcm *pcm, gint16 *mono, gsize frames, GError **error) {
  CardPcmResult result = CARD_PCM_OK;
  gint64 since = g_get_monotonic_time();
  gsize done = 0;
  while (done < frames) {
    snd_pcm_sframes_t n = move(pcm, mono + done, frames - done);
    CardPcmResult step = CARD_PCM_OK;
    if (n > 0) {
      done += (gsize)n;
      since = g_get_monotonic_time();
    } else if (n == 0 || n == -EAGAIN) {
      step = wait_ready(pcm, since, error);
    } else {
      step = recover(pcm, (int)n, error);
    }
    if (step == CARD_PCM_LOST)
      return step;
    if (step == CARD_PCM_XRUN)
      result = step;
  }
  pace(pcm, frames);
  return result;
}

CardPcmResult card_pcm_read(CardPcm *pcm, gint16 *mono, gsize frames, GError **error) {
  return transfer(pcm, mono, frames, error);
}

CardPcmResult card_pcm_write(CardPcm *pcm, const gint16 *mono, gsize frames, GError **error) {
  return transfer(pcm, (gint16 *)mono, frames, error);
}

gsize card_pcm_delay(CardPcm *pcm) {
  snd_pcm_sframes_t delay = 0;
  if (snd_pcm_delay(pcm->handle, &delay) < 0 || delay < 0)
    return 0;
  return (gsize)delay;
}
