/* A task done in several steps, with a budget of its own and some of the tools: the steps of a turn (steps.h), run
 * again for each part of the task. A large model is given the task as a whole; for a small one it is taken apart where
 * a person would take a breath ("and then", a full stop). Every call goes through the toolbox: class, approval, audit.
 * Main thread only. */
#pragma once
#include "agent/steps.h"

typedef struct ChoirSubAgent ChoirSubAgent;

typedef struct {
  ChoirToolbox *toolbox;
  ChoirLlmServer *llm;
  const char *task, *among; /* among: ids of the tools it may use, "shell git" */
  const char *session, *turn_id;
  guint max_steps;
  gboolean tainted; /* a stranger may have worded the task */
} ChoirSubAgentRequest;

typedef struct {
  void (*part)(const char *text, gpointer user); /* what one part found; may be NULL */
  /* Exactly once, from the loop. steps: calls that were made. */
  void (*done)(const char *answer, guint steps, const GError *error, gpointer user);
} ChoirSubAgentHandlers;

ChoirSubAgent *choir_sub_agent_begin(const ChoirSubAgentRequest *request, const ChoirSubAgentHandlers *handlers,
                                     gpointer user);
void choir_sub_agent_cancel(ChoirSubAgent *agent); /* at once; done does not run */

/* The parts of a task, in their order; g_strfreev(). */
char **choir_sub_agent_parts(const char *task);
