/* Calls as models write them by themselves: the original's {"tool":"name.method","args":{...}} as the whole of an
 * answer, or OpenAI's tool_calls. What is read here is a wish: the toolbox checks the arguments, asks and logs as for
 * any other call. Main thread only. */
#pragma once
#include "agent/shortlist.h"
#include "llm/chat.h"

/* text as a whole is one such object, alone or in a fence of three backticks. ret_args: compact JSON of an object.
 * Caller frees both; set only on TRUE. */
gboolean choir_wire_read(const char *text, char **ret_name, char **ret_args);
/* text, the beginning of an answer, may become one: nobody is shown it yet. */
gboolean choir_wire_may_be(const char *text);
/* "shell.execute_command" as OpenAI's protocol wants a name, and back; caller frees. */
char *choir_wire_function(const char *name);
char *choir_wire_name(const char *function);

typedef struct ChoirWire ChoirWire;
typedef struct {
  ChoirChat *chat; /* a server that takes no grammar */
  const ChoirToolbox *toolbox;
  const ChoirToolAction *const *actions; /* what is offered */
  const char *const *names;
  guint n;
  const char *text;    /* what the person said */
  const char *notes;   /* what tools found already; may be NULL */
  const json_t *wrong; /* arguments that did not work; may be NULL */
} ChoirWireRequest;
/* Exactly once, from the loop. name NULL: words are wanted. args: JSON of an object, not checked. */
typedef void (*ChoirWireDone)(const char *name, const char *args, const GError *error, gpointer user);
ChoirWire *choir_wire_begin(const ChoirWireRequest *request, ChoirWireDone done, gpointer user);
void choir_wire_cancel(ChoirWire *wire); /* done does not run */
