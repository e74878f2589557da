/* Interleaved samples of any usual width to mono 16 bit. Any thread. */
#pragma once
#include <glib.h>

#define CHOIR_PCM_CHANNELS_MAX 8

/* Appends gint16 to out: the channels' mean. width: bytes of one sample, little endian; 1 is unsigned. Half a frame at
 * the end is dropped. FALSE (nothing added) for a width or number of channels that there is not. */
gboolean choir_pcm_to_mono(const guint8 *data, gsize length, guint width, guint channels, GArray *out);
