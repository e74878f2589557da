/* RIFF WAVE reading and writing, mono or stereo 16 bit PCM (8/24/32 bit and float are converted on reading). */
#pragma once
#include <glib.h>

typedef struct {
  gint16 *samples; /* interleaved; g_free */
  gsize frames;
  guint channels, rate;
} ChoirWav;

#define CHOIR_AUDIO_ERROR (choir_audio_error_quark())
GQuark choir_audio_error_quark(void);
enum { CHOIR_AUDIO_ERROR_FORMAT, CHOIR_AUDIO_ERROR_IO };

/* Parses outside bytes: every length is checked; max_frames bounds the result (0 = 30 minutes at its rate). */
gboolean choir_wav_parse(const guint8 *data, gsize length, gsize max_frames, ChoirWav *ret_wav, GError **error);
gboolean choir_wav_read(const char *path, ChoirWav *ret_wav, GError **error);
gboolean choir_wav_write(const char *path, const gint16 *samples, gsize frames, guint channels, guint rate,
                         GError **error);
void choir_wav_clear(ChoirWav *wav);
