/* One shell of an unprivileged user on this machine, outside the sandbox, that lives on between calls: cd, variables
 * and background jobs stay. Only approved calls reach it. Main thread only. */
#pragma once
#include "agent/tool.h"

typedef struct HostSession HostSession;

HostSession *host_session_new(const char *home);
void host_session_free(HostSession *session); /* its shell and all it started end */
/* Runs one command line and ends the call with its output. One at a time: a second call fails with a sentence. After
 * the call's timeout the shell is ended and begins anew with the next call. */
void host_session_run(HostSession *session, ChoirToolCall *call, const char *command);
