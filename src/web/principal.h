/* Who sends a request: looked up in the owners at each question, so that a removed person, a revoked token or a log-out
 * counts at once, on open sockets too. Main thread only. */
#pragma once
#include "base/principal.h"
#include "net/http_server.h"
#include "web/owners.h"

/* What a request proves, kept by sockets that live longer than it. Plain values. */
typedef struct {
  char cookie[65], bearer[65]; /* SHA-256, "" when absent */
  gint64 uid;                  /* of a unix socket, -1 else */
  gboolean loopback;           /* plain HTTP of this machine, not through the TLS twin */
} ChoirProof;

typedef struct {
  ChoirOwners *owners;      /* NULL: there are none to be (tests); loopback is served */
  const char *machine_keys; /* SHA-256, comma separated: PIPECAT_API_KEYS */
  const char *twin_secret;  /* what our own TLS proxy says in X-Choir-Twin; NULL: there is none */
  gboolean trust_loopback;  /* an operator even when an owner exists */
} ChoirDoor;

/* What everything below looks things up in; the strings are copied. NULL closes it. */
void choir_principal_use(const ChoirDoor *door);

ChoirProof choir_web_proof(ChoirHttpRequest *request);
/* The name belongs to the owners or is static; it lasts until they change. */
ChoirPrincipal choir_web_principal_of(const ChoirProof *proof);
ChoirPrincipal choir_web_principal(ChoirHttpRequest *request);
gboolean choir_principal_may_approve(const ChoirPrincipal *who);
/* A key of PIPECAT_API_KEYS came with it. */
gboolean choir_web_machine_key(ChoirHttpRequest *request);
gboolean choir_web_over_tls(ChoirHttpRequest *request);  /* it came through our TLS twin */
gboolean choir_web_from_here(ChoirHttpRequest *request); /* loopback or the unix socket, not through the twin */
/* Who to blame: the far end's address, also behind the twin. Caller frees. */
char *choir_web_address(ChoirHttpRequest *request);
const char *choir_web_cookie_name(gboolean tls);
