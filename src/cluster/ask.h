/* One question to an expert: which of its servers, streaming, the next one when it breaks off, and the agent's own
 * small model when none is left. What was said so far is given to the next one to go on with. Main thread only. */
#pragma once
#include "cluster/experts.h"

typedef struct ChoirAsk ChoirAsk;

typedef struct {
  const char *expert, *query;
  gint64 conversation; /* follow-ups of it belong together */
  guint max_tokens;    /* 0 = 400 */
} ChoirAskRequest;

typedef struct {
  /* A piece of the answer. */
  void (*text)(const char *text, gpointer user);
  /* A sentence that the person should hear, not part of the answer: another model goes on. */
  void (*note)(const char *text, gpointer user);
  /* Exactly once, never inside choir_ask_begin(). error NULL: answered. */
  void (*done)(const GError *error, gpointer user);
} ChoirAskHandlers;

#define CHOIR_ASK_ERROR (choir_ask_error_quark())
GQuark choir_ask_error_quark(void);
enum { CHOIR_ASK_ERROR_UNKNOWN, CHOIR_ASK_ERROR_AWAY };

ChoirAsk *choir_ask_begin(ChoirExperts *experts, const ChoirAskRequest *request, const ChoirAskHandlers *handlers,
                          gpointer user);
void choir_ask_cancel(ChoirAsk *ask); /* done does not run; not from inside of a handler */

/* --- pure */
/* A server that goes on with an answer may begin by repeating it (llama-server does) or not. Feeds on pieces and gives
 * what is new; caller frees. */
typedef struct {
  char *said;    /* what was said before, as it was sent */
  GString *held; /* what has come and may be a repetition */
  gboolean past; /* ... and no more */
} ChoirEcho;
void choir_echo_init(ChoirEcho *echo, const char *said);
void choir_echo_clear(ChoirEcho *echo);
char *choir_echo_feed(ChoirEcho *echo, const char *piece);
/* What was held when the answer ended; caller frees. */
char *choir_echo_end(ChoirEcho *echo);
