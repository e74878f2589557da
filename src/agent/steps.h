/* The steps of one turn: does it need a tool, which, with what arguments; call it, and again, until there is an answer.
 * What a machine can guarantee is not left to the model: the choice is scored, the arguments are bound by a grammar and
 * validated, calls that repeat end the loop; arguments that a tool refuses are tried otherwise at most twice. Main
 * thread only. */
#pragma once
#include "agent/shortlist.h"
#include "agent/taint.h"
#include "llm/server.h"

#define CHOIR_STEPS_MAX 10
#define CHOIR_STEPS_REPAIRS 2

typedef struct ChoirSteps ChoirSteps;

typedef struct {
  ChoirToolbox *toolbox;
  ChoirShortlist *shortlist;
  ChoirLlmServer *llm;
  const char *text; /* what the person said */
  const char *session, *turn_id;
  guint max_steps; /* 0 = one for a small model, CHOIR_STEPS_MAX for others */
  /* The rest may be left out. */
  const char *among;       /* ids of the tools it may use, "shell clock"; NULL = all */
  ChoirTaint *taint;       /* where texts came from, borrowed and added to; NULL: the text is the person's */
  const char *recalled;    /* what the long-term memory said about it: not the person's words */
  const char *name, *args; /* a call that the model wrote by itself (wire.h): the first one */
} ChoirStepsRequest;

typedef struct {
  /* A tool begins: its name and arguments (JSON), for whoever watches. May be NULL. */
  void (*started)(const char *name, const char *args, gpointer user);
  void (*output)(const char *text, gsize length, gpointer user); /* may be NULL */
  /* A piece of the answer itself, of a tool that answers; then done has no notes, and an answer only to be
   * said behind it. May be NULL: such
   * output is a tool's as any other. */
  void (*speak)(const char *text, gsize length, gpointer user);
  /* Exactly once, on its own loop turn. answer: what to say as it is, or NULL. notes: what tools found, for the model
   * that writes the answer, or NULL. Both NULL: no tool was meant. */
  void (*done)(const char *answer, const char *notes, gpointer user);
} ChoirStepsHandlers;

/* May there be anything to decide? Then what was said is to be prepared (shortlist.h) before choir_steps_wanted(). */
gboolean choir_steps_near(const ChoirShortlist *shortlist, const char *text);
/* Is there anything to decide? Cheap; FALSE for ordinary talk. */
gboolean choir_steps_wanted(const ChoirShortlist *shortlist, const char *text);
ChoirSteps *choir_steps_begin(const ChoirStepsRequest *request, const ChoirStepsHandlers *handlers, gpointer user);
void choir_steps_cancel(ChoirSteps *steps); /* done does not run */
