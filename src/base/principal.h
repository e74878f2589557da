/* Who asks or answers: a person who logged in, a terminal of this machine, a machine with a key, or the agent itself.
 */
#pragma once
#include <glib.h>

/* Each role may do what the ones before it may. */
typedef enum {
  CHOIR_ROLE_NONE,
  CHOIR_ROLE_VIEWER,   /* sees */
  CHOIR_ROLE_OPERATOR, /* talks, types, runs what needs no approval */
  CHOIR_ROLE_APPROVER, /* answers approvals */
  CHOIR_ROLE_OWNER,    /* people, tokens, policy, memory of everybody */
} ChoirRole;

typedef enum {
  CHOIR_CHANNEL_AGENT,    /* the agent and its tools: may never answer an approval */
  CHOIR_CHANNEL_LOOPBACK, /* plain loopback HTTP before an owner exists: may talk, never approve */
  CHOIR_CHANNEL_SETUP,    /* the session that holds the set-up code */
  CHOIR_CHANNEL_TERMINAL, /* the 0600 unix socket, checked by SO_PEERCRED */
  CHOIR_CHANNEL_LOGIN,    /* a person with a cookie */
  CHOIR_CHANNEL_KEY,      /* a machine with a token */
} ChoirChannel;

typedef struct {
  const char *name; /* "ada", "terminal uid 1000", "agent" */
  ChoirRole role;
  ChoirChannel channel;
} ChoirPrincipal;
