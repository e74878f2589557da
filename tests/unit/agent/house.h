/* A house for tests of the agent and its tools: a real audit log, approvals that the test answers, and either the real
 * tools with a real sandbox, or tools of the test and a model server on loopback whose requests the test answers. */
#pragma once
#include <libsoup/soup.h>
#include "agent/steps.h"
#include "llm/embedder.h"

typedef struct {
  char *dir, *state, *work, *log;
  const ChoirTool *const *list; /* the tools */
  ChoirConfig *config;
  ChoirHttpClient *http;
  ChoirApprovals *approvals;
  ChoirAudit *audit;
  ChoirSandbox *sandbox;
  ChoirToolbox *toolbox;
  ChoirEmbedder *embedder; /* of the test; NULL: tools get no embeddings */
  GPtrArray *said;         /* char*: what tools said without being asked */
  ChoirExperts *experts;   /* NULL: none; told to the tools by house_restart() */
  const char *delegated;   /* the sub-agent's answer; NULL: there is none, "" = it fails */
  char *task, *tools;      /* what the last sub-agent was given */
  guint budget;
  gboolean no_delegate; /* an agent without one, from house_restart() on */
  gboolean approve;     /* how questions are answered */
  guint asked;
  char *last_card; /* JSON of the last question */
  /* With a model server. */
  SoupServer *server;
  char *url;
  ChoirLlmServer *llm;
  ChoirShortlist *shortlist;
  guint ticker, steps;
  gboolean done, watched; /* watched: somebody sees what tools put out: output */
  GString *output;
  char *answer, *notes; /* of the steps of a turn, when done */
} House;

/* The real tools; the person says yes. */
House *house_new(void);
/* tools: NULL-ended, kept; the person says no. on_request answers the model server's requests with user. plain: a
 * server that knows no more than OpenAI's protocol, whose model has this name. */
House *house_with_model(const ChoirTool *const *tools, SoupServerCallback on_request, gpointer user, const char *plain);
/* The toolbox goes and comes again, as at a restart. */
void house_restart(House *house);
void house_free(House *house); /* checks the audit log */
/* The steps of a turn; answer, notes and done tell of their end. */
ChoirSteps *house_begin(House *house, const char *text);
/* Until done, for at most so many seconds. */
void house_spin(House *house, guint seconds);
/* Calls a tool and waits; returns its output (caller frees), the error if any in *ret_error. args: JSON. */
char *house_call(House *house, const char *name, const char *args, GError **ret_error);
/* house_call() that must work. */
char *house_ok(House *house, const char *name, const char *args);
/* house_call() that must fail; returns the sentence. */
char *house_fails(House *house, const char *name, const char *args);
/* text must hold part. */
void house_holds(const char *text, const char *part);
/* A script of the test itself, outside every sandbox; it must work. */
void house_shell(const char *format, ...) G_GNUC_PRINTF(1, 2);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(House, house_free)
