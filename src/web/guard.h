/* Who may call: Host and Origin checks for every request and upgrade, and the headers that protect the page.
 * Main thread only. A browser tells the truth in Origin and Host; this is what keeps foreign pages (CSRF) and rebound
 * names (DNS rebinding) out while there are no accounts. */
#pragma once
#include <glib.h>
#include "base/config.h"
#include "net/http_server.h"

typedef struct ChoirGuard ChoirGuard;

typedef enum {
  CHOIR_GUARD_OK,
  CHOIR_GUARD_HOST_MISSING,
  CHOIR_GUARD_HOST,   /* not a name of this machine */
  CHOIR_GUARD_ORIGIN, /* a foreign page, or "null" */
  CHOIR_GUARD_SITE,   /* no Origin, but the browser says cross-site on something that is not a plain read */
} ChoirGuardVerdict;

typedef struct {
  const char *method, *host, *origin, *fetch_site; /* header values, NULL when absent */
  gboolean upgrade;
} ChoirGuardRequest;

/* hosts and origins: comma separated, may be empty. port: the one we listen on. */
ChoirGuard *choir_guard_new(guint16 port, const char *hosts, const char *origins);
/* Also answers to this machine's own names and addresses, at `port` and at the TLS twin's; addresses that come later
 * are noticed. */
void choir_guard_allow_node(ChoirGuard *guard, guint16 tls_port);
void choir_guard_free(ChoirGuard *guard);
ChoirGuardVerdict choir_guard_check(const ChoirGuard *guard, const ChoirGuardRequest *request);
/* ChoirHttpGuard; user is the ChoirGuard. */
gboolean choir_guard_http(ChoirHttpRequest *request, gpointer user);

/* Header lines for every answer that is not the page. */
#define CHOIR_GUARD_API_HEADERS                                                                                        \
  "X-Content-Type-Options: nosniff\nCache-Control: no-store\nReferrer-Policy: no-referrer\n"                           \
  "Cross-Origin-Resource-Policy: same-origin"
/* Header lines for the page and its files. host: the checked Host header, for the WebSocket source. Caller frees. */
char *choir_guard_page_headers(const char *host);

/* The places answers may be sent to: entries "http://host" (any port) or "http://host:port". */
gboolean choir_guard_url_allowed(const char *list, const char *url);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirGuard, choir_guard_free)
