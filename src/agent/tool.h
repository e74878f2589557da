/* What a tool is. Each tool is one static entry in its own file of src/tools; everything that is shown of it (the
 * model's list, the grammar, the API's tools, the approval card, `choir tools`, docs/tools.md) is printed from that
 * entry. Tools see this header and the rooms above agent, never the agent. Main thread only; run() is asynchronous. */
#pragma once
#include <gio/gio.h>
#include <jansson.h>
#include "base/config.h"
#include "cluster/experts.h"
#include "net/hub.h"
#include "net/http_client.h"
#include "sandbox/sandbox.h"

typedef enum {
  CHOIR_CLASS_READ,   /* looks only: runs at once */
  CHOIR_CLASS_LOCAL,  /* changes what the sandbox throws away: runs at once, logged */
  CHOIR_CLASS_CHANGE, /* changes a machine, a file, a service: asks */
  CHOIR_CLASS_FLEET,  /* irreversible or for the whole house: asks every time, no grant */
  CHOIR_CLASS_DENIED, /* never */
} ChoirToolClass;

/* Where an argument ends up: text of a stranger there raises the class by one step. */
typedef enum {
  CHOIR_SINK_SHELL = 1,
  CHOIR_SINK_CODE,
  CHOIR_SINK_HOST,
  CHOIR_SINK_URL,
  CHOIR_SINK_REMOTE,
  CHOIR_SINK_EXTRA_VAR,
  CHOIR_SINK_FILE,
  CHOIR_SINK_MEMORY,
} ChoirToolSinkKind;
typedef struct {
  const char *argument;
  ChoirToolSinkKind kind;
} ChoirToolSink;

typedef struct ChoirToolCall ChoirToolCall;

/* What the running agent does for tools. Every pointer may be called from run(); done callbacks run on the main thread,
 * exactly once. */
typedef struct {
  gpointer self;
  char *(*status)(gpointer self);         /* the text of mcp.get_status; caller frees */
  char *(*memory_summary)(gpointer self); /* of mcp.get_memory_summary; caller frees */
  void (*clear_short_term)(gpointer self);
  gint64 (*conversation)(gpointer self); /* the one that is open */
  /* One completion beside the conversation, on the API's slot. done: the text, or error. */
  void (*ask)(gpointer self, const char *system, const char *user, guint max_tokens, GCancellable *cancellable,
              void (*done)(const char *text, const GError *error, gpointer user), gpointer user_data);
  /* Says something without being asked (a reminder): spoken where somebody listens, shown everywhere. */
  void (*say)(gpointer self, const char *text);
  /* The last turns, oldest first: [{"role","text"}]; caller decrefs. */
  json_t *(*recent)(gpointer self, guint turns);
  /* Embeddings of n texts, 384 floats each, or error. */
  void (*embed)(gpointer self, const char *const *texts, guint n,
                void (*done)(const float *vectors, guint n, guint dimensions, const GError *error, gpointer user),
                gpointer user_data);
  /* A task for a sub-agent with its own steps and a subset of the tools ("shell git"); done: its answer. */
  void (*delegate)(ChoirToolCall *parent, const char *task, const char *tools, guint max_steps,
                   void (*done)(const char *answer, const GError *error, gpointer user), gpointer user_data);
} ChoirToolAgent;

typedef struct {
  ChoirHub *hub;
  ChoirHttpClient *http;
  const ChoirConfig *config;
  ChoirSandbox *sandbox;
  const char *state_dir;  /* the daemon's own; never writable for a tool's process */
  const char *work_dir;   /* the agent's files: the writable root of sandboxed tools */
  const char *source_dir; /* playbooks, docs; "" when installed without */
  ChoirExperts *experts;  /* may be NULL */
  ChoirToolAgent agent;
} ChoirToolHouse;

/* An utterance and the arguments it means. */
typedef struct {
  const char *said, *args; /* args: JSON that fits the schema */
} ChoirToolShot;

typedef struct {
  const char *name; /* "run_command": its wire name is ID.NAME */
  const char *help; /* one sentence that says when to use it */
  /* JSON Schema of the arguments: a closed object, bounded strings (choir_schema_check_closed()). A string whose
   * "$comment" is "copied" may only be some of the person's own words, when a model fills it in. */
  const char *schema;
  ChoirToolClass class;
  const ChoirToolSink *sinks;  /* ends with a NULL argument; NULL = none */
  guint timeout_s;             /* 0 = 30 */
  gsize output_max;            /* bytes; 0 = 64 KiB; what is above is cut with a note */
  const char *const *examples; /* utterances it answers; NULL-ended; for the shortlist. None of the test set's */
  const ChoirToolShot *shots; /* the same with their arguments: shown to the model that fills them in; NULL said ends */
  /* Values an argument may have now ("enum filled at call time"), NULL = free; caller decrefs the array. */
  json_t *(*choices)(const ChoirToolHouse *house, const char *argument);
  /* What a property of the schema says of itself now, NULL = as it stands there; caller frees. */
  char *(*describe)(const ChoirToolHouse *house, const char *argument);
  /* Where an action knows better than its examples what it is like: likeness 0 to 1, and it is offered beside every
   * other, however little it is like what was said. */
  double (*like)(const ChoirToolHouse *house, const char *text);
  /* Puts other ways in which the original wrote the arguments into this schema's, before they are validated. */
  void (*accept)(json_t *args);
  /* Its arguments (JSON) for what was said, when no model is needed to find them; NULL = ask the model. Caller frees.
   */
  char *(*fill)(const ChoirToolHouse *house, const char *text);
  /* What is said of its output where that is shown (steps.c), from nothing but the output; NULL, or NULL from it: its
   * lines are counted (gist.h). Caller frees. */
  char *(*gist)(const json_t *args, const char *output);
  const char *about; /* the argument that says what was run, for the sentence that counts lines; NULL = none */
  gboolean answers;  /* what it puts out is the answer itself: said and shown as it comes, and the turn ends with it */
  /* May raise the class for these arguments and say why (caller frees); never lowers it. NULL = as above. */
  ChoirToolClass (*classify)(const ChoirToolHouse *house, const json_t *args, char **ret_why);
  /* What it acts on, for the card and for grants: "host atlas"; caller frees. NULL = "sandbox" or "this machine". */
  char *(*target)(const ChoirToolHouse *house, const json_t *args);
  /* What the card shows beside the arguments (a diff, a dry run): ends with choir_tool_call_done(); NULL = nothing. */
  void (*preview)(ChoirToolCall *call);
  void (*run)(ChoirToolCall *call);
} ChoirToolAction;

typedef struct {
  const char *id, *title, *help;
  const ChoirToolAction *actions;
  guint n_actions;
  /* FALSE: why not, and what a person can do about it (caller frees both). NULL = always there. */
  gboolean (*available)(const ChoirToolHouse *house, char **ret_reason, char **ret_remedy);
  /* State for the daemon's life, made when the tool is first used, or at once with at_start. Either may be NULL. */
  gboolean at_start;
  gpointer (*open)(const ChoirToolHouse *house);
  void (*close)(gpointer state);
} ChoirTool;

/* A call under way. Valid until choir_tool_call_done(). */
const json_t *choir_tool_call_args(const ChoirToolCall *call); /* validated against the schema */
const char *choir_tool_call_string(const ChoirToolCall *call, const char *argument, const char *fallback);
gint64 choir_tool_call_integer(const ChoirToolCall *call, const char *argument, gint64 fallback);
const ChoirToolHouse *choir_tool_call_house(const ChoirToolCall *call);
gpointer choir_tool_call_state(ChoirToolCall *call); /* what open() made */
const char *choir_tool_call_session(const ChoirToolCall *call);
/* TRUE: a person approved that this very call leaves the sandbox: it has the boolean argument "host", and it is true.
 */
gboolean choir_tool_call_on_host(const ChoirToolCall *call);
/* An argument repeats a stranger's text; the person who approved was told so. */
gboolean choir_tool_call_tainted(const ChoirToolCall *call);
const char *choir_tool_call_turn(const ChoirToolCall *call);
/* Who wrote the output ("web example.org"), for cards and the audit log; before choir_tool_call_done(). */
void choir_tool_call_origin(ChoirToolCall *call, const char *origin);
/* The call talked to this host: for the audit log. */
void choir_tool_call_talked_to(ChoirToolCall *call, const char *host);
/* Triggered by the person, the timeout, or the end of the turn: stop soon, then call done. */
GCancellable *choir_tool_call_cancellable(const ChoirToolCall *call);
/* Appends to the output (cut at output_max) and shows it to whoever watches. Any bytes; made valid UTF-8. */
void choir_tool_call_output(ChoirToolCall *call, const char *text, gssize length);
/* Exactly once. error (taken): one sentence with the next step; NULL = it worked. tainted text in the output is the
 * default for everything that did not come from this house: trusted = TRUE says it did. */
void choir_tool_call_done(ChoirToolCall *call, gboolean trusted, GError *error);

#define CHOIR_TOOL_ERROR (choir_tool_error_quark())
GQuark choir_tool_error_quark(void);
enum {
  CHOIR_TOOL_ERROR_UNKNOWN,     /* no such tool or action */
  CHOIR_TOOL_ERROR_ARGUMENTS,   /* they do not fit the schema */
  CHOIR_TOOL_ERROR_UNAVAILABLE, /* something it needs is missing */
  CHOIR_TOOL_ERROR_DENIED,      /* by a person or by policy */
  CHOIR_TOOL_ERROR_TIMEOUT,
  CHOIR_TOOL_ERROR_FAILED,
};
