#include "web/realtime_audio.h"

static int digit(char c) {
  if (c >= 'A' && c <= 'Z')
    return c - 'A';
  if (c >= 'a' && c <= 'z')
    return c - 'a' + 26;
  if (c >= '0' && c <= '9')
    return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

gboolean choir_realtime_base64(const char *text, gsize length, GByteArray *out) {
  if (length % 4 != 0)
    return FALSE;
  gsize padding = 0;
  while (padding < 2 && padding < length && text[length - 1 - padding] == '=')
    padding++;
  guint start = out->len;
  gsize size = length / 4 * 3 - padding;
  g_byte_array_set_size(out, start + (guint)size);
  guint8 *to = out->data + start;
  gsize written = 0;
  for (gsize i = 0; i < length; i += 4) {
    guint32 group = 0;
    gboolean last = i + 4 == length;
    for (guint k = 0; k < 4; k++) {
      int value = last && k >= 4 - padding ? 0 : digit(text[i + k]);
      if (value < 0) {
        g_byte_array_set_size(out, start);
        return FALSE;
      }
      group = group << 6 | (guint32)value;
    }
    /* Bits that no byte uses must be zero, or two texts would mean the same bytes. */
    if (last && ((padding == 1 && (group & 0xff)) || (padding == 2 && (group & 0xffff)))) {
      g_byte_array_set_size(out, start);
      return FALSE;
    }
    for (guint k = 0; k < 3 && written < size; k++)
      to[written++] = (guint8)(group >> (16 - 8 * k));
  }
  return TRUE;
}

static gint16 ulaw(guint8 code) {
  code = (guint8)~code;
  int value = (((code & 0x0f) << 3) + 0x84) << ((code & 0x70) >> 4);
  return (gint16)((code & 0x80) ? 0x84 - value : value - 0x84);
}

static gint16 alaw(guint8 code) {
  code ^= 0x55;
  int value = (code & 0x0f) << 4;
  int segment = (code & 0x70) >> 4;
  value += segment ? 0x108 : 8;
  if (segment > 1)
    value <<= segment - 1;
  return (gint16)((code & 0x80) ? value : -value);
}

gsize choir_realtime_decode(ChoirRealtimeFormat format, const guint8 *bytes, gsize length, GArray *pcm) {
  guint start = pcm->len;
  gsize samples = format == CHOIR_REALTIME_PCM ? length / 2 : length;
  g_array_set_size(pcm, start + (guint)samples);
  gint16 *to = (gint16 *)(gpointer)pcm->data + start;
  for (gsize i = 0; i < samples; i++)
    to[i] = format == CHOIR_REALTIME_PCM    ? (gint16)(bytes[2 * i] | bytes[2 * i + 1] << 8)
            : format == CHOIR_REALTIME_PCMU ? ulaw(bytes[i])
                                            : alaw(bytes[i]);
  return format == CHOIR_REALTIME_PCM ? samples * 2 : samples;
}
