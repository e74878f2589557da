#include "web/guard_roles.h"
#include <string.h>
#include "web/answer.h"
#include "web/page.h"
#include "web/principal.h"

typedef struct {
  const char *method, *path; /* method "*": any; a path ending in a star: everything below, the longest wins */
  ChoirRole role;
} Line;

static const Line table[] = {
    {"GET", "/health", CHOIR_ROLE_NONE},
    {"GET", "/login*", CHOIR_ROLE_NONE}, /* login.js and login.css too */
    {"GET", "/setup*", CHOIR_ROLE_NONE},
    {"GET", "/trust*", CHOIR_ROLE_NONE},
    {"GET", "/choir-ca.crt", CHOIR_ROLE_NONE},
    {"GET", "/api/me", CHOIR_ROLE_NONE},
    {"POST", "/api/login", CHOIR_ROLE_NONE},
    {"POST", "/api/logout", CHOIR_ROLE_NONE},
    {"POST", "/api/setup", CHOIR_ROLE_NONE},
    {"GET", "/api/setup/code", CHOIR_ROLE_OWNER},
    {"*", "/api/people*", CHOIR_ROLE_OWNER},
    {"*", "/api/tokens*", CHOIR_ROLE_OWNER},
    {"GET", "/metrics", CHOIR_ROLE_VIEWER},
    {"GET", "/api/status", CHOIR_ROLE_VIEWER},
    {"GET", "/api/web_uis", CHOIR_ROLE_VIEWER},
    {"GET", "/ws", CHOIR_ROLE_VIEWER}, /* what a page may send is checked by message */
    {"GET", "/api/tools", CHOIR_ROLE_VIEWER},
    {"POST", "/api/tools/call", CHOIR_ROLE_OPERATOR},
    {"GET", "/api/approvals", CHOIR_ROLE_VIEWER},
    {"POST", "/api/approvals/*", CHOIR_ROLE_APPROVER},
    {"POST", "/api/gate/approve", CHOIR_ROLE_APPROVER},
    {"GET", "/api/audit", CHOIR_ROLE_OPERATOR},
    {"GET", "/api/conversations*", CHOIR_ROLE_VIEWER},
    {"POST", "/api/conversations*", CHOIR_ROLE_OPERATOR},
    {"GET", "/api/cluster", CHOIR_ROLE_VIEWER},
    {"GET", "/api/cluster/logs", CHOIR_ROLE_OPERATOR},
    {"GET", "/api/cluster/joins", CHOIR_ROLE_VIEWER},
    {"POST", "/api/cluster/joins/*", CHOIR_ROLE_APPROVER},
    {"GET", "/api/memory*", CHOIR_ROLE_VIEWER},
    {"POST", "/api/memory*", CHOIR_ROLE_OPERATOR},
    {"POST", "/api/state/*", CHOIR_ROLE_OPERATOR},
    {"GET", "/api/state*", CHOIR_ROLE_VIEWER},
    {"GET", "/api/models", CHOIR_ROLE_VIEWER},
    {"POST", "/api/models/*", CHOIR_ROLE_OPERATOR},
    {"POST", "/internal/*", CHOIR_ROLE_OPERATOR},
    {"*", "/v1/*", CHOIR_ROLE_OPERATOR},
    {"GET", "/rtvi", CHOIR_ROLE_OPERATOR},
    {"GET", "/ws-client", CHOIR_ROLE_OPERATOR},
    {"POST", "/start", CHOIR_ROLE_OPERATOR},
    {"POST", "/connect", CHOIR_ROLE_OPERATOR},
    {"OPTIONS", "/start", CHOIR_ROLE_NONE}, /* a preflight carries no credentials */
    {"OPTIONS", "/connect", CHOIR_ROLE_NONE},
};

static gboolean is_page(const char *path) {
  if (strcmp(path, "/") == 0)
    return TRUE;
  for (const ChoirAsset *asset = choir_page_assets; asset->path; asset++)
    if (strcmp(asset->path, path) == 0)
      return TRUE;
  return FALSE;
}

gboolean choir_roles_find(const char *method, const char *path, ChoirRole *ret_role) {
  const Line *found = NULL;
  if (strcmp(method, "HEAD") == 0)
    method = "GET";
  for (gsize i = 0; i < G_N_ELEMENTS(table); i++) {
    const Line *line = &table[i];
    gsize length = strlen(line->path);
    gboolean below = line->path[length - 1] == '*';
    gboolean fits = below ? strncmp(path, line->path, length - 1) == 0 : strcmp(path, line->path) == 0;
    if (!fits || (strcmp(line->method, "*") != 0 && strcmp(line->method, method) != 0))
      continue;
    if (!found || length > strlen(found->path) || (!below && length >= strlen(found->path) - 1))
      found = line;
  }
  *ret_role = found ? found->role : CHOIR_ROLE_VIEWER;
  return found != NULL || (strcmp(method, "GET") == 0 && is_page(path));
}

static gboolean reads(const char *method) {
  return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
}

static gboolean upgrades(ChoirHttpRequest *request) {
  return choir_http_request_header(request, "Upgrade") != NULL;
}

static gboolean lead(ChoirHttpRequest *request, guint status, const char *to) {
  g_autofree char *headers = g_strconcat(CHOIR_GUARD_API_HEADERS "\nLocation: ", to, NULL);
  choir_http_respond(request, status, "text/plain", "", 0, headers);
  return FALSE;
}

/* Plain HTTP from another machine: passwords, cookies and conversations would go over the wire as they are. */
static gboolean needs_tls(ChoirHttpRequest *request) {
  const char *path = choir_http_request_path(request);
  if (choir_web_from_here(request) || choir_web_over_tls(request) || strcmp(path, "/health") == 0 ||
      g_str_has_prefix(path, "/trust") || strcmp(path, "/choir-ca.crt") == 0 || strcmp(path, "/login.css") == 0)
    return FALSE;
  return !choir_web_machine_key(request); /* the original's clients know nothing else */
}

static gboolean to_twin(ChoirHttpRequest *request, guint16 tls_port) {
  const char *host = choir_http_request_header(request, "Host");
  const char *path = choir_http_request_path(request);
  /* The guard knows this Host; the path is ours to send back only when it needs no escape. */
  const char *end = host[0] == '[' ? strchr(host, ']') + 1 : host + strcspn(host, ":");
  gboolean plain = strspn(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-") == strlen(path);
  g_autofree char *to = g_strdup_printf("https://%.*s:%u%s", (int)(end - host), host, tls_port, plain ? path : "/");
  if (tls_port && reads(choir_http_request_method(request)) && !upgrades(request))
    return lead(request, 307, to);
  choir_http_respond_error(request, 403, "permission_error", "tls_needed",
                           "from another machine this works over https only, at port %u", tls_port);
  return FALSE;
}

static gboolean refuse(ChoirHttpRequest *request, const ChoirRoles *roles, const ChoirPrincipal *who, ChoirRole role) {
  const char *path = choir_http_request_path(request);
  gboolean owned = roles->owners && choir_owners_exist(roles->owners);
  if (who->role == CHOIR_ROLE_NONE) {
    gboolean page = strcmp(path, "/") == 0 || g_str_has_suffix(path, ".html");
    if (page && reads(choir_http_request_method(request)))
      return lead(request, 303, owned ? "/login" : "/setup");
    choir_http_respond_error(request, 401, "authentication_error", "login_needed", "%s",
                             owned ? "log in at /login, or send a key as Authorization: Bearer"
                                   : "this Choir has no owner yet; set it up at /setup");
  } else if (role == CHOIR_ROLE_APPROVER) {
    choir_http_respond_error(request, 403, "permission_error", "may_not_approve",
                             "you may not answer approvals here; log in as an approver, or use 'choir approve' in a "
                             "terminal of this machine");
  } else {
    choir_http_respond_error(request, 403, "permission_error", "role_too_low", "this needs the role %s; %s is %s",
                             choir_role_name(role), who->name, choir_role_name(who->role));
  }
  return FALSE;
}

gboolean choir_roles_http(ChoirHttpRequest *request, gpointer user) {
  const ChoirRoles *roles = user;
  const char *method = choir_http_request_method(request), *path = choir_http_request_path(request);
  ChoirRole role;
  if (!choir_guard_http(request, roles->guard))
    return FALSE;
  if (needs_tls(request))
    return to_twin(request, roles->tls_port);
  ChoirPrincipal who = choir_web_principal(request);
  if (!choir_roles_find(method, path, &role)) {
    if (who.role == CHOIR_ROLE_NONE)
      return refuse(request, roles, &who, CHOIR_ROLE_VIEWER);
    if (!choir_http_request_routed(request))
      return TRUE; /* 404 or 405, which tell nothing */
    choir_http_respond_error(request, 403, "permission_error", "no_role_for_route",
                             "nobody may use this: it has no line in the table of roles");
    return FALSE;
  }
  if (who.role < role)
    return refuse(request, roles, &who, role);
  if (who.channel == CHOIR_CHANNEL_LOGIN && !reads(method) && !choir_http_request_header(request, "X-Choir-CSRF")) {
    choir_http_respond_error(request, 403, "permission_error", "csrf_header_missing",
                             "a request with the cookie that changes something needs the header X-Choir-CSRF: 1");
    return FALSE;
  }
  return TRUE;
}
