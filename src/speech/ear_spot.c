#include "speech/ear_spot.h"
#include "speech/spot_decoder.h"
#include "base/names.h"
#include <string.h>

#define BEFORE 10   /* windows from before the speech, 320 ms: the detector is late at soft beginnings */
#define BEHIND 15   /* windows after it */
#define SPEECH 0.2f /* "mm-hmm" is hardly speech */
/* Whoever wants the agent to stop, or to go on, says so at once; in the middle of a sentence these words mean something
 * else. From the beginning of the stretch to the end of the phrase. */
#define STOP_SAMPLES (CHOIR_RATE_MIC * 5 / 2)
#define BACKCHANNEL_SAMPLES (CHOIR_RATE_MIC * 3 / 2)
#define PENDING_MAX 128 /* windows of one session that wait, 4 s */

typedef enum { START, WINDOW, STOP, CLOSE } ItemType;

typedef struct {
  ItemType type;
  guint32 session, end;
  guint kinds;
  gint *pending; /* of the session, counted down when the window is done */
  gint16 samples[CHOIR_VAD_WINDOW];
} Item;

/* The side of the voice activity: which windows are worth listening to. */
typedef struct {
  guint kinds, quiet; /* windows without speech */
  gboolean open;
  guint32 end;
  gint *pending; /* atomic, g_atomic_rc_box */
  guint n_before;
  gint16 before[BEFORE][CHOIR_VAD_WINDOW];
} Gate;

/* The side of the thread. */
typedef struct {
  ChoirSpotDecoder *decoder; /* NULL: there was none to be had */
  guint32 session, start;
  ChoirEarSpot *spot;
} Listener;

struct ChoirEarSpot {
  GThread *thread;
  GAsyncQueue *items;
  GHashTable *gates;     /* session -> Gate */
  GHashTable *listeners; /* session -> Listener; of the thread */
  ChoirSpotPhrases *phrases;
  char *model;
  ChoirEarSpotHeard heard;
  ChoirEarSpotProblem problem;
  gpointer user;
  guint64 dropped;
};

/* --- the thread --- */

static void listener_free(gpointer data) {
  Listener *listener = data;
  choir_spot_decoder_free(listener->decoder);
  g_free(listener);
}

static void on_heard(const ChoirSpotPhrase *phrase, guint64 end, gpointer user) {
  Listener *listener = user;
  if ((phrase->kind == CHOIR_SPOT_STOP && end > STOP_SAMPLES) ||
      (phrase->kind == CHOIR_SPOT_BACKCHANNEL && end > BACKCHANNEL_SAMPLES))
    return;
  listener->spot->heard(listener->session, phrase->kind, listener->start + (guint32)end, phrase->text,
                        listener->spot->user);
}

static Listener *listener_get(ChoirEarSpot *spot, guint32 session) {
  Listener *listener = g_hash_table_lookup(spot->listeners, GUINT_TO_POINTER(session));
  if (listener)
    return listener;
  listener = g_new0(Listener, 1);
  listener->session = session;
  listener->spot = spot;
  g_autoptr(GError) error = NULL;
  if (g_hash_table_size(spot->listeners) >= CHOIR_EAR_SPOT_DECODERS)
    g_set_error(&error, g_quark_from_static_string("choir-speech-error"), 0,
                "%d sessions are listened to for keyphrases already; this one is not", CHOIR_EAR_SPOT_DECODERS);
  else
    listener->decoder = choir_spot_decoder_new(spot->model, spot->phrases, &error);
  if (!listener->decoder)
    spot->problem(session, error->message, spot->user);
  g_hash_table_insert(spot->listeners, GUINT_TO_POINTER(session), listener);
  return listener;
}

static void work(ChoirEarSpot *spot, const Item *item) {
  if (item->type == CLOSE) {
    g_hash_table_remove(spot->listeners, GUINT_TO_POINTER(item->session));
    return;
  }
  Listener *listener = listener_get(spot, item->session);
  if (!listener->decoder)
    return;
  if (item->type == START) {
    listener->start = item->end;
    choir_spot_decoder_start(listener->decoder, item->kinds);
  } else if (item->type == WINDOW) {
    choir_spot_decoder_feed(listener->decoder, item->samples, CHOIR_VAD_WINDOW, on_heard, listener);
  } else {
    choir_spot_decoder_stop(listener->decoder, on_heard, listener);
  }
}

static void item_free(gpointer data) {
  Item *item = data;
  if (item->pending) {
    g_atomic_int_add(item->pending, -1);
    g_atomic_rc_box_release(item->pending);
  }
  g_free(item);
}

static gpointer spot_thread(gpointer data) {
  ChoirEarSpot *spot = data;
  for (;;) {
    Item *item = g_async_queue_pop(spot->items);
    gboolean last = item->type == CLOSE && item->kinds != 0;
    if (!last)
      work(spot, item);
    item_free(item);
    if (last)
      return NULL;
  }
}

/* --- the gate --- */

static void gate_free(gpointer data) {
  Gate *gate = data;
  g_atomic_rc_box_release(gate->pending);
  g_free(gate);
}

static Item *item_new(ItemType type, guint32 session, guint32 end, guint kinds) {
  Item *item = g_new(Item, 1);
  item->type = type;
  item->session = session;
  item->end = end;
  item->kinds = kinds;
  item->pending = NULL;
  return item;
}

static void push_simple(ChoirEarSpot *spot, ItemType type, guint32 session, guint32 end, guint kinds) {
  g_async_queue_push(spot->items, item_new(type, session, end, kinds));
}

/* FALSE when the thread is too far behind. */
static gboolean push_window(ChoirEarSpot *spot, Gate *gate, guint32 session, const gint16 *samples) {
  if (g_atomic_int_get(gate->pending) >= PENDING_MAX) {
    spot->dropped++;
    return FALSE;
  }
  Item *item = item_new(WINDOW, session, 0, 0);
  item->pending = g_atomic_rc_box_acquire(gate->pending);
  g_atomic_int_inc(item->pending);
  memcpy(item->samples, samples, sizeof item->samples);
  g_async_queue_push(spot->items, item);
  return TRUE;
}

static void gate_close(ChoirEarSpot *spot, Gate *gate, guint32 session) {
  if (gate->open)
    push_simple(spot, STOP, session, gate->end, 0);
  gate->open = FALSE;
}

static void gate_open(ChoirEarSpot *spot, Gate *gate, guint32 session, guint32 begin) {
  push_simple(spot, START, session, begin - gate->n_before * CHOIR_VAD_WINDOW, gate->kinds);
  gate->open = TRUE;
  for (guint i = 0; i < gate->n_before && gate->open; i++)
    gate->open = push_window(spot, gate, session, gate->before[i]);
}

static void remember(Gate *gate, const gint16 *samples) {
  if (gate->n_before == BEFORE) {
    memmove(gate->before[0], gate->before[1], sizeof gate->before - sizeof gate->before[0]);
    gate->n_before--;
  }
  memcpy(gate->before[gate->n_before++], samples, sizeof gate->before[0]);
}

void choir_ear_spot_window(ChoirEarSpot *spot, guint32 session, const gint16 *samples, guint32 end, float probability) {
  Gate *gate = g_hash_table_lookup(spot->gates, GUINT_TO_POINTER(session));
  if (!gate)
    return;
  guint32 begin = end - CHOIR_VAD_WINDOW;
  if (begin != gate->end) { /* samples were lost: what comes is no continuation */
    gate_close(spot, gate, session);
    gate->n_before = 0;
  }
  gate->quiet = probability >= SPEECH ? 0 : MIN(gate->quiet + 1, BEHIND);
  if (!gate->open && gate->quiet == 0)
    gate_open(spot, gate, session, begin);
  if (gate->open && !push_window(spot, gate, session, samples))
    gate_close(spot, gate, session);
  gate->end = end;
  if (gate->open && gate->quiet == BEHIND)
    gate_close(spot, gate, session);
  remember(gate, samples);
}

void choir_ear_spot_listen(ChoirEarSpot *spot, guint32 session, guint kinds) {
  Gate *gate = g_hash_table_lookup(spot->gates, GUINT_TO_POINTER(session));
  kinds &= CHOIR_SPOT_STOP | CHOIR_SPOT_BACKCHANNEL | CHOIR_SPOT_WAKE;
  if (kinds == 0) {
    if (g_hash_table_remove(spot->gates, GUINT_TO_POINTER(session)))
      push_simple(spot, CLOSE, session, 0, 0);
    return;
  }
  if (!gate) {
    gate = g_new0(Gate, 1);
    gate->pending = g_atomic_rc_box_new0(gint);
    gate->quiet = BEHIND;
    g_hash_table_insert(spot->gates, GUINT_TO_POINTER(session), gate);
  }
  if (gate->kinds != kinds)
    gate_close(spot, gate, session);
  gate->kinds = kinds;
}

guint64 choir_ear_spot_dropped(ChoirEarSpot *spot) {
  return spot->dropped;
}

ChoirEarSpot *choir_ear_spot_new(const char *model, ChoirSpotPhrases *phrases, ChoirEarSpotHeard heard,
                                 ChoirEarSpotProblem problem, gpointer user) {
  ChoirEarSpot *spot = g_new0(ChoirEarSpot, 1);
  spot->items = g_async_queue_new_full(item_free);
  spot->gates = g_hash_table_new_full(NULL, NULL, NULL, gate_free);
  spot->listeners = g_hash_table_new_full(NULL, NULL, NULL, listener_free);
  spot->phrases = phrases;
  spot->model = g_strdup(model);
  spot->heard = heard;
  spot->problem = problem;
  spot->user = user;
  spot->thread = g_thread_new("spot", spot_thread, spot);
  return spot;
}

void choir_ear_spot_free(ChoirEarSpot *spot) {
  if (!spot)
    return;
  push_simple(spot, CLOSE, 0, 0, G_MAXUINT);
  g_thread_join(spot->thread);
  g_async_queue_unref(spot->items);
  g_hash_table_unref(spot->gates);
  g_hash_table_unref(spot->listeners);
  choir_spot_phrases_free(spot->phrases);
  g_free(spot->model);
  g_free(spot);
}
