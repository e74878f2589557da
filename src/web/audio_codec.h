/* One run of choir-codec: a sound file to 16 kHz samples, or 24 kHz samples to a sound file, as a stream with limits at
 * both ends. The process dies with its object. Main thread only. */
#pragma once
#include <glib.h>
#include "net/hub.h"

typedef struct ChoirAudioCodec ChoirAudioCodec;

/* From the loop, never inside a call. After done the codec is of no use; free it (in done, too). */
typedef struct {
  void (*data)(const guint8 *data, gsize length, gpointer user); /* decoding: always whole samples (s16) */
  void (*done)(const GError *error, gpointer user);
} ChoirAudioCodecHandlers;

#define CHOIR_CODEC_ERROR (choir_codec_error_quark())
GQuark choir_codec_error_quark(void);
enum {
  CHOIR_CODEC_ERROR_FORMAT,   /* no sound that it knows */
  CHOIR_CODEC_ERROR_TOO_LONG, /* more seconds than allowed */
  CHOIR_CODEC_ERROR_FAILED    /* it cannot be run, or died */
};

/* programs: folder of choir-codec. file: kept until it is read. */
ChoirAudioCodec *choir_audio_codec_decode(ChoirHub *hub, const char *programs, GBytes *file, guint max_seconds,
                                          const ChoirAudioCodecHandlers *handlers, gpointer user, GError **error);
/* format: "flac" or "opus". */
ChoirAudioCodec *choir_audio_codec_encode(ChoirHub *hub, const char *programs, const char *format,
                                          const ChoirAudioCodecHandlers *handlers, gpointer user, GError **error);
/* FALSE: over 4 MiB wait, nothing was taken. */
gboolean choir_audio_codec_write(ChoirAudioCodec *codec, const gint16 *samples, gsize n);
gsize choir_audio_codec_queued(const ChoirAudioCodec *codec);       /* bytes */
void choir_audio_codec_end(ChoirAudioCodec *codec);                 /* no more samples */
void choir_audio_codec_hold(ChoirAudioCodec *codec, gboolean hold); /* no data for now */
void choir_audio_codec_free(ChoirAudioCodec *codec);
