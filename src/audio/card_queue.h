/* What a loudspeaker still has to play: the samples of replies (items), one after the other, with pause, resume and
 * cut, and the count of what was really heard when the device holds some of it back. Pure, no clock; the caller locks.
 * Samples are those of CHOIR_RATE_OUT. */
#pragma once
#include <glib.h>

#define CARD_QUEUE_SAMPLES (1u << 17) /* 5.4 s, of which the pacer fills a tenth of a second */
#define CARD_QUEUE_ITEMS 8
#define CARD_QUEUE_TRAIL 256        /* runs of samples on their way through the device */
#define CARD_QUEUE_FADE_OUT 240u    /* 10 ms */
#define CARD_QUEUE_FADE_IN 360u     /* 15 ms */
#define CARD_QUEUE_MOST_BACK 12000u /* a resume may go back half a second */

typedef struct {
  guint32 item;
  guint64 taken, left; /* samples given to the device, samples waiting */
  gboolean ended;
} CardItem;

/* A run of samples of one item, by the count of everything that was pulled, silence included. */
typedef struct {
  guint64 at, samples, first;
  guint32 item;
} CardRun;

typedef struct {
  gint16 ring[CARD_QUEUE_SAMPLES];
  guint read, fill;
  CardItem item[CARD_QUEUE_ITEMS];
  guint items;
  CardRun trail[CARD_QUEUE_TRAIL];
  guint runs;
  guint64 pulled;
  enum { CARD_PLAYS, CARD_FADES, CARD_HELD } hold;
  guint fade_in; /* samples of it still to come */
  guint underruns;
  guint64 dropped;
} CardQueue;

void card_queue_init(CardQueue *queue);
/* Returns what fitted; the rest is counted as dropped. */
gsize card_queue_push(CardQueue *queue, guint32 item, const gint16 *pcm, gsize n);
void card_queue_end(CardQueue *queue, guint32 item);
/* Fills out with n samples, silence behind the last one. Returns how many were sound. */
gsize card_queue_pull(CardQueue *queue, gint16 *out, gsize n);
/* Dies away with the next pull and keeps everything from there on. */
void card_queue_pause(CardQueue *queue);
/* Goes on; from an earlier sample of the item if that is named, never from a later one. */
void card_queue_resume(CardQueue *queue, guint32 item, guint64 sample);
void card_queue_flush(CardQueue *queue);
gboolean card_queue_idle(const CardQueue *queue);
/* The item that is heard when the device still holds `delay` samples, and how many of its samples were heard. FALSE:
 * none yet. */
gboolean card_queue_heard(const CardQueue *queue, guint64 delay, guint32 *ret_item, guint64 *ret_samples);
