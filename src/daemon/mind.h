/* What the agent acts with: sandbox, approvals, audit log and the table of tools, and what the running agent does for
 * its tools. Main thread only. */
#pragma once
#include "agent/toolbox.h"
#include "agent/twin.h"
#include "llm/embedder.h"
#include "memory/memory.h"

typedef struct ChoirMind ChoirMind;

typedef struct {
  ChoirHub *hub;
  ChoirHttpClient *http;
  const ChoirConfig *config;
  ChoirTwin *twin;
  const char *state_dir, *sandbox_program, *source_dir;
  const char *engine_dir, *models_dir;            /* for the embeddings */
  const char *index_module;                       /* choir-index.so */
  ChoirExperts *experts;                          /* borrowed; may be NULL */
  char *(*status)(gpointer user);                 /* for mcp.get_status; caller frees */
  void (*speak)(const char *text, gpointer user); /* where somebody listens; may be NULL */
  gpointer user;
} ChoirMindOptions;

/* NULL with error: the audit log cannot be written or was tampered with. */
ChoirMind *choir_mind_new(const ChoirMindOptions *options, GError **error);
void choir_mind_free(ChoirMind *mind);
ChoirToolbox *choir_mind_toolbox(ChoirMind *mind);
ChoirApprovals *choir_mind_approvals(ChoirMind *mind);
ChoirAudit *choir_mind_audit(ChoirMind *mind);
ChoirSandbox *choir_mind_sandbox(ChoirMind *mind);
ChoirMemory *choir_mind_memory(ChoirMind *mind); /* NULL: switched off */
ChoirChild *choir_mind_embedder(ChoirMind *mind);
void choir_mind_stop(ChoirMind *mind, void (*done)(gpointer user), gpointer user); /* its processes */
