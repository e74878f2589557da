/* A call whose work is one program outside the sandbox: a program of this machine with an argument list of ours (ssh,
 * ansible-playbook), for approved calls. Never a shell. */
#pragma once
#include "agent/tool.h"

typedef struct {
  const char *const *argv; /* copied */
  const char *const *env;  /* whole environment; NULL = PATH, HOME and LANG */
  const char *cwd;         /* NULL = / */
  /* Says more about a failure, from the output; caller frees; may be NULL. */
  char *(*hint)(const char *output);
} ToolPlain;

/* Runs it and ends the call; all its processes end with the call's timeout. */
void tool_plain_run(ChoirToolCall *call, const ToolPlain *plain);
gboolean tool_program_there(const char *program, const char *package, char **ret_reason, char **ret_remedy);
