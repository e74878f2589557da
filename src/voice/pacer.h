/* How many samples may be sent now. Audio runs at most `lead` ahead of what the listener acknowledged or, for a client
 * that never acknowledges, of a play clock: sent audio plays when it is sent, one sample per sample time, and the clock
 * stands still while nothing is left to play. Pure: no clock, no I/O, no allocation. Times and counts are samples of
 * CHOIR_RATE_OUT. */
#pragma once
#include <glib.h>

typedef struct {
  /* of the item being played */
  guint64 sent, acked;
  guint64 played;      /* the play clock's answer */
  guint64 progress_at; /* when the listener last got further, for the fall-back */
  guint64 dry_at;      /* when we last had nothing to send: the listener's underrun is then not the network's */
  gboolean was_dry;
  gboolean paused; /* the listener was told to hold */
  /* of the client */
  guint64 clock;
  guint64 calm_since; /* last change of the lead or last underrun */
  guint lead_ms;
  guint64 underruns; /* reported ones that were not ours */
  gboolean acks;     /* the listener acknowledges; FALSE = the play clock decides */
} Pacer;

#define PACER_STEP_UP_MS 40
#define PACER_STEP_DOWN_MS 20
#define PACER_CALM_MS 10000       /* so long without an underrun and the lead shrinks by a step */
#define PACER_ACK_TIMEOUT_MS 1500 /* outstanding audio without a new acknowledgement: the play clock takes over */
#define PACER_DRY_GRACE_MS 500
#define PACER_CHUNK_MS 10 /* smaller pieces are sent only at the end of what is there */

typedef enum { PACER_SAME, PACER_LEAD_CHANGED, PACER_ACKS_LOST } PacerChange;

void pacer_init(Pacer *pacer, guint64 now);
void pacer_begin(Pacer *pacer, guint64 now); /* a new item; lead and the way of acknowledging stay */
PacerChange pacer_advance(Pacer *pacer, guint64 now);
/* unsent: samples in store. last: no more will come, so a short piece may go. Tells how many of them may be sent. */
guint64 pacer_allow(const Pacer *pacer, guint64 unsent, gboolean last);
void pacer_sent(Pacer *pacer, guint64 samples);
/* The store is empty although the reply is not finished. */
void pacer_dry(Pacer *pacer);
/* Playing goes on after a pause: the time the listener was told to wait is no silence of its own. */
void pacer_resume(Pacer *pacer);
PacerChange pacer_ack(Pacer *pacer, guint64 played, guint underruns);
guint64 pacer_heard(const Pacer *pacer); /* samples the listener has heard, never above sent */
gboolean pacer_drained(const Pacer *pacer);
/* "lead 120 ms (3 underruns reported)" */
void pacer_status(const Pacer *pacer, char *text, gsize size);
