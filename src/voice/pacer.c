#include "voice/pacer.h"
#include "base/names.h"

#define MS(ms) ((guint64)(ms)*CHOIR_RATE_OUT / 1000)

void pacer_init(Pacer *pacer, guint64 now) {
  *pacer = (Pacer){.clock = now, .calm_since = now, .progress_at = now, .lead_ms = CHOIR_LEAD_MS};
}

void pacer_begin(Pacer *pacer, guint64 now) {
  (void)pacer_advance(pacer, now);
  pacer->sent = pacer->acked = pacer->played = 0;
  pacer->progress_at = pacer->clock;
  pacer->was_dry = pacer->paused = FALSE;
}

PacerChange pacer_advance(Pacer *pacer, guint64 now) {
  if (now <= pacer->clock)
    return PACER_SAME;
  guint64 elapsed = now - pacer->clock;
  pacer->clock = now;
  pacer->played = MIN(pacer->sent, pacer->played + elapsed);
  if (pacer->acks && !pacer->paused && pacer->acked < pacer->sent &&
      now - pacer->progress_at > MS(PACER_ACK_TIMEOUT_MS)) {
    /* A listener that went silent must not hold a reply for ever; go on from what it said last. */
    pacer->acks = FALSE;
    pacer->played = pacer->acked;
    return PACER_ACKS_LOST;
  }
  if (pacer->lead_ms > CHOIR_LEAD_MS && now - pacer->calm_since >= MS(PACER_CALM_MS)) {
    pacer->lead_ms = MAX(pacer->lead_ms - PACER_STEP_DOWN_MS, (guint)CHOIR_LEAD_MS);
    pacer->calm_since = now;
    return PACER_LEAD_CHANGED;
  }
  return PACER_SAME;
}

guint64 pacer_heard(const Pacer *pacer) {
  return pacer->acks ? pacer->acked : pacer->played;
}

guint64 pacer_allow(const Pacer *pacer, guint64 unsent, gboolean last) {
  guint64 horizon = pacer_heard(pacer) + MS(pacer->lead_ms);
  if (horizon <= pacer->sent || unsent == 0)
    return 0;
  guint64 room = horizon - pacer->sent;
  if (unsent <= room)
    return unsent >= MS(PACER_CHUNK_MS) || last ? unsent : 0;
  return room >= MS(PACER_CHUNK_MS) ? room : 0;
}

void pacer_sent(Pacer *pacer, guint64 samples) {
  if (samples == 0)
    return;
  /* Nothing was outstanding until now, so the wait for an acknowledgement starts here. */
  if (pacer->acked == pacer->sent)
    pacer->progress_at = pacer->clock;
  pacer->sent += samples;
  pacer->was_dry = FALSE;
}

void pacer_dry(Pacer *pacer) {
  pacer->was_dry = TRUE;
  pacer->dry_at = pacer->clock;
}

void pacer_resume(Pacer *pacer) {
  pacer->paused = FALSE;
  pacer->progress_at = pacer->calm_since = pacer->clock;
  pacer_dry(pacer); /* what it reports now is our doing */
}

PacerChange pacer_ack(Pacer *pacer, guint64 played, guint underruns) {
  guint64 acked = MIN(played, pacer->sent);
  pacer->acks = TRUE;
  if (acked > pacer->acked) {
    pacer->acked = acked;
    pacer->progress_at = pacer->clock;
  }
  gboolean ours = pacer->was_dry || (pacer->dry_at > 0 && pacer->clock - pacer->dry_at < MS(PACER_DRY_GRACE_MS));
  if (underruns == 0 || ours)
    return PACER_SAME;
  pacer->underruns += underruns;
  pacer->calm_since = pacer->clock;
  if (pacer->lead_ms >= CHOIR_LEAD_MAX_MS)
    return PACER_SAME;
  pacer->lead_ms = MIN(pacer->lead_ms + PACER_STEP_UP_MS, (guint)CHOIR_LEAD_MAX_MS);
  return PACER_LEAD_CHANGED;
}

gboolean pacer_drained(const Pacer *pacer) {
  return pacer_heard(pacer) >= pacer->sent;
}

void pacer_status(const Pacer *pacer, char *text, gsize size) {
  g_snprintf(text, size, "lead %u ms (%" G_GUINT64_FORMAT " underrun%s reported)", pacer->lead_ms, pacer->underruns,
             pacer->underruns == 1 ? "" : "s");
}
