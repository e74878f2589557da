/* Frames of RTVI over WebSocket: protobuf `pipecat.Frame`, of which each binary message holds one. Hand-written, no
 * allocation on reading. Any thread. Source: pipecat 1.14, frames/frames.proto; protobuf wire format (proto3). */
#pragma once
#include <glib.h>

typedef enum {
  CHOIR_RTVI_TEXT = 1, /* the numbers of Frame's members */
  CHOIR_RTVI_AUDIO = 2,
  CHOIR_RTVI_TRANSCRIPTION = 3,
  CHOIR_RTVI_MESSAGE = 4, /* data: one JSON message */
  CHOIR_RTVI_INTERRUPTION = 5,
} ChoirRtviFrameKind;

typedef struct {
  ChoirRtviFrameKind kind;
  const guint8 *data; /* audio, text or JSON: part of the bytes read, not NUL-terminated; NULL when absent */
  gsize length;
  guint32 rate, channels; /* of audio */
} ChoirRtviFrame;

/* FALSE: not one whole frame. Unknown members are skipped, of members given twice the last one counts. */
gboolean choir_rtvi_frame_read(const guint8 *bytes, gsize length, ChoirRtviFrame *ret_frame);
/* Appends one frame. pcm: mono. */
void choir_rtvi_frame_audio(GByteArray *out, const gint16 *pcm, gsize samples, guint32 rate);
void choir_rtvi_frame_message(GByteArray *out, const char *json, gsize length);
