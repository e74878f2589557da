/* A machine's own microphone and loudspeaker: one thread a direction, the echo of what was really played taken out of
 * what is heard. Callbacks come from those threads. Main part of choir-card; links ALSA, so the daemon does not. */
#pragma once
#include <glib.h>

typedef struct ChoirCard ChoirCard;
typedef struct {
  const char *microphone; /* ALSA names; both needed are copied */
  const char *speaker;    /* NULL: none */
  gboolean echo;          /* FALSE: headphones, or a device that cancels by itself */
} ChoirCardOptions;

typedef struct {
  /* 16 kHz, 256 samples at a time. Thread of the microphone. */
  void (*heard)(const gint16 *pcm, gsize n, gpointer user);
  /* Samples (24 kHz) of an item that left the loudspeaker, every 40 ms while it plays, and underruns since the last
   * time. Thread of the loudspeaker. */
  void (*played)(guint32 item, guint64 samples, guint underruns, gpointer user);
  /* A device is gone; nothing more comes. At most once for each thread. */
  void (*failed)(const char *why, gpointer user);
} ChoirCardCallbacks;

ChoirCard *choir_card_open(const ChoirCardOptions *options, const ChoirCardCallbacks *callbacks, gpointer user,
                           GError **error);
void choir_card_free(ChoirCard *card);
char *choir_card_describe(const ChoirCard *card); /* caller frees */
/* Any thread. */
void choir_card_play(ChoirCard *card, guint32 item, const gint16 *pcm, gsize n); /* 24 kHz */
void choir_card_end(ChoirCard *card, guint32 item);
void choir_card_pause(ChoirCard *card);
void choir_card_resume(ChoirCard *card, guint32 item, guint64 sample);
void choir_card_flush(ChoirCard *card);
