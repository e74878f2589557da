/* TwinService: the agent. One conversation per person; turns are queued (bounded), streamed, cancelled promptly, and
 * everything that is said is shown to every observer. Main thread only. */
#pragma once
#include <glib.h>
#include <jansson.h>
#include "llm/server.h"
#include "memory/history.h"

typedef struct ChoirTwin ChoirTwin;
typedef struct ChoirTurn ChoirTurn;
typedef struct ChoirToolbox ChoirToolbox; /* agent/toolbox.h */

typedef struct {
  const char *prompts_dir; /* persona files, re-read when they change */
  guint max_queue;         /* waiting turns, 0 = 16 */
  guint max_reply_tokens;  /* 0 = 200 */
  double temperature;      /* below 0: 0 for small models (they lose facts above it), 0.6 for others */
  gboolean benchmark;      /* BENCHMARK_MODE */
} ChoirTwinOptions;

typedef struct {
  const char *text;       /* what the person said or typed, UTF-8, at most 10000 characters */
  const char *source;     /* see ChoirHistoryEntry */
  const char *request_id; /* echoed to observers, may be NULL */
  gboolean spoken;        /* the reply is read aloud: history gets only what choir_turn_heard() says */
  gint64 speech_end_us;   /* choir_clock_us() at the end of speech, 0 when typed: for the latency block */
  gint64 transcript_us;   /* when the transcript was there */
  /* A spoken turn begun before the person has certainly finished: nobody is shown it and it is part of no prompt until
   * choir_turn_confirm(). */
  gboolean speculative;
  /* Of a client that brings its own persona: put in place of ours, on the API's slot, so that the live prompt stays
   * evaluated. Costs the evaluation of instructions and conversation at the first turn and after every API call. */
  const char *instructions; /* NULL = ours */
  const char *notes; /* for the model behind this message only, not kept (what a function returned); may be NULL */
  guint max_tokens;  /* 0 = as set up */
} ChoirTurnRequest;

typedef struct {
  /* The turn left the queue and the model works on it. May be NULL. */
  void (*started)(ChoirTurn *turn, gpointer user);
  void (*delta)(ChoirTurn *turn, const char *text, gpointer user);
  /* A clause fit for speech, [begin, end) bytes of the reply so far; the last one may come with done. May be NULL. text
   * has exactly end - begin bytes: marks that are not spoken became spaces, so its byte i is byte begin + i of the
   * reply. */
  void (*clause)(ChoirTurn *turn, const char *text, gsize begin, gsize end, gpointer user);
  /* Exactly once. reply: the whole text; when the model began to repeat itself it ends before the repetition, and
   * deltas may have run a few words further. error: NULL, or why it failed (cancelled included). A typed turn is stored
   * by now; a spoken one waits for choir_turn_heard(). */
  void (*done)(ChoirTurn *turn, const char *reply, const GError *error, gpointer user);
} ChoirTurnHandlers;

#define CHOIR_TWIN_ERROR (choir_twin_error_quark())
GQuark choir_twin_error_quark(void);
enum {
  CHOIR_TWIN_ERROR_BUSY,
  CHOIR_TWIN_ERROR_EMPTY,
  CHOIR_TWIN_ERROR_TOO_LONG,
  CHOIR_TWIN_ERROR_MODEL,
  CHOIR_TWIN_ERROR_CANCELLED
};

/* What observers (pages, /ws clients) see. type: "user" "agent" "agent_delta" "status" "error" "cut" "conversation"
 * "tool" (text: JSON {"tool","args"}) "tool_output" "recall" (text: JSON, the facts that the model was given)
 * "remembered" (text: the fact). */
typedef struct {
  const char *type, *text, *source, *request_id, *turn_id;
} ChoirTwinEvent;
typedef void (*ChoirTwinObserver)(const ChoirTwinEvent *event, gpointer user);

/* The long-term memory, from outside. What is recalled goes to the model behind the person's message, never to tools.
 */
typedef struct {
  gpointer self;
  /* What belongs to a message: notes for the model and shown for observers, both NULL when there is nothing. done runs
   * exactly once, maybe inside; returns an id for forget(), 0 when done has run. */
  guint (*recall)(gpointer self, const char *text, void (*done)(const char *notes, const char *shown, gpointer user),
                  gpointer user);
  void (*forget)(gpointer self, guint recall); /* done does not run any more */
  /* The message is an order to remember something: no tool is asked about it. */
  gboolean (*order)(gpointer self, const char *text);
  /* What is said to a message that is such an order and nothing else (caller frees); NULL: the model answers. */
  char *(*acknowledge)(gpointer self, const char *text);
  /* The person said it: a turn that was confirmed and not dropped. Never recalled text, prompts or replies. */
  void (*said)(gpointer self, const char *text, const char *source, const char *turn_id);
} ChoirTwinMemory;

ChoirTwin *choir_twin_new(const ChoirTwinOptions *options, ChoirLlmServer *llm, ChoirHistory *history, GError **error);
void choir_twin_free(ChoirTwin *twin); /* no handler runs any more; free what holds turns first */
/* NULL with error when refused. While the model warms up the turn waits in the queue. The turn is valid until done ran
 * (typed) or choir_turn_heard() was called (spoken), whichever comes last. */
ChoirTurn *choir_twin_begin(ChoirTwin *twin, const ChoirTurnRequest *request, const ChoirTurnHandlers *handlers,
                            gpointer user, GError **error);
/* From now on turns may call tools. Borrowed; NULL takes them away again (before the toolbox is freed). */
void choir_twin_use_tools(ChoirTwin *twin, ChoirToolbox *toolbox);
/* From now on turns recall. Copied; NULL takes it away (before what it points to is freed). */
void choir_twin_use_memory(ChoirTwin *twin, const ChoirTwinMemory *memory);
void choir_turn_cancel(ChoirTurn *turn); /* done runs with CANCELLED (if it did not yet run), on the next loop turn */
/* For a spoken turn, once its playback ended or was cut: bytes of the reply that were heard. cut: it was interrupted.
 * Stores the pair (user text, heard text) and releases the turn; after choir_turn_cancel() too. */
void choir_turn_heard(ChoirTurn *turn, gsize heard_bytes, gboolean cut);
/* A speculative turn's question was really asked: observers see it and what was answered so far. */
void choir_turn_confirm(ChoirTurn *turn);
/* Evaluates what somebody said so far behind the conversation, in the live slot, so that a turn that begins with it
 * has less to evaluate. Does nothing while a turn runs or waits. What is not said after all is taken out of the slot by
 * the next turn or, while idle, after a second. */
void choir_twin_prefill(ChoirTwin *twin, const char *text);
const char *choir_turn_id(const ChoirTurn *turn);
const ChoirChatTimings *choir_turn_timings(const ChoirTurn *turn); /* zeros until the model is done with it */
gboolean choir_turn_limited(const ChoirTurn *turn);                /* its max_tokens ended it */
/* Marks the first audio of a spoken turn for the latency block and metrics. */
void choir_turn_first_audio(ChoirTurn *turn, gint64 at_us);
guint choir_twin_observe(ChoirTwin *twin, ChoirTwinObserver observer, gpointer user);
void choir_twin_unobserve(ChoirTwin *twin, guint id);
/* Shows observers what is said beside the conversation (an API request with messages of its own): neither stored nor
 * part of any prompt. */
void choir_twin_show(ChoirTwin *twin, const ChoirTwinEvent *event);
guint choir_twin_queued(const ChoirTwin *twin);
/* "idle" "thinking" "waiting for the model" ... for the status panel. */
const char *choir_twin_state(const ChoirTwin *twin);
/* The system message used for API requests that bring none; belongs to twin. */
const char *choir_twin_persona(ChoirTwin *twin);
/* A user's message as that persona is told it comes: with date and time in front when it asks for them; caller frees.
 */
char *choir_twin_message(ChoirTwin *twin, const char *text);
/* Switches to another conversation (0 = a new one); its history is loaded and the prefix evaluated again. */
void choir_twin_open_conversation(ChoirTwin *twin, gint64 conversation);
/* Another model serves from now on: the running turn is cancelled, the server restarts with it, the prefix is made
 * anew. */
void choir_twin_use_model(ChoirTwin *twin, const char *model_path, const char *model_name);
ChoirHistory *choir_twin_history(ChoirTwin *twin);
ChoirLlmServer *choir_twin_llm(ChoirTwin *twin);
/* Instead of choir_turn_heard(): forgets the turn, nothing is stored (a reply begun on a guess that was overtaken). */
void choir_turn_discard(ChoirTurn *turn);
/* Of the last turn that reached the model; zeros before. */
const ChoirChatTimings *choir_twin_timings(const ChoirTwin *twin);
/* Nothing runs, waits or is evaluated in the background. */
gboolean choir_twin_settled(ChoirTwin *twin);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirTwin, choir_twin_free)
