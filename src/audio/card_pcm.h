/* One direction of one ALSA device: 16 bit, one or two channels, at a rate it can do. The caller sees mono. One thread
 * a device. Errors are sentences for a person. */
#pragma once
#include <glib.h>

typedef struct CardPcm CardPcm;
typedef enum { CARD_PCM_OK, CARD_PCM_XRUN, CARD_PCM_LOST } CardPcmResult;

#define CARD_ERROR (card_error_quark())
GQuark card_error_quark(void);
enum { CARD_ERROR_OPEN, CARD_ERROR_LOST };

/* name: an ALSA device, "default" is the system's. playback FALSE: a microphone. */
CardPcm *card_pcm_open(const char *name, gboolean playback, GError **error);
void card_pcm_close(CardPcm *pcm);
guint card_pcm_rate(const CardPcm *pcm);
guint card_pcm_period(const CardPcm *pcm);   /* frames: about 10 ms */
char *card_pcm_describe(const CardPcm *pcm); /* caller frees */
/* Blocks for at most a second at a time, and never lets a device without a clock (file, null) run faster than real
 * time. XRUN: recovered, something was lost. LOST: the device is gone, or stood still for five seconds. */
CardPcmResult card_pcm_read(CardPcm *pcm, gint16 *mono, gsize frames, GError **error);
CardPcmResult card_pcm_write(CardPcm *pcm, const gint16 *mono, gsize frames, GError **error);
/* Frames between us and the air: written and not yet heard, or recorded and not yet read. */
gsize card_pcm_delay(CardPcm *pcm);
