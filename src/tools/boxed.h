/* A call whose work is one program in the sandbox: its output becomes the call's output. */
#pragma once
#include "agent/tool.h"

typedef struct {
  const char *const *argv; /* copied */
  const char *const *env;  /* may be NULL */
  const char *cwd;         /* inside work_dir; NULL = work_dir */
  const char *proxy_socket;
  gboolean network;            /* the machine's own: approved calls only */
  const char *const *writable; /* instead of work_dir; NULL-ended */
  guint seconds, memory_mb;
  char *remove; /* a folder below work_dir that goes when the program ended (taken); may be NULL */
  /* The program was only asked something: its first 8 KiB of output come here, and this ends the call. May be NULL. */
  void (*then)(ChoirToolCall *call, const char *output);
} ToolBoxed;

/* Runs it and ends the call. A program that fails is a result, not an error: its exit code stands at the end. */
void tool_boxed_run(ChoirToolCall *call, ToolBoxed *boxed);
/* FALSE with reason and remedy where nothing can run; for available(). */
gboolean tool_boxed_available(const ChoirToolHouse *house, char **ret_reason, char **ret_remedy);
/* Ends the call with an error. */
void tool_fail(ChoirToolCall *call, int code, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* Ends the call with one more line of output. */
void tool_answer(ChoirToolCall *call, gboolean trusted, const char *format, ...) G_GNUC_PRINTF(3, 4);
