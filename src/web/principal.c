#include "web/principal.h"
#include <string.h>
#include <unistd.h>

ChoirPrincipal choir_web_principal(ChoirHttpRequest *request) {
  const char *peer = choir_http_request_peer(request);
  guint64 uid;
  if (g_str_has_prefix(peer, "unix:") &&
      g_ascii_string_to_unsigned(peer + strlen("unix:"), 10, 0, G_MAXUINT32, &uid, NULL) &&
      (uid == 0 || uid == getuid()))
    return (ChoirPrincipal){peer, CHOIR_ROLE_OWNER, CHOIR_CHANNEL_TERMINAL};
  /* Every program of this machine can speak HTTP on loopback, the agent's own tools included. */
  return (ChoirPrincipal){"loopback", CHOIR_ROLE_OPERATOR, CHOIR_CHANNEL_LOOPBACK};
}
