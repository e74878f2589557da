/* Microphone bytes of the Realtime protocol: strict base64, PCM and G.711. Any thread. */
#pragma once
#include <glib.h>

typedef enum {
  CHOIR_REALTIME_PCM,  /* audio/pcm: s16 little endian mono */
  CHOIR_REALTIME_PCMU, /* audio/pcmu: ITU-T G.711 u-law, 8 kHz */
  CHOIR_REALTIME_PCMA, /* audio/pcma: ITU-T G.711 A-law, 8 kHz */
} ChoirRealtimeFormat;

/* RFC 4648 section 4: padding required, no blanks, no stray bits in the last character. Appends to out; FALSE: out is
 * unchanged. */
gboolean choir_realtime_base64(const char *text, gsize length, GByteArray *out);
/* Converts whole samples of `bytes` and appends them to pcm (GArray of gint16); returns the bytes used (an odd last
 * byte of PCM is left for the next chunk). */
gsize choir_realtime_decode(ChoirRealtimeFormat format, const guint8 *bytes, gsize length, GArray *pcm);
