/* The table of tools at work: what is there and why not, validation, class and taint, approval, audit, execution with
 * limits. Every call of any tool goes through choir_toolbox_call(), whoever asks. Main thread only. */
#pragma once
#include "agent/approvals.h"
#include "agent/audit.h"
#include "agent/taint.h"
#include "agent/tool.h"

typedef struct ChoirToolbox ChoirToolbox;

typedef struct {
  const char *name;        /* "shell.execute_command" */
  const json_t *args;      /* borrowed */
  const ChoirTaint *taint; /* where the texts of this turn came from; NULL = everything came from the person */
  const char *session;
  const char *turn_id;
} ChoirToolRequest;

typedef struct {
  const char *text; /* what the tool put out, valid UTF-8 */
  gboolean trusted; /* FALSE: a stranger may have written it */
  gboolean cut;
  const char *origin; /* who wrote it, "web example.org"; NULL: the tool did not say */
} ChoirToolResult;

typedef void (*ChoirToolOutput)(const char *text, gsize length, gpointer user);
/* Exactly once. error: see CHOIR_TOOL_ERROR; result has what came before it. */
typedef void (*ChoirToolDone)(const ChoirToolResult *result, const GError *error, gpointer user);

/* tools: NULL-ended, static. A bad entry (schema not closed, id twice) is a programming error and aborts at start.
 * approvals and audit are borrowed. */
ChoirToolbox *choir_toolbox_new(const ChoirTool *const *tools, const ChoirToolHouse *house, ChoirApprovals *approvals,
                                ChoirAudit *audit);
void choir_toolbox_free(ChoirToolbox *toolbox); /* cancels what runs; its done callbacks do not run any more */
/* Opens the tools that work without being called (timers). After everything that the house points to is there. */
void choir_toolbox_start(ChoirToolbox *toolbox);
const ChoirToolHouse *choir_toolbox_house(const ChoirToolbox *toolbox);
guint choir_toolbox_count(const ChoirToolbox *toolbox);
const ChoirTool *choir_toolbox_tool(const ChoirToolbox *toolbox, guint index);
/* NULL: there is none. ret_tool may be NULL. */
const ChoirToolAction *choir_toolbox_find(const ChoirToolbox *toolbox, const char *name, const ChoirTool **ret_tool);
gboolean choir_toolbox_available(const ChoirToolbox *toolbox, const ChoirTool *tool, char **ret_reason,
                                 char **ret_remedy);
/* The action's schema with the values of this moment in its enums; caller decrefs. */
json_t *choir_toolbox_schema(const ChoirToolbox *toolbox, const ChoirToolAction *action);
/* Arguments that the action takes: those of the original in another form are put into ours, then all are validated. */
gboolean choir_toolbox_accept(const ChoirToolbox *toolbox, const ChoirToolAction *action, json_t *args, GError **error);
/* [{"id","title","help","available","reason","remedy","actions":[{"name","help","class","schema","timeout_s"}]}] */
json_t *choir_toolbox_list(const ChoirToolbox *toolbox);
/* OpenAI's tools: [{"type":"function","function":{"name","description","parameters"}}], the available ones. */
json_t *choir_toolbox_functions(const ChoirToolbox *toolbox);
/* Returns an id for choir_toolbox_cancel(), 0 never. */
guint choir_toolbox_call(ChoirToolbox *toolbox, const ChoirToolRequest *request, ChoirToolOutput output /* or NULL */,
                         ChoirToolDone done, gpointer user);
void choir_toolbox_cancel(ChoirToolbox *toolbox, guint call);
/* The caller goes: output and done of this call do not run any more. */
void choir_toolbox_forget(ChoirToolbox *toolbox, guint call);
/* APPROVAL_MODE and the policy file: "ask" (default), "strict" (LOCAL asks too). Denied: patterns as "ssh.*". */
void choir_toolbox_policy(ChoirToolbox *toolbox, const char *mode, const char *const *denied);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirToolbox, choir_toolbox_free)
