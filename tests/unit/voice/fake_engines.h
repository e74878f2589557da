/* Stand-ins for the twin and the workers, linked into this test only: they keep what they were given and answer when
 * told. */
#pragma once
#include "agent/twin.h"
#include "speech/worker.h"

typedef struct {
  guint16 type, flags;
  guint32 session, gen, aux;
  GBytes *payload;
} FakeFrame;

ChoirWorker *fake_worker_new(gboolean ready);
void fake_worker_free(ChoirWorker *worker);
void fake_worker_set_ready(ChoirWorker *worker, gboolean ready);
/* The n-th last frame of a type that was sent to it, or NULL. */
const FakeFrame *fake_worker_last(const ChoirWorker *worker, guint16 type, guint back);
guint fake_worker_count(const ChoirWorker *worker, guint16 type);
void fake_worker_refuse(ChoirWorker *worker, gboolean refuse);

struct ChoirTwin {
  GPtrArray *turns; /* ChoirTurn, oldest first */
  gboolean refuse;  /* the next begins are refused */
  char *prefilled;  /* the last text that was to be evaluated ahead */
};

struct ChoirTurn {
  ChoirTwin *twin;
  ChoirTurnHandlers handlers;
  gpointer user;
  char *text, *source;
  gboolean spoken, cancelled, done, heard, heard_cut, discarded, speculative, confirmed, limited;
  gsize heard_bytes;
  gint64 speech_end_us, transcript_us, first_audio_us;
  GString *reply;
};

ChoirTwin *fake_twin_new(void);
void fake_twin_free(ChoirTwin *twin);
ChoirTurn *fake_twin_last(ChoirTwin *twin);
void fake_turn_say(ChoirTurn *turn, const char *clause); /* delta and clause */
void fake_turn_done(ChoirTurn *turn, GError *error);     /* takes error; cancelled ones end with CANCELLED */
