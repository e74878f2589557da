/* What the tests of a turn's steps have in common: tools of their own, approvals that a person answers at once, an
 * audit log, and a model server on loopback whose requests the test answers. */
#pragma once
#include <libsoup/soup.h>
#include "agent/steps.h"

typedef struct {
  char *dir, *log, *url;
  SoupServer *server;
  ChoirApprovals *approvals;
  ChoirAudit *audit;
  ChoirToolbox *toolbox;
  ChoirShortlist *shortlist;
  ChoirHttpClient *http;
  ChoirLlmServer *llm;
  guint ticker, asked, steps;
  gboolean approve, done; /* approve: what the person says */
  gboolean watched;       /* somebody sees what tools put out: output */
  GString *output;
  char *answer, *notes, *card;
} House;

/* tools: NULL-ended, kept. on_request answers the model server's requests with user. plain: a server that knows no more
 * than OpenAI's protocol, whose model has this name. */
House *house_new(const ChoirTool *const *tools, SoupServerCallback on_request, gpointer user, const char *plain);
void house_free(House *house); /* checks the audit log */
/* The steps of a turn; answer, notes and done tell of their end. */
ChoirSteps *house_begin(House *house, const char *text);
/* Until done, for at most so many seconds. */
void house_spin(House *house, guint seconds);
