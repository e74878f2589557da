/* Shared by the files of the agent; nobody else includes it (tests may). */
#pragma once
#include "agent/clause.h"
#include "agent/persona.h"
#include "agent/repeat.h"
#include "agent/steps.h"
#include "agent/twin.h"
#include "agent/window.h"
#include "base/metrics.h"
#include "cluster/ask.h"

typedef enum { CHOIR_TURN_QUEUED, CHOIR_TURN_RUNNING, CHOIR_TURN_SAVING, CHOIR_TURN_DONE } ChoirTurnState;

struct ChoirTurn {
  ChoirTwin *twin;
  char *id, *text, *source, *request_id;
  char *instructions, *notes; /* NULL = none */
  guint max_tokens;
  gboolean limited;
  ChoirChatTimings timings;
  gboolean spoken;
  gboolean unconfirmed; /* speculative, and choir_turn_confirm() has not been called */
  ChoirTurnHandlers handlers;
  gpointer user;
  ChoirTurnState state;
  gint64 conversation;
  gint64 wall_us; /* when it was said, or when the model began with it */
  GString *reply;
  ChoirClause *clause; /* NULL when nobody wants clauses */
  ChoirRepeat repeat;
  gsize keep; /* bytes of reply before a repetition, G_MAXSIZE when there is none */
  ChoirChatCall *call;
  ChoirSteps *steps;          /* tools are being used */
  gboolean stepped;           /* ... or were, or are not wanted */
  ChoirTaint *taint;          /* NULL until something asks where texts came from */
  gboolean held, first_shown; /* the reply may be a call and is shown to nobody yet; some of it was shown */
  guint wired;                /* calls that the model wrote by itself */
  guint preparing;            /* what was said is compared with the tools */
  guint recall;               /* the memory is asked */
  gboolean recalled;          /* ... or was, or is not wanted */
  char *shown;                /* what was recalled, until observers may see it */
  char *said_back;            /* what was kept, about to be said */
  gboolean aside;             /* answered without the live slot */
  gboolean remote;            /* another machine's server is asked */
  gboolean moved;             /* ... and it is no longer there */
  guint resumes;
  gsize resumed_at; /* bytes of the reply that the next server goes on with */
  ChoirEcho echo;
  gboolean knows;   /* the memory had something to say */
  gboolean waiting; /* for choir_turn_confirm(): no tool runs for a guess */
  gboolean cancelled, retried, abandoned, telling;
  guint cancel_idle;
  /* heard: choir_turn_heard() or choir_turn_discard() was called */
  gboolean heard, discarded, heard_cut;
  gsize heard_bytes;
  GError *error;
  gint64 begin_us, speech_end_us, transcript_us, first_text_us, first_audio_us;
};

typedef struct {
  guint id;
  ChoirTwinObserver observer;
  gpointer user;
} ChoirTwinListener;

struct ChoirTwin {
  ChoirTwinOptions options;
  ChoirLlmServer *llm;
  ChoirHistory *history;
  ChoirPersona *persona;
  ChoirWindow *window;
  gint64 conversation; /* the one in the window */
  GQueue queue;        /* waiting turns */
  ChoirTurn *running;
  ChoirToolbox *toolbox; /* NULL: no tools */
  ChoirShortlist *shortlist;
  ChoirTwinMemory memory; /* zeros: none */
  GHashTable *turns;      /* every turn that is alive */
  guint pump_idle;
  GArray *listeners;
  guint last_listener;
  const char *state;
  ChoirChatTimings timings;
  guint opening; /* conversation switches under way */
  guint refs;    /* history callbacks in flight keep the struct */
  gboolean dead;

  /* The prompt cache of slot 0 (prefix.c) */
  gboolean slot_fresh;             /* the server started anew: nothing is in the slot */
  gboolean slot_busy;              /* a restore or save runs */
  ChoirChatCall *warm;             /* a prefix is being evaluated */
  char *warm_hash;                 /* what the slot holds */
  char *persona_hash, *tried_hash; /* the persona: in a file; looked for in a file */
  char *saved_hash;                /* the live conversation in a file */
  char *pending_hash;              /* of the operation under way */
  gboolean pending_persona;        /* ... which is the persona alone */
  gint64 last_turn_us, prefill_us;
  guint idle_timer;

  ChoirMetric *m_first_text, *m_total, *m_done, *m_failed, *m_cancelled, *m_refused, *m_queue, *m_evaluated, *m_cached,
      *m_cuts;
};

/* twin.c */
void choir_twin_emit(ChoirTwin *twin, const char *type, const char *text, const ChoirTurn *turn);
void choir_twin_pump_soon(ChoirTwin *twin);
void choir_twin_set_state(ChoirTwin *twin, const char *state);
void choir_twin_unref(ChoirTwin *twin);
void choir_twin_sync_conversation(ChoirTwin *twin); /* loads the window when another conversation is current */

/* turn.c */
/* The machine that was writing the turn is gone: this one's model goes on with it. */
void choir_turn_moved(ChoirTurn *turn);
ChoirTurn *choir_turn_new(ChoirTwin *twin, const ChoirTurnRequest *request, const char *text,
                          const ChoirTurnHandlers *handlers, gpointer user);
void choir_turn_start(ChoirTurn *turn);
/* The memory goes: a turn that waits for it goes on without. */
void choir_turn_forget_recall(ChoirTurn *turn);
void choir_turn_abandon(ChoirTurn *turn); /* the twin goes: no handler runs any more */
/* Whole characters in the first `bytes` of a string. */
gsize choir_turn_utf8_floor(const char *text, gsize bytes);

/* prefix.c */
const char *choir_prefix_persona(ChoirTwin *twin);
/* TRUE while a turn must wait for it (a restore); starts the restore when the slot is fresh. */
gboolean choir_prefix_blocks(ChoirTwin *twin);
/* A turn is about to use the slot. */
void choir_prefix_yield(ChoirTwin *twin);
/* One step of background work; called when nothing runs or waits. TRUE when a step is under way. */
gboolean choir_prefix_work(ChoirTwin *twin);
gboolean choir_prefix_settled(ChoirTwin *twin);
/* A turn went through: the slot now holds the window. */
void choir_prefix_turn_done(ChoirTwin *twin);
/* The slot holds text that is not part of the conversation: it is evaluated again before anything is saved. */
void choir_prefix_stale(ChoirTwin *twin);
void choir_prefix_lost(ChoirTwin *twin); /* the server went away */
/* Makes room for `text`; FALSE when it cannot fit. harder: after the server refused, drop half. */
gboolean choir_prefix_fit(ChoirTwin *twin, const char *text, gboolean harder);
void choir_prefix_clear(ChoirTwin *twin);

/* latency.c */
char *choir_latency_block(const ChoirTurn *turn, gint64 done_us); /* caller frees */
void choir_latency_print(const ChoirTurn *turn);
