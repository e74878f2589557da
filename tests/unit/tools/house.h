/* A house for tools under test: real sandbox, real audit log, approvals that the test answers. */
#pragma once
#include "agent/toolbox.h"
#include "llm/embedder.h"

typedef struct {
  char *dir, *state, *work;
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
} House;

House *house_new(void);
/* The toolbox goes and comes again, as at a restart. */
void house_restart(House *house);
void house_free(House *house);
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
