/* What each route needs, in one table: a route without a line is refused. Runs behind Host and Origin. Main thread
 * only.
 */
#pragma once
#include "base/principal.h"
#include "net/http_server.h"
#include "web/guard.h"
#include "web/owners.h"

typedef struct {
  ChoirGuard *guard; /* Host and Origin; borrowed */
  ChoirOwners *owners;
  guint16 tls_port; /* of the TLS twin; 0: there is none */
} ChoirRoles;

/* FALSE: no line of the table fits. */
gboolean choir_roles_find(const char *method, const char *path, ChoirRole *ret_role);
/* ChoirHttpGuard; user is a ChoirRoles. */
gboolean choir_roles_http(ChoirHttpRequest *request, gpointer user);
